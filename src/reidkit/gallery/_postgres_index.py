"""The optional approximate index in PostgreSQL: made, used with exact rescoring, and measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from psycopg import errors

from reidkit.errors import GalleryError
from reidkit.gallery._postgres_connections import Cursor
from reidkit.gallery._postgres_exact import (
    Ranked,
    fetch,
    find_exact,
    gather,
    rank,
    select_vectors,
)
from reidkit.gallery._postgres_rows import filter_crops
from reidkit.gallery._postgres_schema import Generation
from reidkit.gallery._values import EVERYTHING, Found, StoreFacts, Where

INDEX_LEAST = 20_000
"""With so many crops or fewer left by the filter, search is exact."""

_WORTH = 1000
"""With fewer crops for each query, streaming their vectors once for all queries costs less."""

LONGEST_INDEXED = 4000
"""The most dimensions that pgvector's index over `halfvec` takes."""

_OVER = 4
"""Candidates fetched for each crop asked for; float16 and the graph order them roughly."""

_WIDTH = 200
_WIDTH_FILTERED = 1000
"""How many candidates the graph is searched with. Under a filter 200 found but 94 of 100 (20,000
crops, six cameras), 1,000 all of them; a query took 13 ms instead of 7."""

_MEASURED = 64
_BEST = 10

_PLAN = {
    "hnsw.iterative_scan": "strict_order",
    "hnsw.max_scan_tuples": "200000",
    "hnsw.scan_mem_multiplier": "8",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
}
"""Settings for one search: walk the graph in order until the filter has left enough."""


def build_index(cursor: Cursor, generation: Generation) -> None:
    """Make an HNSW index over the vectors in float16, instead of the one that is there.

    Raises:
        GalleryError: the vectors are too long for it, or the server's pgvector too old.
    """
    dimension = generation.binding.dimension
    if dimension > LONGEST_INDEXED:
        raise GalleryError(
            f"vectors of length {dimension} cannot be indexed, pgvector takes at most "
            f"{LONGEST_INDEXED}: search stays exact"
        )
    _check_version(cursor)
    name = f"vector_{generation.number}_near"
    cursor.execute(f"DROP INDEX IF EXISTS reidkit.{name}")
    _give_memory(cursor, generation)
    make = (
        f"CREATE INDEX {name} ON {generation.table} USING hnsw "
        f"((embedding::halfvec({dimension})) halfvec_ip_ops) WITH (m = 16, ef_construction = 128)"
    )
    try:
        with cursor.connection.transaction():
            cursor.execute(make)
    except errors.DiskFull:  # containers have little shared memory, which parallel workers need
        cursor.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        cursor.execute(make)
    # The planner's statistics would keep parts of vectors that were erased.
    cursor.execute(f"ALTER INDEX reidkit.{name} ALTER COLUMN 1 SET STATISTICS 0")
    cursor.execute(f"ANALYZE reidkit.crop, {generation.table}")
    cursor.execute(
        "UPDATE reidkit.binding SET indexed = true, lost_index = false, recall = NULL "
        "WHERE generation = %s",
        (generation.number,),
    )


def find_best(
    cursor: Cursor,
    generation: Generation,
    queries: NDArray[np.float32],
    count: int,
    where: Where,
) -> Found:
    """Find the `count` best crops for each query (Q, D), by the index where it helps."""
    ranked = walk(cursor, generation, queries, count, where)
    if ranked is None:
        return find_exact(cursor, generation, queries, count, where)
    return gather(ranked, len(queries), count)


def walk(
    cursor: Cursor,
    generation: Generation,
    queries: NDArray[np.float32],
    count: int,
    where: Where,
) -> list[Ranked] | None:
    """Give the `count` best crops for each query (Q, D) by the index; `None` where it is no help.

    That is where there is none, where the filter leaves few crops, and where it does not find
    enough.
    """
    if not generation.indexed or not 0 < count <= INDEX_LEAST // (2 * _OVER):
        return None
    condition, values = filter_crops(where)
    cursor.execute(
        f"SELECT count(*) FROM (SELECT FROM reidkit.crop c WHERE {condition} LIMIT %s) meant",
        [*values, INDEX_LEAST + 1],
    )
    row = cursor.fetchone()
    if row is None or row[0] <= INDEX_LEAST:
        return None
    return _walk(cursor, generation, queries, count, where)


