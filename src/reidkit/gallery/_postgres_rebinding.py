"""Changing a gallery in PostgreSQL to another model: collecting its vectors, then the switch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reidkit.gallery._checks import check_begun
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


def require_begun(state: State, binding: Binding) -> Generation:
    """Give the generation begun, which is to be of `binding`'s vectors.

    Raises:
        GalleryError: none was begun, or one of another model.
    """
    begun = state.next
    check_begun(begun.binding, binding)
    return begun


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


def finish(
    cursor: Cursor, state: State, binding: Binding, dropping: NDArray[np.int64], *, actor: str
) -> int:
    """Switch to the model begun; see `Store.finish_rebinding`."""
    begun = require_begun(state, binding)
    cursor.execute(
        "SELECT c.id FROM reidkit.crop c WHERE NOT EXISTS "
        f"(SELECT FROM {begun.table} v WHERE v.crop = c.id)"
    )
    missing = [row[0] for row in cursor.fetchall()]
    if not set(missing).issubset(dropping.tolist()):
        return -1
    cursor.execute("DELETE FROM reidkit.crop WHERE id = ANY(%s::bigint[])", (missing,))
    drop_generation(cursor, state.current)
    lost = state.current.indexed or state.current.lost_index
    cursor.execute(
        "UPDATE reidkit.binding SET current = true, lost_index = %s WHERE generation = %s",
        (lost, begun.number),
    )
    cursor.execute("SELECT count(*) FROM reidkit.crop")
    row = cursor.fetchone()
    note(cursor, "reembed", 0 if row is None else int(row[0]), actor=actor)
    return len(missing)


def drop_generation(cursor: Cursor, generation: Generation) -> None:
    """Drop a model's vectors and its binding."""
    cursor.execute(f"DROP TABLE {generation.table}")
    cursor.execute("DELETE FROM reidkit.binding WHERE generation = %s", (generation.number,))
