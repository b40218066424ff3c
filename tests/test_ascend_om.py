"""The substitute .om file: written, recognised, opened, and refused when it is not whole."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import disk
from reidkit.ascend._aipp import Aipp, parse_aipp, read_aipp
from reidkit.ascend._models import open_model
from reidkit.ascend._om import (
    OmHeader,
    is_substitute,
    open_substitute,
    read_header,
    write_om,
)
from reidkit.compiling import Target, compile_package
from reidkit.errors import (
    AscendError,
    EngineError,
    FormatError,
    IntegrityError,
    PackageError,
    ReidkitError,
)
from reidkit.exporting import package_onnx
from reidkit.package import InputSpec, Package, read_package
from reidkit.runtimes.sessions import TensorSpec
from tests.contract.test_runtimes import HEIGHT, SIZE, WIDTH, write_onnx

FLOAT = np.dtype(np.float32)


def header_of(batch: int = -1, **fields: object) -> OmHeader:
    facts: dict[str, object] = {
        "inputs": (TensorSpec("image", FLOAT, (batch, 3, HEIGHT, WIDTH)),),
        "outputs": (TensorSpec("class", FLOAT, (batch, SIZE)),),
        "options": {"soc_version": "Ascend310P3"},
        "source": "model.onnx",
        "source_sha256": "a" * 64,
    }
    return OmHeader(**(facts | fields))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("package")
    file, _ = write_onnx(folder, None)
    contract = InputSpec(height=HEIGHT, width=WIDTH)
    source = package_onnx(file, folder / "source", contract=contract)
    return compile_package(source, folder / "compiled", target=Target("onnxruntime"))


@pytest.fixture
def om(package: Package, tmp_path: Path) -> Path:
    path = tmp_path / "model.om"
    write_om(path, package, header_of())
    return path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder that temporary files go to."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def pictures(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(4).standard_normal((count, 3, HEIGHT, WIDTH), dtype=np.float32)


def test_it_is_recognised_and_never_has_the_real_magic(om: Path, tmp_path: Path) -> None:
    assert is_substitute(om)
    assert om.read_bytes()[:2] == b"PK"
    for data in (b"", b"IMOD" + bytes(300), b"PK\x03\x04", om.read_bytes()[1:]):
        (tmp_path / "other.om").write_bytes(data)
        assert not is_substitute(tmp_path / "other.om")
    assert not is_substitute(tmp_path / "missing.om")
    assert not is_substitute(tmp_path)


def test_another_zip_is_not_recognised(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "other.om", "w") as archive:
        archive.writestr("om.json.txt", "{}")
    assert not is_substitute(tmp_path / "other.om")
    with pytest.raises(AscendError, match=r"not an \.om file of reidkit"):
        open_substitute(tmp_path / "other.om")


def test_the_header_comes_back(package: Package, tmp_path: Path) -> None:
    aipp = Aipp(HEIGHT, WIDTH, minimum=(123.675, 116.28, 103.53), factor=(0.017, 0.018, 0.019))
    header = header_of(gears=(1, 4), aipp=aipp)
    write_om(tmp_path / "x.om", package, header)
    assert read_header(tmp_path / "x.om") == header


def test_the_same_package_gives_the_same_bytes(om: Path, package: Package, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(package.folder, copy)
    for file in copy.iterdir():
        file.chmod(0o600)
    write_om(tmp_path / "again.om", read_package(copy), header_of())
    assert (tmp_path / "again.om").read_bytes() == om.read_bytes()


def test_its_vectors_are_the_raw_ones_of_the_onnx_file(om: Path, tmp_path: Path) -> None:
    file, _ = write_onnx(tmp_path, None)
    plain, session = open_model(file), open_model(om)
    assert [tensor.name for tensor in session.inputs + session.outputs] == ["image", "class"]
    for count in (1, 3):
        (expected,), (found,) = (each.run([pictures(count)]).outputs for each in (plain, session))
        assert np.array_equal(found, expected)
        assert np.abs(np.linalg.norm(found, axis=1) - 1).max() > 0.01
    plain.close()
    session.close()


def test_closing_deletes_what_was_unpacked(om: Path, temporary: Path) -> None:
    first, second = open_substitute(om), open_substitute(om)
    assert len(list(temporary.iterdir())) == 2
    first.close()
    assert second.run([pictures(2)]).outputs[0].shape == (2, SIZE)
    second.close()
    assert not list(temporary.iterdir())


def test_gears_refuse_other_batch_sizes(package: Package, tmp_path: Path) -> None:
    write_om(tmp_path / "x.om", package, header_of(gears=(1, 4)))
    session = open_substitute(tmp_path / "x.om")
    assert session.batch_gears == (1, 4)
    assert session.inputs[0].shape == (-1, 3, HEIGHT, WIDTH)
    assert session.run([pictures(4)]).outputs[0].shape == (4, SIZE)
    with pytest.raises(EngineError, match=r"a batch of 3 .* batches of 1, 4"):
        session.run([pictures(3)])
    session.close()


def test_types_and_shapes_are_those_of_the_header(package: Package, tmp_path: Path) -> None:
    half = np.dtype(np.float16)
    header = header_of(
        inputs=(TensorSpec("image", half, (-1, 3, HEIGHT, WIDTH)),),
        outputs=(TensorSpec("class", half, (-1, SIZE, 1, 1)),),
    )
    write_om(tmp_path / "x.om", package, header)
    session = open_substitute(tmp_path / "x.om")
    (found,) = session.run([pictures(2).astype(half)]).outputs
    assert (found.dtype, found.shape) == (half, (2, SIZE, 1, 1))
    with pytest.raises(EngineError, match="takes float16"):
        session.run([pictures(2)])
    session.close()


def test_a_killed_write_leaves_the_old_file(om: Path, tmp_path: Path) -> None:
    before = om.read_bytes()
    missing = Package(tmp_path / "missing", read_package_of(om, tmp_path / "copy").spec)
    with pytest.raises(FileNotFoundError):
        write_om(om, missing, header_of())
    assert om.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def read_package_of(om: Path, folder: Path) -> Package:
    with zipfile.ZipFile(om) as archive:
        archive.extractall(folder)
    (folder / "om.json").unlink()
    return read_package(folder)


def repack(om: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write the file again with other members, as an editor of zip files would."""
    with zipfile.ZipFile(om) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(om, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def edit_options(members: dict[str, bytes]) -> None:
    members["om.json"] = members["om.json"].replace(b"Ascend310P3", b"Ascend310P1")


def edit_format(members: dict[str, bytes]) -> None:
    members["om.json"] = members["om.json"].replace(b'"format": 1', b'"format": 7')


def edit_weights(members: dict[str, bytes]) -> None:
    members["model.onnx"] += b"\0"


def edit_manifest(members: dict[str, bytes]) -> None:
    members["model.json"] += b" "


def lose_the_engine(members: dict[str, bytes]) -> None:
    del members["model.onnx"]


def climb_out(members: dict[str, bytes]) -> None:
    members["../outside.txt"] = b"boo"


def climb_to_the_root(members: dict[str, bytes]) -> None:
    members["/outside.txt"] = b"boo"


def break_the_header(members: dict[str, bytes]) -> None:
    members["om.json"] = b"[1, 2"


def empty_the_header(members: dict[str, bytes]) -> None:
    members["om.json"] = b"[]"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (edit_options, IntegrityError, "om.json of .* was changed"),
        (edit_format, FormatError, "format 7, this reidkit reads format 1"),
        (edit_weights, IntegrityError, "model.onnx was changed"),
        (edit_manifest, IntegrityError, "the package in .* was changed"),
        (lose_the_engine, PackageError, "model.onnx is missing"),
        (climb_out, IntegrityError, "outside.txt"),
        (climb_to_the_root, IntegrityError, "outside.txt"),
        (break_the_header, IntegrityError, "om.json of .* is damaged"),
        (empty_the_header, IntegrityError, "om.json of .* is damaged"),
    ],
)
def test_an_edited_file_is_refused(
    om: Path,
    temporary: Path,
    change: Callable[[dict[str, bytes]], None],
    error: type[ReidkitError],
    message: str,
) -> None:
    repack(om, change)
    with pytest.raises(error, match=message):
        open_model(om)
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("fields", ['{"inputs": 3}', '{"aipp": {"height": 3}}', '{"gears": null}'])
def test_a_header_with_other_fields_is_refused(om: Path, fields: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        written = json.loads(members["om.json"]) | json.loads(fields)
        del written["om_sha256"]
        written["om_sha256"] = disk.sha256_json(written)
        members["om.json"] = json.dumps(written).encode()

    repack(om, change)
    with pytest.raises(IntegrityError, match="is damaged"):
        read_header(om)


def test_a_compressed_member_is_refused(om: Path) -> None:
    with zipfile.ZipFile(om, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", bytes(10**5))
    with pytest.raises(IntegrityError, match="'bomb'"):
        open_substitute(om)


def test_a_file_cut_off_anywhere_is_refused(om: Path, temporary: Path) -> None:
    data = om.read_bytes()
    for length in (60, 200, len(data) // 2, len(data) - 30, len(data) - 1):
        om.write_bytes(data[:length])
        # A zip that is a member, reference.npz, may be found at the new end.
        with pytest.raises(IntegrityError, match="make it again"):
            open_model(om)
    assert not list(temporary.iterdir())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_never_goes_unnoticed_or_raises_something_else(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = _bytes_of_one(tmp_path_factory)
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flipped") / "x.om"
    path.write_bytes(flipped)
    try:
        session = open_substitute(path)
    except ReidkitError:
        return
    # What is left are fields of the zip that nothing depends on, such as time stamps.
    with contextlib.closing(session):
        assert session.run([pictures(1)]).outputs[0].shape == (1, SIZE)
        assert read_header(path) == header_of()


_ONE: list[bytes] = []


def _bytes_of_one(factory: pytest.TempPathFactory) -> bytes:
    if not _ONE:
        folder = factory.mktemp("one")
        file, _ = write_onnx(folder, None)
        contract = InputSpec(height=HEIGHT, width=WIDTH)
        source = package_onnx(file, folder / "source", contract=contract)
        write_om(folder / "x.om", source, header_of())
        _ONE.append((folder / "x.om").read_bytes())
    return _ONE[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AscendError, match=r"nothing\.om: no such file"):
        read_header(tmp_path / "nothing.om")


def test_the_first_member_has_no_surprises(om: Path) -> None:
    """Read the start of the zip by hand, as `is_substitute` does."""
    start = om.read_bytes()[:64]
    method, length = struct.unpack_from("<H", start, 8)[0], struct.unpack_from("<H", start, 26)[0]
    assert (method, start[30 : 30 + length]) == (0, b"om.json")


# --- pixels ---------------------------------------------------------------------------------

GUIDE = """
# the strong baseline's normalisation
aipp_op {
  aipp_mode: static
  related_input_rank : 0
  input_format: RGB888_U8
  src_image_size_w: 16, src_image_size_h: 32;
  csc_switch: false
  rbuv_swap_switch: false
  mean_chn_0: 0 mean_chn_1: 0 mean_chn_2: 0
  min_chn_0: 123.675
  min_chn_1: 116.28
  min_chn_2: 103.53
  var_reci_chn_0: 0.0171247538316637
  var_reci_chn_1: 0.0175070028011204
  var_reci_chn_2: 0.0174291938997821
}
"""


def test_a_file_of_the_usual_kind_is_read() -> None:
    aipp = parse_aipp(GUIDE, height=32, width=16)
    assert aipp.minimum == (123.675, 116.28, 103.53)
    assert aipp.mean == (0.0, 0.0, 0.0)
    assert aipp.factor[1] == 0.0175070028011204
    assert (aipp.height, aipp.width, aipp.swap) == (32, 16, False)


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(*[st.integers(0, 255)] * 3),
    st.tuples(*[st.floats(0, 255, width=16)] * 3),
    st.tuples(*[st.floats(-2, 2, width=16)] * 3),
    st.booleans(),
)
def test_it_computes_what_the_formula_says(
    mean: tuple[int, int, int],
    minimum: tuple[float, float, float],
    factor: tuple[float, float, float],
    swap: bool,
) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 5, 4, 3), np.uint8)
    aipp = Aipp(5, 4, (mean[0] + 0.0, mean[1] + 0.0, mean[2] + 0.0), minimum, factor, swap)
    found = aipp.apply(pixels)
    assert found.dtype == np.float32
    for picture, channel, row, column in np.ndindex(found.shape):
        pixel = float(pixels[picture, row, column, 2 - channel if swap else channel])
        expected = (pixel - mean[channel] - minimum[channel]) * factor[channel]
        assert found[picture, channel, row, column] == np.float32(expected)


def test_it_is_the_reference_normalisation() -> None:
    from reidkit.preprocess import normalise

    pixels = np.random.default_rng(2).integers(0, 256, (1, 32, 16, 3), np.uint8)
    expected = np.empty((3, 32, 16), np.float32)
    normalise(pixels[0], InputSpec(height=32, width=16), expected)
    found = parse_aipp(GUIDE, height=32, width=16).apply(pixels)[0]
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("aipp_mode: static", "aipp_mode: dynamic", "only static"),
        ("aipp_mode: static", "", "only static"),
        ("RGB888_U8", "YUV420SP_U8", r"Value \[YUV420SP_U8\] .* only RGB888_U8"),
        ("csc_switch: false", "csc_switch: true", "csc_switch"),
        ("csc_switch: false", "crop: true", "crop"),
        ("csc_switch: false", "crop: maybe", "expected true or false"),
        ("csc_switch: false", "nonsense: 1", "no such field"),
        ("src_image_size_h: 32", "src_image_size_h: 64", "pictures of 32x16"),
        ("rank : 0", "rank : 1", "one input"),
        ("mean_chn_0: 0", "mean_chn_0: 0.5", "a whole number"),
        ("min_chn_0: 123.675", "min_chn_0: x", "a number"),
        ("min_chn_0: 123.675", "min_chn_0: inf", "finite"),
    ],
)
def test_what_is_not_computed_is_refused(old: str, new: str, message: str) -> None:
    assert old in GUIDE
    with pytest.raises(AscendError, match=message) as caught:
        parse_aipp(GUIDE.replace(old, new), height=32, width=16)
    assert caught.value.code == "E10001"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aipp_op",
        "aipp_op {",
        "aipp_op { aipp_mode static }",
        "aipp_op { aipp_mode: }",
        "aipp_op { aipp_mode: static } aipp_op { }",
        "aipp_op { aipp_mode: static aipp_mode: static }",
        "other { aipp_mode: static }",
        'aipp_op { aipp_mode: "static }',
    ],
)
def test_a_file_that_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(AscendError) as caught:
        parse_aipp(text, height=32, width=16)
    assert caught.value.code == "E13001"


@given(st.text(alphabet="aipo_mdestc{}:;,# \n\"'0.-", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with pytest.raises(AscendError):
        parse_aipp(f"aipp_op {{ {text} }}", height=32, width=16)


def test_a_missing_file_has_a_code(tmp_path: Path) -> None:
    with pytest.raises(AscendError, match="No such file") as caught:
        read_aipp(tmp_path / "x.config", height=1, width=1)
    assert caught.value.code == "E13001"


def test_the_file_takes_pixels(package: Package, tmp_path: Path) -> None:
    aipp = parse_aipp(GUIDE, height=HEIGHT, width=WIDTH)
    taken = TensorSpec("image", np.dtype(np.uint8), (-1, HEIGHT, WIDTH, 3))
    write_om(tmp_path / "pixels.om", package, header_of(inputs=(taken,), aipp=aipp))
    write_om(tmp_path / "floats.om", package, header_of())
    pixels = np.random.default_rng(3).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    session, floats = open_model(tmp_path / "pixels.om"), open_model(tmp_path / "floats.om")
    (found,), (expected,) = session.run([pixels]).outputs, floats.run([aipp.apply(pixels)]).outputs
    assert np.array_equal(found, expected)
    session.close()
    floats.close()
