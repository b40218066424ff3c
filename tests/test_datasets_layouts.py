"""The layouts beside Market-1501 and tables: what is read, what is refused, which is which."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit.datasets import LAYOUTS, cuhk03, dukemtmc, find_layout, load_dataset, viper
from reidkit.datasets.folders import MARKET_FOLDERS
from reidkit.datasets.published import SIZES, compare_sizes, measure_split
from reidkit.errors import ArgumentError, DatasetError
from reidkit.records import Dataset, Samples
from tests.layouts import (
    MSMT_LISTS,
    make_duke,
    make_folders,
    make_msmt,
    make_numbered,
    make_unpacked,
    make_veri,
    make_viper,
    touch,
)


def rows(samples: Samples) -> list[tuple[str, int, int]]:
    names = [Path(path).name for path in samples.paths]
    return list(zip(names, samples.person_ids.tolist(), samples.camera_ids.tolist(), strict=True))


def all_exist(dataset: Dataset) -> bool:
    paths = [p for s in ("train", "query", "gallery") for p in dataset.split(s).paths]
    return all(os.path.isfile(path) for path in paths)  # noqa: PTH113


# DukeMTMC-reID.


def test_duke_names_say_person_camera_and_frame(tmp_path: Path) -> None:
    dataset = load_dataset("dukemtmc", make_duke(tmp_path))
    assert dataset.name == "dukemtmc"
    assert rows(dataset.query) == [("0005_c2_f0046985.jpg", 5, 2)]
    assert rows(dataset.gallery) == [("0005_c1_f0044158.jpg", 5, 1), ("0007_c8_f0001.jpg", 7, 8)]
    assert all_exist(dataset)


def test_duke_refuses_markets_names_and_other_files(tmp_path: Path) -> None:
    root = make_duke(tmp_path)
    touch(root / "query", ["Thumbs.db", "0001_c1s1_000451_03.jpg", "notes.txt"])
    with pytest.raises(DatasetError, match=r"2 of 3 files in .*query.*\n.*_03.jpg\n  notes.txt"):
        load_dataset("dukemtmc", root)
    assert dukemtmc.parse_name("0001_c10_f1.JPG") == (1, 10)
    assert dukemtmc.parse_name("-1_c1_f1.jpg") is None


# MSMT17.


@pytest.mark.parametrize("version", [1, 2])
def test_msmt_reads_its_lists(tmp_path: Path, version: int) -> None:
    root = make_msmt(tmp_path, version=version)
    dataset = load_dataset(f"msmt17-v{version}", root)
    assert dataset.name == f"msmt17-v{version}"
    assert [(who, where) for _, who, where in rows(dataset.train)] == [
        (10_000, 1),
        (10_001, 14),
        (10_001, 9),
    ]
    assert [(who, where) for _, who, where in rows(dataset.gallery)] == [(0, 3), (17, 15)]
    assert all_exist(dataset)
    assert not set(dataset.train.person_ids) & set(dataset.gallery.person_ids)


def test_msmt_names_pictures_that_are_missing_with_their_count(tmp_path: Path) -> None:
    gone = [f"0099/0099_{i:03d}_01_0303noon_0001_0.jpg 99" for i in range(12)]
    root = make_msmt(tmp_path, gallery=MSMT_LISTS["gallery"] + gone)
    with pytest.raises(DatasetError) as caught:
        load_dataset("msmt17-v1", root)
    message = str(caught.value)
    assert f"{root / 'list_gallery.txt'} names 12 of 14 pictures" in message
    assert "\n  0099/0099_000_01_0303noon_0001_0.jpg\n" in message
    assert "and 2 more" in message


@pytest.mark.parametrize(
    "line",
    [
        "0000/0000_000_01_0303morning_0015_0.jpg",
        "0000/0000_000_01_0303morning_0015_0.jpg x",
        "0000/picture.jpg 1",
        "0000/0000_000_cam_0303morning_0015_0.jpg 1",
        "",
    ],
)
def test_msmt_lines_that_do_not_parse_have_their_number(tmp_path: Path, line: str) -> None:
    root = make_msmt(tmp_path, query=[MSMT_LISTS["query"][0], line, MSMT_LISTS["query"][0]])
    with pytest.raises(DatasetError, match=r"1 lines of .*list_query.txt cannot .*\n  line 2: "):
        load_dataset("msmt17-v1", root)


@pytest.mark.parametrize("folder", ["..", "/etc", "0000/../..", "..\\..\\x"])
def test_msmt_pictures_outside_are_refused(tmp_path: Path, folder: str) -> None:
    root = make_msmt(tmp_path, query=[f"{folder}/0000_000_01_0303morning_0015_0.jpg 1"])
    with pytest.raises(DatasetError, match=r"list_query.txt names 1 of 1 pictures .* outside"):
        load_dataset("msmt17-v1", root)


def test_msmt_that_is_incomplete_or_empty(tmp_path: Path) -> None:
    root = make_msmt(tmp_path / "a" / "MSMT17_V1")
    with pytest.raises(DatasetError, match="MSMT17_V1 has them: did you mean that"):
        load_dataset("msmt17-v1", tmp_path / "a")
    with pytest.raises(DatasetError, match=r"lacks mask_train_v2, mask_test_v2 \(layout msmt17-v2"):
        load_dataset("msmt17-v2", root)
    (root / "list_val.txt").unlink()
    with pytest.raises(DatasetError, match=r"lacks list_val\.txt"):
        load_dataset("msmt17-v1", root)
    with pytest.raises(DatasetError, match=r"list_query\.txt is empty"):
        load_dataset("msmt17-v1", make_msmt(tmp_path / "b", query=[]))
    (root / "list_val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="not a list in UTF-8"):
        load_dataset("msmt17-v1", root)
    with pytest.raises(DatasetError, match="gone does not exist"):
        load_dataset("msmt17-v1", tmp_path / "gone")


def test_msmt_without_validation_still_loads(tmp_path: Path) -> None:
    assert len(load_dataset("msmt17-v1", make_msmt(tmp_path, val=[])).train) == 2


# CUHK03.


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk_numbered_from_the_root_and_from_the_folder(tmp_path: Path, boxes: str) -> None:
    root = make_numbered(tmp_path / "cuhk03-np" / boxes)
    for place in (root, root.parent):
        dataset = load_dataset(f"cuhk03-{boxes}", place)
        assert dataset.name == f"cuhk03-{boxes}"
        assert rows(dataset.gallery) == [("0003_c1_22.png", 3, 1), ("0003_c2_26.png", 3, 2)]
        assert find_layout(place) == dataset.name


@pytest.mark.parametrize("boxes", ["labeled", "detected"])
def test_cuhk_unpacked_by_torchreid(tmp_path: Path, boxes: str) -> None:
    dataset = load_dataset(f"cuhk03-{boxes}", make_unpacked(tmp_path, boxes))
    assert rows(dataset.train) == [("1_001_1_01.png", 1001, 1), ("2_001_2_06.png", 2001, 2)]
    assert rows(dataset.query) == [("1_002_1_02.png", 1002, 1)]
    assert rows(dataset.gallery) == [("1_002_2_07.png", 1002, 2), ("5_049_1_01.png", 5049, 1)]
    assert all_exist(dataset)


def test_cuhk_splits_that_are_none(tmp_path: Path) -> None:
    root = make_unpacked(tmp_path, "labeled")
    (root / "images_labeled" / "1_001_1_01.png").unlink()
    with pytest.raises(DatasetError, match=r"names 1 of 2 pictures that are not in .*images_label"):
        load_dataset("cuhk03-labeled", root)
    file = root / "splits_new_labeled.json"
    for text in ("[]", "{}", "[[]]", "[{}]", '[{"train": [1]}]', "nonsense", '[{"train": 5}]'):
        file.write_text(text)
        with pytest.raises(DatasetError, match="is not the split of the new protocol"):
            load_dataset("cuhk03-labeled", root)
    part = [["a/1_1.png", 0, 0]]
    file.write_text(json.dumps([{"train": part, "query": part, "gallery": part}]))
    with pytest.raises(DatasetError, match=r"1 of 1 pictures .*\n.*\n.*PAIR_PERSON_VIEW_NUMBER"):
        load_dataset("cuhk03-labeled", root)
    (root / "images_labeled").rename(root / "pictures")
    with pytest.raises(DatasetError, match="lacks images_labeled"):
        load_dataset("cuhk03-labeled", root)


def test_cuhk_asked_for_the_other_boxes(tmp_path: Path) -> None:
    root = make_numbered(tmp_path / "labeled")
    with pytest.raises(DatasetError, match="holds no CUHK03 with detected boxes"):
        load_dataset("cuhk03-detected", root)


@pytest.mark.parametrize("place", cuhk03.RAW)
def test_the_raw_file_of_cuhk_is_explained(tmp_path: Path, place: str) -> None:
    touch(tmp_path, [place])
    with pytest.raises(DatasetError, match=r"MATLAB 7.3 .*unpack it once"):
        find_layout(tmp_path)
    with pytest.raises(DatasetError, match=r"MATLAB 7.3 .*unpack it once"):
        load_dataset("cuhk03-labeled", tmp_path)


# VeRi-776.


def test_veri_reads_folders_without_lists(tmp_path: Path) -> None:
    dataset = load_dataset("veri776", make_veri(tmp_path))
    assert rows(dataset.train) == [
        ("0001_c001_00016450_0.jpg", 1, 1),
        ("0003_c020_00016460_0.jpg", 3, 20),
    ]
    assert all_exist(dataset)


def test_veri_lists_say_which_and_in_which_order(tmp_path: Path) -> None:
    root = make_veri(tmp_path)
    names = ["0002_c003_00084280_0.jpg", "0002_c002_00030600_0.jpg"]
    (root / "name_test.txt").write_text("\r\n".join([*names, "", ""]))
    (root / "name_train.txt").write_text(f"{rows(load_dataset('veri776', root).train)[1][0]}\n")
    dataset = load_dataset("veri776", root)
    assert [name for name, _, _ in rows(dataset.gallery)] == names
    assert len(dataset.train) == 1
    (root / "name_query.txt").write_text("0002_c009_1_0.jpg\n")
    with pytest.raises(DatasetError, match=r"name_query.txt names 1 of 1 pictures.*\n  0002_c009"):
        load_dataset("veri776", root)
    (root / "name_query.txt").write_text("")
    with pytest.raises(DatasetError, match="image_query is empty"):
        load_dataset("veri776", root)


# VIPeR.


def test_viper_splits_people_in_halves(tmp_path: Path) -> None:
    dataset = load_dataset("viper", make_viper(tmp_path))
    assert sorted([*dataset.train.person_ids[::2], *dataset.query.person_ids]) == [*range(0, 12, 2)]
    assert dataset.train.camera_ids.tolist() == [1, 2] * 3
    assert dataset.query.camera_ids.tolist() == [1] * 3
    assert dataset.gallery.camera_ids.tolist() == [2] * 3
    assert dataset.query.person_ids.tolist() == dataset.gallery.person_ids.tolist()
    assert all_exist(dataset)


def test_vipers_seeded_splits_are_ten_and_never_change(tmp_path: Path) -> None:
    root = make_viper(tmp_path / "VIPeR", people=20).parent
    found = [viper.load(root, split).query.person_ids.tolist() for split in range(10)]
    assert found[0] == [2, 4, 18, 20, 22, 24, 26, 28, 34, 38]
    assert len({tuple(people) for people in found}) == 10
    for number in (-1, 10):
        with pytest.raises(ArgumentError, match=f"split is {number}, expected 0 to 9"):
            viper.load(root, number)


def test_each_of_vipers_splits_is_a_layout(tmp_path: Path) -> None:
    root = make_viper(tmp_path / "VIPeR", people=20).parent
    for split in range(viper.SEEDED_SPLITS):
        expected = viper.load(root, split).query.paths.tolist()
        assert load_dataset(f"viper-{split}", root).query.paths.tolist() == expected


def test_a_picture_named_twice_in_a_list_is_refused(tmp_path: Path) -> None:
    line = "0000/0000_000_12_0302morning_0015_0.jpg 0"
    with pytest.raises(DatasetError, match=r"1 pictures more than once(.|\n)*_0.jpg: 2 times"):
        load_dataset("msmt17-v1", make_msmt(tmp_path / "msmt", query=[line, line]))
    root = make_veri(tmp_path / "veri")
    name = "0002_c003_00084280_0.jpg"
    (root / "name_test.txt").write_text(f"{name}\n{name}\n")
    with pytest.raises(DatasetError, match="more than once within a split"):
        load_dataset("veri776", root)
    (root / "name_test.txt").write_text(f"../image_test/{name}\n")
    with pytest.raises(DatasetError, match="outside"):
        load_dataset("veri776", root)
    table = tmp_path / "dataset.csv"
    table.write_text("path,person_id,camera_id,split\na.jpg,1,1,query\na.jpg,1,1,query\n")
    with pytest.raises(DatasetError, match="more than once within a split"):
        load_dataset("table", table)
    table.write_text("path,person_id,camera_id,split\na.jpg,1,1,query\na.jpg,1,1,gallery\n")
    assert len(load_dataset("table", table).gallery) == 1


def test_vipers_splits_of_torchreid(tmp_path: Path) -> None:
    root = make_viper(tmp_path / "VIPeR").parent
    one = {
        "train": [["/x/VIPeR/cam_a/000_45.bmp", 0, 0], ["/x/VIPeR/cam_b/000_90.bmp", 0, 1]],
        "query": [["/x/VIPeR/cam_a/004_45.bmp", 0, 0]],
        "gallery": [["/x/VIPeR/cam_b/004_90.bmp", 0, 1]],
    }
    other = one | {"query": one["gallery"], "gallery": one["query"]}
    (root / "splits.json").write_text(json.dumps([one, other]))
    dataset = load_dataset("viper", root)
    assert rows(dataset.train) == [("000_45.bmp", 0, 1), ("000_90.bmp", 0, 2)]
    assert rows(dataset.query) == [("004_45.bmp", 4, 1)]
    assert rows(viper.load(root, 1).query) == [("004_90.bmp", 4, 2)]
    with pytest.raises(ArgumentError, match="has the splits 0 to 1"):
        viper.load(root, 2)
    (root / "splits.json").write_text(json.dumps([one | {"query": [["cam_a/099_45.bmp", 0, 0]]}]))
    with pytest.raises(DatasetError, match=r"names 1 pictures that are not .*\n  cam_a/099_45"):
        load_dataset("viper", root)
    for text in ("[]", "[{}]", "5", "nonsense", '[{"train": [5], "query": [], "gallery": []}]'):
        (root / "splits.json").write_text(text)
        with pytest.raises(DatasetError, match="holds no splits"):
            load_dataset("viper", root)


def test_viper_people_without_a_pair_and_other_files(tmp_path: Path) -> None:
    root = make_viper(tmp_path)
    touch(root / "cam_b", ["001_90.bmp", "Thumbs.db"])
    with pytest.raises(DatasetError, match=r"1 people .* one camera only:\n  001_90.bmp"):
        load_dataset("viper", root)
    touch(root / "cam_b", ["001_0.bmp"])
    with pytest.raises(DatasetError, match=r"two pictures of person 1: 001_0.bmp and 001_90.bmp"):
        load_dataset("viper", root)
    touch(root / "cam_a", ["notes.txt"])
    with pytest.raises(DatasetError, match=r"1 of 7 files in .*cam_a.*\n  notes.txt"):
        load_dataset("viper", root)
    (tmp_path / "other" / "cam_a").mkdir(parents=True)
    with pytest.raises(DatasetError, match="lacks cam_b"):
        load_dataset("viper", tmp_path / "other")
    with pytest.raises(DatasetError, match="holds 1 people, too few"):
        load_dataset("viper", make_viper(tmp_path / "one", people=1))


# Which is which.

MAKERS: dict[str, Callable[[Path], Path]] = {
    "dukemtmc": make_duke,
    "msmt17-v1": make_msmt,
    "msmt17-v2": partial(make_msmt, version=2),
    "cuhk03-labeled": partial(make_unpacked, boxes="labeled"),
    "cuhk03-detected": partial(make_unpacked, boxes="detected"),
    "veri776": make_veri,
    "viper": make_viper,
}


@pytest.mark.parametrize("layout", MAKERS)
def test_each_layout_is_known_and_loads(tmp_path: Path, layout: str) -> None:
    root = MAKERS[layout](tmp_path / "unpacked")
    assert find_layout(root) == find_layout(str(root)) == layout
    assert load_dataset(layout, root).name == layout
    with pytest.raises(DatasetError, match="unpacked has them: did you mean that"):
        find_layout(tmp_path)


def test_no_layout_goes_without_a_test() -> None:
    splits = {f"viper-{split}" for split in range(viper.SEEDED_SPLITS)}
    assert {*MAKERS, *splits, "market1501", "table"} == set(LAYOUTS)


def test_two_in_one_folder_have_to_be_named(tmp_path: Path) -> None:
    both = make_msmt(make_msmt(tmp_path / "msmt"), version=2)
    with pytest.raises(DatasetError, match="either of msmt17-v1, msmt17-v2: name the layout"):
        find_layout(both)
    root = tmp_path / "cuhk03-np"
    for boxes in cuhk03.BOXES:
        make_numbered(root / boxes)
    with pytest.raises(DatasetError, match="either of cuhk03-labeled, cuhk03-detected: name"):
        find_layout(root)
    assert find_layout(root / "detected") == "cuhk03-detected"


def test_market_stays_market(tmp_path: Path) -> None:
    """Neither a parent's name nor a few frames make another set of it."""
    names = ["0002_c1s1_000451_03.jpg", "0003_c2_f0000001.jpg"]
    market = {"train": names, "query": names, "gallery": names}
    labelled = make_folders(tmp_path / "labeled", dict(MARKET_FOLDERS), **market)
    assert find_layout(labelled) == "market1501"
    assert find_layout(make_numbered(tmp_path / "mine")) == "market1501"


