"""The guide's export step, and the same configuration files in `reidkit export`."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from onnx import numpy_helper

from reidkit import disk, exporting
from reidkit.checkpoints import Checkpoint
from reidkit.cli import main
from reidkit.cli.ascend.pth2onnx import command
from reidkit.configs import read_config
from reidkit.errors import ArgumentError, CheckpointError, ExportError, IncompatibleCheckpointError
from reidkit.exporting import OnnxExport, OnnxOptions, _onnx_file, _source
from reidkit.package import InputSpec, read_package
from tests import golden_networks as golden
from tests.checkpoint_files import Call, module, write_legacy, write_zip

YAML = """
MODEL: {NAME: resnet18, PRETRAIN_PATH: /home/somebody/resnet18.pth}
INPUT: {SIZE_TEST: [64, 32]}
DATASETS: {NAMES: ('market1501')}
TEST: {WEIGHT: "path"}
"""
SMALL = InputSpec(height=64, width=32)


def pth2onnx(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def well(*arguments: object) -> Result:
    result = pth2onnx(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def checkpoint(name: str = "resnet18") -> Checkpoint:
    return Checkpoint(golden.tensors(name), "torch zip", "state dict", "5" * 64)


def run(file: Path, inputs: NDArray[np.float32], name: str = "image") -> NDArray[np.float32]:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    (vectors,) = session.run(None, {name: inputs})
    assert vectors.dtype == np.float32
    return np.asarray(vectors)


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert found.shape == expected.shape
    return float((np.abs(found - expected) / np.abs(expected).max(axis=1, keepdims=True)).max())


def pictures(count: int = 3) -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((count, 3, 64, 32), dtype=np.float32)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with the configuration in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yml").write_text(YAML)
    return tmp_path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zip(tmp_path_factory.mktemp("weights") / "r18.pth", golden.tensors("resnet18"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> OnnxExport:
    out = tmp_path_factory.mktemp("made") / "after.onnx"
    return exporting.export_onnx(checkpoint(), out, contract=SMALL)


# The guide's own command.


@pytest.mark.slow
def test_the_guides_command_with_the_released_form(here: Path) -> None:
    """A flat legacy state dict of a resnet50 -> ReID.onnx in the current folder."""
    file = write_legacy(
        here / "market_resnet50_model_120_rank1_945.pth", golden.tensors("resnet50")
    )
    (here / "g.yml").write_text("INPUT:\n  SIZE_TEST: [256, 128]\nTEST:\n  WEIGHT: 'path'\n")
    result = well(
        "--config_file=g.yml", "MODEL.PRETRAIN_CHOICE", "('self')", "TEST.WEIGHT", f"('{file}')"
    )
    model = onnx.load_model(here / "ReID.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 11)]
    (image,), (vector,) = model.graph.input, model.graph.output
    for found, name, sizes in ((image, "image", [0, 3, 256, 128]), (vector, "class", [0, 2048])):
        axes = found.type.tensor_type.shape.dim
        assert (found.name, axes[0].dim_param) == (name, "-1")
        assert [axis.dim_value for axis in axes] == sizes
    vectors = run(here / "ReID.onnx", golden.inputs(0))
    assert difference(vectors, golden.features("resnet50_after")) < 1e-5
    assert "ReID.onnx: resnet50, last stride 1, opset 11" in result.stdout
    assert "input image: float32 N (free, named -1) x 3 x 256 x 128" in result.stdout
    assert "output class: float32 N (free, named -1) x 2048, after the BNNeck" in result.stdout
    assert disk.sha256_file(here / "ReID.onnx") in result.stdout
    assert re.search(r"verified: largest relative difference .* \d\.\de-\d\d", result.stdout)
    assert result.stderr == ""


def test_before_and_after_differ_exactly_by_the_bnneck(
    here: Path, weights: Path, made: OnnxExport
) -> None:
    result = well(
        "--config_file=c.yml", "-o", "before.onnx", "TEST.WEIGHT", weights,
        "TEST.NECK_FEAT", "('before')", "TEST.FEAT_NORM", "('no')",
    )  # fmt: skip
    assert result.stderr.startswith("remark: TEST.FEAT_NORM 'no' changes nothing")
    assert "before the BNNeck" in result.stdout
    before, after = onnx.load_model("before.onnx"), onnx.load_model(made.file)
    assert [node.op_type for node in after.graph.node[-2:]] == ["Mul", "Add"]
    assert [node.op_type for node in before.graph.node] == [
        node.op_type for node in after.graph.node[:-2]
    ]
    shared = {tensor.name: tensor.raw_data for tensor in before.graph.initializer}
    more = {tensor.name: tensor for tensor in after.graph.initializer}
    scale, shift = (
        numpy_helper.to_array(more.pop(f"bottleneck.{part}")) for part in ("scale", "shift")
    )
    assert shared == {name: tensor.raw_data for name, tensor in more.items()}
    plain = run(here / "before.onnx", pictures())
    assert difference(plain * scale + shift, run(made.file, pictures())) < 1e-6
    neck = {
        key: values for key, values in golden.tensors("resnet18").items() if "bottleneck" in key
    }
    centred = plain - neck["bottleneck.running_mean"]
    normed = centred / np.sqrt(neck["bottleneck.running_var"] + 1e-5)
    expected = normed * neck["bottleneck.weight"] + neck["bottleneck.bias"]
    assert difference(run(made.file, pictures()), expected) < 1e-5


def test_what_it_says_as_json(here: Path, weights: Path, made: OnnxExport) -> None:
    said = json.loads(well("--config_file=c.yml", "--json", "TEST.WEIGHT", weights).stdout)
    assert said.pop("difference") < 1e-5
    assert said == {
        "out": "ReID.onnx",
        "sha256": made.sha256,
        "architecture": "resnet18",
        "last_stride": 1,
        "neck": "after",
        "opset": 11,
        "input": {"name": "image", "dtype": "float32", "shape": ["-1", 3, 64, 32]},
        "output": {"name": "class", "dtype": "float32", "shape": ["-1", 512]},
        "contract": SMALL.describe(),
    }


def test_options_come_before_the_pairs(here: Path, weights: Path) -> None:
    said = json.loads(
        well("--config-file", "c.yml", "--opset", 13, "--json", "TEST.WEIGHT", weights).stdout
    )
    assert said["opset"] == 13
    result = pth2onnx("--config_file=c.yml", "TEST.WEIGHT", weights, "--opset", "13")
    assert isinstance(result.exception, ArgumentError)
    assert "no key '--opset'" in str(result.exception)
    for arguments in (["TEST.WEIGHT", weights], ["--config_file=c.yml", "--opset", "9"]):
        assert pth2onnx(*arguments).exit_code == 2


def test_it_replaces_the_file_but_only_with_a_good_one(here: Path, weights: Path) -> None:
    (here / "ReID.onnx").write_text("the older one")
    (here / "page.pth").write_text("<html>not found</html>")
    for bad in ("page.pth", "missing.pth", here):
        assert pth2onnx("--config_file=c.yml", "TEST.WEIGHT", bad).exit_code == 1
        assert (here / "ReID.onnx").read_text() == "the older one"
    well("--config_file=c.yml", "TEST.WEIGHT", weights)
    assert run(here / "ReID.onnx", pictures()).shape == (3, 512)
    assert sorted(path.name for path in here.iterdir()) == ["ReID.onnx", "c.yml", "page.pth"]


# Checkpoints in every form that people have.


def as_module(tensors: Mapping[str, object], name: str = "modeling.baseline.Baseline") -> object:
    """A whole pickled network, one module in another as the dots in the names say."""
    inner: dict[str, dict[str, object]] = {}
    own: dict[str, object] = {}
    for key, value in tensors.items():
        first, _, rest = key.partition(".")
        if rest:
            inner.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    statistics = {key for key in own if key.startswith(("running", "num_batches"))}
    return module(
        name,
        parameters={key: value for key, value in own.items() if key not in statistics},
        buffers={key: value for key, value in own.items() if key in statistics},
        modules={key: as_module(part, "torch.nn.Module") for key, part in inner.items()},
    )


def pickled(content: object) -> object:
    assert isinstance(content, Call)
    assert content.items is not None
    return as_module(content.items)


def optimizer(content: object) -> object:
    assert isinstance(content, Call)
    assert content.items is not None
    state = {i: {"exp_avg": value} for i, value in enumerate(content.items.values())}
    return {"state": state, "param_groups": [{"lr": 3.5e-4}]}


def test_every_form_of_a_checkpoint_gives_the_same_file(here: Path, made: OnnxExport) -> None:
    """Flat, pickled whole, under 'model', with the prefix of DataParallel, without counters."""
    tensors = golden.tensors("resnet18")
    prefixed = {f"module.{key}": values for key, values in tensors.items()}
    lean = {key: v for key, v in tensors.items() if "num_batches" not in key}
    headless = {key: v for key, v in tensors.items() if "classifier" not in key}
    forms = [
        write_legacy(here / "flat.pth", tensors),
        write_legacy(here / "whole.pth", tensors, wrap=pickled),
        write_zip(here / "whole_zip.pth", tensors, wrap=pickled),
        write_zip(here / "under.pth", tensors, wrap="model"),
        write_legacy(here / "parallel.pth", prefixed),
        write_zip(here / "lean.pth", lean),
        write_zip(here / "headless.pth", headless),
    ]
    config = here / "c.yml"
    for form in forms:
        source = _source.read_configured(read_config(config, ["TEST.WEIGHT", str(form)]))
        for key, values in source.used_tensors().items():
            assert np.array_equal(values, tensors[key]), form.name
    for form in forms[1:5:3]:
        well("--config_file=c.yml", "TEST.WEIGHT", form)
        assert disk.sha256_file(here / "ReID.onnx") == made.sha256


def test_files_that_are_no_checkpoint_are_named(here: Path) -> None:
    few = {key: v for key, v in golden.tensors("resnet18").items() if key.startswith("bottleneck")}
    half = {key: v for key, v in golden.tensors("resnet18").items() if "layer3" not in key}
    write_zip(here / "optimizer.pth", few, wrap=optimizer)
    write_zip(here / "half.pth", half)
    (here / "page.pth").write_text("<html><title>Quota exceeded</title></html>")
    for name, words in (
        ("optimizer.pth", "holds an optimizer's state"),
        ("half.pth", "missing: base.layer3.0.conv1.weight"),
        ("page.pth", "is an HTML page with the title 'Quota exceeded'"),
    ):
        result = pth2onnx("--config_file=c.yml", "TEST.WEIGHT", name)
        assert isinstance(result.exception, CheckpointError)
        assert name in str(result.exception)
        assert words in str(result.exception)
    assert not (here / "ReID.onnx").exists()


@pytest.mark.parametrize("pairs", [[], ["TEST.WEIGHT", ""], ["TEST.WEIGHT", "None"]])
def test_without_a_checkpoint_the_message_says_where_it_goes(here: Path, pairs: list[str]) -> None:
    result = pth2onnx("--config_file=c.yml", *pairs)
    assert isinstance(result.exception, ArgumentError)
    state = "is empty" if pairs else "is 'path', which does not exist"
    assert f"TEST.WEIGHT {state}: pass TEST.WEIGHT and the checkpoint's" in str(result.exception)


# A configuration against the checkpoint.


@pytest.mark.parametrize(
    ("name", "pairs", "words"),
    [
        ("resnet18", "MODEL.NAME resnet50", "checkpoint of resnet18, but MODEL.NAME is 'resnet50'"),
        (
            "resnet18",
            "MODEL.NECK no",
            """MODEL.NECK is 'no': write MODEL.NECK "('bnneck')\"""",
        ),
        ("resnet50_noneck", "MODEL.NAME resnet50", "has no BNNeck, but MODEL.NECK is 'bnneck'"),
    ],
)
def test_contradictions_are_named(here: Path, name: str, pairs: str, words: str) -> None:
    config = read_config(here / "c.yml", pairs.split())
    for export in (exporting.export_configured_onnx, exporting.export_configured_package):
        with pytest.raises(IncompatibleCheckpointError, match=re.escape(words)):
            export(config, here / "out.onnx", checkpoint=checkpoint(name))
    assert not (here / "out.onnx").exists()


