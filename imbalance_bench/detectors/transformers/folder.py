"""A folder of transformers: its configuration, weights and image processor, read without executing anything of it.

Nothing is downloaded, whatever a file in the folder names: the hub is off while it is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from torch import Tensor, nn
from transformers import MODEL_FOR_OBJECT_DETECTION_MAPPING, AutoConfig, AutoImageProcessor, logging

from imbalance_bench.categories import read_json
from imbalance_bench.checkpoints import formats
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.detectors.transformers.families import FAMILIES
from imbalance_bench.runtime.errors import InputError, MissingDependency, first

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
MOST, MOST_LAYERS, MOST_PIXELS = 100_000, 1_000, 10_000
"""Numbers of a configuration are at most so large; the last: of the preparation of images."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers off the network, and from talking and showing bars."""
    offline, level, bars = constants.HF_HUB_OFFLINE, logging.get_verbosity(), logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_config(folder: Path) -> Any:
    """Read the configuration of a DETR.

    Raises:
        InputError: no folder, or no configuration of a DETR that is served.
    """
    if not folder.is_dir():
        raise InputError(f"option '--model {folder}': no such folder, expected one with {CONFIG} and {WEIGHTS}")
    path = folder / CONFIG
    content = read_json(path)
    _check_numbers(content, path)
    kind = content.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        shown = repr(kind)[:60]
        raise InputError(f"{path}: field 'model_type' is {shown}, expected one of {', '.join(FAMILIES)}")
    try:
        with _quietly():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        layers, labels = config.decoder_layers, config.num_labels
    except Exception as error:
        raise InputError(f"{path}: not a configuration of {kind} ({_said(error)})") from error
    for name, value in (("decoder_layers", layers), ("num_labels", labels)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{path}: field '{name}' is {str(value)[:60]!r}, expected a whole number above 0")
    if getattr(config, "use_focal_loss", True) is False:
        raise InputError(f"{path}: field 'use_focal_loss' is false, expected true: sigmoids, without a no-object row")
    backbone = getattr(config, "backbone_config", None)
    if getattr(backbone, "model_type", None) == "timm_backbone" and find_spec("timm") is None:
        raise MissingDependency("timm", "transformers")
    return config


def _check_numbers(content: Any, path: Path, field: str = "", most: int = MOST) -> None:
    """Refuse numbers that no model has, and that would take all memory before the weights are looked at.

    Raises:
        InputError: there is one.
    """
    if isinstance(content, dict):
        for name, value in content.items():
            _check_numbers(value, path, str(name), most)
    elif isinstance(content, list):
        for value in content:
            _check_numbers(value, path, field, most)
    most = min(most, MOST_LAYERS) if field.endswith(("layers", "depths")) else most
    if isinstance(content, int) and abs(content) > most:
        raise InputError(f"{path}: field '{field[:60]}' is {str(content)[:12]}, expected at most {most:,}")


def class_names(config: Any) -> tuple[str, ...] | None:
    """Return the names of ``id2label`` in label order; None where they are placeholders, or are there twice."""
    names = tuple(config.id2label.get(label) for label in range(config.num_labels))
    placeholders = tuple(f"LABEL_{label}" for label in range(config.num_labels))
    if names == placeholders or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
        return None
    return names


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, in single precision.

    Raises:
        InputError: another file.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: expected a file of safetensors, such as {WEIGHTS}; files with pickles are not read")
    state = checkpoints.tensors(formats.read(path).states[""], path)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _kind(config: Any) -> Any:
    """Return the class of the model of a configuration."""
    return MODEL_FOR_OBJECT_DETECTION_MAPPING[type(config)]


def load(config: Any, path: Path) -> nn.Module:
    """Build the model of a configuration with the weights of a file, in evaluation mode.

    transformers translates the names of tensors of its earlier versions.

    Raises:
        InputError: tensors are missing, unknown or of another shape.
    """
    state = read_weights(path)
    try:
        with _quietly():
            model, found = _kind(config).from_pretrained(
                None, config=config, state_dict=state, output_loading_info=True, dtype=torch.float32,
                local_files_only=True, trust_remote_code=False, ignore_mismatched_sizes=True,
            )  # fmt: skip
    except Exception as error:
        raise InputError(f"{path}: its tensors are not of the model of {CONFIG} ({_said(error)})") from error
    odd = sorted(f"'{name}' has shape {tuple(theirs)}, expected {tuple(own)}"
                 for name, theirs, own in found["mismatched_keys"])  # fmt: skip
    odd += sorted(f"'{name}' is missing" for name in found["missing_keys"])
    odd += sorted(f"'{name}' is unknown" for name in found["unexpected_keys"])
    if odd:
        raise InputError(f"{path}: its tensors are not of the model of {CONFIG}: {first(odd)}")
    return model.eval()


def untied(config: Any) -> nn.Module:
    """Build the model of a configuration with random weights, none of which is shared, whatever the weights to come."""
    with _quietly():
        model: nn.Module = _kind(config)(config)
    for module in model.modules():
        for name, value in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(value.detach().clone(), value.requires_grad))
    return model.float()


def read_processor(folder: Path, config: Any) -> Any:
    """Read what prepares images.

    Raises:
        InputError: it is missing, none of transformers', or pads images.
    """
    path = folder / PROCESSOR
    if not path.is_file():
        raise InputError(
            f"{path}: no such file, expected what your training prepared images with (save_pretrained of its processor)"
        )
    _check_numbers(read_json(path), path, most=MOST_PIXELS)
    try:
        with _quietly():
            processor = AutoImageProcessor.from_pretrained(
                folder, config=config, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise InputError(f"{path}: not a processor of images for {config.model_type} ({_said(error)})") from error
    if not hasattr(processor, "post_process_object_detection"):
        kind = type(processor).__name__
        raise InputError(f"{path}: field 'image_processor_type' is {kind}, expected one of a detector")
    if getattr(processor, "pad_size", None) is not None:
        raise InputError(f"{path}: field 'pad_size' is set, expected null: boxes are then not of the image alone")
    return processor


@torch.no_grad()
def try_out(folder: Path, model: nn.Module, processor: Any) -> None:
    """Let a model look at a black image, so that what does not work is said before any data are looked at.

    Raises:
        InputError: the image cannot be prepared, or the model fails on it.
    """
    where = folder / PROCESSOR
    try:
        inputs = prepare(processor, torch.zeros(3, 96, 128, dtype=torch.uint8))
        where = folder / CONFIG
        model(**inputs)
    except Exception as error:
        raise InputError(f"{where}: an image cannot be looked at with it ({_said(error)})") from error


def save(model: Any, folder: Path) -> None:
    """Write configuration and weights of a model, a weight that several layers share once."""
    with _quietly():
        model.save_pretrained(folder)


def save_config(model: Any, folder: Path) -> None:
    """Write the configuration of a model."""
    model.config.save_pretrained(folder)


def prepare(processor: Any, image: Tensor) -> dict[str, Tensor]:
    """Make the network's input of one (3, height, width) image of bytes: ``pixel_values``, perhaps ``pixel_mask``."""
    return dict(processor(images=[image], input_data_format="channels_first", return_tensors="pt"))


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
