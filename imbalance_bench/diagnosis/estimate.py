"""Estimate of the time that a diagnosis takes, measured on a small sample of each part."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from imbalance_bench.classifiers import Classifier, SoftmaxClassifier
from imbalance_bench.detectors.port import ProposalSource
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.methods import Method
from imbalance_bench.proposals.blocks import expand
from imbalance_bench.schedule import Schedule

STEPS_TIMED = 4
"""Number of training steps that are timed for each method's classifier."""


def estimate(setup: Setup, tuning: Setup, source: ProposalSource, tried: Sequence[Method], tune: bool) -> float:
    """Estimate the seconds of a diagnosis from a few images through detector and NMS, and a few training steps."""
    source = source.to(setup.device)
    images, batch = setup.validation_set(), setup.detector.images_at_once
    few = range(min(batch, len(images)))
    list(source.inference_proposals(images, [few], "fc"))
    begin = time.monotonic()
    found = list(source.inference_proposals(images, [few], "fc"))
    per_image = (time.monotonic() - begin) / len(few)
    fitting, held_out, measured = (len(b) for b in (tuning.training_set(), tuning.validation_set(), images))
    passes = per_image * (fitting + 2 * held_out + measured)

    schedule = setup.detector.schedule
    base = SoftmaxClassifier(setup.categories.num_classes, setup.detector.tap_dims["fc"])
    rows = source.training_rows * schedule.batch_size
    steps = 12 * (fitting + held_out) / schedule.batch_size * setup.detector.num_stages
    seconds = passes
    for method in tried:
        runs = 1 + (len(method.settings_to_try) if tune else 0)
        if not method.candidate.trains_nothing:
            classifier = method.candidate.build(
                setup.categories, setup.detector.tap_dims, base, setup.dataset.train_annotations
            )
            seconds += runs * steps * _step(classifier.to(setup.device), schedule, rows)
    base = base.to(setup.device)
    begin = time.monotonic()
    with torch.no_grad():
        for *_, image in found:
            features = expand(image.features.to(setup.device), image.block, setup.detector.num_blocks)
            setup.detector.postprocess(base.scores(base(features)).cpu(), image.boxes.cpu())
    score = (time.monotonic() - begin) / len(found)
    settings = sum(len(method.settings_to_try) for method in tried) if tune else 0
    return seconds + score * (measured * len(tried) + held_out * settings)


def _step(classifier: Classifier, schedule: Schedule, rows: int) -> float:
    """Measure the seconds of one training step of a classifier on ``rows`` RoIs."""
    device = next(classifier.parameters()).device
    features = torch.randn(rows, classifier.feature_dim, device=device).half()
    labels = torch.randint(classifier.num_classes + 1, (rows,), device=device)
    optimizer = torch.optim.SGD(classifier.parameters(), schedule.lr, schedule.momentum)
    classifier.train()
    begin = 0.0
    for step in range(1 + STEPS_TIMED):
        if step == 1:  # the first step is slower than the others
            begin = time.monotonic()
        optimizer.zero_grad()
        torch.stack(list(classifier.loss(classifier(features.float()), labels).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), schedule.max_norm)
        optimizer.step()
    return (time.monotonic() - begin) / STEPS_TIMED
