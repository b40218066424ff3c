"""From a checkpoint to a signed-off folder, and what happens when that is interrupted."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from reidkit import deploying, networks, preprocess
from reidkit.certifying import Check, Limits, certificate_as_json
from reidkit.compiling import Target, compile_package, supported_targets
from reidkit.deploying import CERTIFICATE, COMPILED, PACKAGE, REPORT, WORK, deploy, export_once
from reidkit.errors import (
    ArgumentError,
    CalibrationError,
    CheckpointError,
    CompileError,
    EngineError,
    MismatchError,
)
from reidkit.networks import Network
from reidkit.package import InputSpec, Package, read_package
from reidkit.records import Dataset
from reidkit.verifying import verify_package
from tests import certified
from tests.certified import fake_benchmark
from tests.pictures import skip_without

SMALL = InputSpec(height=64, width=32)

# With 28 queries one more or less is 3.6 points, and the network is untrained: its vectors lie
# close together, so that rounding to 8 bits swaps neighbours that a trained one tells apart.
LENIENT = Limits(drop_map=5, drop_rank1=8)
CHECK = Check(LENIENT, batches=(1, 4), seconds=0.05)
FP32, INT8 = Target("onnxruntime"), Target("onnxruntime", "int8")

State = dict[Path, tuple[int, bytes]]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return certified.draw_people(tmp_path_factory.mktemp("drawn") / "data")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "resnet18.safetensors"
    save_file(networks.initial_tensors(Network("resnet18", classes=7)), path)
    return path


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the same network with other weights."""
    path = tmp_path_factory.mktemp("another") / "resnet18.safetensors"
    tensors = networks.initial_tensors(Network("resnet18", classes=7))
    save_file({name: values * 1.01 for name, values in tensors.items()}, path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return certified.write_tiny(tmp_path_factory.mktemp("tiny") / "package")


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_benchmark(monkeypatch)


def read_state(folder: Path) -> State:
    """Give the time and the bytes of every file below a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def read_kept(out: Path) -> State:
    """Give the same for what a second run should leave as it is."""
    vouching = (CERTIFICATE, REPORT)
    return {path: kept for path, kept in read_state(out).items() if path.name not in vouching}


# --- from a checkpoint, timed


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployed") / "out"


@pytest.fixture(scope="module")
def package(checkpoint: Path, out: Path) -> Package:
    return export_once(checkpoint, out, contract=SMALL)


def check_deployed(package: Package, people: Dataset, out: Path, target: Target) -> None:
    """Deploy, and look at everything that must come of it."""
    done = deploy(package, people, out, target=target, check=CHECK)
    assert done.folder == out / f"{target.name}-{target.precision}"
    reasons = [gate.reason for gate in done.certificate.gates if gate.reason]
    assert (done.certificate.verdict, reasons) == ("pass", [])
    written = json.loads((done.folder / CERTIFICATE).read_bytes())
    assert written == certificate_as_json(done.certificate)
    report = (done.folder / REPORT).read_text()
    assert target.name in report
    assert f"{done.certificate.source.scores.mAP:.2%}"[:4] in report
    compiled = read_package(done.folder / COMPILED)
    assert compiled.spec == done.compiled.spec
    assert compiled.spec.parent_sha256 == package.spec.engine.identity
    assert (compiled.spec.engine.target, compiled.spec.engine.precision) == (
        target.name,
        target.precision,
    )
    assert (compiled.spec.calibration is not None) == (target.precision == "int8")
    assert written["compiled"]["sha256"] == compiled.spec.engine.identity
    assert verify_package(done.folder / COMPILED).cosine > 0.9
    assert {entry.name for entry in done.folder.iterdir()} == {COMPILED, CERTIFICATE, REPORT}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnxruntime_from_a_checkpoint(
    package: Package, people: Dataset, out: Path, precision: str
) -> None:
    check_deployed(package, people, out, Target("onnxruntime", precision))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_openvino_from_a_checkpoint(
    package: Package, people: Dataset, out: Path, precision: str
) -> None:
    skip_without("openvino")
    if precision == "int8":
        skip_without("nncf")
    check_deployed(package, people, out, Target("openvino", precision))


@pytest.mark.slow
def test_torch_from_a_package(tiny: Package, people: Dataset, tmp_path: Path) -> None:
    """Of a tiny network: of a ResNet the compiler's minute would be most of this file's time."""
    pytest.importorskip("torch")
    support = supported_targets()["torch"]
    if "fp32" not in support.precisions:
        pytest.skip(support.hint)
    check_deployed(tiny, people, tmp_path, Target("torch"))


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_same_command(
    checkpoint: Path, people: Dataset, tmp_path: Path
) -> None:
    data = Path(people.query.paths[0]).parent.parent
    command = [sys.executable, "-m", "reidkit", "deploy", str(checkpoint), "--data", str(data)]
    command += ["--size", "64x32", "--batch", "1,4", "--seconds", "0.05", "-o", str(tmp_path / "o")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    compiled = tmp_path / "o" / "onnxruntime-fp32" / COMPILED / "model.json"
    deadline = time.monotonic() + 120
    while not compiled.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert compiled.exists()
    assert not (compiled.parent.parent / CERTIFICATE).exists()
    before = read_state(tmp_path / "o" / PACKAGE) | read_state(compiled.parent)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout
    assert read_state(tmp_path / "o" / PACKAGE) | read_state(compiled.parent) == before
    assert json.loads((compiled.parent.parent / CERTIFICATE).read_bytes())["verdict"] == "pass"
    assert (compiled.parent.parent / REPORT).exists()


def test_a_run_killed_while_it_embeds_goes_on_with_what_it_had(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    """The child kills itself while it decodes the 61st picture; batches before it are kept."""
    data = Path(people.query.paths[0]).parent.parent
    code = f"""
import itertools, os, signal
from pathlib import Path
from reidkit import preprocess
from reidkit.certifying import Check
from reidkit.benchmarking import Setting
from reidkit.compiling import Target
from reidkit.datasets import load_dataset
from reidkit.deploying import deploy
from reidkit.package import read_package

count, load = itertools.count(), preprocess.load_image

def die(*arguments, **options):
    if next(count) == 60:
        os.kill(os.getpid(), signal.SIGKILL)
    load(*arguments, **options)

preprocess.load_image = die
deploy(read_package({str(tiny.folder)!r}), load_dataset("market1501", {str(data)!r}),
       {str(tmp_path / "o")!r}, target=Target("onnxruntime"),
       check=Check(setting=Setting(workers=1)))
"""
    died = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    folder = tmp_path / "o" / "onnxruntime-fp32"
    assert (folder / COMPILED).is_dir()
    assert not (folder / CERTIFICATE).exists()
    kept = [path for path in (tmp_path / "o" / WORK).rglob("journal.jsonl") if path.read_bytes()]
    assert len(kept) == 1
    decoded: list[object] = []
    load = preprocess.load_image

    def count(*arguments: Any, **options: Any) -> None:
        decoded.append(arguments[0])
        load(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preprocess, "load_image", count)
        done = deploy(tiny, people, tmp_path / "o", target=FP32, check=CHECK)
    assert done.certificate.verdict == "pass"
    everything = 2 * (len(people.query) + done.certificate.source.scores.gallery)
    embedded = len(decoded) - max(check.pictures for check in done.certificate.batches)
    assert everything - 60 <= embedded < everything


# --- from a package, untimed


def test_a_second_run_finds_everything_again(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    first = [deploy(tiny, people, tmp_path, target=t, check=CHECK) for t in (FP32, INT8)]
    before = read_kept(tmp_path)
    assert sum(path.name == "vectors.npy" for path in before) == 6
    again = [deploy(tiny, people, tmp_path, target=t, check=CHECK) for t in (FP32, INT8)]
    assert read_kept(tmp_path) == before
    for one, other in zip(first, again, strict=True):
        assert one.certificate.verdict == other.certificate.verdict == "pass"
        assert one.certificate.source.scores.mAP == other.certificate.source.scores.mAP
        assert (other.folder / CERTIFICATE).exists()


def test_a_limit_that_cannot_be_met_fails_but_is_written_down(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    harsh = dataclasses.replace(CHECK, limits=Limits(drop_map=-50))
    done = deploy(tiny, people, tmp_path, target=FP32, check=harsh)
    assert done.certificate.verdict == "fail"
    written = json.loads((done.folder / CERTIFICATE).read_bytes())
    assert written["verdict"] == "fail"
    assert [gate["name"] for gate in written["gates"] if gate["verdict"] == "fail"] == ["mAP kept"]
    assert (done.folder / REPORT).exists()
    with pytest.raises(CompileError, match=r"refused even with .* at most -50 points are allowed"):
        deploy(tiny, people, tmp_path, target=INT8, check=harsh)
    assert list((tmp_path / "onnxruntime-int8").iterdir()) == []


def test_another_package_replaces_what_was_compiled_before(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    other = certified.damage(_copy(tiny, tmp_path / "other"), certified.scale("w1", 1.1))
    other = certified.describe(other.folder, "model.onnx")
    deploy(tiny, people, tmp_path / "o", target=FP32, check=CHECK)
    done = deploy(other, people, tmp_path / "o", target=FP32, check=CHECK)
    assert done.certificate.verdict == "pass"
    assert done.certificate.source.sha256 == other.spec.engine.identity
    assert read_package(done.folder / COMPILED).spec.parent_sha256 == other.spec.engine.identity
    # Two sources and two compiled packages, query and gallery each.
    assert len(list((tmp_path / "o" / WORK).rglob("vectors.npy"))) == 8


def test_no_old_certificate_vouches_for_a_new_package(
    tiny: Package,
    people: Dataset,
    tmp_path: Path,
    untimed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = deploy(tiny, people, tmp_path / "o", target=FP32, check=CHECK)
    other = certified.damage(_copy(tiny, tmp_path / "other"), certified.scale("w1", 1.1))
    other = certified.describe(other.folder, "model.onnx")

    def fail(*_: object, **__: object) -> None:
        raise EngineError("the power went away")

    monkeypatch.setattr(deploying, "certify", fail)
    with pytest.raises(EngineError, match="the power went away"):
        deploy(other, people, tmp_path / "o", target=FP32, check=CHECK)
    assert {entry.name for entry in done.folder.iterdir()} == {COMPILED}


def test_a_changed_compiled_package_is_made_again(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    done = deploy(tiny, people, tmp_path, target=FP32, check=CHECK)
    engine = done.compiled.engine_file
    right = engine.read_bytes()
    engine.write_bytes(right[:-1])
    assert deploy(tiny, people, tmp_path, target=FP32, check=CHECK).certificate.verdict == "pass"
    assert engine.read_bytes() == right


def test_another_batch_size_is_compiled_again_and_a_fixed_source_is_not(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    deploy(tiny, people, tmp_path, target=FP32, check=CHECK)
    four = deploy(tiny, people, tmp_path, target=Target("onnxruntime", batch=4), check=CHECK)
    assert four.compiled.spec.engine.batch == 4
    assert [check.batch for check in four.certificate.batches] == [4]
    before = read_state(four.folder / COMPILED)
    deploy(tiny, people, tmp_path, target=Target("onnxruntime", batch=4), check=CHECK)
    assert read_state(four.folder / COMPILED) == before


def test_other_data_is_scored_anew(
    tiny: Package, people: Dataset, tmp_path: Path, untimed: None
) -> None:
    deploy(tiny, people, tmp_path, target=INT8, check=CHECK)
    fewer = dataclasses.replace(people, query=people.query.select(slice(0, 20)))
    before = read_state(tmp_path / "onnxruntime-int8" / COMPILED)
    done = deploy(tiny, fewer, tmp_path, target=INT8, check=CHECK)
    assert done.certificate.data["queries"] == "20"
    assert read_state(tmp_path / "onnxruntime-int8" / COMPILED) == before
    # Another training split calibrates otherwise.
    part = dataclasses.replace(people, train=people.train.select(slice(0, 60)))
    done = deploy(tiny, part, tmp_path, target=INT8, check=CHECK)
    calibrated = json.loads((done.folder / COMPILED / "calibration.json").read_bytes())
    assert len(calibrated["pictures"]) < 60
    assert read_state(tmp_path / "onnxruntime-int8" / COMPILED) != before


# --- int8 and its fallback


class Objections:
    """Stands in for `find_objection`: objects as long as a layer is not in float."""

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, candidate: Package, *_: object, **__: object) -> str | None:
        self.asked.append(candidate.spec.engine.float_layers)
        return None if self.layer in self.asked[-1] else f"{self.layer} is not in float"


def test_int8_leaves_layers_in_float_until_nothing_is_objected(
    tiny: Package,
    people: Dataset,
    tmp_path: Path,
    untimed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deploy(tiny, people, tmp_path, target=INT8, check=CHECK)
    # The limits became tighter: what an earlier run found good is judged again.
    objections = Objections("conv1")
    monkeypatch.setattr(deploying, "find_objection", objections)
    done = deploy(tiny, people, tmp_path, target=INT8, check=CHECK)
    floating = done.compiled.spec.engine.float_layers
    assert "conv1" in floating
    assert len(floating) < 3
    assert objections.asked[0] == objections.asked[1] == ()
    assert objections.asked[-1] == floating
    assert any("stayed in float: " in warning for warning in done.certificate.warnings)
    # Once found, the same call takes it as it is.
    before, count = read_state(done.folder / COMPILED), len(objections.asked)
    deploy(tiny, people, tmp_path, target=INT8, check=CHECK)
    assert read_state(done.folder / COMPILED) == before
    assert objections.asked[count:] == [floating]


def test_int8_that_is_never_good_enough_is_refused(
    tiny: Package, people: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "find_objection", Objections("none of them"))
    with pytest.raises(CompileError, match="none of them is not in float; use another precision"):
        deploy(tiny, people, tmp_path, target=INT8, check=CHECK)
    assert list((tmp_path / "onnxruntime-int8").iterdir()) == []


def test_fp32_is_judged_by_its_certificate_alone(
    tiny: Package,
    people: Dataset,
    tmp_path: Path,
    untimed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deploying, "find_objection", None)
    assert deploy(tiny, people, tmp_path, target=FP32, check=CHECK).certificate.verdict == "pass"


def test_too_few_training_pictures_are_refused(
    tiny: Package, people: Dataset, tmp_path: Path
) -> None:
    few = dataclasses.replace(people, train=people.train.select(slice(0, 5)))
    with pytest.raises(CalibrationError, match="5 training pictures"):
        deploy(tiny, few, tmp_path, target=INT8, check=CHECK)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_compiled_is_refused(tiny: Package, people: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="target is 'toaster'"):
        deploy(tiny, people, tmp_path, target=Target("toaster"), check=CHECK)
    compiled = compile_package(tiny, tmp_path / "c", target=FP32)
    with pytest.raises(ArgumentError, match="was compiled for onnxruntime fp32 already"):
        deploy(compiled, people, tmp_path / "o", target=FP32, check=CHECK)
    nobody = dataclasses.replace(people.query, person_ids=people.query.person_ids + 10**6)
    strangers = dataclasses.replace(people, query=nobody)
    with pytest.raises(MismatchError, match="queries can be scored"):
        deploy(tiny, strangers, tmp_path / "p", target=FP32, check=CHECK)
    assert not (tmp_path / "p" / "onnxruntime-fp32" / CERTIFICATE).exists()


# --- exporting once


def test_a_package_is_exported_once(checkpoint: Path, tmp_path: Path) -> None:
    first = export_once(checkpoint, tmp_path, contract=SMALL)
    before = read_state(tmp_path)
    for architecture in (None, "resnet18"):
        again = export_once(checkpoint, tmp_path, contract=SMALL, architecture=architecture)
        assert again.spec == first.spec
    assert read_state(tmp_path) == before
    elsewhere = tmp_path / "renamed.safetensors"
    shutil.copyfile(checkpoint, elsewhere)
    assert export_once(elsewhere, tmp_path, contract=SMALL).spec == first.spec


def test_another_checkpoint_replaces_the_package(
    checkpoint: Path, another: Path, tmp_path: Path
) -> None:
    first = export_once(checkpoint, tmp_path, contract=SMALL)
    second = export_once(another, tmp_path, contract=SMALL)
    assert second.spec.engine.sha256 != first.spec.engine.sha256
    assert read_package(tmp_path / PACKAGE).spec == second.spec


@pytest.mark.parametrize("change", ["size", "neck", "stride", "damage"])
def test_a_package_made_in_another_way_is_replaced(
    checkpoint: Path, tmp_path: Path, change: str
) -> None:
    first = export_once(checkpoint, tmp_path, contract=SMALL)
    contract, stride = SMALL, 1
    if change == "size":
        contract = InputSpec(height=32, width=16)
    elif change == "neck":
        contract = dataclasses.replace(SMALL, neck="before")
    elif change == "stride":
        stride = 2
    else:
        os.truncate(first.engine_file, 1000)
    second = export_once(checkpoint, tmp_path, contract=contract, last_stride=stride)
    assert second.spec.input == contract
    assert second.spec.provenance["last_stride"] == str(stride)
    assert read_package(tmp_path / PACKAGE).spec == second.spec


def test_a_checkpoint_that_cannot_be_read_touches_nothing(checkpoint: Path, tmp_path: Path) -> None:
    export_once(checkpoint, tmp_path, contract=SMALL)
    before = read_state(tmp_path)
    wrong = tmp_path / "wrong.pth"
    wrong.write_bytes(b"not a checkpoint")
    for path in (wrong, tmp_path / "missing.pth"):
        with pytest.raises(CheckpointError):
            export_once(path, tmp_path, contract=SMALL)
    wrong.unlink()
    assert read_state(tmp_path) == before


def test_a_folder_of_other_things_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "thesis.tex").write_text("years of work")
    with pytest.raises(ArgumentError, match="other things"):
        export_once(checkpoint, tmp_path, contract=SMALL)
    assert (tmp_path / PACKAGE / "thesis.tex").read_text() == "years of work"


def _copy(package: Package, folder: Path) -> Package:
    shutil.copytree(package.folder, folder)
    return read_package(folder)
