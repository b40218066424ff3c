"""The command line of the guide's batch inference tool: spellings, exit codes, lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from reidkit.cli import main
from reidkit.cli.ascend.bench import command
from tests import ascend_models


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    ascend_models.write_model(Path("m.onnx"), 2)
    ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(3)])
    return tmp_path


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["ascend", "bench", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_guides_own_line_as_a_module() -> None:
    line = [
        "--model",
        "m.onnx",
        "--input",
        "d",
        "--output",
        "./",
        "--output_dirname",
        "bs1",
        "--outfmt",
        "BIN",
        "--batchsize",
        "2",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "reidkit.ais_bench", *line],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in Path("bs1").iterdir()) == [
        "0_0.bin",
        "1_0.bin",
        "2_0.bin",
    ]
    summary = json.loads(Path("bs1_summary.json").read_text())
    assert summary["args"][1:] == line
    assert Path(summary["args"][0]).name == "__main__.py"
    shown = done.stdout.splitlines()
    assert all(text.startswith("[INFO] ") for text in shown)  # the bar is on stderr
    last = [text for text in shown if "throughput" in text][-1]
    assert float(last.split()[-1]) == summary["throughput"]


@pytest.mark.parametrize(
    "line",
    [
        "-m m.onnx -i d -o out --output_dirname x -l 2 -d 0",
        "--om m.onnx --input=d --output out --output_dirname x -r 2",
        "-om m.onnx --input d --output out -od x --loop 2 --device 0",
        "--om-model m.onnx -i d -o out --output-dirname x --loop 2",
    ],
)
def test_other_spellings(line: str) -> None:
    result = bench(*line.split())
    assert result.exit_code == 0, result.output
    assert json.loads(Path("out/x_summary.json").read_text())["NPU_compute_time"]["count"] == 4


def test_every_option_has_its_name_of_2023_and_one_with_hyphens() -> None:
    known = {name for option in command.params for name in option.opts}
    names = [
        "model",
        "input",
        "output",
        "output_dirname",
        "outfmt",
        "loop",
        "debug",
        "device",
        "dymBatch",
        "dymHW",
        "dymDims",
        "dymShape",
        "outputSize",
        "auto_set_dymshape_mode",
        "auto_set_dymdims_mode",
        "batchsize",
        "pure_data_type",
        "profiler",
        "dump",
        "acl_json_path",
        "output_batchsize_axis",
        "run_mode",
        "display_all_summary",
        "warmup_count",
        "dymShape_range",
        "aipp_config",
        "energy_consumption",
        "npu_id",
        "backend",
        "perf",
        "pipeline",
        "profiler_rename",
        "dump_npy",
        "divide_input",
        "threads",
    ]
    assert {f"--{name}" for name in names} <= known
    kebab = [
        "om-model",
        "output-dirname",
        "dym-batch",
        "dym-hw",
        "dym-dims",
        "dym-shape",
        "output-size",
        "batch-size",
        "auto-set-dymshape-mode",
        "auto-set-dymdims-mode",
        "pure-data-type",
        "acl-json-path",
        "output-batchsize-axis",
        "run-mode",
        "display-all-summary",
        "warmup-count",
        "dym-shape-range",
        "aipp-config",
        "energy-consumption",
        "npu-id",
        "profiler-rename",
        "dump-npy",
        "divide-input",
    ]
    assert {f"--{name}" for name in kebab} <= known
    short = "m i o l d om od db dhw dd ds outsize asdsm asddm pdt pf acl oba rm das wcount dr aipp"
    assert {f"-{name}" for name in [*short.split(), "ec"]} <= known
    assert all(isinstance(option, click.Option) for option in command.params)


@pytest.mark.parametrize("yes", ["yes", "TRUE", "t", "Y", "1"])
@pytest.mark.parametrize("no", ["no", "False", "f", "N", "0"])
def test_booleans_take_a_value(yes: str, no: str) -> None:
    result = bench("-m", "m.onnx", "--display_all_summary", yes, "--pipeline", no)
    assert result.exit_code == 0
    assert "H2D_latency (ms): min = 0.0" in result.stdout


def test_a_model_is_described_on_demand() -> None:
    assert "[DEBUG]" not in bench("-m", "m.onnx").stdout
    assert (
        "[DEBUG] #0 image (2, 3, 4, 2) float32 192 192"
        in bench("-m", "m.onnx", "--debug", "1").stdout
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "-m m.onnx --pipeline maybe",
        "-m m.onnx --pipeline",
        "-m m.onnx --loop 0",
        "-m m.onnx --device 256",
        "-m m.onnx --device 0;1",
        "-m m.onnx --outfmt bin",
        "-m m.onnx --run_mode fast",
        "-m m.onnx --warmup_count -1",
        "-m m.onnx --batchsize 0",
        "-m m.onnx --threads 0",
        "-m m.onnx --output_batchsize_axis -1",
        "-m m.onnx --backend other",
        "-m m.onnx --nonsense 1",
    ],
)
def test_wrong_usage_is_exit_code_2(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(*line.split()) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-m m.onnx --output_dirname x", "error bad parameters --output_dirname"),
        ("-m m.onnx -o o --profiler 1 --dump 1", "error bad parameters --profiler and --dump"),
        ("-m m.onnx --profiler 1", "miss output parameter!"),
        ("-m m.onnx --dump 1", "miss output parameter!"),
        ("-m m.onnx -o o --output_dirname /x", "--output_dirname do not support abs path!"),
        ("-m none.onnx", "load model from file failed, model file is none.onnx"),
        ("-m m.onnx -i none", "Invalid args. none  of --input is invalid"),
        ("-m m.onnx -i d,d", "args input dir num:2 not equal to model inputs num:1"),
        ("-m m.onnx --dymBatch 2 --dymHW 4,2", "exclude each other"),
        ("-m m.onnx --run_mode files", "not support pure infer"),
    ],
)
def test_errors_are_exit_code_1_and_a_line_on_stdout(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*line.split()) == 1
    shown = capsys.readouterr()
    errors = [text for text in shown.out.splitlines() if text.startswith("[ERROR] ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "reidkit: " in shown.err
    assert "Traceback" not in shown.err
    assert not Path("o").exists()


def test_what_only_a_chip_can_do_is_remarked_on_in_one_line() -> None:
    result = bench(
        *[
            "-m",
            "m.onnx",
            "-i",
            "d",
            "-o",
            "out",
            "--profiler",
            "1",
            "--npu_id",
            "3",
            "--aipp_config",
            "a.config",
            "--perf",
            "1",
        ],
        *[
            "--backend",
            "trtexec",
            "--energy_consumption",
            "1",
            "--acl_json_path",
            "a.json",
            "--dump_npy",
            "0",
        ],
    )
    assert result.exit_code == 0
    (remark,) = [text for text in result.stdout.splitlines() if text.startswith("[WARNING]")]
    for name in [
        "profiler",
        "npu_id",
        "aipp_config",
        "perf",
        "backend",
        "energy_consumption",
        "acl_json_path",
    ]:
        assert f"--{name}" in remark
    assert "--dump_npy" not in remark


def test_threads_need_the_pipeline() -> None:
    assert (
        "--threads 2 needs --pipeline 1: reset to 1"
        in bench("-m", "m.onnx", "-i", "d", "--threads", "2").stdout
    )
    together = bench("-m", "m.onnx", "-i", "d", "--threads", "2", "--pipeline", "1")
    assert together.exit_code == 0
    assert "[WARNING]" not in together.stdout


def test_files_separated_by_commas_and_a_folder_with_one_in_its_name() -> None:
    assert bench(*["-m", "m.onnx", "-i", "d/2.bin,d/0.bin", "-o", "out", "-od", "x"]).exit_code == 0
    summary = json.loads(Path("out/x_summary.json").read_text())
    assert [sample["infiles"] for sample in summary["filesinfo"].values()] == [
        ["d/2.bin"],
        ["d/0.bin"],
    ]
    Path("d").rename("a,b")
    assert (
        bench(*["-m", "m.onnx", "-i", "a,b", "-o", "out", "-od", "y", "--limit", "2"]).exit_code
        == 0
    )
    assert len(list(Path("out/y").iterdir())) == 2


def test_several_devices_from_the_command_line() -> None:
    result = bench(*["-m", "m.onnx", "-i", "d", "-o", "out", "-od", "x", "-d", "0,1"])
    assert result.exit_code == 0, result.output
    assert Path("out/x/device1/2_0.bin").exists()
    last = [text for text in result.stdout.splitlines() if "throughput" in text][-1]
    assert last.startswith("[INFO] summary throughput:")


def test_debug_takes_a_value_through_the_real_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("-m", "m.onnx", "--debug", "1") == 0
    assert "[DEBUG] #0 image" in capsys.readouterr().out
    assert exit_code("-m", "m.onnx", "--debug", "0") == 0
    assert "[DEBUG]" not in capsys.readouterr().out
