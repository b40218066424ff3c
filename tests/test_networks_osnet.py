"""OSNets, and what came with them: dense layers, streams, instance norms, other poolings."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reidkit import checkpoints, exporting, networks
from reidkit.checkpoints import Checkpoint
from reidkit.errors import ArgumentError, IncompatibleCheckpointError
from reidkit.networks import Network
from reidkit.networks.layers import AveragePool, Block, Layer
from reidkit.package import InputSpec, Package
from reidkit.runtimes import load_runtime
from tests import golden_networks as golden
from tests.checkpoint_files import ordered, write_legacy, write_zip
from tests.pictures import skip_without

Tensors = dict[str, NDArray[Any]]
SIZES = ("x0_25", "x0_5", "x0_75", "x1_0")
EVERY = [f"osnet_{size}" for size in SIZES] + [f"osnet_ain_{size}" for size in SIZES]
SMALLEST = ["osnet_x0_25", "osnet_ain_x0_25"]


def blank(name: str) -> Tensors:
    """Tensors of a network's layout that take no memory."""
    return {
        key: np.broadcast_to(np.zeros((), dtype), shape)
        for key, (shape, dtype) in golden.osnet_layouts()[name].items()
    }


def with_bnneck(tensors: Tensors) -> Tensors:
    chance = np.random.default_rng(4)
    neck: Tensors = {
        f"bottleneck.{part}": chance.uniform(0.5, 2, 512).astype(np.float32)
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    return {key: values for key, values in tensors.items() if key != "classifier.bias"} | neck


def with_power(tensors: Tensors, power: float) -> Tensors:
    return tensors | {"gem.p": np.array([power], np.float32)}


def pictures(count: int, height: int, width: int) -> NDArray[np.float32]:
    chance = np.random.default_rng(5)
    return chance.standard_normal((count, 3, height, width), dtype=np.float32)


def build(
    tensors: Tensors,
    *,
    size: tuple[int, int] = (64, 32),
    neck: Literal["after", "before"] = "after",
    fold: bool = True,
) -> onnx.ModelProto:
    network = networks.recognise(tensors)
    height, width = size
    return networks.build_model(network, tensors, height=height, width=width, neck=neck, fold=fold)


def run(model: onnx.ModelProto, inputs: NDArray[np.float32], *wanted: str) -> Any:
    """Give the vectors, or the values called so inside the graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in wanted)
    session = onnxruntime.InferenceSession(copy.SerializeToString())
    return session.run([*wanted] or ["embedding"], {"image": inputs})[0]


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Relative to the largest magnitude of each vector."""
    assert found.shape == expected.shape
    peaks = np.abs(expected).max(axis=1, keepdims=True)
    return float((np.abs(found - expected) / peaks).max())


# The tables, against the key lists of the papers' own code.


@pytest.mark.parametrize("name", EVERY)
def test_the_layout_is_the_reference_state_dict(name: str) -> None:
    layout = golden.osnet_layouts()[name]
    shapes = networks.tensor_shapes(Network(name, bnneck=False, classes=751))
    assert shapes == {key: shape for key, (shape, _) in layout.items()}

    def in_order(keys: Any) -> list[str]:
        # The norm that closes a block is the one thing in another place.
        return [key for key in keys if ".IN." not in key]

    assert in_order(shapes) == in_order(layout)


@pytest.mark.parametrize("name", EVERY)
def test_layers_fit_together(name: str) -> None:
    described = networks.backbone(Network(name))
    assert described.prefix == ""
    assert [stem.kernel for stem in described.stem] == [7]
    channels = described.stem[0].outputs
    stride = described.stem[0].stride * described.pool.stride
    for part in described.body:
        if isinstance(part, AveragePool):
            stride *= part.size
        elif isinstance(part, Layer):
            assert (part.inputs, part.stride) == (channels, 1)
            channels = part.outputs
        else:
            channels = check_block(part, channels)
    assert stride == 16
    assert described.dense is not None
    assert (described.dense.inputs, described.dense.outputs) == (channels, 512)
    assert Network(name).embedding_size == 512


def check_block(block: Block, entry: int) -> int:
    (reduce,), (widen,) = block.layers, block.exit
    narrow = reduce.outputs
    assert (reduce.inputs, widen.inputs, widen.outputs) == (entry, narrow, 4 * narrow)
    # Light convolutions, one more in each stream: pointwise, then each channel for itself.
    assert [len(stream) for stream in block.streams] == [2, 4, 6, 8]
    for stream in block.streams:
        for pointwise, depthwise in zip(stream[::2], stream[1::2], strict=True):
            assert (pointwise.kernel, pointwise.norm, pointwise.bias) == (1, "none", False)
            assert pointwise.activation == "none"
            assert (depthwise.kernel, depthwise.groups, depthwise.norm) == (3, narrow, "batch")
    squeeze, excite = block.gate
    assert (squeeze.inputs, squeeze.outputs, excite.outputs) == (narrow, narrow // 16, narrow)
    assert (squeeze.bias, excite.bias, excite.activation) == (True, True, "sigmoid")
    assert widen.activation == "none"
    if block.shortcut:
        assert (block.shortcut.inputs, block.shortcut.outputs) == (entry, widen.outputs)
    else:
        assert entry == widen.outputs
    return widen.outputs


def test_where_the_instance_norms_are() -> None:
    described = networks.backbone(Network("osnet_ain_x1_0"))
    blocks = [part for part in described.body if isinstance(part, Block)]
    closed = [block.name for block in blocks if block.exit[0].norm == "instance"]
    assert closed == ["conv2.0", "conv2.1", "conv3.1", "conv4.0"]
    assert described.stem[0].norm == "instance"
    plain = networks.backbone(Network("osnet_x1_0"))
    assert plain.stem[0].norm == "batch"
    assert not [b for b in plain.body if isinstance(b, Block) and b.exit[0].norm == "instance"]


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("x0_25", 201_864), ("x0_5", 630_034), ("x0_75", 1_285_754), ("x1_0", 2_169_508)],
)
@pytest.mark.parametrize("family", ["osnet", "osnet_ain"])
def test_the_number_of_parameters(family: str, size: str, parameters: int) -> None:
    """As the papers' code counts them without its classifier: 2.2 million at full width."""
    network = Network(f"{family}_{size}", bnneck=False)
    shapes = networks.tensor_shapes(network)
    learnt = [key for key in networks.used_tensors(network) if ".running_" not in key]
    assert sum(int(np.prod(shapes[key])) for key in learnt) == parameters


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"architecture": "osnet_x1_0", "last_stride": 2}, "2, expected 1: .* osnet_x1_0"),
        ({"architecture": "osnet_x2_0"}, "'osnet_x2_0'.*osnet_x0_25"),
        ({"architecture": "resnet50", "pooling": "max"}, "'max', expected 'average' or 'gem'"),
    ],
)
def test_impossible_networks_are_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Network(**facts)


