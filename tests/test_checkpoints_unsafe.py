"""Hostile checkpoints: each is refused, quickly, and nothing of it runs."""

from __future__ import annotations

import codecs
import copyreg
import io
import os
import pickle
import pickletools
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit import checkpoints
from reidkit.checkpoints import _known, _machine
from reidkit.errors import CheckpointError, UnsafeCheckpointError
from tests import checkpoint_files as files
from tests.checkpoint_files import Call, Global, New, Raw, ordered, storage, tensor


class Attack:
    """Python's own way to make a pickle call something."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.call


# zipfile loads this when it first reads a name; loading a module is not what is watched for.
codecs.lookup("cp437")

READING: list[Path] = []
RAN: list[str] = []


def watch(event: str, _arguments: object) -> None:
    watched = ("exec", "compile", "os.system", "subprocess.Popen", "pickle.find_class")
    if READING and event in watched:
        RAN.append(event)


sys.addaudithook(watch)


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    """Fail where anything was executed, started or looked up while a file was read."""
    RAN.clear()
    yield
    assert RAN == []


def read(path: Path) -> checkpoints.Checkpoint:
    READING.append(path)
    try:
        return checkpoints.read(path)
    finally:
        READING.pop()


def test_the_watch_sees_what_runs() -> None:
    READING.append(Path("watched"))
    exec(compile("", "nothing", "exec"))
    pickle.loads(b"cos\nsystem\n.")
    READING.pop()
    assert {"compile", "exec", "pickle.find_class"} <= set(RAN)
    RAN.clear()


def every_container(tmp_path: Path, pickled: bytes) -> list[Path]:
    """Put a pickle into a bare file, a zip checkpoint and a legacy one."""
    bare = tmp_path / "bare.pth"
    bare.write_bytes(pickled)
    zipped = files.write_zip_content(tmp_path / "zip.pth", Raw(pickled), {})
    legacy = tmp_path / "legacy.pth"
    start = [*map(files.encode, (files.LEGACY_MAGIC, 1001, {}))]
    legacy.write_bytes(b"".join([*start, pickled, files.encode([])]))
    return [bare, zipped, legacy]


CALLS = [
    "os.system",
    "posix.system",
    "nt.system",
    "builtins.eval",
    "builtins.exec",
    "builtins.getattr",
    "builtins.__import__",
    "__builtin__.apply",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "operator.attrgetter",
    "operator.methodcaller",
    "functools.partial",
    "pickle.loads",
    "numpy.f2py.diagnose.run",
    "runpy._run_code",
    "importlib.import_module",
    "sys.exit",
    "copyreg.add_extension",
    "torch.storage._load_from_bytes",
    "reidkit.checkpoints.read",
    "reidkit.checkpoints._machine.interpret",
    "timeit.timeit",
]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("protocol", [2, 4])
def test_calls_are_refused_by_name(tmp_path: Path, name: str, protocol: int) -> None:
    module, attribute = name.split(".", 1) if name.count(".") == 1 else name.rsplit(".", 1)
    named: object = Global(module, attribute)
    if protocol == 4:
        named = Raw(b"".join(map(files._code, (module, attribute))) + b"\x93")
    pickled = files.encode({"a": Call(named, ("touch never",))})
    for path in every_container(tmp_path, pickled):
        with pytest.raises(UnsafeCheckpointError, match=name.replace(".", r"\.")):
            read(path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (Attack(os.system, "true"), f"{os.name}.system"),
        (Attack(eval, "1"), "eval"),
        (Attack(subprocess.Popen, ["true"]), "Popen"),
        (Attack(Attack, Attack(exec, "x = 1")), "exec"),
        (Attack(io.open, "/dev/null"), "open"),
    ],
)
def test_what_python_pickles_itself(
    tmp_path: Path, attack: Attack, name: str, protocol: int
) -> None:
    for path in every_container(tmp_path, pickle.dumps([attack], protocol)):
        with pytest.raises(UnsafeCheckpointError, match=name):
            read(path)


def weights(tmp_path: Path, hidden: object) -> Path:
    """Hide something in a checkpoint that is right in every other way."""
    good = tensor(storage("0", "float32", 2), (2,))
    content = {"model": ordered({"w": good}), "extra": hidden}
    return files.write_zip_content(tmp_path / "w.pth", content, {"0": np.ones(2, np.float32)})


REBUILD = Global("torch._utils", "_rebuild_tensor_v2")
NETWORK = Global("modeling.baseline", "Baseline")


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        # A dotted name reaches below a module: it is judged by where it starts.
        (Call(Raw(b"\x8c\x02os\x8c\x09path.join\x93"), ("a",)), r"os\.path\.join"),
        (Call(Raw(b"\x8c\x05torch\x8c\x09os.system\x93"), ("a",)), r"torch\.os\.system"),
        # Instructions that call: INST and OBJ.
        (Raw(b"(X\x02\x00\x00\x00lsios\nsystem\n"), r"os\.system"),
        (Raw(b"(cos\nsystem\nX\x02\x00\x00\x00lso"), r"os\.system"),
        (Raw(b"(cmy\nrun\nX\x02\x00\x00\x00lso"), r"my\.run"),
        (Raw(b"(X\x02\x00\x00\x00lsimy\nrun\n"), r"my\.run"),
        # The extension registry.
        (Raw(b"\x82\x01"), "EXT1"),
        (Raw(b"\x83\x01\x00"), "EXT2"),
        (Raw(b"\x84\x01\x00\x00\x00"), "EXT4"),
        # Objects of dangerous classes, made without a call.
        (New(Global("subprocess", "Popen"), {}), r"subprocess\.Popen"),
        (New(Global("builtins", "type"), {}), r"builtins\.type"),
        # State set on what is no object: a known function, a class.
        (Raw(files._code(REBUILD) + files._code({"__code__": 1}) + b"b"), "_rebuild_tensor_v2"),
        (Raw(files._code(NETWORK) + files._code((None, {"__call__": 1})) + b"b"), "Baseline"),
        (Raw(b"]" + files._code({"append": REBUILD}) + b"b"), "attributes of 'list'"),
        # Calls of what was made: an inert object, a tensor, a class, a text.
        (Call(New(NETWORK, {"__call__": REBUILD}), ()), "calls a Inert"),
        (Call(tensor(storage("0", "float32", 2), (2,)), ()), "calls a Tensor"),
        (Call(NETWORK, ("argument",)), r"modeling\.baseline\.Baseline"),
        (Call("os.system", ("ls",)), "calls a str"),
        (New("os.system", {}), "object of a str"),
        # A state that would run on the way in.
        (New(NETWORK, {"__setstate__": Call(Global("os", "system"), ("ls",))}), r"os\.system"),
        # Out-of-band buffers belong to no file.
        (Raw(b"\x97"), "NEXT_BUFFER"),
    ],
)
def test_tricks_are_refused(tmp_path: Path, hidden: object, message: str) -> None:
    with pytest.raises(UnsafeCheckpointError, match=message):
        read(weights(tmp_path, hidden))


def test_the_extension_registry_is_not_asked(tmp_path: Path) -> None:
    copyreg.add_extension("os", "system", 240)
    try:
        pickle.loads(b"\x80\x02\x82\xf0.")  # the standard library now remembers what 240 is
        with pytest.raises(UnsafeCheckpointError, match="EXT1"):
            read(weights(tmp_path, Raw(b"\x82\xf0")))
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize("count", [10**12, 2**63 - 1])
def test_storages_larger_than_the_file_are_not_allocated(tmp_path: Path, count: int) -> None:
    content = {"a": tensor((*storage("0", "float32", count), None), (count,))}
    zipped = files.write_zip_content(tmp_path / "a", content, {"0": np.ones(1, np.float32)})
    legacy = files.write_legacy_content(tmp_path / "b", content, {"0": np.ones(1, np.float32)})
    tracemalloc.start()
    for path in (zipped, legacy):
        with pytest.raises(CheckpointError, match=r"truncated|its pickle says"):
            read(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("shape", "strides", "offset", "message"),
    [
        ((3,), (1,), 0, "reaches to element 2 of a storage of 2"),
        ((2,), (1,), 1, "reaches to element 2"),
        ((2,), (10**12,), 0, "reaches to element"),
        ((1,), (1,), 10**18, "reaches to element"),
        ((1,), (2**63,), 0, "not a number from 0 to"),
        ((10**12,), (0,), 0, "of memory, at 'a'"),
        ((10**6, 10**6), (0, 0), 0, "of memory, at 'a'"),
        ((10**18,), (0,), 0, "impossible shape"),
        ((2**62, 2**62), (0, 0), 0, "impossible shape"),
        ((0, 10**18), (1, 1), 0, "impossible shape"),
        ((2,), (-1,), 1, "not a number from 0 to"),
        ((-2,), (1,), 0, "not a number from 0 to"),
        ((2,), (1,), -1, "not a number from 0 to"),
        ((2,), (1, 1), 0, "1 axes and 2 strides"),
        ((1,) * 40, (1,) * 40, 0, "at most 32 sizes"),
    ],
)
@pytest.mark.parametrize("element", ["float32", "bfloat16"])
def test_tensors_outside_their_storage_are_refused(
    tmp_path: Path,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int,
    message: str,
    element: str,
) -> None:
    content = {"a": tensor(storage("0", element, 2), shape, strides, offset)}
    path = files.write_zip_content(tmp_path / "a", content, {"0": np.ones(2).astype(element)})
    with pytest.raises(CheckpointError, match=message):
        read(path)


def test_a_network_inside_itself_is_refused(tmp_path: Path) -> None:
    # A module whose `_modules` holds the module: memo 9 is the object, built at the end.
    state = files._code("_modules") + b"}" + files._code("again") + b"h\x09s"
    code = files._code(NETWORK) + b")\x81q\x09}" + state + b"sb"
    path = files.write_zip_content(tmp_path / "a", Raw(b"\x80\x02" + code + b"."), {})
    with pytest.raises(CheckpointError, match="holds itself"):
        read(path)


@pytest.mark.parametrize("place", ["shape", "strides", "offset", "count"])
def test_numbers_too_long_to_be_shown_are_refused(tmp_path: Path, place: str) -> None:
    sizes = {"shape": 1, "strides": 1, "offset": 0, "count": 2} | {place: 10**5000}
    identity = (*storage("0", "float32", sizes["count"]), None)
    made = tensor(identity, (sizes["shape"],), (sizes["strides"],), sizes["offset"])
    arrays = {"0": np.ones(2, np.float32)}
    for write in (files.write_zip_content, files.write_legacy_content):
        with pytest.raises(CheckpointError, match="not a number from 0 to"):
            read(write(tmp_path / "a", {"a": made}, arrays))


def test_work_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights(tmp_path, [1] * 500)
    assert list(read(path).tensors) == ["w"]
    monkeypatch.setattr(_machine, "_MOST_WORK", 500)
    with pytest.raises(CheckpointError, match="more than 500 steps"):
        read(path)


def test_only_keys_that_are_quick_to_hash_and_compare_are_used() -> None:
    for key in ("a" * 1000, b"a", 3, -(2**63), 1.5, None, True):
        assert _known.hashable(key) is key
    for slow in ("a" * 1001, b"a" * 1001, 1 << 65, ((),), [1]):
        assert _known.hashable(slow) is not slow


def test_every_instruction_is_known_or_refused_on_purpose() -> None:
    known = _machine._CONSTANTS | set(_machine._INSTRUCTIONS)
    refused = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
    assert {opcode.name for opcode in pickletools.opcodes} == known | refused
