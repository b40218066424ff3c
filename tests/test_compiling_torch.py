"""The target `torch`: every operator against onnxruntime, and what is compiled from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from reidkit import networks, preprocess
from reidkit.compiling import Job, Target, _torch
from reidkit.embedding import embed
from reidkit.errors import ArgumentError, CompileError, DeviceError
from reidkit.exporting import export_package
from reidkit.models import Model, load_model
from reidkit.package import EngineSpec, InputSpec, ModelSpec, Package
from reidkit.runtimes import load_runtime
from tests.pictures import write_samples

torch = pytest.importorskip("torch")
from reidkit.compiling._torch_graph import draw_module  # noqa: E402 - needs torch

needs_compiler = pytest.mark.skipif(
    not _torch.support().precisions, reason="torch or a C++ compiler is missing"
)
SHAPE = (2, 4, 6, 5)


def make_model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[Any]] | None = None,
    *,
    shape: tuple[Any, ...] = SHAPE,
    opset: int = 17,
) -> onnx.ModelProto:
    """Make a graph from `x` to `y`."""
    graph = helper.make_graph(
        nodes,
        "some",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run_both(
    model: onnx.ModelProto, inputs: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Run a graph in torch, eagerly, and in onnxruntime."""
    with torch.inference_mode():
        ours = draw_module(model, torch.float32)(torch.from_numpy(inputs)).numpy()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    return ours, session.run(None, {session.get_inputs()[0].name: inputs})[0]


def numbers(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def node(kind: str, *inputs: str, **facts: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, ["x", *inputs], ["y"], **facts)]


