"""onnxruntime's int8: what it makes of a graph, and what is done for its accuracy."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reidkit import machine, networks, preprocess
from reidkit.checkpoints import Checkpoint
from reidkit.compiling import Job, Target, _bias, _layers, _onnxruntime
from reidkit.compiling._bias import correct_biases, measure_means, shift_output
from reidkit.compiling._checking import measure_noise
from reidkit.compiling._layers import group_layers, list_float_nodes, read_graph
from reidkit.datasets.drawn import draw_crops
from reidkit.errors import CompileError
from reidkit.exporting import export_package
from reidkit.package import InputSpec, Package

INT8 = Target("onnxruntime", "int8")
Graph = Any


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Package:
    network = networks.Network("resnet18")
    checkpoint = Checkpoint(networks.initial_tensors(network), "made", "made", "0" * 64)
    folder = tmp_path_factory.mktemp("resnet") / "package"
    return export_package(checkpoint, folder, contract=InputSpec(height=64, width=32))


@pytest.fixture(scope="module")
def calibration() -> NDArray[np.float32]:
    return crops(32, seed=1)


def crops(count: int, seed: int) -> NDArray[np.float32]:
    contract = InputSpec(height=64, width=32)
    drawn = draw_crops(count, height=64, width=32, seed=seed)
    return np.stack([preprocess.prepare(picture, contract) for picture in drawn]).astype(np.float32)


@pytest.fixture(scope="module")
def job(resnet: Package, calibration: NDArray[np.float32]) -> Job:
    """Give one job, so that the ranges are measured once."""
    return Job(resnet, INT8, calibration)


@pytest.fixture(scope="module")
def quantised(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    _onnxruntime.build(job, folder)
    return folder / "model.onnx"


def run_model(model: Path | onnx.ModelProto, inputs: Any, *names: str) -> list[Any]:
    """Run a model with optimisations off; gives its output, or inner values."""
    loaded: Graph = onnx.load_model(model) if isinstance(model, Path) else copy_of(model)
    if names:
        del loaded.graph.output[:]
        loaded.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        loaded.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )
    found: list[Any] = session.run(None, {session.get_inputs()[0].name: inputs})
    return found


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def kinds_around(model: Path, layer: str) -> set[str]:
    """Give the operators that a layer reads from, through no other."""
    graph = onnx.load_model(model).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    (node,) = (node for node in graph.node if node.name == layer)
    return {makers.get(name, "constant") for name in node.input}


# --- the whole ---


def test_int8_moves_vectors_little(resnet: Package, quantised: Path) -> None:
    inputs = crops(24, seed=2)
    (before,), (after,) = run_model(resnet.engine_file, inputs), run_model(quantised, inputs)
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (before, after)]
    assert 0 < measure_noise(*units).noise < 0.2
    assert (units[0] * units[1]).sum(axis=1).min() > 0.99
    assert quantised.stat().st_size < 0.3 * resnet.engine_file.stat().st_size


def test_weights_have_one_scale_a_channel_and_activations_one(quantised: Path) -> None:
    graph = onnx.load_model(quantised).graph
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 20
    for node in convolutions:
        activation, weight, _ = (makers[name] for name in node.input)
        assert kept[weight.input[0]].dtype == np.int8
        assert kept[weight.input[1]].shape == (len(kept[weight.input[0]]),)
        assert kept[activation.input[1]].shape == ()
        assert kept[activation.input[2]].dtype == np.uint8


@pytest.mark.parametrize(
    ("features", "most"), [(set(), 64), ({"avx2"}, 64), ({"avx_vnni"}, 127), ({"asimddp"}, 127)]
)
def test_weights_keep_7_bits_where_sums_overflow(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, features: set[str], most: int
) -> None:
    monkeypatch.setattr(_onnxruntime, "processor_features", lambda: frozenset(features))
    _onnxruntime.build(job, tmp_path)
    graph = onnx.load_model(tmp_path / "model.onnx").graph
    weights = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == 3]
    assert max(np.abs(w.astype(int)).max() for w in weights if w.ndim == 4) == most


def test_the_vector_is_not_in_8_bits(quantised: Path, calibration: NDArray[np.float32]) -> None:
    (vectors,) = run_model(quantised, calibration)
    assert len(np.unique(vectors)) > 256 * 8


def test_means_of_vectors_are_those_of_the_source(
    resnet: Package, quantised: Path, calibration: NDArray[np.float32]
) -> None:
    (before,), (after,) = (run_model(m, calibration) for m in (resnet.engine_file, quantised))
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=2e-2 * before.std())


@pytest.mark.parametrize("count", [3, 8, 13])
def test_any_number_of_pictures_calibrates_a_fixed_batch(
    resnet: Package, tmp_path: Path, count: int
) -> None:
    target = dataclasses.replace(INT8, batch=4)
    engine = _onnxruntime.build(Job(resnet, target, crops(count, seed=1)), tmp_path)
    assert engine.batch == 4
    (vectors,) = run_model(tmp_path / engine.file, crops(4, seed=2))
    assert vectors.shape == (4, 512)


def test_batches_are_filled_up_from_the_start() -> None:
    rows = np.arange(5, dtype=np.float32)[:, None, None, None]
    parts = [part[:, 0, 0, 0].tolist() for part in _onnxruntime._split(rows, 3)]
    assert parts == [[0, 1, 2], [3, 4, 0]]
    assert [part[:, 0, 0, 0].tolist() for part in _onnxruntime._split(rows[:1], 3)] == [[0, 0, 0]]


@pytest.mark.parametrize("pictures", [None, np.zeros((0, 3, 64, 32), np.float32)])
def test_without_pictures_there_is_no_int8(
    resnet: Package, tmp_path: Path, pictures: NDArray[np.float32] | None
) -> None:
    with pytest.raises(CompileError, match="int8 needs calibration pictures"):
        _onnxruntime.build(Job(resnet, INT8, pictures), tmp_path)


def test_the_quantiser_keeps_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest's own handlers would keep the root logger from getting one.
    monkeypatch.setattr(logging.root, "handlers", [])
    package = nameless_package(tmp_path / "source")
    inputs = np.random.default_rng(0).standard_normal((8, 3, 16, 8)).astype(np.float32)
    _onnxruntime.build(Job(package, INT8, inputs), tmp_path)
    with _onnxruntime._quietly():
        logging.warning("as the quantiser says of some graphs")
    assert capfd.readouterr() == ("", "")
    assert logging.root.handlers == []
    assert logging.root.manager.disable == logging.NOTSET


# --- layers in float ---


def test_float_layers_are_float(job: Job, tmp_path: Path) -> None:
    chosen = ("base.layer2.0.conv1", "base.layer2.0.conv2", "base.layer2.0.downsample.0")
    engine = _onnxruntime.build(dataclasses.replace(job, float_layers=chosen), tmp_path)
    assert engine.float_layers == chosen
    file = tmp_path / engine.file
    for layer in chosen:
        assert "DequantizeLinear" not in kinds_around(file, layer)
    for layer in ("base.layer1.1.conv2", "base.layer2.1.conv1"):
        assert kinds_around(file, layer) == {"DequantizeLinear"}


def test_with_all_layers_in_float_nothing_is_rounded(
    job: Job, resnet: Package, tmp_path: Path, calibration: NDArray[np.float32]
) -> None:
    every = tuple(
        layer for group in group_layers(read_graph(resnet.engine_file)) for layer in group
    )
    engine = _onnxruntime.build(dataclasses.replace(job, float_layers=every), tmp_path)
    operators = {node.op_type for node in onnx.load_model(tmp_path / engine.file).graph.node}
    assert operators.isdisjoint({"QuantizeLinear", "DequantizeLinear"})
    (before,) = run_model(resnet.engine_file, calibration)
    (after,) = run_model(tmp_path / engine.file, calibration)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_more_float_layers_less_noise(job: Job, resnet: Package, tmp_path: Path) -> None:
    inputs = crops(16, seed=2)
    (before,) = run_model(resnet.engine_file, inputs)
    layers = [layer for group in group_layers(read_graph(resnet.engine_file)) for layer in group]
    noises = []
    for count in (0, 10, 19):
        chosen = dataclasses.replace(job, float_layers=tuple(layers[:count]))
        engine = _onnxruntime.build(chosen, tmp_path)
        (after,) = run_model(tmp_path / engine.file, inputs)
        noises.append(measure_noise(before, after).noise)
    assert noises[0] > noises[1] > noises[2] > 0


def chain(*nodes: tuple[str, str, str, str]) -> onnx.ModelProto:
    """Make a graph of (operator, name, input, output)."""
    made = [
        helper.make_node(kind, [given, "w"] if kind in _layers.OPERATORS else [given], [out], name)
        for kind, name, given, out in nodes
    ]
    graph = helper.make_graph(made, "chain", [], [])
    return helper.make_model(graph)


def test_activations_follow_their_neighbours() -> None:
    model = chain(
        ("Conv", "one", "image", "a"),
        ("Relu", "relu1", "a", "b"),
        ("MaxPool", "pool", "b", "c"),
        ("Conv", "two", "c", "d"),
        ("Relu", "relu2", "d", "e"),
        ("Conv", "three", "e", "f"),
        ("Relu", "relu3", "f", "g"),
        ("Flatten", "flat", "g", "embedding"),
    )
    assert list_float_nodes(model, []) == ["relu3"], "nothing in 8 bits reads it"
    assert list_float_nodes(model, ["one"]) == ["one", "pool", "relu1", "relu3"]
    assert list_float_nodes(model, ["two"]) == ["pool", "relu1", "relu2", "relu3", "two"]
    assert list_float_nodes(model, ["three"]) == ["relu2", "relu3", "three"]
    every = ["one", "pool", "relu1", "relu2", "relu3", "three", "two"]
    assert list_float_nodes(model, ["one", "two", "three"]) == every


# --- groups ---


def test_our_resnets_have_a_group_a_block(resnet: Package) -> None:
    groups = group_layers(read_graph(resnet.engine_file))
    assert len(groups) == 1 + 4 * 2
    assert groups[0] == ("base.conv1",)
    assert groups[1] == ("base.layer1.0.conv1", "base.layer1.0.conv2")
    assert set(groups[3]) == {
        f"base.layer2.0.{name}" for name in ("conv1", "conv2", "downsample.0")
    }
    assert sum(map(len, groups)) == 20


def groups_of(*names: str) -> list[tuple[str, ...]]:
    nodes = [("Conv", name, f"v{place}", f"v{place + 1}") for place, name in enumerate(names)]
    return group_layers(chain(*nodes))


@pytest.mark.parametrize(
    "expected",
    [
        [("/conv1/Conv",), ("/classifier/Gemm",)],
        [
            ("/layer1/layer1.0/conv1/Conv", "/layer1/layer1.0/downsample/downsample.0/Conv"),
            ("/layer1/layer1.1/conv1/Conv", "/layer1/layer1.1/conv2/Conv"),
        ],
        [("base.layer1.0.conv1", "base.layer1.0.se_module.fc1", "base.layer1.0.se_module.fc2")],
        [("/blocks/blocks.0/attn/qkv/MatMul", "/blocks/blocks.0/mlp/fc1/MatMul")],
        [("0.layer1.0.conv1", "0.layer1.0.conv2"), ("0.layer1.1.conv1",), ("0.conv1",)],
        [("features.0",), ("features.3",), ("features.6",)],
        [
            ("conv3.0.conv1.conv", "conv3.0.conv2a.conv2", "conv3.0.conv2d.3.conv1"),
            ("conv3.1.gate.fc1_0", "conv3.1.conv3.conv"),
        ],
        [("conv2.0.conv1.conv", "conv2.0.conv2.3.layers.1.conv2", "conv2.0.downsample.conv")],
        [("/layers.0/blocks.1/attn/qkv/MatMul",), ("/layers.0/blocks.2/mlp/fc1/MatMul",)],
        [("block1/unit/a",), ("block2/unit/a",)],
        [("Conv_0",), ("Conv_1",), ("convolution",)],
    ],
)
def test_foreign_names(expected: list[tuple[str, ...]]) -> None:
    assert groups_of(*(name for group in expected for name in group)) == expected


def nameless_package(folder: Path, *, opset: int = 17) -> Package:
    """Make a package, without vectors to check, most of whose nodes have no names."""
    folder.mkdir()
    random = np.random.default_rng(3)
    weights = {
        "w1": random.standard_normal((4, 3, 3, 3)),
        "b1": random.standard_normal(4),
        "w2": random.standard_normal((4, 4, 3, 3)),
        "b2": random.standard_normal(4) * 9,
        "w3": random.standard_normal((4, 4, 1, 1)),
        "b3": random.standard_normal(4) / 9,
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["b", "w2", "b2"], ["c"], "e", strides=[2, 2]),
        make("Relu", ["c"], ["d"]),
        make("Conv", ["d", "w3", "b3"], ["e"]),
        make("GlobalAveragePool", ["e"], ["f"]),
        make("Flatten", ["f"], ["embedding"]),
    ]
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "nameless",
        [helper.make_tensor_value_info("image", floats, ["n", 3, 16, 8])],
        [helper.make_tensor_value_info("embedding", floats, ["n", 4])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save_model(
        helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "model.onnx"
    )
    return package_of(folder)


def package_of(folder: Path) -> Package:
    from reidkit.package import EngineSpec, ModelSpec

    contract = InputSpec(height=16, width=8)
    engine = EngineSpec("model.onnx", "0" * 64)
    return Package(folder, ModelSpec("m", "m", 4, "0" * 64, "0" * 64, contract, engine))


@pytest.mark.parametrize("opset", [11, 17])
def test_nodes_without_names(tmp_path: Path, opset: int) -> None:
    package = nameless_package(tmp_path / "source", opset=opset)
    assert group_layers(read_graph(package.engine_file)) == [("a",), ("e",), ("e_",)]
    inputs = np.random.default_rng(0).standard_normal((16, 3, 16, 8)).astype(np.float32)
    for layers in ((), ("a",), ("e",), ("a", "e_")):
        engine = _onnxruntime.build(Job(package, INT8, inputs, layers), tmp_path)
        file = tmp_path / engine.file
        for layer in ("a", "e", "e_"):
            assert ("DequantizeLinear" in kinds_around(file, layer)) == (layer not in layers)
        (before,), (after,) = run_model(package.engine_file, inputs), run_model(file, inputs)
        assert np.abs(after - before).max() < 0.05 * np.abs(before).max()


# --- bias correction ---


CONVOLUTIONS = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    {"group": 2, "pads": [1, 1, 1, 1]},
    {"group": 4},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
]


def one_convolution(options: dict[str, Any], *, quantised_bias: bool) -> tuple[Graph, Graph]:
    """Make a convolution and its coarsely rounded counterpart, 3 bits of weights."""
    random = np.random.default_rng(7)
    weight = random.standard_normal((8, 4 // options.get("group", 1), 3, 3)).astype(np.float32)
    bias = random.standard_normal(8).astype(np.float32)
    scale = np.abs(weight).max(axis=(1, 2, 3)) / 3
    steps = np.rint(weight / scale[:, None, None, None]).astype(np.int8)
    fine = (scale * 1e-3).astype(np.float32)
    make, keep = helper.make_node, numpy_helper.from_array
    source = model_of(
        [make("Conv", ["image", "w", "b"], ["out"], "conv", **options)],
        [keep(weight, "w"), keep(bias, "b")],
    )
    nodes = [make("DequantizeLinear", ["q", "s", "z"], ["w"], "weight", axis=0)]
    kept = [keep(steps, "q"), keep(scale, "s"), keep(np.zeros(8, np.int8), "z")]
    if quantised_bias:
        nodes.append(make("DequantizeLinear", ["qb", "sb", "zb"], ["b"], "bias", axis=0))
        kept += [
            keep(np.rint(bias / fine).astype(np.int32), "qb"),
            keep(fine, "sb"),
            keep(np.zeros(8, np.int32), "zb"),
        ]
    else:
        kept.append(keep(bias, "b"))
    nodes.append(make("Conv", ["image", "w", "b"], ["out"], "conv", **options))
    return source, model_of(nodes, kept)


def model_of(nodes: list[Any], kept: list[Any]) -> Graph:
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", floats, ["n", 4, 9, 6])],
        [helper.make_tensor_value_info("out", floats, None)],
        kept,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("quantised_bias", [True, False])
@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
def test_channel_means_come_back(options: dict[str, Any], quantised_bias: bool) -> None:
    """Against the plain means of what both convolutions give."""
    source, rounded = one_convolution(options, quantised_bias=quantised_bias)
    batches = [
        np.random.default_rng(seed).uniform(0, 3, (5, 4, 9, 6)).astype(np.float32)
        for seed in range(3)
    ]
    inputs = np.concatenate(batches)

    def channel_means(model: Graph) -> Any:
        return run_model(model, inputs)[0].mean(axis=(0, 2, 3))

    wanted, before = channel_means(source), channel_means(rounded)
    assert correct_biases(rounded, source, measure_means(source, batches)) == 1
    after = channel_means(rounded)
    assert np.abs(before - wanted).max() > 0.1
    np.testing.assert_allclose(after, wanted, atol=1e-3)


def test_a_whole_network_gets_its_means_back(
    resnet: Package, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The means of the convolutions' outputs before a sum, with and without correction.

    The others' outputs are merged with their activations.
    """
    monkeypatch.setattr(_onnxruntime, "has_wide_sums", lambda: False)
    inputs = crops(32, seed=1)
    graph = read_graph(resnet.engine_file).graph
    names = [node.output[0] for node in graph.node if node.name.endswith((".conv2", "sample.0"))]
    assert len(names) == 11
    wanted = run_model(resnet.engine_file, inputs, *names)

    def error(file: Path) -> float:
        found = run_model(file, inputs, *names)
        off = [
            np.abs((a - b).mean(axis=(0, 2, 3))).mean() / b.std()
            for a, b in zip(found, wanted, strict=True)
        ]
        return float(np.mean(off))

    _onnxruntime.build(job, tmp_path)
    corrected = error(tmp_path / "model.onnx")
    monkeypatch.setattr(_onnxruntime, "correct_biases", lambda *_: 0)
    _onnxruntime.build(job, tmp_path)
    assert corrected < 0.8 * error(tmp_path / "model.onnx")


