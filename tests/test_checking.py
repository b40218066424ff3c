"""The check of a data set: what is found and what of it is wrong; hashes against brute force."""

from __future__ import annotations

import io
import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reidkit.checking import DatasetCheck, check_dataset
from reidkit.checking._duplicates import (
    MAXIMUM_DISTANCE,
    SURE_DISTANCE,
    find_near,
    hash_thumbnails,
    list_candidates,
)
from reidkit.checking._looking import Looks, look_at
from reidkit.checking._people import find_single_camera, find_unscored
from reidkit.checking._rows import list_rows
from reidkit.checking._values import CAMERAS, KINDS, LEAK, PEOPLE
from reidkit.errors import DatasetError
from reidkit.records import Dataset, Samples
from reidkit.scoring import ANY, CROSS_CAMERA, MARKET1501
from tests.pictures import write_picture

Row = tuple[str, int, int, str]

# Two people in training, two in the test; everything in order.
SOUND: list[Row] = [
    ("a.jpg", 1, 1, "train"),
    ("b.jpg", 1, 2, "train"),
    ("c.jpg", 2, 1, "train"),
    ("d.jpg", 2, 2, "train"),
    ("e.jpg", 3, 1, "query"),
    ("f.jpg", 3, 2, "gallery"),
    ("g.jpg", 4, 2, "query"),
    ("h.jpg", 4, 1, "gallery"),
    ("i.jpg", -1, 1, "gallery"),
]


def make(root: Path, *rows: Row, copies: dict[str, str] | None = None) -> Path:
    """Write a table and its pictures; `copies` gives files that another one's bytes are in."""
    root.mkdir(exist_ok=True)
    copies = copies or {}
    lines = ["path,person_id,camera_id,split"]
    for name, person, camera, split in rows:
        lines.append(f"{name},{person},{camera},{split}")
        if name not in copies and not (root / name).exists():
            write_picture(root / name, seed=sum(name.encode()), height=32, width=16)
    for name, source in copies.items():
        shutil.copy(root / source, root / name)
    (root / "dataset.csv").write_text("\n".join(lines))
    return root


def texts(check: DatasetCheck, *, wrong: bool) -> list[str]:
    return [finding.text for finding in check.findings if finding.wrong == wrong]


def names(check: DatasetCheck) -> list[tuple[list[str], tuple[str, ...]]]:
    return [
        ([Path(picture.path).name for picture in group.pictures], group.kinds)
        for group in check.duplicates
    ]


def test_a_sound_data_set_has_no_findings(tmp_path: Path) -> None:
    check = check_dataset(make(tmp_path, *SOUND))
    assert check.findings == ()
    assert not check.wrong
    assert check.layout == "table"
    assert check.scored_queries == 2
    assert [size.found.pictures for size in check.sizes] == [4, 2, 3]


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path) -> None:
    root = make(tmp_path, *SOUND)
    (root / "a.jpg").write_bytes(b"")
    (root / "b.jpg").unlink()
    (root / "c.jpg").write_bytes((root / "d.jpg").read_bytes()[:300])
    (root / "e.jpg").unlink()
    (root / "e.jpg").symlink_to("e.jpg")
    (root / "f.jpg").unlink()
    os.mkfifo(root / "f.jpg")
    check = check_dataset(root)
    found = {Path(image.path).name: image.reason for image in check.unreadable}
    assert list(found) == ["a.jpg", "b.jpg", "c.jpg", "e.jpg", "f.jpg"]
    assert found["a.jpg"] == "an empty file"
    assert found["f.jpg"] == "not a file"
    assert "symbolic links" in found["e.jpg"]
    assert check.wrong
    assert check.findings[0].text.startswith("5 pictures cannot be read")
    assert check.findings[0].examples[0] == "a.jpg: an empty file"
    # Two empty files are no identical pictures.
    assert check.duplicates == ()


