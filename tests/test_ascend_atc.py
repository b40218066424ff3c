"""`atc`: options, error codes, what is compiled, and the real compiler where it is there."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import networks
from reidkit.ascend._models import open_model
from reidkit.ascend._om import is_substitute, read_header, read_record
from reidkit.ascend.compiler import _atc, _real
from reidkit.ascend.compiler._codes import SOLUTIONS, explain
from reidkit.ascend.compiler._flags import read_flags, take_emulate
from reidkit.ascend.compiler._options import AtcOptions, name_output, parse_options
from reidkit.ascend.compiler._shapes import parse_gears, parse_shapes
from reidkit.ascend.compiler._tables import KNOWN
from reidkit.cli.ascend.atc import command
from reidkit.compiling import Target, compile_package
from reidkit.errors import AscendError, CompileError, EngineError, ExportError
from reidkit.exporting import export_package, read_interface
from reidkit.package import InputSpec, Package
from reidkit.runtimes.sessions import TensorSpec
from tests.checkpoint_files import write_zip
from tests.contract.test_runtimes import HEIGHT, SIZE, WIDTH, write_onnx
from tests.test_ascend_om import GUIDE

FLOAT = np.dtype(np.float32)
REQUIRED = ("--framework=5", "--soc_version=Ascend310P3", "--input_format=NCHW", "--log=debug")
SHAPE = f"image:1,3,{HEIGHT},{WIDTH}"
FREE = f"--input_shape=image:-1,3,{HEIGHT},{WIDTH}"


@pytest.fixture(autouse=True)
def no_toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide a toolkit that may be installed where the tests run."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH", _real.INSIDE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_real, "_USUAL_HOMES", ())


def name_as_the_guide_does(path: Path, *, size: str = "-1") -> Path:
    """Rename input and output, and leave the batch size open by the text `-1`."""
    model = onnx.load(path)
    names = {model.graph.input[0].name: "image", model.graph.output[0].name: "class"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
        value.type.tensor_type.shape.dim[0].dim_param = size
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Give a small network that looks as the guide's export does."""
    folder = tmp_path / "model"
    folder.mkdir()
    return name_as_the_guide_does(write_onnx(folder, None)[0])


