"""The routes, over a real socket: people are enrolled, found, listed, read and erased."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit import preprocess
from reidkit import serving as serving_package
from reidkit.errors import (
    EngineError,
    GalleryError,
    MismatchError,
    MissingExtraError,
    ReidkitError,
)
from reidkit.gallery import EVERYTHING, Binding, Person
from reidkit.serving import _examples
from reidkit.serving._limits import Limits
from reidkit.serving._load import Overloaded
from reidkit.serving._pages import read_assets
from reidkit.serving._persons import find_person
from reidkit.serving._problems import RequestError, answer_problem, explain
from tests.serving_app import Served, draw_pngs, encode, serving

PEOPLE = ("Ann", "Bo / door 2", "Čeněk")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("app"), limits=Limits(rate=0)) as served:
        yield served


@pytest.fixture
def served(service: Served) -> Served:
    """Give the module's service with an empty gallery."""
    for person in service.service.gallery.list_people():
        service.service.gallery.remove(person.name)
    return service


@pytest.fixture
def enrolled(served: Served) -> Served:
    for number, (person, picture) in enumerate(zip(PEOPLE, draw_pngs(3), strict=True)):
        values = {"camera": f"c{number}", "time": 1000.0 * number, "tags": ["t"]}
        assert served.enrol(person, [picture], **values).status_code == 201
    return served


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("it did not become true")


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [person["person"] for person in answer.json()["people"]]


def search(served: Served, *pictures: bytes, **values: Any) -> httpx.Response:
    body = {"pictures": encode(*pictures), **values} if pictures else values
    return served.ask("POST", "/v1/search", role="search", json=body)


def test_enrolled_people_are_found(enrolled: Served) -> None:
    for person, picture in zip(PEOPLE, draw_pngs(3), strict=True):
        assert names(search(enrolled, picture))[0] == person
        assert names(search(enrolled, picture, cameras=["c1"])) == [PEOPLE[1]]
        assert names(search(enrolled, picture, persons=[PEOPLE[2]])) == [PEOPLE[2]]
        assert names(search(enrolled, picture, tags=["other"])) == []
        found = names(search(enrolled, picture, since="1970-01-01T00:16:40Z", until=2000))
        assert found == [PEOPLE[1]]


def test_forms_and_json_find_the_same(enrolled: Served) -> None:
    pictures = draw_pngs(2)
    files = [("pictures", ("a.png", picture)) for picture in pictures]
    form = enrolled.ask("POST", "/v1/search", files=files, data={"people": "2", "camera": "c0"})
    answer = search(enrolled, *pictures, people=2, cameras=["c0"])
    assert form.json() == answer.json()


def test_more_like_a_crop(enrolled: Served) -> None:
    crop = int(enrolled.service.gallery.read_person(PEOPLE[0]).ids[0])
    assert search(enrolled, like=crop).status_code == 200
    assert search(enrolled, like=crop + 1000).status_code == 404
    assert search(enrolled, *draw_pngs(1), like=crop).status_code == 422


def test_listing_goes_on_after_a_name(enrolled: Served) -> None:
    seen, after = [], ""
    while True:
        answer = enrolled.ask("GET", "/v1/persons", params={"limit": 2, "after": after})
        assert answer.status_code == 200
        seen += [person["name"] for person in answer.json()["persons"]]
        after = answer.json()["next"]
        if after is None:
            break
    assert seen == sorted(PEOPLE)
    answer = enrolled.ask("GET", "/v1/persons", params={"named": "door"})
    assert [person["name"] for person in answer.json()["persons"]] == [PEOPLE[1]]
    for wrong in ({"limit": 0}, {"limit": "x"}, {"after": "a\0"}, {"named": "x" * 500}):
        assert enrolled.ask("GET", "/v1/persons", params=wrong).status_code == 422


