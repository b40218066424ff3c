"""Connections that do not wait for ever: slow and silent clients are dropped.

uvicorn limits how long a connection may be idle between requests, but not how long a client may
take over the head of a request, its body, or the reading of the answer. A few such clients would
hold all the connections that a service has.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NamedTuple

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reidkit.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Patience:
    """What is asked of a client.

    Fields:
        window: seconds. In each, a connection must bring the head of a request, or `least` bytes
            of a body, or take some of the answer. Dropped is who does not, within two windows.
        least: bytes.
    """

    window: float = 10.0
    least: int = 1024

    def __post_init__(self) -> None:
        if not 0 < self.window <= 3600 or self.least < 1:
            raise ArgumentError(
                f"patience is {self.window} s for {self.least} bytes, expected above 0 s, at most "
                "3600, and at least 1 byte"
            )


class _Moment(NamedTuple):
    """What a connection was doing: `stage` of which request, and how far it had come."""

    request: object
    stage: str
    progress: int


class TimedConnection(asyncio.Protocol):
    """uvicorn's connection, looked at once in each window."""

    def __init__(
        self,
        patience: Patience,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._patience = patience
        self._inner = H11Protocol(config, server_state, app_state, _loop)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._before = _Moment(None, "request", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch a connection."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._inner.connection_made(transport)
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Count what arrives."""
        self._received += len(data)
        self._inner.data_received(data)

    def eof_received(self) -> None:
        """Pass on that nothing more will arrive."""
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the client does not take what was written."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it does again."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        self._inner.connection_lost(exc)

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._patience.window, self._look)

    def _look(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        now = self._find_moment(self._transport)
        if self._is_stuck(now):
            self._transport.abort()
            return
        self._before = now
        self._wait()

    def _find_moment(self, transport: asyncio.Transport) -> _Moment:
        cycle, left = self._inner.cycle, transport.get_write_buffer_size()
        if left:  # even after the app has said all
            return _Moment(cycle, "answer", left)
        # Before the first request it is None, whatever its type says.
        if cycle is None or cycle.response_complete:  # type: ignore[redundant-expr]
            return _Moment(cycle, "request", 0)
        if cycle.more_body and not self._inner.flow.read_paused:
            return _Moment(cycle, "body", self._received)
        return _Moment(cycle, "work", 0)

    def _is_stuck(self, now: _Moment) -> bool:
        before = self._before
        if now.request is not before.request or now.stage != before.stage:
            return False
        if now.stage == "body":
            return now.progress - before.progress < self._patience.least
        return now.stage == "request" or (now.stage == "answer" and now.progress == before.progress)
