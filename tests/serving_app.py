"""A service over a fake model and a small gallery of its own, for tests of what is served."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI

from reidkit import preprocess
from reidkit.datasets.drawn import draw_crops
from reidkit.gallery import Gallery
from reidkit.serving._app import make_app
from reidkit.serving._context import Service
from reidkit.serving._keys import ROLES, add_key
from tests.certified import write_fake

SIZE = 8


def make_gallery(folder: Path) -> Gallery:
    """Make an empty gallery over a fake model."""
    return Gallery.create(folder / "gallery", write_fake(folder / "package", size=SIZE))


def draw_pngs(count: int, *, seed: int = 0) -> list[bytes]:
    """Draw pictures of 32x16 pixels as PNG files, each of another person."""
    pixels = draw_crops(count, height=32, width=16, seed=seed)
    return [preprocess.encode_png(np.ascontiguousarray(picture)) for picture in pixels]


def encode(*pictures: bytes) -> list[str]:
    """Write pictures in base64, as JSON has them."""
    return [base64.b64encode(picture).decode() for picture in pictures]


@dataclass(frozen=True, slots=True)
class Served:
    """A service, a client of it, and a key for each role, by the role's name.

    `keys` is empty where the service asks for none.
    """

    service: Service
    app: FastAPI
    client: httpx.Client
    port: int
    keys: dict[str, str]

    def as_role(self, role: str) -> dict[str, str]:
        """Give the headers that a key of a role is sent in."""
        return {"Authorization": f"Bearer {self.keys[role]}"} if self.keys else {}

    def ask(self, method: str, path: str, *, role: str = "admin", **more: Any) -> httpx.Response:
        """Send a request with a role's key."""
        headers = {**self.as_role(role), **more.pop("headers", {})}
        return self.client.request(method, path, headers=headers, **more)

    def enrol(self, person: str, pictures: Sequence[bytes], **values: Any) -> httpx.Response:
        """Enrol a person by JSON."""
        body = {"person": person, "pictures": encode(*pictures), **values}
        return self.ask("POST", "/v1/persons", role="enrol", json=body)


@contextmanager
def serving(folder: Path, *, keyed: bool = True, **options: Any) -> Iterator[Served]:
    """Serve an empty gallery in `folder`; `options` go to `Service`.

    It is served on a free port of loopback; the keys lie in `folder / "keys.json"`.
    """
    file = folder / "keys.json"
    keys = {role: add_key(file, f"{role} key", [role]) for role in ROLES} if keyed else {}
    with make_gallery(folder) as gallery:
        service = Service(gallery, keys=file if keyed else None, **options)
        app = make_app(service)
        with on_loopback(app) as port, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            yield Served(service, app, client, port, keys)


@contextmanager
def on_loopback(app: FastAPI) -> Iterator[int]:
    """Serve an app on a free port of loopback, in a thread, and give the port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the service did not start")
            time.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
