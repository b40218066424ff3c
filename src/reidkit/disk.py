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


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that either holds all of `data` or does not change."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; `ValueError` where the file holds anything else."""
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


@contextmanager
def new_folder(path: Path, *, marker: str, overwrite: bool | None = None) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends without an error.

    `marker` is the file that every folder of this kind holds: `overwrite` replaces such a
    folder and nothing else, so that a slip of the finger never deletes somebody's home. `None`
    is for callers that never replace one.

    Raises:
        ArgumentError: `path` exists, is not an empty folder, and may not be replaced.
    """
    _check_replaceable(path, marker, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(path: Path, marker: str, overwrite: bool | None) -> None:
    if not path.exists():
        return
    if not path.is_dir() or path.is_symlink():
        raise ArgumentError(f"{path} exists already and is not a folder: choose another place")
    if not any(path.iterdir()):
        return
    if not (path / marker).is_file():
        raise ArgumentError(f"{path} is a folder with other things in it: choose another place")
    if not overwrite:
        hint = "" if overwrite is None else " or pass --overwrite (overwrite=True)"
        raise ArgumentError(f"{path} exists already: choose another place{hint}")


def sha256_file(path: Path) -> str:
    """Give the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_json(value: object) -> str:
    """Give the sha256 of a value's canonical JSON: sorted keys, no spaces."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
