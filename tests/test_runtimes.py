"""What is particular to one runtime; what all have in common is in tests/contract."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from reidkit.errors import ArgumentError, DeviceError, EngineError
from reidkit.package import EngineSpec
from reidkit.runtimes import _onnxruntime, available_devices, load_runtime, trace_values
from reidkit.runtimes.fake import FakeRuntime
from tests.contract.test_runtimes import write_onnx


def test_an_unknown_runtime_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="'abacus': this reidkit has onnxruntime, openvino,"):
        load_runtime(tmp_path / "x", EngineSpec("x", "0" * 64, "abacus"))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "cuda:", "cpu:7", ""])
def test_an_unknown_device_lists_the_known_ones(tmp_path: Path, device: str) -> None:
    path, engine = write_onnx(tmp_path, None)
    with pytest.raises(ArgumentError, match="expected one of cpu, cuda, tensorrt, or cuda:N"):
        load_runtime(path, engine, device=device)


def test_a_device_that_the_build_lacks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    path, engine = write_onnx(tmp_path, None)
    with pytest.raises(DeviceError, match=r"built for cpu; pip install onnxruntime-gpu"):
        load_runtime(path, engine, device="cuda:0")
    assert available_devices()["onnxruntime"] == ["cpu"]


def test_engines_that_are_not_installed_have_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino", "torch"):
        monkeypatch.setitem(sys.modules, name, None)
    assert list(available_devices()) == ["onnxruntime"]


class FallenBack:
    """A session that was asked for the GPU and silently took the CPU."""

    def __init__(self, *_: Any, **options: Any) -> None:
        self.options = options

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_a_silent_fall_back_to_the_cpu_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    monkeypatch.setattr(ort, "InferenceSession", FallenBack)
    path, engine = write_onnx(tmp_path, None)
    with pytest.raises(DeviceError, match="asked for cuda, but onnxruntime would run on cpu"):
        load_runtime(path, engine, device="cuda")


def test_the_gpu_number_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert _onnxruntime._provider("cuda") == ("cuda", {"use_tf32": "0"})
    assert _onnxruntime._provider("cuda:1") == ("cuda", {"use_tf32": "0", "device_id": "1"})


def test_an_output_of_another_shape_is_refused(tmp_path: Path) -> None:
    import onnx

    path, engine = write_onnx(tmp_path, None)
    model = onnx.load(path)
    model.graph.node[-2].CopyFrom(onnx.helper.make_node("Identity", ["c"], ["d"]))
    del model.graph.node[-1]
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("d", onnx.TensorProto.FLOAT, ["batch", 4, 1, 1])
    )
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"gave float32 \(2, 4, 1, 1\) for 2 pictures"):
        load_runtime(path, engine).run(np.zeros((2, 3, 32, 16), np.float32))


def test_a_picture_of_another_size_is_an_engine_error(tmp_path: Path) -> None:
    path, engine = write_onnx(tmp_path, None)
    with pytest.raises(EngineError, match="onnxruntime failed on input"):
        load_runtime(path, engine).run(np.zeros((1, 3, 8, 8), np.float32))


def test_inner_values_are_shown(tmp_path: Path) -> None:
    path, engine = write_onnx(tmp_path, None)
    inputs = np.random.default_rng(0).standard_normal((5, 3, 32, 16)).astype(np.float32)
    found = trace_values(path, engine, inputs, ["b", "embedding", "a", "conv", "image", "nowhere"])
    assert set(found) == {"a", "b", "embedding"}, "neither weights nor the input are made inside"
    np.testing.assert_array_equal(found["b"], np.maximum(found["a"], 0))
    expected = load_runtime(path, engine).run(inputs)
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e-5)
    assert trace_values(path, engine, inputs, ["nowhere"]) == {}


def test_inner_values_of_other_types_are_left_out(tmp_path: Path) -> None:
    import onnx

    path, engine = write_onnx(tmp_path, None)
    model = onnx.load(path)
    model.graph.node.append(onnx.helper.make_node("Shape", ["a"], ["whole_numbers"]))
    onnx.save(model, path)
    inputs = np.zeros((2, 3, 32, 16), np.float32)
    assert set(trace_values(path, engine, inputs, ["a", "whole_numbers"])) == {"a"}


def test_a_file_that_does_not_run_shows_nothing(tmp_path: Path) -> None:
    path, engine = write_onnx(tmp_path, 4)
    with pytest.raises(EngineError, match="does not show the inside"):
        trace_values(path, engine, np.zeros((3, 3, 32, 16), np.float32), ["a"])
    path.write_bytes(b"nonsense")
    with pytest.raises(EngineError, match="does not show the inside"):
        trace_values(path, engine, np.zeros((4, 3, 32, 16), np.float32), ["a"])


def test_the_fake_gives_like_vectors_to_like_pictures() -> None:
    fake = FakeRuntime(16)
    random = np.random.default_rng(0)
    base = random.standard_normal((1, 3, 32, 16)).astype(np.float32)
    other = random.standard_normal((1, 3, 32, 16)).astype(np.float32)
    a, near, far = fake.run(np.concatenate([base, base + 0.01, other]))
    assert np.linalg.norm(a - near) < 0.1 * np.linalg.norm(a - far)


def test_the_fake_refuses_tiny_pictures_and_bad_descriptions(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="at least 8x4, got 4x4"):
        FakeRuntime().run(np.zeros((1, 3, 4, 4), np.float32))
    (tmp_path / "fake.json").write_text("[]")
    with pytest.raises(EngineError, match="does not describe a fake runtime"):
        load_runtime(tmp_path / "fake.json", EngineSpec("fake.json", "0" * 64, "fake"))
