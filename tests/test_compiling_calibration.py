"""Which pictures calibrate, and which must not."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit import disk
from reidkit.compiling import (
    CalibrationSet,
    Target,
    _calibration,
    calibration_of,
    compile_package,
    find_calibration,
    read_calibration,
)
from reidkit.datasets import load_dataset
from reidkit.errors import (
    CalibrationError,
    DatasetError,
    FormatError,
    ImageError,
    IntegrityError,
    PackageError,
)
from reidkit.package import Package, read_package
from reidkit.records import JUNK, Dataset, Samples
from tests.certified import draw_people, write_tiny
from tests.pictures import SMALL, write_picture

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "people"
    draw_people(folder)
    return folder


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    """Give a data set that the test may change."""
    shutil.copytree(drawn, tmp_path / "people")
    return tmp_path / "people"


def write_pictures(folder: Path, count: int, *, first: int = 0) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        write_picture(folder / f"{number:04}.jpg", seed=first + number)
    return folder


def all_of(chosen: CalibrationSet) -> list[str]:
    return [*chosen.pictures, *chosen.held_out]


# --- what is chosen ---


def test_a_data_set_gives_its_training_split_alone(drawn: Path) -> None:
    chosen = find_calibration(drawn, count=40)
    assert {Path(path).parent.name for path in all_of(chosen)} == {TRAIN}
    assert (len(chosen.pictures), len(chosen.held_out)) == (40, 10)
    assert chosen.hashes == tuple(disk.sha256_file(Path(path)) for path in chosen.pictures)


def test_a_table_gives_its_training_split_alone(drawn: Path, tmp_path: Path) -> None:
    dataset = load_dataset("market1501", drawn)
    table = tmp_path / "pictures.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "person_id", "camera_id", "split"])
        for name in ("train", "query", "gallery"):
            split = dataset.split(name)
            rows = zip(split.paths, split.person_ids, split.camera_ids, strict=True)
            writer.writerows([*row, name] for row in rows)
    chosen = find_calibration(table, count=32)
    assert set(all_of(chosen)) <= set(dataset.train.paths)
    assert chosen.hashes == find_calibration(drawn, count=32, layout="market1501").hashes


def test_the_choice_is_the_same_every_time(drawn: Path) -> None:
    first, again = find_calibration(drawn), find_calibration(drawn)
    assert (first.pictures, first.held_out) == (again.pictures, again.held_out)
    loaded = calibration_of(load_dataset("market1501", drawn))
    assert (first.pictures, first.hashes) == (loaded.pictures, loaded.hashes)


@pytest.mark.parametrize("count", [-1, 0, 1, 32, 50, 10_000])
def test_held_out_pictures_do_not_calibrate(drawn: Path, count: int) -> None:
    chosen = find_calibration(drawn, count=count)
    assert len(set(all_of(chosen))) == len(all_of(chosen))
    assert len(chosen.held_out) >= 8
    train = len(load_dataset("market1501", drawn).train)
    assert len(chosen.pictures) == min(max(32, count), train - train // 5)


def test_junk_does_not_calibrate(drawn: Path) -> None:
    dataset = load_dataset("market1501", drawn)
    people = dataset.train.person_ids.copy()
    people[::2] = JUNK
    train = Samples(dataset.train.paths, people, dataset.train.camera_ids)
    chosen = calibration_of(dataclasses.replace(dataset, train=train), count=32)
    assert set(all_of(chosen)) <= set(train.paths[1::2])


@pytest.mark.parametrize(("count", "used", "held"), [(32, 26, 6), (41, 32, 8), (45, 32, 8)])
def test_a_folder_of_few_pictures_shares_them_out(
    tmp_path: Path, count: int, used: int, held: int
) -> None:
    chosen = find_calibration(write_pictures(tmp_path / "faces" / "of", count), count=1)
    assert (len(chosen.pictures), len(chosen.held_out)) == (used, held)


def test_pictures_come_as_network_inputs(drawn: Path) -> None:
    chosen = find_calibration(drawn, count=32)
    inputs = chosen.load(SMALL)
    assert inputs.shape == (32, 3, 32, 16)
    assert inputs.dtype == np.float32


def test_a_set_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"1 pictures with 1 hashes .* 0 are held out"):
        CalibrationSet(("a",), (), ("0",))
    with pytest.raises(CalibrationError, match="2 pictures with 1 hashes"):
        CalibrationSet(("a", "b"), ("c", "d"), ("0",))


# --- what is refused ---


@pytest.mark.parametrize("name", [QUERY, GALLERY])
@pytest.mark.parametrize("linked", [False, True])
def test_the_folder_of_a_scored_split(root: Path, name: str, linked: bool) -> None:
    folder = root / name
    if linked:
        (root.parent / "mine").symlink_to(folder)
        folder = root.parent / "mine"
    with pytest.raises(CalibrationError, match=f"is a {name} folder: .* would flatter its scores"):
        find_calibration(folder)


@pytest.mark.parametrize("name", ["query", "Gallery", "test", "image_query"])
def test_a_scored_split_anywhere_inside(tmp_path: Path, name: str) -> None:
    write_pictures(tmp_path / "all" / "train", 30)
    write_pictures(tmp_path / "all" / "deep" / name, 30)
    with pytest.raises(CalibrationError, match=f"holds a {name} folder"):
        find_calibration(tmp_path / "all")


def test_a_broken_data_set_does_not_pass_for_a_folder_of_pictures(root: Path) -> None:
    shutil.rmtree(root / GALLERY)
    with pytest.raises(DatasetError, match="lacks bounding_box_test"):
        find_calibration(root)


def test_a_folder_above_a_data_set(root: Path) -> None:
    with pytest.raises(CalibrationError, match="holds a bounding_box_test folder"):
        find_calibration(root.parent)


def copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def link(source: Path, target: Path) -> None:
    target.symlink_to(source)


@pytest.mark.parametrize(("take", "how"), [(copy, "copy of"), (link, "is a query or gallery")])
@pytest.mark.parametrize("split", [QUERY, GALLERY])
def test_scored_pictures_under_another_name(
    root: Path, take: Callable[[Path, Path], None], how: str, split: str
) -> None:
    folder = root / "mine"
    shutil.copytree(root / TRAIN, folder)
    found = find_calibration(folder)
    assert len(found.pictures) > 32
    take(sorted((root / split).iterdir())[3], folder / "9999_innocent.jpg")
    with pytest.raises(CalibrationError, match=rf"9999_innocent\.jpg of .* {how}"):
        find_calibration(folder)


def test_a_training_split_with_query_pictures(root: Path) -> None:
    """They are sought among the pictures chosen: here all of them are."""
    picture = sorted((root / QUERY).iterdir())[0]
    for place in sorted((root / TRAIN).iterdir())[::10]:
        shutil.copyfile(picture, place)
    with pytest.raises(CalibrationError, match=r"is a copy of .*query"):
        find_calibration(root)


def test_a_data_set_that_only_surrounds_the_pictures_may_be_broken(root: Path) -> None:
    shutil.copytree(root / TRAIN, root / "mine")
    (root / GALLERY / "nonsense.jpg").touch()
    assert len(find_calibration(root / "mine", count=32).pictures) == 32


@pytest.mark.parametrize("count", [3, 31])
def test_few_pictures(tmp_path: Path, count: int) -> None:
    folder = write_pictures(tmp_path / "some" / "few", count)
    expected = rf"few has {count} training pictures, calibration needs at least 32"
    with pytest.raises(CalibrationError, match=expected):
        find_calibration(folder)


def test_a_training_split_of_few_people(root: Path) -> None:
    for picture in sorted((root / TRAIN).iterdir())[3:]:
        picture.unlink()
    with pytest.raises(CalibrationError, match="has 3 training pictures"):
        find_calibration(root)
    with pytest.raises(CalibrationError, match=r"the data set \(market1501\) has 3 training"):
        calibration_of(load_dataset("market1501", root))


def test_an_empty_training_split(root: Path) -> None:
    shutil.rmtree(root / TRAIN)
    (root / TRAIN).mkdir()
    with pytest.raises(CalibrationError, match=r"has no training pictures: .* training split"):
        find_calibration(root)


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        find_calibration(tmp_path / "nowhere")
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    with pytest.raises(DatasetError, match="folder holds no pictures"):
        find_calibration(tmp_path / "empty" / "folder")
    with pytest.raises(DatasetError, match="unknown layout 'abacus'"):
        find_calibration(tmp_path, layout="abacus")


def test_an_unreadable_picture_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "some" / "faces", 40)
    for picture in folder.iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"faces/0\d+\.jpg"):
        find_calibration(folder).load(SMALL)


def test_a_picture_that_vanished_is_named(drawn: Path) -> None:
    dataset = load_dataset("market1501", drawn)
    paths = dataset.train.paths.copy()
    paths[:] = [f"{path}.gone" for path in paths]
    train = Samples(paths, dataset.train.person_ids, dataset.train.camera_ids)
    with pytest.raises(ImageError, match=r"\.gone: No such file"):
        calibration_of(dataclasses.replace(dataset, train=train))


# --- what a package keeps of it ---


@pytest.fixture(scope="module")
def compiled(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("compiled")
    return compile_package(
        write_tiny(folder / "source"),
        folder / "int8",
        target=Target("onnxruntime", "int8"),
        calibration=find_calibration(drawn, count=32),
        accept=lambda _: None,
    )


def test_a_package_names_its_pictures_by_hash(compiled: Package, drawn: Path) -> None:
    chosen = find_calibration(drawn, count=32)
    path = compiled.folder / "calibration.json"
    assert compiled.spec.calibration == disk.sha256_file(path)
    written = json.loads(path.read_text())
    assert [picture["name"] for picture in written["pictures"]] == [
        Path(path).name for path in chosen.pictures
    ]
    assert read_calibration(compiled.folder) == frozenset(chosen.hashes)
    assert str(drawn) not in path.read_text()


def test_a_changed_calibration_is_noticed(compiled: Package, tmp_path: Path) -> None:
    shutil.copytree(compiled.folder, tmp_path / "package")
    path = tmp_path / "package" / "calibration.json"
    fields = json.loads(path.read_text())
    del fields["pictures"][0]
    path.write_text(json.dumps(fields))
    with pytest.raises(IntegrityError, match=r"calibration\.json was changed"):
        read_package(tmp_path / "package")
    path.unlink()
    with pytest.raises(PackageError, match=r"calibration\.json is missing"):
        read_package(tmp_path / "package")


def test_a_package_without_calibration(tmp_path: Path) -> None:
    assert read_calibration(write_tiny(tmp_path / "package").folder) == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"format": 1}',
        '{"format": 1, "pictures": [3]}',
        '{"format": 1, "pictures": 3}',
        '{"format": 1, "pictures": [{"name": "a"}]}',
    ],
)
def test_a_damaged_calibration_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(CalibrationError, match=r"calibration\.json is damaged"):
        read_calibration(tmp_path)


def test_a_calibration_file_of_another_format(tmp_path: Path) -> None:
    (tmp_path / "calibration.json").write_text('{"format": 7, "pictures": []}')
    with pytest.raises(FormatError, match="has calibration format 7, this reidkit reads format 1"):
        read_calibration(tmp_path)


@given(
    scored=st.lists(st.binary(min_size=1, max_size=2), max_size=6),
    own=st.lists(st.binary(min_size=1, max_size=2), max_size=6),
)
def test_copies_are_found_as_a_plain_search_finds_them(
    tmp_path_factory: pytest.TempPathFactory, scored: list[bytes], own: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("files")

    def write(kind: str, contents: list[bytes]) -> list[str]:
        paths = [folder / f"{kind}{number}" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return [str(path) for path in paths]

    query = Samples.from_paths(write("query", scored))
    nobody = Samples.from_paths([])
    dataset, paths = Dataset("made", nobody, query, nobody), write("own", own)
    if set(scored) & set(own):
        with pytest.raises(CalibrationError, match="is a copy of"):
            _calibration._refuse_scored(paths, dataset, "here")
    else:
        _calibration._refuse_scored(paths, dataset, "here")
