from __future__ import annotations

import base64
import html
import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from reidkit.errors import ArgumentError, MismatchError, UnreadableImage
from reidkit.records import DroppedQueries, Embeddings, Matches, Samples, Scores
from reidkit.reports import write_report
from reidkit.reports._axes import BOTTOM, LEFT, RIGHT, TOP
from reidkit.reports._plots import plan_curve
from reidkit.reports._ranked import choose_queries, find_first_hits, mark_right
from reidkit.reports._thumbnails import make_thumbnail
from reidkit.reports._wording import format_count, format_percent
from reidkit.scoring import evaluate, find_scored, match
from tests.pages import HOSTILE, PICTURES, Page, words


@dataclass(frozen=True)
class Problem:
    query: Embeddings
    gallery: Embeddings
    scores: Scores
    matches: Matches


def make_samples(person_ids: list[int], camera_ids: list[int]) -> Samples:
    paths = [PICTURES[row % len(PICTURES)] for row in range(len(person_ids))]
    return Samples.from_columns(paths, person_ids, camera_ids)


def make_problem(
    *, people: int = 12, noise: float = 1.0, metric: str = "cosine", count: int = 10
) -> Problem:
    random = np.random.default_rng(5)
    centres = random.normal(size=(people, 16))

    def make_side(each: int) -> Embeddings:
        person_ids = [p for p in range(people) for _ in range(3 * each)]
        samples = make_samples(person_ids, [1, 2, 3] * (people * each))
        vectors = centres[person_ids] + noise * random.normal(size=(len(person_ids), 16))
        return Embeddings(vectors.astype(np.float32), samples)

    query, gallery = make_side(1), make_side(2)
    scores = evaluate(query, gallery, metric=metric)
    return Problem(query, gallery, scores, match(query, gallery, metric=metric, count=count))


def rename(side: Embeddings, path: str, row: int | slice = slice(None)) -> Embeddings:
    paths = side.samples.paths.copy()
    paths[row] = path
    samples = Samples(paths, side.samples.person_ids, side.samples.camera_ids)
    return Embeddings(side.vectors, samples, unreadable=side.unreadable)


def write(
    path: Path,
    problem: Problem,
    *,
    facts: dict[str, str] | None = None,
    scores: Scores | None = None,
    query: Embeddings | None = None,
    gallery: Embeddings | None = None,
) -> str:
    write_report(
        path,
        scores or problem.scores,
        query=query or problem.query,
        gallery=gallery or problem.gallery,
        matches=problem.matches,
        facts=facts or {},
    )
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def hard() -> Problem:
    return make_problem(noise=1.2)


def open_uri(uri: str) -> Image.Image:
    kind, data = uri.split(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


# --- thumbnails


@settings(max_examples=30, deadline=None)
@given(width=st.integers(1, 400), height=st.integers(1, 400))
def test_thumbnails_fit_and_keep_their_proportions(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int
) -> None:
    path = tmp_path_factory.mktemp("picture") / "one.png"
    Image.new("RGB", (width, height), (200, 40, 90)).save(path)
    thumbnail = make_thumbnail(str(path))
    assert thumbnail.uri is not None
    with open_uri(thumbnail.uri) as image:
        small = image.size
        assert image.getpixel((0, 0)) == pytest.approx((200, 40, 90), abs=6)
    scale = min(1, 64 / width, 128 / height)
    assert small[0] == pytest.approx(width * scale, abs=1)
    assert small[1] == pytest.approx(height * scale, abs=1)
    assert thumbnail.name == "one.png"


def test_thumbnails_of_every_kind_of_picture_are_small() -> None:
    for path in PICTURES:
        uri = make_thumbnail(path).uri
        assert uri is not None
        assert len(uri) < 6000


def spoil(path: Path) -> None:
    path.write_bytes(Path(PICTURES[0]).read_bytes()[:400])


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "empty": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "text": lambda path: path.write_text("hello"),
    "truncated": spoil,
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_picture_that_cannot_be_opened_becomes_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "gone.jpg"
    UNREADABLE[kind](path)
    thumbnail = make_thumbnail(str(path))
    assert (thumbnail.name, thumbnail.uri) == ("gone.jpg", None)
    assert thumbnail.problem


@pytest.mark.parametrize("path", ["", "nul\0byte.jpg", "\udcff.jpg", "/", "x" * 5000])
def test_no_path_is_too_strange_for_a_thumbnail(path: str) -> None:
    thumbnail = make_thumbnail(path)
    assert thumbnail.uri is None
    assert thumbnail.name


# --- which queries are shown


Sides = tuple[list[tuple[int, int]], list[tuple[int, int]]]
PEOPLE_AND_CAMERAS = st.tuples(st.integers(-1, 3), st.integers(1, 3))


def to_samples(side: list[tuple[int, int]]) -> Samples:
    return make_samples([person for person, _ in side], [camera for _, camera in side])


@given(
    st.tuples(
        st.lists(PEOPLE_AND_CAMERAS, max_size=12),
        st.lists(PEOPLE_AND_CAMERAS, max_size=12),
    )
)
def test_scored_queries_are_those_with_their_person_elsewhere(sides: Sides) -> None:
    query, gallery = sides
    expected = [
        any(person == p != -1 and camera != c for p, c in gallery) for person, camera in query
    ]
    assert find_scored(to_samples(query), to_samples(gallery)).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(2, 30))