def test_the_same_picture_on_both_sides_and_under_two_people(tmp_path: Path) -> None:
    rows = [*SOUND, ("x.jpg", 4, 3, "gallery"), ("y.jpg", 5, 1, "train"), ("z.jpg", 2, 1, "train")]
    copies = {"x.jpg": "g.jpg", "y.jpg": "e.jpg", "z.jpg": "c.jpg", "i.jpg": "h.jpg"}
    check = check_dataset(make(tmp_path, *rows, copies=copies))
    assert names(check) == [
        (["y.jpg", "e.jpg"], (LEAK, PEOPLE)),
        (["g.jpg", "x.jpg"], (CAMERAS,)),
        (["c.jpg", "z.jpg"], ()),
        (["h.jpg", "i.jpg"], ()),  # junk is nobody, so they are not two people
    ]
    wrong = texts(check, wrong=True)
    assert len(wrong) == 3
    assert "in training and in the test" in wrong[0]
    assert "given to different people" in wrong[1]
    assert "by another camera" in wrong[2]
    assert "2 groups of identical pictures, without harm" in texts(check, wrong=False)[0]
    assert "y.jpg (train, person 5, camera 1) = e.jpg (query, " in check.findings[0].examples[0]


def test_a_query_that_is_in_the_gallery_by_its_own_camera_does_no_harm(tmp_path: Path) -> None:
    rows = [*SOUND, ("x.jpg", 3, 1, "gallery")]
    check = check_dataset(make(tmp_path, *rows, copies={"x.jpg": "e.jpg"}))
    assert names(check) == [(["e.jpg", "x.jpg"], ())]
    assert not check.wrong


def test_one_file_listed_twice_is_read_once(tmp_path: Path) -> None:
    rows = [*SOUND, ("a.jpg", 1, 1, "gallery"), ("a.jpg", 1, 1, "query")]
    seen: list[tuple[int, int]] = []
    root = make(tmp_path, *rows)
    check = check_dataset(root, "table", progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (9, 9)
    assert names(check) == [(["a.jpg", "a.jpg", "a.jpg"], (LEAK,))]
    assert check.repeated_names == ()


def test_people_on_both_sides(tmp_path: Path) -> None:
    rows = [*SOUND, ("x.jpg", 2, 3, "gallery"), ("y.jpg", -1, 3, "train")]
    check = check_dataset(make(tmp_path, *rows))
    assert check.shared_people == (2,)
    assert "1 person in training and in the test" in texts(check, wrong=True)[0]


def test_queries_without_a_valid_match_and_why(tmp_path: Path) -> None:
    rows = [
        *SOUND,
        ("x.jpg", 7, 1, "query"),
        ("y.jpg", 8, 1, "query"),
        ("z.jpg", 8, 1, "gallery"),
        ("w.jpg", -1, 1, "query"),
    ]
    check = check_dataset(make(tmp_path, *rows))
    assert [(Path(q.picture.path).name, q.reason) for q in check.unscored] == [
        ("x.jpg", "person absent"),
        ("y.jpg", "same camera only"),
        ("w.jpg", "junk"),
    ]
    assert check.scored_queries == 2
    assert not check.wrong
    assert "3 queries without a valid match" in texts(check, wrong=False)[0]
    assert [(s.side, s.person_id, s.pictures) for s in check.single_camera] == [
        ("test", 7, 1),
        ("test", 8, 2),
    ]


def test_one_camera_only_cannot_be_scored(tmp_path: Path) -> None:
    check = check_dataset(make(tmp_path, *((n, p, 1, split) for n, p, _, split in SOUND)))
    assert check.scored_queries == 0
    assert texts(check, wrong=True) == [
        "no query can be scored: 2 of people whom the gallery has from the query's own camera only"
    ]
    assert len(check.single_camera) == 4


@pytest.mark.parametrize("kept", ["train", "query", "gallery"])
def test_splits_may_be_empty(tmp_path: Path, kept: str) -> None:
    check = check_dataset(make(tmp_path, *(row for row in SOUND if row[3] == kept)))
    assert sum("has no pictures" in text for text in texts(check, wrong=False)) == 2
    # Queries without a gallery have no answer; training alone is not to be scored.
    assert check.wrong == (kept == "query")


def test_names_that_several_files_have_and_small_pictures(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_picture(tmp_path / "j.jpg", 9, height=31, width=16)
    write_picture(tmp_path / "k.jpg", 10, height=32, width=15)
    rows: list[Row] = [
        ("other/a.jpg", 1, 3, "train"),
        ("j.jpg", 2, 3, "train"),
        ("k.jpg", 2, 3, "train"),
    ]
    check = check_dataset(make(tmp_path, *SOUND, *rows))
    assert [name.name for name in check.repeated_names] == ["a.jpg"]
    assert [(s.width, s.height) for s in check.small] == [(16, 31), (15, 32)]
    assert not check.wrong
    assert check.findings[-1].examples == ("j.jpg: 16 x 31", "k.jpg: 15 x 32")


def test_a_copy_encoded_again_and_scaled_looks_the_same(tmp_path: Path) -> None:
    root = make(tmp_path, *SOUND, ("x.jpg", 9, 1, "train"), ("y.png", 1, 1, "train"))
    with Image.open(root / "e.jpg") as image:
        image.resize((40, 80)).save(root / "x.jpg", quality=80)
    with Image.open(root / "a.jpg") as image:
        image.save(root / "y.png")
    near = check_dataset(root).near
    assert (near.suspicious, near.harmless) == (1, 1)
    (pair,) = near.pairs
    assert [Path(side.path).name for side in (pair.first, pair.second)] == ["x.jpg", "e.jpg"]
    assert pair.kinds == (LEAK, PEOPLE)
    assert pair.distance <= MAXIMUM_DISTANCE


def test_the_layout_is_found_or_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no data set of a known layout"):
        check_dataset(tmp_path)
    root = make(tmp_path, *SOUND)
    with pytest.raises(DatasetError, match="unknown layout"):
        check_dataset(root, "tables")
    assert check_dataset(root / "dataset.csv", "table").findings == ()


# Hashes.


def distance(first: int, second: int) -> int:
    return (first ^ second).bit_count()


def share_a_part(first: int, second: int) -> bool:
    return any((first ^ second) >> shift & 0xFFFF == 0 for shift in (0, 16, 32, 48))


def pairs_of(hashes: list[int]) -> list[tuple[int, int]]:
    found = [
        tuple(sorted((int(a), int(b))))
        for left, right in list_candidates(np.array(hashes, np.uint64))
        for a, b in zip(left, right, strict=True)
    ]
    assert len(set(found)) == len(found), "a pair comes once"
    return sorted((a, b) for a, b in found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sets(st.integers(0, 63), max_size=7)), max_size=20),
)
def test_candidates_equal_brute_force(
    centres: list[int], moved: list[tuple[int, set[int]]]
) -> None:
    hashes = centres + [
        centres[which % len(centres)] ^ sum(1 << bit for bit in bits) for which, bits in moved
    ]
    found = pairs_of(hashes)
    assert found == [
        (a, b)
        for a, b in itertools.combinations(range(len(hashes)), 2)
        if distance(hashes[a], hashes[b]) <= MAXIMUM_DISTANCE and share_a_part(hashes[a], hashes[b])
    ]
    sure = {
        (a, b)
        for a, b in itertools.combinations(range(len(hashes)), 2)
        if distance(hashes[a], hashes[b]) <= SURE_DISTANCE
    }
    assert sure <= set(found)


