"""Sessions on an Ascend chip, over a stand-in for its toolkit that is strict about its use."""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from reidkit.errors import DeviceError, EngineError
from reidkit.runtimes._ascend import AclSession, soc_name
from reidkit.runtimes.sessions import TensorSpec
from tests.fake_acl import REPEATED, Arrays, FakeAcl, install, write_om

F32 = np.dtype(np.float32)
IMAGE = {"image": ("float32", [2, 3, 4])}
FREE = {"image": ("float32", [-1, 3, 4])}


def mean(arrays: Arrays) -> Arrays:
    """Give one value for each row and channel."""
    return [arrays[0].mean(axis=2, dtype=np.float32)]


def make_fake(
    monkeypatch: pytest.MonkeyPatch, compute: Callable[[Arrays], Any] = mean, **options: Any
) -> FakeAcl:
    """Install a stand-in; what would run at exit is left out."""
    fake = FakeAcl(compute, **options)
    install(monkeypatch, fake)
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    return fake


def numbers(*shape: int, dtype: str = "float32", seed: int = 0) -> np.ndarray[Any, Any]:
    return (10 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def test_a_fixed_model_runs_and_gives_all_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch, devices=2)
    session = AclSession(write_om(tmp_path / "m.om", IMAGE), device=1)
    assert session.inputs == (TensorSpec("image", F32, (2, 3, 4)),)
    assert session.outputs == (TensorSpec("class", F32, (2, 3)),)
    assert session.device == "npu:1 (Ascend310P3)"
    assert session.batch_gears == ()
    for seed in range(3):
        array = numbers(2, 3, 4, seed=seed)
        run = session.run([array])
        np.testing.assert_array_equal(run.outputs[0], mean([array])[0])
        assert min(run.sent, run.computed, run.received) > 0
    assert fake.calls.count("malloc") == 2  # once for all runs
    session.close()
    session.close()
    assert fake.leaks() == {}
    with pytest.raises(EngineError, match="closed"):
        session.run([numbers(2, 3, 4)])


def test_outputs_are_not_overwritten_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_fake(monkeypatch)
    session = AclSession(write_om(tmp_path / "m.om", IMAGE))
    first = session.run([numbers(2, 3, 4)]).outputs[0]
    kept = first.copy()
    session.run([numbers(2, 3, 4, seed=1)])
    np.testing.assert_array_equal(first, kept)
    session.close()


def test_arrays_in_another_order_in_memory_are_sent_as_they_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_fake(monkeypatch)
    session = AclSession(write_om(tmp_path / "m.om", IMAGE))
    array = np.asfortranarray(numbers(2, 3, 4))
    array.setflags(write=False)
    np.testing.assert_allclose(session.run([array]).outputs[0], mean([array])[0], rtol=1e-6)
    session.close()


def test_several_inputs_and_outputs_of_several_types(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def compute(arrays: Arrays) -> Arrays:
        left, right = arrays
        return [left + right.astype(np.float16), right > 0, np.array(left.size, np.int64)]

    fake = make_fake(monkeypatch, compute)
    inputs = {"left": ("float16", [2, 3]), "right": ("uint8", [2, 1])}
    path = write_om(tmp_path / "m.om", inputs, outputs=["sum", "sign", "count"])
    session = AclSession(path)
    assert [str(spec.dtype) for spec in session.inputs] == ["float16", "uint8"]
    assert [str(spec.dtype) for spec in session.outputs] == ["float16", "bool", "int64"]
    left, right = numbers(2, 3, dtype="float16"), np.array([[0], [7]], np.uint8)
    made = session.run([left, right]).outputs
    np.testing.assert_array_equal(made[0], left + right)
    np.testing.assert_array_equal(made[1], [[False], [True]])
    assert made[2].shape == ()
    assert made[2] == 6
    session.close()
    assert fake.leaks() == {}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], r"1 inputs \(image\), got 0"),
        ([numbers(2, 3, 5)], r"image takes float32 \(2, 3, 4\), got float32 \(2, 3, 5\)"),
        ([numbers(3, 3, 4)], "image takes"),
        ([numbers(2, 3, 4, dtype="float64")], "got float64"),
    ],
)
def test_other_arrays_never_reach_the_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arrays: Arrays, message: str
) -> None:
    fake = make_fake(monkeypatch)
    session = AclSession(write_om(tmp_path / "m.om", IMAGE))
    with pytest.raises(EngineError, match=message):
        session.run(arrays)
    assert "memcpy" not in fake.calls
    session.close()


