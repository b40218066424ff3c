"""Uploads that a service has to refuse: damaged, oversized, not what they say they are."""

from __future__ import annotations

import base64
import http.client
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence

from service_requests import FORM, write_form

Body = bytes | Iterator[bytes]
Fault = tuple[str, str, Body, dict[str, str]]
"""Method, path, body and headers; a body in chunks is sent without a length."""

_JSON = {"Content-Type": "application/json"}
_OVERSIZE = 33
_UPLOADS = ("/v1/embed", "/v1/search", "/v1/persons")


def make_fault(chance: random.Random, pictures: Sequence[bytes]) -> tuple[str, Fault]:
    """Give a request to be refused with a status of 400 to 499, and what is wrong with it."""
    # The large ones are rare: they cost seconds of everybody's time.
    common = [name for name in _FAULTS if name != "chunked oversize"]
    name = "chunked oversize" if chance.random() < 0.02 else chance.choice(common)
    path = chance.choice(_UPLOADS)
    person = [("person", "a fault")] if path == "/v1/persons" else []
    return name, _FAULTS[name](path, person, chance.choice(pictures))


def send(connection: http.client.HTTPConnection, fault: Fault) -> int:
    """Send a request and give its status; 0 where the service hung up before all was sent."""
    method, path, body, headers = fault
    try:
        connection.request(method, path, body, headers, encode_chunked=not isinstance(body, bytes))
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (BrokenPipeError, ConnectionResetError):
        connection.close()
        if isinstance(body, bytes):
            raise
        return 0  # it said 413 and closed while we were still sending


def _form(picture: bytes) -> Callable[[str, list[tuple[str, str]], bytes], Fault]:
    return lambda path, fields, _: ("POST", path, write_form([picture], fields), FORM)


def _truncated(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, write_form([picture[: len(picture) // 2]], fields), FORM


def _broken_form(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, write_form([picture], fields)[:-20], FORM


def _no_boundary(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, write_form([picture], fields), {"Content-Type": "multipart/form-data"}


def _wrong_json(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, b'{"pictures": [', _JSON


def _wrong_fields(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, json.dumps({"pictures": 7, "nobody": [[]]}).encode(), _JSON


def _no_base64(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, json.dumps({"pictures": ["$$$"], **dict(fields)}).encode(), _JSON


def _wrong_type(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, base64.b64encode(picture), {"Content-Type": "text/plain"}


def _wrong_tensor(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", "/v2/models/none/infer", picture, {"Inference-Header-Content-Length": "9"}


def _wrong_query(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "GET", "/v1/persons?limit=-1", b"", {}


def _oversize(path: str, fields: list[tuple[str, str]], picture: bytes) -> Fault:
    return "POST", path, iter([bytes(2**20)] * _OVERSIZE), {**FORM, "Transfer-Encoding": "chunked"}


def _write_bomb(width: int, height: int) -> bytes:
    """Write a PNG file that says it is large and holds zeros, a thousandth of its size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    zeros = zlib.compress(bytes(min(width * height * 3, 2**25)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zeros) + chunk(b"IEND", b"")


_FAULTS: dict[str, Callable[[str, list[tuple[str, str]], bytes], Fault]] = {
    "truncated picture": _truncated,
    "bomb by its header": _form(_write_bomb(60000, 60000)),
    "bomb cut short": _form(_write_bomb(4000, 4000)),
    "SVG": _form(b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
    "HTML": _form(b"<!doctype html><script>1</script>"),
    "broken form": _broken_form,
    "form without a boundary": _no_boundary,
    "wrong JSON": _wrong_json,
    "wrong fields": _wrong_fields,
    "no base64": _no_base64,
    "wrong content type": _wrong_type,
    "wrong tensor": _wrong_tensor,
    "wrong query": _wrong_query,
    "chunked oversize": _oversize,
}
