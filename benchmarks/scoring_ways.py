"""What `scoring.py` measures: one way of scoring, once, in this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from others import run_reference, run_torchreid
from people import People, Size, draw_few, load_people
from reidkit import scoring
from reidkit.comparing import MEMORY, Comparison
from reidkit.reranking import KReciprocal

ROWS = 1024
"""Rows (of mapped vectors: columns) of a bare product that are multiplied at once."""

SMALL = 2**28
Figures = dict[str, float]
Vectors = NDArray[np.float32]


class Others(NamedTuple):
    """Where others' code is: two checkouts and a compiled extension."""

    reference: str | None = None
    torchreid: str | None = None
    extension: str | None = None

    def have(self, way: str) -> bool:
        """Tell whether a way can be measured."""
        needed = {
            "reference": self.reference,
            "reference-rerank": self.reference,
            "torchreid": self.torchreid,
            "torchreid-compiled": self.extension,
        }
        return bool(needed.get(way, "ours"))


Way = Callable[[People, Others], Figures]


def evaluate(metric: str | Comparison = "cosine", memory: int = MEMORY) -> Way:
    """Score with reidkit; how long it multiplies is measured too."""

    def run(people: People, others: Others) -> Figures:
        with time_products() as spent:
            scores = scoring.evaluate(people.query, people.gallery, metric=metric, memory=memory)
        figures = {"mAP": scores.mAP, "rank1": scores.rank(1), "mINP": scores.mINP}
        return {**figures, "product_seconds": sum(spent)}

    return run


def multiply(people: People, others: Others) -> Figures:
    """Multiply queries by gallery; of vectors on disk some gallery rows at a time."""
    query, gallery = people.query.vectors, people.gallery.vectors
    if isinstance(gallery, np.memmap):
        out = np.empty((len(query), min(8 * ROWS, len(gallery))), np.float32)
        for start in range(0, len(gallery), out.shape[1]):
            part = gallery[start : start + out.shape[1]]
            np.matmul(query, part.T, out=out[:, : len(part)])
        return {}
    return multiply_rows(query, gallery)


def multiply_all(people: People, others: Others) -> Figures:
    """Multiply all vectors by all."""
    return multiply_rows(people.vectors, people.vectors)


def multiply_rows(left: Vectors, right: Vectors) -> Figures:
    """Multiply a block of rows at a time into the same memory."""
    out = np.empty((min(ROWS, len(left)), len(right)), np.float32)
    for start in range(0, len(left), ROWS):
        part = left[start : start + ROWS]
        np.matmul(part, right.T, out=out[: len(part)])
    return {}


def reference(metric: str) -> Way:
    """Score with reid-strong-baseline's metric of that name."""

    def run(people: People, others: Others) -> Figures:
        return run_reference(Path(others.reference or ""), people, metric)

    return run


def torchreid(*, compiled: bool) -> Way:
    """Score with torchreid."""

    def run(people: People, others: Others) -> Figures:
        extension = Path(others.extension) if compiled and others.extension else None
        return run_torchreid(Path(others.torchreid or ""), people, extension)

    return run


WAYS: dict[str, Way] = {
    "product": multiply,
    "evaluate": evaluate(),
    "evaluate-small": evaluate(memory=SMALL),
    "evaluate-euclidean": evaluate("euclidean"),
    "reference": reference("R1_mAP"),
    "torchreid": torchreid(compiled=False),
    "torchreid-compiled": torchreid(compiled=True),
    "product-all": multiply_all,
    "rerank": evaluate(KReciprocal(k1=20, k2=6, weight=0.3)),
    "reference-rerank": reference("R1_mAP_reranking"),
}


def measure(way: str, size: Size, folder: Path, others: Others) -> Figures:
    """Measure one way once; what it loads at its first call is loaded before."""
    WAYS[way](draw_few(size.dimension), others)
    people = load_people(folder, size)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # forget the most that was held so far
    before = _read_memory()
    with watch_memory() as allocated:
        began = time.perf_counter()
        figures = WAYS[way](people, others)
        seconds = time.perf_counter() - began
    after = _read_memory()
    extra = after["VmHWM"] - before["VmRSS"]
    if size.mapped:
        extra = max(allocated) - before["RssAnon"]
    return {"seconds": seconds, "extra_mib": extra, "peak_mib": after["VmHWM"], **figures}


@contextlib.contextmanager
def time_products() -> Iterator[list[float]]:
    """Collect the seconds of every `np.matmul`."""
    spent: list[float] = []
    plain: Any = np.matmul

    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = plain(*arguments, **named)
        spent.append(time.perf_counter() - began)
        return result

    np.matmul = timed  # type: ignore[assignment]
    try:
        yield spent
    finally:
        np.matmul = plain


@contextlib.contextmanager
def watch_memory() -> Iterator[list[float]]:
    """Look every 50 ms at how much of this process's memory is no file's, in MiB."""
    seen, done = [_read_memory()["RssAnon"]], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            seen.append(_read_memory()["RssAnon"])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _read_memory() -> dict[str, float]:
    """Read what this process holds and held at most, in MiB (Linux).

    `ru_maxrss` would do for the most, but it starts with what the parent held.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key: int(fields[key].split()[0]) / 1024 for key in ("VmHWM", "VmRSS", "RssAnon")}
