"""What an index takes up: memory of the default store, pages of pgvector's HNSW, rows read again.

Memory is that of a process of its own, which opens a filled store and searches it once, above what
it held before, the median of three: with float32 vectors in memory, and with those left on disk.
Every figure is taken at several sizes, so that its growth can be seen.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery import EVERYTHING, Binding, KeptPictures, _screening
from reidkit.gallery._postgres import PostgresStore
from reidkit.gallery._searching import Searched, find_best
from reidkit.gallery._stores import Store, create_store, open_store
from service_processes import look_at, measure_folder, plain_environment, run_postgres
from service_search import TOGETHER
from service_vectors import BEST, BINDING, People, draw_people, list_parts

BUDGETS = {"float32 in memory": 2**34, "float32 on disk": 0}
"""Bytes of memory that the store is given."""

_LONGEST = 1.01
"""No vector is longer, with what rounding added."""

Figures = dict[str, object]


def measure_default(sizes: tuple[int, ...]) -> list[Figures]:
    """Measure the default store of each size: memory by where float32 vectors are, and disk."""
    return [_measure_default(size) for size in sizes]


def measure_postgres(sizes: tuple[int, ...], *, dimension: int) -> list[Figures]:
    """Measure pages of an HNSW index and of its table, each size in a database of its own."""
    return [_measure_postgres(size, dimension) for size in sizes]


def count_read_again(sizes: tuple[int, ...]) -> list[Figures]:
    """Count the rows that a single exact search reads in float32 after its pass in eight bits.

    Once for people who are in the gallery, and once for strangers, whose best ten are like many.
    """
    return [_count_read_again(size) for size in sizes]


def _count_read_again(size: int) -> Figures:
    people = draw_people(size, queries=TOGETHER)
    read: dict[str, list[int]] = {"known": [], "strangers": []}

    def give(rows: NDArray[np.intp]) -> NDArray[np.float32]:
        counts[-1] += len(rows)
        return people.vectors[rows]

    codes = _screening.encode(people.vectors)
    searched = Searched(np.arange(size), codes, None, _LONGEST, give)
    for query, person in zip(people.queries, people.wanted, strict=True):
        for who, counts in read.items():
            counts.append(0)
            mask = people.people != person if who == "strangers" else None
            find_best(searched, query[None], BEST, mask)
    found: Figures = {"vectors": size}
    found |= {who: {"mean": float(np.mean(c)), "most": max(c)} for who, c in read.items()}
    print(f"  {found}", flush=True)
    return found


def _measure_default(size: int) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "gallery"
        create_store(place, BINDING, KeptPictures(False), actor="benchmark")
        store = open_store(place)
        try:
            fill(store, draw_people(size, queries=1), BINDING)
        finally:
            store.close()
        memory = {way: _measure_apart(place, budget) for way, budget in BUDGETS.items()}
        found: Figures = {"vectors": size, "memory": memory, "disk": measure_folder(place)}
    print(f"  {found}", flush=True)
    return found


def _measure_postgres(size: int, dimension: int) -> Figures:
    import psycopg

    binding = Binding(BINDING.model_sha256, BINDING.contract_sha256, dimension)
    with run_postgres() as (dsn, _):
        create_store(dsn, binding, KeptPictures(False), actor="benchmark")
        store = open_store(dsn)
        try:
            fill(store, draw_people(size, queries=1, dimension=dimension), binding)
            if isinstance(store, PostgresStore):
                store.build_index(actor="benchmark")
        finally:
            store.close()
        with psycopg.connect(dsn) as connection:
            row = connection.execute(
                "SELECT pg_relation_size('reidkit.vector_1_near'), "
                "pg_total_relation_size('reidkit.vector_1')"
            ).fetchone()
    if row is None:
        raise RuntimeError("the server did not say how large its index is")
    found: Figures = {"vectors": size, "dimension": dimension, "index": row[0]}
    found["table"] = row[1] - row[0]
    print(f"  {found}", flush=True)
    return found


def fill(store: Store, people: People, binding: Binding) -> None:
    """Put all crops into a store, 10,000 at a time."""
    for crops, vectors in list_parts(people):
        pictures = [None] * len(crops)
        store.upsert(crops, vectors, pictures, binding=binding, actor="benchmark")


def _measure_apart(place: Path, budget: int) -> int:
    command = [sys.executable, __file__, str(place), str(budget)]
    environment = plain_environment()
    lines = [subprocess.check_output(command, env=environment, text=True) for _ in range(3)]
    return int(statistics.median(map(int, lines)))


def main() -> None:
    """Open the store at a place with a budget, search, and print how many bytes more are held."""
    before = look_at(os.getpid()).rss_mib
    store = open_store(sys.argv[1], memory=int(sys.argv[2]))
    try:
        query = np.full((1, BINDING.dimension), BINDING.dimension**-0.5, np.float32)
        store.search(query, BEST, EVERYTHING)
        print(round((look_at(os.getpid()).rss_mib - before) * 2**20))
    finally:
        store.close()


if __name__ == "__main__":
    main()
