from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reidkit.errors import ExportError
from reidkit.exporting import _interface, _verifying
from reidkit.exporting._adapting import Adapted, adapt
from reidkit.exporting._foreign import holds_half
from reidkit.package import InputSpec
from reidkit.runtimes.fake import FakeRuntime

CONTRACT = InputSpec(height=16, width=8)
RAW = InputSpec(16, 8, scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))


def model_of(
    nodes: list[onnx.NodeProto],
    image: onnx.ValueInfoProto,
    vector: onnx.ValueInfoProto,
    *weights: onnx.TensorProto,
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", [image], [vector], list(weights))
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def value(name: str, shape: Any, element: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def averaging(element: int = TensorProto.FLOAT, opset: int = 17) -> onnx.ModelProto:
    """A graph whose vector is the mean of each channel."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["in"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["out"]),
    ]
    image, vector = value("in", ["n", 3, 16, 8], element), value("out", ["n", 3], element)
    return model_of(nodes, image, vector, opset=opset)


def run(adapted: Adapted, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(adapted.model.SerializeToString())
    (vectors,) = session.run(["embedding"], {"image": images})
    return np.asarray(vectors)


def images(count: int = 2) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((count, 3, 16, 8), dtype=np.float32)


# One vector a picture, by a plain reading of what is allowed.

sides = st.lists(st.sampled_from([None, 1, 1, 2, 5]), min_size=0, max_size=5).map(tuple)


@given(sides)
def test_the_vector_size_of_every_shape(dimensions: tuple[int | None, ...]) -> None:
    expected = None
    match dimensions:
        case (_, size) | (_, size, 1) | (_, size, 1, 1) | (_, 1, 1, size):
            expected = size
    assert _interface._vector_size(dimensions) == expected


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (["n", 3, 4], (None, 3, 4)),
        ([0, -1, 2], (None, None, 2)),
        ([None, 5], (None, 5)),
        ([], ()),
        (None, None),
    ],
)
def test_open_sides(written: Any, read: Any) -> None:
    assert _interface._dimensions(value("x", written)) == read


# The adapters.


def test_a_graph_that_fits_only_gets_names() -> None:
    adapted = adapt(averaging(), CONTRACT)
    assert [node.op_type for node in adapted.model.graph.node] == [
        "Identity",
        "GlobalAveragePool",
        "Flatten",
        "Identity",
    ]
    assert not adapted.converts
    assert np.allclose(run(adapted, images()), images().mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_old_and_new_operators(opset: int) -> None:
    adapted = adapt(averaging(TensorProto.FLOAT16, opset), CONTRACT)
    assert adapted.converts
    assert np.allclose(run(adapted, images()), images().mean((2, 3)), atol=2e-3)
    onnx.checker.check_model(adapted.model)


def test_every_byte_value_arrives() -> None:
    """Rounding in the cast to uint8 would lose values: all 256 come out as they went in."""
    nodes = [
        helper.make_node("Cast", ["in"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["out"]),
    ]
    model = model_of(nodes, value("in", ["n", 16, 8, 3], TensorProto.UINT8), value("out", ["n", 1]))
    model.graph.output[0].CopyFrom(value("out", ["n", 384]))
    pixels = (np.arange(384) % 256).astype(np.float32).reshape(1, 3, 16, 8)
    vectors = run(adapt(model, RAW), pixels)
    assert np.array_equal(vectors.reshape(16, 8, 3), pixels[0].transpose(1, 2, 0))


def test_a_name_used_in_a_branch_is_renamed_with_it() -> None:
    """The outer `image` is read inside an If: both ends must be renamed alike."""
    branches = [
        helper.make_graph(
            [helper.make_node(operator, ["image"], [f"{operator}_out"])],
            operator,
            [],
            [value(f"{operator}_out", ["n", 3, 16, 8])],
        )
        for operator in ("Neg", "Identity")
    ]
    nodes = [
        helper.make_node("If", ["yes"], ["x"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["embedding"]),
    ]
    yes = numpy_helper.from_array(np.array(True), "yes")
    model = model_of(nodes, value("image", ["n", 3, 16, 8]), value("embedding", ["n", 3]), yes)
    assert np.allclose(run(adapt(model, CONTRACT), images()), -images().mean((2, 3)), atol=1e-6)


def test_a_model_without_standard_operators_gets_them_for_its_adapters() -> None:
    node = helper.make_node("Thing", ["in"], ["out"], domain="maker")
    graph = helper.make_graph(
        [node], "graph", [value("in", ["n", 3, 16, 8])], [value("out", ["n", 4])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("maker", 1)])
    opsets = {opset.domain: opset.version for opset in adapt(model, CONTRACT).model.opset_import}
    assert opsets == {"maker": 1, "": 17}


def test_an_output_shape_that_nothing_tells() -> None:
    node = helper.make_node("Thing", ["in"], ["out"], domain="maker")
    graph = helper.make_graph([node], "graph", [value("in", ["n", 3, 16, 8])], [value("out", None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("maker", 1)])
    with pytest.raises(ExportError, match="out has no known shape"):
        adapt(model, CONTRACT)


@pytest.mark.parametrize(("batch", "found"), [("n", None), (None, None), (0, None), (7, 7)])
def test_the_batch_is_kept(batch: str | int | None, found: int | None) -> None:
    model = averaging()
    model.graph.input[0].CopyFrom(value("in", [batch, 3, 16, 8]))
    adapted = adapt(model, CONTRACT)
    assert adapted.batch == found
    side = adapted.model.graph.input[0].type.tensor_type.shape.dim[0]
    assert (side.dim_value or side.dim_param) == (found or "batch")


def test_which_models_compute_in_half() -> None:
    assert not holds_half(averaging())
    assert holds_half(averaging(TensorProto.FLOAT16))
    weight = numpy_helper.from_array(np.ones(3, np.float16), "w")
    model = averaging()
    model.graph.initializer.append(weight)
    assert holds_half(model)


# Batches, against one picture at a time.


@given(
    count=st.integers(1, 20), batch=st.integers(1, 9), sizes=st.lists(st.integers(1, 6), min_size=1)
)
def test_any_batches_give_the_rows_of_single_pictures(
    count: int, batch: int, sizes: list[int]
) -> None:
    inputs = np.random.default_rng(1).standard_normal((count, 3, 8, 4), dtype=np.float32)
    alone = np.concatenate([FakeRuntime(4).run(inputs[i : i + 1]) for i in range(count)])
    fixed = _verifying._run(FakeRuntime(4, batch=batch), inputs, [count])
    assert np.array_equal(fixed, alone)
    fitting = [size for i, size in enumerate(sizes) if sum(sizes[: i + 1]) <= count]
    if fitting:
        free = _verifying._run(FakeRuntime(4), inputs, fitting)
        assert np.array_equal(free, alone[: sum(fitting)])
