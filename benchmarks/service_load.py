"""Throughput of a real server under 32 clients, beside its engine alone and beside no batching.

The clients, the server's HTTP and the decoding of JPEG files share the cores with the engine.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reidkit.benchmarking import Speed, benchmark
from reidkit.datasets.drawn import draw_crops
from reidkit.package import InputSpec, Package, read_package
from service_processes import Server, make_gallery, make_package, start_server
from service_requests import Answers, ask, draw_jpegs, write_embed, write_infer

CLIENTS = 32
BATCHES = (1, 8, 16, 32)
NETWORKS = {
    "resnet50 256x128": ("resnet50", InputSpec(), 10),
    "resnet18 128x64": ("resnet18", InputSpec(height=128, width=64), 100),
}
"""Name -> architecture, contract, requests of each client in a round."""

Figures = dict[str, object]


def measure(*, rounds: int) -> Figures:
    """Measure each network: a server with its default batches, and one that runs one at a time."""
    with tempfile.TemporaryDirectory() as name:
        networks = {network: _measure(network, Path(name), rounds) for network in NETWORKS}
    return {"clients": CLIENTS, "rounds": rounds, "networks": networks}


def _measure(network: str, folder: Path, rounds: int) -> Figures:
    architecture, contract, each = NETWORKS[network]
    package = read_package(make_package(folder, architecture, contract))
    requests = _write_requests(package)
    speeds: list[Speed] = []
    runs: dict[str, list[Answers]] = {}
    cpu: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        servers = {}
        starts = {}
        for name, options in (("batched", ()), ("one at a time", ("--batch", "1"))):
            gallery = make_gallery(folder / f"{architecture} {name}", package.folder)
            servers[name] = start_server(package.folder, gallery, options=options)
            stack.callback(servers[name].stop)
            starts[name] = _measure_start(servers[name], requests["embed"][0])
        for number in range(rounds):
            speeds += benchmark([package], batches=BATCHES, seconds=2.0)
            ways = [(name, kind) for kind in requests for name in servers]
            for name, kind in ways if number % 2 == 0 else ways[::-1]:
                server, sent = servers[name], requests[kind]
                ask(server.port, sent, clients=CLIENTS, each=2)  # warm
                before = server.look().cpu_seconds
                answers = ask(server.port, sent, clients=CLIENTS, each=each)
                spent = server.look().cpu_seconds - before
                runs.setdefault(f"{kind}, {name}", []).append(answers)
                cpu.setdefault(f"{kind}, {name}", []).append(spent)
                print(f"  {network}: {kind}, {name}: {answers.rate:.1f}/s", flush=True)
        lone = ask(servers["batched"].port, requests["embed"], clients=1, each=each)
    engine = [speed.at(speed.best_batch).engine_rate for speed in speeds]
    decoding = [speed.at(speed.best_batch).end_to_end_rate for speed in speeds]
    return {
        "start": starts["batched"],
        "engine": {
            "pictures_per_second": statistics.median(engine),
            "best_batches": [speed.best_batch for speed in speeds],
            "from_jpeg_files_per_second": statistics.median(decoding),
            "batch_1_per_second": statistics.median(speed.at(1).engine_rate for speed in speeds),
        },
        "ways": {
            way: _summarise(answers, engine, decoding, cpu[way]) for way, answers in runs.items()
        },
        "one_client": _spread(lone.latencies) | {"requests_per_second": lone.rate},
        "batched_over_one_at_a_time": {
            kind: statistics.median(
                fast.rate / slow.rate
                for fast, slow in zip(
                    runs[f"{kind}, batched"], runs[f"{kind}, one at a time"], strict=True
                )
            )
            for kind in requests
        },
    }


def _write_requests(package: Package) -> dict[str, list[bytes]]:
    height, width = package.spec.input.height, package.spec.input.width
    pixels = draw_crops(CLIENTS, height=height, width=width, seed=1)
    return {
        "embed": [write_embed(jpeg) for jpeg in draw_jpegs(CLIENTS, height=height, width=width)],
        "infer": [write_infer(np.ascontiguousarray(each), package.spec.name) for each in pixels],
    }


def _measure_start(server: Server, request: bytes) -> Figures:
    """Say how long the first answer took from the start, and what an idle server holds."""
    began = time.perf_counter()
    ask(server.port, [request], clients=1, each=1)
    answered = server.seconds + time.perf_counter() - began
    time.sleep(3)
    held = server.look()
    return {
        "listening_seconds": server.seconds,
        "first_answer_seconds": answered,
        "idle_mib": held.rss_mib,
        "idle_threads": held.threads,
    }


def _summarise(
    runs: Sequence[Answers],
    engine: Sequence[float],
    decoding: Sequence[float],
    cpu: Sequence[float],
) -> Figures:
    statuses: dict[str, int] = {}
    for run in runs:
        for status, count in run.statuses.items():
            statuses[str(status)] = statuses.get(str(status), 0) + count
    requests = [len(run.latencies) for run in runs]
    return {
        "requests_per_second": statistics.median(run.rate for run in runs),
        "share_of_engine": _ratio(runs, engine),
        "share_of_engine_from_jpeg_files": _ratio(runs, decoding),
        "latency": _spread([seconds for run in runs for seconds in run.latencies]),
        "statuses": statuses,
        "server_cpu_ms_per_request": statistics.median(
            1000 * spent / count for spent, count in zip(cpu, requests, strict=True)
        ),
        "client_cpu_ms_per_request": statistics.median(
            1000 * run.cpu_seconds / count for run, count in zip(runs, requests, strict=True)
        ),
    }


def _ratio(runs: Sequence[Answers], rates: Sequence[float]) -> float:
    """Give the median over the rounds of a way's share of a rate of the same round."""
    return statistics.median(run.rate / rate for run, rate in zip(runs, rates, strict=True))


def _spread(latencies: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(latencies) * 1000, (50, 99))
    return {"p50_ms": float(p50), "p99_ms": float(p99), "count": len(latencies)}
