"""The server process: checks, start, and a stop that loses nothing.

The first SIGTERM or SIGINT stops accepting; requests in flight are finished, what waits for the
engine is answered, the gallery is closed. A second signal ends the process at once. Nothing that
was acknowledged depends on a graceful end: it is on disk before the answer is sent.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import numpy as np
import uvicorn
from fastapi import FastAPI

from reidkit import preprocess
from reidkit.embedding import choose_batch
from reidkit.errors import ArgumentError, EngineError
from reidkit.gallery import MEMORY, Gallery, Quality, is_postgres
from reidkit.models import Model
from reidkit.package import Package
from reidkit.serving._app import make_app
from reidkit.serving._connections import Patience, Room, TimedConnection
from reidkit.serving._context import Service
from reidkit.serving._keys import list_keys
from reidkit.serving._limits import Limits
from reidkit.serving._load import BatchLimits
from reidkit.serving._retention import PAUSE

KEYS = "keys.json"
"""The keys file's name in a gallery's folder."""

_HEAD_BYTES = 2**15


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """How a gallery is served.

    Fields:
        host, port: where to listen; port 0 takes a free one.
        keys: the keys file (None: `keys.json` in the gallery's folder).
        no_auth: ask for no keys; for loopback addresses only.
        batch: how requests share the engine.
        limits: what is refused.
        memory: bytes of vectors that may be held in memory.
        device: where the model runs (None: as the package says).
        keep: seconds after which crops are erased (None: never); at least 60.
        quality: what a crop must be to be taken.
        connections: how many may be open; more are answered with 503, `/healthz` excepted.
        idle: seconds that a connection may be idle between two requests.
        patience: what is asked of slow clients.
        grace: seconds that requests in flight have when the service stops.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    keys: str | Path | None = None
    no_auth: bool = False
    batch: BatchLimits = field(default_factory=BatchLimits)
    limits: Limits = field(default_factory=Limits)
    memory: int = MEMORY
    device: str | None = None
    keep: float | None = None
    quality: Quality = field(default_factory=Quality)
    connections: int = 512
    idle: int = 15
    patience: Patience = field(default_factory=Patience)
    grace: int = 30

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ArgumentError(f"port is {self.port}, expected 0 (any free one) to 65535")
        if self.keep is not None and not self.keep >= PAUSE:
            raise ArgumentError(
                f"crops are to be kept for {self.keep:g} s, expected at least {PAUSE:g}: what is "
                "too old is looked for once a minute"
            )
        for name in ("connections", "idle", "grace"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} is {getattr(self, name)}, expected at least 1")


def serve(
    package: str | Path | Package | None,
    *,
    place: str | Path,
    settings: ServeSettings | None = None,
    announce: Callable[[str], None] | None = None,
) -> None:
    """Serve the gallery at `place` until SIGTERM or SIGINT; then return when all is done.

    `package` is the gallery's model package (None: the folder that the gallery remembers).
    `announce` is called with the address, such as `http://127.0.0.1:8000`, once the model is
    loaded and warm. Signals are heeded where this is called in the main thread.

    Raises:
        ArgumentError: no keys, `no_auth` beyond loopback, or an address that cannot be had.
        GalleryError, MismatchError, PackageError, EngineError: gallery or model are unusable.
    """
    settings = settings or ServeSettings()
    keys = choose_keys(place, settings)
    with (
        listen(settings.host, settings.port) as listener,
        Gallery.open(
            place, package=package, memory=settings.memory, device=settings.device
        ) as gallery,
    ):
        warm(gallery.model, settings.batch.batch)
        service = Service(
            gallery,
            keys=keys,
            limits=settings.limits,
            batch=settings.batch,
            keep=settings.keep,
            quality=settings.quality,
        )
        address = name_address(listener, settings.host)
        ready = None if announce is None else functools.partial(announce, address)
        run_server(make_app(service), listener, service=service, settings=settings, ready=ready)


def choose_keys(place: str | Path, settings: ServeSettings) -> Path | None:
    """Give the keys file to go by; `None` where no keys are asked for.

    Raises:
        ArgumentError: there are no keys, or none are wanted beyond loopback.
    """
    if settings.no_auth:
        if not is_loopback(settings.host):
            raise ArgumentError(
                f"a service without keys may only listen on a loopback address, not on "
                f"{settings.host!r}: use 127.0.0.1, or keys"
            )
        return None
    if settings.keys is not None:
        path = Path(settings.keys)
    elif is_postgres(place):
        raise ArgumentError("name the keys file: a gallery in PostgreSQL has no folder to hold it")
    else:
        path = Path(place) / KEYS
    if not list_keys(path):
        raise ArgumentError(
            f"{path} holds no keys, so nobody could ask anything: make one with `reidkit keys add`"
        )
    return path


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's own loopback: 127.0.0.0/8, ::1 or `localhost`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextmanager
def listen(host: str, port: int) -> Iterator[socket.socket]:
    """Listen on an address while the block runs.

    It is taken before anything is loaded, so that an address in use is found out at once; who
    connects meanwhile waits.

    Raises:
        ArgumentError: the address is in use, or is none of this machine's.
    """
    try:
        known = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = known[0][0], known[0][4]
        listener = socket.create_server((str(address[0]), port), family=family, backlog=2048)
        # Connections inherit it; asyncio would not set it for them. Without it the body of an
        # answer waits up to 40 ms for the client to acknowledge the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ArgumentError(
                f"port {port} of {host} is in use: choose another, or 0 for a free one"
            ) from error
        raise ArgumentError(f"cannot listen on port {port} of {host!r}: {error}") from error
    with closing(listener):
        yield listener


def name_address(listener: socket.socket, host: str) -> str:
    """Give the address of a service, such as `http://127.0.0.1:8000`."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"


def warm(model: Model, batch: int | None = None) -> None:
    """Run the smallest and the largest batch once: engines prepare themselves at their first.

    Raises:
        EngineError: the engine fails, or gives NaN or infinity.
    """
    for rows in sorted({1, choose_batch(model, batch)}):
        inputs = preprocess.empty_batch(rows, model.contract, model.runtime.takes)
        inputs[:] = 0
        if not np.isfinite(model.embed(inputs)).all():
            raise EngineError("the model gives NaN or infinity for an empty picture")


def run_server(
    app: FastAPI,
    listener: socket.socket,
    *,
    service: Service,
    settings: ServeSettings,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve an app until a signal says to stop, and return when all is done.

    `ready` is called once signals are heeded: whoever hears of the service may stop it at once.
    """
    room = Room(settings.connections, functools.partial(service.metrics.reject, "connections"))
    config = uvicorn.Config(
        app,
        http=functools.partial(TimedConnection, settings.patience, room),  # type: ignore[arg-type]
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # it names addresses and paths, which are personal data
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=settings.idle,
        timeout_graceful_shutdown=settings.grace,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    server = uvicorn.Server(config)
    # In a thread of its own, where uvicorn leaves signals alone: it would end the process by the
    # signal, when it is a stop that went well.
    with ThreadPoolExecutor(1, "reidkit-server") as thread, _heeding_signals(server, service):
        try:
            if ready is not None:
                ready()
            thread.submit(server.run, sockets=[listener]).result()
        except SystemExit as error:
            raise EngineError("the service could not start: the log says why") from error


@contextmanager
def _heeding_signals(server: uvicorn.Server, service: Service) -> Iterator[None]:
    """Let the first signal stop the server, and a second one the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if service.draining:
            os._exit(128 + number)
        service.draining = True
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
