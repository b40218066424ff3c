"""Mistakes made here by hand, with numpy, Pillow and loops, must be named by `diagnose`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reidkit import diagnosing, exporting, networks, preprocess
from reidkit.datasets.drawn import draw_crops
from reidkit.diagnosing import Diagnosis, Finding, diagnose
from reidkit.diagnosing._filters import FILTERS, resize
from reidkit.errors import ArgumentError, EngineError, ShapeError
from reidkit.models import Model, load_model
from reidkit.networks import Network
from reidkit.package import Inputs, InputSpec, Package, Takes
from reidkit.runtimes import check_input
from reidkit.runtimes.fake import FakeRuntime
from tests.checkpoint_files import write_legacy
from tests.pictures import fake_model

H, W = 64, 32
SMALL = InputSpec(height=H, width=W)
MEAN = np.array((0.485, 0.456, 0.406))
STD = np.array((0.229, 0.224, 0.225))

Pixels = NDArray[np.float64]
Arrays = NDArray[Any]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("diagnosing")
    write_legacy(folder / "r.pth", networks.initial_tensors(Network("osnet_x0_25")))
    return exporting.export_package(folder / "r.pth", folder / "p", contract=SMALL)


@pytest.fixture(scope="module")
def model(package: Package) -> Iterator[Model]:
    with load_model(package, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def crops() -> list[NDArray[np.uint8]]:
    small = draw_crops(5, height=120, width=60, seed=1)
    return [*small, *draw_crops(3, height=2 * H + 5, width=3 * W, seed=2)]


def resized(
    crops: Sequence[NDArray[np.uint8]],
    how: Image.Resampling = Image.Resampling.BILINEAR,
    size: tuple[int, int] = (W, H),
) -> Pixels:
    """Resize as the reference code does: (N, H, W, 3), 0 to 255."""
    pictures = [np.asarray(Image.fromarray(crop).resize(size, how)) for crop in crops]
    return np.stack(pictures).astype(np.float64)


def first(pixels: Arrays) -> Arrays:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def normalised(pixels: Pixels) -> Arrays:
    return first((pixels / 255 - MEAN) / STD)


def interpolated(crop: NDArray[np.uint8]) -> Pixels:
    """Bilinear at half-pixel centres, pixel by pixel, without antialiasing: cv2.resize."""
    height, width = crop.shape[:2]
    out = np.empty((H, W, 3))
    for row in range(H):
        y = min(max((row + 0.5) * height / H - 0.5, 0), height - 1)
        top, down = int(y), min(int(y) + 1, height - 1)
        for column in range(W):
            x = min(max((column + 0.5) * width / W - 0.5, 0), width - 1)
            left, right = int(x), min(int(x) + 1, width - 1)
            above = crop[top, left] * (1 - x + left) + crop[top, right] * (x - left)
            below = crop[down, left] * (1 - x + left) + crop[down, right] * (x - left)
            out[row, column] = above * (1 - y + top) + below * (y - top)
    return np.rint(out)


def letterboxed(crops: Sequence[NDArray[np.uint8]], fill: int) -> Pixels:
    out = np.full((len(crops), H, W, 3), float(fill))
    for canvas, crop in zip(out, crops, strict=True):
        factor = min(H / crop.shape[0], W / crop.shape[1])
        height, width = round(crop.shape[0] * factor), round(crop.shape[1] * factor)
        top, left = (H - height) // 2, (W - width) // 2
        canvas[top : top + height, left : left + width] = resized([crop], size=(width, height))[0]
    return out


def knobs(diagnosis: Diagnosis) -> set[str]:
    return {finding.knob for finding in diagnosis.findings}


def finding(diagnosis: Diagnosis, knob: str) -> Finding:
    (found,) = (each for each in diagnosis.findings if each.knob == knob)
    return found


def test_the_right_arrays_agree(model: Model, crops: list[NDArray[np.uint8]]) -> None:
    right = normalised(resized(crops))
    for dtype in (np.float64, np.float32, np.float16):
        found = diagnose(model, crops, right.astype(dtype))
        assert found.agrees
        assert found.findings == ()
        assert found.cosine is not None
        assert found.cosine > 0.99999
        assert found.difference is not None
        assert found.difference < 2e-3
        assert found.explained < 0.05
        assert found.pictures == len(crops)
    assert "within rounding" in found.notes[0]


Make = Callable[[Sequence[NDArray[np.uint8]]], Arrays]


def _once(pixels: Arrays) -> Arrays:
    once: Arrays = (pixels / 255 - MEAN) / STD
    return once


ALONE: dict[str, tuple[Make, dict[str, str]]] = {
    "bgr before": (
        lambda c: normalised(resized(c)[..., ::-1]),
        {"channel order": "BGR"},
    ),
    "bgr after": (
        lambda c: normalised(resized(c))[:, ::-1],
        {"channel order": "BGR, each colour with its own mean and std"},
    ),
    "grey": (
        lambda c: normalised(
            np.repeat((resized(c) @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=3)
        ),
        {"channel order": "GREY"},
    ),
    "raw, as bytes": (
        lambda c: first(resized(c)).astype(np.uint8),
        {"scale": "0 to 255", "mean/std": "neither applied"},
    ),
    "0 to 1": (lambda c: first(resized(c) / 255), {"mean/std": "neither applied"}),
    "-1 to 1": (lambda c: first(resized(c) / 127.5 - 1), {"mean/std": "mean 0.5, std 0.5"}),
    "not scaled": (lambda c: first((resized(c) - MEAN) / STD), {"scale": "0 to 255"}),
    "scaled twice": (lambda c: normalised(resized(c) / 255), {"scale": "once more"}),
    "256": (lambda c: first((resized(c) / 256 - MEAN) / STD), {"scale": "256"}),
    "twice": (
        lambda c: first((_once(resized(c)) - MEAN) / STD),
        {"double normalisation": "applied twice"},
    ),
    "all twice": (
        lambda c: first((_once(resized(c)) / 255 - MEAN) / STD),
        {"double normalisation": "the scale too"},
    ),
    "no mean": (lambda c: first(resized(c) / 255 / STD), {"mean": "not subtracted"}),
    "no std": (lambda c: first(resized(c) / 255 - MEAN), {"std": "not divided"}),
    "one std": (
        lambda c: first((resized(c) / 255 - MEAN) / STD.mean()),
        {"std": "for all channels"},
    ),
    "other order": (
        lambda c: first((resized(c) / 255 - MEAN[::-1]) / STD[::-1]),
        {"mean/std": "its channels reversed"},
    ),
    "clip": (
        lambda c: first(
            (resized(c) / 255 - [0.48145466, 0.4578275, 0.40821073])
            / [0.26862954, 0.26130258, 0.27577711]
        ),
        {"mean/std": "CLIP's"},
    ),
    "mirrored": (lambda c: normalised(resized(c))[..., ::-1], {"orientation": "mirrored"}),
    "upside down": (
        lambda c: normalised(resized(c))[:, :, ::-1],
        {"orientation": "upside down"},
    ),
    "rotated": (
        lambda c: np.rot90(normalised(resized(c)), 2, axes=(2, 3)),
        {"orientation": "rotated by 180 degrees"},
    ),
    "channels last": (
        lambda c: _once(resized(c)).astype(np.float32),
        {"layout": "(N, height, width, 3)"},
    ),
    "reshaped": (
        lambda c: _once(resized(c)).reshape(len(c), 3, H, W),
        {"layout": "reshaped"},
    ),
    "size exchanged": (
        lambda c: normalised(resized(c, size=(H, W))),
        {"transposed size": f"{W}x{H}"},
    ),
    "exchanged, transposed": (
        lambda c: normalised(resized(c, size=(H, W))).swapaxes(2, 3),
        {"transposed size": "then transposed"},
    ),
    "turned": (
        lambda c: normalised(resized(c)).swapaxes(2, 3),
        {"orientation": "transposed"},
    ),
    "nearest": (
        lambda c: normalised(resized(c, Image.Resampling.NEAREST)),
        {"resize": "nearest, half-pixel"},
    ),
    "bicubic": (
        lambda c: normalised(resized(c, Image.Resampling.BICUBIC)),
        {"resize": "bicubic, antialiased"},
    ),
    "box": (lambda c: normalised(resized(c, Image.Resampling.BOX)), {"resize": "box"}),
    "lanczos": (
        lambda c: normalised(resized(c, Image.Resampling.LANCZOS)),
        {"resize": "Lanczos"},
    ),
    "cv2": (
        lambda c: normalised(np.stack([interpolated(crop) for crop in c])),
        {"resize": "cv2.INTER_LINEAR"},
    ),
    "letterbox": (
        lambda c: normalised(letterboxed(c, 114)),
        {"framing": "letterbox, centred, filled with level 114, 114, 114"},
    ),
}


@pytest.mark.parametrize("mistake", ALONE)
def test_each_mistake_is_named(model: Model, crops: list[NDArray[np.uint8]], mistake: str) -> None:
    make, expected = ALONE[mistake]
    found = diagnose(model, crops, make(crops))
    assert not found.agrees
    assert knobs(found) == set(expected)
    for knob, words in expected.items():
        assert words in finding(found, knob).found
    assert found.explained < 0.6
    assert [each.cosine for each in found.findings] == sorted(
        (each.cosine for each in found.findings), key=lambda c: -2 if c is None else c
    )


PAIRS: dict[str, tuple[Make, dict[str, str]]] = {
    "bgr and raw": (
        lambda c: first(resized(c)[..., ::-1]),
        {"channel order": "BGR", "scale": "0 to 255", "mean/std": "neither applied"},
    ),
    "cv2 and twice": (
        lambda c: first((_once(np.stack([interpolated(p) for p in c])) - MEAN) / STD),
        {"resize": "cv2.INTER_LINEAR", "double normalisation": "applied twice"},
    ),
    "bgr letterbox of black, channels last": (
        lambda c: _once(letterboxed(c, 0)[..., ::-1]),
        {"channel order": "BGR", "framing": "level 0, 0, 0", "layout": "(N, height"},
    ),
    "mirrored and scaled only": (
        lambda c: first(resized(c)[:, :, ::-1] / 255),
        {"orientation": "mirrored", "mean/std": "neither applied"},
    ),
}


@pytest.mark.parametrize("mistake", PAIRS)
def test_mistakes_together_are_named(
    model: Model, crops: list[NDArray[np.uint8]], mistake: str
) -> None:
    make, expected = PAIRS[mistake]
    found = diagnose(model, crops, make(crops))
    assert knobs(found) == set(expected)
    for knob, words in expected.items():
        assert words in finding(found, knob).found


@pytest.mark.slow
def test_the_cost_is_that_of_the_mistake_itself(
    model: Model, crops: list[NDArray[np.uint8]]
) -> None:
    """One wrong knob: its cost is what the arrays themselves cost, by the engine."""
    right = model.embed(normalised(resized(crops)).astype(np.float32)).astype(np.float64)
    for mistake in ("bgr before", "bgr after", "twice", "mirrored", "nearest", "letterbox"):
        arrays = ALONE[mistake][0](crops)
        wrong = model.embed(np.ascontiguousarray(arrays, np.float32))
        cosines = [
            float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            for a, b in zip(right, wrong, strict=True)
        ]
        found = diagnose(model, crops, arrays)
        (only,) = found.findings
        assert min(cosines) < 0.9995, mistake
        assert only.cosine == pytest.approx(min(cosines), abs=1e-4), mistake
        assert only.mean_cosine == pytest.approx(np.mean(cosines), abs=1e-4), mistake
        assert found.cosine == pytest.approx(min(cosines), abs=1e-5), mistake


def test_what_the_engine_refuses_has_no_cosine(
    model: Model, crops: list[NDArray[np.uint8]]
) -> None:
    exchanged = diagnose(model, crops, ALONE["size exchanged"][0](crops))
    assert exchanged.findings[0].cosine is None
    assert exchanged.cosine is None
    assert exchanged.difference is None
    last = diagnose(model, crops, ALONE["channels last"][0](crops))
    assert last.findings[0].cosine is None
    assert last.cosine == pytest.approx(1), "only the axes are wrong"


@pytest.mark.slow
def test_what_torch_interpolates_is_told_apart(
    model: Model, crops: list[NDArray[np.uint8]]
) -> None:
    torch = pytest.importorskip("torch")
    interpolate = torch.nn.functional.interpolate

    def arrays(**how: object) -> Arrays:
        pictures = [torch.from_numpy(crop.copy()).permute(2, 0, 1)[None].float() for crop in crops]
        made = [interpolate(picture, (H, W), **how).numpy() for picture in pictures]
        return normalised(np.concatenate(made).transpose(0, 2, 3, 1))

    faithful = diagnose(model, crops, arrays(mode="bilinear", antialias=True))
    assert faithful.agrees
    assert "within rounding" in faithful.notes[0]
    for how, words in (
        ({"mode": "bilinear"}, "cv2.INTER_LINEAR"),
        ({"mode": "bicubic"}, "cv2.INTER_CUBIC"),
        ({"mode": "nearest"}, "cv2.INTER_NEAREST"),
        ({"mode": "area"}, "average pooling"),
        ({"mode": "bilinear", "align_corners": True}, "aligned corners"),
    ):
        (only,) = diagnose(model, crops, arrays(**how)).findings
        assert only.knob == "resize"
        assert words in only.found


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest", "box", "hamming", "lanczos"])
def test_our_filters_are_those_of_pillow(name: str) -> None:
    random = np.random.default_rng(3)
    how = Image.Resampling[name.upper()]
    for height, width, to_height, to_width in ((50, 31, 24, 12), (20, 9, 41, 40), (33, 60, 64, 20)):
        picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = np.asarray(Image.fromarray(picture).resize((to_width, to_height), how), float)
        apart = abs(resize(picture, (to_height, to_width), FILTERS[name]) - expected)
        assert apart.max() <= 1
        assert (apart == 0).mean() > 0.97


def test_area_is_the_share_of_each_pixel() -> None:
    random = np.random.default_rng(4)
    picture = random.integers(0, 256, (10, 7, 3), dtype=np.uint8)
    fine = np.repeat(np.repeat(picture.astype(float), 4, axis=0), 3, axis=1)  # (40, 21)
    expected = fine.reshape(4, 10, 3, 7, 3).mean(axis=(1, 3))
    assert abs(resize(picture, (4, 3), FILTERS["area"]) - np.rint(expected)).max() <= 1


@pytest.mark.slow
def test_pictures_in_another_order(model: Model, crops: list[NDArray[np.uint8]]) -> None:
    right = normalised(resized(crops))
    order = np.array([3, 0, 1, 2, 4, 7, 6, 5])
    found = diagnose(model, crops, right[order])
    assert knobs(found) == {"picture order"}
    assert "row 0 is picture 3" in found.findings[0].found
    assert found.findings[0].cosine is not None
    assert found.findings[0].cosine < 0.999
    assert diagnose(model, crops, right[::-1]).findings[0].found == "reversed"
    both = diagnose(model, crops, first(resized(crops)[..., ::-1])[order])
    assert knobs(both) == {"picture order", "channel order", "scale", "mean/std"}


def test_two_pictures_exchanged_among_many(crops: list[NDArray[np.uint8]]) -> None:
    many = [*crops, *draw_crops(16, height=70, width=33, seed=5)]
    order = np.arange(len(many))
    order[[10, 12]] = order[[12, 10]]
    found = diagnose(fake_model(contract=SMALL), many, normalised(resized(many))[order])
    assert knobs(found) == {"picture order"}
    assert "2 of 24 moved" in found.findings[0].found


def test_one_large_picture_among_many_shows_the_resize(crops: list[NDArray[np.uint8]]) -> None:
    """Where nothing shrinks all bilinear filters are one."""
    tiny = [*draw_crops(20, height=30, width=16, seed=6), crops[-1]]
    arrays = normalised(np.stack([interpolated(crop) for crop in tiny]))
    assert knobs(diagnose(fake_model(contract=SMALL), tiny, arrays)) == {"resize"}
    unseen = diagnose(fake_model(contract=SMALL), tiny[:-1], arrays[:-1])
    assert unseen.agrees
    assert any("try larger crops" in note for note in unseen.notes)


@pytest.mark.slow
def test_what_nothing_explains(model: Model, crops: list[NDArray[np.uint8]]) -> None:
    noise = np.random.default_rng(0).standard_normal((len(crops), 3, H, W))
    found = diagnose(model, crops, noise)
    assert knobs(found) == {"unexplained"}
    assert "nearest: " in found.findings[0].found
    assert found.explained > 100
    curved = diagnose(model, crops, normalised(255 * (resized(crops) / 255) ** 2.2))
    assert "unexplained rest" in knobs(curved)


@settings(max_examples=20, deadline=None)
@given(
    scales=st.tuples(*[st.floats(0.05, 20)] * 3),
    offsets=st.tuples(*[st.floats(-5, 5)] * 3),
    bgr=st.booleans(),
)
def test_any_straight_line_is_found_again(
    scales: tuple[float, float, float], offsets: tuple[float, float, float], bgr: bool
) -> None:
    """The mean and std in effect, put into a contract, make the same arrays."""
    pictures = [*draw_crops(2, height=70, width=40, seed=7)]
    pixels = resized(pictures)[..., :: -1 if bgr else 1]
    arrays = first(pixels * np.array(scales) + offsets)
    found = diagnose(fake_model(contract=SMALL), pictures, arrays)
    assert not found.agrees
    assert ("channel order" in knobs(found)) == bgr
    assert found.explained < 0.01
    mean = [-offset / scale / 255 for scale, offset in zip(scales, offsets, strict=True)]
    std = [1 / scale / 255 for scale in scales]
    contract = dataclasses.replace(
        SMALL,
        colour="bgr" if bgr else "rgb",
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
    )
    assert diagnose(fake_model(contract=contract), pictures, arrays).agrees


def test_a_bgr_contract_without_normalisation(crops: list[NDArray[np.uint8]]) -> None:
    contract = dataclasses.replace(
        SMALL, colour="bgr", scale=1.0, mean=(0.0,) * 3, std=(1.0,) * 3, resize="bicubic"
    )
    caffe = fake_model(contract=contract)
    pixels = resized(crops, Image.Resampling.BICUBIC)
    assert diagnose(caffe, crops, first(pixels[..., ::-1])).agrees
    found = diagnose(caffe, crops, normalised(resized(crops)))
    assert knobs(found) == {"channel order", "mean/std", "resize"}
    assert finding(found, "channel order").found.startswith("RGB")
    assert "ImageNet's x 255" in finding(found, "mean/std").found, "one knob says it as well as two"
    assert "bilinear, antialiased" in finding(found, "resize").found


class PixelRuntime(FakeRuntime):
    """A fake that normalises inside."""

    takes: Takes = "pixels"

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        check_input(inputs, self.batch, "pixels")
        return super().run(inputs.transpose(0, 3, 1, 2).astype(np.float32))


def test_a_model_that_takes_pixels(crops: list[NDArray[np.uint8]]) -> None:
    inside = Model(fake_model(contract=SMALL).spec, PixelRuntime(8))
    right = resized(crops).astype(np.uint8)
    assert diagnose(inside, crops, right).agrees
    assert knobs(diagnose(inside, crops, right[..., ::-1])) == {"channel order"}
    assert knobs(diagnose(inside, crops, first(right))) == {"layout"}
    assert knobs(diagnose(inside, crops, right[:, :, ::-1])) == {"orientation"}
    wrong = resized(crops, Image.Resampling.NEAREST).astype(np.uint8)
    assert knobs(diagnose(inside, crops, wrong)) == {"resize"}
    with pytest.raises(ShapeError, match="float32, but this package takes resized pixels"):
        diagnose(inside, crops, normalised(resized(crops)).astype(np.float32))


def test_square_inputs_may_be_turned(crops: list[NDArray[np.uint8]]) -> None:
    square = fake_model(contract=dataclasses.replace(SMALL, width=H))
    right = normalised(resized(crops, size=(H, H)))
    assert diagnose(square, crops, right).agrees
    found = diagnose(square, crops, np.rot90(right, -1, axes=(2, 3)))
    assert found.findings[0].found == "rotated by 90 degrees clockwise"
    left = diagnose(square, crops, np.rot90(right, 1, axes=(2, 3)))
    assert left.findings[0].found == "rotated by 90 degrees counter-clockwise"
    assert left.findings[0].cosine is not None


def _with_nan(right: Arrays) -> Arrays:
    right[2, 0, 0, :4] = np.nan
    return right


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda a: a[:-1], ShapeError, "hold 7 pictures, but there are 8 crops"),
        (lambda a: a[0], ShapeError, r"\(one picture\?.*expected \(8, 3, 64, 32\) float32"),
        (lambda a: a[:, :2], ShapeError, r"are \(8, 2, 64, 32\), expected \(8, 3, 64, 32\)"),
        (lambda a: a[:, :, :48], ShapeError, "pictures of 48x32 .* takes 64x32"),
        (lambda a: a.astype(np.int64), ShapeError, "are int64, expected float16"),
        (lambda a: a.astype(complex), ShapeError, "complex128"),
        (lambda a: a.astype(str), ShapeError, "expected float16"),
        (_with_nan, ArgumentError, "4 values that are NaN or infinite, the first in picture 2"),
        (lambda a: a * 0, ArgumentError, "every value of the arrays is"),
    ],
)
def test_arrays_that_cannot_be_an_input(
    crops: list[NDArray[np.uint8]],
    spoil: Callable[[Arrays], Arrays],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        diagnose(fake_model(contract=SMALL), crops, spoil(normalised(resized(crops))))


def test_crops_that_cannot_be_diagnosed(crops: list[NDArray[np.uint8]]) -> None:
    model, right = fake_model(contract=SMALL), normalised(resized(crops))
    with pytest.raises(ShapeError, match="crop 1 is float64"):
        diagnose(model, [crops[0], crops[1].astype(float)], right)
    with pytest.raises(ShapeError, match="0 crops, expected 1 to 128"):
        diagnose(model, [], right[:0])
    plain = [np.full((40, 20, 3), 9, np.uint8)]
    with pytest.raises(ArgumentError, match="the crops are plain"):
        diagnose(model, plain, right[:1])
    model.close()
    with pytest.raises(EngineError):
        diagnose(model, crops, right)


def test_the_crops_of_a_package(package: Package, tmp_path: Path) -> None:
    count = diagnosing.write_crops(package, tmp_path / "crops")
    files = sorted((tmp_path / "crops").iterdir())
    assert [file.name for file in files] == [f"{i:03}.png" for i in range(count)]
    reference = package.reference().pixels
    for file, picture in zip(files, reference, strict=False):
        with Image.open(file) as image:
            assert np.array_equal(np.asarray(image), picture)
    with pytest.raises(ArgumentError):
        diagnosing.write_crops(package, tmp_path / "crops")


def test_large_pictures_are_added_where_the_input_is_large(
    package: Package, tmp_path: Path
) -> None:
    """At 256x128 the reference pictures only grow, and cv2 would agree on them."""
    contract = InputSpec()
    spec = dataclasses.replace(package.spec, input=contract)
    count = diagnosing.write_crops(Package(package.folder, spec), tmp_path / "crops")
    assert count > len(package.reference().pixels)
    last = preprocess.decode(tmp_path / "crops" / f"{count - 1:03}.png")
    assert last.shape[0] >= 512
    assert last.shape[1] >= 256
