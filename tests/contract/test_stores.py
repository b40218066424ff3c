"""The contract of every gallery store: a store is finished when this file passes with it."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.errors import (
    AbsentError,
    ArgumentError,
    GalleryError,
    ImageError,
    MismatchError,
    ShapeError,
)
from reidkit.gallery import _reembedding
from reidkit.gallery._pictures import Picture
from reidkit.gallery._stores import Store, create_store, open_store
from reidkit.gallery._values import EVERYTHING, Binding, Crops, Found, KeptPictures, Person, Where

pytest_plugins = ["tests.postgres_server"]

SIZE = 8
BINDING = Binding("a" * 64, "b" * 64, SIZE, "models/first")
OTHER = Binding("c" * 64, "b" * 64, 4, "models/second")
PNG = b"\x89PNG\r\n\x1a\n and more"
HOSTILE = ["' OR 1=1 --", "%_", "_", "%", '"; DROP TABLE crop;', "Zoë", "李小龍", "a/b", "\\", "🙂"]


@pytest.fixture(params=["sqlite", "sqlite from disk", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, int]:
    """Give where a store can be made, and its memory."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_dsn"), 2**20
    return str(tmp_path / "gallery"), 0 if "disk" in request.param else 2**20


@pytest.fixture
def store(place: tuple[str, int]) -> Iterator[Store]:
    create_store(place[0], BINDING, KeptPictures(True, 5000), actor="tests")
    opened = open_store(place[0], memory=place[1])
    yield opened
    opened.close()


def draw_vectors(count: int, seed: int = 0, size: int = SIZE) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((count, size))
    units: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return units.astype(np.float32)


def make_crops(count: int, **columns: object) -> Crops:
    defaults: dict[str, object] = {
        "people": [f"p{row % 3}" for row in range(count)],
        "cameras": [f"c{row % 2}" for row in range(count)],
        "times": [1000.0 + row for row in range(count)],
        "sources": [f"pictures/{row}.jpg" for row in range(count)],
        "digests": [f"{row:064x}" for row in range(count)],
    }
    return Crops.make(count, **(defaults | columns))


def fill(
    store: Store, crops: Crops, vectors: NDArray[np.float32] | None = None
) -> NDArray[np.int64]:
    if vectors is None:
        vectors = draw_vectors(len(crops))
    return store.upsert(crops, vectors, [PNG] * len(crops), binding=BINDING, actor="tests")


def find_naively(
    crops: Crops, vectors: NDArray[np.float32], queries: NDArray[np.float32], count: int
) -> Found:
    """Score everything, one pair like the other, and sort; ties by id."""
    ids = np.full((len(queries), count), -1, np.int64)
    scores = np.full((len(queries), count), -np.inf, np.float32)
    wide = vectors.astype(np.float64)
    for place, query in enumerate(queries.astype(np.float64)):
        own = (wide * query).sum(axis=1).astype(np.float32)
        order = np.lexsort((crops.ids, -own))[:count]
        ids[place, : len(order)], scores[place, : len(order)] = crops.ids[order], own[order]
    return Found(ids, scores)


def rank_naively(
    crops: Crops, vectors: NDArray[np.float32], query: NDArray[np.float32], count: int
) -> list[str]:
    found = find_naively(crops, vectors, query[None], len(crops))
    owners = dict(zip(crops.ids.tolist(), crops.people.tolist(), strict=True))
    names: list[str] = []
    for crop in found.ids[0].tolist():
        if owners[crop] not in names and len(names) < count:
            names.append(owners[crop])
    return names


def mark_naively(crops: Crops, where: Where) -> NDArray[np.bool_]:
    def meant(row: int) -> bool:
        taken = crops.times[row]
        return (
            (where.people is None or crops.people[row] in where.people)
            and (where.cameras is None or crops.cameras[row] in where.cameras)
            and (where.since is None or taken >= where.since)
            and (where.until is None or taken < where.until)
            and set(where.tags) <= set(crops.tags[row])
            and crops.ids[row] not in where.without
            and (where.added_before is None or crops.added[row] < where.added_before)
        )

    return np.array([meant(row) for row in range(len(crops))], np.bool_)


