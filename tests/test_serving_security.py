"""Who is let in, what answers say to browsers, and what pages of other sites cannot do."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from reidkit.serving._keys import ROLES, remove_key
from reidkit.serving._limits import Buckets
from reidkit.serving._security import refuse_other_sites
from tests.serving_app import Served, draw_pngs, encode, serving

OPEN = {
    ("GET", "/"),
    ("HEAD", "/"),
    ("HEAD", "/healthz"),
    ("GET", "/page/{name:path}"),
    ("GET", "/openapi.json"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
}
"""The routes that anybody may ask, and no others."""

NEEDED = {
    ("POST", "/v1/persons"): "enrol",
    ("DELETE", "/v1/persons/{name:path}"): "erase",
    ("GET", "/v1/audit"): "admin",
    ("POST", "/v1/gallery/compact"): "admin",
    ("GET", "/v1/session"): None,
    ("GET", "/metrics"): None,
}
"""The role that a route needs, where that is not `search`; `None` is any key."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("security")) as served:
        served.service.rates = Buckets(0, 1)
        served.service.failures = Buckets(0, 1)
        yield served


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("local"), keyed=False) as served:
        yield served


def list_routes(app: FastAPI) -> list[tuple[str, str]]:
    """List every route that the app has, so that none can be forgotten here."""
    return [
        (method, str(route.path))
        for route in iter_route_contexts(app.routes)
        for method in sorted(route.methods or ())
    ]


def fill(path: str) -> str:
    """Give an address of a route."""
    for field in ("name:path", "name", "model", "version"):
        path = path.replace(f"{{{field}}}", "fake")
    return path.replace("{crop}", "1")


def test_every_route_is_here(served: Served) -> None:
    routes = set(list_routes(served.app))
    assert len(routes) >= 24
    assert routes >= OPEN | set(NEEDED)


def test_no_key_and_wrong_keys(served: Served) -> None:
    known = served.keys["search"]
    wrong = [None, "Bearer", "Basic YTpi", f"Basic {known}", f"Bearer {known}x"]
    wrong += [f"Bearer rk_000000000000_{known[16:]}", f"Bearer {known[:-1]}", "Bearer é"]
    for method, path in list_routes(served.app):
        for header in wrong:
            headers = [] if header is None else [(b"Authorization", header.encode())]
            answer = served.client.request(method, fill(path), headers=headers)
            if (method, path) in OPEN:
                assert answer.status_code in (200, 404), (path, answer.text)
                continue
            assert answer.status_code == 401, (method, path, header)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.headers["content-type"] == "application/problem+json"
            assert known not in answer.text


def test_a_role_that_is_missing(served: Served) -> None:
    for method, path in set(list_routes(served.app)) - OPEN:
        needed = NEEDED.get((method, path), "search")
        for role in ROLES:
            status = served.ask(method, fill(path), role=role).status_code
            if needed is None or role in (needed, "admin"):
                assert status not in (401, 403), (method, path, role)
            else:
                assert status == 403, (method, path, role)


def test_keys_that_cannot_be_read_are_no_wrong_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as served:
        ring = served.service.keys
        assert ring is not None
        monkeypatch.setattr(ring, "_every", 0.0)
        file = tmp_path / "keys.json"
        good = file.read_text()
        file.write_text(good[:40])
        for _ in range(30):  # more than wrong keys are allowed
            answer = served.ask("GET", "/v1/session")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert answer.json()["type"] == "urn:reidkit:problem:keys"
        assert served.client.get("/v1/session").status_code == 401
        file.write_text(good)
        assert served.ask("GET", "/v1/session").status_code == 200