def test_scored_queries_and_first_hits_agree_with_the_scores(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)

    def make_side() -> Embeddings:
        ids = random.integers(-1, 4, size), random.integers(1, 4, size)
        vectors = random.normal(size=(size, 4)).astype(np.float32)
        return Embeddings(vectors, make_samples(ids[0].tolist(), ids[1].tolist()))

    query, gallery = make_side(), make_side()
    scored = find_scored(query.samples, gallery.samples)
    if not scored.any():
        return
    scores = evaluate(query, gallery, max_rank=size)
    assert scored.sum() == scores.queries
    matches = match(query, gallery, count=size)
    first_hits = find_first_hits(mark_right(query.samples, gallery.samples, matches.rows))[scored]
    cmc = [(first_hits <= rank).mean() for rank in range(1, len(scores.cmc) + 1)]
    assert scores.cmc == pytest.approx(cmc)


def test_a_list_without_a_right_match_counts_as_one_place_longer() -> None:
    right = np.array([[False, True, True], [True, False, False], [False, False, False]])
    assert find_first_hits(right).tolist() == [2, 1, 4]


def test_places_without_a_match_are_never_right() -> None:
    query, gallery = make_samples([-1, 2], [1, 1]), make_samples([-1, 2], [2, 2])
    rows = np.array([[0, -1], [1, -1]])
    assert mark_right(query, gallery, rows).tolist() == [[False, False], [True, False]]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.booleans()), max_size=60))
def test_the_choice_is_what_its_words_say(queries: list[tuple[int, int, bool]]) -> None:
    first_hits = np.array([first for first, _, _ in queries], np.int64)
    best = np.array([score for _, score, _ in queries], np.float32)
    scored = np.array([mark for _, _, mark in queries], np.bool_)
    choice = choose_queries(first_hits, best, scored, count=8)
    failed = [row for row, (first, _, mark) in enumerate(queries) if mark and first > 1]
    failed.sort(key=lambda row: (-first_hits[row], -best[row], row))
    assert choice.hardest.tolist() == failed[:4]
    others = choice.others.tolist()
    assert len(others) + len(choice.hardest) == min(8, scored.sum())
    assert others == sorted(set(others) - set(failed[:4]))
    assert scored[others].all()


@pytest.mark.parametrize(("length", "count"), [(100, 20), (101, 20), (21, 20), (20, 20), (3, 20)])
def test_the_others_are_spread_evenly(length: int, count: int) -> None:
    ones = np.ones(length, np.int64)
    choice = choose_queries(ones, ones.astype(np.float32), ones.astype(np.bool_), count=count)
    rows = choice.others
    assert len(rows) == min(length, count)
    gaps = np.diff(np.concatenate(([-rows[0] - 1], rows, [2 * length - rows[-1] - 1])))
    assert gaps.max() - gaps[1:-1].min() <= 2


# --- the curve


def read_points(points: str) -> NDArray[np.float64]:
    return np.array([[float(number) for number in pair.split(",")] for pair in points.split()])


def test_the_curve_of_fifty_ranks_has_known_geometry() -> None:
    curve = plan_curve(np.linspace(0.5, 0.99, 50).astype(np.float32))
    points = read_points(curve.points)
    assert points[0].tolist() == [48, 172]
    assert points[49].tolist() == [616, 42.6]
    assert [tick.label for tick in curve.frame.across] == ["1", "5", "10", "20", "30", "40", "50"]
    assert [tick.at for tick in curve.frame.across][::6] == [48, 616]
    assert [(tick.label, tick.at) for tick in curve.frame.upwards][::5] == [("0", 304), ("100", 40)]
    assert [mark.label for mark in curve.marks] == ["50.0", "54.0", "59.0"]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=80))