# The graphs, against the vectors of the papers' own code.


@pytest.mark.parametrize("name", EVERY)
def test_vectors_are_the_reference_vectors(name: str) -> None:
    model = build(golden.osnet_tensors(name), size=(256, 128))
    found = run(model, golden.inputs(0))[:, :64]
    assert difference(found, golden.osnet_features(name, 0)) < 2e-5


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("fold", [True, False])
def test_vectors_with_an_odd_size(name: str, fold: bool) -> None:
    model = build(golden.osnet_tensors(name), size=(75, 42), fold=fold)
    found = run(model, golden.inputs(1))[:, :64]
    assert difference(found, golden.osnet_features(name, 1)) < 2e-5


@pytest.mark.parametrize("name", SMALLEST)
def test_the_golden_pictures_differ_by_more_than_the_tolerance(name: str) -> None:
    """Else the bias of the dense layer alone could pass for the whole network."""
    for kind in (0, 1):
        vectors = golden.osnet_features(name, kind)
        assert difference(vectors[:1], vectors[1:2]) > 2e-3


@pytest.mark.parametrize("name", SMALLEST)
def test_folded_equals_unfolded(name: str) -> None:
    images = pictures(2, 64, 32)
    tensors = with_bnneck(golden.osnet_tensors(name))
    for neck in ("before", "after"):
        folded, unfolded = (build(tensors, neck=neck, fold=fold) for fold in (True, False))
        assert difference(run(folded, images), run(unfolded, images)) < 5e-6
        kinds = [[node.op_type for node in model.graph.node] for model in (folded, unfolded)]
        assert ["BatchNormalization" in found for found in kinds] == [False, True]


