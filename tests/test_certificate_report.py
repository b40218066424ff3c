from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reidkit.benchmarking import STAGES, BatchSpeed, Speed, Spread
from reidkit.certifying import (
    Agreement,
    BatchCheck,
    Certificate,
    Divergence,
    Evidence,
    Gate,
    LayerError,
    Side,
)
from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import Embeddings, Matches, Samples
from reidkit.reports import _histogram as histogram
from reidkit.reports import _layers as layers
from reidkit.reports import _throughput as throughput
from reidkit.reports import write_certificate_report
from reidkit.reports._axes import (
    BOTTOM,
    TOP,
    Scale,
    choose_step,
    list_ticks,
    place_powers,
    word_tick,
)
from reidkit.reports._differing import (
    Standing,
    choose_differing,
    compare_lists,
    measure_overlap,
    measure_precision,
)
from reidkit.reports._wording import (
    word_bytes,
    word_cosine,
    word_exact_percent,
    word_figure,
    word_milliseconds,
    word_points,
    word_power,
    word_rate,
)
from reidkit.scoring import evaluate
from tests.pages import HOSTILE, PICTURES, Page, words

# --- made-up certificates


def make_samples(people: int, each: int) -> Samples:
    ids = np.repeat(np.arange(1, people + 1), each)
    cameras = np.tile(np.arange(1, each + 1), people)
    paths = [PICTURES[row % len(PICTURES)] for row in range(len(ids))]
    return Samples.from_columns(paths, ids, cameras)


def make_evidence(noise: float, *, people: int = 12) -> Evidence:
    random = np.random.default_rng(5)
    centres = random.normal(size=(people, 16))

    def make_side(each: int) -> Embeddings:
        samples = make_samples(people, each)
        vectors = centres[samples.person_ids - 1] + random.normal(size=(len(samples), 16))
        return Embeddings(vectors.astype(np.float32), samples)

    def disturb(side: Embeddings) -> Embeddings:
        change = noise * random.normal(size=side.vectors.shape)
        return Embeddings((side.vectors + change).astype(np.float32), side.samples)

    query, gallery = make_side(2), make_side(3)
    return Evidence(query, gallery, disturb(query), disturb(gallery))


def make_speed(rates: dict[int, float]) -> Speed:
    batches = []
    for batch, rate in rates.items():
        engine = Spread(batch / rate, 1.1 * batch / rate, 1.2 * batch / rate, 0.001, 9.0, 30)
        stages = dict.fromkeys(STAGES, 0.0005) | {"run": 1 / rate}
        batches.append(BatchSpeed(batch, engine, engine, rate, 0.9 * rate, stages, 0.0))
    best = max(rates, key=rates.__getitem__)
    return Speed(
        name="package",
        sha256="a" * 64,
        precision="fp32",
        runtime="onnxruntime",
        device="cpu",
        threads=2,
        batches=tuple(batches),
        best_batch=best,
        cold_start=1.25,
        peak_bytes=612_000_000,
        size_bytes=94_100_000,
    )


SOURCE_RATES = {1: 10.0, 4: 16.0, 16: 20.0}
COMPILED_RATES = {1: 15.0, 4: 32.0, 16: 50.0}

LAYERS = tuple(
    LayerError(f"/layer{place}/Conv", "Conv", 0.3 + place / 100 if place > 7 else place * 1e-6)
    for place in range(1, 21)
)
DIVERGENCE = Divergence(LAYERS[7], 0.05, LAYERS, "The scale of /layer8/Conv is wrong.")

PASSED = (Gate("hashes", None, None, "pass"), Gate("mAP kept", 0.3, 0.1, "pass"))
FAILED = (PASSED[0], Gate("mAP kept", 0.3, 4.25, "fail", "mAP dropped by 4.25 points"))


def make_side(name: str, speed: Speed, query: Embeddings, gallery: Embeddings) -> Side:
    return Side(
        name=name,
        sha256=name[0] * 64,
        precision="fp32",
        runtime="onnxruntime 1.2.3",
        device="CPU",
        batch=None,
        float_layers=(),
        scores=evaluate(query, gallery),
        speed=speed,
    )


