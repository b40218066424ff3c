"""A process and all that it started: which they are, and the memory that they take up (Linux)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def list_family(process: int) -> Iterator[int]:
    """List a process and all below it, however deep."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(place.name))
    waiting = [process]
    while waiting:
        each = waiting.pop()
        yield each
        waiting += children.get(each, [])


def measure_process(process: int) -> float:
    """Give what a process holds, in MiB, shared pages divided among those that have them.

    It is 0 where the process has ended.
    """
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    sizes = [line.split() for line in text.splitlines() if line.startswith("Pss:")]
    return sum(int(size[1]) for size in sizes) / 1024
