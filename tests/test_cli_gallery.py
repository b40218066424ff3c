"""`reidkit gallery` and `reidkit search`: from pictures to a verdict, and to nothing left."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from reidkit import store
from reidkit.cli import main
from reidkit.cli._gallery_options import duration
from reidkit.cli._gallery_printing import word_thresholds
from reidkit.datasets import load_dataset
from reidkit.embedding import embed
from reidkit.gallery import Gallery, Thresholds
from reidkit.models import load_model
from tests.certified import write_fake
from tests.pictures import write_picture


class Runner:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: object, code: int = 0) -> str:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        assert exit_.value.code == code, (out, err)
        assert "Traceback" not in err
        return out if code == 0 else out + err

    def json(self, *arguments: object, code: int = 0) -> Any:
        out = self(*arguments, "--json", code=code)
        return json.JSONDecoder().raw_decode(out)[0]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Runner:
    monkeypatch.setenv("COLUMNS", "120")
    return Runner(capsys)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package, crops of two people and a data set."""
    monkeypatch.chdir(tmp_path)
    write_fake(tmp_path / "package")
    for number, name in enumerate(("ann/1", "ann/2", "bob/1")):
        path = tmp_path / "crops" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, seed=number)
    rows = ["path,person_id,camera_id,split"]
    for number, person in enumerate((-1, 0, 3, 3, 4)):
        write_picture(tmp_path / f"{number}.png", seed=10 + number)
        rows.append(f"{number}.png,{person},{number % 2 + 1},gallery")
    (tmp_path / "people.csv").write_text("\n".join(rows))
    return tmp_path


@pytest.fixture
def gallery(here: Path, run: Runner) -> str:
    run("gallery", "create", "gallery", "--package", "package")
    options = ["--camera", "door", "--time", "2026-11-24T08:00:00Z", "--tag", "staff"]
    run("gallery", "add", "gallery", "crops", "--person-from", "folder", *options)
    return "gallery"


def people(place: str) -> dict[str, int]:
    with Gallery.open(place) as opened:
        return {person.name: person.crops for person in opened.list_people()}


def test_create_and_fill_at_once(here: Path, run: Runner) -> None:
    options = ["--package", "package", "--data", "people.csv", "--split", "gallery"]
    out = run("gallery", "create", "filled", *options)
    assert "3 crops enrolled" in out
    assert "1 junk crops" in out
    assert "1 distractors" in out
    assert people("filled") == {"3": 2, "4": 1}
    found = run.json("gallery", "create", "zero", *options, "--zero-is-person")
    assert (found["junk"], found["distractors"], len(found["ids"])) == (1, 0, 4)
    assert people("zero") == {"0": 1, "3": 2, "4": 1}
    assert "already" in run("gallery", "create", "zero", "--package", "package", code=1)


def test_what_is_said_of_pictures_is_kept(gallery: str) -> None:
    with Gallery.open(gallery) as opened:
        crops = opened.read_person("ann")
        assert crops.cameras.tolist() == ["door", "door"]
        assert crops.tags.tolist() == [("staff",)] * 2
        assert crops.times.tolist() == [1795507200.0] * 2
        assert [Path(source).is_absolute() for source in crops.sources] == [True, True]
        assert opened.picture(int(crops.ids[0])) is not None
        assert opened.audit(limit=1)[0].actor.startswith("cli")


def test_no_pictures_keeps_none(here: Path, run: Runner) -> None:
    run("gallery", "create", "bare", "--package", "package", "--no-pictures")
    run("gallery", "add", "bare", "crops/ann", "--person", "ann")
    with Gallery.open("bare") as opened:
        assert opened.picture(int(opened.read_person("ann").ids[0])) is None


def test_adding_again_changes_nothing(gallery: str, run: Runner) -> None:
    out = run("gallery", "add", gallery, "crops", "--person-from", "folder", "--camera", "door")
    assert "0 crops enrolled" in out
    assert "3 were there already" in out
    assert people(gallery) == {"ann": 2, "bob": 1}


