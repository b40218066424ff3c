"""A small drawn data set and quick recipes for tests that train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.embedding import embed
from reidkit.models import load_model
from reidkit.package import Package
from reidkit.records import Dataset
from reidkit.scoring import evaluate
from reidkit.training import Recipe

PEOPLE, CAMERAS = 16, 3


def draw_people(folder: Path) -> Dataset:
    """Draw a data set of a few hundred pictures."""
    root = folder / "people"
    draw_dataset(root, people=PEOPLE, cameras=CAMERAS, seed=3, workers=1)
    return load_dataset("market1501", root)


def score(package: Package, dataset: Dataset) -> float:
    """Score a package as any deployed one is: its mAP."""
    with load_model(package) as model:
        query, gallery = embed(model, dataset.query), embed(model, dataset.scored_gallery)
    return evaluate(query, gallery).mAP


def quick_recipe(**changes: Any) -> Recipe:
    """Give a recipe of a small network on small pictures, a second an epoch."""
    values: dict[str, Any] = {
        "architecture": "osnet_x0_25",
        "height": 64,
        "width": 32,
        "padding": 2,
        "batch": 16,
        "epochs": 2,
        "milestones": (20,),
        "warmup_epochs": 0,
        "learning_rate": 1e-3,
        "validate_every": 1,
        "device": "cpu",
        "workers": 1,
    }
    return Recipe(**(values | changes))
