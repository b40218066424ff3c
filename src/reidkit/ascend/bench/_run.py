"""A run as its settings say: on one device, on several, or over a range of shapes."""

from __future__ import annotations

import dataclasses
import statistics

from reidkit.ascend.bench._bench import (
    claim,
    execute,
    finish,
    open_session,
    place_outputs,
    prepare,
    start,
)
from reidkit.ascend.bench._devices import run_devices
from reidkit.ascend.bench._settings import BenchSettings, Report
from reidkit.ascend.bench._shapes import expand_range
from reidkit.ascend.bench._summary import RULE, BenchResult
from reidkit.errors import AscendError, ReidkitError
from reidkit.records import Progress
from reidkit.runtimes.sessions import Session

_SWEEP_TITLE = "-----------------dyshape_range Performance Summary------------------"


def run_bench(
    settings: BenchSettings,
    *,
    report: Report | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Run a model over files, batch by batch, as the guide's inference tool does.

    Outputs go to `<saving.folder>/<saving.name>/<stem>_<output>.<format>`, the summary beside that
    folder; it is written last, so that its presence means a whole run. Everything is checked
    before the first run. `report` gets the tool's console lines, `progress` (runs done, runs).

    Raises:
        AscendError: files or options that do not fit the model or one another; a device failed.
        IntegrityError: prepared files that are missing or were changed.
        DeviceError, EngineError, PackageError, FormatError: the model cannot be opened or run.
    """
    report = report or _keep_silent
    if len(settings.devices) > 1:
        return run_devices(settings, report, progress)
    with open_session(settings, settings.devices[0], report) as session:
        if settings.sweeps:
            return _run_sweep(session, settings, report, progress)
        return run_one(session, settings, report, progress)


def run_one(
    session: Session, settings: BenchSettings, report: Report, progress: Progress | None
) -> BenchResult:
    """Run an open model over all files."""
    job = prepare(session, settings, report)
    if job is None:
        raise AscendError("there are no files to run")
    with claim(job):
        start(job, report)
        return finish(job, execute(job, progress), report)


def _run_sweep(
    session: Session, settings: BenchSettings, report: Report, progress: Progress | None
) -> BenchResult:
    """Run one shape after the other; outputs of each in a folder of its own."""
    shapes = expand_range(settings.shapes.sweep or "")
    folder = place_outputs(settings.saving)
    found: list[tuple[str, BenchResult | None]] = []
    for place, shape in enumerate(shapes):
        saving = dataclasses.replace(
            settings.saving, folder=folder, name=f"shape{place}" if folder else None
        )
        options = dataclasses.replace(settings.shapes, shape=shape)
        one = dataclasses.replace(settings, shapes=options, saving=saving)
        try:
            found.append((shape, run_one(session, one, report, progress)))
        except ReidkitError as error:
            report("ERROR", str(error))
            found.append((shape, None))
    return _sum_up(found, settings, report)


def _sum_up(
    found: list[tuple[str, BenchResult | None]], settings: BenchSettings, report: Report
) -> BenchResult:
    parts = [result for _, result in found if result is not None]
    mean = statistics.fmean([part.throughput for part in parts]) if parts else 0.0
    report("INFO", _SWEEP_TITLE)
    report("INFO", f"run_count:{len(found)} success_count:{len(parts)} avg_throughput:{mean}")
    ranked = sorted(found, key=lambda pair: -(pair[1].throughput if pair[1] else 0.0))
    for place, (shape, result) in enumerate(ranked):
        state, rate = ("OK", result.throughput) if result else ("Failed", 0)
        report("INFO", f"{place} dymshape:{shape}  result:{state} throughput:{rate}")
    report("INFO", RULE)
    if not parts:
        raise AscendError(f"none of {len(found)} shapes could be run; see the lines above")
    best = max(parts, key=lambda part: part.throughput)
    folder = best.folder.parent if best.folder else None
    return dataclasses.replace(best, folder=folder, parts=tuple(parts))


def _keep_silent(_level: str, _text: str) -> None:
    """Report nothing."""
