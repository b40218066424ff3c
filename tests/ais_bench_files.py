"""Tiny models and input files whose right outputs can be told by hand, and the tool run on them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from reidkit.cli import reidkit_command
from reidkit.errors import ReidkitError

Pictures = dict[str, NDArray[np.float32]]
"""File name -> what is in it."""

SHAPE = (3, 2, 2)
"""Of one picture."""

SIZE = 12
"""Values in one picture, 4 bytes each."""

Rows = int | str


def write_echo(path: str, batch: int | None = None) -> None:
    """`class` is each picture's values in a row."""
    nodes = [helper.make_node("Flatten", ["image"], ["class"])]
    _write_pictures_model(path, batch, nodes, {"class": TensorProto.FLOAT})


def write_mixing(path: str, batch: int) -> None:
    """`class` is each picture's values plus the sum over all rows of its run, padding included."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("ReduceSum", ["flat", "axis"], ["sum"], keepdims=1),
        helper.make_node("Add", ["flat", "sum"], ["class"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    _write_pictures_model(path, batch, nodes, {"class": TensorProto.FLOAT}, [axis])


def write_two_outputs(path: str, batch: int) -> None:
    """`class` is each picture's values, `whole` these cut to int32."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["class"]),
        helper.make_node("Cast", ["class"], ["whole"], to=TensorProto.INT32),
    ]
    kinds = {"class": TensorProto.FLOAT, "whole": TensorProto.INT32}
    _write_pictures_model(path, batch, nodes, kinds)


def write_columns(path: str, batch: int) -> None:
    """`class` has a column, not a row, for each picture."""
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["class"], perm=[1, 0]),
    ]
    taken = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *SHAPE])]
    given = [helper.make_tensor_value_info("class", TensorProto.FLOAT, [SIZE, batch])]
    _save(path, nodes, taken, given)


def write_two_inputs(path: str, batch: int) -> None:
    """`class` is `left` (N, 2) float32 times ten plus `right` (N, 2) int16."""
    nodes = [
        helper.make_node("Cast", ["right"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["left", "ten"], ["tens"]),
        helper.make_node("Add", ["tens", "float"], ["class"]),
    ]
    kinds = {"left": TensorProto.FLOAT, "right": TensorProto.INT16}
    taken = [helper.make_tensor_value_info(name, kind, [batch, 2]) for name, kind in kinds.items()]
    given = [helper.make_tensor_value_info("class", TensorProto.FLOAT, [batch, 2])]
    _save(path, nodes, taken, given, [helper.make_tensor("ten", TensorProto.FLOAT, [], [10.0])])


def write_inputs(folder: str, names: Iterable[str]) -> Pictures:
    """Write a picture for each name, as .npy or raw; the first is all ones, the second all twos."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    pictures = {}
    for number, name in enumerate(names, 1):
        # The sum of any 17 of them is exact in float32, in whatever order it is added up.
        picture = np.full((1, *SHAPE), number, np.float32) + np.arange(SIZE).reshape(SHAPE) / 64
        pictures[name] = picture.astype(np.float32)
        write_array(Path(folder, name), pictures[name])
    return pictures


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as the file's name says."""
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        path.write_bytes(array.tobytes())


def bench(line: str, code: int = 0) -> str:
    """Run the tool and give what it printed; it must end with this exit code, in good order."""
    done = CliRunner().invoke(reidkit_command, ["ascend", "bench", *shlex.split(line)])
    orderly = done.exception is None or isinstance(done.exception, (ReidkitError, SystemExit))
    assert orderly, repr(done.exception)
    assert done.exit_code == code, done.output
    errors = re.findall(r"^\[ERROR\] ", done.stdout, re.MULTILINE)
    assert len(errors) == (code == 1), done.stdout
    return done.stdout


def start(line: str, **options: Any) -> subprocess.Popen[str]:
    """Start the tool as a module in a process of its own."""
    words = [sys.executable, "-m", "reidkit.ais_bench", *shlex.split(line)]
    return subprocess.Popen(words, text=True, **options)


def read(folder: str) -> dict[str, bytes]:
    """Give every file in a folder of outputs by its name."""
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def summary(name: str = "out/x") -> dict[str, Any]:
    """Read the summary beside a folder of outputs."""
    text = Path(f"{name}_summary.json").read_text()
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def expected(pictures: Pictures) -> dict[str, bytes]:
    """Give the files of outputs that `write_echo`'s model makes of these pictures."""
    return {f"{Path(n).stem}_0.bin": array.tobytes() for n, array in pictures.items()}


def warnings(shown: str) -> list[str]:
    """Pick the warnings among the lines on the console."""
    return [line for line in shown.splitlines() if line.startswith("[WARNING] ")]


def run(options: str, code: int = 0) -> str:
    """Run the tool over the folder `d`, with outputs in `out/x`."""
    return bench(f"--input d --output out --output_dirname x --model {options}", code)


def compile_model(source: str, out: str, *options: str) -> None:
    """Compile an .onnx file as the guide does."""
    words = ["ascend", "atc", "--framework=5", f"--model={source}", f"--output={out}"]
    words += ["--soc_version=Ascend310P3", *options]
    done = CliRunner().invoke(reidkit_command, words)
    assert done.exit_code == 0, done.output


def kill_in_the_middle(line: str, folder: str, count: int) -> None:
    """Start the tool, kill it once it has written some files, and wait for all its processes."""
    process = start(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(Path().glob(f"{folder}/**/*.bin"))) < 4:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # its processes share this pipe: its end is theirs
    assert process.returncode == -signal.SIGKILL
    assert 3 < len(list(Path().glob(f"{folder}/**/*.bin"))) < count


def _write_pictures_model(
    path: str,
    batch: int | None,
    nodes: list[NodeProto],
    kinds: Mapping[str, int],
    constants: Iterable[TensorProto] = (),
) -> None:
    rows: Rows = batch or "-1"
    taken = [helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, *SHAPE])]
    given = [helper.make_tensor_value_info(n, kind, [rows, SIZE]) for n, kind in kinds.items()]
    _save(path, nodes, taken, given, constants)


def _save(
    path: str,
    nodes: list[NodeProto],
    taken: list[ValueInfoProto],
    given: list[ValueInfoProto],
    constants: Iterable[TensorProto] = (),
) -> None:
    graph = helper.make_graph(nodes, "tiny", taken, given, list(constants))
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
