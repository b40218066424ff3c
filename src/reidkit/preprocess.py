"""From a picture file to the network's input, by the package's contract and nowhere else.

Semantics are Pillow's: grey, palette, alpha and CMYK pictures become RGB as `Image.convert`
makes them, the resize is `Image.resize` (antialiased), and the EXIF orientation is ignored, as
the field's reference code ignores it. Plain JPEG files are decoded by libjpeg-turbo directly,
which gives the same pixels in less time; everything else, and every file that this decoder does
not take without complaint, goes through Pillow.
"""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from reidkit.errors import ImageError
from reidkit.package import Inputs, InputSpec, Takes

MAXIMUM_PIXELS = 2**26
"""Pictures with more pixels are refused before they are decoded (decompression bombs)."""

MAXIMUM_BYTES = 2**28
"""Larger files are refused before they are read."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What Pillow may take a file for; others would start programs (EPS) or are no crops."""

_JPEG_START = b"\xff\xd8\xff"
_RESIZE = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}


def empty_batch(count: int, contract: InputSpec, takes: Takes = "tensor") -> Inputs:
    """Make room for `count` pictures as a runtime takes them."""
    size = (contract.height, contract.width)
    if takes == "pixels":
        return np.empty((count, *size, 3), np.uint8)
    return np.empty((count, 3, *size), np.float32)


def load_batch(
    paths: Sequence[str | Path], contract: InputSpec, *, takes: Takes = "tensor"
) -> Inputs:
    """Decode, resize and normalise pictures.

    Returns:
        What a runtime takes: `tensor`, (B, 3, H, W) float32 normalised, or `pixels`,
        (B, H, W, 3) uint8 RGB.

    Raises:
        ImageError: for the first picture that cannot be decoded.
    """
    batch = empty_batch(len(paths), contract, takes)
    for path, row in zip(paths, batch, strict=True):
        load_image(path, contract, row, takes=takes)
    return batch


def load_image(
    path: str | Path, contract: InputSpec, out: Inputs, *, takes: Takes = "tensor"
) -> None:
    """Decode, resize and normalise one picture into `out`, a row of `empty_batch`."""
    prepare_into(out, decode(path), contract, takes=takes)


def prepare(pixels: NDArray[np.uint8], contract: InputSpec, *, takes: Takes = "tensor") -> Inputs:
    """Resize and normalise decoded pixels, (h, w, 3) uint8 RGB, into a row of `empty_batch`."""
    batch = empty_batch(1, contract, takes)
    prepare_into(batch[0], pixels, contract, takes=takes)
    row: Inputs = batch[0]
    return row


def prepare_into(
    out: Inputs, pixels: NDArray[np.uint8], contract: InputSpec, *, takes: Takes = "tensor"
) -> None:
    """Resize and normalise decoded pixels, (h, w, 3) uint8 RGB, into `out`, a row of a batch."""
    fill(resize(pixels, contract), contract, out, takes=takes)


def fill(
    pixels: NDArray[np.uint8], contract: InputSpec, out: Inputs, *, takes: Takes = "tensor"
) -> None:
    """Put resized RGB pixels, (H, W, 3) uint8, into `out` as a runtime takes them."""
    if takes == "pixels":
        out[:] = pixels
    else:
        normalise(pixels, contract, out)


def decode(path: str | Path) -> NDArray[np.uint8]:
    """Decode a picture file to RGB, (h, w, 3) uint8.

    Raises:
        ImageError: no such file, not a picture, truncated, or too large to be a crop.
    """
    return decode_bytes(read_bytes(path), str(path))


def find_fault(path: str | Path) -> str | None:
    """Say in a few words why a picture cannot be decoded; `None` where it can."""
    try:
        decode(path)
    except ImageError as error:
        return error.reason
    return None


