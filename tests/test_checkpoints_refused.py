"""Files that are no checkpoint, or a damaged one: what they are and what to do is said."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import checkpoints
from reidkit.errors import CheckpointError, ReidkitError, UnsafeCheckpointError
from tests import checkpoint_files as files
from tests.checkpoint_files import Call, Global, New, module, ordered, storage, tensor

ARRAYS: dict[str, NDArray[Any]] = {"a.weight": np.ones((2, 3), np.float32), "a.bias": np.arange(3)}
GOLDEN = Path(__file__).parent / "golden" / "checkpoints"


def message(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoints.read(path)
    assert type(caught.value) is CheckpointError
    text = str(caught.value)
    assert text.startswith(str(path))
    return text.removeprefix(str(path)).strip()


def message_for(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "given.pth"
    path.write_bytes(data)
    return message(path)


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    assert message(tmp_path / "none.pth").startswith("does not exist")
    assert message(tmp_path).startswith("is a folder")
    assert message_for(tmp_path, b"").startswith("is empty (0 bytes)")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert message(tmp_path / "pipe") == "is not a regular file"


QUOTA = b"""\xef\xbb\xbf
<!DOCTYPE html><html><head><title>Google Drive -
  Quota exceeded</title></head><body>Too many users</body></html>"""


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (QUOTA, "is an HTML page with the title 'Google Drive - Quota exceeded'"),
        (b"<html><body>404</body></html>", "is an HTML page, not a checkpoint"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 94321\n",
            "is a Git LFS pointer, which stands for a file of 94321 bytes",
        ),
        (json.dumps({"epoch": 3}).encode(), "is a JSON file"),
        (b"MODEL:\n  NAME: 'resnet50'\n", "is a YAML file"),
        (b"input: 3\nepoch: 120\n", "is a YAML file"),
        (b"conv1: 3\nepoch: 120\n", "is a YAML file"),
        (b"just some words\n", "is a text file"),
        (b"import torch\nprint('x')\n", "is a text file"),
        (b"\x93NUMPY\x01\x00", "is a numpy .npy file"),
        (b"\x1f\x8b\x08\x00", "is compressed with gzip: unpack it first"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"\x00" * 300, "is not a checkpoint of any known kind"),
        (b"\x08\x01\x02", "is not a checkpoint of any known kind"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, expected: str) -> None:
    assert expected in message_for(tmp_path, data)


def test_an_onnx_model(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.pth")
    assert "reidkit package" in message(tmp_path / "a.pth")


def test_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    assert message(tmp_path / "a.npz").startswith("is a numpy .npz file")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("storages"))
    assert "torch before 0.1.10" in message_for(tmp_path, buffer.getvalue())
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("model.pth", b"x")
    assert "unpack it first" in message(tmp_path / "b.zip")
    extra = {"constants.pkl": b"", "code/__torch__.py": b""}
    path = files.write_zip_content(tmp_path / "c.pt", {}, {}, extra=extra)
    assert message(path).startswith("is a TorchScript archive")


def test_a_zip_checkpoint_that_was_packed_again(tmp_path: Path) -> None:
    path = files.write_zip(tmp_path / "a.pth", ARRAYS)
    with (
        zipfile.ZipFile(path) as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "packed again" in message(tmp_path / "b.pth")


ONE = tensor(storage("0", "float32", 2), (2,))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"state": {0: {"exp_avg": ONE}}, "param_groups": [{}]}, "holds an optimizer's state"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "holds a dict without tensors"),
        (New(Global("torch.optim.adam", "Adam"), {"param_groups": [], "state": {}}), "optimizer"),
        ({"epoch": 3, "lr": 0.1}, "holds a dict without tensors (keys: 'epoch', 'lr')"),
        ({}, "holds a dict without tensors (keys: none)"),
        ([1, 2], "holds one list, not a network"),
        (3, "holds one int"),
        (ONE, "holds one tensor"),
        ({1: ONE, 2: ONE}, "keys that are no texts"),
        (module("my.Net", modules={}), "holds no tensors in its pickled module of class my.Net"),
        (New(Global("my", "Config"), {"a": 1}), "holds one my.Config, not a network"),
        (
            {"a": Call(Global("torch._utils", "_rebuild_sparse_tensor"), (1, 2)), "b": ONE},
            "holds 1 tensors of kinds that reidkit does not read: 'a' (sparse)",
        ),
        (
            {"q": tensor(storage("1", "torch.QInt8Storage", 2), (2,)), "b": ONE},
            "'q' (qint8)",
        ),
        (
            {"n": Call(Global("numpy._core.multiarray", "_reconstruct"), (1, 2, 3))},
            "'n' (numpy array)",
        ),
        (
            {"a": tensor(storage("0", "torch.OddStorage", 2), (2,))},
            "unknown type torch.OddStorage",
        ),
        ({"a": tensor(storage("9", "float32", 2), (2,))}, "data/9' is missing"),
        ({"a": ONE, "b": tensor(storage("0", "int8", 2), (2,))}, "is described as 2 float32"),
    ],
)
def test_contents_that_are_no_network(tmp_path: Path, content: object, expected: str) -> None:
    arrays: dict[str, NDArray[Any]] = {"0": np.ones(2, np.float32), "1": np.ones(2, np.int8)}
    path = files.write_zip_content(tmp_path / "a.pth", content, arrays)
    assert expected in message(path)


def test_a_legacy_file_of_another_make(tmp_path: Path) -> None:
    encoded = [*map(files.encode, (files.LEGACY_MAGIC, 1002, {}, {}, []))]
    assert "unknown protocol" in message_for(tmp_path, b"".join(encoded))
    encoded[1] = files.encode(1001)
    encoded[4] = files.encode({})
    assert "no list of storage keys" in message_for(tmp_path, b"".join(encoded))
    assert "torch.save did not write" in message_for(tmp_path, files.encode({"a": 1}))


def test_legacy_storages_that_do_not_fit_their_description(tmp_path: Path) -> None:
    place = tensor((*storage("5", "float32", 2), None), (2,))
    path = files.write_legacy_content(tmp_path / "a", {"a": place}, {"5": np.ones(3, np.float32)})
    assert "has 3 elements, its pickle says 2" in message(path)
    files.write_legacy_content(path, {"a": place}, {})
    assert "1 of 1 storages are missing" in message(path)
    files.write_legacy_content(path, {}, {"5": np.ones(3, np.float32)})
    assert "storage 1 of 1 is not one that its pickle describes" in message(path)


def test_truncated_files_say_how_far_they_go(tmp_path: Path) -> None:
    whole = files.write_legacy(tmp_path / "a", ARRAYS).read_bytes()
    cut = message_for(tmp_path, whole[:-4])
    expected = f"storage 2 of 2 should end at byte {len(whole)}, the file has {len(whole) - 4}"
    assert expected in cut
    assert "breaks off at byte" in message_for(tmp_path, whole[:200])
    whole = files.write_zip(tmp_path / "a", ARRAYS).read_bytes()
    assert f"its {len(whole) // 2} bytes" in message_for(tmp_path, whole[: len(whole) // 2])
    safetensors.numpy.save_file(ARRAYS, tmp_path / "s")
    whole = (tmp_path / "s").read_bytes()
    assert "truncated or damaged safetensors" in message_for(tmp_path, whole[:-1])


def test_a_damaged_weight_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    path = files.write_zip(tmp_path / "a", {"w": np.full(100, 1.5, np.float32)})
    data = bytearray(path.read_bytes())
    data[data.index(np.full(2, 1.5, np.float32).tobytes()) + 50] ^= 1
    assert "checksum of its record 'a/data/0' is wrong" in message_for(tmp_path, bytes(data))


def test_two_records_of_one_name(tmp_path: Path) -> None:
    path = files.write_zip(tmp_path / "a", ARRAYS)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/data.pkl", b"N.")
    assert "two records of one name" in message(path)


def test_safetensors_of_types_that_are_not_read(tmp_path: Path) -> None:
    array = np.ones(2).astype(ml_dtypes.float8_e4m3fn)
    data = array.tobytes()
    header = json.dumps({"w": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    text = message_for(tmp_path, len(header).to_bytes(8, "little") + header + data)
    assert "'w' (F8_E4M3)" in text
    safetensors.numpy.save_file({}, tmp_path / "none")
    assert "holds no tensors" in message(tmp_path / "none")


def test_an_error_of_a_hostile_file_keeps_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnsafeCheckpointError, match=r"a\.pth names os\.system"):
        checkpoints.read(path)


def samples() -> list[bytes]:
    names = ["module_legacy", "module_zip", "parallel_legacy", "layouts_zip", "layouts_legacy"]
    found = [(GOLDEN / f"{name}.pth").read_bytes() for name in names]
    return [*found, safetensors.numpy.save(ARRAYS)]


def assert_read_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        found = checkpoints.read(path)
    except ReidkitError:
        return
    assert found.tensors
    own = [array for array in found.tensors.values() if array.flags.owndata]
    assert sum(array.nbytes for array in own) <= 4 * len(data) + (64 << 20)


FUZZ = settings(
    max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(st.sampled_from(samples()), st.floats(0, 1))
def test_files_cut_anywhere_are_read_or_refused(tmp_path: Path, data: bytes, part: float) -> None:
    assert_read_or_refused(tmp_path / "cut", data[: int(part * len(data))])


@FUZZ
@given(
    st.sampled_from(samples()),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_files_with_other_bytes_are_read_or_refused(
    tmp_path: Path, data: bytes, changes: list[tuple[float, int]]
) -> None:
    damaged = bytearray(data)
    for place, value in changes:
        damaged[int(place * len(data))] = value
    assert_read_or_refused(tmp_path / "damaged", bytes(damaged))


@FUZZ
@given(st.sampled_from(samples()), st.floats(0, 1), st.binary(min_size=1, max_size=20))
def test_pickles_with_other_instructions_are_read_or_refused(
    tmp_path: Path, data: bytes, part: float, inserted: bytes
) -> None:
    place = int(part * len(data))
    assert_read_or_refused(tmp_path / "longer", data[:place] + inserted + data[place:])


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x02", b"\x80\x04", b"PK\x03\x04"]))
def test_any_bytes_are_refused(tmp_path: Path, data: bytes, start: bytes) -> None:
    assert_read_or_refused(tmp_path / "noise", start + data)


INSTRUCTIONS = [
    bytes([code]) for code in b"NKQ()]}tslaeud2q\x00h\x00Rb\x81\x85\x86\x87\x8f\x90\x91\x940"
]


@FUZZ
@given(
    st.lists(st.sampled_from([*INSTRUCTIONS, b"cmy\nNet\n", b"K\x01", files._code(ordered({}))]))
)
def test_any_sequence_of_instructions_is_refused(tmp_path: Path, parts: list[bytes]) -> None:
    content = files.Raw(b"\x80\x02" + b"".join(parts) + b".")
    path = files.write_zip_content(tmp_path / "program", content, {})
    assert_read_or_refused(path, path.read_bytes())
