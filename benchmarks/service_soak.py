"""Mixed load on a real server that is killed twice: what it acknowledged must hold.

Eight clients enrol, search, erase, list, and send what has to be refused, each people of its own;
the number of people stays about the same, so that memory has no reason to grow. After each
restart, and at the end, everything acknowledged is checked while the clients pause.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets.drawn import draw_crops
from reidkit.package import InputSpec
from service_faults import make_fault, send
from service_ledger import Entry, Ledger, ask_json, check_ledger
from service_processes import Held, Server, make_gallery, make_package, start_server
from service_requests import FORM, write_form

WORKERS = 8
PEOPLE = 40
"""People of one client; beyond them it erases one for each that it enrols."""

LIVES = (0.15, 0.15, 0.7)
"""Shares of the time until the server is killed, killed again, and stopped: the last one is long
enough to show whether memory grows."""

_WARM_UP = 1 / 3
_PICTURE_SIDES = (64, 32)

_ERROR = re.compile(r"ERROR|CRITICAL|^[\w.]*(?:Error|Exception)\b")
"""What a server's log says of something unexpected, and what it was."""

Figures = dict[str, object]


@dataclass(slots=True)
class Client:
    """One client: its people, what it counted, and a lock that it holds while it asks."""

    number: int
    chance: random.Random
    ledger: Ledger = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    asking: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class Stage:
    """What the clients share: the server they ask, whether to go on, and drawn people."""

    drawn: NDArray[np.uint8]
    server: Server
    going: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


