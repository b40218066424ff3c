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
from reidkit.checkpoints._tensors import shown_key
from reidkit.checkpoints._values import Archive, Storage, element_size
from reidkit.errors import CheckpointError

MAGIC = b"PK\x03\x04"

_LOCAL_HEADER = struct.Struct("<4s22sHH")

_DAMAGE = (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, struct.error)
"""What a damaged list of records makes `zipfile` raise."""


def read_zip(data: bytes) -> Archive:
    """Take a zip checkpoint apart; its storages are views on `data`.

    Raises:
        CheckpointError: truncated, damaged, or another kind of zip archive.
        UnsafeCheckpointError: it would run code.
    """
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            listed = archive.infolist()
    except _DAMAGE as error:
        raise CheckpointError(
            f"is a truncated or damaged zip checkpoint: its {len(data)} bytes do not end in the "
            f"list of what it holds ({error}); get the file again"
        ) from error
    records = _by_name(listed)
    root = _root(list(records))
    content, storages = interpret(BytesIO(_view(data, records[f"{root}data.pkl"])))
    found = {k: _storage(data, records, f"{root}data/{k}", item) for k, item in storages.items()}
    order = records.get(f"{root}byteorder")
    big_endian = order is not None and _is_big_endian(_view(data, order))
    return Archive("torch zip", content, found, big_endian=big_endian)


def _by_name(listed: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Give the records by name; refuse a list that says one thing twice.

    Records that overlap would be work without end: a thousand on the same bytes, all checked.
    """
    records = {record.filename: record for record in listed}
    if len(records) != len(listed):
        raise CheckpointError("is a damaged zip checkpoint: it holds two records of one name")
    end = 0
    for record in sorted(listed, key=lambda record: record.header_offset):
        if record.header_offset < end:
            raise CheckpointError(
                f"is a damaged zip checkpoint: its record {shown_key(record.filename)} overlaps "
                "another; get the file again"
            )
        end = record.header_offset + _LOCAL_HEADER.size + record.compress_size
    return records


def _is_big_endian(order: memoryview) -> bool:
    text = bytes(order[:20])
    if text not in (b"little", b"big"):
        raise CheckpointError(f"has the unknown byte order {text!r}")
    return text == b"big"


def _root(names: list[str]) -> str:
    """Find the folder of the archive that `data.pkl` is in, or say what the archive is."""
    held = set(names)
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if any(f"{root}constants.pkl" in held for root in roots):
        raise CheckpointError(
            "is a TorchScript archive, a program with its weights built in: export it from the "
            "original checkpoint (.pth) that it was made of"
        )
    if len(roots) > 1:
        raise CheckpointError(
            f"is a zip archive with {len(roots)} checkpoints in it ({_shown(roots)}): unpack it, "
            "and pack each alone without compression"
        )
    if roots:
        return roots[0]
    if names and all(name.endswith(".npy") for name in names):
        raise CheckpointError(
            "is a numpy .npz file, not a checkpoint: vectors made by other tools are read by "
            "reidkit embeddings import; weights must come as .pth or .safetensors"
        )
    raise CheckpointError(
        f"is a zip archive without a data.pkl, so not a torch checkpoint; it holds "
        f"{len(names)} files ({_shown(names)}): if the "
        "checkpoint is one of them, unpack it first"
    )


def _shown(names: list[str]) -> str:
    return ", ".join(shown_key(name) for name in names[:3])


def _view(data: bytes, record: zipfile.ZipInfo) -> memoryview:
    name, offset, size = shown_key(record.filename), record.header_offset, record.file_size
    if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
        raise CheckpointError(
            f"is a checkpoint that a zip program packed again (its record {name} is compressed): "
            "get the file as torch saved it"
        )
    magic, start = b"", offset + _LOCAL_HEADER.size
    if offset >= 0 and start <= len(data):
        magic, _, name_length, extra = _LOCAL_HEADER.unpack_from(data, offset)
        start += name_length + extra
    if magic != MAGIC or start + size > len(data) or size != record.compress_size:
        raise CheckpointError(
            f"is a truncated or damaged zip checkpoint: its record {name} should end at byte "
            f"{start + size} of {len(data)}; get the file again"
        )
    view = memoryview(data)[start : start + size]
    if record.CRC and zlib.crc32(view) != record.CRC:  # torch can be told to write 0
        raise CheckpointError(
            f"is damaged: the checksum of its record {name} is wrong; get the file again"
        )
    return view


def _storage(
    data: bytes, records: dict[str, zipfile.ZipInfo], name: str, storage: Storage
) -> memoryview:
    size = storage.stored * element_size(storage.element)
    if name not in records:
        raise CheckpointError(f"is damaged: its record {shown_key(name)} is missing")
    view = _view(data, records[name])
    if len(view) < size:
        raise CheckpointError(
            f"is damaged: its record {shown_key(name)} has {len(view)} bytes, its "
            f"pickle says {size}; get the file again"
        )
    return view[:size]
