"""The batches of an epoch, read ahead by threads.

Threads are enough: decoding, resizing and copying all release the interpreter's lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.errors import (
    ArgumentError,
    ImageError,
    ShapeError,
    UnreadableImage,
    UnreadableImagesError,
)
from reidkit.machine import available_cores
from reidkit.records import Samples
from reidkit.training._augmenting import Changes, change_into, draw_changes
from reidkit.training._recipe import Recipe
from reidkit.training._sampling import plan_epoch

KEPT_BYTES = 2**28
"""How much memory resized pictures may take, in bytes: 2,730 pictures of 256 x 128."""

_SHARE = 16
"""Pictures that a thread reads at a time: a batch is ready soon, and handing out costs little."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """B changed pictures and whom they show.

    Columns:
        pixels: (B, H, W, 3) uint8 RGB, flipped and cropped, not yet erased. A view on memory that
            is filled again once the next batch is asked for.
        erased: (B, 4) int64, the rectangle to erase after normalisation: top, left, height, width;
            zeros for none.
        labels: (B,) int64.
        rows: (B,) intp, where the pictures are among the samples.
        paths: (B,) object, each a `str`.
    """

    pixels: NDArray[np.uint8]
    erased: NDArray[np.int64]
    labels: NDArray[np.int64]
    rows: NDArray[np.intp]
    paths: NDArray[np.object_]


class Feeder:
    """Training pictures, batch after batch.

    The batches depend on the samples, the recipe and the epoch alone: neither on the number of
    threads or processes, nor on which pictures are kept in memory, nor on the epochs before.

    The first pictures of the data set are kept in memory once they are resized, as many as fit
    into `memory` bytes; the others are read from disk in every epoch. `kept` tells how many are
    there, `waited` for how many seconds the caller waited for pictures in the latest epoch.
    """

    def __init__(
        self,
        samples: Samples,
        labels: NDArray[np.int64],
        recipe: Recipe,
        *,
        workers: int | None = None,
        memory: int = KEPT_BYTES,
    ) -> None:
        """Take N samples and their labels, (N,) int64.

        `workers` threads read (None: one a core).

        Raises:
            ShapeError: labels of another shape or type.
            ArgumentError: `workers` is below 1.
        """
        if labels.shape != (len(samples),) or labels.dtype != np.int64:
            raise ShapeError(
                f"labels are {labels.shape} {labels.dtype}, expected ({len(samples)},) int64"
            )
        if workers is not None and workers < 1:
            raise ArgumentError(f"workers is {workers}, expected at least 1")
        self._samples, self._labels, self._recipe = samples, labels, recipe
        self._contract = recipe.contract
        self._workers = workers or available_cores()
        room = min(len(samples), memory // (recipe.height * recipe.width * 3))
        # Memory that was never written to takes no room.
        self._pictures = self._empty(room)
        self._is_kept = np.zeros(room, np.bool_)
        self.waited = 0.0

    @property
    def kept(self) -> int:
        """How many pictures are in memory."""
        return int(self._is_kept.sum())

    def count_steps(self, epoch: int) -> int:
        """Tell how many batches an epoch has, for every process alike; errors as `plan_epoch`."""
        return len(plan_epoch(self._labels, self._recipe, epoch=epoch))

    def epoch(self, epoch: int, rank: int = 0, ranks: int = 1) -> Generator[Batch]:
        """Give the batches of an epoch, from 1 on; of `ranks` processes each takes its share.

        Close the generator, or let go of it, to stop early: that ends the threads.

        Raises:
            ArgumentError: as `plan_epoch`, at once.
            UnreadableImagesError: a picture could not be decoded; names all such pictures of the
                data set.
        """
        plan = plan_epoch(self._labels, self._recipe, epoch=epoch, rank=rank, ranks=ranks)
        self.waited = 0.0
        return self._batches(plan, epoch, rank)

    def _batches(self, plan: NDArray[np.intp], epoch: int, rank: int) -> Generator[Batch]:
        ahead = 1 + -(-self._workers // -(-plan.shape[1] // _SHARE))
        buffers = [self._empty(plan.shape[1]) for _ in range(min(ahead + 1, len(plan)))]
        reading: deque[tuple[Batch, list[Future[None]]]] = deque()
        upcoming = iter(range(len(plan)))
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="reidkit-feeder")
        try:
            while True:
                while buffers and (step := next(upcoming, None)) is not None:
                    changes = self._draw(epoch, step, rank, plan.shape[1])
                    batch = self._batch(plan[step], buffers.pop(), changes)
                    reading.append((batch, self._start(pool, batch, changes)))
                if not reading:
                    return
                batch, tasks = reading.popleft()
                self._wait(tasks)
                yield batch
                buffers.append(batch.pixels)
        except ImageError as error:
            raise self._find_unreadable(pool, error) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def _empty(self, count: int) -> NDArray[np.uint8]:
        return np.empty((count, self._recipe.height, self._recipe.width, 3), np.uint8)

    def _draw(self, epoch: int, step: int, rank: int, count: int) -> Changes:
        """Draw what happens to a batch: always to the whole of it, whoever takes which share."""
        seed = np.random.SeedSequence(self._recipe.seed, spawn_key=(1, epoch, step))
        changes = draw_changes(self._recipe.batch, self._recipe, np.random.default_rng(seed))
        return changes.select(slice(rank * count, (rank + 1) * count))

    def _batch(self, rows: NDArray[np.intp], pixels: NDArray[np.uint8], changes: Changes) -> Batch:
        return Batch(pixels, changes.erased, self._labels[rows], rows, self._samples.paths[rows])

    def _start(
        self, pool: ThreadPoolExecutor, batch: Batch, changes: Changes
    ) -> list[Future[None]]:
        """Have the threads fill a batch, some of its pictures each."""
        shares = [slice(i, i + _SHARE) for i in range(0, len(batch.rows), _SHARE)]
        return [
            pool.submit(self._read, batch.rows[share], changes.select(share), batch.pixels[share])
            for share in shares
        ]

    def _wait(self, tasks: Sequence[Future[None]]) -> None:
        started = time.perf_counter()
        for task in tasks:
            task.result()
        self.waited += time.perf_counter() - started

    def _read(self, rows: NDArray[np.intp], changes: Changes, out: NDArray[np.uint8]) -> None:
        """Fill some rows of a batch."""
        flips, corners = changes.flipped.tolist(), changes.corners.tolist()
        for row, flipped, (top, left), pixels in zip(
            rows.tolist(), flips, corners, out, strict=True
        ):
            change_into(pixels, self._load(row), flipped=flipped, top=top, left=left)

    def _load(self, row: int) -> NDArray[np.uint8]:
        """Give a resized picture, (H, W, 3) uint8; two threads may well load the same one."""
        has_room = row < len(self._is_kept)
        if has_room and self._is_kept[row]:
            kept: NDArray[np.uint8] = self._pictures[row]
            return kept
        pixels = preprocess.resize(preprocess.decode(self._samples.paths[row]), self._contract)
        if has_room:
            self._pictures[row] = pixels
            self._is_kept[row] = True
        return pixels

    def _find_unreadable(
        self, pool: ThreadPoolExecutor, first: ImageError
    ) -> UnreadableImagesError:
        """Look for every picture of the data set that cannot be decoded."""
        paths = self._samples.paths.tolist()
        reasons = dict(zip(paths, pool.map(preprocess.find_fault, paths), strict=True))
        # A picture may have been repaired since; it was unreadable when it was wanted.
        reasons[first.path] = reasons[first.path] or first.reason
        images = [UnreadableImage(path, reason) for path, reason in reasons.items() if reason]
        return UnreadableImagesError(images, len(paths))
