from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reidkit import exporting, networks
from reidkit.networks import Network
from reidkit.package import InputSpec
from tests.checkpoint_files import write_legacy
from tests.test_cli import Runner

HEIGHT, WIDTH = 96, 48
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    write_legacy(folder / "r.pth", networks.initial_tensors(Network("osnet_x0_25")))
    contract = InputSpec(height=HEIGHT, width=WIDTH)
    return exporting.export_package(folder / "r.pth", folder / "p", contract=contract).folder


def preprocess_by_hand(folder: Path, *, bgr: bool = False) -> NDArray[np.float32]:
    """What a user writes: a loop over files in name order."""
    arrays = []
    for file in sorted(folder.glob("*.png")):
        with Image.open(file) as image:
            resized = image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
        pixels = np.asarray(resized, np.float32) / 255
        if bgr:
            pixels = pixels[:, :, ::-1]
        arrays.append(((pixels - MEAN) / STD).transpose(2, 0, 1))
    return np.stack(arrays)


def test_round_trip_through_ones_own_code(run: Runner, package: Path, tmp_path: Path) -> None:
    crops, arrays = tmp_path / "crops", tmp_path / "x.npy"
    said = run.well("doctor", "--package", package, "--crops", crops).out
    assert "--arrays" in said
    assert "in name order" in said
    assert all(file.suffix == ".png" for file in crops.iterdir())
    assert len(list(crops.iterdir())) >= 16
    np.save(arrays, preprocess_by_hand(crops))
    options = ("--package", package, "--crops", crops, "--arrays", arrays)
    assert "the arrays agree" in run.well("doctor", *options).out
    found = run.well("doctor", *options, "--json").json
    assert found["agrees"] is True
    assert found["findings"] == []
    assert found["cosine"] == pytest.approx(1)


def test_a_difference_is_named_and_ends_with_one(
    run: Runner, package: Path, tmp_path: Path
) -> None:
    crops, arrays = tmp_path / "crops", tmp_path / "x.npy"
    written = run.well("doctor", "--package", package, "--crops", crops, "--json").json
    assert written["pictures"] == len(list(crops.iterdir()))
    np.save(arrays, preprocess_by_hand(crops, bgr=True))
    options = ("--package", package, "--crops", crops, "--arrays", arrays)
    text = run("doctor", *options)
    assert text.code == 1
    assert text.err == ""
    assert "channel order" in text.out
    assert "BGR" in text.out
    found = run("doctor", *options, "--json")
    assert found.code == 1
    (finding,) = found.json["findings"]
    assert finding["knob"] == "channel order"
    assert finding["expected"] == "RGB"
    assert finding["cosine"] == pytest.approx(found.json["cosine"], abs=1e-4)
    assert f"{finding['cosine']:.4f}" in text.out


def test_what_the_engine_refuses_is_said(run: Runner, package: Path, tmp_path: Path) -> None:
    crops, arrays = tmp_path / "crops", tmp_path / "x.npy"
    run.well("doctor", "--package", package, "--crops", crops)
    np.save(arrays, preprocess_by_hand(crops).transpose(0, 2, 3, 1))
    text = run("doctor", "--package", package, "--crops", crops, "--arrays", arrays)
    assert text.code == 1
    assert "layout: the engine refuses such arrays" in text.out


def test_bad_input(run: Runner, package: Path, tmp_path: Path) -> None:
    crops, arrays = tmp_path / "crops", tmp_path / "x.npy"
    run.well("doctor", "--package", package, "--crops", crops)
    assert "crops" in run.fails("doctor", "--package", package, "--crops", crops)
    assert "--crops DIR is missing" in run.fails("doctor", "--package", package, code=2)
    assert "--package P is missing" in run.fails("doctor", "--crops", crops, code=2)
    options = ("doctor", "--package", package, "--crops", crops, "--arrays", arrays)
    assert "x.npy" in run.fails(*options)
    arrays.write_bytes(b"no numbers")
    assert "numpy.save" in run.fails(*options)
    arrays.write_bytes(b"")
    assert "numpy.save" in run.fails(*options)
    np.save(arrays, np.array([{}]), allow_pickle=True)
    assert "numpy.save" in run.fails(*options)
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    (tmp_path / "x.npz").rename(arrays)
    assert "several arrays" in run.fails(*options)
    right = preprocess_by_hand(crops)
    np.save(arrays, right[:-1])
    assert f"hold {len(right) - 1} pictures, but there are {len(right)}" in run.fails(*options)
    np.save(arrays, right)
    assert "holds no pictures" in run.fails(
        "doctor", "--package", package, "--crops", package, "--arrays", arrays
    )
    assert "not a model package" in run.fails(
        "doctor", "--package", crops, "--crops", tmp_path / "new"
    )
    assert not (tmp_path / "new").exists()


def test_the_report_says_which_targets_work_here(run: Runner) -> None:
    found = run.well("doctor", "--json").json
    assert "fp32" in found["targets"]["onnxruntime"]["precisions"]
    for target in found["targets"].values():
        assert target["precisions"] or target["hint"], "what does not work says what to do"
    text = run.well("doctor").out
    assert "targets:" in text
    for name in found["targets"]:
        assert name in text
    assert json.loads(json.dumps(found)) == found
