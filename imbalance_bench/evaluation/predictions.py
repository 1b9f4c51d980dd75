"""Predictions of a classifier for test-time proposals: accuracy, confusions between classes, and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import Classifier
from imbalance_bench.evaluation.bootstrap import bounds, draw_images
from imbalance_bench.evaluation.calibration import STEPS, Calibration
from imbalance_bench.evaluation.grouping import label_groups
from imbalance_bench.evaluation.scoring import scores_of
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.equality import ByValue


@dataclass(frozen=True, eq=False)
class Predictions(ByValue):
    """The best final score of each proposal, background included.

    Attributes:
        images: (P,) position of each proposal's image.
        labels: (P,) 0..C, background last.
        predicted: (P,) label of the best score; for equal scores the lower label.
        confidence: (P,) the best score.
        num_images: number of images of the split.
    """

    images: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    num_images: int

    @property
    def correct(self) -> np.ndarray:
        """The correctness of each prediction, (P,) bool."""
        right: np.ndarray = self.predicted == self.labels
        return right


def predict(classifiers: Sequence[Classifier], val: Sequence[ProposalSet], device: str = "cpu") -> Predictions:
    """Compute the predictions of classifiers, one per stage, on cached proposals."""
    classifiers = [classifier.to(device).eval() for classifier in classifiers]
    predicted, confidence = [], []
    for part in scores_of(classifiers, val, device):
        best, label = part.scores.max(dim=1)
        predicted.append(label.cpu().numpy())
        confidence.append(best.float().cpu().numpy())
    last = val[-1]
    images = np.repeat(np.arange(last.num_images), np.diff(last.offsets))
    labels = last.labels.astype(np.int64)
    return Predictions(images, labels, np.concatenate(predicted), np.concatenate(confidence), last.num_images)


def accuracy_by_group(
    predictions: Predictions, categories: CategoryTable, *, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Compute proposal accuracy of each bin and of background, with a 95 % interval over images (section 5.2).

    Returns:
        Index ``group`` (``1``.., ``background``); columns ``proposals``, ``accuracy``, ``low``, ``high`` and
        ``as_background``, the share that is predicted as background (fractions, NaN without a proposal).
    """
    groups = label_groups(categories)
    of_label = np.zeros(categories.num_classes + 1, dtype=np.int64)
    for number, labels in enumerate(groups.values()):
        of_label[labels] = number
    group, shape = of_label[predictions.labels], (predictions.num_images, len(groups))

    def counted(chosen: np.ndarray) -> np.ndarray:
        cells = predictions.images[chosen] * len(groups) + group[chosen]
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    everything = counted(np.ones(len(group), dtype=bool))
    correct = counted(predictions.correct)
    lost = counted(~predictions.correct & (predictions.predicted == categories.background))
    draws = draw_images(predictions.num_images, resamples, seed)
    with np.errstate(invalid="ignore"):
        drawn = pd.DataFrame((draws @ correct) / (draws @ everything), columns=list(groups))
        total = everything.sum(axis=0)
        accuracy = pd.Series(correct.sum(axis=0) / total, index=list(groups))
        frame = pd.DataFrame({"proposals": total, "accuracy": accuracy}, index=list(groups))
        frame = frame.join(bounds(accuracy, drawn).clip(0, 1)).assign(as_background=lost.sum(axis=0) / total)
    return frame.rename_axis("group")


def destinations(predictions: Predictions, categories: CategoryTable) -> pd.DataFrame:
    """Compute shares of each bin's proposals by predicted class: right, another (by its bin), or background.

    Returns:
        Index ``bin`` (bins with a proposal, 1.., and ``background``); columns ``right``, ``bin 1``.., ``background``.
    """
    groups = label_groups(categories)
    place = np.empty(categories.num_classes + 1, dtype=np.int64)
    for number, labels in enumerate(groups.values()):
        place[labels] = number
    went = np.where(predictions.correct, 0, 1 + place[predictions.predicted])
    table = np.zeros((len(groups), 1 + len(groups)))
    np.add.at(table, (place[predictions.labels], went), 1)
    columns = ["right", *(name if name == "background" else f"bin {name}" for name in groups)]
    frame = pd.DataFrame(table, columns=columns, index=pd.Index(groups, name="bin"))
    frame = frame[frame.sum(axis=1) > 0]
    return frame.div(frame.sum(axis=1), axis=0)


def losses_by_class(predictions: Predictions, categories: CategoryTable, most: int = 3) -> pd.DataFrame:
    """List for each class the wrong predictions of its proposals; classes with the lowest accuracy come first.

    Args:
        predictions: predictions of a classifier.
        categories: give names, counts and bins.
        most: number of other classes that are listed.

    Returns:
        Index ``label``, classes with a proposal; columns of ``CategoryTable.frame``, ``proposals``, ``accuracy``,
        ``as_background`` (share predicted as background), ``as_fewer`` (as a class with fewer or equally many train
        instances), ``as_more`` (as a class with more), and ``taken_by``: the most frequent wrong classes, as (label,
        share) pairs.
    """
    background, width = categories.background, categories.num_classes + 1
    cells = predictions.labels * width + predictions.predicted
    pairs, counts = np.unique(cells, return_counts=True)
    confusion = pd.DataFrame({"label": pairs // width, "predicted": pairs % width, "count": counts})
    confusion = confusion[confusion["label"] != background]
    total = confusion.groupby("label")["count"].sum()
    confusion = confusion.assign(share=confusion["count"] / confusion["label"].map(total))
    instances = np.append(categories.instance_counts, 0)
    same = confusion["predicted"] == confusion["label"]
    void = confusion["predicted"] == background
    more = ~same & ~void & (instances[confusion["predicted"]] > instances[confusion["label"]])

    def share(chosen: pd.Series) -> pd.Series:
        return confusion[chosen].groupby("label")["share"].sum().reindex(total.index, fill_value=0.0)

    takers = confusion[~same & ~void].sort_values(["share", "predicted"], ascending=[False, True], kind="stable")
    by_label: Mapping[int, list[tuple[int, float]]] = {
        int(label): list(zip(part["predicted"].tolist(), part["share"].tolist(), strict=True))[:most]
        for label, part in takers.groupby("label")
    }
    frame = (
        categories.frame()
        .loc[total.index]
        .assign(
            proposals=total,
            accuracy=share(same),
            as_background=share(void),
            as_more=share(more),
            as_fewer=share(~same & ~void & ~more),
            taken_by=[by_label.get(int(label), []) for label in total.index],
        )
    )
    lost = frame["proposals"] * (1 - frame["accuracy"])
    return frame.assign(_lost=lost).sort_values(
        ["accuracy", "_lost"], ascending=[True, False], kind="stable"
    ).drop(columns="_lost")  # fmt: skip


def reliability(predictions: Predictions, categories: CategoryTable, steps: int = STEPS) -> pd.DataFrame:
    """Compute confidence and accuracy by bin of the *predicted* class (``Calibration.curve``).

    Groups are ``all`` (foreground predictions), ``1``.., ``background``.
    """
    counts = Calibration(categories.num_classes, steps)
    counts.add(predictions.predicted, predictions.confidence, predictions.correct)
    return counts.curve({"all": categories.binned_labels, **label_groups(categories)})
