"""What is read from checkpoints of every form, without torch.

Golden files: tests/golden/checkpoints holds files that torch 2.13 wrote (both formats) and the
values of their tensors as torch gave them.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit import checkpoints
from reidkit.checkpoints._structure import find_tensors
from reidkit.checkpoints._tensors import build_arrays
from reidkit.checkpoints._values import Archive, Inert, Storage, Tensor
from reidkit.errors import CheckpointError
from tests import checkpoint_files as files
from tests.checkpoint_files import Call, Global, New, Persistent, module, ordered, storage, tensor

GOLDEN = Path(__file__).parent / "golden" / "checkpoints"
TYPES = [*files.STORAGES, "uint16"]
BOTH = pytest.mark.parametrize("write", [files.write_zip, files.write_legacy])
Write = Callable[..., Path]


def state_dict() -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(0)
    return {
        "base.conv1.weight": random.standard_normal((4, 3, 2, 2)).astype(np.float32),
        "base.bn1.running_var": random.random(4).astype(np.float64),
        "base.bn1.num_batches_tracked": np.asarray(1234, np.int64),
        "classifier.weight": np.empty((0, 4), np.float32),
    }


def assert_same(found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> None:
    assert list(found) == list(expected)
    for key, array in expected.items():
        assert found[key].dtype == array.dtype, key
        assert found[key].shape == array.shape, key
        np.testing.assert_array_equal(found[key], array, err_msg=key)
        flags = found[key].flags
        assert (flags.c_contiguous, flags.aligned, flags.writeable) == (True, True, False), key


def content_of(tmp_path: Path, content: object, **arrays: NDArray[Any]) -> checkpoints.Checkpoint:
    """Read the content back from a zip file with these storages."""
    return checkpoints.read(files.write_zip_content(tmp_path / "made.pth", content, arrays))


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize(
    ("name", "values", "form"),
    [
        ("module", "module", "pickled module of class modeling.baseline.Baseline"),
        ("parallel", "module", "state dict under 'model'"),
        ("layouts", "layouts", "state dict"),
    ],
)
def test_files_of_torch_give_the_values_of_torch(
    container: str, name: str, values: str, form: str
) -> None:
    found = checkpoints.read(GOLDEN / f"{name}_{container}.pth")
    with np.load(GOLDEN / f"{values}.npz") as arrays:
        assert_same(found.tensors, dict(arrays))
    assert (found.container, found.form) == (f"torch {container}", form)


@BOTH
def test_a_flat_state_dict(tmp_path: Path, write: Write) -> None:
    path = write(tmp_path / "any name.pth", state_dict())
    found = checkpoints.read(str(path))
    assert_same(found.tensors, state_dict())
    assert found.form == "state dict"
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@BOTH
@pytest.mark.parametrize("dtype", files.STORAGES)
def test_every_element_type(tmp_path: Path, write: Write, dtype: str) -> None:
    array = np.array([[0, 1, 2], [3, 100, 1]]).astype(dtype)
    exact = array.astype(np.float32) if dtype == "bfloat16" else array
    assert_same(checkpoints.read(write(tmp_path / "a", {"a": array})).tensors, {"a": exact})


@pytest.mark.parametrize("dtype", [name for name in TYPES if name in files.STORAGES])
def test_files_of_a_big_endian_machine(tmp_path: Path, dtype: str) -> None:
    array = np.array([1, 2, 3]).astype(dtype)
    if dtype.startswith("complex"):
        array = array * np.asarray(1 + 2j, dtype)
    exact = array.astype(np.float32) if dtype == "bfloat16" else array
    path = files.write_zip(tmp_path / "a", {"a": array}, byte_order="big")
    assert_same(checkpoints.read(path).tensors, {"a": exact})


def test_a_missing_byte_order_is_little_and_an_unknown_one_refused(tmp_path: Path) -> None:
    path = files.write_zip(tmp_path / "a", state_dict(), byte_order=None)
    assert_same(checkpoints.read(path).tensors, state_dict())
    content = {"a": tensor(storage("0", "float32", 1), (1,))}
    arrays = {"0": np.ones(1, np.float32)}
    files.write_zip_content(path, content, arrays, byte_order="middle")
    with pytest.raises(CheckpointError, match="unknown byte order"):
        checkpoints.read(path)


def test_safetensors(tmp_path: Path) -> None:
    arrays = {f"module.a.{name}": np.array([1, 0, 1]).astype(name) for name in ("bool", "float16")}
    arrays |= {"module.b": np.array([1.5, -2.25]).astype(ml_dtypes.bfloat16)}
    safetensors.numpy.save_file(arrays, tmp_path / "a.safetensors")
    found = checkpoints.read(tmp_path / "a.safetensors")
    assert (found.container, found.form) == ("safetensors", "state dict")
    assert {key: array.tolist() for key, array in found.tensors.items()} == {
        "a.bool": [True, False, True],
        "a.float16": [1, 0, 1],
        "b": [1.5, -2.25],
    }
    assert found.tensors["b"].dtype == np.float32


@BOTH
@pytest.mark.parametrize("prefix", ["module.", "module.module."])
def test_the_prefix_of_data_parallel_training_is_taken_away(
    tmp_path: Path, write: Write, prefix: str
) -> None:
    named = {prefix + key: array for key, array in state_dict().items()}
    assert_same(checkpoints.read(write(tmp_path / "a", named)).tensors, state_dict())


def test_a_prefix_that_some_keys_lack_is_kept(tmp_path: Path) -> None:
    arrays = {"module.a": np.ones(1), "b": np.ones(1)}
    assert_same(checkpoints.read(files.write_zip(tmp_path / "a", arrays)).tensors, arrays)


@BOTH
@pytest.mark.parametrize("key", ["model", "state_dict", "net", "network", "my own name"])
def test_a_state_dict_under_a_key(tmp_path: Path, write: Write, key: str) -> None:
    found = checkpoints.read(write(tmp_path / "a", state_dict(), wrap=key))
    assert_same(found.tensors, state_dict())
    assert found.form == f"state dict under '{key}'"


def test_the_usual_name_wins_over_other_tensors(tmp_path: Path) -> None:
    def wrap(content: object) -> object:
        other = {"a": tensor(storage("0", "float32", 48), (2,))}
        optimizer = {"state": {0: other}, "param_groups": [{"lr": 0.1}]}
        return {"ema": other, "optimizer": optimizer, "checkpoint": {"state_dict": content}}

    path = files.write_zip(tmp_path / "a", state_dict(), wrap=wrap)
    with pytest.raises(CheckpointError, match=r"2 places .'ema', 'checkpoint'"):
        checkpoints.read(path)
    path = files.write_zip(
        tmp_path / "a", state_dict(), wrap=lambda content: {"ema": content, "model": content}
    )
    assert checkpoints.read(path).form == "state dict under 'model'"


def test_an_only_holder_is_found_below_figures_and_dicts(tmp_path: Path) -> None:
    best = tensor(storage("b", "float64", 1), ())
    weights = {"fc.weight": tensor(storage("w", "float32", 4), (2, 2))}
    arrays: dict[str, NDArray[Any]] = {"b": np.ones(1), "w": np.arange(4, dtype=np.float32)}
    content = {"best": best, "epoch": 3, "outer": {"inner": weights}, "args": {"lr": 0.1}}
    found = content_of(tmp_path, content, **arrays)
    assert found.form == "state dict under 'outer.inner'"
    assert found.tensors["fc.weight"].tolist() == [[0, 1], [2, 3]]


def test_tensors_beside_an_unknown_dict_of_tensors_are_ambiguous(tmp_path: Path) -> None:
    one = tensor(storage("w", "float32", 4), (2, 2))
    with pytest.raises(CheckpointError, match=r"2 places .'x', and its own entries"):
        content_of(tmp_path, {"a": one, "x": {"b": one}}, w=np.ones(4, np.float32))


def test_values_that_are_no_tensors_are_left_out(tmp_path: Path) -> None:
    content = ordered({"a": tensor(storage("w", "float32", 2), (2,)), "n": 3, "none": None})
    built = files.Raw(files.encode(content)[:-1] + files.encode({"_metadata": {}})[2:-1] + b"b.")
    found = content_of(tmp_path, built, w=np.ones(2, np.float32))
    assert list(found.tensors) == ["a"]


def whole_network() -> tuple[object, dict[str, NDArray[Any]]]:
    arrays = {str(i): np.full(2, i, np.float32) for i in range(4)}
    made = {key: tensor((*storage(key, "float32", 2), None), (2,)) for key in arrays}
    learnt = Call(Global("torch._utils", "_rebuild_parameter"), (made["0"], True, ordered({})))
    stated = Call(
        Global("torch._utils", "_rebuild_parameter_with_state"), (made["1"], True, None, {"x": 1})
    )
    inner = module("torch.nn.modules.linear.Linear", parameters={"weight": learnt, "bias": None})
    outer = module(
        "__main__.Net",
        parameters={"scale": stated},
        buffers={"mean": made["2"], "scratch": made["3"]},
        modules={"fc": inner, "gone": None},
        dropped={"scratch": None},
    )
    return outer, arrays


@pytest.mark.parametrize("legacy", [True, False])
def test_a_whole_network_without_its_classes(tmp_path: Path, legacy: bool) -> None:
    network, arrays = whole_network()
    parallel = module("torch.nn.parallel.DataParallel", modules={"module": network})
    for content, name in ((network, "__main__.Net"), (parallel, "torch.nn.parallel.DataParallel")):
        if legacy:
            path = files.write_legacy_content(tmp_path / "a", content, arrays)
        else:
            path = files.write_zip_content(tmp_path / "a", content, arrays)
        found = checkpoints.read(path)
        assert {key: array[0] for key, array in found.tensors.items()} == {
            "scale": 1,
            "mean": 2,
            "fc.weight": 0,
        }
        assert found.form == f"pickled module of class {name}"


def test_a_network_with_its_source_code_in_the_file(tmp_path: Path) -> None:
    kind = Persistent(("module", Global("modeling.baseline", "Baseline"), "baseline.py", "x = 1"))
    weight = tensor((*storage("9", "float32", 2), None), (2,))
    content = {"model": New(kind, {"_modules": {}, "_parameters": {"w": weight}, "_buffers": {}})}
    path = files.write_legacy_content(tmp_path / "a", content, {"9": np.ones(2, np.float32)})
    found = checkpoints.read(path)
    assert found.form == "pickled module of class modeling.baseline.Baseline under 'model'"
    assert found.tensors["w"].tolist() == [1, 1]


def test_python_2_files(tmp_path: Path) -> None:
    # Byte strings as texts (U), and an OrderedDict as a list of pairs.
    code = files.encode(tensor((*storage("9", "float32", 2), None), (2,)))[2:-1]
    pairs = b"ccollections\nOrderedDict\n(]](U\x07caf\xe9.w\xe9" + code + b"eatR"
    path = files.write_legacy_content(
        tmp_path / "a", files.Raw(pairs), {"9": np.array([3, 4], np.float32)}
    )
    assert checkpoints.read(path).tensors["café.wé"].tolist() == [3, 4]


def test_tensors_of_old_torch(tmp_path: Path) -> None:
    # No gradient fields; a storage that is a window on another; CUDA; a wrapped Variable.
    place = ("storage", Global("torch.cuda", "FloatStorage"), "7", "cuda:0", 6, ("70", 2, 3))
    rebuild = Global("torch._utils", "_rebuild_tensor")
    made = Call(rebuild, (Persistent(place), 1, (2,), (1,)))
    variable = Call(Global("torch.autograd.variable", "Variable"), (made,))
    path = files.write_legacy_content(
        tmp_path / "a", {"a": made, "b": variable}, {"7": np.arange(6, dtype=np.float32)}
    )
    found = checkpoints.read(path)
    assert found.tensors["a"].tolist() == found.tensors["b"].tolist() == [3, 4]


def test_untyped_storages(tmp_path: Path) -> None:
    place = Persistent(storage("0", "torch.storage.UntypedStorage", 6))
    rebuild = Global("torch._utils", "_rebuild_tensor_v3")
    kind = Global("torch", "uint16")
    made = Call(rebuild, (place, 1, (2,), (1,), False, ordered({}), kind))
    array = np.array([1, 513, 65535], np.uint16)
    found = content_of(tmp_path, {"a": made}, **{"0": array.view(np.uint8)})
    assert_same(found.tensors, {"a": array[1:]})


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    axes = draw(st.integers(0, 4))
    sizes = st.tuples(*[st.integers(0, 4)] * axes)
    count, offset = draw(st.integers(0, 40)), draw(st.integers(0, 8))
    return count, offset, draw(sizes), draw(sizes)


@given(layouts(), st.sampled_from(["float32", "int16", "bfloat16"]))
def test_any_layout_is_read_element_by_element_or_refused(
    layout: tuple[int, int, tuple[int, ...], tuple[int, ...]], element: str
) -> None:
    count, offset, shape, strides = layout
    values = np.arange(count).astype(element)
    place = Storage("0", element, count, 0, count)
    archive = Archive("test", None, {"0": memoryview(values.tobytes())})
    places = [
        offset + sum(i * step for i, step in zip(index, strides, strict=True))
        for index in np.ndindex(*shape)
    ]
    made = {"a": Tensor(place, element, offset, shape, strides)}
    if any(index >= count for index in places):
        with pytest.raises(CheckpointError, match="reaches to element"):
            build_arrays(made, archive, 1000)
        return
    found = build_arrays(made, archive, 1000)["a"]
    assert found.shape == shape
    assert found.ravel().tolist() == [float(values[index]) for index in places]
    assert found.flags.c_contiguous
    assert not found.flags.writeable


def test_shared_storages_are_read_right_and_not_copied() -> None:
    values = np.arange(1024, dtype=np.float32)
    place = Storage("0", "float32", 1024, 0, 1024)
    archive = Archive("test", None, {"0": values.data.cast("B")})
    made = {
        "whole": Tensor(place, "float32", 0, (32, 32), (32, 1)),
        "part": Tensor(place, "float32", 512, (512,), (1,)),
        "columns": Tensor(place, "float32", 8, (32, 24), (32, 1)),
    }
    found = build_arrays(made, archive, 4096)
    np.testing.assert_array_equal(found["part"], values[512:])
    np.testing.assert_array_equal(found["columns"], values.reshape(32, 32)[:, 8:])
    shared = {key: np.shares_memory(array, values) for key, array in found.items()}
    assert shared == {"whole": True, "part": True, "columns": False}


def test_reading_needs_neither_torch_nor_the_standard_unpickler() -> None:
    code = (
        "import sys, pickle, reidkit.checkpoints as c\n"
        "pickle.Unpickler = pickle.loads = pickle.load = None\n"
        f"print(len(c.read({str(GOLDEN / 'module_legacy.pth')!r}).tensors), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["12", "False"]


def test_a_state_dict_in_a_subclass_of_dict_is_found() -> None:
    one = Tensor(Storage("0", "float32", 1, 0, 1), "float32", 0, (1,), (1,))
    form, tensors = find_tensors(Inert("my.Dict", items={"model": Inert("x.D", items={"a": one})}))
    assert (form, tensors) == ("state dict under 'model'", {"a": one})


def test_the_writer_is_what_it_says(tmp_path: Path) -> None:
    data = files.write_legacy(tmp_path / "a", {"a": np.ones(3, np.float32)}).read_bytes()
    assert data.startswith(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    assert data.endswith(struct.pack("<q3f", 3, 1, 1, 1))
