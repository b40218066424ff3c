"""ResNet-50 in bf16 on an NVIDIA GPU: pixels in, vectors out, batch size by batch size.

Three figures for each batch size, all from one compiled file:

    engine   the network alone, its input and output on the GPU
    graph    the same, recorded once as a CUDA graph and replayed: what launching kernels costs
    copies   `TorchRuntime.run`: pixels from memory to the GPU, vectors back

The share of the peak is the engine's floating point operations over those of a large bf16 matrix
product on the same GPU, in the same run. Run it by itself; the record is
benchmarks/records/gpu.json.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from machine import describe_machine
from reidkit import disk, networks
from reidkit.compiling import Job, Target, _torch
from reidkit.exporting import export_package
from reidkit.runtimes import load_runtime

BATCHES = (1, 4, 8, 16, 32, 64, 256, 1024)
OPERATIONS = 8.107e9
"""Floating point operations for one picture of 256x128: two for each product and its sum."""

PUBLISHED = 4417.6
"""Pictures a second at the best batch size of the published guide for this network."""

SECONDS = 2.0
RECORD = Path(__file__).parent / "records" / "gpu.json"


def main() -> None:
    """Compile, measure every batch size, and write the record."""
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit("torch is not installed: pip install 'reidkit[torch]'")
    if not torch.cuda.is_available():
        sys.exit("there is no NVIDIA GPU here that torch can use: nothing was measured")
    peak = measure_peak(torch)
    print(
        f"{torch.cuda.get_device_name()}: a bf16 matrix product runs at {peak / 1e12:.0f} TFLOP/s"
    )
    with tempfile.TemporaryDirectory() as name:
        results = {str(batch): row for batch, row in measure_network(torch, Path(name), peak)}
    best = max(row["engine"] for row in results.values())
    print(f"best: {best:,.0f} pictures/s, {best / PUBLISHED:.2f} x the published {PUBLISHED:,}")
    machine = describe_machine() | {
        "gpu": torch.cuda.get_device_name(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
    }
    RECORD.parent.mkdir(exist_ok=True)
    disk.write_json(
        RECORD,
        {
            "machine": machine,
            "peak_tflops": peak / 1e12,
            "published": PUBLISHED,
            "best_over_published": best / PUBLISHED,
            "pictures_per_second": results,
        },
    )


def measure_peak(torch: Any) -> float:
    """Give the floating point operations a second of a bf16 matrix product of 8192 a side."""
    side = 8192
    first, second = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / measure(torch, lambda: first @ second)


def measure_network(torch: Any, folder: Path, peak: float) -> list[tuple[int, dict[str, float]]]:
    """Compile ResNet-50 once and measure each batch size."""
    save_file(networks.initial_tensors(networks.Network("resnet50")), folder / "x.safetensors")
    package = export_package(folder / "x.safetensors", folder / "package")
    began = time.perf_counter()
    engine = _torch.build(Job(package, Target("torch", "bf16", device="cuda")), folder)
    print(f"compiled in {time.perf_counter() - began:.0f} s")
    runtime = load_runtime(folder / engine.file, engine, device="cuda")
    network = torch._inductor.aoti_load_package(
        str(folder / engine.file), run_single_threaded=True, device_index=0
    )
    rows = []
    for batch in BATCHES:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, 256, 128, 3), dtype=np.uint8)
        on_gpu = torch.from_numpy(pixels).cuda()
        with torch.inference_mode():
            seconds = {
                "engine": measure(torch, partial(network, on_gpu)),
                "graph": measure(torch, record(torch, network, on_gpu)),
                "copies": measure(torch, partial(runtime.run, pixels)),
            }
        row = {name: batch / value for name, value in seconds.items()}
        row["share_of_peak"] = row["engine"] * OPERATIONS / peak
        rows.append((batch, row))
        print(f"batch {batch:>4}:", "  ".join(f"{key} {row[key]:,.4g}" for key in row), flush=True)
    runtime.close()
    return rows


def record(torch: Any, network: Callable[[Any], Any], pixels: Any) -> Callable[[], object]:
    """Record the network on these pixels as a CUDA graph, and give what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is set up on the first run cannot be recorded
        for _ in range(3):
            network(pixels)
    torch.cuda.current_stream().wait_stream(stream)
    expected = network(pixels)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = network(pixels)
    graph.replay()
    if not torch.equal(output, expected):
        sys.exit("the recorded graph gives other vectors than the network: nothing was measured")
    return lambda: (graph.replay(), output)


def measure(torch: Any, job: Callable[[], object]) -> float:
    """Give the median seconds of a job, timed in runs of ten with the GPU idle at both ends."""
    for _ in range(5):
        job()
    torch.cuda.synchronize()
    times: list[float] = []
    ends = time.perf_counter() + SECONDS
    while time.perf_counter() < ends or len(times) < 5:
        began = time.perf_counter()
        for _ in range(10):
            job()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - began) / 10)
    return statistics.median(times)


if __name__ == "__main__":
    main()
