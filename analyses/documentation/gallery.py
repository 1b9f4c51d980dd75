"""Sample pages of the gallery: what the commands write, made anew with the site from what is committed."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from imbalance_bench.diagnosis import page as checkpoint_page
from imbalance_bench.diagnosis.predictions import page as files_page
from imbalance_bench.diagnosis.predictions.diagnose import diagnose_predictions
from imbalance_bench.diagnosis.predictions.example import FILES
from imbalance_bench.diagnosis.result import Diagnosis
from imbalance_bench.runtime.progress import Reporter

from ..study_page import evidence, page

_KINDS = {
    "files": "from a file of detections alone, the bundled example",
    "checkpoint": "a detector of mmdet, with its checkpoint: every fix tried on it",
    "study": "a whole study, from its run folders",
}


def pages(results: Path) -> dict[str, str]:
    """Make every sample page, by its place in the site.

    Args:
        results: ``results/measured``; a folder ``diagnosis`` of a data set is a page, and a study with ``beyond.csv``.
    """
    found = {"gallery/result_files.html": _of_the_example()}
    for folder in sorted(path.parent for path in results.glob("*/diagnosis/diagnosis.json")):
        found[f"gallery/{folder.parent.name}.html"] = checkpoint_page.render(Diagnosis.read(folder))
    for path in sorted(results.glob("*/beyond.csv")):
        root = next(path.parent.glob("*/seed0")).parent
        nowhere = root / "no data sets here"
        found[f"gallery/study_{root.parent.name}.html"] = page.render(evidence.read(root), nowhere, Reporter())
    return found


def index(samples: Mapping[str, str]) -> str:
    """Write a list of the sample pages with their headings."""
    lines = []
    for place, text in samples.items():
        heading = re.search(r"<h1[^>]*>(.*?)</h1>", text, flags=re.DOTALL)
        title = re.sub(r"<[^>]+>", "", heading[1]).strip() if heading else place
        lines.append(f"- [{title}]({place}), {len(text) / 2**20:.1f} MiB: {_KINDS[_kind(place)]}")
    return "\n".join(lines)


def _kind(place: str) -> str:
    name = Path(place).stem
    return "files" if name == "result_files" else "study" if name.startswith("study_") else "checkpoint"


def _of_the_example() -> str:
    # The page names the files as they are given: no folder of this machine is on it.
    names = ("predictions", "val_annotations", "train_annotations")
    predictions, val, train = (os.path.relpath(FILES[name]) for name in names)
    with tempfile.TemporaryDirectory() as folder:
        called = "imbalance-bench diagnose --example"
        return files_page.render(diagnose_predictions(predictions, val, train, out=folder, called=called))