def test_an_unknown_network_is_named(here: Path) -> None:
    config = read_config(here / "c.yml", ["MODEL.NAME", "resnet51"])
    with pytest.raises(ArgumentError, match=r"MODEL.NAME is 'resnet51', expected one of resnet18"):
        exporting.export_configured_onnx(config, here / "out.onnx", checkpoint=checkpoint())


@pytest.mark.slow
def test_a_network_without_bnneck(here: Path) -> None:
    pairs = ["MODEL.NECK", "('no')", "MODEL.NAME", "resnet50", "INPUT.SIZE_TEST", "256,128"]
    made = exporting.export_configured_onnx(
        read_config(here / "c.yml", pairs),
        here / "o.onnx",
        checkpoint=checkpoint("resnet50_noneck"),
    )
    assert made.contract.neck == "output"
    expected = golden.features("resnet50_noneck_after")
    assert difference(run(made.file, golden.inputs(0)), expected) < 1e-5


def test_last_stride_and_size_are_the_configurations(here: Path, weights: Path) -> None:
    pairs = ["TEST.WEIGHT", weights, "MODEL.LAST_STRIDE", "2", "INPUT.SIZE_TEST", "(75,42)"]
    assert "last stride 2" in well("--config_file=c.yml", *pairs).stdout
    vectors = run(here / "ReID.onnx", golden.inputs(1))[:, :128]
    assert difference(vectors, golden.features("resnet18_stride2")) < 1e-5