def atc(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def compile_(model: Path, *arguments: str) -> Path:
    output = model.parent / "ReID_bs1"
    result = atc(*REQUIRED, f"--model={model}", f"--output={output}", *arguments)
    assert result.exit_code == 0, result.output
    return output.with_name("ReID_bs1.om")


def pictures(count: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.float32]:
    return np.random.default_rng(4).standard_normal((count, 3, height, width), dtype=np.float32)


def run_both(model: Path, om: Path, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    found = []
    for path in (model, om):
        session = open_model(path)
        found.append(session.run([pictures(count)]).outputs[0])
        session.close()
    return found[0], found[1]


# --- what it makes ----------------------------------------------------------------------------


def test_the_guides_command_makes_one_file(model: Path) -> None:
    output = model.parent / "ReID_bs1"
    result = atc(
        "--framework=5",
        f"--model={model}",
        f"--output={output}",
        "--input_format=NCHW",
        f"--input_shape={SHAPE}",
        "--log=debug",
        "--soc_version=Ascend310P3",
    )
    assert result.exit_code == 0
    assert result.stdout == (
        "ATC start working now, please wait for a moment.\n"
        "ATC run success, welcome to the next use.\n"
    )
    assert result.stderr == (
        "compiled for this machine: onnxruntime fp32 on cpu; precision_mode force_fp16 and "
        "soc_version Ascend310P3 recorded\n"
        "emulated without effect here: --log\n"
    )
    assert sorted(path.name for path in model.parent.iterdir()) == ["ReID_bs1.om", "model.onnx"]
    header, record = read_header(f"{output}.om"), read_record(f"{output}.om")
    assert is_substitute(f"{output}.om")
    assert header.inputs == (TensorSpec("image", FLOAT, (1, 3, HEIGHT, WIDTH)),)
    assert header.outputs == (TensorSpec("class", FLOAT, (1, SIZE)),)
    assert header.options["soc_version"] == "Ascend310P3"
    assert (record["runtime"], record["precision"], record["device"]) == (
        "onnxruntime",
        "fp32",
        "cpu",
    )


def test_the_suffix_is_added_once(model: Path) -> None:
    assert name_output("a/ReID_bs1") == Path("a/ReID_bs1.om")
    assert name_output("a/ReID_bs1.om") == Path("a/ReID_bs1.om")
    assert name_output("ReID.v2") == Path("ReID.v2.om")


def test_the_vectors_are_those_of_the_onnx_file(model: Path) -> None:
    for batch in (1, 4):
        om = compile_(model, f"--input_shape=image:{batch},3,{HEIGHT},{WIDTH}")
        expected, found = run_both(model, om, batch)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        session = open_model(om)
        with pytest.raises(EngineError, match="takes float32"):
            session.run([pictures(batch + 1)])
        session.close()


def test_a_real_network_of_the_guides_kind(tmp_path: Path) -> None:
    network = networks.Network("osnet_x0_25")
    tensors = networks.initial_tensors(network)
    checkpoint = write_zip(tmp_path / "x.pth", tensors)
    package = export_package(checkpoint, tmp_path / "p", contract=InputSpec(height=32, width=16))
    model = name_as_the_guide_does(package.engine_file)
    om = compile_(model, "--input_shape=image:-1,3,32,16", "--dynamic_batch_size=1,2,8")
    assert read_header(om).outputs[0].shape == (-1, 512)
    for count in (1, 2, 8):
        expected, found = run_both(model, om, count)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_gears_become_batch_sizes(model: Path) -> None:
    om = compile_(model, f"--input_shape=image:-1,3,{HEIGHT},{WIDTH}", "--dynamic_batch_size=4,1,2")
    session = open_model(om)
    assert session.batch_gears == (1, 2, 4)
    for gear in session.batch_gears:
        assert session.run([pictures(gear)]).outputs[0].shape == (gear, SIZE)
    with pytest.raises(EngineError, match="batches of 1, 2, 4"):
        session.run([pictures(3)])
    session.close()


def test_dynamic_dims_of_the_batch_alone_are_gears(model: Path) -> None:
    shape = f"--input_shape=image:-1,3,{HEIGHT},{WIDTH}"
    om = compile_(model, shape, "--dynamic_dims=1;4", "--input_format=ND")
    assert read_header(om).gears == (1, 4)


def test_a_free_batch_size_without_gears(model: Path) -> None:
    om = compile_(model, f"--input_shape=image:-1,3,{HEIGHT},{WIDTH}")
    expected, found = run_both(model, om, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert read_header(om).gears == ()


def test_a_fixed_model_needs_no_shape(tmp_path: Path) -> None:
    model, _ = write_onnx(tmp_path, 2)
    om = compile_(model)
    assert read_header(om).inputs[0].shape == (2, 3, HEIGHT, WIDTH)
    assert read_header(om).outputs[0].name == "embedding"


def test_pixels_go_through_aipp(model: Path) -> None:
    config = model.parent / "aipp.config"
    config.write_text(GUIDE)
    om = compile_(model, f"--input_shape={SHAPE}", f"--insert_op_conf={config}")
    assert read_header(om).inputs[0].shape == (1, HEIGHT, WIDTH, 3)
    assert read_header(om).inputs[0].dtype == np.uint8
    pixels = np.random.default_rng(0).integers(0, 256, (1, HEIGHT, WIDTH, 3), np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    floats = ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    session, plain = open_model(om), open_model(model)
    (found,), (expected,) = session.run([pixels]).outputs, plain.run([floats.copy()]).outputs
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    session.close()
    plain.close()


def test_half_types(model: Path) -> None:
    om = compile_(model, f"--input_shape={SHAPE}", "--output_type=FP16", "--input_fp16_nodes=image")
    session, plain = open_model(om), open_model(model)
    inputs = pictures(1).astype(np.float16)
    (found,), (expected,) = (
        session.run([inputs]).outputs,
        plain.run([inputs.astype(np.float32)]).outputs,
    )
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)
    session.close()
    plain.close()


def test_pixels_in_batches_to_choose_from(model: Path) -> None:
    config = model.parent / "aipp.config"
    config.write_text(GUIDE)
    gears = "--dynamic_batch_size=1,2"
    session = open_model(compile_(model, FREE, gears, f"--insert_op_conf={config}"))
    assert session.inputs[0].shape == (-1, HEIGHT, WIDTH, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), np.uint8)
    (both,), (first,) = session.run([pixels]).outputs, session.run([pixels[:1]]).outputs
    np.testing.assert_allclose(both[:1], first, rtol=1e-5, atol=1e-6)
    with pytest.raises(EngineError, match="batches of 1, 2"):
        session.run([np.concatenate([pixels, pixels])])
    session.close()


def test_a_half_network_keeps_its_types(model: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(model)), model)
    om = compile_(model, f"--input_shape={SHAPE}")
    session, plain = open_model(om), open_model(model)
    assert session.inputs[0].dtype == session.outputs[0].dtype == np.float16
    inputs = pictures(1).astype(np.float16)
    (found,), (expected,) = session.run([inputs]).outputs, plain.run([inputs]).outputs
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)
    session.close()
    plain.close()


