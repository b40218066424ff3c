"""What is particular to torch's runtime; what all have in common is in tests/contract."""

from __future__ import annotations

from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit.errors import ArgumentError, DeviceError, EngineError, MissingExtraError
from reidkit.package import EngineSpec
from reidkit.runtimes import available_devices, load_runtime

torch = pytest.importorskip("torch")
from reidkit.devices import true_float32  # noqa: E402 - needs torch
from reidkit.runtimes import _torch  # noqa: E402

ENGINE = EngineSpec("model.pt2", "0" * 64, "torch", takes="pixels")
METADATA = {"AOTI_DEVICE_KEY": "cpu", "AOTI_CPU_ISA": ""}


def pixels(count: int) -> Any:
    return np.arange(count * 8 * 4 * 3).reshape(count, 8, 4, 3).astype(np.uint8)


def first_row(inputs: Any) -> Any:
    return inputs[:, 0].flatten(1).float()


@pytest.fixture
def open_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _torch.TorchRuntime]:
    """Open a runtime around a function of ours in place of a compiled file."""

    def open_(
        network: Any, metadata: dict[str, str] = METADATA, **options: Any
    ) -> _torch.TorchRuntime:
        monkeypatch.setattr(_torch, "_read_metadata", lambda file: metadata)
        monkeypatch.setattr(_torch, "_open_network", lambda file, number: network)
        return _torch.TorchRuntime(Path("model.pt2"), ENGINE, **options)

    return open_


def precisions() -> list[Any]:
    backends = torch.backends
    new = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul)
    return [setting.fp32_precision for setting in new]


@pytest.mark.parametrize("way", ["untouched", "high", "medium", "newer"])
def test_float32_stays_float32_and_the_settings_come_back(way: str) -> None:
    original = torch.backends.cuda.matmul.fp32_precision
    if way == "newer":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    elif way != "untouched":
        torch.set_float32_matmul_precision(way)
    before = precisions()
    try:
        with pytest.raises(KeyError), true_float32():
            assert precisions() == ["ieee"] * 4
            raise KeyError
        assert precisions() == before
    finally:
        if way != "newer":
            torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = original


def test_the_setting_holds_while_the_network_runs(open_with: Any) -> None:
    seen = []

    def watch(inputs: Any) -> Any:
        seen.append((precisions(), torch.is_inference_mode_enabled()))
        return first_row(inputs)

    assert open_with(watch).run(pixels(2)).shape == (2, 12)
    assert seen == [(["ieee"] * 4, True)]


def test_large_batches_run_piece_by_piece(open_with: Any) -> None:
    sizes = []

    def watch(inputs: Any) -> Any:
        sizes.append(len(inputs))
        return first_row(inputs)

    inputs = pixels(2 * _torch.LARGEST_BATCH["cpu"] + 5)
    vectors = open_with(watch).run(inputs)
    assert sizes == [_torch.LARGEST_BATCH["cpu"], _torch.LARGEST_BATCH["cpu"], 5]
    assert np.array_equal(vectors, inputs[:, 0].reshape(len(inputs), -1))


def test_inputs_of_any_layout_are_read_rightly(open_with: Any) -> None:
    inputs = pixels(3)
    inputs.flags.writeable = False
    runtime = open_with(first_row)
    assert np.array_equal(runtime.run(inputs), inputs[:, 0].reshape(3, -1))
    mirrored = inputs[:, :, ::-1]
    assert np.array_equal(runtime.run(mirrored), mirrored[:, 0].reshape(3, -1))


