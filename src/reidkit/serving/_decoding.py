"""Pictures that anybody may have sent: what they are by their first bytes, then their pixels.

Only four formats are taken, each by its magic bytes, whatever its name or type say. The size in
the header is held against the limit before anything is decoded, and only pixels go on from here.
Files whose header may not mean the picture that a decoder finds, and those that are work without
end for one, are refused by a walk over their parts.
"""

from __future__ import annotations

import re
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from reidkit import preprocess
from reidkit.errors import ImageError
from reidkit.gallery import Picture, Refused, decode_picture
from reidkit.package import Inputs
from reidkit.serving._context import Service
from reidkit.serving._limits import Limits
from reidkit.serving._problems import RequestError
from reidkit.serving._uploads import File

_FRAME_STARTS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_FRAMES_TAKEN = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: what cameras write
_MOST_SEGMENTS = 1024
_MOST_SCANS = 100
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_SCAN, _END = 0xDA, 0xD9
# What ends the data of a scan: all but stuffed bytes, fill and restarts.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd7])", re.DOTALL)

_MOST_CHUNKS = 2**16

_KEPT, _WORKING = 3, 5
"""Bytes of a pixel of a decoded picture, and those more that decoding it takes meanwhile."""

_NO_PICTURE = "is no JPEG, PNG, WebP or BMP picture"


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pictures of a request.

    Fields:
        pictures: those that could be decoded.
        inputs: (n, ...) what the model is fed for them.
        places: their places in the request.
        refused: the others, and why.
    """

    pictures: list[Picture]
    inputs: Inputs
    places: list[int]
    refused: list[Refused]


@asynccontextmanager
async def hold_pictures(files: Sequence[File], service: Service) -> AsyncIterator[Decoded]:
    """Decode pictures, which count among those held until the block ends.

    Raises:
        RequestError: 413 together they hold more pixels than the service has room for.
        Overloaded: other requests hold too many now.
    """
    sizes = await service.run(_measure_files, files, service.limits)
    total = _count_held([size for size in sizes if isinstance(size, int)])
    if total > service.limits.decoded_bytes:
        raise RequestError(413, f"the pictures take {total} bytes when decoded: send fewer at once")
    with service.decoded.hold(total):
        with service.metrics.time("decode"):
            decoded = await service.run(_decode_files, files, sizes, service)
        yield decoded


def refuse_pictures(refused: Sequence[Refused]) -> RequestError:
    """Say that pictures cannot be used, each by its name."""
    detail = "; ".join(f"{one.name}: {one.reason}" for one in refused)
    entries = [{"name": one.name, "reason": one.reason} for one in refused]
    return RequestError(422, detail, kind="picture", more={"refused": entries})


def measure_picture(file: File, limits: Limits) -> int:
    """Give how many bytes a picture will take when decoded, by its header.

    Raises:
        ImageError: none of the formats taken, no readable header, or more pixels than allowed.
    """
    read_size = next(
        (read for start, read in _FORMATS.items() if file.data.startswith(start)), None
    )
    if read_size is None or (file.data.startswith(b"RIFF") and file.data[8:12] != b"WEBP"):
        raise ImageError(file.name, _NO_PICTURE)
    try:
        width, height = read_size(file.data)
    except (struct.error, IndexError) as error:
        raise ImageError(file.name, "the picture's header is cut short") from error
    except ValueError as error:
        raise ImageError(file.name, str(error)) from error
    if width < 1 or height < 1:
        raise ImageError(file.name, f"{width}x{height} pixels are none")
    if width * height > limits.picture_pixels:
        raise ImageError(
            file.name, f"{width}x{height} pixels, at most {limits.picture_pixels} are taken"
        )
    return width * height * _KEPT


def decode_file(file: File, size: int) -> Picture:
    """Decode a picture that was measured to take `size` bytes.

    Raises:
        ImageError: it cannot be decoded, or is another size than its header said.
    """
    picture = decode_picture(file.data, file.name)
    height, width = picture.pixels.shape[:2]
    if width * height * _KEPT != size:
        raise ImageError(file.name, "its size is not the one in its header")
    return picture


def _count_held(sizes: Sequence[int]) -> int:
    """Say how many bytes pictures take, of which one is being decoded while the rest are held."""
    return sum(sizes) + max(sizes, default=0) * _WORKING // _KEPT


def _measure_files(files: Sequence[File], limits: Limits) -> list[int | Refused]:
    sizes: list[int | Refused] = []
    for file in files:
        try:
            sizes.append(measure_picture(file, limits))
        except ImageError as error:
            sizes.append(Refused(file.name, error.reason))
    return sizes


def _decode_files(
    files: Sequence[File], sizes: Sequence[int | Refused], service: Service
) -> Decoded:
    pictures, places = [], []
    refused = [size for size in sizes if isinstance(size, Refused)]
    for place, (file, size) in enumerate(zip(files, sizes, strict=True)):
        if isinstance(size, Refused):
            continue
        try:
            pictures.append(decode_file(file, size))
            places.append(place)
        except ImageError as error:
            refused.append(Refused(file.name, error.reason))
    contract, takes = service.model.contract, service.model.runtime.takes
    inputs = preprocess.empty_batch(len(pictures), contract, takes)
    for picture, row in zip(pictures, inputs, strict=True):
        preprocess.prepare_into(row, picture.pixels, contract, takes=takes)
    return Decoded(pictures, inputs, places, refused)


def _read_png(data: bytes) -> tuple[int, int]:
    """Read the only header of a PNG file: decoders go by the last, so more are refused."""
    if data[12:16] != b"IHDR":
        raise IndexError("no IHDR")
    width, height = struct.unpack_from(">II", data, 16)
    (length,) = struct.unpack_from(">I", data, 8)
    place = 20 + length
    for _ in range(_MOST_CHUNKS):
        kind = data[place + 4 : place + 8]
        if len(kind) < 4 or kind == b"IEND":  # what is cut short is found by the decoder
            return width, height
        if kind == b"IHDR":
            raise ValueError("a PNG file with two headers")
        (length,) = struct.unpack_from(">I", data, place)
        place += 12 + length
    raise ValueError(f"a PNG file of more than {_MOST_CHUNKS} chunks")


def _read_bmp(data: bytes) -> tuple[int, int]:
    (length,) = struct.unpack_from("<I", data, 14)
    if length == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _read_jpeg(data: bytes) -> tuple[int, int]:
    """Walk a JPEG file's segments to the frame's header; stricter than decoders are."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        if data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker in _FRAME_STARTS:
            height, width = struct.unpack_from(">HH", data, place + 5)
            _check_frame(data, place)
            return width, height
        if marker == 0xFF:
            place += 1
        elif marker in _STANDALONE:
            place += 2
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
            place += 2 + max(2, length)
    raise IndexError("no frame's header")