def test_a_folder_that_is_missing_is_made(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "x"
    result = atc(*REQUIRED, f"--model={model}", f"--output={output}", f"--input_shape={SHAPE}")
    assert result.exit_code == 0
    assert output.with_name("x.om").is_file()


def test_showing_a_file(model: Path) -> None:
    om = compile_(model, f"--input_shape={SHAPE}")
    result = atc("--mode=6", f"--om={om}")
    assert result.exit_code == 0
    assert f"input 0: image float32 [1, 3, {HEIGHT}, {WIDTH}]" in result.stdout
    assert "soc_version: Ascend310P3" in result.stdout
    om.write_bytes(b"IMOD" + bytes(300))
    result = atc("--mode=6", f"--om={om}")
    assert result.exit_code == 1
    assert "not an .om file of reidkit" in result.stdout


# --- what it refuses --------------------------------------------------------------------------


def test_the_classic_says_what_to_add(model: Path) -> None:
    """Without `--input_shape` the open batch size of the guide's file is E10001."""
    result = atc(*REQUIRED, f"--model={model}", f"--output={model.parent / 'x'}")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[1] == (
        "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
    )
    assert lines[2].startswith(
        "E10001: Value [-1] for parameter [image] is invalid. Reason: maybe you should set "
        "input_shape to specify its shape."
    )
    assert lines[3].strip().startswith("Solution: ")
    assert f'--input_shape="{SHAPE}"' in lines[3]
    assert not (model.parent / "x.om").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([f"--input_shape=input:1,3,{HEIGHT},{WIDTH}"], "E10016", r"Opname \[input\].*\[image\]"),
        ([f"--input_shape=image:3,{HEIGHT},{WIDTH}"], "E10049", "3 sizes"),
        (["--input_shape=image:1,3,64,16"], "E10001", "size 2 of the model's input is 32, not 64"),
        (["--input_shape=image:0,3,32,16"], "E10011", r"Value \[0\]"),
        (["--input_shape=image:-2,3,32,16"], "E10011", r"Value \[-2\]"),
        (["--input_shape=image:1.5,3,32,16"], "E10002", "not a whole number"),
        (["--input_shape=1,3,32,16"], "E10002", "name:sizes"),
        (["--input_shape=image:1~8,3,32,16"], "E10048", "1~8"),
        (
            [FREE, "--dynamic_batch_size=1,2", "--dynamic_image_size=32,16;64,32"],
            "E10009",
            "At most one",
        ),
        (
            [FREE, "--dynamic_batch_size=1,2", "--dynamic_dims=1;2"],
            "E10009",
            "_size, --dynamic_dims",
        ),
        ([FREE, "--dynamic_batch_size=1,x"], "E10033", "digits"),
        ([FREE, "--dynamic_batch_size=4"], "E10035", "1 sizes"),
        ([FREE, f"--dynamic_batch_size={','.join(map(str, range(1, 102)))}"], "E10036", "101"),
        ([FREE, "--dynamic_batch_size=1,0"], "E10038", "0 is not"),
        ([FREE, "--dynamic_batch_size=1,2049"], "E10038", "2049 is not"),
        ([FREE, "--dynamic_batch_size=1,2,1"], "E10039", "1 is repeated"),
        ([f"--input_shape={SHAPE}", "--dynamic_batch_size=1,2"], "E10040", "No size of"),
        (["--input_shape=image:1,3,-1,16", "--dynamic_batch_size=1,2"], "E10001", "is 32, not -1"),
        ([FREE, "--dynamic_dims=1;2"], "E10001", "must be ND"),
        ([FREE, "--dynamic_dims=1;b", "--input_format=ND"], "E10042", "1;b"),
        ([FREE, "--input_format=NHWC"], "E10001", "NCHW, ND"),
        ([FREE, "--precision_mode=fp16"], "E10001", "force_fp16"),
        ([FREE, "--precision_mode=force_fp32", "--precision_mode_v2=fp16"], "E10047", "excludes"),
        ([FREE, "--output_type=UINT8"], "E10001", "FP32, FP16"),
        ([FREE, "--log=verbose"], "E10010", "verbose"),
        ([FREE, "--mode=1"], "E10001", "0, 6"),
        ([FREE, "--framework=3"], "E10007", "TensorFlow"),
        ([FREE, "--soc_version=Ascend"], "E10001", "chip_name"),
        ([FREE, "--soc_version=AscendAscend310P3"], "E10001", "already"),
        ([FREE, "--soc_version=ascend310p3"], "E10001", "such as Ascend310P3"),
        ([FREE, "--soc_version="], "E10054", "soc_version"),
        ([FREE, "--output="], "E10054", "output"),
        ([FREE, "--output=/"], "E10022", "no file name"),
        ([FREE, f"--output={'x' * 300}"], "E10021", "300 characters"),
        ([FREE, "--model="], "E10054", "model"),
        ([FREE, "--model=missing.onnx"], "E13000", "no such file"),
        ([FREE, f"--model={__file__}"], "E10041", "not an ONNX model"),
        ([FREE, "--enable_small_channel=yes"], "E10006", "1 or 0"),
        ([FREE, "--enable_single_stream=1"], "E10005", "true or false"),
        ([FREE, "--aicore_num=many"], "E10014", "many"),
        ([FREE, "--insert_op_conf=missing.config"], "E13001", "missing.config"),
        ([FREE, "--insert_op_conf=a", "--input_fp16_nodes=image"], "E10034", "excludes"),
        ([FREE, "--input_fp16_nodes=conv1"], "E10017", "conv1"),
    ],
)
def test_what_the_compiler_refuses_too(
    model: Path, arguments: list[str], code: str, message: str
) -> None:
    result = atc(*REQUIRED, f"--model={model}", f"--output={model.parent / 'x'}", *arguments)
    assert result.exit_code == 1
    with pytest.raises(AscendError, match=message) as caught:
        _atc.compile_om(
            parse_options(
                [*REQUIRED, f"--model={model}", f"--output={model.parent / 'x'}", *arguments]
            ),
            _ignore,
        )
    assert caught.value.code == code
    block = result.stdout.splitlines()[2:]
    assert block[0].startswith(f"{code}: ")
    assert block[-1].strip().startswith("Solution: ")
    assert next(explain("\n".join(block))).startswith(f"{code}: ")
    assert not (model.parent / "x.om").exists()


