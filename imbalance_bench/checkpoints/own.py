"""Checkpoints in mmdet's format: written, read without executing anything, and searched for classifiers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints.formats import Stored, read, values
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from imbalance_bench.classifiers import Classifier

CLASSIFIER_PREFIX = re.compile(r"(?:^|\.)fc_cls\.")

_CLASS_SPECIFIC = re.compile(r"\.(fc_reg|conv_logits)\.")
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LEADING = re.compile(r"^(?:(?:module|model)\.)+")


def is_classifier(name: str) -> bool:
    """Return whether a parameter of a detector belongs to its classifier."""
    return CLASSIFIER_PREFIX.search(name) is not None


def is_new_in_training(name: str) -> bool:
    """Return whether a parameter is as initialised when a training starts from a detector of other classes.

    That is of a classifier, a box regressor, or the last layer of class-specific masks.
    """
    return is_classifier(name) or _CLASS_SPECIFIC.search(name) is not None


def save(path: Path, state_dict: dict[str, Tensor], classifier: Classifier, categories: CategoryTable) -> None:
    """Write a whole detector with its classifier's configuration and its training categories."""
    state = {name: value.detach().cpu().contiguous() for name, value in state_dict.items()}
    write(path, {"state_dict": state, "meta": meta_of(classifier, categories)})


def meta_of(classifier: Classifier, categories: CategoryTable) -> dict[str, Any]:
    """Return the ``meta`` of a checkpoint of this suite: its classifier's configuration and its categories."""
    return {
        "classifier": classifier.config(),
        "categories": {
            "ids": categories.ids.tolist(),
            "names": list(categories.names),
            "image_counts": categories.image_counts.tolist(),
            "instance_counts": categories.instance_counts.tolist(),
            "frequencies": list(categories.frequencies),
            "bin_edges": list(categories.bin_edges),
        },
    }


def write(path: Path, content: Any) -> None:
    """Write a file with ``torch.save``, completely or not at all."""
    import torch

    def save(partial: Path) -> None:
        # Through a file of Python's: torch's own does not say why a disk refused to take it.
        with partial.open("wb") as file:
            torch.save(content, file)

    write_atomically(path, save)


def load(path: str | Path, of_classifier: Callable[[str], bool] = is_classifier) -> dict[str, Any]:
    """Load a checkpoint as ``state_dict`` and ``meta``, memory-mapped; no pickle in it is executed.

    Every format of ``formats.read`` is accepted. Of several dictionaries of tensors, the first one with a classifier is
    taken. The prefixes of wrappers are removed from names.

    Args:
        path: of the file.
        of_classifier: whether a tensor of this name belongs to a classifier.

    Raises:
        InputError: the file is missing, truncated, not a checkpoint, or holds more than tensors and plain values.
    """
    found = read(path)
    states = list(found.states.values())
    named = (state for state in states if any(map(of_classifier, plain_names(state, found.path))))
    state = next(named, states[0])
    return {"state_dict": tensors(plain_names(state, found.path), found.path), "meta": found.meta}


def tensors(state: Mapping[str, Stored], path: Path) -> dict[str, Tensor]:
    """Return the arrays of a file as torch tensors; types that numpy lacks are converted to single precision."""
    import torch

    def tensor(name: str, value: Stored) -> Tensor:
        if not isinstance(value, np.ndarray):
            return value
        return torch.from_numpy(values(value, name, path) if value.dtype.names else np.array(value))

    return {name: tensor(name, value) for name, value in state.items()}


def plain_names(state: dict[str, Stored], path: Path) -> dict[str, Stored]:
    """Return the tensors by their names in the detector, without the prefixes of wrappers.

    Removed are the prefixes of DataParallel and DeepSpeed (``module.``), ``torch.compile`` (``_orig_mod.``), FSDP and
    Lightning (``model.``). mmdet 2 keeps both averaged and plain weights; the copy named ``ema_...`` is left out.

    Raises:
        InputError: two tensors get the same name.
    """
    names = {name: _LEADING.sub("", _WRAPPERS.sub("", name)) for name in state if not name.startswith("ema_")}
    if len(set(names.values())) < len(names):
        twice = next(name for name in names.values() if list(names.values()).count(name) > 1)
        raise InputError(f"{path}: field '{twice}' is there twice, with and without what a wrapper puts before it")
    return {plain: state[name] for name, plain in names.items()}


