"""What a run found: times, rate, the summary file and the lines on the console."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reidkit import disk
from reidkit.ascend.bench._settings import Report
from reidkit.runtimes.sessions import Run

_TITLE = "-----------------Performance Summary------------------"
RULE = "------------------------------------------------------"


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each execution: computing, and copying to and from the device."""

    computed: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    received: list[float] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Take the times of one execution."""
        self.computed.append(run.computed)
        self.sent.append(run.sent)
        self.received.append(run.received)


@dataclass(frozen=True, slots=True)
class Spread:
    """Milliseconds of `count` executions; the percentile is interpolated linearly."""

    min: float
    max: float
    mean: float
    median: float
    percentile: float
    count: int

    def as_json(self) -> dict[str, float]:
        """Give the summary's object, in its order."""
        return {
            "min": self.min,
            "max": self.max,
            "mean": self.mean,
            "median": self.median,
            "percentile(99%)": self.percentile,
            "count": self.count,
        }

    def describe(self) -> str:
        """Give the console's words."""
        named = list(self.as_json().items())[:-1]
        return ", ".join(f"{name} = {value}" for name, value in named)


@dataclass(frozen=True, slots=True, eq=False)
class BenchResult:
    """What a run found and wrote.

    Fields:
        throughput: 1000 * batch / mean milliseconds of an execution; with several devices the
            sum of theirs, with a range of shapes the best one.
        milliseconds: of each execution, the engine's own time.
        batch: what the throughput was computed with.
        folder: where outputs are; None where nothing was saved.
        summary_file: beside it.
        files: of the first input that were run, without padding; 0 in pure inference.
        pictures: in these files.
        outputs: files written.
        seconds: of wall clock for reading, running and saving; loading and warming up left out.
        device: what really ran the model.
        summary: the values of the summary file.
        parts: one result for each device, or for each shape that could be run.
    """

    throughput: float
    milliseconds: tuple[float, ...]
    batch: float
    folder: Path | None
    summary_file: Path | None
    files: int
    pictures: int
    outputs: int
    seconds: float
    device: str
    summary: Mapping[str, object]
    parts: tuple[BenchResult, ...] = ()

    @property
    def end_to_end(self) -> float | None:
        """Pictures a second of wall clock; None in pure inference."""
        return self.pictures / self.seconds if self.files and self.seconds > 0 else None

    def describe_end_to_end(self) -> str | None:
        """Say the end-to-end rate; the word that scripts look for is not in it."""
        if self.end_to_end is None:
            return None
        return (
            f"end-to-end (reidkit): {self.end_to_end:.1f} pictures/s over {self.files} files in "
            f"{self.seconds:.2f} s, reading, running and saving included"
        )


def spread_times(times: Sequence[float]) -> Spread:
    """Summarise milliseconds; all zero where there are none."""
    if not times:
        return Spread(0.0, 0.0, 0.0, 0.0, 0.0, 0)
    values = np.array(times, np.float64)
    return Spread(
        float(values.min()),
        float(values.max()),
        float(values.mean()),
        float(np.median(values)),
        float(np.percentile(values, 99)),
        len(times),
    )


def compute_throughput(batch: float, milliseconds: float) -> float:
    """Give rows a second: 1000 * batch / mean milliseconds, 0 where these are 0."""
    return 1000 * batch / milliseconds if milliseconds else 0.0


def make_summary(
    times: Times,
    batch: float,
    *,
    saved: Mapping[int, tuple[Sequence[str], Sequence[str]]],
    arguments: Sequence[str],
) -> dict[str, object]:
    """Make the summary's values; `saved` holds the input and output files of each sample."""
    computed = spread_times(times.computed)
    return {
        "filesinfo": {
            str(sample): {"infiles": list(taken), "outfiles": list(made)}
            for sample, (taken, made) in saved.items()
        },
        "args": list(arguments),
        "NPU_compute_time": computed.as_json(),
        "H2D_latency": spread_times(times.sent).as_json(),
        "D2H_latency": spread_times(times.received).as_json(),
        "throughput": compute_throughput(batch, computed.mean),
        "npu_compute_time_list": list(times.computed),
        "pid": os.getpid(),
    }


def write_summary(path: Path, summary: Mapping[str, object]) -> None:
    """Write the summary as one line of JSON, whole or not at all."""
    disk.write_bytes(path, json.dumps(summary).encode())


def report_times(report: Report, times: Times, batch: float, *, copies: bool) -> None:
    """Report the performance block; the value is the last word of its last line but one."""
    computed = spread_times(times.computed)
    report("INFO", _TITLE)
    if copies:
        report("INFO", f"H2D_latency (ms): {spread_times(times.sent).describe()}")
    report("INFO", f"NPU_compute_time (ms): {computed.describe()}")
    if copies:
        report("INFO", f"D2H_latency (ms): {spread_times(times.received).describe()}")
    report(
        "INFO",
        f"throughput 1000*batchsize.mean({batch})/NPU_compute_time.mean({computed.mean}): "
        f"{compute_throughput(batch, computed.mean)}",
    )
    report("INFO", RULE)
