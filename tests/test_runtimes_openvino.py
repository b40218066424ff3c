"""What the contract of all runtimes does not say of OpenVINO's."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit import runtimes
from reidkit.errors import ArgumentError, DeviceError, EngineError, MissingExtraError
from reidkit.package import EngineSpec
from reidkit.runtimes import load_runtime
from tests.contract.test_runtimes import HEIGHT, SIZE, WIDTH, pictures, write_onnx, write_openvino

# Importing openvino outright, as pytest.importorskip does, would send an event to its maker.
if util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from reidkit.runtimes import _openvino, _openvino_library

INNER = ("a", "b", "c", "d")


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, EngineSpec]:
    return write_openvino(tmp_path, None)


def test_it_gives_what_onnxruntime_gives(written: tuple[Path, EngineSpec], tmp_path: Path) -> None:
    expected = load_runtime(*write_onnx(tmp_path, None)).run(pictures(5))
    np.testing.assert_allclose(load_runtime(*written).run(pictures(5)), expected, atol=1e-4)


def test_it_reads_onnx_too(tmp_path: Path) -> None:
    file, engine = write_onnx(tmp_path, None)
    runtime = load_runtime(file, dataclasses.replace(engine, runtime="openvino"))
    assert runtime.name == "openvino"
    assert runtime.run(pictures(2)).shape == (2, SIZE)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_kept_to(written: tuple[Path, EngineSpec], threads: int) -> None:
    settings = _openvino._settings("fp32", threads)
    model = _openvino_library.read_model(written[0])
    compiled = _openvino._compile(model, "CPU", settings, written[0])
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads


def test_fp32_is_float32_even_where_the_processor_has_bfloat16(
    written: tuple[Path, EngineSpec],
) -> None:
    model = _openvino_library.read_model(written[0])
    compiled = _openvino._compile(model, "CPU", _openvino._settings("fp32", None), written[0])
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == _types().f32


class Compiled:
    """A compiled model that computes in another type than it was asked to."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def get_property(self, name: str) -> Any:
        assert name == "INFERENCE_PRECISION_HINT"
        return self.found


def _types() -> Any:
    return _openvino_library.import_openvino().Type


@pytest.mark.parametrize(
    ("asked", "found", "said"),
    [
        ("fp16", "bf16", "asked for fp16, but openvino would compute in bf16"),
        ("fp32", "bf16", "asked for fp32, but openvino would compute in bf16"),
        ("bf16", "f32", "asked for bf16, but openvino would compute in fp32"),
        ("int8", "f16", "asked for fp32, but openvino would compute in fp16"),
    ],
)
def test_another_precision_than_asked_is_refused(asked: str, found: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        _openvino._check_precision(Compiled(getattr(_types(), found)), asked)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_reduced_precision_runs_or_is_refused_by_name(
    written: tuple[Path, EngineSpec], precision: str
) -> None:
    from reidkit.compiling import _openvino as compiling

    engine = dataclasses.replace(written[1], precision=precision)
    if precision in compiling.support().precisions:
        vectors = load_runtime(written[0], engine).run(pictures(3))
        exact = load_runtime(*written).run(pictures(3))
        assert not np.array_equal(vectors, exact)
        np.testing.assert_allclose(vectors, exact, rtol=0.05, atol=0.05)
    else:
        with pytest.raises(DeviceError, match=precision):
            load_runtime(written[0], engine)


@pytest.mark.parametrize("device", ["cuda", "cpu:0", "gpu:", "gpu:x", "CPU", ""])
def test_a_device_of_no_name_is_refused(written: tuple[Path, EngineSpec], device: str) -> None:
    with pytest.raises(ArgumentError, match="expected one of cpu, gpu, gpu:N, npu"):
        load_runtime(*written, device=device)


def test_a_device_that_is_not_there_names_those_that_are(written: tuple[Path, EngineSpec]) -> None:
    with pytest.raises(DeviceError, match=r"finds no gpu:71 here, it finds .*cpu"):
        load_runtime(*written, device="gpu:71")


@pytest.mark.parametrize(
    ("asked", "running", "name"),
    [
        ("CPU", ["CPU"], "cpu"),
        ("GPU", ["GPU.0"], "gpu:0"),
        ("GPU.0", ["GPU"], "gpu"),
        ("GPU.1", ["GPU.1"], "gpu:1"),
    ],
)
def test_the_device_is_read_back(asked: str, running: list[str], name: str) -> None:
    assert _openvino._running_device(asked, running) == name


@pytest.mark.parametrize(
    ("asked", "running"),
    [("GPU", ["CPU"]), ("GPU.1", ["GPU.0"]), ("GPU", ["GPU.1"]), ("NPU", ["NPU", "CPU"])],
)
def test_another_device_than_asked_is_refused(asked: str, running: list[str]) -> None:
    with pytest.raises(DeviceError, match=f"would run on .*{running[-1].lower()[:3]}"):
        _openvino._running_device(asked, running)


def test_the_devices_are_listed() -> None:
    assert "cpu" in runtimes.available_devices()["openvino"]


def test_weights_that_are_missing_or_cut_are_refused(written: tuple[Path, EngineSpec]) -> None:
    weights = written[0].with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EngineError, match=r"model\.xml: Incorrect weights in bin file"):
        load_runtime(*written)
    weights.unlink()
    with pytest.raises(EngineError, match=r"model\.xml: .*bin file cannot be found"):
        load_runtime(*written)