def test_batch_gears_are_chosen_by_the_arrays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch)
    session = AclSession(write_om(tmp_path / "m.om", FREE, batch=[4, 1, 8]))
    assert session.inputs == (TensorSpec("image", F32, (-1, 3, 4)),)
    assert session.outputs == (TensorSpec("class", F32, (-1, 3)),)
    assert session.batch_gears == (1, 4, 8)
    for size in (8, 1, 4, 8):
        array = numbers(size, 3, 4, seed=size)
        np.testing.assert_array_equal(session.run([array]).outputs[0], mean([array])[0])
    with pytest.raises(EngineError, match=r"\(3, 3, 4\) fit none .*: batch sizes 1, 4, 8"):
        session.run([numbers(3, 3, 4)])
    assert fake.executed == 4
    assert fake.calls.count("malloc") == 3  # image, hidden input, output: for the largest gear
    session.close()
    assert fake.leaks() == {}


def test_two_inputs_share_the_batch_gear(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def add(arrays: Arrays) -> Arrays:
        return [arrays[0] + arrays[1]]

    make_fake(monkeypatch, add)
    inputs = {"left": ("float32", [-1, 3]), "right": ("float32", [-1, 3])}
    session = AclSession(write_om(tmp_path / "m.om", inputs, batch=[1, 2]))
    left, right = numbers(2, 3), numbers(2, 3, seed=1)
    np.testing.assert_array_equal(session.run([left, right]).outputs[0], left + right)
    with pytest.raises(EngineError, match=r"\(2, 3\) and \(1, 3\) fit none"):
        session.run([left, right[:1]])
    session.close()


def test_image_gears_are_chosen_by_height_and_width(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def pool(arrays: Arrays) -> Arrays:
        return [arrays[0].mean(axis=(2, 3), dtype=np.float32)]

    fake = make_fake(monkeypatch, pool)
    inputs = {"image": ("float32", [2, 3, -1, -1])}
    session = AclSession(write_om(tmp_path / "m.om", inputs, hw=[[8, 4], [4, 8], [16, 8]]))
    assert session.inputs[0].shape == (2, 3, -1, -1)
    assert session.batch_gears == ()
    for height, width in ((4, 8), (16, 8), (8, 4)):
        array = numbers(2, 3, height, width)
        np.testing.assert_array_equal(session.run([array]).outputs[0], pool([array])[0])
    with pytest.raises(EngineError, match="height x width 8x4, 4x8, 16x8"):
        session.run([numbers(2, 3, 8, 8)])
    session.close()
    assert fake.leaks() == {}


def test_dims_gears_are_chosen_by_all_shapes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def add(arrays: Arrays) -> Arrays:
        return [arrays[0].sum(axis=1, keepdims=True) + arrays[1]]

    fake = make_fake(monkeypatch, add)
    inputs = {"data": ("float32", [-1, -1]), "label": ("float32", [-1, 1])}
    gears = [[1, 3, 1, 1], [2, 5, 2, 1]]
    session = AclSession(write_om(tmp_path / "m.om", inputs, dims=gears))
    for gear in gears:
        arrays = [numbers(*gear[:2]), numbers(*gear[2:], seed=1)]
        made = session.run(arrays).outputs[0]
        np.testing.assert_array_equal(made, add(arrays)[0])
    with pytest.raises(EngineError, match="sizes of all inputs in turn 1x3x1x1, 2x5x2x1"):
        session.run([numbers(1, 5), numbers(1, 1)])
    session.close()
    assert fake.leaks() == {}


def test_sessions_share_a_device_until_the_last_closes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch)
    path = write_om(tmp_path / "m.om", IMAGE)
    first, second = AclSession(path), AclSession(path)
    first.close()
    array = numbers(2, 3, 4)
    np.testing.assert_array_equal(second.run([array]).outputs[0], mean([array])[0])
    second.close()
    AclSession(path).close()
    assert fake.calls.count("init") == 1
    assert fake.calls.count("set_device") == fake.calls.count("reset_device") == 2
    assert fake.leaks() == {}


def test_a_session_is_used_and_closed_by_any_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def slow(arrays: Arrays) -> Arrays:
        time.sleep(0.001)  # long enough for other threads to come in between, if they may
        return mean(arrays)

    fake = make_fake(monkeypatch, slow)
    session = AclSession(write_om(tmp_path / "m.om", IMAGE))
    arrays = [numbers(2, 3, 4, seed=seed) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda array: session.run([array]).outputs[0], arrays))
        pool.submit(session.close).result()
    for array, output in zip(arrays, made, strict=True):
        np.testing.assert_array_equal(output, mean([array])[0])
    assert fake.leaks() == {}


