"""Embedding on an engine, from the first look at what is there to the manifest."""

from __future__ import annotations

from collections.abc import Sequence

from reidkit.distributed import _pipeline
from reidkit.distributed._cluster import Cluster, connected, share_out
from reidkit.distributed._data_set import DataSet, open_data_set
from reidkit.distributed._parts import (
    MANIFEST,
    PartFacts,
    begin,
    count_parts,
    finish,
    is_whole,
    read_unreadable,
)
from reidkit.distributed._plan import Job
from reidkit.errors import UnreadableImagesError
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
    if (job.out / MANIFEST).exists():
        return open_data_set(job.out)
    kept = _keep(count_parts(job.out), retry=not skip_unreadable)
    missing = _find_missing(job, kept)
    parts = {(part.piece, part.section): part for part in kept}
    counter = _Counter(job, parts, progress)
    if missing:
        with connected(cluster) as ray:
            share = share_out(ray, cluster, job.plan.device)
            for part in _pipeline.run(ray, job, share, missing):
                parts[part.piece, part.section] = part
                counter.report()
    if not skip_unreadable:
        _check_readable(job, list(parts.values()))
    finish(job.out, job.plan, parts.values())
    return open_data_set(job.out)


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

    def __init__(
        self, job: Job, parts: dict[tuple[int, int], PartFacts], progress: Progress | None
    ) -> None:
        self._total = job.source.rows
        self._pieces = job.plan.pieces
        self._parts = parts
        self._progress = progress
        self.report()

    def report(self) -> None:
        """Say how far the run has come."""
        if self._progress is None:
            return
        parts = self._parts.values()
        if self._total is not None:
            done = sum(part.rows + part.unreadable for part in parts)
            self._progress(min(done, self._total), self._total)
        else:
            self._progress(sum(part.last for part in parts), self._pieces)


def _check_readable(job: Job, parts: Sequence[PartFacts]) -> None:
    bad = sorted(part.name for part in parts if part.unreadable)
    if not bad:
        return
    images = list(read_unreadable(job.out, bad))
    total = sum(part.rows for part in parts) + len(images)
    advice = ", or leave them out with --skip-unreadable (skip_unreadable=True)"
    raise UnreadableImagesError(images, total, advice)
