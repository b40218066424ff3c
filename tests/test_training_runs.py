"""The folder of a run: written, read, refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from reidkit.errors import ArgumentError, FormatError, TrainingError
from reidkit.training import (
    Recipe,
    Run,
    check_same_run,
    is_run,
    read_recipe,
    read_run,
    write_run,
)

DATA: dict[str, str | int] = {
    "root": "data/drawn",
    "layout": "market1501",
    "pictures": 120,
    "people": 12,
    "fingerprint": "0123abcd",
}
RECIPE = Recipe(architecture="resnet18", epochs=20, milestones=(10,), mean=(0, 0.1 + 0.2, 1 / 3))


def make(folder: Path, **values: Any) -> Run:
    run = Run(folder, RECIPE, DATA, classes=12, epoch=10, best_epoch=5, scores={"mAP": 0.25})
    return dataclasses.replace(run, **values)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = make(tmp_path)
    write_run(run)
    return run


def test_a_run_reads_back_equal(run: Run) -> None:
    assert is_run(run.folder)
    assert is_run(str(run.folder))
    assert read_run(run.folder) == run
    assert read_run(str(run.folder)) == run
    assert read_recipe(run.folder / "recipe.toml") == RECIPE
    assert not run.finished
    assert sorted(entry.name for entry in run.folder.iterdir()) == ["recipe.toml", "run.json"]


def test_a_later_epoch_replaces_an_earlier_one(run: Run) -> None:
    later = dataclasses.replace(run, epoch=20, best_epoch=20, scores={"mAP": 0.5, "rank1": 1})
    write_run(later)
    assert read_run(run.folder) == later
    assert later.finished


def test_the_recipe_is_written_anew_only_where_it_changed(run: Run) -> None:
    path = run.folder / "recipe.toml"
    before = path.stat().st_ino
    write_run(run)
    assert path.stat().st_ino == before
    write_run(dataclasses.replace(run, recipe=dataclasses.replace(RECIPE, log_every=3)))
    assert read_recipe(path).log_every == 3


def test_what_was_edited_in_the_recipe_does_not_change_the_run(run: Run) -> None:
    path = run.folder / "recipe.toml"
    path.write_text(path.read_text().replace("epochs = 20 ", "epochs = 15 "))
    assert read_run(run.folder).recipe == RECIPE
    with pytest.raises(ArgumentError, match="epochs was 20 and is 15"):
        check_same_run(read_run(run.folder), read_recipe(path), DATA)


def test_a_checkpoint_is_there_or_refused(run: Run) -> None:
    (run.folder / "last.safetensors").write_bytes(b"")
    assert run.checkpoint("last") == run.folder / "last.safetensors"
    with pytest.raises(TrainingError, match=r"no best.safetensors: 10 of its 20 epochs are done"):
        run.checkpoint()
    with pytest.raises(ArgumentError, match="expected 'best' or 'last'"):
        run.checkpoint("first")  # type: ignore[arg-type]


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    assert not is_run(tmp_path / "missing")
    with pytest.raises(TrainingError, match=r"is not the folder of a run, it has no run.json"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": None}, "classes is a NoneType"),
        ({"classes": 0}, "classes is 0"),
        ({"epoch": True}, "epoch is a bool"),
        ({"epoch": -1}, "epoch is -1"),
        ({"epoch": 21}, "its best epoch is 5, 21 of 20 are done"),
        ({"best_epoch": 11}, "its best epoch is 11, 10 of 20 are done"),
        ({"scores": []}, "scores is a list"),
        ({"scores": {"mAP": "high"}}, "mAP is a str"),
        ({"data": {**DATA, "people": [12]}}, "people is a list"),
        ({"data": {"root": "data"}}, "'layout' is missing"),
        ({"recipe": {"epochs": 20, "noise": 1}}, "a recipe has no field 'noise'"),
        ({"recipe": {"epochs": "20"}}, "epochs is '20', expected a whole number"),
        ({"recipe": None}, "recipe is a NoneType"),
    ],
)
def test_a_damaged_run_is_refused(run: Run, changes: dict[str, Any], said: str) -> None:
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(TrainingError) as caught:
        read_run(run.folder)
    assert str(caught.value).startswith(f"{path} is damaged: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00", "[" * 100_000])
def test_what_is_no_json_object_is_refused(run: Run, text: str) -> None:
    (run.folder / "run.json").write_text(text)
    with pytest.raises(TrainingError, match=r"run.json is damaged"):
        read_run(run.folder)


def test_another_format_is_refused(run: Run) -> None:
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(FormatError, match="has format 2, this reidkit reads 1"):
        read_run(run.folder)


def test_the_same_run_goes_on(run: Run) -> None:
    check_same_run(run, RECIPE, DATA)
    free = dataclasses.replace(
        RECIPE, validate_every=3, log_every=7, workers=5, device="cpu", tensorboard=True
    )
    check_same_run(run, free, DATA | {"root": "elsewhere"})


def test_every_field_that_is_not_free_counts(run: Run) -> None:
    others: dict[str, Any] = {
        "batch": 32,
        "milestones": (5, 10),
        "learning_rate": 1.0,
        "compile": True,
        "seed": 1,
    }
    for name, value in others.items():
        with pytest.raises(ArgumentError, match=f"another recipe: {name} was .* and is "):
            check_same_run(run, dataclasses.replace(RECIPE, **{name: value}), DATA)
    with pytest.raises(ArgumentError) as caught:
        check_same_run(run, dataclasses.replace(RECIPE, **others), DATA)
    assert "batch was 64 and is 32, learning_rate was 0.00035 and is 1.0" in str(caught.value)
    assert "milestones was [10] and is [5, 10]" in str(caught.value)


@pytest.mark.parametrize("name", ["layout", "pictures", "people", "fingerprint"])
def test_other_data_are_refused(run: Run, name: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        check_same_run(run, RECIPE, DATA | {name: "other", "root": "elsewhere"})
    said = f"a run on other data (data/drawn, not elsewhere): {name} was {DATA[name]!r} and is"
    assert said in str(caught.value)