def test_names_from_the_file_and_refusals(gallery: str, here: Path, run: Runner) -> None:
    for number in range(12):
        (here / f"bad{number}.png").write_text("no picture")
    write_picture(here / "eve.png", seed=20)
    bad = [f"bad{number}.png" for number in range(12)]
    out = run("gallery", "add", gallery, "eve.png", *bad, "--person-from", "stem")
    assert "1 crops enrolled" in out
    assert "12 refused" in out
    assert "bad9.png" in out
    assert "and 2 more" in out
    assert people(gallery)["eve"] == 1
    found = run.json("gallery", "add", gallery, *bad, "--person", "eve", code=1)
    assert len(found["refused"]) == 12


def test_crops_that_are_too_small_are_refused(gallery: str, here: Path, run: Runner) -> None:
    write_picture(here / "small.png", seed=21)
    options = ["--person", "eve", "--least-height", 41]
    assert "small.png" in run("gallery", "add", gallery, "small.png", *options, code=1)
    assert "eve" not in people(gallery)


def test_a_table_of_crops(gallery: str, here: Path, run: Runner) -> None:
    (here / "table.csv").write_text(
        "path,person,camera,time,tags\n0.png,carl,yard,2026-11-24T09:00:00Z,a b\n1.png,dora,,,\n"
    )
    run("gallery", "add", gallery, "--csv", "table.csv")
    with Gallery.open(gallery) as opened:
        carl = opened.read_person("carl")
        assert carl.tags.tolist() == [("a", "b")]
        assert carl.times.tolist() == [1795510800.0]
        assert opened.read_person("dora").cameras.tolist() == [""]
    (here / "wrong.csv").write_text("path,person,time\n0.png,carl,noon\n1.png,,\n")
    complaint = run("gallery", "add", gallery, "--csv", "wrong.csv", code=1)
    assert "line 2" in complaint
    assert "line 3" in complaint
    (here / "other.csv").write_text("file\n0.png\n")
    assert "path and person" in run("gallery", "add", gallery, "--csv", "other.csv", code=1)


def test_vectors_that_the_model_made_before(gallery: str, here: Path, run: Runner) -> None:
    samples = load_dataset("table", here / "people.csv").gallery
    with load_model("package") as model:
        store.write_embeddings(here / "vectors", embed(model, samples))
    out = run("gallery", "add", gallery, "--embeddings", "vectors")
    assert "1 junk crops" in out
    assert people(gallery) == {"3": 2, "4": 1, "ann": 2, "bob": 1}
    answer = run.json("gallery", "search", gallery, "4.png")
    assert answer["people"][0]["person"] == "4"


@pytest.mark.parametrize(
    "arguments",
    [
        ["add", "gallery"],
        ["add", "gallery", "crops"],
        ["add", "gallery", "crops", "--person", "x", "--person-from", "stem"],
        ["add", "gallery", "crops", "--person", " "],
        ["add", "gallery", "crops", "--person", "x", "--csv", "people.csv"],
        ["add", "gallery", "--csv", "people.csv", "--person", "x"],
        ["add", "gallery", "--data", "people.csv"],
        ["add", "gallery", "crops", "--person", "x", "--time", "noon"],
        ["remove", "gallery"],
        ["remove", "gallery", "--older-than", "soon"],
        ["remove", "gallery", "--person", "ann"],
        ["search", "gallery"],
    ],
)
def test_wrong_usage_is_refused(gallery: str, run: Runner, arguments: list[str]) -> None:
    run("gallery", *arguments, code=2)
    assert people(gallery) == {"ann": 2, "bob": 1}


