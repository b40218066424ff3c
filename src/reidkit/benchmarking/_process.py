"""The parent's end of a package's process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from reidkit import errors
from reidkit.errors import ArgumentError, EngineError, ReidkitError, UnreadableImage
from reidkit.package import Package

_MODULE = "reidkit.benchmarking._worker"
_PATIENCE = 5.0
"""Seconds that a process gets to end in before it is killed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How the packages are run.

    `device` is one that `load_model` takes (None: the one a package was compiled for); `threads`
    are the engine's, `workers` those that decode (None: one for each core).

    Raises:
        ArgumentError: a number of threads is below 1.
    """

    device: str | None = None
    threads: int | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        for name, count in (("threads", self.threads), ("workers", self.workers)):
            if count is not None and count < 1:
                raise ArgumentError(f"{name} is {count}, expected at least 1")


class Worker:
    """A package in a process of its own, which ends with the `with` block or with its parent.

    `runtime` and `device` are what really runs it; `cold_start` the seconds from the start of
    the process to the first picture's vector.

    Raises:
        ReidkitError: the error that loading the model raised there.
        EngineError: the process ended.
    """

    def __init__(self, package: Package, paths: Sequence[str], setting: Setting) -> None:
        self.package = package
        self._errors = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - closed by `close`
        start = time.perf_counter()
        self._process = _start(self._errors.fileno())
        try:
            description = self._exchange(
                {
                    "folder": str(package.folder),
                    "device": setting.device,
                    "threads": setting.threads,
                    "workers": setting.workers,
                    "paths": list(paths),
                },
                "load the model",
            )
        except BaseException:
            self.close()
            raise
        self.cold_start = time.perf_counter() - start
        self.runtime: str = description["runtime"]
        self.device: str = description["device"]
        self.process_id: int = description["process"]

    def ask(self, do: str, **arguments: object) -> Any:
        """Have the process do something, and wait for its answer.

        Raises:
            ReidkitError: the error that it raised there.
            EngineError: the process ended.
        """
        return self._exchange({"do": do, **arguments}, do.replace("_", " "))

    def close(self) -> None:
        """End the process, at once if it does not by itself."""
        try:
            self._process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.communicate()
            self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(self, request: dict[str, object], doing: str) -> Any:
        requests, answers = self._process.stdin, self._process.stdout
        line = ""
        if requests is not None and answers is not None:
            try:
                requests.write(json.dumps(request) + "\n")
                requests.flush()
                line = answers.readline()
            except BrokenPipeError:
                pass  # it ended, as the empty line says
        if not line.endswith("\n"):
            raise EngineError(self._describe_end(doing))
        answer = json.loads(line)
        if "error" in answer:
            raise _make_error(answer["error"], answer["message"], answer["fields"])
        return answer["value"]

    def _describe_end(self, doing: str) -> str:
        code = self._process.wait()
        how = f"exit code {code}" if code >= 0 else f"killed by {_name_signal(-code)}"
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        last = next((f": {line.strip()}" for line in reversed(said) if line.strip()), "")
        hint = " (out of memory?)" if abs(code) in (9, 137) else ""
        name = self.package.spec.name
        return f"the process of {name} ended ({how}){hint} when it was to {doing}{last}"


def _start(errors_to: int) -> subprocess.Popen[str]:
    # It finds the modules that this process finds, and none in the current folder besides.
    places = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", _MODULE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors_to,
        text=True,
        encoding="ascii",
        env=os.environ | {"PYTHONPATH": places},
    )


def _make_error(name: str, message: str, fields: dict[str, Any]) -> ReidkitError:
    """Make the error that was raised in the process, whatever its constructor takes."""
    kind: type[ReidkitError] = getattr(errors, name)
    error = kind.__new__(kind, message)
    if "images" in fields:
        fields["images"] = tuple(UnreadableImage(*image) for image in fields["images"])
    vars(error).update(fields)
    return error


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