def make_certificate(
    evidence: Evidence,
    *,
    gates: tuple[Gate, ...] = PASSED,
    divergence: Divergence | None = None,
    cosines: NDArray[np.float32] | None = None,
    compiled_rates: dict[int, float] = COMPILED_RATES,
) -> Certificate:
    source = make_side(
        "resnet", make_speed(SOURCE_RATES), evidence.source_query, evidence.source_gallery
    )
    compiled = make_side(
        "compact", make_speed(compiled_rates), evidence.compiled_query, evidence.compiled_gallery
    )
    if cosines is None:
        cosines = np.linspace(0.91234, 1, 60, dtype=np.float32)
    return Certificate(
        verdict="fail" if any(gate.verdict == "fail" for gate in gates) else "pass",
        gates=gates,
        source=source,
        compiled=compiled,
        agreement=Agreement(cosines, 0.0123, 10, 0.876543, 80.5, 61.25, 0.1234, 0.2345),
        batches=(BatchCheck(4, 50, 2, 0.99999, 0.9998),),
        divergence=divergence,
        contract="256x128 bilinear, RGB",
        contract_sha256="d" * 64,
        data={"Data set": "market1501"},
        versions={"reidkit": "0.1.0"},
        warnings=(),
        date="2025-01-02T03:04:05+00:00",
    )


def write(path: Path, certificate: Certificate, evidence: Evidence) -> str:
    write_certificate_report(path, certificate, evidence)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def noisy() -> Evidence:
    return make_evidence(1.5)


@pytest.fixture(scope="module")
def equal() -> Evidence:
    return make_evidence(0)


@pytest.fixture(scope="module")
def failing(noisy: Evidence, tmp_path_factory: pytest.TempPathFactory) -> str:
    certificate = make_certificate(noisy, gates=FAILED, divergence=DIVERGENCE)
    return write(tmp_path_factory.mktemp("page") / "report.html", certificate, noisy)


@pytest.fixture(scope="module")
def passing(equal: Evidence, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    return write(path, make_certificate(equal), equal)


def rows_of(source: str) -> list[str]:
    return [row.text for row in Page(source).all("tr")]


# --- the page


def test_both_pages_are_sound_and_stand_alone(passing: str, failing: str) -> None:
    for source in (passing, failing):
        page = Page(source)
        assert source.startswith("<!DOCTYPE html>")
        assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("a")
        assert not re.search(r"https?:|url\(|@import|\son\w+=", source)
        assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in source
        assert all(image.attributes["src"].startswith("data:") for image in page.all("img"))
        assert all("scope" in cell.attributes for cell in page.all("th"))
        assert all(plot.attributes["aria-label"] for plot in page.all("svg"))
        assert not re.search(r"\b(nan|inf|none)\b", words(source), re.IGNORECASE) or (
            "none listed" in words(source)
        )
        levels = [int(e.tag[1]) for e in page.elements if re.fullmatch(r"h\d", e.tag)]
        assert levels[0] == 1
        assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


def test_svg_holds_no_strange_number(failing: str) -> None:
    drawn = [e for e in Page(failing).elements if "svg" in e.inside or e.tag == "svg"]
    numbers = [
        number
        for element in drawn
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "points")
        for number in re.split("[ ,]", element.attributes.get(name, "0"))
    ]
    assert len(numbers) > 500
    assert all(math.isfinite(float(number)) for number in numbers)


def test_a_pass_says_so_at_the_top(passing: str) -> None:
    page = Page(passing)
    (title,) = page.all("h1")
    assert title.text == "✓ Pass"
    (banner,) = page.all("div", "verdict")
    assert banner.attributes["class"] == "verdict pass"
    assert "all 2 gates pass" in banner.text
    assert "compact : onnxruntime 1.2.3, fp32, on CPU. Measured against resnet" in banner.text
    assert not page.all("ul", "failures")
    assert [e.text for e in page.all("h2")] == [
        "Accuracy",
        "Gates",
        "Agreement",
        "Throughput",
        "Where the ranked lists differ most",
        "How this was made",
    ]


def test_a_failure_says_why_at_the_top(failing: str) -> None:
    page = Page(failing)
    assert page.all("h1")[0].text == "✗ Fail"
    assert "Do not deploy this file: 1 of 2 gates fails." in page.all("div", "fail")[0].text
    (failures,) = page.all("ul", "failures")
    assert failures.text == "✗ mAP kept 4.25, limit 0.3 mAP dropped by 4.25 points"
    assert failures.inside[-1] == "header"
    assert page.all("title")[0].text == "Fail: compact certified against resnet"


