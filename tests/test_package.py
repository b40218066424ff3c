from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit import disk
from reidkit import package as packages
from reidkit.errors import (
    ArgumentError,
    FormatError,
    IntegrityError,
    PackageError,
    ShapeError,
)
from reidkit.package import EngineSpec, InputSpec, ModelSpec, Package, ReferencePictures


def reference() -> ReferencePictures:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 6, 4, 3), dtype=np.uint8)
    return ReferencePictures(pixels, np.ones((16, 8), np.float32))


def write(folder: Path) -> Package:
    folder.mkdir()
    (folder / "fake.json").write_text('{"size": 8, "seed": 0}')
    spec = ModelSpec(
        name="tiny",
        architecture="fake",
        embedding_size=8,
        weights_sha256="0" * 64,
        reference_sha256=packages.write_reference(folder, reference()),
        input=InputSpec(height=32, width=16, colour="bgr"),
        engine=EngineSpec("fake.json", disk.sha256_file(folder / "fake.json"), "fake"),
        provenance={"reidkit": "0.1.0"},
    )
    return packages.write_manifest(folder, spec)


def edit(folder: Path, **changes: Any) -> None:
    """Change the manifest and its own hash with it, as a forger would."""
    path = folder / packages.MANIFEST
    fields = json.loads(path.read_text()) | changes
    del fields["manifest_sha256"]
    path.write_text(json.dumps(fields | {"manifest_sha256": disk.sha256_json(fields)}))


def test_round_trip(tmp_path: Path) -> None:
    written = write(tmp_path / "p")
    read = packages.read_package(tmp_path / "p")
    assert read == written
    assert read.engine_file.name == "fake.json"
    assert np.array_equal(read.reference().pixels, reference().pixels)


def test_a_package_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="does not exist: reidkit export makes one"):
        packages.read_package(tmp_path / "nowhere")
    with pytest.raises(PackageError, match="is not a model package"):
        packages.read_package(tmp_path)


@pytest.mark.parametrize("name", ["fake.json", packages.REFERENCE])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "p")
    with (tmp_path / "p" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(IntegrityError, match=name):
        packages.read_package(tmp_path / "p")


@pytest.mark.parametrize("name", ["fake.json", packages.REFERENCE])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    write(tmp_path / "p")
    (tmp_path / "p" / name).unlink()
    with pytest.raises(PackageError, match=f"{name} is missing"):
        packages.read_package(tmp_path / "p")


@pytest.mark.parametrize(("old", "new"), [('"bgr"', '"rgb"'), ("32,", "64,"), ("false", "true")])
def test_a_contract_edited_by_hand_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = write(tmp_path / "p").folder / packages.MANIFEST
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(IntegrityError, match="was changed after the package was made"):
        packages.read_package(tmp_path / "p")


def test_another_format_number_says_who_reads_it(tmp_path: Path) -> None:
    write(tmp_path / "p")
    edit(tmp_path / "p", format=99, provenance=None)
    with pytest.raises(FormatError, match=r"format 99, this reidkit reads formats 1 and 2: read"):
        packages.read_package(tmp_path / "p")


@pytest.mark.parametrize(
    "change",
    [
        {"input": {}},
        {"input": [1]},
        {"engine": None},
        {"engine": {"file": "x"}},
        {"engine": {"file": 5, "sha256": "0"}},
        {"engine": {"file": "x", "sha256": "0", "batch": "4"}},
        {"surprise": 1},
        {"embedding_size": "512"},
        {"embedding_size": -1},
    ],
)
def test_a_damaged_manifest_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path / "p")
    edit(tmp_path / "p", **change)
    with pytest.raises(PackageError, match="damaged"):
        packages.read_package(tmp_path / "p")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_manifest_that_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    write(tmp_path / "p")
    (tmp_path / "p" / packages.MANIFEST).write_text(text)
    with pytest.raises(PackageError, match="damaged"):
        packages.read_package(tmp_path / "p")


def test_a_package_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    write(tmp_path / "p")
    outside = tmp_path / "secret"
    outside.write_text("x")
    edit(tmp_path / "p", engine={"file": "../secret", "sha256": disk.sha256_file(outside)})
    with pytest.raises(PackageError, match="lies outside the package"):
        packages.read_package(tmp_path / "p")


@pytest.mark.parametrize(
    "change",
    [
        {"height": 255},
        {"width": 64},
        {"resize": "bicubic"},
        {"colour": "bgr"},
        {"scale": 1.0},
        {"mean": (0.0, 0.456, 0.406)},
        {"std": (0.229, 0.224, 0.226)},
        {"neck": "before"},
        {"flip": True},
        {"unit_length": False},
    ],
)
def test_every_part_of_the_contract_is_in_its_hash(change: dict[str, Any]) -> None:
    assert dataclasses.replace(InputSpec(), **change).sha256 != InputSpec().sha256


def test_the_hash_of_the_default_contract_is_for_ever() -> None:
    expected = "651f41b2367e5943a9b043bc86292d48d435fe78bb7cee498e0694780f479e95"
    assert InputSpec().sha256 == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 0}, "height is 0"),
        ({"width": 5000}, "width is 5000"),
        ({"width": 64.0}, "width is 64.0"),
        ({"flip": "no"}, "flip is 'no'"),
        ({"resize": "lanczos"}, "resize is 'lanczos'"),
        ({"colour": "grb"}, "colour is 'grb', expected one of rgb, bgr"),
        ({"neck": "middle"}, "neck"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": 255.0}, "1 leaves them as they are"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"mean": (1.0, 2.0)}, "mean is"),
        ({"mean": (1.0, 2.0, float("inf"))}, "mean is"),
        ({"std": (1.0, 0.0, 1.0)}, "above 0"),
    ],
)
def test_a_contract_refuses_nonsense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(InputSpec(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "fp8"}, "precision is 'fp8', expected one of fp32, bf16, fp16, int8"),
        ({"takes": "jpeg"}, "takes is 'jpeg', expected one of tensor, pixels"),
        ({"batch": 0}, "the batch size is 0, expected a whole number"),
        ({"file": "../x.onnx"}, "lies outside the package"),
    ],
)
def test_an_engine_refuses_nonsense(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        dataclasses.replace(EngineSpec("x.onnx", "0" * 64), **change)


def test_a_contract_describes_itself() -> None:
    text = InputSpec(flip=True, colour="bgr").describe()
    for part in ("256x128 bilinear", "BGR", "after the BNNeck", "flip", "unit length"):
        assert part in text


def test_reference_pictures_are_checked() -> None:
    good = reference()
    with pytest.raises(ShapeError, match="at least 16"):
        ReferencePictures(good.pixels[:3], good.vectors[:3])
    with pytest.raises(ShapeError, match="expected uint8"):
        ReferencePictures(good.pixels.astype(np.float32), good.vectors)
    with pytest.raises(ShapeError, match="expected float32"):
        ReferencePictures(good.pixels, good.vectors[:5])
