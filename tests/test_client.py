"""`reidkit.Client`: the gallery's values over HTTP, and a key that goes nowhere else."""

from __future__ import annotations

import dataclasses
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit import client as module
from reidkit.client import Client, UnfinishedError
from reidkit.client._fields import group_crops, quote_name
from reidkit.errors import (
    AbsentError,
    ArgumentError,
    GalleryError,
    ImageError,
    MismatchError,
    MissingExtraError,
    ReidkitError,
)
from reidkit.gallery import Asking, Crops, Gallery, Where, crops_as_json, read_picture
from tests.pictures import write_picture
from tests.serving_app import Served, serving

URL = "http://127.0.0.1:8000"
ENROLLED = {"ids": [1], "replaced": 0, "skipped": 0, "refused": []}
Handler = Callable[[httpx.Request], httpx.Response]


def crops_of(paths: list[str], people: list[str], **columns: object) -> Crops:
    return Crops.make(len(paths), people=people, sources=paths, **columns)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    return [write_picture(folder / f"{i}.png", seed=i) for i in range(6)]


@pytest.fixture
def served(tmp_path: Path, pictures: list[str]) -> Iterator[Served]:
    """A service for a gallery of four crops of three people."""
    with serving(tmp_path) as served:
        crops = crops_of(
            pictures[:4],
            ["ann", "ann", "bob", "c/d ä.."],
            cameras=["door", "yard", "door", ""],
            times=[1e9, 1.1e9, 1.2e9, np.nan],
            tags=[("staff",), (), (), ()],
        )
        served.service.gallery.add(crops)
        yield served


@pytest.fixture
def gallery(served: Served) -> Gallery:
    return served.service.gallery


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{served.port}", served.keys["admin"]) as client:
        yield client


def test_it_answers_as_the_gallery_does(
    gallery: Gallery, client: Client, pictures: list[str]
) -> None:
    asking = Asking(people=2, crops=3, where=Where(cameras=("door",), since=1.0, tags=("staff",)))
    for question in (Asking(), asking):
        assert client.search(pictures[:2], question) == gallery.search(pictures[:2], question)
        crop = int(gallery.read_person("ann").ids[0])
        assert client.search_like(crop, question) == gallery.search_like(crop, question)
    assert client.list_people() == gallery.list_people()
    assert client.list_people(after="ann", limit=1) == gallery.list_people(after="ann", limit=1)
    for name in ("ann", "c/d ä.."):
        mine_crops, their_crops = client.read_person(name), gallery.read_person(name)
        assert mine_crops.ids.tolist() == their_crops.ids.tolist()
        assert mine_crops.times == pytest.approx(their_crops.times, nan_ok=True)
        assert mine_crops.tags.tolist() == their_crops.tags.tolist()
        assert client.picture(int(mine_crops.ids[0])) == gallery.picture(int(mine_crops.ids[0]))
    assert client.stats().crops == gallery.stats().crops == 4
    assert client.picture(10**6) is None
    client.compact()
    audit = client.audit(limit=2)
    assert [line.action for line in audit] == [line.action for line in gallery.audit(limit=2)]
    assert audit[0].actor == "key:admin key"


def test_vectors_are_the_models(gallery: Gallery, client: Client, pictures: list[str]) -> None:
    vectors = client.embed([*pictures, read_picture(pictures[0])] * 3)
    assert vectors.shape == (21, gallery.model.spec.embedding_size)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[6], atol=1e-6)
    best = gallery.search_vectors(vectors[2:3]).people[0]
    assert best.person == "bob"
    assert best.best == pytest.approx(1, abs=1e-4)


