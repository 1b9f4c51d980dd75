"""A run's results as Hugging Face model cards have them: the field ``model-index`` of a card's YAML header."""

from __future__ import annotations

import math

import yaml

from imbalance_bench.bins import bin_names
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.methods import METHODS

SHOWN = ("mAP", "AP1", "AP2", "AP3", "AP4", "APr", "APc", "APf", "mAP_fixed", "ACC", "ACCbg", "ECE", "mAP^m")
"""Metrics that a card shows, as far as the run has them."""


def model_index(run: RunFolder) -> str:
    """Write a run's results as YAML: one model, one task (object detection), one data set, metrics in percent.

    The names of the metrics say what their bin is; the command and the versions are notes of the data set's split.

    Raises:
        InputError: not a finished run.
    """
    record = run.record()
    settings, provenance, metrics = (record[part] for part in ("settings", "provenance", "metrics"))
    bins = {f"AP{number}": name for number, name in enumerate(bin_names(settings["bin_edges"]), start=1)}
    method = METHODS[settings["method"]].title if settings["method"] in METHODS else settings["method"]
    values = [
        {
            "type": key,
            "name": f"{key}, classes with {bins[key]} train instances" if key in bins else key,
            "value": round(100 * metrics[key], 2),
        }
        for key in SHOWN
        if not math.isnan(metrics.get(key, math.nan))
    ]
    result = {
        "task": {"type": "object-detection"},
        "dataset": {
            "type": settings["dataset"],
            "name": settings["dataset"],
            "split": "validation",
            "revision": settings["annotations_sha256"][1],
        },
        "metrics": values,
    }
    name = f"{settings['detector']}, {method} ({settings['variant']}), seed {settings['seed']}"
    head = (
        f"# Made by imbalance-bench {provenance['versions']['imbalance-bench']}, {provenance['date'][:10]}; percent.\n"
        f"# {' '.join(provenance['command'].split())}\n"
    )
    content = {"model-index": [{"name": name, "results": [result]}]}
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
