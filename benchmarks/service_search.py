"""Search over many vectors: how long, how right, at what cost, beside plain numpy.

Every way is asked in turn, query by query, so that a drift of the machine favours none. Memory is
that of a process of its own which opens the store and searches; PostgreSQL's is its server's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import EVERYTHING, KeptPictures, Where
from reidkit.gallery._postgres import PostgresStore
from reidkit.gallery._stores import Store, create_store, open_store
from service_processes import (
    look_at,
    measure_family,
    measure_folder,
    plain_environment,
    run_postgres,
)
from service_vectors import (
    BEST,
    BINDING,
    People,
    describe_likeness,
    draw_people,
    find_truth,
    list_parts,
    measure_recall,
    search_plainly,
)

TOGETHER = 64
CAMERA = 3
FILTERS = {"all": EVERYTHING, "one camera": Where(cameras=(f"camera {CAMERA}",))}

Figures = dict[str, object]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: vectors, single queries, and rounds of 64 at once.

    `seconds` is how long a store may take to be filled, and each kind of query of it to be asked.
    """

    vectors: int
    singles: int
    batches: int
    seconds: float = 120.0


def measure_default(amount: Amount) -> Figures:
    """Measure the default store at its default memory budget."""
    people = draw_people(amount.vectors, queries=max(TOGETHER, amount.singles))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "gallery"
        create_store(place, BINDING, KeptPictures(False), actor="benchmark")
        store = open_store(place)
        try:
            filled = fill(store, people, amount.seconds)
            began = time.perf_counter()
            words = store.facts().search
            filled["first_search_seconds"] = time.perf_counter() - began
            found = {
                "vectors": amount.vectors,
                "search": words,
                "cosines": describe_likeness(people),
            }
            found |= filled | compare(store, people, amount)
        finally:
            store.close()
        found["disk_mib"] = measure_folder(place) / 2**20
        found["memory_mib"] = measure_apart(place)
    return found


def measure_postgres(amount: Amount, *, index: bool) -> Figures:
    """Measure a PostgreSQL server with pgvector, exact and then with its HNSW index."""
    people = draw_people(amount.vectors, queries=max(TOGETHER, amount.singles))
    with run_postgres() as (dsn, process):
        create_store(dsn, BINDING, KeptPictures(False), actor="benchmark")
        before = measure_family(process)
        store = open_store(dsn)
        try:
            found: Figures = {"vectors": amount.vectors}
            found |= fill(store, people, amount.seconds)
            people = _shorten(people, store.count(EVERYTHING))
            facts = store.facts()
            found |= {"search": facts.search, "disk_mib": facts.disk / 2**20}
            found |= compare(store, people, amount)
            found["memory_mib"] = measure_family(process) - before
            if index and isinstance(store, PostgresStore):
                began = time.perf_counter()
                store.build_index(actor="benchmark")
                seconds = time.perf_counter() - began
                facts = store.facts()
                found["index"] = {
                    "build_seconds": seconds,
                    "search": facts.search,
                    "disk_mib": facts.disk / 2**20,
                    **compare(store, people, amount),
                    "memory_mib": measure_family(process) - before,
                }
        finally:
            store.close()
    return found


def fill(store: Store, people: People, seconds: float) -> Figures:
    """Put all crops into a store, 10,000 at a time; stop where it takes too long, and say so."""
    began, done = time.perf_counter(), 0
    ids = []
    for crops, vectors in list_parts(people):
        pictures = [None] * len(crops)
        ids.append(store.upsert(crops, vectors, pictures, binding=BINDING, actor="benchmark"))
        done += len(crops)
        if time.perf_counter() - began > seconds:
            break
    taken = time.perf_counter() - began
    # Rows and ids go by the same order, so a row is an id less the first one.
    joined = np.concatenate(ids)
    if not (np.diff(joined) == 1).all():
        raise RuntimeError("the ids have gaps: rows cannot be told from them")
    figures: Figures = {"first_id": int(joined[0]), "loaded": done, "load_seconds": taken}
    if done < len(people.vectors):
        figures["left_out"] = f"{len(people.vectors) - done} crops: no time to load them"
    return figures