def test_a_person_is_read_and_erased(enrolled: Served) -> None:
    for person, picture in zip(PEOPLE, draw_pngs(3), strict=True):
        path = f"/v1/persons/{quote(person, safe='')}"
        answer = enrolled.ask("GET", path, role="search").json()
        assert (answer["person"]["name"], answer["person"]["crops"]) == (person, 1)
        crop = int(enrolled.service.gallery.read_person(person).ids[0])
        kept = enrolled.ask("GET", f"/v1/crops/{crop}/picture", role="search")
        pixels = preprocess.decode_bytes(kept.content, "kept")
        assert np.array_equal(pixels, preprocess.decode_bytes(picture, "sent"))
        assert enrolled.ask("DELETE", path, role="erase").json() == {"erased": 1}
        for method in ("GET", "DELETE"):
            answer = enrolled.ask(method, path)
            assert answer.status_code == 404
            assert answer.json()["type"] == "urn:reidkit:problem:nobody"
        assert enrolled.ask("GET", f"/v1/crops/{crop}/picture").status_code == 404
        assert person not in names(search(enrolled, picture))


def test_a_person_is_read_in_pages(served: Served) -> None:
    """Beside people whose names hold this one, before and after it."""
    for seed, name in enumerate(("Ann", "Ann B", "An", "A Ann", "Anm")):
        pictures = draw_pngs(5 if name == "Ann" else 1, seed=seed)
        assert served.enrol(name, pictures).status_code == 201
    gallery = served.service.gallery
    ids = gallery.read_person("Ann").ids.tolist()
    after: int | None = 0
    seen, pages = [], 0
    while after is not None:
        answer = served.ask(
            "GET", "/v1/persons/Ann", role="search", params={"limit": 2, "after": after}
        )
        assert (answer.json()["person"]["name"], answer.json()["person"]["crops"]) == ("Ann", 5)
        seen += [crop["crop"] for crop in answer.json()["crops"]]
        after, pages = answer.json()["next"], pages + 1
    assert (seen, pages) == (ids, 3)
    lines = [(line.actor, line.action, line.count) for line in gallery.audit(limit=3)]
    assert lines == [("key:search key", "read", count) for count in (1, 2, 2)]
    whole = served.ask("GET", "/v1/persons/Ann").json()
    assert (len(whole["crops"]), whole["next"]) == (5, None)
    beyond = served.ask("GET", "/v1/persons/Ann", params={"after": ids[-1]}).json()
    assert (beyond["crops"], beyond["next"], beyond["person"]["crops"]) == ([], None, 5)
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after": -1}, {"after": "x"}):
        assert served.ask("GET", "/v1/persons/Ann", params=wrong).status_code == 422
    assert served.ask("GET", "/v1/persons/nn").status_code == 404


@given(
    st.lists(st.text("ab\x20~\u00e9\ue000\U0010ffff", min_size=1, max_size=4), max_size=12),
    st.text("ab\x20~\ue000\U0010ffff", max_size=4),
)
def test_a_person_is_found_among_names_alike(names: list[str], name: str) -> None:
    def list_people(*, after: str, limit: int, named: str) -> list[Person]:
        found = [one for one in sorted({*names}) if one > after and named in one]
        return [Person(one, 1, (), None, None) for one in found[:limit]]

    found = find_person(SimpleNamespace(list_people=list_people), name)  # type: ignore[arg-type]
    assert (found.name if found else None) == (name if name in names else None)


def test_numbers_are_whole_numbers(enrolled: Served) -> None:
    for like in (True, 1.0, "1", [1]):
        assert search(enrolled, like=like).status_code == 422, like
    assert search(enrolled, *draw_pngs(1), people=True).status_code == 422
    for crop in ("1_0", "+1", "%201", "１"):
        assert enrolled.ask("GET", f"/v1/crops/{crop}/picture").status_code == 422, crop


def test_head(served: Served) -> None:
    for path in ("/", "/healthz"):
        answer = served.client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == served.client.get(path).headers["content-length"]


def test_an_enrolment_names_what_it_refused(served: Served) -> None:
    good = draw_pngs(1)[0]
    answer = served.enrol("Ann", [b"GIF89a", good, good[:60]])
    assert answer.status_code == 201
    assert len(answer.json()["ids"]) == 1
    assert [one["name"] for one in answer.json()["refused"]] == ["pictures[0]", "pictures[2]"]
    answer = served.enrol("Bo", [b"GIF89a", good[:60]])
    assert answer.status_code == 422
    assert [one["name"] for one in answer.json()["refused"]] == ["pictures[0]", "pictures[1]"]
    assert served.enrol("Bo", []).status_code == 422
    assert served.service.gallery.store.count(EVERYTHING) == 1