def test_crops_are_enrolled_erased_and_the_refused_named(
    gallery: Gallery, client: Client, pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    paths = [pictures[4], str(tmp_path / "bad.jpg"), str(tmp_path / "none.jpg"), pictures[5]]
    seen: list[tuple[int, int]] = []
    crops = crops_of(paths, ["eve", "eve", "eve", "fay"], cameras=["x", "x", "x", "y"])
    done = client.add(crops, progress=lambda *count: seen.append(count))
    assert seen[-1] == (4, 4)
    assert [each.name for each in done.refused] == paths[1:3]
    assert all(each.reason for each in done.refused)
    people = [str(gallery.read_person(name).ids[0]) for name in ("eve", "fay")]
    assert [str(i) for i in done.ids] == people
    assert gallery.read_person("fay").cameras.tolist() == ["y"]
    again = client.add(crops.select(slice(0, 1)))
    assert not again.refused
    assert len(gallery.read_person("eve")) == 1
    only_bad = client.add(crops.select(slice(1, 2)))
    assert (only_bad.ids, len(only_bad.refused)) == ((), 1)
    assert client.remove("eve") == 1
    assert client.remove("eve") == 0
    for ask in (client.remove, client.read_person):
        with pytest.raises(ArgumentError, match="needed"):
            ask(" ")
    assert client.remove("c/d ä..") == 1
    assert len(client.read_person("eve")) == 0


def test_bad_pictures_and_bad_questions_are_refused_by_name(
    client: Client, pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_text("no picture")
    with pytest.raises(ImageError, match=r"bad\.jpg") as refused:
        client.search([pictures[0], tmp_path / "bad.jpg"])
    assert refused.value.path == str(tmp_path / "bad.jpg")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        client.embed([tmp_path / "bad.jpg"])
    for pictures_given in ([], pictures * 3):
        with pytest.raises(ArgumentError, match="1 to 16"):
            client.search(pictures_given)
    with pytest.raises(ArgumentError, match="at least one"):
        client.embed([])
    with pytest.raises(ArgumentError, match="without"):
        client.search(pictures[:1], Asking(where=Where(without=(1,))))


def test_a_wrong_key_and_a_missing_role_say_what_to_do(
    served: Served, gallery: Gallery, pictures: list[str]
) -> None:
    url = f"http://127.0.0.1:{served.port}"
    for wrong in (None, "rk_wrong"):
        with Client(url, wrong) as client, pytest.raises(GalleryError, match="REIDKIT_KEY"):
            client.stats()
    with Client(url, served.keys["search"]) as client:
        assert client.stats().crops == 4
        with pytest.raises(GalleryError, match="keys add"):
            client.remove("ann")
        with pytest.raises(GalleryError, match="keys add"):
            client.add(crops_of(pictures[:1], ["ann"]))
    assert len(gallery.read_person("ann")) == 2


def test_names_are_found_however_they_are_composed(client: Client, pictures: list[str]) -> None:
    decomposed = unicodedata.normalize("NFD", "Zoë")
    client.add(crops_of(pictures[4:5], ["Zoë"]))
    assert [person.name for person in client.list_people(named=decomposed)] == ["Zoë"]
    assert "Zoë" not in [person.name for person in client.list_people(after=decomposed)]
    assert len(client.read_person(decomposed)) == 1
    assert client.remove(decomposed) == 1


def test_what_is_not_there_to_be_like(client: Client) -> None:
    with pytest.raises(AbsentError):
        client.search_like(10**6)


def always(answer: httpx.Response) -> Handler:
    return lambda _: answer


def answering(handler: Handler, key: str | None = "rk_1") -> Client:
    return Client(URL, key, transport=httpx.MockTransport(handler))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time; what would have been waited is noted."""
    waited: list[float] = []
    monkeypatch.setattr("reidkit.client._connection.time.sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ArgumentError),
        (401, GalleryError),
        (403, GalleryError),
        (404, GalleryError),
        (409, MismatchError),
        (413, ArgumentError),
        (415, ArgumentError),
        (422, ArgumentError),
        (500, GalleryError),
    ],
)
def test_problems_become_errors(status: int, kind: type[ReidkitError]) -> None:
    problem = {"type": "about:blank", "title": "Title", "status": status, "detail": "the detail"}
    for answer in (
        httpx.Response(status, json=problem),
        httpx.Response(status, text="<html>"),
    ):
        said = "the detail" if answer.text.startswith("{") else "."
        with answering(always(answer)) as client, pytest.raises(kind, match=said):
            client.stats()


def problem(status: int, kind: str, **headers: str) -> httpx.Response:
    content = {"type": f"urn:reidkit:problem:{kind}", "status": status, "detail": "the detail"}
    return httpx.Response(status, json=content, headers=headers)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, text="<html>"),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(404, json={"type": "about:blank", "title": "Not Found", "status": 404}),
        problem(404, "other"),
        httpx.Response(404, json={"type": "nobody"}),
    ],
)
def test_a_404_of_anybody_else_does_not_mean_nobody(answer: httpx.Response) -> None:
    with answering(always(answer)) as client:
        calls: list[Callable[[], object]] = [
            lambda: client.remove("ann"),
            lambda: client.read_person("ann"),
            lambda: client.picture(1),
            client.stats,
        ]
        for ask in calls:
            with pytest.raises(GalleryError, match="is this the address") as refused:
                ask()
            assert not isinstance(refused.value, AbsentError)


def test_a_404_of_a_service_means_nobody() -> None:
    with answering(always(problem(404, "nobody"))) as client:
        assert client.remove("ann") == 0
        assert len(client.read_person("ann")) == 0
    with answering(always(problem(404, "no-picture"))) as client:
        assert client.picture(1) is None


def pages_of(crops: Crops, size: int) -> Handler:
    """Answer with a person's crops as a service does that gives `size` at once."""

    def handle(request: httpx.Request) -> httpx.Response:
        after = int(request.url.params.get("after", 0))
        rows = np.flatnonzero(crops.ids > after)
        page = crops.select(rows[:size])
        following = int(page.ids[-1]) if len(rows) > size else None
        return httpx.Response(200, json={"crops": crops_as_json(page), "next": following})

    return handle


@given(st.integers(1, 7), st.integers(1, 8))
def test_all_pages_of_a_person_are_read(count: int, size: int) -> None:
    crops = crops_of([str(i) for i in range(count)], ["ann"] * count)
    crops = dataclasses.replace(crops, ids=np.arange(count, dtype=np.int64) * 3 + 1)
    with answering(pages_of(crops, size)) as client:
        found = client.read_person("ann")
    assert found.ids.tolist() == crops.ids.tolist()
    assert found.sources.tolist() == crops.sources.tolist()


@pytest.mark.parametrize("crops", [0, 1])
def test_pages_that_lead_nowhere_end(crops: int) -> None:
    content = {"crops": crops_as_json(crops_of(["a"] * crops, ["ann"] * crops)), "next": 5}
    with (
        answering(always(httpx.Response(200, json=content))) as client,
        pytest.raises(GalleryError, match="leads nowhere"),
    ):
        client.read_person("ann")


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"crops": 1}'])
def test_something_else_at_the_address_is_named(body: str, pictures: list[str]) -> None:
    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=body)

    with answering(handle) as client:
        calls: list[Callable[[], object]] = [
            client.stats,
            client.list_people,
            client.audit,
            lambda: client.read_person("ann"),
            lambda: client.remove("ann"),
            lambda: client.search(pictures[:1]),
            lambda: client.embed(pictures[:1]),
            lambda: client.add(crops_of(pictures[:1], ["ann"])),
        ]
        for ask in calls:
            with pytest.raises(GalleryError, match="no reidkit service"):
                ask()