def test_every_curve_stays_inside_and_rises(shares: list[float]) -> None:
    curve = plan_curve(np.sort(np.array(shares, np.float32)))
    points = read_points(curve.points)
    assert len(points) == min(len(shares), 50)
    assert (points >= (LEFT, TOP)).all()
    assert (points <= (RIGHT, BOTTOM)).all()
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) <= 0).all()
    assert all(0 < mark.text_x < curve.frame.width for mark in curve.marks)
    assert all(0 < mark.text_y < BOTTOM + 5 for mark in curve.marks)


@pytest.mark.parametrize(
    ("length", "labels"), [(1, "1"), (3, "1 2 3"), (10, "1 2 3 4 5 6 7 8 9 10"), (25, "1 5 10 20")]
)
def test_short_curves_have_ticks_of_their_own(length: int, labels: str) -> None:
    curve = plan_curve(np.full(length, 0.5, np.float32))
    assert " ".join(tick.label for tick in curve.frame.across) == labels
    assert len(curve.marks) == sum(rank <= length for rank in (1, 5, 10))


@pytest.mark.parametrize(
    ("fraction", "text"), [(0, "0.0"), (0.85674, "85.7"), (0.0004, "0.0"), (1, "100.0")]
)
def test_per_cent_has_one_decimal(fraction: float, text: str) -> None:
    assert format_percent(fraction) == text


def test_thousands_are_separated() -> None:
    assert [format_count(number) for number in (0, 999, 19732)] == ["0", "999", "19,732"]


# --- the page


def test_the_page_is_sound_and_stands_alone(hard: Problem, tmp_path: Path) -> None:
    source = write(tmp_path / "report.html", hard, facts={"Note": "n", "Model": "m"})
    page = Page(source)
    assert source.startswith("<!DOCTYPE html>")
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("a")
    assert not re.search(r"https?:|url\(|@import|\son\w+=", source)
    assert all(image.attributes["src"].startswith("data:image/jpeg") for image in page.all("img"))
    assert all(image.attributes["alt"] for image in page.all("img"))
    assert all(th.attributes.get("scope") in ("row", "col") for th in page.all("th"))
    assert [h.text for h in page.all("h1")] == ["Evaluation report"]
    levels = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h\d", e.tag)]
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 1100px", "break-inside"):
        assert rule in source


def test_the_figures_are_those_of_the_scores(hard: Problem, tmp_path: Path) -> None:
    cmc = np.full(50, 0.98765, np.float32)
    cmc[[0, 4, 9]] = 0.7111, 0.8222, 0.93333
    dropped = DroppedQueries(2, 0, 5)
    scores = Scores(0.61234, 0.2345, cmc, len(hard.query) - 7, 15913, "cosine", dropped)
    source = write(tmp_path / "report.html", hard, scores=scores)
    figures = [tile.text for tile in Page(source).all("dd", "value")]
    assert figures == ["61.2 %", "71.1 %", "82.2 %", "93.3 %", "23.4 %"]
    text = words(source)
    assert "29 queries searched 15,913 gallery pictures, ranked by cosine similarity" in text
    assert "7 further queries were left out" in text
    reasons = [item.text for item in Page(source).all("li")]
    assert [reason.split()[0] for reason in reasons] == ["2", "5"]
    assert "own camera only" in reasons[1]
    ranks = [row.text for row in Page(source).all("tr")]
    assert ranks[1:] == ["1 71.1 %", "5 82.2 %", "10 93.3 %", "20 98.8 %", "50 98.8 %"]


def test_nothing_is_said_about_what_did_not_happen(hard: Problem, tmp_path: Path) -> None:
    text = words(write(tmp_path / "report.html", hard))
    for absent in ("left out of these figures", "Unreadable", "Note", "How these numbers"):
        assert absent not in text


