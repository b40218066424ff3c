"""Small networks, and ways to damage what was compiled from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from reidkit import disk, package, preprocess
from reidkit.benchmarking import STAGES, BatchSpeed, Setting, Speed, Spread
from reidkit.datasets import load_dataset
from reidkit.datasets.drawn import draw_crops, draw_dataset
from reidkit.models import load_model
from reidkit.package import EngineSpec, ModelSpec, Package, ReferencePictures, read_package
from reidkit.records import Dataset, Progress, Samples
from reidkit.verifying import replay_reference
from tests.pictures import SMALL

CHANNELS, SIZE = 8, 64
Graph = Any
"""An onnx.GraphProto, whose fields no type checker knows."""

Change = Callable[[Graph], None]


def draw_people(folder: Path, *, people: int = 12) -> Dataset:
    """Draw a data set of few people, 3 cameras."""
    draw_dataset(folder, people=people, cameras=3, seed=5, workers=1)
    return load_dataset("market1501", folder)


def write_tiny(
    folder: Path, *, tail: Sequence[Any] = (), weights: Mapping[str, NDArray[Any]] | None = None
) -> Package:
    """Make a package of three convolutions and means over a grid; `tail` goes before the output.

    Nodes of a tail take `vector` and give `embedding`.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(1)
    values: dict[str, NDArray[Any]] = {}
    for number, channels in enumerate((3, CHANNELS, CHANNELS), 1):
        kernel = random.standard_normal((CHANNELS, channels, 3, 3)) / 3
        values[f"w{number}"] = kernel.astype(np.float32)
        values[f"b{number}"] = (random.standard_normal(CHANNELS) / 10).astype(np.float32)
    make, pads = helper.make_node, [1, 1, 1, 1]
    nodes = [
        make("Conv", ["image", "w1", "b1"], ["c1"], "conv1", pads=pads, strides=[2, 2]),
        make("Relu", ["c1"], ["r1"], "relu1"),
        make("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=pads, strides=[2, 2]),
        make("Relu", ["c2"], ["r2"], "relu2"),
        make("Conv", ["r2", "w3", "b3"], ["c3"], "conv3", pads=pads),
        make("AveragePool", ["c3"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        make("Flatten", ["pooled"], ["vector" if tail else "embedding"], "flatten"),
        *tail,
    ]
    floats = onnx.TensorProto.FLOAT
    shape: list[str | int | None] = ["batch", 3, SMALL.height, SMALL.width]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", floats, shape)],
        [helper.make_tensor_value_info("embedding", floats, ["batch", SIZE])],
        [numpy_helper.from_array(v, name) for name, v in {**values, **(weights or {})}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return describe(folder, "model.onnx")


def write_fake(folder: Path, *, seed: int = 0, size: int = SIZE) -> Package:
    """Make a package that needs no engine."""
    folder.mkdir(parents=True)
    (folder / "fake.json").write_text(f'{{"size": {size}, "seed": {seed}}}')
    return describe(folder, "fake.json", runtime="fake", size=size)


def describe(folder: Path, file: str, *, runtime: str = "onnxruntime", size: int = SIZE) -> Package:
    """Make a package around an engine file, with the reference vectors that it gives itself."""
    pixels = draw_crops(16, height=40, width=20, seed=1)
    engine = EngineSpec(file, disk.sha256_file(folder / file), runtime)
    spec = ModelSpec("tiny", "tiny", size, "0" * 64, "0" * 64, SMALL, engine)
    blank = ReferencePictures(pixels, np.ones((16, size), np.float32))
    with load_model(Package(folder, spec)) as model:
        vectors = replay_reference(model, blank).vectors
    sha256 = package.write_reference(folder, ReferencePictures(pixels, vectors))
    return package.write_manifest(folder, dataclasses.replace(spec, reference_sha256=sha256))


def damage(compiled: Package, change: Change) -> Package:
    """Change a compiled package's graph as if the compiler had done it: its hashes are right."""
    model: Any = onnx.load_model(compiled.engine_file)
    change(model.graph)
    onnx.save_model(model, compiled.engine_file)
    sha256 = disk.sha256_file(compiled.engine_file)
    engine = dataclasses.replace(compiled.spec.engine, sha256=sha256)
    package.write_manifest(compiled.folder, dataclasses.replace(compiled.spec, engine=engine))
    return read_package(compiled.folder)


def scale(name: str, factor: float) -> Change:
    """Multiply the weights called `name`."""
    return replace(name, lambda values: values * np.float32(factor))


def replace(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Change:
    """Change the weights called `name`."""

    def apply(graph: Graph) -> None:
        (tensor,) = (each for each in graph.initializer if each.name == name)
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))

    return apply


def together(*changes: Change) -> Change:
    """Make several changes."""

    def apply(graph: Graph) -> None:
        for change in changes:
            change(graph)

    return apply


def insert_after(
    value: str, nodes: Sequence[Any], weights: Mapping[str, NDArray[Any]] | None = None
) -> Change:
    """Put nodes after a value: they take `<value>.before` and give it under its own name."""

    def apply(graph: Graph) -> None:
        place = next(i for i, node in enumerate(graph.node) if value in node.output)
        graph.node[place].output[0] = f"{value}.before"
        for offset, node in enumerate(nodes, 1):
            graph.node.insert(place + offset, node)
        add_weights(graph, weights or {})

    return apply


def reorder_input(axis: int, order: Sequence[int]) -> Change:
    """Take the input's rows along an axis in another order before anything else."""

    def apply(graph: Graph) -> None:
        for node in graph.node:
            node.input[:] = ["reordered" if name == "image" else name for name in node.input]
        add_weights(graph, {"order": np.array(order, np.int64)})
        node = helper.make_node("Gather", ["image", "order"], ["reordered"], "gather", axis=axis)
        graph.node.insert(0, node)

    return apply


def mix(value: str, share: float = 0.5) -> Change:
    """Add a share of the batch's mean to an inner value."""
    nodes = [
        helper.make_node("ReduceMean", [f"{value}.before"], ["m"], "mean", axes=[0], keepdims=1),
        helper.make_node("Mul", ["m", "share"], ["n"], "share_of_mean"),
        helper.make_node("Add", [f"{value}.before", "n"], [value], "mixing"),
    ]
    return insert_after(value, nodes, {"share": np.array([share], np.float32)})


def spoil_batches_of(value: str, size: int) -> Change:
    """Shift an inner value in batches of one size only, as a wrong kernel for it would."""
    make = helper.make_node
    nodes = [
        make("Shape", [f"{value}.before"], ["shape"], "shape"),
        make("Gather", ["shape", "zero"], ["rows"], "rows"),
        make("Equal", ["rows", "size"], ["hit"], "hit"),
        make("Cast", ["hit"], ["amount"], "amount", to=onnx.TensorProto.FLOAT),
        make("Mul", ["amount", "shift"], ["shifted"], "shifted"),
        make("Add", [f"{value}.before", "shifted"], [value], "spoiling"),
    ]
    weights: dict[str, NDArray[Any]] = {
        "zero": np.array(0, np.int64),
        "size": np.array(size, np.int64),
        "shift": np.linspace(-1, 1, CHANNELS, dtype=np.float32)[:, None, None],
    }
    return insert_after(value, nodes, weights)


def collapse_to_a_point() -> Change:
    """Make every vector nearly the same one."""
    make = helper.make_node
    nodes = [
        make("Mul", ["embedding.before", "little"], ["noise"], "little"),
        make("Add", ["noise", "point"], ["embedding"], "point"),
    ]
    point = np.random.default_rng(0).standard_normal(SIZE).astype(np.float32)
    return insert_after("embedding", nodes, {"little": np.array(1e-4, np.float32), "point": point})


def collapse_to_a_line() -> Change:
    """Make every vector a multiple of one, of either sign."""
    random = np.random.default_rng(0)
    line = np.outer(random.standard_normal(SIZE), random.standard_normal(SIZE))
    node = helper.make_node("MatMul", ["embedding.before", "line"], ["embedding"], "line")
    return insert_after("embedding", [node], {"line": line.astype(np.float32)})


def give_nan() -> Change:
    """Make every vector NaN."""
    nodes = [
        helper.make_node("Sub", ["embedding.before", "embedding.before"], ["nothing"], "nothing"),
        helper.make_node("Div", ["nothing", "nothing"], ["embedding"], "nan"),
    ]
    return insert_after("embedding", nodes)


def add_weights(graph: Graph, weights: Mapping[str, NDArray[Any]]) -> None:
    graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in weights.items())


def decode_some(samples: Samples, count: int) -> list[NDArray[np.uint8]]:
    """Decode pictures from all over the samples."""
    rows = np.linspace(0, len(samples) - 1, count).astype(int)
    return [preprocess.decode(path) for path in samples.paths[rows]]


def make_speed(measured: Package, batches: Sequence[int], rate: float) -> Speed:
    """Give a made-up speed, the same at every batch size."""
    spec = measured.spec
    spread = Spread(0.1, 0.1, 0.1, 0.1, 0.1, 4)
    stages = dict.fromkeys(STAGES, 0.001)
    fixed = spec.engine.batch
    speeds = tuple(
        BatchSpeed(batch, spread, spread, rate, rate, stages, 0.0)
        for batch in ([fixed] if fixed else batches)
    )
    best, runtime = speeds[0].batch, spec.engine.runtime
    identity = spec.engine.identity
    return Speed(
        spec.name, identity, spec.engine.precision, runtime, "cpu", 1, speeds, best, 0.1, 1, 1
    )


def fake_benchmark(
    monkeypatch: pytest.MonkeyPatch, *, rates: tuple[float, float] = (100.0, 200.0)
) -> list[list[int]]:
    """Put made-up speeds in place of timing; gives the batch sizes asked for, call by call."""
    asked: list[list[int]] = []

    def benchmark(
        packages: Sequence[Package],
        samples: Samples,
        *,
        batches: Sequence[int],
        seconds: float,
        setting: Setting,
        progress: Progress | None,
    ) -> list[Speed]:
        asked.append(list(batches))
        if progress is not None:
            progress(1, 1)
        return [make_speed(p, batches, rate) for p, rate in zip(packages, rates, strict=True)]

    monkeypatch.setattr("reidkit.certifying._certify.benchmark", benchmark)
    return asked
