"""Folders and files named by an address: on this machine, or in an object store.

An address is a path, or a URI of a file system that pyarrow knows (`s3://`, `gs://`, `hdfs://`,
`file://`) or fsspec does. What such a URI says after `?` are options for pyarrow, such as
`s3://bucket/crops?endpoint_override=host:9000&scheme=http`; they are handed on and never shown.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from reidkit import disk
from reidkit.distributed._arrow import arrow, arrow_files
from reidkit.errors import ArgumentError, ImageError, StoreError

WHOLE_UPLOADS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Stores where a file appears only once all of it has arrived."""


@dataclass(frozen=True, slots=True, repr=False)
class Place:
    """A file or folder below an address; its file system is opened where it is used.

    Fields:
        address: as it was given, with options; it may hold secrets and is never shown.
        below: the path from there, with `/` between its parts; empty for the address itself.
    """

    address: str
    below: str = ""

    def __truediv__(self, name: str) -> Place:
        return Place(self.address, f"{self.below}/{name}" if self.below else name)

    def __repr__(self) -> str:
        return f"Place({str(self)!r})"

    def __str__(self) -> str:
        """Name it for people and records: without options, user or password."""
        shown = show_address(self.address)
        return f"{shown.rstrip('/')}/{self.below}" if self.below else shown

    @property
    def suffix(self) -> str:
        """The end of its name from the last dot on, in small letters."""
        path = urlsplit(self.address).path if is_uri(self.address) else self.address
        return PurePosixPath(self.below or path).suffix.lower()

    @property
    def local(self) -> Path | None:
        """Its path on this machine; `None` where it is somewhere else."""
        if not is_uri(self.address):
            return Path(self.address) / self.below
        found = urlsplit(self.address)
        return Path(unquote(found.path)) / self.below if found.scheme == "file" else None

    @property
    def identity(self) -> str:
        """What it and no other place is called, as far as names tell."""
        path = self.local
        return str(self) if path is None else os.path.realpath(path)

    def beside(self, name: str) -> Place:
        """Give the place that a file's `name` means which this file, a table, mentions.

        A relative one lies in this file's folder; a URI of the same store is opened with the
        options of this file's address.
        """
        if is_uri(name):
            mine, theirs = urlsplit(self.address), urlsplit(name)
            same = (mine.scheme, mine.netloc) == (theirs.scheme, theirs.netloc)
            return Place(urlunsplit(theirs._replace(query=mine.query)) if same else name)
        if name.startswith("/"):
            return Place(name)
        if self.below:
            return Place(self.address, str(PurePosixPath(self.below).parent / name))
        if not is_uri(self.address):
            return Place(str(Path(self.address).parent / name))
        mine = urlsplit(self.address)
        # The name stays as it is: in an address some letters would mean something else.
        return Place(urlunsplit(mine._replace(path=mine.path.rpartition("/")[0])), name)

    def read_bytes(self, *, largest: int | None = None) -> bytes:
        """Read a file whole.

        Raises:
            FileNotFoundError: there is none.
            ImageError: it is larger than `largest` bytes.
            StoreError: it cannot be read.
        """
        with self._speaking("read"), self._system.open_input_file(self._path) as file:
            if largest is not None and file.size() > largest:
                raise ImageError(str(self), f"{file.size()} bytes is too large for a picture")
            return bytes(file.readall())

    @contextmanager
    def open(self) -> Iterator[io.RawIOBase]:
        """Open a file to read here and there in it.

        Whatever the store raises while it is read is a `StoreError` too, so that another error of
        whoever reads it means that the file is damaged.

        Raises:
            FileNotFoundError: there is none.
            StoreError: it cannot be read.
        """
        with self._speaking("read"):
            file = self._system.open_input_file(self._path)
        with file:
            yield _Watched(self, file)

    def write_bytes(self, data: bytes) -> None:
        """Write a file, which appears whole or not at all, and may be there already.

        Raises:
            StoreError: it cannot be written.
        """
        with self._speaking("written"):
            if (path := self.local) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                disk.write_bytes(path, data)
                return
            if urlsplit(self.address).scheme in WHOLE_UPLOADS:
                self._upload(self._path, data)
                return
            folder, _, name = self._path.rpartition("/")
            temporary = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}.partial"
            self._system.create_dir(folder, recursive=True)
            self._upload(temporary, data)
            self._system.move(temporary, self._path)

    def delete(self) -> None:
        """Delete a file, if it is there."""
        with contextlib.suppress(FileNotFoundError), self._speaking("deleted"):
            self._system.delete_file(self._path)

    def stamp(self) -> str:
        """Give a text that changes when a file is written anew: its size and time."""
        info = self._look()
        return f"{info.size} {info.mtime_ns}"

    def exists(self) -> bool:
        """Tell whether there is a file or folder."""
        return bool(self._look().type != arrow_files().FileType.NotFound)

    def is_folder(self) -> bool:
        """Tell whether it is a folder, or in an object store a beginning that files share."""
        return bool(self._look().type == arrow_files().FileType.Directory)

    def list_files(self) -> list[Place]:
        """List the files below a folder, in sorted order; none where it does not exist.

        What begins with a dot, or is in a folder that does, is left out: it is not finished, or
        not meant to be seen.
        """
        if (path := self.local) is not None:
            return [self / name for name in _list_local(path)]
        files = arrow_files()
        chosen = files.FileSelector(self._path, allow_not_found=True, recursive=True)
        with self._speaking("listed"):
            found = self._system.get_file_info(chosen)
        start = len(self._path.rstrip("/")) + 1
        names = [info.path[start:] for info in found if info.type == files.FileType.File]
        return [self / name for name in _choose_shown(names)]

    @property
    def _system(self) -> Any:
        return _open_system(self.address)[0]

    @property
    def _path(self) -> str:
        base = _open_system(self.address)[1]
        return f"{base.rstrip('/')}/{self.below}" if self.below else base

    def _look(self) -> Any:
        with self._speaking("looked at"):
            return self._system.get_file_info(self._path)

    def _upload(self, path: str, data: bytes) -> None:
        with self._system.open_output_stream(path) as file:
            file.write(data)

    @contextmanager
    def _speaking(self, verb: str) -> Iterator[None]:
        """Turn what a file system raises into an error that names the place."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, arrow().ArrowException) as error:
            raise StoreError(f"{self} cannot be {verb}: {error}") from error


def is_uri(text: str) -> bool:
    """Tell whether an address is a URI, and not a path."""
    return "://" in text


def find_place(text: str | Path) -> Place:
    """Give the place that an address means; nothing is opened yet.

    Paths are made absolute, so that they mean the same to every process.
    """
    text = str(text)
    return Place(text if is_uri(text) else str(Path(text).absolute()))


def show_address(text: str) -> str:
    """Give an address without options, user and password."""
    if not is_uri(text):
        return text
    scheme, _, rest = text.partition("://")
    rest = rest.partition("?")[0]
    user, _, place = rest.rpartition("@")
    # A password may hold a slash, and so may a path hold an @.
    secret = ":" in user or "/" not in user
    return f"{scheme}://{place if secret else rest}"


class _Watched(io.RawIOBase):
    """An open file whose store's failures are errors of reidkit's."""

    def __init__(self, place: Place, file: Any) -> None:
        super().__init__()
        self._place, self._file = place, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._place._speaking("read"):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with self._place._speaking("read"):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def _list_local(folder: Path) -> list[str]:
    """List the files below a folder of this machine as `find_images` walks it."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return _choose_shown([path.relative_to(folder).as_posix() for path in found])


