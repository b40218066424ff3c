"""`reidkit gallery` and `reidkit search`: from pictures to a verdict, and to nothing left."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import stat
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reidkit import store
from reidkit.cli import keys, main
from reidkit.cli._gallery_options import duration
from reidkit.cli._gallery_printing import word_thresholds
from reidkit.datasets import load_dataset
from reidkit.embedding import embed
from reidkit.gallery import EVERYTHING, Gallery, StoreFacts, Thresholds
from reidkit.gallery._sqlite_schema import DATABASE
from reidkit.models import load_model
from tests.certified import write_fake
from tests.pictures import write_picture


class Runner:
    """Runs commands in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.err = ""

    def __call__(self, *arguments: object, code: int = 0) -> str:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = self.capsys.readouterr()
        self.err = err
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
    assert "3/3" in run.err
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


CREATE = ["gallery", "create", "made", "--package", "package"]
ADD = ["gallery", "add", "gallery"]
SEARCH = ["search", "gallery", "crops/bob/1.png"]
ASK = ["search", "http://127.0.0.1:1", "crops/bob/1.png"]


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (CREATE, ["--split", "gallery"]),
        (CREATE, ["--layout", "table"]),
        (CREATE, ["--zero-is-person"]),
        (CREATE, ["--least-height", "5"]),
        (CREATE, ["--most-alike", "0.5"]),
        ([*CREATE, "--no-pictures"], ["--largest-picture", "2000"]),
        ([*ADD, "crops", "--person", "x"], ["--split", "gallery"]),
        ([*ADD, "crops", "--person", "x"], ["--zero-is-person"]),
        ([*ADD, "--embeddings", "vectors"], ["--most-alike", "0.5"]),
        ([*ADD, "--embeddings", "vectors"], ["--least-sharpness", "0"]),
        ([*ADD, "--embeddings", "vectors"], ["--batch", "2"]),
        ([*ADD, "--embeddings", "vectors"], ["--split", "gallery"]),
        ([*ADD, "--embeddings", "vectors"], ["--time", "2026-11-24T08:00:00Z"]),
        ([*ADD, "--embeddings", "vectors", "--csv", "people.csv"], ["--zero-is-person"]),
        ([*ADD, "--embeddings", "vectors", "--csv", "people.csv"], ["--camera", "x"]),
        ([*ADD, "--csv", "people.csv"], ["--tag", "x"]),
        (["gallery", "people", "gallery", "--person", "ann"], ["--limit", "100"]),
        (SEARCH, ["--insecure"]),
        (SEARCH, ["--key", "rk_1"]),
        (ASK, ["--package", "package"]),
        (ASK, ["--memory", "1GiB"]),
        (["search", "postgresql://host/name", "1.png"], ["--memory", "1GiB"]),
        (["gallery", "search", "postgresql://host/name", "1.png"], ["--memory", "1GiB"]),
    ],
)
def test_options_that_would_change_nothing_are_refused(
    tmp_path: Path,
    run: Runner,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    unused: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{unused[0]}: " in run(*arguments, *unused, code=2)
    assert not list(tmp_path.iterdir())


def test_a_key_of_the_environment_does_not_keep_a_gallery_from_being_asked(
    gallery: str, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REIDKIT_KEY", "rk_1")
    assert run.json(*SEARCH)["people"][0]["person"] == "bob"


@pytest.mark.parametrize("command", [["gallery", "search"], ["search"]])
def test_how_much_memory_a_search_may_take(
    gallery: str, run: Runner, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    opened = Gallery.open

    def open_(place: str, *, memory: int, **options: Any) -> Gallery:
        held.append(memory)
        return opened(place, memory=memory, **options)

    monkeypatch.setattr(Gallery, "open", open_)
    found = run.json(*command, gallery, "crops/bob/1.png", "--memory", "1kB")
    assert found["people"][0]["person"] == "bob"
    assert held == [1000]


class Indexed:
    """A store that notes who builds its index."""

    def __init__(self) -> None:
        self.actors: list[str] = []

    def build_index(self, *, actor: str) -> None:
        self.actors.append(actor)

    def facts(self) -> StoreFacts:
        return StoreFacts("postgres", 0, 0, "by an index")

    def close(self) -> None:
        self.actors.append("closed")


def test_a_folder_needs_no_index(gallery: str, run: Runner) -> None:
    assert "needs no index" in run("gallery", "index", gallery, code=1)


def test_an_index_for_postgres(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Indexed()
    monkeypatch.setattr("reidkit.gallery.open_store", lambda _: store)
    assert "search: by an index" in run("gallery", "index", "postgresql://host/name")
    assert store.actors[0].startswith("cli")
    assert store.actors[1:] == ["closed"]
    assert run.json("gallery", "index", "postgresql://host/name") == {"search": "by an index"}


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
    run("gallery", "add", gallery, "0.png", "--person", "Zoë")
    decomposed = unicodedata.normalize("NFD", "oë")
    found = run.json("gallery", "people", gallery, "--named", decomposed)
    assert [each["name"] for each in found["people"]] == ["Zoë"]
    decomposed = unicodedata.normalize("NFD", "Zoë")
    assert len(run.json("gallery", "people", gallery, "--person", decomposed)["crops"]) == 1
    assert run.json("gallery", "audit", gallery)["lines"][0]["action"] == "read"
    assert "staff" in run("gallery", "people", gallery, "--person", "bob")
    assert len(run.json("gallery", "people", gallery, "--person", "ann")["crops"]) == 2


def test_an_export_can_be_added_again(gallery: str, run: Runner) -> None:
    run("gallery", "export", gallery, "-o", "exported", "--pictures")
    run("gallery", "create", "second", "--package", "package")
    run("gallery", "add", "second", "--csv", "exported/crops.csv")
    assert people("second") == people(gallery)
    with Gallery.open("second") as opened:
        assert opened.read_person("bob").tags.tolist() == [("staff",)]


def test_an_export_can_be_added_again_without_a_model(
    gallery: str, here: Path, run: Runner
) -> None:
    odd = shutil.copy(here / "0.png", os.fsdecode(b"\xff.png"))  # no Unicode
    run("gallery", "add", gallery, odd, "--person", "eve")
    run("gallery", "export", gallery, "-o", "exported")
    run("gallery", "create", "second", "--package", "package", "--no-pictures")
    shutil.rmtree(here / "crops")
    assert stat.S_IMODE((here / "exported").stat().st_mode) == 0o700
    both = ["--embeddings", "exported/embeddings", "--csv", "exported/crops.csv"]
    assert "4 crops enrolled" in run("gallery", "add", "second", *both)
    assert "4 were there already" in run("gallery", "add", "second", *both)
    with Gallery.open(gallery) as first, Gallery.open("second") as second:
        for (theirs, vectors), (mine, copies) in zip(
            first.store.export(EVERYTHING), second.store.export(EVERYTHING), strict=True
        ):
            assert mine.people.tolist() == theirs.people.tolist()
            for name in ("cameras", "tags", "sources", "digests"):
                assert getattr(mine, name).tolist() == getattr(theirs, name).tolist(), name
            np.testing.assert_array_equal(mine.times, theirs.times)
            np.testing.assert_allclose(copies, vectors, atol=1e-6)


def test_a_table_of_other_vectors_is_refused(gallery: str, here: Path, run: Runner) -> None:
    run("gallery", "export", gallery, "-o", "exported")
    table = (here / "exported" / "crops.csv").read_text().splitlines()
    wrong = {
        "line 2": [table[0], table[2], table[1], table[3]],
        "2 rows for 3 vectors": table[:3],
        "4 rows for 3 vectors": [*table, table[1]],
        "lacks the column person": [table[0].replace("person", "name"), *table[1:]],
    }
    header = table[0].split(",")
    rows = [row.split(",") for row in table[1:]]
    for row in rows:
        row[header.index("sha256")] = "12"
    wrong["64 hexadecimal"] = [table[0], *(",".join(row) for row in rows)]
    for complaint, lines in wrong.items():
        (here / "wrong.csv").write_text("\n".join(lines))
        both = ["--embeddings", "exported/embeddings", "--csv", "wrong.csv"]
        assert complaint in run("gallery", "add", gallery, *both, code=1).replace("\n", " ")
    assert people(gallery) == {"ann": 2, "bob": 1}


def test_another_model(gallery: str, here: Path, run: Runner) -> None:
    write_fake(here / "other", seed=5, size=32)
    shutil.move(here / "package", here / "elsewhere")
    run("gallery", "reembed", gallery, "--package", "other")
    assert "3/3" in run.err
    assert run.json("gallery", "stats", gallery)["crops"] == 3
    found = run.json("gallery", "search", gallery, "crops/bob/1.png")
    assert found["people"][0]["person"] == "bob"


def test_no_bar_stands_before_an_error(gallery: str, run: Runner) -> None:
    for package in ("nowhere", "package"):  # the latter: nothing to do
        run("gallery", "reembed", gallery, "--package", package, code=1)
        assert "embedding" not in run.err.split("reidkit:")[0]


def test_keys_need_a_gallerys_folder(gallery: str, here: Path, run: Runner) -> None:
    assert keys.DATABASE == DATABASE
    options = ["--role", "search", "--gallery"]
    assert "no gallery's folder" in run("keys", "add", "desk", *options, "crops", code=2)
    assert not (here / "crops" / keys.FILE).exists()
    assert run("keys", "add", "desk", *options, gallery).startswith("rk_")
    run("keys", "list", "--gallery", gallery, "--keys", "other.json", code=2)


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
