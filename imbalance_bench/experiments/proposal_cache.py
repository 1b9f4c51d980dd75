"""The cached proposals of one trained detector, on which classifiers are fitted and measured."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from imbalance_bench.classifiers import Classifier
from imbalance_bench.detectors.port import ProposalSource
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals import proposal_set, store
from imbalance_bench.proposals.postprocess import BoxesOfPairs
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import sha256
from imbalance_bench.runtime.locks import locked
from imbalance_bench.runtime.processes import held_by_main, log_file, on_main, rank_and_world, share, wait_for_all
from imbalance_bench.runtime.progress import logged_to


@dataclass
class ProposalCache:
    """The proposals of one detector on a data set, made when first asked for, and made anew when its weights change.

    Attributes:
        setup: data and detector.
        checkpoint: of the detector.
        folder: takes the parts, one for each split, tap and stage.
        views: of each training image; odd ones are flipped.
        also: the same detector's proposals of other training images, which classifiers are fitted to as well.
    """

    setup: Setup
    checkpoint: Path
    folder: Path
    views: int = 2
    also: tuple[ProposalCache, ...] = ()

    def make(self, split: str, classifiers: Sequence[Classifier]) -> None:
        """Make what classifiers read of a split where it is not there yet, by all processes together."""
        for tap in self._stored_taps(split, classifiers):
            self._parts(split, tap)

    def features(self, split: str, classifiers: Sequence[Classifier]) -> list[ProposalSet]:
        """Open what classifiers read of a split (``train`` or ``val``), one set a stage."""
        read = [classifier.taps for classifier in classifiers]
        parts = {tap: self.proposals(split, tap) for tap in self._stored_taps(split, classifiers)}
        return [
            proposal_set.join(
                [parts[self.stored(tap)][stage] for tap in taps], relu=[self.stored(tap) != tap for tap in taps]
            )
            for stage, taps in enumerate(read)
        ]

    def stored(self, tap: str) -> str:
        """Return the stored tap that a tap is read from: ``fc`` is the ReLU of ``fc_pre_relu``, where there is that."""
        return "fc_pre_relu" if tap == "fc" and "fc_pre_relu" in self.setup.detector.tap_dims else tap

    def proposals(self, split: str, tap: str) -> list[ProposalSet]:
        """Open a part, one set a stage; of training images, those of ``also`` come first.

        Args:
            split: ``train`` or ``val``.
            tap: one that is ``stored``.
        """
        blocks = self.setup.detector.num_blocks
        own = [replace(store.read(folder), num_blocks=blocks) for folder in self._parts(split, tap)]
        if split == "train":
            parts = [*(other.proposals(split, tap) for other in self.also), own]
            return [proposal_set.concatenate(stage) for stage in zip(*parts, strict=True)] if self.also else own
        detector = self.setup.detector
        boxes_of_pairs = self._boxes_of_pairs if detector.has_class_boxes else None
        return [replace(part, boxes_of_pairs=boxes_of_pairs, postprocess=detector.postprocess) for part in own]

    def _stored_taps(self, split: str, classifiers: Sequence[Classifier]) -> list[str]:
        """List the stored taps that are read; with a regressor for each class, also the tap that it reads."""
        taps = [tap for classifier in classifiers for tap in classifier.taps]
        if split == "val" and self.setup.detector.has_class_boxes:
            taps.append("fc")
        return list(dict.fromkeys(map(self.stored, taps)))

    def _boxes_of_pairs(self, position: int) -> BoxesOfPairs:
        """Return the decoder of boxes of a validation image's (proposal, class) pairs."""
        features, _, proposals = self._regressed.image(position, self.setup.device)
        return self.source.class_boxes(features, proposals, torch.from_numpy(self._regressed.frames[position]))

    @cached_property
    def _regressed(self) -> ProposalSet:
        tap = self.stored("fc")
        (part,) = (store.read(folder) for folder in self._parts("val", tap))
        return proposal_set.join([part], relu=[tap != "fc"])

    @cached_property
    def source(self) -> ProposalSource:
        """The detector in memory, on the device."""
        with logged_to(None):
            return self.setup.load_detector(self.checkpoint).to(self.setup.device)

    def _parts(self, split: str, tap: str) -> list[Path]:
        """Make a part if needed; return its folders, one a stage."""
        setup = self.setup
        made_by = {
            "dataset": setup.dataset.name,
            "detector": setup.detector.name,
            "checkpoint_sha256": on_main(lambda: sha256(self.checkpoint)),
            "split": split,
            "tap": tap,
            "views": self.views if split == "train" else 1,
            "seed": setup.seed,
        }
        name, stages = f"{split}-{tap}", setup.detector.num_stages
        names = [name] if stages == 1 else [f"{name}-stage{stage}" for stage in range(1, stages + 1)]
        folders = [self.folder / name for name in names]
        # Looked at before the lock is taken: what is only read needs no right to write.
        if on_main(lambda: self._are_made(folders, made_by)):
            return folders
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        with held_by_main(lambda: locked(lock, self.folder.parent, wait=True, say=setup.reporter.say)):
            if not on_main(lambda: self._are_made(folders, made_by, remove=True)):
                with logged_to(log_file(self.folder.with_name("console.log"))):
                    self._write(setup.load_detector(self.checkpoint), folders, made_by)
        return folders

    def _are_made(self, folders: list[Path], made_by: dict[str, Any], remove: bool = False) -> bool:
        """Tell whether all stages of a part exist, whole and of this detector; else remove them if asked."""
        try:
            if all(folder.exists() and store.read(folder).manifest["made_by"] == made_by for folder in folders):
                return True
        except InputError as error:
            if remove:
                self.setup.reporter.say(f"  {error}: made anew")
        if remove:
            for folder in folders:
                store.remove(folder)
        return False

    def _write(self, source: ProposalSource, folders: list[Path], made_by: dict[str, Any]) -> None:
        """Run the detector once and write all stages; continue after the last whole shards.

        Each process takes consecutive batches, the very ones that a process alone makes.
        """
        setup, split, tap = self.setup, made_by["split"], made_by["tap"]
        rank, world = rank_and_world()
        source.to(setup.device)
        # Views one after the other: even ones as they are, odd ones flipped.
        flips = [float(view % 2) for view in range(self.views)]
        views = [setup.training_set(flip=flip) for flip in flips] if split == "train" else [setup.validation_set()]
        size = setup.detector.images_at_once
        batches = [
            (view, range(start, min(start + size, len(images))))
            for view, images in enumerate(views)
            for start in range(0, len(images), size)
        ]
        own = deque(share(batches, rank, world))
        # Scores are computed from the validation part, so single precision there.
        dtype = "float16" if split == "train" else "float32"
        with (
            setup.reporter.task(f"caching {split} proposals ({tap})", sum(len(batch) for _, batch in own)) as advance,
            ExitStack() as stack,
        ):
            writers = [stack.enter_context(store.Writer(f, made_by, dtype, rank, world, size)) for f in folders]
            done = min(writer.images for writer in writers)
            for writer in writers:
                writer.rewind(done)
            advance(done)
            while done:  # a shard ends with a batch
                done -= len(own.popleft()[1])
            for view, group in itertools.groupby(own, key=operator.itemgetter(0)):
                images, own_batches = views[view], [batch for _, batch in group]
                found = (
                    source.training_proposals(images, own_batches, tap, setup.seed + view)
                    if split == "train"
                    else source.inference_proposals(images, own_batches, tap)
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
            on_main(lambda folder=folder: store.assemble(folder, world))  # type: ignore[misc]
