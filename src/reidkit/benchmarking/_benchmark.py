"""The benchmark: packages and batch sizes in turn, in rounds."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from reidkit.benchmarking._pictures import draw_pictures
from reidkit.benchmarking._process import Setting, Worker
from reidkit.benchmarking._speed import STAGES, BatchSpeed, Speed, find_best_batch, summarise
from reidkit.errors import ArgumentError, EngineError
from reidkit.machine import available_cores
from reidkit.package import Package
from reidkit.records import Progress, Samples

_ROUNDS = 6
"""An even number: see `order_visits`."""

_MINIMUM_VISITS = 4
"""Visits that a batch size gets even where one run takes more than its share of the time."""

_PICTURES = 256
"""So many of the pictures are used, over and over: they stay in the system's file cache."""

_SETTLING = 0.2
"""Seconds between two packages: idle threads of some engines go on spinning for so long."""

_LARGEST = 4096
_AS_PACKAGED = Setting()


def benchmark(
    packages: Sequence[Package],
    samples: Samples | None = None,
    *,
    batches: Sequence[int] = (1, 4, 8, 16, 32, 64),
    seconds: float = 2.0,
    setting: Setting = _AS_PACKAGED,
    progress: Progress | None = None,
) -> list[Speed]:
    """Measure how fast packages are, each in a process of its own, taking turns.

    Every package is warmed up at every batch size, smallest first, and its vectors are checked.
    Then come rounds that visit every batch size in a changing order, with one package after the
    other, so that a drift of the machine favours none. A package that takes one batch size only
    is measured at that one alone; other sizes are left out.

    Args:
        packages: what is measured; one Speed each, in this order.
        samples: the pictures (at most the first 256 are used, over and over); None: drawn ones.
        batches: batch sizes, in any order.
        seconds: the time for each batch size of each package with the engine alone, and as much
            end to end; a slow batch size still gets four runs.
        setting: device and threads.
        progress: called with the visits done and their total.

    Raises:
        ArgumentError: a batch size is not 1 to 4096, or nothing is left to measure.
        EngineError: an engine failed, cannot hold a batch (the message says the largest that
            worked) or its process died.
        UnreadableImagesError, ImageError: a picture cannot be decoded.
    """
    _check(packages, samples, batches, seconds)
    sizes = [_choose_batches(package, batches) for package in packages]
    with ExitStack() as stack:
        paths = stack.enter_context(_open_pictures(samples))
        # They start one after the other, so that no cold start is measured beside another.
        workers = [stack.enter_context(Worker(package, paths, setting)) for package in packages]
        runs = [
            _Run(worker, {batch: _Times() for batch in chosen})
            for worker, chosen in zip(workers, sizes, strict=True)
        ]
        _measure(runs, seconds, progress)
        return [_summarise(run, setting) for run in runs]


@dataclass(slots=True)
class _Times:
    """What was measured so far at one batch size of one package."""

    difference: float = 0.0
    engine: list[float] = field(default_factory=list)
    end_to_end: list[float] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Run:
    worker: Worker
    batches: dict[int, _Times]


