"""Small files that ask for endless work or memory: each is refused before it gets any."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reidkit import checkpoints
from reidkit.errors import CheckpointError
from tests import checkpoint_files as files
from tests.checkpoint_files import Global, Persistent, Raw, ordered, storage, tensor

GUARDED = """
import sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
except ImportError:  # not on Windows: there the hang guard alone has to do
    pass
from reidkit import checkpoints
for path in sys.argv[1:]:
    try:
        checkpoints.read(path)
        print("read")
    except Exception as error:
        print(type(error).__name__)
"""


def read_guarded(*paths: Path) -> list[str]:
    """Read files in a process with a memory limit that is ended when it hangs.

    Both limits only keep a failure from taking the machine with it; how long reading takes is
    not what is tested. Gives the class of each error, or `read`.
    """
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", GUARDED, *map(str, paths)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


AGAIN = b"c__builtin__\nset\nq\x01" + b"h\x01h\x00R0" * 99_999 + b"N."
"""A set made of what stands in the memo, again and again."""

PICKLES = {
    "memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "integer": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep tuples": b"\x80\x02)" + b"\x85" * 200_000 + b".",
    "deep marks": b"\x80\x02" + b"(" * 200_000 + b".",
    "doubling tuples as a key": b"\x80\x02})" + b"2\x86" * 200 + b"Ns.",
    "doubling dicts": b"\x80\x02}q\x00" + b"}(K\x01h\x00K\x02h\x00uq\x00" * 200 + b".",
    "long texts compared": b"\x80\x02}X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x00Ns"
    b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x010" + b"h\x00Nsh\x01Ns" * 99_999 + b".",
    "types of types": b"\x80\x02ctorch._tensor\n_rebuild_from_type_v2\nq\x00)q\x01"
    + b"0"
    + b"(h\x00Nh\x01Ntq\x01" * 3000
    + b"h\x00h\x01R.",
    "a set of a list": b"\x80\x02](" + b"K\x01" * 9999 + b"e\x85q\x00" + AGAIN,
    "a set of a tuple": b"\x80\x02(" + b"K\x01" * 9999 + b"t\x85q\x00" + AGAIN,
    "a set of a dict": b"\x80\x02}("
    + b"".join(struct.pack("<cHc", b"M", i, b"N") for i in range(9999))
    + b"u\x85q\x00" + AGAIN,
    "a set of a text": b"\x80\x02X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"\x85q\x00" + AGAIN,
    "a call of many arguments": b"\x80\x02(" + b"K\x01" * 99_999 + b"tq\x00"
    b"cdatetime\ndate\nq\x01" + b"h\x01h\x00R0" * 99_999 + b"N.",
}  # fmt: skip


@pytest.mark.parametrize("name", PICKLES)
def test_pickles_are_refused(tmp_path: Path, name: str) -> None:
    path = files.write_zip_content(tmp_path / "zip.pth", Raw(PICKLES[name]), {})
    assert read_guarded(path) in (["CheckpointError"], ["UnsafeCheckpointError"])


def one_storage_a_thousand_times(path: Path, element: str) -> Path:
    """A megabyte that 4000 tensors share, each of which would be copied to another type."""
    array = np.zeros(500_000 if element == "bfloat16" else 1_000_000, np.uint8).astype(element)
    place = Persistent(storage("0", element, array.size))
    rebuild = files._code(Global("torch._utils", "_rebuild_tensor_v2")) + b"q\x000"
    arguments = files._code((place, 0, array.shape, (1,), False, ordered({}))) + b"q\x010"
    entries = b"".join(files._code(str(i)) + b"h\x00h\x01R" for i in range(4000))
    code = b"\x80\x02" + rebuild + arguments + b"}(" + entries + b"u."
    return files.write_zip_content(path, Raw(code), {"0": array})


def dicts_in_many_dicts(path: Path) -> Path:
    """Dicts without tensors, each of whose thousands of entries is the dict below."""

    def nested(inner: bytes) -> bytes:
        return b"}(" + b"".join(files._code(str(i)) + inner for i in range(9000)) + b"u"

    code = b"}q\x09(" + files._code("x") + b"Nu0" + nested(b"h\x09") + b"q\x010"
    code += nested(b"h\x01") + b"q\x020" + nested(b"h\x02") + b"."
    return files.write_zip_content(path, Raw(b"\x80\x02" + code), {})


def a_large_dict_in_itself(path: Path) -> Path:
    content = b"}q\x00(" + b"".join(files._code(str(i)) + b"}" for i in range(100_000))
    code = content + files._code("model") + b"h\x00" + files._code("b")
    code += files._code(tensor(storage("0", "float32", 2), (2,))) + b"u."
    return files.write_zip_content(path, Raw(b"\x80\x02" + code), {"0": np.ones(2, np.float32)})


def many_modules_with_shared_parameters(path: Path) -> Path:
    """A network with 9000 times the same part, which has 9000 parameters."""
    net = files._code(Global("my", "Net")) + b")\x81"
    one = files._code(tensor(storage("0", "float32", 2), (2,))) + b"q\x050"
    parameters = b"}(" + b"".join(files._code(f"p{i}") + b"h\x05" for i in range(9000)) + b"u"
    child = net + b"}(" + files._code("_parameters") + parameters
    child += files._code("_modules") + b"}ubq\x070"
    children = b"}(" + b"".join(files._code(f"c{i}") + b"h\x07" for i in range(9000)) + b"u"
    code = one + child + net + b"}" + files._code("_modules") + children + b"sb."
    return files.write_zip_content(path, Raw(b"\x80\x02" + code), {"0": np.ones(2, np.float32)})


def prefixes_of_prefixes(path: Path) -> Path:
    """Modules inside each other, so that every key is longer than the one before."""
    net = files._code(Global("my", "Net")) + b")\x81}"
    around = net + files._code("_modules") + b"}" + files._code("module" * 20)
    code = around * 20_000 + net + b"b" + b"ssb" * 20_000 + b"."
    return files.write_zip_content(path, Raw(b"\x80\x02" + code), {})


def zip_of(*records: tuple[bytes, bytes], listed: bytes, count: int) -> bytes:
    """A zip file with these records, and with any list of what it holds."""
    body = b"".join(
        struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data),
                    len(name), 0) + name + data
        for name, data in records
    )  # fmt: skip
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(listed), len(body), 0)
    return body + listed + end


def listing(name: bytes, data: bytes, offset: int, extra: bytes = b"") -> bytes:
    fields = (zlib.crc32(data), len(data), len(data), len(name), len(extra), 0, 0, 0, 0, offset)
    return struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, *fields) + name + extra


def many_records_on_one(path: Path) -> Path:
    """Ten thousand storages, all of them on the same 4 MB, each with a checksum to check."""
    names = [str(i) for i in range(10_000)]
    entries = {name: tensor(storage(name, "float32", 1), (1,)) for name in names}
    pickled, data = files.encode(entries), b"\1" * 4_000_000
    place = 30 + len(b"a/data.pkl") + len(pickled)
    listed = listing(b"a/data.pkl", pickled, 0)
    one = listing(b"#", data, place)
    head = [one[:28], one[30:46]]
    for name in names:
        stored = b"a/data/" + name.encode()
        listed += head[0] + struct.pack("<H", len(stored)) + head[1] + stored
    zipped = zip_of((b"a/data.pkl", pickled), (b"a/data/0", data), listed=listed, count=10_001)
    path.write_bytes(zipped)
    return path


BOMBS: dict[str, Callable[[Path], Path]] = {
    "bfloat16": lambda path: one_storage_a_thousand_times(path, "bfloat16"),
    "bool": lambda path: one_storage_a_thousand_times(path, "bool"),
    "dicts": dicts_in_many_dicts,
    "itself": a_large_dict_in_itself,
    "modules": many_modules_with_shared_parameters,
    "prefixes": prefixes_of_prefixes,
    "records": many_records_on_one,
}


@pytest.mark.parametrize("name", BOMBS)
def test_files_are_refused(tmp_path: Path, name: str) -> None:
    path = BOMBS[name](tmp_path / "bomb.pth")
    assert path.stat().st_size < 6_000_000
    assert read_guarded(path) == ["CheckpointError"]


def test_the_guard_sees_a_file_that_fills_the_memory(tmp_path: Path) -> None:
    code = GUARDED.partition("from reidkit")[0] + "x = bytearray(4 << 30)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_what_is_copied_is_counted_before_it_is_allocated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = one_storage_a_thousand_times(tmp_path / "a", "bool")
    with pytest.raises(CheckpointError, match=r"use the same bytes so often .*at '\d+'.*clone"):
        checkpoints.read(path)
    monkeypatch.setattr("reidkit.checkpoints._tensors._ALWAYS_ALLOWED", 4 << 30)
    monkeypatch.setattr("reidkit.checkpoints._tensors.settle", lambda view, _element: view)
    assert len(checkpoints.read(path).tensors) == 4000


def test_overlapping_records_are_refused_even_when_none_uses_them(tmp_path: Path) -> None:
    pickled = files.encode({"a": tensor(storage("0", "float32", 2), (2,))})
    data, place = np.ones(2, np.float32).tobytes(), 30 + 10 + len(pickled)
    names = (b"a/data/0", b"a/data/1")
    listed = listing(b"a/data.pkl", pickled, 0) + listing(names[0], data, place)
    whole = zip_of((b"a/data.pkl", pickled), (names[0], data), listed=listed, count=2)
    (tmp_path / "a").write_bytes(whole)
    assert checkpoints.read(tmp_path / "a").tensors["a"].tolist() == [1, 1]
    listed += listing(names[1], data, place)
    whole = zip_of((b"a/data.pkl", pickled), (names[0], data), listed=listed, count=3)
    (tmp_path / "a").write_bytes(whole)
    with pytest.raises(CheckpointError, match="record 'a/data/1' overlaps another"):
        checkpoints.read(tmp_path / "a")


@pytest.mark.parametrize("offset", [2**64 - 5, 2**63, 2**32, 10**6])
def test_a_record_that_starts_outside_the_file(tmp_path: Path, offset: int) -> None:
    pickled = files.encode({})
    extra = struct.pack("<HHQ", 1, 8, offset)
    listed = listing(b"a/data.pkl", pickled, 0xFFFFFFFF, extra)
    (tmp_path / "a").write_bytes(zip_of((b"a/data.pkl", pickled), listed=listed, count=1))
    with pytest.raises(CheckpointError, match=r"damaged zip checkpoint: its record 'a/data\.pkl'"):
        checkpoints.read(tmp_path / "a")


def test_only_records_in_use_are_checked(tmp_path: Path) -> None:
    path = files.write_zip(tmp_path / "a", {"w": np.ones(3, np.float32)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/.data/notes", "of another tool")
    data = path.read_bytes().replace(b"of another tool", b"of another fool")
    with pytest.raises(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
        archive.read("a/.data/notes")
    path.write_bytes(data)
    assert checkpoints.read(path).tensors["w"].tolist() == [1, 1, 1]