@pytest.mark.parametrize("name", SMALLEST)
def test_the_bnneck_comes_after_the_dense_layer(name: str) -> None:
    tensors = with_bnneck(golden.osnet_tensors(name))
    images = pictures(2, 32, 32)
    before = run(build(tensors, size=(32, 32), neck="before"), images).astype(np.float64)
    assert before.min() == 0, "a ReLU closes the dense layer"
    weight, bias, mean, variance = (
        tensors[f"bottleneck.{part}"].astype(np.float64)
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    expected = (before - mean) / np.sqrt(variance + 1e-5) * weight + bias
    after = run(build(tensors, size=(32, 32)), images)
    assert difference(after, expected.astype(np.float32)) < 1e-5
    without = {key: v for key, v in tensors.items() if not key.startswith("bottleneck")}
    without["classifier.bias"] = np.zeros(751, np.float32)
    assert np.array_equal(before, run(build(without, size=(32, 32)), images))


@pytest.mark.parametrize("name", EVERY)
def test_the_smallest_picture_works(name: str) -> None:
    tensors = golden.osnet_tensors(name)
    found = run(build(tensors, size=(16, 16)), pictures(2, 16, 16))
    assert np.isfinite(found).all()
    with pytest.raises(ArgumentError, match="16x15, expected at least 16"):
        build(tensors, size=(16, 15))


@pytest.mark.parametrize("name", SMALLEST)
def test_the_graph_is_what_the_package_promises(name: str) -> None:
    model = build(with_power(golden.osnet_tensors(name), 3.0), size=(48, 24))
    onnx.checker.check_model(model, full_check=True)
    (image,), (vector,) = model.graph.input, model.graph.output
    sides = [s.dim_param or s.dim_value for s in image.type.tensor_type.shape.dim]
    assert (image.name, sides) == ("image", ["batch", 3, 48, 24])
    sides = [s.dim_param or s.dim_value for s in vector.type.tensor_type.shape.dim]
    assert (vector.name, sides) == ("embedding", ["batch", 512])
    names = [tensor.name for tensor in model.graph.initializer]
    names += [output for node in model.graph.node for output in node.output]
    assert len(names) == len(set(names)), "weights are held once, also where a gate is shared"
    assert {node.op_type for node in model.graph.node} <= {
        *("Conv", "Relu", "Sigmoid", "InstanceNormalization", "MaxPool", "AveragePool"),
        *("GlobalAveragePool", "Mul", "Add", "Flatten", "Gemm", "Clip", "Pow"),
    }


def test_folding_the_dense_layer_row_by_row() -> None:
    tensors = golden.osnet_tensors("osnet_x0_25")
    held = {t.name: numpy_helper.to_array(t) for t in build(tensors).graph.initializer}
    for row in (0, 1, 511):
        weight, bias, mean, variance = (
            float(tensors[f"fc.1.{part}"][row])
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = weight / (variance + 1e-5) ** 0.5
        expected = tensors["fc.0.weight"][row] * factor
        assert np.allclose(held["fc.0.weight"][row], expected, rtol=1e-6, atol=0)
        shift = (float(tensors["fc.0.bias"][row]) - mean) * factor + bias
        assert held["fc.0.bias"][row] == pytest.approx(shift, rel=1e-6, abs=1e-7)


def test_a_dense_layer_that_cannot_be_folded_is_named() -> None:
    tensors = dict(golden.osnet_tensors("osnet_x0_25"))
    tensors["fc.1.running_var"] = np.zeros(512, np.float32)
    tensors["fc.1.weight"] = np.full(512, 3e38, np.float32)
    with pytest.raises(IncompatibleCheckpointError, match=r"the batch norm fc\.1 into"):
        build(tensors)
    build(tensors, fold=False)


# Pooling by the generalised mean.


@pytest.mark.parametrize("name", ["resnet18", "osnet_x0_25"])
@pytest.mark.parametrize("power", [1.0, 3.0, 6.5])
@pytest.mark.parametrize("fold", [True, False])
def test_the_generalised_mean(name: str, power: float, fold: bool) -> None:
    tensors = golden.tensors(name) if name == "resnet18" else golden.osnet_tensors(name)
    model = build(with_power(tensors, power), size=(64, 48), fold=fold)
    images = pictures(2, 64, 48)
    (clip,) = (node for node in model.graph.node if node.op_type == "Clip")
    features = run(model, images, clip.input[0])
    found = run(model, images, "gem.root")
    assert found.shape == (*features.shape[:2], 1, 1)
    for picture in range(2):
        for channel in range(0, features.shape[1], 37):
            values = [max(float(x), 1e-6) for x in features[picture, channel].flat]
            mean = (sum(x**power for x in values) / len(values)) ** (1 / power)
            assert found[picture, channel, 0, 0] == pytest.approx(mean, rel=1e-5)


def test_power_1_is_the_average() -> None:
    """The maps are behind a ReLU, so that nothing but zeros is cut."""
    tensors = golden.osnet_tensors("osnet_x0_25")
    images = pictures(2, 64, 32)
    found = run(build(with_power(tensors, 1.0)), images)
    assert difference(found, run(build(tensors), images)) < 1e-5
    assert difference(found, run(build(with_power(tensors, 3.0)), images)) > 1e-3


@pytest.mark.parametrize("name", ["resnet18", "osnet_ain_x0_5"])
def test_the_pooling_is_recognised(name: str) -> None:
    tensors = blank(name) if "osnet" in name else dict(golden.tensors(name))
    tensors = with_power(tensors, 3.0)
    network = networks.recognise(tensors)
    assert (network.architecture, network.pooling) == (name, "gem")
    assert "gem.p" in networks.used_tensors(network)
    with pytest.raises(IncompatibleCheckpointError, match=r"1 unexpected: gem\.p"):
        networks.check_tensors(Network(name, network.bnneck), tensors)
    tensors["gem.p"] = np.array(3.0, np.float32)
    with pytest.raises(
        IncompatibleCheckpointError, match=r"(?s)pooled by gem\.p.*gem\.p \(\), expected \(1,\)"
    ):
        networks.recognise(tensors)


@pytest.mark.parametrize("power", [0.0, -1.0, np.nan])
def test_a_power_that_no_mean_has(power: float) -> None:
    with pytest.raises(IncompatibleCheckpointError, match=r"gem\.p \((is the power|holds NaN)"):
        networks.recognise(with_power(blank("osnet_x0_25"), power))


def test_where_the_power_sits_in_the_layout() -> None:
    keys = list(networks.tensor_shapes(Network("osnet_x0_25", classes=3, pooling="gem")))
    place = keys.index("gem.p")
    assert keys[place - 1] == "fc.1.num_batches_tracked"
    assert keys[place + 1] == "bottleneck.weight"
    assert keys[-1] == "classifier.weight", "no bias behind a BNNeck"


# Which network is this?


@pytest.mark.parametrize("name", EVERY)
def test_every_network_is_recognised(name: str) -> None:
    tensors = blank(name)
    assert networks.recognise(tensors) == Network(name, bnneck=False, classes=751)
    networks.check_tensors(Network(name, bnneck=False), tensors)
    tensors = with_bnneck(tensors)
    assert networks.recognise(tensors) == Network(name, classes=751)
    # As the pretrained files are: a classifier for ImageNet, or none.
    tensors = blank(name)
    tensors["classifier.weight"] = np.zeros((1000, 512), np.float32)
    tensors["classifier.bias"] = np.zeros(1000, np.float32)
    assert networks.recognise(tensors) == Network(name, bnneck=False, classes=1000)
    del tensors["classifier.weight"], tensors["classifier.bias"]
    assert networks.recognise(tensors) == Network(name, bnneck=False)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), name=st.sampled_from(EVERY))