def test_whichever_call_fails_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_om(tmp_path / "m.om", FREE, batch=[1, 2])

    def go_through(fail_at: int | None) -> tuple[FakeAcl, EngineError | None]:
        fake = make_fake(monkeypatch)
        fake.fail_at, fake.fail_text = fail_at, "EZ9999: inner error"
        try:
            session = AclSession(path)
            try:
                session.run([numbers(2, 3, 4)])
                session.run([numbers(1, 3, 4)])
            finally:
                session.close()
        except EngineError as error:
            return fake, error
        return fake, None

    calls = go_through(None)[0].calls
    assert len(calls) > 50
    for at, name in enumerate(calls, start=1):
        fake, error = go_through(at)
        assert fake.calls[at - 1] == name
        if name == "get_soc_name":
            assert error is None
            continue
        assert error is not None, f"call {at}, {name}, failed unnoticed"
        assert fake.leaks() == {}, f"call {at}, {name}"


def test_a_failed_call_says_what_the_toolkit_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_om(tmp_path / "m.om", IMAGE)
    fake = make_fake(monkeypatch)
    session = AclSession(path)
    fake.fail_at, fake.fail_text = len(fake.calls) + 3, "EZ9999: vector core exception"
    with pytest.raises(
        EngineError, match="the model failed: return code 507899: EZ9999: vector core exception"
    ):
        session.run([numbers(2, 3, 4)])
    session.run([numbers(2, 3, 4)])  # the next run is a new one
    session.close()


def test_a_device_that_does_not_open_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_om(tmp_path / "m.om", IMAGE)
    fake = make_fake(monkeypatch)
    fake.fail_at, fake.fail_code = 2, 507033
    with pytest.raises(DeviceError, match=r"acl open device 0 failed: .*507033; .*HwHiAiUser"):
        AclSession(path)
    make_fake(monkeypatch)
    with pytest.raises(DeviceError, match=r"acl open device 3 failed: .*107001: EL0003.*`npu-smi"):
        AclSession(path, device=3)


def test_a_model_for_another_chip_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch, soc="Ascend910B2")
    path = write_om(tmp_path / "m.om", IMAGE, soc="Ascend910B")
    with pytest.raises(DeviceError, match=r"m\.om: .*EE1001.*--soc_version=\$\(reidkit ascend"):
        AclSession(path)
    assert fake.leaks() == {}


@pytest.mark.parametrize("content", [b"IMOD", b"IMOD not a model", b"something else"])
def test_a_damaged_file_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    fake = make_fake(monkeypatch)
    path = tmp_path / "broken.om"
    path.write_bytes(content)
    with pytest.raises(EngineError, match=r"load model from file failed, .*broken\.om"):
        AclSession(path)
    assert fake.leaks() == {}


