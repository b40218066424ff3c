"""The server process: what it refuses, slow clients, and that no end of it loses anything."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from reidkit import serving
from reidkit.cli.serve import Serving, _word_protection, command
from reidkit.errors import ArgumentError, EngineError
from reidkit.gallery import Gallery
from reidkit.models import Model
from reidkit.runtimes.fake import FakeRuntime
from reidkit.serving._app import make_app
from reidkit.serving._connections import Patience, Room, TimedConnection
from reidkit.serving._context import Service
from reidkit.serving._keys import add_key
from reidkit.serving._server import (
    ServeSettings,
    choose_keys,
    is_loopback,
    listen,
    name_address,
    run_server,
    serve,
    warm,
)
from tests.pictures import fake_model
from tests.serving_app import draw_pngs, encode, make_gallery

SCRIPT = """
import sys, time
from reidkit.runtimes.fake import FakeRuntime
from reidkit.serving._load import BatchLimits
from reidkit.serving._server import ServeSettings, serve

place, delay = sys.argv[1], float(sys.argv[2])
run, warming = FakeRuntime.run, [1, 1]

def slowly(self, inputs):
    time.sleep(0 if warming else delay)
    if warming:
        warming.pop()
    return run(self, inputs)

FakeRuntime.run = slowly
settings = ServeSettings(port=0, no_auth=True, batch=BatchLimits(batch=2, queue=64, deadline=60))
serve(None, place=place, settings=settings, announce=lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


@contextmanager
def process(folder: Path, delay: float) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve the gallery of a folder in a process of its own: the process and its address."""
    script = folder / "serve_it.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(folder / "gallery"), str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def is_refused(address: str) -> bool:
    try:
        httpx.get(f"{address}/healthz")
    except httpx.ConnectError:
        return True
    return False


def test_a_graceful_stop_answers_everything_in_flight(tmp_path: Path) -> None:
    make_gallery(tmp_path).close()
    pngs = draw_pngs(8)

    def enrol(address: str, number: int) -> int:
        body = {"person": f"person {number}", "pictures": encode(pngs[number])}
        return httpx.post(f"{address}/v1/persons", json=body, timeout=60).status_code

    with process(tmp_path, 0.15) as (running, address), ThreadPoolExecutor(8) as threads:
        assert httpx.get(f"{address}/readyz").status_code == 200
        with httpx.Client(base_url=address) as idle:
            answers = [threads.submit(enrol, address, number) for number in range(8)]
            until(
                lambda: re.search("^reidkit_queue_pictures [3-7]", idle.get("/metrics").text, re.M)
            )
            running.send_signal(signal.SIGTERM)
            assert [answer.result() for answer in answers] == [201] * 8
        until(lambda: is_refused(address))
        assert running.wait(30) == 0
        assert running.stdout is not None
        assert running.stdout.read() == "stopped\n"
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert len(gallery.list_people()) == 8


def test_a_stop_at_the_very_start_is_graceful_too(tmp_path: Path) -> None:
    make_gallery(tmp_path).close()
    at_once = "announce=lambda url: (print(url, flush=True), os.kill(os.getpid(), signal.SIGTERM))"
    script = tmp_path / "serve_it.py"
    script.write_text(
        "import os, signal\n"
        + SCRIPT.replace("announce=lambda url: print(url, flush=True)", at_once)
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "gallery"), "0"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines()[1:] == ["stopped"]


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    make_gallery(tmp_path).close()
    pngs = draw_pngs(40)
    acknowledged: list[str] = []

    def enrol(address: str, first: int) -> None:
        with httpx.Client(base_url=address) as client:
            for number in range(first, len(pngs), 4):
                body = {"person": f"person {number}", "pictures": encode(pngs[number])}
                if client.post("/v1/persons", json=body).status_code == 201:
                    acknowledged.append(body["person"])  # type: ignore[arg-type]

    with process(tmp_path, 0.02) as (running, address), ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(enrol, address, first) for first in range(4)]
        until(lambda: len(acknowledged) >= 12)
        running.kill()
        assert running.wait(30) == -signal.SIGKILL
        for client in clients:
            assert isinstance(client.exception(), httpx.TransportError)
    assert len(acknowledged) < len(pngs)
    with Gallery.open(tmp_path / "gallery") as gallery:
        assert {person.name for person in gallery.list_people()} >= set(acknowledged)
        assert gallery.stats().crops >= len(acknowledged)


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    make_gallery(tmp_path).close()
    body = {"pictures": encode(*draw_pngs(1))}
    with process(tmp_path, 600) as (running, address), ThreadPoolExecutor(1) as threads:
        client = threads.submit(httpx.post, f"{address}/v1/embed", json=body, timeout=60)
        until(lambda: '_count{stage="decode"} 1.0' in httpx.get(f"{address}/metrics").text)
        running.send_signal(signal.SIGINT)
        until(lambda: is_refused(address))
        assert running.poll() is None
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) == 128 + signal.SIGTERM
        assert isinstance(client.exception(), httpx.TransportError)


def test_without_keys_on_loopback_alone(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", "localhost.example.org", ""):
        assert not is_loopback(host)
        with pytest.raises(ArgumentError, match="loopback"):
            serve(None, place=tmp_path, settings=ServeSettings(host=host, no_auth=True))
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        assert choose_keys(tmp_path, ServeSettings(host=host, no_auth=True)) is None


def test_keys_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="reidkit keys add"):
        serve(None, place=tmp_path, settings=ServeSettings(port=0))
    with pytest.raises(ArgumentError, match="name the keys file"):
        choose_keys("postgresql://somewhere/db", ServeSettings())
    add_key(tmp_path / "keys.json", "camera", ["search"])
    assert choose_keys(tmp_path, ServeSettings()) == tmp_path / "keys.json"
    elsewhere = ServeSettings(keys=tmp_path / "keys.json")
    assert choose_keys("postgresql://somewhere/db", elsewhere) == tmp_path / "keys.json"


def test_an_answer_does_not_wait_for_acknowledgements() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert name_address(listener, "127.0.0.1") == f"http://127.0.0.1:{port}"
        assert name_address(listener, "::1") == f"http://[::1]:{port}"
        with pytest.raises(ArgumentError, match=f"port {port} of 127.0.0.1 is in use"):
            serve(None, place=tmp_path, settings=ServeSettings(port=port, no_auth=True))
    with (
        pytest.raises(ArgumentError, match="cannot listen"),
        listen("192.0.2.1", 0),
    ):
        pass


def test_settings_are_checked() -> None:
    wrongs: list[dict[str, Any]] = [
        {"port": 65536},
        {"port": -1},
        {"keep": 0},
        {"keep": 59.9},
        {"keep": float("nan")},
        {"grace": 0},
        {"idle": 0},
        {"connections": 0},
    ]
    for wrong in wrongs:
        with pytest.raises(ArgumentError):
            ServeSettings(**wrong)
    with pytest.raises(ArgumentError):
        Patience(window=0)


def test_the_model_is_warmed_up_before_anybody_is_served() -> None:
    runtime = FakeRuntime(8)
    sizes: list[int] = []

    class Counting:
        name, device, batch, takes = "counting", "cpu", None, runtime.takes

        def run(self, inputs: Any) -> Any:
            sizes.append(len(inputs))
            return runtime.run(inputs) * (float("nan") if len(inputs) == 5 else 1)

        def close(self) -> None:
            """Nothing to give back."""

    model = Model(fake_model().spec, Counting())
    warm(model, 4)
    assert sizes == [1, 4]
    with pytest.raises(EngineError, match="NaN"):
        warm(model, 5)


HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n"
LARGE = 2**24


class Watched:
    """A server whose connections are looked at when a test says so, not when time has passed."""

    def __init__(self, port: int, room: Room, made: list[TimedConnection]) -> None:
        self.port, self.room, self._made = port, room, made

    @property
    def connected(self) -> set[Any]:
        """The connections that are served now."""
        return self._made[0]._state.connections if self._made else set()

    @contextmanager
    def connect(self) -> Iterator[tuple[socket.socket, TimedConnection]]:
        """Connect; gives the server's end of the connection too."""
        count = len(self._made)
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as client:
            until(lambda: len(self._made) > count and self._made[-1]._transport is not None)
            yield client, self._made[-1]

    def look(self, connection: TimedConnection) -> None:
        """Let a window pass."""
        loop = connection._inner.loop

        async def look() -> None:
            connection._look()

        asyncio.run_coroutine_threadsafe(look(), loop).result(30)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Read a body and answer with as many bytes, or with many."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    answer = b"x" * (LARGE if scope["path"] == "/large" else size)
    headers = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    made: list[TimedConnection] = []
    refused: list[int] = []
    room = Room(3, lambda: refused.append(1))

    def make(**more: Any) -> TimedConnection:
        made.append(TimedConnection(Patience(3600, 64), room, **more))
        return made[-1]

    config = uvicorn.Config(
        echo,
        http=make,  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        timeout_keep_alive=600,
    )
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield Watched(listener.getsockname()[1], room, made)
        server.should_exit = True
        thread.join()


def is_dropped(client: socket.socket) -> bool:
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"POST / HT"],
        [b"P", b"OST", b" / "],
        [b"POST / HTTP/1.1\r\n", *[b"X: y\r\n"] * 3],
        [HEAD],
        [HEAD, *[b"x" * 63] * 3],
    ],
    ids=["silent", "half a head", "slow head", "endless head", "no body", "dripping body"],
)
def test_slow_clients_are_dropped(watched: Watched, pieces: list[bytes]) -> None:
    with watched.connect() as (client, connection):
        sent = 0
        for piece in pieces:
            try:
                client.sendall(piece)
            except (BrokenPipeError, ConnectionResetError):
                break  # it was dropped already
            sent += len(piece)
            until(lambda: connection._received == sent or connection._transport.is_closing())  # type: ignore[union-attr] # noqa: B023
            watched.look(connection)
        watched.look(connection)
        assert is_dropped(client)


