"""The compiler's options: which there are, what values they take, and what they come to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reidkit.ascend.compiler import _shapes, _tables
from reidkit.ascend.compiler._flags import read_flags
from reidkit.ascend.compiler._shapes import Shape
from reidkit.errors import AscendError

ONNX = "5"
COMPILE, SHOW = "0", "6"

_CHIP = re.compile(r"(?!ascend)[0-9A-Za-z][0-9A-Za-z_-]*")


@dataclass(frozen=True, slots=True)
class AtcOptions:
    """What to compile, checked as far as options can be without the model.

    Fields:
        given: the options as they were given, by name.
        model: the .onnx file; output: the .om file.
        shapes: shape by input name, `None` where `--input_shape` was not given; -1 is free.
        gears: the batch sizes to choose from; empty where there is one, or any.
        precision: `fp16` or `fp32`, how a GPU is to compute.
        half_output: whether the vectors are to be float16.
        half_inputs: names of inputs that are to take float16.
        aipp: the file of `--insert_op_conf`.
        without_effect: the given options that change nothing here.
        show: the .om file that `--mode=6` describes; then the rest means nothing.
    """

    given: Mapping[str, str]
    model: Path = Path()
    output: Path = Path()
    shapes: Mapping[str, Shape] | None = None
    gears: tuple[int, ...] = ()
    precision: str = "fp16"
    half_output: bool = False
    half_inputs: tuple[str, ...] = ()
    aipp: Path | None = None
    without_effect: tuple[str, ...] = field(default=())
    show: Path | None = None


def parse_options(arguments: Sequence[str]) -> AtcOptions:
    """Parse and check the arguments of `atc`.

    Raises:
        AscendError: an option or a value that the compiler refuses too, with its code, or one
            that is not emulated.
    """
    given = read_flags(arguments, _tables.KNOWN)
    check_values(given)
    if given.get("mode", COMPILE) == SHOW:
        return AtcOptions(given, show=Path(require(given, "om")))
    if "framework" not in given:
        raise AscendError("Parameter [--framework] is missing or not supported", "E10007")
    model, output = require(given, "model"), require(given, "output")
    _check_chip(require(given, "soc_version"))
    return make_options(given, Path(model), output)


def make_options(given: Mapping[str, str], model: Path, output: str) -> AtcOptions:
    """Make the options of a compilation from checked values; see `parse_options`."""
    return AtcOptions(
        given,
        model=model,
        output=name_output(output),
        shapes=_shapes.parse_shapes(given["input_shape"]) if "input_shape" in given else None,
        gears=_read_gears(given),
        precision=_choose_precision(given),
        half_output=given.get("output_type") == "FP16",
        half_inputs=tuple(filter(None, given.get("input_fp16_nodes", "").split(";"))),
        aipp=Path(given["insert_op_conf"]) if "insert_op_conf" in given else None,
        without_effect=tuple(
            name
            for name in given
            if name in (*_tables.WITHOUT_EFFECT, *_tables.TUNER_WITHOUT_EFFECT)
        ),
    )


def check_values(given: Mapping[str, str]) -> None:
    """Refuse values that an option does not take, and options that exclude each other.

    Raises:
        AscendError: see `parse_options`.
    """
    dynamic = [f"--{name}" for name in _tables.DYNAMIC if name in given]
    if len(dynamic) > 1:
        raise AscendError(f"At most one of [{', '.join(dynamic)}] may be given", "E10009")
    for name, value in given.items():
        if name in _tables.REFUSED:
            raise AscendError(f"--{name} is not emulated: {_tables.REFUSED[name]}")
        if name in _tables.CHOICES and value not in _tables.CHOICES[name]:
            raise _invalid(name, value, f"expected one of {', '.join(_tables.CHOICES[name])}")
        if name in _tables.ONE_OR_ZERO and value not in ("0", "1"):
            raise AscendError(f"Value [{value}] for [--{name}] must be 1 or 0", "E10006")
        if name in _tables.TRUE_OR_FALSE and value not in ("true", "false"):
            raise AscendError(f"Value [{value}] for [--{name}] must be true or false", "E10005")
    if (log := given.get("log", "null")) not in _tables.LOGS:
        raise AscendError(f"Value [{log}] for parameter [--log] is invalid", "E10010")
    if not given.get("aicore_num", "1").isdecimal():
        raise AscendError(f"Value [{given['aicore_num']}] of [--aicore_num] is no number", "E10014")
    _check_framework(given)
    _check_together(given)


def require(given: Mapping[str, str], name: str) -> str:
    """Give the value of an option that must be there.

    Raises:
        AscendError: it is not (E10054).
    """
    if name not in given:
        raise AscendError(f"Required parameter [--{name}] is empty", "E10054")
    return given[name]


def name_output(text: str) -> Path:
    """Give the file of `--output`: `.om` is added unless it is there.

    Raises:
        AscendError: it ends with a folder (E10022), or is too long (E10021).
    """
    path = Path(text)
    name = path.name if path.suffix == ".om" else f"{path.name}.om"
    # Room is left for the temporary name under which the file is written.
    if len(name.encode()) > 230 or len(str(path.absolute()).encode()) > 4000:
        raise AscendError(f"Value of [--output] is too long: {len(text)} characters", "E10021")
    if text.endswith(("/", "\\")) or not path.name or path.name == ".." or path.is_dir():
        raise AscendError(f"Value [{text}] for [--output] has no file name", "E10022")
    return path.with_name(name)


def _check_framework(given: Mapping[str, str]) -> None:
    framework = given.get("framework", ONNX)
    if framework != ONNX:
        names = {"0": "Caffe", "1": "MindSpore", "3": "TensorFlow"}
        what = names.get(framework, "unknown")
        raise AscendError(
            f"Value [{framework}] for parameter [--framework] is not supported: {what}; ONNX (5) "
            "is compiled here",
            "E10007",
        )


def _check_together(given: Mapping[str, str]) -> None:
    if {"precision_mode", "precision_mode_v2"} <= given.keys():
        raise AscendError("[--precision_mode] excludes [--precision_mode_v2]", "E10047")
    if "dynamic_dims" in given and given.get("input_format") != "ND":
        value = given.get("input_format", "NCHW")
        raise _invalid("input_format", value, "with --dynamic_dims it must be ND")
    if "insert_op_conf" in given and "dynamic_dims" in given:
        raise AscendError("[--insert_op_conf] excludes [--dynamic_dims]", "E10047")
    if "insert_op_conf" in given and "input_fp16_nodes" in given:
        raise AscendError("[--insert_op_conf] excludes [--input_fp16_nodes]", "E10034")
    for name in ("is_input_adjust_hw_layout", "is_output_adjust_hw_layout"):
        if given.get(name) == "true":
            raise AscendError(f"--{name}=true is not emulated: the chip alone has that layout")


def _check_chip(name: str) -> None:
    if name == "Ascend":
        raise _invalid("soc_version", name, "the chip's name is missing: is ${chip_name} set?")
    if name.startswith("AscendAscend"):
        raise _invalid("soc_version", name, "${chip_name} holds the word Ascend already")
    if not _CHIP.fullmatch(name):
        raise _invalid("soc_version", name, "expected a name such as Ascend310P3")


def _read_gears(given: Mapping[str, str]) -> tuple[int, ...]:
    if "dynamic_batch_size" in given:
        return _shapes.parse_gears(given["dynamic_batch_size"])
    if "dynamic_dims" in given:
        return _shapes.parse_dimension_gears(given["dynamic_dims"])
    return ()


def _choose_precision(given: Mapping[str, str]) -> str:
    if "precision_mode_v2" in given:
        return _tables.PRECISION_MODES_V2[given["precision_mode_v2"]]
    return _tables.PRECISION_MODES[given.get("precision_mode", "force_fp16")]


def _invalid(name: str, value: str, reason: str) -> AscendError:
    return AscendError(
        f"Value [{value}] for parameter [--{name}] is invalid. Reason: {reason}", "E10001"
    )
