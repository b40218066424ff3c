"""`reidkit train`: its options and what it prints; runs where `export` and `deploy` take files."""

from __future__ import annotations

import dataclasses
import io
import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file

from reidkit import cli, deploying, networks, training
from reidkit.errors import ReidkitError
from reidkit.package import read_package
from reidkit.records import Dataset
from reidkit.training import Event, Recipe, Run, write_run
from tests.layouts import make_duke
from tests.test_cli import Runner

RECIPE = Recipe(
    architecture="resnet18",
    last_stride=2,
    height=64,
    width=32,
    mean=(0.5, 0.5, 0.5),
    neck_feature="before",
    epochs=2,
    batch=8,
)
DATA: dict[str, str | int] = {
    "root": "data",
    "layout": "market1501",
    "pictures": 9,
    "people": 7,
    "fingerprint": "0123",
}

Report = Callable[[Event], None]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Runner:
    return Runner(capsys)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_duke(tmp_path / "duke")


def make_run(folder: Path, recipe: Recipe = RECIPE, **values: Any) -> Run:
    """Make the folder of a run that was not trained, with an empty checkpoint."""
    folder.mkdir()
    (folder / "best.safetensors").write_bytes(b"")
    scores = {"mAP": 0.5, "rank1": 0.75, "mINP": 0.25}
    run = Run(folder, recipe, DATA, classes=7, epoch=2, best_epoch=1, scores=scores)
    run = dataclasses.replace(run, **values)
    write_run(run)
    return run


def with_weights(run: Run) -> Run:
    """Put a network as it is before training into a run's checkpoint."""
    tensors = networks.initial_tensors(run.recipe.network(run.classes))
    save_file(tensors, run.folder / "best.safetensors")
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return with_weights(make_run(tmp_path_factory.mktemp("trained") / "run"))


