"""The guide's batch inference tool on one device: outputs, names, summary, refusals, kills."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from reidkit.ascend.bench import (
    BenchResult,
    BenchSettings,
    FileOptions,
    SaveOptions,
    ShapeOptions,
    TimeOptions,
    run_bench,
)
from reidkit.ascend.bench._outputs import cut_outputs, name_output, save_part
from reidkit.ascend.bench._settings import OutputFormat, RunMode
from reidkit.ascend.bench._summary import Times, make_summary, spread_times, write_summary
from reidkit.ascend.manifests import BinKind, Manifest, PreparedFile, write_manifest
from reidkit.cli.ascend.atc import command as atc
from reidkit.errors import AscendError, IntegrityError, ReidkitError
from reidkit.runtimes.sessions import Run
from tests import ascend_models

KEYS = [
    "filesinfo",
    "args",
    "NPU_compute_time",
    "H2D_latency",
    "D2H_latency",
    "throughput",
    "npu_compute_time_list",
    "pid",
]
SPREAD = ["min", "max", "mean", "median", "percentile(99%)", "count"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with models of batch 1, 4 and free."""
    monkeypatch.chdir(tmp_path)
    for batch in (1, 4):
        ascend_models.write_model(Path(f"m{batch}.onnx"), batch)
    ascend_models.write_model(Path("free.onnx"))
    return tmp_path


def bench(
    model: str, *inputs: str, lines: list[str] | None = None, **groups: object
) -> BenchResult:
    """Run with outputs in `out/bs` unless told otherwise, and note the console's lines."""
    groups.setdefault("saving", SaveOptions(Path("out"), "bs"))
    settings = BenchSettings(Path(model), inputs, **groups)  # type: ignore[arg-type]
    noted = [] if lines is None else lines
    return run_bench(settings, report=lambda level, text: noted.append(f"[{level}] {text}"))


def note(steps: list[tuple[int, int]], done: int, total: int) -> None:
    steps.append((done, total))


def outputs(folder: str = "out/bs") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("readers", [0, 2])
@pytest.mark.parametrize("mode", ["array", "files", "tensor", "full"])
def test_17_files_give_the_same_at_every_batch_size(
    here: Path, mode: RunMode, readers: int
) -> None:
    names = [f"{i:04}_c1s1.bin" for i in range(17)]
    arrays = ascend_models.write_pictures(Path("d"), names)
    right = {f"{i:04}_c1s1_0.bin": ascend_models.expected(array) for i, array in enumerate(arrays)}
    for batch in (1, 2, 4, 8, 16):
        shutil.rmtree("out", ignore_errors=True)
        done: list[tuple[int, int]] = []
        result = run_bench(
            BenchSettings(
                Path("free.onnx"),
                ("d",),
                files=FileOptions(run_mode=mode, readers=readers),
                saving=SaveOptions(Path("out"), "bs"),
                timing=TimeOptions(batch=batch),
            ),
            progress=functools.partial(note, done),
        )
        runs = -(-17 // batch)
        assert outputs() == right
        assert len(result.milliseconds) == runs
        assert done == [(run + 1, runs) for run in range(runs)]
        assert (result.files, result.pictures, result.outputs) == (17, 17, 17)
        summary = json.loads(Path("out/bs_summary.json").read_text())
        assert list(summary["filesinfo"]) == [str(i) for i in range(17)]
        assert summary["filesinfo"]["16"] == {
            "infiles": ["d/0016_c1s1.bin"],
            "outfiles": ["out/bs/0016_c1s1_0.bin"],
        }


def test_the_summary_beside_the_folder(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), [f"b{i}.bin" for i in (1, 2, 10)])
    result = bench(
        "m4.onnx", "d", timing=TimeOptions(loop=5, warm_up=2), arguments=("tool", "--model", "m")
    )
    text = Path("out/bs_summary.json").read_text()
    assert "\n" not in text
    summary = json.loads(text)
    assert list(summary) == KEYS
    for group in KEYS[2:5]:
        assert list(summary[group]) == SPREAD
        assert summary[group]["count"] == 5
    assert summary["args"] == ["tool", "--model", "m"]
    assert summary["throughput"] == 1000 * 4 / summary["NPU_compute_time"]["mean"]
    assert summary["throughput"] == result.throughput
    assert len(summary["npu_compute_time_list"]) == 5
    taken = [sample["infiles"][0] for sample in summary["filesinfo"].values()]
    assert taken == ["d/b1.bin", "d/b2.bin", "d/b10.bin"]


