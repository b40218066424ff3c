"""The guide's tool over several devices at once: `MultiDeviceSession`, a process for each feed.

Its names mirror that interface, as those of `InferSession` do.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reidkit.ascend.interface._session import InferSession
from reidkit.ascend.interface._tensors import take_feed
from reidkit.errors import AscendError, EngineError
from reidkit.runtimes.sessions import Array

MOST_PROCESSES = 64

_Method = Literal["infer", "infer_pipeline", "infer_iteration"]


@dataclass(frozen=True, slots=True)
class _Task:
    """What one process does: open the model, and call a method of its session once."""

    model_path: str
    device_id: int
    loop: int
    method: _Method
    feeds: list[Any]
    options: Mapping[str, Any]


class MultiDeviceSession:
    """A model that is opened on several devices, in a process of its own for each list of feeds.

    The processes are started anew, not forked, so that a script that uses this needs the usual
    `if __name__ == "__main__":`. `acl_json_path` and `debug` are as for `InferSession`.
    """

    def __init__(
        self,
        model_path: str | Path,
        acl_json_path: str | None = None,
        debug: bool = False,
        loop: int = 1,
    ) -> None:
        self._model_path, self._loop = str(model_path), loop
        self._times: dict[int, list[list[float]]] = {}

    def infer(
        self,
        devices_feeds: Mapping[int, Sequence[Sequence[object]]],
        mode: str = "static",
        custom_sizes: int | Sequence[int] = 100000,
    ) -> dict[int, list[list[Array]]]:
        """Infer, for each device number, every list of feeds in a process of its own.

        Gives for each device the outputs in the order of its feeds.

        Raises:
            AscendError: more processes than `MOST_PROCESSES`, or a feed that does not fit.
            EngineError: an engine failed, or a process ended.
        """
        options = {"mode": mode, "custom_sizes": custom_sizes}
        return self._run("infer", devices_feeds, options)

    def infer_pipeline(
        self,
        devices_feeds_list: Mapping[int, Sequence[Sequence[Sequence[object]]]],
        mode: str = "static",
        custom_sizes: int | Sequence[int] = 100000,
    ) -> dict[int, list[list[list[Array]]]]:
        """Infer, for each device number, lists of lists of feeds; as `infer`."""
        options = {"mode": mode, "custom_sizes": custom_sizes}
        return self._run("infer_pipeline", devices_feeds_list, options)

    def infer_iteration(
        self,
        device_feeds: Mapping[int, Sequence[Sequence[object]]],
        in_out_list: Sequence[int] | None = None,
        iteration_times: int = 1,
        mode: str = "static",
        custom_sizes: int | Sequence[int] = 100000,
        mem_copy: bool = True,
    ) -> dict[int, list[list[Array]]]:
        """Infer several times and feed outputs back, as `InferSession.infer_iteration`."""
        options = {
            "in_out_list": in_out_list,
            "iteration_times": iteration_times,
            "mode": mode,
            "custom_sizes": custom_sizes,
        }
        return self._run("infer_iteration", device_feeds, options)

    def summary(self) -> dict[int, list[list[float]]]:
        """Give for each device the milliseconds of the executions of its processes."""
        return {device: [list(times) for times in lists] for device, lists in self._times.items()}

    def _run(
        self,
        method: _Method,
        feeds: Mapping[int, Sequence[Sequence[Any]]],
        options: Mapping[str, object],
    ) -> dict[int, Any]:
        tasks = [
            _Task(self._model_path, device, self._loop, method, _take_feeds(group), options)
            for device, groups in feeds.items()
            for group in groups
        ]
        if not 1 <= len(tasks) <= MOST_PROCESSES:
            raise AscendError(
                f"{len(tasks)} lists of feeds were given: each runs in a process of its own, and "
                f"there are from 1 to {MOST_PROCESSES} of these"
            )
        self._times = {device: [] for device in feeds}
        made: dict[int, Any] = {device: [] for device in feeds}
        for task, (outputs, times) in zip(tasks, _work_apart(tasks), strict=True):
            made[task.device_id].append(outputs)
            self._times[task.device_id].append(times)
        return made


def _take_feeds(feeds: Sequence[Any]) -> list[Any]:
    """Make arrays of feeds, or of lists of feeds: other processes get numpy alone."""
    return [
        _take_feeds(feed) if isinstance(feed, list | tuple) else take_feed(feed) for feed in feeds
    ]


def _work_apart(tasks: Sequence[_Task]) -> list[tuple[Any, list[float]]]:
    # The chip's toolkit does not survive a fork, and neither do the engines' threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(tasks), context, max_tasks_per_child=1) as pool:
        try:
            return list(pool.map(_work, tasks))
        except BrokenProcessPool as error:
            raise EngineError(
                "a process of several devices ended before it answered: was it killed, out of "
                'memory, or does the script lack its `if __name__ == "__main__":`?'
            ) from error


def _work(task: _Task) -> tuple[Any, list[float]]:
    session = InferSession(task.device_id, task.model_path, loop=task.loop)
    try:
        outputs = getattr(session, task.method)(task.feeds, **task.options)
        return outputs, session.summary().exec_time_list
    finally:
        session.free_resource()