def test_a_new_store_is_empty_and_says_what_it_is_for(store: Store) -> None:
    assert store.binding() == BINDING
    assert store.kept_pictures() == KeptPictures(True, 5000)
    assert store.count(EVERYTHING) == store.count_people() == 0
    assert store.list_people() == []
    assert store.list_cameras() == []
    assert list(store.export(EVERYTHING)) == []
    found = store.search(draw_vectors(2), 3, EVERYTHING)
    assert found.ids.tolist() == [[-1] * 3] * 2
    assert np.all(found.scores == -np.inf)
    assert [(line.actor, line.action, line.count) for line in store.audit()] == [
        ("tests", "create", 0)
    ]
    facts = store.facts(measure=True)
    assert facts.disk > 0
    assert facts.name == store.name
    assert facts.search


def test_a_store_is_made_once(place: tuple[str, int], store: Store) -> None:
    fill(store, make_crops(1))
    with pytest.raises(GalleryError):
        create_store(place[0], BINDING, KeptPictures(), actor="tests")
    assert store.count(EVERYTHING) == 1


def test_what_is_added_is_read_again(place: tuple[str, int], store: Store) -> None:
    before = time.time()
    given = make_crops(4, times=[1.5, math.nan, -3.0, 2e9], tags=[("b", "a"), (), ("ü",), ()])
    ids = fill(store, given)
    assert ids.dtype == np.int64
    assert np.all(np.diff(ids) > 0)
    assert ids[0] > 0
    again = open_store(place[0])
    try:
        crops = again.read(ids[[2, 0]])
        expected = given.with_ids(ids).select(np.array([2, 0]))
        for name in ("ids", "people", "cameras", "times", "sources", "tags", "digests"):
            assert getattr(crops, name).tolist() == getattr(expected, name).tolist()
        assert np.all((crops.added >= before - 1) & (crops.added <= time.time() + 1))
        assert math.isnan(again.read(ids[1:2]).times[0])
        assert len(again.read(np.array([10**9, *ids[:1]]))) == 1
        assert len(again.read(np.zeros(0, np.int64))) == 0
        assert again.picture(int(ids[0])) == PNG
        assert again.picture(10**9) is None
    finally:
        again.close()


def test_a_crop_without_picture_has_none(store: Store) -> None:
    (crop,) = store.upsert(make_crops(1), draw_vectors(1), [None], binding=BINDING, actor="x")
    assert store.picture(int(crop)) is None


def test_a_persons_picture_is_replaced_under_a_new_id(store: Store) -> None:
    ids = fill(store, make_crops(3))
    vectors = draw_vectors(1, seed=5)
    store.search(vectors, 1, EVERYTHING)
    changed = make_crops(1, cameras=["elsewhere"], tags=[("new",)])
    (new,) = fill(store, changed, vectors)
    assert new > ids[-1]
    assert store.count(EVERYTHING) == 3
    assert len(store.read(ids[:1])) == 0
    assert store.picture(int(ids[0])) is None
    assert store.read(np.array([new])).cameras.tolist() == ["elsewhere"]
    found = store.search(vectors, 4, EVERYTHING)
    assert found.ids[0, 0] == new
    assert ids[0] not in found.ids


def test_the_later_of_equal_crops_in_one_call_stays(store: Store) -> None:
    ids = fill(store, make_crops(3, people=["p"] * 3, digests=["same", "other", "same"]))
    assert len(ids) == 3
    assert store.count(EVERYTHING) == 2
    assert store.read(ids).ids.tolist() == ids[1:].tolist()
    (new,) = fill(store, make_crops(1, digests=["next"]))
    assert new > ids[-1]


def test_ids_are_never_used_twice(store: Store) -> None:
    ids = fill(store, make_crops(3))
    store.remove(EVERYTHING, actor="x")
    assert fill(store, make_crops(3)).min() > ids.max()