@pytest.mark.parametrize(
    ("failed", "total", "sentence"),
    [(1, 1, "1 of 1 gate fails"), (1, 3, "1 of 3 gates fails"), (2, 3, "2 of 3 gates fail")],
)
def test_failures_are_counted(
    equal: Evidence, tmp_path: Path, failed: int, total: int, sentence: str
) -> None:
    gates = (FAILED[1],) * failed + (PASSED[1],) * (total - failed)
    text = words(write(tmp_path / "r.html", make_certificate(equal, gates=gates), equal))
    assert f"Do not deploy this file: {sentence}." in text


def test_warnings_stand_at_the_top(equal: Evidence, tmp_path: Path) -> None:
    certificate = replace(make_certificate(equal), warnings=("it is slower", "it is odd"))
    notes = Page(write(tmp_path / "r.html", certificate, equal)).all("p", "note")
    assert [note.text for note in notes] == ["Warning it is slower", "Warning it is odd"]
    assert all(note.inside[-1] == "header" for note in notes)


def test_accuracy_is_compared_in_points(noisy: Evidence, failing: str) -> None:
    before = evaluate(noisy.source_query, noisy.source_gallery)
    after = evaluate(noisy.compiled_query, noisy.compiled_gallery)
    pairs = {
        "mAP": (before.mAP, after.mAP),
        **{f"Rank-{k}": (before.rank(k), after.rank(k)) for k in (1, 5, 10)},
        "mINP": (before.mINP, after.mINP),
    }
    rows = rows_of(failing)
    for name, (old, new) in pairs.items():
        change = f"{100 * new - 100 * old:+.2f}".replace("-", "−")
        assert f"{name} {100 * old:.2f} {100 * new:.2f} {change}" in rows
    assert f"{before.queries} queries searched {before.gallery} gallery pictures" in failing


def test_dropped_queries_are_counted_by_reason(tmp_path: Path, equal: Evidence) -> None:
    ids = equal.source_query.samples.person_ids.copy()
    ids[:3], ids[3] = -1, 999
    samples = Samples(equal.source_query.samples.paths, ids, equal.source_query.samples.camera_ids)
    query = Embeddings(equal.source_query.vectors, samples)
    evidence = replace(equal, source_query=query, compiled_query=query)
    text = words(write(tmp_path / "r.html", make_certificate(evidence), evidence))
    assert "4 further queries were left out: 3 (junk" in text
    assert "1 (the gallery holds no picture of the person)." in text


def test_gates_are_all_listed(failing: str, passing: str) -> None:
    assert "✓ pass hashes – –" in rows_of(failing)
    assert "✗ fail mAP kept 4.25 0.3 mAP dropped by 4.25 points" in rows_of(failing)
    assert "Verdict Gate Value Limit" in rows_of(passing)


def test_agreement_is_told_in_numbers(failing: str) -> None:
    rows = rows_of(failing)
    assert "Smallest cosine 0.9123" in rows
    assert "Largest difference of an element 0.0123" in rows
    assert "First 10 matches in common 87.65 %" in rows
    assert any(row.startswith("Effective rank 80.5 61.2 How many independent") for row in rows)
    assert any(row.startswith("Cosine of a random pair 0.1234 0.2345 How alike") for row in rows)
    assert "4 50 2 0.9999900 0.999800" in rows


def test_divergence_is_told_where_it_is_known(failing: str, passing: str) -> None:
    text = words(failing)
    assert "The scale of /layer8/Conv is wrong." in text
    assert "above the limit of 0.05: /layer8/Conv (Conv, 8 of 20), error 0.38." in text
    rows = rows_of(failing)
    worst = [row for row in rows if re.fullmatch(r"/layer\d+/Conv Conv \d+ [\d.]+", row)]
    assert len(worst) == 10
    assert worst[0] == "/layer20/Conv Conv 20 0.5"
    assert "diverges" not in words(passing)


@pytest.mark.parametrize("shown", [(), LAYERS[:3]], ids=["no layers", "all agree"])
def test_a_divergence_without_a_first_layer(
    equal: Evidence, tmp_path: Path, shown: tuple[LayerError, ...]
) -> None:
    divergence = Divergence(None, 0.05, shown, "All layers agree.")
    certificate = make_certificate(equal, divergence=divergence)
    source = write(tmp_path / "r.html", certificate, equal)
    assert "No layer that can be seen has an error above the limit of 0.05." in words(source)
    assert ("Worst layers" in source) == bool(shown)


