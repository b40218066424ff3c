from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from reidkit.checking import DatasetCheck, Duplicates, Finding, NearPair, Picture
from reidkit.checking._values import KINDS, LEAK, NearPairs, UnscoredQuery
from reidkit.datasets.published import Size, SplitSize
from reidkit.errors import ArgumentError, UnreadableImage
from reidkit.reports import write_dataset_report
from tests.pages import HOSTILE, PICTURES, Page, words

PUBLISHED = Size(12_936, 751, 6)


def picture(row: int = 0, *, split: str = "train", person: int = 1, camera: int = 1) -> Picture:
    return Picture(PICTURES[row % len(PICTURES)], split, person, camera)


def make_check(**changes: object) -> DatasetCheck:
    """Make a check that found nothing."""
    train, query, gallery = (
        SplitSize(split, Size(count, 2, 2), None)
        for split, count in (("train", 1234), ("query", 3), ("gallery", 5))
    )
    check = DatasetCheck(
        root="data/mine",
        layout="table",
        sizes=(train, query, gallery),
        scored_queries=3,
        unreadable=(),
        shared_people=(),
        duplicates=(),
        near=NearPairs(),
        unscored=(),
        single_camera=(),
        repeated_names=(),
        small=(),
        findings=(),
    )
    return dataclasses.replace(check, **changes)  # type: ignore[arg-type]


def write(folder: Path, check: DatasetCheck) -> str:
    path = folder / "new" / "report.html"
    write_dataset_report(path, check)
    source = path.read_text(encoding="utf-8")
    for forbidden in ("<script", "http://", "https://", 'src="/', "None"):
        assert forbidden not in source
    return source


def test_nothing_found(tmp_path: Path) -> None:
    said = words(write(tmp_path, make_check()))
    assert "✓ Fit" in said
    assert "Nothing was found that makes scores wrong" in said
    assert "data/mine , layout table" in said
    assert "Pictures 1,242 in all three splits" in said
    assert "No published sizes are known" in said
    for heading in ("Worth knowing", "Identical pictures", "look the same", "Unreadable pictures"):
        assert heading not in said


def test_findings_stand_where_they_belong(tmp_path: Path) -> None:
    findings = (Finding(True, "3 things bad", ("one", HOSTILE)), Finding(False, "a remark", ("x",)))
    page = Page(write(tmp_path, make_check(findings=findings)))
    (failures,) = page.all("ul", "failures")
    assert "3 things bad one" in failures.text
    assert HOSTILE in failures.text
    (remarks,) = page.all("ul", "remarks")
    assert remarks.text == "a remark x"
    assert "Not fit" in words(write(tmp_path, make_check(findings=findings)))


def test_sizes_beside_the_published_ones(tmp_path: Path) -> None:
    sizes = (
        SplitSize("train", Size(12_936, 751, 6), PUBLISHED),
        SplitSize("query", Size(3_000, 700, 6), Size(3_368, 750, 6), "368 pictures missing"),
        SplitSize("gallery", Size(11_579, 200, 19), Size(11_579, 200, None)),
    )
    page = Page(write(tmp_path, make_check(sizes=sizes)))
    rows = [row.text for row in page.all("tr") if "sizes" not in row.text]
    assert rows[1:4] == [
        "train 12,936 751 6 as published",
        "query 3,000 of 3,368 700 of 750 6 368 pictures missing",
        "gallery 11,579 200 19 as published",
    ]


def test_equal_pictures_side_by_side(tmp_path: Path) -> None:
    group = Duplicates(
        tuple(picture(0) for _ in range(8)) + (picture(0, split="query", person=7),), KINDS
    )
    lone = Duplicates((picture(1), Picture("gone.jpg", "train", 1, 1)), ())
    page = Page(write(tmp_path, make_check(duplicates=(group, lone))))
    first, second = page.all("section", "ranked")
    assert "9 identical files" in first.text
    assert "6 of 9 shown" in first.text or "2 of 9 shown" in first.text
    assert "in training and in the test, given to different people, a query and" in first.text
    assert "query person 7 camera 1" in first.text, "the other person must be seen"
    assert "✗" not in second.text
    assert "gone.jpg" in second.text
    assert all(image.attributes["src"].startswith("data:image/jpeg") for image in page.all("img"))


def test_pairs_and_tables_are_cut_off_and_say_so(tmp_path: Path) -> None:
    pairs = tuple(NearPair(picture(i), picture(i + 1), 2, (LEAK,)) for i in range(50))
    check = make_check(
        duplicates=tuple(Duplicates((picture(i), picture(i)), ()) for i in range(30)),
        near=NearPairs(pairs, 70, 4),
        unreadable=tuple(UnreadableImage(f"{i}.jpg", "an empty file") for i in range(120)),
        unscored=tuple(UnscoredQuery(picture(i), "person absent") for i in range(101)),
    )
    source = write(tmp_path, check)
    said = words(source)
    assert len(Page(source).all("section", "ranked")) == 24 + 36
    assert "24 of 30 groups are shown" in said
    assert "36 of 70 pairs are shown" in said
    assert said.count("The first 100 of") == 2
    assert "99.jpg" in said
    assert "100.jpg" not in said
    assert len(source) < 2_000_000


def test_the_same_check_gives_the_same_bytes(tmp_path: Path) -> None:
    check = make_check(duplicates=(Duplicates((picture(0), picture(0, split="query")), (LEAK,)),))
    assert write(tmp_path / "a", check) == write(tmp_path / "b", check)


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is a folder"):
        write_dataset_report(tmp_path, make_check())
