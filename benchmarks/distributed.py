"""Embedding on Ray beside embedding here: overhead a picture, two workers, memory.

    overhead    seconds a picture of `reidkit embed --engine ray` and of `reidkit embed`, for a
                fake engine that takes no time and for ResNet-50, each in processes of its own, in
                turns; with and without the engine's start
    workers     one actor with one thread against two
    memory      the most memory that all processes of a run take up together, at three sizes

Memory is the sum of the processes' proportional set sizes: shared pages are counted once.

    python benchmarks/distributed.py --parts overhead,workers,memory
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from families import list_family, measure_process
from machine import describe_machine
from reidkit import disk
from reidkit import package as packages
from reidkit.package import EngineSpec, InputSpec, ModelSpec, ReferencePictures
from service_processes import make_package

RECORD = Path(__file__).parent / "records" / "distributed.json"
PARTS = ("overhead", "workers", "memory")

Line = dict[str, Any]


def main() -> None:
    """Measure the parts asked for and keep the others as they were."""
    options = parse()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        bench = Bench(folder, options)
        for part in options.parts:
            found = getattr(bench, f"measure_{part}")()
            record[part] = record.get(part, {}) | {"machine": describe_machine()} | found
            disk.write_json(RECORD, record)
            print(json.dumps({part: record[part]}, indent=2))


def parse() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    arguments.add_argument("--pictures", type=int, default=20_000)
    arguments.add_argument("--resnet-rounds", type=int, default=1)
    arguments.add_argument(
        "--engines", type=lambda text: text.split(","), default=["fake", "resnet50"]
    )
    arguments.add_argument("--sizes", type=_list_sizes, default=[20_000, 50_000, 100_000])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--folder", type=Path, help="keeps the pictures")
    return arguments.parse_args()


class Bench:
    """The pictures and packages of a run, and how it is measured."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        folder.mkdir(parents=True, exist_ok=True)
        self.out = folder / "out"

    def measure_overhead(self) -> Line:
        """Give seconds a picture, here and on Ray, for two engines."""
        found = {}
        count, pictures = self.options.pictures, self.draw(self.options.pictures)
        for kind in self.options.engines:
            times = self.options.rounds if kind == "fake" else self.options.resnet_rounds
            package = self.make_package(kind)
            few = self.draw(_START)
            runs: dict[str, list[float]] = {name: [] for name in ("here", "ray", "start")}
            for _ in range(times):
                runs["here"].append(self.embed(package, pictures)["seconds"])
                runs["ray"].append(self.embed(package, pictures, *_RAY)["seconds"])
                runs["start"].append(
                    self.embed(package, few, *_RAY)["seconds"] - self.embed(package, few)["seconds"]
                )
            found[kind] = _compare(runs, count)
        return found

    def measure_workers(self) -> Line:
        """Give the gain of a second actor: each has one thread, and reading shares the cores."""
        package, pictures = self.make_package("resnet50"), self.draw(_FEW)
        runs: dict[str, list[float]] = {"1": [], "2": []}
        for _ in range(self.options.rounds):
            for actors, seconds in runs.items():
                given = (*_RAY, "--actors", actors, "--threads", "1")
                seconds.append(self.embed(package, pictures, *given)["seconds"])
        one, two = (statistics.median(seconds) for seconds in runs.values())
        return {"pictures": _FEW, "seconds": runs, "gain": one / two}

    def measure_memory(self) -> Line:
        """Give the most memory of all processes of a run, at growing sizes."""
        package = self.make_package("fake")
        found = []
        for count in self.options.sizes:
            run = self.embed(package, self.draw(count), *_RAY, "--part-size", "256")
            found.append({"pictures": count, **run})
        return {"runs": found}

    def embed(self, package: Path, pictures: Path, *given: str) -> Line:
        """Run `reidkit embed` in a process of its own: seconds, and peak memory in MiB."""
        shutil.rmtree(self.out, ignore_errors=True)
        command = [sys.executable, "-m", "reidkit", "embed", str(package), str(pictures)]
        began = time.perf_counter()
        process = subprocess.Popen(
            [*command, "-o", str(self.out), *given], stdout=subprocess.DEVNULL
        )
        watch = Watch(process.pid)
        if process.wait():
            raise SystemExit(f"{command} failed")
        seconds = time.perf_counter() - began
        return {"seconds": seconds, **watch.stop()}

    def draw(self, count: int) -> Path:
        """Write `count` JPEG pictures of 128 x 64, unless they are there."""
        root = self.folder / f"pictures-{count}"
        if not root.exists():
            temporary = self.folder / "drawing"
            random = np.random.default_rng(count)
            for number in range(count):
                place = temporary / f"{number // 1000:04}" / f"{number:07}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                small = random.integers(0, 256, (16, 8, 3), dtype=np.uint8)
                Image.fromarray(small).resize((64, 128)).save(place, quality=90)
            temporary.replace(root)
        return root

    def make_package(self, kind: str) -> Path:
        """Make a package, unless it is there."""
        place = self.folder / f"{kind}-package"
        if not place.exists():
            if kind == "fake":
                _make_fake(place)
            else:
                make_package(self.folder, kind, InputSpec())
        return place


_RAY = ("--engine", "ray", "--address", "local")
_START, _FEW = 64, 1_000
"""Pictures of a run that is nearly all start, and of one that is not."""


class Watch:
    """Looks at the memory of a process and all that it started, again and again."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._most = {"peak_MiB": 0.0, "driver_peak_MiB": 0.0}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> Line:
        """Give the most that was seen."""
        self._ended.set()
        self._thread.join()
        return self._most

    def _look(self) -> None:
        while not self._ended.wait(0.5):
            sizes = {each: measure_process(each) for each in list_family(self._process)}
            seen = {
                "peak_MiB": sum(sizes.values()),
                "driver_peak_MiB": sizes.get(self._process, 0.0),
            }
            self._most = {name: max(self._most[name], value) for name, value in seen.items()}


def _compare(runs: dict[str, list[float]], count: int) -> Line:
    here, ray, start = (statistics.median(runs[name]) for name in ("here", "ray", "start"))
    return {
        "pictures": count,
        "seconds": runs,
        "here_ms_a_picture": 1000 * here / count,
        "ray_ms_a_picture": 1000 * ray / count,
        "overhead_ms_a_picture": 1000 * (ray - here) / count,
        "overhead": ray / here - 1,
        "start_seconds": start,
        "overhead_ms_a_picture_after_start": 1000 * (ray - start - here) / count,
        "overhead_after_start": (ray - start) / here - 1,
    }


def _list_sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


def _make_fake(place: Path) -> None:
    place.mkdir()
    (place / "fake.json").write_text(json.dumps({"size": 512, "seed": 0}))
    pixels = np.zeros((16, 16, 8, 3), np.uint8)
    spec = ModelSpec(
        name="fake",
        architecture="fake",
        embedding_size=512,
        weights_sha256="0" * 64,
        reference_sha256=packages.write_reference(
            place, ReferencePictures(pixels, np.ones((16, 512), np.float32))
        ),
        input=InputSpec(),
        engine=EngineSpec("fake.json", disk.sha256_file(place / "fake.json"), "fake"),
    )
    packages.write_manifest(place, spec)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    main()