def test_those_who_do_not_read_are_dropped(watched: Watched) -> None:
    with watched.connect() as (client, connection):
        transport = connection._transport
        assert transport is not None
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: transport.get_write_buffer_size() > 0)

        def drop() -> bool:
            watched.look(connection)
            return transport.is_closing()

        until(drop)
        received = 0
        with suppress(ConnectionResetError):
            while part := client.recv(2**20):
                received += len(part)
    assert received < LARGE


def test_steady_clients_are_not(watched: Watched) -> None:
    with watched.connect() as (client, connection):
        client.sendall(HEAD)
        for count in range(1, 21):
            client.sendall(b"x" * 500)
            until(lambda: connection._received == len(HEAD) + 500 * count)  # noqa: B023
            watched.look(connection)
        answer = b""
        while len(answer) < 10_000:
            answer += client.recv(65536)
        assert answer.endswith(b"x" * 10_000)


def test_steady_readers_are_not(watched: Watched) -> None:
    with watched.connect() as (client, connection):
        transport = connection._transport
        assert transport is not None
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: transport.get_write_buffer_size() > 0)
        received = 0
        for _ in range(3):  # the kernel takes some of it: how much is not ours to say
            watched.look(connection)
            before = transport.get_write_buffer_size()
            while transport.get_write_buffer_size() >= before > 0 and received < LARGE:
                received += len(client.recv(2**16))
            if not transport.get_write_buffer_size():
                break
        assert received
        while received < LARGE:
            part = client.recv(2**20)
            assert part
            received += len(part)


