"""Several devices at once: a process for each, started together, their rates added up."""

from __future__ import annotations

import dataclasses
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reidkit.ascend.bench._bench import place_outputs, summary_path
from reidkit.ascend.bench._inputs import Share
from reidkit.ascend.bench._settings import BenchSettings, Report
from reidkit.ascend.bench._summary import BenchResult
from reidkit.errors import AscendError
from reidkit.machine import available_cores
from reidkit.records import Progress

_MODULE = "reidkit.ascend.bench._worker"
_PATIENCE = 5.0
"""Seconds that a process gets to end in before it is killed."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one process is to do: its settings have one device and a folder of its own."""

    settings: BenchSettings
    share: Share | None

    @property
    def device(self) -> int:
        """The number of its device."""
        return self.settings.devices[0]


@dataclass(frozen=True, slots=True)
class Finished:
    """What a process found, and when it began and ended, in seconds of the system's clock."""

    result: BenchResult
    began: float
    ended: float


def run_devices(settings: BenchSettings, report: Report, progress: Progress | None) -> BenchResult:
    """Run a model on several devices at once.

    Nothing is run or written before every device has checked its files. A device that fails
    lets the others finish.

    Raises:
        AscendError: naming the devices that failed.
    """
    tasks = divide_work(settings)
    crew = _Crew(tasks, report, progress)
    try:
        busy = [i for i, has_files in crew.follow("checked").items() if has_files]
        crew.check()
        idle = [task for i, task in enumerate(tasks) if i not in busy]
        if idle:
            _pass_over(idle, report)
        crew.let_go(busy)
        crew.follow("ready")
        crew.let_go(busy)
        finished: dict[int, Finished] = crew.follow("finished")
    finally:
        crew.close()
    report("INFO", f"multidevice run end qsize:{2 * len(finished)} result:{len(crew.failures)}")
    crew.check()
    return _add_up(tasks, finished, report)


def _pass_over(idle: Sequence[Task], report: Report) -> None:
    """Say which devices get no files; their summaries of an earlier run are not of this one."""
    names = ", ".join(str(task.device) for task in idle)
    report("WARNING", f"fewer files than devices: device {names} gets none")
    for task in idle:
        folder = place_outputs(task.settings.saving)
        if folder is not None:
            summary_path(folder).unlink(missing_ok=True)


def divide_work(settings: BenchSettings) -> list[Task]:
    """Make a task for each device; one that is named again gets its place in its folder's name."""
    folder, count = place_outputs(settings.saving), len(settings.devices)
    threads = settings.threads or max(1, available_cores() // count)
    tasks = []
    for place, device in enumerate(settings.devices):
        again = f"_{place}" if device in settings.devices[:place] else ""
        name = f"device{device}{again}" if folder else None
        saving = dataclasses.replace(settings.saving, folder=folder, name=name)
        share = Share(place, count) if settings.divide else None
        one = dataclasses.replace(settings, devices=(device,), saving=saving, threads=threads)
        tasks.append(Task(one, share))
    return tasks


@dataclass(slots=True)
class _Crew:
    """The processes of all tasks, and the messages that come from them.

    `failures` holds the message of each process that failed, by its place.
    """

    tasks: Sequence[Task]
    report: Report
    progress: Progress | None
    failures: dict[int, str] = field(default_factory=dict)
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _messages: queue.SimpleQueue[tuple[int, str, Any]] = field(default_factory=queue.SimpleQueue)
    _waited_for: set[int] = field(default_factory=set)
    _over: set[int] = field(default_factory=set)
    _done: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            for place, task in enumerate(self.tasks):
                process = _start()
                self._processes.append(process)
                self._waited_for.add(place)
                self._send(place, pickle.dumps(task))
                threading.Thread(target=self._listen, args=(place,), daemon=True).start()
        except BaseException:
            self.close()
            raise

    def follow(self, stage: str) -> dict[int, Any]:
        """Pass on what the processes say until each has come to a stage or failed."""
        reached: dict[int, Any] = {}
        while self._waited_for:
            place, kind, value = self._messages.get()
            if kind == stage:
                reached[place] = value
                self._waited_for.discard(place)
                if stage == "finished" or value is False:
                    self._over.add(place)  # it may end now
            elif kind == "report":
                for level, text in value:
                    self.report(level, text)
            elif kind == "progress":
                self._add_progress(place, value)
            elif place not in self._over:  # failed, or ended without a word
                self._waited_for.discard(place)
                self._over.add(place)
                self._note_failure(place, value)
        return reached

    def let_go(self, places: Sequence[int]) -> None:
        """Let the processes at these places go on to the next stage, but for those that failed."""
        self._waited_for = {place for place in places if place not in self.failures}
        for place in sorted(self._waited_for):
            self._send(place, b"+")

    def check(self) -> None:
        """Raise an error if any process failed."""
        if self.failures:
            reasons = "; ".join(
                f"device {self.tasks[place].device} failed: {text}"
                for place, text in sorted(self.failures.items())
            )
            raise AscendError(reasons)

    def close(self) -> None:
        """End all processes, at once where they do not by themselves."""
        for process in self._processes:
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _note_failure(self, place: int, reason: str) -> None:
        self.failures[place] = reason
        device = self.tasks[place].device
        self.report("ERROR", f"subprocess run failed error_callback:device {device}: {reason}")

    def _send(self, place: int, data: bytes) -> None:
        stream = self._processes[place].stdin
        if stream is not None:
            with suppress(OSError):  # it ended, as what it says last will tell
                stream.write(data)
                stream.flush()

    def _listen(self, place: int) -> None:
        """Queue what a process says until it ends."""
        process = self._processes[place]
        stream = process.stdout
        if stream is None:
            return
        with stream:
            try:
                while True:
                    self._messages.put((place, *pickle.load(stream)))
            except (EOFError, pickle.UnpicklingError):
                code = process.wait()
                self._messages.put((place, "ended", f"its process ended with exit code {code}"))

    def _add_progress(self, place: int, value: tuple[int, int]) -> None:
        self._done[place] = value
        if self.progress is not None:
            done, total = (sum(part) for part in zip(*self._done.values(), strict=True))
            self.progress(done, total)


def _start() -> subprocess.Popen[bytes]:
    # It finds the modules that this process finds, and none in the current folder besides.
    places = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": places},
    )


def _add_up(tasks: Sequence[Task], finished: dict[int, Finished], report: Report) -> BenchResult:
    parts = [finished[place] for place in sorted(finished)]
    for number, place in enumerate(sorted(finished)):
        part = finished[place]
        report(
            "INFO",
            f"i:{number} device_{tasks[place].device} throughput:{part.result.throughput} "
            f"start_time:{part.began} end_time:{part.ended}",
        )
    results = tuple(part.result for part in parts)
    rate = sum(result.throughput for result in results)
    report("INFO", f"summary throughput:{rate}")
    folder = results[0].folder
    total = BenchResult(
        throughput=rate,
        milliseconds=tuple(time for result in results for time in result.milliseconds),
        batch=results[0].batch,
        folder=None if folder is None else tasks[0].settings.saving.folder,
        summary_file=None,
        files=sum(result.files for result in results),
        pictures=sum(result.pictures for result in results),
        outputs=sum(result.outputs for result in results),
        seconds=max(part.ended for part in parts) - min(part.began for part in parts),
        device=", ".join(result.device for result in results),
        summary={},
        parts=results,
    )
    line = total.describe_end_to_end()
    if line is not None:
        report("INFO", line)
    return total
