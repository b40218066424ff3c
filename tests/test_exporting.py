from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.numpy import save_file

from reidkit import exporting
from reidkit.checkpoints import Checkpoint
from reidkit.errors import (
    ArgumentError,
    CheckpointError,
    EngineError,
    ExportError,
    IncompatibleCheckpointError,
)
from reidkit.exporting import _source, _verifying, _writing
from reidkit.package import Inputs, InputSpec, Package, read_package
from reidkit.preprocess import prepare
from reidkit.runtimes import load_runtime
from tests import golden_networks as golden
from tests.checkpoint_files import write_legacy, write_zip

SMALL = InputSpec(height=64, width=32)


def checkpoint(name: str = "resnet18", **changed: NDArray[Any]) -> Checkpoint:
    """The golden weights, some of them replaced (`__` in a name stands for a dot)."""
    replaced = {key.replace("__", "."): values for key, values in changed.items()}
    return Checkpoint(golden.tensors(name) | replaced, "torch zip", "state dict", "5" * 64)


def run(package: Package, inputs: Inputs) -> NDArray[np.float32]:
    runtime = load_runtime(package.engine_file, package.spec.engine)
    try:
        return runtime.run(inputs)
    finally:
        runtime.close()


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert found.shape == expected.shape
    peaks = np.abs(expected).max(axis=1, keepdims=True)
    return float((np.abs(found - expected) / peaks).max())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return exporting.export_package(
        checkpoint(), tmp_path_factory.mktemp("export") / "package", contract=SMALL
    )


# From a checkpoint.


def test_the_released_form_gives_the_golden_vectors(tmp_path: Path) -> None:
    file = write_legacy(tmp_path / "market_resnet50.pth", golden.tensors("resnet50"))
    package = exporting.export_package(file, tmp_path / "package")
    assert difference(run(package, golden.inputs(0)), golden.features("resnet50_after")) < 1e-5
    spec = package.spec
    assert (spec.name, spec.architecture) == ("market_resnet50", "resnet50")
    assert (spec.embedding_size, spec.input) == (2048, InputSpec())
    assert spec.provenance["source"] == "market_resnet50.pth"
    assert read_package(tmp_path / "package") == package


def test_the_vector_before_the_neck(tmp_path: Path) -> None:
    contract = InputSpec(neck="before")
    package = exporting.export_package(checkpoint(), tmp_path / "package", contract=contract)
    assert difference(run(package, golden.inputs(0)), golden.features("resnet18_before")) < 1e-5
    assert package.spec.input.neck == "before"


@pytest.mark.parametrize("asked", ["after", "before", "output"])
def test_without_bnneck_the_contract_says_so(
    tmp_path: Path, asked: Literal["after", "before", "output"]
) -> None:
    package = exporting.export_package(
        checkpoint("resnet50_noneck"), tmp_path / "package", contract=InputSpec(neck=asked)
    )
    assert (package.spec.input, package.spec.provenance["bnneck"]) == (
        InputSpec(neck="output"),
        "no",
    )
    assert "BNNeck" not in package.spec.input.describe()
    expected = golden.features("resnet50_noneck_after")
    assert difference(run(package, golden.inputs(0)), expected) < 1e-5


def test_the_last_stride_and_the_size_are_in_the_file(tmp_path: Path) -> None:
    package = exporting.export_package(
        checkpoint(),
        tmp_path / "package",
        architecture="resnet18",
        last_stride=2,
        contract=InputSpec(height=75, width=42),
    )
    vectors = run(package, golden.inputs(1))[:, :128]
    assert difference(vectors, golden.features("resnet18_stride2")) < 1e-5
    assert package.spec.provenance["last_stride"] == "2"


def test_reference_vectors_are_those_of_the_reference_pictures(package: Package) -> None:
    reference = package.reference()
    assert reference.pixels.shape == (16, 144, 60, 3)
    assert reference.vectors.shape == (16, 512)
    inputs = np.stack([prepare(picture, package.spec.input) for picture in reference.pixels])
    assert difference(run(package, inputs), reference.vectors) < 1e-5
    assert len(np.unique(reference.vectors, axis=0)) == 16


