"""The networks as torch modules: what they compute, what they learn, what their tensors are."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from reidkit import checkpoints, networks
from reidkit.errors import IncompatibleCheckpointError
from reidkit.networks import ARCHITECTURES, Network
from reidkit.networks.layers import AveragePool, Backbone, Block, Layer
from tests import golden_networks as golden

torch = pytest.importorskip("torch", reason="torch is not installed")
from torch.nn import functional  # noqa: E402 - needs torch

from reidkit.training._network import (  # noqa: E402
    ReidNetwork,
    build_network,
    generalised_mean,
    load_arrays,
    state_as_arrays,
)
from reidkit.training._trunk import run_trunk  # noqa: E402

Tensors = dict[str, NDArray[Any]]
VARIETY = [
    Network("resnet18", bnneck=False, pooling="gem", last_stride=2, classes=7),
    Network("osnet_x0_25", classes=7),
    Network("osnet_ain_x0_25", bnneck=False, pooling="gem", classes=7),
]
LARGE = [
    pytest.param(Network("resnet50_ibn_a"), marks=pytest.mark.slow),
    pytest.param(Network("se_resnext50"), marks=pytest.mark.slow),
]


def describe(network: Network) -> str:
    return f"{network.architecture}-{network.pooling}"


def images(count: int = 4, height: int = 64, width: int = 32, seed: int = 0) -> Any:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn((count, 3, height, width), generator=chance)


def difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Relative to the largest magnitude of each vector."""
    assert found.shape == expected.shape
    peaks = np.abs(expected).max(axis=1, keepdims=True)
    return float((np.abs(found - expected) / peaks).max())


# Names, shapes and weights.


def weightless(network: Network) -> Any:
    """Build a network whose tensors take no memory."""
    with torch.device("meta"):
        return ReidNetwork(network)


@pytest.mark.parametrize(
    "network",
    [*map(Network, ARCHITECTURES), *VARIETY, Network("resnet50_ibn_a", classes=7)],
    ids=str,
)
def test_the_state_dict_is_the_layout(network: Network) -> None:
    state = weightless(network).state_dict()
    shapes = networks.tensor_shapes(network)
    assert list(state) == list(shapes)
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == shapes
    for name, tensor in state.items():
        counter = name.endswith("num_batches_tracked")
        assert tensor.dtype == (torch.int64 if counter else torch.float32)


def test_a_network_starts_with_its_initial_tensors() -> None:
    network = Network("osnet_x0_25", classes=3, pooling="gem")
    torch.manual_seed(1)
    untouched = torch.random.get_rng_state()
    arrays = state_as_arrays(build_network(network, seed=5))
    assert torch.equal(torch.random.get_rng_state(), untouched)
    expected = networks.initial_tensors(network, seed=5)
    for name, values in arrays.items():
        assert np.array_equal(values, expected.get(name, np.zeros((), np.int64))), name


def test_what_learns_is_all_but_the_bias_of_the_neck_and_the_leftovers() -> None:
    module = weightless(Network("resnet50_ibn_a", classes=3))
    names = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    left = {name for name in module.state_dict() if name not in names}
    parts = ("running_mean", "running_var", "num_batches_tracked")
    assert {name for name in left if not name.endswith(parts)} == {
        "bottleneck.bias",
        "base.fc.weight",
        "base.fc.bias",
    }
    backbone = {name for name, _ in module.backbone_parameters()}
    assert names - backbone == {"bottleneck.weight", "classifier.weight"}


def test_the_backbone_of_an_osnet_is_all_but_its_head() -> None:
    module = weightless(VARIETY[-1])
    backbone = {name for name, _ in module.backbone_parameters()}
    rest = {name for name, _ in module.named_parameters()} - backbone
    assert rest == {"gem.p", "classifier.weight", "classifier.bias"}
    assert "fc.0.weight" in backbone


