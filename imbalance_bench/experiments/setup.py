"""One detector on one data set: its images, its trained models and their proposals."""

from __future__ import annotations

import itertools
import operator
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mmdet.models.detectors import TwoStageDetector
from mmdet.structures.mask import encode_mask_results
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from torch.utils.data import DataLoader

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.checkpoints.label_order import check_labels
from imbalance_bench.classifiers import Classifier
from imbalance_bench.datasets.annotations import AnnotationDataset, build_dataset
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.detectors.mmdet.class_boxes import ClassBoxes
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.detectors.mmdet.masks import predict_masks
from imbalance_bench.detectors.mmdet.passes import box_heads, check_cacheable, test_proposals, training_proposals
from imbalance_bench.evaluation.average_precision import evaluate
from imbalance_bench.evaluation.coverage import best_overlaps
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.ground_truth import GroundTruth, IouType
from imbalance_bench.evaluation.grouping import summarize_ap
from imbalance_bench.evaluation.on_proposals import evaluate_classifier
from imbalance_bench.evaluation.oracles import oracle_ap
from imbalance_bench.evaluation.postprocess import BoxesOfPairs
from imbalance_bench.experiments.run_folder import RunFolder
from imbalance_bench.proposals import store as proposals
from imbalance_bench.proposals.store import ProposalSet
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256
from imbalance_bench.runtime.processes import held_by_main, log_file, on_main, rank_and_world, share, wait_for_all
from imbalance_bench.runtime.progress import Reporter, logged_to
from imbalance_bench.training.end_to_end import build_detector, load_features


