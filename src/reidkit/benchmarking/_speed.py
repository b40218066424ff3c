"""The values of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reidkit.errors import ArgumentError

STAGES = ("decode", "resize", "normalise", "copy", "run", "post")
"""A picture's way from a file to a vector. `copy` is putting it into its batch."""

_AS_FAST = 0.98
"""The share of the highest rate that makes a smaller batch size the best."""


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

    `engine` is the time of one run of the engine alone, on a batch that is ready in memory (of
    two runs, where the contract averages with the mirrored picture); `end_to_end` that from one
    batch's vectors to the next one's, on their way from JPEG files. The rates are pictures a
    second by the medians; the stages seconds a picture, each measured by itself in one thread.
    `difference` is the largest difference of a vector from that of the same picture among other
    neighbours, at the first batch size measured, relative to the vectors' largest magnitude.
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
    main memory that process had (0: not known), `size_bytes` the size of the engine's files on
    disk. `threads` are the engine's.
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
        """Give what was found at one batch size.

        Raises:
            ArgumentError: it was not measured.
        """
        for speed in self.batches:
            if speed.batch == batch:
                return speed
        measured = ", ".join(str(speed.batch) for speed in self.batches)
        raise ArgumentError(f"batch size {batch} was not measured, only {measured}")

    def list_falling(self, share: float = 0.05) -> list[BatchSpeed]:
        """List the batch sizes above the best whose engine rate is more than `share` below it."""
        least = (1 - share) * self.at(self.best_batch).engine_rate
        return [s for s in self.batches if s.batch > self.best_batch and s.engine_rate < least]

    def list_differing(self, tolerance: float = 0.05) -> list[BatchSpeed]:
        """List the batch sizes where vectors depend on their batch by more than rounding does.

        Kernels of reduced precision that an engine chooses by batch size stay below 0.05.
        """
        return [speed for speed in self.batches if speed.difference > tolerance]


@dataclass(frozen=True, slots=True)
class BatchRatio:
    """How many times as fast one package is as another at one batch size."""

    batch: int
    engine: float
    end_to_end: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many times as fast one package is as another; above 1 it is the faster one.

    `batches` are the batch sizes that both were measured at; `engine` and `end_to_end` compare
    each package at its own best batch.
    """

    batches: tuple[BatchRatio, ...]
    engine: float
    end_to_end: float


def compare(speed: Speed, against: Speed) -> Comparison:
    """Divide the rates of one package by those of another, measured in the same benchmark."""
    others = {other.batch: other for other in against.batches}
    ratios = tuple(
        BatchRatio(batch.batch, *_divide(batch, others[batch.batch]))
        for batch in speed.batches
        if batch.batch in others
    )
    best, other = speed.at(speed.best_batch), against.at(against.best_batch)
    return Comparison(ratios, *_divide(best, other))


def summarise(times: Sequence[float]) -> Spread:
    """Give the spread of one or more times in seconds; percentiles lie between two times."""
    median, p90, p99 = (float(value) for value in np.percentile(times, (50, 90, 99)))
    return Spread(median, p90, p99, min(times), max(times), len(times))


def find_best_batch(batches: Sequence[BatchSpeed]) -> int:
    """Give the smallest batch size within 2 % of the highest engine rate."""
    least = _AS_FAST * max(speed.engine_rate for speed in batches)
    return min(speed.batch for speed in batches if speed.engine_rate >= least)


def _divide(speed: BatchSpeed, other: BatchSpeed) -> tuple[float, float]:
    return (
        speed.engine_rate / other.engine_rate,
        speed.end_to_end_rate / other.end_to_end_rate,
    )