# The file itself.


def test_it_gives_what_the_package_gives(tmp_path: Path, made: OnnxExport) -> None:
    package = exporting.export_package(checkpoint(), tmp_path / "p", contract=SMALL)
    for count in (1, 3):
        vectors = run(package.engine_file, pictures(count))
        assert difference(run(made.file, pictures(count)), vectors) < 1e-6
    assert made.embedding_size == package.spec.embedding_size
    assert 0 <= made.difference < 1e-5


def test_the_same_options_give_the_same_bytes(tmp_path: Path, made: OnnxExport) -> None:
    again = exporting.export_onnx(checkpoint(), tmp_path / "again.onnx", contract=SMALL)
    assert again.file.read_bytes() == made.file.read_bytes()
    assert again.sha256 == made.sha256 == disk.sha256_file(made.file)
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]


@pytest.mark.parametrize("name", ["resnet18", "resnet50_ibn_a"])
def test_every_opset_is_valid_and_gives_the_same(tmp_path: Path, name: str) -> None:
    """Opset 11 knows no Split with sizes as an input, which the networks with IBN use."""
    source = _source.read_source(checkpoint(name), contract=SMALL)
    model = _source.build(source, fold=True)
    file = tmp_path / "m.onnx"
    vectors = []
    for opset in (11, 12, 13, 17):
        lowered = copy.deepcopy(model)
        _onnx_file._lower(lowered, opset)
        onnx.checker.check_model(lowered, full_check=True)
        onnx.save(lowered, file)
        vectors.append(run(file, pictures()))
    assert all(np.array_equal(vectors[0], other) for other in vectors[1:])
    splits = [node for node in model.graph.node if node.op_type == "Split"]
    assert len(splits) == (16 - 3 if name == "resnet50_ibn_a" else 0)


