"""The process of one of several devices: `python -m reidkit.ascend.bench._worker`.

It takes its task on standard input, then a byte each time that it may go on, and says on standard
output how far it is: `checked` (whether it has files), `ready`, `finished`, and between these what
there is to report. Both ends are this program, so the messages are pickles. It ends when its input
does: that is how it notices that its parent is gone.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import time
from typing import BinaryIO

from reidkit.ascend.bench._bench import claim, execute, finish, open_session, prepare, start
from reidkit.ascend.bench._devices import Finished, Task
from reidkit.errors import ReidkitError


def main() -> None:
    """Do the task that standard input holds."""
    # A terminal sends Ctrl-C to all processes at once. The parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    teller = _Teller(_take_standard_output())
    task: Task = pickle.load(sys.stdin.buffer)
    allowed = _follow_input()
    try:
        _do(task, teller, allowed)
    except (ReidkitError, OSError, MemoryError) as error:
        teller.tell("failed", str(error) or type(error).__name__)
    except Exception as error:  # noqa: BLE001 - the parent names it
        teller.tell("failed", f"{type(error).__name__}: {error}")


class _Teller:
    """What goes to the parent; lines for the console go together with the next stage."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lines: list[tuple[str, str]] = []

    def report(self, level: str, text: str) -> None:
        """Take a line, so that those of several devices do not get mixed up."""
        self._lines.append((level, text))

    def progress(self, done: int, total: int) -> None:
        """Send how far it is."""
        self._send("progress", (done, total))

    def tell(self, stage: str, value: object) -> None:
        """Send the lines so far, and that a stage is reached."""
        self._send("report", self._lines)
        self._lines = []
        self._send(stage, value)

    def _send(self, kind: str, value: object) -> None:
        pickle.dump((kind, value), self._stream)
        self._stream.flush()


def _do(task: Task, teller: _Teller, allowed: queue.SimpleQueue[None]) -> None:
    with open_session(task.settings, task.device, teller.report) as session:
        job = prepare(session, task.settings, teller.report, task.share)
        teller.tell("checked", job is not None)
        if job is None:
            return
        allowed.get()
        with claim(job):
            start(job, teller.report)
            teller.tell("ready", None)
            allowed.get()
            began = time.time()
            measured = execute(job, teller.progress)
            ended = time.time()
            finished = Finished(finish(job, measured, teller.report), began, ended)
    teller.tell("finished", finished)


def _take_standard_output() -> BinaryIO:
    """Keep standard output for the messages alone: what an engine prints goes to the errors."""
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def _follow_input() -> queue.SimpleQueue[None]:
    """Queue each byte of the input; once it ends, end this process even in the midst of a run."""
    signs: queue.SimpleQueue[None] = queue.SimpleQueue()

    def read() -> None:
        # Not through sys.stdin: its lock, held by a thread, is fatal when Python ends.
        while os.read(0, 1):
            signs.put(None)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return signs


if __name__ == "__main__":
    main()
