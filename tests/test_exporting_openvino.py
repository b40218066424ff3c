"""OpenVINO IRs made elsewhere, into packages."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from reidkit.cli.package import command
from reidkit.errors import ExportError
from reidkit.exporting import package_openvino
from reidkit.models import load_model
from reidkit.package import InputSpec, read_package

# Importing openvino outright, as pytest.importorskip does, would send an event to its maker.
if util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)

from reidkit.runtimes._openvino_library import import_openvino, read_model

HEIGHT, WIDTH, SIZE = 32, 16, 6
RAW = InputSpec(height=HEIGHT, width=WIDTH, scale=1, mean=(0, 0, 0), std=(1, 1, 1))
NORMALISED = InputSpec(height=HEIGHT, width=WIDTH)

openvino = import_openvino()
operators = openvino.opset8


def features(value: Any, *, keep: bool = True) -> Any:
    """Build a small network over (N, 3, H, W) float32, up to (N, 6, 1, 1) or (N, 6)."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((SIZE, 3, 3, 3)).astype(np.float32) / 5
    conv = operators.convolution(value, weights, [1, 1], [1, 1], [1, 1], [1, 1])
    return operators.reduce_mean(operators.relu(conv), np.array([2, 3]), keep)


def write_ir(
    folder: Path,
    shape: tuple[int, ...] = (-1, 3, HEIGHT, WIDTH),
    kind: Any = np.float32,
    *,
    keep: bool = True,
    end: Any = None,
    names: tuple[str, ...] = ("data",),
) -> Path:
    """Write an IR as another tool would."""
    parameter = operators.parameter(openvino.PartialShape(list(shape)), kind, name="pixels")
    if names:
        parameter.output(0).set_names(set(names))
    value = parameter
    if kind != np.float32:
        value = operators.convert(value, np.dtype(np.float32))
    if shape[1] != 3:
        value = operators.transpose(value, np.array([0, 3, 1, 2]))
    value = features(value, keep=keep)
    if end is not None:
        value = end(value)
    if names:
        value.output(0).set_names({"reid"})
    model = openvino.Model([operators.result(value)], [parameter], "elsewhere")
    openvino.serialize(model, str(folder / "reid.xml"))
    return folder / "reid.xml"


def run_plainly(file: Path, inputs: NDArray[Any]) -> NDArray[np.float32]:
    """Run an IR as a straightforward script does, batch by batch."""
    model = read_model(file)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = model.input().get_partial_shape()[0]
    batch = len(inputs) if rows.is_dynamic else rows.get_length()
    parts = [compiled(inputs[i : i + batch])[0].copy() for i in range(0, len(inputs), batch)]
    return np.concatenate(parts).reshape(len(inputs), -1).astype(np.float32)


def pixels(count: int) -> NDArray[np.uint8]:
    shape = (count, HEIGHT, WIDTH, 3)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


KINDS = [
    ((-1, 3, HEIGHT, WIDTH), np.float32),
    ((1, 3, HEIGHT, WIDTH), np.float32),
    ((4, 3, HEIGHT, WIDTH), np.float16),
    ((-1, HEIGHT, WIDTH, 3), np.uint8),
    ((1, HEIGHT, WIDTH, 3), np.uint8),
    ((-1, 3, -1, -1), np.uint8),
]


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(("shape", "kind"), KINDS)
def test_it_gives_what_a_plain_script_gives(
    tmp_path: Path, shape: tuple[int, ...], kind: Any, keep: bool
) -> None:
    file = write_ir(tmp_path, shape, kind, keep=keep)
    package = package_openvino(file, tmp_path / "out", contract=RAW)
    assert package.spec.engine.batch is None
    assert package.spec.embedding_size == SIZE
    crops = pixels(8)
    fed = crops if shape[-1] == 3 else np.ascontiguousarray(crops.transpose(0, 3, 1, 2))
    expected = run_plainly(file, fed.astype(kind))
    with load_model(read_package(package.folder)) as model:
        assert model.runtime.name == "openvino"
        vectors = model.run(crops.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-3)