def test_arrays_are_copies_in_plain_order() -> None:
    module = build_network(Network("osnet_x0_25"), seed=0).to(memory_format=torch.channels_last)
    arrays = state_as_arrays(module)
    kept = arrays["conv1.conv.weight"].copy()
    with torch.no_grad():
        module.conv1.conv.weight.zero_()
    assert np.array_equal(arrays["conv1.conv.weight"], kept)
    assert all(values.flags.c_contiguous for values in arrays.values())
    counter = arrays["conv1.bn.num_batches_tracked"]
    assert counter.dtype == np.int64
    assert counter.shape == ()


def test_wrappers_leave_no_trace_in_the_names() -> None:
    module = build_network(Network("osnet_x0_25"), seed=0)
    compiled, wrapped = torch.nn.Module(), torch.nn.Module()
    compiled.add_module("_orig_mod", module)
    wrapped.add_module("module", compiled)
    assert next(iter(wrapped.state_dict())).startswith("module._orig_mod.")
    assert list(state_as_arrays(wrapped)) == list(module.state_dict())
    changed = {name: values + 1 for name, values in state_as_arrays(module).items()}
    load_arrays(wrapped, changed)
    assert np.array_equal(module.conv1.bn.bias.detach(), np.ones(16, np.float32))


def test_arrays_of_another_network_are_refused_and_change_nothing() -> None:
    module = build_network(Network("osnet_x0_25", classes=3), seed=0)
    arrays = state_as_arrays(module)
    wrong = {**arrays, "stranger": np.zeros(1), "classifier.weight": np.zeros((4, 512))}
    wrong["conv1.bn.bias"] = arrays["conv1.bn.bias"] + 1
    del wrong["fc.0.bias"]
    with pytest.raises(IncompatibleCheckpointError) as caught:
        load_arrays(module, wrong)
    for part in ("missing: fc.0.bias", "unexpected: stranger", "classifier.weight (4, 512)"):
        assert part in str(caught.value)
    assert np.array_equal(module.conv1.bn.bias.detach(), arrays["conv1.bn.bias"])


def test_a_checkpoint_of_it_is_recognised(tmp_path: Path) -> None:
    network = Network("osnet_ain_x0_25", classes=9, pooling="gem")
    save_file(state_as_arrays(build_network(network, seed=0)), tmp_path / "last.safetensors")
    tensors = checkpoints.read(tmp_path / "last.safetensors").tensors
    assert networks.recognise(tensors) == network
    # Those arrays may not be written to, which torch would warn of.
    load_arrays(build_network(network, seed=1), tensors)


@pytest.mark.parametrize(
    "again", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))]
)
def test_a_copy_computes_with_its_own_tensors(again: Any) -> None:
    module = build_network(Network("osnet_x0_25"), seed=0).eval()
    before = module(images()).neck
    other = again(module)
    with torch.no_grad():
        other.conv1.conv.weight.zero_()
    assert torch.equal(module(images()).neck, before)
    assert not torch.equal(other(images()).neck, before)


# What is computed: against the reference, against the exported graph, against plain functions.


@pytest.mark.parametrize(
    "name", [*golden.SMALL, pytest.param("se_resnet50", marks=pytest.mark.slow)]
)
def test_vectors_are_those_of_the_reference(name: str) -> None:
    tensors = golden.tensors(name)
    module = ReidNetwork(networks.recognise(tensors))
    load_arrays(module, tensors)
    with torch.inference_mode():
        found = module.eval()(torch.from_numpy(golden.inputs(0)))
    for vectors, part in ((found.neck, "after"), (found.pooled, "before")):
        assert difference(vectors.numpy(), golden.features(f"{name}_{part}")) < 1e-4


def test_strides_of_two_are_those_of_the_reference() -> None:
    tensors = golden.tensors("resnet18")
    module = ReidNetwork(networks.recognise(tensors, last_stride=2))
    load_arrays(module, tensors)
    with torch.inference_mode():
        found = module.eval()(torch.from_numpy(golden.inputs(1))).neck[:, :128]
    assert difference(found.numpy(), golden.features("resnet18_stride2")) < 1e-4


