"""The process of one package: `python -m reidkit.benchmarking._worker`.

It takes requests on its standard input and answers each on its standard output, one line of JSON
each, and ends when the input does: that is how it notices that its parent is gone.

    -> {"do": "time_engine", "batch": 8, "seconds": 0.4}
    <- {"value": [0.0213, 0.0208]}   or   {"error": "EngineError", "message": "...", ...}
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from reidkit.benchmarking._bench import Bench
from reidkit.errors import ReidkitError
from reidkit.models import load_model

_GRACE = 1.0
"""Seconds that a run under way gets to end in once the parent is gone."""


def main() -> None:
    """Answer requests until the input ends; the first one loads the model."""
    # A terminal sends Ctrl-C to all processes at once. The parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = _take_standard_output()
    bench: Bench | None = None
    try:
        for request in _follow_input():
            try:
                if bench is None:
                    bench = _load(**request)
                    _send(answers, {"value": _describe(bench)})
                else:
                    _send(answers, {"value": _do(bench, **request)})
            except Exception as error:  # noqa: BLE001 - the parent raises it
                _send(answers, _describe_error(error))
    finally:
        if bench is not None:
            bench.model.close()


def _load(
    folder: str, device: str | None, threads: int | None, workers: int | None, paths: list[str]
) -> Bench:
    model = load_model(folder, device=device, threads=threads)
    bench = Bench(model, paths, workers=workers)
    bench.embed_first()
    return bench


def _describe(bench: Bench) -> dict[str, object]:
    runtime = bench.model.runtime
    return {"runtime": runtime.name, "device": runtime.device, "process": os.getpid()}


def _do(bench: Bench, do: str, **arguments: Any) -> object:
    actions: dict[str, Callable[..., object]] = {
        "warm_up": bench.warm_up,
        "check": bench.check,
        "time_engine": bench.time_engine,
        "time_end_to_end": bench.time_end_to_end,
        "time_stages": bench.time_stages,
        "measure_peak": measure_peak,
    }
    return actions[do](**arguments)


def _describe_error(error: Exception) -> dict[str, object]:
    if isinstance(error, ReidkitError):
        return {"error": type(error).__name__, "message": str(error), "fields": vars(error)}
    if isinstance(error, MemoryError):
        return {"error": "EngineError", "message": f"out of memory: {error}", "fields": {}}
    message = f"{type(error).__name__}: {error}"
    notes = {"__notes__": ["".join(traceback.format_exception(error))]}
    return {"error": "EngineError", "message": message, "fields": notes}


def measure_peak() -> int:
    """Give the most main memory that this process had, in bytes; 0 where that is not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return _measure_peak_without_proc()


def _measure_peak_without_proc() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _take_standard_output() -> TextIO:
    """Keep standard output for the answers alone: what an engine prints goes to the errors."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return answers


def _send(answers: TextIO, value: dict[str, object]) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _follow_input() -> Iterator[dict[str, Any]]:
    """Give the requests; once the input ends, end this process even in the midst of a run."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in iter(sys.stdin.readline, ""):
            lines.put(line)
        lines.put("")
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    for line in iter(lines.get, ""):
        yield json.loads(line)


if __name__ == "__main__":
    main()
