"""The `.om` file that reidkit's own `atc` writes: a compiled package in one file.

It is a zip without compression: first `om.json`, which says what was asked for and what the
original graph takes and gives, then the files of the package. It never starts with the magic of
a file of the real compiler, so neither is taken for the other. The same package and header give
the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import reidkit
from reidkit import disk
from reidkit.ascend._aipp import Aipp
from reidkit.errors import AscendError, EngineError, FormatError, IntegrityError
from reidkit.package import MANIFEST, Package, read_package
from reidkit.runtimes.sessions import Array, Run, Session, TensorSpec, check_arrays

FORMAT = 1
"""The number of the file's format."""

HEADER = "om.json"
_MAGIC = b"PK\x03\x04"
_NAME_AT = 30
"""Where the name of a zip's first member starts."""

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class OmHeader:
    """What `om.json` says.

    Fields:
        inputs, outputs: names, types and shapes as the original graph has them and the options
            changed them; -1 is a free batch size.
        options: what the compiler was asked, by option name.
        source: name of the .onnx file; `source_sha256` its hash.
        gears: the only batch sizes it takes, where there are several; otherwise empty.
        aipp: how pixels become the network's input, where the file takes pixels.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    options: Mapping[str, str]
    source: str
    source_sha256: str
    gears: tuple[int, ...] = ()
    aipp: Aipp | None = None
    made_by: Mapping[str, str] = field(default_factory=lambda: {"reidkit": reidkit.__version__})


def write_om(path: str | Path, package: Package, header: OmHeader) -> None:
    """Write a compiled package and a header into one file, whole or not at all."""
    path = Path(path)
    spec = package.spec
    fields = {
        "format": FORMAT,
        **_header_as_json(header),
        "runtime": spec.engine.runtime,
        "precision": spec.engine.precision,
        "device": spec.engine.device or "cpu",
        "package_sha256": disk.sha256_file(package.folder / MANIFEST),
    }
    text = json.dumps(fields | {"om_sha256": disk.sha256_json(fields)}, indent=2) + "\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                archive.writestr(_member(HEADER), text)
                for member in sorted(package.folder.iterdir()):
                    _store(archive, member)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def is_substitute(path: str | Path) -> bool:
    """Tell whether a file is one that `write_om` wrote, damaged further on or not.

    False for whatever else, also for what cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(_NAME_AT + len(HEADER))
    except OSError:
        return False
    if not start.startswith(_MAGIC) or len(start) < _NAME_AT + len(HEADER):
        return False
    (length,) = struct.unpack_from("<H", start, 26)
    return length == len(HEADER) and start.endswith(HEADER.encode())


def read_header(path: str | Path) -> OmHeader:
    """Read what a substitute `.om` file says of itself.

    Raises:
        AscendError: the file cannot be read, or is not such a file.
        FormatError: it was written in another format number.
        IntegrityError: it is damaged, or was changed after it was made.
    """
    with _open_archive(Path(path)) as archive:
        return _parse_header(Path(path), _read_fields(Path(path), archive))


def read_record(path: str | Path) -> dict[str, Any]:
    """Give the checked object of `om.json`, the engine's precision and device included."""
    with _open_archive(Path(path)) as archive:
        return _read_fields(Path(path), archive)


def open_substitute(path: str | Path, *, device: int = 0, threads: int | None = None) -> OmSession:
    """Open a substitute `.om` file as a `Session` with the names of the original graph.

    Its package is unpacked into a temporary folder, which is deleted when the session is closed.

    Raises:
        AscendError, FormatError, IntegrityError: as `read_header`.
        PackageError: the package in it is not whole.
        DeviceError, EngineError: no engine here runs it.
    """
    from reidkit.ascend._models import open_package

    folder = tempfile.TemporaryDirectory(prefix="reidkit-om-", ignore_cleanup_errors=True)
    try:
        header, package = _unpack(Path(path), Path(folder.name))
        inner = open_package(package, device=device, threads=threads)
        return OmSession(inner, header, folder)
    except BaseException:
        folder.cleanup()
        raise