def test_a_busy_service_is_asked_again_as_late_as_it_says(waits: list[float]) -> None:
    answers = iter([429, 503, 503, 200])

    def handle(_: httpx.Request) -> httpx.Response:
        status = next(answers)
        return httpx.Response(status, headers={"Retry-After": "3"}, json={"erased": 2})

    with answering(handle) as client:
        assert client.remove("ann") == 2
    assert waits == [3, 3, 3]


def test_it_gives_up_on_a_service_that_stays_busy(waits: list[float]) -> None:
    busy = httpx.Response(503, headers={"Retry-After": "1000"})
    with answering(lambda _: busy) as client, pytest.raises(GalleryError, match="503"):
        client.stats()
    assert 1 <= len(waits) < 10
    assert max(waits) <= 30


@pytest.mark.parametrize("status", [409, 503])
def test_a_gallery_of_another_model_is_told_at_once(waits: list[float], status: int) -> None:
    moved = problem(status, "rebound", **{"Retry-After": "60"})
    with answering(always(moved)) as client, pytest.raises(MismatchError, match="the detail"):
        client.stats()
    assert waits == []


@pytest.mark.parametrize(
    ("answer", "advice", "again"),
    [
        (problem(503, "engine"), "does not help", False),
        (problem(503, "gallery"), "its log says", True),
        (problem(503, "overloaded"), "busy: ask again", True),
        (problem(429, "rate"), "asks too often", True),
        (httpx.Response(503), "busy or stopping", True),
        (httpx.Response(429), "busy: ask again", True),
    ],
)
def test_the_last_word_is_about_the_problem(
    waits: list[float], answer: httpx.Response, advice: str, again: bool
) -> None:
    with answering(always(answer)) as client, pytest.raises(GalleryError, match=advice):
        client.stats()
    assert bool(waits) == again


