"""Fixes tried on a detector as it stands: its own classifier is the baseline, its proposals are cached once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from mmdet.models.detectors import TwoStageDetector

from imbalance_bench import checkpoints, methods, proposals
from imbalance_bench.benchmark import Benchmark
from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.foreign import ForeignDetector
from imbalance_bench.detectors.inference import box_heads
from imbalance_bench.errors import InputError
from imbalance_bench.methods import METHODS, Method
from imbalance_bench.progress import logged_to
from imbalance_bench.proposals import ProposalSet
from imbalance_bench.runs import RunFolder
from imbalance_bench.training.detector import build_detector, load_features


@dataclass
class FixedDetector(Benchmark):
    """Runs whose baseline is a detector that somebody trained (``pretrained``), as it is.

    Attributes:
        beside: runs on the same detector, whose training images classifiers are fitted to as well.
    """

    beside: Benchmark | None = None

    def _train(self, method: Method, variant: str, folder: RunFolder, start: RunFolder | None) -> list[Classifier]:
        if method.starts_from != "scratch":
            return super()._train(method, variant, folder, start)
        assert self.pretrained is not None
        assert isinstance(self.detector, ForeignDetector)
        model = adopt(self.detector, self.pretrained)
        classifiers = [head.fc_cls for head in box_heads(model)]
        checkpoints.save(folder.checkpoint, model.state_dict(), classifiers[0], self.categories)
        return classifiers

    def proposals(self, detector_run: RunFolder, split: str, tap: str) -> list[ProposalSet]:
        """Those of the training images of both."""
        own = super().proposals(detector_run, split, tap)
        if split != "train" or self.beside is None:
            return own
        theirs = self.beside.proposals(self.beside.folder_of("baseline"), split, tap)
        return [proposals.concatenate(parts) for parts in zip(theirs, own, strict=True)]


def adopt(detector: ForeignDetector, path: Path) -> TwoStageDetector:
    """The detector of its user's checkpoint, its heads hosting its classifiers, in evaluation mode.

    Raises:
        InputError: the checkpoint's tensors are not those of the configured model.
    """
    state = {name.removeprefix("module."): value for name, value in checkpoints.load(path)["state_dict"].items()}
    # mmdet 2 keeps averaged weights beside the ones to use.
    state = {name: value.float() if value.is_floating_point() else value for name, value in state.items()
             if not name.startswith("ema_")}  # fmt: skip
    stock = detector.stock_classifier(detector.num_classes, detector.tap_dims["fc"])
    named = {"state_dict": state, "meta": {"classifier": stock.config()}}
    classifiers = list(checkpoints.classifiers_of(named, path).values())
    with logged_to(None):
        model = build_detector(detector, classifiers)
    try:
        load_features(model, state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: field 'state_dict' is not of the model of {detector.config}: {reason}") from error
    for classifier in classifiers:
        if any(not value.isfinite().all() for value in classifier.state_dict().values() if value.is_floating_point()):
            raise InputError(f"{path}: the classifier holds values that are NaN or infinite, expected numbers")
    return model.eval()


def candidates(names: tuple[str, ...] | None = None) -> list[Method]:
    """Methods that can be tried on a finished detector: post hoc, or training the classifier alone.

    Without names those that read what the classifier reads; ``conv``, say, is twelve times as wide.

    Raises:
        InputError: an unknown method, or one that trains more.
    """
    if names is None:
        fits = [m for m in METHODS.values() if m.trains in ("classifier", "nothing") and m.starts_from == "baseline"]
        return [method for method in fits if not method.name.endswith("-conv")]
    chosen = [methods.get(name) for name in names]
    for method in chosen:
        if method.trains not in ("classifier", "nothing") or method.starts_from != "baseline":
            raise InputError(f"option '--methods': '{method.name}' trains more than the classifier")
    return chosen


def settings_to_try(method: Method) -> list[str]:
    """Variants of a method, one for each combination of the values worth trying; its default variant among them."""
    if not method.tune:
        return []
    variants = []
    for values in itertools.product(*method.tune.values()):
        text = ",".join(f"{name}={value:g}" for name, value in zip(method.tune, values, strict=True))
        variants.append(method.resolve(text)[0])
    return list(dict.fromkeys(variants))


def choose(bench: Benchmark, method: Method, variants: list[str]) -> tuple[str, dict[str, float]]:
    """The variant with the best mAP on held-out training images, of equal ones the default; and all their mAPs."""
    found = {}
    for variant in variants:
        folder = bench.run(method.name, variant)
        found[variant] = float(folder.record()["metrics"]["mAP"])
        drop_checkpoint(folder)
    order = sorted(found, key=lambda variant: (-found[variant], variant != method.default_variant))
    return order[0], found


def drop_checkpoint(folder: RunFolder) -> None:
    """A fix's whole detector, which its settings make again in seconds."""
    for path in (folder.checkpoint, *folder.path.glob("classifier*_epoch.pth")):
        path.unlink(missing_ok=True)


def with_checkpoint(bench: Benchmark, method: str, variant: str) -> RunFolder:
    """A run whose checkpoint is there: it is run again where that was dropped."""
    folder = bench.folder(methods.get(method), variant)
    if folder.is_done and not folder.checkpoint.exists():
        (folder.path / "record.json").unlink()
    return bench.run(method, variant)