def test_threads_are_torch_s(open_with: Any) -> None:
    before = torch.get_num_threads()
    seen = []

    def watch(inputs: Any) -> Any:
        seen.append(torch.get_num_threads())
        return first_row(inputs)

    try:
        open_with(watch, threads=1).run(pixels(1))
    finally:
        torch.set_num_threads(before)
    assert seen == [1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_worked(open_with: Any, error: Exception) -> None:
    def run(inputs: Any) -> Any:
        if len(inputs) > 4:
            raise error
        return first_row(inputs)

    runtime = open_with(run)
    with pytest.raises(EngineError, match="memory on cpu with a batch of 9, so far none worked"):
        runtime.run(pixels(9))
    runtime.run(pixels(4))
    with pytest.raises(EngineError, match="so far 4 was the largest that worked") as caught:
        runtime.run(pixels(5))
    assert "\n" not in str(caught.value)


def test_another_failure_is_an_engine_error(open_with: Any) -> None:
    def fail(inputs: Any) -> Any:
        raise RuntimeError("run_func_ failed\nat line 7")

    with pytest.raises(EngineError, match=r"failed on a batch of 2 on cpu: run_func_ failed$"):
        open_with(fail).run(pixels(2))


def test_an_output_of_another_shape_is_refused(open_with: Any) -> None:
    with pytest.raises(EngineError, match=r"gave float32 \(1, 12\) for 2 pictures"):
        open_with(lambda inputs: first_row(inputs)[:1]).run(pixels(2))


def test_a_file_for_another_device_is_refused(open_with: Any) -> None:
    with pytest.raises(DeviceError, match=r"model\.pt2 was compiled for cuda, it does not run on"):
        open_with(first_row, {"AOTI_DEVICE_KEY": "cuda"})


def test_a_file_for_a_better_cpu_is_refused(
    open_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True})
    needs = METADATA | {"AOTI_CPU_ISA": "AVX512 AVX512_VNNI"}
    with pytest.raises(DeviceError, match="compiled for a CPU with AVX512_VNNI, which this one"):
        open_with(first_row, needs)
    assert open_with(first_row, METADATA | {"AOTI_CPU_ISA": "AVX512"}).device == "cpu"


class TwoGpus:
    """What `torch.cuda` says on a machine with two GPUs."""

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 2

    def get_device_capability(self, number: int) -> tuple[int, int]:
        return (9, 0)

    def get_device_name(self, number: int) -> str:
        return f"GPU {number}"


def test_devices_of_a_machine_with_gpus(open_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "cuda", TwoGpus())
    gpu = {"AOTI_DEVICE_KEY": "cuda", "AOTI_COMPUTE_CAPABILITY": "90"}
    assert open_with(first_row, gpu, device="cuda").device == "cuda:0"
    assert open_with(first_row, gpu, device="cuda:1").device == "cuda:1"
    assert available_devices()["torch"] == ["cpu", "cuda"]
    with pytest.raises(DeviceError, match=r"asked for cuda:2, but torch .* finds 2 GPUs"):
        open_with(first_row, gpu, device="cuda:2")
    with pytest.raises(DeviceError, match="compiled for cpu, it does not run on cuda"):
        open_with(first_row, device="cuda")
    with pytest.raises(DeviceError, match="capability 80, GPU 1 has 90"):
        open_with(first_row, gpu | {"AOTI_COMPUTE_CAPABILITY": "80"}, device="cuda:1")


def test_a_gpu_that_is_not_there_is_an_error(
    open_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"asked for cuda, but torch .* finds 0 GPUs"):
        open_with(first_row, device="cuda")
    assert available_devices()["torch"] == ["cpu"]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "cuda:", "cpu:7", ""])
def test_an_unknown_device_lists_the_known_ones(open_with: Any, device: str) -> None:
    with pytest.raises(ArgumentError, match="expected cpu, cuda or cuda:N"):
        open_with(first_row, device=device)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not much", b"\x00" * 5000])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(data)
    with pytest.raises(EngineError, match=r"does not load .*broken\.pt2"):
        load_runtime(path, ENGINE)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"does not load .*none\.pt2"):
        load_runtime(tmp_path / "none.pt2", ENGINE)


def test_without_torch_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'reidkit\[torch\]'"):
        load_runtime(tmp_path / "model.pt2", ENGINE)