def test_what_does_not_belong_is_refused_whole(store: Store) -> None:
    crops, vectors = make_crops(2), draw_vectors(2)
    for other in (
        dataclasses.replace(BINDING, model_sha256="d" * 64),
        dataclasses.replace(BINDING, contract_sha256="d" * 64),
    ):
        with pytest.raises(MismatchError):
            store.upsert(crops, vectors, [None] * 2, binding=other, actor="x")
    with pytest.raises(ShapeError):
        fill(store, crops, vectors[:, :4])
    with pytest.raises(ShapeError):
        fill(store, crops, vectors[:1])
    with pytest.raises(ShapeError):
        store.upsert(crops, vectors, [None], binding=BINDING, actor="x")
    for wrong in (math.nan, math.inf, 7.0, 0.9 / SIZE**0.5, 1e-25):
        with pytest.raises(ArgumentError):
            fill(store, crops, np.full((2, SIZE), wrong, np.float32))
    with pytest.raises(ShapeError):
        store.search(vectors[:, :4], 1, EVERYTHING)
    with pytest.raises(ShapeError):
        store.rank_people(vectors[0, :4], 1, EVERYTHING)
    with pytest.raises(ArgumentError):
        store.search(vectors, -1, EVERYTHING)
    with pytest.raises(ArgumentError):
        store.rank_people(vectors[0], -1, EVERYTHING)
    assert store.count(EVERYTHING) == 0
    assert len(store.audit()) == 1


def test_a_moved_package_is_the_same_model(store: Store) -> None:
    moved = dataclasses.replace(BINDING, package="elsewhere")
    store.upsert(make_crops(1), draw_vectors(1), [None], binding=moved, actor="x")
    assert store.count(EVERYTHING) == 1


def test_hostile_names_are_only_names(store: Store) -> None:
    count = len(HOSTILE)
    crops = make_crops(count, people=HOSTILE, cameras=HOSTILE, tags=[(name,) for name in HOSTILE])
    vectors = draw_vectors(count)
    ids = fill(store, crops, vectors)
    for name, crop in zip(HOSTILE, ids.tolist(), strict=True):
        for where in (Where(people=(name,)), Where(cameras=(name,)), Where(tags=(name,))):
            assert store.count(where) == 1
            assert store.search(vectors[:1], 2, where).ids.tolist() == [[crop, -1]]
        named = [person.name for person in store.list_people(named=name)]
        assert named == sorted(other for other in HOSTILE if name in other)
    nobody = Where(people=("' OR '1'='1",))
    assert store.count(nobody) == 0
    assert store.search(vectors[:1], 1, nobody).ids.tolist() == [[-1]]
    assert store.list_cameras() == sorted(HOSTILE)
    assert store.remove(Where(people=(HOSTILE[0],)), actor="x") == 1
    assert store.count(EVERYTHING) == count - 1


def test_people_are_listed_by_name(store: Store) -> None:
    names = ["b", "a", "Z", "é", "b", "🙂", "ﬀ"]
    cameras = ["2", "1", "", "1", "1", "1", "1"]
    times = [5.0, math.nan, 1.0, 2.0, 3.0, 4.0, math.nan]
    fill(store, make_crops(7, people=names, cameras=cameras, times=times))
    people = store.list_people()
    assert [person.name for person in people] == sorted(set(names))
    assert store.list_cameras() == ["1", "2"]
    assert people[2] == Person("b", 2, ("1", "2"), 3.0, 5.0)
    assert people[0] == Person("Z", 1, (), 1.0, 1.0)
    assert people[1] == Person("a", 1, ("1",), None, None)
    assert [person.name for person in store.list_people(after="a", limit=2)] == ["b", "é"]
    assert [person.name for person in store.list_people(named="b")] == ["b"]
    assert store.list_people(named="B") == []
    assert store.count_people() == 6


def test_known_pictures_are_found(store: Store) -> None:
    fill(store, make_crops(3, people=["b", "a", "c"], digests=["1", "1", "2"]))
    asked = [("a", "1"), ("b", "1"), ("x", "1"), ("x", "2"), ("c", "3")]
    known = store.find_known([who for who, _ in asked], [digest for _, digest in asked])
    assert known == ["a", "b", "b", "c", None]
    assert store.find_known([], []) == []


def test_removing_erases_all_that_belongs_to_the_crop(store: Store) -> None:
    ids = fill(store, make_crops(6, tags=[("t",)] * 6))
    assert len(store.search(draw_vectors(1), 6, EVERYTHING).ids[0]) == 6
    assert store.remove(Where(people=("p0",)), actor="key:eve", action="retention") == 2
    found = store.search(draw_vectors(1), 6, EVERYTHING)
    assert set(found.ids[0].tolist()) == {-1, *ids[[1, 2, 4, 5]].tolist()}
    assert store.picture(int(ids[0])) is None
    assert store.count(Where(tags=("t",))) == 4
    assert [person.name for person in store.list_people()] == ["p1", "p2"]
    line = store.audit(limit=1)[0]
    assert (line.actor, line.action, line.count) == ("key:eve", "retention", 2)
    assert store.remove(Where(people=("p0",)), actor="x") == 0