def test_the_ranked_lists_are_those_of_the_matches(hard: Problem, tmp_path: Path) -> None:
    names = [f"q{row:03d}.jpg" for row in range(len(hard.query))]
    query = hard.query
    for row, name in enumerate(names):
        query = rename(query, name, row)
    page = Page(write(tmp_path / "report.html", hard, query=query))
    titles = [title.text for title in page.all("h4")]
    assert len(titles) == len(set(titles)) == 20
    right = mark_right(hard.query.samples, hard.gallery.samples, hard.matches.rows)
    rows = [names.index(title.split()[0]) for title in titles]
    marks = [figure for figure in page.all("figure") if "class" in figure.attributes]
    for place, row in enumerate(rows):
        head, *found = marks[11 * place : 11 * place + 11]
        person, camera = query.samples.person_ids[row], query.samples.camera_ids[row]
        assert f"query person {person} camera {camera}" in head.text
        expected = ["right" if mark else "wrong" for mark in right[row]]
        assert [figure.attributes["class"] for figure in found] == expected
        for figure, word, score in zip(found, expected, hard.matches.scores[row], strict=True):
            sign = {"right": "✓", "wrong": "✗"}[word]
            assert figure.text.startswith(f"{sign} {word} {score:.3f} person")
    assert "no right match among the first 10" in titles[0] or "at place" in titles[0]
    at_once = ["first match is right" in title for title in titles]
    assert at_once == [bool(right[row][0]) for row in rows]


def test_the_choice_is_explained(hard: Problem, tmp_path: Path) -> None:
    source = write(tmp_path / "report.html", hard)
    assert "The 10 scored queries whose first right match comes latest" in source
    assert "10 queries spread evenly over all remaining scored queries" in source
    easy = words(write(tmp_path / "easy.html", make_problem(noise=0.01)))
    assert "Hardest" not in easy
    assert "20 queries spread evenly over all scored queries" in easy
    assert "No query has a wrong first match." in easy


def test_euclidean_lists_show_distances(tmp_path: Path) -> None:
    problem = make_problem(metric="euclidean")
    source = write(tmp_path / "report.html", problem)
    assert "Euclidean distance (0 is most alike)" in source
    shown = {strong.text for strong in Page(source).all("strong")} - {"query"}
    distances = {f"{-score:.4g}" for score in problem.matches.scores.ravel().tolist()}
    assert shown <= distances


def test_short_lists_and_short_curves_fit(tmp_path: Path) -> None:
    query = Embeddings(np.eye(1, 4, dtype=np.float32), make_samples([1], [1]))
    gallery = Embeddings(np.eye(2, 4, dtype=np.float32), make_samples([1, 2], [2, 2]))
    problem = Problem(query, gallery, evaluate(query, gallery), match(query, gallery))
    page = Page(source := write(tmp_path / "report.html", problem))
    assert Counter(f.attributes.get("class") for f in page.all("figure")) == Counter(
        [None, "query", "right", "wrong"]
    )
    assert "1 query searched 2 gallery pictures" in source
    assert [row.text for row in page.all("tr")] == [
        "Rank Right match within Precision",
        "1 100.0 % 100.0 %",
    ]


def test_lists_longer_than_ten_show_ten(tmp_path: Path) -> None:
    page = Page(write(tmp_path / "report.html", make_problem(count=25)))
    assert len(page.all("span", "mark")) == 200


def test_missing_pictures_leave_their_names(hard: Problem, tmp_path: Path) -> None:
    query = rename(hard.query, "/gone/away.jpg")
    gallery = rename(hard.gallery, "broken\udcff\0name.jpg")
    page = Page(write(tmp_path / "report.html", hard, query=query, gallery=gallery))
    missing = page.all("span", "missing")
    assert not page.all("img")
    assert len(missing) == 220
    assert missing[0].text == "away.jpg"
    assert missing[0].attributes["role"] == "img"
    assert "cannot be opened" in missing[0].attributes["aria-label"]


def test_a_picture_with_a_hostile_name_is_shown(hard: Problem, tmp_path: Path) -> None:
    name = HOSTILE.replace("/", "_")
    shutil.copy(PICTURES[0], tmp_path / name)
    gallery = rename(hard.gallery, str(tmp_path / name))
    source = write(tmp_path / "report.html", hard, gallery=gallery)
    assert "<script" not in source
    assert sum(image.attributes["title"] == name for image in Page(source).all("img")) == 200


def fill(problem: Problem, path: Path, text: str) -> list[str]:
    """Write a page with one text in every place that takes one and give its tags."""
    bad = (UnreadableImage(text, text),)
    query, gallery = (rename(side, f"{text}!") for side in (problem.query, problem.gallery))
    source = write(
        path,
        problem,
        query=Embeddings(query.vectors, query.samples, unreadable=bad),
        gallery=Embeddings(gallery.vectors, gallery.samples, unreadable=bad),
        facts={"Note": text, f"{text}?": text},
    )
    return [element.tag for element in Page(source).elements]