def test_the_lines_on_the_console_in_order(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(6)])
    lines: list[str] = []
    result = bench("m4.onnx", "d", lines=lines, timing=TimeOptions(copies=True))
    forms = [
        "open device 0 success",
        "load model m4.onnx success",
        "create model description success",
        "running on cpu .*",
        "try get model batchsize:4",
        "output path:out/bs",
        "get filesperbatch files0 size:96 tensor0size:384 filesperbatch:4 runcount:2",
        "warm up 1 done",
        "-+Performance Summary-+",
        r"H2D_latency \(ms\): min = 0.0, max = 0.0, .*",
        r"NPU_compute_time \(ms\): min = .*, max = .*, mean = .*, median = .*, "
        r"percentile\(99%\) = .*",
        r"D2H_latency \(ms\): .*",
        rf"throughput 1000\*batchsize.mean\(4\)/NPU_compute_time.mean\(.*\): {result.throughput}",
        "-+",
        r"end-to-end \(reidkit\): .* pictures/s over 6 files in .* s, .*",
        "unload model success, model Id is 1",
        "end to reset device is 0",
    ]
    shown = [line for line in lines if not line.startswith("[DEBUG]")]
    assert len(shown) == len(forms)
    for line, form in zip(shown, forms, strict=True):
        assert re.fullmatch(rf"\[INFO\] {form}", line)
    # Scripts take the last word of the last line with this word.
    assert float([line for line in lines if "throughput" in line][-1].split()[-1]) > 0
    assert "[DEBUG] #0 image (4, 3, 4, 2) float32 384 384" in lines


def test_batchsize_only_scales_the_rate_and_is_remarked_on(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), ["a.bin"])
    lines: list[str] = []
    result = bench("m4.onnx", "d", lines=lines, timing=TimeOptions(batch=1))
    assert result.throughput == 1000 / np.mean(result.milliseconds)
    (remark,) = [line for line in lines if line.startswith("[WARNING]")]
    assert "--batchsize is 1, but the model runs 4 at once" in remark
    assert not any("try get model batchsize" in line for line in lines)


def test_two_outputs_and_no_name_but_the_time(here: Path) -> None:
    ascend_models.write_two_outputs(Path("two.onnx"), 2)
    (array,) = ascend_models.write_pictures(Path("d"), ["a.v2.bin"])
    result = bench("two.onnx", "d", saving=SaveOptions(Path("out")))
    assert result.folder is not None
    assert re.fullmatch(r"\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d", result.folder.name)
    assert result.summary_file == Path(f"{result.folder}_summary.json")
    assert outputs(str(result.folder)) == {
        "a_0.bin": (2 * array).tobytes(),
        "a_1.bin": array.astype(np.int32).tobytes(),
    }


def test_two_inputs_as_folders_and_as_a_list(here: Path) -> None:
    ascend_models.write_two_inputs(Path("pair.onnx"), 2)
    for side, value in (("l", 5), ("r", 1)):
        Path(side).mkdir()
        for i in range(3):
            row = np.full(3, value * (i + 1), np.float32)
            np.save(f"{side}/{i}.npy", row.reshape(1, 3))
    bench("pair.onnx", "l", "r")
    as_folders = outputs()
    assert {n: np.frombuffer(d, np.float32).tolist() for n, d in as_folders.items()} == {
        f"{i}_0.bin": [4.0 * (i + 1)] * 3 for i in range(3)
    }
    listed = [f"{side}/{i}.npy" for side in "lr" for i in range(3)]
    bench("pair.onnx", *listed, saving=SaveOptions(Path("out"), "listed"))
    assert outputs("out/listed") == as_folders
    summary = json.loads(Path("out/listed_summary.json").read_text())
    assert summary["filesinfo"]["2"]["infiles"] == ["l/2.npy", "r/2.npy"]