def test_the_key_goes_to_the_address_alone() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(307, headers={"Location": "https://elsewhere.example/v1/gallery"})

    with answering(handle) as client, pytest.raises(GalleryError, match=r"elsewhere\.example"):
        client.stats()
    assert [request.url.host for request in seen] == ["127.0.0.1"]
    assert seen[0].headers["Authorization"] == "Bearer rk_1"
    with answering(handle, None) as client, pytest.raises(GalleryError):
        client.stats()
    assert "Authorization" not in seen[-1].headers


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://reid.example.org", "not encrypted"),
        ("http://10.0.0.1:8000", "not encrypted"),
        ("http://localhost.example.org", "not encrypted"),
        ("ftp://127.0.0.1", "no address"),
        ("127.0.0.1:8000", "no address"),
        ("https://name:secret@reid.example.org", "give the address alone"),
        ("https://reid.example.org/?key=1", "give the address alone"),
    ],
)
def test_addresses_on_which_a_key_could_be_read_are_refused(url: str, complaint: str) -> None:
    with pytest.raises(ArgumentError, match=complaint) as refused:
        Client(url, "rk_1")
    assert "secret" not in str(refused.value)


def test_addresses_that_are_taken() -> None:
    for url in (URL, "http://localhost:1/", "http://[::1]:8000", "https://reid.example.org/under"):
        Client(url, "rk_1").close()
    Client("http://10.0.0.1", "rk_1", insecure=True).close()


def test_a_key_that_was_copied_badly_is_refused() -> None:
    for key in ("", "rk_1 ", "rk_1\n", "rk_ü"):
        with pytest.raises(ArgumentError, match="copy it anew"):
            Client(URL, key)


def test_a_service_that_is_not_there() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with answering(handle) as client, pytest.raises(GalleryError, match="is the service running"):
        client.stats()


def test_what_was_acknowledged_is_reported_when_a_later_request_fails(
    pictures: list[str], waits: list[float]
) -> None:
    answers = iter([httpx.Response(201, json=ENROLLED)])

    def handle(_: httpx.Request) -> httpx.Response:
        return next(answers, httpx.Response(500, json={"detail": "gone"}))

    with answering(handle) as client:
        with pytest.raises(UnfinishedError, match="1 of 2") as failed:
            client.add(crops_of(pictures[:2], ["ann", "bob"]))
        assert failed.value.enrolment.ids == (1,)
        with pytest.raises(GalleryError) as first:
            client.add(crops_of(pictures[:2], ["ann", "bob"]))
        assert not isinstance(first.value, UnfinishedError)


def test_requests_carry_at_most_16_pictures_of_one_person(pictures: list[str]) -> None:
    crops = crops_of([pictures[0]] * 50, ["ann", "bob"] * 25, cameras=["a"] * 49 + ["b"])
    groups = list(group_crops(crops))
    assert sorted(row for rows in groups for row in rows) == list(range(50))
    for rows in groups:
        assert len(rows) <= 16
        assert len({(crops.people[row], crops.cameras[row]) for row in rows}) == 1
    assert len(groups) == 5


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_name_is_one_step_of_a_path(name: str) -> None:
    step = quote_name(name)
    assert unquote(step) == name
    assert "/" not in step
    url = httpx.URL(f"{URL}/v1/persons/{step}")
    assert url.raw_path.decode().rpartition("/")[2].upper() == step.upper()


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"reidkit\[client\]"):
        module.Client(URL)