def test_an_enrolment_is_in_the_store_when_it_is_answered(served: Served) -> None:
    store = served.service.gallery.store
    for number, picture in enumerate(draw_pngs(4)):
        assert served.enrol("Ann", [picture]).status_code == 201
        assert store.count(EVERYTHING) == number + 1


def test_the_audit_says_who_and_how_many_never_whom(enrolled: Served) -> None:
    pictures = draw_pngs(3)
    search(enrolled, *pictures)
    enrolled.ask("DELETE", "/v1/persons/Ann", role="erase")
    enrolled.ask("POST", "/v1/gallery/compact", role="admin")
    answer = enrolled.ask("GET", "/v1/audit", params={"limit": 3})
    said = [(line["actor"], line["action"], line["count"]) for line in answer.json()["lines"]]
    assert said[1:] == [("key:erase key", "erase", 1), ("key:search key", "search", 3)]
    assert said[0][:2] == ("key:admin key", "compact")
    assert "Ann" not in answer.text


def test_overview(enrolled: Served) -> None:
    answer = enrolled.ask("GET", "/v1/gallery", role="search")
    assert answer.json()["crops"] == 3
    assert str(enrolled.service.gallery.package.folder) not in answer.text
    assert enrolled.client.get("/healthz").json() == {"status": "alive"}
    assert enrolled.client.get("/readyz").json() == {"status": "ready"}
    assert b"reidkit_" in enrolled.ask("GET", "/metrics", role="enrol").content
    enrolled.service.draining = True
    answer = enrolled.client.get("/readyz")
    enrolled.service.draining = False
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_the_page_is_given_out_from_memory(served: Served) -> None:
    for name, asset in read_assets().items():
        answer = served.client.get(f"/page/{name}")
        assert (answer.content, answer.headers["content-type"]) == (asset.data, asset.media_type)
        again = served.client.get(f"/page/{name}", headers={"If-None-Match": asset.etag})
        assert (again.status_code, again.content) == (304, b"")
    for name in ("..%2f_keys.py", "../_keys.py", "%2e%2e/_keys.py", "/etc/passwd", "_keys.py", ""):
        assert served.client.get(f"/page/{name}").status_code == 404


class Stuck:
    """Stands for a call of the gallery that fails, or waits until told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.calls, self.go = error, 0, threading.Event()

    def __call__(self, *_: object, **__: object) -> Any:
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.go.wait(60)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (GalleryError("/srv/secret/place is locked"), 503, "gallery"),
        (EngineError("/srv/secret/model.onnx failed"), 503, "engine"),
        (MismatchError("/srv/secret is of another model"), 409, "mismatch"),
        (ReidkitError("/srv/secret"), 500, "unexpected"),
        (RuntimeError("/srv/secret"), 500, "unexpected"),
    ],
)
def test_errors_do_not_show_the_machine(
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    kind: str,
) -> None:
    monkeypatch.setattr(type(served.service.gallery), "stats", Stuck(error))
    with caplog.at_level(logging.WARNING):
        answer = served.ask("GET", "/v1/gallery")
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["type"] == f"urn:reidkit:problem:{kind}"
    assert "secret" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    request_id = problem["instance"].removeprefix("urn:reidkit:request:")
    assert request_id == answer.headers["x-request-id"]
    if status >= 500:
        assert request_id in caplog.text
        assert "/srv/secret" in caplog.text


def test_a_gallery_that_moved_to_another_model(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = served.service.gallery
    moved = Binding("f" * 64, "f" * 64, 8)
    monkeypatch.setattr(type(gallery), "stats", Stuck(MismatchError("another model")))
    monkeypatch.setattr(type(gallery.store), "binding", lambda _: moved)
    answer = served.ask("GET", "/v1/gallery")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:reidkit:problem:rebound"
    assert "retry-after" not in answer.headers, "waiting does not help"
    assert "restart the service with the new package" in answer.json()["detail"]


def test_threads_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, limits=Limits(threads=1, waiting=1)) as served:
        stuck = Stuck()
        monkeypatch.setattr(type(served.service.gallery), "stats", stuck)
        answers: list[int] = []

        def ask() -> None:
            with httpx.Client(base_url=served.client.base_url) as client:
                answer = client.get("/v1/gallery", headers=served.as_role("search"))
                answers.append(answer.status_code)

        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) == 3)
        assert answers == [503] * 3
        stuck.error = GalleryError("let go")
        stuck.go.set()
        for thread in threads:
            thread.join()


def test_a_client_that_goes_leaves_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One search holds the only thread; of those that wait, none is begun once its client left."""
    with serving(tmp_path, limits=Limits(threads=1)) as served:
        stuck = Stuck()
        monkeypatch.setattr(type(served.service.gallery), "search_vectors", stuck)
        body = {"pictures": encode(*draw_pngs(1))}

        def hold() -> None:
            served.ask("POST", "/v1/search", json=body, timeout=60)

        holder = threading.Thread(target=hold)
        holder.start()
        wait_until(lambda: stuck.calls == 1)
        for _ in range(3):
            with pytest.raises(httpx.ReadTimeout):
                served.ask("POST", "/v1/search", json=body, timeout=httpx.Timeout(30, read=0.1))
        stuck.go.set()
        holder.join()
        wait_until(lambda: not served.service.bodies.taken + served.service.decoded.taken)
        assert stuck.calls == 1


