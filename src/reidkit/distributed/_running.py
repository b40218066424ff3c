"""Embedding on an engine, from the first look at what is there to the manifest."""

from __future__ import annotations

from collections.abc import Sequence

from reidkit.distributed import _pipeline
from reidkit.distributed._cluster import Cluster, connected, share_out
from reidkit.distributed._data_set import DataSet, open_data_set
from reidkit.distributed._folder import MANIFEST, begin, count_parts, finish, is_whole
from reidkit.distributed._parts import PartFacts, read_unreadable
from reidkit.distributed._plan import Job
from reidkit.embedding import word_unreadable
from reidkit.records import Progress


def embed_parts(
    job: Job,
    cluster: Cluster,
    *,
    progress: Progress | None = None,
    skip_unreadable: bool = False,
) -> DataSet:
    """Embed on a Ray cluster into an embeddings data set, and go on where an earlier run stopped.

    Workers need reidkit and the engine's library installed, and reach the pictures and `job.out`
    by the same addresses. The vectors are those of `embed` with the same runtime, bit for bit.

    Pictures that cannot be decoded are written down as rows of an errors table. Without
    `skip_unreadable` they are an error once everything else is done, and the next run tries them
    again.

    Raises:
        MismatchError: `job.out` was begun for something else.
        UnreadableImagesError: naming the pictures that could not be decoded.
        EngineError, DeviceError: no cluster, or a worker failed for good.
        StoreError: a file system failed.
    """
    begin(job.out, job.plan)
    if not (job.out / MANIFEST).exists():
        _make(job, cluster, progress=progress, skip_unreadable=skip_unreadable)
    data = open_data_set(job.out)
    if data.unreadable and not (skip_unreadable and len(data)):
        raise word_unreadable(data.list_unreadable(), len(data) + data.unreadable)
    return data


def _make(job: Job, cluster: Cluster, *, progress: Progress | None, skip_unreadable: bool) -> None:
    """Make what is missing, and the manifest if nothing stands against it."""
    kept = _keep(count_parts(job.out, job.plan), retry=not skip_unreadable)
    missing = _find_missing(job, kept)
    parts = {(part.piece, part.section): part for part in kept}
    counter = _Counter(job, kept, progress)
    if missing:
        with connected(cluster) as ray:
            share = share_out(ray, cluster, job.plan.device)
            for part in _pipeline.run(ray, job, share, missing):
                parts[part.piece, part.section] = part
                counter.add(part)
    rows = sum(part.rows for part in parts.values())
    bad = sorted(part.name for part in parts.values() if part.unreadable)
    if bad and not (skip_unreadable and rows):
        unreadable = sum(part.unreadable for part in parts.values())
        raise word_unreadable(read_unreadable(job.out, bad), rows + unreadable)
    finish(job.out, job.plan, parts.values())


def _keep(parts: Sequence[PartFacts], *, retry: bool) -> list[PartFacts]:
    """Choose the parts that need not be made again."""
    return [part for part in parts if not (retry and part.unreadable)]


def _find_missing(job: Job, kept: Sequence[PartFacts]) -> dict[int, frozenset[int]]:
    """Give the pieces that lack parts, and which of their sections are there."""
    done: dict[int, dict[int, bool]] = {}
    for part in kept:
        done.setdefault(part.piece, {})[part.section] = part.last
    return {
        piece: frozenset(done.get(piece, ()))
        for piece in range(job.plan.pieces)
        if not is_whole(done.get(piece, {}))
    }


class _Counter:
    """Tells of progress: in pictures where their number is known, else in pieces."""

    def __init__(self, job: Job, kept: Sequence[PartFacts], progress: Progress | None) -> None:
        self._rows = job.source.rows is not None
        self._total = job.plan.pieces if job.source.rows is None else job.source.rows
        self._progress = progress
        self._done = 0
        for part in kept:
            self._done += self._count(part)
        self._report()

    def add(self, part: PartFacts) -> None:
        """Say that a part is there."""
        self._done += self._count(part)
        self._report()

    def _count(self, part: PartFacts) -> int:
        return part.rows + part.unreadable if self._rows else int(part.last)

    def _report(self) -> None:
        if self._progress is not None:
            # A part whose writer died may be told of twice.
            self._progress(min(self._done, self._total), self._total)