def classifiers_of(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Classifier]:
    """Return the classifiers in a checkpoint by the prefix of their box head; a cascade has one for each stage.

    A checkpoint of this suite states its classifier; in any other it is taken for mmdet's softmax classifier.

    Raises:
        InputError: no classifier is found, or its configuration and its tensors do not fit each other.
    """
    state = checkpoint["state_dict"]
    prefixes = _prefixes(state)
    if not prefixes:
        raise InputError(f"{path}: field 'state_dict' has no '...fc_cls.*', expected a detector with a box classifier")
    from imbalance_bench.classifiers import build

    meta = checkpoint.get("meta")
    config = meta.get("classifier") if isinstance(meta, dict) else None
    found = {}
    for prefix in prefixes:
        tensors = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        try:
            _check_size(config, tensors)
            classifier = build(config) if config else _softmax_like(tensors)
            classifier.load_state_dict(tensors)
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(f"{path}: field '{prefix.rstrip('.')}' does not fit its classifier: {reason}") from error
        found[prefix.removesuffix("fc_cls.").rstrip(".") or "classifier"] = classifier.eval()
    return found


def with_classifiers(state: dict[str, Tensor], classifiers: Sequence[Classifier]) -> dict[str, Tensor]:
    """Return a detector's state dict with its classifiers replaced by others, one for each stage."""
    others = {name: value for name, value in state.items() if not is_classifier(name)}
    for prefix, classifier in zip(_prefixes(state), classifiers, strict=True):
        others |= {prefix + name: value for name, value in classifier.state_dict().items()}
    return others


def _prefixes(state: Iterable[str]) -> list[str]:
    """Return the prefix of each classifier's parameters, in order of stages."""
    found = {name[: match.end()] for name in state if (match := CLASSIFIER_PREFIX.search(name))}
    return sorted(found, key=stage_order)


def categories_of(checkpoint: dict[str, Any], path: str | Path) -> CategoryTable | None:
    """Return the categories stored in a checkpoint of this suite; None for any other checkpoint.

    Raises:
        InputError: the category table contradicts itself.
    """
    meta = checkpoint.get("meta")
    stated = meta.get("categories") if isinstance(meta, dict) else None
    if stated is None:
        return None
    try:
        return CategoryTable(
            ids=np.array(stated["ids"], dtype=np.int64),
            names=tuple(stated["names"]),
            image_counts=np.array(stated["image_counts"], dtype=np.int64),
            instance_counts=np.array(stated["instance_counts"], dtype=np.int64),
            frequencies=tuple(stated["frequencies"]),
            bin_edges=tuple(stated["bin_edges"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: field 'meta.categories' is not a category table ({error})") from error


def stage_order(name: str) -> list[tuple[int, str]]:
    """Return a sorting key for names with the number of a stage: 10 comes after 2."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]{1,9})", name)]


def _check_size(config: Any, tensors: dict[str, Tensor]) -> None:
    """Refuse a configuration that would allocate more values than the checkpoint's tensors hold."""
    sizes: list[Any] = [config.get("num_classes"), config.get("feature_dim")] if isinstance(config, dict) else []
    stored = sum(min(tensor.numel(), tensor.untyped_storage().nbytes()) for tensor in tensors.values())
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) > stored:
        raise ValueError(f"num_classes and feature_dim are {sizes}, more than its tensors hold")


def _softmax_like(tensors: dict[str, Tensor]) -> Classifier:
    weight = tensors["weight"]
    if weight.dim() != 2 or len(weight) < 2:
        raise ValueError(f"weight has shape {tuple(weight.shape)}, expected (C + 1, d)")
    from imbalance_bench.classifiers import SoftmaxClassifier

    return SoftmaxClassifier(num_classes=len(weight) - 1, feature_dim=weight.shape[1])