def measure(seconds: float, *, package: Path | None = None) -> Figures:
    """Load a server for so many seconds; `package` is its model's (None: a ResNet-18)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if package is None:
            contract = InputSpec(height=128, width=64)
            package = make_package(folder, "resnet18", contract)
        gallery = make_gallery(folder / "gallery", package)
        log = folder / "server.log"
        clients = [Client(number, random.Random(number)) for number in range(WORKERS)]
        height, width = _PICTURE_SIDES
        drawn = draw_crops(64, height=height, width=width, seed=2)
        stage = Stage(drawn, start_server(package, gallery, log=log))
        try:
            lives, checks = _run(stage, clients, seconds, (package, gallery, log))
            disk = sum(file.stat().st_size for file in gallery.rglob("*") if file.is_file())
        finally:
            stage.ended.set()
            stage.server.stop()
        lines = log.read_text(errors="replace").splitlines()
    counts = sum((client.counts for client in clients), Counter())
    return {
        "asked_seconds": seconds,
        "workers": WORKERS,
        "requests": sum(counts.values()),
        "counts": dict(sorted(counts.items())),
        "checks": checks,
        "findings": [each for client in clients for each in client.findings][:50],
        "server_errors": [line for line in lines if _ERROR.search(line)][:40],
        "lives": [_describe_life(life) for life in lives],
        "gallery_mib": disk / 2**20,
    }


def _run(
    stage: Stage, clients: Sequence[Client], seconds: float, places: tuple[Path, Path, Path]
) -> tuple[list[list[tuple[float, Held]]], list[dict[str, Any]]]:
    """Let the clients ask, kill and restart the server, check; give its lives and the checks."""
    package, gallery, log = places
    threads = [threading.Thread(target=_work, args=(stage, each), daemon=True) for each in clients]
    for thread in threads:
        thread.start()
    lives: list[list[tuple[float, Held]]] = []
    checks = []
    for number, share in enumerate(LIVES):
        last = number == len(LIVES) - 1
        stage.going.set()
        lives.append(_watch(stage.server, time.monotonic() + share * seconds))
        stage.going.clear()
        if not last:
            stage.server.kill()  # in the midst of what the clients have asked
        with _nobody_asking(clients):
            if not last:
                stage.server = start_server(package, gallery, log=log)
            ledger = {name: each for client in clients for name, each in client.ledger.items()}
            checks.append(check_ledger(stage.server.port, ledger))
            if not last:
                checks[-1]["restart_seconds"] = stage.server.seconds
            print(f"  checked: {checks[-1]}", flush=True)
    stage.ended.set()
    stage.going.set()
    for thread in threads:
        thread.join(60)
    return lives, checks


def _watch(server: Server, until: float) -> list[tuple[float, Held]]:
    """Look at a server once a second."""
    began, seen = time.monotonic(), []
    while (now := time.monotonic()) < until and server.process.poll() is None:
        seen.append((now - began, server.look()))
        time.sleep(min(1.0, max(until - now, 0)))
    if server.process.poll() is not None:
        raise RuntimeError(f"the server ended by itself: exit code {server.process.returncode}")
    return seen


@contextlib.contextmanager
def _nobody_asking(clients: Sequence[Client]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for client in clients:
            stack.enter_context(client.asking)
        yield


def _work(stage: Stage, client: Client) -> None:
    """Ask one thing after another until the end; where the server is killed, go on later."""
    connection: http.client.HTTPConnection | None = None
    port = 0
    while not stage.ended.is_set():
        stage.going.wait()
        with client.asking:
            if not stage.going.is_set() or stage.ended.is_set():
                continue
            if connection is None or port != stage.server.port:
                port = stage.server.port
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                _ask_something(stage, client, connection)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                connection = None
                client.counts["no answer"] += 1
                if stage.going.is_set():  # nobody has killed the server
                    client.findings.append(f"hung up: {error!r}")
    if connection is not None:
        connection.close()


def _ask_something(stage: Stage, client: Client, connection: http.client.HTTPConnection) -> None:
    there = [name for name, entry in client.ledger.items() if entry.state == "there"]
    choice = client.chance.random()
    if choice < 0.15:
        pictures = [_draw(stage.drawn, client.chance)]
        name, fault = make_fault(client.chance, pictures)
        status = send(connection, fault)
        _count(client, f"fault, {name}", status, good=(status == 0 or 400 <= status < 500))
    elif (choice < 0.25 and there) or len(there) > PEOPLE:
        _erase(client, connection, client.chance.choice(there))
    elif choice < 0.5:
        _enrol(stage, client, connection)
    elif choice < 0.85:
        fields = [("camera", "1")] if client.chance.random() < 0.3 else []
        body = write_form([_draw(stage.drawn, client.chance)], fields)
        status, found = ask_json(connection, "POST", "/v1/search", body=body, headers=FORM)
        mine = {person["person"] for person in found.get("people", [])} & client.ledger.keys()
        if again := [name for name in mine if client.ledger[name].state == "gone"]:
            client.findings.append(f"a search found the erased {again}")
        _count(client, "search", status, good=status == 200)
    else:
        path = client.chance.choice(["/v1/persons?limit=50", "/v1/gallery", "/readyz", "/healthz"])
        status, _ = ask_json(connection, "GET", path)
        _count(client, path, status, good=status == 200)


def _enrol(stage: Stage, client: Client, connection: http.client.HTTPConnection) -> None:
    name = f"{client.number}/person {len(client.ledger)}"
    pictures = [_draw(stage.drawn, client.chance) for _ in range(client.chance.randint(1, 3))]
    entry = client.ledger[name] = Entry(pictures)
    body = write_form(pictures, [("person", name), ("camera", str(client.chance.randint(0, 3)))])
    status, found = ask_json(connection, "POST", "/v1/persons", body=body, headers=FORM)
    if status == 201:
        entry.state, entry.ids = "there", found["ids"]
        if len(entry.ids) != len(pictures):
            client.findings.append(f"{name}: {found}")
    elif status == 503:
        entry.state = "gone"  # refused: it must not be there
    _count(client, "enrol", status, good=status == 201)


def _erase(client: Client, connection: http.client.HTTPConnection, name: str) -> None:
    entry = client.ledger[name]
    entry.state = "erasing"
    status, found = ask_json(connection, "DELETE", f"/v1/persons/{quote(name, safe='')}")
    if status == 200:
        entry.state = "gone"
        if found["erased"] != len(entry.ids):
            client.findings.append(f"{name}: erased {found}, had {len(entry.ids)}")
    elif status == 503:
        entry.state = "there"
    _count(client, "erase", status, good=status == 200)


def _count(client: Client, what: str, status: int, *, good: bool) -> None:
    client.counts[f"{what}: {status}"] += 1
    if not good and status != 503:
        client.findings.append(f"{what}: {status}")


def _draw(drawn: NDArray[np.uint8], chance: random.Random) -> bytes:
    """Give a JPEG file of a drawn person that no other picture equals."""
    pixels = drawn[chance.randrange(len(drawn))].astype(np.int16)
    tint = [[[chance.randint(-40, 40) for _ in range(3)]]]
    noise = np.random.default_rng(chance.getrandbits(32)).integers(-6, 7, pixels.shape)
    file = io.BytesIO()
    picture = np.clip(pixels + tint + noise, 0, 255).astype(np.uint8)
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    return file.getvalue()


def _describe_life(seen: Sequence[tuple[float, Held]]) -> Figures:
    """Describe what one server process held, and how that grew after its warm-up."""
    if not seen:
        return {"seconds": 0.0}
    warm = [(t, held) for t, held in seen if t >= seen[-1][0] * _WARM_UP]
    found: Figures = {
        "seconds": seen[-1][0],
        "first": asdict(seen[0][1]),
        "warm": asdict(warm[0][1]),
        "last": asdict(seen[-1][1]),
        "most_mib": max(held.rss_mib for _, held in seen),
        "most_threads": max(held.threads for _, held in seen),
        "most_files": max(held.files for _, held in seen),
        "rss_mib_every_30_s": [round(held.rss_mib, 1) for _, held in seen[::30]],
    }
    if len(warm) > 2:
        times = np.array([t for t, _ in warm]) / 60
        slope = np.polyfit(times, [held.rss_mib for _, held in warm], 1)[0]
        found["slope_mib_per_minute"] = float(slope)
    return found
