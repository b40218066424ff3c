"""The one loop over photographs: files -> batches -> vectors.

Reader threads decode ahead into a fixed number of preallocated batches while the engine runs, so
memory does not grow with the data set.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import (
    ArgumentError,
    EngineError,
    ImageError,
    UnreadableImage,
    UnreadableImagesError,
)
from reidkit.machine import available_cores
from reidkit.models import Model
from reidkit.package import Inputs, InputSpec, Takes
from reidkit.records import Embeddings, Progress, Samples
from reidkit.store import EmbeddingsWriter, Plan

DEFAULT_BATCH = 16


def embed(
    model: Model,
    samples: Samples,
    *,
    batch: int | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
    skip_unreadable: bool = False,
) -> Embeddings:
    """Turn pictures into vectors, in sample order.

    `batch` pictures go through the engine at once (None: the size the model was compiled for, or
    a default); `workers` threads decode (None: one a core). With `skip_unreadable` pictures that
    cannot be decoded are left out and listed in `Embeddings.unreadable`.

    Raises:
        UnreadableImagesError: naming every picture that could not be decoded.
        EngineError: the engine failed, or gave NaN or infinity.
    """
    batch = choose_batch(model, batch)
    vectors = np.empty((len(samples), model.spec.embedding_size), np.float32)
    unreadable: list[UnreadableImage] = []
    starts = range(0, len(samples), batch)
    for block in _blocks(model, samples, starts, batch, workers):
        vectors[block.start : block.start + len(block.vectors)] = block.vectors
        unreadable += block.unreadable
        _report(progress, block.start + len(block.vectors), len(samples))
    _check_readable(unreadable, len(samples), skip_unreadable, whole=len(samples))
    if unreadable:
        keep = samples.find_readable(unreadable)
        vectors, samples = vectors[keep], samples.select(keep)
    return Embeddings(vectors, samples, model.sha256, model.contract.sha256, tuple(unreadable))


def plan_embeddings(model: Model, *, batch: int | None = None) -> Plan:
    """Say what determines the vectors of this model, for an `EmbeddingsWriter`."""
    return Plan(
        model_sha256=model.sha256,
        contract_sha256=model.contract.sha256,
        dimension=model.spec.embedding_size,
        batch=choose_batch(model, batch),
        runtime=model.runtime.name,
        device=model.runtime.device,
    )


def embed_into(
    writer: EmbeddingsWriter,
    model: Model,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    skip_unreadable: bool = False,
) -> Embeddings:
    """Turn the writer's pictures into vectors on disk, going on where it stopped.

    Parameters and errors are those of `embed`; after an error, or a killed process, the same call
    goes on with the batches that are missing. Pictures that were unreadable are tried again.
    A shard may do without a single readable picture; the whole run may not.
    """
    samples, batch = writer.samples, writer.plan.batch
    if writer.finished:
        finished = writer.finish()
        _check_readable(finished.unreadable, len(samples), skip_unreadable, whole=writer.total)
        return finished
    for start, images in writer.unreadable.items():
        if any(preprocess.find_fault(image.path) is None for image in images):
            writer.retry(start)
    pending = writer.pending
    done = len(samples) - sum(min(batch, len(samples) - start) for start in pending)
    _report(progress, done, len(samples))
    for block in _blocks(model, samples, pending, batch, workers):
        writer.append(block.start, block.vectors, block.unreadable)
        done += len(block.vectors)
        _report(progress, done, len(samples))
    unreadable = [image for images in writer.unreadable.values() for image in images]
    _check_readable(unreadable, len(samples), skip_unreadable, whole=writer.total)
    return writer.finish()


def choose_batch(model: Model, batch: int | None) -> int:
    """Give the batch size to use: the model's own where it was compiled for one.

    Raises:
        ArgumentError: `batch` is below 1, or not the size the model was compiled for.
    """
    return fit_batch(model.runtime.batch, batch)


def fit_batch(fixed: int | None, batch: int | None) -> int:
    """Give the batch size for a model compiled for batches of `fixed`; see `choose_batch`."""
    if batch is not None and batch < 1:
        raise ArgumentError(f"batch is {batch}, expected at least 1")
    if fixed and batch not in (None, fixed):
        raise ArgumentError(f"batch is {batch}, but this model takes batches of {fixed} only")
    return fixed or batch or DEFAULT_BATCH


def check_finite(vectors: NDArray[np.float32], names: NDArray[np.object_]) -> None:
    """Refuse the vectors of a batch, (B, D), where some are NaN or infinity.

    Raises:
        EngineError: naming the first of the pictures (B,).
    """
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EngineError(
            f"the model gave NaN or infinity for {len(bad)} pictures of a batch, first "
            f"{names[bad[0]]}: the engine file or its precision is at fault"
        )


def word_unreadable(unreadable: Iterable[UnreadableImage], total: int) -> UnreadableImagesError:
    """Give the error for a run's unreadable pictures, of `total` all together."""
    advice = ", or leave them out with --skip-unreadable (skip_unreadable=True)"
    return UnreadableImagesError(list(unreadable), total, advice)


