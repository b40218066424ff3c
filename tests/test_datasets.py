"""The layouts on disk: what is read, in which order, and what is refused."""

from __future__ import annotations

import re
from functools import cmp_to_key
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reidkit.datasets import find_layout, load_dataset
from reidkit.datasets.market1501 import FOLDERS, natural_key, parse_name
from reidkit.errors import DatasetError
from reidkit.records import Samples

TRAIN, QUERY, GALLERY = (FOLDERS[split] for split in ("train", "query", "gallery"))


def make_market(root: Path, **names: list[str]) -> Path:
    """Make the three folders with empty files; a split that is not named holds one picture."""
    for split, folder in FOLDERS.items():
        (root / folder).mkdir(parents=True)
        for name in names.get(split, ["0002_c1s1_000451_03.jpg"]):
            (root / folder / name).touch()
    return root


def make_table(folder: Path, *lines: str, name: str = "dataset.csv") -> Path:
    file = folder / name
    file.write_text("\n".join(("path,person_id,camera_id,split", *lines)), encoding="utf-8")
    return file


def file_names(samples: Samples) -> list[str]:
    return [Path(path).name for path in samples.paths]


# Market-1501.


def test_market_splits_people_and_cameras(tmp_path: Path) -> None:
    root = make_market(
        tmp_path,
        train=["0002_c1s1_000451_03.jpg", "0007_c6s3_077419_03.jpg"],
        query=["0001_c12s1_001051_00.jpg"],
        gallery=["-1_c1s1_000401_03.jpg", "0000_c3s2_000301_01.jpg", "0001_c2s1_000301_01.jpg"],
    )
    dataset = load_dataset("market1501", root)
    assert dataset.name == "market1501"
    assert dataset.train.person_ids.tolist() == [2, 7]
    assert dataset.train.camera_ids.tolist() == [1, 6]
    assert dataset.query.camera_ids.tolist() == [12]
    assert dict(zip(dataset.gallery.person_ids, dataset.gallery.camera_ids, strict=True)) == {
        -1: 1,
        0: 3,
        1: 2,
    }
    assert dataset.query.paths.tolist() == [str(root / QUERY / "0001_c12s1_001051_00.jpg")]
    assert all(Path(path).is_file() for path in dataset.gallery.paths)


def test_a_text_path_will_do(tmp_path: Path) -> None:
    assert len(load_dataset("market1501", str(make_market(tmp_path))).train) == 1


def test_parent_folders_do_not_matter(tmp_path: Path) -> None:
    dataset = load_dataset("market1501", make_market(tmp_path / "run1_c3" / "0099_c9"))
    assert dataset.query.person_ids.tolist() == [2]
    assert dataset.query.camera_ids.tolist() == [1]


def test_extensions_in_any_case(tmp_path: Path) -> None:
    names = ["1_c1.jpg", "2_c1.JPG", "3_c1.jpeg", "4_c1.JpEg", "5_c1.jpg.jpg", "6_c1.PNG"]
    dataset = load_dataset("market1501", make_market(tmp_path, query=names))
    assert file_names(dataset.query) == names


def test_thumbnails_dot_files_and_folders_are_ignored(tmp_path: Path) -> None:
    junk = ["Thumbs.db", "thumbs.DB", ".DS_Store", "._0001_c1s1_000151_01.jpg", "0001_c1s1.jpg"]
    root = make_market(tmp_path, gallery=junk)
    (root / GALLERY / "0003_c1s1_folder.jpg").mkdir()
    (root / GALLERY / "more").mkdir()
    assert file_names(load_dataset("market1501", root).gallery) == ["0001_c1s1.jpg"]


def test_bad_names_are_listed_ten_with_their_count(tmp_path: Path) -> None:
    bad = [f"picture{i}.jpg" for i in range(13)]
    root = make_market(tmp_path, gallery=[*bad, "0001_c1s1_000151_01.jpg"])
    with pytest.raises(DatasetError) as caught:
        load_dataset("market1501", root)
    message = str(caught.value)
    assert f"13 of 14 files in {root / GALLERY}" in message
    assert [name in message for name in bad] == [True] * 10 + [False] * 3
    assert "and 3 more" in message


