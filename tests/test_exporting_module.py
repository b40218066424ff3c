from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from reidkit import networks
from reidkit.errors import ArgumentError, ExportError, MissingExtraError
from reidkit.exporting import export_module
from reidkit.networks import Network
from reidkit.networks.facts import EPSILON
from reidkit.networks.layers import Block, Layer
from reidkit.package import InputSpec, Package, read_package
from reidkit.runtimes import load_runtime
from tests import golden_networks as golden

CONTRACT = InputSpec(height=32, width=16)


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("onnxscript")
    return pytest.importorskip("torch")


def run(package: Package, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    runtime = load_runtime(package.engine_file, package.spec.engine)
    vectors = runtime.run(inputs)
    runtime.close()
    return vectors


def export(module: Any, out: Path, *, example: Any, **options: Any) -> Package:
    arguments: dict[str, Any] = {"contract": CONTRACT, "name": "tiny"} | options
    with warnings.catch_warnings():
        # The exporter's own dependencies warn about each other.
        warnings.simplefilter("ignore")
        return export_module(module, example, out=out, **arguments)


def tiny(torch: Any, *, tail: Any = None) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.AdaptiveAvgPool2d(1),
        tail or torch.nn.Flatten(),
    )


@pytest.mark.parametrize("missing", ["torch", "onnxscript"])
def test_without_torch_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for library in ("torch", "onnxscript"):
        present = type(sys)(library)
        monkeypatch.setitem(sys.modules, library, None if library == missing else present)
    with pytest.raises(MissingExtraError, match=rf"{missing} is not.*pip install 'reidkit\[torch"):
        export_module(None, None, out=tmp_path / "p", contract=CONTRACT, name="tiny")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch", [1, 2])
def test_a_module_becomes_a_package(torch: Any, tmp_path: Path, batch: int) -> None:
    module = tiny(torch).train()
    package = export(module, tmp_path / "p", example=torch.zeros(batch, 3, 32, 16))
    assert module.training, "the module stays as it is"
    spec = package.spec
    assert (spec.name, spec.architecture, spec.embedding_size) == ("tiny", "Sequential", 8)
    assert (spec.input.neck, spec.engine.batch) == ("output", None)
    assert spec.provenance["torch"] == str(torch.__version__)
    assert spec.provenance["compared_with_source"] == "yes"
    inputs = np.random.default_rng(0).standard_normal((5, 3, 32, 16), dtype=np.float32)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(inputs)).numpy()
    assert np.abs(run(package, inputs) - expected).max() < 1e-6
    assert read_package(tmp_path / "p") == package


def test_the_file_tells_nothing_about_the_machine(torch: Any, tmp_path: Path) -> None:
    example = torch.zeros(2, 3, 32, 16)
    packages = [export(tiny(torch), tmp_path / name, example=example) for name in "ab"]
    data = [package.engine_file.read_bytes() for package in packages]
    assert data[0] == data[1]
    assert str(Path(__file__).parent).encode() not in data[0]
    assert packages[0].spec == packages[1].spec
    other = tiny(torch)
    with torch.no_grad():
        other[0].weight[0] += 1
    changed = export(other, tmp_path / "c", example=example)
    assert changed.spec.weights_sha256 != packages[0].spec.weights_sha256


def test_an_output_that_is_not_flat(torch: Any, tmp_path: Path) -> None:
    module = tiny(torch, tail=torch.nn.Identity())
    package = export(module, tmp_path / "p", example=torch.zeros(2, 3, 32, 16))
    assert package.spec.embedding_size == 8


@pytest.mark.parametrize("shape", [(2, 3, 16, 32), (3, 32, 16), (0, 3, 32, 16), (2, 1, 32, 16)])
def test_an_example_of_another_size(torch: Any, tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ArgumentError, match=r"the contract needs \(B, 3, 32, 16\)"):
        export(tiny(torch), tmp_path / "p", example=torch.zeros(shape))


def test_a_module_that_fixes_its_batch(torch: Any, tmp_path: Path) -> None:
    module = tiny(torch, tail=torch.nn.Unflatten(0, (2, 1)))
    with pytest.raises(ExportError, match=r"torch could not export|expected one vector"):
        export(module, tmp_path / "p", example=torch.zeros(2, 3, 32, 16))
    assert not list(tmp_path.iterdir())


