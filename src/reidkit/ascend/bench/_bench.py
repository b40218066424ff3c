"""One device, one process: everything is checked, then run, saved, and at last summed up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from reidkit import disk
from reidkit.ascend._models import open_model
from reidkit.ascend.bench._inputs import (
    Plan,
    Share,
    find_files,
    limit_files,
    plan_pure,
    share_files,
)
from reidkit.ascend.bench._outputs import (
    check_apart,
    check_names,
    cut_outputs,
    name_output,
    save_part,
)
from reidkit.ascend.bench._planning import (
    check_folders,
    is_folder_mode,
    plan_own_shapes,
    plan_runs,
)
from reidkit.ascend.bench._reading import Reader, Shape, count_bytes, is_array, make_pure
from reidkit.ascend.bench._settings import BenchSettings, Report, SaveOptions
from reidkit.ascend.bench._shapes import choose_shapes
from reidkit.ascend.bench._summary import (
    BenchResult,
    Times,
    compute_throughput,
    make_summary,
    report_times,
    spread_times,
    write_summary,
)
from reidkit.ascend.manifests import Manifest
from reidkit.errors import AscendError
from reidkit.records import Progress
from reidkit.runtimes.sessions import Array, Session, TensorSpec

NO_INPUTS = "not support pure infer"


@dataclass(frozen=True, slots=True)
class Job:
    """All that is decided before the first run.

    Fields:
        shapes: of every run; None where each file has its own.
        folder: for the outputs; None saves nothing.
    """

    session: Session
    settings: BenchSettings
    plan: Plan
    shapes: tuple[Shape, ...] | None
    manifests: dict[str, Manifest]
    folder: Path | None

    @property
    def reader(self) -> Reader:
        """What reads its files."""
        return Reader(self.plan, self.session.inputs, self.shapes, self.manifests)


@dataclass(slots=True)
class Measured:
    """What running a job found: times, rows of each run, and the files of each sample."""

    times: Times = field(default_factory=Times)
    rows: list[int] = field(default_factory=list)
    saved: dict[int, tuple[Sequence[str], Sequence[str]]] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def open_session(settings: BenchSettings, device: int, report: Report) -> Iterator[Session]:
    """Open the model for the block and report it."""
    session = open_model(settings.model, device=device, threads=settings.threads)
    try:
        report("INFO", f"open device {device} success")
        report("INFO", f"load model {settings.model} success")
        report("INFO", "create model description success")
        report("INFO", f"running on {session.device} (reidkit)")
        for specs in (session.inputs, session.outputs):
            for place, spec in enumerate(specs):
                report("DEBUG", f"#{place} {_describe(spec)}")
        yield session
    finally:
        session.close()
    report("INFO", "unload model success, model Id is 1")
    report("INFO", f"end to reset device is {device}")


def prepare(
    session: Session, settings: BenchSettings, report: Report, share: Share | None = None
) -> Job | None:
    """Find and check the files and decide on shapes; nothing is run or written.

    Returns:
        The job; None for a device that gets no files.

    Raises:
        AscendError: files or options that do not fit the model or one another.
        IntegrityError: prepared files that are missing or not what was prepared.
    """
    shapes = None
    if not settings.shapes.from_files:
        shapes = choose_shapes(session, settings.shapes, settings.timing.batch)
        _report_batch(settings, shapes[0], report)
    folder = place_outputs(settings.saving)
    if not settings.inputs:
        if shapes is None or settings.files.run_mode == "files":
            raise AscendError(f"{NO_INPUTS}: give --input")
        return Job(session, settings, plan_pure(len(session.inputs)), shapes, {}, folder)
    found = find_files(settings.inputs, len(session.inputs))
    files = limit_files(found, settings.files.limit)
    manifests = {}
    if not settings.files.compatible:
        if is_folder_mode(settings.inputs):
            manifests = check_folders(settings.inputs, report)
        if folder is not None:
            check_apart(folder, settings.inputs)
            check_names(files[0])
    files = share_files(files, share)
    if not files[0]:
        return None
    _check_run_mode(settings, files[0])
    compatible = settings.files.compatible
    if shapes is None:
        plan = plan_own_shapes(files, session.inputs, compatible=compatible)
    else:
        plan = plan_runs(files, session.inputs, shapes, compatible=compatible)
    return Job(session, settings, plan, shapes, manifests, folder)


def start(job: Job, report: Report) -> None:
    """Make the output folder, take an older run's summary away, and warm up."""
    if job.folder is not None:
        job.folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        summary_path(job.folder).unlink(missing_ok=True)
        report("INFO", f"output path:{job.folder}")
    if not job.plan.pure and job.shapes is not None:
        tensor = count_bytes(job.session.inputs[0], job.shapes[0])
        report(
            "INFO",
            f"get filesperbatch files0 size:{tensor // job.plan.per_run} tensor0size:{tensor} "
            f"filesperbatch:{job.plan.per_run} runcount:{job.plan.runs}",
        )
    count = job.settings.timing.warm_up
    if count:
        arrays = next(_read(job, readers=0))
        for _ in range(count):
            job.session.run(arrays)
        report("INFO", f"warm up {count} done")