def test_export_gives_all_that_is_meant_by_id(store: Store) -> None:
    vectors = draw_vectors(7)
    ids = fill(store, make_crops(7), vectors)
    parts = list(store.export(Where(cameras=("c0",)), batch=3))
    assert [len(crops) for crops, _ in parts] == [3, 1]
    assert np.concatenate([crops.ids for crops, _ in parts]).tolist() == ids[::2].tolist()
    assert np.array_equal(np.concatenate([part for _, part in parts]), vectors[::2])
    ((rest, _),) = store.export(EVERYTHING, after=int(ids[4]))
    assert rest.ids.tolist() == ids[5:].tolist()


def test_the_audit_names_nobody(store: Store) -> None:
    fill(store, make_crops(2, people=["Jane Roe"] * 2))
    store.note("search", 3, actor="key:gate")
    store.remove(Where(people=("Jane Roe",)), actor="cli:root")
    lines = store.audit()
    assert [(line.action, line.count) for line in lines] == [
        ("erase", 2),
        ("search", 3),
        ("enrol", 2),
        ("create", 0),
    ]
    assert all(abs(line.time - time.time()) < 60 for line in lines)
    assert "Jane" not in repr(lines)
    assert len(store.audit(limit=2)) == 2


def test_rebinding_switches_at_once(place: tuple[str, int], store: Store) -> None:
    old = draw_vectors(5)
    ids = fill(store, make_crops(5), old)
    nobody = np.zeros(0, np.int64)
    with pytest.raises(GalleryError, match="begun"):
        store.finish_rebinding(binding=OTHER, dropping=nobody, actor="x")
    store.start_rebinding(OTHER)
    missing = store.list_missing(binding=OTHER, after=0, limit=3)
    assert missing.ids.tolist() == ids[:3].tolist()
    assert missing.sources[0] == "pictures/0.jpg"
    new = draw_vectors(5, seed=1, size=4)
    store.add_vectors(ids[:3], new[:3], binding=OTHER)
    store.remove(Where(without=tuple(ids[[0, 2, 3, 4]].tolist())), actor="x")
    again = open_store(place[0], memory=place[1])
    try:
        again.search(old[:1], 1, EVERYTHING)
        moved = dataclasses.replace(OTHER, package="moved")
        again.start_rebinding(moved)  # what is there stays
        for after, left in ((0, ids[3:]), (int(ids[3]), ids[4:])):
            listed = again.list_missing(binding=moved, after=after, limit=9)
            assert listed.ids.tolist() == left.tolist()
        # One of them was erased meanwhile.
        again.add_vectors(ids[[1, 3]], new[[1, 3]], binding=moved)
        assert store.binding() == BINDING
        assert store.search(old[4:], 1, EVERYTHING).ids.tolist() == [[ids[4]]]
        for dropping in (nobody, ids[:4]):
            assert again.finish_rebinding(binding=OTHER, dropping=dropping, actor="x") == -1
            assert again.binding() == BINDING
        assert store.count(EVERYTHING) == 4
        # Those that have a vector stay, whatever is to be dropped.
        assert again.finish_rebinding(binding=OTHER, dropping=ids[2:], actor="x") == 1
        for one in (store, again):
            assert one.binding().same_vectors(OTHER)
            assert one.binding().package == "moved"
            assert one.search(new[2:3], 9, EVERYTHING).ids[0, 0] == ids[2]
            assert one.count(EVERYTHING) == 3
        assert (again.audit(limit=1)[0].action, again.audit(limit=1)[0].count) == ("reembed", 3)
        with pytest.raises(MismatchError):
            fill(store, make_crops(1))
        with pytest.raises(GalleryError):
            again.list_missing(binding=OTHER, after=0, limit=1)
    finally:
        again.close()