def order_visits(batches: Sequence[int], packages: int, turn: int) -> list[tuple[int, int]]:
    """Give the visits of one round as (batch, number of the package).

    The batch sizes come in an order that depends on the round alone; at each, the packages follow
    one another. Every other round is the one before it backwards, so that of any two visits each
    comes first as often as the other, and a steady drift weighs the same on both.
    """
    shuffled = list(batches)
    random.Random(turn // 2).shuffle(shuffled)
    visits = [(batch, number) for batch in shuffled for number in range(packages)]
    return visits if turn % 2 == 0 else visits[::-1]


def _measure(runs: Sequence[_Run], seconds: float, progress: Progress | None) -> None:
    sizes = sorted({batch for run in runs for batch in run.batches})
    visits = sum(len(run.batches) for run in runs)
    done = 0

    def report() -> None:
        if progress is not None:
            progress(done, visits * (1 + _ROUNDS))

    report()
    for run in runs:
        for batch in sorted(run.batches):
            _warm_up(run, batch, seconds)
            done += 1
            report()
    for turn in range(_ROUNDS):
        for batch, number in order_visits(sizes, len(runs), turn):
            if batch in runs[number].batches:
                if len(runs) > 1:
                    time.sleep(min(_SETTLING, seconds / _ROUNDS))
                _visit(runs[number], batch, seconds)
                done += 1
                report()


def _warm_up(run: _Run, batch: int, seconds: float) -> None:
    """Make a batch size ready to be timed, and check its vectors."""
    with _naming_largest(run, batch):
        run.worker.ask("warm_up", batch=batch, seconds=seconds)
        difference = run.worker.ask("check", batch=batch, largest=max(run.batches))
    run.batches[batch].difference = difference


def _visit(run: _Run, batch: int, seconds: float) -> None:
    """Time one batch size of one package for its share of a round, unless its time is up."""
    times, share = run.batches[batch], seconds / _ROUNDS
    visits = len(times.stages)
    if visits >= _MINIMUM_VISITS and visits * statistics.median(times.engine) >= seconds:
        return
    with _naming_largest(run, batch):
        engine = run.worker.ask("time_engine", batch=batch, seconds=share)
        end_to_end = run.worker.ask("time_end_to_end", batch=batch, seconds=share)
        stages = run.worker.ask("time_stages", batch=batch)
    times.engine += engine
    times.end_to_end += end_to_end
    times.stages.append(stages)


@contextmanager
def _naming_largest(run: _Run, batch: int) -> Iterator[None]:
    """Let an engine's error say the largest batch size that worked: they come smallest first."""
    try:
        yield
    except EngineError as error:
        smaller = [size for size in run.batches if size < batch]
        worked = f"the largest that worked is {max(smaller)}" if smaller else "no smaller was tried"
        raise type(error)(
            f"batch {batch} does not work with {run.worker.package.folder}, {worked}: {error}"
        ) from error


def _summarise(run: _Run, setting: Setting) -> Speed:
    worker, spec = run.worker, run.worker.package.spec
    batches = tuple(_summarise_batch(batch, times) for batch, times in run.batches.items())
    files = (spec.engine.file, *spec.engine.companions)
    return Speed(
        name=spec.name,
        sha256=spec.engine.identity,
        precision=spec.engine.precision,
        runtime=worker.runtime,
        device=worker.device,
        threads=setting.threads or available_cores(),
        batches=batches,
        best_batch=find_best_batch(batches),
        cold_start=worker.cold_start,
        peak_bytes=worker.ask("measure_peak"),
        size_bytes=sum((worker.package.folder / file).stat().st_size for file in files),
    )


def _summarise_batch(batch: int, times: _Times) -> BatchSpeed:
    engine, end_to_end = summarise(times.engine), summarise(times.end_to_end)
    measured = [{"run": engine.median / batch, **stages} for stages in times.stages]
    stages = {name: statistics.median(each[name] for each in measured) for name in STAGES}
    return BatchSpeed(
        batch=batch,
        engine=engine,
        end_to_end=end_to_end,
        engine_rate=batch / engine.median,
        end_to_end_rate=batch / end_to_end.median,
        stages=stages,
        difference=times.difference,
    )


@contextmanager
def _open_pictures(samples: Samples | None) -> Iterator[list[str]]:
    if samples is None:
        with draw_pictures() as drawn:
            yield drawn
    else:
        yield samples.paths[:_PICTURES].tolist()


def _choose_batches(package: Package, batches: Sequence[int]) -> list[int]:
    fixed = package.spec.engine.batch
    asked = sorted(set(batches))
    if fixed is None:
        return asked
    if fixed not in asked:
        raise ArgumentError(
            f"{package.folder} takes batches of {fixed} only, which is none of "
            f"{', '.join(map(str, asked))}: ask for {fixed}"
        )
    return [fixed]


def _check(
    packages: Sequence[Package], samples: Samples | None, batches: Sequence[int], seconds: float
) -> None:
    if not packages or not batches or (samples is not None and not len(samples)):
        raise ArgumentError(
            "nothing to measure: give at least one package, one batch size and one picture"
        )
    for batch in batches:
        if not 1 <= batch <= _LARGEST:
            raise ArgumentError(f"batch is {batch}, expected 1 to {_LARGEST}")
    if not 0 < seconds <= 3600:
        raise ArgumentError(f"seconds is {seconds}, expected a number above 0 and at most 3600")