def execute(job: Job, progress: Progress | None = None) -> Measured:
    """Read, run and save everything; the summary is not written yet.

    Raises:
        AscendError: a file that cannot be read or does not fit, an output that cannot be cut.
        EngineError: the engine failed.
    """
    measured, kept = Measured(), []
    began = time.perf_counter()
    full = job.settings.files.run_mode == "full"
    batches = _read(job, job.settings.files.readers)
    with closing(batches):
        everything: Iterator[list[Array]] = iter(list(batches)) if full else batches
        for run, arrays in enumerate(everything):
            outputs = _run(job, arrays, measured)
            if full:
                kept.append(outputs)
            else:
                _save(job, run, outputs, measured)
            if progress is not None:
                progress(run + 1, job.plan.runs)
    for run, outputs in enumerate(kept):
        _save(job, run, outputs, measured)
    measured.seconds = time.perf_counter() - began
    return measured


def finish(job: Job, measured: Measured, report: Report) -> BenchResult:
    """Report what was measured, and write the summary last of all."""
    timing, plan = job.settings.timing, job.plan
    batch: float = timing.batch or measured.rows[0]
    if job.shapes is None:
        batch = statistics.fmean(measured.rows)
    summary = make_summary(
        measured.times, batch, saved=measured.saved, arguments=job.settings.arguments
    )
    report_times(report, measured.times, batch, copies=timing.copies)
    rows = sum(measured.rows)
    result = BenchResult(
        throughput=compute_throughput(batch, spread_times(measured.times.computed).mean),
        milliseconds=tuple(measured.times.computed),
        batch=batch,
        folder=job.folder,
        summary_file=None if job.folder is None else summary_path(job.folder),
        files=0 if plan.pure else plan.count,
        pictures=0 if plan.pure else rows * plan.count // (plan.runs * plan.per_run),
        outputs=sum(len(made) for _, made in measured.saved.values()),
        seconds=measured.seconds,
        device=job.session.device,
        summary=summary,
    )
    line = result.describe_end_to_end()
    if line is not None:
        report("INFO", line)
    if result.summary_file is not None:
        write_summary(result.summary_file, summary)
    return result


@contextmanager
def claim(job: Job) -> Iterator[None]:
    """Keep other runs out of the folder of outputs while the block runs."""
    if job.folder is None:
        yield
        return
    lock = job.folder.with_name(f".{job.folder.name}.lock")
    with disk.hold(lock, f"writing into {job.folder}"):
        yield


def place_outputs(saving: SaveOptions) -> Path | None:
    """Give the folder of outputs, named after the time where it has no name."""
    if saving.folder is None:
        return None
    return saving.folder / (saving.name or datetime.now().strftime("%Y_%m_%d-%H_%M_%S"))


def summary_path(folder: Path) -> Path:
    """Give the summary's place beside the folder of outputs."""
    return folder.with_name(f"{folder.name}_summary.json")


def _read(job: Job, readers: int) -> Generator[list[Array]]:
    if job.plan.pure:
        kind = job.settings.files.pure_data
        yield make_pure(job.session.inputs, job.shapes or (), kind)
    else:
        yield from job.reader.read_all(readers)


def _run(job: Job, arrays: list[Array], measured: Measured) -> tuple[Array, ...]:
    """Run one batch as often as asked and give the outputs of the last time."""
    outputs: tuple[Array, ...] = ()
    for _ in range(job.settings.timing.loop):
        run = job.session.run(arrays)
        measured.times.add(run)
        outputs = run.outputs
    measured.rows.append(_count_rows(arrays[0].shape))
    return outputs


def _save(job: Job, run: int, outputs: Sequence[Array], measured: Measured) -> None:
    """Save the outputs of one run, a part for each real file; padded rows are dropped."""
    if job.folder is None:
        return
    saving, plan = job.settings.saving, job.plan
    cut = cut_outputs(outputs, plan.per_run, saving.axis)
    for row, taken in enumerate(zip(*plan.take(run), strict=True)):
        made = []
        for place, parts in enumerate(cut):
            path = job.folder / name_output(taken[0], place, saving.format)
            save_part(path, parts[row], saving.format)
            made.append(str(path))
        measured.saved[run * plan.per_run + row] = (taken, made)


def _check_run_mode(settings: BenchSettings, files: Sequence[str]) -> None:
    npy = next((name for name in files if is_array(name)), None)
    if settings.files.run_mode == "files" and npy is not None:
        raise AscendError(f"not support npy file:{npy}: --run_mode files takes raw files only")


def _report_batch(settings: BenchSettings, shape: Shape, report: Report) -> None:
    asked, rows = settings.timing.batch, _count_rows(shape)
    if asked is None:
        report("INFO", f"try get model batchsize:{rows}")
    elif asked != rows:
        report(
            "WARNING",
            f"--batchsize is {asked}, but the model runs {rows} at once: the figure that follows "
            f"is {asked / rows:g} times the real one",
        )


def _count_rows(shape: Shape) -> int:
    return shape[0] if shape else 1


def _describe(spec: TensorSpec) -> str:
    size = spec.dtype.itemsize
    for length in spec.shape:
        size *= max(length, 1)
    return f"{spec.name} {spec.shape} {spec.dtype} {size} {size}"
