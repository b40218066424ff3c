"""Verifying a package where it runs: whole files, and the vectors that it should give."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from reidkit import disk
from reidkit.compiling import Target, calibration_of, compile_package
from reidkit.errors import (
    DeviceError,
    EngineError,
    FormatError,
    IntegrityError,
    MismatchError,
    PackageError,
)
from reidkit.models import Model, load_model
from reidkit.package import Inputs, Package, Takes, read_package
from reidkit.verifying import (
    measure_cosines,
    measure_lengths,
    replay_reference,
    verify_package,
)
from tests.certified import (
    Change,
    damage,
    draw_people,
    give_nan,
    reorder_input,
    scale,
    together,
    write_fake,
    write_tiny,
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    folder = tmp_path_factory.mktemp("packages")
    source = write_tiny(folder / "source")
    chosen = calibration_of(draw_people(folder / "people"), count=32)
    return {
        "source": source,
        "fake": write_fake(folder / "fake"),
        "fp32": compile_package(source, folder / "fp32", target=Target("onnxruntime")),
        "fixed": compile_package(source, folder / "fixed", target=Target("onnxruntime", batch=5)),
        "int8": compile_package(
            source,
            folder / "int8",
            target=Target("onnxruntime", "int8"),
            calibration=chosen,
            accept=lambda _: None,
        ),
    }


KINDS = ["source", "fake", "fp32", "fixed", "int8"]


@pytest.fixture(params=KINDS)
def package(
    packages: dict[str, Package], request: pytest.FixtureRequest, tmp_path: Path
) -> Package:
    """Give a package of each kind, to be changed."""
    return copied(packages[request.param], tmp_path)


def copied(package: Package, folder: Path) -> Package:
    shutil.copytree(package.folder, folder / "package")
    return read_package(folder / "package")


def test_a_healthy_package_passes(package: Package) -> None:
    found = verify_package(package.folder, threads=1)
    assert found.pictures == 16
    made = package.spec.engine.cosine
    assert found.made == (1.0 if made is None else made)
    assert found.cosine == pytest.approx(found.made, abs=1e-6)
    assert (found.runtime, found.device) == (package.spec.engine.runtime, "cpu")


def test_a_changed_file_is_noticed(package: Package) -> None:
    for file in sorted(package.folder.iterdir()):
        before = file.read_bytes()
        file.write_bytes(before[:-3] + bytes([before[-3] ^ 1]) + before[-2:])
        with pytest.raises((IntegrityError, PackageError), match=file.name):
            verify_package(package.folder)
        file.write_bytes(before)
    verify_package(package.folder)


def test_a_missing_file_is_noticed(package: Package) -> None:
    for file in sorted(package.folder.iterdir()):
        before = file.read_bytes()
        file.unlink()
        with pytest.raises(PackageError, match=file.name):
            verify_package(package.folder)
        file.write_bytes(before)


def test_an_edited_manifest_is_noticed(package: Package) -> None:
    path = package.folder / "model.json"
    fields = json.loads(path.read_text())
    fields["input"]["mean"][0] = 0.5
    path.write_text(json.dumps(fields))
    with pytest.raises(IntegrityError, match=r"model\.json was changed"):
        verify_package(package.folder)


def test_another_format_is_refused(package: Package) -> None:
    path = package.folder / "model.json"
    fields = json.loads(path.read_text())
    fields |= {"format": 99}
    path.write_text(json.dumps(fields))
    with pytest.raises(FormatError, match="has package format 99, this reidkit reads formats"):
        verify_package(package.folder)


@pytest.mark.parametrize("kind", ["source", "fixed"])
def test_a_changed_companion_is_noticed(
    packages: dict[str, Package], tmp_path: Path, kind: str
) -> None:
    package = copied(packages[kind], tmp_path)
    (package.folder / "tables.bin").write_bytes(b"1")
    path = package.folder / "model.json"
    fields = json.loads(path.read_text())
    del fields["manifest_sha256"]
    fields["engine"]["companions"] = {"tables.bin": disk.sha256_file(package.folder / "tables.bin")}
    path.write_text(json.dumps(fields | {"manifest_sha256": disk.sha256_json(fields)}))
    verify_package(package.folder)
    (package.folder / "tables.bin").write_bytes(b"2")
    with pytest.raises(IntegrityError, match=r"tables\.bin was changed"):
        verify_package(package.folder)


@pytest.mark.parametrize(
    "change",
    [
        scale("w2", 1.2),
        scale("b2", 3),
        reorder_input(1, [2, 1, 0]),
        reorder_input(3, list(range(15, -1, -1))),
        together(scale("w3", 1.02), scale("b3", 1.02)),
    ],
    ids=["weights", "bias", "channels", "mirrored", "longer"],
)
def test_an_engine_that_computes_something_else(
    packages: dict[str, Package], tmp_path: Path, change: Change
) -> None:
    """All hashes hold: it is as if this machine's engine had another kernel."""
    package = damage(copied(packages["source"], tmp_path), change)
    with pytest.raises(MismatchError, match="gives other vectors here than where it was made"):
        verify_package(package.folder)