def test_many_equal_hashes_stay_bounded() -> None:
    found = sum(len(left) for left, _ in list_candidates(np.zeros(5000, np.uint64)))
    assert found == 32 * 5000 - sum(range(33))


def test_the_hash_is_that_of_the_paper() -> None:
    """Worded naively: rows of 9 grey values, is each greater than the one before it?"""
    random = np.random.default_rng(3)
    thumbnails = random.integers(0, 256, (20, 16, 9, 3), dtype=np.uint8)
    chosen = np.array([3, 0, 17], np.intp)
    for row, found in zip(chosen, hash_thumbnails(thumbnails, chosen).tolist(), strict=True):
        grey = (thumbnails[row].astype(int) * (299, 587, 114)).sum(axis=2)
        rises = [
            grey[2 * y, x + 1] + grey[2 * y + 1, x + 1] > grey[2 * y, x] + grey[2 * y + 1, x]
            for part in range(4)
            for x in (part, part + 4)
            for y in range(8)
        ]
        assert f"{found:064b}" == "".join("01"[int(rise)] for rise in rises)


def make_looks(thumbnails: NDArray[np.uint8], digests: list[int]) -> Looks:
    count = len(thumbnails)
    return Looks(
        np.ones(count, np.bool_),
        np.full((count, 2), 32, np.int32),
        np.array([(0, digest) for digest in digests], np.uint64),
        thumbnails,
        (),
    )


def make_set(rows: list[tuple[int, int, int]]) -> Dataset:
    """Make a data set of (split, person, camera)."""

    def side(split: int) -> Samples:
        chosen = [(i, row) for i, row in enumerate(rows) if row[0] == split]
        return Samples.from_columns(
            [f"{i}.jpg" for i, _ in chosen], [r[1] for _, r in chosen], [r[2] for _, r in chosen]
        )

    return Dataset("table", side(0), side(1), side(2))


ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(-1, 2), st.integers(1, 2)), min_size=1, max_size=14
).map(sorted)