def train(module: Any, steps: int = 3) -> None:
    """Change every tensor as training does, against a target that is of no sense."""
    optimiser = torch.optim.SGD(module.parameters(), 1e-2)
    module.train()
    for step in range(steps):
        features = module(images(seed=step))
        loss = (features.neck * images(1, 1, 1, step)[0, 0]).square().mean()
        if module.classifier is not None:
            loss = loss + module.classifier(features.neck).square().mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimiser.step()
    module.eval()


@pytest.mark.parametrize("network", [*VARIETY, *LARGE], ids=describe)
def test_the_exported_graph_gives_the_vectors_of_the_module(network: Network) -> None:
    module = build_network(network, seed=1)
    train(module)
    arrays = state_as_arrays(module)
    with torch.inference_mode():
        features = module(images(3, seed=9))
    necks: list[tuple[Literal["after", "before"], Any]] = [
        ("after", features.neck),
        ("before", features.pooled),
    ]
    for neck, expected in necks:
        model = networks.build_model(network, arrays, height=64, width=32, neck=neck)
        session = onnxruntime.InferenceSession(model.SerializeToString())
        (found,) = session.run(None, {"image": images(3, seed=9).numpy()})
        assert difference(np.asarray(found), expected.numpy()) < 1e-4


def plain_layer(layer: Layer, prefix: str, state: dict[str, Any], value: Any) -> Any:
    """One layer from torch's plain functions, nothing overwritten, in training mode."""

    def tensors(name: str) -> list[Any]:
        parts = ("running_mean", "running_var", "weight", "bias")
        return [state.get(f"{prefix}{name}.{part}") for part in parts]

    def batch_norm(name: str, part: Any) -> Any:
        mean, variance, weight, bias = tensors(name)
        return functional.batch_norm(part, mean, variance, weight, bias, training=True)

    def instance_norm(name: str, part: Any) -> Any:
        mean = part.mean((2, 3), keepdim=True)
        variance = (part - mean).square().mean((2, 3), keepdim=True)
        weight, bias = (each[:, None, None] for each in tensors(name)[2:])
        return (part - mean) / (variance + 1e-5).sqrt() * weight + bias

    weight, bias = tensors(layer.name)[2:]
    value = functional.conv2d(value, weight, bias, layer.stride, layer.padding, groups=layer.groups)
    if layer.norm == "batch":
        value = batch_norm(layer.norm_name, value)
    elif layer.norm == "instance":
        value = instance_norm(layer.norm_name, value)
    elif layer.norm == "half_instance":
        half = layer.outputs // 2
        parts = [
            instance_norm(f"{layer.norm_name}.IN", value[:, :half]),
            batch_norm(f"{layer.norm_name}.BN", value[:, half:]),
        ]
        value = torch.cat(parts, 1)
    return {"none": lambda x: x, "relu": torch.relu, "sigmoid": torch.sigmoid}[layer.activation](
        value
    )


def plain_maps(described: Backbone, state: dict[str, Any], value: Any) -> Any:
    """The last map, step by step as the tables say it."""

    def run(layers: tuple[Layer, ...], value: Any) -> Any:
        for layer in layers:
            value = plain_layer(layer, described.prefix, state, value)
        return value

    def run_block(block: Block, entry: Any) -> Any:
        value = run(block.layers, entry)
        total = 0
        for stream in block.streams:
            part = run(stream, value)
            total = total + part * (run(block.gate, part.mean((2, 3), True)) if block.gate else 1)
        value = run(block.exit, total)
        return torch.relu(value + (run((block.shortcut,), entry) if block.shortcut else entry))

    value = run(described.stem, value)
    pool = described.pool
    value = functional.max_pool2d(
        value, pool.kernel, pool.stride, pool.padding, ceil_mode=pool.ceil
    )
    for part in described.body:
        if isinstance(part, AveragePool):
            value = functional.avg_pool2d(value, part.size)
        else:
            value = run_block(part, value) if isinstance(part, Block) else run((part,), value)
    return value


