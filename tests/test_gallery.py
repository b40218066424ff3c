"""The gallery: enrol, search, forget; over a fake model, against a naive scorer."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit import preprocess, store
from reidkit.errors import (
    AbsentError,
    ArgumentError,
    GalleryError,
    ImageError,
    MismatchError,
    PackageError,
    ShapeError,
)
from reidkit.gallery import (
    EVERYTHING,
    Asking,
    Crops,
    Gallery,
    KeptPictures,
    Quality,
    Thresholds,
    Where,
    _enrolling,
    decode_picture,
    keep_picture,
    measure_sharpness,
    read_picture,
    reembed_place,
)
from reidkit.gallery._quality import judge_crop
from reidkit.models import load_model, to_unit_length
from reidkit.package import read_package
from reidkit.records import Embeddings, Samples
from tests.certified import write_fake
from tests.pictures import write_picture

SIZE = 8


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "gallery", write_fake(tmp_path / "package", size=SIZE)) as made:
        yield made


def write_crops(folder: Path, count: int, *, people: int = 2, **columns: object) -> Crops:
    folder.mkdir(exist_ok=True)
    paths = [write_picture(folder / f"{row}.png", seed=row) for row in range(count)]
    values = {"people": [f"person {row % people}" for row in range(count)], **columns}
    return Crops.make(count, sources=paths, **values)


def random_vectors(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)
    return to_unit_length(vectors)


def fill(gallery: Gallery, people: list[str], seed: int = 0, **columns: object) -> np.ndarray:
    vectors = random_vectors(len(people), seed)
    crops = Crops.make(len(people), people=people, **columns)
    gallery.enrol(crops, vectors, [None] * len(people))
    return vectors


def test_a_picture_finds_its_own_person(gallery: Gallery, tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops", 6, people=3)
    done = gallery.add(crops)
    assert len(done.ids) == 6
    assert not done.refused
    assert done.replaced == 0
    answer = gallery.search([crops.sources[4]])
    assert answer.people[0].person == "person 1"
    assert answer.people[0].best == pytest.approx(1, abs=1e-6)
    assert answer.people[0].matches[0].source == crops.sources[4]
    assert answer.searched == 6
    with load_model(gallery.package) as model:
        batch = preprocess.load_batch([crops.sources[4]], model.contract)
        np.testing.assert_allclose(gallery.embed([crops.sources[4]]), model.embed(batch), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    people=st.lists(st.sampled_from("abcde"), min_size=1, max_size=40),
    asked=st.integers(1, 6),
    camera=st.sampled_from([None, "in", "out"]),
    seed=st.integers(0, 1000),
)
def test_people_are_ranked_as_a_loop_ranks_them(
    tmp_path_factory: pytest.TempPathFactory,
    people: list[str],
    asked: int,
    camera: str | None,
    seed: int,
) -> None:
    folder = tmp_path_factory.mktemp("gallery")
    cameras = [("in", "out")[row % 2] for row in range(len(people))]
    package = write_fake(folder / "package", size=SIZE)
    with Gallery.create(folder / "gallery", package) as gallery:
        vectors = fill(gallery, people, seed, cameras=cameras)
        query = random_vectors(1, seed + 1)
        where = Where(cameras=None if camera is None else (camera,))
        answer = gallery.search_vectors(query, Asking(people=asked, crops=2, where=where))
    scores: dict[str, list[float]] = {}
    for person, seen, vector in zip(people, cameras, vectors, strict=True):
        if camera in (None, seen):
            scores.setdefault(person, []).append(float(query[0] @ vector))
    ranked = sorted(scores, key=lambda name: -max(scores[name]))[:asked]
    assert [person.person for person in answer.people] == ranked
    assert answer.searched == sum(map(len, scores.values()))
    for found in answer.people:
        mine = sorted(scores[found.person], reverse=True)
        assert found.crops == len(mine)
        assert found.best == pytest.approx(mine[0], abs=1e-5)
        assert found.mean == pytest.approx(np.mean(mine), abs=1e-5)
        assert [match.score for match in found.matches] == pytest.approx(mine[:2], abs=1e-5)


def test_one_person_with_very_many_crops_does_not_hide_the_others(gallery: Gallery) -> None:
    near = random_vectors(1)
    noise = np.random.default_rng(1).normal(0, 0.01, (300, SIZE)).astype(np.float32)
    vectors = np.concatenate([near + noise, -near, random_vectors(3, 5)])
    names = ["crowd"] * 300 + ["opposite", "x", "y", "z"]
    gallery.enrol(Crops.make(304, people=names), vectors.astype(np.float32), [None] * 304)
    answer = gallery.search_vectors(near, Asking(people=5))
    assert {person.person for person in answer.people} == {"crowd", "opposite", "x", "y", "z"}
    assert answer.people[0].crops == 300
    assert answer.people[-1].person == "opposite"


def test_several_pictures_are_pooled(gallery: Gallery) -> None:
    vectors = random_vectors(2, 3)
    middle = vectors.sum(axis=0, keepdims=True)
    names = ["one", "two", "middle"]
    gallery.enrol(Crops.make(3, people=names), np.concatenate([vectors, middle]), [None] * 3)
    assert gallery.search_vectors(vectors).people[0].person == "middle"
    assert gallery.search_vectors(vectors).people[0].best == pytest.approx(1, abs=1e-6)


def test_more_like_a_crop_leaves_it_out(gallery: Gallery) -> None:
    fill(gallery, ["a", "a", "b"])
    crop = int(gallery.read_person("b").ids[0])
    answer = gallery.search_like(crop)
    assert answer.searched == 2
    assert all(match.crop != crop for person in answer.people for match in person.matches)
    with pytest.raises(AbsentError, match="no crop 99"):
        gallery.search_like(99)


@pytest.mark.parametrize(("score", "verdict"), [(0.9, "same"), (0.6, "unsure"), (0.2, "unknown")])
def test_the_verdict_is_that_of_the_operating_point(
    gallery: Gallery, score: float, verdict: str
) -> None:
    gallery.thresholds = Thresholds(0.8, 0.5, 0.01, 0.1, "identification")
    base, other = np.eye(SIZE, dtype=np.float32)[:2]
    gallery.enrol(Crops.make(1, people="a"), base[None], [None])
    query = score * base + math.sqrt(1 - score**2) * other
    answer = gallery.search_vectors(query[None])
    assert answer.verdict == answer.people[0].verdict == verdict
    assert (answer.reason == "") == (verdict == "same")


def test_without_an_operating_point_nothing_is_the_same(gallery: Gallery) -> None:
    vectors = fill(gallery, ["a"])
    answer = gallery.search_vectors(vectors)
    assert answer.people[0].best == pytest.approx(1)
    assert answer.verdict == answer.people[0].verdict == "unsure"
    assert "calibrate" in answer.reason
    assert gallery.search_vectors(vectors, Asking(where=Where(tags=("no",)))).verdict == "unknown"


def test_unreadable_and_poor_crops_are_named(gallery: Gallery, tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops", 4)
    Path(crops.sources[1]).write_bytes(b"no picture")
    Path(crops.sources[2]).unlink()
    write_picture(Path(crops.sources[3]), seed=9, height=10, width=5)
    done = gallery.add(crops, quality=Quality(least_height=20))
    assert len(done.ids) == 1
    reasons = {each.name: each.reason for each in done.refused}
    assert "not a picture" in reasons[crops.sources[1]]
    assert "No such file" in reasons[crops.sources[2]]
    assert "too small: 10x5" in reasons[crops.sources[3]]


def test_blur_is_seen() -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    blurred = preprocess.resize_to(preprocess.resize_to(sharp, 8, 4), 128, 64)
    assert measure_sharpness(blurred) < 30 < 100 < measure_sharpness(sharp)
    assert measure_sharpness(np.zeros((2, 2, 3), np.uint8)) == 0
    assert "blurred" in judge_crop(blurred, Quality(least_sharpness=30))
    assert judge_crop(sharp, Quality(least_sharpness=30)) == ""


def test_duplicates_are_refused_where_asked(gallery: Gallery) -> None:
    vectors = random_vectors(3)
    double = np.concatenate([vectors, vectors[1:2] + np.float32(1e-4)])
    crops = Crops.make(4, people="a", sources=[f"{row}.png" for row in range(4)])
    done = gallery.enrol(crops, double, [None] * 4, quality=Quality(most_alike=0.99))
    assert len(done.ids) == 3
    assert [each.name for each in done.refused] == ["3.png"]
    again = gallery.enrol(
        Crops.make(1, people="b"), vectors[:1], [None], quality=Quality(most_alike=0.99)
    )
    assert not again.ids
    assert "duplicate" in again.refused[0].reason


def test_the_same_file_twice(gallery: Gallery, tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops", 3, people=1)
    first = gallery.add(crops)
    again = gallery.add(crops)
    assert len(first.ids) == 3
    assert (again.ids, again.skipped, again.refused) == ((), 3, ())
    pictures = [read_picture(path) for path in crops.sources]
    replaced = gallery.enrol(crops, gallery.embed(pictures), pictures)
    assert replaced.replaced == 3
    assert gallery.store.count(EVERYTHING) == 3
    other = gallery.add(Crops.make(1, people="other", sources=[crops.sources[0]]))
    assert not other.ids
    assert "somebody else" in other.refused[0].reason
    assert "person 0" not in other.refused[0].reason  # who that is is nobody's business


def test_one_picture_of_two_people_in_one_call(gallery: Gallery, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "1.png", seed=1)
    done = gallery.add(Crops.make(2, people=["a", "b"], sources=[path, path]))
    assert len(done.ids) == 1
    assert "somebody else too" in done.refused[0].reason


def test_crops_need_a_name(gallery: Gallery) -> None:
    with pytest.raises(ArgumentError, match="1 of 2 crops have no person's name"):
        fill(gallery, ["a", " "])
    with pytest.raises(ArgumentError, match="control characters"):
        Crops.make(1, people="a\nb")
    with pytest.raises(ArgumentError, match="too long"):
        Crops.make(1, people="a" * 201)
    with pytest.raises(ArgumentError, match="tags"):
        Crops.make(1, people="a", tags=[("x", "")])


@pytest.mark.parametrize(
    ("vectors", "error"),
    [
        (np.zeros((1, SIZE + 1), np.float32), MismatchError),
        (np.zeros((2, SIZE), np.float32), ShapeError),
        (np.full((1, SIZE), np.nan, np.float32), ShapeError),
        (np.zeros((1, SIZE), np.float64), ShapeError),
    ],
)
def test_foreign_vectors_are_refused(
    gallery: Gallery, vectors: np.ndarray, error: type[Exception]
) -> None:
    with pytest.raises(error):
        gallery.enrol(Crops.make(1, people="a"), vectors, [None])


def test_embeddings_of_another_model_are_refused_at_equal_length(gallery: Gallery) -> None:
    samples = Samples.from_columns(["a.png", "b.png"], [1, 2], [1, 1])
    crops = Crops.make(2, people=["1", "2"], sources=["a.png", "b.png"])
    binding = gallery.binding
    good = Embeddings(random_vectors(2), samples, binding.model_sha256, binding.contract_sha256)
    assert len(gallery.add_embeddings(good, crops).ids) == 2
    for model, contract in (("f" * 64, binding.contract_sha256), (None, None)):
        with pytest.raises(MismatchError, match="embed the pictures with"):
            gallery.add_embeddings(Embeddings(good.vectors, samples, model, contract), crops)


def test_another_package_does_not_open_it(gallery: Gallery, tmp_path: Path) -> None:
    other = write_fake(tmp_path / "other", size=SIZE, seed=1)
    with pytest.raises(MismatchError, match="reembed"):
        Gallery.open(gallery.place, package=other)
    with Gallery.open(gallery.place) as again:
        assert again.binding == gallery.binding
    (tmp_path / "package").rename(tmp_path / "moved")
    with pytest.raises(PackageError, match="--package"):
        Gallery.open(gallery.place)
    with Gallery.open(gallery.place, package=tmp_path / "moved"):
        pass
    with pytest.raises(GalleryError):
        Gallery.open(tmp_path / "nothing")


def test_removing_a_person(gallery: Gallery) -> None:
    vectors = fill(gallery, ["a", "b", "a"])
    assert gallery.remove("a", actor="me") == 2
    assert [person.person for person in gallery.search_vectors(vectors[:1]).people] == ["b"]
    assert len(gallery.read_person("a")) == 0
    assert gallery.remove("a") == 0
    line = next(line for line in gallery.audit() if line.actor == "me")
    assert (line.action, line.count) == ("erase", 2)
    with pytest.raises(ArgumentError, match="name"):
        gallery.remove("")
    with pytest.raises(ArgumentError, match="whole gallery"):
        gallery.remove_where(EVERYTHING)


def test_the_audit_says_who_and_how_many_but_never_whom(gallery: Gallery, tmp_path: Path) -> None:
    gallery.add(write_crops(tmp_path / "crops", 2, people=1), actor="key:door")
    gallery.search([tmp_path / "crops" / "0.png"], actor="key:desk")
    gallery.remove("person 0", actor="key:office")
    lines = gallery.audit()
    assert [(line.actor, line.action, line.count) for line in lines[:3]] == [
        ("key:office", "erase", 2),
        ("key:desk", "search", 1),
        ("key:door", "enrol", 2),
    ]
    assert "person 0" not in repr(lines)


def test_pictures_are_kept_exactly_and_without_metadata(gallery: Gallery, tmp_path: Path) -> None:
    path = Path(write_picture(tmp_path / "1.jpg", seed=1))
    path.write_bytes(path.read_bytes() + b"<script>hidden</script>")
    done = gallery.add(Crops.make(1, people="a", sources=[str(path)]))
    kept = gallery.picture(done.ids[0])
    assert kept is not None
    assert b"hidden" not in kept
    np.testing.assert_array_equal(preprocess.decode_bytes(kept, "x"), preprocess.decode(path))
    assert gallery.picture(999) is None


def test_large_pictures_are_shrunk_before_they_are_kept() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 100, 3), np.uint8)
    kept = keep_picture(pixels, KeptPictures(largest=10_000))
    assert kept is not None
    assert decode_picture(kept, "x").pixels.shape == (200, 50, 3)
    assert keep_picture(pixels, KeptPictures(keep=False)) is None


def make_other(tmp_path: Path) -> Path:
    return Path(write_fake(tmp_path / "other", size=SIZE + 4, seed=1).folder)


def test_moving_to_another_model(gallery: Gallery, tmp_path: Path) -> None:
    crops = write_crops(tmp_path / "crops", 5, people=5)
    gallery.add(crops)
    other = make_other(tmp_path)
    with Gallery.open(gallery.place) as elsewhere:
        done = gallery.reembed(other)
        assert (done.crops, done.dropped) == (5, 0)
        with pytest.raises(MismatchError):
            elsewhere.search([crops.sources[0]])
        with pytest.raises(MismatchError):
            elsewhere.add(write_crops(tmp_path / "more", 7, people=7))
    answer = gallery.search([crops.sources[3]])
    assert answer.people[0].person == "person 3"
    assert answer.people[0].best == pytest.approx(1, abs=1e-6)
    with pytest.raises(GalleryError, match="already"):
        gallery.reembed(other)
    with Gallery.open(gallery.place) as again:
        assert again.binding.dimension == SIZE + 4


def test_moving_without_kept_pictures_reads_the_sources(tmp_path: Path) -> None:
    package = write_fake(tmp_path / "package", size=SIZE)
    rule = KeptPictures(keep=False)
    with Gallery.create(tmp_path / "gallery", package, pictures=rule) as gallery:
        crops = write_crops(tmp_path / "crops", 4, people=4)
        gallery.add(crops)
        write_picture(Path(crops.sources[1]), seed=77)  # another file by now
        Path(crops.sources[2]).unlink()
        with pytest.raises(GalleryError, match="2 crops cannot be embedded again"):
            gallery.reembed(make_other(tmp_path))
        assert gallery.search([crops.sources[0]]).people[0].person == "person 0"
        done = gallery.reembed(tmp_path / "other", drop_missing=True)
        assert (done.crops, done.dropped, len(done.missing)) == (2, 2, 2)
        assert "not the file" in {each.name: each.reason for each in done.missing}[crops.sources[1]]


def test_export(gallery: Gallery, tmp_path: Path) -> None:
    columns = {"cameras": ["x", "y", ""], "times": [0.0, math.nan, 1.5], "tags": [("t",), (), ()]}
    gallery.add(write_crops(tmp_path / "crops", 3, people=3, **columns))
    assert gallery.export(tmp_path / "out", pictures=True) == 3
    embeddings = store.read_embeddings(tmp_path / "out" / "embeddings")
    np.testing.assert_allclose(
        embeddings.vectors, gallery.embed(embeddings.samples.paths.tolist()), atol=1e-6
    )
    assert embeddings.samples.person_ids.tolist() == [1, 2, 3]
    table = (tmp_path / "out" / "crops.csv").read_text().splitlines()
    assert table[1].split(",")[:5] == ["1", "person 0", "x", "1970-01-01T00:00:00Z", "t"]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 3
    with pytest.raises(ArgumentError):
        gallery.export(tmp_path / "out")


def test_searching_needs_pictures(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least one"):
        gallery.search([])
    with pytest.raises(ImageError):
        gallery.search([tmp_path / "none.png"])
    with pytest.raises(ShapeError):
        gallery.search_vectors(np.zeros((0, SIZE), np.float32))
    with pytest.raises(MismatchError):
        gallery.search_vectors(np.zeros((1, SIZE + 1), np.float32))
    with pytest.raises(ArgumentError, match="people is 0"):
        Asking(people=0)


def test_stats(gallery: Gallery) -> None:
    fill(gallery, ["a", "b", "a"], cameras=["y", "x", "y"])
    stats = gallery.stats(measure=True)
    assert (stats.crops, stats.people, stats.cameras) == (3, 2, ("x", "y"))
    assert stats.binding == gallery.binding
    assert stats.store.recall == 1.0


def test_packages_are_read_by_folder_or_value(tmp_path: Path) -> None:
    write_fake(tmp_path / "package", size=SIZE)
    Gallery.create(tmp_path / "one", str(tmp_path / "package")).close()
    Gallery.create(tmp_path / "two", read_package(tmp_path / "package")).close()


def test_the_same_picture_twice_in_one_call_is_one_crop(gallery: Gallery, tmp_path: Path) -> None:
    path = write_picture(tmp_path / "1.png", seed=1)
    done = gallery.add(Crops.make(2, people="a", sources=[path, path]))
    assert (len(done.ids), done.skipped) == (1, 1)
    assert gallery.read_person("a").ids.tolist() == list(done.ids)


def test_no_name_means_nobody_not_everybody(gallery: Gallery) -> None:
    fill(gallery, ["a", "b"])
    for where in (Where(people=()), Where(cameras=())):
        assert gallery.remove_where(where) == 0
        assert gallery.search_vectors(random_vectors(1), Asking(where=where)).people == ()
    assert gallery.store.count(EVERYTHING) == 2


@pytest.mark.parametrize("name", ["ann\u200b", "\u202eevil", "a\u2066b"])
def test_names_that_look_like_others_are_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="look alike"):
        Crops.make(1, people=name)


@pytest.mark.parametrize("seconds", [1e300, -1e12, math.inf])
def test_moments_beyond_our_era_are_refused(seconds: float) -> None:
    with pytest.raises(ArgumentError, match="years 1 to 9999"):
        Crops.make(1, people="a", times=[seconds])


def test_the_gallery_alone_says_when_it_took_a_crop(gallery: Gallery) -> None:
    gallery.enrol(Crops.make(1, people="a", added=[9e9]), random_vectors(1), [None])
    assert gallery.read_person("a").added[0] < 8e9


def test_a_person_is_read_page_by_page(gallery: Gallery) -> None:
    fill(gallery, ["a", "b", "a", "a"])
    whole = gallery.read_person("a").ids.tolist()
    first = gallery.read_person("a", limit=2).ids.tolist()
    assert first == whole[:2]
    assert gallery.read_person("a", after=first[-1], limit=2).ids.tolist() == whole[2:]


def test_large_files_are_read_a_few_at_a_time(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_enrolling, "_HELD_BYTES", 1)
    monkeypatch.setattr(_enrolling, "_ROUND", 2)
    seen: list[int] = []
    upsert = gallery.store.upsert

    def count(crops: Crops, *rest: Any, **more: Any) -> Any:
        seen.append(len(crops))
        return upsert(crops, *rest, **more)

    monkeypatch.setattr(type(gallery.store), "upsert", lambda _, *a, **k: count(*a, **k))
    assert len(gallery.add(write_crops(tmp_path / "crops", 5)).ids) == 5
    assert seen == [2, 2, 1]


def test_a_lost_package_does_not_keep_a_gallery_from_moving(tmp_path: Path) -> None:
    package = write_fake(tmp_path / "package", size=SIZE)
    with Gallery.create(tmp_path / "gallery", package) as gallery:
        gallery.add(write_crops(tmp_path / "crops", 3, people=3))
    shutil.rmtree(tmp_path / "package")
    done = reembed_place(tmp_path / "gallery", make_other(tmp_path))
    assert done.crops == 3
    with Gallery.open(tmp_path / "gallery") as again:
        found = again.search([tmp_path / "crops" / "1.png"])
    assert found.people[0].person == "person 1"


def test_vectors_of_the_older_model_are_not_searched_in_the_newer(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process's switch comes between the embedding and the search."""
    gallery.add(write_crops(tmp_path / "crops", 3))
    other = write_fake(tmp_path / "other", size=SIZE, seed=1)
    embed = gallery.embed

    def embed_and_switch(*pictures: Any) -> np.ndarray:
        vectors = embed(*pictures)
        reembed_place(gallery.place, other)
        return vectors

    monkeypatch.setattr(gallery, "embed", embed_and_switch)
    with pytest.raises(MismatchError):
        gallery.search([tmp_path / "crops" / "0.png"])


def test_an_export_is_its_owners_alone(gallery: Gallery, tmp_path: Path) -> None:
    fill(gallery, ["a"])
    gallery.export(tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