@settings(max_examples=80, deadline=None)
@given(ROWS, st.data())
def test_near_pairs_equal_brute_force(
    rows: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    """Three pictures that look different, each there several times with other bytes."""
    looks_like = data.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    random = np.random.default_rng(0).integers(0, 256, (3, 16, 9, 3), dtype=np.uint8)
    looks = make_looks(random[looks_like], list(range(len(rows))))
    near = find_near(looks, list_rows(make_set(rows)))
    expected: dict[tuple[int, int], tuple[str, ...]] = {}
    pairs = [
        p
        for p in itertools.combinations(range(len(rows)), 2)
        if looks_like[p[0]] == looks_like[p[1]]
    ]
    for a, b in pairs:
        (split, person, camera), (other, who, where) = rows[a], rows[b]
        kinds = {
            LEAK: (split == 0) != (other == 0),
            PEOPLE: person != who and -1 not in (person, who),
            CAMERAS: {split, other} == {1, 2} and person == who != -1 and camera != where,
        }
        if any(kinds.values()):
            expected[a, b] = tuple(kind for kind in KINDS if kinds[kind])
    found = {
        (int(Path(p.first.path).stem), int(Path(p.second.path).stem)): p.kinds for p in near.pairs
    }
    assert found == expected
    assert (near.suspicious, near.harmless) == (len(expected), len(pairs) - len(expected))


def test_a_flood_of_near_pairs_is_counted_and_the_worst_are_kept() -> None:
    rows = [(0, 1, 1)] * 100 + [(2, person, 1) for person in range(2, 102)]
    looks = make_looks(np.zeros((200, 16, 9, 3), np.uint8), list(range(200)))
    near = find_near(looks, list_rows(make_set(rows)))
    assert len(near.pairs) == 1000
    assert near.suspicious > 2000
    assert near.pairs[0].kinds == (LEAK, PEOPLE)


def test_colours_tell_apart_what_hashes_do_not() -> None:
    thumbnails = np.zeros((2, 16, 9, 3), np.uint8)
    thumbnails[1] = 200
    near = find_near(make_looks(thumbnails, [1, 2]), list_rows(make_set([(0, 1, 1), (1, 2, 1)])))
    assert near.suspicious == 0


@settings(max_examples=80, deadline=None)
@given(ROWS)
def test_queries_and_single_cameras_equal_brute_force(rows: list[tuple[int, int, int]]) -> None:
    dataset = make_set(rows)
    table = list_rows(dataset)
    seen = [(who, camera) for split, who, camera in rows if split == 2]
    queries = [(who, camera) for split, who, camera in rows if split == 1]
    for protocol in (MARKET1501, CROSS_CAMERA, ANY):
        anywhere = protocol is ANY
        dropped = [
            (who, camera)
            for who, camera in queries
            if who == -1 or not any(w == who and (anywhere or c != camera) for w, c in seen)
        ]
        unscored = find_unscored(dataset, protocol)
        assert [(q.picture.person_id, q.picture.camera_id) for q in unscored] == dropped
    found = {(s.side, s.person_id): (s.camera_id, s.pictures) for s in find_single_camera(table)}
    for side, splits in (("train", {0}), ("test", {1, 2})):
        for person in (0, 1, 2):
            cameras = [c for split, who, c in rows if split in splits and who == person]
            alone = (cameras[0], len(cameras)) if len(set(cameras)) == 1 else None
            assert found.get((side, person)) == alone


def test_the_distractors_of_market_are_nobody() -> None:
    dataset = make_set([(0, 0, 1), (2, 0, 2)])
    assert list_rows(dataset).known.all()
    market = Dataset("market1501", dataset.train, dataset.query, dataset.gallery)
    assert not list_rows(market).known.any()


def test_looking_gives_sizes_bytes_and_pixels(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{i}.png", i, height=40 + i, width=20) for i in range(70)]
    looks = look_at(np.array([*paths, paths[3]], object))
    assert looks.shapes.tolist() == [*([40 + i, 20] for i in range(70)), [43, 20]]
    assert len(np.unique(looks.digests, axis=0)) == 70
    assert np.array_equal(looks.digests[3], looks.digests[70])
    with Image.open(io.BytesIO(Path(paths[5]).read_bytes())) as image:
        small = np.asarray(image.resize((9, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(looks.thumbnails[5], small)
