"""Packages compiled for OpenVINO."""

from __future__ import annotations

import logging
import sys
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reidkit import networks
from reidkit.checkpoints import Checkpoint
from reidkit.compiling import _openvino
from reidkit.compiling._targets import Job, Support, Target
from reidkit.datasets.drawn import draw_crops
from reidkit.errors import CompileError, MissingExtraError
from reidkit.exporting import export_package
from reidkit.package import EngineSpec, InputSpec, ModelSpec, Package
from reidkit.preprocess import prepare
from reidkit.runtimes import load_runtime
from tests.contract.test_runtimes import HEIGHT, SIZE, WIDTH, pictures, write_onnx

# Importing openvino outright, as pytest.importorskip does, would send an event to its maker.
if util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

needs_nncf = pytest.mark.skipif(util.find_spec("nncf") is None, reason="nncf is not installed")

CONTRACT = InputSpec(height=HEIGHT, width=WIDTH)


def package_of(file: Path, batch: int | None = None) -> Package:
    engine = EngineSpec(file.name, "0" * 64, batch=batch)
    spec = ModelSpec("tiny", "tiny", SIZE, "w" * 64, "r" * 64, CONTRACT, engine)
    return Package(file.parent, spec)


def build(job: Job, folder: Path) -> tuple[Path, EngineSpec]:
    folder.mkdir()
    engine = _openvino.build(job, folder)
    assert {entry.name for entry in folder.iterdir()} == {engine.file, *engine.companions}
    return folder / engine.file, engine


def tensors(count: int) -> Any:
    return pictures(count)


def operations(file: Path) -> dict[str, Any]:
    from reidkit.runtimes._openvino_library import read_model

    return {op.get_friendly_name(): op for op in read_model(file).get_ops()}


def is_quantised(layer: Any) -> bool:
    """Say whether what enters a layer, or its weights, went through a FakeQuantize."""
    kinds = set()
    for port in layer.inputs():
        node = port.get_source_output().get_node()
        while node.get_type_name() in ("Convert", "Multiply", "Subtract"):
            # 8-bit weights are stored as such, and scaled when they are read.
            kinds.add("stored" if node.get_type_name() == "Convert" else "")
            node = node.input_value(0).get_node()
        kinds.add(node.get_type_name())
    return bool(kinds & {"FakeQuantize", "stored"})


def test_fp32_gives_what_the_source_gives(tmp_path: Path) -> None:
    package = package_of(write_onnx(tmp_path, None)[0])
    file, engine = build(Job(package, Target("openvino")), tmp_path / "out")
    assert (engine.runtime, engine.target, engine.precision) == ("openvino", "openvino", "fp32")
    assert (engine.batch, engine.device, engine.float_layers) == (None, "cpu", ())
    expected = load_runtime(package.engine_file, package.spec.engine).run(tensors(5))
    np.testing.assert_allclose(load_runtime(file, engine).run(tensors(5)), expected, atol=1e-4)


@pytest.mark.parametrize(("source", "asked", "found"), [(None, 4, 4), (4, None, 4), (4, 4, 4)])
def test_a_fixed_batch(tmp_path: Path, source: int | None, asked: int | None, found: int) -> None:
    package = package_of(write_onnx(tmp_path, source)[0], source)
    file, engine = build(Job(package, Target("openvino", batch=asked)), tmp_path / "out")
    assert engine.batch == found
    (parameter,) = (op for op in operations(file).values() if op.get_type_name() == "Parameter")
    assert list(parameter.output(0).get_shape()) == [found, 3, HEIGHT, WIDTH]
    assert load_runtime(file, engine).run(tensors(found)).shape == (found, SIZE)


def test_weights_stay_float32(tmp_path: Path) -> None:
    package = package_of(write_onnx(tmp_path, None)[0])
    file, _ = build(Job(package, Target("openvino")), tmp_path / "out")
    weights = {
        name: op for name, op in operations(file).items() if op.get_type_name() == "Constant"
    }
    np.testing.assert_array_equal(weights["conv"].data, _weight(package.engine_file, "conv"))
    assert "f16" not in file.read_text().lower().replace("onnx", "")