def test_errors_that_are_no_numbers_are_said(equal: Evidence, tmp_path: Path) -> None:
    broken = (*LAYERS[:4], LayerError("a", "Mul", math.nan), LayerError("b", "Add", math.inf))
    certificate = make_certificate(equal, divergence=Divergence(broken[4], 0.05, broken, "Broken."))
    source = write(tmp_path / "r.html", certificate, equal)
    assert "a Mul 5 not a number" in rows_of(source)
    assert "b Add 6 infinite" in rows_of(source)
    assert not re.search(r"\b(nan|inf)\b", source)


def test_throughput_is_told_for_every_batch_size(passing: str) -> None:
    rows = rows_of(passing)
    assert "1 10.0 15.0 1.50 × 9.00 13.5 1.50 ×" in rows
    assert "16 20.0 50.0 2.50 × 18.0 45.0 2.50 ×" in rows
    assert "4 250 275 300 125 138 150" in rows
    assert "run 50.0 20.0" in rows
    assert "decode 0.50 0.50" in rows
    assert "Best batch size 16 16" in rows
    assert "Start to first vector 1.25 s 1.25 s" in rows
    assert "Peak memory 612 MB 612 MB" in rows
    assert "Size on disk 94.1 MB 94.1 MB" in rows
    figures = [figure.text for figure in Page(passing).all("dd", "value")]
    assert figures[3] == "2.50 ×"


def test_sides_with_different_batch_sizes(equal: Evidence, tmp_path: Path) -> None:
    certificate = make_certificate(equal, compiled_rates={16: 40.0, 8: 30.0})
    rows = rows_of(write(tmp_path / "r.html", certificate, equal))
    assert "4 16.0 – – 14.4 – –" in rows
    assert "8 – 30.0 – – 27.0 –" in rows
    assert "16 20.0 40.0 2.00 × 18.0 36.0 2.00 ×" in rows


def test_one_batch_size_only(equal: Evidence, tmp_path: Path) -> None:
    certificate = make_certificate(equal, compiled_rates={16: 40.0})
    one = replace(certificate.source, speed=make_speed({16: 20.0}))
    rows = rows_of(write(tmp_path / "r.html", replace(certificate, source=one), equal))
    assert "16 20.0 40.0 2.00 × 18.0 36.0 2.00 ×" in rows
    assert sum(row.startswith("16 ") for row in rows) == 2


def test_equal_lists_are_said_to_be_equal(passing: str) -> None:
    assert (
        "None differs: the first 10 matches of all 24 scored queries are the same pictures in "
        "the same order." in words(passing)
    )
    assert not Page(passing).all("img")


def test_a_change_of_order_that_costs_nothing_is_no_difference(tmp_path: Path) -> None:
    def make(*vectors: tuple[float, float]) -> Embeddings:
        samples = Samples.from_columns(list(PICTURES[:3]), [1, 2, 3], [2, 2, 2])
        return Embeddings(np.array(vectors, np.float32), samples)

    query = Embeddings(
        np.array([[1, 0]], np.float32), Samples.from_columns([PICTURES[0]], [1], [1])
    )
    evidence = Evidence(query, make((1, 0), (1, 1), (1, 2)), query, make((1, 0), (1, 2), (1, 1)))
    text = words(write(tmp_path / "r.html", make_certificate(evidence), evidence))
    assert "hold the same pictures, and 1 of them in another order" in text


def test_the_lists_of_both_sides_stand_together(noisy: Evidence, failing: str) -> None:
    page = Page(failing)
    pairs = page.all("section", "pair")
    assert len(pairs) == 10
    heads = [head.text.split()[0] for head in page.all("h4")]
    assert heads == ["Source", "Compiled"] * 10
    assert len(page.all("span", "mark")) == 200
    changes = {change.text.split()[0] for change in page.all("span", "change")}
    assert changes == {"now", "was"}
    found = compare_lists(noisy, "cosine")
    assert f"Of 24 scored queries, {found.later} find their first right match later" in failing
    for pair in found.pairs:
        assert pair.change in words(failing)


def test_missing_pictures_leave_their_names(noisy: Evidence, tmp_path: Path) -> None:
    def lose(side: Embeddings) -> Embeddings:
        paths = np.array([f"/gone/{HOSTILE.replace('/', '')}"] * len(side), np.object_)
        return Embeddings(
            side.vectors, Samples(paths, side.samples.person_ids, side.samples.camera_ids)
        )

    lost = Evidence(
        lose(noisy.source_query),
        lose(noisy.source_gallery),
        lose(noisy.compiled_query),
        lose(noisy.compiled_gallery),
    )
    page = Page(write(tmp_path / "r.html", make_certificate(noisy), lost))
    assert not page.all("img")
    assert len(page.all("span", "missing")) == 220


