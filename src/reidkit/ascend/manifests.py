"""What `reidkit ascend preprocess` made, written last, so that later steps can check it.

A folder may hold several manifests, because the guide moves one folder's files into another's:
each is a plain file named after its content. One that is missing for a file means that the file
is another tool's, or that the run that made it did not end well.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from reidkit import disk
from reidkit.errors import FormatError, IntegrityError, MismatchError, name_some

FORMAT = 1
"""The number of the manifest format that this version writes and reads."""

_NAME = re.compile(r"manifest-[0-9a-f]{12}\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class BinKind:
    """What all prepared files of one folder have in common.

    `contract_sha256` is the hash of the contract's part that makes the pictures, `dtype` is
    `float32` or `uint8`, `shape` that of one picture.
    """

    contract_sha256: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PreparedFile:
    """One prepared file: its size in bytes, its sha256, and the name of its picture's file."""

    size: int
    sha256: str
    source: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The prepared files of a folder.

    Fields:
        kind: what they have in common.
        files: file name -> what it holds.
        junk: pictures of person id -1 that were left out on demand.
        skipped: other files and folders that were not taken for pictures.
    """

    kind: BinKind
    files: Mapping[str, PreparedFile]
    junk: int = 0
    skipped: int = 0

    @property
    def total_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size for file in self.files.values())


def write_manifest(folder: str | Path, manifest: Manifest) -> Path:
    """Write a manifest beside the files it lists and give its path."""
    fields = {"format": FORMAT, **dataclasses.asdict(manifest)}
    sha256 = disk.sha256_json(fields)
    path = Path(folder) / f"manifest-{sha256[:12]}.json"
    disk.write_json(path, fields | {"manifest_sha256": sha256})
    return path


def read_manifests(folder: str | Path) -> Manifest | None:
    """Read all manifests in a folder as one; None where there is none.

    Raises:
        MismatchError: they are of different contracts or dtypes.
        IntegrityError: one is damaged, or two disagree about a file.
        FormatError: one is of a format that this version does not read.
    """
    manifests = _read_all(Path(folder))
    if not manifests:
        return None
    (first_path, first), *others = manifests.items()
    files = dict(first.files)
    for path, other in others:
        _check_kind(folder, first.kind, other.kind)
        for name, file in other.files.items():
            if files.setdefault(name, file) != file:
                raise IntegrityError(
                    f"{first_path} and {path} disagree about {name}: one of two files of that name "
                    "was lost; prepare all pictures again into a new folder"
                )
    junk = sum(manifest.junk for manifest in manifests.values())
    skipped = sum(manifest.skipped for manifest in manifests.values())
    return Manifest(first.kind, files, junk, skipped)


def check_files(folder: str | Path, manifest: Manifest) -> tuple[str, ...]:
    """Check that a folder holds every file of its manifest, by name and size.

    The bytes are not read: see `verify_bytes`.

    Returns:
        The sorted names of files that no manifest lists; dot files and manifests are not named.

    Raises:
        IntegrityError: naming the files that are missing or of another size.
    """
    sizes = {
        entry.name: entry.stat().st_size
        for entry in os.scandir(folder)
        if not (entry.name.startswith(".") or is_manifest(entry.name)) and entry.is_file()
    }
    missing = [name for name in manifest.files if name not in sizes]
    wrong = [
        f"{name} ({sizes[name]} bytes instead of {file.size})"
        for name, file in manifest.files.items()
        if name in sizes and sizes[name] != file.size
    ]
    problems = [
        f"{len(names)} files {what}: {name_some(names)}"
        for what, names in (("are missing", missing), ("have a wrong size", wrong))
        if names
    ]
    if problems:
        raise IntegrityError(f"{folder}: {'; '.join(problems)}; prepare these pictures again")
    return tuple(sorted(sizes.keys() - manifest.files.keys()))


def verify_bytes(manifest: Manifest, name: str, data: bytes | memoryview) -> None:
    """Check the bytes of a prepared file against its hash; a file that is not listed passes.

    Raises:
        IntegrityError: they are not the bytes that were written.
    """
    file = manifest.files.get(name)
    if file is not None and hashlib.sha256(data).hexdigest() != file.sha256:
        raise IntegrityError(
            f"{name} was changed after it was prepared: its sha256 is not that of its manifest; "
            f"prepare {file.source} again"
        )


def make_way(folder: str | Path, names: Collection[str], kind: BinKind) -> None:
    """Take files that are about to be written off the manifests in a folder.

    The manifests keep their other files.

    Raises:
        MismatchError: files of another kind would stay in the folder; nothing was changed.
        IntegrityError, FormatError: as `read_manifests`.
    """
    kept: list[tuple[Path, Manifest]] = []
    for path, manifest in _read_all(Path(folder)).items():
        files = {name: file for name, file in manifest.files.items() if name not in names}
        if files:
            _check_kind(folder, manifest.kind, kind)
        if len(files) < len(manifest.files):
            kept.append((path, dataclasses.replace(manifest, files=files)))
    for path, manifest in kept:
        if manifest.files:
            write_manifest(folder, manifest)
        path.unlink()


def is_manifest(name: str) -> bool:
    """Tell whether a file has a manifest's name."""
    return _NAME.fullmatch(name) is not None


def _read_all(folder: Path) -> dict[Path, Manifest]:
    paths = sorted(path for path in folder.iterdir() if is_manifest(path.name))
    return {path: _read(path) for path in paths}


def _read(path: Path) -> Manifest:
    try:
        fields = disk.read_json(path)
        number, recorded = fields["format"], fields.pop("manifest_sha256", None)
        found = disk.sha256_json(fields)
    except (ValueError, KeyError) as error:
        raise IntegrityError(
            f"{path} is damaged: delete it and prepare the pictures again"
        ) from error
    if number != FORMAT:
        raise FormatError(
            f"{path} has manifest format {number}, this reidkit reads format {FORMAT}: read it "
            "with the reidkit that wrote it, or prepare the pictures again"
        )
    if recorded != found:
        raise IntegrityError(
            f"{path} was changed after it was written: delete it and prepare the pictures again"
        )
    try:
        kind = fields["kind"]
        return Manifest(
            BinKind(**kind | {"shape": tuple(kind["shape"])}),
            {name: PreparedFile(**file) for name, file in fields["files"].items()},
            fields["junk"],
            fields["skipped"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{path} is damaged: delete it and prepare the pictures again"
        ) from error


def _check_kind(folder: str | Path, first: BinKind, other: BinKind) -> None:
    if first != other:
        raise MismatchError(
            f"{folder} would mix prepared pictures of two kinds, {_describe(first)} and "
            f"{_describe(other)}: prepare each kind into a folder of its own"
        )


def _describe(kind: BinKind) -> str:
    shape = "x".join(map(str, kind.shape))
    return f"{kind.dtype} {shape} (contract {kind.contract_sha256[:12]})"