def test_one_wrong_tensor_is_named(data: st.DataObject, name: str) -> None:
    tensors = blank(name)
    network = networks.recognise(tensors)
    key = data.draw(st.sampled_from(networks.used_tensors(network)))
    values = tensors.pop(key)
    fault = data.draw(st.sampled_from(["missing", "renamed", "longer"]))
    if fault == "renamed":
        tensors[f"{key}.old"] = values
    elif fault == "longer":
        tensors[key] = np.broadcast_to(np.float32(0), (values.shape[0] + 1, *values.shape[1:]))
    with pytest.raises(IncompatibleCheckpointError) as caught:
        networks.recognise(tensors)
    assert f"the nearest is {name} without BNNeck" in str(caught.value)
    assert key in str(caught.value)


def test_another_width_is_told_by_shapes() -> None:
    tensors = blank("osnet_x0_5")
    with pytest.raises(IncompatibleCheckpointError) as caught:
        networks.recognise(tensors, architecture="osnet_x1_0")
    text = str(caught.value)
    assert "these tensors are not those of osnet_x1_0 without BNNeck" in text
    assert "conv1.conv.weight (32, 3, 7, 7), expected (64, 3, 7, 7)" in text
    with pytest.raises(IncompatibleCheckpointError, match=r"conv2\.0\.conv2\.0\.layers\.0\.conv1"):
        networks.recognise(tensors, architecture="osnet_ain_x0_5")


