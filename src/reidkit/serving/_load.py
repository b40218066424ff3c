"""What a batcher is told and tells: limits, refusals, and what the engine did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from reidkit.errors import ArgumentError, ReidkitError

_REFUSALS = {
    "queue": "too many pictures are waiting already",
    "deadline": "the engine did not come to this request in time",
    "stopping": "the service is stopping",
    "bodies": "too many uploads are being read already",
    "decoding": "too many pictures are being decoded already",
    "threads": "too many requests are being worked on already",
}


class Overloaded(ReidkitError):
    """More was asked for than gets done: ask again in `retry_after` whole seconds.

    `reason` is a short name: the batcher's are `queue` (it is full), `deadline` (it passed in the
    queue) and `stopping`; other parts of the service have their own.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(f"{_REFUSALS.get(reason, reason)}: ask again in {retry_after} s")
        self.reason = reason
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How requests share the engine.

    Fields:
        batch: pictures in one run of the engine (None: the model's own fixed batch, else 16).
        wait: seconds to wait for the requests of the batch before to come back, so that a batch
            is full again. A request that is alone never waits.
        queue: pictures that may wait, and the most that one request may hold.
        deadline: seconds that a request may wait for the engine.
    """

    batch: int | None = None
    wait: float = 0.005
    queue: int = 256
    deadline: float = 10.0

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ArgumentError(f"batch is {self.batch}, expected at least 1")
        if self.queue < 1:
            raise ArgumentError(f"queue is {self.queue} pictures, expected at least 1")
        if not 0 <= self.wait <= 1:
            raise ArgumentError(f"wait is {self.wait} s, expected 0 to 1")
        if not 0 < self.deadline <= 3600:
            raise ArgumentError(f"deadline is {self.deadline} s, expected above 0, at most 3600")


class EngineRun(NamedTuple):
    """One run of the engine: `waits` is how long each request in it had waited, in seconds."""

    rows: int
    seconds: float
    waits: tuple[float, ...]
    failed: bool


class Observer(Protocol):
    """Who is told what a batcher does; called from the engine's thread and the event loop."""

    def observe_run(self, run: EngineRun) -> None:
        """Take note of a run of the engine."""

    def reject(self, reason: str) -> None:
        """Take note of a refused request."""