def test_the_provenance_is_complete(failing: str) -> None:
    rows = rows_of(failing)
    assert f"Engine file (sha256) {'r' * 64} {'c' * 64}" in rows
    assert "Batch size any any" in rows
    for fact in (
        "Input contract 256x128 bilinear, RGB",
        f"Input contract (sha256) {'d' * 64}",
        "Data set market1501",
        "reidkit 0.1.0",
        "Date 2025-01-02T03:04:05+00:00",
    ):
        assert fact in rows


def test_many_float_layers_are_cut_short(equal: Evidence, tmp_path: Path) -> None:
    certificate = make_certificate(equal)
    names = tuple(f"layer{place}" for place in range(25))
    compiled = replace(certificate.compiled, float_layers=names, batch=16)
    rows = rows_of(write(tmp_path / "r.html", replace(certificate, compiled=compiled), equal))
    assert any(row.endswith("layer18, layer19 and 5 more") for row in rows)
    assert "Batch size any 16 only" in rows


def fill(evidence: Evidence, path: Path, text: str) -> list[str]:
    """Write a page with one text in every place that takes one and give its tags."""
    layer = LayerError(text, text, 0.5)
    certificate = make_certificate(
        evidence,
        gates=(Gate(text, 1, 2, "fail", text),),
        divergence=Divergence(layer, 0.1, (layer,), text),
    )
    side = replace(
        certificate.compiled,
        name=text,
        sha256=text,
        precision=text,
        runtime=text,
        device=text,
        float_layers=(text,),
    )
    certificate = replace(
        certificate,
        source=side,
        compiled=side,
        contract=text,
        contract_sha256=text,
        data={text: text},
        versions={text: text},
        warnings=(text,),
        date=text,
    )
    return [element.tag for element in Page(write(path, certificate, evidence)).elements]


