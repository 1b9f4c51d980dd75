"""What to do next after a diagnosis from files, and what files cannot tell, each with the command that tells."""

from __future__ import annotations

import shlex

import pandas as pd

from imbalance_bench.diagnosis.advice import Advice, paper
from imbalance_bench.diagnosis.predictions.conclusions import CUT, Finding

BAGS, REPEAT, PASTE, CALIBRATION = "2006.10408", "1908.03195", "2012.07177", "2405.20459"
"""Group softmax; repeat factor sampling; copy-paste; calibration of detectors."""
WITH_CHECKPOINT = (
    "a detector of mmdet, torchvision, transformers or ultralytics with its checkpoint ('diagnose --help')"
)


def with_checkpoint(train: str | None, val: str) -> str:
    """Return the command that diagnoses a detector with its checkpoint, with the files that are known."""
    train_file = train if train is not None and not train.endswith(".csv") else "TRAIN.json"
    files = ["--train-annotations", train_file, "--val-annotations", val, "--images", "IMAGES"]
    return shlex.join(["imbalance-bench", "diagnose", "--config", "CONFIG.py", "--checkpoint", "WEIGHTS.pth", *files])


def advise(
    finding: Finding, contrast: pd.DataFrame, costs: pd.DataFrame, points: pd.DataFrame, lowest_score: float,
    command: str,
) -> Advice:  # fmt: skip
    """Return what to do about a finding.

    Args:
        finding: result of ``conclusions.find``.
        contrast: table as ``PredictionDiagnosis.contrast``.
        costs: table as ``PredictionDiagnosis.costs``.
        points: table as ``PredictionDiagnosis.operating_points``; empty without fits.
        lowest_score: the lowest score of a detection.
        command: result of ``with_checkpoint``.
    """
    if finding == "confused":
        row = contrast.loc["another"]
        return Advice(
            do="Treat the classifier: try group softmax (BAGS), which trains it anew, alone, so that frequent classes "
            "do not suppress rare ones, and the methods beside it. Files do not tell which one helps; 'diagnose' with "
            f"the checkpoint tries them all on your detector.{_meanwhile(points)}",
            why=f"{_more(row)} of the tail than of the other objects are detected under another class's name.",
            paper=paper(BAGS),
            command=command,
            runs=f"{WITH_CHECKPOINT}. Other detectors: train with repeat factor sampling ({paper(REPEAT)}), which any "
            "framework can",
        )
    if finding == "undetected":
        before = ""
        if lowest_score > CUT:
            before = "First write the file with a score threshold of .001 or less, and diagnose it again. "
        return Advice(
            do=f"{before}Add data of the tail: no change of the classifier or of scores brings boxes that are not "
            "there. More images of these classes, the ones you have drawn more often (repeat factor sampling), or "
            f"their objects pasted into other images ({paper(PASTE)}). Whether proposals miss them or the classifier "
            "drops them, 'diagnose' with the checkpoint tells.",
            why=f"{_more(contrast.loc['undetected'])} of the tail than of the other objects have no detection on them.",
            paper=paper(REPEAT),
            command=command,
            runs="any framework trains with repeated images",
        )
    if finding == "low scores":
        share = f"{100 * contrast.loc['high_scores', 'tail']:.0f} %"
        why = f"Of the tail's right detections, {share} reach the median score of the others'."
        gain = _gain(points)
        if gain is None or gain["gain_low"] <= 0:
            measured = "" if gain is None else f" Fitted to these images, they change {_changed(gain)}."
            return Advice(
                do="Lower the score threshold for the tail: its objects are found and named right, but score lower "
                f"than others. Thresholds for each class need more images than these.{measured} Give detections on "
                "held-out training images, and they are fitted to those.",
                why=why,
                paper=paper(CALIBRATION),
                command="imbalance-bench diagnose ... --calibration-predictions FILE --calibration-annotations FILE",
                runs="any detector: compare each score with the threshold of its class",
            )
        return Advice(
            do="Use a score threshold for each class, from thresholds.yaml: objects of the tail are found and named "
            f"right, but score lower than others. On images they were not fitted to, they change {_changed(gain)}.",
            why=why,
            paper=paper(CALIBRATION),
            runs="any detector: compare each score with the threshold of its class",
        )
    if finding == "lower AP":
        kinds = costs.drop(columns="ap50").drop(index=["all", "0"], errors="ignore")
        worst = kinds.iloc[0].idxmax()
        return Advice(
            do=f"Look at the kinds of errors below: of the rarest classes, '{worst}' costs most. Neither other "
            f"classes' names, missing boxes nor low scores set the tail apart beyond chance.{_meanwhile(points)}",
            why="AP of the tail is lower than of the others beyond chance.",
            command=command,
            runs=WITH_CHECKPOINT,
        )
    if finding == "no boxes":
        return Advice(
            do="Annotate validation images with objects of every class, ten or more of each, and diagnose again.",
            why="Without validation boxes on both sides nothing can be compared.",
        )
    why = "No class is rare." if finding == "no tail" else "Rare classes are not set apart from others beyond chance."
    return Advice(
        do="Do nothing about imbalance: it is not what limits this detector, as far as these images tell. The kinds of "
        "errors below show what does. To be surer about rare classes, annotate more validation images of them.",
        why=why,
    )


def unknown(command: str, held_out: bool) -> list[dict[str, str]]:
    """List what cannot be known from files, with the command that tells.

    Args:
        command: result of ``with_checkpoint``.
        held_out: whether thresholds and calibration were fitted to held-out training images.
    """
    found = [
        ("Whether proposals cover the objects that no detection is on, or the classifier drops them; which "
         "classifier-level method helps this detector, and how much; what logit adjustment does, which needs the "
         "scores of all classes for each box, while result files hold one", command),
        ("Whether the classifier's weights follow the train counts",
         "imbalance-bench weight-norms WEIGHTS.pth --counts COUNTS.csv"),
        ("What another training of the same detector would give: intervals are over images, not over seeds", ""),
    ]  # fmt: skip
    if not held_out:
        found.append(
            ("What thresholds and calibration give that are fitted to training images which the detector has not "
             "seen; here they are cross-fitted over validation images",
             "imbalance-bench diagnose ... --calibration-predictions FILE --calibration-annotations FILE")
        )  # fmt: skip
    return [{"what": what, "command": text} for what, text in found]


def _more(row: pd.Series) -> str:
    low, high = 100 * row["low"], 100 * row["high"]
    return f"{100 * row['difference']:.0f} of 100 more (95 % interval {low:.0f} to {high:.0f})"


def _gain(points: pd.DataFrame) -> pd.Series | None:
    """Return the row of thresholds per class for the rarest bin; None without fits."""
    if not len(points):
        return None
    own = points[(points["strategy"] == "per class") & points["gain"].notna() & ~points["bin"].isin(["all", "0"])]
    return own.iloc[0] if len(own) else None


def _meanwhile(points: pd.DataFrame) -> str:
    """Say what thresholds of each class give without training, if they help the rarest bin beyond chance."""
    gain = _gain(points)
    if gain is None or gain["gain_low"] <= 0:
        return ""
    return f" Until then, thresholds of each class (thresholds.yaml) change {_changed(gain)}."


def _changed(gain: pd.Series) -> str:
    low, high = 100 * gain["gain_low"], 100 * gain["gain_high"]
    return (
        f"F1 of the rarest bin by {100 * gain['gain']:+.1f} points against one threshold for all (95 % interval "
        f"{low:+.1f} to {high:+.1f})"
    )