def _choose_shown(names: Sequence[str]) -> list[str]:
    """Sort names, and leave out what begins with a dot or is in a folder that does."""
    parts = sorted(name.split("/") for name in names)
    return ["/".join(part) for part in parts if not any(each.startswith(".") for each in part)]


@functools.lru_cache(maxsize=16)
def _open_system(address: str) -> tuple[Any, str]:
    """Open the file system of an address, and give the path that it has there."""
    files = arrow_files()
    try:
        if not is_uri(address):
            return files.LocalFileSystem(), address
        return _open_uri(address)
    except (OSError, ValueError, ImportError, arrow().ArrowException) as error:
        shown = show_address(address)
        # Libraries quote the address, with all that is secret in it.
        reason = str(error) if shown == address else type(error).__name__
        raise ArgumentError(f"{shown} is not an address that can be opened: {reason}") from None


def _open_uri(address: str) -> tuple[Any, str]:
    files = arrow_files()
    try:
        system, path = files.FileSystem.from_uri(address)
    except arrow().ArrowInvalid as refused:
        if "Unrecognized filesystem type" not in str(refused):
            raise
        import fsspec

        opened, path = fsspec.core.url_to_fs(address)
        return files.PyFileSystem(files.FSSpecHandler(opened)), path
    return system, path