class OmSession:
    """A `Session` over a substitute `.om` file; AIPP and changes of type count as computing."""

    def __init__(
        self, inner: Session, header: OmHeader, folder: tempfile.TemporaryDirectory[str]
    ) -> None:
        self._inner = inner
        self._aipp = header.aipp
        self._folder = folder
        self.inputs = header.inputs
        self.outputs = header.outputs
        self.device = inner.device
        self.batch_gears = header.gears

    def run(self, arrays: Sequence[Array]) -> Run:
        """Run the network once; the batch size must be one of the gears where there are some."""
        check_arrays(arrays, self.inputs)
        (array,) = arrays
        if self.batch_gears and len(array) not in self.batch_gears:
            gears = ", ".join(map(str, self.batch_gears))
            raise EngineError(
                f"a batch of {len(array)} was asked for, this model was compiled for batches of "
                f"{gears} (--dynamic_batch_size)"
            )
        started = time.perf_counter()
        if self._aipp is not None:
            array = self._aipp.apply(array)
        run = self._inner.run([array.astype(np.float32, copy=False)])
        (output,) = self.outputs
        vectors = run.outputs[0].reshape(len(array), *output.shape[1:])
        vectors = vectors.astype(output.dtype, copy=False)
        return Run((vectors,), computed=1000 * (time.perf_counter() - started))

    def close(self) -> None:
        """Give the engine's memory back and delete the unpacked files."""
        self._inner.close()
        self._folder.cleanup()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = 3  # Unix, wherever it is made: the same bytes on every system
    info.external_attr = 0o644 << 16
    return info


def _store(archive: zipfile.ZipFile, file: Path) -> None:
    info = _member(file.name)
    info.file_size = file.stat().st_size  # so that zipfile knows before whether it is a large one
    with file.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, 2**20)


@contextmanager
def _open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise AscendError(f"load model from file failed, model file is {path}: no such file")
    if not is_substitute(path):
        raise AscendError(f"{path} is not an .om file of reidkit ascend atc")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            yield archive
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, RuntimeError) as error:
        raise IntegrityError(f"{path} is damaged or cut off ({error}): {_AGAIN}") from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse what `write_om` never writes; a member without compression is no larger than it is."""
    names = [info.filename for info in archive.infolist()]
    for info in archive.infolist():
        name = info.filename
        plain = name == Path(name).name and "\\" not in name and name not in ("", ".", "..")
        if not plain or info.compress_type != zipfile.ZIP_STORED or names.count(name) > 1:
            raise IntegrityError(f"{path} holds {name!a}, which reidkit never writes: {_AGAIN}")
    if HEADER not in names:
        raise IntegrityError(f"{path} has lost its {HEADER}: {_AGAIN}")


def _read_fields(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        fields = json.loads(archive.read(HEADER))
        number, recorded = fields["format"], fields.pop("om_sha256", None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"the {HEADER} of {path} is damaged ({error!r}): {_AGAIN}") from error
    if number != FORMAT:
        raise FormatError(
            f"{path} has .om format {number}, this reidkit reads format {FORMAT}: run it with the "
            "reidkit that wrote it, or make it again with reidkit ascend atc"
        )
    if recorded != disk.sha256_json(fields):
        raise IntegrityError(f"the {HEADER} of {path} was changed after it was made: {_AGAIN}")
    checked: dict[str, Any] = fields
    return checked


def _unpack(path: Path, folder: Path) -> tuple[OmHeader, Package]:
    with _open_archive(path) as archive:
        fields = _read_fields(path, archive)
        for info in archive.infolist():
            if info.filename != HEADER:
                with archive.open(info) as source, (folder / info.filename).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
    manifest = folder / MANIFEST
    if not manifest.is_file() or disk.sha256_file(manifest) != fields["package_sha256"]:
        raise IntegrityError(f"the package in {path} was changed after it was made: {_AGAIN}")
    return _parse_header(path, fields), read_package(folder)


def _header_as_json(header: OmHeader) -> dict[str, Any]:
    return {
        "inputs": [_tensor_as_json(tensor) for tensor in header.inputs],
        "outputs": [_tensor_as_json(tensor) for tensor in header.outputs],
        "options": dict(header.options),
        "source": header.source,
        "source_sha256": header.source_sha256,
        "gears": list(header.gears),
        "aipp": None if header.aipp is None else dataclasses.asdict(header.aipp),
        "made_by": dict(header.made_by),
    }


def _parse_header(path: Path, fields: Mapping[str, Any]) -> OmHeader:
    names = [field.name for field in dataclasses.fields(OmHeader)]
    try:
        values = {name: fields[name] for name in names}
        for name in ("inputs", "outputs"):
            values[name] = tuple(_parse_tensor(tensor) for tensor in values[name])
        values["gears"] = tuple(values["gears"])
        if values["aipp"] is not None:
            triples = {name: tuple(values["aipp"][name]) for name in ("mean", "minimum", "factor")}
            values["aipp"] = Aipp(**(values["aipp"] | triples))
        return OmHeader(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"the {HEADER} of {path} is damaged ({error!r}): {_AGAIN}") from error


def _tensor_as_json(tensor: TensorSpec) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.name, "shape": list(tensor.shape)}


def _parse_tensor(fields: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(fields["name"], np.dtype(fields["dtype"]), tuple(fields["shape"]))


_AGAIN = "make it again with reidkit ascend atc"