def test_an_engine_that_gives_nan(packages: dict[str, Package], tmp_path: Path) -> None:
    package = damage(copied(packages["source"], tmp_path), give_nan())
    with pytest.raises(EngineError, match="NaN or infinity for 16 of 16 reference pictures"):
        verify_package(package.folder)


def test_a_device_that_is_not_here(
    packages: dict[str, Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime as ort

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="cannot run on cuda"):
        verify_package(packages["source"].folder, device="cuda")


def test_int8_may_be_somewhat_off(packages: dict[str, Package], tmp_path: Path) -> None:
    """Its slack is in proportion to how far off it was when it was made."""
    made = packages["int8"].spec.engine.cosine
    assert made is not None
    assert 1e-6 < 1 - made < 0.05


class Recorder:
    """A runtime that notes the sizes of its batches; a vector is a picture's mean colours."""

    name, device = "recorder", "here"
    takes: Takes = "tensor"

    def __init__(self, batch: int | None) -> None:
        self.batch = batch
        self.sizes: list[int] = []

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        self.sizes.append(len(inputs))
        means: NDArray[np.float32] = inputs.mean(axis=(2, 3), dtype=np.float32)
        return np.concatenate([means] * 22, axis=1)[:, :64]

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("fixed", "asked", "sizes"),
    [
        (None, None, [16]),
        (None, 3, [3] * 5 + [1]),
        (None, 16, [16]),
        (5, None, [5] * 4),
        (5, 3, [5] * 6),
        (5, 16, [5] * 4),
        (32, None, [32]),
        (1, 3, [1] * 16),
    ],
)
def test_in_which_batches_the_pictures_run(
    packages: dict[str, Package], fixed: int | None, asked: int | None, sizes: list[int]
) -> None:
    """A model of one batch size gets fewer pictures filled up, and so in other company."""
    package, recorder = packages["source"], Recorder(fixed)
    replay = replay_reference(Model(package.spec, recorder), package.reference(), batch=asked)
    assert recorder.sizes == sizes
    whole = replay_reference(Model(package.spec, Recorder(None)), package.reference())
    np.testing.assert_allclose(replay.vectors, whole.vectors, atol=1e-6)


def test_a_replay_gives_cosines_and_lengths(packages: dict[str, Package]) -> None:
    package = packages["source"]
    with load_model(package) as model:
        replay = replay_reference(model, package.reference())
    np.testing.assert_allclose(replay.cosines, 1)
    np.testing.assert_allclose(replay.lengths, 1, atol=1e-6)
    assert replay.cosine == replay.cosines.min()
    assert replay.stretch == pytest.approx(1)


vectors = arrays.arrays(
    np.float32, (5, 4), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
)


@given(vectors, vectors)
def test_cosines_and_lengths_against_a_loop(a: Any, b: Any) -> None:
    cosines, lengths = measure_cosines(a, b), measure_lengths(a, b)
    for row in range(len(a)):
        x, y = a[row].astype(np.longdouble), b[row].astype(np.longdouble)
        if not x.any() or not y.any():
            same = not x.any() and not y.any()
            assert cosines[row] == (1 if same else 0)
            assert lengths[row] == (0 if y.any() else 1 if same else np.inf)
            continue
        expected = (x @ y) / np.sqrt(x @ x) / np.sqrt(y @ y)
        assert cosines[row] == pytest.approx(float(expected), abs=1e-9)
        assert lengths[row] == pytest.approx(float(np.sqrt(x @ x) / np.sqrt(y @ y)), rel=1e-9)
        assert -1 <= cosines[row] <= 1


@given(vectors)
def test_a_vector_is_like_itself(a: Any) -> None:
    np.testing.assert_allclose(measure_cosines(a, a), 1)
    np.testing.assert_array_equal(measure_lengths(a, a), 1)
