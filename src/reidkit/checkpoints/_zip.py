"""The zip format that torch writes since version 1.6.

A zip archive of uncompressed records: `NAME/data.pkl` describes the content, `NAME/data/KEY`
holds each storage, `NAME/byteorder` says `little` or `big` (little where it is missing).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO

from reidkit.checkpoints._machine import interpret
from reidkit.checkpoints._values import Archive, Storage, element_size
from reidkit.errors import CheckpointError

MAGIC = b"PK\x03\x04"

_LOCAL_HEADER = struct.Struct("<4s22sHH")


def read_zip(data: bytes) -> Archive:
    """Take a zip checkpoint apart; its storages are views on `data`.

    Raises:
        CheckpointError: truncated, damaged, or another kind of zip archive.
        UnsafeCheckpointError: it would run code.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            records = {record.filename: record for record in archive.infolist()}
            ambiguous = len(records) != len(archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
        raise CheckpointError(
            f"is a truncated or damaged zip checkpoint: its {len(data)} bytes do not end in the "
            f"list of what it holds ({error}); get the file again"
        ) from error
    if ambiguous:
        raise CheckpointError("is a damaged zip checkpoint: it holds two records of one name")
    root = _root(list(records))
    views = {name: _view(data, record) for name, record in records.items() if name.startswith(root)}
    content, storages = interpret(BytesIO(views[f"{root}data.pkl"]))
    order = bytes(views.get(f"{root}byteorder", b"little"))
    if order not in (b"little", b"big"):
        raise CheckpointError(f"has the unknown byte order {order[:20]!r}")
    found = {key: _storage(views, f"{root}data/{key}", item) for key, item in storages.items()}
    return Archive("torch zip", content, found, big_endian=order == b"big")


def _root(names: list[str]) -> str:
    """Find the folder of the archive that `data.pkl` is in, or say what the archive is."""
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    root = min(roots, key=len, default=None)
    if root is not None and f"{root}constants.pkl" in names:
        raise CheckpointError(
            "is a TorchScript archive, a program with its weights built in: export it from the "
            "original checkpoint (.pth) that it was made of"
        )
    if root is not None:
        return root
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(
            "is a numpy .npz file, not a checkpoint: vectors made by other tools are read by "
            "reidkit embeddings import; weights must come as .pth or .safetensors"
        )
    raise CheckpointError(
        f"is a zip archive without a data.pkl, so not a torch checkpoint; it holds "
        f"{len(names)} files ({', '.join(ascii(name)[:60] for name in names[:3])}): if the "
        "checkpoint is one of them, unpack it first"
    )


def _view(data: bytes, record: zipfile.ZipInfo) -> memoryview:
    if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
        raise CheckpointError(
            f"is a checkpoint that a zip program packed again (its record "
            f"{ascii(record.filename)[:80]} is compressed): get the file as torch saved it"
        )
    try:
        magic, _, name, extra = _LOCAL_HEADER.unpack_from(data, record.header_offset)
    except struct.error:
        magic, name, extra = b"", 0, 0
    start = record.header_offset + _LOCAL_HEADER.size + name + extra
    if magic != MAGIC or start + record.file_size > len(data):
        raise CheckpointError(
            f"is a truncated or damaged zip checkpoint: its record {ascii(record.filename)[:80]} "
            f"should end at byte {start + record.file_size} of {len(data)}; get the file again"
        )
    view = memoryview(data)[start : start + record.file_size]
    if record.CRC and zlib.crc32(view) != record.CRC:  # torch can be told to write 0
        raise CheckpointError(
            f"is damaged: the checksum of its record {ascii(record.filename)[:80]} is wrong; get "
            "the file again"
        )
    return view


def _storage(views: dict[str, memoryview], name: str, storage: Storage) -> memoryview:
    size = storage.stored * element_size(storage.element)
    if name not in views:
        raise CheckpointError(f"is damaged: its record {ascii(name)[:80]} is missing")
    if len(views[name]) < size:
        raise CheckpointError(
            f"is damaged: its record {ascii(name)[:80]} has {len(views[name])} bytes, its pickle "
            f"says {size}; get the file again"
        )
    return views[name][:size]