def test_links_that_lead_round_in_circles_are_named(tmp_path: Path) -> None:
    root = make_duke(tmp_path)
    (root / "query" / "again").symlink_to("again")
    (root / "round").symlink_to(root)
    with pytest.raises(DatasetError, match=r"1 of 2 files .*\n  again"):
        load_dataset("dukemtmc", root)
    assert find_layout(root) == "dukemtmc"


# Published sizes.


def make_sized(name: str, **pictures: int) -> Dataset:
    """Make a data set of so many pictures a split, with the published people and cameras."""

    def make(split: str) -> Samples:
        size = SIZES[name][("train", "query", "gallery").index(split)]
        count = pictures.get(split, size.pictures)
        people, cameras = size.identities or 1, size.cameras or 1
        return Samples.from_columns(
            [f"{i}.jpg" for i in range(count)],
            [i % people + 1 for i in range(count)],
            [i % cameras for i in range(count)],
        )

    return Dataset(name, make("train"), make("query"), make("gallery"))


def test_a_full_copy_agrees() -> None:
    found = compare_sizes(make_sized("viper"))
    assert [size.split for size in found] == ["train", "query", "gallery"]
    assert all(size.agrees and not size.explanation for size in found)


@pytest.mark.parametrize(
    ("layout", "split", "count", "explanation"),
    [
        ("market1501", "gallery", 15_913, "without the 3,819 pictures of junk"),
        ("market1501", "gallery", 13_115, "without junk and without the 2,798 distractors"),
        ("market1501", "gallery", 19_731, "1 picture missing"),
        ("market1501", "query", 3_370, "2 pictures more than published"),
        ("msmt17-v2", "train", 30_248, "without the 2,373 pictures of list_val.txt"),
        ("dukemtmc", "query", 2_210, "Occluded-Duke"),
        ("cuhk03-labeled", "gallery", 5_332, "detected boxes"),
        ("veri776", "train", 37_781, "3 pictures fewer"),
    ],
)
def test_known_differences_are_explained(
    layout: str, split: str, count: int, explanation: str
) -> None:
    dataset = make_sized(layout, **{split: count})
    for size in compare_sizes(dataset):
        assert size.agrees == (size.split != split)
        assert (explanation in size.explanation) == (size.split == split)


