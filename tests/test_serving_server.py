"""The server process: what it refuses, slow clients, and that no end of it loses anything."""

from __future__ import annotations

import functools
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from reidkit.errors import ArgumentError, EngineError
from reidkit.gallery import Gallery
from reidkit.models import Model
from reidkit.runtimes.fake import FakeRuntime
from reidkit.serving._connections import Patience, TimedConnection
from reidkit.serving._keys import add_key
from reidkit.serving._server import (
    ServeSettings,
    choose_keys,
    is_loopback,
    listen,
    name_address,
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

    with process(tmp_path, 0.005) as (running, address), ThreadPoolExecutor(4) as threads:
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


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Serve an app that reads a body and answers with as many bytes, to impatient connections."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message["body"])
            more = message["more_body"]
        answer = b"x" * (2**26 if scope["path"] == "/large" else size)
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    config = uvicorn.Config(
        app,
        http=functools.partial(TimedConnection, Patience(0.3, 64)),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        timeout_keep_alive=600,
    )
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield port
        server.should_exit = True
        thread.join()


def drip(port: int, pieces: list[bytes]) -> bool:
    """Send pieces slowly; True if the connection was dropped without an answer."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        try:
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.02)
            return client.recv(100) == b""
        except (ConnectionResetError, BrokenPipeError):
            return True


@pytest.mark.parametrize(
    "pieces",
    [
        [b""],
        [b"POST / HT"],
        [b"P", *[b"OST"] * 3],
        [b"POST / HTTP/1.1\r\n", *[b"X: y\r\n"] * 40],
        [HEAD],
        [HEAD, *[b"x"] * 40],
    ],
    ids=["silent", "half a head", "slow head", "endless head", "no body", "dripping body"],
)
def test_slow_clients_are_dropped(port: int, pieces: list[bytes]) -> None:
    assert drip(port, pieces)


def test_those_who_do_not_read_are_dropped(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1)
        received = 0
        with suppress(ConnectionResetError):
            while part := client.recv(2**20):
                received += len(part)
    assert received < 2**26


def test_steady_clients_are_not(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

        def body() -> Iterator[bytes]:
            for _ in range(20):
                time.sleep(0.02)
                yield b"x" * 500

        assert len(client.post("/", content=body()).content) == 10_000
        assert len(client.post("/", content=b"x" * 100_000).content) == 100_000
        assert len(client.get("/large").content) == 2**26
