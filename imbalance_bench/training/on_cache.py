"""Training a classifier on cached proposals: the frozen detector is not run again."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import Classifier
from imbalance_bench.proposals.batches import Batches, drawing
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.memory import keep_freed_memory
from imbalance_bench.runtime.progress import Reporter
from imbalance_bench.runtime.seeds import epoch_seed
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.divergence import check_losses, check_weights


def train_classifier(
    classifier: Classifier,
    proposals: ProposalSet,
    schedule: Schedule,
    seed: int,
    *,
    sampling: str = "uniform",
    device: str = "cpu",
    state_file: Path | None = None,
    reporter: Reporter | None = None,
) -> list[float]:
    """Train all parameters of a classifier in place, with batches as in the detector's own training.

    A batch is all cached RoIs of ``schedule.batch_size`` images, each image in one of its cached views, where sampling
    is uniform.

    Args:
        classifier: what to train.
        proposals: the training part of a cache.
        schedule: as the detector's trainer would follow it.
        seed: of the order of images, views, and whatever the loss samples.
        sampling: of ``Method``: which RoIs are drawn; only ``uniform`` draws every image once in an epoch.
        device: of the training.
        state_file: written after every epoch; an interrupted training continues from it, with the same result.
        reporter: shows progress.

    Returns:
        The mean loss of each epoch.

    Raises:
        InputError: the state file is not this training's, or training diverged; the state before that is kept.
    """
    keep_freed_memory()
    classifier.to(device).train()
    proposals = proposals.on(device)
    parameters = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        parameters, lr=schedule.lr, momentum=schedule.momentum, weight_decay=schedule.weight_decay
    )
    num_images = len(set(proposals.image_ids.tolist()))
    iterations = -(-num_images // schedule.batch_size)
    batches = drawing(proposals, classifier.num_classes, sampling)
    history: list[float] = []
    if state_file is not None and state_file.exists():
        history = _resume(state_file, classifier, optimizer)
    reporter = reporter or Reporter()
    with reporter.task("training the classifier", schedule.epochs * iterations) as advance:
        advance(len(history) * iterations)
        end_epoch = reporter.epochs(schedule.epochs, len(history))
        for epoch in range(len(history), schedule.epochs):
            own_seed = epoch_seed(seed, epoch)
            mean = _epoch(classifier, optimizer, batches, schedule, epoch, iterations, own_seed, device)
            history.append(mean)
            advance(iterations, note=f"loss {mean:.3f}")
            end_epoch(epoch + 1, mean)
            if state_file is not None:
                state = {"classifier": classifier.state_dict(), "optimizer": optimizer.state_dict(), "losses": history}
                checkpoints.write(state_file, state)
    classifier.eval().cpu()
    return history


def _epoch(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    schedule: Schedule,
    epoch: int,
    iterations: int,
    seed: int,
    device: str,
) -> float:
    """Train for one epoch, and return the mean loss."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), device=device)
    history: list[Tensor] = []
    classifier.begin_epoch(epoch / schedule.epochs)
    devices = [torch.cuda.current_device()] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        if epoch == 0:
            # Drawn when asked for: most classifiers ask for none.
            first = torch.Generator().manual_seed(seed)
            classifier.fit(batch for draw in [batches] for batch in draw(schedule.batch_size, first, device))
        drawn = batches(schedule.batch_size, generator, device)
        for iteration, (features, labels) in enumerate(drawn, start=epoch * iterations):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(iteration, iterations)
            losses = classifier.loss(classifier(features), labels)
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], schedule.max_norm)
            optimizer.step()
            total += loss.detach()
            history.append(torch.stack([value.detach() for value in losses.values()]))
    # Once an epoch, so that a GPU is not waited for; nothing of an epoch that diverged is kept.
    kept = f"the state after epoch {epoch} is kept" if epoch else "no epoch was finished before"
    for iteration, values in enumerate(torch.stack(history).tolist(), start=epoch * iterations + 1):
        check_losses(dict(zip(losses, values, strict=True)), iteration, epoch + 1, kept)
    check_weights(classifier.state_dict(), (epoch + 1) * iterations, epoch + 1, kept)
    return float(total) / iterations


def _resume(state_file: Path, classifier: Classifier, optimizer: torch.optim.Optimizer) -> list[float]:
    try:
        state = torch.load(state_file, weights_only=True)
        classifier.load_state_dict(state["classifier"])
        optimizer.load_state_dict(state["optimizer"])
        return list(state["losses"])
    except Exception as error:
        raise InputError(f"{state_file}: not the state of this training, delete it to start anew") from error
