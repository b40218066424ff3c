"""Questions about people that SQL answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence

from reidkit.gallery._values import Person


def list_people(
    connection: sqlite3.Connection, *, after: str, limit: int, named: str
) -> list[Person]:
    """List people by name, those after a name, whose name contains `named`; see `Store`."""
    found = connection.execute(
        "SELECT person, count(*), min(time), max(time) FROM crop "
        "WHERE (? = '' OR person > ?) AND (? = '' OR instr(person, ?) > 0) "
        "GROUP BY person ORDER BY person LIMIT ?",
        (after, after, named, named, limit),
    ).fetchall()
    cameras: dict[str, list[str]] = {}
    for person, camera in connection.execute(
        "SELECT DISTINCT person, camera FROM crop "
        "WHERE person IN (SELECT value FROM json_each(?)) AND camera <> '' ORDER BY camera",
        (json.dumps([row[0] for row in found]),),
    ):
        cameras.setdefault(person, []).append(camera)
    return [
        Person(name, crops, tuple(cameras.get(name, ())), first, last)
        for name, crops, first, last in found
    ]


def list_cameras(connection: sqlite3.Connection) -> list[str]:
    """List the names of all cameras, by code point; a step in the index for each."""
    found = connection.execute(
        "WITH RECURSIVE each_camera (name) AS (SELECT min(camera) FROM crop WHERE camera > '' "
        "UNION ALL SELECT (SELECT min(camera) FROM crop WHERE camera > name) FROM each_camera "
        "WHERE name IS NOT NULL) SELECT name FROM each_camera WHERE name IS NOT NULL"
    )
    return [camera for (camera,) in found]


def find_known(
    connection: sqlite3.Connection, people: Sequence[str], digests: Sequence[str]
) -> list[str | None]:
    """Say for each of N crops whose crop that picture is, that person's own first."""
    known: list[str | None] = []
    for person, digest in zip(people, digests, strict=True):
        row = connection.execute(
            "SELECT person FROM crop WHERE digest = ? ORDER BY person <> ?, id LIMIT 1",
            (digest, person),
        ).fetchone()
        known.append(None if row is None else str(row[0]))
    return known