def _weight(file: Path, name: str) -> NDArray[np.float32]:
    (found,) = (t for t in onnx.load(file).graph.initializer if t.name == name)
    return numpy_helper.to_array(found)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int8", marks=needs_nncf)])
def test_the_same_build_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    package = package_of(write_onnx(tmp_path, None)[0])
    calibration = tensors(8) if precision == "int8" else None
    written = []
    for name in ("first", "second"):
        job = Job(package, Target("openvino", precision), calibration)
        file, engine = build(job, tmp_path / name)
        written.append((file.read_bytes(), file.with_suffix(".bin").read_bytes(), engine))
    assert written[0] == written[1]
    text = written[0][0].decode()
    assert str(tmp_path) not in text
    assert "nncf" not in text
    assert "2026" not in text


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    node = helper.make_node("Telepathy", ["image"], ["embedding"], domain="com.example")
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "odd",
        [helper.make_tensor_value_info("image", floats, ["n", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("embedding", floats, ["n", SIZE])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "model.onnx")
    with pytest.raises(CompileError, match=r"Telepathy"):
        build(Job(package_of(tmp_path / "model.onnx"), Target("openvino")), tmp_path / "out")


def test_a_damaged_source_is_refused(tmp_path: Path) -> None:
    file = write_onnx(tmp_path, None)[0]
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CompileError, match=r"model\.onnx"):
        build(Job(package_of(file), Target("openvino")), tmp_path / "out")


def test_a_precision_that_the_processor_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_openvino, "_capabilities", lambda core, device: ["FP32", "BF16"])
    supported = _openvino.support()
    assert supported.precisions == ("fp32", "bf16")
    assert "fp16" in supported.hint
    package = package_of(write_onnx(tmp_path, None)[0])
    with pytest.raises(CompileError, match=r"not compute in fp16 on cpu here, .* fp32, bf16"):
        build(Job(package, Target("openvino", "fp16")), tmp_path / "out")


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    package = package_of(write_onnx(tmp_path, None)[0])
    with pytest.raises(CompileError, match="finds no gpu:71 here"):
        build(Job(package, Target("openvino", device="gpu:71")), tmp_path / "out")


def test_without_openvino_nothing_is_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    expected = "openvino is not installed: pip install 'reidkit[openvino]'"
    assert _openvino.support() == Support((), expected)


def test_without_nncf_there_is_no_int8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    supported = _openvino.support()
    assert "fp32" in supported.precisions
    assert "int8" not in supported.precisions
    assert "pip install 'reidkit[openvino]'" in supported.hint
    monkeypatch.setitem(sys.modules, "nncf", None)
    job = Job(package_of(write_onnx(tmp_path, None)[0]), Target("openvino", "int8"), tensors(8))
    with pytest.raises(MissingExtraError, match="nncf is not installed"):
        build(job, tmp_path / "out")


@needs_nncf
def test_the_overflow_fix_depends_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    nncf = _openvino._import_nncf()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(_openvino, "processor_features", lambda: frozenset({"avx2"}))
    assert _openvino._overflow_fix(nncf) == nncf.OverflowFix.ENABLE
    monkeypatch.setattr(_openvino, "processor_features", lambda: frozenset({"avx512_vnni"}))
    assert _openvino._overflow_fix(nncf) == nncf.OverflowFix.DISABLE
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setattr(_openvino, "processor_features", frozenset)
    assert _openvino._overflow_fix(nncf) == nncf.OverflowFix.DISABLE