def check(model: onnx.ModelProto, inputs: NDArray[np.float32] | None = None) -> None:
    ours, theirs = run_both(model, numbers(*SHAPE) if inputs is None else inputs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


KERNEL = {"w": numbers(6, 2, 3, 3), "b": numbers(6)}
WINDOW: dict[str, Any] = {"kernel_shape": [3, 3]}
VECTOR = numbers(4, 1, 1, seed=5)


@pytest.mark.parametrize(
    "facts",
    [
        {"group": 2},
        {"group": 2, "pads": [1, 1, 1, 1], "strides": [2, 1]},
        {"group": 2, "pads": [0, 1, 2, 1], "dilations": [2, 1]},
        {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"group": 2, "auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"group": 2, "auto_pad": "VALID"},
    ],
)
def test_convolutions(facts: dict[str, Any]) -> None:
    check(make_model(node("Conv", "w", "b", **WINDOW, **facts), KERNEL))
    check(make_model(node("Conv", "w", **WINDOW, **facts), KERNEL))


def test_a_convolution_over_one_axis() -> None:
    nodes = node("Conv", "w", kernel_shape=[3], pads=[1, 1])
    check(make_model(nodes, {"w": numbers(5, 4, 3)}, shape=(2, 4, 7)), numbers(2, 4, 7))


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("MaxPool", {"strides": [2, 2]}),
        ("MaxPool", {"strides": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MaxPool", {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ("MaxPool", {"strides": [1, 1], "pads": [2, 2, 2, 2]}),
        ("AveragePool", {"strides": [2, 1]}),
        ("AveragePool", {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", {"strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", {"strides": [2, 2], "pads": [0, 1, 1, 1], "count_include_pad": 1}),
        ("AveragePool", {"strides": [2, 2], "ceil_mode": 1}),
    ],
)
def test_poolings(kind: str, facts: dict[str, Any]) -> None:
    check(make_model(node(kind, **WINDOW, **facts)))


def test_a_pooling_that_torch_has_no_word_for_is_refused() -> None:
    facts = {"strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1}
    with pytest.raises(CompileError, match="uneven padding"):
        run_both(make_model(node("MaxPool", **WINDOW, **facts)), numbers(*SHAPE))


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        *[(kind, {}) for kind in ("Relu", "Sigmoid", "Tanh", "Identity", "Abs", "Neg", "Erf")],
        *[(kind, {}) for kind in ("Exp", "HardSwish", "LeakyRelu", "Elu", "Softplus", "Dropout")],
        *[(kind, {}) for kind in ("GlobalAveragePool", "GlobalMaxPool", "HardSigmoid")],
        ("LeakyRelu", {"alpha": 0.3}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
        ("LpNormalization", {"axis": 1, "p": 2}),
        ("Softmax", {"axis": 1}),
        ("Softmax", {}),
        ("Flatten", {}),
        ("Flatten", {"axis": 2}),
        ("Flatten", {"axis": 0}),
        ("Transpose", {"perm": [0, 2, 3, 1]}),
        ("Transpose", {}),
        ("ReduceMean", {"axes": [2, 3], "keepdims": 0}),
        ("ReduceMean", {}),
        ("ReduceMax", {"axes": [-1]}),
        ("ReduceL2", {"axes": [1], "keepdims": 1}),
        ("Cast", {"to": TensorProto.FLOAT}),
    ],
)
def test_operators_of_one_input(kind: str, facts: dict[str, Any]) -> None:
    check(make_model(node(kind, **facts)))


@pytest.mark.parametrize("kind", ["Sqrt", "Log", "Reciprocal"])
def test_operators_of_positive_numbers(kind: str) -> None:
    check(make_model(node(kind)), np.abs(numbers(*SHAPE)) + np.float32(0.1))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize("other", [VECTOR, np.float32(1.7).reshape(()), numbers(*SHAPE, seed=9)])
def test_arithmetic(kind: str, other: NDArray[np.float32]) -> None:
    check(make_model(node(kind, "w"), {"w": other}))
    both = [helper.make_node(kind, ["w", "x"], ["y"])]
    check(make_model(both, {"w": other}))


OLD_SOFTMAX = make_model(node("Softmax", axis=1), opset=11)


def numbered(**lists: list[int]) -> dict[str, NDArray[Any]]:
    return {name: np.array(values, np.int64) for name, values in lists.items()}


SCALES = {"s": numbers(4), "b": numbers(4, seed=1)}
LAYER_SCALES = {"s": numbers(5), "b": numbers(5, seed=1)}
PADDING = numbered(p=[0, 0, 0, 0, 0, 1, 0, 1]) | {"v": np.array(7, np.float32)}


@pytest.mark.parametrize(
    "model",
    [
        OLD_SOFTMAX,
        make_model(node("Pow", "w"), {"w": np.array(2, np.float32)}),
        make_model(node("PRelu", "w"), {"w": VECTOR}),
        make_model(node("MatMul", "w"), {"w": numbers(5, 3)}),
        make_model(node("Clip", "a", "b"), {"a": np.array(0, np.float32),
                                            "b": np.array(0.7, np.float32)}),
        make_model(node("Clip", "", "b"), {"b": np.array(0.7, np.float32)}),
        make_model(node("Clip", min=-0.5, max=0.5), opset=6),
        make_model(node("InstanceNormalization", "s", "b"), SCALES),
        make_model(node("LayerNormalization", "s", "b"), LAYER_SCALES),
        make_model(node("LayerNormalization", "s", axis=2, epsilon=0.1), {"s": numbers(6, 5)}),
        make_model(node("Reshape", "s"), numbered(s=[0, -1, 3])),
        make_model(node("Squeeze"), shape=(2, 4, 1, 1)),
        make_model(node("Squeeze", "a"), numbered(a=[3]), shape=(2, 4, 1, 1)),
        make_model(node("Squeeze", axes=[2, 3]), shape=(2, 4, 1, 1), opset=11),
        make_model(node("Unsqueeze", "a"), numbered(a=[0, -1])),
        make_model(node("Unsqueeze", axes=[2]), opset=11),
        make_model(node("ReduceSum", "a"), numbered(a=[1])),
        make_model(node("ReduceMean", "a", noop_with_empty_axes=1), numbered(a=[]), opset=18),
        make_model(node("Gather", "i", axis=3), {"i": np.array(2, np.int64)}),
        make_model(node("Gather", "i", axis=1), numbered(i=[2, 0, 3])),
        make_model(node("Slice", *"seat"), numbered(s=[1, -3], e=[9, -1], a=[2, 3], t=[2, 1])),
        make_model(node("Slice", starts=[1], ends=[3], axes=[1]), opset=9),
        make_model(node("Pad", "p"), numbered(p=[0, 0, 1, 2, 0, 0, 0, 1])),
        make_model(node("Pad", "p", "v"), PADDING),
        make_model(node("Pad", "p", mode="reflect"), numbered(p=[0, 0, 1, 2, 0, 0, 0, 1])),
        make_model(node("Pad", "p", mode="edge"), numbered(p=[0, 0, 1, 2, 0, 0, 0, 1])),
    ],
    ids=lambda model: model.graph.node[0].op_type,
)  # fmt: skip
def test_operators_with_constants(model: onnx.ModelProto) -> None:
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    check(model, numbers(*sides))


@pytest.mark.parametrize("facts", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0, "transB": 1}])
def test_a_dense_layer(facts: dict[str, Any]) -> None:
    weight = numbers(3, 4) if facts else numbers(4, 3)
    nodes = node("Gemm", "w", "b", **facts)
    check(make_model(nodes, {"w": weight, "b": numbers(3)}, shape=(2, 4)), numbers(2, 4))


@pytest.mark.parametrize("sizes", [[1, 3], None])
def test_splitting_and_joining(sizes: list[int] | None) -> None:
    inputs = ["x"] if sizes is None else ["x", "s"]
    nodes = [
        helper.make_node("Split", inputs, ["first", "second"], axis=1),
        helper.make_node("Concat", ["second", "first"], ["y"], axis=1),
    ]
    opset = 13 if sizes is None else 17
    check(make_model(nodes, numbered(s=sizes) if sizes else None, opset=opset))


def test_a_batch_norm_of_fixed_statistics() -> None:
    weights = {name: np.abs(numbers(4, seed=seed)) for seed, name in enumerate("sbmv")}
    check(make_model(node("BatchNormalization", *"sbmv", epsilon=1e-3), weights))


def shaped_by_itself() -> onnx.ModelProto:
    """Flatten as exporters write `x.view(x.size(0), -1)`: shape, gather, unsqueeze, concat."""
    make = helper.make_node
    value = numpy_helper.from_array(np.array(0, np.int64))
    nodes = [
        make("Shape", ["x"], ["shape"]),
        make("Constant", [], ["zero"], value=value),
        make("Gather", ["shape", "zero"], ["rows"], axis=0),
        make("Unsqueeze", ["rows", "axis"], ["row_list"]),
        make("Constant", [], ["rest"], value_ints=[-1]),
        make("Concat", ["row_list", "rest"], ["wanted"], axis=0),
        make("Reshape", ["x", "wanted"], ["y"]),
    ]
    return make_model(nodes, numbered(axis=[0]))


def test_a_shape_that_the_graph_computes() -> None:
    check(shaped_by_itself())


def test_a_computed_shape_leaves_the_batch_free() -> None:
    module = draw_module(shaped_by_itself(), torch.float32)
    rows = {0: torch.export.Dim("rows", min=1, max=64)}
    example = torch.from_numpy(numbers(3, 4, 6, 5))
    program = torch.export.export(module, (example,), dynamic_shapes=(rows,))
    assert program.module()(torch.from_numpy(numbers(7, 4, 6, 5))).shape == (7, 120)


@given(
    channels=st.integers(1, 4),
    height=st.integers(3, 9),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
)
@settings(max_examples=25, deadline=None)
def test_windows_of_any_size(
    channels: int, height: int, kernel: int, stride: int, padding: int
) -> None:
    shape = (2, channels, height, 7)
    window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
    pads = [padding, 0, padding, 1]
    convolution = node("Conv", "w", **window, pads=pads)
    weights = {"w": numbers(3, channels, kernel, kernel)}
    check(make_model(convolution, weights, shape=shape), numbers(*shape))
    pads = [min(padding, kernel - 1)] * 4
    check(make_model(node("MaxPool", **window, pads=pads), shape=shape), numbers(*shape))


@pytest.mark.parametrize("kind", ["GridSample", "NonZero", "DequantizeLinear"])
def test_an_unknown_operator_is_named(kind: str) -> None:
    model = make_model([helper.make_node(kind, ["x"], ["y"], "strange\n")])
    with pytest.raises(CompileError, match=rf"operator {kind} \(node strange\\n\): compile th"):
        draw_module(model, torch.float32)


def test_an_operator_of_another_domain_is_named_with_it() -> None:
    made = helper.make_node("Relu", ["x"], ["y"], domain="com.example")
    with pytest.raises(CompileError, match=r"operator com\.example\.Relu"):
        draw_module(make_model([made]), torch.float32)


def test_the_second_output_of_a_node_is_not_invented() -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["a", "places"], kernel_shape=[2, 2]),
        helper.make_node("Cast", ["places"], ["y"], to=TensorProto.FLOAT),
    ]
    with pytest.raises(CompileError, match="does not compute places"):
        draw_module(make_model(nodes), torch.float32)


