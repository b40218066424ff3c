"""`reidkit ascend aoe`: the real tuner where it is installed, otherwise the fastest engine here.

The substitute compiles the model for each engine that works on this machine, measures them in
turns, and keeps the fastest in the `.om` file.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reidkit import disk
from reidkit.ascend.compiler._atc import (
    FAILED,
    Plan,
    choose_targets,
    describe_error,
    make_source,
    plan_interface,
    write_result,
)
from reidkit.ascend.compiler._flags import read_flags, take_emulate
from reidkit.ascend.compiler._options import AtcOptions, check_values, make_options, require
from reidkit.ascend.compiler._real import Write, find_tool, run_tool
from reidkit.ascend.compiler._tables import TUNER_KNOWN
from reidkit.benchmarking import Speed, benchmark
from reidkit.compiling import Target, compile_package, supported_targets
from reidkit.errors import AscendError, CompileError, ReidkitError
from reidkit.package import Package

START = "AOE process start, please wait for a moment."
SUCCESS = "AOE process finished."
FAILURE = "AOE process failed."

_KINDS = {"1": "sgat", "2": "opat"}
_SECONDS = 2.0
_FREE_BATCHES = (1, 8)
"""The batch sizes that an engine for any is measured at."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was measured: `rates` are pictures a second by batch size, for each engine in turn.

    `candidates` are the engines by name, such as `onnxruntime fp32 on cpu`: the first is the one
    that `atc` would take, `best` the number of the fastest. `failures` says which did not work.
    """

    candidates: tuple[str, ...]
    rates: tuple[Mapping[int, float], ...]
    failures: tuple[str, ...] = ()

    @property
    def best(self) -> int:
        """The number of the one that needs the least time for a picture of each batch size."""
        return min(range(len(self.rates)), key=lambda number: _seconds(self.rates[number]))

    def describe(self) -> list[str]:
        """Say each candidate's rates in a line."""
        lines = [*self.failures]
        for number, (name, rates) in enumerate(zip(self.candidates, self.rates, strict=True)):
            shown = ", ".join(f"batch {batch} {rate:,.1f}" for batch, rate in rates.items())
            kept = " (kept)" if number == self.best else ""
            lines.append(f"{name}: {shown} pictures/s{kept}")
        return lines


def run_aoe(arguments: Sequence[str], *, write: Write, remark: Write) -> int:
    """Do what `aoe` does with these arguments, and give its exit code.

    Args:
        arguments: the options as they were typed; `--emulate 1` forces the substitute,
            `--seconds` is the time for each engine and batch size in it.
        write: takes what the tuner prints, as text with its line ends.
        remark: takes our own lines on it.

    Raises:
        AscendError: the real tuner is there and cannot be started, or a bad `--emulate`.
    """
    emulate, arguments = take_emulate(arguments)
    tool = None if emulate else find_tool("aoe")
    if tool is not None:
        return run_tool(tool, arguments, write=write, remark=remark)
    write(f"{START}\n")
    try:
        options, seconds = parse_tuning(arguments)
        tuning, result = tune_om(options, seconds=seconds, remark=remark)
    except (ReidkitError, OSError) as error:
        write(f"{FAILURE}\n{describe_error(error)}")
        return FAILED
    if options.without_effect:
        names = ", ".join(f"--{name}" for name in options.without_effect)
        remark(f"emulated without effect here: {names}\n")
    lines = [*tuning.describe(), f"{options.output} holds the fastest, {result} the times"]
    write("\n".join([*lines, SUCCESS, ""]))
    return 0


def parse_tuning(arguments: Sequence[str]) -> tuple[AtcOptions, float]:
    """Parse and check the arguments of `aoe`; gives the options and our own `--seconds`.

    Raises:
        AscendError: an option or a value that is refused.
    """
    given = read_flags(arguments, TUNER_KNOWN)
    check_values(given)
    if given.get("mode", "0") != "0":
        raise AscendError("--mode is an option of atc; aoe has none")
    require(given, "job_type")
    model = Path(require(given, "model"))
    try:
        seconds = float(given.get("seconds", _SECONDS))
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise AscendError(
            f"--seconds is {given['seconds']!r}, expected a number above 0 and at most 3600"
        )
    return make_options(given, model, given.get("output", model.stem)), seconds


