"""Sessions: files with any inputs and outputs, run as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from reidkit.errors import DeviceError, EngineError
from reidkit.runtimes import available_devices
from reidkit.runtimes.sessions import TensorSpec, check_arrays, open_onnx

F32 = np.dtype(np.float32)


def write_sum(folder: Path, *, batch: int | str = "n", kind: int = TensorProto.FLOAT) -> Path:
    """Write a model of two inputs that gives their sum and their difference."""
    names = ("left", "right")
    given = [helper.make_tensor_value_info(name, kind, [batch, 3]) for name in names]
    made = [helper.make_tensor_value_info(name, kind, [batch, 3]) for name in ("sum", "rest")]
    nodes = [helper.make_node("Add", names, ["sum"]), helper.make_node("Sub", names, ["rest"])]
    graph = helper.make_graph(nodes, "sum", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "sum.onnx"
    onnx.save(model, path)
    return path


def test_it_says_what_the_file_takes_and_gives(tmp_path: Path) -> None:
    session = open_onnx(write_sum(tmp_path))
    assert session.inputs == (TensorSpec("left", F32, (-1, 3)), TensorSpec("right", F32, (-1, 3)))
    assert [spec.name for spec in session.outputs] == ["sum", "rest"]
    assert (session.device, session.batch_gears) == ("cpu", ())
    fixed = open_onnx(write_sum(tmp_path, batch=4))
    assert fixed.inputs[0].shape == (4, 3)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.FLOAT, np.float32),
        (TensorProto.DOUBLE, np.float64),
        (TensorProto.INT32, np.int32),
        (TensorProto.INT64, np.int64),
    ],
)
def test_it_runs_types_as_they_are(tmp_path: Path, kind: int, dtype: type[np.generic]) -> None:
    session = open_onnx(write_sum(tmp_path, kind=kind))
    left, right = np.arange(6).reshape(2, 3).astype(dtype), np.ones((2, 3), dtype)
    run = session.run([left, right])
    np.testing.assert_array_equal(run.outputs[0], left + right)
    np.testing.assert_array_equal(run.outputs[1], left - right)
    assert run.outputs[0].dtype == dtype
    assert run.computed > 0
    assert (run.sent, run.received) == (0, 0)


def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = open_onnx(write_sum(tmp_path))
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run([np.ones((1, 3), np.float32)] * 2)


SPECS = (TensorSpec("left", F32, (-1, 3)), TensorSpec("right", F32, (2, 3)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.ones((2, 3), np.float32)], r"2 inputs \(left, right\), got 1"),
        ([np.ones((2, 3), np.float64)] * 2, r"left takes float32 \(-1, 3\), got float64"),
        ([np.ones((1, 3), np.float32)] * 2, r"right takes float32 \(2, 3\), got float32 \(1, 3\)"),
        ([np.ones((1, 4), np.float32)] * 2, r"left takes .*got float32 \(1, 4\)"),
        ([np.ones((1, 1, 3), np.float32)] * 2, r"left takes .*\(1, 1, 3\)"),
    ],
)
def test_other_arrays_are_refused(arrays: list[Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        check_arrays(arrays, SPECS)


def test_fitting_arrays_pass() -> None:
    check_arrays([np.ones((7, 3), np.float32), np.ones((2, 3), np.float32)], SPECS)


def test_what_does_not_load_is_an_error(tmp_path: Path) -> None:
    damaged = tmp_path / "x.onnx"
    damaged.write_bytes(b"not a model")
    with pytest.raises(EngineError, match="does not load"):
        open_onnx(damaged)
    with pytest.raises(EngineError, match=r"none\.onnx"):
        open_onnx(tmp_path / "none.onnx")


def test_a_device_that_is_not_there_is_refused(tmp_path: Path) -> None:
    if "cuda" in available_devices()["onnxruntime"]:
        pytest.skip("this onnxruntime runs on CUDA")
    with pytest.raises(DeviceError, match="cuda"):
        open_onnx(write_sum(tmp_path), device="cuda")


def test_a_type_that_no_file_holds_is_refused(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("x", TensorProto.STRING, [1])]
    made = [helper.make_tensor_value_info("y", TensorProto.STRING, [1])]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "t", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "text.onnx")
    with pytest.raises(EngineError, match=r"x is a tensor\(string\)"):
        open_onnx(tmp_path / "text.onnx")


def test_an_engine_that_fails_is_an_error(tmp_path: Path) -> None:
    session = open_onnx(write_sum(tmp_path))
    with pytest.raises(EngineError, match=r"failed on input \(2, 3\), \(5, 3\)"):
        session.run([np.ones((2, 3), np.float32), np.ones((5, 3), np.float32)])