def test_a_batch_norm_in_training_is_refused() -> None:
    weights = {name: np.ones(4, np.float32) for name in "sbmv"}
    nodes = [helper.make_node("BatchNormalization", ["x", *"sbmv"], ["y"], training_mode=1)]
    with pytest.raises(CompileError, match="evaluation mode"):
        draw_module(make_model(nodes, weights), torch.float32)


def quick_tensors(network: networks.Network) -> dict[str, NDArray[np.float32]]:
    """Make weights in no time, small enough that a deep network does not amplify rounding."""
    pool = numbers(9973)
    tensors = {}
    for name, shape in networks.tensor_shapes(network).items():
        if len(shape) > 1:
            tensors[name] = np.resize(pool, shape) / np.float32(np.sqrt(np.prod(shape[1:])))
        else:
            tensors[name] = np.resize(pool, shape) / 10 + np.float32(
                name.endswith(("weight", "var"))
            )
    return tensors


DEEPER = {
    "resnet101": "resnet50",
    "resnet152": "resnet50",
    "se_resnet101": "se_resnet50",
    "se_resnet152": "se_resnet50",
    "se_resnext101": "se_resnext50",
}
"""Networks that repeat the blocks of a smaller one, which runs for them; senet154 is as deep."""


def build_small(architecture: str, *, fold: bool = True) -> onnx.ModelProto:
    network = networks.Network(architecture)
    return networks.build_model(network, quick_tensors(network), height=32, width=16, fold=fold)


