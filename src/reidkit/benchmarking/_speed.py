"""The values of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ("decode", "resize", "normalise", "copy", "run", "post")
"""A picture's way from a file to a vector. `copy` is putting it into its batch."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How long one batch took, in seconds, over `count` runs."""

    median: float
    p90: float
    p99: float
    shortest: float
    longest: float
    count: int


@dataclass(frozen=True, slots=True)
class BatchSpeed:
    """What one batch size gives.

    `engine` is the time of one run of the engine alone, on a batch that is ready in memory;
    `end_to_end` that of one batch on its way from JPEG files to vectors. The rates are pictures
    a second by the medians; the stages seconds a picture, each measured by itself in one thread.
    `difference` is the largest difference of a vector from that of the same picture in a batch
    of another size, relative to the vector's largest magnitude.
    """

    batch: int
    engine: Spread
    end_to_end: Spread
    engine_rate: float
    end_to_end_rate: float
    stages: Mapping[str, float]
    difference: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What a benchmark found of one package.

    `best_batch` is the smallest batch size within 2 % of the highest `engine_rate`.
    `cold_start` are the seconds from an empty process to the first vector, `peak_bytes` the most
    memory that process had, `size_bytes` the size of the engine's files on disk.
    """

    name: str
    sha256: str
    precision: str
    runtime: str
    device: str
    threads: int
    batches: tuple[BatchSpeed, ...]
    best_batch: int
    cold_start: float
    peak_bytes: int
    size_bytes: int

    def at(self, batch: int) -> BatchSpeed:
        """Give what was found at one batch size."""
        return next(speed for speed in self.batches if speed.batch == batch)
