"""What one request, one key and the service as a whole may take, and the counters that say so."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from reidkit.errors import ArgumentError
from reidkit.serving._load import Overloaded

_MOST_BUCKETS = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused.

    Fields:
        pictures: pictures in one request.
        picture_bytes: bytes of one picture file.
        picture_pixels: pixels of one picture, by its header, before it is decoded.
        body_bytes: bytes of one request's body.
        body_seconds: how long a client may take to send a body.
        bodies_bytes: bytes of all bodies held at once.
        decoded_bytes: bytes of all decoded pictures held at once, and so of one request's.
        threads: blocking calls that run at once.
        waiting: blocking calls that may wait for a thread.
        rate, burst: requests a second of one key, and how many it may send at once after a pause;
            a rate of 0 limits nothing.
        failures, failures_burst: the same for wrong keys from one address.
    """

    pictures: int = 16
    picture_bytes: int = 2**23
    picture_pixels: int = 2**24
    body_bytes: int = 2**25
    body_seconds: float = 60.0
    bodies_bytes: int = 2**28
    decoded_bytes: int = 2**28
    threads: int = 8
    waiting: int = 256
    rate: float = 50.0
    burst: int = 100
    failures: float = 1.0
    failures_burst: int = 20

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("rate", "failures", "waiting") else 1
            if not math.isfinite(value) or value < least:
                raise ArgumentError(f"{field.name} is {value}, expected at least {least}")
        if self.body_bytes > self.bodies_bytes:
            raise ArgumentError(
                f"body_bytes ({self.body_bytes}) is more than bodies_bytes ({self.bodies_bytes})"
            )


class Budget:
    """A number of bytes that requests share. For one event loop; not for threads."""

    def __init__(self, total: int, reason: str) -> None:
        """`reason` is what `Overloaded` says when the bytes are gone."""
        self.total, self.reason, self.taken = total, reason, 0

    def take(self, size: int) -> None:
        """Take `size` bytes until they are given back.

        Raises:
            Overloaded: others hold too many.
        """
        if self.taken + size > self.total:
            raise Overloaded(self.reason, 1)
        self.taken += size

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self.taken -= size

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Take `size` bytes while the block runs."""
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)


class Buckets:
    """A token bucket for each of many names, the longest unused forgotten. For one event loop."""

    def __init__(
        self,
        rate: float,
        burst: float,
        *,
        most: int = _MOST_BUCKETS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rate` tokens flow in a second, `burst` fit; a rate of 0 limits nothing."""
        self._rate, self._burst, self._most, self._clock = rate, burst, most, clock
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def take(self, name: str, cost: float = 1.0) -> float:
        """Take `cost` tokens: 0.0 where they were there, else the seconds until they will be."""
        if not self._rate:
            return 0.0
        now = self._clock()
        level, since = self._levels.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - since) * self._rate)
        enough = level >= cost
        self._levels[name] = (level - cost if enough else level, now)
        if len(self._levels) > self._most:
            self._levels.popitem(last=False)
        return 0.0 if enough else (cost - level) / self._rate
