"""The tables of a gallery in PostgreSQL, format number 1, and what they say of themselves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from psycopg import errors

from reidkit.errors import FormatError, GalleryError
from reidkit.gallery._postgres_connections import Connection, Cursor, connect, describe, telling
from reidkit.gallery._values import Binding, KeptPictures

FORMAT = 1

_TABLES = """
CREATE SCHEMA reidkit;
CREATE TABLE reidkit.gallery (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    format integer NOT NULL, keep boolean NOT NULL, largest bigint NOT NULL);
CREATE TABLE reidkit.binding (
    generation integer PRIMARY KEY, current boolean NOT NULL UNIQUE,
    model_sha256 text NOT NULL, contract_sha256 text NOT NULL, dimension integer NOT NULL,
    package text NOT NULL, indexed boolean NOT NULL DEFAULT false,
    lost_index boolean NOT NULL DEFAULT false, recall double precision);
CREATE TABLE reidkit.crop (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person text COLLATE "C" NOT NULL, camera text COLLATE "C" NOT NULL,
    taken double precision, source bytea NOT NULL, digest text COLLATE "C" NOT NULL,
    added double precision NOT NULL, UNIQUE (person, digest));
CREATE INDEX crop_camera ON reidkit.crop (camera);
CREATE INDEX crop_taken ON reidkit.crop (taken);
CREATE INDEX crop_digest ON reidkit.crop (digest);
CREATE TABLE reidkit.tag (
    crop bigint REFERENCES reidkit.crop ON DELETE CASCADE, name text COLLATE "C",
    PRIMARY KEY (crop, name));
CREATE INDEX tag_name ON reidkit.tag (name, crop);
CREATE TABLE reidkit.picture (
    crop bigint PRIMARY KEY REFERENCES reidkit.crop ON DELETE CASCADE, png bytea NOT NULL);
ALTER TABLE reidkit.picture ALTER png SET STORAGE EXTERNAL, ALTER png SET STATISTICS 0;
-- The planner's statistics would keep names of people who were erased.
ALTER TABLE reidkit.crop ALTER person SET STATISTICS 0, ALTER source SET STATISTICS 0,
    ALTER digest SET STATISTICS 0;
ALTER TABLE reidkit.tag ALTER name SET STATISTICS 0;
CREATE TABLE reidkit.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, time double precision NOT NULL,
    actor text NOT NULL, action text NOT NULL, count bigint NOT NULL);
CREATE FUNCTION reidkit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS
    $$BEGIN RAISE EXCEPTION 'the audit is only added to'; END$$;
CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON reidkit.audit
    FOR EACH STATEMENT EXECUTE FUNCTION reidkit.refuse_change();
"""

_LOCKS = {
    "read": "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
    "LOCK TABLE reidkit.binding IN ACCESS SHARE MODE",
    "note": "BEGIN; LOCK TABLE reidkit.binding IN ACCESS SHARE MODE",
    "write": "BEGIN; LOCK TABLE reidkit.binding IN SHARE ROW EXCLUSIVE MODE",
    "switch": "BEGIN; LOCK TABLE reidkit.binding IN ACCESS EXCLUSIVE MODE",
}

Mode = Literal["read", "note", "write", "switch"]
"""Readers see one moment; writers wait for each other; a switch of models waits for everybody.

The lock comes before anything is read, so that nobody reads a table that a switch has dropped.
"""


@dataclass(frozen=True, slots=True)
class Generation:
    """The vectors of one model, which have a table of their own."""

    number: int
    binding: Binding
    indexed: bool
    lost_index: bool
    recall: float | None

    @property
    def table(self) -> str:
        """The table's name."""
        return f"reidkit.vector_{self.number}"


@dataclass(frozen=True, slots=True)
class State:
    """What a gallery is at the start of a transaction."""

    kept: KeptPictures
    current: Generation
    begun: Generation | None

    @property
    def next(self) -> Generation:
        """The generation whose vectors are being collected.

        Raises:
            GalleryError: there is none.
        """
        if self.begun is None:
            raise GalleryError("no change to another model was begun: call start_rebinding first")
        return self.begun


def start(mode: Mode) -> str:
    """Give the statements that begin a transaction and read its state."""
    return (
        f"{_LOCKS[mode]}; SELECT keep, largest, generation, model_sha256, contract_sha256, "
        "dimension, package, indexed, lost_index, recall FROM reidkit.gallery, reidkit.binding "
        "ORDER BY current DESC"
    )