def test_a_feature_map_is_refused(torch: Any, tmp_path: Path) -> None:
    module = torch.nn.Conv2d(3, 8, 3)
    with pytest.raises(ExportError, match=r"has shape \(\?, 8, 30, 14\)"):
        export(module, tmp_path / "p", example=torch.zeros(2, 3, 32, 16))


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda v: {"feat": v, "score": v}, "returned dict with the keys 'feat', 'score'"),
        (lambda v: (v, v), r"returned tuple of 2 \(Tensor, Tensor\)"),
        (lambda v: [v], r"returned list of 1 \(Tensor\)"),
        (lambda v: None, "returned NoneType"),
        (lambda v: v.flatten(), r"returned Tensor \(16,\)"),
        (lambda v: v.sum(), r"returned Tensor \(\)"),
        (lambda v: v[:1], r"returned Tensor \(1, 8\)"),
    ],
)
def test_a_module_that_returns_something_else(
    torch: Any, tmp_path: Path, wrap: Callable[[Any], Any], words: str
) -> None:
    class Wrapped(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny(torch)

        def forward(self, images: Any) -> Any:
            return wrap(self.inner(images))

    with pytest.raises(ExportError, match=f"Wrapped {words} for .*expected one tensor") as caught:
        export(Wrapped(), tmp_path / "p", example=torch.zeros(2, 3, 32, 16))
    assert "(2, D), (2, D, 1) or (2, D, 1, 1): export a module that" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_module_that_fails_on_its_example(torch: Any, tmp_path: Path) -> None:
    module = tiny(torch, tail=torch.nn.Linear(7, 7))
    with pytest.raises(ExportError, match=r"Sequential fails on pixels \(2, 3, 32, 16\): "):
        export(module, tmp_path / "p", example=torch.zeros(2, 3, 32, 16))
    assert not list(tmp_path.iterdir())


# Our own graph against torch: the same facts, written as torch functions.


def follow(torch: Any, network: Network, tensors: Mapping[str, Any], images: Any) -> Any:
    """Run a network's layers one by one in torch."""
    functional = torch.nn.functional

    def norm(name: str, value: Any) -> Any:
        parts = ("running_mean", "running_var", "weight", "bias")
        arguments = [tensors[f"base.{name}.{part}"] for part in parts]
        return functional.batch_norm(value, *arguments, eps=EPSILON)

    def half_instance(name: str, value: Any) -> Any:
        first, second = value.tensor_split([value.shape[1] // 2], dim=1)
        weight, bias = (tensors[f"base.{name}.IN.{part}"] for part in ("weight", "bias"))
        first = functional.instance_norm(first, weight=weight, bias=bias, eps=EPSILON)
        return torch.cat([first, norm(f"{name}.BN", second)], dim=1)

    def apply(layer: Layer, value: Any) -> Any:
        weight = tensors[f"base.{layer.name}.weight"]
        bias = tensors.get(f"base.{layer.name}.bias")
        value = functional.conv2d(
            value, weight, bias, layer.stride, layer.padding, groups=layer.groups
        )
        if layer.norm != "none":
            value = (half_instance if layer.norm == "half_instance" else norm)(
                layer.norm_name, value
            )
        return {"none": lambda x: x, "relu": torch.relu, "sigmoid": torch.sigmoid}[
            layer.activation
        ](value)

    def residual(block: Block, entry: Any) -> Any:
        value = entry
        for layer in block.layers:
            value = apply(layer, value)
        if block.gate:
            gate = value.mean((2, 3), keepdim=True)
            for layer in block.gate:
                gate = apply(layer, gate)
            value = value * gate
        return torch.relu(value + (apply(block.shortcut, entry) if block.shortcut else entry))

    described = networks.backbone(network)
    value = images
    for layer in described.stem:
        value = apply(layer, value)
    pool = described.pool
    value = functional.max_pool2d(
        value, pool.kernel, pool.stride, pool.padding, ceil_mode=pool.ceil
    )
    for block in described.body:
        assert isinstance(block, Block)
        value = residual(block, value)
    return value.mean((2, 3))


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a", "se_resnext50"])
def test_our_graph_equals_the_one_of_torchs_exporter(torch: Any, tmp_path: Path, name: str) -> None:
    tensors = golden.tensors(name)
    network = networks.recognise(tensors)

    class Followed(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            for key in networks.used_tensors(network):
                self.register_buffer(key.replace(".", "-"), torch.from_numpy(tensors[key]))

        def forward(self, images: Any) -> Any:
            held = {key.replace("-", "."): values for key, values in self.named_buffers()}
            return follow(torch, network, held, images)

    package = export(Followed(), tmp_path / "p", example=torch.zeros(2, 3, 32, 16))
    ours = networks.build_model(network, tensors, height=32, width=16, neck="before")
    inputs = np.random.default_rng(0).standard_normal((3, 3, 32, 16), dtype=np.float32)
    onnx.save_model(ours, tmp_path / "ours.onnx")
    runtime = load_runtime(tmp_path / "ours.onnx", package.spec.engine)
    found, expected = runtime.run(inputs), run(package, inputs)
    runtime.close()
    assert np.abs(found - expected).max() <= 5e-6 * np.abs(expected).max()