def test_pure_inference(here: Path) -> None:
    result = bench("m4.onnx", timing=TimeOptions(loop=3))
    assert outputs() == {"pure_infer_data_0.bin": (-np.zeros((4, 24), np.float32)).tobytes()}
    assert len(result.milliseconds) == 3
    assert result.end_to_end is None
    with pytest.raises(AscendError, match="not support pure infer"):
        bench("m4.onnx", files=FileOptions(run_mode="files"))


def test_nothing_is_saved_without_a_folder(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), ["x.1.bin", "x.2.bin"])
    result = bench("m1.onnx", "d", saving=SaveOptions())
    assert (result.folder, result.summary_file, result.outputs) == (None, None, 0)
    assert result.summary["filesinfo"] == {}
    assert not Path("out").exists()


def test_only_the_first_files_in_natural_order(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), [f"b{i}.bin" for i in (1, 2, 10)])
    assert bench("m4.onnx", "d", files=FileOptions(limit=2)).files == 2
    assert sorted(outputs()) == ["b1_0.bin", "b2_0.bin"]


@pytest.mark.parametrize("inputs", [("d",), ("d/x.1.bin", "e/x.1.bin")])
def test_outputs_that_would_overwrite_each_other(here: Path, inputs: tuple[str, ...]) -> None:
    """Refused by default, naming the files; the last one wins when asked for compatibility."""
    _, second = ascend_models.write_pictures(Path("d"), ["x.1.bin", "x.2.bin"])
    Path("e").mkdir()
    Path("e/x.1.bin").write_bytes(second.tobytes())
    with pytest.raises(AscendError, match=r"d/x\.1\.bin and [de]/x\.[12]\.bin"):
        bench("m1.onnx", *inputs)
    assert not Path("out").exists()
    bench("m1.onnx", *inputs, files=FileOptions(compatible=True))
    assert outputs() == {"x_0.bin": ascend_models.expected(second)}


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("model", ["m1.onnx", "free.onnx"])
def test_a_wrong_first_file_stops_before_any_output(
    here: Path, model: str, compatible: bool
) -> None:
    ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(4)])
    Path("d/0.bin").write_bytes(b"12345")
    with pytest.raises(AscendError, match="arg0 tensorsize: 96 filesize: 5 not match"):
        bench(model, "d", files=FileOptions(compatible=compatible))
    assert not Path("out").exists()


def test_a_wrong_third_file_stops_before_any_output(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(6)])
    bench("m1.onnx", "d")
    complete = outputs()
    Path("d/2.bin").write_bytes(b"12345")
    with pytest.raises(AscendError, match=r"1 of 6 files .*d/2.bin \(5 bytes\)"):
        bench("m1.onnx", "d")
    assert outputs() == complete  # what an earlier run made is still whole, its summary too
    assert Path("out/bs_summary.json").exists()


@pytest.mark.parametrize(
    ("batch", "message", "made"),
    [
        (1, "Check i:0 name:image in size:5 needsize:96 not match .*d/2.bin: 5 bytes", 2),
        (2, r"ndata size:101 not match 192 \(d/2.bin: 5 bytes; d/3.bin: 96 bytes\)", 2),
    ],
)
def test_compatibility_keeps_earlier_outputs_but_no_summary(
    here: Path, batch: int, message: str, made: int
) -> None:
    ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(6)])
    bench("free.onnx", "d")
    shutil.rmtree("out/bs")
    Path("d/2.bin").write_bytes(b"12345")
    with pytest.raises(AscendError, match=message):
        bench(
            "free.onnx",
            "d",
            files=FileOptions(compatible=True),
            timing=TimeOptions(batch=batch),
        )
    assert len(outputs()) == made
    assert not Path("out/bs_summary.json").exists()


