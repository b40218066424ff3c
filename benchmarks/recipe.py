"""What each part of the recipe is worth: scores on drawn people that training has not seen.

    colours       no network: histograms of colours in horizontal stripes
    untrained     the network at random weights
    pretrained    trained to tell other drawn people apart, with the classifier's loss alone: where
                  all further rows start, as the strong baseline starts from ImageNet's weights
    softmax       trained with the classifier's loss alone, on shuffled pictures
    triplet       and the triplet loss, on people's pictures side by side: the strong baseline's
                  own start
    warm-up, erasing, smoothing, stride, bnneck, centre
                  one more part of the recipe each, in the order of the strong baseline's table
    re-ranking    the network of `centre`, its ranked lists re-ranked

Networks see a twelfth of the strong baseline's epochs: the schedule is chosen for that (a cosine),
the same for every row.

Every run that ends is a line in benchmarks/records/recipe.jsonl and is not run again with the
same settings, so the table can be made in pieces, also by several processes at once (give them
different seeds). benchmarks/records/recipe.json sums up the lines of the latest settings.

    python benchmarks/recipe.py --folder FOLDER --rows colours,untrained
    python benchmarks/recipe.py --folder FOLDER --seeds 0
    python benchmarks/recipe.py --table
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from machine import describe_machine
from recipe_rows import (
    DATA_SEED,
    FULL,
    MEASURES,
    RERANKED,
    ROWS,
    Line,
    has_stride,
    load_people,
    run_row,
)
from reidkit import disk

RECORD = Path(__file__).parent / "records" / "recipe.json"


def main() -> None:
    """Run what is missing, and sum up."""
    options = parse()
    torch.set_num_threads(options.threads)
    settings = describe_settings(options)
    lines = options.record.with_suffix(".jsonl")
    if not options.table:
        with tempfile.TemporaryDirectory() as name:
            folder = options.folder or Path(name)
            dataset = load_people(folder, settings["people"])
            for row, seed in list_missing(options, settings, read_lines(lines)):
                print(f"{row}, seed {seed}", flush=True)
                for line in run_row(row, seed, dataset, settings, folder):
                    append_line(lines, line)
    record = sum_up(read_lines(lines), settings)
    disk.write_json(options.record, record)
    print(draw_table(record))


def parse() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--rows", type=_list_rows, default=list(ROWS))
    arguments.add_argument("--seeds", type=_list_seeds, default=[0, 1, 2])
    arguments.add_argument("--people", type=int, default=300, help="to train on, and to test on")
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--architecture", default="osnet_x0_25")
    arguments.add_argument("--height", type=int, default=64)
    arguments.add_argument("--width", type=int, default=32)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--optimiser", choices=("adam", "adamw", "sgd"), default="sgd")
    arguments.add_argument("--learning-rate", type=float, default=0.02)
    arguments.add_argument("--pretraining-rate", type=float, default=0.05, help="SGD's")
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--folder", type=Path, help="keeps the pictures, and unfinished runs")
    arguments.add_argument("--record", type=Path, default=RECORD)
    arguments.add_argument("--table", action="store_true", help="run nothing, only sum up")
    return arguments.parse_args()


def describe_settings(options: argparse.Namespace) -> Line:
    """Give what a run's scores depend on beside its row and seed; lines are found by it."""
    names = ("people", "epochs", "architecture", "height", "width", "batch", "optimiser")
    return {
        **{name: getattr(options, name) for name in names},
        "learning_rate": options.learning_rate,
        "pretraining_rate": options.pretraining_rate,
        "device": options.device,
        "data_seed": DATA_SEED,
    }


def list_missing(
    options: argparse.Namespace, settings: Line, lines: Sequence[Line]
) -> list[tuple[str, int]]:
    """List the rows and seeds that have to be run, seed by seed.

    Colours know no chance, and re-ranking needs no run of its own.
    """
    done = {(line["row"], line["seed"]) for line in lines if line["settings"] == settings}
    wanted = dict.fromkeys(FULL if row == RERANKED else row for row in options.rows)
    missing = []
    for seed in options.seeds:
        for row in wanted:
            key = (row, 0 if row == "colours" else seed)
            possible = row != "stride" or has_stride(settings["architecture"])
            if possible and key not in done and key not in missing:
                missing.append(key)
    return missing


def read_lines(path: Path) -> list[Line]:
    """Read the runs that have ended; a line that a kill cut off is none."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            print(f"left out, it was cut off: {text[:60]}")
    return lines


def append_line(path: Path, line: Line) -> None:
    """Add a run at the end, in one write, since other processes may do the same."""
    print(json.dumps({name: line.get(name) for name in ("row", "seed", *MEASURES, "seconds")}))
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" * cut_off + json.dumps(line) + "\n")


def sum_up(lines: Sequence[Line], settings: Line) -> dict[str, object]:
    """Give mean and spread of each row's scores over the seeds, of the lines of these settings."""
    mine = [line for line in lines if line["settings"] == settings]
    rows: dict[str, dict[str, Any]] = {}
    for row in ROWS:
        runs = [line for line in mine if line["row"] == row and "failed" not in line]
        if runs:
            rows[row] = {name: _spread([run[name] for run in runs]) for name in MEASURES}
            rows[row]["seeds"] = sorted(run["seed"] for run in runs)
            rows[row]["seconds"] = statistics.median(run["seconds"] for run in runs)
    left_out = {
        f"{line['row']}, seed {line['seed']}": line["failed"] for line in mine if "failed" in line
    }
    if not has_stride(settings["architecture"]):
        left_out["stride"] = f"{settings['architecture']} has no last stride to choose"
    return {
        "machine": mine[-1]["machine"] if mine else describe_machine(),
        "settings": settings,
        "rows": rows,
        "left_out": left_out,
        "findings": _find(rows),
    }


def draw_table(record: dict[str, Any]) -> str:
    """Write the rows as a table in Markdown, scores in per cent."""
    lines = ["| | mAP | Rank-1 | seeds |", "|---|---|---|---|"]
    for row, found in record["rows"].items():
        scores = [
            f"{100 * found[name]['mean']:.1f} ± {100 * found[name]['deviation']:.1f}"
            for name in ("mAP", "rank1")
        ]
        lines.append(f"| {row} | {scores[0]} | {scores[1]} | {len(found['seeds'])} |")
    return "\n".join(lines)


def _find(rows: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Give the points of mAP by which the whole recipe is above what it is compared with."""
    if FULL not in rows:
        return {}
    whole = rows[FULL]["mAP"]["mean"]
    others = [row for row in ("colours", "untrained", "softmax", "triplet") if row in rows]
    return {f"mAP_over_{row}": whole - rows[row]["mAP"]["mean"] for row in others}


def _spread(values: Sequence[float]) -> Line:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.mean(values), "deviation": deviation, "runs": list(values)}


def _list_rows(text: str) -> list[str]:
    rows = text.split(",")
    if unknown := [row for row in rows if row not in ROWS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(ROWS)}")
    return rows


def _list_seeds(text: str) -> list[int]:
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    main()
