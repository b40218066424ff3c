"""The guide's steps one after the other: prepared pictures, network, compiled file, outputs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.numpy import save_file

from reidkit import networks
from reidkit.cli import reidkit_command
from tests.ascend_files import write_guide_config
from tests.pictures import write_picture

FILES = 17
BATCHES = (1, 4, 8, 16, 32, 64)
AIPP = """
aipp_op {
  aipp_mode: static
  input_format: RGB888_U8
  src_image_size_w: 16
  src_image_size_h: 32
  min_chn_0: 123.675
  min_chn_1: 116.28
  min_chn_2: 103.53
  var_reci_chn_0: 0.0171247538316637
  var_reci_chn_1: 0.0175070028011204
  var_reci_chn_2: 0.0174291938997821
}
"""


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(reidkit_command, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def outputs(folder: Path) -> NDArray[np.float32]:
    files = sorted(folder.glob("*_0.bin"))
    assert len(files) == FILES
    return np.stack([np.fromfile(file, np.float32) for file in files])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """17 pictures, both kinds of prepared files, and the network before and after its BNNeck."""
    folder = tmp_path_factory.mktemp("steps")
    (folder / "pictures").mkdir()
    for number in range(FILES):
        write_picture(folder / "pictures" / f"{number:04}_c1s1_000001_00.jpg", number)
    tensors = networks.initial_tensors(networks.Network("osnet_x0_25"))
    # A BNNeck that does nothing would hide which side of it a vector was taken from.
    tensors["bottleneck.running_var"] = np.linspace(0.5, 2, 512, dtype=np.float32)
    save_file(tensors, folder / "x.safetensors")
    config = write_guide_config(folder)
    for neck in ("before", "after"):
        options = [f"--config_file={config}", "-o", f"{folder / neck}.onnx"]
        options += ["MODEL.NAME", "osnet_x0_25", "INPUT.SIZE_TEST", "(32,16)"]
        options += ["TEST.WEIGHT", f"{folder}/x.safetensors", "TEST.NECK_FEAT", f"('{neck}')"]
        run("ascend", "pth2onnx", *options)
    run("export", folder / "x.safetensors", folder / "package", "--size", "32x16")
    for dtype in ("float32", "uint8"):
        where = (folder / "pictures", folder / dtype)
        run("ascend", "preprocess", *where, "--dtype", dtype, "--package", folder / "package")
    return folder


def compile_network(folder: Path, name: str, *options: str) -> Path:
    out = folder / name
    common = ("--framework=5", "--soc_version=Ascend310P3", f"--output={out}")
    run("ascend", "atc", *common, *options)
    return out.with_name(f"{name}.om")


def bench(folder: Path, model: Path, name: str, *options: str, data: str = "float32") -> Path:
    where = ("--input", folder / data, "--output", folder, "--output_dirname", name)
    run("ascend", "bench", "--model", model, *where, *options)
    return folder / name


@pytest.mark.slow
@pytest.mark.parametrize("neck", ["before", "after"])
def test_every_batch_size_gives_the_same_vectors(folder: Path, neck: str) -> None:
    model = compile_network(
        folder,
        f"{neck}_gears",
        f"--model={folder / neck}.onnx",
        "--input_shape=image:-1,3,32,16",
        f"--dynamic_batch_size={','.join(map(str, BATCHES))}",
    )
    found = {
        batch: outputs(bench(folder, model, f"{neck}{batch}", "--dymBatch", str(batch)))
        for batch in BATCHES
    }
    direct = outputs(bench(folder, folder / f"{neck}.onnx", f"{neck}-onnx", "--batchsize", "4"))
    for batch, vectors in found.items():
        # An engine may add in another order at another batch size; nothing else may differ.
        np.testing.assert_allclose(vectors, found[1], rtol=1e-5, atol=1e-6, err_msg=f"{batch}")
        np.testing.assert_allclose(vectors, direct, rtol=1e-5, atol=1e-6)
        summary = json.loads((folder / f"{neck}{batch}_summary.json").read_bytes())
        assert len(summary["filesinfo"]) == FILES
        assert summary["NPU_compute_time"]["count"] == -(-FILES // batch)


def test_before_and_after_are_different_vectors(folder: Path) -> None:
    pair = [outputs(bench(folder, folder / f"{n}.onnx", f"{n}-pair")) for n in ("before", "after")]
    scale = np.sqrt(np.linspace(0.5, 2, 512, dtype=np.float32) + 1e-5)
    np.testing.assert_allclose(pair[1] * scale, pair[0], rtol=1e-4, atol=1e-5)
    assert not np.allclose(pair[0], pair[1], rtol=1e-2)


@pytest.mark.slow
def test_pixels_through_a_file_that_normalises_are_the_same_vectors(folder: Path) -> None:
    (folder / "aipp.cfg").write_text(AIPP)
    options = (f"--model={folder / 'after'}.onnx", "--input_shape=image:4,3,32,16")
    plain = compile_network(folder, "plain4", *options)
    pixels = compile_network(folder, "pixels4", *options, f"--insert_op_conf={folder}/aipp.cfg")
    expected = outputs(bench(folder, plain, "plain"))
    found = outputs(bench(folder, pixels, "pixels", data="uint8"))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_fixed_batch_is_filled_up(folder: Path) -> None:
    options = (f"--model={folder / 'after'}.onnx", "--input_shape=image:8,3,32,16")
    fixed = bench(folder, compile_network(folder, "fixed8", *options), "fixed8")
    np.testing.assert_allclose(
        outputs(fixed),
        outputs(bench(folder, folder / "after.onnx", "single")),
        rtol=1e-5,
        atol=1e-6,
    )