def test_an_exported_ibn_network_runs(tmp_path: Path) -> None:
    made = exporting.export_onnx(checkpoint("resnet50_ibn_a"), tmp_path / "i.onnx", contract=SMALL)
    assert made.architecture == "resnet50_ibn_a"
    assert run(made.file, pictures()).shape == (3, 2048)


def test_names_are_chosen(tmp_path: Path) -> None:
    options = OnnxOptions("pixels", "vector", "N", opset=17)
    made = exporting.export_onnx(
        checkpoint(), tmp_path / "n.onnx", architecture="resnet18", contract=SMALL, options=options
    )
    session = ort.InferenceSession(made.file, providers=["CPUExecutionProvider"])
    assert [(v.name, v.shape[0]) for v in session.get_inputs()] == [("pixels", "N")]
    assert [(v.name, v.shape) for v in session.get_outputs()] == [("vector", ["N", 512])]


def test_even_the_names_the_other_way_round() -> None:
    model = _source.build(_source.read_source(checkpoint(), contract=SMALL), fold=True)
    _onnx_file._rename(model, OnnxOptions("embedding", "image"))
    onnx.checker.check_model(model, full_check=True)
    assert (model.graph.input[0].name, model.graph.output[0].name) == ("embedding", "image")
    with pytest.raises(ArgumentError, match="an inner value called 'flat'"):
        _onnx_file._rename(model, OnnxOptions(vector="flat"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"opset": 10}, "opset is 10, expected a whole number from 11 to 17"),
        ({"opset": True}, "opset is True"),
        ({"image": "class"}, "two of them for input and output"),
        ({"batch": ""}, "expected names"),
    ],
)
def test_impossible_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        OnnxOptions(**options)


