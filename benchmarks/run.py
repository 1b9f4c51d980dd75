"""Run all benchmarks that need no GPU, one after the other; write results with provenance, and the figure.

python benchmarks/run.py [--only bags_loss] [-o results/measured]
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from timing import COLUMNS, Rows, alone, show

from imbalance_bench.plotting import save
from imbalance_bench.runtime.errors import look_up
from imbalance_bench.runtime.files import write_text
from imbalance_bench.runtime.provenance import provenance
from imbalance_bench_analyses import speed

BENCHMARKS: dict[str, tuple[str, dict[str, Any]]] = {
    "cached_training": ("cached_training", {}),
    "end_to_end": ("end_to_end", {}),
    "bags_loss": ("bags_loss", {}),
    "scoring": ("scoring", {}),
    "lvis_evaluation": ("lvis_evaluation", {}),
    "weight_norms": ("weight_norms", {}),
    "large_cache": ("large_cache", {"gigabytes": 1, "iterations": 16}),
    "large_cache_10_gib": ("large_cache", {"gigabytes": 10, "curves": False}),
}
"""Names, modules beside this one, and what their ``measure`` is called with."""
LONG = ("large_cache_10_gib",)
"""Run only when named."""


def measure(name: str) -> Rows:
    """Return the rows of one benchmark."""
    module, options = BENCHMARKS[name]
    return importlib.import_module(module).measure(**options)


def main(
    only: Annotated[list[str] | None, typer.Option(help="Benchmarks to run; the others keep their rows.")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")] = Path("results/measured"),
) -> None:
    """Run and show the benchmarks, and write benchmarks.csv and benchmarks.png."""
    path = output / "benchmarks.csv"
    kept = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["script"])
    for name in only or [name for name in BENCHMARKS if name not in LONG]:
        look_up(BENCHMARKS, name, "benchmark")
        start = time.monotonic()
        rows, memory = alone(measure, name)
        print(f"{name} ({time.monotonic() - start:.0f} s, {memory:,.0f} MiB)", flush=True)
        show(rows)
        made = provenance()
        frame = pd.DataFrame(rows, columns=list(COLUMNS)).assign(
            script=name, machine=made["machine"], torch=made["versions"]["torch"], date=made["date"]
        )
        kept = pd.concat([kept[kept["script"] != name], frame], ignore_index=True)
        kept = kept.sort_values("script", key=lambda names: names.map(list(BENCHMARKS).index), kind="stable")
        # After each: what is measured is not lost with the next.
        write_text(path, kept.to_csv(index=False, float_format="%.5g"))
    save(speed.figure(pd.read_csv(path)), output / "benchmarks.png")
    print(f"written: {path}, {output / 'benchmarks.png'}")


if __name__ == "__main__":
    typer.run(main)
