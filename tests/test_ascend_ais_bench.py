"""What callers of the guide's batch inference tool rely on, through its command line."""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from reidkit.ascend.bins import BinSpec, find_pictures, write_bins
from reidkit.cli import reidkit_command
from reidkit.exporting import package_onnx
from reidkit.package import InputSpec
from tests import ais_bench_files as files
from tests.ais_bench_files import Pictures, bench, expected, read, run, start, summary, warnings
from tests.contract import test_runtimes
from tests.pictures import write_picture

NAMES = [f"p{number}.bin" for number in range(1, 18)]
GROUPS = ["NPU_compute_time", "H2D_latency", "D2H_latency"]
SUMMARY = ["filesinfo", "args", *GROUPS, "throughput", "npu_compute_time_list", "pid"]
SPREAD = ["min", "max", "mean", "median", "percentile(99%)", "count"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, so that command lines are as short as in the guide."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pictures() -> Pictures:
    """17 pictures in the folder `d`; models of batch 1 and 4, and one of a free batch size."""
    files.write_echo("m1.onnx", 1)
    files.write_echo("m4.onnx", 4)
    files.write_echo("free.onnx")
    return files.write_inputs("d", NAMES)


@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16])
def test_every_batch_size_gives_the_same_17_files(pictures: Pictures, batch: int) -> None:
    files.write_echo("m.onnx", batch)
    run(f"m.onnx --batchsize {batch}")
    assert read("out/x") == expected(pictures)
    found = summary()
    assert found["NPU_compute_time"]["count"] == math.ceil(17 / batch)
    assert list(found["filesinfo"]) == [str(number) for number in range(17)]
    assert list(found["filesinfo"].values()) == [
        {"infiles": [f"d/{name}"], "outfiles": [f"out/x/{Path(name).stem}_0.bin"]} for name in NAMES
    ]


@pytest.mark.parametrize("options", ["", "--pipeline 1 --threads 3", "--run_mode full"])
def test_a_run_is_filled_up_with_its_own_first_file(pictures: Pictures, options: str) -> None:
    files.write_mixing("m.onnx", 5)
    run(f"m.onnx {options}")
    rows = [array.reshape(1, -1) for array in pictures.values()]
    for first in (0, 5, 10, 15):
        taken = rows[first : first + 5]
        total = np.sum(taken + taken[:1] * (5 - len(taken)), axis=0)
        for name, row in zip(NAMES[first:], taken, strict=False):
            found = Path("out/x", f"{Path(name).stem}_0.bin").read_bytes()
            assert found == (row + total).astype(np.float32).tobytes(), name
    assert len(read("out/x")) == 17


def test_outputs_are_cut_on_the_axis_that_was_asked_for(pictures: Pictures) -> None:
    files.write_columns("m.onnx", 4)
    run("m.onnx --output_batchsize_axis 1")
    assert read("out/x") == expected(pictures)
    assert "save out files error" in run("m.onnx --output_batchsize_axis 2", 1)
    assert not Path("out/x_summary.json").exists()


def test_outputs_are_named_after_the_file_and_their_number() -> None:
    files.write_two_outputs("m.onnx", 2)
    pictures = files.write_inputs("d", ["b10.bin", "b2.bin", "b1.bin", "a.b.c.bin", "e.NPY.npy"])
    run("m.onnx")
    stems = {name.split(".")[0]: array for name, array in pictures.items()}
    found = read("out/x")
    assert found == {f"{stem}_0.bin": array.tobytes() for stem, array in stems.items()} | {
        f"{stem}_1.bin": array.astype(np.int32).tobytes() for stem, array in stems.items()
    }
    listed = summary()["filesinfo"]
    order = ["a.b.c.bin", "b1.bin", "b2.bin", "b10.bin", "e.NPY.npy"]
    assert [sample["infiles"] for sample in listed.values()] == [[f"d/{name}"] for name in order]
    assert listed["1"]["outfiles"] == ["out/x/b1_0.bin", "out/x/b1_1.bin"]


