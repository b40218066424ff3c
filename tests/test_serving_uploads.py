"""What anybody may send: bodies, forms, names and pictures that mean harm."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from reidkit import preprocess
from reidkit.errors import ImageError
from reidkit.serving._decoding import decode_file, measure_picture
from reidkit.serving._forms import SEARCH
from reidkit.serving._limits import Limits
from reidkit.serving._problems import RequestError
from reidkit.serving._uploads import File, parse_body, show_name
from tests.serving_app import Served, draw_pngs, encode, serving

LIMITS = Limits(
    pictures=3,
    picture_bytes=20_000,
    body_bytes=50_000,
    picture_pixels=4096,
    decoded_bytes=4096 * 9,
    rate=0,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("uploads"), limits=LIMITS) as served:
        yield served


def save(kind: str, *, height: int = 32, width: int = 16, **options: object) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int = 65535, height: int = 65535) -> bytes:
    """Give a small PNG file that says it is huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(20_000)))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def embed(served: Served, *pictures: bytes, name: str = "x.png") -> httpx.Response:
    files = [("pictures", (name, picture)) for picture in pictures]
    return served.ask("POST", "/v1/embed", role="search", files=files)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("png", {}),
        ("bmp", {}),
        ("jpeg", {}),
        ("jpeg", {"progressive": True}),
        ("jpeg", {"exif": b"Exif\0\0" + bytes(500)}),
        ("webp", {}),
        ("webp", {"lossless": True}),
        ("webp", {"exif": b"Exif\0\0" + bytes(50)}),
    ],
)
def test_sizes_are_read_from_headers(kind: str, options: dict[str, object]) -> None:
    for height, width in ((32, 16), (33, 7), (1, 300)):
        file = File("x", save(kind, height=height, width=width, **options))
        assert measure_picture(file, Limits()) == height * width * 3


@given(st.binary(max_size=60), st.sampled_from([b"", b"\xff\xd8\xff", b"BM", b"\x89PNG\r\n\x1a\n"]))
def test_any_bytes_have_a_size_or_are_refused(data: bytes, start: bytes) -> None:
    try:
        size = measure_picture(File("x", start + data), Limits())
    except ImageError:
        return
    assert 0 < size <= Limits().picture_pixels * 3


def test_good_pictures_have_the_models_vectors(served: Served) -> None:
    pictures = [save("jpeg"), save("webp"), save("bmp")]
    answer = embed(served, *pictures)
    assert answer.status_code == 200, answer.text
    body = {"pictures": encode(*pictures)}
    assert served.ask("POST", "/v1/embed", json=body).json() == answer.json()
    model = served.service.model
    inputs = [preprocess.decode_bytes(picture, "x") for picture in pictures]
    rows = np.stack([preprocess.prepare(pixels, model.contract) for pixels in inputs])
    assert np.allclose(answer.json()["vectors"], model.embed(rows), atol=1e-6)


