"""From JPEG files to vectors: how much of the engine's speed is left, and what it costs.

Six ways over the same pictures and the same package, each in a process of its own, in turn:

    engine   the engine alone, on a batch that is ready in memory: the upper limit
    embed    reidkit's loop from JPEG files, nothing kept
    folder   the same into an embeddings folder that a killed run would resume
    files    one float32 .bin file a picture, written first and read back into batches
    loop     decode a batch, run it, decode the next, all in one thread
    ours     that loop again, with reidkit's decoding and normalising

`files` and `loop` prepare pictures with Pillow and numpy, as scripts do; `ours` shows how much of
the difference is preparing and how much is reading ahead.

`make bench` runs it; the record is benchmarks/records/pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from machine import describe_machine
from reidkit import disk, networks, preprocess
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_dataset
from reidkit.embedding import embed, embed_into, plan_embeddings
from reidkit.exporting import export_package
from reidkit.models import Model, load_model
from reidkit.package import InputSpec
from reidkit.records import Samples
from reidkit.store import EmbeddingsWriter

BATCH = 16
RECORD = Path(__file__).parent / "records" / "pipeline.json"
NETWORKS = {
    "resnet50 256x128": ("resnet50", InputSpec(), 64),
    "resnet18 128x64": ("resnet18", InputSpec(height=128, width=64), 512),
}
"""Name -> architecture, contract, pictures in a run."""

Job = Callable[[], object]


def engine(model: Model, samples: Samples, folder: Path) -> Job:
    """Run a ready batch again and again."""
    ready = preprocess.load_batch(samples.paths[:BATCH].tolist(), model.contract)
    return lambda: [model.runtime.run(ready) for _ in _starts(samples)]


def embed_only(model: Model, samples: Samples, folder: Path) -> Job:
    """Embed with reidkit, in memory."""
    return lambda: embed(model, samples, batch=BATCH)


def embed_folder(model: Model, samples: Samples, folder: Path) -> Job:
    """Embed with reidkit, into a folder."""

    def job() -> None:
        plan = plan_embeddings(model, batch=BATCH)
        with EmbeddingsWriter(folder / "embeddings", samples, plan) as writer:
            embed_into(writer, model)

    return job


def files(model: Model, samples: Samples, folder: Path) -> Job:
    """Write every input to a file of its own, then read the files back into batches."""
    shape = (3, model.contract.height, model.contract.width)

    def job() -> None:
        written = []
        for path in samples.paths:
            written.append(folder / f"{Path(path).stem}.bin")
            _prepare_plainly(path, model.contract).tofile(written[-1])
        for start in _starts(samples):
            inputs = [np.fromfile(file, np.float32) for file in written[start : start + BATCH]]
            model.runtime.run(np.stack(inputs).reshape(-1, *shape))

    return job


def loop(model: Model, samples: Samples, folder: Path) -> Job:
    """Prepare and run in turn, with Pillow and numpy."""

    def job() -> None:
        for start in _starts(samples):
            paths = samples.paths[start : start + BATCH]
            model.runtime.run(np.stack([_prepare_plainly(path, model.contract) for path in paths]))

    return job


def our_loop(model: Model, samples: Samples, folder: Path) -> Job:
    """Prepare and run in turn, with reidkit."""

    def job() -> None:
        for start in _starts(samples):
            paths = samples.paths[start : start + BATCH].tolist()
            model.runtime.run(preprocess.load_batch(paths, model.contract))

    return job


def _prepare_plainly(path: str, contract: InputSpec) -> NDArray[np.float32]:
    """Decode, resize and normalise as a script would: (3, H, W)."""
    with Image.open(path) as image:
        size = (contract.width, contract.height)
        resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(resized, np.float32) / np.float32(255)
    normal = (pixels - np.array(contract.mean, np.float32)) / np.array(contract.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


WAYS: dict[str, Callable[[Model, Samples, Path], Job]] = {
    "engine": engine,
    "embed": embed_only,
    "folder": embed_folder,
    "files": files,
    "loop": loop,
    "ours": our_loop,
}


def main() -> None:
    """Measure everything in turn and write the record, or measure one way once."""
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    arguments.add_argument("--rounds", type=int, default=7, help="runs of each way")
    arguments.add_argument("--one", nargs=4, metavar=("WAY", "PACKAGE", "DATA", "PICTURES"))
    options = arguments.parse_args()
    if options.one:
        way, package, data, pictures = options.one
        print(json.dumps(measure(way, Path(package), Path(data), int(pictures))))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_dataset(folder / "data", people=100, cameras=6)
        results = {network: compare(network, folder, rounds=options.rounds) for network in NETWORKS}
    record = {"machine": describe_machine(), "batch": BATCH, "results": results}
    RECORD.parent.mkdir(exist_ok=True)
    disk.write_json(RECORD, record)


def compare(name: str, folder: Path, *, rounds: int) -> dict[str, object]:
    """Measure all ways of one network in turn; the ratios are taken round by round."""
    architecture, contract, pictures = NETWORKS[name]
    package = folder / architecture
    save_file(networks.initial_tensors(networks.Network(architecture)), folder / "x.safetensors")
    export_package(folder / "x.safetensors", package, contract=contract)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, package, folder / "data", pictures]
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True)
            runs[way].append(json.loads(done.stdout))
        print(f"{name}: round {number + 1} of {rounds} done", flush=True)
    summary = {way: _summarise(runs[way], runs["engine"], pictures) for way in WAYS}
    for way, figures in summary.items():
        print(f"  {way:<8}", "  ".join(f"{key} {value:,.4g}" for key, value in figures.items()))
    gain = {way: _ratio(runs[way], runs["embed"]) for way in ("files", "loop", "ours")}
    print("  embed is faster than", ", ".join(f"{way} {gain[way]:.3f} x" for way in gain))
    return {"pictures": pictures, "rounds": rounds, "ways": summary, "embed_over": gain}


def measure(way: str, package: Path, data: Path, pictures: int) -> dict[str, float]:
    """Measure one way once, in this process."""
    dataset = load_dataset("market1501", data)
    paths = (dataset.train.paths.tolist() + dataset.gallery.paths.tolist())[:pictures]
    samples = Samples.from_paths(paths)
    with load_model(package) as model, tempfile.TemporaryDirectory() as name:
        job = WAYS[way](model, samples, Path(name))
        model.runtime.run(preprocess.load_batch(paths[:BATCH], model.contract))  # warm
        written = _bytes_written()
        began = time.perf_counter()
        job()
        seconds = time.perf_counter() - began
        written = _bytes_written() - written
    return {"seconds": seconds, "written": written, "peak_mib": _peak_memory()}


def _summarise(
    runs: Sequence[dict[str, float]], engines: Sequence[dict[str, float]], pictures: int
) -> dict[str, float]:
    seconds = [run["seconds"] for run in runs]
    return {
        "pictures_per_second": pictures / statistics.median(seconds),
        "slowest": pictures / max(seconds),
        "fastest": pictures / min(seconds),
        "share_of_engine": _ratio(engines, runs),
        "bytes_written_per_picture": statistics.median(run["written"] for run in runs) / pictures,
        "peak_mib": statistics.median(run["peak_mib"] for run in runs),
    }


def _ratio(slow: Sequence[dict[str, float]], fast: Sequence[dict[str, float]]) -> float:
    """Give the median over the rounds of how many times longer `slow` took."""
    pairs = zip(slow, fast, strict=True)
    return statistics.median(a["seconds"] / b["seconds"] for a, b in pairs)


def _starts(samples: Samples) -> range:
    return range(0, len(samples), BATCH)


def _bytes_written() -> int:
    """Count what this process has handed to `write` so far (Linux)."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def _peak_memory() -> float:
    """Give the most memory this process had at once, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) / 1024


if __name__ == "__main__":
    main()