def list_kinds(model: onnx.ModelProto) -> set[tuple[Any, ...]]:
    """Give what the nodes of a graph are: operator, facts, and the operators that feed them."""
    makers = {name: made.op_type for made in model.graph.node for name in made.output}
    return {
        (
            made.op_type,
            *(makers.get(name, "given") for name in made.input),
            *sorted(fact.SerializeToString(deterministic=True) for fact in made.attribute),
        )
        for made in model.graph.node
    }


@pytest.mark.parametrize(
    "architecture", [name for name in networks.ARCHITECTURES if name not in DEEPER]
)
def test_every_network_of_ours(architecture: str) -> None:
    fold = architecture not in ("resnet18", "resnet50_ibn_a")
    model = build_small(architecture, fold=fold)
    ours, theirs = run_both(model, numbers(2, 3, 32, 16))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(np.abs(theirs).max()))
    assert np.abs(ours[0] - ours[1]).max() > 1e-3 * np.abs(ours).max()


@pytest.mark.parametrize("architecture", DEEPER)
def test_a_deeper_network_has_no_node_that_a_smaller_one_does_not_run(architecture: str) -> None:
    model = build_small(architecture)
    assert list_kinds(model) == list_kinds(build_small(DEEPER[architecture]))
    draw_module(model, torch.float32)