@pytest.fixture(scope="module")
def plain_tags(equal: Evidence, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return fill(equal, tmp_path_factory.mktemp("plain") / "report.html", "plain")


@settings(max_examples=10, deadline=None)
@given(text=st.text(min_size=1, max_size=30) | st.just(HOSTILE))
@example(HOSTILE)
@example("</style></title><img src=x onerror=alert(1)>")
@example("{{ certificate }}{% raw %}")
def test_every_text_is_escaped(
    equal: Evidence, plain_tags: list[str], tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    assert fill(equal, tmp_path_factory.mktemp("page") / "report.html", text) == plain_tags


def test_the_same_values_give_the_same_bytes(noisy: Evidence, failing: str, tmp_path: Path) -> None:
    again = make_certificate(make_evidence(1.5), gates=FAILED, divergence=DIVERGENCE)
    assert write(tmp_path / "new" / "r.html", again, noisy) == failing
    assert len(failing) < 1_000_000


def test_a_folder_is_refused(equal: Evidence, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="is a folder"):
        write_certificate_report(tmp_path, make_certificate(equal), equal)
    assert not any(tmp_path.iterdir())


def test_evidence_of_other_pictures_is_refused(equal: Evidence, tmp_path: Path) -> None:
    path, certificate = tmp_path / "r.html", make_certificate(equal)
    fewer = replace(equal, compiled_query=equal.compiled_query.select(slice(5)))
    with pytest.raises(MismatchError, match="24 query pictures of the source and 5"):
        write_certificate_report(path, certificate, fewer)
    order = np.roll(np.arange(len(equal.compiled_gallery)), 1)
    turned = replace(equal, compiled_gallery=equal.compiled_gallery.select(order))
    with pytest.raises(MismatchError, match="gallery picture 0 of the evidence"):
        write_certificate_report(path, certificate, turned)
    assert not path.exists()


# --- which lists are shown


@given(st.lists(st.lists(st.booleans(), min_size=8, max_size=8), min_size=1, max_size=10))
def test_precision_agrees_with_the_definition(marks: list[list[bool]]) -> None:
    right = np.array(marks)
    hits = right.sum(axis=1)
    expected = [
        np.mean([sum(row[: place + 1]) / (place + 1) for place in np.flatnonzero(row)])
        if any(row)
        else 0
        for row in marks
    ]
    assert measure_precision(right, hits) == pytest.approx(expected)


def test_precision_counts_hits_that_were_not_listed() -> None:
    right = np.array([[True, False], [True, True]])
    assert measure_precision(right, np.array([2, 9])).tolist() == [0.5, 1.0]


def test_all_precisions_together_are_the_map(noisy: Evidence) -> None:
    scores = evaluate(noisy.source_query, noisy.source_gallery)
    found = compare_lists(noisy, "cosine")
    assert found.scored == scores.queries
    assert found.depth == 36
    drops = [pair.change for pair in found.pairs]
    assert all("average precision" in drop for drop in drops)


@given(st.data())
def test_overlap_agrees_with_sets(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 6))
    lists = st.permutations(range(8)).map(lambda rows: list(rows)[:count])
    ours, theirs = (np.array([data.draw(lists) for _ in range(3)]) for _ in range(2))
    expected = [len({*a} & {*b}) / count for a, b in zip(ours, theirs, strict=True)]
    assert measure_overlap(ours, theirs) == pytest.approx(expected)


def test_places_without_a_match_do_not_overlap() -> None:
    ours, theirs = np.array([[3, -1], [-1, -1]]), np.array([[3, -1], [-1, -1]])
    assert measure_overlap(ours, theirs).tolist() == [1.0, 1.0]


def make_standing(first_hits: Sequence[int], precisions: Sequence[float]) -> Standing:
    rows = np.zeros((len(first_hits), 1), np.int64)
    matches = Matches(rows, rows.astype(np.float32))
    return Standing(matches, np.array(first_hits, np.int64), np.array(precisions))


QUERIES = st.tuples(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(0, 4),
    st.integers(0, 4),
    st.integers(0, 3),
    st.booleans(),
)


@given(st.lists(QUERIES, max_size=25))
def test_the_choice_is_what_its_words_say(
    queries: list[tuple[int, int, int, int, int, bool]],
) -> None:
    source = make_standing([q[0] for q in queries], [q[2] / 4 for q in queries])
    compiled = make_standing([q[1] for q in queries], [q[3] / 4 for q in queries])
    overlap = np.array([q[4] / 3 for q in queries])
    scored = np.array([q[5] for q in queries], np.bool_)
    expected = [
        (-max(q[2] - q[3], 0), -max(q[1] - q[0], 0), q[4], row)
        for row, q in enumerate(queries)
        if q[5] and (q[2] > q[3] or q[1] > q[0] or q[4] < 3)
    ]
    rows = choose_differing(source, compiled, overlap, scored, count=6)
    assert rows.tolist() == [row for *_, row in sorted(expected)][:6]


# --- scales and ticks


@given(span=st.floats(1e-7, 1e7), count=st.integers(1, 9))
def test_a_step_is_round_and_fits(span: float, count: int) -> None:
    step = choose_step(span, count)
    mantissa = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - n) for n in (1, 2, 5)) < 1e-6
    assert span / step <= count * (1 + 1e-6)
    # The next smaller step would be too many.
    assert span / step > count / 2.6


def test_ticks_are_the_multiples_inside() -> None:
    assert list_ticks(0.4, 1, 0.2) == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert list_ticks(0.41, 0.99, 0.2) == pytest.approx([0.6, 0.8])
    assert list_ticks(-0.2, 0.2, 0.1) == pytest.approx([-0.2, -0.1, 0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [(0.99992, 0.00002, "0.99992"), (0.4, 0.2, "0.4"), (1500, 500, "1,500"), (-0.0, 0.1, "0.0")],
)
def test_ticks_have_the_decimals_of_their_step(value: float, step: float, label: str) -> None:
    assert word_tick(value, step) == label


def test_powers_of_ten_have_few_ticks() -> None:
    scale = Scale(-8, 0, BOTTOM, TOP)
    ticks = place_powers(scale, 4)
    assert [tick.label for tick in ticks] == ["1", "0.01", "10⁻⁴", "10⁻⁶", "10⁻⁸"]
    assert (ticks[0].at, ticks[-1].at) == (TOP, BOTTOM)


def test_a_scale_of_one_value_is_in_the_middle() -> None:
    assert Scale(3, 3, 100, 200).place(3) == 150


# --- the histogram

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=60) | st.lists(
    st.floats(1 - 2**-14, 1, width=32), min_size=1, max_size=60
)


