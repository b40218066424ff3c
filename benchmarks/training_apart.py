"""Each way of training in a process of its own, in turn: the reference as a user would run it.

In one process with reidkit's, the reference has the memory that reidkit's training keeps between
steps, and is faster than by itself. So `training.py` compares computation, and this compares what
users would see. Its part of benchmarks/records/training.json ends with `-apart`.

    python benchmarks/training_apart.py --reference CHECKOUT --batch 16
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from reidkit import disk
from training import RECORD, save

WAYS = ("reference", "float32+channels_last", "bfloat16+channels_last")


def main() -> None:
    """Measure round by round and put the ratios into the record."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--reference", type=Path, required=True)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(options.rounds):
        for way in WAYS if number % 2 == 0 else WAYS[::-1]:
            rates[way].append(measure(way, options.reference, options.batch))
            print(f"round {number + 1}: {way}: {rates[way][-1]:.2f} pictures/s", flush=True)
    own = [way for way in WAYS if way != "reference"]
    part = {
        "rounds": options.rounds,
        "pictures_per_second": {way: statistics.median(found) for way, found in rates.items()},
        "over_reference": {
            way: statistics.median(
                mine / theirs for mine, theirs in zip(rates[way], rates["reference"], strict=True)
            )
            for way in own
        },
    }
    save(RECORD, f"cpu-batch{options.batch}-apart", part)


def measure(way: str, reference: Path, batch: int) -> float:
    """Run one way for one round in a new process: pictures a second."""
    with tempfile.TemporaryDirectory() as name:
        record = Path(name) / "record.json"
        script = Path(__file__).with_name("training.py")
        line = [sys.executable, str(script), "--ways", way, "--rounds", "1", "--steps", "3"]
        line += ["--reference", str(reference), "--batch", str(batch), "--record", str(record)]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
        [part] = disk.read_json(record)["parts"].values()
        return float(part["ways"][way]["pictures_per_second"])


if __name__ == "__main__":
    main()
