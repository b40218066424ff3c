"""TensorRT, with a stand-in for its provider: what is asked of it, and what is kept."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from reidkit.compiling import (
    CalibrationSet,
    Target,
    _tensorrt,
    calibration_of,
    compile_package,
    supported_targets,
)
from reidkit.errors import CompileError, IntegrityError
from reidkit.models import load_model
from reidkit.package import EngineSpec, Package, read_package
from reidkit.runtimes import _onnxruntime
from reidkit.verifying import verify_package
from tests.certified import draw_people, write_tiny

TENSORRT, CPU = "TensorrtExecutionProvider", "CPUExecutionProvider"
RealSession = ort.InferenceSession


class Provider:
    """Stands in for the provider: it notes its options, and builds a file as the real one does.

    That is when a session opens whose shapes are all known, and not where the file is there.
    """

    def __init__(self, *, builds: bool = True) -> None:
        self.builds = builds
        self.options: list[dict[str, str]] = []
        self.built: list[Path] = []

    def open(self, model: Any, *settings: Any, **named: Any) -> Any:
        if named.get("providers") != [TENSORRT]:
            return RealSession(model, *settings, **named)
        (options,) = named["provider_options"]
        self.options.append(options)
        assert settings[0].get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
        session = Session(RealSession(model, settings_of_the_cpu(), providers=[CPU]))
        if self.builds:
            self._build(Path(model), options)
        return session

    def _build(self, model: Path, options: dict[str, str]) -> None:
        # Like the real one's, the name depends on the graph and the file's name, not the folder.
        key = hashlib.sha256(model.name.encode() + model.read_bytes()).hexdigest()[:12]
        cache = Path(options["trt_engine_cache_path"])
        for suffix in ("engine", "profile"):
            file = cache / f"TensorrtExecutionProvider_{key}_sm90.{suffix}"
            if not file.exists():
                file.write_bytes(np.random.default_rng().bytes(64))
                self.built.append(file)


def settings_of_the_cpu() -> Any:
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    return settings


class Session:
    """A session that says it runs on TensorRT."""

    def __init__(self, real: Any) -> None:
        self.get_inputs, self.run = real.get_inputs, real.run

    def get_providers(self) -> list[str]:
        return [TENSORRT, CPU]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    return install(monkeypatch, Provider())


def install(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Provider:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [TENSORRT, CPU])
    monkeypatch.setattr(ort, "InferenceSession", provider.open)
    return provider


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "package")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> CalibrationSet:
    return calibration_of(draw_people(tmp_path_factory.mktemp("people") / "drawn"), count=32)


@pytest.fixture
def make(tiny: Package, calibration: CalibrationSet, tmp_path: Path) -> Callable[..., Package]:
    def compile_it(
        precision: str = "fp32", *, batch: int | None = None, to: str = "out"
    ) -> Package:
        int8 = precision == "int8"
        return compile_package(
            tiny,
            tmp_path / to,
            target=Target("tensorrt", precision, batch),
            calibration=calibration if int8 else None,
            accept=(lambda _: None) if int8 else None,
        )

    return compile_it


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_engine_is_part_of_the_package(
    provider: Provider, make: Callable[..., Package], tiny: Package
) -> None:
    compiled = make()
    engine = compiled.spec.engine
    assert read_package(compiled.folder) == compiled
    assert (engine.runtime, engine.target, engine.device) == ("onnxruntime", "tensorrt", "tensorrt")
    assert sorted(Path(name).suffix for name in engine.companions) == [".engine", ".profile"]
    assert engine.identity not in (engine.sha256, tiny.spec.engine.identity)
    expected = {"model.onnx", "model.json", "reference.npz", *engine.companions}
    assert set(contents(compiled.folder)) == expected


def test_loading_uses_the_engine_that_is_there(
    provider: Provider, make: Callable[..., Package], tmp_path: Path, monkeypatch: Any
) -> None:
    """The package was built in another folder, and may be moved once more."""
    compiled = make()
    before, built = contents(compiled.folder), len(provider.built)
    shutil.copytree(compiled.folder, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    for folder in (compiled.folder, tmp_path / "moved", Path("moved")):
        with load_model(folder) as model:
            assert model.runtime.device == "tensorrt"
        asked = Path(provider.options[-1]["trt_engine_cache_path"])
        assert asked.is_absolute()
        assert asked == folder.resolve()
        assert contents(folder) == before
        verify_package(folder)
    assert len(provider.built) == built


def test_a_changed_engine_is_noticed(provider: Provider, make: Callable[..., Package]) -> None:
    compiled = make()
    name = next(iter(compiled.spec.engine.companions))
    (compiled.folder / name).write_bytes(b"another")
    with pytest.raises(IntegrityError, match=f"{name} was changed"):
        load_model(compiled.folder)


@pytest.mark.parametrize(
    ("precision", "fp16", "int8"), [("fp32", "0", "0"), ("fp16", "1", "0"), ("int8", "0", "1")]
)
def test_what_the_provider_is_told(
    provider: Provider, make: Callable[..., Package], precision: str, fp16: str, int8: str
) -> None:
    assert make(precision).spec.engine.precision == precision
    assert provider.options
    for options in provider.options:
        assert options["trt_engine_cache_enable"] == "1"
        assert (options["trt_fp16_enable"], options["trt_int8_enable"]) == (fp16, int8)


def test_an_engine_for_any_batch_is_told_which(
    provider: Provider, make: Callable[..., Package]
) -> None:
    """Without it the provider builds anew for every size that it has not met."""
    make()
    for options in provider.options:
        assert options["trt_profile_min_shapes"] == "image:1x3x32x16"
        assert options["trt_profile_opt_shapes"] == "image:32x3x32x16"
        assert options["trt_profile_max_shapes"] == "image:256x3x32x16"


def test_an_engine_for_one_batch_needs_no_telling(
    provider: Provider, make: Callable[..., Package]
) -> None:
    assert make(batch=4).spec.engine.batch == 4
    for options in provider.options:
        assert not any("profile" in name for name in options)


def test_the_engine_runs_once_before_it_is_hashed(
    provider: Provider, make: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the provider leaves until its first run is written by then."""
    real = _onnxruntime.OnnxRuntime.run
    shapes: list[tuple[int, ...]] = []

    def run(self: Any, inputs: Any) -> NDArray[np.float32]:
        shapes.append(inputs.shape)
        return real(self, inputs)

    monkeypatch.setattr(_onnxruntime.OnnxRuntime, "run", run)
    make(batch=4)
    assert shapes[0] == (4, 3, 32, 16)