def test_a_file_of_another_kind_is_refused_without_a_word_on_the_terminal(
    written: tuple[Path, EngineSpec], capfd: pytest.CaptureFixture[str]
) -> None:
    written[0].write_text("not a graph")
    with pytest.raises(EngineError, match=r"model\.xml"):
        load_runtime(*written)
    assert capfd.readouterr() == ("", "")


def test_another_size_than_the_models_is_refused(written: tuple[Path, EngineSpec]) -> None:
    runtime = load_runtime(*written)
    with pytest.raises(EngineError, match=rf"failed on input \(1, 3, {HEIGHT}, {WIDTH + 1}\)"):
        runtime.run(np.zeros((1, 3, HEIGHT, WIDTH + 1), np.float32))


@pytest.mark.parametrize("batch", [None, 2, 4])
def test_inner_values_are_those_of_onnxruntime(tmp_path: Path, batch: int | None) -> None:
    import onnx
    import onnxruntime

    file, _ = write_openvino(tmp_path, batch)
    found = _openvino.trace_values(file, _tensors(5), [*INNER, "embedding", "conv", "nowhere"])
    assert set(found) == {*INNER, "embedding"}

    model = onnx.load(write_onnx(tmp_path, None)[0])
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in INNER)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for name, expected in zip(INNER, session.run(list(INNER), {"image": _tensors(5)}), strict=True):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected, atol=1e-4)


def test_the_models_own_output_is_traced_alone(written: tuple[Path, EngineSpec]) -> None:
    found = _openvino.trace_values(written[0], _tensors(2), ["embedding"])
    np.testing.assert_allclose(found["embedding"], load_runtime(*written).run(_tensors(2)))
    assert _openvino.trace_values(written[0], _tensors(2), ["nowhere"]) == {}


def _tensors(count: int) -> Any:
    return pictures(count)


def test_a_library_that_is_missing_is_named(
    written: tuple[Path, EngineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'reidkit\[openvino\]'"):
        load_runtime(*written)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "openvino" not in runtimes.available_devices()


def test_the_same_model_is_written_in_the_same_bytes(tmp_path: Path) -> None:
    file, _ = write_onnx(tmp_path, None)
    hashes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        model = _openvino_library.read_model(file)
        hashes.append(_openvino_library.write_model(model, tmp_path / name / "model.xml"))
    assert hashes[0] == hashes[1]
    assert str(tmp_path) not in (tmp_path / "first" / "model.xml").read_text()


LOUD = """
import socket, sys
def refuse(*_): raise SystemExit("something wanted the network")
socket.socket.connect = refuse
from reidkit.runtimes._openvino_library import import_openvino
openvino = import_openvino()
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__, "openvino_telemetry" in sys.modules)
"""


def test_importing_openvino_sends_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOUD],
        capture_output=True,
        text=True,
        check=True,
        # Where the telemetry package would keep its identity and count its uses.
        env={"HOME": str(tmp_path), "PATH": ""},
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]
    assert list(tmp_path.iterdir()) == []


def test_the_telemetry_package_can_be_imported_again_afterwards() -> None:
    before = sys.modules.get("openvino_telemetry")
    with _openvino_library.without_telemetry(), pytest.raises(ImportError):
        __import__("openvino_telemetry")
    assert sys.modules.get("openvino_telemetry") is before
