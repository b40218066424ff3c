"""Crops in SQL: which ones a filter means, and how they are read, written and erased."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery._sqlite_schema import GENERATION
from reidkit.gallery._values import Crops, Where

_CROP = "id, person, camera, time, source, digest, added"


def write_condition(where: Where) -> tuple[str, list[object]]:
    """Give the SQL condition on `crop` of a filter, and its parameters."""
    terms: list[str] = []
    values: list[object] = []
    # A plus keeps an index from being used: few crops are of a person, very many by a camera.
    camera = "camera" if where.people is None else "+camera"
    for column, names in (("person", where.people), (camera, where.cameras)):
        if names is not None:
            terms.append(f"{column} IN (SELECT value FROM json_each(?))")
            values.append(_list_names(names))
    for term, bound in (
        ("time >= ?", where.since),
        ("time < ?", where.until),
        ("added < ?", where.added_before),
    ):
        if bound is not None:
            terms.append(term)
            values.append(bound)
    if where.tags:
        terms.append("id IN (SELECT crop FROM tag WHERE name IN (SELECT value FROM json_each(?))")
        terms[-1] += " GROUP BY crop HAVING count(*) = ?)"
        values += [_list_names(where.tags), len(set(where.tags))]
    if where.without:
        terms.append("id NOT IN (SELECT value FROM json_each(?))")
        values.append(json.dumps([int(crop) for crop in where.without]))
    return " AND ".join(terms) or "1", values


def list_ids(
    connection: sqlite3.Connection, where: Where, *, after: int = 0, limit: int = -1
) -> list[int]:
    """List the ids of the crops that are meant, those after an id; -1 is no limit."""
    condition, values = write_condition(where)
    rows = connection.execute(
        f"SELECT id FROM crop WHERE id > ? AND {condition} ORDER BY id LIMIT ?",
        [after, *values, limit],
    )
    return [crop for (crop,) in rows]


def read_crops(connection: sqlite3.Connection, ids: Sequence[int]) -> Crops:
    """Read crops by id, in that order; those that are not there are left out."""
    wanted = json.dumps(list(ids))
    rows = {
        row[0]: row
        for row in connection.execute(
            f"SELECT {_CROP} FROM crop WHERE id IN (SELECT value FROM json_each(?))", (wanted,)
        )
    }
    tags: dict[int, list[str]] = {}
    for crop, name in connection.execute(
        "SELECT crop, name FROM tag WHERE crop IN (SELECT value FROM json_each(?)) "
        "ORDER BY crop, name",
        (wanted,),
    ):
        tags.setdefault(crop, []).append(name)
    found = [rows[crop] for crop in ids if crop in rows]
    if not found:
        return Crops.make(0)
    columns = list(zip(*found, strict=True))
    return Crops(
        np.array(columns[0], np.int64),
        _to_objects(columns[1]),
        _to_objects(columns[2]),
        np.array(columns[3], np.float64),  # None becomes NaN
        _to_objects([_from_text(source) for source in columns[4]]),
        _to_objects([tuple(tags.get(crop, ())) for crop in columns[0]]),
        _to_objects(columns[5]),
        np.array(columns[6], np.float64),
    )


def insert_crops(connection: sqlite3.Connection, crops: Crops) -> tuple[list[int], list[int]]:
    """Add crops; gives an id for each, and which of the N are not replaced by later ones.

    A person's crop of a digest that is there already is erased first.
    """
    first = read_sequence(connection, "crop") + 1
    ids = list(range(first, first + len(crops)))
    keys = zip(crops.people.tolist(), crops.digests.tolist(), strict=True)
    latest = {key: place for place, key in enumerate(keys)}
    older: list[int] = []
    for key in latest:
        same = connection.execute("SELECT id FROM crop WHERE person = ? AND digest = ?", key)
        older += (crop for (crop,) in same)
    erase_crops(connection, older)
    kept = sorted(latest.values())
    now = time.time()
    connection.executemany(
        f"INSERT INTO crop ({_CROP}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                ids[place],
                crops.people[place],
                crops.cameras[place],
                _to_null(crops.times[place]),
                _to_text(crops.sources[place]),
                crops.digests[place],
                now if math.isnan(crops.added[place]) else float(crops.added[place]),
            )
            for place in kept
        ),
    )
    connection.executemany(
        "INSERT INTO tag (crop, name) VALUES (?, ?)",
        ((ids[place], tag) for place in kept for tag in crops.tags[place]),
    )
    # Ids of crops that later ones of the same call replaced are not given again either.
    connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'crop'", (ids[-1],))
    return ids, kept


def insert_vectors(
    connection: sqlite3.Connection,
    generation: int,
    ids: Sequence[int],
    vectors: NDArray[np.float32],
) -> None:
    """Write vectors (N, D) of crops, in place of those that are there."""
    base = generation * GENERATION
    rows = np.ascontiguousarray(vectors, "<f4")
    connection.executemany(
        "INSERT OR REPLACE INTO vector VALUES (?, ?)",
        ((base + crop, row.tobytes()) for crop, row in zip(ids, rows, strict=True)),
    )


def read_vectors(
    connection: sqlite3.Connection, generation: int, ids: NDArray[np.int64]
) -> NDArray[np.float32] | None:
    """Read the vectors (N, D) of crops whose ids ascend; `None` where one has none."""
    base = generation * GENERATION
    wanted = json.dumps((ids + base).tolist())
    found = connection.execute(
        "SELECT vector.key, vector FROM json_each(?) AS wanted "
        "CROSS JOIN vector ON vector.key = wanted.value",
        (wanted,),
    ).fetchall()
    found.sort()
    return None if len(found) != len(ids) else join_vectors([row[1] for row in found], len(ids))


def join_vectors(parts: Sequence[bytes], count: int) -> NDArray[np.float32]:
    """Put N vectors as they are stored into (N, D) float32."""
    values: NDArray[np.float32] = np.frombuffer(b"".join(parts), "<f4")
    return values.reshape(count, -1 if count else 0).astype(np.float32, copy=False)


def scan(
    connection: sqlite3.Connection, generation: int, *, after: int, batch: int = 4096
) -> Iterator[list[tuple[int, str, str, float | None, float, bytes]]]:
    """Give id, person, camera, time, added and vector of the crops after an id, by id."""
    rows = connection.execute(
        "SELECT id, person, camera, time, added, vector FROM crop JOIN vector ON key = ? + id "
        "WHERE id > ? ORDER BY id",
        (generation * GENERATION, after),
    )
    while part := rows.fetchmany(batch):
        yield part


def erase_crops(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Erase crops, with pictures, tags and their vectors of every generation."""
    generations = connection.execute("SELECT generation FROM binding").fetchall()
    single = [(crop,) for crop in ids]
    for (generation,) in generations:
        connection.executemany(
            "DELETE FROM vector WHERE key = ?",
            ((generation * GENERATION + crop,) for crop in ids),
        )
    connection.executemany("DELETE FROM crop WHERE id = ?", single)
    connection.executemany("INSERT INTO erased (crop) VALUES (?)", single)


def read_sequence(connection: sqlite3.Connection, table: str) -> int:
    """Give the highest id that a table ever gave; 0 before the first."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0


def _list_names(names: Sequence[str]) -> str:
    # `Where` lets no NUL through, at which SQL would cut a name short.
    return json.dumps(list(names))


def _to_null(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _to_text(source: str) -> str | bytes:
    """Give a source as it is kept: a file's name that is no Unicode by its bytes."""
    try:
        source.encode()
    except UnicodeEncodeError:
        return source.encode("utf-8", "surrogateescape")
    return source


def _from_text(kept: str | bytes) -> str:
    return kept if isinstance(kept, str) else kept.decode("utf-8", "surrogateescape")


def _to_objects(values: Sequence[object]) -> NDArray[np.object_]:
    column = np.empty(len(values), np.object_)
    for row, value in enumerate(values):
        column[row] = value
    return column
