"""The seam between work that falls into items and who does it: this process, or Ray's tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from reidkit.comparing import MEMORY, one_thread
from reidkit.distributed._cluster import Cluster, connected, speaking
from reidkit.errors import ArgumentError, EngineError, StoreError

SHARES = 4
"""How many items to cut work into for each task that runs at once: they end together."""

_LEAST_MEMORY = 2**26
"""Bytes that a task may take up on whatever machine."""

_RETRIES = 3
"""How often a task runs again whose machine was lost, or whose file system failed."""

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")


class Tasks(Protocol):
    """Whoever runs a function over items."""

    @property
    def memory(self) -> int:
        """About how many bytes one task may take up, besides what all of them share."""

    @property
    def at_once(self) -> int:
        """How many tasks run at the same time."""

    @property
    def room(self) -> int | None:
        """How many bytes of shared values fit onto each machine; `None`: they take up nothing."""

    def run(
        self,
        work: Callable[[Shared, Item], Result],
        shared: Shared,
        items: Iterable[Item],
    ) -> Iterator[Result]:
        """Give `work(shared, item)` of every item, as they come: in any order.

        All four can be pickled, and `work` is a function of a module: tasks may run on other
        machines. It must not change `shared`, which is handed over once, and may run again for
        an item if its machine is lost.

        Raises:
            ReidkitError: a task raised it.
            EngineError: the engine gave up.
        """


@dataclass(frozen=True, slots=True)
class Here:
    """The process itself: one task after the other, in the order of the items."""

    memory: int = MEMORY
    at_once: int = 1
    room: None = None

    def run(
        self,
        work: Callable[[Shared, Item], Result],
        shared: Shared,
        items: Iterable[Item],
    ) -> Iterator[Result]:
        """Run the work; see `Tasks`."""
        for item in items:
            yield work(shared, item)


HERE = Here()


@dataclass(frozen=True, slots=True)
class RayTasks:
    """Tasks of one logical processor each on a Ray cluster; make it with `ray_tasks`."""

    ray: Any
    memory: int
    at_once: int
    room: int

    def run(
        self,
        work: Callable[[Shared, Item], Result],
        shared: Shared,
        items: Iterable[Item],
    ) -> Iterator[Result]:
        """Run the work with few tasks in flight; see `Tasks`.

        What is shared lies once on each machine, and its arrays are used where they lie.
        """
        ray = self.ray
        task = ray.remote(num_cpus=1, max_retries=_RETRIES, retry_exceptions=[StoreError])(_work)
        pending: list[Any] = []
        with speaking():
            held = ray.put(shared)
            try:
                for item in items:
                    pending.append(task.remote(work, held, item))
                    if len(pending) >= self.at_once:
                        done, pending = ray.wait(pending)
                        yield from ray.get(done)
                while pending:
                    done, pending = ray.wait(pending)
                    yield from ray.get(done)
            finally:
                for left in pending:
                    ray.cancel(left)


def ray_tasks(ray: Any, *, memory: int = MEMORY, at_once: int | None = None) -> Tasks:
    """Give the tasks of a cluster that `ray` is connected to.

    As many run `at_once` as the cluster has processors, or fewer where that is said.

    Raises:
        ArgumentError: `at_once` is below 1.
        EngineError: the cluster has no processors.
    """
    if at_once is not None and at_once < 1:
        raise ArgumentError(f"at_once is {at_once}, expected at least 1")
    processors = int(ray.cluster_resources().get("CPU", 0))
    if not processors:
        raise EngineError("the Ray cluster has no processors: add a machine, or --num-cpus to one")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = min(int(resources.get("object_store_memory", 0)) for resources in nodes)
    together = min(processors, at_once or processors)
    # All tasks of a machine together leave half of its memory to others.
    most = min(
        int(resources.get("memory", memory)) // (2 * max(1, int(resources.get("CPU", 1))))
        for resources in nodes
    )
    return RayTasks(ray, max(_LEAST_MEMORY, min(memory, most)), together, room)


@contextmanager
def open_tasks(cluster: Cluster | None, *, memory: int = MEMORY) -> Iterator[Tasks]:
    """Give the tasks of a cluster, `actors` of them at once, or of this process without one.

    Raises:
        MissingExtraError, EngineError: Ray is not installed, or no cluster is there.
    """
    if cluster is None:
        yield Here(memory)
        return
    with connected(cluster) as ray:
        yield ray_tasks(ray, memory=memory, at_once=cluster.actors)


def check_room(tasks: Tasks, size: int) -> None:
    """Refuse to share `size` bytes where they do not fit.

    Raises:
        EngineError: a machine's object store is smaller.
    """
    if tasks.room is not None and size > tasks.room:
        raise EngineError(
            f"the vectors take up {size / 1e9:.2f} GB on each machine, but the smallest object "
            f"store of the Ray cluster holds {tasks.room / 1e9:.2f} GB: start its machines with a "
            "larger --object-store-memory"
        )


def _work(work: Callable[[Shared, Item], Result], shared: Shared, item: Item) -> Result:
    with one_thread():
        return work(shared, item)