@given(
    colour=st.sampled_from(["rgb", "bgr"]),
    scale=st.sampled_from([1 / 255, 1.0, 1 / 127.5, 0.0173]),
    mean=st.tuples(*[st.floats(-200, 200)] * 3),
    std=st.tuples(*[st.floats(0.01, 100)] * 3),
)
@settings(max_examples=25, deadline=None)
def test_the_network_is_fed_the_same_bits(
    colour: Any, scale: float, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    contract = InputSpec(height=16, width=48, colour=colour, scale=scale, mean=mean, std=std)
    pixels = np.random.default_rng(0).permutation(np.arange(3 * 16 * 48) % 256).astype(np.uint8)
    pixels = pixels.reshape(1, 16, 48, 3)
    expected = np.empty((1, 3, 16, 48), np.float32)
    preprocess.normalise(pixels[0], contract, expected[0])
    module = draw_module(make_model(node("Identity")), torch.float32, contract=contract)
    assert np.array_equal(module(torch.from_numpy(pixels)).numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_compute_in_themselves_and_give_float32(dtype: Any) -> None:
    nodes = node("Conv", "w", "b", **WINDOW, group=2)
    module = draw_module(make_model(nodes, KERNEL), dtype)
    inputs = torch.from_numpy(numbers(*SHAPE))
    output = module(inputs)
    assert output.dtype == torch.float32
    weight, bias = (torch.from_numpy(KERNEL[name]).to(dtype) for name in "wb")
    expected = torch.nn.functional.conv2d(inputs.to(dtype), weight, bias, groups=2)
    assert torch.equal(output, expected.float())


def test_a_graph_in_half_types_can_be_computed_in_float32() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["h", "w"], ["z"]),
        helper.make_node("Cast", ["z"], ["y"], to=TensorProto.FLOAT),
    ]
    inputs = numbers(*SHAPE)
    model = make_model(nodes, {"w": np.array([3], np.float16)})
    assert np.array_equal(draw_module(model, torch.float32)(torch.from_numpy(inputs)), inputs * 3)


# What follows needs a C++ compiler; one network is compiled for all of it.


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("source")
    save_file(networks.initial_tensors(networks.Network("resnet18")), folder / "x.safetensors")
    contract = InputSpec(height=64, width=32)
    return export_package(folder / "x.safetensors", folder / "package", contract=contract)


@pytest.fixture(scope="module")
def compiled(source: Package, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, EngineSpec]:
    folder = tmp_path_factory.mktemp("compiled")
    before = (torch.get_num_threads(), torch.get_float32_matmul_precision())
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        engine = _torch.build(Job(source, Target("torch")), folder)
    # Inductor may make its own cache folder there, in an order of imports that is not ours.
    assert [name for name in names(temporary) if not name.startswith("torchinductor_")] == []
    assert names(folder) == ["model.pt2"]
    assert before == (torch.get_num_threads(), torch.get_float32_matmul_precision())
    return folder, engine


@needs_compiler
@pytest.mark.slow
def test_it_says_what_was_compiled(compiled: tuple[Path, EngineSpec]) -> None:
    _, engine = compiled
    assert engine.runtime == engine.target == "torch"
    assert (engine.takes, engine.precision, engine.device) == ("pixels", "fp32", "cpu")
    assert engine.batch is None


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_compiled_network_agrees_with_its_source(
    source: Package, compiled: tuple[Path, EngineSpec], count: int
) -> None:
    folder, engine = compiled
    pixels = np.random.default_rng(count).integers(0, 256, (count, 64, 32, 3), dtype=np.uint8)
    rows = [preprocess.prepare(picture, source.spec.input) for picture in pixels]
    with load_model(source) as model:
        expected = model.run(np.stack(rows))
    runtime = load_runtime(folder / engine.file, engine)
    found = runtime.run(pixels)
    runtime.close()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * float(np.abs(expected).max()))


