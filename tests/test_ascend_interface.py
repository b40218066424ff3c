"""The guide's tool as a Python interface, over small ONNX models and a stand-in for the chip."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from reidkit.ais_bench.infer.interface import InferSession, MemorySummary, MultiDeviceSession
from reidkit.ascend.interface import _devices
from reidkit.ascend.interface._tensors import Tensor, TensorDesc, fit_feed, take_feed
from reidkit.errors import AscendError, EngineError, ReidkitError
from reidkit.runtimes.sessions import TensorSpec
from tests.contract.test_runtimes import HEIGHT, SIZE, WIDTH, pictures, write_onnx
from tests.fake_acl import FakeAcl, install, write_om
from tests.test_runtimes_sessions import write_sum

F32 = np.dtype(np.float32)
ITEM = 3 * HEIGHT * WIDTH * 4


@pytest.fixture(autouse=True)
def fresh_times() -> Iterator[None]:
    MemorySummary.reset()
    yield
    InferSession.finalize()


def run_onnx(path: Path, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    return list(session.run(None, dict(zip(names, arrays, strict=True))))


@pytest.fixture
def free(tmp_path: Path) -> Path:
    return write_onnx(tmp_path, None)[0]


@pytest.fixture
def fixed(tmp_path: Path) -> Path:
    return write_onnx(tmp_path, 4)[0]


def test_it_gives_what_the_engine_gives(free: Path) -> None:
    session = InferSession(0, str(free))
    for count in (1, 3):
        array = pictures(count)
        (made,) = session.infer([array])
        assert isinstance(made, np.ndarray)
        np.testing.assert_array_equal(made, run_onnx(free, array)[0])
    assert session.outputs_names == ["embedding"]


def test_two_inputs_and_two_outputs_keep_their_order(tmp_path: Path) -> None:
    path = write_sum(tmp_path)
    left, right = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    made = InferSession(0, path).infer([left, right])
    for found, expected in zip(made, run_onnx(path, left, right), strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)
    with pytest.raises(AscendError, match="has 2 inputs, 1 feeds"):
        InferSession(0, path).infer([left])


def test_descriptions_say_type_format_and_sizes(fixed: Path) -> None:
    (taken,) = InferSession(0, fixed).get_inputs()
    assert taken == TensorDesc("image", 0, 0, [4, 3, HEIGHT, WIDTH], 4 * ITEM, 4 * ITEM)
    (made,) = InferSession(0, fixed).get_outputs()
    assert made == TensorDesc("embedding", 0, 2, [4, SIZE], 4 * SIZE * 4, 4 * SIZE * 4)


def test_a_free_batch_has_a_size_once_it_is_set(free: Path) -> None:
    session = InferSession(0, free)
    assert session.get_inputs()[0].shape == [-1, 3, HEIGHT, WIDTH]
    assert session.get_inputs()[0].realsize == session.get_outputs()[0].realsize == 0
    session.set_dynamic_batchsize(2)
    assert session.get_inputs()[0].realsize == 2 * ITEM
    assert session.get_outputs()[0].realsize == 2 * SIZE * 4
    session.run([pictures(2)])
    with pytest.raises(AscendError, match=f"in size:{3 * ITEM} needsize:{2 * ITEM} not match"):
        session.run([pictures(3)])
    session.set_staticbatch()
    assert session.get_inputs()[0].realsize == 0
    session.run([pictures(3)])


def write_pool(folder: Path, shape: list[int | str]) -> Path:
    """Write a model that averages over height and width."""
    given = [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [shape[0], 3, 1, 1])]
    node = helper.make_node("GlobalAveragePool", ["image"], ["mean"])
    model = helper.make_model(
        helper.make_graph([node], "pool", given, made),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, folder / "pool.onnx")
    return folder / "pool.onnx"


@pytest.mark.parametrize("spelling", ["dym", "dyn"])
def test_modes_set_the_sizes_from_the_arrays(tmp_path: Path, spelling: str) -> None:
    path = write_pool(tmp_path, ["n", 3, "h", "w"])
    session = InferSession(0, path)
    for mode, shape in (
        ("hw", (1, 3, 4, 6)),
        ("dims", (2, 3, 4, 5)),
        ("shape", (3, 3, 2, 2)),
    ):
        array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        (made,) = session.infer([array], spelling + mode)
        np.testing.assert_array_equal(np.asarray(made), run_onnx(path, array)[0])
        assert session.get_inputs()[0].realsize == array.nbytes
    with pytest.raises(AscendError, match="leaves sizes free"):
        session.infer([np.ones((2, 3, 4, 4), np.float32)], spelling + "batch")


def test_dymbatch_takes_the_first_size(free: Path) -> None:
    session = InferSession(0, free)
    session.infer([pictures(3)], "dymbatch")
    assert session.get_inputs()[0].realsize == 3 * ITEM
    session.infer([pictures(1)])  # static leaves it to the array again
    with pytest.raises(AscendError, match="mode is 'dynamic', expected one of static, dymbatch"):
        session.infer([pictures(1)], "dynamic")
    with pytest.raises(AscendError, match="no axes 2 to 3"):
        session.infer([np.ones(3, np.float32)], "dymhw")


def test_sizes_that_the_model_fixes_are_not_set(fixed: Path) -> None:
    session = InferSession(0, fixed)
    with pytest.raises(AscendError, match="the dynamic_batch_size parameter is not specified"):
        session.set_dynamic_batchsize(2)
    with pytest.raises(AscendError, match="the dynamic_image_size parameter is not specified"):
        session.set_dynamic_hw(8, 4)
    with pytest.raises(AscendError, match="the dynamic_dims parameter is not correct"):
        session.set_dynamic_dims("image:1,3,8,4")
    with pytest.raises(AscendError, match="the dymBatch parameter is not correct"):
        session.set_dynamic_batchsize(0)


def test_shapes_are_parsed_and_checked(tmp_path: Path) -> None:
    session = InferSession(0, write_sum(tmp_path))
    session.set_dynamic_dims("left:2,3;right:2,3")
    session.set_dynamic_shape("right:4,3;left:4,3")
    assert [desc.realsize for desc in session.get_inputs()] == [48, 48]
    with pytest.raises(AscendError, match="om has 2 input, but dymShape parametet give 1"):
        session.set_dynamic_shape("left:4,3")
    with pytest.raises(AscendError, match="please check input name"):
        session.set_dynamic_shape("left:4,3;other:4,3")
    session.set_custom_outsize([100, 100])
    with pytest.raises(AscendError, match="om has 2 output, but outputSize parametet give 1"):
        session.set_custom_outsize([100])
    with pytest.raises(AscendError, match="outputSize parametet give 3"):
        session.infer([np.ones((1, 3), np.float32)] * 2, "dymshape", [1, 2, 3])


def test_flat_content_and_bytes_are_taken_as_the_tensor(fixed: Path) -> None:
    session = InferSession(0, fixed)
    array = pictures(4)
    expected = run_onnx(fixed, array)[0]
    raw = np.frombuffer(array.tobytes(), np.int8)
    for feed in (
        array.reshape(-1),
        raw,
        raw.view(np.uint8),
        Tensor(array),
        np.asfortranarray(array),
    ):
        (made,) = session.infer([feed])
        np.testing.assert_array_equal(np.asarray(made), expected)


def test_bytes_decide_a_free_batch(free: Path) -> None:
    array = pictures(3)
    (made,) = InferSession(0, free).infer([np.frombuffer(array.tobytes(), np.uint8)])
    assert np.asarray(made).shape == (3, SIZE)


@pytest.mark.parametrize(
    "feed",
    [
        pytest.param(pictures(4).transpose(0, 2, 3, 1), id="axes in another order"),
        pytest.param(pictures(4).astype(np.float64)[:, :, ::2], id="bytes fit, type does not"),
        pytest.param(pictures(4).view(np.int32), id="same bytes of another type"),
        pytest.param(pictures(4).view(np.int32).reshape(-1), id="flat, of another type"),
        pytest.param(pictures(4).astype(">f4"), id="bytes in another order"),
        pytest.param(pictures(4)[:2], id="half a batch"),
        pytest.param(np.zeros(4 * ITEM - 4, np.int8), id="bytes missing"),
    ],
)
def test_what_the_tool_takes_without_a_word_is_refused(
    fixed: Path, feed: np.ndarray[Any, Any]
) -> None:
    with pytest.raises(AscendError, match=r"i:0 name:image .*not match: the model takes float32"):
        InferSession(0, fixed).infer([feed])


@given(
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]),
    st.data(),
)
def test_a_feed_is_never_given_other_content(
    shape: tuple[int, ...], dtype: type[np.generic], data: st.DataObject
) -> None:
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    spec = TensorSpec("x", np.dtype(dtype), shape)
    form = data.draw(st.sampled_from(["as it is", "flat", "bytes"]))
    feed = {
        "as it is": array,
        "flat": array.reshape(-1),
        "bytes": np.frombuffer(array.tobytes(), np.int8),
    }[form]
    fitted = fit_feed(feed, 0, spec, shape)
    assert fitted.dtype == dtype
    np.testing.assert_array_equal(fitted, array)
    assert fitted.shape == array.shape


def test_feeds_of_many_kinds_become_arrays() -> None:
    scalar = take_feed(np.float16(2.5))
    assert (scalar.shape, scalar.dtype) == ((), np.dtype(np.float16))
    tensor = Tensor(np.ones((2, 1), np.int64))
    assert take_feed(tensor) is tensor.array
    assert tensor.shape == [2, 1]
    tensor.to_device(0)
    tensor.to_host()
    np.testing.assert_array_equal(np.array(tensor, dtype=np.float32), np.ones((2, 1), np.float32))
    turned = take_feed(np.ones((2, 3)).T)
    assert turned.flags.c_contiguous
    for wrong in ([1.0], "text", None, 3, b"bytes"):
        with pytest.raises(AscendError, match=r"type:<class '.*'> invalid"):
            take_feed(wrong)


def test_torch_tensors_are_taken_without_importing_torch() -> None:
    torch = pytest.importorskip("torch")
    for kind in ("float32", "float64", "float16", "uint8", "int8", "int16", "int32", "bool"):
        tensor = torch.ones((2, 3), dtype=getattr(torch, kind)).T
        array = take_feed(tensor)
        assert (array.shape, array.dtype) == ((3, 2), np.dtype(kind))
        assert array.flags.c_contiguous
    assert take_feed(torch.ones(1, requires_grad=True)) == 1
    with pytest.raises(AscendError, match=r"a torch tensor of torch\.bfloat16 .*\.float\(\)"):
        take_feed(torch.ones(1, dtype=torch.bfloat16))


def test_every_execution_is_timed(free: Path) -> None:
    session = InferSession(0, free, loop=3)
    session.infer([pictures(1)])
    times = session.sumary().exec_time_list
    assert len(times) == 3
    assert min(times) > 0
    session.set_loop_count(1)
    session.infer_pipeline([[pictures(1)], [pictures(2)]])
    assert len(session.summary().exec_time_list) == 5
    assert session.summary().exec_time_list[:3] == times
    session.reset_sumaryinfo()
    assert session.summary().exec_time_list == []
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(AscendError, match="loop is"):
            session.set_loop_count(wrong)  # type: ignore[arg-type]


def test_copies_are_timed_for_the_process(free: Path) -> None:
    InferSession(0, free, loop=2).infer([pictures(1)])
    InferSession(0, free).infer([pictures(1)])
    assert MemorySummary.get_H2D_time_list() == MemorySummary.get_d2h_time_list() == [0.0] * 3
    MemorySummary.reset()
    assert MemorySummary.get_h2d_time_list() == MemorySummary.get_D2H_time_list() == []


def test_a_pipeline_gives_each_result(free: Path) -> None:
    arrays = [pictures(1), pictures(2), pictures(5)]
    made = InferSession(0, free).infer_pipeline([[array] for array in arrays], "dymbatch")
    for (found,), array in zip(made, arrays, strict=True):
        np.testing.assert_array_equal(found, run_onnx(free, array)[0])


def test_iterations_feed_outputs_back(tmp_path: Path) -> None:
    session = InferSession(0, write_sum(tmp_path))
    left, right = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    made = session.infer_iteration([left, right], [0, -1], iteration_times=4)
    np.testing.assert_array_equal(made[0], np.full((1, 3), 4, np.float32))
    assert len(session.summary().exec_time_list) == 4
    # sum and difference of the sum and difference before: twice the feeds after two rounds.
    crossed = session.infer_iteration([right, right * 3], [0, 1], 2)
    np.testing.assert_array_equal(crossed[0], right * 2)
    np.testing.assert_array_equal(crossed[1], right * 6)
    kept = session.infer_iteration([left, right], iteration_times=3)
    np.testing.assert_array_equal(kept[0], right)
    for links in ([0], [0, 2], [-2, 0]):
        with pytest.raises(AscendError, match="in_out_list is"):
            session.infer_iteration([left, right], links)
    with pytest.raises(AscendError, match="iteration_times is 0"):
        session.infer_iteration([left, right], [0, -1], 0)


def test_tensors_are_read_from_files(tmp_path: Path, fixed: Path) -> None:
    session = InferSession(0, fixed)
    (desc,) = session.get_inputs()
    array = pictures(4)
    files = []
    for index, picture in enumerate(array):
        if index % 2:
            files.append(tmp_path / f"{index}.npy")
            np.save(files[-1], picture)
        else:
            files.append(tmp_path / f"{index}.bin")
            files[-1].write_bytes(picture.tobytes())
    tensor = session.create_tensor_from_fileslist(desc, files)
    np.testing.assert_array_equal(tensor.array, array)
    made = session.run([tensor])
    assert isinstance(made[0], Tensor)
    session.convert_tensors_to_host([tensor])
    (output,) = session.convert_tensors_to_arrays([Tensor(np.asarray(made[0]))])
    np.testing.assert_array_equal(output, run_onnx(fixed, array)[0])
    np.testing.assert_array_equal(session.create_tensor_from_arrays_to_device(array).array, array)
    with pytest.raises(AscendError, match=f"ndata size:{3 * ITEM} not match {4 * ITEM}"):
        session.create_tensor_from_fileslist(desc, files[:3])
    for broken, content in (("none.bin", None), ("text.npy", b"no array")):
        if content is not None:
            (tmp_path / broken).write_bytes(content)
        with pytest.raises(AscendError, match=f"{broken} cannot be read"):
            session.create_tensor_from_fileslist(desc, [tmp_path / broken])


def test_a_freed_session_says_so(free: Path) -> None:
    session, other = InferSession(0, free), InferSession(0, free)
    session.free_resource()
    session.free_resource()
    with pytest.raises(EngineError, match="closed"):
        session.infer([pictures(1)])
    other.infer([pictures(1)])
    session.finalize()
    with pytest.raises(EngineError, match="closed"):
        other.infer([pictures(1)])


def test_debug_describes_and_unused_settings_are_said(
    free: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="reidkit"):
        InferSession(0, free, acl_json_path="acl.json", debug=True)
    assert "acl.json is not used" in caplog.text
    assert "#0 TensorDesc(name='image'" in caplog.text
    assert "#0 TensorDesc(name='embedding'" in caplog.text


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AscendError, match="load model from file failed"):
        InferSession(0, str(tmp_path / "none.om"))


def test_gears_of_a_chip_are_kept_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeAcl(lambda arrays: [arrays[0].sum(axis=1, keepdims=True)])
    install(monkeypatch, fake)
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    session = InferSession(
        0, write_om(tmp_path / "m.om", {"x": ("float32", [-1, 5])}, batch=[1, 4])
    )
    assert session.get_inputs() == [TensorDesc("x", 0, 2, [-1, 5], 80, 0)]
    session.set_dynamic_batchsize(1)
    assert session.get_inputs()[0].realsize == 20
    assert session.get_outputs()[0].realsize == 4
    with pytest.raises(AscendError, match=r"the dymBatch parameter is not correct: .*1, 4"):
        session.set_dynamic_batchsize(2)
    (made,) = session.infer([np.ones((4, 5), np.float32)], "dymbatch")
    np.testing.assert_array_equal(np.asarray(made), np.full((4, 1), 5, np.float32))
    assert min(MemorySummary.get_H2D_time_list() + MemorySummary.get_D2H_time_list()) > 0
    session.free_resource()
    assert fake.leaks() == {}


def test_several_devices_work_apart(tmp_path: Path) -> None:
    """Each list of feeds in a process of its own; times come back, as upstream's do not."""
    path = write_sum(tmp_path)
    left, right = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    session = MultiDeviceSession(path, loop=2)
    assert session.summary() == {}
    made = session.infer({0: [[left, right], [right, right]], 3: [[right, left]]})
    assert {device: len(lists) for device, lists in made.items()} == {0: 2, 3: 1}
    np.testing.assert_array_equal(made[0][1][0], right * 2)
    np.testing.assert_array_equal(made[3][0][1], right)
    times = session.summary()
    assert {device: [len(t) for t in lists] for device, lists in times.items()} == {
        0: [2, 2],
        3: [2],
    }


def test_several_devices_iterate_and_pipeline(tmp_path: Path) -> None:
    left, right = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    session = MultiDeviceSession(write_sum(tmp_path))
    made = session.infer_iteration({0: [[left, right]]}, [0, -1], 3)
    np.testing.assert_array_equal(made[0][0][0], right * 3)
    piped = session.infer_pipeline({1: [[[left, right], [right, right]]]})
    np.testing.assert_array_equal(piped[1][0][1][0], right * 2)


def test_an_error_of_another_process_reaches_the_caller(tmp_path: Path) -> None:
    session = MultiDeviceSession(write_sum(tmp_path))
    with pytest.raises(ReidkitError, match="has 2 inputs, 1 feeds"):
        session.infer({0: [[np.ones((1, 3), np.float32)]]})
    with pytest.raises(AscendError, match="65 lists of feeds"):
        session.infer({0: [[]] * 65})
    with pytest.raises(AscendError, match="0 lists of feeds"):
        session.infer({})


class _Dies:
    """Ends the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (3,)


def test_a_process_that_ends_is_an_error() -> None:
    with pytest.raises(EngineError, match=r"ended before it answered: .*__main__"):
        _devices._work_apart([_Dies()])  # type: ignore[list-item]