@given(COSINES)
@example([1.0])
@example([1.0, 1.0000001])
@example([-1.0, 1.0])
@example([-1.0000001])
def test_bins_hold_every_cosine_once(values: list[float]) -> None:
    cosines = np.array(values, np.float32)
    found = histogram.count_cosines(cosines)
    assert found.counts.sum() == len(values)
    assert found.edges[0] <= min(*values, 1.0) + 1e-6
    assert found.edges[-1] == 1
    assert 20 <= len(found.counts) <= 40
    below = np.minimum(cosines.astype(np.float64), 1)
    for left, right, n in list(zip(found.edges[:-1], found.edges[1:], found.counts, strict=True))[
        1:-1
    ]:
        assert n == np.count_nonzero((below >= left) & (below < right))


@given(COSINES)
def test_every_histogram_stays_inside_its_frame(values: list[float]) -> None:
    cosines = np.array(values, np.float32)
    plot = histogram.plan_histogram(cosines, float(np.percentile(cosines, 1)))
    frame = plot.frame
    assert all(bar.height > 0 for bar in plot.bars)
    assert all(bar.x >= frame.left - 0.1 for bar in plot.bars)
    assert all(bar.x + bar.width <= frame.right + 0.1 for bar in plot.bars)
    assert all(bar.y >= TOP for bar in plot.bars)
    assert all(bar.y + bar.height == pytest.approx(BOTTOM) for bar in plot.bars)
    assert 2 <= len(frame.across) <= 6
    assert frame.across[-1].label == "1"
    assert len({tick.label for tick in frame.across}) == len(frame.across)
    assert frame.left <= plot.percentile.x <= frame.right


def test_cosines_near_one_have_an_axis_of_their_own() -> None:
    near = histogram.plan_histogram(np.linspace(0.99991, 1, 50, dtype=np.float32), 0.99992)
    assert [tick.label for tick in near.frame.across] == [
        "0.99990",
        "0.99992",
        "0.99994",
        "0.99996",
        "0.99998",
        "1",
    ]
    far = histogram.plan_histogram(np.linspace(0.41, 1, 50, dtype=np.float32), 0.42)
    assert [tick.label for tick in far.frame.across] == ["0.4", "0.6", "0.8", "1"]
    assert not far.logarithmic


def test_a_single_stray_picture_can_be_seen() -> None:
    cosines = np.array([0.4] + [0.999] * 5000, np.float32)
    plot = histogram.plan_histogram(cosines, 0.999)
    assert plot.logarithmic
    assert len(plot.bars) == 2
    assert min(bar.height for bar in plot.bars) > 10
    assert [tick.label for tick in plot.frame.upwards] == ["1,000", "100", "10", "1"]


# --- the layers


def test_layers_lie_where_their_errors_are() -> None:
    plot = layers.plan_layers(DIVERGENCE)
    assert plot is not None
    assert len(plot.dots) == 20
    heights = [y for _, y in plot.dots]
    assert min(heights[:7]) > plot.limit.y > max(heights[7:])
    assert plot.first is not None
    assert (plot.first.x, plot.first.y) == plot.dots[7]
    assert plot.first.label == "first: layer 8"
    assert [tick.label for tick in plot.frame.across] == ["1", "5", "10", "15", "20"]


@given(st.lists(st.floats(0) | st.just(math.nan), min_size=1, max_size=200))
def test_every_error_has_a_place(errors: list[float]) -> None:
    shown = tuple(LayerError(str(row), "Conv", error) for row, error in enumerate(errors))
    first = next((layer for layer in shown if not layer.error <= 0.1), None)
    divergence = Divergence(first, 0.1, shown, "")
    plot = layers.plan_layers(divergence)
    assert plot is not None
    places = [tuple(map(float, pair.split(","))) for pair in plot.points.split()]
    assert all(TOP <= y <= BOTTOM for _, y in places)
    assert all(plot.frame.left <= x <= plot.frame.right for x, _ in places)
    assert (plot.first is None) == (first is None)
    assert len(plot.frame.upwards) <= 7
    assert len(layers.find_worst(divergence)) == min(10, len(errors))


# --- the throughput


