"""Train the demonstration's network by its recipe, and score it on people that it never saw.

    python benchmarks/demo_model.py               # train into a folder of its own and compare
    python benchmarks/demo_model.py --replace     # and make that one the demonstration's

The drawn data set is made anew, the run goes on where an earlier one stopped, and beside the
network two things are scored that have learnt nothing: the same network untrained, and a colour
histogram. "same cameras" are other people seen by the cameras of the training; "other cameras"
are other people in other streets. The record is benchmarks/records/demo_model.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from machine import describe_machine
from recipe_rows import describe_colours, list_sides, measure
from reidkit import checkpoints, demo_model, disk, networks
from reidkit.checkpoints import Checkpoint
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.embedding import embed
from reidkit.exporting import export_package
from reidkit.models import load_model
from reidkit.records import Dataset
from reidkit.scoring import evaluate
from reidkit.training import Event, Recipe, Run, read_recipe, train

RECORD = Path(__file__).parent / "records" / "demo_model.json"
TRAINING = {"people": 400, "cameras": 6, "seed": 7}
OTHERS = {"people": 100, "cameras": 4, "seed": 1}
PLACES = {"same cameras": TRAINING, "other cameras": OTHERS}

Figures = dict[str, float]


def main() -> None:
    """Draw, train, score, and write down what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path("demo-model"), help="data and run")
    parser.add_argument("--seed", type=int, help="of the training; by default the recipe's")
    parser.add_argument("--replace", action="store_true", help="replace the demonstration's")
    options = parser.parse_args()
    settings = [] if options.seed is None else [f"seed={options.seed}"]
    recipe = read_recipe(demo_model.RECIPE, settings)
    data = {name: _draw(options.folder / name.replace(" ", "-"), PLACES[name]) for name in PLACES}
    run = _train(data["same cameras"], recipe, options.folder / f"run-{recipe.seed}")
    seconds = _add_seconds(run)
    folder = options.folder
    trained = _drop_classifier(checkpoints.read(run.checkpoint("best")))
    found = _score_network(trained, recipe, data, folder / f"package-{recipe.seed}")
    if options.replace:
        save_file(dict(trained.tensors), demo_model.CHECKPOINT)
        disk.write_json(demo_model.CARD, _card(run, seconds, found))
    shipped = checkpoints.read(demo_model.CHECKPOINT)
    untrained = networks.initial_tensors(recipe.network(None), seed=recipe.seed)
    scores = {
        f"trained again, seed {recipe.seed}": found,
        "shipped": _score_network(shipped, recipe, data, folder / "package-shipped"),
        "untrained": _score_network(
            Checkpoint(untrained, "made", "made", "0" * 64), recipe, data, folder / "package-new"
        ),
        "colour histogram": _score_colours(data, recipe),
    }
    for name, places in scores.items():
        print(name, {place: f"{100 * each['mAP']:.1f} %" for place, each in places.items()})
    _record(scores, seconds, recipe.seed)


def _draw(root: Path, recipe: dict[str, int]) -> Dataset:
    if not root.exists():
        draw_dataset(root, people=recipe["people"], cameras=recipe["cameras"], seed=recipe["seed"])
    return load_dataset("market1501", root)


def _train(dataset: Dataset, recipe: Recipe, out: Path) -> Run:
    """Train, or go on."""

    def report(event: Event) -> None:
        if event.kind in ("epoch", "validation"):
            values = {name: round(value, 4) for name, value in event.values.items()}
            print(f"epoch {event.epoch}/{event.epochs}: {values}", flush=True)

    return train(dataset, recipe, out, report=report)


def _add_seconds(run: Run) -> float:
    """Add up what the epochs of a run took, whatever process trained them."""
    lines = map(json.loads, (run.folder / "log.jsonl").read_text().splitlines())
    return sum(float(line["seconds"]) for line in lines if line["kind"] == "epoch")


def _drop_classifier(read: Checkpoint) -> Checkpoint:
    """Leave out what no vector depends on."""
    network = networks.recognise(read.tensors)
    names = networks.used_tensors(network)
    return Checkpoint({name: read.tensors[name] for name in names}, "made", "made", "0" * 64)


def _score_network(
    checkpoint: Checkpoint, recipe: Recipe, data: dict[str, Dataset], folder: Path
) -> dict[str, Figures]:
    package = export_package(checkpoint, folder, contract=recipe.contract, overwrite=True)
    with load_model(package) as model:
        return {
            name: measure(evaluate(*(embed(model, side) for side in list_sides(each))))
            for name, each in data.items()
        }


def _score_colours(data: dict[str, Dataset], recipe: Recipe) -> dict[str, Figures]:
    contract = recipe.contract
    return {
        name: measure(evaluate(*(describe_colours(side, contract) for side in list_sides(each))))
        for name, each in data.items()
    }


def _card(run: Run, seconds: float, scores: dict[str, Figures]) -> dict[str, Any]:
    return {
        "purpose": "Demonstrations with drawn people. It has never seen a real person, is of no "
        "use for pictures of real people, and may not be used for them.",
        "data": {"drawn": TRAINING, "pictures": run.data["pictures"], "people": run.classes},
        "training": {"epochs": run.epoch, "best_epoch": run.best_epoch, "seconds": round(seconds)},
        "machine": describe_machine(),
        "scores": scores,
        "scored_on": PLACES,
    }


def _record(scores: dict[str, Any], seconds: float, seed: int) -> None:
    """Keep the scores of each seed, and the latest of everything else."""
    record = disk.read_json(RECORD) if RECORD.exists() else {}
    kept = record.get("scores", {})
    timed = record.get("training_seconds", {}) | {f"seed {seed}": round(seconds)}
    content = {
        "machine": describe_machine(),
        "drawn": PLACES,
        "training_seconds": timed,
        "scores": kept | scores,
    }
    disk.write_json(RECORD, content)


if __name__ == "__main__":
    main()
