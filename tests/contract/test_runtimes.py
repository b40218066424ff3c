"""The contract of every runtime: a runtime is finished when this file passes with it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from reidkit.errors import EngineError
from reidkit.package import EngineSpec, Inputs, InputSpec, ModelSpec, Package, Takes
from reidkit.runtimes import Runtime, load_runtime

HEIGHT, WIDTH, SIZE = 32, 16, 6


def write_fake(folder: Path, batch: int | None) -> tuple[Path, EngineSpec]:
    path = folder / "fake.json"
    path.write_text(f'{{"size": {SIZE}, "seed": 3}}')
    return path, EngineSpec(path.name, "0" * 64, "fake", batch)


def write_onnx(folder: Path, batch: int | None) -> tuple[Path, EngineSpec]:
    """Write a small convolutional network: conv, relu, global average, flatten, dense."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {
        "conv": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "dense": random.standard_normal((4, SIZE)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "dense"], ["embedding"]),
    ]
    rows = batch or "batch"
    floats = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", floats, [rows, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("embedding", floats, [rows, SIZE])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path, EngineSpec(path.name, "0" * 64, "onnxruntime", batch)


def write_openvino(folder: Path, batch: int | None) -> tuple[Path, EngineSpec]:
    """Convert the same small network."""
    from reidkit.runtimes import _openvino_library

    model = _openvino_library.read_model(write_onnx(folder, batch)[0])
    path = folder / "model.xml"
    _openvino_library.write_model(model, path)
    return path, EngineSpec(path.name, "0" * 64, "openvino", batch)


def write_torch(folder: Path, batch: int | None) -> tuple[Path, EngineSpec]:
    """Compile the same small network, which takes seconds and so happens once a process."""
    from reidkit.compiling import _torch

    if not _torch.support().precisions:
        pytest.skip(_torch.support().hint)
    data, engine = _compile_with_torch(batch)
    path = folder / engine.file
    path.write_bytes(data)
    return path, engine


@functools.cache
def _compile_with_torch(batch: int | None) -> tuple[bytes, EngineSpec]:
    from reidkit.compiling import Job, Target, _torch

    contract = InputSpec(height=HEIGHT, width=WIDTH)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, source = write_onnx(folder, batch)
        spec = ModelSpec("tiny", "tiny", SIZE, "w" * 64, "r" * 64, contract, source)
        engine = _torch.build(Job(Package(folder, spec), Target("torch", batch=batch)), folder)
        return (folder / engine.file).read_bytes(), engine


Writer = Callable[[Path, int | None], tuple[Path, EngineSpec]]
RUNTIMES: dict[str, tuple[str, Writer]] = {
    "fake": ("numpy", write_fake),
    "onnxruntime": ("onnxruntime", write_onnx),
    "openvino": ("openvino", write_openvino),
    "torch": ("torch", write_torch),
}


def open_runtime(name: str, folder: Path, batch: int | None = None) -> Runtime:
    library, write = RUNTIMES[name]
    if util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    path, engine = write(folder, batch)
    return load_runtime(path, engine)


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    opened = open_runtime(request.param, tmp_path)
    yield opened
    opened.close()


def pictures(count: int, takes: Takes = "tensor") -> Inputs:
    random = np.random.default_rng(1)
    if takes == "pixels":
        return random.integers(0, 255, (count, HEIGHT, WIDTH, 3), dtype=np.uint8)
    return random.standard_normal((count, 3, HEIGHT, WIDTH), dtype=np.float32)


def test_it_says_what_it_is(runtime: Runtime) -> None:
    assert runtime.name in RUNTIMES
    assert runtime.device == "cpu"
    assert runtime.batch is None


def test_a_row_for_each_picture(runtime: Runtime) -> None:
    vectors = runtime.run(pictures(5, runtime.takes))
    assert vectors.shape == (5, SIZE)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == 5


def test_the_same_input_gives_the_same_bits(runtime: Runtime) -> None:
    assert np.array_equal(
        runtime.run(pictures(4, runtime.takes)), runtime.run(pictures(4, runtime.takes))
    )


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_a_row_does_not_depend_on_its_batch(runtime: Runtime, batch: int) -> None:
    inputs = pictures(7, runtime.takes)
    parts = [runtime.run(inputs[i : i + batch]) for i in range(0, 7, batch)]
    np.testing.assert_allclose(np.concatenate(parts), runtime.run(inputs), rtol=1e-5, atol=1e-6)


def test_the_output_is_not_overwritten_by_the_next_run(runtime: Runtime) -> None:
    first = runtime.run(pictures(2, runtime.takes))
    kept = first.copy()
    runtime.run(pictures(2, runtime.takes) + 1)
    assert np.array_equal(first, kept)


WRONG: dict[Takes, list[tuple[tuple[int, ...], type]]] = {
    "tensor": [
        ((3, HEIGHT, WIDTH), np.float32),
        ((0, 3, HEIGHT, WIDTH), np.float32),
        ((1, 4, HEIGHT, WIDTH), np.float32),
        ((1, 3, HEIGHT, WIDTH), np.float64),
        ((1, 3, HEIGHT, WIDTH), np.uint8),
    ],
    "pixels": [
        ((HEIGHT, WIDTH, 3), np.uint8),
        ((0, HEIGHT, WIDTH, 3), np.uint8),
        ((1, HEIGHT, WIDTH, 4), np.uint8),
        ((1, HEIGHT, WIDTH, 3), np.int8),
        ((1, HEIGHT, WIDTH, 3), np.float32),
    ],
}


@pytest.mark.parametrize("case", range(5))
def test_a_wrong_input_is_refused(runtime: Runtime, case: int) -> None:
    wanted = {"tensor": r"\(B, 3, H, W\) float32", "pixels": r"\(B, H, W, 3\) uint8"}
    shape, dtype = WRONG[runtime.takes][case]
    with pytest.raises(EngineError, match=wanted[runtime.takes]):
        runtime.run(np.zeros(shape, dtype))


def test_a_closed_runtime_says_so(runtime: Runtime) -> None:
    runtime.close()
    runtime.close()
    with pytest.raises(EngineError, match="closed"):
        runtime.run(pictures(1, runtime.takes))


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_fixed_batch_is_kept_to(name: str, tmp_path: Path) -> None:
    fixed = open_runtime(name, tmp_path, batch=4)
    assert fixed.batch == 4
    assert fixed.run(pictures(4, fixed.takes)).shape == (4, SIZE)
    with pytest.raises(EngineError, match="takes batches of 4, got 3"):
        fixed.run(pictures(3, fixed.takes))
    fixed.close()


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_damaged_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    library, write = RUNTIMES[name]
    if util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    path, engine = write(tmp_path, None)
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(EngineError, match=path.name):
        load_runtime(path, engine)
