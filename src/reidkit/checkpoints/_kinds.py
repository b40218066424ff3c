"""What a file really is that somebody took for a checkpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path

from reidkit.errors import CheckpointError

_SIGNATURES = {
    b"\x93NUMPY": "a numpy .npy file: weights must come as .pth or .safetensors",
    b"\x89HDF\r\n": "an HDF5 file (Keras or MATLAB): save the network with torch",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
    b"Rar!": "a rar archive: unpack it first",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG": "a PNG picture",
    b"%PDF": "a PDF document",
}


def read_file(path: Path) -> bytes:
    """Read a checkpoint's bytes; say clearly why there are none."""
    if path.is_dir():
        raise CheckpointError("is a folder: name the checkpoint file in it")
    if not path.exists():
        raise CheckpointError("does not exist: check the path")
    if not path.is_file():
        raise CheckpointError("is not a regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from error
    if not data:
        raise CheckpointError("is empty (0 bytes): the download or copy failed; get it again")
    return data


def refuse_known_kinds(data: bytes) -> None:
    """Refuse what its first bytes show to be something else than a checkpoint."""
    head = data[:65536].lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"<(!doctype|html|head|\?xml|!--)", head, re.IGNORECASE):
        raise CheckpointError(_describe_page(head))
    if data.startswith(b"version https://git-lfs"):
        size = re.search(rb"^size (\d{1,20})$", data[:1000], re.MULTILINE)
        stands = f" of {size[1].decode()} bytes" if size else ""
        raise CheckpointError(
            f"is a Git LFS pointer, which stands for a file{stands} that was not fetched: run "
            "git lfs pull where it comes from"
        )
    if data[257:262] == b"ustar":
        raise CheckpointError(
            "is a tar archive, perhaps a checkpoint of torch before 0.1.10: unpack it, or load "
            "it with torch and save its state dict again"
        )
    if re.match(rb"\x08[\x01-\x20][\x12\x1a\x22\x2a\x32\x3a\x42]", data):
        raise CheckpointError("is an ONNX model, not a checkpoint: use reidkit package for it")
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            raise CheckpointError(f"is {kind}")
    if head[:1] in (b"{", b"["):
        _refuse_json(data)


def describe_unknown(data: bytes) -> str:
    """Say what a file looks like that nothing here can read."""
    try:
        text = data[:4096].decode("utf-8", errors="strict" if len(data) <= 4096 else "ignore")
    except UnicodeDecodeError:
        text = ""
    if text and all(letter.isprintable() or letter in "\r\n\t" for letter in text):
        kind = "a YAML file" if re.search(r"^[\w.-]+:(\s|$)", text, re.MULTILINE) else "a text file"
        return f"is {kind}, not a checkpoint; it starts with {text[:40]!a}"
    return (
        f"is not a checkpoint of any known kind (torch zip, torch legacy, safetensors): its "
        f"{len(data)} bytes start with {data[:8].hex(' ')}"
    )


def _describe_page(head: bytes) -> str:
    found = re.search(rb"<title[^>]*>([^<]{1,300})", head, re.IGNORECASE)
    title = " ".join(found[1].decode("utf-8", errors="replace").split()) if found else ""
    named = f" with the title {title[:100]!r}" if title else ""
    return (
        f"is an HTML page{named}, not a checkpoint: the download failed (a quota, a login or a "
        "confirmation page); download the file again in a browser"
    )


def _refuse_json(data: bytes) -> None:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return
    raise CheckpointError("is a JSON file, not a checkpoint: name the file with the weights")
