"""Memory of the C library, on the CPU."""

from __future__ import annotations

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory(mmap_threshold: int = 32 << 20, trim_threshold: int = 256 << 20) -> None:
    """Let glibc reuse the memory of freed tensors instead of handing it back to the system at once.

    A training step on the CPU allocates the same tensors again and again; without this each of them comes as fresh
    pages, which costs a fifth of the step. Does nothing where the C library is not glibc.

    Args:
        mmap_threshold: bytes; larger blocks are still handed back (glibc takes 32 MiB at most).
        trim_threshold: bytes of free memory that are kept.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_THRESHOLD, mmap_threshold)
        libc.mallopt(M_TRIM_THRESHOLD, trim_threshold)
