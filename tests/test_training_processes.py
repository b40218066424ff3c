"""Training as users start it: in processes of its own, killed, and several together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from reidkit import checkpoints, networks
from reidkit.datasets import load_dataset
from reidkit.exporting import export_package
from reidkit.training import Recipe, Run, read_run, recipe_as_toml
from tests.drawn_people import draw_people, quick_recipe, score

PATIENCE = 240


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_people(folder)
    return folder / "people"


def write_recipe(folder: Path, recipe: Recipe) -> Path:
    path = folder / "recipe.toml"
    path.write_text(recipe_as_toml(recipe))
    return path


def command(root: Path, recipe: Path, out: Path) -> list[str]:
    return ["-m", "reidkit", "train", "--data", str(root), "--config", str(recipe), "-o", str(out)]


def environment() -> dict[str, str]:
    """One thread a process: threads that wait for each other on busy cores spin."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def run_to_end(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=True,
    )


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    """A recipe that learns something."""
    return quick_recipe(
        epochs=6, optimiser="sgd", learning_rate=0.05, validate_every=6, warmup_epochs=2
    )


@pytest.fixture(scope="module")
def one(root: Path, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What one process makes of it."""
    folder = tmp_path_factory.mktemp("one")
    done = run_to_end([*command(root, write_recipe(folder, recipe), folder / "run"), "--json"])
    run = read_run(folder / "run")
    assert json.loads(done.stdout)["scores"] == dict(run.scores)
    return run


@pytest.mark.slow
def test_training_beats_where_it_began(
    root: Path, recipe: Recipe, one: Run, tmp_path: Path
) -> None:
    begun = networks.initial_tensors(recipe.network(None), seed=recipe.seed)
    checkpoint = checkpoints.Checkpoint(begun, "made", "made", "0" * 64)
    package = export_package(checkpoint, tmp_path / "untrained", contract=recipe.contract)
    untrained = score(package, load_dataset("market1501", root))
    assert one.scores["mAP"] > untrained + 0.05


@pytest.mark.slow
def test_two_processes_validate_as_one(
    root: Path, recipe: Recipe, one: Run, tmp_path: Path
) -> None:
    """The same weights score the same, and training together leads to about as good ones."""
    file = write_recipe(tmp_path, recipe)
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run_to_end([*together, *command(root, file, tmp_path / "two"), "--json"])
    two = read_run(tmp_path / "two")
    assert json.loads(done.stdout)["scores"] == dict(two.scores)
    checkpoint, contract = two.checkpoint("last"), two.recipe.contract
    package = export_package(checkpoint, tmp_path / "package", contract=contract)
    found = score(package, load_dataset("market1501", root))
    assert found == pytest.approx(two.scores["mAP"], abs=1e-4)
    assert two.scores["mAP"] == pytest.approx(one.scores["mAP"], abs=0.08)


@pytest.mark.slow
def test_a_killed_run_gives_the_weights_of_an_unbroken_one(root: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, quick_recipe(epochs=3, ema_decay=0.9))
    run_to_end(command(root, recipe, tmp_path / "whole"))
    out = tmp_path / "killed"
    for epoch in (1, 2):
        process = subprocess.Popen(
            [sys.executable, *command(root, recipe, out)],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_epoch(out, epoch, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run_to_end(command(root, recipe, out))
    for which in ("last", "best"):
        whole = checkpoints.read(read_run(tmp_path / "whole").checkpoint(which)).tensors
        broken = checkpoints.read(read_run(out).checkpoint(which)).tensors
        for name, values in whole.items():
            np.testing.assert_array_equal(broken[name], values, err_msg=f"{which} {name}")


def wait_for_epoch(out: Path, epoch: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until so many epochs are done and the next one is on its way."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, "the training ended before it could be killed"
        if (out / "run.json").exists() and read_run(out).epoch >= epoch:
            return
        time.sleep(0.05)
    raise AssertionError(f"epoch {epoch} was not reached")
