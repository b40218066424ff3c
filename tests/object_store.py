"""An object store that speaks S3, on loopback: moto's server."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from reidkit.distributed import find_place
from tests.pictures import skip_without

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Give the host and port of a server."""
    skip_without("moto")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def bucket(object_store: str) -> str:
    """Give the address of a new bucket, with `{}` where a path in it goes."""
    name = f"bucket-{next(_NUMBERS)}"
    options = f"endpoint_override={object_store}&scheme=http&region=us-east-1"
    address = f"s3://me:secret@{name}{{}}?{options}"
    made = find_place(address.format("/made") + "&allow_bucket_creation=true")
    made._system.create_dir(name)
    return address


def _wait(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("the object store did not start")