def _ignore(_: str) -> None:
    """Take a remark."""


def test_a_free_size_must_be_the_first(tmp_path: Path) -> None:
    model = onnx.load(write_onnx(tmp_path, None)[0])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, tmp_path / "free.onnx")
    arguments = [*REQUIRED, f"--model={tmp_path / 'free.onnx'}", f"--output={tmp_path / 'x'}"]
    shape = f"--input_shape=image:1,3,-1,{WIDTH}"
    with pytest.raises(AscendError) as caught:
        _atc.plan_interface(parse_options([*arguments, shape, "--dynamic_batch_size=1,2"]))
    assert caught.value.code == "E10018"
    with pytest.raises(AscendError, match="size of the pictures must be fixed"):
        _atc.plan_interface(parse_options([*arguments, shape]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dynamic_image_size=32,16;64,32"], "one file for each picture size"),
        (["--dynamic_dims=1,32;4,64", "--input_format=ND"], "the batch size alone"),
        (["--out_nodes=conv:0"], "--out_nodes is not emulated"),
        (["--input_shape_range=image:[1~8,3,32,16]"], "not emulated"),
        (["--is_input_adjust_hw_layout=true"], "not emulated"),
        (["--nonsense=1"], "unknown command line flag 'nonsense'"),
        (["--input-shap=1"], "did you mean --input_shape"),
        (["stray"], "'stray' is not an option"),
        (["--log"], "missing its argument"),
    ],
)
def test_what_is_not_emulated_is_refused_plainly(
    model: Path, arguments: list[str], message: str
) -> None:
    result = atc(*REQUIRED, f"--model={model}", f"--output={model.parent / 'x'}", *arguments)
    assert result.exit_code == 1
    assert message in result.stdout


