"""Pictures -> one `.bin` each: the reference's bytes, every picture accounted for."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reidkit import disk, preprocess
from reidkit.ascend import bins
from reidkit.ascend.bins import BinSpec, cut_name, find_pictures, write_bins
from reidkit.ascend.manifests import check_files, read_manifests, verify_bytes
from reidkit.cli.ascend.preprocess import command
from reidkit.errors import (
    ArgumentError,
    AscendError,
    DatasetError,
    MismatchError,
    ReidkitError,
    UnreadableImagesError,
)
from reidkit.package import (
    EngineSpec,
    InputSpec,
    ModelSpec,
    ReferencePictures,
    write_manifest,
    write_reference,
)
from tests.pictures import SMALL, write_picture

GOLDEN = Path(__file__).parent / "golden"
SPEC = BinSpec(SMALL)
SIZE = 3 * 32 * 16 * 4


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Give a folder of five small pictures, two of them junk."""
    folder = tmp_path / "source"
    folder.mkdir()
    names = ("0001_c1s1_0", "0002_c2s1_0", "0010_c1s1_0", "-1_c1s1_0", "-1_c2s1_0")
    for seed, name in enumerate(names):
        write_picture(folder / f"{name}.jpg", seed)
    return folder


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.bin")}


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def guides_transform(path: Path) -> NDArray[np.float32]:
    """Do the guide's transform in plain numpy: resize, / 255, - mean, / std, channels first."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((128, 256), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized).astype(np.float32) / np.float32(255)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


# The bytes.


def test_the_files_hold_the_references_bytes(tmp_path: Path) -> None:
    manifest = write_bins(find_pictures([GOLDEN / "images"]), tmp_path / "out")
    found = read_all(tmp_path / "out")
    with np.load(GOLDEN / "preprocess.npz") as golden:
        expected = {f"{cut_name(name)}.bin": golden[name].tobytes() for name in golden.files}
    assert found == expected
    assert {len(data) for data in found.values()} == {393_216}
    assert manifest.total_bytes == 393_216 * len(expected)


def test_the_files_hold_the_guides_transform(tmp_path: Path) -> None:
    write_picture(tmp_path / "source.jpg", 1, height=90, width=35)
    (tmp_path / "in").mkdir()
    (tmp_path / "source.jpg").rename(tmp_path / "in" / "x.jpg.jpg")
    write_bins(find_pictures([tmp_path / "in"]), tmp_path / "out")
    expected = guides_transform(tmp_path / "in" / "x.jpg.jpg")
    assert read_all(tmp_path / "out") == {"x.bin": expected.tobytes()}


def test_uint8_holds_the_resized_pixels(tmp_path: Path) -> None:
    write_bins(find_pictures([GOLDEN / "images"]), tmp_path / "out", spec=BinSpec(dtype="uint8"))
    found = read_all(tmp_path / "out")
    assert len(found) == len(list((GOLDEN / "images").iterdir()))
    for path in (GOLDEN / "images").iterdir():
        expected = preprocess.resize(preprocess.decode(path), InputSpec())
        assert found[f"{cut_name(path.name)}.bin"] == expected.tobytes()
    assert {len(data) for data in found.values()} == {98_304}


def test_the_contract_decides(source: Path, tmp_path: Path) -> None:
    contract = InputSpec(20, 10, colour="bgr", scale=1, mean=(0, 0, 0), std=(1, 1, 1))
    write_bins(find_pictures([source]), tmp_path / "out", spec=BinSpec(contract))
    values = np.fromfile(tmp_path / "out" / "0001_c1s1_0.bin", np.float32).reshape(3, 20, 10)
    pixels = preprocess.resize(preprocess.decode(source / "0001_c1s1_0.jpg"), contract)
    assert np.array_equal(values, pixels[:, :, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_the_number_of_threads_changes_nothing(
    source: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bins, "PICTURES_A_TASK", 2)
    first = write_bins(find_pictures([source]), tmp_path / "one", spec=SPEC, workers=1)
    again = write_bins(find_pictures([source]), tmp_path / "more", spec=SPEC, workers=workers)
    assert again == first
    assert everything(tmp_path / "more") == everything(tmp_path / "one")


def test_the_manifest_lists_every_file(source: Path, tmp_path: Path) -> None:
    (source / "Thumbs.db").touch()
    found = find_pictures([source], skip_junk=True)
    manifest = write_bins(found, tmp_path / "out", spec=SPEC)
    assert read_manifests(tmp_path / "out") == manifest
    assert check_files(tmp_path / "out", manifest) == ()
    assert list(manifest.files) == ["0001_c1s1_0.bin", "0002_c2s1_0.bin", "0010_c1s1_0.bin"]
    assert manifest.files["0002_c2s1_0.bin"].source == "0002_c2s1_0.jpg"
    assert (manifest.junk, manifest.skipped) == (2, 1)
    for name, data in read_all(tmp_path / "out").items():
        verify_bytes(manifest, name, data)


def test_the_output_half_of_the_contract_makes_no_other_pictures() -> None:
    kinds = {
        BinSpec(InputSpec(neck=neck, flip=flip)).kind
        for neck in ("after", "before")
        for flip in (False, True)
    }
    assert len(kinds) == 1
    assert kinds.pop().contract_sha256 == InputSpec().sha256
    assert BinSpec(InputSpec(height=255)).kind != BinSpec().kind


# Which files are pictures.


def test_what_the_guides_script_skips_is_skipped(source: Path) -> None:
    (source / "Thumbs.db").touch()
    (source / "old.DB.jpg").touch()
    (source / ".hidden.jpg").touch()
    (source / "folder").mkdir()
    found = find_pictures([source])
    assert len(found.pictures) == 5
    assert sorted(found.skipped) == [".hidden.jpg", "Thumbs.db", "folder", "old.DB.jpg"]


def test_junk_is_left_out_on_demand(source: Path) -> None:
    write_picture(source / "-1.jpg", 9)  # says no camera: not a name of the data set
    assert len(find_pictures([source]).pictures) == 6
    found = find_pictures([source], skip_junk=True)
    assert found.junk == 2
    assert "-1.bin" in found.pictures
    assert "-1_c1s1_0.bin" not in found.pictures


def test_pictures_come_in_natural_order(tmp_path: Path) -> None:
    for name in ("10.jpg", "2.jpg", "1.jpg"):
        (tmp_path / name).touch()
    assert list(find_pictures([tmp_path]).pictures) == ["1.bin", "2.bin", "10.bin"]


def test_there_is_no_limit_at_fifty_thousand() -> None:
    with tempfile.TemporaryDirectory() as folder:  # at once gone again, unlike tmp_path
        for number in range(50_003):
            (Path(folder) / f"{number}.jpg").touch()
        assert len(find_pictures([folder]).pictures) == 50_003


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("aB1_-.", min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
def test_every_picture_has_a_file_of_its_own_or_is_refused(names: list[str]) -> None:
    names = [name for name in names if not name.startswith(".")]
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / name).touch()
        wanted = [name.split(".")[0] + ".bin" for name in names]
        if not names:
            with pytest.raises(DatasetError, match="holds no pictures"):
                find_pictures([folder])
        elif len(set(wanted)) < len(wanted):
            with pytest.raises(AscendError, match="would both be prepared as"):
                find_pictures([folder])
        else:
            pictures = find_pictures([folder]).pictures
            assert {Path(path).name: name for name, path in pictures.items()} == dict(
                zip(names, wanted, strict=True)
            )


# What is refused before anything is written.


def test_one_name_from_two_sources_is_refused(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_picture(other / "0002_c2s1_0.png", 7)
    with pytest.raises(AscendError, match=r"source/0002_c2s1_0\.jpg and .*other/0002_c2s1_0\.png"):
        find_pictures([source, other])


def test_two_sources_need_no_move(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_picture(other / "0002_c2s1_1.jpg", 7)
    manifest = write_bins(find_pictures([source, other]), tmp_path / "out", spec=SPEC)
    assert len(manifest.files) == len(read_all(tmp_path / "out")) == 6


@contextmanager
def refused(root: Path, error: type[ReidkitError], message: str) -> Iterator[None]:
    """Check that the block raises and that nothing appears or goes away below `root`."""
    before = sorted(root.rglob("*"))
    with pytest.raises(error, match=message):
        yield
    assert sorted(root.rglob("*")) == before


def test_unusable_sources_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "Thumbs.db").touch()
    (tmp_path / "link").symlink_to(source)
    cases: dict[str, tuple[type[ReidkitError], str]] = {
        "none": (DatasetError, "none does not exist"),
        "source/-1_c1s1_0.jpg": (DatasetError, "is not a folder"),
        "empty": (DatasetError, "empty holds no pictures"),
        "only": (DatasetError, "only holds no pictures: 1 other"),
        "link": (ArgumentError, "are the same folder"),
    }
    for name, (error, message) in cases.items():
        with refused(tmp_path, error, message):
            find_pictures([source, tmp_path / name])
    with pytest.raises(ArgumentError, match="no folder"):
        find_pictures([])


def test_nothing_but_junk_is_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "-1_c1s1_0.jpg", 0)
    with pytest.raises(DatasetError, match="all 1 pictures are junk"):
        find_pictures([tmp_path], skip_junk=True)


def test_unusable_destinations_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    (tmp_path / "file").touch()
    cases = {
        "source": "is a folder of pictures",
        "link": "is a folder of pictures",
        "file": "is not a folder",
    }
    pictures = find_pictures([source])
    for name, message in cases.items():
        with refused(tmp_path, ArgumentError, message):
            write_bins(pictures, tmp_path / name)
    with pytest.raises(ArgumentError, match="workers is 0"):
        write_bins(pictures, tmp_path / "out", workers=0)
    with pytest.raises(ArgumentError, match="dtype is 'float16'"):
        BinSpec(dtype="float16")  # type: ignore[arg-type]
    with pytest.raises(AscendError, match=r"file.*could not be written: Not a directory$"):
        write_bins(pictures, tmp_path / "file" / "below", spec=SPEC)


def test_two_runs_into_one_folder_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.jpg", 1)
    pictures, out = find_pictures([tmp_path / "in"]), tmp_path / "out"

    def begin_another(_done: int, _total: int) -> None:
        with pytest.raises(ArgumentError, match="another run is preparing pictures into"):
            write_bins(pictures, out, spec=SPEC)

    manifest = write_bins(pictures, out, spec=SPEC, progress=begin_another)
    assert list(manifest.files) == ["a.bin"]
    assert not list(out.glob(".*"))


def test_two_kinds_in_one_folder_are_refused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_bins(find_pictures([source]), out, spec=SPEC)
    before = everything(out)
    fewer = find_pictures([source], skip_junk=True)
    with pytest.raises(MismatchError, match=r"float32 3x32x16.* and .*uint8 32x16x3"):
        write_bins(fewer, out, spec=BinSpec(SMALL, "uint8"))
    assert everything(out) == before
    # All files replaced: nothing of the old kind would stay.
    manifest = write_bins(find_pictures([source]), out, spec=BinSpec(SMALL, "uint8"))
    assert read_manifests(out) == manifest
    assert check_files(out, manifest) == ()


# What goes wrong on the way.


def test_every_unreadable_picture_is_named_and_all_others_are_written(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_bins(find_pictures([source]), out, spec=SPEC)
    bad = {"0002_c2s1_0.jpg": "not a picture", "-1_c2s1_0.jpg": "an empty file"}
    (source / "0002_c2s1_0.jpg").write_text("no picture")
    (source / "-1_c2s1_0.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImagesError) as caught:
        write_bins(find_pictures([source]), out, spec=SPEC)
    named = {Path(path).name: reason for path, reason in caught.value.images}
    assert named.keys() == bad.keys()
    assert all(bad[name] in reason for name, reason in named.items())
    # Neither an older picture of that name nor the older manifest makes it look complete.
    assert sorted(read_all(out)) == ["-1_c1s1_0.bin", "0001_c1s1_0.bin", "0010_c1s1_0.bin"]
    assert read_manifests(out) is None
    for name in bad:
        write_picture(source / name, 5)
    assert len(write_bins(find_pictures([source]), out, spec=SPEC).files) == 5


def test_an_older_manifest_keeps_its_other_files(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_bins(find_pictures([source]), out, spec=SPEC)
    write_picture(source / "0001_c1s1_0.jpg", 77)
    (source / "0002_c2s1_0.jpg").write_text("no picture")
    with pytest.raises(UnreadableImagesError):
        write_bins(find_pictures([source], skip_junk=True), out, spec=SPEC)
    manifest = read_manifests(out)
    assert manifest is not None
    assert sorted(manifest.files) == ["-1_c1s1_0.bin", "-1_c2s1_0.bin"]
    assert check_files(out, manifest) == ("0001_c1s1_0.bin", "0010_c1s1_0.bin")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_claims_nothing_and_is_finished_by_the_next(
    source: Path, tmp_path: Path, stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bins, "PICTURES_A_TASK", 1)
    out = tmp_path / "out"

    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise stop

    with pytest.raises(stop):
        write_bins(find_pictures([source]), out, spec=SPEC, workers=1, progress=interrupt)
    assert read_manifests(out) is None
    assert 2 <= len(read_all(out)) <= 5
    assert list(out.glob(".*")) == []
    assert all(len(data) == SIZE for data in everything(out).values())
    manifest = write_bins(find_pictures([source]), out, spec=SPEC)
    assert check_files(out, manifest) == ()


KILLED = """
import sys
from reidkit.ascend.bins import find_pictures, write_bins
write_bins(find_pictures([sys.argv[1]]), sys.argv[2])
"""


def test_a_killed_run_leaves_whole_files_and_no_manifest(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    write_picture(source / "0.jpg", 0)
    for number in range(1, 3000):
        os.link(source / "0.jpg", source / f"{number}.jpg")
    command = [sys.executable, "-c", KILLED, str(source), str(out)]
    with subprocess.Popen(command) as process:
        while process.poll() is None and len(list(out.glob("*.bin"))) < 5:
            time.sleep(0.005)
        process.kill()
    written = list(out.glob("*.bin"))
    assert 5 <= len(written) < 3000
    assert {path.stat().st_size for path in written} == {393_216}
    assert read_manifests(out) is None


def test_what_a_killed_run_began_is_removed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", lambda *_, **__: None)  # as a kill would have it
        write_bins(find_pictures([source]), out, spec=SPEC)
    (left,) = out.glob(".*")
    (left / "0001_c1s1_0.bin").write_bytes(b"begun")
    (out / ".mine").touch()
    write_bins(find_pictures([source]), out, spec=SPEC)
    assert [path.name for path in out.glob(".*")] == [".mine"]


def test_a_full_disk_is_an_error_that_says_how_much_is_needed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, temporary: Path, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bins, "_write", fail)
    with pytest.raises(AscendError, match=r"out could not be written: No space.*6,144 bytes"):
        write_bins(find_pictures([source]), tmp_path / "out", spec=SPEC)
    assert read_manifests(tmp_path / "out") is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork to do without")
def test_nothing_is_forked(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("forked")

    monkeypatch.setattr(os, "fork", fail)
    assert len(write_bins(find_pictures([source]), tmp_path / "out", spec=SPEC).files) == 5


def test_progress_reaches_the_total(source: Path, tmp_path: Path) -> None:
    (source / "bad.jpg").touch()
    calls: list[tuple[int, int]] = []
    with pytest.raises(UnreadableImagesError):
        write_bins(
            find_pictures([source]),
            tmp_path / "out",
            spec=SPEC,
            progress=lambda done, total: calls.append((done, total)),
        )
    assert calls[-1] == (6, 6)


# The command.


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_says_what_it_did(source: Path, tmp_path: Path) -> None:
    (source / "Thumbs.db").touch()
    result = run(source, tmp_path / "out", "--skip-junk", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'out'}: 3 pictures, float32 3x256x128, 1,179,648 bytes",
        "2 junk pictures left out",
        "1 other files and folders skipped: Thumbs.db",
    ]
    assert len(read_all(tmp_path / "out")) == 3


def test_the_command_prints_json(source: Path, tmp_path: Path) -> None:
    result = run(source, GOLDEN / "images", tmp_path / "out", "--dtype", "uint8", "--json")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed == {
        "out": str(tmp_path / "out"),
        "pictures": 14,
        "dtype": "uint8",
        "shape": [256, 128, 3],
        "contract_sha256": InputSpec().sha256,
        "bytes": 14 * 98_304,
        "junk_left_out": 0,
        "skipped": [],
    }


def test_the_command_names_all_unreadable_pictures(source: Path, tmp_path: Path) -> None:
    for number in range(12):
        (source / f"bad{number}.jpg").write_text("text")
    result = run(source, tmp_path / "out")
    assert result.exit_code == 1
    for number in range(12):
        assert f"bad{number}.jpg: not a picture" in result.stderr
    assert isinstance(result.exception, AscendError)
    assert "12 of 17 pictures could not be read" in str(result.exception)
    assert len(read_all(tmp_path / "out")) == 5


def write_package(folder: Path, contract: InputSpec) -> None:
    """Write a package with nothing in it to run."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"not run")
    pixels, vectors = np.zeros((16, 4, 4, 3), np.uint8), np.zeros((16, 8), np.float32)
    reference = write_reference(folder, ReferencePictures(pixels, vectors))
    engine = EngineSpec("model.onnx", disk.sha256_file(folder / "model.onnx"))
    write_manifest(folder, ModelSpec("x", "x", 8, "w" * 64, reference, contract, engine))


def test_the_command_prepares_as_a_package_says(source: Path, tmp_path: Path) -> None:
    write_package(tmp_path / "package", SMALL)
    result = run(source, tmp_path / "out", "--package", tmp_path / "package")
    assert result.exit_code == 0, result.output
    manifest = write_bins(find_pictures([source]), tmp_path / "expected", spec=SPEC)
    assert read_manifests(tmp_path / "out") == manifest
    assert read_all(tmp_path / "out") == read_all(tmp_path / "expected")


def test_the_command_needs_a_source_and_a_destination(source: Path) -> None:
    assert run(source).exit_code == 2