def read_state(cursor: Cursor) -> State:
    """Read what `start` selected."""
    rows = cursor.fetchall()
    found = [Generation(row[2], Binding(*row[3:7]), *row[7:]) for row in rows]
    kept = KeptPictures(rows[0][0], rows[0][1])
    return State(kept, found[0], found[1] if len(found) > 1 else None)


def check_format(cursor: Cursor) -> None:
    """Refuse a gallery of another format number; the cursor has selected it.

    Raises:
        FormatError: it is another.
    """
    row = cursor.fetchone()
    if row is None or row[0] != FORMAT:
        number = None if row is None else row[0]
        raise FormatError(
            f"the gallery's tables are of format {number}, this version of reidkit reads "
            f"{FORMAT}: use the version that made them"
        )


def create(dsn: str, binding: Binding, pictures: KeptPictures, *, actor: str) -> None:
    """Make the extension `vector` and an empty gallery in one transaction.

    Raises:
        GalleryError: there is one already, the server cannot be reached or refuses, it has no
            pgvector, or the database is not in UTF-8.
    """
    place = describe(dsn)
    connection = connect(dsn)
    try:
        with telling(dsn), connection.transaction():
            _check_place(connection, place)
            _make_extension(connection, place)
            _make_tables(connection, place)
            connection.execute(
                "INSERT INTO reidkit.gallery (format, keep, largest) VALUES (%s, %s, %s)",
                (FORMAT, pictures.keep, pictures.largest),
            )
            add_generation(connection.cursor(), 1, binding, current=True)
            note(connection.cursor(), "create", 0, actor=actor)
    finally:
        connection.close()


def add_generation(cursor: Cursor, number: int, binding: Binding, *, current: bool) -> None:
    """Make the table of a model's vectors.

    Vectors stay in the row as far as a page holds them: read from beside it they take twice as
    long to search.
    """
    cursor.execute(
        "INSERT INTO reidkit.binding (generation, current, model_sha256, contract_sha256, "
        "dimension, package) VALUES (%s, %s, %s, %s, %s, %s)",
        (
            number,
            current,
            binding.model_sha256,
            binding.contract_sha256,
            binding.dimension,
            binding.package,
        ),
    )
    cursor.execute(
        f"CREATE TABLE reidkit.vector_{number} (crop bigint PRIMARY KEY "
        f"REFERENCES reidkit.crop ON DELETE CASCADE, embedding vector({binding.dimension:d}) "
        "NOT NULL) WITH (toast_tuple_target = 8160); "
        f"ALTER TABLE reidkit.vector_{number} ALTER embedding SET STORAGE EXTERNAL, "
        "ALTER embedding SET STATISTICS 0"
    )


def note(cursor: Cursor, action: str, count: int, *, actor: str) -> None:
    """Add a line to the audit."""
    cursor.execute(
        "INSERT INTO reidkit.audit (time, actor, action, count) VALUES (%s, %s, %s, %s)",
        (time.time(), actor, action, count),
    )


def _check_place(connection: Connection, place: str) -> None:
    row = connection.execute(
        "SELECT to_regnamespace('reidkit') IS NOT NULL, current_setting('server_encoding')"
    ).fetchone()
    if row is None or row[0]:
        raise GalleryError(
            f"there is a gallery (a schema reidkit) in the {place} already: open it, or give a "
            "database that has none"
        )
    if row[1] != "UTF8":
        raise GalleryError(f"the {place} is in {row[1]}, a gallery needs one in UTF8")


def _make_extension(connection: Connection, place: str) -> None:
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (errors.FeatureNotSupported, errors.UndefinedFile):
        raise GalleryError(
            f"the server of the {place} has no pgvector: install the extension on it (such as "
            "Debian's postgresql-<version>-pgvector, or the image pgvector/pgvector)"
        ) from None
    except errors.InsufficientPrivilege:
        raise GalleryError(
            f"this user may not make the extension in the {place}: let its administrator run "
            "CREATE EXTENSION vector there once"
        ) from None


def _make_tables(connection: Connection, place: str) -> None:
    connection.execute(
        "SELECT set_config('search_path', (SELECT quote_ident(n.nspname) FROM pg_extension e "
        "JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'), true)"
    )
    try:
        connection.execute(_TABLES)
    except (errors.DuplicateSchema, errors.UniqueViolation):
        raise GalleryError(f"somebody else is making a gallery in the {place}") from None