def test_a_missing_framework_has_its_code(model: Path) -> None:
    result = atc(f"--model={model}", "--output=x", "--soc_version=Ascend310")
    assert result.stdout.splitlines()[2].startswith("E10007: ")


@pytest.mark.parametrize("kind", ["two outputs", "whole numbers", "words"])
def test_another_kind_of_network_is_pointed_to_bench(model: Path, kind: str) -> None:
    graph = onnx.load(model)
    if kind == "two outputs":
        graph.graph.output.append(graph.graph.output[0])
        graph.graph.output[1].name = "d"
    elif kind == "whole numbers":
        graph.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    else:
        del graph.graph.input[0].type.tensor_type.shape.dim[2:]
    onnx.save(graph, model)
    shape = f"image:1,3,{HEIGHT},{WIDTH}" if kind != "words" else "image:1,3"
    output = model.parent / "x"
    result = atc(*REQUIRED, f"--model={model}", f"--output={output}", f"--input_shape={shape}")
    assert result.exit_code == 1
    assert "reidkit ascend bench runs an .onnx file itself" in result.stdout


def test_a_network_that_does_not_run_is_refused(model: Path) -> None:
    graph = onnx.load(model)
    graph.graph.initializer[0].raw_data = bytes(len(graph.graph.initializer[0].raw_data))
    onnx.save(graph, model)
    output = model.parent / "x"
    result = atc(*REQUIRED, f"--model={model}", f"--output={output}", f"--input_shape={SHAPE}")
    assert result.exit_code == 1
    assert "the same vector for every picture" in result.stdout
    assert not output.with_name("x.om").exists()


# --- the grammar ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--input_shape=a:1", "--soc_version=x"],
        ["--input_shape", "a:1", "--soc_version", "x"],
        ["-input_shape=a:1", "-soc_version", "x"],
        ["--input-shape=a:1", "--soc-version", "x"],
        ["--input_shape=b:2", "--soc_version=x", "--input_shape=a:1", "--log="],
        ["--input_shape=a:1", "--soc_version=x", "--"],
    ],
)
def test_every_way_of_writing_an_option(arguments: list[str]) -> None:
    assert read_flags(arguments, KNOWN) == {"input_shape": "a:1", "soc_version": "x"}


def test_a_value_may_look_like_an_option_or_hold_signs() -> None:
    assert read_flags(["--output", "--x", "--model=a=b"], KNOWN) == {
        "output": "--x",
        "model": "a=b",
    }


@given(
    st.dictionaries(st.sampled_from(KNOWN), st.text(min_size=1, max_size=8), max_size=5),
    st.data(),
)
def test_what_is_written_is_read(values: dict[str, str], data: st.DataObject) -> None:
    arguments: list[str] = []
    for name, value in values.items():
        written = data.draw(st.sampled_from(["-", "--"])) + data.draw(
            st.sampled_from([name, name.replace("_", "-")])
        )
        arguments += data.draw(st.sampled_from([[f"{written}={value}"], [written, value]]))
    assert read_flags(arguments, KNOWN) == values


@given(st.lists(st.text(max_size=12), max_size=5))
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    with pytest.raises(AscendError):
        parse_options([*words, "--mode=3"])


def test_our_own_option_is_taken_out() -> None:
    assert take_emulate(["--a=1", "--emulate", "1", "--b"]) == (True, ["--a=1", "--b"])
    assert take_emulate(["--emulate=0", "--a", "1"]) == (False, ["--a", "1"])
    with pytest.raises(AscendError, match="expected 1 or 0"):
        take_emulate(["--emulate=yes"])


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,5}", fullmatch=True),
        st.lists(st.one_of(st.just(-1), st.integers(1, 9999)), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    )
)
def test_shapes_come_back(shapes: dict[str, list[int]]) -> None:
    text = ";".join(f"{name}:{','.join(map(str, sizes))}" for name, sizes in shapes.items())
    assert parse_shapes(text) == {name: tuple(sizes) for name, sizes in shapes.items()}
    assert parse_shapes(f"{text};") == parse_shapes(text)


@given(st.text(alphabet="image:,;-1~. ", max_size=20))
def test_any_shape_is_parsed_or_refused(text: str) -> None:
    shapes, code = {}, "E10002"
    try:
        shapes = parse_shapes(text)
    except AscendError as error:
        code = str(error.code)
    assert code in SOLUTIONS
    assert all(size == -1 or size > 0 for shape in shapes.values() for size in shape)