@given(
    ours=st.dictionaries(st.integers(1, 1024), st.floats(0.1, 1e5), min_size=1, max_size=9),
    theirs=st.dictionaries(st.integers(1, 1024), st.floats(0.1, 1e5), min_size=1, max_size=9),
)
def test_every_rate_has_a_place(ours: dict[int, float], theirs: dict[int, float]) -> None:
    source, compiled = make_speed(ours), make_speed(theirs)
    plot = throughput.plan_rates(source, compiled)
    for line, rates in ((plot.source, ours), (plot.compiled, theirs)):
        assert len(line.dots) == len(rates)
        assert all(TOP <= y <= BOTTOM for _, y in line.dots)
        assert [x for x, _ in line.dots] == sorted(x for x, _ in line.dots)
        assert 0 < line.label.text_y <= BOTTOM
        assert 0 < line.label.text_x < plot.frame.width - 60
    assert all(
        right.at - left.at >= throughput.measure_room(left.label, right.label)
        for left, right in pairwise(plot.frame.across)
    )
    assert len(plot.frame.upwards) <= 7
    rows = throughput.list_speeds(source, compiled)
    assert [row.batch for row in rows] == sorted({*ours, *theirs})
    for row in rows:
        assert (row.engine_ratio is None) == (row.batch not in ours or row.batch not in theirs)


def test_batch_sizes_double_evenly() -> None:
    speed = make_speed({1: 1.0, 2: 2.0, 4: 3.0, 8: 4.0})
    gaps = np.diff([tick.at for tick in throughput.plan_rates(speed, speed).frame.across])
    assert np.ptp(gaps) <= 0.2


@given(st.floats(TOP, BOTTOM), st.floats(TOP, BOTTOM))
def test_names_never_stand_over_each_other(first: float, second: float) -> None:
    moved = throughput.spread_apart(first, second)
    assert abs(moved[0] - moved[1]) >= min(abs(first - second), 22) - 1e-6
    assert abs(moved[0] - moved[1]) >= 22 - 1e-6
    assert max(moved) <= BOTTOM + 1e-6
    if abs(first - second) > 1e-6:
        assert (moved[0] > moved[1]) == (first > second)


def test_stages_come_in_their_order_with_shares_of_the_longest() -> None:
    stages = throughput.list_stages(make_speed({4: 10.0}), make_speed({8: 20.0}))
    assert [stage.name for stage in stages] == list(STAGES)
    run = next(stage for stage in stages if stage.name == "run")
    assert (run.source_share, run.compiled_share) == (1, 0.5)


# --- numbers in words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (word_cosine(0.87654), "0.8765"),
        (word_cosine(-0.25), "−0.2500"),
        (word_cosine(0.9953219), "0.995322"),
        (word_cosine(0.99999982), "0.9999998"),
        (word_cosine(0.9999999999), "0.9999999"),
        (word_cosine(1.0000001), "1"),
        (word_points(0.0002), "+0.02"),
        (word_points(-0.0031), "−0.31"),
        (word_points(-0.00001), "0.00"),
        (word_exact_percent(0.85674), "85.67"),
        (word_figure(None), "–"),
        (word_figure(math.nan), "not a number"),
        (word_figure(math.inf), "infinite"),
        (word_figure(4.2512345), "4.2512"),
        (word_figure(0.99995123), "0.99995123"),
        (word_figure(12345678), "12,345,678"),
        (word_figure(123456.7), "123,457"),
        (word_figure(-1.5), "−1.5"),
        (word_figure(0.0000176), "1.76 × 10⁻⁵"),
        (word_figure(0), "0"),
        (word_rate(0), "0"),
        (word_rate(0.004), "0.004"),
        (word_rate(7.8612), "7.86"),
        (word_rate(9.999), "10.0"),
        (word_rate(41.34), "41.3"),
        (word_rate(1234.5), "1,234"),
        (word_milliseconds(0.0125), "12.5"),
        (word_bytes(999), "999 bytes"),
        (word_bytes(24_100_000), "24.1 MB"),
        (word_bytes(612_000_000), "612 MB"),
        (word_bytes(999_960_000), "1,000 MB"),
        (word_bytes(1_234_000_000), "1.23 GB"),
        (word_power(4), "10,000"),
        (word_power(-3), "0.001"),
        (word_power(-12), "10⁻¹²"),
    ],
)
def test_numbers_are_worded_for_people(text: str, expected: str) -> None:
    assert text == expected


def test_memory_that_is_not_known_is_said(equal: Evidence, tmp_path: Path) -> None:
    certificate = make_certificate(equal)
    blind = replace(certificate.source, speed=replace(certificate.source.speed, peak_bytes=0))
    rows = rows_of(write(tmp_path / "r.html", replace(certificate, source=blind), equal))
    assert "Peak memory not known 612 MB" in rows
