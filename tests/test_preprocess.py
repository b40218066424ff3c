from __future__ import annotations

import dataclasses
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reidkit import preprocess
from reidkit.errors import ImageError
from reidkit.package import InputSpec

GOLDEN = Path(__file__).parent / "golden"
MARKET = InputSpec()


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", **options)
    return file.getvalue()


def smooth(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(random).resize((width, height)))


@pytest.mark.parametrize("name", sorted(path.name for path in (GOLDEN / "images").iterdir()))
def test_equal_to_the_reference_bit_for_bit(name: str) -> None:
    with np.load(GOLDEN / "preprocess.npz") as golden:
        expected = golden[name]
    (found,) = preprocess.load_batch([GOLDEN / "images" / name], MARKET)
    assert np.array_equal(found, expected)


def test_scaling_rounds_like_the_reference_division() -> None:
    """The reference divides float32 by 255; the contract multiplies by 1/255."""
    values = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, axis=2)
    contract = InputSpec(height=1, width=256, mean=(0, 0, 0), std=(1, 1, 1))
    expected = values[0, :, 0].astype(np.float32) / np.float32(255)
    assert np.array_equal(preprocess.prepare(values, contract)[0, 0], expected)


def test_a_raw_bgr_contract_gives_the_pixels_themselves() -> None:
    pixels = smooth(20, 10)
    contract = InputSpec(20, 10, colour="bgr", scale=1, mean=(0, 0, 0), std=(1, 1, 1))
    found = preprocess.prepare(pixels, contract)
    assert np.array_equal(found, pixels[:, :, ::-1].transpose(2, 0, 1).astype(np.float32))


def test_mean_and_std_are_in_colour_order() -> None:
    pixels = np.full((4, 4, 3), (10, 20, 30), np.uint8)
    contract = InputSpec(4, 4, colour="bgr", scale=1, mean=(30, 20, 10), std=(1, 1, 1))
    assert not preprocess.prepare(pixels, contract).any()


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest"])
def test_the_resize_filter_is_pillows(name: str) -> None:
    pixels = smooth(91, 37)
    contract = dataclasses.replace(MARKET, resize=name)  # type: ignore[arg-type]
    filters = {"bilinear": 2, "bicubic": 3, "nearest": 0}
    image = Image.fromarray(pixels)
    expected = np.asarray(image.resize((128, 256), Image.Resampling(filters[name])))
    assert np.array_equal(preprocess.resize(pixels, contract), expected)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 70),
    quality=st.integers(20, 98),
    subsampling=st.sampled_from([0, 1, 2]),
    progressive=st.booleans(),
    grey=st.booleans(),
)
def test_the_fast_decoder_equals_pillow(
    height: int, width: int, quality: int, subsampling: int, progressive: bool, grey: bool
) -> None:
    pixels = smooth(height, width, seed=height * 100 + width)
    if grey:
        pixels = pixels[:, :, 0]
    data = jpeg(pixels, quality=quality, subsampling=subsampling, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(preprocess.decode_bytes(data, "x"), expected)


def test_the_installed_decoders_agree() -> None:
    assert preprocess.decoders_agree()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "LA", "I;16", "YCbCr"])
def test_other_modes_become_rgb_as_pillow_makes_them(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(smooth(30, 12)).convert("L" if mode == "I;16" else mode)
    path = tmp_path / ("x.tif" if mode in ("CMYK", "YCbCr") else "x.png")
    image.convert(mode).save(path)
    with Image.open(path) as again:
        expected = np.asarray(again.convert("RGB"))
    found = preprocess.decode(path)
    assert found.shape == (30, 12, 3)
    assert np.array_equal(found, expected)


def test_the_exif_orientation_is_ignored(tmp_path: Path) -> None:
    pixels = smooth(30, 12)
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to show"
    (tmp_path / "plain.jpg").write_bytes(jpeg(pixels))
    (tmp_path / "turned.jpg").write_bytes(jpeg(pixels, exif=exif))
    turned = preprocess.decode(tmp_path / "turned.jpg")
    assert turned.shape == (30, 12, 3)
    assert np.array_equal(turned, preprocess.decode(tmp_path / "plain.jpg"))


def test_a_batch_is_its_pictures_in_order(tmp_path: Path) -> None:
    paths = []
    for seed in range(3):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(smooth(20, 10, seed)).save(paths[-1])
    batch = preprocess.load_batch(paths, MARKET)
    assert batch.shape == (3, 3, 256, 128)
    assert batch.dtype == np.float32
    for path, row in zip(paths, batch, strict=True):
        assert np.array_equal(row, preprocess.prepare(preprocess.decode(path), MARKET))


def test_missing_folder_and_special_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: No such file"):
        preprocess.decode(tmp_path / "none.jpg")
    with pytest.raises(ImageError, match=str(tmp_path)):
        preprocess.decode(tmp_path)
    with pytest.raises(ImageError, match="embedded null"):
        preprocess.decode("a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX thing")
def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="not a file"):
        preprocess.decode(tmp_path / "pipe.jpg")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "an empty file"),
        (b"hello, I am text", "not a picture"),
        (b"<html>quota exceeded</html>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"\xff\xd8\xff", ""),
        (b"\x89PNG\r\n\x1a\n", ""),
    ],
)
def test_what_is_no_picture_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"^dir/x.jpg: {reason}"):
        preprocess.decode_bytes(data, "dir/x.jpg")


@pytest.mark.parametrize("suffix", ["jpeg", "png"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(suffix: str, share: float) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)).save(
        file, suffix
    )
    data = file.getvalue()
    with pytest.raises(ImageError):
        preprocess.decode_bytes(data[: int(len(data) * share)], "x")


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    """A PNG header of 50000 x 50000 pixels in a file of a hundred bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(b"")
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in (header, body, b"IEND")
    )
    with pytest.raises(ImageError, match=r"^bomb.png: .*(too large|exceeds limit)"):
        preprocess.decode_bytes(b"\x89PNG\r\n\x1a\n" + chunks, "bomb.png")


def test_a_large_jpeg_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "MAXIMUM_PIXELS", 100)
    with pytest.raises(ImageError, match="12x30 pixels is too large"):
        preprocess.decode_bytes(jpeg(smooth(30, 12)), "x")


def test_a_large_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "MAXIMUM_BYTES", 100)
    (tmp_path / "x.jpg").write_bytes(jpeg(smooth(30, 12)))
    with pytest.raises(ImageError, match="bytes is too large"):
        preprocess.decode(tmp_path / "x.jpg")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 600), st.sampled_from(["jpeg", "png", "gif", "bmp"]))
@pytest.mark.filterwarnings("ignore")  # Pillow may remark on damaged files
def test_damaged_bytes_decode_or_are_refused(noise: bytes, place: int, kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(smooth(20, 10)).save(file, kind)
    data = bytearray(file.getvalue())
    data[place : place + len(noise)] = noise
    try:
        pixels = preprocess.decode_bytes(bytes(data), "x")
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3


def test_bytes_are_read_by_the_limits_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(jpeg(smooth(20, 10)))
    data = preprocess.read_bytes(file)
    assert data == file.read_bytes()
    assert np.array_equal(preprocess.decode_bytes(data, "a"), preprocess.decode(file))
    monkeypatch.setattr(preprocess, "MAXIMUM_BYTES", len(data) - 1)
    with pytest.raises(ImageError, match=f"{len(data)} bytes is too large"):
        preprocess.read_bytes(str(file))
    with pytest.raises(ImageError, match="No such file"):
        preprocess.read_bytes(tmp_path / "gone.jpg")
