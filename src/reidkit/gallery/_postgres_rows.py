"""Rows of a gallery's tables in PostgreSQL: which are meant, read into values, and written."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery._postgres_connections import Cursor
from reidkit.gallery._values import Crops, Where

CROP = (
    "c.id, c.person, c.camera, c.taken, c.source, ARRAY(SELECT t.name FROM reidkit.tag t "
    "WHERE t.crop = c.id ORDER BY t.name), c.digest, c.added"
)
"""The columns that `to_crops` takes, of the table crop, called c."""


def filter_crops(where: Where) -> tuple[str, list[object]]:
    """Give a condition on the table crop, called c, and its parameters."""
    conditions: list[str] = []
    values: list[object] = []
    for column, names in (("person", where.people), ("camera", where.cameras)):
        if names is not None:
            conditions.append(f"c.{column} = ANY(%s::text[])")
            values.append(list(names))
    for condition, limit in (
        ("c.taken >= %s", where.since),
        ("c.taken < %s", where.until),
        ("c.added < %s", where.added_before),
    ):
        if limit is not None:
            conditions.append(condition)
            values.append(float(limit))
    if where.tags:
        tags = sorted(set(where.tags))
        conditions.append(
            "c.id IN (SELECT crop FROM reidkit.tag WHERE name = ANY(%s::text[]) "
            "GROUP BY crop HAVING count(*) = %s)"
        )
        values += [tags, len(tags)]
    if where.without:
        conditions.append("c.id <> ALL(%s::bigint[])")
        values.append([int(crop) for crop in where.without])
    return " AND ".join(conditions) or "true", values


def to_crops(rows: Sequence[Sequence[Any]]) -> Crops:
    """Make crops of rows with the columns of `CROP`."""
    objects = [np.empty(len(rows), np.object_) for _ in range(5)]
    people, cameras, sources, tags, digests = objects
    for place, row in enumerate(rows):
        people[place], cameras[place] = row[1], row[2]
        sources[place] = row[4].decode("utf-8", "surrogateescape")
        tags[place], digests[place] = tuple(row[5]), row[6]
    times = [math.nan if row[3] is None else row[3] for row in rows]
    return Crops(
        np.array([row[0] for row in rows], np.int64),
        people,
        cameras,
        np.array(times, np.float64),
        sources,
        tags,
        digests,
        np.array([row[7] for row in rows], np.float64),
    )


def to_vectors(sent: Sequence[bytes], dimension: int) -> NDArray[np.float32]:
    """Make vectors (N, D) of what the server's `vector_send` gives."""
    row = np.dtype([("head", ">u4"), ("values", ">f4", (dimension,))])
    return np.frombuffer(b"".join(sent), row)["values"].astype(np.float32)


def write_crops(
    cursor: Cursor,
    table: str,
    crops: Crops,
    vectors: NDArray[np.float32],
    pictures: Sequence[bytes | None],
) -> NDArray[np.int64]:
    """Write crops with their vectors and pictures, instead of those of the same key.

    Of a key that is among them twice the later stays. Gives the ids (N,).
    """
    cursor.execute(
        "SELECT nextval('reidkit.crop_id_seq') FROM generate_series(1, %s)", (len(crops),)
    )
    ids = np.array(sorted(row[0] for row in cursor.fetchall()), np.int64)
    last = {key: row for row, key in enumerate(zip(crops.people, crops.digests, strict=True))}
    cursor.execute(
        "DELETE FROM reidkit.crop c USING unnest(%s::text[], %s::text[]) AS new (person, digest) "
        "WHERE c.person = new.person AND c.digest = new.digest",
        ([person for person, _ in last], [digest for _, digest in last]),
    )
    rows = sorted(last.values())
    _copy(
        cursor,
        "reidkit.crop (id, person, camera, taken, source, digest, added)",
        ["int8", "text", "text", "float8", "bytea", "text", "float8"],
        (_crop_row(crops, row, int(ids[row])) for row in rows),
    )
    write_vectors(cursor, table, ids[rows], vectors[rows])
    tags = ((int(ids[row]), tag) for row in rows for tag in sorted(set(crops.tags[row])))
    _copy(cursor, "reidkit.tag (crop, name)", ["int8", "text"], tags)
    kept = ((int(ids[row]), pictures[row]) for row in rows if pictures[row] is not None)
    _copy(cursor, "reidkit.picture (crop, png)", ["int8", "bytea"], kept)
    return ids


def write_vectors(
    cursor: Cursor, table: str, ids: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Write vectors (N, D) of crops that have none in that table."""
    pairs = zip(ids.tolist(), np.asarray(vectors, np.float32), strict=True)
    _copy(cursor, f"{table} (crop, embedding)", ["int8", "vector"], pairs)


def _crop_row(crops: Crops, row: int, crop: int) -> tuple[object, ...]:
    taken, added = float(crops.times[row]), float(crops.added[row])
    return (
        crop,
        crops.people[row],
        crops.cameras[row],
        None if math.isnan(taken) else taken,
        crops.sources[row].encode("utf-8", "surrogateescape"),
        crops.digests[row],
        time.time() if math.isnan(added) else added,
    )


def _copy(
    cursor: Cursor, target: str, types: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
    with cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
