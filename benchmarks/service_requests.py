"""Requests as bytes, ready to be sent, and many clients in one process that cost little."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reidkit.datasets.drawn import draw_crops

_BOUNDARY = "a-boundary-of-the-benchmark"
_PATIENCE = 120


@dataclass(frozen=True, slots=True)
class Answers:
    """What clients saw: seconds of each request, statuses, wall and own processor seconds."""

    latencies: tuple[float, ...]
    statuses: dict[int, int]
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses.get(200, 0) / self.seconds


def draw_jpegs(count: int, *, height: int, width: int) -> list[bytes]:
    """Draw people as JPEG files."""
    files = []
    for pixels in draw_crops(count, height=height, width=width, seed=0):
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def write_form(pictures: Sequence[bytes], fields: Sequence[tuple[str, str]] = ()) -> bytes:
    """Write a multipart body."""
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
        for name, text in fields
    ]
    for number, picture in enumerate(pictures):
        head = (
            f"--{_BOUNDARY}\r\nContent-Disposition: form-data; "
            f'name="pictures"; filename="{number}.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        )
        parts += [head.encode(), picture, b"\r\n"]
    return b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode()])


FORM = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
"""The headers of what `write_form` writes."""


def write_request(method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Write a request that keeps its connection."""
    head = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def write_embed(jpeg: bytes) -> bytes:
    """Ask `/v1/embed` for the vector of a JPEG file."""
    return write_request("POST", "/v1/embed", write_form([jpeg]), FORM)


def write_infer(pixels: NDArray[np.uint8], model: str) -> bytes:
    """Ask `/v2` for the vector of resized pixels (H, W, 3), in binary both ways."""
    data = pixels.tobytes()
    tensor = {
        "name": "pixels",
        "datatype": "UINT8",
        "shape": [1, *pixels.shape],
        "parameters": {"binary_data_size": len(data)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(header)),
    }
    return write_request("POST", f"/v2/models/{model}/infer", header + data, headers)


def ask(port: int, requests: Sequence[bytes], *, clients: int, each: int) -> Answers:
    """Send `each` requests from each of so many clients, every one after the answer before it."""
    return asyncio.run(_ask(port, requests, clients, each))


async def _ask(port: int, requests: Sequence[bytes], clients: int, each: int) -> Answers:
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def work(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for turn in range(each):
                start = time.perf_counter()
                writer.write(requests[(number + turn * clients) % len(requests)])
                status = await asyncio.wait_for(_read_answer(reader), _PATIENCE)
                latencies.append(time.perf_counter() - start)
                statuses[status] = statuses.get(status, 0) + 1
        finally:
            writer.close()
            await writer.wait_closed()

    began, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work(number) for number in range(clients)))
    seconds = time.perf_counter() - began
    return Answers(tuple(latencies), statuses, seconds, time.process_time() - spent)


async def _read_answer(reader: asyncio.StreamReader) -> int:
    """Read an answer, whose body nobody looks at."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    length = next(line for line in lines if line.startswith("content-length:"))
    await reader.readexactly(int(length.partition(":")[2]))
    return int(lines[0].split()[1])