def test_colliding_names_are_refused_unless_asked_for() -> None:
    files.write_echo("m.onnx", 1)
    pictures = files.write_inputs("d", ["x.1.bin", "x.2.bin", "y.bin"])
    shown = run("m.onnx", 1)
    assert "d/x.1.bin" in shown
    assert "d/x.2.bin" in shown
    assert "d/y.bin" not in shown
    assert not Path("out").exists()
    run("m.onnx --compatible 1")
    last = {"x_0.bin": pictures["x.2.bin"].tobytes(), "y_0.bin": pictures["y.bin"].tobytes()}
    assert read("out/x") == last
    assert len(summary()["filesinfo"]) == 3


@pytest.mark.parametrize("batchsize", ["", "--batchsize 4", "--batchsize 10"])
def test_the_summary_and_the_line_that_scripts_look_for(pictures: Pictures, batchsize: str) -> None:
    line = f"--model m4.onnx --input d --output ./ --output_dirname throughput --loop 3 {batchsize}"
    shown = bench(line)
    found = summary("throughput")
    assert list(found) == SUMMARY
    times = found["npu_compute_time_list"]
    assert len(times) == 5 * 3
    for group in GROUPS:
        assert list(found[group]) == SPREAD
        assert found[group]["count"] == 15
    spread = found["NPU_compute_time"]
    assert spread["min"] == min(times)
    assert spread["max"] == max(times)
    assert spread["mean"] == pytest.approx(np.mean(times))
    assert spread["median"] == pytest.approx(np.median(times))
    assert spread["percentile(99%)"] == pytest.approx(np.percentile(times, 99))
    size = 10 if "10" in batchsize else 4
    assert found["throughput"] == pytest.approx(1000 * size / spread["mean"], rel=1e-12)
    last = [text for text in shown.splitlines() if "throughput" in text][-1]
    assert float(last.split()[-1]) == found["throughput"]
    assert f"batchsize.mean({size})" in last
    assert len(warnings(shown)) == (size == 10)
    assert ("try get model batchsize:4" in shown) is (not batchsize)


def test_all_summaries_are_shown_on_demand_and_no_warm_up(pictures: Pictures) -> None:
    shown = bench("--model m1.onnx --input d --display_all_summary 1 --warmup_count 0")
    assert re.search(r"^\[INFO\] H2D_latency \(ms\): min = ", shown, re.MULTILINE)
    assert re.search(r"^\[INFO\] D2H_latency \(ms\): min = ", shown, re.MULTILINE)
    assert "warm up" not in shown
    names = {path.name for path in Path().iterdir()}
    assert names == {"d", "free.onnx", "m1.onnx", "m4.onnx"}  # nothing was written


