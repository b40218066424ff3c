"""Changing a gallery in PostgreSQL to another model: collecting its vectors, then the switch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import GalleryError
from reidkit.gallery._postgres_connections import Cursor
from reidkit.gallery._postgres_rows import CROP, to_crops, write_vectors
from reidkit.gallery._postgres_schema import Generation, State, add_generation, note
from reidkit.gallery._values import Binding, Crops


def start(cursor: Cursor, state: State, binding: Binding) -> None:
    """Make a table for a model's vectors, unless it is begun; one begun for another is dropped."""
    begun = state.begun
    if begun is not None and begun.binding.same_vectors(binding):
        cursor.execute(
            "UPDATE reidkit.binding SET package = %s WHERE generation = %s",
            (binding.package, begun.number),
        )
        return
    number = state.current.number + 1
    if begun is not None:
        number = max(number, begun.number + 1)
        drop_generation(cursor, begun)
    add_generation(cursor, number, binding, current=False)


def list_missing(cursor: Cursor, begun: Generation, after: int, limit: int) -> Crops:
    """List at most `limit` crops after an id that lack a vector, by id."""
    cursor.execute(
        f"SELECT {CROP} FROM reidkit.crop c WHERE c.id > %s AND NOT EXISTS "
        f"(SELECT FROM {begun.table} v WHERE v.crop = c.id) ORDER BY c.id LIMIT %s",
        (after, limit),
    )
    return to_crops(cursor.fetchall())


def add_vectors(
    cursor: Cursor, begun: Generation, ids: NDArray[np.int64], vectors: NDArray[np.float32]
) -> None:
    """Add vectors (N, D) of the crops that are still there, instead of those they have."""
    rows = {int(crop): row for row, crop in enumerate(ids)}
    cursor.execute("SELECT id FROM reidkit.crop WHERE id = ANY(%s::bigint[])", (list(rows),))
    there = sorted(row[0] for row in cursor.fetchall())
    cursor.execute(f"DELETE FROM {begun.table} WHERE crop = ANY(%s::bigint[])", (there,))
    write_vectors(
        cursor, begun.table, np.array(there, np.int64), vectors[[rows[crop] for crop in there]]
    )


def finish(cursor: Cursor, state: State, *, drop_missing: bool, actor: str) -> int:
    """Switch to the model begun; gives how many crops without a vector of it were dropped.

    Raises:
        GalleryError: crops lack a vector and are not to be dropped, or nothing was begun.
    """
    begun = state.next
    lacking = f"NOT EXISTS (SELECT FROM {begun.table} v WHERE v.crop = c.id)"
    if drop_missing:
        cursor.execute(f"DELETE FROM reidkit.crop c WHERE {lacking}")
        dropped = cursor.rowcount
    else:
        dropped = 0
        cursor.execute(f"SELECT count(*) FROM reidkit.crop c WHERE {lacking}")
        row = cursor.fetchone()
        if row is None or row[0]:
            raise GalleryError(
                f"{0 if row is None else row[0]} crops have no vector of the model begun: add "
                "them, or drop these crops"
            )
    drop_generation(cursor, state.current)
    lost = state.current.indexed or state.current.lost_index
    cursor.execute(
        "UPDATE reidkit.binding SET current = true, lost_index = %s WHERE generation = %s",
        (lost, begun.number),
    )
    cursor.execute("SELECT count(*) FROM reidkit.crop")
    row = cursor.fetchone()
    note(cursor, "reembed", 0 if row is None else int(row[0]), actor=actor)
    return dropped


def drop_generation(cursor: Cursor, generation: Generation) -> None:
    """Drop a model's vectors and its binding."""
    cursor.execute(f"DROP TABLE {generation.table}")
    cursor.execute("DELETE FROM reidkit.binding WHERE generation = %s", (generation.number,))