def test_an_older_file_is_kept_unless_asked(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "m.onnx"
    exporting.export_onnx(checkpoint(), out, contract=SMALL)
    before = out.read_bytes()
    with pytest.raises(ArgumentError, match="exists already"):
        exporting.export_onnx(checkpoint(), out, contract=SMALL)
    for other, words in ((tmp_path / "m.om", "not called .onnx"), (out.parent, "not called")):
        with pytest.raises(ArgumentError, match=words):
            exporting.export_onnx(checkpoint(), other, contract=SMALL)
    assert out.read_bytes() == before
    (tmp_path / "f.onnx").mkdir()
    with pytest.raises(ArgumentError, match="is a folder"):
        exporting.export_onnx(checkpoint(), tmp_path / "f.onnx", contract=SMALL)


def test_a_wrong_file_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "m.onnx"
    build, lower = _source.build, _onnx_file._lower

    def build_wrongly(source: _source.Source, *, fold: bool) -> onnx.ModelProto:
        model = build(source, fold=fold)
        weight = model.graph.initializer[2]
        values = numpy_helper.to_array(weight) * np.float32(1.01)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        return model

    def lower_wrongly(model: onnx.ModelProto, opset: int) -> None:
        lower(model, opset)
        model.graph.node[0].op_type = "Convolve"

    with monkeypatch.context() as patched:
        patched.setattr(_onnx_file, "build", build_wrongly)
        with pytest.raises(ExportError, match="the network before folding disagree"):
            exporting.export_onnx(checkpoint(), out, contract=SMALL)
    with monkeypatch.context() as patched:
        patched.setattr(_onnx_file, "_lower", lower_wrongly)
        with pytest.raises(ExportError, match="is not valid ONNX"):
            exporting.export_onnx(checkpoint(), out, contract=SMALL)
    assert not list(tmp_path.iterdir())


# `reidkit export` with a configuration.


def export(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(["export", *map(str, arguments)])
    assert isinstance(done.value.code, int)
    return done.value.code, *capsys.readouterr()


def test_export_takes_the_configuration(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = ["TEST.NECK_FEAT", "('before')", "INPUT.PIXEL_STD", "1.0,1.0,1.0"]
    options = ["--config_file", "c.yml", "--size", "64x32", "--json", "--architecture", "resnet18"]
    code, out, err = export(capsys, weights, "p", *options, *pairs, "TEST.FEAT_NORM", "no")
    assert code == 0, err
    assert err.startswith("remark: TEST.FEAT_NORM 'no'")
    said = json.loads(out)
    spec = read_package("p").spec
    assert spec.input == InputSpec(height=64, width=32, std=(1.0, 1.0, 1.0), neck="before")
    assert (spec.name, said["provenance"]["source"]) == ("r18", "r18.pth")
    contract = spec.input
    plain = exporting.export_package(weights, here / "q", contract=contract)
    assert plain.spec.engine.sha256 == spec.engine.sha256


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--config_file c.yml --size 256x128", "size is 256x128, but INPUT.SIZE_TEST"),
        ("--config_file c.yml --architecture resnet34", "MODEL.NAME of the configuration is res"),
        ("--config_file c.yml --last-stride 2", "last-stride is 2, but MODEL.LAST_STRIDE"),
        ("--config_file c.yml --neck-feature before", "TEST.NECK_FEAT of the configuration is aft"),
        ("--config_file c.yml TEST.WEIGHT other.pth", "checkpoint is .*, but TEST.WEIGHT"),
        ("TEST.NECK_FEAT before", "'TEST.NECK_FEAT' changes a configuration: pass --config_file"),
    ],
)
def test_export_refuses_contradictions(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str], arguments: str, words: str
) -> None:
    code, _, err = export(capsys, weights, "p", *arguments.split())
    assert code == 2
    assert re.search(words, " ".join(err.split()))
    assert not (here / "p").exists()


def test_export_says_what_is_wrong_with_a_configuration(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, words in (
        (["--config_file", "c.yml", "MODEL.DEVICE_ID", "2"], "('2')"),
        (["--config_file", "none.yml"], "none.yml is no file"),
        (["--config_file", "c.yml", "MODEL.NAME", "resnet34"], "is a checkpoint of resnet18"),
    ):
        code, _, err = export(capsys, weights, "p", *arguments)
        assert code == 1
        assert words in err
    assert not (here / "p").exists()
