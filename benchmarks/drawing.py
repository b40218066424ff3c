"""How many pictures a second are drawn, by one process and by two.

Each run is a process of its own, in turn: reidkit draws a whole data set of 100 people and 6
cameras, processes started, files written and the folder moved into place.

`make bench` runs it; the record is benchmarks/records/drawing.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import describe_machine
from reidkit import disk
from reidkit.datasets.drawn import draw_dataset

PEOPLE, CAMERAS = 100, 6
WAYS = {"one process": 1, "two processes": 2}
RECORD = Path(__file__).parent / "records" / "drawing.json"


def main() -> None:
    """Measure both in turn and write the record, or measure one once."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--rounds", type=int, default=11, help="runs of each")
    arguments.add_argument("--people", type=int, default=PEOPLE, help="test people to draw")
    arguments.add_argument("--record", type=Path, default=RECORD, help="the file to write")
    arguments.add_argument("--one", type=int, metavar="WORKERS", help="measure this once")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.people)))
        return
    results = compare(options.people, rounds=options.rounds)
    options.record.parent.mkdir(exist_ok=True)
    disk.write_json(options.record, {"machine": describe_machine()} | results)


def compare(people: int, *, rounds: int) -> dict[str, object]:
    """Measure one and two processes in turn; the ratio is taken round by round."""
    runs: dict[int, list[dict[str, float]]] = {workers: [] for workers in WAYS.values()}
    for number in range(rounds):
        for workers in WAYS.values():
            command = [sys.executable, __file__, "--one", workers, "--people", people]
            done = subprocess.run(list(map(str, command)), capture_output=True, check=True)
            runs[workers].append(json.loads(done.stdout))
        print(f"round {number + 1} of {rounds} done", flush=True)
    summary = {name: _summarise(runs[workers]) for name, workers in WAYS.items()}
    for name, figures in summary.items():
        print(f"  {name:<13}", "  ".join(f"{key} {value:,.4g}" for key, value in figures.items()))
    pairs = zip(runs[1], runs[2], strict=True)
    gain = statistics.median(one["seconds"] / two["seconds"] for one, two in pairs)
    print(f"  two processes are faster than one {gain:.3f} x")
    return {
        "people": people,
        "cameras": CAMERAS,
        "pictures": int(runs[1][0]["pictures"]),
        "rounds": rounds,
        "ways": summary,
        "two_over_one": gain,
    }


def measure(workers: int, people: int) -> dict[str, float]:
    """Draw one data set, its processes started by this one."""
    with tempfile.TemporaryDirectory() as name:
        began = time.perf_counter()
        counts = draw_dataset(Path(name) / "data", people=people, cameras=CAMERAS, workers=workers)
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "pictures": sum(dataclasses.astuple(counts))}


def _summarise(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    rates = [run["pictures"] / run["seconds"] for run in runs]
    return {
        "pictures_per_second": statistics.median(rates),
        "slowest": min(rates),
        "fastest": max(rates),
    }


if __name__ == "__main__":
    main()