def test_the_folder_holds_the_package_and_nothing_else(package: Package) -> None:
    assert set(contents(package.folder)) == {"model.json", "model.onnx", "reference.npz"}
    assert [path.name for path in package.folder.parent.iterdir()] == ["package"]
    assert read_package(package.folder) == package


def test_the_same_checkpoint_gives_the_same_bytes(package: Package, tmp_path: Path) -> None:
    again = exporting.export_package(checkpoint(), tmp_path / "again", contract=SMALL)
    assert contents(again.folder) == contents(package.folder)


def test_a_value_has_no_file_name(package: Package) -> None:
    assert package.spec.name == "resnet18"
    recorded = {"reidkit", "onnx", "bnneck", "last_stride", "source_sha256"}
    assert set(package.spec.provenance) == recorded
    assert package.spec.provenance["bnneck"] == "yes"
    assert package.spec.provenance["source_sha256"] == "5" * 64


def test_the_container_leaves_no_trace_in_the_hashes(package: Package, tmp_path: Path) -> None:
    tensors = golden.tensors("resnet18")
    prefixed = {f"module.{key}": values for key, values in tensors.items()}
    lean = {key: v for key, v in tensors.items() if "classifier" not in key and "num" not in key}
    save_file(lean, tmp_path / "c.safetensors")
    files = [
        write_zip(tmp_path / "a.pth", tensors, wrap="model"),
        write_legacy(tmp_path / "b.pth", prefixed),
        tmp_path / "c.safetensors",
    ]
    for file in files:
        made = exporting.export_package(file, tmp_path / file.stem, contract=SMALL)
        assert made.spec.weights_sha256 == package.spec.weights_sha256
        assert made.spec.engine.sha256 == package.spec.engine.sha256


def test_one_bit_of_a_weight_changes_the_hashes(package: Package, tmp_path: Path) -> None:
    bias = golden.tensors("resnet18")["base.bn1.bias"].copy()
    bias[3] = np.nextafter(bias[3], np.float32(9))
    made = exporting.export_package(
        checkpoint(base__bn1__bias=bias), tmp_path / "p", contract=SMALL
    )
    assert made.spec.weights_sha256 != package.spec.weights_sha256
    assert made.spec.engine.sha256 != package.spec.engine.sha256


def test_a_package_is_replaced_only_when_asked(package: Package, tmp_path: Path) -> None:
    out = tmp_path / "package"
    exporting.export_package(checkpoint(), out, contract=SMALL)
    before = contents(out)
    with pytest.raises(ArgumentError, match="exists already"):
        exporting.export_package(checkpoint("resnet34"), out, contract=SMALL)
    assert contents(out) == before
    exporting.export_package(checkpoint("resnet34"), out, contract=SMALL, overwrite=True)
    assert read_package(out).spec.architecture == "resnet34"