def test_half_pictures_fail_when_saved_in_compatibility(here: Path) -> None:
    Path("d").mkdir()
    for i in range(4):
        Path(f"d/{i}.bin").write_bytes(bytes(ascend_models.PICTURE // 2))
    with pytest.raises(AscendError, match="holds a part of one picture"):
        bench("m4.onnx", "d")
    with pytest.raises(AscendError, match=r"save out files error array shape:\(4, 24\)"):
        bench("m4.onnx", "d", files=FileOptions(compatible=True))
    assert outputs() == {}


def test_files_mode_takes_no_arrays(here: Path) -> None:
    Path("d").mkdir()
    np.save("d/a.npy", np.zeros(ascend_models.SHAPE, np.float32))
    with pytest.raises(AscendError, match=r"not support npy file:d/a.npy"):
        bench("m1.onnx", "d", files=FileOptions(run_mode="files"))


def prepare_folder(folder: Path, count: int) -> None:
    """Write files as the guide's first step does, with their manifest."""
    arrays = ascend_models.write_pictures(folder, [f"{i}.bin" for i in range(count)])
    files = {
        f"{i}.bin": PreparedFile(
            ascend_models.PICTURE, hashlib.sha256(array.tobytes()).hexdigest(), f"{i}.jpg"
        )
        for i, array in enumerate(arrays)
    }
    write_manifest(folder, Manifest(BinKind("0" * 64, "float32", ascend_models.SHAPE), files))


def test_prepared_files_are_checked_against_their_manifest(here: Path) -> None:
    prepare_folder(Path("d"), 3)
    assert bench("m1.onnx", "d").files == 3
    changed = bytearray(Path("d/1.bin").read_bytes())
    changed[7] ^= 1
    Path("d/1.bin").write_bytes(changed)
    with pytest.raises(IntegrityError, match=r"1.bin was changed after it was prepared"):
        bench("m1.onnx", "d")
    assert not Path("out/bs_summary.json").exists()
    shutil.rmtree("out")
    Path("d/1.bin").unlink()
    with pytest.raises(IntegrityError, match=r"1 files are missing: 1.bin"):
        bench("m1.onnx", "d")
    assert not Path("out").exists()
    assert bench("m1.onnx", "d", files=FileOptions(compatible=True)).files == 2


def test_gears_of_our_own_compiled_file(here: Path) -> None:
    """A model compiled for several batch sizes runs at each of them and at no other."""
    arrays = ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(5)])
    made = CliRunner().invoke(
        atc,
        [
            "--framework=5",
            "--model=free.onnx",
            "--output=gears",
            "--input_format=NCHW",
            "--input_shape=image:-1,3,4,2",
            "--dynamic_batch_size=1,2,4",
            "--soc_version=Ascend310P3",
            "--precision_mode=force_fp32",
        ],
    )
    assert made.exit_code == 0, made.output
    for batch in (1, 2, 4):
        result = bench("gears.om", "d", shapes=ShapeOptions(batch=batch))
        assert len(result.milliseconds) == -(-5 // batch)
        assert outputs() == {
            f"{i}_0.bin": ascend_models.expected(array) for i, array in enumerate(arrays)
        }
    for options, message in (
        (ShapeOptions(batch=3), "the dymBatch parameter is not correct"),
        (ShapeOptions(), "check failed dym gearcount:3 but dymtype:0 not set"),
        (ShapeOptions(image_size="4,2"), "the dynamic_image_size parameter is not specified"),
        (ShapeOptions(dims="image:1,3,4,2"), "the dynamic_dims parameter is not correct"),
    ):
        with pytest.raises(AscendError, match=message):
            bench("gears.om", "d", shapes=options)


def test_shapes_from_files(here: Path) -> None:
    ascend_models.write_model(Path("wild.onnx"), shape=(3, "height", "width"))
    Path("d").mkdir()
    np.save("d/a.npy", np.ones((1, 3, 4, 2), np.float32))
    np.save("d/b.npy", np.ones((2, 3, 6, 5), np.float32))
    result = bench("wild.onnx", "d", shapes=ShapeOptions(from_files=True))
    assert result.batch == 1.5
    assert result.pictures == 3
    assert {name: len(data) for name, data in outputs().items()} == {
        "a_0.bin": 3 * 4 * 2 * 4,
        "b_0.bin": 2 * 3 * 6 * 5 * 4,
    }


def test_a_range_of_shapes(here: Path) -> None:
    ascend_models.write_model(Path("wild.onnx"), shape=(3, "height", "width"))
    lines: list[str] = []
    shapes = ShapeOptions(sweep="image:1-2,3-4,4,2")
    result = bench("wild.onnx", lines=lines, shapes=shapes)
    assert len(result.parts) == 2
    start = next(i for i, line in enumerate(lines) if "dyshape_range Performance Summary" in line)
    assert re.fullmatch(r"\[INFO\] run_count:4 success_count:2 avg_throughput:.+", lines[start + 1])
    rows = lines[start + 2 : start + 6]
    form = r"\[INFO\] \d dymshape:(.*)  result:(OK|Failed) throughput:(.*)"
    found = [re.fullmatch(form, row) for row in rows]
    states = [match[2] for match in found if match]
    assert states == ["OK", "OK", "Failed", "Failed"]
    rates = [float(match[3]) for match in found if match]
    assert rates == sorted(rates, reverse=True)
    assert sorted(path.name for path in Path("out/bs").glob("*.json")) == [
        "shape0_summary.json",
        "shape2_summary.json",
    ]
    with pytest.raises(AscendError, match="none of 1 shapes could be run"):
        bench("wild.onnx", shapes=ShapeOptions(sweep="image:1,4,4,2"))


def test_a_killed_run_claims_nothing_and_is_finished_by_the_same_command(here: Path) -> None:
    arrays = ascend_models.write_pictures(Path("d"), [f"{i}.bin" for i in range(12)])
    bench("m1.onnx", "d")
    assert Path("out/bs_summary.json").exists()
    shutil.rmtree("out/bs")  # the older summary stays, and must not outlive the new run's start
    code = (
        "import time\nfrom pathlib import Path\n"
        "from reidkit.ascend.bench import BenchSettings, SaveOptions, run_bench\n"
        "run_bench(BenchSettings(Path('m1.onnx'), ('d',), saving=SaveOptions(Path('out'), 'bs')),"
        " progress=lambda done, total: time.sleep(0.2))"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not Path("out/bs/1_0.bin").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert 0 < len(outputs()) < 12
    assert not Path("out/bs_summary.json").exists()
    bench("m1.onnx", "d")
    assert outputs() == {
        f"{i}_0.bin": ascend_models.expected(array) for i, array in enumerate(arrays)
    }
    assert len(json.loads(Path("out/bs_summary.json").read_text())["filesinfo"]) == 12


KINDS: list[OutputFormat] = ["BIN", "NPY", "TXT"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_formats_can_be_read_back(tmp_path: Path, kind: OutputFormat, dtype: str) -> None:
    part = (np.arange(12).reshape(1, 3, 4) / 4).astype(dtype)
    path = tmp_path / name_output("d/0001_c1.v2.bin", 3, kind)
    assert path.name == f"0001_c1_3.{kind.lower()}"
    save_part(path, part, kind)
    if kind == "BIN":
        assert path.read_bytes() == part.tobytes()
    elif kind == "NPY":
        np.testing.assert_array_equal(np.load(path), part)
        assert np.load(path).dtype == part.dtype
    else:
        text = path.read_text()
        assert text.count("\n") == 3
        first = "0.000000 0.250000" if dtype.startswith("float") else "0 "
        assert text.startswith(first)
        assert text.split("\n")[0].endswith(" ")
        np.testing.assert_array_equal(np.loadtxt(path), part[0].astype(float))


def test_a_vector_keeps_its_batch_axis(here: Path) -> None:
    ascend_models.write_pictures(Path("d"), ["a.bin", "b.bin"])
    bench("m4.onnx", "d", saving=SaveOptions(Path("out"), "bs", "NPY"))
    assert np.load("out/bs/b_0.npy").shape == (1, 24)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_cutting_against_a_brute_force(parts: int, size: int, axis: int) -> None:
    shape = [2, 3, 2]
    if axis < 3:
        shape[axis] = size
    output = np.arange(np.prod(shape)).reshape(shape)
    if axis >= 3 or (parts > 1 and shape[axis] % parts):
        with pytest.raises(AscendError, match=f"axis {axis}"):
            cut_outputs([output], parts, axis)
        return
    (cut,) = cut_outputs([output], parts, axis)
    step = shape[axis] // parts
    for i, part in enumerate(cut):
        rows = range(i * step, (i + 1) * step)
        np.testing.assert_array_equal(part, np.take(output, rows, axis))


@given(st.lists(st.floats(0.001, 1000), max_size=20))
def test_times_are_summed_up_as_defined(times: list[float]) -> None:
    spread = spread_times(times)
    assert spread.count == len(times)
    if not times:
        assert list(spread.as_json().values()) == [0.0] * 5 + [0]
        return
    ordered = sorted(times)
    place = 0.99 * (len(times) - 1)
    low = int(place)
    high = min(low + 1, len(times) - 1)
    percentile = ordered[low] + (place - low) * (ordered[high] - ordered[low])
    assert spread.percentile == pytest.approx(percentile)
    assert spread.mean == pytest.approx(sum(times) / len(times))
    assert (spread.min, spread.max) == (ordered[0], ordered[-1])


def test_a_summary_without_time(tmp_path: Path) -> None:
    times = Times()
    times.add(Run((), computed=0.0, sent=0.5, received=0.25))
    summary = make_summary(times, 4, saved={}, arguments=[])
    assert summary["throughput"] == 0
    assert summary["H2D_latency"] == dict(zip(SPREAD, [0.5] * 5 + [1], strict=True))
    write_summary(tmp_path / "s.json", summary)
    assert json.loads((tmp_path / "s.json").read_text()) == summary


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SaveOptions(None, "bs"), "error bad parameters --output_dirname"),
        (lambda: SaveOptions(Path("out"), "/bs"), "--output_dirname do not support abs path!"),
        (lambda: SaveOptions(Path("out"), ""), "expected a folder's name"),
        (lambda: TimeOptions(loop=0), "loop is 0"),
        (lambda: TimeOptions(warm_up=-1), "warm_up is -1"),
        (lambda: TimeOptions(batch=0), "batch is 0"),
        (lambda: FileOptions(limit=0), "limit is 0"),
        (lambda: FileOptions(readers=-1), "readers is -1"),
        (lambda: BenchSettings(Path("m"), devices=()), "expected numbers from 0 to 255"),
        (lambda: BenchSettings(Path("m"), devices=(256,)), "expected numbers from 0 to 255"),
        (
            lambda: BenchSettings(Path("m"), devices=(0, 1), shapes=ShapeOptions(sweep="a:1")),
            "--dymShape_range runs on one device",
        ),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ReidkitError, match=message):
        make()


def test_outputs_among_inputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ascend_models.write_model(Path("m.onnx"), 2)
    ascend_models.write_pictures(Path("d"), ["a.bin", "b.bin"])
    settings = BenchSettings(Path("m.onnx"), ("d",), saving=SaveOptions(Path("d/.."), "d"))
    with pytest.raises(AscendError, match="d is a folder of inputs"):
        run_bench(settings)
    assert sorted(path.name for path in Path("d").iterdir()) == ["a.bin", "b.bin"]
    assert not Path("d_summary.json").exists()
    compatible = dataclasses.replace(settings, files=FileOptions(compatible=True))
    assert run_bench(compatible).outputs == 2


@pytest.mark.parametrize("name", ["..", "a/../../b", "."])
def test_a_folder_outside_the_parent_is_refused(name: str) -> None:
    with pytest.raises(AscendError, match="expected a folder's name"):
        SaveOptions(Path("out"), name)


def test_two_runs_into_one_folder_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ascend_models.write_model(Path("m.onnx"), 2)
    ascend_models.write_pictures(Path("d"), ["a.bin", "b.bin"])
    settings = BenchSettings(Path("m.onnx"), ("d",), saving=SaveOptions(Path("out"), "x"))

    def begin_another(_done: int, _total: int) -> None:
        with pytest.raises(ReidkitError, match="another run is writing into"):
            run_bench(settings)

    assert run_bench(settings, progress=begin_another).outputs == 2
    assert sorted(path.name for path in Path("out").iterdir()) == ["x", "x_summary.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ShapeOptions(batch=999_999_999), "choose smaller sizes"),
        (ShapeOptions(shape="image:" + "9" * 5000 + ",3,4,2"), "image"),
        (ShapeOptions(sweep="image:1~99999999999,3,4,2"), "more than 10,000 shapes"),
        (ShapeOptions(image_size="9" * 5000 + ",2"), "dymHW"),
    ],
)
def test_sizes_beyond_any_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: ShapeOptions, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ascend_models.write_model(Path("m.onnx"))
    ascend_models.write_pictures(Path("d"), ["a.bin"])
    with pytest.raises(AscendError, match=message):
        run_bench(BenchSettings(Path("m.onnx"), ("d",), shapes=options))
