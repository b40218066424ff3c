"""From a file to its tensors, or to the reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from reidkit.checkpoints import _kinds, _legacy, _safetensors, _structure, _tensors, _zip
from reidkit.checkpoints._values import Archive
from reidkit.errors import CheckpointError, UnsafeCheckpointError


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The tensors of a checkpoint file and what kind of file it was.

    Fields:
        tensors: arrays by key in file order, read-only; prefixes `module.` taken away,
            bfloat16 as float32, every other type as saved. Keys have printable characters only.
        container: `torch zip`, `torch legacy` or `safetensors`.
        form: what it held, such as `state dict`, `state dict under 'model'` or `pickled module
            of class modeling.baseline.Baseline`.
        sha256: of the file.
    """

    tensors: Mapping[str, NDArray[Any]]
    container: str
    form: str
    sha256: str


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint (.pth, .pt, .bin, .safetensors) without torch and without running it.

    Raises:
        CheckpointError: not a checkpoint, or not one of a network, or truncated or damaged.
        UnsafeCheckpointError: it would run code when loaded in the usual way; it did not.
    """
    path = Path(path)
    try:
        return _read(_kinds.read_file(path))
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path} {error}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from error


def _read(data: bytes) -> Checkpoint:
    sha256 = hashlib.sha256(data).hexdigest()
    if _safetensors.looks_like_safetensors(data):
        arrays = _safetensors.read_safetensors(data)
        if not arrays:
            raise CheckpointError("holds no tensors: it is not a trained network")
        _refuse_unprintable(arrays)
        return Checkpoint(_structure.strip_module(arrays), "safetensors", "state dict", sha256)
    archive = _open(data)
    form, tensors = _structure.find_tensors(archive.content)
    _refuse_unprintable(tensors)
    tensors = _structure.strip_module(tensors)
    arrays = _tensors.build_arrays(tensors, archive, len(data))
    return Checkpoint(arrays, archive.container, form, sha256)


def _refuse_unprintable(keys: Iterable[str]) -> None:
    """Refuse keys that would act on the terminal they are shown on; no network has such."""
    for key in keys:
        if not key.isprintable():
            raise CheckpointError(
                f"holds a tensor under a key with control characters, {_tensors.shown_key(key)}: "
                "it is not a network's state dict"
            )


def _open(data: bytes) -> Archive:
    if data.startswith(_zip.MAGIC):
        return _zip.read_zip(data)
    _kinds.refuse_known_kinds(data)
    try:
        return _legacy.read_pickles(data)
    except UnsafeCheckpointError:
        raise
    except CheckpointError as error:
        if data.startswith((b"\x80", _legacy.TEXT_START)):
            raise
        raise CheckpointError(_kinds.describe_unknown(data)) from error