@pytest.mark.parametrize("command", [["gallery", "search"], ["search"]])
def test_a_search_says_who_and_what_that_means(
    gallery: str, run: Runner, command: list[str]
) -> None:
    out = run(*command, gallery, "crops/bob/1.png")
    assert "bob" in out
    assert "verdict: " in out
    assert "2026-11-24T08:00:00Z" in out
    assert "no operating points" in out
    assert "3 crops searched" in out
    found = run.json(*command, gallery, "crops/bob/1.png")
    assert found["people"][0]["person"] == "bob"
    assert found["people"][0]["best"] == pytest.approx(1, abs=1e-4)
    assert found["verdict"] != "same"
    filtered = run.json(*command, gallery, "crops/bob/1.png", "--person", "ann", "--people", 1)
    assert [each["person"] for each in filtered["people"]] == ["ann"]
    for limit in (["--camera", "yard"], ["--tag", "x"], ["--until", "2026-11-24T08:00:00Z"]):
        assert run.json(*command, gallery, "crops/bob/1.png", *limit)["people"] == []


def test_forgetting(gallery: str, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run("gallery", "remove", gallery, "--person", "ann", "--yes")
    assert "2 crops erased" in out
    assert "compact" in out
    assert people(gallery) == {"bob": 1}
    assert run.json("gallery", "remove", gallery, "--older-than", "1d", "--yes")["erased"] == 0
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for answer, code, left in ((False, 1, {"bob": 1}), (True, 0, {})):
        monkeypatch.setattr("click.confirm", lambda *_, answer=answer, **__: answer)
        run("gallery", "remove", gallery, "--camera", "door", code=code)
        assert people(gallery) == left
    assert "bytes" in run("gallery", "compact", gallery)
    actions = [line["action"] for line in run.json("gallery", "audit", gallery)["lines"]]
    assert actions[:3] == ["compact", "erase", "erase"]
    assert "erase" in run("gallery", "audit", gallery)


def test_it_shows_what_is_there(gallery: str, run: Runner) -> None:
    assert "3 crops of 2 people" in run("gallery", "stats", gallery, "--measure")
    assert run.json("gallery", "stats", gallery)["crops"] == 3
    listed = run("gallery", "people", gallery)
    assert "ann" in listed
    assert "door" in listed
    found = run.json("gallery", "people", gallery, "--named", "o")
    assert [each["name"] for each in found["people"]] == ["bob"]
    assert "staff" in run("gallery", "people", gallery, "--person", "bob")
    assert len(run.json("gallery", "people", gallery, "--person", "ann")["crops"]) == 2


def test_an_export_can_be_added_again(gallery: str, run: Runner) -> None:
    run("gallery", "export", gallery, "-o", "exported", "--pictures")
    run("gallery", "create", "second", "--package", "package")
    run("gallery", "add", "second", "--csv", "exported/crops.csv")
    assert people("second") == people(gallery)
    with Gallery.open("second") as opened:
        assert opened.read_person("bob").tags.tolist() == [("staff",)]


def test_another_model(gallery: str, here: Path, run: Runner) -> None:
    write_fake(here / "other", seed=5, size=32)
    run("gallery", "reembed", gallery, "--package", "other")
    assert run.json("gallery", "stats", gallery)["crops"] == 3
    found = run.json("gallery", "search", gallery, "crops/bob/1.png")
    assert found["people"][0]["person"] == "bob"


def test_thresholds_in_words() -> None:
    found = Thresholds(same=0.9, unsure=0.8, same_far=0.01, unsure_far=0.1, kind="identification")
    assert word_thresholds(found) == (
        "same from 0.9000 on (accepts 1 % of pictures of people who are not in the gallery), "
        "unsure from 0.8000 on (10 %)"
    )
    only = dataclasses.replace(found, unsure=0.9, unsure_far=0.01, kind="pairs")
    assert word_thresholds(only) == "same from 0.9000 on (accepts 1 % of pairs of different people)"


def test_durations() -> None:
    assert [duration(text) for text in ("30d", "12h", "90m", "2w", "5s")] == [
        2592000,
        43200,
        5400,
        1209600,
        5,
    ]