def test_another_rebinding_drops_the_one_begun(store: Store) -> None:
    """Whoever goes on with the older move is told, and adds nothing to the later one."""
    ids = fill(store, make_crops(2))
    vectors, nobody = draw_vectors(2, size=4), np.zeros(0, np.int64)
    store.start_rebinding(OTHER)
    store.add_vectors(ids, vectors, binding=OTHER)
    third = dataclasses.replace(OTHER, model_sha256="e" * 64)
    store.start_rebinding(third)
    before = store.audit()
    for go_on in (
        lambda: store.list_missing(binding=OTHER, after=0, limit=5),
        lambda: store.add_vectors(ids, vectors, binding=OTHER),
        lambda: store.finish_rebinding(binding=OTHER, dropping=ids, actor="x"),
    ):
        with pytest.raises(GalleryError, match="somebody began to move this gallery to another"):
            go_on()
    assert store.audit() == before
    assert len(store.list_missing(binding=third, after=0, limit=5)) == 2
    store.add_vectors(ids, vectors, binding=third)
    assert store.finish_rebinding(binding=third, dropping=nobody, actor="x") == 0
    assert store.binding() == third


def test_vectors_of_another_model_are_not_searched_for(store: Store) -> None:
    """Also those of equal length, at whose scores nobody would wonder."""
    vectors = draw_vectors(2)
    ids = fill(store, make_crops(2), vectors)
    third = dataclasses.replace(BINDING, contract_sha256="e" * 64)
    moved = dataclasses.replace(BINDING, package="elsewhere")
    for bound in (BINDING, third):
        other = third if bound is BINDING else BINDING
        found = store.search(vectors[1:], 1, EVERYTHING, binding=bound)
        assert found.ids.tolist() == [[ids[1]]]
        assert store.rank_people(vectors[1], 1, EVERYTHING, binding=bound) == ["p1"]
        with pytest.raises(MismatchError, match="reembed"):
            store.search(vectors[:1], 1, EVERYTHING, binding=other)
        with pytest.raises(MismatchError, match="reembed"):
            store.rank_people(vectors[0], 1, EVERYTHING, binding=other)
        if bound is BINDING:
            store.search(vectors[:1], 1, EVERYTHING, binding=moved)
            store.start_rebinding(third)
            store.add_vectors(ids, vectors, binding=third)
            store.finish_rebinding(binding=third, dropping=ids[:0], actor="x")


def test_vectors_are_read_by_id(store: Store) -> None:
    vectors = draw_vectors(4)
    ids = fill(store, make_crops(4), vectors)
    wanted = [3, 0, 3]
    assert np.array_equal(store.read_vectors(ids[wanted]), vectors[wanted])
    assert store.read_vectors(ids[:0]).shape == (0, SIZE)
    store.remove(Where(without=tuple(ids[1:].tolist())), actor="x")
    for absent in (int(ids[0]), 0, -1, 2**40 + int(ids[1]), 2**63 - 1):
        with pytest.raises(AbsentError, match=f"crop {absent} "):
            store.read_vectors(np.array([ids[1], absent, 10**9], np.int64))


def test_no_names_mean_nobody(store: Store) -> None:
    """Names that were looked up and not found must not come to mean everybody."""
    fill(store, make_crops(4))
    query = draw_vectors(1)
    for where in (Where(people=()), Where(cameras=()), Where(people=("p0",), cameras=())):
        assert store.count(where) == 0
        assert store.search(query, 1, where).ids.tolist() == [[-1]]
        assert store.rank_people(query[0], 3, where) == []
        assert list(store.export(where)) == []
        assert store.remove(where, actor="x") == 0
    assert store.count(EVERYTHING) == 4


def test_sources_are_kept_as_files_are_named(store: Store) -> None:
    sources = [os.fsdecode(b"pictures/\xff\xfe.jpg"), "Zo\u00eb/\U0001f642.jpg", ""]
    ids = fill(store, make_crops(3, sources=sources))
    assert store.read(ids).sources.tolist() == sources
    with pytest.raises(ArgumentError, match="source"):
        fill(store, make_crops(1, sources=["half a character \ud83d"], digests=["x"]))
    assert store.count(EVERYTHING) == 3


def test_a_person_with_very_many_crops_hides_nobody(store: Store) -> None:
    random = np.random.default_rng(0)
    vectors = random.standard_normal((5004, SIZE)) * 1e-3
    vectors[:5000, 0] += 1
    vectors[5000:, 1 + np.arange(4)] += np.eye(4)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    people = ["many"] * 5000 + ["d", "c", "b", "a"]
    fill(store, make_crops(5004, people=people), vectors.astype(np.float32))
    query = np.array([16, 1, 2, 4, 8, 0, 0, 0], np.float32)
    query /= np.linalg.norm(query)
    assert store.rank_people(query, 9, EVERYTHING) == ["many", "a", "b", "c", "d"]
    assert store.rank_people(query, 3, EVERYTHING) == ["many", "a", "b"]


