"""Memory that a training on a CPU keeps between its steps."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = 2**31 - 1


def keep_memory() -> None:
    """Have this process keep the memory that it frees, instead of giving it back each time.

    Every step of training frees its large tensors and asks for them again. glibc's allocator
    gives blocks of that size back to the system at once, which then has to clear each page anew:
    an eighth of a step of ResNet-50 (`benchmarks/training.py`). It holds for the process from
    here on; elsewhere than with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, _LARGEST)