@given(st.sets(st.integers(1, 2048), min_size=2, max_size=100))
def test_gears_come_back_in_order(gears: set[int]) -> None:
    assert parse_gears(", ".join(map(str, gears))) == tuple(sorted(gears))


def test_options_without_effect_are_listed() -> None:
    options = parse_options(
        [*REQUIRED, "--model=a", "--output=b", "--auto_tune_mode=RL,GA", "--buffer_optimize="]
    )
    assert options.without_effect == ("log", "auto_tune_mode")
    assert options.given["auto_tune_mode"] == "RL,GA"


@pytest.mark.parametrize("chip", ["Ascend310", "310P3", "Ascend910_9391", "Ascend999X", "310B4"])
def test_a_chip_is_named_with_or_without_the_word(chip: str) -> None:
    arguments = ["--framework=5", "--model=a", "--output=b", f"--soc_version={chip}"]
    assert parse_options(arguments).given["soc_version"] == chip


@pytest.mark.parametrize(
    ("mode", "precision"),
    [
        ("--log=null", "fp16"),
        ("--precision_mode=force_fp32", "fp32"),
        ("--precision_mode=allow_mix_precision", "fp16"),
        ("--precision_mode_v2=origin", "fp32"),
    ],
)
def test_the_precision_of_a_gpu(mode: str, precision: str) -> None:
    assert parse_options([*REQUIRED, "--model=a", "--output=b", mode]).precision == precision


def test_a_gpu_is_tried_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_atc, "_supported_precisions", lambda: ("fp32", "fp16", "int8"))
    half, full = (Target("onnxruntime", name, 4, "cuda") for name in ("fp16", "fp32"))
    plain = Target("onnxruntime", "fp32", 4, "cpu")
    assert _atc.choose_targets("fp16", 4) == [half, full, plain]
    assert _atc.choose_targets("fp32", 4) == [full, plain]