def read_nothing(lost: set[str]) -> Callable[..., Picture]:
    """Give what stands for reading a crop's picture: those of some sources cannot be read."""

    def find(store: Store, crop: int, source: str, digest: str) -> Picture:
        if source in lost:
            raise ImageError(source, "it is gone")
        return Picture(source, np.zeros((1, 1, 3), np.uint8), digest)

    return find


@pytest.mark.parametrize("drop", [True, False])
def test_a_move_loses_nobody_who_is_enrolled_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch, drop: bool
) -> None:
    """Twice somebody is enrolled after the last crop was embedded and before the switch."""
    fill(store, make_crops(4))
    lost = {"pictures/1.jpg"} if drop else set()
    embedded: list[str] = []

    def embed(_: object, pictures: list[Picture]) -> NDArray[np.float32]:
        embedded.extend(picture.name for picture in pictures)
        return draw_vectors(len(pictures), size=4)

    finish, late = store.finish_rebinding, ["late", "later"]

    def finish_late(**arguments: Any) -> int:
        if late:
            name = late.pop(0)
            fill(store, make_crops(1, people=[name], digests=[name], sources=[name]))
        return finish(**arguments)

    monkeypatch.setattr(_reembedding, "embed_pictures", embed)
    monkeypatch.setattr(_reembedding, "_find_picture", read_nothing(lost))
    monkeypatch.setattr(_reembedding, "_TOGETHER", 3)
    monkeypatch.setattr(store, "finish_rebinding", finish_late)
    told: list[tuple[int, int | None]] = []
    model: Any = None
    done = _reembedding.reembed(
        store, model, OTHER, drop_missing=drop, progress=lambda *now: told.append(now)
    )
    assert (done.crops, done.dropped) == (6 - len(lost), len(lost))
    assert [refused.name for refused in done.missing] == sorted(lost)
    assert embedded == [f"pictures/{row}.jpg" for row in range(4) if not (drop and row == 1)] + [
        "late",
        "later",
    ]
    assert told[-1] == (4, 4)
    assert store.binding() == OTHER
    assert {"late", "later"} <= {person.name for person in store.list_people()}
    assert store.count(EVERYTHING) == done.crops