@pytest.mark.parametrize("network", [*VARIETY, *LARGE], ids=describe)
def test_gradients_are_those_of_plain_functions(network: Network) -> None:
    """In double precision, since gradients through many norms lose digits in single."""
    module = build_network(network, seed=2).double()
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for name, _ in module.backbone_parameters():
        own[name].requires_grad_(True)
    described = networks.backbone(network)
    pictures = images().double()

    expected = plain_maps(described, own, pictures)
    target = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0)).double()
    found = run_trunk(module._trunk, pictures)
    torch.testing.assert_close(found, expected)
    (expected * target).sum().backward()
    (found * target).sum().backward()
    for name, parameter in module.backbone_parameters():
        if own[name].grad is not None:
            torch.testing.assert_close(parameter.grad, own[name].grad, rtol=1e-6, atol=1e-6)
    for name, tensor in module.state_dict().items():
        if "running" in name and not name.startswith(("bottleneck", "fc")):
            torch.testing.assert_close(tensor, own[name], msg=name)


@pytest.mark.parametrize("network", VARIETY, ids=describe)
def test_a_gradient_comes_to_whatever_learns(network: Network) -> None:
    network = dataclasses.replace(network, classes=5)
    module = build_network(network, seed=3).train()
    features = module(images())
    scores = module.classifier(features.neck)
    loss = functional.cross_entropy(scores, torch.arange(4)) + features.pooled.square().mean()
    loss.backward()
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, name
        # A norm takes the bias before it out again, and the only hidden channel of a narrow
        # gate may be negative for every picture.
        still = name == "fc.0.bias" or ".gate.fc" in name
        assert still or parameter.grad.abs().max() > 0, name


def test_without_a_neck_both_vectors_are_one() -> None:
    module = build_network(Network("osnet_x0_25", bnneck=False), seed=0)
    features = module.eval()(images())
    assert features.neck is features.pooled
    assert module.bottleneck is None
    assert module.embedding_size == features.neck.shape[1] == 512


# Reduced precision, compilation, memory formats.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_generalised_mean_does_not_overflow(dtype: Any) -> None:
    maps = torch.full((2, 3, 4, 2), 3000.0, dtype=dtype)
    maps[1, 2, 0, 0] = 60000
    found = generalised_mean(maps, torch.tensor([3.0]))
    exact = maps.double().pow(3).mean((2, 3)).pow(1 / 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)


def test_a_generalised_mean_of_power_one_is_the_mean_of_what_is_positive() -> None:
    maps = images(2, 5, 3)
    found = generalised_mean(maps, torch.ones(1))
    torch.testing.assert_close(found, maps.clamp(min=1e-6).mean((2, 3)))
    largest = generalised_mean(maps, torch.tensor([40.0]))
    torch.testing.assert_close(largest, maps.amax((2, 3)), rtol=0.1, atol=0)


@pytest.mark.parametrize("network", [VARIETY[2], LARGE[0]], ids=describe)
def test_half_the_digits_give_nearly_the_same_vectors(network: Network) -> None:
    module = build_network(network, seed=4).eval()
    exact = module(images()).neck
    with torch.autocast("cpu", torch.bfloat16):
        found = module(images()).neck
        learning = module.train()(images()).neck
    assert found.dtype == learning.dtype == torch.float32
    assert functional.cosine_similarity(found, exact).min() > 0.99
    learning.square().sum().backward()
    gradients = [parameter.grad for _, parameter in module.backbone_parameters()]
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("network", [VARIETY[0], VARIETY[2]], ids=describe)
def test_channels_last_gives_the_same_vectors(network: Network) -> None:
    module = build_network(network, seed=4).train()
    expected = module(images()).neck
    module.to(memory_format=torch.channels_last)
    found = module(images().contiguous(memory_format=torch.channels_last)).neck
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads its compiler
def test_it_compiles_in_one_piece() -> None:
    """Only the tracing, which is where a network would fall apart."""
    module = build_network(Network("osnet_ain_x0_25", pooling="gem"), seed=4).train()
    expected = module(images())
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    found = compiled(images())
    torch.testing.assert_close(found.neck, expected.neck)
    assert type(found) is type(expected)
