"""Compiling a package: what is asked, what comes out, what is refused."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from reidkit import disk, networks, preprocess
from reidkit.checkpoints import Checkpoint
from reidkit.compiling import (
    TARGETS,
    CalibrationSet,
    Job,
    Support,
    Target,
    _compile,
    _onnxruntime,
    calibration_of,
    compile_package,
    supported_targets,
)
from reidkit.datasets.drawn import draw_crops
from reidkit.errors import ArgumentError, CompileError, ImageError, IntegrityError, ReidkitError
from reidkit.exporting import export_package
from reidkit.models import load_model
from reidkit.package import EngineSpec, InputSpec, Package, read_package
from reidkit.records import Dataset
from tests.certified import (
    Change,
    damage,
    draw_people,
    give_nan,
    mix,
    scale,
    spoil_batches_of,
    together,
    write_fake,
    write_tiny,
)

ORT = Target("onnxruntime")
INT8 = Target("onnxruntime", "int8")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return draw_people(tmp_path_factory.mktemp("people") / "drawn")


@pytest.fixture(scope="session")
def calibration(people: Dataset) -> CalibrationSet:
    return calibration_of(people, count=32)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Package:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "package")


@pytest.fixture(scope="session")
def osnet(tmp_path_factory: pytest.TempPathFactory) -> Package:
    network = networks.Network("osnet_x0_25")
    checkpoint = Checkpoint(networks.initial_tensors(network), "made", "made", "0" * 64)
    folder = tmp_path_factory.mktemp("osnet") / "package"
    return export_package(checkpoint, folder, contract=InputSpec(height=64, width=32))


def crops(package: Package, count: int) -> Any:
    contract = package.spec.input
    drawn = draw_crops(count, height=contract.height, width=contract.width, seed=9)
    return np.stack([preprocess.prepare(picture, contract) for picture in drawn])


def run(package: Package, inputs: Any) -> Any:
    with load_model(package) as model:
        return model.run(inputs)


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def nothing_but(folder: Path, *names: str) -> bool:
    return names_in(folder) == set(names)


def sabotage(monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let onnxruntime's build change the network on the way."""
    real = _onnxruntime.build

    def build(job: Job, folder: Path) -> EngineSpec:
        engine = real(job, folder)
        model = onnx.load_model(folder / engine.file)
        change(model.graph)
        onnx.save_model(model, folder / engine.file)
        return dataclasses.replace(engine, sha256=disk.sha256_file(folder / engine.file))

    monkeypatch.setattr(_onnxruntime, "build", build)


# --- what comes out ---


def test_fp32_is_the_source(osnet: Package, tmp_path: Path) -> None:
    compiled = compile_package(osnet, tmp_path / "out", target=ORT)
    assert compiled == read_package(tmp_path / "out")
    inputs = crops(osnet, 5)
    np.testing.assert_allclose(run(compiled, inputs), run(osnet, inputs), rtol=1e-5, atol=1e-5)


def test_the_manifest_says_where_it_comes_from(osnet: Package, tmp_path: Path) -> None:
    compiled = compile_package(osnet.folder, tmp_path / "out", target=ORT)
    spec, engine = compiled.spec, compiled.spec.engine
    assert spec.parent_sha256 == osnet.spec.engine.identity
    assert (spec.input, spec.weights_sha256) == (osnet.spec.input, osnet.spec.weights_sha256)
    assert spec.reference_sha256 == osnet.spec.reference_sha256
    assert (engine.target, engine.precision, engine.device) == ("onnxruntime", "fp32", "cpu")
    assert (engine.batch, engine.float_layers, spec.calibration) == (None, (), None)
    assert engine.cosine == pytest.approx(1, abs=1e-6)
    assert spec.provenance["compiled_with_onnxruntime"]
    assert spec.provenance["bnneck"] == "yes", "what is known of the source stays known"
    assert nothing_but(compiled.folder, "model.onnx", "model.json", "reference.npz")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_package_gives_the_same_bytes(
    tiny: Package, calibration: CalibrationSet, tmp_path: Path, precision: str
) -> None:
    written = []
    for name in ("first", "second"):
        compiled = compile_package(
            tiny,
            tmp_path / name,
            target=Target("onnxruntime", precision),
            calibration=calibration if precision == "int8" else None,
        )
        written.append({file.name: file.read_bytes() for file in compiled.folder.iterdir()})
    assert written[0] == written[1]
    for data in written[0].values():
        assert str(tmp_path).encode() not in data
        assert str(Path.home()).encode() + b"/" not in data
        assert b"/tmp/" not in data
        assert str(Path(calibration.pictures[0]).parent).encode() not in data


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_filled_up(tiny: Package, tmp_path: Path, batch: int) -> None:
    target = dataclasses.replace(ORT, batch=batch)
    compiled = compile_package(tiny, tmp_path / "out", target=target)
    assert compiled.spec.engine.batch == batch
    (given,) = onnx.load_model(compiled.engine_file).graph.input
    assert given.type.tensor_type.shape.dim[0].dim_value == batch
    inputs = crops(tiny, 4)
    with load_model(compiled) as model:
        assert model.runtime.batch == batch
        for rows in range(1, batch + 1):
            np.testing.assert_allclose(
                model.run(inputs[:rows]), run(tiny, inputs[:rows]), rtol=1e-5, atol=1e-5
            )
        with pytest.raises(ReidkitError, match=f"batches of {batch}, got {batch + 1}"):
            model.run(crops(tiny, batch + 1))


