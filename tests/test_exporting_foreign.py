from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reidkit.errors import ArgumentError, ExportError
from reidkit.exporting import _adapting, package_onnx
from reidkit.exporting._foreign import sha256_graph as hash_graph
from reidkit.package import InputSpec, Package, read_package
from reidkit.preprocess import prepare
from reidkit.runtimes import load_runtime
from tests import golden_networks as golden
from tests.test_networks import build, serialise

Form = Literal["flat", "map", "column", "last"]
Shape = list[str | int]

CONTRACT = InputSpec(height=16, width=8)
RAW = InputSpec(16, 8, colour="bgr", scale=1.0, mean=(0, 0, 0), std=(1, 1, 1))
SIZE = 5
FLOAT, HALF, BYTES = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8
NUMPY: dict[int, Any] = {FLOAT: np.float32, HALF: np.float16, BYTES: np.uint8}
SHAPES: dict[Form, list[int]] = {
    "flat": [0, -1],
    "map": [0, -1, 1, 1],
    "column": [0, -1, 1],
    "last": [0, 1, 1, -1],
}


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A small network as another tool might have exported it."""

    element: int = FLOAT
    layout: Literal["nchw", "nhwc"] = "nchw"
    form: Form = "flat"
    batch: str | int = "n"
    names: tuple[str, str] = ("input.1", "feat")

    def image_shape(self) -> Shape:
        sides: Shape = [3, 16, 8] if self.layout == "nchw" else [16, 8, 3]
        return [self.batch, *sides]

    def vector_shape(self) -> Shape:
        return [self.batch, *(SIZE if side < 0 else side for side in SHAPES[self.form][1:])]

    def model(self) -> onnx.ModelProto:
        source, target = self.names
        inner = FLOAT if self.element == BYTES else self.element
        random = np.random.default_rng(5)
        kernel = random.standard_normal((SIZE, 3, 3, 3)).astype(NUMPY[inner])
        nodes = []
        value = source
        if self.layout == "nhwc":
            nodes.append(helper.make_node("Transpose", [value], ["planes"], perm=[0, 3, 1, 2]))
            value = "planes"
        if self.element == BYTES:
            nodes.append(helper.make_node("Cast", [value], ["real"], to=FLOAT))
            value = "real"
        nodes += [
            helper.make_node("Conv", [value, "kernel"], ["mapped"], strides=[2, 2]),
            helper.make_node("Relu", ["mapped"], ["active"]),
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
            helper.make_node("Reshape", ["pooled", "form"], [target]),
        ]
        graph = helper.make_graph(
            nodes,
            "foreign",
            [helper.make_tensor_value_info(source, self.element, self.image_shape())],
            [helper.make_tensor_value_info(target, inner, self.vector_shape())],
            [
                numpy_helper.from_array(kernel, "kernel"),
                numpy_helper.from_array(np.array(SHAPES[self.form]), "form"),
            ],
        )
        return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])

    def save(self, folder: Path) -> Path:
        onnx.save_model(self.model(), folder / "foreign.onnx")
        return folder / "foreign.onnx"


def contract_of(foreign: Foreign) -> InputSpec:
    return RAW if foreign.element == BYTES else CONTRACT


def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(6).integers(0, 256, (8, 30, 20, 3), dtype=np.uint8)


def run_package(package: Package) -> NDArray[np.float32]:
    inputs = np.stack([prepare(picture, package.spec.input) for picture in crops()])
    runtime = load_runtime(package.engine_file, package.spec.engine)
    step = runtime.batch or len(inputs)
    parts = [runtime.run(inputs[start : start + step]) for start in range(0, len(inputs), step)]
    runtime.close()
    return np.concatenate(parts)


def run_raw(file: Path, foreign: Foreign, contract: InputSpec) -> NDArray[np.float32]:
    """Feed the file as it is, the way its own user would."""
    inputs = np.stack([prepare(picture, contract) for picture in crops()])
    if foreign.layout == "nhwc":
        inputs = np.ascontiguousarray(inputs.transpose(0, 2, 3, 1))
    inputs = inputs.astype(NUMPY[foreign.element])
    session = onnxruntime.InferenceSession(file)
    step = foreign.batch if isinstance(foreign.batch, int) else len(inputs)
    parts = [
        session.run(None, {foreign.names[0]: inputs[start : start + step]})[0]
        for start in range(0, len(inputs), step)
    ]
    return np.concatenate(parts).reshape(len(inputs), SIZE).astype(np.float32)


def change(file: Path, **changes: Any) -> Path:
    """Save a model again with graph fields replaced (`nodes`, `inputs`, `outputs`)."""
    model = onnx.load_model(file)
    for field, key in (("input", "inputs"), ("output", "outputs"), ("node", "nodes")):
        if key in changes:
            values = changes[key]
            model.graph.ClearField(field)
            getattr(model.graph, field).extend(values)
    onnx.save_model(model, file)
    return file


def info(name: str, shape: Shape | None, element: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


# What is accepted gives the vectors that the file gave by itself.


@pytest.mark.parametrize("element", [FLOAT, HALF, BYTES])
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("form", ["flat", "map", "column", "last"])
@pytest.mark.parametrize("batch", ["n", 4])
def test_the_package_gives_what_the_file_gave(
    tmp_path: Path,
    element: int,
    layout: Literal["nchw", "nhwc"],
    form: Form,
    batch: str | int,
) -> None:
    foreign = Foreign(element, layout, form, batch)
    contract = contract_of(foreign)
    file = foreign.save(tmp_path)
    package = package_onnx(file, tmp_path / "p", contract=contract)
    expected = run_raw(file, foreign, contract)
    found = run_package(package)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
    if element != HALF:
        assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    assert package.spec.engine.batch == (batch if isinstance(batch, int) else None)
    assert read_package(tmp_path / "p") == package
    alone = element == FLOAT and layout == "nchw" and form == "flat"
    assert package.spec.provenance["compared_with_source"] == ("yes" if alone else "no")


def test_the_file_has_the_package_names_and_types(tmp_path: Path) -> None:
    foreign = Foreign(BYTES, "nhwc", "map", 4)
    package = package_onnx(foreign.save(tmp_path), tmp_path / "p", contract=RAW)
    model = onnx.load_model(package.engine_file)
    onnx.checker.check_model(model, full_check=True)
    (image,), (vector,) = model.graph.input, model.graph.output
    assert image == info("image", [4, 3, 16, 8])
    assert vector == info("embedding", [4, SIZE])
    source = foreign.model().graph.node
    inside = list(model.graph.node)[2:-1]
    assert inside == list(source), "the original graph is untouched"
    operators = [node.op_type for node in model.graph.node]
    assert (operators[:2], operators[-1]) == (["Cast", "Transpose"], "Flatten")


def test_what_the_manifest_says(tmp_path: Path) -> None:
    foreign = Foreign()
    contract = dataclasses.replace(CONTRACT, resize="bicubic", neck="before")
    package = package_onnx(foreign.save(tmp_path), tmp_path / "p", contract=contract)
    spec = package.spec
    assert spec.input == dataclasses.replace(contract, neck="output")
    assert (spec.name, spec.architecture, spec.embedding_size) == ("foreign", "unknown", SIZE)
    recorded = {"reidkit", "onnx", "source", "source_sha256", "compared_with_source"}
    assert set(spec.provenance) == recorded
    assert str(tmp_path) not in json.dumps(dict(spec.provenance))


def test_the_same_file_gives_the_same_package(tmp_path: Path) -> None:
    file = Foreign(HALF, "nhwc", "last").save(tmp_path)
    for name in ("a", "b"):
        package_onnx(file, tmp_path / name, contract=CONTRACT)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    "names", [("image", "embedding"), ("embedding", "image"), ("x", "image.Cast")]
)
@pytest.mark.parametrize("element", [FLOAT, HALF])
def test_names_that_are_taken(tmp_path: Path, names: tuple[str, str], element: int) -> None:
    foreign = Foreign(element, "nhwc", "map", names=names)
    file = foreign.save(tmp_path)
    package = package_onnx(file, tmp_path / "p", contract=CONTRACT)
    expected = run_raw(file, foreign, CONTRACT)
    assert np.abs(run_package(package) - expected).max() <= 1e-3 * np.abs(expected).max()


def test_our_own_file_can_be_packaged(tmp_path: Path) -> None:
    model = build(golden.tensors("resnet18"), size=(32, 16))
    (tmp_path / "own.onnx").write_bytes(serialise(model))
    contract = InputSpec(height=32, width=16)
    package = package_onnx(tmp_path / "own.onnx", tmp_path / "p", contract=contract)
    assert package.spec.embedding_size == 512


def test_one_of_several_outputs(tmp_path: Path) -> None:
    foreign = Foreign()
    file = foreign.save(tmp_path)
    outputs = [info("pooled", ["n", SIZE, 1, 1]), info("feat", ["n", SIZE])]
    change(file, outputs=outputs)
    with pytest.raises(ExportError, match=r"2 outputs \(pooled \(\?, 5, 1, 1\), feat \(\?, 5\)\)"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)
    with pytest.raises(ExportError, match="no output 'logits', it has pooled"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT, output="logits")
    pooled, feat = (
        run_package(package_onnx(file, tmp_path / name, contract=CONTRACT, output=name))
        for name in ("pooled", "feat")
    )
    assert np.array_equal(pooled, feat)
    assert read_package(tmp_path / "feat").spec.provenance["compared_with_source"] == "no"


@pytest.mark.parametrize("sides", [["h", "w"], [16, "w"], [0, -1]])
def test_a_free_size_becomes_that_of_the_contract(tmp_path: Path, sides: Shape) -> None:
    file = change(Foreign().save(tmp_path), inputs=[info("input.1", ["n", 3, *sides])])
    package = package_onnx(file, tmp_path / "p", contract=CONTRACT)
    (image,) = onnx.load_model(package.engine_file).graph.input
    assert image == info("image", ["batch", 3, 16, 8])
    # No engine runs a side written as -1: the package says that there was nothing to compare.
    compared = "no" if -1 in sides else "yes"
    assert package.spec.provenance["compared_with_source"] == compared


@pytest.mark.parametrize("shape", [None, ["n", "c", "h", "w"], ["n", SIZE, "h", "w"]])
def test_an_open_output_shape_is_worked_out(tmp_path: Path, shape: Shape | None) -> None:
    file = Foreign(form="map").save(tmp_path)
    change(file, outputs=[info("feat", shape)])
    package = package_onnx(file, tmp_path / "p", contract=CONTRACT)
    assert package.spec.embedding_size == SIZE


def test_weights_listed_as_inputs_are_not_inputs(tmp_path: Path) -> None:
    file = Foreign().save(tmp_path)
    inputs = [info("kernel", [SIZE, 3, 3, 3]), info("input.1", ["n", 3, 16, 8])]
    package = package_onnx(change(file, inputs=inputs), tmp_path / "p", contract=CONTRACT)
    assert package.spec.embedding_size == SIZE


def test_weights_beside_the_file_move_into_it(tmp_path: Path) -> None:
    foreign = Foreign()
    folder = tmp_path / "in"
    folder.mkdir()
    file = folder / "big.onnx"
    onnx.save_model(
        foreign.model(), file, save_as_external_data=True, location="big.data", size_threshold=0
    )
    assert (folder / "big.data").is_file()
    package = package_onnx(file, tmp_path / "p", contract=CONTRACT)
    inside = package_onnx(foreign.save(tmp_path), tmp_path / "q", contract=CONTRACT)
    assert package.spec.weights_sha256 == inside.spec.weights_sha256
    (folder / "big.data").rename(tmp_path / "moved")
    assert np.array_equal(run_package(package), run_package(inside))
    with pytest.raises(ExportError, match=r"weights of .*big\.onnx cannot be read.*beside it"):
        package_onnx(file, tmp_path / "r", contract=CONTRACT)


def test_too_many_weights_for_one_file(tmp_path: Path) -> None:
    file = tmp_path / "huge.onnx"
    onnx.save_model(
        Foreign().model(), file, save_as_external_data=True, location="huge.data", size_threshold=0
    )
    with (tmp_path / "huge.data").open("r+b") as data:
        data.truncate(2**31)  # a hole: nothing is written
    with pytest.raises(ExportError, match=r"2147483648 bytes of weights.*float16"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)


# What is refused, and why.


def test_raw_pixels_need_a_raw_contract(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"input\.1 is uint8.*scale 1, mean 0,0,0"):
        package_onnx(Foreign(BYTES).save(tmp_path), tmp_path / "p", contract=CONTRACT)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([["n", 3, 16, 8], ["n", 2]], r"2 inputs \(a \(\?, 3, 16, 8\), b \(\?, 2\)\)"),
        ([["n", 3, 16]], r"a \(\?, 3, 16\) is not a picture"),
        ([None], r"a of unknown shape is not a picture"),
        ([["n", 1, 16, 8]], r"a \(\?, 1, 16, 8\) does not show its three channels"),
        ([["n", "c", "h", "w"]], r"a \(\?, \?, \?, \?\) does not show its three channels"),
        ([["n", 3, 16, 3]], r"a \(\?, 3, 16, 3\) may have its three channels"),
        ([["n", 3, 384, 128]], r"fixed to 384x128 \(height x width\), the contract says 16x8"),
        ([["n", 3, "h", 128]], r"fixed to \?x128 .* says 16x8"),
        ([["n", 128, 64, 3]], r"fixed to 128x64 .* says 16x8"),
        ([["n", 3, 8, 16]], r"fixed to 8x16 .* says 16x8"),
    ],
)
def test_inputs_that_are_refused(tmp_path: Path, inputs: list[Shape | None], words: str) -> None:
    values = [info(name, shape) for name, shape in zip("ab", inputs, strict=False)]
    file = change(Foreign(names=("a", "feat")).save(tmp_path), inputs=values)
    with pytest.raises(ExportError, match=words):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.onnx"]


@pytest.mark.parametrize(
    ("element", "name"), [(TensorProto.INT64, "int64"), (TensorProto.DOUBLE, "double")]
)
def test_input_types_that_are_refused(tmp_path: Path, element: int, name: str) -> None:
    inputs = [info("input.1", ["n", 3, 16, 8], element)]
    file = change(Foreign().save(tmp_path), inputs=inputs)
    with pytest.raises(ExportError, match=f"{name}, expected float32, float16 or uint8"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)


def test_an_open_layout_can_be_said(tmp_path: Path) -> None:
    foreign = Foreign(layout="nhwc")
    file = change(foreign.save(tmp_path), inputs=[info("input.1", ["n", "h", "w", "c"])])
    package = package_onnx(file, tmp_path / "p", contract=CONTRACT, layout="nhwc")
    assert np.allclose(run_package(package), run_raw(file, foreign, CONTRACT), rtol=1e-5)


def test_a_layout_that_contradicts_the_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="three channels in the layout 'nhwc'"):
        package_onnx(Foreign().save(tmp_path), tmp_path / "p", contract=CONTRACT, layout="nhwc")


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ([0, SIZE, 1, 1, 1], r"\(\?, 5, 1, 1, 1\), expected one vector"),
        ([1, 0, -1], r"expected one vector"),
        ([-1], r"\(\?\), expected one vector"),
    ],
)
def test_output_shapes_that_are_refused(tmp_path: Path, shape: list[int], words: str) -> None:
    file = Foreign().save(tmp_path)
    model = onnx.load_model(file)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array(shape), "form"))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save_model(model, file)
    with pytest.raises(ExportError, match=words):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)


def test_a_feature_map_is_not_a_vector(tmp_path: Path) -> None:
    file = Foreign().save(tmp_path)
    change(file, outputs=[info("active", ["n", SIZE, 7, 3])])
    with pytest.raises(ExportError, match=r"active has shape \(\?, 5, 7, 3\)"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)


def test_whole_numbers_are_not_a_vector(tmp_path: Path) -> None:
    file = Foreign().save(tmp_path)
    nodes = [*onnx.load_model(file).graph.node, helper.make_node("ArgMax", ["feat"], ["best"])]
    change(file, nodes=nodes, outputs=[info("best", ["n", SIZE], TensorProto.INT64)])
    with pytest.raises(ExportError, match="best is int64, expected floating point"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    file = Foreign().save(tmp_path)
    nodes = list(onnx.load_model(file).graph.node)
    extra = [helper.make_node("Neg", ["feat"], ["n"]), helper.make_node("Log", ["n"], ["bad"])]
    change(file, nodes=[*nodes, *extra], outputs=[info("bad", ["n", SIZE])])
    with pytest.raises(ExportError, match="NaN or infinity for 16 of 16 pictures"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)
    assert [path.name for path in tmp_path.iterdir()] == ["foreign.onnx"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "holds no graph"),
        (b"<html><body>404</body></html>", "is not an ONNX model"),
        (b"\x80\x02}q\x00.", "is not an ONNX model"),
        (None, "cannot be read: No such file"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, data: bytes | None, words: str) -> None:
    file = tmp_path / "model.onnx"
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(ExportError, match=rf"model\.onnx.*{words}"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path: Path, share: float) -> None:
    file = Foreign().save(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ExportError):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)


def test_a_package_that_exists_is_kept(tmp_path: Path) -> None:
    file = Foreign().save(tmp_path)
    package_onnx(file, tmp_path / "p", contract=CONTRACT)
    with pytest.raises(ArgumentError, match="exists already"):
        package_onnx(file, tmp_path / "p", contract=CONTRACT)
    package_onnx(file, tmp_path / "p", contract=CONTRACT, overwrite=True)


def test_an_adapter_that_changes_something_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adapt_wrongly(*arguments: Any, **options: Any) -> Any:
        adapted = _adapting.adapt(*arguments, **options)
        adapted.model.graph.node[0].op_type = "Neg"
        return adapted

    monkeypatch.setattr("reidkit.exporting._foreign.adapt", adapt_wrongly)
    with pytest.raises(ExportError, match="the file it was made from disagree"):
        package_onnx(Foreign().save(tmp_path), tmp_path / "p", contract=CONTRACT)


# Hashes of weights.


def sha256_graph(model: onnx.ModelProto) -> str:
    return hash_graph(model, "model.onnx")


def test_the_hash_of_a_graph_sees_weights_and_operators_only() -> None:
    model = Foreign().model()
    original = sha256_graph(model)
    model.producer_name = "another tool"
    model.graph.node[0].doc_string = "made on a Tuesday"
    model.graph.node[0].metadata_props.add(key="file", value="/home/somebody/train.py")
    assert sha256_graph(model) == original
    kernel = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(helper.make_tensor("kernel", FLOAT, [5, 3, 3, 3], kernel))
    assert sha256_graph(model) == original, "the way of storing them does not count"
    model.graph.node[0].attribute[0].ints[0] = 1
    assert sha256_graph(model) != original


def test_the_hash_of_a_graph_sees_constants() -> None:
    hashes = set()
    for value in (1.0, 2.0):
        model = Foreign().model()
        constant = numpy_helper.from_array(np.float32(value).reshape(1), "c")
        model.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=constant))
        hashes.add(sha256_graph(model))
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (TensorProto(name="short", dims=[4], data_type=FLOAT, raw_data=b"12345678"), "short"),
        (TensorProto(name="odd", dims=[2], data_type=FLOAT, raw_data=b"1234567"), "odd"),
        (TensorProto(name="untyped", dims=[1]), "untyped"),
        (TensorProto(name="strange", dims=[1], data_type=99, raw_data=b"1234"), "strange"),
        (TensorProto(name="red\x1b[31m", dims=[4], data_type=FLOAT), r"red\\x1b\[31m"),
    ],
)
def test_a_weight_that_cannot_be_read_is_named(
    tmp_path: Path, tensor: onnx.TensorProto, words: str
) -> None:
    model = Foreign().model()
    model.graph.initializer.append(tensor)
    (tmp_path / "bad.onnx").write_bytes(serialise(model))
    with pytest.raises(ExportError, match=rf"bad\.onnx is damaged: its weight {words} cannot"):
        package_onnx(tmp_path / "bad.onnx", tmp_path / "p", contract=CONTRACT)
    assert not (tmp_path / "p").exists()


def test_the_hash_of_a_graph_sees_strings(tmp_path: Path) -> None:
    hashes = set()
    values: list[tuple[list[int], list[bytes]]] = [
        ([2], [b"ab", b"c"]),
        ([2], [b"a", b"bc"]),
        ([2, 1], [b"ab", b"c"]),
        ([1], [b"abc"]),
        ([1], [b"\xff\xfe"]),
    ]
    for dims, strings in values:
        model = Foreign().model()
        model.graph.initializer.append(
            TensorProto(name="names", dims=dims, data_type=TensorProto.STRING, string_data=strings)
        )
        hashes.add(sha256_graph(model))
        model.graph.initializer[-1].doc_string = "a comment"
        assert sha256_graph(model) in hashes
    assert len(hashes) == len(values)
    onnx.save_model(model, tmp_path / "strings.onnx")
    package = package_onnx(tmp_path / "strings.onnx", tmp_path / "p", contract=CONTRACT)
    assert package.spec.embedding_size == SIZE


def test_names_in_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2Jinput\n"
    file = Foreign(names=(evil, "feat")).save(tmp_path)
    change(file, inputs=[info(evil, ["n", 1, 16, 8])])
    with pytest.raises(ExportError, match=r"input \\x1b\[2Jinput\\n \(\?, 1, 16, 8\)") as caught:
        package_onnx(file, tmp_path / "p", contract=CONTRACT)
    assert str(caught.value).isprintable()
