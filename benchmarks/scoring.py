"""Scoring and re-ranking against the bare matrix product, and against others' scorers.

    product             Q x G matrix product alone (numpy, all threads), a block at a time
    evaluate            `scoring.evaluate`, cosine; -euclidean; -small: with memory=256 MiB
    reference           reid-strong-baseline's metric: distances and scorer (--reference)
    torchreid           torchreid's distances and scorer, in Python; -compiled: in Cython
                        (--torchreid, --torchreid-python)
    product-all         N x N product of queries and gallery together, a block at a time
    rerank              `scoring.evaluate` with `reranking.KReciprocal`
    reference-rerank    reid-strong-baseline's metric with re-ranking (--reference)

Each is run in a fresh process, one after another, round by round; ratios are taken within a round.
Memory is the most that a process held besides the vectors that it had loaded; for vectors that
stay on disk (`mapped`), what it allocated itself and, apart, all of its pages.

The record, benchmarks/records/scoring.json, is put together of parts: a run replaces the parts
that it measures and keeps the others, so that long ones can run by themselves:

    python benchmarks/scoring.py --parts msmt17,msmt17-rerank --rounds 1
    python benchmarks/scoring.py --growth 10000,20000
    python benchmarks/scoring.py --plot

`--torchreid-python` is an interpreter of this version with Cython, setuptools and numpy. `--plot`
draws docs/scoring-growth.svg from the record.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from growth_plot import draw_growth
from machine import describe_machine
from others import compile_torchreid
from people import Size, draw_people
from reidkit import disk
from reidkit.machine import available_cores
from scoring_ways import Figures, Others, measure

RECORD = Path(__file__).parent / "records" / "scoring.json"
PLOT = Path(__file__).parent.parent / "docs" / "scoring-growth.svg"

MARKET = Size(3368, 15913, people=750, cameras=6, distractors=2793)
MSMT17 = Size(11659, 82161, people=3060, cameras=15, noise=2.4)
BESIDE = 500_000
SIZES = {
    "market": MARKET,
    "msmt17": MSMT17,
    "market-500k": dataclasses.replace(
        MARKET, gallery=15913 + BESIDE, distractors=2793 + BESIDE, mapped=True
    ),
}
QUICK = Size(120, 480, people=24, cameras=6, distractors=80, dimension=64, noise=1.4)
QUICK_SIZES = {
    "market": QUICK,
    "msmt17": dataclasses.replace(QUICK, distractors=0, cameras=15),
    "market-500k": dataclasses.replace(QUICK, gallery=2480, distractors=2080, mapped=True),
}

OURS = ("product", "evaluate", "evaluate-small", "evaluate-euclidean")
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "market": ("market", (*OURS, "torchreid-compiled")),
    "market-others": ("market", ("product", "evaluate", "torchreid", "reference")),
    "market-rerank": ("market", ("product-all", "rerank")),
    "market-rerank-others": ("market", ("product-all", "rerank", "reference-rerank")),
    "market-500k": ("market-500k", ("product", "evaluate", "evaluate-small")),
    "msmt17": ("msmt17", OURS),
    "msmt17-rerank": ("msmt17", ("product-all", "rerank")),
}
"""Name -> size and ways. Others' scorers take minutes: they have parts of their own."""


def main() -> None:
    """Measure what is asked for and put it into the record, or measure one way once."""
    options = parse()
    if options.one:
        way, size, folder, others = options.one
        found = measure(way, Size(**json.loads(size)), Path(folder), Others(*json.loads(others)))
        print(json.dumps(found))
        return
    record = json.loads(options.record.read_text()) if options.record.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = (options.keep or Path(name)) / ("quick" if options.quick else "full")
        others = find_others(options, Path(name))
        sizes = QUICK_SIZES if options.quick else SIZES
        for part in options.parts:
            size, ways = PARTS[part]
            figures = compare(
                part, sizes[size], folder / size, ways=ways, others=others, rounds=options.rounds
            )
            record.setdefault("parts", {})[part] = figures
            save(options.record, record)
        for vectors in options.growth:
            point = grow(vectors, folder / f"growth-{vectors}", quick=options.quick)
            record.setdefault("growth", {})[str(vectors)] = point
            save(options.record, record)
    if options.plot:
        options.plot.write_text(draw_growth(record["growth"]), encoding="utf-8")
        print(f"drew {options.plot}")


