"""The rows of the recipe's table: what each one trains, and how it scores."""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from machine import describe_machine
from reidkit import checkpoints, disk, preprocess
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.embedding import embed
from reidkit.errors import TrainingError
from reidkit.package import InputSpec
from reidkit.records import Dataset, Embeddings, Samples, Scores
from reidkit.reranking import KReciprocal
from reidkit.scoring import evaluate
from reidkit.training import Recipe, train
from reidkit.training._initialising import load_pretrained
from reidkit.training._network import build_network, load_arrays
from reidkit.training._runtime import as_model

DATA_SEED, OTHER_SEED = 7, 8
CAMERAS = 6

START: dict[str, Any] = {
    "bnneck": False,
    "last_stride": 2,
    "sampler": "shuffle",
    "metric_loss": "none",
    "label_smoothing": 0.0,
    "erasing_probability": 0.0,
    "warmup_epochs": 0,
    "center_weight": 0.0,
}
"""The recipe without any of its parts."""

TRICKS: dict[str, tuple[str, ...]] = {
    "softmax": (),
    "triplet": ("sampler", "metric_loss"),
    "warm-up": ("warmup_epochs",),
    "erasing": ("erasing_probability",),
    "smoothing": ("label_smoothing",),
    "stride": ("last_stride",),
    "bnneck": ("bnneck",),
    "centre": ("center_weight",),
}
"""The fields that each row takes from the whole recipe, beside those of the rows above it."""

FULL, RERANKED = "centre", "re-ranking"
BEFORE = ("colours", "untrained", "pretrained")
ROWS = (*BEFORE, *TRICKS, RERANKED)
MEASURES = ("mAP", "rank1", "mINP")

_STRIPES, _LEVELS = 6, 8

Line = dict[str, Any]


def make_recipe(row: str, seed: int, settings: Line) -> Recipe:
    """Give the recipe of a row: the parts of the rows above it, and its own."""
    epochs = settings["epochs"]
    names = ("architecture", "height", "width", "batch", "epochs", "optimiser", "learning_rate")
    whole = Recipe(
        **{name: settings[name] for name in names},
        device=settings["device"],
        padding=max(1, settings["height"] * 10 // 256),
        schedule="cosine",
        final_factor=0.01,
        # A warm-up of one epoch would be none: its last epoch has the whole rate.
        warmup_epochs=max(2, epochs // 3),
        channels_last=True,
        validate_every=epochs,
        seed=seed,
        workers=1,
    )
    rows = list(TRICKS)
    taken = {field for each in rows[: rows.index(row) + 1] for field in TRICKS[each]}
    left = {field: value for field, value in START.items() if field not in taken}
    if not has_stride(whole.architecture):
        left.pop("last_stride", None)
    return dataclasses.replace(whole, **left)


def has_stride(architecture: str) -> bool:
    """Tell whether a network has a last stride to choose."""
    return not architecture.startswith("osnet")


def load_people(folder: Path, people: int, seed: int = DATA_SEED) -> Dataset:
    """Draw people to train on and others to test on, unless they are there already."""
    root = folder / f"people-{people}-{seed}"
    if not root.exists():
        print(f"drawing {people} people to train on and {people} others", flush=True)
        draw_dataset(root, people=people, cameras=CAMERAS, seed=seed)
    return load_dataset("market1501", root)


def pretrain(seed: int, settings: Line, folder: Path) -> Path:
    """Train a network on other people by the plain recipe, unless that is done; its weights."""
    place = folder / "pretrained" / f"{seed}-{disk.sha256_json(settings)[:8]}"
    rate = settings["pretraining_rate"]
    recipe = make_recipe("softmax", seed, settings | {"learning_rate": rate, "optimiser": "sgd"})
    others = load_people(folder, settings["people"], OTHER_SEED)
    return train(others, recipe, place).checkpoint("last")


def run_row(row: str, seed: int, dataset: Dataset, settings: Line, folder: Path) -> list[Line]:
    """Run one row with one seed, and give its lines; a training that fails is a line too."""
    began = time.perf_counter()
    found: dict[str, Line] = {}
    recipe = make_recipe(row if row in TRICKS else FULL, seed, settings)
    if row == "colours":
        sides = [describe_colours(side, recipe.contract) for side in list_sides(dataset)]
        found[row] = measure(evaluate(*sides))
    else:
        place = folder / "runs" / f"{row}-{seed}-{disk.sha256_json(settings)[:8]}"
        if row != "untrained":
            weights = pretrain(seed, settings, folder)
            recipe = dataclasses.replace(recipe, pretrained=str(weights))
        try:
            sides = embed_row(row, recipe, dataset, place)
            found[row] = measure(evaluate(*sides))
            if row == FULL:
                found[RERANKED] = measure(evaluate(*sides, metric=KReciprocal()))
        except TrainingError as error:
            found[row] = {"failed": str(error).replace(str(place), "RUN")}
        shutil.rmtree(place, ignore_errors=True)
    about = {
        "seed": seed,
        "settings": settings,
        "seconds": time.perf_counter() - began,
        "machine": describe_machine() | {"threads": torch.get_num_threads()},
    }
    return [{"row": name, **scores, **about} for name, scores in found.items()]


def embed_row(row: str, recipe: Recipe, dataset: Dataset, place: Path) -> list[Embeddings]:
    """Train the network of a row, where it is a trained one, and embed the test people."""
    if row in BEFORE:
        network = build_network(recipe.network(None), seed=recipe.seed)
        if recipe.pretrained:
            load_pretrained(network, recipe.network(None), recipe.pretrained)
    else:
        run = train(dataset, recipe, place)
        network = build_network(recipe.network(run.classes), seed=recipe.seed)
        load_arrays(network, checkpoints.read(run.checkpoint("last")).tensors)
    network.to(recipe.device)
    with as_model(network, recipe, recipe.device) as model:
        return [embed(model, side, batch=16) for side in list_sides(dataset)]


def describe_colours(samples: Samples, contract: InputSpec) -> Embeddings:
    """Describe pictures by histograms of 8 x 8 x 8 colours in six horizontal stripes.

    The roots of the shares are taken, so that the cosine is the histograms' overlap after
    Bhattacharyya (1943).
    """
    size = _LEVELS**3
    vectors = np.empty((len(samples), _STRIPES * size), np.float32)
    for path, vector in zip(samples.paths, vectors, strict=True):
        pixels = preprocess.resize(preprocess.decode(path), contract)
        levels: NDArray[np.int64] = pixels.astype(np.int64) * _LEVELS // 256
        colours = levels @ np.array((_LEVELS**2, _LEVELS, 1))
        stripes = np.array_split(colours, _STRIPES)
        counts = [np.bincount(stripe.ravel(), minlength=size) for stripe in stripes]
        vector[:] = np.sqrt(np.concatenate(counts) / colours.size)
    return Embeddings(vectors, samples)


def measure(scores: Scores) -> Line:
    """Take from scores what a record keeps."""
    return {"mAP": scores.mAP, "rank1": scores.rank(1), "mINP": scores.mINP}


def list_sides(dataset: Dataset) -> tuple[Samples, Samples]:
    """Give the queries, and the gallery without junk, which no score looks at."""
    return dataset.query, dataset.scored_gallery
