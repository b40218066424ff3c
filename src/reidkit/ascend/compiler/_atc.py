"""`reidkit ascend atc`: the real compiler where it is installed, otherwise this machine's engine.

The substitute takes the real one's options, refuses what it refuses with its error codes, and
writes one file for `reidkit ascend bench`: a package of the network, compiled for this machine.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from reidkit import disk
from reidkit.ascend._aipp import Aipp, read_aipp
from reidkit.ascend._om import OmHeader, write_om
from reidkit.ascend.compiler._codes import find_solution
from reidkit.ascend.compiler._flags import take_emulate
from reidkit.ascend.compiler._options import AtcOptions, parse_options
from reidkit.ascend.compiler._real import Write, find_tool, run_tool
from reidkit.ascend.compiler._shapes import check_free_axis, fit_shape
from reidkit.ascend.compiler._show import show_om
from reidkit.compiling import TARGETS, Support, Target, compile_package
from reidkit.errors import AscendError, CompileError, ReidkitError
from reidkit.exporting import package_onnx, read_interface
from reidkit.package import InputSpec, Package
from reidkit.runtimes.sessions import TensorSpec

START = "ATC start working now, please wait for a moment."
SUCCESS = "ATC run success, welcome to the next use."
FAILURE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"
FAILED = 1

_HALF, _FULL = np.dtype(np.float16), np.dtype(np.float32)


def run_atc(arguments: Sequence[str], *, write: Write, remark: Write) -> int:
    """Do what `atc` does with these arguments, and give its exit code.

    Args:
        arguments: the options as they were typed; `--emulate 1` forces the substitute.
        write: takes what the compiler prints, as text with its line ends.
        remark: takes our own lines on it.

    Raises:
        AscendError: the real compiler is there and cannot be started, or a bad `--emulate`.
    """
    emulate, arguments = take_emulate(arguments)
    tool = None if emulate else find_tool("atc")
    if tool is not None:
        return run_tool(tool, arguments, write=write, remark=remark)
    write(f"{START}\n")
    try:
        options = parse_options(arguments)
        if options.show is not None:
            write(show_om(options.show))
        else:
            compile_om(options, remark)
    except (ReidkitError, OSError) as error:
        write(f"{FAILURE}\n{describe_error(error)}")
        return FAILED
    write(f"{SUCCESS}\n")
    return 0


def describe_error(error: Exception) -> str:
    """Give the block of an error as the compiler prints it: what, then what to do."""
    text = f"{error}\n"
    if isinstance(error, AscendError) and error.code is not None:
        text += f"        Solution: {find_solution(error.code, str(error))}\n"
    return text


def compile_om(options: AtcOptions, remark: Write) -> Package:
    """Compile the model of the options for this machine into their one `.om` file.

    Gives the compiled package, whose folder is gone; `remark` is told what was compiled for, and
    which options have no effect.

    Raises:
        AscendError: the model cannot be read, or does not fit the options.
        ExportError, CompileError: no engine here gives what the model gives.
    """
    plan = plan_interface(options)
    with tempfile.TemporaryDirectory(prefix="reidkit-atc-") as name:
        source = make_source(options, plan, Path(name))
        target, compiled, failures = _compile(source, options, plan, Path(name))
        for line in _describe(options, target, failures):
            remark(f"{line}\n")
        write_result(options, plan, compiled)
    return compiled


@dataclass(frozen=True, slots=True)
class Plan:
    """What the file takes and gives, by the model and the options together.

    Fields:
        taken, given: its input and output, by their names in the model; -1 is a free batch size.
        batch: the only batch size of the engine, `None` for any.
        height, width: of the pictures.
        aipp: how pixels become the network's input, where it takes pixels.
    """

    taken: TensorSpec
    given: TensorSpec
    batch: int | None
    height: int
    width: int
    aipp: Aipp | None


def plan_interface(options: AtcOptions) -> Plan:
    """Hold the options against the model's own input and output.

    Raises:
        AscendError: the model cannot be read, or does not fit the options.
    """
    taken, given = _read_ends(options.model)
    shape = fit_shape(taken, options.shapes)
    if options.gears:
        option = "dynamic_dims" if "dynamic_dims" in options.given else "dynamic_batch_size"
        check_free_axis(f"--{option}", shape)
    if len(shape) != 4 or shape[1] != 3:
        raise _not_a_picture(options.model, f"its input is {_show(taken)}")
    if -1 in shape[1:]:
        raise AscendError(
            f"the size of the pictures must be fixed, --input_shape leaves it open ({shape}): make "
            "one file for each size"
        )
    for name in options.half_inputs:
        if name != taken.name:
            raise AscendError(f"Node [{name}] of [--input_fp16_nodes] is no input", "E10017")
    _, _, height, width = shape
    dtype, aipp = _HALF if options.half_inputs else taken.dtype, None
    if options.aipp is not None:
        aipp = read_aipp(options.aipp, height=height, width=width)
        shape, dtype = (shape[0], height, width, 3), np.dtype(np.uint8)
    batch = None if shape[0] == -1 else shape[0]
    output = _HALF if options.half_output else given.dtype
    return Plan(
        TensorSpec(taken.name, dtype, shape),
        TensorSpec(given.name, output, (shape[0], *given.shape[1:])),
        batch,
        height,
        width,
        aipp,
    )


def make_source(options: AtcOptions, plan: Plan, folder: Path) -> Package:
    """Make a package of the model in a temporary folder, verified.

    Raises:
        ExportError: the model does not run here.
    """
    contract = InputSpec(height=plan.height, width=plan.width)
    return package_onnx(options.model, folder / "source", contract=contract)


def write_result(options: AtcOptions, plan: Plan, compiled: Package) -> None:
    """Write the `.om` file; the folder that it lies in is made where it is missing."""
    tail = plan.given.shape[1:]
    if math.prod(tail) != compiled.spec.embedding_size or -1 in tail:
        tail = (compiled.spec.embedding_size,)  # the model left it open
    given = TensorSpec(plan.given.name, plan.given.dtype, (plan.given.shape[0], *tail))
    header = OmHeader(
        inputs=(plan.taken,),
        outputs=(given,),
        options=options.given,
        source=options.model.name,
        source_sha256=disk.sha256_file(options.model),
        gears=options.gears,
        aipp=plan.aipp,
    )
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_om(options.output, compiled, header)


def choose_targets(precision: str, batch: int | None) -> list[Target]:
    """Give what to compile for on this machine, best first; float32 on the CPU works anywhere."""
    targets = []
    if "fp16" in _supported_precisions():  # a build for GPUs
        if precision == "fp16":
            targets.append(Target("onnxruntime", "fp16", batch, "cuda"))
        targets.append(Target("onnxruntime", "fp32", batch, "cuda"))
    return [*targets, Target("onnxruntime", "fp32", batch, "cpu")]


def _supported_precisions() -> tuple[str, ...]:
    # supported_targets() would load every engine, torch too, which takes seconds.
    support: Support = import_module(TARGETS["onnxruntime"]).support()
    return support.precisions


def _compile(
    source: Package, options: AtcOptions, plan: Plan, folder: Path
) -> tuple[Target, Package, list[str]]:
    """Compile for the first target that works; gives what the ones before it failed with."""
    targets = choose_targets(options.precision, plan.batch)
    failures: list[str] = []
    for target in targets[:-1]:
        try:
            out = folder / f"{target.device}-{target.precision}"
            return target, compile_package(source, out, target=target), failures
        except CompileError as error:
            failures.append(f"{target.precision} on {target.device} does not work here: {error}")
    return targets[-1], compile_package(source, folder / "compiled", target=targets[-1]), failures


def _read_ends(path: Path) -> tuple[TensorSpec, TensorSpec]:
    """Give the model's one input and one output."""
    if not path.is_file():
        what = "it is a folder" if path.is_dir() else "no such file"
        raise AscendError(
            f"File [{path}] of parameter [--model] is invalid. Reason: {what}", "E13000"
        )
    try:
        inputs, outputs = read_interface(path)
    except ReidkitError as error:
        raise AscendError(f"Load model from [{path}] failed. Reason: {error}", "E10041") from error
    if len(inputs) != 1 or len(outputs) != 1:
        what = f"it has {len(inputs)} inputs and {len(outputs)} outputs"
        raise _not_a_picture(path, what)
    if inputs[0].dtype not in (_FULL, _HALF):
        raise _not_a_picture(path, f"its input is {_show(inputs[0])}")
    if outputs[0].dtype not in (_FULL, _HALF):
        raise _not_a_picture(path, f"its output is {_show(outputs[0])}")
    return inputs[0], outputs[0]


def _not_a_picture(path: Path, what: str) -> AscendError:
    return AscendError(
        f"{path} is not a network of one picture (N, 3, H, W) to one vector (N, D), float32 or "
        f"float16: {what}; reidkit ascend bench runs an .onnx file itself, without atc"
    )


def _show(tensor: TensorSpec) -> str:
    return f"{tensor.name} {tensor.dtype} {tensor.shape}"


def _describe(options: AtcOptions, target: Target, failures: Sequence[str]) -> list[str]:
    given = options.given
    mode = "precision_mode_v2" if "precision_mode_v2" in given else "precision_mode"
    recorded = [f"{mode} {given.get(mode, 'force_fp16')}"]
    if "soc_version" in given:
        recorded.append(f"soc_version {given['soc_version']}")
    lines = [
        *failures,
        f"compiled for this machine: {target.name} {target.precision} on {target.device}; "
        f"{' and '.join(recorded)} recorded",
    ]
    if options.without_effect:
        names = ", ".join(f"--{name}" for name in options.without_effect)
        lines.append(f"emulated without effect here: {names}")
    return lines
