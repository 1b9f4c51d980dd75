"""The Typer application; heavy imports wait until a command runs, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from imbalance_bench.commands import (
    analyses,
    beyond,
    compare,
    datasets,
    demo,
    detectors,
    diagnose,
    doctor,
    groups,
    measures,
    run_all,
    runs,
    weight_norms,
)
from imbalance_bench.commands.options import console, errors
from imbalance_bench.errors import InputError
from imbalance_bench.files import disk_problem
from imbalance_bench.stopping import Stopped, stoppable

app = typer.Typer(
    name="imbalance-bench",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmark and analyse classifier imbalance in object detectors: train the long-tail methods of the BAGS "
    "paper (CVPR 2020) on one detector, and measure what each does to the classifier.",
)
app.command()(demo.demo)
app.command()(diagnose.diagnose)
app.command()(doctor.doctor)
app.add_typer(datasets.app, name="datasets")
app.command("methods")(runs.methods)
app.command()(groups.groups)
app.add_typer(detectors.app, name="detectors")
app.command("run-baseline")(runs.run_baseline)
app.command("run-all")(run_all.run_all)
app.command()(beyond.beyond)
app.command("runs")(run_all.runs)
app.command("export")(run_all.export)
app.command("evaluate")(measures.evaluate)
app.command("compare")(compare.compare)
app.command("errors")(measures.errors)
app.command("oracles")(measures.oracles)
app.command("proposal-accuracy")(measures.proposal_accuracy)
app.command("weight-norms")(weight_norms.weight_norms)
app.command("table")(analyses.table)
app.command("per-category")(analyses.per_category)
app.add_typer(analyses.figures, name="figure")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")] = (
        False
    ),
) -> None:
    """Options of every command."""


def main() -> None:
    """Run the command line: one clear line, and a traceback only with ``--debug``.

    Exit status: 2 on bad input, 143 and 130 when stopped by SIGTERM and Ctrl-C, 1 on any other error.
    """
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        with stoppable():
            app(args=[argument for argument in arguments if argument != "--debug"])
    except Stopped as stop:
        console.print("stopped; the same command goes on from here")
        sys.exit(stop.status)
    except Exception as error:
        if debug:
            raise
        bad_input, line = isinstance(error, InputError), str(error)
        if not bad_input:
            line = disk_problem(error) or f"{type(error).__name__}: {error} (--debug shows where)"
        errors.print(Text.assemble(("error:", "red"), " ", " ".join(line.split())), soft_wrap=True)
        sys.exit(2 if bad_input else 1)
