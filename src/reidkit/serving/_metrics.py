"""What the service measures of itself, for Prometheus, and its log of requests.

Each service has a registry of its own. Labels hold route templates, never paths: names of people
stand in paths, and every label value is kept for ever. The log leaves out addresses and paths for
the same reason.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.requests import ClientDisconnect

from reidkit.serving._load import EngineRun

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The type of what `Metrics.render` gives."""

Stage = Literal["decode", "queue", "engine", "search", "total"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_GONE = 499  # nginx's number for a client that left before the answer

logger = logging.getLogger(__name__)


class Metrics:
    """One service's counters. Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "reidkit_requests",
            "Answered requests.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._stages = Histogram(
            "reidkit_stage_seconds",
            "Latency by stage: decode, queue, engine, search, and total for a whole request.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "reidkit_batch_pictures", "Pictures in an engine run.", buckets=_ROWS, registry=registry
        )
        self._embedded = Counter(
            "reidkit_embedded_pictures", "Pictures embedded.", registry=registry
        )
        self._failures = Counter(
            "reidkit_engine_failures", "Failed engine runs.", registry=registry
        )
        self._rejected = Counter(
            "reidkit_rejected", "Refused requests, by reason.", ("reason",), registry=registry
        )
        self._expired = Counter(
            "reidkit_retention_erased_crops", "Crops erased by retention.", registry=registry
        )
        self._retention = Counter(
            "reidkit_retention_failures", "Times that retention failed.", registry=registry
        )
        self._gauges: dict[str, Gauge] = {}

    def observe(self, stage: Stage, seconds: float) -> None:
        """Take note of how long a stage took."""
        self._stages.labels(stage).observe(seconds)

    @contextmanager
    def time(self, stage: Stage) -> Iterator[None]:
        """Measure how long the block takes, whatever comes of it."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(stage, time.perf_counter() - started)

    def observe_run(self, run: EngineRun) -> None:
        """Take note of a run of the engine, as `Batcher` tells it."""
        self._batches.observe(run.rows)
        self.observe("engine", run.seconds)
        for seconds in run.waits:
            self.observe("queue", seconds)
        if run.failed:
            self._failures.inc()
        else:
            self.count_embedded(run.rows)

    def count_embedded(self, pictures: int) -> None:
        """Count pictures that were turned into vectors."""
        self._embedded.inc(pictures)

    def count_request(self, route: str, method: str, status: int, *, seconds: float) -> None:
        """Count an answered request; `route` is its template."""
        known = method if method in _METHODS else "other"
        self._requests.labels(route, known, str(status)).inc()
        self.observe("total", seconds)

    def reject(self, reason: str) -> None:
        """Count a refused request; `reason` is one of a few short names."""
        self._rejected.labels(reason).inc()

    def count_retention(self, erased: int, *, failed: bool = False) -> None:
        """Count what a round of retention erased, or that it failed."""
        self._expired.inc(erased)
        self._retention.inc(int(failed))

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Show a number that is asked for whenever the metrics are read.

        Watching a name anew replaces what was watched.
        """
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"reidkit_{name}", description, registry=self.registry)
        self._gauges[name].set_function(value)

    def set(self, name: str, description: str, value: float) -> None:
        """Show a number until another is set."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"reidkit_{name}", description, registry=self.registry)
        self._gauges[name].set(value)

    def render(self) -> bytes:
        """Give everything in Prometheus' text format."""
        return generate_latest(self.registry)


class RequestMeter:
    """ASGI middleware, to be the outermost: counts and logs every request when it was answered."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and take note of its status and time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status = _GONE

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            status = _GONE  # there is nobody to tell
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - started
            route = find_template(scope)
            self.metrics.count_request(route, scope["method"], status, seconds=seconds)
            logger.info(
                "request %s: %s %s %d in %.1f ms",
                scope.get("request_id", "-"),
                scope["method"] if scope["method"] in _METHODS else "other",
                route,
                status,
                1000 * seconds,
            )


def find_template(scope: Scope) -> str:
    """Give the template of the route that a request was handed to, such as `/v1/persons/{name}`.

    `unmatched` where there was none: what a client makes up must not become a label.
    """
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else "unmatched"
