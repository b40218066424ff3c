"""What is measured inside the process of one package."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.embedding import embed
from reidkit.errors import EngineError
from reidkit.machine import available_cores
from reidkit.models import Model
from reidkit.package import Inputs, Takes
from reidkit.records import Samples

_STABLE = 0.98
"""Warm: the last runs took at least this share of the time of those before them."""

_WARMING = 3
"""Runs whose median is compared with that of as many before them."""

_STAGE_PICTURES = 32


class Bench:
    """One model and the pictures it is measured with, taken over and over.

    The batch sizes may come in any order; each is warmed up before it is timed.
    """

    def __init__(self, model: Model, paths: Sequence[str], *, workers: int | None = None) -> None:
        self.model = model
        self._paths = paths
        self._workers = workers or available_cores()
        self._inputs = preprocess.empty_batch(0, model.contract, model.runtime.takes)
        self._reference: NDArray[np.float32] | None = None
        self._pace: dict[int, float] = {}
        self._width: dict[int, int] = {}

    def embed_first(self) -> None:
        """Give the first picture's vector, from its file."""
        self.model.embed(self._load([self._paths[0]]))

    def warm_up(self, batch: int, seconds: float) -> None:
        """Run a batch size until its runs stop getting faster, for at most about `seconds`.

        Raises:
            EngineError: the engine cannot run, or hold, such a batch.
        """
        ready = self._ready(batch)
        self._run(ready)
        times: list[float] = []
        start = time.perf_counter()
        while not _is_stable(times) and (not times or time.perf_counter() - start < seconds):
            times.append(self._time(ready))
        self._width[batch] = self._choose_width(batch, statistics.median(times))
        self._intervals(batch, 1)

    def time_engine(self, batch: int, seconds: float) -> list[float]:
        """Time runs of the engine alone, in seconds a batch.

        Where there is time for several, the first is left out: it finds the caches as another
        batch size left them.
        """
        ready = self._ready(batch)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            times.append(self._time(ready))
        return times[1:] or times

    def time_end_to_end(self, batch: int, seconds: float) -> list[float]:
        """Time batches on their way from files to vectors, in seconds a batch.

        It is `embed` that is timed, reading ahead as it does, between one batch's end and the
        next one's. Where the readers set the pace they may finish together, so there each figure
        is the mean over as many batches in succession as there are readers.
        """
        width = self._width[batch]
        intervals = self._intervals(batch, max(width, round(seconds / self._pace[batch])))
        starts = range(0, len(intervals) - width + 1, width)
        return [statistics.mean(intervals[start : start + width]) for start in starts]

    def time_stages(self, batch: int) -> dict[str, float]:
        """Time every stage but `run`, each by itself in this thread, in seconds a picture.

        A tensor is normalised straight into its place in the batch, so it has no `copy`; pixels
        are only copied there.
        """
        contract, takes = self.model.contract, self.model.runtime.takes
        paths = self._cycle(_STAGE_PICTURES)
        rows = preprocess.empty_batch(min(batch, len(paths)), contract, takes)
        rows.fill(0)  # memory that was never used is slower to write
        marks = [time.perf_counter()]
        decoded = [preprocess.decode(path) for path in paths]
        marks.append(time.perf_counter())
        resized = [preprocess.resize(pixels, contract) for pixels in decoded]
        marks.append(time.perf_counter())
        for pixels, row in zip(resized, itertools.cycle(rows), strict=False):
            preprocess.fill(pixels, contract, row, takes=takes)
        marks.append(time.perf_counter())
        decode, resize, fill = (float(spent) / len(paths) for spent in np.diff(marks))
        return {
            "decode": decode,
            "resize": resize,
            "normalise": fill if takes == "tensor" else 0.0,
            "copy": fill if takes == "pixels" else 0.0,
            "post": self._time_post(batch),
        }

    def check(self, batch: int, largest: int) -> float:
        """Give the largest difference between vectors of one picture in two batches.

        The first call embeds all pictures in order, at its batch size, to compare with. Every
        call then embeds one batch and a half in reverse order, so that each picture has other
        neighbours than before and the last batch is short. `largest` is the largest batch size
        that will be checked.

        Raises:
            EngineError: a vector holds NaN or infinity.
        """
        if self._reference is None:
            self._reference = self._embed(self._cycle(_pictures_for(largest)), batch)
        count = _pictures_for(batch)
        vectors = self._embed(self._cycle(count)[::-1], batch)[::-1]
        return _relative_difference(self._reference[:count], vectors)

    def _embed(self, paths: Sequence[str], batch: int) -> NDArray[np.float32]:
        parts = [
            self.model.embed(self._load(paths[start : start + batch]))
            for start in range(0, len(paths), batch)
        ]
        vectors = np.concatenate(parts)
        if not np.isfinite(vectors).all():
            raise EngineError(
                "the model gave NaN or infinity: the engine file or its precision is at fault"
            )
        return vectors

    def _intervals(self, batch: int, count: int) -> list[float]:
        """Embed one batch more than `count`: the first one's way through is not a pace yet."""
        ends: list[float] = []
        samples = Samples.from_paths(self._cycle((count + 1) * batch))
        start = time.perf_counter()
        embed(
            self.model,
            samples,
            batch=batch,
            workers=self._workers,
            progress=lambda done, total: ends.append(time.perf_counter()),
        )
        # The first batch counts here, so that two that come at once do not look like a fast pace.
        self._pace[batch] = (ends[-1] - start) / len(ends)
        return [float(interval) for interval in np.diff(ends)]

    def _choose_width(self, batch: int, running: float) -> int:
        """Give how many batches make one figure: 1 where the engine surely sets the pace."""
        paths = self._cycle(min(batch, _STAGE_PICTURES))
        start = time.perf_counter()
        self._load(paths)
        reading = (time.perf_counter() - start) / len(paths) * batch / self._workers
        return 1 if reading < running / 2 else self._workers

    def _ready(self, batch: int) -> list[Inputs]:
        """Give what the engine is fed for one batch: the pictures, and their mirror images."""
        missing = batch - len(self._inputs)
        if missing > 0:
            more = self._load(self._cycle(batch)[-missing:])
            self._inputs = np.concatenate([self._inputs, more])
        inputs = self._inputs[:batch]
        if not self.model.contract.flip:
            return [inputs]
        mirrored = inputs[..., ::-1] if self.model.runtime.takes == "tensor" else inputs[:, :, ::-1]
        return [inputs, np.ascontiguousarray(mirrored)]

    def _run(self, ready: Sequence[Inputs]) -> None:
        for inputs in ready:
            self.model.runtime.run(inputs)

    def _time(self, ready: Sequence[Inputs]) -> float:
        start = time.perf_counter()
        self._run(ready)
        return time.perf_counter() - start

    def _time_post(self, batch: int) -> float:
        """Time what `Model.embed` does around the engine, with an engine that takes no time."""
        inputs = self._inputs[:batch]
        model = Model(self.model.spec, _Recorded(self.model.run(inputs), self.model.runtime.takes))
        times = []
        for _ in range(_WARMING):
            start = time.perf_counter()
            model.embed(inputs)
            times.append(time.perf_counter() - start)
        return statistics.median(times) / batch

    def _load(self, paths: Sequence[str]) -> Inputs:
        model = self.model
        return preprocess.load_batch(paths, model.contract, takes=model.runtime.takes)

    def _cycle(self, count: int) -> list[str]:
        return list(itertools.islice(itertools.cycle(self._paths), count))


class _Recorded:
    """A `Runtime` that gives vectors which were computed before."""

    name = "recorded"
    device = "none"
    batch = None

    def __init__(self, vectors: NDArray[np.float32], takes: Takes) -> None:
        self._vectors, self.takes = vectors, takes

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        return self._vectors

    def close(self) -> None:
        pass


def _is_stable(times: Sequence[float]) -> bool:
    if len(times) < 2 * _WARMING:
        return False
    before, last = times[-2 * _WARMING : -_WARMING], times[-_WARMING:]
    return statistics.median(last) >= _STABLE * statistics.median(before)


def _pictures_for(batch: int) -> int:
    """Give how many pictures check a batch size: a full batch, and a short one of half its size."""
    return batch + (batch + 1) // 2


def _relative_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Give the largest |difference| of two rows by the larger of their largest magnitudes."""
    scale = np.maximum(np.abs(first).max(axis=1), np.abs(second).max(axis=1))
    differences = np.abs(first.astype(np.float64) - second).max(axis=1)
    return float((differences / np.maximum(scale, np.finfo(np.float32).tiny)).max())