def test_without_a_name_the_folder_is_called_after_the_time(pictures: Pictures) -> None:
    bench("--model m4.onnx --input d --output out")
    (folder,) = [path for path in Path("out").iterdir() if path.is_dir()]
    assert re.fullmatch(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d", folder.name)
    assert read(str(folder)) == expected(pictures)
    assert len(summary(str(folder))["filesinfo"]) == 17


@pytest.mark.parametrize("size", [0, 20, 47, 4 * 48 + 1])
@pytest.mark.parametrize("compatible", [0, 1])
def test_a_first_file_of_a_wrong_size_stops_everything(
    pictures: Pictures, size: int, compatible: int
) -> None:
    Path("d/p1.bin").write_bytes(bytes(size))
    shown = run(f"m4.onnx --compatible {compatible}", 1)
    assert f"arg0 tensorsize: 192 filesize: {size} not match" in shown
    assert not Path("out").exists()


@pytest.mark.parametrize("size", [0, 24, 96])
def test_a_third_file_of_a_wrong_size(pictures: Pictures, size: int) -> None:
    Path("d/p3.bin").write_bytes(bytes(size))
    assert f"d/p3.bin ({size} bytes)" in run("m1.onnx", 1)
    assert not Path("out").exists()
    Path("out").mkdir()
    Path("out/x_summary.json").write_text("{}")  # an older run's
    assert f"d/p3.bin: {size} bytes" in run("m1.onnx --compatible 1", 1)
    right = expected(pictures)
    assert read("out/x") == {name: right[name] for name in ("p1_0.bin", "p2_0.bin")}
    assert not Path("out/x_summary.json").exists()
    shown = bench("--model m4.onnx --input d --compatible 1", 1)
    assert f"ndata size:{3 * 48 + size} not match 192" in shown


def test_halves_of_pictures_are_refused_unless_asked_for() -> None:
    """Two halves make one picture; only when it is saved does it show that they were two files."""
    files.write_echo("m.onnx", 4)
    Path("d").mkdir()
    for number in range(8):
        Path(f"d/{number}.bin").write_bytes(bytes(24))
    assert "d/0.bin holds a part of one picture" in run("m.onnx", 1)
    assert not Path("out").exists()
    assert "save out files error" in run("m.onnx --compatible 1", 1)
    assert not Path("out/x_summary.json").exists()
    shown = bench("--model m.onnx --input d --compatible 1")
    assert "filesperbatch:8 runcount:1" in shown


def test_arrays_of_another_type_are_refused_unless_asked_for() -> None:
    files.write_echo("m.onnx", 1)
    files.write_inputs("d", ["1.npy"])
    files.write_array(Path("d/2.npy"), np.zeros(6))  # as many bytes as 12 float32
    files.write_array(Path("d/3.npy"), np.zeros((1, 12), np.int32))
    shown = run("m.onnx", 1)
    assert "d/2.npy (float64" in shown
    assert "d/3.npy (int32" in shown
    assert "d/1.npy" not in shown
    assert not Path("out").exists()
    run("m.onnx --compatible 1")
    assert sorted(read("out/x")) == ["1_0.bin", "2_0.bin", "3_0.bin"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("empty", "empty of input args not find valid file,valid file format:[*.npy *.NPY *.bin"),
        ("pictures", "pictures of input args not find valid file"),
        ("missing", "Invalid args. missing  of --input is invalid"),
        ("d/p1.bin,d/none.bin", "d/none.bin"),
        ("d,d", "Invalid args. args input dir num:2 not equal to model inputs num:1"),
        ("d/p1.bin,d", "Invalid args. d  of --input is invalid"),
    ],
)
def test_inputs_that_are_not_there(pictures: Pictures, given: str, message: str) -> None:
    Path("empty").mkdir()
    Path("pictures").mkdir()
    Path("pictures/a.jpg").touch()
    assert message in bench(f"-m m1.onnx --input {given} --output out --output_dirname x", 1)
    assert not Path("out").exists()


def test_an_empty_input_is_not_the_same_as_none(pictures: Pictures) -> None:
    """A script whose variable is not set must not get a rate measured on zeros."""
    assert "Invalid args." in bench("--model m1.onnx --input '' --output out", 1)


@pytest.mark.parametrize(
    "wrong",
    """
    --no_such_option 1
    --debug maybe
    --pipeline 2
    --loop 0
    --warmup_count -1
    --outfmt JPG
    --run_mode fast
    --device 256
    --device 0,
    --pure_data_type ones
    --batchsize 0
    --dymBatch four
    """.strip().splitlines(),
)
def test_wrong_options_are_exit_code_2(pictures: Pictures, wrong: str) -> None:
    assert run(f"m1.onnx {wrong}", 2) == ""
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--output_dirname x", "error bad parameters --output_dirname"),
        ("--output out --profiler 1 --dump 1", "error bad parameters --profiler and --dump"),
        ("--profiler 1", "miss output parameter!"),
        ("--dump 1", "miss output parameter!"),
        ("--run_mode files", "not support pure infer"),
        ("--outputSize 48,48", "om has 1 output, but outputSize parametet give 2"),
        ("--dymHW 2,2", "the dynamic_image_size parameter is not specified for model conversion"),
        ("--dymShape other:1,3,2,2", "the dymShape parameter set error, please check input name"),
        ("--dymShape 'image:1,3,2,2;b:1'", "om has 1 input, but dymShape parametet give 2"),
    ],
)
def test_refusals_are_exit_code_1(pictures: Pictures, line: str, message: str) -> None:
    assert message in bench(f"--model m1.onnx {line}", 1)
    assert not Path("out").exists()