def tune_om(options: AtcOptions, *, seconds: float, remark: Write) -> tuple[Tuning, Path]:
    """Keep the fastest engine for the model in the `.om` file of the options.

    Gives what was measured, and the JSON file beside the output that holds it. `remark` is told
    what will be measured, and for how long.

    Raises:
        AscendError: the model cannot be read, or does not fit the options.
        ExportError, CompileError: no engine here gives what the model gives.
        EngineError: an engine failed while it was measured.
    """
    plan = plan_interface(options)
    with tempfile.TemporaryDirectory(prefix="reidkit-aoe-") as name:
        packages, failures = _compile_all(options, plan, Path(name))
        names = tuple(describe_engine(package) for package in packages)
        batches = _choose_batches(options, plan)
        # The benchmark takes as long again for whole pictures as for the engine alone.
        whole = 2 * seconds * len(batches) * len(names)
        remark(f"measuring {', '.join(names)}: {whole:.0f} s or more\n")
        speeds = benchmark(packages, batches=batches, seconds=seconds)
        tuning = Tuning(
            names,
            tuple(_rates(speed) for speed in speeds),
            tuple(failures),
        )
        write_result(options, plan, packages[tuning.best])
    return tuning, write_times(options, tuning)


def write_times(options: AtcOptions, tuning: Tuning) -> Path:
    """Write the times of a tuning beside the output, in milliseconds a batch."""
    kind = _KINDS[options.given["job_type"]]
    stamp = time.strftime("%Y%m%d%H%M%S")
    path = options.output.with_name(f"aoe_result_{kind}_{stamp}_{os.getpid()}.json")
    times = [_milliseconds(rates) for rates in tuning.rates]
    disk.write_json(
        path,
        {
            "format": 1,
            "model": str(options.model),
            "output": str(options.output),
            "unit": "milliseconds a batch, by batch size",
            "baseline": {"engine": tuning.candidates[0], "time": times[0]},
            "tuned": {"engine": tuning.candidates[tuning.best], "time": times[tuning.best]},
            "candidates": dict(zip(tuning.candidates, times, strict=True)),
            "failures": list(tuning.failures),
        },
    )
    return path


def describe_engine(package: Package) -> str:
    """Name the engine of a compiled package."""
    engine = package.spec.engine
    return f"{engine.runtime} {engine.precision} on {engine.device}"


def list_candidates(precision: str, batch: int | None) -> list[Target]:
    """Give what to try on this machine; the first is what `atc` takes on any: the CPU, float32."""
    *accelerated, plain = choose_targets(precision, batch)
    targets = [plain, *accelerated]
    if "fp32" in supported_targets()["openvino"].precisions:
        targets.append(Target("openvino", "fp32", batch, "cpu"))
    return targets


def _compile_all(options: AtcOptions, plan: Plan, folder: Path) -> tuple[list[Package], list[str]]:
    """Compile for every candidate; gives those that work, and a line for each that does not."""
    source = make_source(options, plan, folder)
    packages, failures = [], []
    plain, *others = list_candidates(options.precision, plan.batch)
    packages.append(compile_package(source, folder / "plain", target=plain))
    for number, target in enumerate(others):
        try:
            packages.append(compile_package(source, folder / str(number), target=target))
        except CompileError as error:
            what = f"{target.name} {target.precision} on {target.device}"
            failures.append(f"{what} does not work here: {error}")
    return packages, failures


def _choose_batches(options: AtcOptions, plan: Plan) -> Sequence[int]:
    if options.gears:
        return sorted({options.gears[0], options.gears[-1]})
    return _FREE_BATCHES if plan.batch is None else (plan.batch,)


def _rates(speed: Speed) -> dict[int, float]:
    return {batch.batch: batch.engine_rate for batch in speed.batches}


def _seconds(rates: Mapping[int, float]) -> float:
    return sum(1 / rate for rate in rates.values())


def _milliseconds(rates: Mapping[int, float]) -> dict[str, float]:
    return {str(batch): 1000 * batch / rate for batch, rate in rates.items()}
