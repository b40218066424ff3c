"""Bodies: read with a limit that is counted while they arrive, then taken apart.

A `Content-Length` may be missing (chunked bodies) or wrong, so only what arrives is counted. What
a client calls a file is shown, shortened, and used for nothing else.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from reidkit.serving._limits import Limits
from reidkit.serving._problems import RequestError, explain

if TYPE_CHECKING:
    from reidkit.serving._context import Service

Form = TypeVar("Form")

_MOST_FIELDS = 256
_MOST_VALUES = 2**14  # of a JSON body; one that means something has hundreds
_FIELD_BYTES = 2**14
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class File:
    """A picture file as it was sent.

    `name` is what it is called in answers; `shown` what the client called it, for showing only.
    """

    name: str
    data: bytes
    shown: str = ""


@dataclass(slots=True)
class _Part:
    name: str = ""
    file: str | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)


@asynccontextmanager
async def hold_body(request: Request, service: Service) -> AsyncIterator[bytes]:
    """Give a request's body, which counts among the bodies held until the block ends.

    Raises:
        RequestError: 413 more than a body may hold; 408 it took too long; 415 it is compressed.
        Overloaded: other bodies fill what the service has for them.
    """
    limit = service.limits.body_bytes
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "compressed bodies are not taken")
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limit):
        raise _too_large(limit)
    body = bytearray()
    taken = 0
    try:
        with anyio.move_on_after(service.limits.body_seconds) as scope:
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise _too_large(limit)
                service.bodies.take(len(chunk))
                taken += len(chunk)
                body += chunk
        if scope.cancelled_caught:
            raise RequestError(408, "the body took too long", headers={"Connection": "close"})
        yield bytes(body)
    finally:
        service.bodies.give_back(taken)


@asynccontextmanager
async def hold_form(
    request: Request, form: TypeAdapter[Form]
) -> AsyncIterator[tuple[Form, list[File]]]:
    """Give what a request's body says, which is held as `hold_body` holds it.

    Raises:
        RequestError, Overloaded: see `hold_body` and `parse_body`.
    """
    service: Service = request.app.state.service
    content_type = request.headers.get("content-type", "")
    async with hold_body(request, service) as body:
        # What is more than all that may be held has to be alone.
        with service.decoded.hold(min(_count_parsed(body), service.decoded.total)):
            parsed = await service.run(parse_body, body, content_type, form, service.limits)
        yield parsed


async def read_body(request: Request, service: Service) -> bytes:
    """Read a request's body as `hold_body` does, for what is used up at once."""
    async with hold_body(request, service) as body:
        return body


def parse_body(
    body: bytes, content_type: str, form: TypeAdapter[Form], limits: Limits
) -> tuple[Form, list[File]]:
    """Take a JSON or multipart body apart into the values of a form and its pictures.

    Raises:
        RequestError: 400 no such body, 413 a picture of too many bytes, 415 another type of body,
            422 too many pictures, or values that the form does not take.
    """
    kind, options = parse_options_header(content_type)
    try:
        if kind == b"application/json":
            value, files = _parse_json(body, form, limits)
        elif kind == b"multipart/form-data":
            fields, files = _parse_multipart(body, options.get(b"boundary", b""), limits)
            value = form.validate_python(fields)
        else:
            raise RequestError(
                415, "send application/json or multipart/form-data", kind="body-type"
            )
    except ValidationError as error:
        raise explain(error) from error  # here, in a thread: there may be thousands of errors
    if len(files) > limits.pictures:
        raise _too_many(len(files), limits)
    for file in files:
        if len(file.data) > limits.picture_bytes:
            raise RequestError(
                413,
                f"{file.name}: {len(file.data)} bytes, at most {limits.picture_bytes} are taken",
            )
    return value, files


def show_name(text: str) -> str:
    """Shorten a file's name as a client sent it for showing: no folders, no control characters."""
    last = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    kept = [c if unicodedata.category(c)[0] not in "CZ" else " " for c in last[:4096]]
    shown = " ".join("".join(kept).split())
    return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 12]}...{shown[-9:]}"


def _too_large(limit: int) -> RequestError:
    # Nothing more is read from this connection, so nothing else can be said on it.
    return RequestError(
        413, f"the body is too large: at most {limit} bytes", headers={"Connection": "close"}
    )


