"""Large arrays in several files, read a few rows at a time with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

EQUAL_ROWS = 1 << 14
"""Compared at once."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class ShardedRows:
    """A (P, d) array in files, or (``of``, ``to``) in memory.

    Files are read with ``pread`` and not mapped: pages once read would count as the process's memory, all of them in
    an epoch.

    Args:
        files: raw rows in C order, one file a shard.
        rows: of each file.
        dim: d.
        dtype: of the values.
    """

    def __init__(self, files: Sequence[Path], rows: Sequence[int], dim: int, dtype: np.dtype) -> None:
        self.files, self.dim, self.dtype = list(files), dim, dtype
        self._rows = list(rows)
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        self._resident: Tensor | None = None
        # Open from now on: what is read stays what it was, also if the files are replaced.
        self._handles = [os.open(path, os.O_RDONLY) for path in self.files]

    @classmethod
    def of(cls, array: np.ndarray) -> ShardedRows:
        """An array in memory, which is not copied."""
        rows = cls([], [len(array)], array.shape[1], array.dtype)
        rows._resident = torch.from_numpy(array)
        return rows

    @classmethod
    def concatenate(cls, parts: Sequence[ShardedRows]) -> ShardedRows:
        """Join arrays of one width, row after row, on disk if all of them are."""
        if not all(part.files for part in parts):
            return cls.of(np.concatenate([part.tensor([slice(0, len(part))]).numpy() for part in parts]))
        files, rows = ([item for part in parts for item in getattr(part, name)] for name in ("files", "_rows"))
        return cls(files, rows, parts[0].dim, parts[0].dtype)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShardedRows):
            return NotImplemented
        if (len(self), self.dim, self.dtype) != (len(other), other.dim, other.dtype):
            return False
        if self.files and self.files == other.files:
            return True
        spans = [slice(start, min(start + EQUAL_ROWS, len(self))) for start in range(0, len(self), EQUAL_ROWS)]
        return all(torch.equal(self.tensor([span]).cpu(), other.tensor([span]).cpu()) for span in spans)

    __hash__ = None  # type: ignore[assignment]

    @property
    def nbytes(self) -> int:
        """Size on disk."""
        return len(self) * self.dim * self.dtype.itemsize

    def tensor(self, spans: Sequence[slice], device: torch.device | str = "cpu") -> Tensor:
        """Read the rows of some spans, (N, d), in the stored precision."""
        if self._resident is not None:
            return torch.cat([self._resident[span] for span in spans]).to(device)
        out = np.empty((sum(span.stop - span.start for span in spans), self.dim), self.dtype)
        filled = 0
        for span in spans:
            filled = self._read(span.start, span.stop, out, filled)
        rows = torch.from_numpy(out)
        if str(device).startswith("cuda"):
            return rows.pin_memory().to(device, non_blocking=True)
        return rows.to(device)

    def to(self, device: torch.device | str) -> ShardedRows:
        """Load the whole array into a device's memory, a shard at a time."""
        moved = ShardedRows(self.files, self._rows, self.dim, self.dtype)
        dtype = torch.from_numpy(np.empty(0, self.dtype)).dtype
        moved._resident = torch.empty((len(self), self.dim), dtype=dtype, device=device)
        for start, stop in zip(self._starts[:-1].tolist(), self._starts[1:].tolist(), strict=True):
            moved._resident[start:stop] = self.tensor([slice(start, stop)], device)
        return moved

    def __del__(self) -> None:
        for handle in self.__dict__.get("_handles", ()):
            os.close(handle)

    def _read(self, start: int, stop: int, out: np.ndarray, filled: int) -> int:
        """Copy rows ``start`` to ``stop`` into ``out`` from row ``filled`` on; return the next free row."""
        size = self.dim * self.dtype.itemsize
        while start < stop:
            shard = int(np.searchsorted(self._starts, start, side="right")) - 1
            end = min(stop, int(self._starts[shard + 1]))
            view = memoryview(out[filled : filled + end - start]).cast("B")  # type: ignore[arg-type]
            position = (start - int(self._starts[shard])) * size
            while view:
                count = os.preadv(self._handles[shard], [view], position)
                if count == 0:
                    raise OSError(f"{self.files[shard]}: ends at byte {position}, expected more rows")
                view, position = view[count:], position + count
            filled += end - start
            start = end
        return filled


def ahead(work: Callable[[Item], Result], items: Iterable[Item], depth: int = 2) -> Iterator[Result]:
    """Yield results of ``work`` in order, computed in another thread up to ``depth`` items ahead."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        pending: deque = deque()
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > depth:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
