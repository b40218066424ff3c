"""What this machine has."""

from __future__ import annotations

import functools
import os
from pathlib import Path


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def processor_features() -> frozenset[str]:
    """Give the processor's instruction sets by Linux's names, such as `avx512_vnni`.

    Empty where the system does not tell.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    fields = (line.partition(":") for line in text.splitlines())
    return frozenset(
        feature
        for name, _, value in fields
        if name.strip().lower() in ("flags", "features")
        for feature in value.split()
    )
