"""The Ascend guide on this machine: its first step against its script, files against streaming.

1. Preparing pictures. `reidkit ascend preprocess` against what the guide's script does: one
   process for each group of 500 files, whatever the number of cores, each picture decoded,
   resized, scaled and normalised with Pillow and numpy, and written to a `.bin` file. The
   script itself uses torch for the last steps; its import alone would cost every process a
   second or more, so numpy stands in for it here, which favours the script.
2. The whole guide on a ResNet-50, six batch sizes: `reidkit ascend guide` with every picture in a
   file (`--files`) and streaming, one after the other, each in a process of its own: wall time,
   bytes written on the way, the most memory. As in the guide, files go through the network once
   for each batch size; streaming measures each for a few seconds and scores the fastest.

Run it by itself (it takes twenty minutes): the record is benchmarks/records/guide.json.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

from machine import describe_machine
from reidkit import disk, networks
from reidkit.datasets.drawn import draw_dataset

RECORD = Path(__file__).parent / "records" / "guide.json"
GROUP = 500
BATCHES = "1,4,8,16,32,64"
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
Figures = dict[str, float]


def main() -> None:
    """Measure both and write the record, or be the guide's script for one folder."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--people", type=int, default=170)
    arguments.add_argument("--rounds", type=int, default=3, help="runs of each way to prepare")
    arguments.add_argument("--keep", type=Path, help="work here, and keep it")
    arguments.add_argument("--script", nargs=2, type=Path, metavar=("SRC", "DST"))
    options = arguments.parse_args()
    if options.script:
        run_script(*options.script)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "data").exists():
            draw_dataset(folder / "data", people=options.people, cameras=6)
        record = {
            "machine": describe_machine(),
            "preparing": compare_preparing(folder, rounds=options.rounds),
            "guide": compare_ways(folder),
        }
    disk.write_json(RECORD, record)
    print(json.dumps(record, indent=2))


def compare_preparing(folder: Path, *, rounds: int) -> dict[str, object]:
    """Prepare the gallery in both ways in turn; ratios are taken round by round."""
    source = folder / "data" / "bounding_box_test"
    pictures = len(list(source.iterdir()))
    commands = {
        "reidkit": [sys.executable, "-m", "reidkit", "ascend", "preprocess", str(source)],
        "script": [sys.executable, __file__, "--script", str(source)],
    }
    runs: dict[str, list[Figures]] = {way: [] for way in commands}
    for _ in range(rounds):
        for way, command in commands.items():
            shutil.rmtree(folder / "bins", ignore_errors=True)
            runs[way].append(run_measured([*command, str(folder / "bins")]))
    faster = [
        slow["seconds"] / fast["seconds"]
        for slow, fast in zip(runs["script"], runs["reidkit"], strict=True)
    ]
    ways = {
        way: {
            "pictures_per_second": pictures / statistics.median(r["seconds"] for r in results),
            "cpu_seconds": statistics.median(r["cpu_seconds"] for r in results),
            "peak_mib": statistics.median(r["peak_mib"] for r in results),
        }
        for way, results in runs.items()
    }
    return {"pictures": pictures, "rounds": rounds, "ways": ways, "gain": statistics.median(faster)}


def compare_ways(folder: Path) -> dict[str, object]:
    """Follow the whole guide with files and streaming."""
    checkpoint = folder / "resnet50.safetensors"
    save_file(networks.initial_tensors(networks.Network("resnet50")), checkpoint)
    results: dict[str, Figures | dict[str, object]] = {}
    for way in ("files", "streaming"):
        out = folder / way
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "reidkit", "ascend", "guide", str(checkpoint)]
        command += ["--data", str(folder / "data"), "--batch", BATCHES, "-o", str(out)]
        measured = run_measured([*command, *(["--files"] if way == "files" else [])])
        result = json.loads((out / "guide.json").read_bytes())
        results[way] = measured | {
            "bytes_written": result["bytes_written"],
            "steps": result["seconds"],
            "accuracy": result["accuracy"],
            "throughput": result["throughput"],
        }
    return {"batches": BATCHES, "ways": results}


def run_measured(command: Sequence[str]) -> Figures:
    """Run a command: wall and processor seconds, and the most memory of it and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    peaks: dict[int, int] = {}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for number in (process.pid, *_children(process.pid)):
                peaks[number] = max(peaks.get(number, 0), _peak_memory(number))
            time.sleep(0.02)
        seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": seconds,
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_mib": sum(peaks.values()) / 1024,
    }


def _children(process: int) -> list[int]:
    """List the processes that a process has started (Linux)."""
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


def _peak_memory(process: int) -> int:
    """Give the most memory that a process has had so far, in KiB (Linux)."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def run_script(source: Path, destination: Path) -> None:
    """Do what the guide's script does, in its way: one process for each 500 files."""
    destination.mkdir(parents=True, exist_ok=True)
    files = sorted(source.iterdir())
    groups = [files[start : start + GROUP] for start in range(0, len(files), GROUP)]
    with multiprocessing.get_context("fork").Pool(math.ceil(len(files) / GROUP)) as pool:
        pool.starmap(prepare_group, [(group, destination) for group in groups], chunksize=1)


def prepare_group(files: Sequence[Path], destination: Path) -> None:
    """Prepare one group, picture by picture."""
    for file in files:
        with Image.open(file) as image:
            resized = image.convert("RGB").resize((128, 256), Image.Resampling.BILINEAR)
        scaled = np.asarray(resized).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        normal = (scaled - MEAN[:, None, None]) / STD[:, None, None]
        normal.tofile(destination / f"{file.name.partition('.')[0]}.bin")


if __name__ == "__main__":
    main()