def _check_frame(data: bytes, place: int) -> None:
    """Refuse the JPEG frame at `place` if it is rare, not the only one, or of too many scans.

    Each scan goes over the whole picture, however few bytes it has: 34 can cost milliseconds. The
    walk is libjpeg's own: what it would skip is skipped here.
    """
    if data[place + 1] not in _FRAMES_TAKEN:
        raise ValueError("a JPEG file that is lossless, hierarchical or coded arithmetically")
    scans = 0
    (length,) = struct.unpack_from(">H", data, place + 2)
    place += 2 + length
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(data, place)
        if found is None or found[1][0] == _END:  # what is cut short is found by the decoder
            return
        if found[1][0] in _FRAME_STARTS:
            raise ValueError("a JPEG file with two frames")
        scans += found[1][0] == _SCAN
        if scans > _MOST_SCANS:
            raise ValueError(f"a JPEG file of more than {_MOST_SCANS} scans")
        (length,) = struct.unpack_from(">H", data, found.end())
        place = found.end() + length
    raise ValueError(f"a JPEG file of more than {_MOST_SEGMENTS} segments")


def _read_webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return (width, height) if len(data) >= 30 else (0, 0)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise IndexError("no WebP picture")


_FORMATS = {
    b"\xff\xd8\xff": _read_jpeg,
    b"\x89PNG\r\n\x1a\n": _read_png,
    b"RIFF": _read_webp,
    b"BM": _read_bmp,
}
"""The formats that are taken: how a file of one starts, and what reads its size."""