def test_the_gpu_number_is_told_too(provider: Provider, make: Callable[..., Package]) -> None:
    compiled = make()
    load_model(compiled, device="tensorrt:1").close()
    assert provider.options[-1]["device_id"] == "1"


def test_int8_is_symmetric_and_signed(provider: Provider, make: Callable[..., Package]) -> None:
    graph = onnx.load_model(make("int8").engine_file).graph
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    roundings = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert roundings
    for node in roundings:
        assert kept[node.input[2]].dtype == np.int8
        assert not kept[node.input[2]].any()
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 3
    for node in convolutions:
        activation, weight = (makers[name] for name in node.input[:2])
        assert activation.op_type == weight.op_type == "DequantizeLinear"
        # The weights are floats that the graph rounds, and the bias is a float.
        assert kept[makers[weight.input[0]].input[0]].dtype == np.float32
        assert kept[node.input[2]].dtype == np.float32
        assert node.input[2].endswith("/corrected_bias")


def test_another_device_is_refused(provider: Provider, tiny: Package, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="runs on the device tensorrt, not on cuda"):
        compile_package(tiny, tmp_path / "out", target=Target("tensorrt", device="cuda"))
    assert list(tmp_path.iterdir()) == []


def test_no_engine_is_no_package(
    monkeypatch: pytest.MonkeyPatch, tiny: Package, tmp_path: Path
) -> None:
    install(monkeypatch, Provider(builds=False))
    with pytest.raises(CompileError, match="TensorRT built no engine for any part of the graph"):
        compile_package(tiny, tmp_path / "out", target=Target("tensorrt"))
    assert list(tmp_path.iterdir()) == []


def test_a_provider_that_fell_back_is_refused(
    provider: Provider, make: Callable[..., Package], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "get_providers", lambda _: [CPU])
    with pytest.raises(CompileError, match="asked for tensorrt, but onnxruntime would run on cpu"):
        make()


def test_without_the_provider_there_is_a_hint(
    monkeypatch: pytest.MonkeyPatch, tiny: Package, tmp_path: Path
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CPU])
    assert _tensorrt.support().precisions == ()
    assert "pip install onnxruntime-gpu" in supported_targets()["tensorrt"].hint
    with pytest.raises(CompileError, match=r"tensorrt fp32 does not work .* nothing does"):
        compile_package(tiny, tmp_path / "out", target=Target("tensorrt"))
    assert list(tmp_path.iterdir()) == []


def test_the_options_need_no_gpu_to_be_seen(tiny: Package) -> None:
    engine = EngineSpec("model.onnx", "0" * 64, batch=2, precision="fp16")
    assert _onnxruntime.tensorrt_options(tiny.engine_file, engine) == {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tiny.folder.resolve()),
        "trt_fp16_enable": "1",
        "trt_int8_enable": "0",
    }