def test_a_gpu_that_does_not_work_is_said(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def choose(_: str, batch: int | None) -> list[Target]:
        names = (("fp16", "cuda"), ("fp32", "cuda"), ("fp32", "cpu"))
        return [Target("onnxruntime", precision, batch, device) for precision, device in names]

    def compile_on_the_cpu(source: Package, out: Path, *, target: Target) -> Package:
        if target.device != "cpu":
            raise CompileError("no such device")
        return compile_package(source, out, target=target)

    monkeypatch.setattr(_atc, "choose_targets", choose)
    monkeypatch.setattr(_atc, "compile_package", compile_on_the_cpu)
    output = model.parent / "x"
    result = atc(*REQUIRED, f"--model={model}", f"--output={output}", f"--input_shape={SHAPE}")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[:3] == [
        "fp16 on cuda does not work here: no such device",
        "fp32 on cuda does not work here: no such device",
        "compiled for this machine: onnxruntime fp32 on cpu; precision_mode force_fp16 and "
        "soc_version Ascend310P3 recorded",
    ]


# --- the real compiler ------------------------------------------------------------------------

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Give what writes a program of that name into a folder."""

    def write(folder: str, body: str, name: str = "atc") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!{sys.executable}\nimport os, sys\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def test_the_real_compiler_gets_the_options_unchanged(install: Install) -> None:
    install("bin", "print(sys.argv[1:]); print('to stderr', file=sys.stderr)")
    arguments = ["--model=a b.onnx", "--input_shape", "image:1,3,256,128", "--new=$HOME;`x`", "-q"]
    result = atc(*arguments)
    assert result.exit_code == 0
    assert result.stdout == f"{arguments}\nto stderr\n" or result.stdout == (
        f"to stderr\n{arguments}\n"
    )
    assert result.stderr == ""


def test_its_failure_is_ours_and_its_codes_are_explained(install: Install) -> None:
    install(
        "bin",
        "print('ATC run failed')\n"
        "print('E10001: [PID: 12] 2024-01-01-00:00:00.000.000 Value [-1] for parameter [image] is '"
        "'invalid. Reason: maybe you should set input_shape to specify its shape.')\n"
        "print('        Solution: see E10002')\n"
        "print('EZ3002: op'); print('EE1001: soc'); print('E10001: again')\n"
        "sys.exit(255)",
    )
    result = atc("--model=x.onnx")
    assert result.exit_code == 255
    said = result.stderr.splitlines()
    assert [line.split(": ")[1] for line in said[:3]] == ["E10001", "EZ3002", "EE1001"]
    assert '--input_shape="image:1,3,256,128"' in said[0]
    assert "Python package" in said[1]
    assert "set_env.sh" in said[3]


def test_codes_in_old_brackets_and_new_text() -> None:
    old = "E10001: Value [-1] for parameter [image] is invalid. Reason: maybe you should"
    new = "E10001: [PID: 1] Value -1 for parameter image is invalid. Reason: maybe you should"
    for text in (old, new):
        (line,) = explain(text)
        assert 'add --input_shape="image:1,3,256,128"' in line
    assert list(explain("not at the start: E10001:")) == []
    assert next(explain("E99999: what")).startswith("E99999: Look the code up")


def test_its_output_comes_as_it_is_written(install: Install) -> None:
    install(
        "bin",
        "sys.stdout.write('half'); sys.stdout.flush()\n"
        "while not os.path.exists(sys.argv[1]): pass\n"
        "sys.stdout.buffer.write('\\u00e9\\n'.encode())",
    )
    found: list[str] = []
    mark = Path(_real.find_tool("atc") or "").with_name("go")

    def write(text: str) -> None:
        found.append(text)
        mark.touch()

    assert _atc.run_atc([str(mark)], write=write, remark=_ignore) == 0
    assert found[0] == "half"
    assert "".join(found) == "half\u00e9\n"


@pytest.mark.parametrize("folder", ["bin", "compiler/bin", "atc/bin"])
def test_it_is_found_in_the_toolkits_folder(
    install: Install, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = install(f"toolkit/{folder}", "print('real')")
    for home in ("ASCEND_TOOLKIT_HOME", "ASCEND_HOME_PATH"):
        assert _real.find_tool("atc", {home: str(tmp_path / "toolkit")}) == tool
    assert _real.find_tool("atc", {}) is None
    monkeypatch.setattr(_real, "_USUAL_HOMES", (str(tmp_path / "toolkit"),))
    assert atc("--anything").stdout == "real\n"


def test_emulate_forces_the_substitute(install: Install, model: Path) -> None:
    install("bin", "sys.exit(7)")
    assert atc("--emulate=0", "--log=null").exit_code == 7
    om = compile_(model, f"--input_shape={SHAPE}", "--emulate", "1")
    assert is_substitute(om)
    assert "emulate" not in read_header(om).options


def test_a_script_that_calls_us_does_not_call_itself(install: Install) -> None:
    install(
        "bin",
        "from reidkit.ascend.compiler._atc import run_atc\n"
        "print('within'); sys.stdout.flush()\n"
        "sys.exit(run_atc(sys.argv[1:], write=sys.stdout.write, remark=sys.stderr.write))",
    )
    result = atc("--framework=5")
    assert result.exit_code == 1
    assert "within\nATC start working now" in result.stdout
    assert "E10054: Required parameter [--model] is empty" in result.stdout


def test_a_program_that_a_signal_ended_failed(install: Install) -> None:
    install("bin", "import signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert atc("--framework=5").exit_code == 128 + 9


def test_a_program_that_does_not_start_is_named(install: Install) -> None:
    tool = install("bin", "")
    tool.write_text("#!/nothing/here\n")
    result = atc("--framework=5")
    assert isinstance(result.exception, AscendError)
    assert str(tool) in str(result.exception)


# --- reading a graph --------------------------------------------------------------------------


def test_an_interface_is_read_as_the_file_has_it(model: Path, tmp_path: Path) -> None:
    assert read_interface(model) == (
        (TensorSpec("image", FLOAT, (-1, 3, HEIGHT, WIDTH)),),
        (TensorSpec("class", FLOAT, (-1, SIZE)),),
    )
    for name, data in (("text.onnx", b"hello"), ("empty.onnx", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ExportError, match="not an ONNX model"):
            read_interface(tmp_path / name)
    with pytest.raises(ExportError, match="cannot be read"):
        read_interface(tmp_path / "missing.onnx")


def test_help_tells_the_options_and_loads_nothing() -> None:
    for word in ("--help", "--h"):
        result = atc("--framework=5", word)
        assert result.exit_code == 0
        assert "--dynamic_batch_size" in result.stdout


def test_options_are_a_value() -> None:
    assert AtcOptions({}) == AtcOptions({})