def test_an_unusable_checkpoint_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    tensors = {k: v for k, v in golden.tensors("resnet18").items() if "layer3" not in k}
    file = write_zip(tmp_path / "half.pth", tensors)
    with pytest.raises(IncompatibleCheckpointError, match=r"half\.pth \(torch zip, state dict\): "):
        exporting.export_package(file, tmp_path / "package")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    with pytest.raises(CheckpointError, match=r"page\.pth"):
        exporting.export_package(tmp_path / "page.pth", tmp_path / "package")
    assert {path.name for path in tmp_path.iterdir()} == {"half.pth", "page.pth"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"contract": InputSpec(neck="output")}, "'output', expected 'after' or 'before'"),
        ({"contract": InputSpec(height=8)}, "8x128"),
        ({"architecture": "resnet"}, "'resnet', expected one of"),
        ({"last_stride": 0}, "last stride is 0"),
    ],
)
def test_impossible_arguments(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        exporting.export_package(checkpoint(), tmp_path / "package", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_network_that_explodes_is_not_packaged(tmp_path: Path) -> None:
    weights = np.full(64, 3e38, np.float32)
    broken = checkpoint(base__layer1__0__bn1__weight=weights, base__layer1__0__bn2__weight=weights)
    with pytest.raises(ExportError, match=r"NaN or infinity for \d+ of 16 pictures"):
        exporting.export_package(broken, tmp_path / "package", contract=SMALL)
    assert not list(tmp_path.iterdir())


def test_a_dead_network_is_not_packaged(tmp_path: Path) -> None:
    dead = checkpoint(base__conv1__weight=np.zeros((64, 3, 7, 7), np.float32))
    with pytest.raises(ExportError, match="same vector for every picture"):
        exporting.export_package(dead, tmp_path / "package", contract=SMALL)


def test_a_wrong_fold_is_not_packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = _source.build

    def build_wrongly(*arguments: Any, fold: bool) -> onnx.ModelProto:
        model = build(*arguments, fold=fold)
        if fold:
            weight = model.graph.initializer[2]
            values = onnx.numpy_helper.to_array(weight) * np.float32(1.01)
            weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
        return model

    monkeypatch.setattr(_source, "build", build_wrongly)
    with pytest.raises(ExportError, match="the network before folding disagree"):
        exporting.export_package(checkpoint(), tmp_path / "package", contract=SMALL)
    assert not list(tmp_path.iterdir())


def test_the_manifest_is_plain_json(package: Package) -> None:
    manifest = json.loads((package.folder / "model.json").read_text())
    assert manifest["format"] == 2
    assert manifest["input"]["height"] == 64
    assert manifest["engine"]["batch"] is None


# Verification.


def tiny(nodes: list[onnx.NodeProto], batch: str | int = "batch") -> onnx.ModelProto:
    """A graph from `image` (N, 3, 8, 4) to `embedding`."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 4])
    vector = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "tiny", [image], [vector])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def flat(source: str = "image", target: str = "embedding") -> onnx.NodeProto:
    return helper.make_node("Flatten", [source], [target])


def verify(tmp_path: Path, model: onnx.ModelProto, batch: int | None = None, **options: Any) -> Any:
    file = tmp_path / "model.onnx"
    engine = _writing.write_model(file, model, batch)
    return _verifying.verify(file, engine, pictures(), **options)


def pictures() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((16, 3, 8, 4), dtype=np.float32)


def test_verification_gives_the_vectors(tmp_path: Path) -> None:
    verified = verify(tmp_path, tiny([flat()]))
    assert np.array_equal(verified.vectors, pictures().reshape(16, -1))
    assert not verified.witnessed


@pytest.mark.parametrize("batch", [1, 3, 16, 20])
def test_a_fixed_batch_is_filled_up(tmp_path: Path, batch: int) -> None:
    verified = verify(tmp_path, tiny([flat()], batch), batch)
    assert np.array_equal(verified.vectors, pictures().reshape(16, -1))


@pytest.mark.parametrize(
    ("operator", "words"),
    [
        ("Sqrt", "NaN or infinity for 16 of 16 pictures"),
        ("Sign", "gives the same vector for every picture"),
    ],
)
def test_useless_vectors_are_refused(tmp_path: Path, operator: str, words: str) -> None:
    nodes = [helper.make_node(operator, ["image"], ["x"]), flat("x")]
    if operator == "Sign":
        nodes.insert(0, helper.make_node("Abs", ["image"], ["positive"]))
        nodes[1].input[0] = "positive"
    with pytest.raises(ExportError, match=words):
        verify(tmp_path, tiny(nodes))


def mixing() -> list[onnx.NodeProto]:
    """Nodes that subtract the batch's mean, as batch statistics left in a network would."""
    return [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        flat("centred"),
    ]


@pytest.mark.parametrize("batch", [None, 4])
def test_mixing_the_pictures_of_a_batch_is_refused(tmp_path: Path, batch: int | None) -> None:
    words = "batches of 1, 1, 1" if batch is None else "another order"
    with pytest.raises(ExportError, match=f"{words} disagree.*mixes the pictures"):
        verify(tmp_path, tiny(mixing(), batch or "batch"), batch)


def test_a_free_batch_that_is_not_free_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="does not run as it should"):
        verify(tmp_path, tiny([flat()], 4))


def test_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not run as it should.*NoSuchThing"):
        verify(tmp_path, tiny([helper.make_node("NoSuchThing", ["image"], ["embedding"])]))


@pytest.mark.parametrize(
    ("change", "agrees"), [(0, True), (5e-5, True), (3e-4, False), (np.nan, False)]
)
def test_witnesses_must_agree(tmp_path: Path, change: float, agrees: bool) -> None:
    def testify(inputs: Inputs) -> NDArray[np.float32]:
        vectors = inputs[:3].reshape(3, -1).astype(np.float32)
        vectors[1, 5] += change * np.abs(vectors[1]).max()
        return vectors

    witness = _verifying.Witness("the witness", testify)
    if agrees:
        assert verify(tmp_path, tiny([flat()]), witness=witness).witnessed
    else:
        with pytest.raises(ExportError, match="and the witness disagree"):
            verify(tmp_path, tiny([flat()]), witness=witness)
        verify(tmp_path, tiny([flat()]))


def test_a_witness_may_have_nothing_to_say(tmp_path: Path) -> None:
    witness = _verifying.Witness("the witness", lambda inputs: None)
    assert not verify(tmp_path, tiny([flat()]), witness=witness).witnessed


def test_a_witness_that_fails_is_heard(tmp_path: Path) -> None:
    def testify(inputs: Inputs) -> NDArray[np.float32]:
        raise EngineError("out of memory")

    witness = _verifying.Witness("the witness", testify)
    with pytest.raises(ExportError, match="the witness cannot be had: out of memory"):
        verify(tmp_path, tiny([flat()]), witness=witness)


def test_a_witness_of_another_length_disagrees(tmp_path: Path) -> None:
    def testify(inputs: Inputs) -> NDArray[np.float32]:
        return inputs[:2, 0].reshape(2, -1).astype(np.float32)

    witness = _verifying.Witness("the witness", testify)
    with pytest.raises(ExportError, match=r"\(2, 96\), but the witness are \(2, 32\)"):
        verify(tmp_path, tiny([flat()]), witness=witness)


numbers = st.floats(-100, 100, width=32)
pairs = arrays.array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=numbers),
        arrays.arrays(np.float32, shape, elements=numbers),
    )
)