def test_what_the_package_says(tmp_path: Path) -> None:
    from reidkit import disk

    file = write_ir(tmp_path)
    package = package_openvino(file, tmp_path / "out", contract=NORMALISED)
    spec = package.spec
    assert (spec.name, spec.architecture, spec.input.neck) == ("reid", "unknown", "output")
    assert (spec.engine.file, list(spec.engine.companions)) == ("model.xml", ["model.bin"])
    assert (spec.engine.runtime, spec.engine.precision) == ("openvino", "fp32")
    assert spec.provenance["source"] == "reid.xml"
    assert spec.provenance["source_sha256"] == disk.sha256_file(file)
    weights = file.with_suffix(".bin")
    assert spec.provenance["source_weights_sha256"] == disk.sha256_file(weights)
    assert spec.provenance["openvino"] == openvino.__version__
    assert spec.provenance["compared_with_source"] == "yes"
    assert "onnx" not in spec.provenance
    assert str(tmp_path) not in package.engine_file.read_text()


def test_the_same_ir_makes_the_same_package(tmp_path: Path) -> None:
    file = write_ir(tmp_path)
    first = package_openvino(file, tmp_path / "first", contract=NORMALISED)
    second = package_openvino(file, tmp_path / "second", contract=NORMALISED)
    assert first.spec == second.spec


def test_other_weights_have_another_hash(tmp_path: Path) -> None:
    file = write_ir(tmp_path)
    first = package_openvino(file, tmp_path / "first", contract=NORMALISED)
    weights = file.with_suffix(".bin")
    values = np.fromfile(weights, np.float32, count=SIZE * 27)
    data = (values * np.float32(2)).tobytes() + weights.read_bytes()[4 * SIZE * 27 :]
    weights.write_bytes(data)
    second = package_openvino(file, tmp_path / "second", contract=NORMALISED)
    assert first.spec.weights_sha256 != second.spec.weights_sha256


def test_a_batch_size_held_inside_stays_fixed(tmp_path: Path) -> None:
    def end(value: Any) -> Any:
        return operators.reshape(value, np.array([2, SIZE], np.int64), False)

    file = write_ir(tmp_path, (2, 3, HEIGHT, WIDTH), end=end)
    package = package_openvino(file, tmp_path / "out", contract=NORMALISED)
    assert package.spec.engine.batch == 2
    with load_model(package) as model:
        assert model.run(np.zeros((1, 3, HEIGHT, WIDTH), np.float32)).shape == (1, SIZE)


def test_a_batch_that_is_right_in_one_size_only_stays_fixed(tmp_path: Path) -> None:
    def end(value: Any) -> Any:
        mean = operators.reduce_mean(value, np.array([0]), True)
        return operators.add(value, mean)

    file = write_ir(tmp_path, (1, 3, HEIGHT, WIDTH), end=end)
    assert package_openvino(file, tmp_path / "out", contract=NORMALISED).spec.engine.batch == 1


def test_names_are_taken_over_where_something_else_has_them(tmp_path: Path) -> None:
    file = write_ir(tmp_path, names=("embedding",))
    package = package_openvino(file, tmp_path / "out", contract=NORMALISED)
    model = read_model(package.engine_file)
    assert model.input().get_names() == {"image"}
    assert "embedding" in model.output().get_names()


def test_an_ir_without_names(tmp_path: Path) -> None:
    file = write_ir(tmp_path, names=())
    package = package_openvino(file, tmp_path / "out", contract=NORMALISED)
    assert read_model(package.engine_file).input().get_names() == {"image"}