def measure_recall(cursor: Cursor, generation: Generation) -> float | None:
    """Measure which share of the ten best crops of 64 stored ones search finds.

    The lower of the shares among all crops and among those of the most common camera; a crop that
    scores as much as the tenth best counts as one of them. `None` without crops.
    """
    ids, queries = fetch(
        cursor,
        f"SELECT v.crop, vector_send(v.embedding) FROM {generation.table} v WHERE v.crop IN "
        "(SELECT min(id) FROM (SELECT id, ntile(%s) OVER (ORDER BY id) AS part "
        "FROM reidkit.crop) parts GROUP BY part)",
        (_MEASURED,),
        generation.binding.dimension,
    )
    if len(ids) == 0:
        return None
    cursor.execute("SELECT camera FROM reidkit.crop GROUP BY camera ORDER BY count(*) DESC LIMIT 1")
    cameras = tuple(row[0] for row in cursor.fetchall())
    return min(
        _share(cursor, generation, queries, where) for where in (EVERYTHING, Where(cameras=cameras))
    )


def tell_facts(cursor: Cursor, generation: Generation) -> StoreFacts:
    """Say how it searches, what it takes up on disk, and which versions the server has."""
    cursor.execute(
        "SELECT current_setting('server_version'), extversion, "
        "(SELECT sum(pg_total_relation_size(oid)) FROM pg_class "
        "WHERE relnamespace = 'reidkit'::regnamespace AND relkind = 'r') "
        "FROM pg_extension WHERE extname = 'vector'"
    )
    server, extension, disk = cursor.fetchone() or ("unknown", "unknown", 0)
    words = "exact, float32"
    if generation.indexed:
        words = f"HNSW index (float16) above {INDEX_LEAST:,} crops, exact rescoring"
    elif generation.lost_index:
        words += ", the older model's HNSW index was dropped"
    words += f"; PostgreSQL {server.split()[0]}, pgvector {extension}"
    recall = generation.recall if generation.indexed else None
    return StoreFacts("postgres", int(disk), 0, words, recall)


def _share(
    cursor: Cursor, generation: Generation, queries: NDArray[np.float32], where: Where
) -> float:
    # One more than ten, since each finds itself.
    exact = find_exact(cursor, generation, queries, _BEST + 1, where).scores
    found = np.concatenate(
        [find_best(cursor, generation, query[None], _BEST + 1, where).scores for query in queries]
    )
    least = np.min(exact, axis=1, keepdims=True, where=np.isfinite(exact), initial=np.inf)
    true = np.isfinite(exact).sum(axis=1) - 1
    right = np.maximum((np.isfinite(found) & (found >= least - 1e-6)).sum(axis=1) - 1, 0)
    return float(right.sum() / max(true.sum(), 1))


def _walk(
    cursor: Cursor,
    generation: Generation,
    queries: NDArray[np.float32],
    count: int,
    where: Where,
) -> list[Ranked] | None:
    """Ask the index for each query; `None` where it gives up before it has found enough."""
    dimension = generation.binding.dimension
    limit = _OVER * count
    width = _WIDTH if where == EVERYTHING else _WIDTH_FILTERED
    _set(cursor, _PLAN | {"hnsw.ef_search": str(max(width, min(limit, 1000)))})
    text, values = select_vectors(generation, where)
    text += f" ORDER BY v.embedding::halfvec({dimension}) <#> %b::halfvec({dimension}) LIMIT %s"
    ranked = []
    for query in queries:
        ids, vectors = fetch(cursor, text, [*values, query, limit], dimension)
        if len(ids) < limit:
            break
        ranked.append(rank(query, ids, vectors, count))
    _set(cursor, {name: "on" for name in _PLAN if name.startswith("enable_")})
    return ranked if len(ranked) == len(queries) else None


def _set(cursor: Cursor, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        cursor.execute("SELECT set_config(%s, %s, true)", (name, value))


def _check_version(cursor: Cursor) -> None:
    cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    row = cursor.fetchone()
    version = "" if row is None else str(row[0])
    if tuple(int(part) for part in version.split(".")[:2]) < (0, 8):
        raise GalleryError(
            f"pgvector {version} loses crops under a filter: install 0.8 or later, and run "
            "ALTER EXTENSION vector UPDATE"
        )


def _give_memory(cursor: Cursor, generation: Generation) -> None:
    """Let the graph be built in memory, where it needs no more than 1 GiB."""
    cursor.execute(
        "SELECT set_config('maintenance_work_mem', greatest(pg_size_bytes(current_setting("
        "'maintenance_work_mem')) / 1024, least(1048576, 1024 + count(*) * %s / 1024))::text, "
        f"true) FROM {generation.table}",
        (2 * generation.binding.dimension + 600,),
    )