def _too_many(pictures: int, limits: Limits) -> RequestError:
    return RequestError(422, f"{pictures} pictures, at most {limits.pictures} are taken at once")


def _count_parsed(body: bytes) -> int:
    """Say how many bytes a body's texts may take: 4 for each byte where one is no ASCII."""
    return len(body) if body.isascii() and b"\\u" not in body else 4 * len(body)


def _parse_json(body: bytes, form: TypeAdapter[Form], limits: Limits) -> tuple[Form, list[File]]:
    # Before it is parsed: each of a few bytes would become an object, and an error, of hundreds.
    if sum(body.count(mark) for mark in (b",", b"[", b"{")) > _MOST_VALUES:
        raise RequestError(422, f"the body holds more than {_MOST_VALUES} values", kind="values")
    value: Any = form.validate_json(body)
    files = _decode_pictures(value.pictures, limits)
    return replace(value, pictures=[]), files


def _decode_pictures(texts: object, limits: Limits) -> list[File]:
    texts = list(texts) if isinstance(texts, list | tuple) else []
    if len(texts) > limits.pictures:
        raise _too_many(len(texts), limits)
    files = []
    for row, text in enumerate(texts):
        name = f"pictures[{row}]"
        try:
            files.append(File(name, base64.b64decode(text, validate=True)))
        except (binascii.Error, ValueError) as error:
            raise RequestError(422, f"{name} is no base64: {error}") from error
    return files


def _parse_multipart(
    body: bytes, boundary: bytes, limits: Limits
) -> tuple[Mapping[str, Any], list[File]]:
    """Give the fields of a form, each a text or a list of texts, and its pictures."""
    fields: dict[str, list[str]] = {}
    files: list[File] = []
    for part in _split_parts(body, boundary, limits.pictures + _MOST_FIELDS):
        if part.file is not None or part.name == "pictures":
            if part.name != "pictures":
                raise RequestError(422, f"files are sent as `pictures`, not {part.name[:40]!r}")
            shown = show_name(part.file or "")
            name = f"pictures[{len(files)}]" + (f" {shown!r}" if shown else "")
            files.append(File(name, bytes(part.data), shown))
            continue
        if len(part.data) > _FIELD_BYTES:
            raise RequestError(413, f"{part.name[:40]!r} is longer than {_FIELD_BYTES} bytes")
        try:
            text = part.data.decode()
        except UnicodeDecodeError as error:
            raise RequestError(422, f"{part.name[:40]!r} is no UTF-8 text") from error
        fields.setdefault(part.name, []).append(text)
    return {name: texts[0] if len(texts) == 1 else texts for name, texts in fields.items()}, files


def _split_parts(body: bytes, boundary: bytes, most: int) -> list[_Part]:
    """Split a multipart body into at most `most` parts; headers are bounded by the parser."""
    parts: list[_Part] = []
    ended: list[bool] = []
    header = (bytearray(), bytearray())

    def begin() -> None:
        if len(parts) == most:
            raise RequestError(413, f"the form has more than {most} parts")
        parts.append(_Part())

    def end_header() -> None:
        parts[-1].headers.append((bytes(header[0]).lower(), bytes(header[1])))
        header[0].clear()
        header[1].clear()

    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": begin,
                "on_header_field": lambda data, start, end: header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: header[1].extend(data[start:end]),
                "on_header_end": end_header,
                "on_headers_finished": lambda: _read_headers(parts[-1]),
                "on_part_data": lambda data, start, end: parts[-1].data.extend(data[start:end]),
                "on_end": lambda: ended.append(True),
            },
        )
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise RequestError(
            400, f"the body is no multipart form: {error}", kind="multipart"
        ) from error
    if not boundary or not ended:
        raise RequestError(400, "the multipart form is cut short", kind="multipart")
    return parts


def _read_headers(part: _Part) -> None:
    headers = dict(part.headers)
    _, options = parse_options_header(headers.get(b"content-disposition", b"").decode("latin-1"))
    if headers.get(b"content-transfer-encoding", b"binary").lower() not in (
        b"binary",
        b"8bit",
        b"7bit",
    ):
        raise RequestError(415, "parts of a form are sent as they are, not encoded")
    part.name = options.get(b"name", b"").decode("utf-8", "replace")
    if b"filename" in options:
        part.file = options[b"filename"].decode("utf-8", "replace")