def test_problems_have_one_shape() -> None:
    for error in (
        RequestError(404, "gone", more={"status": 5, "extra": 1}),
        Overloaded("bodies", 3),
        GalleryError("x"),
        ValueError("x"),
    ):
        answer = answer_problem(explain(error), "abc")
        problem = json.loads(bytes(answer.body))
        assert {"type", "title", "status", "detail", "instance"} <= set(problem)
        assert problem["status"] == answer.status_code, "more members never replace the standard's"
        assert answer.media_type == "application/problem+json"
        jsonschema_rs.validate(explain_schema(), problem)


def explain_schema() -> dict[str, Any]:
    from reidkit.serving._problems import document

    content = document(404)[404]["content"]["application/problem+json"]
    jsonschema_rs.validate(content["schema"], content["example"])
    schema: dict[str, Any] = content["schema"]
    return schema


def test_openapi(served: Served) -> None:
    api = served.client.get("/openapi.json").json()
    assert api["openapi"].startswith("3.1")
    scheme = api["components"]["securitySchemes"]["key"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for path, operations in api["paths"].items():
        for method, operation in operations.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            responses = operation["responses"]
            assert any(status.startswith("2") for status in responses), where
            if path.startswith("/v2") and "/health/" not in path:
                assert {"401", "403", "429", "503"} <= set(responses), where
            if not path.startswith("/v1"):
                continue
            assert operation["security"] == [{"key": []}], where
            assert {"401", "403", "429", "503"} <= set(responses), where
            for status, response in responses.items():
                if int(status) >= 400:
                    assert "application/problem+json" in response["content"], where
                elif "application/json" in response["content"]:
                    assert response["content"]["application/json"]["example"], where
            if "requestBody" in operation:
                check_body(served, path, operation["requestBody"]["content"])
    jsonschema_rs.meta.validate(api["components"])


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named 'fastapi' for {name}", name="fastapi.routing")

    monkeypatch.setattr(serving_package, "import_module", fail)
    with pytest.raises(MissingExtraError, match=r"reidkit\[serve\]"):
        serving_package.make_app  # noqa: B018 - the access is the test
    with pytest.raises(AttributeError):
        serving_package.nonsense  # noqa: B018


def check_body(served: Served, path: str, content: dict[str, Any]) -> None:
    """The example of a body is by its schema, and is taken."""
    media = content["application/json"]
    jsonschema_rs.validate(media["schema"], media["example"])
    answer = served.ask("POST", path, json=media["example"])
    assert answer.status_code in (200, 201), answer.text
    assert set(answer.json()) == set(example_of(path)), path
    form = content["multipart/form-data"]["schema"]
    assert form["properties"]["pictures"]["items"]["format"] == "binary"


def example_of(path: str) -> dict[str, Any]:
    last = path.rsplit("/", 1)[1]
    example: dict[str, Any] = getattr(
        _examples, {"embed": "EMBED", "search": "SEARCH", "persons": "ENROLMENT"}[last]
    )
    return example


def test_the_example_picture_is_one() -> None:
    assert preprocess.decode_bytes(base64.b64decode(_examples.PICTURE), "x").shape == (32, 16, 3)