class _Block(NamedTuple):
    start: int
    vectors: NDArray[np.float32]
    unreadable: list[UnreadableImage]


def _blocks(
    model: Model, samples: Samples, starts: Iterable[int], batch: int, workers: int | None
) -> Iterator[_Block]:
    """Give the vectors of each batch; rows of unreadable pictures are zero."""
    with closing(_read_ahead(model, samples, starts, batch, workers)) as batches:
        for start, inputs, unreadable in batches:
            vectors = model.embed(inputs)
            pictures = samples.select(slice(start, start + len(inputs)))
            vectors[~pictures.find_readable(unreadable)] = 0
            check_finite(vectors, pictures.paths)
            yield _Block(start, vectors, unreadable)


def _read_ahead(
    model: Model, samples: Samples, starts: Iterable[int], batch: int, workers: int | None
) -> Generator[tuple[int, Inputs, list[UnreadableImage]]]:
    """Decode batches in threads, one batch a thread, at most one more than there are threads.

    Each batch is a view on a buffer that is filled again once the caller asks for the next one.
    """
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers is {workers}, expected at least 1")
    workers = workers or available_cores()
    contract, takes = model.contract, model.runtime.takes
    buffers = [preprocess.empty_batch(batch, contract, takes) for _ in range(workers + 1)]
    upcoming = iter(starts)
    reading: deque[tuple[int, Inputs, Future[list[UnreadableImage]]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="reidkit-reader")
    try:
        while True:
            while buffers and (start := next(upcoming, None)) is not None:
                paths: Sequence[str] = samples.paths[start : start + batch].tolist()
                rows = buffers.pop()[: len(paths)]
                task = pool.submit(_read_batch, paths, contract, takes, rows)
                reading.append((start, rows, task))
            if not reading:
                return
            start, rows, task = reading.popleft()
            yield start, rows, task.result()
            buffers.append(rows)
    finally:
        pool.shutdown(cancel_futures=True)


def _read_batch(
    paths: Sequence[str], contract: InputSpec, takes: Takes, rows: Inputs
) -> list[UnreadableImage]:
    """Fill one batch; the rows of pictures that cannot be decoded become zero."""
    unreadable = []
    for path, row in zip(paths, rows, strict=True):
        try:
            preprocess.load_image(path, contract, row, takes=takes)
        except ImageError as error:
            row.fill(0)
            unreadable.append(UnreadableImage(path, error.reason))
    return unreadable


def _check_readable(
    unreadable: Sequence[UnreadableImage], total: int, skip: bool, *, whole: int
) -> None:
    """Refuse unreadable pictures, some of `total`; skipping them must leave one of the `whole`."""
    if unreadable and (not skip or len(unreadable) == whole):
        raise word_unreadable(unreadable, total)


def _report(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