@pytest.mark.parametrize(("number", "name"), [(27, "bfloat16"), (13, "string"), (99, "number 99")])
def test_a_type_that_no_array_holds_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, name: str
) -> None:
    fake = make_fake(monkeypatch)
    with pytest.raises(EngineError, match=f"output 0 of the model, class, is .*{name}"):
        AclSession(write_om(tmp_path / "m.om", IMAGE, types=[number]))
    assert fake.leaks() == {}


def test_shapes_known_only_when_it_runs_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch)
    with pytest.raises(EngineError, match=r"has size 0.*--dynamic_batch_size"):
        AclSession(write_om(tmp_path / "m.om", FREE))
    assert fake.leaks() == {}


def test_dynamic_aipp_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_fake(monkeypatch)
    inputs = IMAGE | {"ascend_dynamic_aipp_data": ("uint8", [64])}
    with pytest.raises(EngineError, match="dynamic AIPP"):
        AclSession(write_om(tmp_path / "m.om", inputs))


def test_without_the_toolkit_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_om(tmp_path / "m.om", IMAGE)
    wanted = r"m\.om was compiled by the real atc .*set_env\.sh.*reidkit ascend atc"
    install(monkeypatch, None)
    with pytest.raises(DeviceError, match=wanted):
        AclSession(path)
    install(monkeypatch, ModuleType("acl"))
    with pytest.raises(DeviceError, match="the module acl that is installed here is another one"):
        AclSession(path)


def test_a_toolkit_whose_libraries_are_missing_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "acl.py").write_text("raise ImportError('libascendcl.so: cannot open')\n")
    monkeypatch.delitem(sys.modules, "acl", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DeviceError, match=r"\(libascendcl\.so: cannot open\)"):
        AclSession(write_om(tmp_path / "m.om", IMAGE))
    assert soc_name() is None


def test_another_library_may_have_initialised_the_toolkit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch)
    assert fake.init() == 0
    assert fake.init() == REPEATED
    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    AclSession(write_om(tmp_path / "m.om", IMAGE)).close()
    assert registered == []  # whoever initialised it finalises it


def test_the_exit_closes_what_is_open_and_finalises_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = make_fake(monkeypatch)
    registered: list[Any] = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    path = write_om(tmp_path / "m.om", IMAGE)
    left_open = AclSession(path)
    AclSession(path).close()
    ((finalise, *arguments),) = registered
    finalise(fake, os.getpid() + 1)  # as a forked child's exit would
    assert "finalize" not in fake.calls
    finalise(*arguments)
    assert fake.calls.count("finalize") == 1
    assert fake.leaks() == {}
    with pytest.raises(EngineError, match="closed"):
        left_open.run([numbers(2, 3, 4)])


def test_a_forked_process_initialises_for_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_om(tmp_path / "m.om", IMAGE)
    fake = make_fake(monkeypatch)
    _parent = AclSession(path)
    child = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: child)
    AclSession(path)
    assert fake.calls.count("init") == fake.calls.count("set_device") == 2


def test_the_chip_says_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    make_fake(monkeypatch, soc="Ascend910B2")
    assert soc_name() == "Ascend910B2"
    make_fake(monkeypatch, soc="")
    assert soc_name() is None
    install(monkeypatch, ModuleType("acl"))
    assert soc_name() is None
    install(monkeypatch, None)
    assert soc_name() is None


def test_a_real_file_is_opened_on_the_chip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    models = pytest.importorskip("reidkit.ascend._models")
    make_fake(monkeypatch)
    session = models.open_model(write_om(tmp_path / "m.om", IMAGE))
    assert isinstance(session, AclSession)
    session.close()
    install(monkeypatch, None)
    with pytest.raises(DeviceError, match="was compiled by the real atc"):
        models.open_model(tmp_path / "m.om")