def test_a_stride_is_no_choice() -> None:
    with pytest.raises(ArgumentError, match="the last stride is 2, expected 1"):
        networks.recognise(blank("osnet_x0_5"), last_stride=2)
    assert networks.recognise(dict(golden.tensors("resnet18")), last_stride=2).last_stride == 2


def test_weights_before_training() -> None:
    network = Network("osnet_ain_x0_25", bnneck=False, classes=5, pooling="gem")
    tensors = networks.initial_tensors(network)
    assert networks.recognise(dict(tensors)) == network
    assert tensors["gem.p"].tolist() == [3.0]
    assert set(tensors["conv2.0.IN.weight"]) == {1.0}
    assert set(tensors["conv2.0.gate.fc1.bias"]) == {0.0}
    assert tensors["fc.0.weight"].std() == pytest.approx((2 / 128) ** 0.5, rel=0.05)
    assert tensors["classifier.weight"].std() == pytest.approx(0.001, rel=0.1)
    vectors = run(build(dict(tensors)), pictures(2, 64, 32))
    assert 0.01 < np.abs(vectors).max() < 100


# From the files that training leaves behind, to a package.


@pytest.mark.parametrize("write", [write_zip, write_legacy])
def test_a_checkpoint_of_the_papers_training(tmp_path: Path, write: Any) -> None:
    def wrap(state: object) -> object:
        groups = [{"lr": 0.0003, "params": [0, 1]}]
        return ordered(
            {
                "state_dict": state,
                "epoch": 250,
                "rank1": 0.948,
                "optimizer": {"state": {}, "param_groups": groups},
                "scheduler": {"last_epoch": 250},
            }
        )

    tensors = golden.osnet_tensors("osnet_x0_25")
    parallel = OrderedDict((f"module.{key}", values) for key, values in tensors.items())
    path = write(tmp_path / "model.pth.tar-250", parallel, wrap=wrap)
    read = checkpoints.read(path)
    assert list(read.tensors) == list(tensors)
    assert networks.recognise(read.tensors).architecture == "osnet_x0_25"
    package = exporting.export_package(
        path, tmp_path / "package", contract=InputSpec(height=64, width=32)
    )
    assert package.spec.architecture == "osnet_x0_25"
    assert (package.spec.embedding_size, package.spec.input.neck) == (512, "output")
    assert package.spec.provenance["bnneck"] == "no"
    assert "pooling" not in package.spec.provenance
    assert difference(embed(package), run(build(tensors), pictures(2, 64, 32))) < 5e-6


def test_a_package_with_bnneck_and_generalised_mean(tmp_path: Path) -> None:
    tensors = with_power(with_bnneck(golden.osnet_tensors("osnet_ain_x0_25")), 3.5)
    source = Checkpoint(tensors, "safetensors", "state dict", "5" * 64)
    contract = InputSpec(height=64, width=32, neck="before")
    package = exporting.export_package(source, tmp_path / "package", contract=contract)
    assert package.spec.architecture == "osnet_ain_x0_25"
    assert package.spec.provenance["pooling"] == "gem"
    assert package.spec.input.neck == "before"
    expected = run(build(tensors, neck="before", fold=False), pictures(2, 64, 32))
    assert difference(embed(package), expected) < 5e-6


def embed(package: Package) -> NDArray[np.float32]:
    runtime = load_runtime(package.engine_file, package.spec.engine)
    try:
        return runtime.run(pictures(2, 64, 32))
    finally:
        runtime.close()


@pytest.mark.parametrize("name", SMALLEST)
def test_openvino_reads_the_graph(tmp_path: Path, name: str) -> None:
    skip_without("openvino")
    import openvino

    model = build(with_power(with_bnneck(golden.osnet_tensors(name)), 3.0))
    onnx.save_model(model, tmp_path / "model.onnx")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", settings)
    images = pictures(2, 64, 32)
    assert difference(np.asarray(compiled([images])[0]), run(model, images)) < 5e-5


@pytest.mark.parametrize("name", SMALLEST)
def test_torch_reads_the_graph(name: str) -> None:
    """The torch target follows a graph by a table of operators."""
    torch = pytest.importorskip("torch")
    from reidkit.compiling._torch_graph import draw_module

    model = build(with_power(with_bnneck(golden.osnet_tensors(name)), 3.0))
    images = pictures(2, 64, 32)
    with torch.inference_mode():
        found = draw_module(model, torch.float32)(torch.from_numpy(images)).numpy()
    assert difference(found, run(model, images)) < 2e-5
