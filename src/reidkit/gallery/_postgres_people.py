"""Who is in a gallery in PostgreSQL, and by which cameras."""

from __future__ import annotations

from collections.abc import Sequence

from reidkit.gallery._postgres_connections import Cursor
from reidkit.gallery._values import Person


def list_people(cursor: Cursor, after: str, limit: int, named: str) -> list[Person]:
    """List people by code point, those after a name, whose name contains `named`."""
    cursor.execute(
        "SELECT person, count(*), array_agg(DISTINCT camera ORDER BY camera) "
        "FILTER (WHERE camera <> ''), min(taken), max(taken) FROM reidkit.crop "
        "WHERE (person > %s OR %s = '') AND strpos(person, %s) > 0 "
        "GROUP BY person ORDER BY person LIMIT %s",
        (after, after, named, limit),
    )
    return [
        Person(name, crops, tuple(cameras or ()), first, last)
        for name, crops, cameras, first, last in cursor.fetchall()
    ]


def list_cameras(cursor: Cursor) -> list[str]:
    """List the cameras by code point, without the empty one."""
    cursor.execute("SELECT DISTINCT camera FROM reidkit.crop WHERE camera <> '' ORDER BY camera")
    return [row[0] for row in cursor.fetchall()]


def find_known(cursor: Cursor, people: Sequence[str], digests: Sequence[str]) -> list[str | None]:
    """Say for each (person, digest) whose crop that is: theirs, the first other's, nobody's."""
    cursor.execute(
        "SELECT digest, person FROM reidkit.crop WHERE digest = ANY(%s::text[]) ORDER BY id",
        (list(set(digests)),),
    )
    holders: dict[str, dict[str, None]] = {}
    for digest, person in cursor.fetchall():
        holders.setdefault(digest, {})[person] = None
    known: list[str | None] = []
    for person, digest in zip(people, digests, strict=True):
        those = holders.get(digest, {})
        known.append(person if person in those else next(iter(those), None))
    return known
