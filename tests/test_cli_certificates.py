"""`compile`, `verify`, `certify` and `deploy` as a user meets them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from reidkit import networks
from reidkit.cli import _certificates
from reidkit.compiling import Target, compile_package
from reidkit.networks import Network
from reidkit.package import Package, read_package
from tests import certified
from tests.certified import damage, fake_benchmark
from tests.pictures import write_picture
from tests.test_cli import Runner

LENIENT = ("--max-drop-map", "5", "--max-drop-rank1", "8", "--batch", "1,4", "--seconds", "0.05")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setenv("COLUMNS", "120")
    fake_benchmark(monkeypatch)
    return Runner(capsys)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn") / "data"
    certified.draw_people(root)
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return certified.write_tiny(tmp_path_factory.mktemp("tiny") / "package")


@pytest.fixture(scope="module")
def compiled(tiny: Package) -> Package:
    return compile_package(tiny, tiny.folder.parent / "compiled", target=Target("onnxruntime"))


@pytest.fixture
def broken(compiled: Package, tmp_path: Path) -> Package:
    """A compiled package with one layer's weights scaled."""
    shutil.copytree(compiled.folder, tmp_path / "broken")
    return damage(read_package(tmp_path / "broken"), certified.scale("w2", 2))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "osnet_x0_25.safetensors"
    save_file(networks.initial_tensors(Network("osnet_x0_25", classes=7)), path)
    return path


def flat(text: str) -> str:
    return " ".join(text.split())


# --- compile


def test_compile_for_people_and_as_json(run: Runner, tiny: Package, tmp_path: Path) -> None:
    out = flat(run.well("compile", tiny.folder, tmp_path / "c").out)
    assert "tiny, vectors of 64" in out
    assert "sha256 of model.onnx: " in out
    arguments = ("compile", tiny.folder, tmp_path / "four", "--batch", "4", "--json")
    found = run.well(*arguments).json
    assert found["out"] == str(tmp_path / "four")
    assert (found["engine"]["target"], found["engine"]["batch"]) == ("onnxruntime", 4)
    assert found["parent_sha256"] == tiny.spec.engine.identity
    assert "exists already" in run.fails("compile", tiny.folder, tmp_path / "c")
    run.well("compile", tiny.folder, tmp_path / "c", "--overwrite")


def test_compile_calibrates_int8_with_training_pictures_alone(
    run: Runner, tiny: Package, data: Path, tmp_path: Path
) -> None:
    arguments = ("compile", tiny.folder, tmp_path / "c", "--precision", "int8")
    assert "--calibrate DIR" in run.fails(*arguments)
    assert "query" in run.fails(*arguments, "--calibrate", data / "query")
    (tmp_path / "three").mkdir()
    for i in range(3):
        write_picture(tmp_path / "three" / f"{i}.jpg", seed=i)
    assert "3 training pictures" in run.fails(*arguments, "--calibrate", tmp_path / "three")
    assert not (tmp_path / "c").exists()
    found = run.well(*arguments, "--calibrate", data, "--json").json
    assert found["engine"]["precision"] == "int8"
    assert len(found["calibration"]) == 64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "toaster"), "'toaster' is not one of"),
        (("--precision", "int4"), "'int4' is not one of"),
        (("--batch", "0"), "neither `any` nor a batch size"),
        (("--batch", "many"), "neither `any` nor a batch size"),
    ],
)
def test_compile_used_wrongly(
    run: Runner, tiny: Package, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in run.fails("compile", tiny.folder, tmp_path / "c", *arguments, code=2)
    assert not (tmp_path / "c").exists()


def test_compile_something_else(run: Runner, compiled: Package, tmp_path: Path) -> None:
    out = tmp_path / "c"
    assert "does not exist" in run.fails("compile", tmp_path / "nowhere", out)
    assert "compiled for onnxruntime fp32 already" in run.fails("compile", compiled.folder, out)
    assert "is not a model package" in run.fails("compile", tmp_path, out)


# --- verify


def test_verify_for_people_and_as_json(run: Runner, compiled: Package) -> None:
    out = flat(run.well("verify", compiled.folder).out)
    assert "whole; 16 reference pictures give its vectors with onnxruntime on cpu" in out
    found = run.well("verify", compiled.folder, "--json", "--threads", "1").json
    assert found["package"] == str(compiled.folder)
    assert (found["pictures"], found["runtime"], found["device"]) == (16, "onnxruntime", "cpu")
    assert found["cosine"] > 0.9999


def test_verify_notices_an_edited_file_and_other_vectors(run: Runner, broken: Package) -> None:
    assert "gives other vectors here than where it was made" in run.fails("verify", broken.folder)
    with broken.engine_file.open("ab") as file:
        file.write(b"x")
    assert "was changed after the package was made" in run.fails("verify", broken.folder)
    broken.engine_file.unlink()
    assert "model.onnx is missing" in run.fails("verify", broken.folder, "--json")
    assert "is not a model package" in run.fails("verify", broken.folder.parent)


# --- certify


def test_certify_for_people(
    run: Runner, tiny: Package, compiled: Package, data: Path, tmp_path: Path
) -> None:
    arguments = ("certify", compiled.folder, "--against", tiny.folder, "--data", data, *LENIENT)
    result = run.well(*arguments, "-o", tmp_path / "o")
    out = flat(result.out)
    for text in ("source compiled", "mAP", "Rank-1", "mINP", "pictures/s 100.0 200.0"):
        assert text in re.sub(r"[│┃ ]+", " ", out)
    assert "PASS same at every batch size" in out
    assert f"PASS: {tmp_path / 'o' / 'report.html'}" in out
    assert "FAIL" not in out
    for stage in ("source query", "compiled gallery", "batch sizes", "timing"):
        assert stage in result.err
        assert stage not in result.out
    assert "0/?" not in result.err
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"certificate.json", "report.html"}


