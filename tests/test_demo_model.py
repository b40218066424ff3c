from __future__ import annotations

from pathlib import Path

import pytest

from reidkit import checkpoints, demo_model, networks
from reidkit.checkpoints import Checkpoint
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.exporting import export_package
from reidkit.package import Package
from reidkit.records import Dataset
from reidkit.training import read_recipe
from tests.drawn_people import score


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Draw people, cameras and streets that the network was not trained on."""
    root = tmp_path_factory.mktemp("data") / "strangers"
    draw_dataset(root, people=20, cameras=3, seed=20, workers=1)
    return load_dataset("market1501", root)


def package(checkpoint: Path | Checkpoint, folder: Path) -> Package:
    return export_package(checkpoint, folder, contract=read_recipe(demo_model.RECIPE).contract)


def test_it_finds_people_that_it_never_saw(strangers: Dataset, tmp_path: Path) -> None:
    recipe = read_recipe(demo_model.RECIPE)
    trained = package(demo_model.CHECKPOINT, tmp_path / "trained")
    tensors = networks.initial_tensors(recipe.network(None))
    untrained = package(Checkpoint(tensors, "made", "made", "0" * 64), tmp_path / "untrained")
    assert score(trained, strangers) > score(untrained, strangers) + 0.2


def test_it_is_small(tmp_path: Path) -> None:
    made = package(demo_model.CHECKPOINT, tmp_path / "package")
    assert made.engine_file.stat().st_size < 3_000_000


def test_its_recipe_is_of_its_network() -> None:
    recipe = read_recipe(demo_model.RECIPE)
    found = networks.recognise(checkpoints.read(demo_model.CHECKPOINT).tensors)
    assert found == recipe.network(None)


def test_its_card_says_what_it_is() -> None:
    card = demo_model.read_card()
    assert "never seen a real person" in card["purpose"]
    assert set(card["scores"]) == set(card["scored_on"]) == {"same cameras", "other cameras"}
    assert card["data"]["drawn"]["seed"] not in (0, 1, 20), "trained on people who are unseen here"
    assert card["training"]["seconds"] > 60