def test_a_source_of_one_batch_size_stays_so(tiny: Package, tmp_path: Path) -> None:
    fixed = compile_package(tiny, tmp_path / "fixed", target=dataclasses.replace(ORT, batch=4))
    source = as_source(fixed)
    compiled = compile_package(source, tmp_path / "out", target=ORT)
    assert compiled.spec.engine.batch == 4
    with pytest.raises(ArgumentError, match=r"batch is 8, but .* takes batches of 4 only"):
        compile_package(source, tmp_path / "other", target=dataclasses.replace(ORT, batch=8))
    assert nothing_but(tmp_path, "fixed", "out")


def as_source(package: Package) -> Package:
    """Give a package as if it had not been compiled."""
    engine = dataclasses.replace(package.spec.engine, target=None)
    return dataclasses.replace(package, spec=dataclasses.replace(package.spec, engine=engine))


def test_half_precision_without_a_gpu_is_converted_all_the_same(
    tiny: Package, tmp_path: Path
) -> None:
    """Whether it runs fast is the GPU's affair; that it is the same network can be seen here."""
    target = Target("onnxruntime", "fp16", device="cuda")
    engine = _onnxruntime.build(Job(tiny, target), tmp_path)
    spec = dataclasses.replace(tiny.spec, engine=engine)
    inputs = crops(tiny, 3)
    with load_model(Package(tmp_path, spec), device="cpu") as model:
        half = model.run(inputs)
    assert 1e-6 < np.abs(half - run(tiny, inputs)).max() < 1e-2
    assert engine.precision == "fp16"
    assert disk.sha256_file(tmp_path / engine.file) == engine.sha256


# --- replacing, and not leaving anything half-written ---