def test_other_people_under_all_the_pictures() -> None:
    dataset = make_sized("viper")
    nobody = Samples.from_columns(dataset.query.paths.tolist(), [-1] * 316, [1] * 316)
    changed = compare_sizes(Dataset("viper", dataset.train, nobody, dataset.gallery))[1]
    assert changed.found.identities == 0
    assert "other people or cameras" in changed.explanation


def test_other_sets_in_markets_layout_are_not_compared(tmp_path: Path) -> None:
    small = make_sized("market1501", train=10, query=10, gallery=10)
    assert [size.published for size in compare_sizes(small)] == [None] * 3
    assert all(size.agrees for size in compare_sizes(small))
    table = Dataset("table", small.train, small.query, small.gallery)
    assert [size.published for size in compare_sizes(table)] == [None] * 3


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 2)), max_size=12), st.booleans())
def test_measuring_counts_people_without_junk(
    seen: list[tuple[int, int]], distractors: bool
) -> None:
    paths = [f"{i}.jpg" for i in range(len(seen))]
    samples = Samples.from_columns(paths, [p for p, _ in seen], [c for _, c in seen])
    size = measure_split(samples, distractors=distractors)
    assert size.pictures == len(seen)
    assert size.cameras == len({camera for _, camera in seen})
    nobody = {-1, 0} if distractors else {-1}
    assert size.identities == len({person for person, _ in seen} - nobody)
