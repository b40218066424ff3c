"""How fast a network is trained: reidkit's steps against the reference's, in turn on one device.

    reference       reid-strong-baseline's own network, losses, optimisers and step (--reference)
    float32         reidkit's loop over an epoch, on batches that lie ready in memory
    float32+...     the same with other settings: channels_last, compile
    bfloat16, ...   the same in reduced precision
    ...+files       pictures drawn as JPEG files and read by the feeder, with the share of waiting

All train the strong baseline's recipe (ResNet-50, last stride 1, BNNeck; triplet, smoothed
softmax and centre loss; Adam) from the same weights in one process, round by round. Ratios are
taken within a round, of the time that passed and of the processor's. reidkit's step starts from
bytes and includes normalising and erasing; the reference gets images that are normalised already,
since its loader needs other libraries.

The record, benchmarks/records/training.json, has a part for each device and batch size: a run
replaces its own part and keeps the others.

    python benchmarks/training.py --reference CHECKOUT --batch 16
    python benchmarks/training.py --reference CHECKOUT --device cuda
    python benchmarks/training.py --profile float32,reference --reference CHECKOUT --batch 16
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from machine import describe_machine
from reidkit import disk
from reidkit.training import Recipe
from training_operations import count_operations
from training_ways import (
    PARTS,
    REFERENCE,
    Figures,
    Ours,
    Theirs,
    change_recipe,
    make_ways,
    measure_peak,
    profile,
    time_steps,
)

RECORD = Path(__file__).parent / "records" / "training.json"
CLASSES = 751
"""The people of Market-1501's training split."""

WAYS = {
    "cpu": (
        "float32",
        "float32+channels_last",
        "float32+channels_last+compile",
        "bfloat16+channels_last",
        "bfloat16+channels_last+compile",
        "bfloat16+channels_last+files",
    ),
    "cuda": (
        "float32",
        "float32+channels_last",
        "bfloat16+channels_last",
        "bfloat16+channels_last+compile",
        "bfloat16+channels_last+compile+files",
    ),
}
STEPS = {"cpu": 2, "cuda": 50}
WARM = {"cpu": 1, "cuda": 10}
"""Steps of each way that are not timed; compiling happens in the first."""

PASSES = 3
"""A step computes the network forwards, and as much again for either kind of gradient."""


