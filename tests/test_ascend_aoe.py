"""`aoe`: the engines of this machine measured, the fastest kept; the real tuner where it is."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from reidkit.ascend._models import open_model
from reidkit.ascend._om import read_header, read_record
from reidkit.ascend.compiler import _aoe, _real
from reidkit.ascend.compiler._aoe import Tuning, list_candidates, parse_tuning, write_times
from reidkit.cli.ascend.aoe import command
from reidkit.compiling import Support, Target
from reidkit.errors import AscendError
from tests.contract.test_runtimes import HEIGHT, SIZE, WIDTH, write_onnx


@pytest.fixture(autouse=True)
def no_toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide a toolkit that may be installed where the tests run."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH", _real.INSIDE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_real, "_USUAL_HOMES", ())


def aoe(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def required(model: Path) -> list[str]:
    return ["--framework=5", f"--model={model}", "--job_type=2", f"--output={model.parent / 'x'}"]


@pytest.mark.parametrize("batch", [2, -1])
def test_the_fastest_engine_is_kept(tmp_path: Path, batch: int) -> None:
    model, _ = write_onnx(tmp_path, None)
    shape = f"--input_shape=image:{batch},3,{HEIGHT},{WIDTH}"
    gears = ["--dynamic_batch_size=1,2"] if batch < 0 else []
    result = aoe(*required(model), shape, *gears, "--seconds=0.05", "--progress_bar=on")
    assert result.exit_code == 0, result.output
    (times,) = tmp_path.glob("aoe_result_opat_*.json")
    found = json.loads(times.read_text())
    assert found["baseline"]["engine"] == "onnxruntime fp32 on cpu"
    sizes = ["1", "2"] if batch < 0 else ["2"]
    assert all(sorted(each) == sizes for each in found["candidates"].values())
    totals = {
        engine: sum(time / int(size) for size, time in each.items())
        for engine, each in found["candidates"].items()
    }
    assert min(totals, key=lambda engine: totals[engine]) == found["tuned"]["engine"]
    record = read_record(tmp_path / "x.om")
    engine = f"{record['runtime']} {record['precision']} on {record['device']}"
    assert engine == found["tuned"]["engine"]
    assert f"{engine}: batch " in result.stdout
    assert result.stdout.splitlines()[-1] == "AOE process finished."
    assert "emulated without effect here: --progress_bar" in result.stderr
    inputs = np.random.default_rng(0).standard_normal((2, 3, HEIGHT, WIDTH), dtype=np.float32)
    session, plain = open_model(tmp_path / "x.om"), open_model(model)
    assert session.batch_gears == ((1, 2) if batch < 0 else ())
    (vectors,), (expected,) = session.run([inputs]).outputs, plain.run([inputs]).outputs
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4)
    assert vectors.shape == (2, SIZE)
    session.close()
    plain.close()
    assert read_header(tmp_path / "x.om").options["job_type"] == "2"


def test_the_best_needs_the_least_time_over_all_batch_sizes() -> None:
    tuning = Tuning(("a", "b", "c"), ({1: 100.0, 8: 400.0}, {1: 50.0, 8: 900.0}, {1: 90.0, 8: 850}))
    # milliseconds a picture: 10 + 2.5, 20 + 1.1, 11.1 + 1.2
    assert tuning.best == 2
    assert tuning.describe() == [
        "a: batch 1 100.0, batch 8 400.0 pictures/s",
        "b: batch 1 50.0, batch 8 900.0 pictures/s",
        "c: batch 1 90.0, batch 8 850.0 pictures/s (kept)",
    ]


@pytest.mark.parametrize(("job", "kind"), [("1", "sgat"), ("2", "opat")])
def test_times_are_written_beside_the_output(tmp_path: Path, job: str, kind: str) -> None:
    options, _ = parse_tuning(["--model=m.onnx", f"--job_type={job}", f"--output={tmp_path / 'x'}"])
    tuning = Tuning(("a", "b"), ({4: 100.0}, {4: 200.0}), ("c does not work here: why",))
    path = write_times(options, tuning)
    assert path.parent == tmp_path
    assert path.name.startswith(f"aoe_result_{kind}_")
    found = json.loads(path.read_text())
    assert found["baseline"] == {"engine": "a", "time": {"4": 40.0}}
    assert found["tuned"] == {"engine": "b", "time": {"4": 20.0}}
    assert found["failures"] == ["c does not work here: why"]


def test_what_is_tried_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported() -> dict[str, Support]:
        return {"onnxruntime": Support(("fp32", "fp16")), "openvino": Support(("fp32",))}

    plain, other = Target("onnxruntime", batch=4), Target("openvino", batch=4)
    monkeypatch.setattr(_aoe, "supported_targets", supported)
    monkeypatch.setattr("reidkit.ascend.compiler._atc._supported_precisions", lambda: ("fp32",))
    assert list_candidates("fp32", 4) == [plain, other]
    monkeypatch.setattr(
        "reidkit.ascend.compiler._atc._supported_precisions", lambda: ("fp32", "fp16")
    )
    gpu = [Target("onnxruntime", precision, 4, "cuda") for precision in ("fp16", "fp32")]
    assert list_candidates("fp16", 4) == [plain, *gpu, other]


def test_options_are_those_of_atc_without_the_chip() -> None:
    options, seconds = parse_tuning(["--model", "a/x.onnx", "--job_type", "1", "--device=0"])
    assert options.output == Path("x.om")
    assert seconds == 2.0
    assert options.without_effect == ("device",)
    _, seconds = parse_tuning(["--model=x.onnx", "--job_type=1", "--seconds=0.5"])
    assert seconds == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=x.onnx"], "E10054: .*job_type"),
        (["--job_type=1"], "E10054: .*model"),
        (["--model=x.onnx", "--job_type=3"], "E10001: .*job_type.* 1, 2"),
        (["--model=x.onnx", "--job_type=1", "--framework=0"], "E10007: .*Caffe"),
        (["--model=x.onnx", "--job_type=1", "--seconds=0"], "--seconds is '0'"),
        (["--model=x.onnx", "--job_type=1", "--seconds=nan"], "--seconds is 'nan'"),
        (["--model=x.onnx", "--job_type=1", "--seconds=long"], "--seconds is 'long'"),
        (["--model=x.onnx", "--job_type=1", "--mode=6"], "--mode is an option of atc"),
        (["--model=x.onnx", "--job_type=1", "--nonsense=0"], "unknown command line flag"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(AscendError, match=message):
        parse_tuning(arguments)


def test_an_error_is_a_block_and_leaves_nothing(tmp_path: Path) -> None:
    model, _ = write_onnx(tmp_path, None)
    result = aoe(*required(model), f"--input_shape=input:1,3,{HEIGHT},{WIDTH}")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:2] == ["AOE process start, please wait for a moment.", "AOE process failed."]
    assert lines[2].startswith("E10016: Opname [input]")
    assert lines[3].strip().startswith("Solution: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_the_real_tuner_is_run_where_it_is(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "aoe"
    tool.parent.mkdir()
    tool.write_text(f"#!{sys.executable}\nimport sys\nprint(sys.argv[1:])\nsys.exit(3)\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    arguments = ["--framework", "5", "--job_type=2", "--new=1"]
    result = aoe(*arguments)
    assert result.exit_code == 3
    assert result.stdout == f"{arguments}\n"
    result = aoe("--emulate", "1", *arguments)
    assert result.exit_code == 1
    assert "unknown command line flag 'new'" in result.stdout
