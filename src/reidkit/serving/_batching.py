"""Many requests, one engine: rows that arrive together run together.

One thread owns the engine and takes rows straight from the queue, so that the engine never waits
for the event loop. Whatever waits is counted: beyond the limits a request is refused, and no
memory grows.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.embedding import choose_batch
from reidkit.errors import ArgumentError, EngineError, ShapeError
from reidkit.models import Model
from reidkit.package import Inputs
from reidkit.serving._load import BatchLimits, EngineRun, Observer, Overloaded

__all__ = ["BatchLimits", "Batcher", "EngineRun", "Observer", "Overloaded"]


@dataclass(slots=True, eq=False)
class _Request:
    """Rows to be embedded; `taken` of them were given to the engine, `done` came back."""

    inputs: Inputs
    vectors: NDArray[np.float32]
    ended: asyncio.Future[None]
    arrived: float = field(default_factory=time.monotonic)
    taken: int = 0
    done: int = 0
    error: str | None = None


class _Part(NamedTuple):
    """Rows `start` to `stop` of a request."""

    request: _Request
    start: int
    stop: int


class Batcher:
    """Merges the rows of concurrent requests into batches of one model's engine.

    Call `embed` from the event loop that `start` was called in.
    """

    def __init__(
        self, model: Model, *, limits: BatchLimits | None = None, observe: Observer | None = None
    ) -> None:
        self.model = model
        self.limits = limits or BatchLimits()
        self.batch = choose_batch(model, self.limits.batch)
        self._observer = observe
        self._room = preprocess.empty_batch(self.batch, model.contract, model.runtime.takes)
        self._changed = threading.Condition()
        self._waiting: deque[_Request] = deque()
        self._queued = 0
        self._open = False
        self._expected = 1  # requests that are likely to be there for the next batch
        self._rate = 0.0  # pictures a second, lately
        self._busy_since: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None

    @property
    def queued(self) -> int:
        """Count the pictures that wait for the engine."""
        return self._queued

    @property
    def running(self) -> bool:
        """Tell whether requests are taken."""
        return self._open

    @property
    def busy_seconds(self) -> float:
        """Say how long the engine has been at its present batch; 0 when it is idle."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    async def start(self) -> None:
        """Begin to take requests."""
        if self._open:
            return
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._open = True
        # A daemon: an engine that hangs must not keep the process from ending.
        threading.Thread(target=self._work, name="reidkit-engine", daemon=True).start()

    async def stop(self) -> None:
        """Refuse new requests and return when all that wait were answered."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
        if self._ended is not None:
            await asyncio.shield(self._ended)

    async def embed(self, inputs: Inputs) -> NDArray[np.float32]:
        """Turn pictures into vectors, (n, ...) -> (n, D) float32, as `Model.embed` does.

        `inputs` are as `preprocess.empty_batch` makes room for them, with any number of rows.
        They must not change before this returns.

        Raises:
            Overloaded: the queue is full, the deadline passed in it, or the batcher stops.
            EngineError: the engine failed on these rows, or gave NaN or infinity for them.
            ShapeError, ArgumentError: other arrays than the model takes, or too many rows.
        """
        self._check(inputs)
        request = self._admit(inputs)
        try:
            await asyncio.wait({request.ended}, timeout=self.limits.deadline)
            if not request.ended.done() and self._withdraw(request):
                raise self._refuse("deadline")
            await asyncio.wait({request.ended})
        finally:
            self._withdraw(request)
        if request.error is not None:
            raise EngineError(request.error)
        return request.vectors

    def _check(self, inputs: Inputs) -> None:
        row = self._room
        if inputs.dtype != row.dtype or inputs.ndim != 4 or inputs.shape[1:] != row.shape[1:]:
            raise ShapeError(
                f"the inputs are {inputs.dtype} {inputs.shape}, this model takes {row.dtype} "
                f"(n, {', '.join(map(str, row.shape[1:]))})"
            )
        if len(inputs) > self.limits.queue:
            raise ArgumentError(
                f"{len(inputs)} pictures in one request, at most {self.limits.queue} are taken: "
                "send them in several requests"
            )

    def _admit(self, inputs: Inputs) -> _Request:
        vectors = np.empty((len(inputs), self.model.spec.embedding_size), np.float32)
        request = _Request(inputs, vectors, asyncio.get_running_loop().create_future())
        with self._changed:
            if not self._open:
                raise self._refuse("stopping")
            if self._queued + len(inputs) > self.limits.queue:
                raise self._refuse("queue")
            if not len(inputs):
                request.ended.set_result(None)
                return request
            self._waiting.append(request)
            self._queued += len(inputs)
            self._changed.notify_all()
        return request

    def _withdraw(self, request: _Request) -> bool:
        """Take what is left of a request out of the queue; False where nothing was left."""
        with self._changed:
            left = len(request.inputs) - request.taken
            if not left:
                return False
            self._waiting.remove(request)
            self._queued -= left
            request.taken += left
            self._changed.notify_all()
        return True

    def _refuse(self, reason: str) -> Overloaded:
        if self._observer is not None:
            self._observer.reject(reason)
        seconds = (self._queued + self.batch) / self._rate if self._rate else 1
        return Overloaded(reason, min(max(math.ceil(seconds), 1), 60))

    def _work(self) -> None:
        """Run batch after batch, in the engine's thread, until stopped and nothing waits."""
        while parts := self._take():
            self._run(parts)
        self._call(self._end)

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _take(self) -> list[_Part]:
        """Wait for rows and take a batch of them; none when stopped."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or not self._open)
                # Those that were answered a moment ago are likely to ask again at once.
                self._changed.wait_for(self._is_worth_starting, timeout=self.limits.wait)
                if self._waiting or not self._open:
                    return self._cut()

    def _is_worth_starting(self) -> bool:
        return (
            not self._open
            or self._queued >= self.batch
            or len(self._waiting) >= self._expected
            or not self._waiting
        )

    def _cut(self) -> list[_Part]:
        parts: list[_Part] = []
        room = self.batch
        while room and self._waiting:
            request = self._waiting[0]
            start, stop = request.taken, min(request.taken + room, len(request.inputs))
            parts.append(_Part(request, start, stop))
            request.taken = stop
            room -= stop - start
            if stop == len(request.inputs):
                self._waiting.popleft()
        self._queued -= self.batch - room
        return parts

    def _run(self, parts: Sequence[_Part]) -> None:
        """Embed a batch and hand each request its rows, or the error."""
        rows = sum(part.stop - part.start for part in parts)
        started = self._busy_since = time.monotonic()
        vectors, error = None, ""
        try:
            vectors = self._compute(parts, rows)
        except EngineError as failure:
            error = str(failure)
        except Exception as failure:  # noqa: BLE001 - whatever it is, it reaches the callers
            error = f"the engine failed: {failure!r}"
        seconds = time.monotonic() - started
        self._busy_since = None
        ended = self._hand_out(parts, vectors, error)
        with self._changed:
            split = bool(self._waiting) and self._waiting[0].taken > 0
            self._expected = len(parts) + len(self._waiting) - split
            rate = rows / max(seconds, 1e-6)
            self._rate = rate if not self._rate else 0.8 * self._rate + 0.2 * rate
        if self._observer is not None:
            waits = tuple(started - part.request.arrived for part in parts if part.start == 0)
            self._observer.observe_run(EngineRun(rows, seconds, waits, vectors is None))
        self._call(partial(_tell, ended))

    def _compute(self, parts: Sequence[_Part], rows: int) -> NDArray[np.float32]:
        filled = 0
        for request, start, stop in parts:
            self._room[filled : filled + stop - start] = request.inputs[start:stop]
            filled += stop - start
        vectors = self.model.embed(self._room[:rows])
        if vectors.shape != (rows, self.model.spec.embedding_size):
            raise EngineError(f"the engine gave {vectors.shape} for {rows} pictures")
        return vectors

    def _hand_out(
        self, parts: Sequence[_Part], vectors: NDArray[np.float32] | None, error: str
    ) -> list[_Request]:
        """Copy the vectors to their requests; give those that are done or failed."""
        ended, row = [], 0
        for request, start, stop in parts:
            mine = None if vectors is None else vectors[row : row + stop - start]
            row += stop - start
            if mine is None:
                request.error = error
            elif not np.isfinite(mine).all():
                request.error = "the engine gave NaN or infinity for a picture"
            else:
                request.vectors[start:stop] = mine
                request.done += stop - start
            if request.error is not None:
                self._withdraw(request)
            if request.error is not None or request.done == len(request.inputs):
                ended.append(request)
        return ended

    def _call(self, function: Callable[[], None]) -> None:
        # A closed loop has nobody left who waits for the answer.
        with suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(function)


def _tell(ended: Sequence[_Request]) -> None:
    for request in ended:
        if not request.ended.done():
            request.ended.set_result(None)