def main() -> None:
    """Measure the ways in turn and put them into the record, or say where the time goes."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = Recipe(
        architecture=options.architecture,
        height=options.height,
        width=options.width,
        batch=options.batch,
        device=options.device,
        log_every=2**31 - 1,
    )
    with tempfile.TemporaryDirectory() as name:
        ways = make_ways(
            options.profile or options.ways,
            recipe,
            Path(name),
            classes=CLASSES,
            checkout=options.reference,
        )
        if options.profile:
            for way, trained in ways.items():
                trained.train(WARM[options.device])
                print(f"{way}:", *profile(trained, 3, device=options.device), sep="\n")
            return
        part = measure(ways, recipe, rounds=options.rounds, steps=options.steps)
    save(options.record, f"{options.device}-batch{options.batch}", part)


def parse() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--device", choices=tuple(WAYS), default="cpu")
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--ways", type=_list_ways, help=f"of {REFERENCE}, {', '.join(PARTS)}")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--steps", type=int, help="steps of a way in a round")
    arguments.add_argument("--threads", type=int, help="torch's threads on a CPU")
    arguments.add_argument("--reference", type=Path, help="checkout of reid-strong-baseline")
    arguments.add_argument("--profile", type=_list_ways, help="say where these ways spend time")
    arguments.add_argument("--architecture", default="resnet50")
    arguments.add_argument("--height", type=int, default=256)
    arguments.add_argument("--width", type=int, default=128)
    arguments.add_argument("--record", type=Path, default=RECORD)
    options = arguments.parse_args()
    first = (REFERENCE,) if options.reference else ()
    options.ways = options.ways or [*first, *WAYS[options.device]]
    options.steps = options.steps or STEPS[options.device]
    if REFERENCE in (options.profile or options.ways) and not options.reference:
        arguments.error("the reference is not part of this project: --reference says where it is")
    usual = (options.architecture, options.height, options.width) == ("resnet50", 256, 128)
    if not usual and options.record == RECORD and not options.profile:
        arguments.error("the record is of resnet50 at 256x128: give another file by --record")
    return options


def measure(
    ways: dict[str, Ours | Theirs], recipe: Recipe, *, rounds: int, steps: int
) -> dict[str, object]:
    """Train in each of the ways in turn, round by round."""
    load = os.getloadavg()[0]
    first_losses = {}
    for way, trained in ways.items():
        first_losses[way] = trained.train(1)["loss"]
        trained.train(WARM[recipe.device])
    runs: dict[str, list[Figures]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in list(ways)[:: 1 if number % 2 == 0 else -1]:
            found = time_steps(ways[way], steps, device=recipe.device)
            found["pictures_per_second"] = recipe.batch * steps / found["seconds"]
            runs[way].append(found)
            print(f"round {number + 1}: {way}", json.dumps(found), flush=True)
    operations = PASSES * count_operations(recipe.network(None), recipe.height, recipe.width)
    precisions = {way: _precision(recipe, way) for way in ways}
    peaks = {
        precision: measure_peak(precision, recipe.device)
        for precision in dict.fromkeys(precisions.values())
    }
    part: dict[str, object] = {
        "machine": _describe(recipe.device) | {"load_average": load},
        "remarks": _remarks(recipe.device, list(ways)),
        "architecture": recipe.architecture,
        "size": [recipe.height, recipe.width],
        "batch": recipe.batch,
        "classes": CLASSES,
        "rounds": rounds,
        "steps": steps,
        "gflop_per_picture": operations / 1e9,
        "peak_tflops": {precision: peak / 1e12 for precision, peak in peaks.items()},
        "ways": {
            way: _summarise(runs[way])
            | {"first_loss": first_losses[way]}
            | {"share_of_peak": _rate(runs[way]) * operations / peaks[precisions[way]]}
            for way in ways
        },
    }
    for base in (REFERENCE, "float32"):
        if base in ways:
            others = [way for way in ways if way not in (base, REFERENCE)]
            part[f"over_{base}"] = {way: compare(runs[base], runs[way]) for way in others}
            part[f"over_{base}_by_processor_time"] = {
                way: compare(runs[base], runs[way], by="processor_seconds") for way in others
            }
    return part


def compare(slow: Sequence[Figures], fast: Sequence[Figures], *, by: str = "seconds") -> float:
    """Give the median over the rounds of how many times longer `slow` took."""
    pairs = zip(slow, fast, strict=True)
    return statistics.median(a[by] / b[by] for a, b in pairs)


def save(path: Path, name: str, part: dict[str, object]) -> None:
    """Put a part into the record."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record.setdefault("parts", {})[name] = part
    path.parent.mkdir(exist_ok=True)
    disk.write_json(path, record)
    print(json.dumps(part, indent=2))


def _summarise(runs: Sequence[Figures]) -> Figures:
    rates = [run["pictures_per_second"] for run in runs]
    found = {"pictures_per_second": _rate(runs), "slowest": min(rates), "fastest": max(rates)}
    if "waiting" in runs[0]:
        found["waiting"] = statistics.median(run["waiting"] for run in runs)
    return found


def _rate(runs: Sequence[Figures]) -> float:
    return statistics.median(run["pictures_per_second"] for run in runs)


def _precision(recipe: Recipe, way: str) -> str:
    return "float32" if way == REFERENCE else change_recipe(recipe, way).precision


def _describe(device: str) -> dict[str, object]:
    found = describe_machine() | {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def _remarks(device: str, ways: Sequence[str]) -> list[str]:
    found = []
    if REFERENCE in ways:
        found.append("the reference's optimisers and losses are its own; its trainer is worded")
        if device == "cpu":
            found.append("torch.Tensor.cuda does nothing while the reference trains on the CPU")
    return found


def _list_ways(text: str) -> list[str]:
    ways = text.split(",")
    for way in ways:
        unknown = [part for part in way.split("+") if part not in PARTS]
        if unknown and way != REFERENCE:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(PARTS)}")
    return ways


if __name__ == "__main__":
    main()