def read_bytes(path: str | Path) -> bytes:
    """Read a picture file for `decode_bytes`, by the limits that hold for pictures.

    Raises:
        ImageError: no such file, not a file, or larger than `MAXIMUM_BYTES`.
    """
    path = str(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError(path, "not a file")
            if status.st_size > MAXIMUM_BYTES:
                raise ImageError(path, f"{status.st_size} bytes is too large for a picture")
            return file.read()
    except (OSError, ValueError) as error:
        raise ImageError(path, getattr(error, "strerror", None) or str(error)) from error


def decode_bytes(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a picture held in memory to RGB, (h, w, 3) uint8; `name` is for the error."""
    if data.startswith(_JPEG_START):
        pixels = _decode_plain_jpeg(data)
        if pixels is not None:
            return pixels
    return _decode_with_pillow(data, name)


def resize(pixels: NDArray[np.uint8], contract: InputSpec) -> NDArray[np.uint8]:
    """Resize RGB pixels, (h, w, 3) uint8 -> (H, W, 3) uint8."""
    return resize_to(pixels, contract.height, contract.width, filter=contract.resize)


def resize_to(
    pixels: NDArray[np.uint8], height: int, width: int, *, filter: str = "bilinear"
) -> NDArray[np.uint8]:
    """Resize RGB pixels, (h, w, 3) uint8, to (height, width, 3) by Pillow's antialiased filter."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), _RESIZE[filter]))


def normalise(pixels: NDArray[np.uint8], contract: InputSpec, out: Inputs) -> None:
    """Normalise RGB pixels, (H, W, 3) uint8, into `out`, (3, H, W) float32, in colour order."""
    table = normalised_values(contract)
    for channel in range(3):
        plane = pixels[:, :, channel if contract.colour == "rgb" else 2 - channel]
        # mode="clip" never clips here (a byte is a valid index); it spares numpy a buffer.
        np.take(table[channel], plane, out=out[channel], mode="clip")


@functools.lru_cache(maxsize=16)
def normalised_values(contract: InputSpec) -> NDArray[np.float32]:
    """Give what each of the 256 pixel values becomes in each channel, (3, 256) float32 read-only.

    The channels are in the contract's colour order.

    Each step is rounded to float32, as the reference's tensors are; with scale 1/255 the product
    taken in double precision rounds to the same float32 as the reference's division by 255.
    """
    scaled = (np.arange(256) * contract.scale).astype(np.float32)
    mean = np.array(contract.mean, np.float32)[:, None]
    std = np.array(contract.std, np.float32)[:, None]
    values: NDArray[np.float32] = (scaled - mean) / std
    values.flags.writeable = False
    return values


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode RGB pixels, (h, w, 3) uint8, as a PNG file that `decode_bytes` gives back exactly."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def decoders_agree() -> bool:
    """Tell whether the two JPEG decoders that are installed give the same pixels.

    They do where both come with libjpeg-turbo, as their wheels do; a build of one's own may not.
    """
    random = np.random.default_rng(0).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(random).resize((61, 127)).save(file, "jpeg", quality=80)
    fast = _decode_plain_jpeg(file.getvalue())
    return fast is not None and np.array_equal(fast, _decode_with_pillow(file.getvalue(), "check"))


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file so that a named pipe among the pictures does not block for ever."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _decode_plain_jpeg(data: bytes) -> NDArray[np.uint8] | None:
    """Decode a grey or YCbCr JPEG; None where Pillow must have the last word."""
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        # CMYK conversion differs from Pillow's; an RGB-coded JPEG is too rare to prove equal.
        if space not in ("Gray", "YCbCr") or height * width > MAXIMUM_PIXELS:
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
    except ValueError:
        return None
    return pixels


def _decode_with_pillow(data: bytes, name: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > MAXIMUM_PIXELS:
                raise ImageError(name, f"{width}x{height} pixels is too large (a bomb?)")
            return np.asarray(image.convert("RGB"))
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(name, _what_it_is_instead(data)) from error
    except Exception as error:  # a decoder of hostile bytes may raise anything
        raise ImageError(name, f"cannot be decoded: {error}") from error


def _what_it_is_instead(data: bytes) -> str:
    return "an empty file" if not data else "not a picture in a known format"
