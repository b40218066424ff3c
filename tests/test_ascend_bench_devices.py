"""The guide's batch inference tool on several devices: a process for each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reidkit.ascend.bench import BenchResult, BenchSettings, FileOptions, SaveOptions, run_bench
from reidkit.ascend.bench._devices import divide_work
from reidkit.errors import AscendError
from reidkit.machine import available_cores
from tests import ascend_models


@pytest.fixture
def arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Work in a folder with a model and 5 files; give the right output of each."""
    monkeypatch.chdir(tmp_path)
    ascend_models.write_model(Path("m.onnx"), 2)
    pictures = ascend_models.write_pictures(Path("d, e"), [f"{i}.bin" for i in range(5)])
    return {f"{i}_0.bin": ascend_models.expected(array) for i, array in enumerate(pictures)}


def settings(*devices: int, divide: bool = True) -> BenchSettings:
    return BenchSettings(
        Path("m.onnx"),
        ("d, e",),  # a name with a comma and a space
        devices=devices,
        divide=divide,
        saving=SaveOptions(Path("out"), "bs"),
        arguments=("tool",),
    )


def outputs(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("out/bs", folder).iterdir()}


def run(given: BenchSettings, lines: list[str]) -> BenchResult:
    return run_bench(given, report=lambda level, text: lines.append(f"[{level}] {text}"))


def test_files_are_shared_out_and_rates_added_up(arrays: dict[str, bytes]) -> None:
    lines: list[str] = []
    steps: list[tuple[int, int]] = []
    given = settings(0, 1)
    result = run_bench(
        given,
        report=lambda level, text: lines.append(f"[{level}] {text}"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert sorted(outputs("device0")) == ["0_0.bin", "1_0.bin", "2_0.bin"]
    assert outputs("device0") | outputs("device1") == arrays
    rates = []
    for device, count in ((0, 3), (1, 2)):
        summary = json.loads(Path(f"out/bs/device{device}_summary.json").read_text())
        assert len(summary["filesinfo"]) == count
        assert summary["args"] == ["tool"]
        assert summary["pid"] != os.getpid()
        rates.append(summary["throughput"])
    assert result.throughput == pytest.approx(sum(rates))
    assert (result.files, result.outputs, len(result.parts)) == (5, 5, 2)
    assert steps[-1] == (3, 3)  # two runs and one
    closing = lines[-5:]
    assert closing[0] == "[INFO] multidevice run end qsize:4 result:0"
    for i, line in enumerate(closing[1:3]):
        form = rf"\[INFO\] i:{i} device_{i} throughput:(\S+) start_time:(\S+) end_time:(\S+)"
        match = re.fullmatch(form, line)
        assert match
        assert float(match[1]) == rates[i]
        assert float(match[2]) <= float(match[3])
    assert closing[3] == f"[INFO] summary throughput:{result.throughput}"
    assert [line for line in lines if "throughput" in line][-1] == closing[3]
    assert closing[4].startswith("[INFO] end-to-end (reidkit): ")


def test_all_devices_get_everything_on_demand(arrays: dict[str, bytes]) -> None:
    run(settings(3, 5, divide=False), [])
    assert outputs("device3") == outputs("device5") == arrays


def test_a_device_named_twice_overwrites_nothing(arrays: dict[str, bytes]) -> None:
    run(settings(0, 0), [])
    assert outputs("device0") | outputs("device0_1") == arrays
    assert Path("out/bs/device0_1_summary.json").exists()


def test_fewer_files_than_devices(arrays: dict[str, bytes]) -> None:
    lines: list[str] = []
    given = settings(0, 1, 2, 3)  # pieces of two files each, for three of them
    result = run(given, lines)
    assert result.files == 5
    assert "[WARNING] fewer files than devices: device 3 gets none" in lines
    assert sorted(path.name for path in Path("out/bs").iterdir() if path.is_dir()) == [
        "device0",
        "device1",
        "device2",
    ]


def test_no_device_writes_before_all_have_checked(arrays: dict[str, bytes]) -> None:
    Path("d, e/4.bin").write_bytes(b"12345")  # the second device's
    lines: list[str] = []
    with pytest.raises(AscendError, match=r"device 1 failed: 1 of 2 files .*4.bin \(5 bytes\)"):
        run(settings(0, 1), lines)
    assert not Path("out").exists()
    errors = [line for line in lines if line.startswith("[ERROR]")]
    assert len(errors) == 1
    assert "subprocess run failed error_callback:device 1: " in errors[0]


def test_a_device_that_fails_lets_the_others_finish(arrays: dict[str, bytes]) -> None:
    Path("d, e/4.bin").write_bytes(b"12345")
    lines: list[str] = []
    given = settings(0, 1)
    compatible = BenchSettings(
        given.model,
        given.inputs,
        given.devices,
        files=FileOptions(compatible=True),
        saving=given.saving,
    )
    with pytest.raises(AscendError, match="device 1 failed: ndata size:101 not match 192"):
        run(compatible, lines)
    assert len(outputs("device0")) == 3
    assert Path("out/bs/device0_summary.json").exists()
    assert not Path("out/bs/device1_summary.json").exists()
    assert not any("summary throughput" in line for line in lines)


def test_a_model_that_cannot_be_opened(arrays: dict[str, bytes]) -> None:
    Path("m.onnx").write_bytes(b"no model")
    with pytest.raises(AscendError, match=r"device 0 failed: .*; device 1 failed: "):
        run(settings(0, 1), [])


def test_names_that_collide_across_devices_are_refused(arrays: dict[str, bytes]) -> None:
    Path("d, e/0.z.bin").write_bytes(Path("d, e/0.bin").read_bytes())
    Path("d, e/9.z.bin").write_bytes(Path("d, e/0.bin").read_bytes())
    Path("d, e/9.bin").write_bytes(Path("d, e/0.bin").read_bytes())
    with pytest.raises(AscendError, match="would overwrite each other"):
        run(settings(0, 1), [])


def test_devices_share_the_cores() -> None:
    tasks = divide_work(settings(0, 1))
    assert [task.settings.threads for task in tasks] == [max(1, available_cores() // 2)] * 2
    assert [task.device for task in tasks] == [0, 1]


def test_the_processes_end_with_their_parent(arrays: dict[str, bytes]) -> None:
    """Killed without a chance to say so, the parent leaves no process and no summary behind."""
    code = (
        "import os, time\nfrom pathlib import Path\n"
        "from reidkit.ascend.bench import BenchSettings, SaveOptions, TimeOptions, run_bench\n"
        "run_bench(BenchSettings(Path('m.onnx'), ('d, e',), devices=(0, 1),"
        " timing=TimeOptions(loop=10_000_000), saving=SaveOptions(Path('out'), 'bs')))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(Path().glob("out/bs/device*"))) < 2:
        assert parent.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    parent.kill()
    assert parent.wait() == -signal.SIGKILL
    # The processes hold this pipe open too: its end means that they are gone.
    assert parent.stderr is not None
    parent.stderr.read()
    parent.stderr.close()
    assert list(Path().glob("out/bs/*.json")) == []
