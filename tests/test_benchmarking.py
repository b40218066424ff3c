from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reidkit import benchmarking, disk
from reidkit import package as packages
from reidkit.benchmarking import (
    STAGES,
    BatchSpeed,
    Setting,
    Speed,
    Spread,
    _benchmark,
    _process,
    benchmark,
    compare,
    speed_as_json,
)
from reidkit.benchmarking._bench import Bench, _is_stable
from reidkit.benchmarking._speed import find_best_batch, summarise
from reidkit.benchmarking._worker import measure_peak
from reidkit.errors import (
    ArgumentError,
    DeviceError,
    EngineError,
    ImageError,
    IntegrityError,
    MissingExtraError,
    ReidkitError,
    UnreadableImage,
    UnreadableImagesError,
)
from reidkit.models import Model
from reidkit.package import (
    EngineSpec,
    Inputs,
    InputSpec,
    ModelSpec,
    Package,
    ReferencePictures,
    Takes,
)
from reidkit.records import Samples
from reidkit.runtimes.fake import FakeRuntime
from tests.pictures import SMALL, fake_model, write_samples

SIZE = 8


def write_package(
    folder: Path, file: str, runtime: str, batch: int | None = None, contract: InputSpec = SMALL
) -> Package:
    """Make a package around an engine file that lies in the folder already."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 6, 4, 3), dtype=np.uint8)
    reference = ReferencePictures(pixels, np.ones((16, SIZE), np.float32))
    spec = ModelSpec(
        name=folder.name,
        architecture="tiny",
        embedding_size=SIZE,
        weights_sha256="0" * 64,
        reference_sha256=packages.write_reference(folder, reference),
        input=contract,
        engine=EngineSpec(file, disk.sha256_file(folder / file), runtime, batch),
    )
    return packages.write_manifest(folder, spec)


def write_fake(folder: Path, *, batch: int | None = None, **limits: int) -> Package:
    folder.mkdir()
    (folder / "fake.json").write_text(json.dumps({"size": SIZE, "seed": 0, **limits}))
    return write_package(folder, "fake.json", "fake", batch)


def write_onnx(folder: Path, *, mix: float = 0, scale: float = 1, **options: Any) -> Package:
    """Average, project; `mix` of the batch's mean is taken from every row, which is wrong."""
    folder.mkdir()
    random = np.random.default_rng(0)
    weights = {
        "dense": scale * random.standard_normal((3, SIZE)).astype(np.float32),
        "mix": np.array([mix], np.float32),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["a"]),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "dense"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["d"], axes=[0], keepdims=1),
        helper.make_node("Mul", ["d", "mix"], ["e"]),
        helper.make_node("Sub", ["c", "e"], ["embedding"]),
    ]
    floats, rows = onnx.TensorProto.FLOAT, options.get("batch") or "batch"
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", floats, [rows, 3, SMALL.height, SMALL.width])],
        [helper.make_tensor_value_info("embedding", floats, [rows, SIZE])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return write_package(folder, "model.onnx", "onnxruntime", **options)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    return write_samples(tmp_path_factory.mktemp("pictures"), 7)


def measure(*given_: Package, samples: Samples | None, **options: Any) -> list[Speed]:
    return benchmark(given_, samples, **{"batches": (1, 4), "seconds": 0.02, **options})


def is_running(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


# The values


TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


@given(TIMES)
def test_the_figures_of_a_spread_are_in_order(times: list[float]) -> None:
    spread = summarise(times)
    assert spread.count == len(times)
    figures = [spread.shortest, spread.median, spread.p90, spread.p99, spread.longest]
    rounding = 1e-9 * spread.longest
    assert all(a <= b + rounding for a, b in itertools.pairwise(figures))
    assert (spread.shortest, spread.longest) == (min(times), max(times))


def test_percentiles_lie_between_times() -> None:
    spread = summarise([float(i) for i in range(101)])
    assert (spread.median, spread.p90, spread.p99) == (50, 90, 99)
    assert summarise([2.0, 1.0]) == Spread(1.5, 1.9, 1.99, 1.0, 2.0, 2)


def batch_speed(
    batch: int, rate: float, end_to_end: float = 1, difference: float = 0
) -> BatchSpeed:
    spread = Spread(batch / rate, 1, 1, 0, 1, 3)
    return BatchSpeed(
        batch, spread, spread, rate, end_to_end, dict.fromkeys(STAGES, 0.1), difference
    )


def speed_of(*batches: BatchSpeed) -> Speed:
    best = find_best_batch(batches)
    return Speed("a", "s" * 64, "fp32", "fake", "cpu", 2, batches, best, 1.0, 2**20, 100)


@given(st.lists(st.floats(1, 100), min_size=1, max_size=6))
def test_the_best_batch_is_the_smallest_as_fast(rates: list[float]) -> None:
    batches = [batch_speed(2**i, rate) for i, rate in enumerate(rates)]
    best = find_best_batch(batches)
    for speed in batches:
        if speed.batch < best:
            assert speed.engine_rate < 0.98 * max(rates)
        if speed.batch == best:
            assert speed.engine_rate >= 0.98 * max(rates)


def test_batches_that_fall_behind_the_best() -> None:
    speed = speed_of(*(batch_speed(b, r) for b, r in ((1, 10), (4, 99), (8, 100), (16, 94.2))))
    assert speed.best_batch == 4
    assert [falling.batch for falling in speed.list_falling(0.04)] == [16]
    assert speed.list_falling() == []
    assert speed.list_falling(0.5) == []


def test_batches_that_differ() -> None:
    speed = speed_of(batch_speed(1, 10), batch_speed(4, 10, difference=0.06))
    assert [wrong.batch for wrong in speed.list_differing()] == [4]


def test_a_batch_that_was_not_measured() -> None:
    speed = speed_of(batch_speed(1, 10), batch_speed(4, 12))
    assert speed.at(4).engine_rate == 12
    with pytest.raises(ArgumentError, match="batch size 8 was not measured, only 1, 4"):
        speed.at(8)


def test_ratios_are_of_the_batches_that_both_have() -> None:
    first = speed_of(batch_speed(1, 10, 8), batch_speed(4, 20, 18))
    second = speed_of(batch_speed(4, 10, 6), batch_speed(8, 40, 9))
    comparison = compare(first, second)
    assert comparison.batches == (benchmarking.BatchRatio(4, 2, 3),)
    assert (comparison.engine, comparison.end_to_end) == (0.5, 2)
    back = compare(second, first)
    assert back.engine * comparison.engine == 1
    assert benchmarking.comparison_as_json(comparison) == {
        "batches": [{"batch": 4, "engine": 2.0, "end_to_end": 3.0}],
        "engine": 0.5,
        "end_to_end": 2.0,
    }


def test_a_speed_as_json_holds_every_field() -> None:
    speed = speed_of(batch_speed(1, 10), batch_speed(4, 12))
    found = json.loads(json.dumps(speed_as_json(speed), allow_nan=False))
    assert set(found) == {field.name for field in dataclasses.fields(Speed)}
    assert found["batches"][1]["engine"] == dataclasses.asdict(speed.batches[1].engine)
    assert set(found["batches"][0]) == {field.name for field in dataclasses.fields(BatchSpeed)}
    assert set(found["batches"][0]["stages"]) == set(STAGES)


# Taking turns


@given(st.sets(st.integers(1, 64), min_size=1, max_size=6), st.integers(1, 3), st.integers(0, 9))
def test_a_round_visits_everything_once(batches: set[int], count: int, turn: int) -> None:
    visits = _benchmark.order_visits(sorted(batches), count, turn)
    assert len(visits) == len(batches) * count
    assert set(visits) == {(batch, number) for batch in batches for number in range(count)}
    # The packages follow one another at each batch size.
    for start in range(0, len(visits), count):
        assert len({batch for batch, _ in visits[start : start + count]}) == 1
    assert visits == _benchmark.order_visits(sorted(batches), count, turn)


def test_of_two_visits_each_comes_first_as_often() -> None:
    rounds = [_benchmark.order_visits((1, 4, 8, 16), 2, turn) for turn in range(_benchmark._ROUNDS)]
    for a, b in itertools.combinations(rounds[0], 2):
        first = [visits.index(a) < visits.index(b) for visits in rounds]
        assert sum(first) == len(rounds) / 2
    assert len({tuple(visits) for visits in rounds}) > 2


def test_packages_take_turns(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str, int]] = []

    class Recorded(_process.Worker):
        def ask(self, do: str, **arguments: Any) -> Any:
            asked.append((self.package.folder.name, do, arguments.get("batch", 0)))
            return super().ask(do, **arguments)

    monkeypatch.setattr(_benchmark, "Worker", Recorded)
    seen: list[tuple[int, int]] = []
    measure(
        write_fake(tmp_path / "a"),
        write_fake(tmp_path / "b"),
        samples=samples,
        seconds=0.06,  # far more than a run takes, so that no visit is left out
        progress=lambda done, total: seen.append((done, total)),
    )
    timed = [(name, batch) for name, do, batch in asked if do == "time_engine"]
    assert len(timed) == 2 * 2 * 6
    pairs = list(zip(timed[::2], timed[1::2], strict=True))
    assert all(a[1] == b[1] and {a[0], b[0]} == {"a", "b"} for a, b in pairs)
    assert {a[0] for a, _ in pairs} == {"a", "b"}
    # Every batch size was warmed up and checked before the first was timed.
    before = [do for _, do, _ in asked[: [do for _, do, _ in asked].index("time_engine")]]
    assert before == ["warm_up", "check"] * 4
    assert seen[0] == (0, 28)
    assert seen[-1] == (28, 28)
    assert [done for done, _ in seen] == list(range(29))


def test_a_batch_size_whose_time_is_up_is_left_out() -> None:
    class Slow:
        asked = 0

        def ask(self, do: str, **arguments: Any) -> Any:
            self.asked += do == "time_engine"
            return {"time_engine": [1.0], "time_end_to_end": [1.0], "time_stages": {}}[do]

    worker: Any = Slow()
    run = _benchmark._Run(worker, {8: _benchmark._Times()})
    for _ in range(6):
        _benchmark._visit(run, 8, 2.0)
    assert worker.asked == 4
    assert run.batches[8].engine == [1.0] * 4
    quick = _benchmark._Run(worker, {8: _benchmark._Times()})
    for _ in range(6):
        _benchmark._visit(quick, 8, 6.1)
    assert worker.asked == 10


# Whole benchmarks


def test_two_packages_each_in_its_own_process(tmp_path: Path, samples: Samples) -> None:
    healthy, wrong = write_onnx(tmp_path / "healthy"), write_onnx(tmp_path / "wrong", mix=0.4)
    first, second = measure(healthy, wrong, samples=samples, setting=Setting("cpu", 1, 1))
    assert (first.name, second.name) == ("healthy", "wrong")
    assert (first.runtime, first.device, first.threads) == ("onnxruntime", "cpu", 1)
    assert first.sha256 == healthy.spec.engine.identity
    assert first.size_bytes == (tmp_path / "healthy" / "model.onnx").stat().st_size
    assert first.peak_bytes > 2**20
    assert first.cold_start > 0
    assert [speed.batch for speed in first.batches] == [1, 4]
    for speed in first.batches:
        assert speed.engine_rate == speed.batch / speed.engine.median
        assert speed.end_to_end_rate == speed.batch / speed.end_to_end.median
        assert set(speed.stages) == set(STAGES)
        assert speed.stages["run"] == pytest.approx(1 / speed.engine_rate)
        assert speed.stages["copy"] == 0
        assert min(speed.stages[name] for name in ("decode", "resize", "normalise", "post")) > 0
        assert min(speed.engine.count, speed.end_to_end.count) >= 3
        assert speed.difference < 1e-5
    # Each picture alone loses 0.4 of itself, which unit length restores; beside others it is wrong.
    assert second.at(1).difference < 1e-5
    assert second.at(4).difference > 0.05
    assert [speed.batch for speed in second.list_differing()] == [4]


def test_processes_are_other_ones(tmp_path: Path, samples: Samples) -> None:
    package, paths = write_fake(tmp_path / "p"), samples.paths.tolist()
    with (
        _process.Worker(package, paths, Setting()) as first,
        _process.Worker(package, paths, Setting()) as second,
    ):
        processes = {first.process_id, second.process_id}
        assert len(processes | {os.getpid()}) == 3
        assert all(map(is_running, processes))
    assert not any(map(is_running, processes))


def test_pictures_are_drawn_where_none_are_given(tmp_path: Path) -> None:
    (speed,) = measure(write_fake(tmp_path / "p"), samples=None, batches=(2,))
    assert speed.at(2).end_to_end.count >= 3


def test_a_fixed_batch_is_measured_alone(tmp_path: Path, samples: Samples) -> None:
    fixed = write_onnx(tmp_path / "fixed", batch=4, mix=0.4)
    (speed,) = measure(fixed, samples=samples, batches=(1, 4, 8))
    assert [found.batch for found in speed.batches] == [4]
    # One batch size is enough to find out: a picture is checked among other neighbours.
    assert speed.at(4).difference > 0.05
    with pytest.raises(ArgumentError, match="takes batches of 4 only, which is none of 1, 8"):
        measure(fixed, samples=samples, batches=(1, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": ()}, "nothing to measure"),
        ({"batches": (0,)}, "batch is 0, expected 1 to 4096"),
        ({"batches": (5000,)}, "batch is 5000"),
        ({"seconds": 0.0}, "seconds is 0.0, expected a number above 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, samples: Samples, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        measure(write_fake(tmp_path / "p"), samples=samples, **options)


def test_a_setting_is_checked() -> None:
    with pytest.raises(ArgumentError, match="workers is 0, expected at least 1"):
        Setting(workers=0)
    with pytest.raises(ArgumentError, match="threads is -1"):
        Setting(threads=-1)


def test_nothing_to_measure(tmp_path: Path, samples: Samples) -> None:
    with pytest.raises(ArgumentError, match="nothing to measure"):
        benchmark([], samples)
    with pytest.raises(ArgumentError, match="one picture"):
        benchmark([write_fake(tmp_path / "p")], samples.select(slice(0)))


# What goes wrong in the process


def test_the_largest_batch_that_worked_is_named(tmp_path: Path, samples: Samples) -> None:
    package = write_fake(tmp_path / "p", largest=4)
    with pytest.raises(
        EngineError, match=r"batch 8 does not .*p, the largest that worked is 4: .*out of memory"
    ):
        measure(package, samples=samples, batches=(16, 1, 8, 4))
    with pytest.raises(EngineError, match=r"batch 5 does not work .*, no smaller was tried: "):
        measure(package, samples=samples, batches=(5,))


def test_a_process_that_dies_is_an_error(tmp_path: Path, samples: Samples) -> None:
    package = write_fake(tmp_path / "p", die_above=3)
    with pytest.raises(
        EngineError,
        match=r"batch 4 .*largest that worked is 2: the process of p ended \(exit code 137\) "
        r"\(out of memory\?\) when it was to warm up",
    ):
        measure(package, samples=samples, batches=(1, 2, 4))


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
def test_a_killed_process_is_an_error(tmp_path: Path, samples: Samples) -> None:
    package = write_fake(tmp_path / "p")
    with _process.Worker(package, samples.paths.tolist(), Setting()) as worker:
        os.kill(worker.process_id, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(EngineError, match=r"killed by SIGKILL\) \(out of memory\?\)"):
                worker.ask("warm_up", batch=1, seconds=0.1)


def test_errors_keep_their_class_and_message(tmp_path: Path, samples: Samples) -> None:
    package = write_fake(tmp_path / "p")
    with pytest.raises(DeviceError, match="cannot run on cuda"):
        measure(write_onnx(tmp_path / "o"), samples=samples, setting=Setting("cuda"))
    (tmp_path / "p" / "fake.json").write_text("{}")
    with pytest.raises(IntegrityError, match="was changed after the package was made"):
        measure(package, samples=samples)


def test_vectors_that_are_not_numbers(tmp_path: Path, samples: Samples) -> None:
    package = write_onnx(tmp_path / "p", scale=float("nan"))
    with pytest.raises(EngineError, match="gave NaN or infinity"):
        measure(package, samples=samples)


def test_a_picture_that_cannot_be_decoded(tmp_path: Path, samples: Samples) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not a picture") as caught:
        measure(write_fake(tmp_path / "p"), samples=Samples.from_paths([str(bad)]))
    assert caught.value.path == str(bad)


@pytest.mark.parametrize(
    "error",
    [
        ImageError("a.jpg", "gone"),
        UnreadableImagesError([UnreadableImage("a.jpg", "gone")], 3),
        MissingExtraError("openvino", "openvino"),
        DeviceError("no such device"),
    ],
)
def test_an_error_crosses_as_it_is(error: ReidkitError) -> None:
    from reidkit.benchmarking._worker import _describe_error

    sent = json.loads(json.dumps(_describe_error(error)))
    made = _process._make_error(sent["error"], sent["message"], sent["fields"])
    assert type(made) is type(error)
    assert str(made) == str(error)
    assert vars(made) == vars(error)


def test_an_error_of_another_kind_crosses_with_its_traceback() -> None:
    from reidkit.benchmarking._worker import _describe_error

    try:
        raise KeyError("gone")
    except KeyError as error:
        sent: Any = json.loads(json.dumps(_describe_error(error)))
    made = _process._make_error(sent["error"], sent["message"], sent["fields"])
    assert str(made) == "KeyError: 'gone'"
    assert "raise KeyError" in made.__notes__[0]
    memory: Any = _describe_error(MemoryError("1 TiB"))
    assert (memory["error"], memory["message"]) == ("EngineError", "out of memory: 1 TiB")


def test_what_an_engine_prints_is_no_answer() -> None:
    script = (
        "import os, sys\n"
        "from reidkit.benchmarking._worker import _send, _take_standard_output\n"
        "answers = _take_standard_output()\n"
        "os.write(1, b'chatter\\n')\n"
        "print('more chatter', flush=True)\n"
        "_send(answers, {'value': 1})\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == {"value": 1}
    assert done.stderr.split() == [b"chatter", b"more", b"chatter"]


def test_modules_of_the_current_folder_are_not_taken(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('the wrong json')")
    package = write_fake(tmp_path / "p")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert measure(package, samples=samples, batches=(2,))[0].best_batch == 2


# The end of the parent


@contextmanager
def measuring(package: Package, samples: Samples) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Benchmark in a process group of its own; give it and the id of the package's process."""
    script = (
        "import sys\n"
        "from reidkit.benchmarking import _benchmark, _process, benchmark\n"
        "from reidkit.package import read_package\n"
        "from reidkit.records import Samples\n"
        "class Shown(_process.Worker):\n"
        "    def ask(self, do, **arguments):\n"
        "        print(self.process_id, flush=True)\n"
        "        return super().ask(do, **arguments)\n"
        "_benchmark.Worker = Shown\n"
        "package = read_package(sys.argv[1])\n"
        "benchmark([package], Samples.from_paths(sys.argv[2:]), batches=[1], seconds=600)\n"
    )
    command = [sys.executable, "-c", script, str(package.folder), *samples.paths]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as run:
        try:
            assert run.stdout is not None
            ids = [run.stdout.readline() for _ in range(3)]  # the third one times, for two minutes
            yield run, int(ids[0])
        finally:
            run.kill()


def wait_for_end(process: int) -> bool:
    end = time.monotonic() + 20
    while is_running(process) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_running(process)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_ends_with_its_killed_parent(tmp_path: Path, samples: Samples) -> None:
    with measuring(write_fake(tmp_path / "p"), samples) as (run, process):
        assert is_running(process)
        run.kill()
        run.wait()
        assert wait_for_end(process)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ctrl_c_ends_both(tmp_path: Path, samples: Samples) -> None:
    with measuring(write_fake(tmp_path / "p"), samples) as (run, process):
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all processes at once
        _, complaint = run.communicate(timeout=60)
        assert run.returncode != 0
        assert complaint.rstrip().endswith("KeyboardInterrupt")
        assert complaint.count("Traceback") == 1
        assert wait_for_end(process)


# What is measured, in this process


class Counting:
    """A runtime that notes its inputs, and adds to every row a share of the batch's mean."""

    name = "counting"
    device = "cpu"
    batch = None

    def __init__(self, takes: Takes = "tensor", mix: float = 0) -> None:
        self.takes: Takes = takes
        self.mix = mix
        self.inputs: list[Inputs] = []
        self._fake = FakeRuntime(SIZE)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        self.inputs.append(inputs)
        tensors = inputs if self.takes == "tensor" else inputs.transpose(0, 3, 1, 2)
        vectors = self._fake.run(tensors.astype(np.float32))
        vectors += np.float32(self.mix) * vectors.mean(axis=0)
        return vectors

    def close(self) -> None:
        self._fake.close()


def counting(runtime: Counting, contract: InputSpec = SMALL) -> Model:
    return Model(fake_model(SIZE, contract=contract).spec, runtime)


def test_the_engine_is_timed_on_a_batch_that_is_ready(samples: Samples) -> None:
    runtime = Counting()
    bench = Bench(counting(runtime), samples.paths.tolist())
    bench.warm_up(8, 0.01)
    runtime.inputs.clear()
    times = bench.time_engine(8, 0.01)
    assert len(runtime.inputs) == len(times) + 1
    assert min(times) > 0
    # Seven pictures are taken over and over, and the batch is the same memory every time.
    assert {inputs.ctypes.data for inputs in runtime.inputs} == {runtime.inputs[0].ctypes.data}
    assert np.array_equal(runtime.inputs[0][7], runtime.inputs[0][0])
    assert len(np.unique(runtime.inputs[0].reshape(8, -1), axis=0)) == 7
    assert len(bench.time_engine(8, 0)) == 1


def test_a_flipped_contract_runs_the_mirror_images_too(samples: Samples) -> None:
    kinds: tuple[Takes, ...] = ("tensor", "pixels")
    for takes in kinds:
        runtime = Counting(takes)
        flip = dataclasses.replace(SMALL, flip=True)
        bench = Bench(counting(runtime, flip), samples.paths.tolist())
        bench.warm_up(2, 0.01)
        runtime.inputs.clear()
        bench.time_engine(2, 0)
        picture, mirrored = runtime.inputs
        columns = -1 if takes == "tensor" else 2
        assert np.array_equal(np.flip(picture, columns), mirrored)
        assert not np.array_equal(picture, mirrored)
        assert mirrored.flags.c_contiguous


def test_pixels_are_copied_and_not_normalised(samples: Samples) -> None:
    bench = Bench(counting(Counting("pixels")), samples.paths.tolist())
    bench.warm_up(4, 0.01)
    stages = bench.time_stages(4)
    assert set(stages) == set(STAGES) - {"run"}
    assert stages["normalise"] == 0
    assert stages["copy"] > 0


def test_one_figure_is_the_mean_over_as_many_batches_as_readers(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(counting(Counting()), samples.paths.tolist(), workers=3)
    bench.warm_up(2, 0.01)
    intervals = [1.0, 2.0, 6.0, 2.0, 2.0, 2.0, 50.0]
    monkeypatch.setattr(bench, "_intervals", lambda batch, count: intervals)
    bench._width[2] = 3
    assert bench.time_end_to_end(2, 0.01) == [3.0, 2.0]
    bench._width[2] = 1
    assert bench.time_end_to_end(2, 0.01) == intervals


def test_the_engine_sets_the_pace_where_it_is_slow(samples: Samples) -> None:
    bench = Bench(counting(Counting()), samples.paths.tolist(), workers=3)
    assert bench._choose_width(4, running=1000.0) == 1
    assert bench._choose_width(4, running=1e-9) == 3


def brute_force_difference(model: Model, paths: Sequence[str], first: int, batch: int) -> float:
    """Word `Bench.check` picture by picture."""
    from reidkit.preprocess import load_batch

    def embed(order: Sequence[int], size: int) -> dict[int, NDArray[np.float32]]:
        found: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            inputs = load_batch([paths[row % len(paths)] for row in rows], model.contract)
            found |= dict(zip(rows, model.embed(inputs), strict=True))
        return found

    reference = embed(range(20), first)
    checked = embed(range(batch + (batch + 1) // 2)[::-1], batch)
    return max(
        float(np.abs(vector - reference[row]).max())
        / max(float(np.abs(vector).max()), float(np.abs(reference[row]).max()))
        for row, vector in checked.items()
    )


@pytest.mark.parametrize("mix", [0.0, 0.3])
@pytest.mark.parametrize("first", [1, 4])
def test_the_check_is_what_it_says(samples: Samples, mix: float, first: int) -> None:
    paths = samples.paths.tolist()
    model = counting(Counting(mix=mix))
    bench = Bench(model, paths)
    for batch in (first, 3, 8):
        found = bench.check(batch, largest=13)
        expected = brute_force_difference(model, paths, first, batch)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)
        assert (found > 0.01) == (mix > 0 and batch > 1)


def test_vectors_of_nothing_but_zeros_do_not_differ(samples: Samples) -> None:
    bench = Bench(counting(Counting(mix=-1)), samples.paths.tolist())  # a lone row becomes zero
    assert bench.check(1, largest=4) == 0
    assert 0.9 < bench.check(4, largest=4) <= 2


@pytest.mark.parametrize(
    ("times", "stable"),
    [
        ([], False),
        ([1.0] * 5, False),
        ([1.0] * 6, True),
        ([9.0, 3, 2, 1, 1, 1], False),
        ([9.0, 3, 2, 1, 1, 1, 1, 1, 1], True),
        ([1.0, 1, 1, 0.99, 0.99, 0.99], True),
        ([1.0, 1, 1, 1.5, 1.5, 1.5], True),
    ],
)
def test_warm_is_when_times_stop_falling(times: list[float], stable: bool) -> None:
    assert _is_stable(times) is stable


def test_warming_up_is_bounded(samples: Samples) -> None:
    runtime = Counting()
    Bench(counting(runtime), samples.paths.tolist()).warm_up(1, 0)
    # One to start with, one timed, two batches end to end.
    assert len(runtime.inputs) == 4


def test_the_peak_of_memory_only_rises() -> None:
    before = measure_peak()
    ballast = np.ones(2**23)
    after = measure_peak()
    assert ballast.nbytes < after
    assert 0 < before <= after
