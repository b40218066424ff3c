"""The database of a gallery in a folder: its tables, and how one is made and recognised."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from reidkit.errors import FormatError, GalleryError
from reidkit.gallery._values import Binding, KeptPictures

DATABASE = "gallery.sqlite"
FORMAT = 1
_APPLICATION = 0x52454944  # "REID": what kind of database this is, in its header

GENERATION = 2**40
"""A vector's key is its generation times this, and the crop's id: one generation is one range."""

_SCHEMA = """
CREATE TABLE gallery (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    generation INTEGER NOT NULL,      -- of the vectors in use
    pictures_kept INTEGER NOT NULL,
    pictures_largest INTEGER NOT NULL,
    erased_before INTEGER NOT NULL,   -- changes up to this one are in `erased` no more
    recall REAL,                      -- as last measured, and when
    recall_time REAL
);
CREATE TABLE binding (
    generation INTEGER PRIMARY KEY,   -- at most two: the one in use and the one begun
    model_sha256 TEXT NOT NULL,
    contract_sha256 TEXT NOT NULL,
    dimension INTEGER NOT NULL,
    package TEXT NOT NULL
);
CREATE TABLE crop (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    person TEXT NOT NULL,
    camera TEXT NOT NULL,
    time REAL,
    source TEXT NOT NULL,
    digest TEXT NOT NULL,
    added REAL NOT NULL,
    UNIQUE (person, digest)
);
CREATE INDEX crop_digest ON crop (digest);
CREATE INDEX crop_camera ON crop (camera);
CREATE TABLE tag (
    crop INTEGER NOT NULL REFERENCES crop ON DELETE CASCADE,
    name TEXT NOT NULL,
    PRIMARY KEY (crop, name)
) WITHOUT ROWID;
CREATE INDEX tag_name ON tag (name);
CREATE TABLE picture (
    crop INTEGER PRIMARY KEY REFERENCES crop ON DELETE CASCADE,
    png BLOB NOT NULL
);
CREATE TABLE vector (
    key INTEGER PRIMARY KEY,          -- generation * 2^40 + crop
    vector BLOB NOT NULL              -- float32, little-endian
);
CREATE TABLE erased (                 -- which crops other processes have to drop from memory
    change INTEGER PRIMARY KEY AUTOINCREMENT,
    crop INTEGER NOT NULL
);
CREATE TABLE audit (
    line INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    count INTEGER NOT NULL
);
CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is never changed'); END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is never removed'); END;
"""


def make_database(file: Path, binding: Binding, pictures: KeptPictures, *, actor: str) -> None:
    """Write an empty gallery's database, which only its owner may read."""
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {_choose_page(binding.dimension)}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {_SCHEMA}")
        connection.execute(
            "INSERT INTO gallery VALUES (1, 1, ?, ?, 0, NULL, NULL)",
            (pictures.keep, pictures.largest),
        )
        insert_binding(connection, 1, binding)
        write_audit(connection, actor, "create", 0)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def check_database(connection: sqlite3.Connection, file: Path) -> None:
    """Refuse a database that is no gallery, or one of another format number.

    Raises:
        GalleryError, FormatError: see above.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION:
        raise GalleryError(f"{file} is not a gallery's database: choose a folder with a gallery")
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    if number != FORMAT:
        raise FormatError(
            f"{file} is written in format number {number}, this version of reidkit reads {FORMAT}: "
            f"use {'a newer' if number > FORMAT else 'an older'} version"
        )


def insert_binding(connection: sqlite3.Connection, generation: int, binding: Binding) -> None:
    """Write what the vectors of a generation are of."""
    connection.execute(
        "INSERT INTO binding VALUES (?, ?, ?, ?, ?)",
        (
            generation,
            binding.model_sha256,
            binding.contract_sha256,
            binding.dimension,
            binding.package,
        ),
    )


def write_audit(connection: sqlite3.Connection, actor: str, action: str, count: int) -> None:
    """Add a line to the audit."""
    connection.execute(
        "INSERT INTO audit (time, actor, action, count) VALUES (?, ?, ?, ?)",
        (time.time(), actor, action, count),
    )


def _choose_page(dimension: int) -> int:
    """Give the smallest page of which whole vectors leave little unused."""
    size = 4 * dimension + 12  # with its key and lengths
    pages = (8192, 16384, 32768, 65536)
    return next((page for page in pages if page // size * size >= 0.85 * page), 65536)