def test_certify_as_json_is_what_is_written(
    run: Runner, tiny: Package, compiled: Package, data: Path, tmp_path: Path
) -> None:
    arguments = ("certify", compiled.folder, "--against", tiny.folder, "--data", data, *LENIENT)
    found = run.well(*arguments, "-o", tmp_path / "o", "--json").json
    assert found == json.loads((tmp_path / "o" / "certificate.json").read_bytes())
    assert found["verdict"] == "pass"
    assert [check["batch"] for check in found["batches"]] == [1, 4]


def test_certify_fails_a_damaged_package_and_names_the_layer(
    run: Runner, tiny: Package, broken: Package, data: Path, tmp_path: Path
) -> None:
    arguments = ("certify", broken.folder, "--against", tiny.folder, "--data", data, *LENIENT)
    result = run(*arguments, "-o", tmp_path / "o")
    assert result.code == 1
    out = flat(result.out)
    assert "FAIL vectors agree: " in out
    assert "the first layer that diverges is conv2 (Conv)" in out
    assert f"FAIL: {tmp_path / 'o' / 'report.html'}" in out
    assert "reidkit:" not in result.err
    as_json = run(*arguments, "-o", tmp_path / "o", "--json")
    assert (as_json.code, as_json.json["verdict"]) == (1, "fail")
    assert as_json.json["divergence"]["first"] == "conv2"
    assert "conv2" in (tmp_path / "o" / "report.html").read_text()


@pytest.mark.parametrize(
    ("option", "gate"),
    [
        (("--max-drop-map", "-50"), "mAP kept"),
        (("--max-drop-rank1", "-50"), "Rank-1 kept"),
    ],
)
def test_certify_takes_its_limits_from_the_command_line(
    run: Runner,
    tiny: Package,
    compiled: Package,
    data: Path,
    tmp_path: Path,
    option: tuple[str, str],
    gate: str,
) -> None:
    arguments = ("certify", compiled.folder, "--against", tiny.folder, "--data", data, *LENIENT)
    result = run(*arguments, *option, "-o", tmp_path / "o", "--json")
    assert result.code == 1
    found = {each["name"]: each for each in result.json["gates"]}
    assert [name for name in found if found[name]["verdict"] == "fail"] == [gate]
    assert found[gate]["limit"] == -50


