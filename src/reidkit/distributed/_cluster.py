"""A Ray cluster: connecting to it, what it has, and what its errors mean."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from reidkit.errors import ArgumentError, EngineError, MissingExtraError, ReidkitError
from reidkit.machine import available_cores

_OBJECT_STORE = 2**30
"""Bytes that a cluster started here may use for pictures on their way."""

_THREADS = 4
"""Engine threads of an actor on a cluster's processors, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which Ray, and how much of it.

    Fields:
        address: `local` starts one on this machine and ends it; `auto` finds the one that is
            running or that RAY_ADDRESS names; anything else is the address of one.
        actors: how many copies of the model run; `None` for as many as fit.
        threads: of the inference engine in each; `None` for a choice by the processors.
    """

    address: str = "auto"
    actors: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("actors", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ArgumentError(f"{name} is {value}, expected at least 1")


@dataclass(frozen=True, slots=True)
class Share:
    """What each actor takes up: logical processors and GPUs, and threads of its engine."""

    actors: int
    cpus: float
    gpus: int
    threads: int


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Give `ray`, connected; what was connected before stays so.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: no cluster is there.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    try:
        with _muted():
            if cluster.address == "local":
                ray.init(
                    address="local",
                    num_cpus=_logical_processors(),
                    object_store_memory=_OBJECT_STORE,
                    include_dashboard=False,
                    **quiet,
                )
            else:
                ray.init(address=cluster.address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"no Ray cluster answers at {cluster.address!r} ({_first_line(error)}): start one with "
            "`ray start --head`, or use the address local"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _logical_processors() -> int:
    """Two for each core of this machine: reading goes on beside the engine."""
    return 2 * available_cores()


def share_out(ray: Any, cluster: Cluster, device: str) -> Share:
    """Choose how many actors run and what each takes; reading keeps a processor at least.

    Raises:
        ArgumentError: more actors than fit beside reading: the run would wait for ever.
    """
    has = ray.cluster_resources()
    cpus, gpus = int(has.get("CPU", 0)), int(has.get("GPU", 0))
    if device.split(":")[0] in ("cuda", "tensorrt"):
        actors = cluster.actors or max(1, gpus)
        if actors > gpus:
            raise ArgumentError(f"{actors} actors on {device}, but the cluster has {gpus} GPUs")
        return Share(actors, 0, 1, cluster.threads or 1)
    if cluster.address == "local" and cpus >= _logical_processors():
        actors = cluster.actors or 1
        threads = cluster.threads or max(1, available_cores() // actors)
        return Share(actors, available_cores() / actors, 0, threads)
    return _share_processors(_list_processors(ray), cluster)


def _share_processors(machines: Sequence[int], cluster: Cluster) -> Share:
    """Fit actors onto machines by their processors; an eighth of all is for reading."""
    total = sum(machines)
    reading = max(1, total // 8)
    threads = cluster.threads or max(1, min(_THREADS, max(machines, default=0), total - reading))
    room = min(sum(machine // threads for machine in machines), (total - reading) // threads)
    actors = cluster.actors or max(1, room)
    if actors > room:
        raise ArgumentError(
            f"{actors} actors with {threads} threads each do not fit: the cluster's machines have "
            f"{' + '.join(map(str, machines)) or 'no'} processors, of which {reading} stay for "
            "reading: take fewer --actors or --threads, or more machines"
        )
    return Share(actors, threads, 0, threads)


def _list_processors(ray: Any) -> list[int]:
    """List the processors of each machine that has some."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [count for node in nodes if (count := int(node.get("CPU", 0)))]


@contextmanager
def speaking() -> Iterator[None]:
    """Turn what Ray raises into reidkit's own errors: those of tasks as they were raised there.

    Raises:
        ReidkitError: a task raised it.
        EngineError: Ray itself gave up.
    """
    try:
        yield
    except ReidkitError:
        raise
    except Exception as error:  # Ray wraps errors of tasks in classes made on the spot
        found = _find_own(error)
        if found is not None:
            raise found from error
        module = type(error).__module__
        if module.startswith("ray"):
            raise EngineError(f"Ray gave up: {_first_line(error)}") from error
        raise


@contextmanager
def quiet_data() -> Iterator[None]:
    """Let Ray Data work without bars and notes, and hand on each block as soon as it is there."""
    data = import_module("ray.data")
    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Each section is a block of its own, whatever its size.
    context.target_max_block_size = 1
    context.retried_map_errors = [r"cannot be (read|written|deleted|looked at|listed)"]
    context.max_map_retries = 3
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with data.DataContext.current(context):
            yield
    finally:
        log.setLevel(level)


def _import_ray() -> Any:
    # Ray reports usage to its maker and writes notes to the terminal unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "ray") from error
    return ray


@contextmanager
def _muted() -> Iterator[None]:
    """Keep what Ray's own core writes to the terminal, past Python, while it starts."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _find_own(error: BaseException | None) -> ReidkitError | None:
    """Find reidkit's own error among the causes of another."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        inner = getattr(error, "cause", None)
        if isinstance(inner, ReidkitError):
            return inner
        if type(error).__module__ == "reidkit.errors":
            return error if isinstance(error, ReidkitError) else None
        error = inner if isinstance(inner, BaseException) else error.__cause__
    return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