@pytest.mark.parametrize("name", ["readme.txt", "0001_c1s1_000151_01.gif", "0001_c1s1", "x_c1.jpg"])
def test_any_other_file_is_refused(tmp_path: Path, name: str) -> None:
    root = make_market(tmp_path, train=["0001_c1s1_000151_01.jpg", name])
    with pytest.raises(DatasetError, match=f"1 of 2 files in .*{TRAIN}.*\n  {re.escape(name)}"):
        load_dataset("market1501", root)


def test_missing_folders_are_named_at_once_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / TRAIN).mkdir()
    (tmp_path / "gt_bbox").mkdir()
    (tmp_path / "readme.txt").touch()
    with pytest.raises(DatasetError) as caught:
        load_dataset("market1501", tmp_path)
    message = str(caught.value)
    assert f"lacks {QUERY}, {GALLERY} " in message
    assert f"it holds {TRAIN}/, gt_bbox/, readme.txt" in message
    assert "did you mean" not in message


@pytest.mark.parametrize("name", ["Market-1501-v15.09.15", "market1501", "unpacked"])
def test_the_parent_folder_is_a_known_slip(tmp_path: Path, name: str) -> None:
    make_market(tmp_path / name)
    with pytest.raises(DatasetError, match=f"{re.escape(name)} has them: did you mean that"):
        load_dataset("market1501", tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere does not exist.*bounding_box_train, query"):
        load_dataset("market1501", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="file is not a folder"):
        load_dataset("market1501", tmp_path / "file")
    with pytest.raises(DatasetError, match="it holds nothing"):
        load_dataset("market1501", make_empty(tmp_path / "empty"))


def make_empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_an_empty_split_is_named(tmp_path: Path, split: str) -> None:
    root = make_market(tmp_path, **{split: ["Thumbs.db"]})
    with pytest.raises(DatasetError, match=f"{FOLDERS[split]} is empty"):
        load_dataset("market1501", root)


def test_an_empty_training_split_does_not_keep_from_scoring(tmp_path: Path) -> None:
    dataset = load_dataset("market1501", make_market(tmp_path, train=["Thumbs.db"]))
    assert len(dataset.train) == 0
    assert len(dataset.query) == 1


def test_natural_order(tmp_path: Path) -> None:
    names = ["2_c1_2.jpg", "2_c1_10.jpg", "2_c2_1.jpg", "2_c10_1.jpg", "10_c1_1.jpg"]
    dataset = load_dataset("market1501", make_market(tmp_path, query=sorted(names)))
    assert sorted(names) != names
    assert file_names(dataset.query) == names


def test_junk_keeps_together_after_the_numbered(tmp_path: Path) -> None:
    names = ["-1_c2_1.jpg", "0000_c1_1.jpg", "-1_c10_1.jpg", "1501_c1_1.jpg"]
    dataset = load_dataset("market1501", make_market(tmp_path, gallery=names))
    assert dataset.gallery.person_ids.tolist() == [0, 1501, -1, -1]
    assert dataset.gallery.camera_ids.tolist() == [1, 1, 2, 10]


@given(
    person=st.integers(-1, 10**18 - 1),
    camera=st.integers(0, 10**18 - 1),
    width=st.integers(1, 8),
    tail=st.from_regex(r"(s[0-9]{1,3}(_[0-9a-z]{1,6}){0,3})?", fullmatch=True),
    suffix=st.sampled_from([".jpg", ".jpeg", ".png", ".jpg.jpg", ".JPG", ".Png", ".jpg.JPEG"]),
)
@example(person=1, camera=12, width=4, tail="s1_001051_00", suffix=".jpg")
def test_names_say_person_and_camera(
    person: int, camera: int, width: int, tail: str, suffix: str
) -> None:
    number = "-1" if person == -1 else f"{person:0{width}d}"
    assert parse_name(f"{number}_c{camera}{tail}{suffix}") == (person, camera)


@given(st.text(max_size=20))
@example("_c1.jpg")
@example("0001_c.jpg")
@example("0001_C1.jpg")
@example("0001c1.jpg")
@example("-2_c1.jpg")
@example("--1_c1.jpg")
@example("1-1_c1.jpg")
@example("a0001_c1.jpg")
@example("run1_c3.jpg")
@example("٣_c1.jpg")
@example("9999999999999999999_c1.jpg")
@example("1_c9999999999999999999.jpg")
def test_other_names_do_not_parse(name: str) -> None:
    expected = re.match(r"(-1|[0-9]{1,18})_c([0-9]+)", name)
    if expected is None or len(expected[2]) > 18 or not name.lower().endswith((".jpg", ".png")):
        assert parse_name(name) is None


def naive_order(first: str, second: str) -> int:
    """Compare two names character by character, whole numbers by their value."""
    i = j = 0
    while i < len(first) and j < len(second):
        a, b = re.match(r"[0-9]+", first[i:]), re.match(r"[0-9]+", second[j:])
        if a and b:
            if int(a[0]) != int(b[0]):
                return -1 if int(a[0]) < int(b[0]) else 1
            i, j = i + len(a[0]), j + len(b[0])
            continue
        # A text that stops where a number starts, or ends, is the shorter one.
        if a or b:
            return -1 if a else 1
        if first[i] != second[j]:
            return -1 if first[i] < second[j] else 1
        i, j = i + 1, j + 1
    rest = (len(first) - i) - (len(second) - j)
    return rest or (first > second) - (first < second)


@given(st.lists(st.text("019_c-.", max_size=8), max_size=12))
def test_natural_order_equals_the_naive_one(names: list[str]) -> None:
    assert sorted(names, key=natural_key) == sorted(names, key=cmp_to_key(naive_order))


@given(st.permutations(["-1_c1.jpg", "1_c1.jpg", "01_c1.jpg", "1_c01.jpg", "1_c1_0.jpg", "2.jpg"]))
def test_natural_order_does_not_depend_on_the_start(names: list[str]) -> None:
    expected = ["01_c1.jpg", "1_c01.jpg", "1_c1.jpg", "1_c1_0.jpg", "2.jpg", "-1_c1.jpg"]
    assert sorted(names, key=natural_key) == expected


def test_twenty_thousand_files(tmp_path: Path) -> None:
    names = [f"{i % 1501:04d}_c{i % 6 + 1}s1_{i:06d}_00.jpg" for i in range(20_000)]
    root = make_market(tmp_path, gallery=names)
    assert len(load_dataset("market1501", root).gallery) == 20_000


# Tables.


def test_table_splits_in_the_files_order(tmp_path: Path) -> None:
    file = make_table(
        tmp_path,
        "b.jpg,7,3,query",
        "crops/a.jpg,7,12,gallery",
        "crops/c.jpg,-1,1,gallery",
        "a.jpg,0,-1,gallery",
    )
    dataset = load_dataset("table", file)
    assert dataset.name == "table"
    assert dataset.query.paths.tolist() == [str(tmp_path / "b.jpg")]
    assert dataset.gallery.paths.tolist() == [
        str(tmp_path / name) for name in ("crops/a.jpg", "crops/c.jpg", "a.jpg")
    ]
    assert dataset.gallery.person_ids.tolist() == [7, -1, 0]
    assert dataset.gallery.camera_ids.tolist() == [12, 1, -1]
    assert len(dataset.train) == 0


def test_table_in_a_folder_is_called_dataset(tmp_path: Path) -> None:
    make_table(tmp_path, "a.jpg,1,1,train")
    make_table(tmp_path, "z.jpg,1,1,train", name="other.csv")
    assert file_names(load_dataset("table", tmp_path).train) == ["a.jpg"]
    assert file_names(load_dataset("table", tmp_path / "other.csv").train) == ["z.jpg"]


def test_absolute_paths_stay(tmp_path: Path) -> None:
    picture = tmp_path / "elsewhere" / "a.jpg"
    file = make_table(make_empty(tmp_path / "tables"), f"{picture},1,1,train")
    assert load_dataset("table", file).train.paths.tolist() == [str(picture)]


def test_order_of_columns_extra_columns_quotes_and_blank_lines(tmp_path: Path) -> None:
    file = tmp_path / "some.CSV"
    file.write_text(
        'note,split, camera_id,person_id,path\n\n"x, y",query,2, 5 ,"a,b.jpg"\n , ,,,\n'
        ",gallery,3,6,c.jpg,more\n",
        encoding="utf-8",
    )
    dataset = load_dataset("table", file)
    assert file_names(dataset.query) == ["a,b.jpg"]
    assert (dataset.query.person_ids[0], dataset.query.camera_ids[0]) == (5, 2)
    assert dataset.gallery.person_ids.tolist() == [6]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends(tmp_path: Path, encoding: str, newline: str) -> None:
    file = tmp_path / "dataset.csv"
    lines = ("path,person_id,camera_id,split", "straße.jpg,1,2,query", "")
    file.write_bytes(newline.join(lines).encode(encoding))
    assert file_names(load_dataset("table", file).query) == ["straße.jpg"]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    file = tmp_path / "dataset.csv"
    file.write_text("path,id,split\na.jpg,1,query\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"lacks the columns person_id, camera_id.*path, id, sp"):
        load_dataset("table", file)
    file.write_text("", encoding="utf-8")
    with pytest.raises(DatasetError, match="it names nothing"):
        load_dataset("table", file)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("a.jpg,x,1,query", "person_id is 'x', expected a whole number"),
        ("a.jpg,1.5,1,query", "person_id is '1.5'"),
        ("a.jpg,1_0,1,query", "person_id is '1_0'"),
        ("a.jpg,-2,1,query", "person_id is '-2'"),
        ("a.jpg,9999999999999999999,1,query", "person_id is '9999999999999999999'"),
        ("a.jpg,1,,query", "camera_id is '', expected a whole number"),
        ("a.jpg,1,1,test", "split is 'test', expected one of train, query, gallery"),
        ("a.jpg,1,1,", "split is ''"),
        (" ,1,1,query", "the path is empty"),
        ("a.jpg,1,1", "3 fields, expected at least 4"),
    ],
)
def test_unusable_rows_have_a_line_number(tmp_path: Path, line: str, fault: str) -> None:
    file = make_table(tmp_path, "ok.jpg,1,1,query", "", line)
    with pytest.raises(DatasetError) as caught:
        load_dataset("table", file)
    assert f"1 rows of {file} cannot be used" in str(caught.value)
    assert f"\n  line 4: {fault}" in str(caught.value)