def test_certify_prints_warnings(
    run: Runner,
    tiny: Package,
    compiled: Package,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_benchmark(monkeypatch, rates=(100.0, 50.0))
    arguments = ("certify", compiled.folder, "--against", tiny.folder, "--data", data, *LENIENT)
    out = flat(run.well(*arguments, "-o", tmp_path / "o").out)
    assert "note: the compiled package is slower than its source: 50.0 pictures a second" in out


def test_certify_used_wrongly(
    run: Runner, tiny: Package, compiled: Package, data: Path, tmp_path: Path
) -> None:
    base = ("certify", compiled.folder, "--against", tiny.folder, "-o", tmp_path / "o")
    assert "--data ROOT is missing" in run.fails(*base, code=2)
    assert "--against" in run.fails("certify", compiled.folder, "--data", data, code=2)
    assert "'1,x' is not a list of batch sizes" in run.fails(*base, "--batch", "1,x", code=2)
    assert "--min-cosine" in run.fails(*base, "--min-cosine", "2", code=2)
    assert "nowhere" in run.fails(*base, "--data", tmp_path / "nowhere")
    swapped = ("certify", tiny.folder, "--against", compiled.folder, "-o", tmp_path / "o")
    assert "swap the two" in run.fails(*swapped, "--data", data)
    assert not (tmp_path / "o").exists()


# --- deploy


@pytest.mark.slow
def test_deploy_for_people_and_again_as_json(
    run: Runner, checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o"
    arguments = ("deploy", checkpoint, "--data", data, "--size", "64x32", *LENIENT, "-o", out)
    both = ("--precision", "fp32", "--precision", "int8", "--precision", "fp32")
    result = run.well(*arguments, *both)
    for precision in ("fp32", "int8"):
        folder = out / f"onnxruntime-{precision}"
        assert f"PASS: {folder / 'report.html'}" in flat(result.out)
        assert {path.name for path in folder.iterdir()} == {
            "compiled",
            "certificate.json",
            "report.html",
        }
    assert "0/?" not in result.err
    assert {path.name for path in out.iterdir()} == {
        "package",
        "work",
        "onnxruntime-fp32",
        "onnxruntime-int8",
    }
    found = run.well(*arguments, "--json").json
    assert found["out"] == str(out)
    (certificate,) = found["certificates"]
    assert certificate.pop("folder") == str(out / "onnxruntime-fp32")
    written = json.loads((out / "onnxruntime-fp32" / "certificate.json").read_bytes())
    assert certificate == written
    # A limit that cannot be met: the same files, another verdict.
    failing = run(*arguments, "--max-drop-map", "-50", "--json")
    assert failing.code == 1
    assert failing.json["certificates"][0]["verdict"] == "fail"


def test_deploy_used_wrongly(run: Runner, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    given = ("deploy", checkpoint, "--data", data, "-o", out)
    assert "--data ROOT is missing" in run.fails("deploy", checkpoint, "-o", out, code=2)
    assert "'toaster' is not one of" in run.fails(*given, "--target", "toaster", code=2)
    assert "'-o'" in run.fails("deploy", checkpoint, "--data", data, code=2)
    assert "64by32" in run.fails(*given, "--size", "64by32", code=2)
    missing = tmp_path / "missing.pth"
    assert "missing.pth" in run.fails("deploy", missing, "--data", data, "-o", out)
    assert "nowhere" in run.fails("deploy", checkpoint, "--data", tmp_path / "nowhere", "-o", out)
    (tmp_path / "bad.pth").write_bytes(b"not a checkpoint")
    assert "bad.pth" in run.fails("deploy", tmp_path / "bad.pth", "--data", data, "-o", out)
    assert not out.exists()


# --- bars


def test_a_stage_that_comes_again_keeps_its_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with _certificates.watching() as watch:
        bars: list[Callable[[int, int], None] | None] = [
            watch(stage) for stage in ("source query", "timing", "source query")
        ]
        for bar in bars:
            assert bar is not None
            bar(5, 5)
    out, err = capsys.readouterr()
    assert out == ""
    assert bars[0] is bars[2]
    assert err.count("source query") == err.count("timing") == 1
    assert "0/?" not in err