def test_what_cannot_be_corrected_stays() -> None:
    source, rounded = one_convolution({}, quantised_bias=True)
    means = measure_means(source, [np.ones((2, 4, 9, 6), np.float32)])
    for change in ("no bias", "float weight", "another name"):
        model = copy_of(rounded)
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        if change == "no bias":
            del node.input[2]
        elif change == "float weight":
            node.input[1] = "image"
        else:
            node.name = "somebody"
        before = model.SerializeToString(deterministic=True)
        assert correct_biases(model, source, means) == 0
        assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("opset", [17, 18])
def test_means_are_those_of_all_pictures(opset: int) -> None:
    source, _ = one_convolution({}, quantised_bias=True)
    source.opset_import[0].version = opset
    random = np.random.default_rng(0)
    batches = [random.standard_normal((4, 4, 9, 6)).astype(np.float32) for _ in range(3)]
    means = measure_means(source, batches)
    assert set(means) == {"image"}
    expected = np.concatenate(batches).mean(axis=0, keepdims=True)
    np.testing.assert_allclose(means["image"], expected, atol=1e-6)


def test_a_graph_without_convolutions_has_no_means() -> None:
    model = model_of([helper.make_node("Flatten", ["image"], ["out"])], [])
    assert measure_means(model, [np.ones((2, 4, 9, 6), np.float32)]) == {}


