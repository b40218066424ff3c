"""What a running service holds, and how its routes get blocking work done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from reidkit.errors import MismatchError
from reidkit.gallery import Quality
from reidkit.models import Model
from reidkit.serving._batching import Batcher
from reidkit.serving._census import Census
from reidkit.serving._keys import KeyRing
from reidkit.serving._limits import Buckets, Budget, Limits
from reidkit.serving._load import BatchLimits, Overloaded
from reidkit.serving._metrics import Metrics
from reidkit.serving._problems import RequestError
from reidkit.serving._retention import Retention

if TYPE_CHECKING:
    from reidkit.gallery import Gallery

P = ParamSpec("P")
T = TypeVar("T")


class Service:
    """A gallery, its model's batches, and whom the service lets do what. For one event loop.

    `keys` is `None` for a service that asks for none, which must be bound to loopback alone.
    `draining` is true once the service is about to stop.
    """

    def __init__(
        self,
        gallery: Gallery,
        *,
        keys: Path | str | None,
        limits: Limits | None = None,
        batch: BatchLimits | None = None,
        keep: float | None = None,
        quality: Quality | None = None,
    ) -> None:
        """Serve a gallery by the keys of a file; `keep` erases crops older than so many seconds.

        Raises:
            PackageError, EngineError: the gallery's model cannot be loaded.
        """
        self.gallery = gallery
        self.model: Model = gallery.model
        self.binding = gallery.binding
        self.limits = limits or Limits()
        self.quality = quality or Quality()
        self.draining = False
        self.metrics = Metrics()
        self.batcher = Batcher(gallery.model, limits=batch or BatchLimits(), observe=self.metrics)
        self.census = Census(gallery, self.metrics)
        self.retention = (
            Retention(gallery, keep, metrics=self.metrics) if keep is not None else None
        )
        self.keys = KeyRing(keys) if keys is not None else None
        self.bodies = Budget(self.limits.bodies_bytes, "bodies")
        self.decoded = Budget(self.limits.decoded_bytes, "decoding")
        self.rates = Buckets(self.limits.rate, self.limits.burst)
        self.failures = Buckets(self.limits.failures, self.limits.failures_burst)
        self._threads = anyio.CapacityLimiter(self.limits.threads)
        self._calls = 0  # those that run and those that wait

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking call in one of the service's threads.

        A call that has begun is waited for, whatever becomes of the request; one that still waits
        for a thread is dropped with its request.

        Raises:
            Overloaded: too many calls wait for a thread.
            RequestError: 409 the gallery was bound to another model since the service started.
        """
        if self._calls >= self.limits.threads + self.limits.waiting:
            raise Overloaded("threads", 1)

        def work() -> T:
            try:
                return call(*args, **kwargs)
            except MismatchError as error:
                if self.gallery.store.binding().same_vectors(self.binding):
                    raise
                raise RequestError(
                    409,
                    "the gallery has moved to another model: restart the service with the new "
                    "package",
                    kind="rebound",
                ) from error

        self._calls += 1
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._calls -= 1


async def while_connected(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Do what a request asks for, unless its client goes away first.

    Its body must have been read. What already runs in a thread is still waited for.

    Raises:
        ClientDisconnect: the client went away: nobody waits for an answer.
    """
    results: list[T] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            results.append(await work())
        except Exception as error:  # noqa: BLE001 - kept out of the group, which would wrap it
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ClientDisconnect
    return results[0]


def service_of(request: Request) -> Service:
    """Give the service that a request came to."""
    service: Service = request.app.state.service
    return service
