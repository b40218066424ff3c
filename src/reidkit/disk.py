"""Files and folders that appear whole or not at all, and their hashes.

Everything is written under a temporary name beside its destination and moved into place, so
a killed process never leaves something that looks complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reidkit.errors import ArgumentError


def write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that either holds all of `data` or does not change.

    A `private` one is its owner's alone to read, from its first byte on.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    mode = 0o600 if private else 0o666
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object, *, private: bool = False) -> None:
    """Write a value as indented JSON, whole or not at all; see `write_bytes`."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode(), private=private)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `ValueError` where the file holds anything else."""
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


@contextmanager
def new_folder(path: Path, *, marker: str, overwrite: bool | None = None) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends without an error.

    `overwrite` replaces an older folder of the same kind: one that holds the file `marker` and
    nothing that the new one lacks. Nothing else is ever deleted, neither what was at `path`
    before nor what appeared there meanwhile. `None` is for callers that never replace a folder.

    Raises:
        ArgumentError: `path` exists, is not an empty folder, and may not be replaced.
    """
    path = Path(os.path.realpath(path))
    _check_free(path, marker, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    temporary.mkdir()
    try:
        yield temporary
        _check_free(path, marker, overwrite)
        _move_into_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_free(path: Path, marker: str, overwrite: bool | None) -> None:
    if path == Path.cwd():
        raise ArgumentError("the current folder cannot be the output: choose a folder of its own")
    if not path.exists():
        return
    if not path.is_dir():
        raise ArgumentError(f"{path} exists already and is not a folder: choose another place")
    if not any(path.iterdir()):
        return
    if not (path / marker).is_file():
        raise ArgumentError(f"{path} is a folder with other things in it: choose another place")
    if not overwrite:
        hint = "" if overwrite is None else " or pass --overwrite (overwrite=True)"
        raise ArgumentError(f"{path} exists already: choose another place{hint}")


def _move_into_place(temporary: Path, path: Path) -> None:
    """Move a folder to `path`; an older one there is put aside first and deleted last."""
    aside = temporary.with_suffix(".old")
    if path.exists():
        new = {entry.name for entry in temporary.iterdir()}
        other = [e.name for e in path.iterdir() if e.name not in new and e.name[0] != "."]
        if other:
            raise ArgumentError(f"{path} holds other things too ({other[0]}): nothing was replaced")
        path.replace(aside)
    try:
        temporary.replace(path)
    except OSError:
        if aside.exists():
            aside.replace(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def hold(path: Path, doing: str) -> Iterator[None]:
    """Hold a lock file while the block runs; it is free again when its process dies.

    Raises:
        ArgumentError: another process holds it; `doing` is what the message says that it does.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ArgumentError(f"another run is {doing}: wait until it has ended") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def sha256_file(path: Path) -> str:
    """Give the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Give the sha256 of a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
