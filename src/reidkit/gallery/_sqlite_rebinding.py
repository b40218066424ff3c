"""Vectors of another model, collected beside those in use until they take their place."""

from __future__ import annotations

import sqlite3

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import GalleryError
from reidkit.gallery import _sqlite_rows as rows
from reidkit.gallery._checks import check_begun, check_vectors
from reidkit.gallery._sqlite_schema import GENERATION, insert_binding, write_audit
from reidkit.gallery._values import Binding, Crops


def read_binding(connection: sqlite3.Connection, generation: int) -> Binding:
    """Say what the vectors of a generation are of."""
    row = connection.execute(
        "SELECT model_sha256, contract_sha256, dimension, package FROM binding "
        "WHERE generation = ?",
        (generation,),
    ).fetchone()
    return Binding(*row)


def read_generation(connection: sqlite3.Connection) -> int:
    """Give the generation of the vectors in use."""
    (generation,) = connection.execute("SELECT generation FROM gallery").fetchone()
    return int(generation)


def start(connection: sqlite3.Connection, binding: Binding) -> None:
    """Begin a generation, or go on with the one begun for the same model."""
    current = read_generation(connection)
    begun = _find_begun(connection, current)
    if begun is not None and read_binding(connection, begun).same_vectors(binding):
        connection.execute(
            "UPDATE binding SET package = ? WHERE generation = ?", (binding.package, begun)
        )
        return
    if begun is not None:
        _drop(connection, begun)
    # A number is not used again, so that nobody takes one model's vectors for another's.
    insert_binding(connection, max(current, begun or 0) + 1, binding)


def list_missing(
    connection: sqlite3.Connection, binding: Binding, *, after: int, limit: int
) -> Crops:
    """List crops that lack a vector of the generation begun, by id."""
    base = require_begun(connection, binding) * GENERATION
    missing = connection.execute(
        "SELECT id FROM crop WHERE id > ? AND NOT EXISTS "
        "(SELECT 1 FROM vector WHERE key = ? + id) ORDER BY id LIMIT ?",
        (after, base, limit),
    )
    return rows.read_crops(connection, [crop for (crop,) in missing])


def add_vectors(
    connection: sqlite3.Connection,
    binding: Binding,
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> None:
    """Write vectors of the generation begun, of the crops that are still there."""
    begun = require_begun(connection, binding)
    check_vectors(vectors, len(ids), binding.dimension)
    there = {
        crop
        for crop in ids.tolist()
        if connection.execute("SELECT 1 FROM crop WHERE id = ?", (crop,)).fetchone()
    }
    kept = np.array([crop in there for crop in ids.tolist()], np.bool_)
    rows.insert_vectors(connection, begun, ids[kept].tolist(), vectors[kept])


def finish(
    connection: sqlite3.Connection, binding: Binding, dropping: NDArray[np.int64], *, actor: str
) -> int:
    """Put the generation begun in the place of the one in use; see `Store.finish_rebinding`."""
    begun = require_begun(connection, binding)
    missing = [
        crop
        for (crop,) in connection.execute(
            "SELECT id FROM crop WHERE NOT EXISTS (SELECT 1 FROM vector WHERE key = ? + id)",
            (begun * GENERATION,),
        )
    ]
    if not set(missing).issubset(dropping.tolist()):
        return -1
    rows.erase_crops(connection, missing)
    _drop(connection, read_generation(connection))
    connection.execute(
        "UPDATE gallery SET generation = ?, recall = NULL, recall_time = NULL", (begun,)
    )
    (count,) = connection.execute("SELECT count(*) FROM crop").fetchone()
    write_audit(connection, actor, "reembed", count)
    return len(missing)


def require_begun(connection: sqlite3.Connection, binding: Binding) -> int:
    """Give the generation begun, which is to be of `binding`'s vectors.

    Raises:
        GalleryError: none was begun, or it was finished, or one of another model was begun.
    """
    begun = _find_begun(connection, read_generation(connection))
    if begun is None:
        raise GalleryError("no change to another model was begun: begin with start_rebinding")
    check_begun(read_binding(connection, begun), binding)
    return begun


def _find_begun(connection: sqlite3.Connection, current: int) -> int | None:
    row = connection.execute(
        "SELECT generation FROM binding WHERE generation > ?", (current,)
    ).fetchone()
    return None if row is None else int(row[0])


def _drop(connection: sqlite3.Connection, generation: int) -> None:
    connection.execute(
        "DELETE FROM vector WHERE key >= ? AND key < ?",
        (generation * GENERATION, (generation + 1) * GENERATION),
    )
    connection.execute("DELETE FROM binding WHERE generation = ?", (generation,))
