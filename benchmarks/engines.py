"""How fast a ResNet-50 runs on this CPU: our compiled packages, plain torch, and what is possible.

    peak      a large float32 matrix product (numpy): the processor's limit, as pictures a second
    eager     torch as most scripts run it: float32, batch norms not folded
    TARGET-PRECISION
              a package compiled for a target: its engine alone on a batch that is ready in memory

Each runs in a process of its own, in turn, at every batch size; rounds alternate. ResNet-50 at
256x128 takes 8.107 GFLOP a picture (two for a multiplication and an addition).

Run it by itself (it takes a quarter of an hour): the record is benchmarks/records/engines.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from machine import describe_machine
from reidkit import disk, networks
from reidkit.compiling import Target, compile_package, find_calibration, supported_targets
from reidkit.datasets.drawn import draw_dataset
from reidkit.exporting import export_package
from reidkit.models import load_model
from reidkit.package import read_package
from reidkit.preprocess import empty_batch

BATCHES = (1, 4, 8, 16, 32, 64, 128)
GFLOP = 8.107
RECORD = Path(__file__).parent / "records" / "engines.json"
_SIDE = 3072
_RUNS = 2

Rates = dict[str, float]
"""Batch size -> pictures a second."""


def main() -> None:
    """Measure everything in turn and write the record, or measure one way once."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--rounds", type=int, default=3, help="runs of each way")
    arguments.add_argument("--one", nargs=2, metavar=("WAY", "FOLDER"))
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], Path(options.one[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = ["peak", "eager", *prepare(folder)]
        rounds: dict[str, list[Rates]] = {way: [] for way in ways}
        for number in range(options.rounds):
            for way in ways if number % 2 == 0 else ways[::-1]:
                rounds[way].append(run_apart(way, folder))
                print(f"round {number + 1}: {way}", rounds[way][-1], flush=True)
    results = {way: summarise(rates) for way, rates in rounds.items()}
    record = {
        "machine": describe_machine(),
        "gflop_per_picture": GFLOP,
        "rounds": options.rounds,
        "pictures_per_second": results,
        "findings": find(results),
    }
    disk.write_json(RECORD, record)
    print(json.dumps(record["findings"], indent=2))


def prepare(folder: Path) -> list[str]:
    """Export the network and compile it for every target and precision that works here."""
    save_file(networks.initial_tensors(networks.Network("resnet50")), folder / "x.safetensors")
    package = export_package(folder / "x.safetensors", folder / "package")
    draw_dataset(folder / "data", people=20, cameras=4)
    calibration = find_calibration(folder / "data", count=64)
    made = []
    for target, support in supported_targets().items():
        for precision in support.precisions:
            way = f"{target}-{precision}"
            compile_package(
                package,
                folder / way,
                target=Target(target, precision),
                calibration=calibration if precision == "int8" else None,
                accept=lambda candidate: None,
            )
            made.append(way)
            print(f"compiled {way}", flush=True)
    return made


def run_apart(way: str, folder: Path) -> Rates:
    """Measure one way in a process of its own."""
    # A thread library's setting that is made for one old processor would slow down a new one.
    plain = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
    done = subprocess.run(
        [sys.executable, __file__, "--one", way, str(folder)],
        stdout=subprocess.PIPE,
        check=True,
        env=plain,
    )
    rates: Rates = json.loads(done.stdout.splitlines()[-1])
    return rates


def measure(way: str, folder: Path) -> Rates:
    """Measure one way once, in this process, at every batch size."""
    if way == "peak":
        return {"any": measure_peak() / GFLOP}
    if way == "eager":
        return measure_runs(make_eager())
    with load_model(read_package(folder / way)) as model:
        contract, takes = model.contract, model.runtime.takes

        def make(batch: int) -> Callable[[], object]:
            inputs = empty_batch(batch, contract, takes)
            noise = np.random.default_rng(0).integers(0, 255, inputs.shape)
            inputs[:] = noise if takes == "pixels" else noise / 128 - 1
            return lambda: model.run(inputs)

        return measure_runs(make)


def measure_runs(make: Callable[[int], Callable[[], object]]) -> Rates:
    """Time runs at every batch size: the median of several, after one that is not counted."""
    rates = {}
    for batch in BATCHES:
        job = make(batch)
        job()
        seconds = []
        for _ in range(max(_RUNS, 16 // batch)):
            began = time.perf_counter()
            job()
            seconds.append(time.perf_counter() - began)
        rates[str(batch)] = batch / statistics.median(seconds)
    return rates


def make_eager() -> Callable[[int], Callable[[], object]]:
    """Build the network in torch as its training code does: convolution, batch norm, ReLU."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):  # type: ignore[misc]
        """Three convolutions and a shortcut."""

        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            outputs = 4 * width
            self.layers = nn.Sequential(
                nn.Conv2d(inputs, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.Conv2d(width, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = nn.Sequential()
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )
            self.relu = nn.ReLU(inplace=True)

        def forward(self, value: Any) -> Any:
            return self.relu(self.layers(value) + self.shortcut(value))

    parts: list[Any] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
    parts.append(nn.MaxPool2d(3, 2, 1))
    inputs = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 1)):
        for place in range(depth):
            parts.append(Bottleneck(inputs, width, stride if place == 0 else 1))
            inputs = 4 * width
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(inputs)]
    module = nn.Sequential(*parts).eval()

    def make(batch: int) -> Callable[[], object]:
        pixels = torch.randn(batch, 3, 256, 128)

        def job() -> object:
            with torch.no_grad():
                return module(pixels)

        return job

    return make


def measure_peak() -> float:
    """Give the GFLOP a second of a large float32 matrix product, the best of many."""
    left, right = np.random.default_rng(0).standard_normal((2, _SIDE, _SIDE), dtype=np.float32)
    out = np.empty((_SIDE, _SIDE), np.float32)
    seconds = []
    for _ in range(12):
        began = time.perf_counter()
        np.matmul(left, right, out=out)
        seconds.append(time.perf_counter() - began)
    return 2 * _SIDE**3 / min(seconds) / 1e9


def summarise(rates: list[Rates]) -> Rates:
    """Take the median over the rounds at each batch size."""
    return {batch: statistics.median(rate[batch] for rate in rates) for batch in rates[0]}


def find(results: dict[str, Rates]) -> dict[str, object]:
    """Compare what matters: ratios to torch eager, to the peak, and int8 to float."""
    packages = {way: rates for way, rates in results.items() if way not in ("peak", "eager")}
    floats = {way: max(rates.values()) for way, rates in packages.items() if way.endswith("fp32")}
    best = max(floats, key=lambda way: floats[way])
    eager = results["eager"]
    return {
        "best_fp32": best,
        "over_eager_at_its_best_batch": floats[best] / max(eager.values()),
        "over_eager_at_batch_128": floats[best] / eager["128"],
        "share_of_peak": floats[best] / results["peak"]["any"],
        "over_own_fp32": {
            way: max(rates.values()) / floats[way.split("-")[0] + "-fp32"]
            for way, rates in packages.items()
            if not way.endswith("fp32")
        },
        "lowest_share_of_best_above_best_batch": {
            way: fall_above_best(rates) for way, rates in packages.items()
        },
    }


def fall_above_best(rates: Rates) -> float:
    """Give the lowest rate at or above the best batch size, as a share of the best."""
    best = max(rates, key=lambda batch: rates[batch])
    return min(rate for batch, rate in rates.items() if int(batch) >= int(best)) / rates[best]


if __name__ == "__main__":
    main()
