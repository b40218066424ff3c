"""What lies beside a network in honest files, and files that leave open which network is meant."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import fractions
import io
import pathlib
import pickle
import random
import struct
import types
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from reidkit import checkpoints
from reidkit.checkpoints import _known, _machine
from reidkit.checkpoints._values import Inert, Name, Storage, Tensor, Unreadable
from reidkit.errors import CheckpointError, UnsafeCheckpointError
from tests import checkpoint_files as files
from tests.checkpoint_files import Call, Global, New, Raw, ordered, storage, tensor

ONES = {"0": np.ones(2, np.float32)}
ONE = tensor(storage("0", "float32", 2), (2,))
NETWORK = Global("modeling.baseline", "Baseline")


def read_content(tmp_path: Path, content: object) -> checkpoints.Checkpoint:
    return checkpoints.read(files.write_zip_content(tmp_path / "a.pth", content, ONES))


STATE: list[Any] = [
    b"",
    b"\xff\x00",
    1j,
    bytearray(b"abc"),
    bytearray(),
    range(3),
    slice(1, None),
    {1, "a"},
    frozenset([1]),
    collections.deque([1, 2], 4),
    collections.Counter("abc"),
    collections.defaultdict(list, {1: [2]}),
    collections.OrderedDict(a=1),
    datetime.datetime(2024, 5, 6, tzinfo=datetime.UTC),
    datetime.date(2024, 5, 6),
    datetime.time(3),
    datetime.timedelta(hours=3),
    decimal.Decimal("1.5"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=5),
    pathlib.PurePosixPath("a/b"),
    pathlib.PureWindowsPath("a/b"),
    types.SimpleNamespace(lr=0.1),
    argparse.Namespace(type=int, rate=float, name=str, names=list, other=...),
    np.float32(3),
    np.dtype("float32"),
    np.arange(4),
    np.random.RandomState(3),
    np.random.default_rng(3),
    np.random.get_state(),
    random.Random(3),
    random.getstate(),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", STATE, ids=lambda value: type(value).__name__)
def test_training_state_is_read_as_python_and_numpy_pickle_it(value: object, protocol: int) -> None:
    pickled = pickle.dumps([value, "behind it"], protocol)
    content, _ = _machine.interpret(io.BytesIO(pickled))
    assert isinstance(content, list)
    assert content[1] == "behind it"


def test_training_state_beside_a_network_does_not_hide_it(tmp_path: Path) -> None:
    state = [Raw(pickle.dumps(value, 2)[2:-1]) for value in STATE]
    for hidden in state:
        found = read_content(tmp_path, {"extra": hidden, "model": ordered({"w": ONE})})
        assert list(found.tensors) == ["w"]


def test_harmless_company_of_a_network_is_read(tmp_path: Path) -> None:
    hidden = [
        Global("torch", "float16"),
        Global("torch.nn.functional", "relu"),
        New(Global("argparse", "Namespace"), {"lr": 0.1, "type": Global("builtins", "int")}),
        Call(Global("torch", "device"), ("cuda:0",)),
        Call(Global("torch", "Size"), ((1, 2),)),
        Call(Global("pathlib", "PosixPath"), ("/", "home")),
        Call(Global("collections", "defaultdict"), (Global("builtins", "list"),), {"a": [1]}),
        Call(Global("__builtin__", "set"), ([1, 2],)),
        Call(Global("copy_reg", "_reconstructor"), (NETWORK, Global("builtins", "object"), None)),
        Call(Global("numpy.core.multiarray", "scalar"), (Global("numpy", "float64"), "x")),
        Raw(b"(imy\nOldStyle\n"),
        Raw(b"(cmy\nOldStyle\no"),
    ]
    found = read_content(tmp_path, {"model": ordered({"w": ONE}), "extra": hidden})
    assert list(found.tensors) == ["w"]


def test_a_call_that_is_not_known_is_refused_as_such(tmp_path: Path) -> None:
    mode = Call(Global("my.training", "Mode"), (1,))  # how an enum is pickled
    with pytest.raises(UnsafeCheckpointError, match=r"unknown call .*, my\.training\.Mode, which"):
        read_content(tmp_path, {"model": ordered({"w": ONE}), "mode": mode})


PLACE = Storage("0", "float32", 2, 0, 2)
MADE = Tensor(PLACE, "float32", 0, (2,), (1,))
LAID_OUT = (PLACE, 0, (2,), (1,))
ARGUMENTS: Mapping[str, tuple[object, ...]] = {
    "torch._utils._rebuild_tensor": LAID_OUT,
    "torch._utils._rebuild_tensor_v2": (*LAID_OUT, False, {}),
    "torch._utils._rebuild_tensor_v3": (*LAID_OUT, False, {}, Name("torch.uint16")),
    "torch._utils._rebuild_parameter": (MADE, True, {}),
    "torch._utils._rebuild_parameter_with_state": (MADE, True, {}, {}),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": (MADE,),
    "torch._tensor._rebuild_from_type_v2": (
        Name("torch._utils._rebuild_tensor_v2"), Name("my.Tensor"), (*LAID_OUT, False, {}), {},
    ),
    "torch.nn.parameter.Parameter": (MADE, True),
    "torch.autograd.variable.Variable": (MADE,),
    "torch.Size": ((1, 2),),
    "collections.OrderedDict": ([["a", 1]],),
    "builtins.set": ([1],),
    "__builtin__.set": ([1],),
    "builtins.frozenset": ((1,),),
    "__builtin__.frozenset": ({1},),
    "copyreg._reconstructor": (Name("my.Net"), Name("builtins.object"), None),
    "copy_reg._reconstructor": (Name("my.Net"), Name("builtins.dict"), {}),
    "copyreg.__newobj__": (Name("my.Net"), 1),
    "copy_reg.__newobj__": (Name("my.Net"),),
}  # fmt: skip
"""What each known call is given in honest files, where it looks at it."""


@pytest.mark.parametrize("name", _known.CALLS)
def test_every_known_call_gives_a_record_or_a_container(name: str) -> None:
    arguments = ARGUMENTS.get(name, (Name("os.system"), "ls"))
    made = _known.call(Name(name), arguments)
    assert type(made) in (Inert, Unreadable, Tensor, dict, set) or made is arguments[0]
    assert not callable(made)
    if name not in ARGUMENTS:
        assert isinstance(made, (Inert, Unreadable))
        assert "os.system" not in repr([getattr(made, field) for field in type(made).__slots__])


def test_every_instruction_is_done_by_the_machine_itself() -> None:
    homes = {function.__module__ for function in _machine._INSTRUCTIONS.values()}
    assert homes == {"reidkit.checkpoints._machine"}


@pytest.mark.parametrize("members", ["text", b"bytes", {"a": 1}, 3, None])
def test_sets_are_made_of_lists_tuples_and_sets_only(tmp_path: Path, members: object) -> None:
    with pytest.raises(CheckpointError, match="a set in it is made of a "):
        _known.call(Name("builtins.set"), (members,))


def test_a_small_file_may_hold_a_large_mask(tmp_path: Path) -> None:
    mask = tensor(storage("0", "float32", 2), (1000, 1000), (0, 0))
    found = read_content(tmp_path, {"w": ONE, "mask": mask})
    assert found.tensors["mask"].shape == (1000, 1000)
    assert (found.tensors["mask"] == 1).all()


def test_two_usual_names_with_different_tensors_are_refused(tmp_path: Path) -> None:
    other = {"a": ONE}
    for names in (("model", "state_dict"), ("net", "params")):
        with pytest.raises(CheckpointError, match=rf"under '({'|'.join(names)})' and '.*not plain"):
            read_content(tmp_path, {name: ordered(other) for name in names})
    named = {"model": {"lr": 0.1}, "state_dict": ordered(other), "model_ema": ordered(other)}
    assert read_content(tmp_path, named).form == "state dict under 'state_dict'"
    shared = Raw(b"}(" + files._code("model") + files._code(other) + b"q\x01")
    twice = Raw(b"\x80\x02" + shared.code + files._code("state_dict") + b"h\x01u.")
    assert read_content(tmp_path, twice).form == "state dict under 'state_dict'"


def test_a_dict_in_itself_is_refused(tmp_path: Path) -> None:
    code = b"}q\x00(" + files._code("model") + b"h\x00" + files._code("a") + files._code(ONE) + b"u"
    with pytest.raises(CheckpointError, match="or in themselves"):
        read_content(tmp_path, Raw(b"\x80\x02" + code + b"."))


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (b"\x1b]0;owned\x07\x1b[2Jbase.weight", r"'\x1b]0;owned\x07\x1b[2Jbase.weight'"),
        (b"a\nb", r"'a\nb'"),
        (b"a\x00", r"'a\x00'"),
        (b"\xed\xa0\x80", r"'\ud800'"),  # half of a pair
        ("\u202egpj".encode(), r"'\u202egpj'"),  # from right to left
    ],
)
def test_keys_that_act_on_a_terminal_are_refused_and_shown_escaped(
    tmp_path: Path, key: bytes, shown: str
) -> None:
    text = Raw(b"X" + struct.pack("<I", len(key)) + key)
    code = b"\x80\x02}(" + text.code + files._code(ONE) + b"u."
    with pytest.raises(CheckpointError) as caught:
        read_content(tmp_path, Raw(code))
    assert shown in str(caught.value)
    assert str(caught.value).isprintable()


def test_keys_of_safetensors_are_held_to_the_same(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a\x1b[2J": np.ones(2)}, tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"control characters, 'a\\x1b\[2J'"):
        checkpoints.read(tmp_path / "a")


def test_pickle_protocol_0_says_what_to_do(tmp_path: Path) -> None:
    text = b"(dp0\nVw\np1\nP('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 2)\n"
    path = files.write_zip_content(tmp_path / "zip", Raw(text), ONES)
    facts: tuple[object, ...] = (files.LEGACY_MAGIC, 1001, {})
    start = [pickle.dumps(part, 0) for part in facts]
    (tmp_path / "legacy").write_bytes(b"".join([*start, text]))
    for path in (tmp_path / "zip", tmp_path / "legacy"):
        with pytest.raises(CheckpointError, match=r"pickle protocol 0, .* default") as caught:
            checkpoints.read(path)
        assert type(caught.value) is CheckpointError


def test_two_checkpoints_in_one_archive_are_refused(tmp_path: Path) -> None:
    extra = {"inner/data.pkl": files.encode({"a": 1})}
    path = files.write_zip_content(tmp_path / "a", {"w": ONE}, ONES, extra=extra)
    with pytest.raises(CheckpointError, match=r"2 checkpoints in it \('a/', 'a/inner/'\)"):
        checkpoints.read(path)