def parse() -> argparse.Namespace:
    """Read the command line; without parts or sizes to measure, and no plot, measure all parts."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--parts", type=_list_parts, help=f"some of {','.join(PARTS)}")
    arguments.add_argument("--growth", type=_list_sizes, help="numbers of vectors, 10000,20000")
    arguments.add_argument("--rounds", type=int, default=3, help="runs of each way of a part")
    arguments.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    arguments.add_argument("--reference", type=Path, help="checkout of reid-strong-baseline")
    arguments.add_argument("--torchreid", type=Path, help="checkout of deep-person-reid")
    arguments.add_argument("--torchreid-python", type=Path, help="interpreter that has Cython")
    arguments.add_argument("--record", type=Path, default=RECORD)
    arguments.add_argument("--plot", type=Path, nargs="?", const=PLOT, help="draw the growth")
    arguments.add_argument("--keep", type=Path, help="keep the vectors in this folder")
    arguments.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    asked = options.parts or options.growth or options.plot
    options.parts = options.parts or ([] if asked else list(PARTS))
    options.growth = options.growth or []
    if options.quick and options.record == RECORD and not options.one:
        arguments.error("--quick measures nothing worth keeping: give another file by --record")
    return options


def find_others(options: argparse.Namespace, scratch: Path) -> Others:
    """Say where others' scorers are; torchreid's is compiled where an interpreter is given."""
    extension = None
    if options.torchreid and options.torchreid_python:
        python = options.torchreid_python.absolute()
        extension = compile_torchreid(options.torchreid, python, scratch)
    places = (options.reference, options.torchreid, extension)
    return Others(*(str(place.absolute()) if place else None for place in places))


def compare(
    name: str, size: Size, folder: Path, *, ways: Sequence[str], others: Others, rounds: int
) -> dict[str, object]:
    """Measure the ways of one part in turn; the ratios are taken round by round."""
    draw_apart(folder, size)
    left_out = [way for way in ways if not others.have(way)]
    ways = [way for way in ways if way not in left_out]
    runs: dict[str, list[Figures]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways if number % 2 == 0 else ways[::-1]:
            runs[way].append(run_apart(way, folder, size, others))
            print(f"{name}, round {number + 1}: {way}", _word(runs[way][-1]), flush=True)
    ours = "rerank" if "rerank" in runs else "evaluate"
    return {
        "machine": describe_machine() | {"threads": available_cores()},
        "size": dataclasses.asdict(size),
        "rounds": rounds,
        "left_out": left_out,
        "ways": {way: _summarise(runs[way]) for way in ways},
        "over_product": {way: _ratio(runs[way], runs[ways[0]]) for way in ways[1:]},
        f"over_{ours}": {way: _ratio(runs[way], runs[ours]) for way in ways if way != ours},
    }


def grow(vectors: int, folder: Path, *, quick: bool) -> dict[str, object]:
    """Measure one point of the growth: Market-1501's shares of queries, people and cameras."""
    queries = vectors * MARKET.queries // (MARKET.queries + MARKET.gallery)
    size = dataclasses.replace(
        QUICK if quick else MARKET,
        queries=queries,
        gallery=vectors - queries,
        people=max(2, vectors // 25),
        distractors=(vectors - queries) * MARKET.distractors // MARKET.gallery,
    )
    draw_apart(folder, size)
    found: dict[str, object] = {
        "machine": describe_machine() | {"threads": available_cores()},
        "dimension": size.dimension,
        "queries": size.queries,
        "gallery": size.gallery,
    }
    for way in ("evaluate", "rerank"):
        found[way] = run_apart(way, folder, size, Others())
        print(f"{vectors} vectors: {way}", _word(found[way]), flush=True)
    return found


def draw_apart(folder: Path, size: Size) -> None:
    """Draw the vectors, unless they are there from an earlier run."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        draw_people(unfinished, size)
        unfinished.rename(folder)


def run_apart(way: str, folder: Path, size: Size, others: Others) -> Figures:
    """Measure one way in a process of its own."""
    # A thread library's setting that is made for one old processor would slow down a new one.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    given = (json.dumps(dataclasses.asdict(size)), str(folder), json.dumps(list(others)))
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, *given],
        stdout=subprocess.PIPE,
        check=True,
        env=plain,
    )
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def save(path: Path, record: dict[str, Any]) -> None:
    """Write the record, sizes of the growth in order."""
    growth = record.get("growth", {})
    if growth:
        record["growth"] = {size: growth[size] for size in sorted(growth, key=int)}
    path.parent.mkdir(exist_ok=True)
    disk.write_json(path, record)


def _summarise(runs: Sequence[Figures]) -> Figures:
    figures = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    seconds = [run["seconds"] for run in runs]
    if "product_seconds" in figures:
        figures["product_share"] = figures["product_seconds"] / figures["seconds"]
    return {**figures, "fastest": min(seconds), "slowest": max(seconds)}


def _ratio(slow: Sequence[Figures], fast: Sequence[Figures]) -> float:
    """Give the median over the rounds of how many times longer `slow` took."""
    pairs = zip(slow, fast, strict=True)
    return statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)


def _word(figures: Any) -> str:
    return "  ".join(f"{key} {value:,.4g}" for key, value in figures.items())


def _list_parts(text: str) -> list[str]:
    parts = text.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(PARTS)}")
    return parts


def _list_sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    main()