def test_unusable_rows_are_listed_ten_with_their_count(tmp_path: Path) -> None:
    file = make_table(tmp_path, *(["a.jpg,x,1,query"] * 12))
    with pytest.raises(DatasetError) as caught:
        load_dataset("table", file)
    message = str(caught.value)
    assert f"12 rows of {file}" in message
    assert [f"line {i}:" in message for i in range(2, 14)] == [True] * 10 + [False] * 2
    assert "and 2 more" in message


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone.csv does not exist.*path, person_id"):
        load_dataset("table", tmp_path / "gone.csv")
    with pytest.raises(DatasetError, match=r"dataset.csv does not exist"):
        load_dataset("table", tmp_path)
    file = make_table(tmp_path)
    with pytest.raises(DatasetError, match="holds no rows"):
        load_dataset("table", file)
    file.write_bytes("path,person_id,camera_id,split\nstraße,1,1,query".encode("latin-1"))
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        load_dataset("table", file)
    file.write_text('path,person_id,camera_id,split\n"a.jpg,1,1,query\n', encoding="utf-8")
    with pytest.raises(DatasetError, match="not a CSV file in UTF-8"):
        load_dataset("table", file)


# The choice of a layout.


def test_unknown_layouts_name_the_known() -> None:
    with pytest.raises(DatasetError, match="unknown layout 'drawn', expected one of market1501, t"):
        load_dataset("drawn", "anywhere")