def test_a_move_that_would_lose_crops_stops(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless those were erased meanwhile."""
    ids = fill(store, make_crops(3))
    monkeypatch.setattr(
        _reembedding, "embed_pictures", lambda _, those: draw_vectors(len(those), size=4)
    )
    monkeypatch.setattr(_reembedding, "_find_picture", read_nothing({"pictures/2.jpg"}))
    model: Any = None
    with pytest.raises(GalleryError, match=r"1 crops cannot be embedded.*2\.jpg \(it is gone\)"):
        _reembedding.reembed(store, model, OTHER)
    assert store.binding() == BINDING
    assert store.count(EVERYTHING) == 3
    read = store.read

    def erase_and_read(wanted: NDArray[np.int64]) -> Crops:
        store.remove(Where(without=tuple(ids[:2].tolist())), actor="x")
        return read(wanted)

    monkeypatch.setattr(store, "read", erase_and_read)
    assert _reembedding.reembed(store, model, OTHER).crops == 2
    assert store.binding() == OTHER


def test_compacting_keeps_what_is_there(store: Store) -> None:
    vectors = draw_vectors(6)
    ids = fill(store, make_crops(6), vectors)
    store.remove(Where(people=("p1",)), actor="x")
    store.compact(actor="y")
    assert store.count(EVERYTHING) == 4
    assert store.picture(int(ids[0])) == PNG
    assert store.search(vectors[2:3], 1, EVERYTHING).ids.tolist() == [[ids[2]]]
    line = store.audit(limit=1)[0]
    assert (line.actor, line.action) == ("y", "compact")


def test_what_another_store_does_is_seen_by_the_next_call(
    place: tuple[str, int], store: Store
) -> None:
    other = open_store(place[0], memory=place[1])
    try:
        vectors = draw_vectors(8)
        ids = fill(store, make_crops(8), vectors)
        for one, two in ((store, other), (other, store)):
            (new,) = fill(one, make_crops(1, digests=[str(id(one))]), vectors[:1])
            assert new in two.search(vectors[:1], 9, EVERYTHING).ids
            one.remove(Where(without=tuple(set(ids.tolist()))), actor="x")
            assert new not in two.search(vectors[:1], 9, EVERYTHING).ids
        store.remove(Where(people=("p0",)), actor="x")
        store.compact(actor="x")
        gone = set(ids[::3].tolist())
        assert not gone & set(other.search(vectors, 8, EVERYTHING).ids.ravel().tolist())
    finally:
        other.close()


def test_threads_share_a_store(store: Store) -> None:
    """Searches while others add and erase: nobody meets a half-done change or an erased crop."""
    vectors = draw_vectors(64)

    def work(thread: int) -> int:
        mine = vectors[thread * 8 : thread * 8 + 8]
        digests = [f"{thread}-{row}" for row in range(8)]
        for _ in range(2):
            ids = fill(store, make_crops(8, people=[f"t{thread}"] * 8, digests=digests), mine)
            where = Where(people=(f"t{thread}",))
            assert store.search(mine, 1, where).ids[:, 0].tolist() == ids.tolist()
            assert store.remove(Where(people=where.people), actor="x") == 8
            assert np.all(store.search(mine, 1, where).ids == -1)
        return len(fill(store, make_crops(8, people=[f"t{thread}"] * 8, digests=digests), mine))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == [8] * 8
    assert store.count(EVERYTHING) == 64
    assert store.count_people() == 8


@st.composite
def draw_gallery(draw: Callable[..., int]) -> tuple[Crops, NDArray[np.float32], Where, int]:
    """Draw crops with many equal vectors, a filter, and a number of queries."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = int(random.integers(0, 40))
    pool = draw_vectors(max(1, count // 2), seed=int(random.integers(1000)))
    pool[random.random(len(pool)) < 0.1] = 0
    crops = make_crops(
        count,
        people=[f"p{number}" for number in random.integers(0, 5, count)],
        cameras=[f"c{number}" for number in random.integers(0, 3, count)],
        times=random.choice([1.0, 2.0, 3.0, math.nan], count).tolist(),
        tags=[tuple(np.array(["x", "y"])[random.random(2) < 0.5].tolist()) for _ in range(count)],
        added=random.choice([10.0, 20.0], count).tolist(),
    )
    options: list[dict[str, Any]] = [
        {"people": ("p0", "p3", "nobody")},
        {"cameras": ("c1",)},
        {"since": 2.0},
        {"until": 3.0},
        {"tags": ("x",)},
        {"tags": ("y", "x", "x")},
        {"added_before": 20.0},
        {"without": (1, 2, 3, 10**6)},
    ]
    chosen: dict[str, Any] = {}
    for option in options:
        if random.random() < 0.25:
            chosen |= option
    return (
        crops,
        pool[random.integers(0, len(pool), count)],
        Where(**chosen),
        draw(st.integers(1, 20)),
    )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=draw_gallery(), count=st.integers(0, 50))
def test_search_is_that_of_a_naive_store(
    store: Store, drawn: tuple[Crops, NDArray[np.float32], Where, int], count: int
) -> None:
    crops, vectors, where, asked = drawn
    store.remove(EVERYTHING, actor="x")
    crops = crops.with_ids(fill(store, crops, vectors))
    where = dataclasses.replace(
        where, without=tuple(crops.ids[: len(where.without)].tolist()) if where.without else ()
    )
    mask = mark_naively(crops, where)
    queries = np.concatenate([vectors, draw_vectors(asked, seed=asked)])[-asked:]
    expected = find_naively(crops.select(mask), vectors[mask], queries, count)
    found = store.search(queries, count, where)
    assert found.ids.tolist() == expected.ids.tolist()
    assert np.array_equal(found.scores, expected.scores)
    assert store.rank_people(queries[-1], count, where) == rank_naively(
        crops.select(mask), vectors[mask], queries[-1], count
    )
    assert store.count(where) == np.count_nonzero(mask)
    exported = [crop for part, _ in store.export(where, batch=7) for crop in part.ids.tolist()]
    assert exported == crops.ids[mask].tolist()
    assert store.remove(where, actor="x") == np.count_nonzero(mask)
    assert store.count(EVERYTHING) == np.count_nonzero(~mask)


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(GalleryError, match="closed"):
        store.count(EVERYTHING)
    store.close()