REFUSED = {
    "empty": (b"", "is no JPEG"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no JPEG"),
    "html": (b"<!doctype html><script>alert(1)</script>", "is no JPEG"),
    "gif": (save("gif"), "is no JPEG"),
    "tiff": (save("tiff"), "is no JPEG"),
    "pdf": (b"%PDF-1.7", "is no JPEG"),
    "zip": (b"PK\x03\x04" + bytes(40), "is no JPEG"),
    "wave": (b"RIFF\x24\0\0\0WAVEfmt ", "is no JPEG"),
    "html before a picture": (b"<html>" + save("png"), "is no JPEG"),
    "bomb": (bomb(), "65535x65535 pixels"),
    "a little too large": (save("png", height=65, width=64), "64x65 pixels"),
    "a bmp bomb": (b"BM" + bytes(12) + struct.pack("<Iii", 40, 60000, -60000), "60000x60000"),
    "no pixels": (bomb(0, 5), "0x5 pixels"),
    "a header cut short": (save("png")[:20], "cut short"),
    "a jpeg without a frame": (b"\xff\xd8\xff\xe0" + bytes(100), "cut short"),
    "endless fill": (b"\xff\xd8" + b"\xff" * 15_000, "cut short"),
    "truncated": (save("png", height=60, width=60)[:-3000], "cannot be decoded"),
    "truncated jpeg": (save("jpeg", height=60, width=60)[:-700], "cannot be decoded"),
    "noise after a good header": (save("png")[:60] + bytes(500), "cannot be decoded"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_pictures_that_are_refused(served: Served, case: str) -> None:
    data, reason = REFUSED[case]
    answer = embed(served, save("png"), data, name="holiday.png")
    assert answer.status_code == 422, answer.text
    (refused,) = answer.json()["refused"]
    assert refused["name"] == "pictures[1] 'holiday.png'"
    assert reason in refused["reason"]
    if case != "empty":
        body = {"pictures": encode(data)}
        answer = served.ask("POST", "/v1/search", json=body)
        assert (answer.status_code, answer.json()["refused"][0]["name"]) == (422, "pictures[0]")


def test_a_size_that_the_decoder_does_not_find(served: Served) -> None:
    """A JPEG with a second frame header: whoever reads the first is told another size."""
    good = save("jpeg", height=60, width=60)
    start = good.index(b"\xff\xc0")
    length = struct.unpack(">H", good[start + 2 : start + 4])[0] + 2
    frame = bytearray(good[start : start + length])
    frame[5:9] = struct.pack(">HH", 8, 8)
    answer = embed(served, good[:start] + bytes(frame) + good[start:])
    assert answer.status_code == 422
    assert "two frames" in answer.json()["detail"]


def segment(kind: int, data: bytes) -> bytes:
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(data) + 2) + data


def scans(count: int, *, between: bytes = b"", size: int = 16) -> bytes:
    """Give a progressive JPEG of so many scans, all but the first of them idle."""
    frame = struct.pack(">BHHB", 8, size, size, 1) + b"\1\x11\0"
    start = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + segment(0xC2, frame)
    tables = b"".join(
        segment(0xC4, bytes([kind, 1, *[0] * 15, symbol])) for kind, symbol in ((0, 0), (16, 0xE0))
    )
    first = segment(0xDA, b"\1\1\0\0\0\0") + bytes(((size + 7) // 8) ** 2 // 8 + 1)
    idle = segment(0xDA, b"\1\1\0\1\x3f\0") + bytes(2)
    return start + tables + first + (between + idle) * (count - 1) + b"\xff\xd9"


def test_scans_are_counted() -> None:
    assert measure_picture(File("x", scans(100)), Limits()) == 16 * 16 * 3
    fill = b"\0\xff\xff\xff\x01\xff\x00\xff\xd3"  # what decoders skip between two scans
    comment = segment(0xFE, b"\xff\xda" * 50)
    assert measure_picture(File("x", scans(100, between=fill + comment)), Limits())
    for bomb in (scans(101), scans(101, between=fill), scans(5000), scans(101, between=comment)):
        with pytest.raises(ImageError, match="more than 100 scans"):
            measure_picture(File("x", bomb), Limits())
    with pytest.raises(ImageError, match="more than 1024 segments"):
        measure_picture(File("x", scans(2, between=segment(0xFE, b"") * 2000)), Limits())


@given(st.binary(max_size=200))
def test_the_walk_finds_the_scans_that_libjpeg_finds(noise: bytes) -> None:
    """Nothing between two scans hides the second from the walk; what ends the file ends it."""
    hidden = noise.replace(b"\xff", b"\xff\0")
    with pytest.raises(ImageError, match="scans"):
        measure_picture(File("x", scans(101, between=hidden)), Limits())


def test_jpegs_with_videos_and_thumbnails_are_taken(served: Served) -> None:
    good = save("jpeg")
    behind = good + b"\xff\xda" * 5000
    thumbnail = good[:2] + segment(0xE1, b"Exif\0\0" + scans(200)[:60_000]) + good[2:]
    assert embed(served, behind, thumbnail).status_code == 200


@pytest.mark.parametrize("kind", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_rare_jpegs_are_refused(kind: int) -> None:
    good = save("jpeg")
    rare = good.replace(b"\xff\xc0", b"\xff" + bytes([kind]), 1)
    with pytest.raises(ImageError, match="lossless"):
        measure_picture(File("x", rare), Limits())


def test_a_second_header_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    good = save("png", height=64, width=64)
    large = chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0))
    for place in (33, len(good) - 12):
        with pytest.raises(ImageError, match="two headers"):
            measure_picture(File("x", good[:place] + large + good[place:]), Limits())
    text = chunk(b"tEXt", b"IHDR" * 30)
    assert measure_picture(File("x", good[:33] + text + good[33:]), Limits()) == 64 * 64 * 3
    many = good[:33] + chunk(b"tEXt", b"") * 70_000
    with pytest.raises(ImageError, match="chunks"):
        measure_picture(File("x", many), Limits())


def test_what_decoding_takes_is_held(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def watch(*arguments: Any) -> Any:
        taken.append(served.service.decoded.taken)
        return decode_file(*arguments)

    monkeypatch.setattr("reidkit.serving._decoding.decode_file", watch)
    assert embed(served, save("png"), save("png", height=64)).status_code == 200
    assert taken == [16 * 32 * 3 + 16 * 64 * 8] * 2


def test_polyglots_lose_all_but_their_pixels(served: Served) -> None:
    """A page after a picture is still a picture; what is kept and shown holds none of it."""
    evil = b"<script>alert('polyglot')</script>"
    text = chunk(b"tEXt", b"Comment\0" + evil)
    picture = save("png")
    data = picture[:33] + text + picture[33:] + evil
    answer = served.enrol("polyglot", [data])
    assert answer.status_code == 201, answer.text
    kept = served.ask("GET", f"/v1/crops/{answer.json()['ids'][0]}/picture")
    assert kept.headers["content-type"] == "image/png"
    assert kept.headers["x-content-type-options"] == "nosniff"
    assert evil not in kept.content
    shown = preprocess.decode_bytes(kept.content, "kept")
    assert np.array_equal(shown, preprocess.decode_bytes(picture, "sent"))


def test_too_many_and_too_large(served: Served) -> None:
    small, large = save("png"), save("bmp", height=64, width=64) + bytes(10_000)
    assert embed(served, *[small] * 4).status_code == 422
    body = {"pictures": encode(*[small] * 4)}
    assert served.ask("POST", "/v1/embed", json=body).status_code == 422
    answer = embed(served, large)
    assert answer.status_code == 413
    assert "pictures[0] 'x.png'" in answer.json()["detail"]
    assert embed(served, *[save("jpeg", height=64, width=64)] * 3).status_code == 413


def test_a_body_above_the_limit_by_its_length(served: Served) -> None:
    answer = served.ask("POST", "/v1/embed", content=bytes(50_001))
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"


def talk(served: Served, head: str, *parts: bytes) -> bytes:
    """Send a request in raw parts and read until the service closes or nothing comes."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        key = served.keys["search"]
        lines = f"{head}\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        connection.sendall(lines.encode())
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the service stopped reading, as it should
        answer = b""
        try:
            while data := connection.recv(65536):
                answer += data
        except ConnectionResetError:
            pass
        return answer


def test_a_chunked_body_is_counted(served: Served) -> None:
    """No length is said, so the service can only count; it stops long before the end."""
    start = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"2000\r\n" + bytes(0x2000) + b"\r\n"
    answer = talk(served, "POST /v1/embed HTTP/1.1", start, *[piece] * 2000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert served.service.bodies.taken == 0


def test_a_body_that_does_not_come(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served.service, "limits", replace(LIMITS, body_seconds=1))
    head = b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    answer = talk(served, "POST /v1/embed HTTP/1.1", head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert served.service.bodies.taken == 0


def test_bodies_share_a_budget(served: Served) -> None:
    budget = served.service.bodies
    budget.take(budget.total)
    try:
        answer = embed(served, save("png"))
    finally:
        budget.give_back(budget.total)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    with served.service.decoded.hold(served.service.decoded.total):
        assert embed(served, save("png")).status_code == 503
    assert embed(served, save("png")).status_code == 200


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("text/plain", b"hello", 415),
        ("image/png", save("png"), 415),
        ("application/xml", b"<a/>", 415),
        ("", b"{}", 415),
        ("application/x-www-form-urlencoded", b"people=1", 415),
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 10_000, 400),
        ("application/json", b"[" * 40_000, 422),
        ("application/json", b'{"pictures": [' + b"1," * 9000 + b"1]}", 422),
        ("application/json", b'{"tags": [' + b"{}," * 5000 + b"1]}", 422),
        ("application/json", b'{"pictures": ["\\ud800"]}', 400),
        ("application/json", b"\xff\xfe", 400),
        ("application/json", b"[]", 422),
        ("application/json", b'{"pictures": "x"}', 422),
        ("application/json", b'{"pictures": ["!"]}', 422),
        ("application/json", b'{"pictures": []}', 422),
        ("application/json", b'{"like": ' + b"9" * 5000 + b"}", 400),
        ("application/json", b'{"like": 1e999}', 422),
        ("application/json", b'{"like": 9223372036854775807}', 404),
        ("application/json", b'{"like": 1, "since": 1e300}', 422),
        ("application/json", b'{"like": 1, "since": NaN}', 422),
        ("application/json", b'{"like": 1, "since": "99999-01-01"}', 422),
        ("application/json", b'{"like": 1, "since": 5, "until": 4}', 422),
        ("application/json", b'{"like": 1, "cameras": ["a\\u0000b"]}', 422),
        ("application/json", b'{"like": 1, "tags": [""]}', 422),
        ("application/json", b'{"nonsense": 1}', 422),
        ("multipart/form-data", b"x", 400),
        ("multipart/form-data; boundary=b", b"", 400),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nhalf", 400),
        ("multipart/form-data; boundary=" + "b" * 300, b"x", 400),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nA: " + b"x" * 9000 + b"\r\n\r\n\r\n--b--",
            400,
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\n\r\n" * 2000 + b"--b--", 413),
    ],
)
def test_bodies_that_cannot_be_used(
    served: Served, content_type: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    answer = served.ask("POST", "/v1/search", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        b'{"pictures":[' + b"1," * 1_000_000 + b"1]}",
        b'{"pictures":[' + b"[]," * 1_000_000 + b"1]}",
        b'{"tags":[' + b'{"a":1},' * 500_000 + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(200_000)) + b"}",
    ],
    ids=["numbers", "lists", "objects", "fields"],
)
def test_a_json_bomb_is_refused_before_it_is_parsed(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*_: object, **__: object) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(TypeAdapter, "validate_json", parse)
    with pytest.raises(RequestError, match="more than 16384 values"):
        parse_body(body, "application/json", SEARCH, Limits())


def test_many_wrong_values_are_few_errors() -> None:
    for body in (
        b'{"pictures":[' + b"1," * 4000 + b"1]}",
        b'{"persons":[' + b"1," * 200 + b"1]}",
    ):
        with pytest.raises(RequestError) as refused:
            parse_body(body, "application/json", SEARCH, Limits())
        assert (refused.value.status, len(refused.value.more["errors"])) == (422, 1)  # type: ignore[arg-type]
    fields = b"{" + b",".join(b'"%d":1' % number for number in range(5000)) + b"}"
    with pytest.raises(RequestError, match="5000 unusable values"):
        parse_body(fields, "application/json", SEARCH, Limits())


def test_a_json_body_is_held_while_it_is_parsed(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def watch(*arguments: Any) -> Any:
        taken.append(served.service.decoded.taken)
        return parse_body(*arguments)

    monkeypatch.setattr("reidkit.serving._uploads.parse_body", watch)
    for text, growth in (("plain", 1), ("é", 4)):
        body = json.dumps({"like": 7, "tags": [text]}, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        answer = served.ask("POST", "/v1/search", content=body, headers=headers)
        assert answer.status_code == 404
        assert taken.pop() == growth * len(body)
    assert served.service.decoded.taken == 0


def test_compressed_bodies_are_not_taken(served: Served) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = served.ask("POST", "/v1/search", content=zlib.compress(b"{}"), headers=headers)
    assert answer.status_code == 415


def test_forms_repeat_fields(served: Served) -> None:
    files = [("pictures", ("a.png", save("png")))]
    data = {"people": "2", "camera": ["a", "b"], "tag": "t", "since": "2020-01-01T00:00:00Z"}
    assert served.ask("POST", "/v1/search", files=files, data=data).status_code == 200
    for wrong in ({"people": ["1", "2"]}, {"people": "0"}, {"limit": "1"}, {"since": "soon"}):
        answer = served.ask("POST", "/v1/search", files=files, data=wrong)
        assert answer.status_code == 422, wrong
    files = [("face", ("a.png", save("png")))]
    assert served.ask("POST", "/v1/search", files=files).status_code == 422


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("a\r\nSet-Cookie: b.png", "a Set-Cookie: b.png"),
        ("a\u202egnp.exe", "a gnp.exe"),
        ("..", ".."),
        ("", ""),
        ("x" * 100 + ".png", "x" * 48 + "...xxxxx.png"),
    ],
)
def test_names_are_only_shown(name: str, shown: str) -> None:
    assert show_name(name) == shown


@given(st.text(max_size=200))
def test_shown_names_hold_nothing_strange(name: str) -> None:
    shown = show_name(name)
    assert len(shown) <= 60
    assert shown.isprintable()
    assert "/" not in shown


def test_hostile_names_stay_in_the_gallery(served: Served) -> None:
    evil = "../../../" + "..%2f" * 5 + "evil\x00.png"
    files = [("pictures", (evil, draw_pngs(1, seed=8)[0]))]
    answer = served.ask("POST", "/v1/persons", files=files, data={"person": "../../root"})
    assert answer.status_code == 201, answer.text
    assert served.ask("GET", "/v1/persons/..%2F..%2Froot").status_code == 200
    (source,) = served.service.gallery.read_person("../../root").sources
    assert source.startswith("upload:")
    assert "/" not in source
    for name in (".", "..", "", "a\x00b", "a" * 201, "a\nb"):
        assert served.enrol(name, draw_pngs(1)).status_code == 422, name


@given(st.binary(max_size=300))
def test_any_multipart_body_is_taken_or_refused(data: bytes) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="' + data
    for sent in (body, body + b"\r\n--b--\r\n"):
        with contextlib.suppress(RequestError):
            parse_body(sent, "multipart/form-data; boundary=b", SEARCH, Limits())