@pytest.fixture(scope="module")
def plain_tags(hard: Problem, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return fill(hard, tmp_path_factory.mktemp("plain") / "report.html", "plain")


@settings(max_examples=15, deadline=None)
@given(text=st.text(min_size=1, max_size=30) | st.just(HOSTILE))
@example(HOSTILE)
@example("</style></title><img src=x onerror=alert(1)>")
@example("{{ scores }}{% raw %}")
def test_every_text_is_escaped(
    hard: Problem, plain_tags: list[str], tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    assert fill(hard, tmp_path_factory.mktemp("page") / "report.html", text) == plain_tags


def test_facts_stand_in_order_and_the_note_at_the_top(hard: Problem, tmp_path: Path) -> None:
    facts = {"Model": "a" * 64, "Note": HOSTILE, "Runtime": "cpu & more"}
    source = write(tmp_path / "report.html", hard, facts=facts)
    page = Page(source)
    assert [row.text for row in page.all("tr")][-2:] == [f"Model {'a' * 64}", "Runtime cpu & more"]
    (note,) = page.all("p", "note")
    assert note.text == f"Note {HOSTILE}"
    assert note.inside == ["html", "body", "main", "header"]
    assert html.escape("cpu & more") in source


def test_unreadable_pictures_are_listed(hard: Problem, tmp_path: Path) -> None:
    bad = tuple(UnreadableImage(f"/data/{row}.jpg", "truncated") for row in range(120))
    query = Embeddings(hard.query.vectors, hard.query.samples, unreadable=bad[:1])
    gallery = Embeddings(hard.gallery.vectors, hard.gallery.samples, unreadable=bad[1:])
    source = write(tmp_path / "report.html", hard, query=query, gallery=gallery)
    rows = [row.text for row in Page(source).all("tr")]
    assert "query /data/0.jpg truncated" in rows
    assert "gallery /data/99.jpg truncated" in rows
    assert not any("/data/100.jpg" in row for row in rows)
    assert "120 pictures could not be read and are not part of these figures." in source
    few = words(write(tmp_path / "few.html", hard, query=query))
    assert "1 picture could not be read and is not part of these figures." in few


# --- the file


def test_the_same_values_give_the_same_bytes(hard: Problem, tmp_path: Path) -> None:
    first = write(tmp_path / "one.html", hard, facts={"a": "b"})
    assert write(tmp_path / "new" / "folder" / "two.html", hard, facts={"a": "b"}) == first


def test_a_report_stays_near_one_megabyte(hard: Problem, tmp_path: Path) -> None:
    assert len(write(tmp_path / "report.html", hard)) < 1_000_000


def test_a_failed_write_leaves_the_old_report(
    hard: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(_: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write(path, hard)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_values_that_do_not_belong_together_are_refused(hard: Problem, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(MismatchError, match="36 rows for 5 queries"):
        write(path, hard, query=hard.query.select(slice(5)))
    with pytest.raises(MismatchError, match="gallery has 3 rows"):
        write(path, hard, gallery=hard.gallery.select(slice(3)))
    cmc = np.ones(1, np.float32)
    with pytest.raises(MismatchError, match="scores count 7 queries"):
        write(path, hard, scores=Scores(1, 1, cmc, 7, 1, "cosine"))
    with pytest.raises(ArgumentError, match=r"cmc is empty"):
        write(path, hard, scores=Scores(1, 1, cmc[:0], 36, 1, "cosine"))
    nothing = Matches(hard.matches.rows[:, :0], hard.matches.scores[:, :0])
    with pytest.raises(ArgumentError, match="no column"):
        write(path, Problem(hard.query, hard.gallery, hard.scores, nothing))
    with pytest.raises(ArgumentError, match="is a folder"):
        write(tmp_path, hard)
    assert not any(tmp_path.iterdir())


def test_a_cut_off_curve_shows_no_ranks_beyond(tmp_path: Path, hard: Problem) -> None:
    scores = evaluate(hard.query, hard.gallery, max_rank=3)
    text = words(write(tmp_path / "r.html", hard, scores=scores))
    assert "Rank-1" in text
    assert "Rank-5" not in text