@dataclass
class Setup:
    """A detector and a data set, and what follows from the two.

    Attributes:
        dataset: where annotations and images are.
        detector: its record.
        seed: of everything random.
        views: cached views of each training image; odd ones are flipped.
        reporter: shows progress.
        fixed: measure AP_fixed and AP_pool too.
    """

    dataset: DataSet
    detector: Detector
    seed: int = field(default=0, kw_only=True)
    views: int = field(default=2, kw_only=True)
    reporter: Reporter = field(default_factory=Reporter, kw_only=True)
    fixed: bool = field(default=True, kw_only=True)

    @cached_property
    def categories(self) -> CategoryTable:
        """Of the training annotations."""
        return self.dataset.categories()

    @cached_property
    def ground_truth(self) -> GroundTruth:
        """Boxes of the validation annotations."""
        return self._ground_truth("bbox")

    @cached_property
    def mask_ground_truth(self) -> GroundTruth:
        """Masks of the validation annotations."""
        return self._ground_truth("segm")

    def _ground_truth(self, iou_type: IouType) -> GroundTruth:
        dataset = self.dataset
        return GroundTruth.read(
            dataset.val_annotations, self.categories, lvis_style=dataset.lvis_style, iou_type=iou_type
        )

    @property
    def has_stuff(self) -> bool:
        """Whether detectors with a semantic branch train it here."""
        return self.dataset.stuff_maps is not None and self.detector.takes_stuff

    @cached_property
    def device(self) -> str:
        """Where detectors and classifiers run."""
        return get_device()

    def proposals(self, detector_run: RunFolder, split: str, tap: str) -> list[ProposalSet]:
        """A part of the proposal cache of a run's detector, made when first asked for; one a stage.

        Args:
            detector_run: whose checkpoint.
            split: ``train`` or ``val``.
            tap: ``fc_pre_relu`` or ``conv`` (``fc`` is the ReLU of ``fc_pre_relu``).
        """
        return [proposals.read(folder) for folder in self._cached(detector_run, split, tap)]

    def cache(self, detector_run: RunFolder, split: str, classifiers: Sequence[Classifier]) -> None:
        """Make what classifiers read of the proposal cache where it is not there yet, by all processes together."""
        for name in dict.fromkeys(_stored(tap) for classifier in classifiers for tap in classifier.taps):
            self._cached(detector_run, split, name)

    def _cached(self, detector_run: RunFolder, split: str, tap: str) -> list[Path]:
        """Folders of a part of the cache, one a stage, that are there and whole afterwards."""
        with held_by_main(lambda: detector_run.lock("proposals", wait=True, say=self.reporter.say)):
            made_by = {
                "dataset": self.dataset.name,
                "detector": self.detector.name,
                "checkpoint_sha256": on_main(lambda: sha256(detector_run.verified(detector_run.checkpoint))),
                "split": split,
                "tap": tap,
                "views": self.views if split == "train" else 1,
                "seed": self.seed,
            }
            name = f"{split}-{tap}"
            folders = [detector_run.path / "proposals" / name]
            if self.detector.num_stages > 1:
                folders = [folders[0].with_name(f"{name}-stage{n}") for n in range(1, self.detector.num_stages + 1)]
            if not on_main(lambda: self._are_cached(folders, made_by)):
                with logged_to(log_file(detector_run.path / "console.log")):
                    self._cache(self.load_detector(detector_run.checkpoint), folders, made_by)
        return folders

    def _are_cached(self, folders: list[Path], made_by: dict[str, Any]) -> bool:
        """Whether all stages of a part are there, whole and of this detector; else they are removed."""
        try:
            if all(folder.exists() and proposals.read(folder).manifest["made_by"] == made_by for folder in folders):
                return True
        except InputError as error:
            self.reporter.say(f"  {error}: made anew")
        for folder in folders:
            proposals.remove(folder)
        return False

    def _cache(self, model: TwoStageDetector, folders: list[Path], made_by: dict[str, Any]) -> None:
        """One pass of the detector, all stages written side by side; goes on after the last whole shards.

        Each process takes consecutive batches, the very ones that a process alone makes.
        """
        split, tap = made_by["split"], made_by["tap"]
        rank, world = rank_and_world()
        check_cacheable(model)
        model.to(self.device, memory_format=torch.channels_last)
        # Views one after the other: even ones as they are, odd ones flipped.
        flips = [float(view % 2) for view in range(self.views)]
        views = [self.training_set(flip=flip) for flip in flips] if split == "train" else [self.validation_set()]
        size = self.detector.images_at_once
        batches = [
            (view, range(start, min(start + size, len(images))))
            for view, images in enumerate(views)
            for start in range(0, len(images), size)
        ]
        own = deque(share(batches, rank, world))
        # Scores are computed from the validation part, so single precision there.
        dtype = "float16" if split == "train" else "float32"
        with (
            self.reporter.task(f"caching {split} proposals ({tap})", sum(len(batch) for _, batch in own)) as advance,
            ExitStack() as stack,
        ):
            writers = [stack.enter_context(proposals.Writer(f, made_by, dtype, rank, world, size)) for f in folders]
            done = min(writer.images for writer in writers)
            for writer in writers:
                writer.rewind(done)
            advance(done)
            while done:  # a shard ends with a batch
                done -= len(own.popleft()[1])
            for view, group in itertools.groupby(own, key=operator.itemgetter(0)):
                loader = self.loader(views[view], [batch for _, batch in group])
                found = (
                    training_proposals(model, loader, tap, self.seed + view)
                    if split == "train"
                    else test_proposals(model, loader, tap)
                )
                for stages in found:
                    for writer, image in zip(writers, stages, strict=True):
                        writer.add(image)
                    advance()
                for writer in writers:
                    writer.end_shard()
        if world > 1:
            wait_for_all()
        for folder in folders:
            on_main(lambda folder=folder: proposals.assemble(folder, world))  # type: ignore[misc]

    def measure(self, checkpoint: Path) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
        """Everything that is measured of a run, of any checkpoint that fits this detector and data set.

        Raises:
            InputError: not such a checkpoint.
        """
        self.load_detector(checkpoint)  # so that what is wrong is said of this path
        with tempfile.TemporaryDirectory() as temporary:
            run = RunFolder(Path(temporary))
            run.checkpoint.symlink_to(checkpoint.absolute())
            classifiers = checkpoints.classifiers_of(checkpoints.load(checkpoint), checkpoint)
            return self.evaluate(list(classifiers.values()), run, run)

    def evaluate(
        self, classifiers: list[Classifier], run: RunFolder, detector_run: RunFolder
    ) -> tuple[pd.DataFrame, dict[str, Any], Detections]:
        """AP of boxes, and of masks where the detector segments, proposal accuracy and weight norms.

        Args:
            classifiers: one a stage.
            run: theirs; its checkpoint holds the heads of boxes and masks.
            detector_run: whose cached proposals are scored: the same, or the run whose frozen detector it shares.
        """
        val = self.cached_features(detector_run, "val", classifiers)
        detector = self._detector_of(run)
        boxes_of_pairs = self._boxes_of_pairs(detector, detector_run)
        table, metrics, detections = evaluate_classifier(
            classifiers,
            val,
            self.ground_truth,
            boxes_of_pairs=boxes_of_pairs,
            fixed=self.fixed,
            device=self.device,
            reporter=self.reporter,
        )
        if detector is not None and self.detector.has_masks:
            with logged_to(run.path / "console.log"):
                detections = self._with_masks(detector, detections)
            precision = evaluate(detections, self.mask_ground_truth)
            table = table.join(precision.add_suffix("_mask"))
            metrics |= {f"{name}^m": value for name, value in summarize_ap(precision, self.categories).items()}
        return table, metrics, detections

    def oracles(self, classifiers: list[Classifier], run: RunFolder, detector_run: RunFolder) -> pd.DataFrame:
        """AP where a part of the classifier's work is done for it (``oracle_ap``); arguments as of ``evaluate``."""
        val = self.cached_features(detector_run, "val", classifiers)
        boxes_of_pairs = self._boxes_of_pairs(self._detector_of(run), detector_run)
        return oracle_ap(classifiers, val, self.ground_truth, boxes_of_pairs=boxes_of_pairs, device=self.device)

    def overlaps(self, run: RunFolder, detector_run: RunFolder) -> np.ndarray:
        """(G,) best IoU of each validation box with a proposal (``best_overlaps``); arguments as of ``evaluate``."""
        val = self.proposals(detector_run, "val", "fc_pre_relu")[-1]
        boxes_of_pairs = self._boxes_of_pairs(self._detector_of(run), detector_run)
        return best_overlaps(val, self.ground_truth, boxes_of_pairs)

    def _detector_of(self, run: RunFolder) -> TwoStageDetector | None:
        """The detector whose heads make class-specific boxes or masks, where it has any."""
        if not (self.detector.has_masks or self.detector.has_class_boxes):
            return None
        with logged_to(None):
            return self.load_detector(run.checkpoint).to(self.device)

    def _boxes_of_pairs(
        self, detector: TwoStageDetector | None, detector_run: RunFolder
    ) -> Callable[[int], BoxesOfPairs] | None:
        if detector is None or not self.detector.has_class_boxes:
            return None
        regressor = ClassBoxes(box_heads(detector)[0])
        (regressed,) = self._joined(detector_run, "val", [("fc",)])

        def boxes_of_pairs(position: int) -> BoxesOfPairs:
            features, _, proposals = regressed.image(position, self.device)
            return regressor.of_image(features, proposals, torch.from_numpy(regressed.frames[position]))

        return boxes_of_pairs

    def _with_masks(self, detector: TwoStageDetector, detections: Detections) -> Detections:
        """Detections with the masks that the detector's mask branch gives them."""
        rows_of = pd.Series(detections.image_ids).groupby(detections.image_ids).indices
        none = np.zeros(0, dtype=np.int64)

        def of_image(image_id: int) -> tuple[torch.Tensor, torch.Tensor]:
            rows = rows_of.get(image_id, none)
            return torch.from_numpy(detections.boxes[rows]), torch.from_numpy(detections.labels[rows])

        image_ids: list[int] = []
        found: list[tuple[Any, ...]] = []
        images = self.validation_set()
        with self.reporter.task("masks", len(images)) as advance:
            for image_id, masks in predict_masks(detector, self.loader(images), of_image):
                rows = rows_of.get(image_id, none)
                columns = (detections.boxes[rows], detections.scores[rows], detections.labels[rows])
                image_ids.append(image_id)
                found.append((*columns, encode_mask_results(masks)))
                advance()
        return Detections.from_images(image_ids, found)

    def load_detector(self, path: Path) -> TwoStageDetector:
        """The detector of a checkpoint, in evaluation mode.

        Raises:
            InputError: not a checkpoint of this detector on this data set.
        """
        checkpoint = checkpoints.load(path)
        classifiers = list(checkpoints.classifiers_of(checkpoint, path).values())
        expected = self.detector.num_stages
        if len(classifiers) != expected or classifiers[0].num_classes != self.categories.num_classes:
            raise InputError(
                f"{path}: field 'state_dict' has {len(classifiers)} classifier(s) of {classifiers[0].num_classes} "
                f"classes, expected {expected} of {self.categories.num_classes} ({self.detector.name} on "
                f"{self.dataset.name})"
            )
        check_labels(self.categories, checkpoint["meta"], path)
        with logged_to(None):
            model = build_detector(self.detector, classifiers, stuff=self.has_stuff)
            try:
                load_features(model, checkpoint["state_dict"])
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:160]
                raise InputError(
                    f"{path}: field 'state_dict' is not of detector {self.detector.name}: {reason}"
                ) from error
        return model.eval()

    def training_set(self, flip: float = 0.5, keep_labels: list[int] | None = None) -> AnnotationDataset:
        """Training images through the detector's pipeline."""
        return build_dataset(
            self.dataset.train_annotations,
            self.dataset.train_images,
            self.categories.ids,
            self.detector.train_pipeline(flip, self.has_stuff),
            training=True,
            keep_labels=keep_labels,
            stuff_maps=self.dataset.stuff_maps if self.has_stuff else None,
        )

    def validation_set(self) -> AnnotationDataset:
        """Validation images through the detector's test pipeline."""
        return build_dataset(
            self.dataset.val_annotations,
            self.dataset.val_images,
            self.categories.ids,
            self.detector.test_pipeline,
            training=False,
        )

    def loader(self, dataset: AnnotationDataset, batches: Sequence[Sequence[int]] | None = None) -> DataLoader:
        """In order, for inference; all images, or ``batches`` of their positions."""
        batched: dict[str, Any] = {"batch_size": self.detector.images_at_once}
        return DataLoader(
            dataset,
            **(batched if batches is None else {"batch_sampler": batches}),
            num_workers=self.detector.num_workers,
            collate_fn=pseudo_collate,
        )

    def cached_features(self, run: RunFolder, split: str, classifiers: Sequence[Classifier]) -> list[ProposalSet]:
        """What classifiers read, from the cached proposals of a detector; one a stage."""
        return self._joined(run, split, [classifier.taps for classifier in classifiers])

    def _joined(self, run: RunFolder, split: str, taps: Sequence[tuple[str, ...]]) -> list[ProposalSet]:
        """The taps of each stage."""
        parts = {name: self.proposals(run, split, name) for name in dict.fromkeys(_stored(t) for s in taps for t in s)}
        return [
            proposals.join([parts[_stored(tap)][number] for tap in stage], relu=[tap == "fc" for tap in stage])
            for number, stage in enumerate(taps)
        ]


def _stored(tap: str) -> str:
    """The tap in the cache that a tap is read from."""
    return "fc_pre_relu" if tap == "fc" else tap