class Spy:
    """Stands where nncf reports its use."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nncf called {name} of its telemetry")


@needs_nncf
def test_int8_is_silent_and_tells_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _openvino._import_nncf()
    from nncf.common.logging.track_progress import track
    from nncf.telemetry import decorator

    monkeypatch.setattr(decorator, "telemetry", Spy())
    draw, level = track.__init__, logging.getLogger("nncf").level
    job = Job(package_of(write_onnx(tmp_path, None)[0]), Target("openvino", "int8"), tensors(8))
    build(job, tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    assert (track.__init__, logging.getLogger("nncf").level) == (draw, level)
    assert logging.getLoggerClass() is logging.Logger


@needs_nncf
@pytest.mark.parametrize("count", [3, 8])
def test_int8_of_a_fixed_batch_takes_any_number_of_pictures(tmp_path: Path, count: int) -> None:
    package = package_of(write_onnx(tmp_path, 4)[0], 4)
    job = Job(package, Target("openvino", "int8", batch=4), tensors(count))
    file, engine = build(job, tmp_path / "out")
    expected = load_runtime(package.engine_file, package.spec.engine).run(tensors(4))
    vectors = load_runtime(file, engine).run(tensors(4))
    assert engine.batch == 4
    assert np.abs(vectors - expected).max() < 0.2 * np.abs(expected).max()


def test_calibration_is_cut_into_whole_batches() -> None:
    from reidkit.runtimes._openvino_library import import_openvino

    openvino = import_openvino()
    parameter = openvino.opset8.parameter([4, 3, HEIGHT, WIDTH], np.float32)
    model = openvino.Model([openvino.opset8.result(parameter)], [parameter], "m")
    parts = _openvino._split(model, tensors(6))
    assert [len(part) for part in parts] == [4, 4]
    np.testing.assert_array_equal(np.concatenate(parts)[:6], tensors(6))
    np.testing.assert_array_equal(parts[1][2:], tensors(6)[:2])


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Package:
    network = networks.Network("resnet18")
    checkpoint = Checkpoint(networks.initial_tensors(network), "made", "made", "0" * 64)
    folder = tmp_path_factory.mktemp("resnet") / "package"
    return export_package(checkpoint, folder, contract=InputSpec(height=64, width=32))


def crops(count: int, seed: int) -> NDArray[np.float32]:
    contract = InputSpec(height=64, width=32)
    drawn = draw_crops(count, height=64, width=32, seed=seed)
    return np.stack([prepare(picture, contract) for picture in drawn]).astype(np.float32)


def similarities(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found: NDArray[np.float32] = units @ units.T
    return found


LAYERS = ("base.conv1", "base.layer2.0.conv1", "base.layer2.0.conv2", "base.gone")


@needs_nncf
@pytest.mark.slow
def test_int8_keeps_the_ranking_and_the_float_layers(resnet: Package, tmp_path: Path) -> None:
    inputs = crops(24, seed=2)
    exact = load_runtime(resnet.engine_file, resnet.spec.engine).run(inputs)
    job = Job(resnet, Target("openvino", "int8"), crops(16, seed=1), LAYERS)
    file, engine = build(job, tmp_path / "int8")
    assert engine.float_layers == LAYERS[:-1]

    found = operations(file)
    for name in LAYERS[:-1]:
        assert not is_quantised(found[f"{name}/WithoutBiases"])
    for name in ("base.layer1.0.conv1", "base.layer4.1.conv2"):
        assert is_quantised(found[f"{name}/WithoutBiases"])
    after = [name for name in found if name.startswith(("average/fq", "bottleneck/fq"))]
    assert after == [], "the vector itself is not quantised"

    vectors = load_runtime(file, engine).run(inputs)
    assert not np.allclose(vectors, exact, rtol=1e-3)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((vectors * exact).sum(axis=1) / lengths).min() > 0.97
    upper = np.triu_indices(len(inputs), 1)
    pairs = np.stack([similarities(exact)[upper], similarities(vectors)[upper]])
    assert np.asarray(np.corrcoef(pairs))[0, 1] > 0.97
    assert file.with_suffix(".bin").stat().st_size < 0.5 * resnet.engine_file.stat().st_size