def test_overwrite_replaces_a_package(tiny: Package, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compile_package(tiny, out, target=ORT)
    before = (out / "model.json").read_bytes()
    with pytest.raises(ArgumentError, match="exists already"):
        compile_package(tiny, out, target=dataclasses.replace(ORT, batch=2))
    assert (out / "model.json").read_bytes() == before
    compile_package(tiny, out, target=dataclasses.replace(ORT, batch=2), overwrite=True)
    assert read_package(out).spec.engine.batch == 2
    assert nothing_but(tmp_path, "out")


def test_a_package_is_not_compiled_into_itself(tiny: Package, tmp_path: Path) -> None:
    shutil.copytree(tiny.folder, tmp_path / "package")
    (tmp_path / "link").symlink_to("package")
    for out in ("package", "link", "package/../package"):
        with pytest.raises(ArgumentError, match="is the package to be compiled itself"):
            compile_package(tmp_path / "package", tmp_path / out, target=ORT, overwrite=True)
    assert read_package(tmp_path / "package").spec == tiny.spec


@pytest.mark.parametrize("moment", ["write_manifest", "check_engine"])
def test_a_failure_leaves_nothing(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_compile, moment, fail)
    with pytest.raises(KeyboardInterrupt):
        compile_package(tiny, tmp_path / "out", target=ORT)
    assert nothing_but(tmp_path)


def test_a_killed_run_leaves_nothing_that_looks_complete(tiny: Package, tmp_path: Path) -> None:
    code = f"""
import os, signal
from reidkit.compiling import Target, _compile, compile_package
_compile.check_engine = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
compile_package({str(tiny.folder)!r}, {str(tmp_path / "out")!r}, target=Target("onnxruntime"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert compile_package(tiny, tmp_path / "out", target=ORT).spec.engine.target == "onnxruntime"


def test_a_failure_keeps_the_package_that_was_there(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = compile_package(tiny, tmp_path / "out", target=ORT)
    sabotage(monkeypatch, give_nan())
    with pytest.raises(CompileError):
        compile_package(tiny, tmp_path / "out", target=ORT, overwrite=True)
    assert read_package(tmp_path / "out") == before
    assert nothing_but(tmp_path, "out")


# --- requests that make no sense ---


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("abacus"), "target is 'abacus', expected one of onnxruntime, openvino, torch"),
        (Target("onnxruntime", "fp7"), "precision is 'fp7', expected one of fp32, bf16, fp16"),
        (Target("onnxruntime", batch=0), "batch is 0, expected a whole number from 1"),
        (Target("onnxruntime", batch=-3), "batch is -3, expected a whole number from 1"),
        (Target("onnxruntime", "int8"), "int8 needs pictures of a training split"),
        (Target("onnxruntime", device="abacus"), "device is 'abacus', expected one of cpu"),
    ],
)
def test_bad_requests(tiny: Package, tmp_path: Path, target: Target, expected: str) -> None:
    with pytest.raises(ArgumentError, match=expected):
        compile_package(tiny, tmp_path / "out", target=target)
    assert nothing_but(tmp_path)


def test_calibration_is_for_int8_alone(
    tiny: Package, calibration: CalibrationSet, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match="calibration pictures are for int8, fp32 takes none"):
        compile_package(tiny, tmp_path / "out", target=ORT, calibration=calibration)
    assert nothing_but(tmp_path)


def test_an_unreadable_calibration_picture_is_named(
    tiny: Package, calibration: CalibrationSet, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    for column in ("pictures", "held_out"):
        paths = (str(bad), *getattr(calibration, column)[1:])
        spoilt = dataclasses.replace(calibration, **{column: paths})
        with pytest.raises(ImageError, match=r"bad\.jpg"):
            compile_package(tiny, tmp_path / "out", target=INT8, calibration=spoilt)
    assert nothing_but(tmp_path, "bad.jpg")


def test_a_compiled_package_is_not_compiled_again(tiny: Package, tmp_path: Path) -> None:
    compile_package(tiny, tmp_path / "one", target=ORT)
    with pytest.raises(ArgumentError, match="was compiled for onnxruntime fp32 already"):
        compile_package(tmp_path / "one", tmp_path / "two", target=ORT)
    assert nothing_but(tmp_path, "one")


def test_a_changed_source_is_refused(tiny: Package, tmp_path: Path) -> None:
    shutil.copytree(tiny.folder, tmp_path / "package")
    with (tmp_path / "package" / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(IntegrityError, match="was changed after the package was made"):
        compile_package(tmp_path / "package", tmp_path / "out", target=ORT)
    assert nothing_but(tmp_path, "package")


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"fake\.json is not an ONNX file"):
        compile_package(write_fake(tmp_path / "fake"), tmp_path / "out", target=ORT)
    assert nothing_but(tmp_path, "fake")


def test_a_precision_that_does_not_work_here(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: [])
    with pytest.raises(CompileError, match=r"fp16 does not work on this machine, fp32, int8 does"):
        compile_package(tiny, tmp_path / "out", target=Target("onnxruntime", "fp16"))
    assert nothing_but(tmp_path)


def test_half_precision_is_for_gpus(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(ort, "get_available_providers", lambda: providers)
    with pytest.raises(CompileError, match=r"fp16 is for GPUs: .*--device cuda"):
        compile_package(tiny, tmp_path / "out", target=Target("onnxruntime", "fp16"))
    assert nothing_but(tmp_path)


def test_a_device_that_is_not_here(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(CompileError, match="cannot run on cuda"):
        compile_package(tiny, tmp_path / "out", target=dataclasses.replace(ORT, device="cuda"))
    assert nothing_but(tmp_path)


# --- what works here ---


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_target_that_is_not_installed(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    support = supported_targets()[name]
    assert support.precisions == ()
    assert f"pip install 'reidkit[{name}]'" in support.hint
    with pytest.raises(CompileError, match=rf"{name} fp32 does not work .* pip install 'reidkit"):
        compile_package(tiny, tmp_path / "out", target=Target(name))
    assert nothing_but(tmp_path)


@pytest.mark.parametrize(
    "error", [OSError("libgomp"), ImportError("a symbol"), AttributeError("x"), ValueError("y")]
)
def test_saying_what_works_never_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail() -> Support:
        raise error

    monkeypatch.setattr(_onnxruntime, "support", fail)
    found = supported_targets()
    assert set(found) == set(TARGETS)
    assert found["onnxruntime"] == Support((), f"it does not load, install it again: {error}")


def test_a_missing_file_of_our_own_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TARGETS, "openvino", "reidkit.compiling._gone")
    support = supported_targets()["openvino"]
    assert support.precisions == ()
    assert "this reidkit is not whole" in support.hint
    assert "reidkit.compiling._gone" in support.hint
    assert "[openvino]" not in support.hint


# --- conversions that changed the network ---


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (scale("w2", 1.5), "is not the network it was made from: the smallest cosine"),
        (mix("r1"), "mixes the pictures of a batch"),
        (spoil_batches_of("r1", 3), "gives other vectors for 3 pictures than for 16"),
        (give_nan(), "gives NaN or infinity for 16 of 16 reference pictures"),
    ],
)
def test_a_conversion_that_changed_the_network(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, reason: str
) -> None:
    monkeypatch.setattr(_onnxruntime, "_optimise", keep_as_it_is)
    sabotage(monkeypatch, change)
    with pytest.raises(CompileError, match=reason):
        compile_package(tiny, tmp_path / "out", target=ORT)
    assert nothing_but(tmp_path)


def keep_as_it_is(job: Job, source: onnx.ModelProto, file: Path) -> None:
    """Write the source graph, whose names the tests know."""
    onnx.save_model(source, file)


def test_longer_vectors_are_another_network(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cosines are 1 still, but a contract may keep the lengths."""
    monkeypatch.setattr(_onnxruntime, "_optimise", keep_as_it_is)
    sabotage(monkeypatch, together(scale("w3", 2), scale("b3", 2)))
    with pytest.raises(CompileError, match=r"cosine .* is 1\.0000, and they are up to 2 times"):
        compile_package(tiny, tmp_path / "out", target=ORT)


def test_a_fixed_batch_that_mixes_its_pictures(
    tiny: Package,
    calibration: CalibrationSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sabotage(monkeypatch, mix("embedding", share=0.2))
    target = dataclasses.replace(INT8, batch=8)
    with pytest.raises(CompileError, match="mixes the pictures of a batch"):
        compile_package(tiny, tmp_path / "out", target=target, calibration=calibration)
    assert nothing_but(tmp_path)


def test_tools_that_fail_are_named(
    tiny: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of tea")

    monkeypatch.setattr(_onnxruntime, "_optimise", fail)
    with pytest.raises(CompileError, match=r"cannot make fp32 of .*model\.onnx: out of tea"):
        compile_package(tiny, tmp_path / "out", target=ORT)


def test_a_refused_fp32_says_why(tiny: Package, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="onnxruntime fp32 was refused: too blue"):
        compile_package(tiny, tmp_path / "out", target=ORT, accept=lambda _: "too blue")
    assert nothing_but(tmp_path)


def test_accept_judges_a_whole_package(tiny: Package, tmp_path: Path) -> None:
    seen: list[Package] = []

    def accept(candidate: Package) -> str | None:
        seen.append(read_package(candidate.folder))
        return None

    compiled = compile_package(tiny, tmp_path / "out", target=ORT, accept=accept)
    assert [package.spec for package in seen] == [compiled.spec]


# --- layers left in float ---


def refuse_first(times: int) -> tuple[Callable[[Package], str | None], list[tuple[str, ...]]]:
    """Accept after so many refusals; gives the float layers of every candidate too."""
    seen: list[tuple[str, ...]] = []

    def accept(candidate: Package) -> str | None:
        seen.append(candidate.spec.engine.float_layers)
        return f"refusal {len(seen)}" if len(seen) <= times else None

    return accept, seen


def test_refused_layers_go_to_float_one_after_the_other(
    tiny: Package, calibration: CalibrationSet, tmp_path: Path
) -> None:
    accept, seen = refuse_first(2)
    compiled = compile_package(
        tiny, tmp_path / "out", target=INT8, calibration=calibration, accept=accept
    )
    assert [len(layers) for layers in seen] == [0, 1, 2]
    assert seen[2][0] == seen[1][0], "the most sensitive stays the most sensitive"
    assert read_package(tmp_path / "out").spec.engine.float_layers == seen[2]
    assert float_convolutions(compiled) == set(seen[2])


def float_convolutions(package: Package) -> set[str]:
    graph = onnx.load_model(package.engine_file).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    return {
        node.name
        for node in graph.node
        if node.op_type == "Conv"
        and "DequantizeLinear" not in {makers.get(name) for name in node.input[:2]}
    }


def test_no_candidate_is_good_enough(
    tiny: Package, calibration: CalibrationSet, tmp_path: Path
) -> None:
    accept, seen = refuse_first(99)
    expected = "refused even with 2 of 3 of its groups of layers in float: refusal 3"
    with pytest.raises(CompileError, match=expected):
        compile_package(tiny, tmp_path / "out", target=INT8, calibration=calibration, accept=accept)
    assert len(seen) == 3, "with all layers in float it would be no int8"
    assert nothing_but(tmp_path)


HOSTILE = ["conv1", "conv2", "conv3"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_layer_that_int8_hurts_goes_first(
    calibration: CalibrationSet, tmp_path: Path, hostile: str
) -> None:
    """With nothing in float it is another network, which is no reason to give up."""
    source = write_hostile(tmp_path / "package", hostile)
    compiled = compile_package(
        source, tmp_path / "out", target=INT8, calibration=calibration, accept=lambda _: None
    )
    assert compiled.spec.engine.float_layers == (hostile,)
    assert compiled.spec.engine.cosine is not None
    assert compiled.spec.engine.cosine > 0.98


def write_hostile(folder: Path, layer: str) -> Package:
    """Let one input channel of a layer be 1000 times larger, and its weights as much smaller."""
    package = write_tiny(folder)
    model: Any = onnx.load_model(package.engine_file)
    place = next(i for i, node in enumerate(model.graph.node) if node.name == layer)
    node = model.graph.node[place]
    channels = 3 if layer == "conv1" else 8
    factors = np.ones((1, channels, 1, 1), np.float32)
    factors[0, 0] = 1000
    weight = next(each for each in model.graph.initializer if each.name == node.input[1])
    values = onnx.numpy_helper.to_array(weight) / factors
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(factors, "factors"))
    stretch = onnx.helper.make_node("Mul", [node.input[0], "factors"], ["stretched"], "stretch")
    node.input[0] = "stretched"
    model.graph.node.insert(place, stretch)
    return damage(package, lambda graph: graph.CopyFrom(model.graph))


def test_noise_on_held_out_pictures_is_the_default_judge(
    calibration: CalibrationSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reidkit.compiling import _checking

    monkeypatch.setattr(_checking, "NOISE_LIMIT", 1e-4)
    source = write_tiny(tmp_path / "package")
    with pytest.raises(CompileError, match=r"moves a picture's vector by 0\.\d\d of the distance"):
        compile_package(source, tmp_path / "out", target=INT8, calibration=calibration)
    assert nothing_but(tmp_path, "package")


@pytest.mark.parametrize(
    ("total", "counts"), [(0, []), (1, []), (2, [1]), (3, [1, 2]), (17, [1, 2, 3, 4, 6, 9, 13, 16])]
)
def test_how_many_groups_are_tried(total: int, counts: list[int]) -> None:
    assert _compile._growing(total) == counts


def test_noise_is_measured_between_vectors() -> None:
    from reidkit.compiling._checking import measure_noise

    random = np.random.default_rng(0)
    before = random.standard_normal((20, 8))
    assert measure_noise(before, before).noise == 0
    assert measure_noise(before, before).complaint is None
    moved = measure_noise(before, before + random.standard_normal((20, 8)) * 0.1)
    distances = [np.sqrt(((before[i] - before[j]) ** 2).sum()) for i in range(20) for j in range(i)]
    assert 0.02 < moved.noise < 0.3
    shifted = measure_noise(before, before + np.eye(8)[0])
    assert shifted.noise == pytest.approx(1 / np.median(distances))
    broken = measure_noise(before, np.full_like(before, np.nan))
    assert broken.noise == np.inf
    assert broken.complaint is not None


def test_a_target_is_asked_in_a_folder_of_its_own(
    tiny: Package,
    calibration: CalibrationSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a build leaves beside its engine does not outlive the next candidate."""
    seen: list[set[str]] = []
    real = _onnxruntime.build

    def build(job: Job, folder: Path) -> EngineSpec:
        seen.append(names_in(folder))
        (folder / "rest").mkdir()
        (folder / "rest" / "file").touch()
        return real(job, folder)

    monkeypatch.setattr(_onnxruntime, "build", build)
    accept, layers = refuse_first(1)
    compiled = compile_package(
        tiny, tmp_path / "out", target=INT8, calibration=calibration, accept=accept
    )
    # Once as it is, once for each layer that may be sensitive, once with the worst in float.
    assert seen == [set()] * 5
    assert len(layers) == 2
    assert names_in(compiled.folder) >= {"model.onnx", "rest"}