def test_booleans_are_taken_in_any_case(pictures: Pictures) -> None:
    for yes in ("yes", "TRUE", "T", "y", "1"):
        assert "H2D_latency" in bench(f"-m m4.onnx -i d --display_all_summary {yes}")
    for no in ("No", "false", "f", "N", "0"):
        assert "H2D_latency" not in bench(f"-m m4.onnx -i d --display_all_summary={no}")


@pytest.mark.parametrize(
    "options",
    """
    --profiler 1
    --dump 1
    --npu_id 3 --energy_consumption 1 --profiler_rename 1
    --aipp_config a.config --acl_json_path a.json
    --backend trtexec --perf 1 --dump_npy yes
    """.strip().splitlines(),
)
def test_what_only_a_chip_does_is_one_warning(pictures: Pictures, options: str) -> None:
    shown = run(f"m4.onnx {options}")
    (line,) = warnings(shown)
    assert all(word in line for word in options.split() if word.startswith("--"))
    assert read("out/x") == expected(pictures)
    assert summary()["NPU_compute_time"]["count"] == 5


def test_exit_codes_of_the_module(pictures: Pictures) -> None:
    lines = {
        "--model m4.onnx --input d --output out --output_dirname x": 0,
        "--debug 1 --model m4.onnx --input d": 0,
        "--model m4.onnx --input missing": 1,
        "--model m4.onnx --input d --no_such_option 1": 2,
    }
    processes = [start(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for line in lines]
    shown = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == list(lines.values())
    assert all("Traceback" not in errors for _, errors in shown)
    assert "[ERROR] Invalid args. missing" in shown[2][0]
    assert "[DEBUG] " in shown[1][0]
    assert read("out/x") == expected(pictures)
    assert summary()["args"][1:] == shlex.split(next(iter(lines)))


def test_a_name_that_is_no_text_is_reported(pictures: Pictures) -> None:
    Path("d", os.fsdecode(b"\xff.bin")).write_bytes(b"")
    strict = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # as most locales are
    process = start("--model m1.onnx --input d", env=strict, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in errors


def test_formats_hold_the_same_values() -> None:
    files.write_two_outputs("m.onnx", 4)
    pictures = files.write_inputs("d", NAMES)
    for kind in ("BIN", "NPY", "TXT"):
        bench(f"--model m.onnx --input d --output out --output_dirname {kind} --outfmt {kind}")
        assert len(read(f"out/{kind}")) == 2 * 17
    for name, picture in pictures.items():
        for place, wanted in enumerate((picture, picture.astype(np.int32))):
            values, stem = wanted.reshape(1, -1), f"{Path(name).stem}_{place}"
            assert Path(f"out/BIN/{stem}.bin").read_bytes() == values.tobytes()
            array = np.load(f"out/NPY/{stem}.npy")
            assert array.dtype == values.dtype
            assert array.shape == (1, files.SIZE)
            np.testing.assert_array_equal(array, values)
            text = Path(f"out/TXT/{stem}.txt").read_text()
            form = "%d " if place else "%f "
            assert text == "".join(form % value for value in values[0]) + "\n"


def test_arrays_and_raw_files_give_the_same(pictures: Pictures) -> None:
    Path("n").mkdir()
    for number, (name, picture) in enumerate(pictures.items()):
        # A picture on its own, in a batch of one, and in another order of bytes.
        array = picture[0] if number % 3 == 0 else picture
        np.save(f"n/{Path(name).stem}", np.asfortranarray(array) if number % 3 == 1 else array)
    bench("--model m4.onnx --input n --output out --output_dirname x")
    assert read("out/x") == expected(pictures)


def test_without_input_the_model_gets_zeros_or_random_bytes(pictures: Pictures) -> None:
    line = "--model m4.onnx --output out --output_dirname x --loop 5"
    bench(line)
    assert read("out/x") == {"pure_infer_data_0.bin": bytes(4 * 48)}
    assert summary()["NPU_compute_time"]["count"] == 5
    bench(f"{line} --pure_data_type random")
    (data,) = read("out/x").values()
    assert len(data) == 4 * 48
    assert len(set(data)) > 50


def test_gears_of_a_compiled_file(pictures: Pictures) -> None:
    gears = ("--input_shape=image:-1,3,2,2", "--dynamic_batch_size=1,4,16")
    files.compile_model("free.onnx", "gears", *gears)
    for batch in (1, 4, 16):
        shown = run(f"gears.om --dymBatch {batch}")
        assert f"try get model batchsize:{batch}" in shown
        assert read("out/x") == expected(pictures)
        assert summary()["NPU_compute_time"]["count"] == math.ceil(17 / batch)
    shutil.rmtree("out")
    assert "the dymBatch parameter is not correct" in run("gears.om --dymBatch 8", 1)
    assert "check failed dym gearcount:3 but dymtype" in run("gears.om", 1)
    assert not Path("out").exists()


def test_a_compiled_file_without_gears(pictures: Pictures) -> None:
    files.compile_model("free.onnx", "fixed", "--input_shape=image:4,3,2,2")
    run("fixed.om")
    assert read("out/x") == expected(pictures)
    message = "the dynamic_batch_size parameter is not specified for model conversion"
    assert message in run("fixed.om --dymBatch 4", 1)
    assert "the dymBatch parameter is not correct" in run("fixed.om --dymBatch -4", 1)


@pytest.mark.parametrize(
    ("options", "batch", "rated"),
    [
        ("", 1, 1),
        ("--batchsize 4", 4, 4),
        ("--dymBatch 8", 8, 8),
        ("--dymBatch 8 --batchsize 4", 8, 4),
        ("--dymShape image:2,3,2,2", 2, 2),
    ],
)
def test_a_free_batch_size_is_chosen(
    pictures: Pictures, options: str, batch: int, rated: int
) -> None:
    run(f"free.onnx {options}")
    assert read("out/x") == expected(pictures)
    found = summary()
    assert found["NPU_compute_time"]["count"] == math.ceil(17 / batch)
    mean = found["NPU_compute_time"]["mean"]
    assert found["throughput"] == pytest.approx(1000 * rated / mean, rel=1e-12)


def test_a_model_package_gives_what_its_network_gives(here: Path) -> None:
    file, _ = test_runtimes.write_onnx(here, None)
    size = (test_runtimes.HEIGHT, test_runtimes.WIDTH)
    contract = InputSpec(height=size[0], width=size[1])
    package_onnx(file, here / "package", contract=contract)
    Path("d").mkdir()
    for seed in range(3):
        picture = np.random.default_rng(seed).standard_normal((3, *size)).astype(np.float32)
        files.write_array(Path(f"d/{seed}.bin"), picture)
    for model in ("package", "model.onnx"):
        bench(f"--model {model} --input d --output out --output_dirname {model}")
    assert len(read("out/package")) == 3
    assert read("out/package") == read("out/model.onnx")


def test_models_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, pictures: Pictures) -> None:
    monkeypatch.setitem(sys.modules, "acl", None)
    Path("real.om").write_bytes(b"IMOD" + bytes(300))
    Path("other.om").write_bytes(bytes(300))
    Path("folder").mkdir()
    line = "--input d --output out --output_dirname x --model"
    shown = bench(f"{line} real.om", 1)
    assert "needs an Ascend chip" in shown
    assert "reidkit ascend atc" in shown
    for name in ("other.om", "missing.om"):
        assert f"load model from file failed, model file is {name}" in bench(f"{line} {name}", 1)
    bench(f"{line} folder", 1)
    assert not Path("out").exists()


def test_a_killed_run_claims_nothing_and_the_same_command_finishes_it() -> None:
    files.write_echo("m.onnx", 1)
    pictures = files.write_inputs("d", [f"{number}.bin" for number in range(400)])
    line = "--model m.onnx --input d --output out --output_dirname x"
    bench(line)
    assert read("out/x") == expected(pictures)
    shutil.rmtree("out/x")
    assert Path("out/x_summary.json").exists()  # the older run's
    files.kill_in_the_middle(f"{line} --loop 1000", "out/x", 400)
    assert not Path("out/x_summary.json").exists()
    bench(line)
    assert read("out/x") == expected(pictures)
    assert len(summary()["filesinfo"]) == 400


def test_a_killed_run_on_two_devices_claims_nothing() -> None:
    files.write_echo("m.onnx", 1)
    files.write_inputs("d", [f"{number}.bin" for number in range(400)])
    Path("out/x").mkdir(parents=True)
    for device in (0, 1):
        Path(f"out/x/device{device}_summary.json").write_text("{}")  # an older run's
    line = "--model m.onnx --input d --output out --output_dirname x --device 0,1 --loop 2000"
    files.kill_in_the_middle(line, "out/x", 400)
    assert not list(Path("out").glob("**/*_summary.json"))


def test_two_devices_share_the_files(pictures: Pictures) -> None:
    shown = run("m4.onnx --device 0,1")
    right = expected(pictures)
    first = [f"p{number}_0.bin" for number in range(1, 10)]
    assert read("out/x/device0") == {name: right[name] for name in first}
    assert read("out/x/device1") == {n: data for n, data in right.items() if n not in first}
    rates = []
    for device, count in (("device0", 9), ("device1", 8)):
        found = summary(f"out/x/{device}")
        assert len(found["filesinfo"]) == count
        assert found["NPU_compute_time"]["count"] == math.ceil(count / 4)
        rates.append(found["throughput"])
    last = [line for line in shown.splitlines() if "throughput" in line][-1]
    assert last.startswith("[INFO] summary throughput:")
    assert float(last.split(":")[-1]) == pytest.approx(sum(rates), rel=1e-12)
    assert "multidevice run end qsize:4 result:0" in shown
    assert not Path("out/x_summary.json").exists()


@pytest.mark.parametrize(("divide", "counts"), [(1, [8, 9]), (0, [17, 17])])
def test_a_device_named_twice_overwrites_nothing(
    pictures: Pictures, divide: int, counts: list[int]
) -> None:
    run(f"m1.onnx --device 0,0 --divide_input {divide}")
    folders = [str(path) for path in Path("out/x").iterdir() if path.is_dir()]
    found = [read(folder) for folder in folders]
    assert sorted(map(len, found)) == counts
    assert found[0] | found[1] == expected(pictures)
    assert sorted(len(summary(folder)["filesinfo"]) for folder in folders) == counts


def test_one_of_two_devices_fails(pictures: Pictures) -> None:
    Path("d/p17.bin").write_bytes(bytes(20))
    line = "--model m1.onnx --input d --output out --output_dirname x --device 0,1 --compatible 1"
    done = CliRunner().invoke(reidkit_command, ["ascend", "bench", *line.split()])
    assert done.exit_code == 1
    assert "device 1 failed" in done.stdout
    assert "d/p17.bin: 20 bytes" in done.stdout
    assert len(summary("out/x/device0")["filesinfo"]) == 9
    assert not Path("out/x/device1_summary.json").exists()


def test_a_device_without_files_has_no_summary(pictures: Pictures) -> None:
    run("m1.onnx --device 0,1")
    assert warnings(run("m1.onnx --device 0,1 --limit 1"))
    assert len(summary("out/x/device0")["filesinfo"]) == 1
    assert not Path("out/x/device1_summary.json").exists()


@pytest.fixture
def prepared() -> list[str]:
    """Five prepared pictures with their manifest in the folder `d`, and a model for them."""
    files.write_echo("m.onnx", 2)
    Path("p").mkdir()
    for number in range(5):
        write_picture(Path(f"p/{number}.png"), number)
    contract = InputSpec(height=2, width=2)
    return sorted(write_bins(find_pictures(["p"]), "d", spec=BinSpec(contract)).files)


def test_a_prepared_file_that_is_missing_or_was_changed_is_named(prepared: list[str]) -> None:
    assert not warnings(run("m.onnx"))
    assert sorted(read("out/x")) == [f"{number}_0.bin" for number in range(5)]
    data = Path("d/3.bin").read_bytes()
    Path("d/3.bin").write_bytes(data[::-1])
    assert "3.bin was changed after it was prepared" in run("m.onnx", 1)
    assert not Path("out/x_summary.json").exists()
    assert "3.bin" in run("m.onnx --pipeline 1 --threads 2", 1)
    Path("d/3.bin").unlink()
    shutil.rmtree("out")
    assert "1 files are missing: 3.bin" in run("m.onnx", 1)
    assert not Path("out").exists()


def test_a_file_that_nobody_prepared_is_named(prepared: list[str]) -> None:
    Path("d/extra.bin").write_bytes(bytes(48))
    (line,) = warnings(run("m.onnx"))
    assert "extra.bin" in line
    assert not any(name in line for name in prepared)
    assert "extra_0.bin" in read("out/x")


def test_two_inputs_as_folders_and_as_a_list_of_files() -> None:
    files.write_two_inputs("m.onnx", 2)
    wanted = {}
    for side in ("left", "right"):
        Path(side).mkdir()
    for number in range(1, 6):
        left, right = np.full(2, number, np.float32), np.arange(2, dtype=np.int16)
        files.write_array(Path(f"left/l{number}.bin"), left)
        files.write_array(Path(f"right/r{number}.bin"), right)
        wanted[f"l{number}_0.bin"] = (10 * left + right).astype(np.float32).tobytes()
    line = "--model m.onnx --output out --output_dirname x --input"
    lists = [f"{side}/{side[0]}{n}.bin" for side in ("left", "right") for n in range(1, 6)]
    for given in ("left,right", ",".join(lists)):
        bench(f"{line} {given}")
        assert read("out/x") == wanted
        assert summary()["filesinfo"]["4"] == {
            "infiles": ["left/l5.bin", "right/r5.bin"],
            "outfiles": ["out/x/l5_0.bin"],
        }
        shutil.rmtree("out")
    assert "args input dir num:1 not equal to model inputs num:2" in bench(f"{line} left", 1)
    assert "not match" in bench(f"{line} {','.join(lists[:5])}", 1)
    Path("right/r2.bin").unlink()
    assert "right holds 4 files" in bench(f"{line} left,right", 1)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "options",
    """
    --run_mode full
    --run_mode files
    --run_mode tensor
    --pipeline 1 --threads 3
    --pipeline 1 --run_mode full
    --loop 3 --warmup_count 2
    --warmup_count 0
    """.strip().splitlines(),
)
def test_options_that_change_no_output(pictures: Pictures, options: str) -> None:
    run(f"m4.onnx {options}")
    assert read("out/x") == expected(pictures)
    found = summary()
    assert found["NPU_compute_time"]["count"] == 5 * (3 if "loop" in options else 1)
    assert [int(sample) for sample in found["filesinfo"]] == list(range(17))


def test_only_the_first_files(pictures: Pictures) -> None:
    run("m4.onnx --limit 6")
    right = expected(pictures)
    assert read("out/x") == {f"p{n}_0.bin": right[f"p{n}_0.bin"] for n in range(1, 7)}
    assert summary()["NPU_compute_time"]["count"] == 2