def ask(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(request)
        answer = b""
        while part := client.recv(65536):
            answer += part
        return answer


def test_no_more_connections_than_there_is_room_for(watched: Watched) -> None:
    """Those beyond it get a problem that says when to come back; `/healthz` is answered."""
    until(lambda: not watched.connected)
    with ExitStack() as stack:
        for _ in range(watched.room.most):
            stack.enter_context(watched.connect())
        answer = ask(watched.port, b"GET /v1/gallery HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nretry-after: 1\r\n" in head
        assert b"\r\ncontent-type: application/problem+json\r\n" in head
        assert b"\r\nx-content-type-options: nosniff\r\n" in head
        assert json.loads(body)["status"] == 503
        assert f"content-length: {len(body)}".encode() in head
        alive = ask(watched.port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert alive.startswith(b"HTTP/1.1 200 OK\r\n")
        assert alive.endswith(b'{"status":"alive"}')
        alive = ask(watched.port, b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert alive.endswith(b"\r\n\r\n")
        assert ask(watched.port, b"x" * 2000).startswith(b"HTTP/1.1 503 ")
        until(lambda: watched.room.spare == 64)  # those that were answered are gone
        held = [stack.enter_context(watched.connect())[0] for _ in range(watched.room.spare)]
        with watched.connect() as (client, _):
            assert client.recv(100).startswith(b"HTTP/1.1 503 "), "refused unheard"
        assert len(held) == 64
    until(lambda: not watched.connected and watched.room.spare == 64)
    answer = ask(watched.port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_service_counts_those_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, **_: seen.append(self.config))
    with make_gallery(tmp_path) as gallery, listen("127.0.0.1", 0) as listener:
        service = Service(gallery, keys=None)
        settings = ServeSettings(connections=7)
        run_server(make_app(service), listener, service=service, settings=settings)
        (config,) = seen
        room: Room = config.http.args[1]  # type: ignore[union-attr]
        assert room.most == 7
        assert config.limit_concurrency is None, "uvicorn's refusal is no problem"
        room.refused()
        text = service.metrics.render().decode()
    assert 'reidkit_rejected_total{reason="connections"} 1.0' in text


def test_the_command_writes_the_log_with_time_and_level(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def serve(*_: object, **__: object) -> None:
        logging.getLogger("reidkit.serving._metrics").info("request 1: GET /healthz")
        logging.getLogger("uvicorn.error").warning("something is wrong")
        logging.getLogger("elsewhere").info("of no interest")

    monkeypatch.setattr(serving, "serve", serve, raising=False)
    before = logging.getLogger().handlers, logging.getLogger("reidkit").level
    command.main(["package", "--gallery", "place", "--retain", "90m"], standalone_mode=False)
    assert (logging.getLogger().handlers, logging.getLogger("reidkit").level) == before
    lines = capfd.readouterr().err.splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    assert re.fullmatch(f"{time} INFO request 1: GET /healthz", lines[0])
    assert re.fullmatch(f"{time} WARNING something is wrong", lines[1])
    assert len(lines) == 2
    with pytest.raises(ArgumentError, match="at least 60"):
        command.main(["package", "--gallery", "place", "--retain", "59s"], standalone_mode=False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (60, "1 minutes"),
        (5400, "90 minutes"),
        (7200, "2 hours"),
        (30 * 86400, "30 days"),
        (61, "61 seconds"),
    ],
)
def test_ages_are_said_in_words(seconds: float, words: str) -> None:
    assert words in _word_protection(Serving(retain=seconds))


def test_those_refused_are_counted() -> None:
    refused: list[int] = []
    room = Room(1, lambda: refused.append(1))
    room.answer(b"GET /healthz HTTP/1.1")
    assert refused == []
    room.answer(b"GET / HTTP/1.1")
    room.answer(b"")
    assert len(refused) == 2