def compare(store: Store, people: People, amount: Amount) -> Figures:
    """Measure a store beside numpy, without and with a filter: recall and times."""
    found: Figures = {}
    for name, where in FILTERS.items():
        found[name] = _compare_under(store, people, amount, where)
        print(f"  {name}: {json.dumps(found[name])}", flush=True)
    return found


def _compare_under(store: Store, people: People, amount: Amount, where: Where) -> Figures:
    first = int(next(iter(store.export(EVERYTHING, batch=1)))[0].ids[0])
    together = people.queries[:TOGETHER]
    mask = people.cameras == CAMERA if where.cameras else None
    meant = np.ones(len(people.vectors), np.bool_) if mask is None else mask

    def one(number: int) -> object:
        return store.search(people.queries[[number]], BEST, where)

    def one_plainly(number: int) -> object:
        return search_plainly(people.vectors, people.queries[number], mask)

    def many(_: int) -> object:
        return store.search(together, BEST, where)

    def many_plainly(_: int) -> object:
        return search_plainly(people.vectors, together, mask)

    answer = store.search(together, BEST, where).ids
    rows = np.where(answer < 0, -1, answer - first)
    return {
        "recall_at_10": measure_recall(people, rows, find_truth(people, TOGETHER, mask), meant),
        "single": take_turns(one, one_plainly, amount.singles, seconds=amount.seconds),
        "64 in one call": take_turns(many, many_plainly, amount.batches, seconds=amount.seconds),
        "64 threads": ask_in_threads(store, people, where, amount.seconds),
    }


def take_turns(
    ours: Callable[[int], object],
    numpy: Callable[[int], object],
    rounds: int,
    *,
    seconds: float,
) -> Figures:
    """Time two ways in turn, after one run of each; fewer rounds where the time is up."""
    taken: tuple[list[float], list[float]] = ([], [])
    ways = (ours, numpy)
    for way in ways:
        way(0)
    began = time.perf_counter()
    for number in range(rounds):
        for place in (0, 1) if number % 2 == 0 else (1, 0):
            start = time.perf_counter()
            ways[place](number)
            taken[place].append(time.perf_counter() - start)
        if time.perf_counter() - began > seconds:
            break
    spread, plain = (_spread(times) for times in taken)
    spread |= {f"numpy_{name}": value for name, value in plain.items() if name != "count"}
    return {**spread, "times_numpy": spread["p50_ms"] / plain["p50_ms"]}


def ask_in_threads(store: Store, people: People, where: Where, seconds: float) -> Figures:
    """Ask 64 single queries from 64 threads at once, three times at most."""

    def ask(number: int) -> float:
        start = time.perf_counter()
        store.search(people.queries[[number]], BEST, where)
        return time.perf_counter() - start

    taken: list[float] = []
    rounds: list[float] = []
    began = time.perf_counter()
    with ThreadPoolExecutor(TOGETHER) as pool:
        while len(rounds) < 3 and time.perf_counter() - began < seconds / 3:
            start = time.perf_counter()
            taken += pool.map(ask, range(TOGETHER))
            rounds.append(time.perf_counter() - start)
    return {**_spread(taken), "queries_per_second": TOGETHER / float(np.median(rounds))}


def measure_apart(place: Path) -> float:
    """Give what a process of its own holds above before, in MiB, when it has searched."""
    command = [sys.executable, __file__, str(place)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env=plain_environment(), text=True
    )
    return float(done.stdout)


def main() -> None:
    """Open the store at a place, search, and print how many MiB more this process holds."""
    before = look_at(os.getpid()).rss_mib
    queries = np.full((TOGETHER, BINDING.dimension), BINDING.dimension**-0.5, np.float32)
    with _opening(sys.argv[1]) as store:
        for where in FILTERS.values():
            store.search(queries[:1], BEST, where)
            store.search(queries, BEST, where)
        print(look_at(os.getpid()).rss_mib - before)


@contextlib.contextmanager
def _opening(place: str) -> Iterator[Store]:
    store = open_store(place)
    try:
        yield store
    finally:
        store.close()


def _shorten(people: People, count: int) -> People:
    rows = slice(0, count)
    return People(
        people.vectors[rows],
        people.people[rows],
        people.cameras[rows],
        people.queries,
        people.wanted,
    )


def _spread(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(times) * 1000, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "count": len(times)}


if __name__ == "__main__":
    main()