@pytest.fixture
def fake_train(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stand in for the training; gives what it was called with."""
    seen: dict[str, Any] = {}

    def train(dataset: Dataset, recipe: Recipe, out: Path, *, report: Report | None = None) -> Run:
        seen.update(dataset=dataset, recipe=recipe, out=out, report=report)
        if report is not None:
            report(Event("start", 3, 4))
            values = {"loss": 2.5, "pictures_per_second": 1234.0, "waiting": 0.02}
            report(Event("step", 4, 4, 1, 2, values | {"eta_seconds": 3671.0}))
            report(Event("epoch", 4, 4, 2, 2, values | {"learning_rate": 3.5e-5}))
            report(Event("validation", 4, 4, values={"mAP": 0.5, "rank1": 0.75, "mINP": 0.25}))
            report(Event("checkpoint", 4, 4))
        return make_run(out, RECIPE)

    monkeypatch.setattr(training, "train", train)
    return seen


# The recipe and its options.


def test_print_config_prints_what_would_be_trained(run: Runner, tmp_path: Path) -> None:
    text = run.well("train", "--print-config").out
    assert text == training.recipe_as_toml(Recipe())
    path = tmp_path / "recipe.toml"
    path.write_text("epochs = 3\nseed = 5\n")
    line = ("train", "--config", path, "--set", "epochs=4", "--set", "device=cpu")
    found = tomllib.loads(run.well(*line, "--print-config").out)
    assert (found["epochs"], found["seed"], found["device"]) == (4, 5, "cpu")


def test_a_configuration_of_the_baseline_is_a_recipe(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "baseline.yml"
    path.write_text("INPUT: {SIZE_TRAIN: [256, 128], SIZE_TEST: [256, 128]}\nOUTPUT_DIR: old\n")
    pairs = ("SOLVER.MAX_EPOCHS", "7", "MODEL.PRETRAIN_PATH", "r50.pth")
    line = ("train", "--config_file", path, "--set", "seed=9", "--print-config")
    result = run.well(*line, *pairs)
    found = tomllib.loads(result.out)
    assert (found["epochs"], found["pretrained"], found["seed"]) == (7, "r50.pth", 9)
    assert (found["height"], found["sampler"]) == (256, "shuffle")
    remarks = result.err.splitlines()
    assert "remark: OUTPUT_DIR has no effect: -o says where the run is kept" in remarks
    assert all(remark.startswith("remark: ") for remark in remarks)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train"], "--data ROOT is missing"),
        (["train", "SOLVER.MAX_EPOCHS", "7"], "'SOLVER.MAX_EPOCHS' changes a configuration"),
        (["train", "--config", "a.toml", "--config_file", "a.yml"], "are two recipes"),
        (["train", "--config", "."], "is a directory"),
    ],
)
def test_wrong_usage(run: Runner, arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert said in result.err


def test_errors_name_what_is_wrong(run: Runner, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text("epoch = 3\n")
    assert "no field 'epoch': perhaps epochs is meant" in run.fails("train", "--config", path)
    assert str(path) in run.fails("train", "--config", path)
    assert "no file" in run.fails("train", "--config", tmp_path / "missing.toml")
    assert "bnneck is 'maybe'" in run.fails("train", "--set", "bnneck=maybe")
    assert "does not exist" in run.fails("train", "--data", tmp_path / "nowhere")


# What it prints.


def test_a_training_is_told_line_by_line(
    run: Runner, data: Path, tmp_path: Path, fake_train: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    result = run.well("train", "--data", data, "--set", "epochs=4", "-o", out)
    assert fake_train["recipe"] == Recipe(epochs=4)
    assert fake_train["dataset"].name == "dukemtmc"
    assert fake_train["out"] == out
    lines = result.out.splitlines()
    assert lines == [
        "epoch 3/4 was done: going on",
        "epoch 4/4: loss 2.5000, learning rate 3.5e-05, 1,234 pictures/s, waiting 2 %",
        "epoch 4/4: mAP 50.0 %, Rank-1 75.0 %, mINP 25.0 %",
        f"{out}: 2 epochs done, best epoch 1: mAP 50.0 %, Rank-1 75.0 %, mINP 25.0 %",
        f"best checkpoint: {out / 'best.safetensors'}",
    ]


def test_json_is_one_object(
    run: Runner, data: Path, tmp_path: Path, fake_train: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    found = run.well("train", "--data", data, "-o", out, "--json").json
    assert fake_train["report"] is not None
    assert found["checkpoint"] == str(out / "best.safetensors")
    assert (found["epochs"], found["best_epoch"], found["scores"]["mAP"]) == (2, 1, 0.5)
    assert found["recipe"] == json.loads(json.dumps(dataclasses.asdict(RECIPE)))
    assert found["data"] == DATA


def test_a_run_that_was_never_validated(
    run: Runner, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, out: Path = tmp_path / "out", **__: object) -> Run:
        return make_run(out, best_epoch=2, scores={})

    monkeypatch.setattr(training, "train", train)
    said = run.well("train", "--data", data, "-o", tmp_path / "out").out
    assert said.splitlines()[0].endswith("2 epochs done, best epoch 2, never validated")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_other_ranks_say_nothing(
    run: Runner,
    data: Path,
    tmp_path: Path,
    fake_train: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setenv("RANK", "1")
    result = run.well("train", "--data", data, "-o", tmp_path / "out", *options)
    assert fake_train["report"] is None
    assert (result.out, result.err) == ("", "")


class Terminal(io.StringIO):
    """A text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_bar_shows_how_fast_a_step_was(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with cli.train._watching(as_json=False) as report:
        values = {"loss": 2.5, "pictures_per_second": 90.0, "waiting": 0.5, "eta_seconds": 61.4}
        report(Event("step", 3, 12, 5, 20, values))
    text = shown.getvalue()
    assert "epoch 3/12" in text
    assert "5/20" in text
    assert "loss 2.5000, 90 pictures/s, waiting 50 %, 0:01:01 left" in text


# Runs where a checkpoint is taken.


def test_export_takes_a_run(run: Runner, trained: Run, tmp_path: Path) -> None:
    result = run.well("export", trained.folder, tmp_path / "package")
    assert "remark" not in result.err
    spec = read_package(tmp_path / "package").spec
    assert (spec.architecture, spec.input) == ("resnet18", RECIPE.contract)
    assert spec.provenance["last_stride"] == "2"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--architecture", "resnet34"), "architecture is resnet34, but architecture of the run"),
        (("--size", "256x128"), "size is 256x128, but the size of the run is 64x32: leave it out"),
        (("--last-stride", "1"), "last-stride is 1, but last_stride of the run is 2"),
        (("--neck-feature", "after"), "neck-feature is after, but neck_feature of the run is"),
    ],
)
@pytest.mark.parametrize("command", ["export", "deploy"])
def test_options_that_contradict_a_run(
    run: Runner,
    trained: Run,
    tmp_path: Path,
    command: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    out = ("-o", tmp_path / "out") if command == "deploy" else (tmp_path / "out",)
    result = run(command, trained.folder, *out, *options)
    assert result.code == 2
    words = " ".join(result.err.split())
    assert said in words
    assert "best.safetensors" in words
    assert not (tmp_path / "out").exists()


def test_a_network_without_bnneck_has_no_neck_to_contradict(run: Runner, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, bnneck=False)
    made = with_weights(make_run(tmp_path / "run", recipe, epoch=1))
    # Options that say the same are no contradiction either.
    options = ("--neck-feature", "after", "--size", "64x32", "--last-stride", "2")
    result = run.well("export", made.folder, tmp_path / "package", *options)
    assert "remark: 1 of 2 epochs are done, the best so far is 1" in result.err
    assert read_package(tmp_path / "package").spec.input.neck == "output"


def test_a_run_and_a_configuration_are_two_sources(
    run: Runner, trained: Run, tmp_path: Path
) -> None:
    result = run("export", trained.folder, tmp_path / "out", "--config_file", "a.yml")
    assert result.code == 2
    assert "a run knows its network" in result.err


@pytest.mark.parametrize("command", ["export", "deploy"])
def test_folders_that_hold_no_checkpoint(run: Runner, tmp_path: Path, command: str) -> None:
    out = ("-o", tmp_path / "out") if command == "deploy" else (tmp_path / "out",)
    (tmp_path / "empty").mkdir()
    assert "is not the folder of a run" in run.fails(command, tmp_path / "empty", *out)
    made = make_run(tmp_path / "run", epoch=0, best_epoch=0, scores={})
    (made.folder / "best.safetensors").unlink()
    assert "0 of its 2 epochs are done" in run.fails(command, made.folder, *out)


def test_deploy_takes_a_run(
    run: Runner,
    trained: Run,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise ReidkitError("far enough")

    monkeypatch.setattr(deploying, "deploy", stop)
    out = tmp_path / "out"
    assert "far enough" in run.fails("deploy", trained.folder, "--data", data, "-o", out)
    spec = read_package(out / "package").spec
    assert (spec.architecture, spec.input) == ("resnet18", RECIPE.contract)
    assert spec.provenance["last_stride"] == "2"
