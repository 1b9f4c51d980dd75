"""The commands that read files and results, which need no extras."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LVIS = ROOT / "tests" / "data" / "lvis_v0.5_val100"
MEASURED = ROOT / "results" / "measured"

READING = {
    "help": ["--help"],
    "weight-norms": [
        "weight-norms", "{folder}/detector.safetensors", "--counts", str(LVIS.parent / "lvis_v0.5_train_counts.csv"),
    ],
    "evaluate": ["evaluate", str(LVIS / "perturbed_results_100_seed0.json"), "--val-annotations",
                 str(LVIS / "lvis_val_100.json"), "--train-annotations", str(LVIS / "lvis_val_100.json")],
    "errors": ["errors", str(LVIS / "perturbed_results_100_seed0.json"), "--val-annotations",
               str(LVIS / "lvis_val_100.json"), "--train-annotations", str(LVIS / "lvis_val_100.json")],
    "published": ["table", "1", "--published"],
    "methods": ["methods"],
    "detectors": ["detectors", "list"],
    "datasets": ["datasets", "list"],
    "groups": ["groups", "--counts", str(LVIS.parent / "lvis_v0.5_train_counts.csv")],
    "runs": ["runs", "--work-dir", str(MEASURED)],
    "table": ["table", "1", "--work-dir", str(MEASURED)],
    "report": ["report", "{folder}/study", "-o", "{folder}/study.html"],
    "per-category": ["per-category", str(MEASURED / "emoji-lt-small/tiny/seed0/baseline")],
    "model-index": ["model-index", str(MEASURED / "emoji-lt-small/tiny/seed0/baseline"), "-o", "{folder}/card.yml"],
    "figure": ["figure", "weight-norms", "--work-dir", str(MEASURED), "-o", "{folder}/norms.png"],
    "diagnose": ["diagnose", "--predictions", str(LVIS / "perturbed_results_100_seed0.json"), "--val-annotations",
                 str(LVIS / "lvis_val_100.json"), "--train-annotations",
                 str(LVIS.parent / "lvis_v0.5_train_counts.csv"), "--output", "{folder}/diagnosis"],
    "diagnose example": ["diagnose", "--example", "--output", "{folder}/example"],
    "compare": ["compare", "{folder}/runs/a", "{folder}/runs/b", "--data-dir", "{data}", "--resamples", "10", "-o",
                "{folder}/compared.html"],
}  # fmt: skip
"""Commands that only read, by name; ``{folder}`` and ``{data}`` are filled in."""


def arguments(name: str, folder: Path, data: Path | str = "data") -> list[str]:
    """The command line of one."""
    return [part.format(folder=folder, data=data) for part in READING[name]]