def write_parts(folder: Path, inputs: int, outputs: int) -> Path:
    shape = [-1, 3, HEIGHT, WIDTH]
    parameters = [
        operators.parameter(openvino.PartialShape(shape), np.float32, name=f"in{i}")
        for i in range(inputs)
    ]
    total = parameters[0]
    for parameter in parameters[1:]:
        total = operators.add(total, parameter)
    results = []
    for i in range(outputs):
        value = operators.multiply(features(total, keep=False), np.float32(i + 1))
        value.output(0).set_names({f"out{i}"})
        results.append(operators.result(value))
    openvino.serialize(openvino.Model(results, parameters, "m"), str(folder / "reid.xml"))
    return folder / "reid.xml"


def refuse(file: Path, tmp_path: Path, said: str, **options: Any) -> None:
    contract = options.pop("contract", NORMALISED)
    with pytest.raises(ExportError, match=said):
        package_openvino(file, tmp_path / "out", contract=contract, **options)
    assert not (tmp_path / "out").exists()


def test_two_inputs_are_listed(tmp_path: Path) -> None:
    refuse(write_parts(tmp_path, 2, 1), tmp_path, "has 2 inputs .*in0.*in1")


def test_of_several_outputs_one_is_named(tmp_path: Path) -> None:
    file = write_parts(tmp_path, 1, 2)
    refuse(file, tmp_path, "has 2 outputs .*out0.*out1")
    refuse(file, tmp_path, "has no output 'nope'", output="nope")
    package = package_openvino(file, tmp_path / "out", contract=NORMALISED, output="out1")
    inputs = np.random.default_rng(0).standard_normal((3, 3, HEIGHT, WIDTH), np.float32)
    with load_model(package) as model:
        found = model.run(inputs)
    np.testing.assert_allclose(found, 2 * run_plainly(file, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kind", "said"),
    [
        ((-1, 3, 64, WIDTH), np.float32, "fixed to 64x16 .* contract says 32x16"),
        ((-1, 3, HEIGHT, WIDTH), np.uint8, "takes raw pixels"),
        ((-1, 3, HEIGHT, WIDTH), np.int32, "int32, expected float32, float16 or uint8"),
    ],
)
def test_a_wrong_input(tmp_path: Path, shape: tuple[int, ...], kind: Any, said: str) -> None:
    refuse(write_ir(tmp_path, shape, kind), tmp_path, said)


def test_an_output_that_is_no_vector(tmp_path: Path) -> None:
    def end(value: Any) -> Any:
        return operators.tile(value, np.array([1, 1, 2, 2]))

    refuse(write_ir(tmp_path, end=end), tmp_path, "expected one vector for each picture")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refuse(tmp_path / "none.xml", tmp_path, r"none\.xml does not exist")
    file = write_ir(tmp_path)
    file.with_suffix(".bin").unlink()
    refuse(file, tmp_path, r"reid\.bin does not exist: .*reid\.xml needs it")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    file = write_ir(tmp_path)
    weights, graph = file.with_suffix(".bin").read_bytes(), file.read_bytes()
    file.with_suffix(".bin").write_bytes(weights[:50])
    refuse(file, tmp_path, r"reid\.xml .*damaged: .*Incorrect weights")
    file.with_suffix(".bin").write_bytes(weights)
    for damaged in (b"", b"hello", b"<html></html>", graph[: len(graph) // 2]):
        file.write_bytes(damaged)
        refuse(file, tmp_path, r"reid\.xml is not an OpenVINO model")


def test_nan_in_the_weights_is_found(tmp_path: Path) -> None:
    file = write_ir(tmp_path)
    weights = file.with_suffix(".bin")
    data = np.full(SIZE * 27, np.nan, np.float32).tobytes()
    weights.write_bytes(data + weights.read_bytes()[len(data) :])
    # A rectifier turns NaN into 0 in some engines: every picture then has the same vector.
    refuse(file, tmp_path, "NaN or infinity|same vector for every picture")


def test_the_command_takes_an_ir(tmp_path: Path) -> None:
    file = write_ir(tmp_path)
    arguments = [str(file), str(tmp_path / "out"), "--size", "32x16", "--colour", "rgb"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert read_package(tmp_path / "out").spec.engine.runtime == "openvino"
