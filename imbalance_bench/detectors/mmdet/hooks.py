"""What mmengine's Runner does for hosted classifiers: it tells them the epochs, and fits those that must be fitted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import torch
from mmdet.registry import HOOKS
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor

from imbalance_bench.classifiers import Classifier
from imbalance_bench.runtime.errors import InputError


@HOOKS.register_module()
class ClassifierHook(Hook):
    """A hook that tells hosted classifiers the finished share of the training, and fits them at its end.

    LDAM-DRW weights its loss in the last third of the training. NCM and LogN need statistics of the training RoIs. One
    more pass over the training images computes them after the last epoch, before it is saved and validated. With
    several processes, the statistics are those of the first process, over its share of the images.
    """

    def before_train(self, runner: Runner) -> None:
        """Collect the hosted classifiers.

        Raises:
            InputError: a classifier needs a trained classifier, but no checkpoint provides one.
        """
        self.classifiers = [module for module in runner.model.modules() if isinstance(module, Classifier)]
        for classifier in self.classifiers:
            classifier.attended = True
            if classifier.lacks_base:
                raise InputError(
                    f"load_from: {type(classifier).__name__} stands on a trained softmax classifier, expected the "
                    "checkpoint of a detector that has one ('fc_cls.weight' and 'fc_cls.bias' of the box head)"
                )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Tell the finished share before every iteration, because a resumed run starts within an epoch."""
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        done = runner.iter / runner.max_iters if by_iteration else runner.epoch / runner.max_epochs
        for classifier in self.classifiers:
            classifier.begin_epoch(done)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Fit the classifiers after the last iteration."""
        if runner.iter + 1 == runner.max_iters:
            for classifier in self.classifiers:
                if classifier.needs_fit:
                    fit(classifier, runner)


def fit(classifier: Classifier, runner: Runner) -> None:
    """Fit a hosted classifier to the RoIs of the training images."""
    runner.logger.info(f"fitting {type(classifier).__name__} to the training images")
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    training = [module for module in model.modules() if module.training]
    model.eval()
    with torch.no_grad():
        classifier.fit(_batches(classifier, model, runner))
    for module in training:
        module.training = True
    for buffer in classifier.buffers():
        dist.broadcast(buffer)


def _batches(classifier: Classifier, model: Any, runner: Runner) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (features, labels) of the RoIs sampled from the training images, for each batch."""
    seen: dict[str, Tensor] = {}
    own_loss = classifier.loss

    def note(logits: Tensor, labels: Tensor, *args: Any) -> dict[str, Tensor]:
        seen["labels"] = labels
        return own_loss(logits, labels, *args)

    with ExitStack() as stack:
        handle = classifier.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0]))
        stack.callback(handle.remove)
        classifier.loss = note  # type: ignore[method-assign, assignment]
        stack.callback(delattr, classifier, "loss")
        # As many as an epoch has: where training goes by iterations, a sampler may never end.
        for batch in islice(runner.train_dataloader, len(runner.train_dataloader)):
            model(**model.data_preprocessor(batch, training=True), mode="loss")
            yield seen["features"], seen["labels"]