def test_the_body_is_not_read_before_the_key(served: Served) -> None:
    """A stranger is refused before sending a body."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as connection:
        head = "POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 401 ")
    assert served.service.bodies.taken == 0


def test_keys_are_in_no_log_answer_or_audit(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    (picture,) = draw_pngs(1)
    texts = []
    for role in ROLES:
        paths = ("/v1/persons", "/v1/audit", "/v1/nothing", "/v1/session", "/metrics")
        texts += [served.ask("GET", path, role=role).text for path in paths]
        body = {"pictures": encode(picture), "person": "somebody"}
        texts.append(served.ask("POST", "/v1/persons", role=role, json=body).text)
    wrong = served.keys["search"][:-3] + "abc"
    texts.append(served.client.get("/v1/audit", headers={"Authorization": f"Bearer {wrong}"}).text)
    everything = "\n".join([caplog.text, *texts])
    assert "key:enrol key" in everything
    assert "somebody" not in caplog.text
    for secret in (*served.keys.values(), wrong):
        assert secret not in everything
        assert secret[16:] not in everything


def test_the_session_says_who_asks(served: Served, local: Served) -> None:
    assert served.ask("GET", "/v1/session", role="erase").json() == {
        "name": "erase key",
        "roles": ["erase"],
    }
    assert local.ask("GET", "/v1/session").json() == {"name": "no-auth", "roles": list(ROLES)}


def test_a_removed_key_is_refused(tmp_path: Any) -> None:
    with serving(tmp_path) as served:
        assert served.ask("GET", "/v1/session", role="erase").status_code == 200
        remove_key(tmp_path / "keys.json", "erase key")
        served.service.keys._looked = 0.0  # type: ignore[union-attr]
        assert served.ask("GET", "/v1/session", role="erase").status_code == 401
        assert served.ask("GET", "/v1/session", role="admin").status_code == 200


def test_rates(served: Served) -> None:
    now = [0.0]
    old = served.service.rates, served.service.failures
    try:
        served.service.rates = Buckets(0.5, 2, clock=lambda: now[0])
        served.service.failures = Buckets(1, 2, clock=lambda: now[0])
        statuses = [served.ask("GET", "/v1/session", role="search").status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
        answer = served.ask("GET", "/v1/session", role="search")
        assert answer.headers["retry-after"] == "2"
        assert answer.json()["type"] == "urn:reidkit:problem:rate"
        assert b'reidkit_rejected_total{reason="rate"} 2.0' in served.service.metrics.render()
        assert served.ask("GET", "/v1/session", role="enrol").status_code == 200
        now[0] = 2.0
        assert served.ask("GET", "/v1/session", role="search").status_code == 200
        wrong = {"Authorization": "Bearer rk_no"}
        statuses = [served.client.get("/metrics", headers=wrong).status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        assert served.ask("GET", "/metrics", role="enrol").status_code == 200, "none locked out"
        assert served.client.get("/metrics").status_code == 401, "asking without a key is free"
    finally:
        served.service.rates, served.service.failures = old


def test_every_answer_has_the_headers(served: Served) -> None:
    answers = [
        served.client.get(path) for path in ("/", "/page/nothing", "/healthz", "/v1/audit", "/x")
    ]
    answers += [served.ask("GET", "/v1/persons"), served.client.options("/v1/persons")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "permissions-policy" in answer.headers
        assert "set-cookie" not in answer.headers
        page = answer.url.path == "/"
        assert answer.headers["cache-control"] == ("no-cache" if page else "no-store")


def test_no_other_origin_is_let_in(served: Served) -> None:
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for method in ("GET", "POST", "OPTIONS"):
        answer = served.ask(method, "/v1/persons", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def scope(method: str = "GET", path: str = "/v1/persons", **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return {"type": "http", "scheme": "http", "method": method, "path": path, "headers": pairs}


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:8000"},
        {"host": "LOCALHOST"},
        {"host": "127.0.0.1:8000"},
        {"host": "127.1.2.3"},
        {"host": "[::1]:8000"},
        {"host": "[::1]"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "localhost:8000", "sec_fetch_site": "same-origin"},
        {"host": "localhost:8000", "sec_fetch_site": "none", "sec_fetch_mode": "navigate"},
    ],
)
def test_what_a_service_without_keys_answers(headers: dict[str, str]) -> None:
    refuse_other_sites(scope(**headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": ""},
        {"host": "rebound.example:8000"},
        {"host": "localhost.example"},
        {"host": "127.0.0.1.example"},
        {"host": "localhost:x"},
        {"host": "localhost@elsewhere.example"},
        {"host": "192.168.0.5:8000"},
        {"host": "0.0.0.0:8000"},
        {"host": "[::1"},
        {"host": "localhost:8000", "origin": "null"},
        {"host": "localhost:8000", "origin": "http://localhost:3000"},
        {"host": "localhost:8000", "origin": "https://localhost:8000"},
        {"host": "localhost:8000", "origin": "http://elsewhere.example"},
        {"host": "localhost:8000", "sec_fetch_site": "cross-site"},
        {"host": "localhost:8000", "sec_fetch_site": "same-site"},
        {"host": "localhost:8000", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
    ],
)
def test_what_it_refuses(headers: dict[str, str]) -> None:
    with pytest.raises(Exception, match="without keys"):
        refuse_other_sites(scope(**headers))


def test_a_link_to_the_page_may_be_followed() -> None:
    followed = {"host": "localhost", "sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    refuse_other_sites(scope(path="/", **followed))
    with pytest.raises(Exception, match="without keys"):
        refuse_other_sites(scope("POST", "/", **followed))


def test_other_sites_over_the_wire(local: Served) -> None:
    for headers in ({"Host": "rebound.example"}, {"Origin": "http://elsewhere.example"}):
        for path in ("/", "/v1/persons", "/healthz"):
            answer = local.client.get(path, headers=headers)
            assert answer.status_code == 403
            assert json.loads(answer.content)["status"] == 403
            assert answer.headers["x-content-type-options"] == "nosniff"
    body = {"person": "x", "pictures": encode(*draw_pngs(1))}
    answer = local.client.post("/v1/persons", json=body, headers={"Origin": "null"})
    assert answer.status_code == 403
    assert local.client.get("/v1/persons").json()["persons"] == []