def test_find_layout_finds_what_loads(tmp_path: Path) -> None:
    market = make_market(tmp_path / "market")
    file = make_table(make_empty(tmp_path / "tables"), "a.jpg,1,1,train", name="people.CSV")
    folder = make_table(make_empty(tmp_path / "folder"), "a.jpg,1,1,train").parent
    places = {market: "market1501", file: "table", folder: "table"}
    for place, layout in places.items():
        assert find_layout(place) == find_layout(str(place)) == layout
        assert load_dataset(layout, place).name == layout


@pytest.mark.parametrize("folder", list(FOLDERS.values()))
def test_any_split_folder_is_enough_to_know_market(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert find_layout(tmp_path) == "market1501"


def test_find_layout_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="gone does not exist"):
        find_layout(tmp_path / "gone")
    with pytest.raises(DatasetError, match=r"looked for a CSV file, a dataset.csv, or .*, query,"):
        find_layout(tmp_path)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"notes.txt is no data set"):
        find_layout(tmp_path / "notes.txt")
    make_market(tmp_path / "market1501")
    with pytest.raises(DatasetError, match="market1501 has them: did you mean that"):
        find_layout(tmp_path)
    both = make_market(tmp_path / "both")
    make_table(both, "a.jpg,1,1,train")
    with pytest.raises(DatasetError, match="either of table, market1501"):
        find_layout(both)
