from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.layouts import make_duke, make_msmt
from tests.pictures import write_picture
from tests.test_cli import Runner


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tiny DukeMTMC-reID of real pictures."""
    root = make_duke(tmp_path / "duke")
    for seed, file in enumerate(sorted(root.rglob("*.jpg"))):
        write_picture(file, seed, height=32, width=16)
    return root


def test_a_fit_data_set(run: Runner, root: Path) -> None:
    said = run.well("data", "check", root).out
    assert "layout dukemtmc" in said
    assert "2 of 16,522" in said
    assert "queries that can be scored: 1" in said
    assert "note: train is not of the published size: 16,520 pictures missing" in said
    assert "WRONG" not in said


def test_what_is_wrong_gives_exit_code_1_and_a_report(run: Runner, root: Path) -> None:
    page = root.parent / "new" / "report.html"
    (root / "query" / "0005_c3_f0000001.jpg").write_bytes(b"")
    shutil.copy(
        root / "bounding_box_train" / "0001_c2_f0046182.jpg",
        root / "query" / "0009_c3_f0000002.jpg",
    )
    result = run("data", "check", root, "--report", page)
    assert result.code == 1
    assert "Traceback" not in result.err
    assert "WRONG: 1 picture cannot be read" in result.out
    assert "\n  query/0005_c3_f0000001.jpg: an empty file\n" in result.out
    assert "WRONG: 1 group of identical pictures in training and in the test" in result.out
    assert "Not fit" in page.read_text()
    found = run("data", "check", root, "--json")
    assert found.code == 1
    assert found.json["wrong"] is True
    assert found.json["layout"] == "dukemtmc"
    assert found.json["duplicates"][0]["kinds"] == ["train and test", "different people"]
    assert [image[1] for image in found.json["unreadable"]] == ["an empty file"]
    assert [f["wrong"] for f in found.json["findings"]][:3] == [True, True, True]


def test_a_named_layout(run: Runner, root: Path) -> None:
    assert (
        run.well("data", "check", root, "--layout", "market1501", "--json").json["sizes"][0][
            "published"
        ]
        is None
    )
    assert "lacks image_train" in run.fails("data", "check", root, "--layout", "veri776")


def test_the_protocol_says_which_queries_have_an_answer(run: Runner, root: Path) -> None:
    (root / "query" / "0005_c2_f0046985.jpg").rename(root / "query" / "0005_c1_f0046985.jpg")
    command = ("data", "check", root, "--json")
    assert run(*command).json["unscored"][0]["reason"] == "same camera only"
    assert run(*command).json["scored_queries"] == 0
    assert run.well(*command, "--protocol", "any").json["scored_queries"] == 1


def test_what_cannot_be_loaded_is_one_line(run: Runner, tmp_path: Path) -> None:
    both = make_msmt(make_msmt(tmp_path), version=2)
    assert "msmt17-v1, msmt17-v2: name the layout" in run.fails("data", "check", both)
    assert "does not exist" in run.fails("data", "check", tmp_path / "gone")
    result = run("data", "check", tmp_path / "gone")
    assert "checking" not in result.err
    run.fails("data", "check", code=2)


def test_names_that_are_not_text_can_be_printed(run: Runner, root: Path) -> None:
    name = b"0005_c3_f1_\xff.jpg".decode("utf-8", "surrogateescape")
    (root / "query" / name).write_bytes(b"")
    page = root.parent / "report.html"
    result = run("data", "check", root, "--report", page)
    assert result.code == 1
    assert "0005_c3_f1_" in result.out
    assert "0005_c3_f1_" in page.read_text()
    assert run("data", "check", root, "--json").json["wrong"] is True