@needs_compiler
@pytest.mark.slow
def test_embedding_pixels_is_embedding_tensors(
    source: Package, compiled: tuple[Path, EngineSpec], tmp_path: Path
) -> None:
    folder, engine = compiled
    samples = write_samples(tmp_path, 7)
    with load_model(source) as model:
        expected = embed(model.with_flip(), samples, batch=3)
    runtime = load_runtime(folder / engine.file, engine)
    with Model(source.spec, runtime).with_flip() as model:
        found = embed(model, samples, batch=3)
    np.testing.assert_allclose(found.vectors, expected.vectors, rtol=0, atol=1e-5)


@needs_compiler
@pytest.mark.slow
def test_bf16_points_the_same_way(tmp_path: Path) -> None:
    if "bf16" not in _torch.support().precisions:
        pytest.skip("this CPU has no bf16")
    package = tiny_package(tmp_path)
    engine = _torch.build(Job(package, Target("torch", "bf16")), tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 16, 3), dtype=np.uint8)
    exact = draw_module(onnx.load(package.engine_file), torch.float32, contract=package.spec.input)
    runtime = load_runtime(tmp_path / engine.file, engine)
    found, expected = runtime.run(pixels), exact(torch.from_numpy(pixels)).numpy()
    runtime.close()
    assert not np.array_equal(found, expected)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert ((found * expected).sum(axis=1) / lengths).min() > 0.99


def tiny_package(folder: Path, change: Callable[[onnx.ModelProto], None] | None = None) -> Package:
    """Put a network of one convolution into a folder that does as a package here."""
    weights = {"w": numbers(8, 3, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "stem"),
        helper.make_node("Relu", ["a"], ["b"], "active"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"], "pool"),
        helper.make_node("Flatten", ["c"], ["y"], "flat"),
    ]
    model = make_model(nodes, weights, shape=("rows", 3, 32, 16))
    if change:
        change(model)
    onnx.save(model, folder / "model.onnx")
    spec = ModelSpec(
        "tiny", "tiny", 8, "w" * 64, "r" * 64,
        InputSpec(height=32, width=16), EngineSpec("model.onnx", "0" * 64),
    )  # fmt: skip
    return Package(folder, spec)


def build(folder: Path, target: Target, package: Package | None = None) -> None:
    _torch.build(Job(package or tiny_package(folder), target), folder)


@needs_compiler
def test_an_unknown_operator_leaves_nothing_behind(tmp_path: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        model.graph.node[1].op_type = "NonZero"

    with pytest.raises(CompileError, match=r"NonZero \(node active\)"):
        build(tmp_path, Target("torch"), tiny_package(tmp_path, spoil))
    assert names(tmp_path) == ["model.onnx"]


@needs_compiler
def test_a_graph_that_does_not_run_is_one_clear_line(tmp_path: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(numbers(8, 5, 3, 3), "w"))

    with pytest.raises(CompileError, match=r"could not compile .*model\.onnx for cpu") as caught:
        build(tmp_path, Target("torch"), tiny_package(tmp_path, spoil))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["model.onnx"]


@pytest.mark.parametrize("device", ["gpu", "cpu:0", "cuda:x", "cuda:", ""])
def test_an_unknown_device_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(ArgumentError, match="expected cpu, cuda or cuda:N"):
        build(tmp_path, Target("torch", device=device))


@needs_compiler
def test_a_gpu_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="asked for cuda:99, but torch"):
        build(tmp_path, Target("torch", device="cuda:99"))


@needs_compiler
def test_a_precision_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="cannot compile int8 for cpu on this machine, only fp"):
        build(tmp_path, Target("torch", "int8"))


def test_without_a_compiler_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert _torch.support().precisions == ()
    assert "g++" in _torch.support().hint
    with pytest.raises(CompileError, match=r"install g\+\+"):
        build(tmp_path, Target("torch"))


def test_without_torch_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    found = _torch.support()
    assert (found.precisions, found.hint) == ((), "pip install 'reidkit[torch]'")


@needs_compiler
def test_a_broken_torch_is_told_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(name: str) -> None:
        raise OSError("libtorch.so: no such file\nand more")

    monkeypatch.setattr(_torch, "import_module", explode)
    assert _torch.support().hint.endswith("OSError: libtorch.so: no such file")
