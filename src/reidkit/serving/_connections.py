"""Connections that do not wait for ever, and no more of them than there is room for.

uvicorn limits how long a connection may be idle between requests, but not how long a client may
take over the head of a request, its body, or the reading of the answer. A few such clients would
hold all the connections that a service has. It counts connections only when they ask something,
so that those that never do could take every file descriptor of the process.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from fastapi import Response
from fastapi.responses import JSONResponse
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reidkit.errors import ArgumentError
from reidkit.serving._problems import RequestError, answer_problem
from reidkit.serving._security import add_headers

_SPARE = 64
_SPARE_SECONDS = 2.0
_ALIVE = (b"GET /healthz ", b"HEAD /healthz ")


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


class Room:
    """How many connections may be open. For one event loop.

    A few more are held until they have said what they ask: that is answered with 503, but for
    `/healthz`, since the process is alive. Beyond those a connection is refused unheard.
    """

    def __init__(self, most: int, refused: Callable[[], None]) -> None:
        """`refused` is called for each connection that is not served."""
        self.most, self.refused, self.spare = most, refused, _SPARE

    def answer(self, asked: bytes) -> bytes:
        """Say what a connection beyond the room is answered to the start of its request."""
        request_id = secrets.token_hex(8)
        if asked.startswith(_ALIVE):
            answer: Response = JSONResponse({"status": "alive"})
        else:
            self.refused()
            detail = "too many connections are open already: ask again in 1 s"
            error = RequestError(503, detail, kind="overloaded", headers={"Retry-After": "1"})
            answer = answer_problem(error, request_id)
        add_headers(answer.headers, request_id)
        head = f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}\r\n".encode()
        lines = b"".join(name + b": " + text + b"\r\n" for name, text in answer.raw_headers)
        body = b"" if asked.startswith(b"HEAD ") else bytes(answer.body)
        return head + lines + b"connection: close\r\n\r\n" + body


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
        room: Room,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._patience, self._room, self._state = patience, room, server_state
        self._asked: bytearray | None = None  # what one beyond the room has said
        self._inner = H11Protocol(config, server_state, app_state, _loop)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._received = 0
        self._before = _Moment(None, "request", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to watch a connection."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            if len(self._state.connections) >= self._room.most:
                self._hear()
                return
            self._inner.connection_made(transport)
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Count what arrives."""
        self._received += len(data)
        if self._asked is None:
            self._inner.data_received(data)
            return
        self._asked += data
        if b"\n" in data or len(self._asked) > 1024:
            self._turn_away()

    def eof_received(self) -> None:
        """Pass on that nothing more will arrive."""
        if self._asked is None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on that the client does not take what was written."""
        if self._asked is None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it does again."""
        if self._asked is None:
            self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asked is None:
            self._inner.connection_lost(exc)
        else:
            self._room.spare += 1

    def _hear(self) -> None:
        self._asked = bytearray()
        self._room.spare -= 1
        if self._room.spare < 0:
            self._turn_away()
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SPARE_SECONDS, self._turn_away)

    def _turn_away(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(self._room.answer(bytes(self._asked or b"")))
            self._transport.close()

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