def test_an_output_is_shifted_and_keeps_its_name() -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["p"]),
        helper.make_node("Flatten", ["p"], ["out"]),
        helper.make_node("Abs", ["out"], ["unused"]),
    ]
    model = model_of(nodes, [])
    inputs = np.random.default_rng(0).standard_normal((3, 4, 9, 6)).astype(np.float32)
    (before,) = run_model(model, inputs)
    shift = np.array([1, 2, 3, -4], np.float32)
    shift_output(model, "out", shift)
    np.testing.assert_allclose(run_model(model, inputs)[0], before + shift, atol=1e-6)


def test_a_dequantised_constant_is_what_onnxruntime_makes_of_it() -> None:
    """Weights in 8 bits with a scale a row, one for all, and floats rounded in the graph."""
    random = np.random.default_rng(5)
    weight = random.standard_normal((6, 4, 3, 3)).astype(np.float32)
    scale = np.abs(weight).max(axis=(1, 2, 3)).astype(np.float32) / 100
    keep, make = numpy_helper.from_array, helper.make_node
    kept = [
        keep(weight, "float"),
        keep(random.integers(-128, 128, weight.shape).astype(np.int8), "stored"),
        keep(scale, "scales"),
        keep(np.arange(6, dtype=np.int8), "zeros"),
        keep(np.array(0.02, np.float32), "scale"),
        keep(np.array(3, np.int8), "zero"),
    ]
    nodes = [
        make("DequantizeLinear", ["stored", "scales", "zeros"], ["a"], axis=0),
        make("DequantizeLinear", ["stored", "scale", "zero"], ["b"]),
        make("QuantizeLinear", ["float", "scales", "zeros"], ["r"], axis=0),
        make("DequantizeLinear", ["r", "scales", "zeros"], ["c"], axis=0),
        make("QuantizeLinear", ["float", "scale", "zero"], ["t"]),
        make("DequantizeLinear", ["t", "scale", "zero"], ["d"]),
        make("Identity", ["image"], ["out"]),
    ]
    model = model_of(nodes, kept)
    constants = _bias._find_constants(model, {tensor.name: tensor for tensor in kept})
    expected = run_model(model, np.zeros((1, 4, 9, 6), np.float32), *"abcd")
    for name, values in zip("abcd", expected, strict=True):
        np.testing.assert_allclose(constants[name].dequantise(), values, atol=1e-6)


# --- the processor ---


def test_features_of_this_processor_are_plain_words() -> None:
    assert all(feature == feature.strip() and " " not in feature for feature in features())


def features() -> frozenset[str]:
    machine.processor_features.cache_clear()
    try:
        return machine.processor_features()
    finally:
        machine.processor_features.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx2 avx512_vnni\nbugs : spectre\n",
            "fpu avx2 avx512_vnni",
        ),
        ("Features\t: fp asimd asimddp\nCPU part\t: 0xd0c\n", "fp asimd asimddp"),
        ("flags : a b\n\nflags : b c\n", "a b c"),
        ("nothing of the kind\n", ""),
        ("", ""),
    ],
)
def test_features_are_read_as_linux_writes_them(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _: text)
    assert features() == frozenset(expected.split())


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", fail)
    assert features() == frozenset()