@given(pairs)
def test_the_relative_difference_is_that_of_a_plain_loop(
    pair: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    first, second = pair
    worst = 0.0
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        peak = max([abs(value) for value in b] + [float(np.finfo(np.float32).tiny)])
        worst = max(worst, *(abs(x - y) / peak for x, y in zip(a, b, strict=True)))
    with np.errstate(over="ignore"):
        found = _verifying.relative_difference(first, second)
        assert found == pytest.approx(float(np.float32(worst)), rel=1e-5)


# Hashes.


def sha256(**tensors: NDArray[Any]) -> str:
    return _writing.sha256_tensors(tensors)


def test_the_hash_of_tensors_depends_on_everything_but_order_and_memory() -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.ones(3, np.float16)
    original = sha256(a=a, b=b)
    assert original == sha256(b=b, a=np.asfortranarray(a))
    assert original == sha256(b=np.ones(6, np.float16)[::2], a=a)
    others = [
        sha256(a=a),
        sha256(a=a, c=b),
        sha256(a=a.reshape(3, 2), b=b),
        sha256(a=a.view(np.int32), b=b),
        sha256(a=a, b=b.astype(np.float32)),
        sha256(a=a + 1, b=b),
        sha256(),
    ]
    assert len({original, *others}) == len(others) + 1


def test_the_hash_of_unusual_tensors() -> None:
    scalar = np.zeros((), np.float32)
    assert sha256(a=scalar) != sha256(a=np.zeros(1, np.float32))
    assert sha256(a=np.zeros(0, np.float32)) != sha256(a=np.zeros((0, 2), np.float32))
    assert sha256(a=np.zeros(2, ml_dtypes.bfloat16)) != sha256(a=np.zeros(2, np.float16))


def test_the_contract_is_not_in_the_hash_of_the_weights(package: Package, tmp_path: Path) -> None:
    contract = dataclasses.replace(SMALL, width=48)
    other = exporting.export_package(checkpoint(), tmp_path / "p", contract=contract)
    assert other.spec.weights_sha256 == package.spec.weights_sha256
    assert other.spec.engine.sha256 != package.spec.engine.sha256
