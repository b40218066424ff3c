"""Which files go into which run, in which order and with what padding; shapes of free sizes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.ascend._models import open_model
from reidkit.ascend.bench._inputs import (
    Plan,
    Share,
    find_files,
    limit_files,
    pad,
    plan_pure,
    share_files,
    sort_naturally,
)
from reidkit.ascend.bench._planning import plan_own_shapes, plan_runs
from reidkit.ascend.bench._reading import Reader, make_pure, measure_file, read_bytes
from reidkit.ascend.bench._settings import ShapeOptions
from reidkit.ascend.bench._shapes import choose_shapes, expand_range
from reidkit.errors import AscendError
from reidkit.runtimes.sessions import TensorSpec
from tests import ascend_models

FLOATS = np.dtype(np.float32)

NAMES = st.text("aB_-.0123456789", min_size=1, max_size=8)


def image(batch: int) -> tuple[list[TensorSpec], list[tuple[int, ...]]]:
    """Give the one input of a model of this batch size, and its shape in a run."""
    shape = (batch, *ascend_models.SHAPE)
    return [TensorSpec("image", FLOATS, shape)], [shape]


def test_numbers_in_names_count_as_numbers() -> None:
    assert sort_naturally(["d/b10.bin", "d/b2.bin", "d/b1.bin"]) == [
        "d/b1.bin",
        "d/b2.bin",
        "d/b10.bin",
    ]


def test_case_does_not_matter_but_for_names_that_are_equal_otherwise() -> None:
    assert sort_naturally(["b1", "A2", "a1", "A1"]) == ["A1", "a1", "A2", "b1"]


def test_junk_of_market_1501_comes_after_the_distractors() -> None:
    names = ["d/-1_c1s1_1_00.bin", "d/0001_c1s1_1_00.bin", "d/0000_c1s1_1_00.bin"]
    assert sort_naturally(names) == [names[2], names[1], names[0]]


def before(a: str, b: str) -> bool:
    """Compare two names character run by character run, as slowly as the rule is worded."""
    left: list[str] = re.findall(r"[0-9]+|[^0-9]+", a)
    right: list[str] = re.findall(r"[0-9]+|[^0-9]+", b)
    # A name that starts with digits has empty text before them.
    left = left if left and not left[0].isdigit() else ["", *left]
    right = right if right and not right[0].isdigit() else ["", *right]
    for one, other in zip(left, right, strict=False):
        if one.isdigit() and other.isdigit() and int(one) != int(other):
            return int(one) < int(other)
        if not one.isdigit() and not other.isdigit() and one.lower() != other.lower():
            return one.lower() < other.lower()
    if len(left) != len(right):
        # One is the beginning of the other, and comes first.
        return len(left) < len(right)
    return a < b


@given(st.lists(NAMES, unique=True, max_size=8))
def test_natural_order_against_a_slow_comparison(names: list[str]) -> None:
    ordered = sort_naturally(names)
    assert sorted(ordered) == sorted(names)
    assert all(before(a, b) for a, b in itertools.pairwise(ordered))


@given(st.integers(1, 40), st.integers(1, 17))
def test_runs_and_padding_against_a_brute_force(count: int, per_run: int) -> None:
    """Files fill runs in order; the last run is filled up with its own first file."""
    files = tuple(f"{i}.bin" for i in range(count))
    runs: list[list[str]] = []
    for name in files:
        if not runs or len(runs[-1]) == per_run:
            runs.append([])
        runs[-1].append(name)
    padded = [list(run) for run in runs]
    while len(padded[-1]) < per_run:
        padded[-1].append(padded[-1][0])
    plan = Plan((files,), per_run)
    assert plan.runs == len(runs)
    assert [list(plan.take(run)[0]) for run in range(plan.runs)] == runs
    assert [pad(list(plan.take(run)[0]), per_run) for run in range(plan.runs)] == padded


@given(st.integers(1, 40), st.integers(1, 5))
def test_a_file_list_is_cut_into_one_piece_for_each_input(count: int, inputs: int) -> None:
    """Pieces of `count // inputs`, one behind the other: it must be one for each input."""
    here = str(Path(__file__))
    if count < inputs or count % (count // inputs) or count // (count // inputs) != inputs:
        with pytest.raises(AscendError, match=rf"fileslist:\d+ intensor:{inputs} not match"):
            find_files([here] * count, inputs)
        return
    files = find_files([here] * count, inputs)
    assert [len(names) for names in files] == [count // inputs] * inputs


@given(st.integers(1, 30), st.integers(1, 6))
def test_shares_are_contiguous_and_complete(count: int, devices: int) -> None:
    files = (tuple(range(count)), tuple(range(count, 2 * count)))
    named = tuple(tuple(map(str, names)) for names in files)
    shares = [share_files(named, Share(i, devices)) for i in range(devices)]
    assert tuple(name for share in shares for name in share[0]) == named[0]
    assert tuple(name for share in shares for name in share[1]) == named[1]
    assert max(len(share[0]) for share in shares) == -(-count // devices)


def test_a_folder_gives_its_own_npy_and_bin_files_only(tmp_path: Path) -> None:
    for name in ("b10.bin", "b2.BIN", "b1.npy", "c.NPY", "x.Bin", "y.jpg", ".z"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.bin").write_bytes(b"1")
    (names,) = find_files([str(tmp_path)], 1)
    assert [Path(name).name for name in names] == ["b1.npy", "b2.BIN", "b10.bin", "c.NPY"]


@pytest.mark.parametrize("kind", ["folder", "dangling"])
def test_what_is_no_file_is_named_and_not_passed_over(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.bin").write_bytes(b"1234")
    if kind == "folder":
        (tmp_path / "b.bin").mkdir()
    else:
        (tmp_path / "b.bin").symlink_to(tmp_path / "nowhere")
    (names,) = find_files([str(tmp_path)], 1)
    assert len(names) == 2
    with pytest.raises(AscendError, match=r"b\.bin cannot be read"):
        measure_file(names[1])


def test_files_are_named_as_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ascend_models.write_pictures(Path("d"), ["a.bin"])
    assert find_files(["./d"], 1) == (("./d/a.bin",),)
    assert find_files(["./d/"], 1) == (("./d/a.bin",),)


def test_files_keep_the_order_they_were_given_in(tmp_path: Path) -> None:
    ascend_models.write_pictures(tmp_path, ["a.bin", "b.bin", "c.bin", "d.bin"])
    given_files = [str(tmp_path / f"{name}.bin") for name in "cadb"]
    assert find_files(given_files, 1) == (tuple(given_files),)
    assert find_files(given_files, 2) == (tuple(given_files[:2]), tuple(given_files[2:]))
    assert limit_files(find_files(given_files, 2), 1) == ((given_files[0],), (given_files[2],))


def test_inputs_that_cannot_be_used(tmp_path: Path) -> None:
    ascend_models.write_pictures(tmp_path / "one", ["a.bin"])
    ascend_models.write_pictures(tmp_path / "two", ["a.bin", "b.bin"])
    (tmp_path / "empty").mkdir()
    one, two, empty = (str(tmp_path / name) for name in ("one", "two", "empty"))
    file = str(tmp_path / "one" / "a.bin")
    refused = [
        ([str(tmp_path / "none")], 1, r"Invalid args. .*none  of --input is invalid"),
        ([empty], 1, r"empty of input args not find valid file,valid file format:\[\*.npy \*.NPY"),
        ([one, two], 1, "args input dir num:2 not equal to model inputs num:1"),
        ([one], 2, "args input dir num:1 not equal to model inputs num:2"),
        ([one, two], 2, "two holds 2 files, but .*one holds 1"),
        ([file], 2, "fileslist:0 intensor:2 not match: 1 files cannot be divided among 2"),
        ([file, one], 1, "one  of --input is invalid: it is a folder"),
        ([one, file], 2, "a.bin  of --input is invalid: it is not a folder"),
    ]
    for inputs, count, message in refused:
        with pytest.raises(AscendError, match=message):
            find_files(inputs, count)


@pytest.mark.parametrize("batch", [1, 4])
def test_the_first_file_says_how_many_go_into_a_run(tmp_path: Path, batch: int) -> None:
    ascend_models.write_pictures(tmp_path, [f"{i}.bin" for i in range(6)])
    files = find_files([str(tmp_path)], 1)
    plan = plan_runs(files, *image(batch), compatible=False)
    assert (plan.per_run, plan.runs) == (batch, -(-6 // batch))


def test_a_file_may_hold_a_whole_run(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(4 * ascend_models.PICTURE))
    assert plan_runs(find_files([str(tmp_path)], 1), *image(4), compatible=False).per_run == 1


@pytest.mark.parametrize("compatible", [False, True])
@pytest.mark.parametrize("size", [0, 7, 5 * ascend_models.PICTURE])
def test_a_first_file_that_does_not_fill_a_run(tmp_path: Path, size: int, compatible: bool) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(size))
    message = f"arg0 tensorsize: {4 * ascend_models.PICTURE} filesize: {size} not match: .*a.bin"
    with pytest.raises(AscendError, match=message):
        plan_runs(find_files([str(tmp_path)], 1), *image(4), compatible=compatible)


def test_half_a_picture_is_refused_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(ascend_models.PICTURE // 2))
    files = find_files([str(tmp_path)], 1)
    with pytest.raises(AscendError, match=r"a.bin holds a part of one picture: 48 bytes.* has 96"):
        plan_runs(files, *image(2), compatible=False)
    assert plan_runs(files, *image(2), compatible=True).per_run == 4


def test_all_files_of_a_wrong_size_are_named(tmp_path: Path) -> None:
    ascend_models.write_pictures(tmp_path, [f"{i}.bin" for i in range(5)])
    (tmp_path / "2.bin").write_bytes(b"12")
    (tmp_path / "4.bin").write_bytes(bytes(2 * ascend_models.PICTURE))
    files = find_files([str(tmp_path)], 1)
    message = r"2 of 5 files .*2.bin \(2 bytes\), .*4.bin \(192 bytes\)"
    with pytest.raises(AscendError, match=message):
        plan_runs(files, *image(2), compatible=False)
    assert plan_runs(files, *image(2), compatible=True).per_run == 2


def test_an_array_must_have_the_type_of_the_input_or_be_bytes(tmp_path: Path) -> None:
    array = np.ones(ascend_models.SHAPE, np.float32)
    np.save(tmp_path / "a.npy", array)
    np.save(tmp_path / "b.npy", array.reshape(-1).view(np.uint8))
    files = find_files([str(tmp_path)], 1)
    plan = plan_runs(files, *image(2), compatible=False)
    (read,) = Reader(plan, tuple(image(2)[0]), tuple(image(2)[1]), {}).read(0)
    np.testing.assert_array_equal(read, np.ones((2, *ascend_models.SHAPE), np.float32))
    np.save(tmp_path / "c.npy", np.ones(12, np.float64))
    with pytest.raises(AscendError, match=r"c.npy \(float64 \(12,\)\)"):
        plan_runs(find_files([str(tmp_path)], 1), *image(2), compatible=False)


def test_a_file_is_measured_as_it_is_read(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12, dtype=np.int16).reshape(3, 4))
    np.save(tmp_path / "a.npy", array)
    content = measure_file(str(tmp_path / "a.npy"))
    assert (content.bytes, content.dtype, content.shape) == (24, np.dtype(np.int16), (3, 4))
    assert read_bytes(str(tmp_path / "a.npy")).tobytes() == array.tobytes("C")


@pytest.mark.parametrize("damage", ["text", "short", "objects", "gone"])
def test_an_array_file_that_is_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones(100))
    if damage == "text":
        path.write_text("no array")
    elif damage == "short":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "objects":
        np.save(path, np.array([{}], object))
    else:
        path.unlink()
    with pytest.raises(AscendError, match=r"a.npy cannot be read"):
        measure_file(str(path))
    with pytest.raises(AscendError, match=r"a.npy cannot be read"):
        read_bytes(str(path))


@pytest.mark.parametrize("readers", [0, 1, 3])
def test_runs_are_read_in_order_and_padded_by_their_first_file(
    tmp_path: Path, readers: int
) -> None:
    arrays = ascend_models.write_pictures(tmp_path, [f"{i}.bin" for i in range(11)])
    specs, shapes = image(4)
    plan = plan_runs(find_files([str(tmp_path)], 1), specs, shapes, compatible=False)
    runs = [run[0] for run in Reader(plan, tuple(specs), tuple(shapes), {}).read_all(readers)]
    rows = np.stack([*arrays, arrays[8]])
    np.testing.assert_array_equal(np.concatenate(runs), rows)


def test_arrays_with_shapes_of_their_own(tmp_path: Path) -> None:
    spec = TensorSpec("image", FLOATS, (-1, 3, 4, -1))
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 4, 2), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4, 5), np.float32))
    plan = plan_own_shapes(find_files([str(tmp_path)], 1), [spec], compatible=False)
    shapes = [run[0].shape for run in Reader(plan, (spec,), None, {}).read_all(0)]
    assert shapes == [(1, 3, 4, 2), (2, 3, 4, 5)]
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 5, 5), np.float32))
    with pytest.raises(AscendError, match=r"1 of 3 files hold something else: .*c.npy"):
        plan_own_shapes(find_files([str(tmp_path)], 1), [spec], compatible=False)
    (tmp_path / "d.bin").write_bytes(b"1")
    with pytest.raises(
        AscendError, match=r"take the shape of npy files; 1 files are none: .*d.bin"
    ):
        plan_own_shapes(find_files([str(tmp_path)], 1), [spec], compatible=True)


def test_pure_data() -> None:
    specs = [TensorSpec("a", FLOATS, (2, 3)), TensorSpec("b", np.dtype(np.bool_), (5,))]
    zeros = make_pure(specs, [(2, 3), (5,)], "zero")
    assert [a.dtype.name for a in zeros] == ["float32", "bool"]
    assert [a.shape for a in zeros] == [(2, 3), (5,)]
    assert not any(a.any() for a in zeros)
    random = make_pure([TensorSpec("c", np.dtype(np.uint8), (4096,))], [(4096,)], "random")
    assert set(random[0].tolist()) == set(range(256))
    assert plan_pure(2).runs == 1


def free_model(folder: Path) -> Path:
    return ascend_models.write_model(folder / "free.onnx", shape=(3, "height", "width"))


@pytest.mark.parametrize(
    ("options", "batch", "shape"),
    [
        (ShapeOptions(image_size="4,2"), None, (1, 3, 4, 2)),
        (ShapeOptions(image_size="4,2"), 8, (8, 3, 4, 2)),
        (ShapeOptions(dims="image:2,3,4,2"), 8, (2, 3, 4, 2)),
        (ShapeOptions(shape="image:5,3,8,6"), None, (5, 3, 8, 6)),
    ],
)
def test_options_for_free_sizes(
    tmp_path: Path, options: ShapeOptions, batch: int | None, shape: tuple[int, ...]
) -> None:
    session = open_model(free_model(tmp_path))
    assert choose_shapes(session, options, batch) == (shape,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ShapeOptions(), "leaves sizes free"),
        (ShapeOptions(batch=2), "leaves sizes free"),
        (ShapeOptions(image_size="4"), "the dymHW parameter is not correct"),
        (ShapeOptions(image_size="4,x"), "the dymHW parameter is not correct"),
        (ShapeOptions(dims="image:1,4,4,2"), "the dynamic_dims parameter is not correct"),
        (ShapeOptions(dims="image"), "the dynamic_dims parameter is not correct"),
        (ShapeOptions(shape="picture:1,3,4,2"), "parameter set error, please check input name"),
        (ShapeOptions(shape="image:1,3,4,0"), "the dymShape parameter set error"),
        (
            ShapeOptions(shape="image:1,3,4,2;b:1"),
            "om has 1 input, but dymShape parametet give 2",
        ),
        (
            ShapeOptions(image_size="4,2", output_bytes="1,2"),
            "om has 1 output, but outputSize parametet give 2",
        ),
    ],
)
def test_options_that_do_not_fit_free_sizes(
    tmp_path: Path, options: ShapeOptions, message: str
) -> None:
    with pytest.raises(AscendError, match=message):
        choose_shapes(open_model(free_model(tmp_path)), options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ShapeOptions(batch=4), "dynamic_batch_size parameter is not specified for model conver"),
        (ShapeOptions(image_size="4,2"), "dynamic_image_size parameter is not specified for mod"),
        (ShapeOptions(dims="image:4,3,4,2"), "the dynamic_dims parameter is not correct"),
        (ShapeOptions(shape="image:2,3,4,2"), "the dymShape parameter set error"),
    ],
)
def test_a_model_without_free_sizes(tmp_path: Path, options: ShapeOptions, message: str) -> None:
    session = open_model(ascend_models.write_model(tmp_path / "m.onnx", batch=4))
    assert choose_shapes(session, ShapeOptions(), batch=7) == ((4, 3, 4, 2),)
    with pytest.raises(AscendError, match=message):
        choose_shapes(session, options)


def test_a_free_batch_is_the_one_asked_for(tmp_path: Path) -> None:
    session = open_model(ascend_models.write_model(tmp_path / "m.onnx"))
    assert choose_shapes(session, ShapeOptions())[0][0] == 1
    assert choose_shapes(session, ShapeOptions(), batch=8)[0][0] == 8
    assert choose_shapes(session, ShapeOptions(batch=4), batch=8)[0][0] == 4


@pytest.mark.parametrize(
    "given_options", [{"batch": 2, "shape": "a:1"}, {"image_size": "1,2", "dims": "a:1"}]
)
def test_only_one_way_to_give_sizes(given_options: dict[str, str]) -> None:
    with pytest.raises(AscendError, match="exclude each other"):
        ShapeOptions(**given_options)  # type: ignore[arg-type]
    with pytest.raises(AscendError, match="the dymBatch parameter is not correct"):
        ShapeOptions(batch=-1)


def test_ranges_of_shapes(tmp_path: Path) -> None:
    assert expand_range("a:1,3,4~6,7-9") == [f"a:1,3,{h},{w}" for h in (4, 5, 6) for w in (7, 9)]
    assert expand_range("a:1~7~3;b:2") == ["a:1;b:2", "a:4;b:2", "a:7;b:2"]
    (tmp_path / "s.info").write_text("a:1\n\na:2-3\n")
    assert expand_range(str(tmp_path / "s.info")) == ["a:1", "a:2", "a:3"]
    for wrong in ("a:x", "a", "a:5~4", "a:1~2~3~4", ":1", "a:0"):
        with pytest.raises(AscendError, match="--dymShape_range"):
            expand_range(wrong)
    with pytest.raises(AscendError, match="cannot be read"):
        expand_range(str(tmp_path / "none.info"))
