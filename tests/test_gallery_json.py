"""The gallery's values as JSON and back, and moments as text."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit import gallery
from reidkit.errors import ArgumentError
from reidkit.gallery import (
    Answer,
    AuditLine,
    Binding,
    CropMatch,
    Crops,
    Enrolment,
    KeptPictures,
    Person,
    PersonMatch,
    Refused,
    Stats,
    StoreFacts,
    Thresholds,
    Where,
    format_time,
    parse_time,
)

BINDING = Binding("m" * 64, "c" * 64, 8, "package")
THRESHOLDS = Thresholds(0.8, 0.5, 0.01, 0.1, "pairs")
MATCHES = (CropMatch(1, 0.9, "hall", 12.5, "a.jpg", ("x", "y")), CropMatch(2, 0.5))


def through_text(value: object) -> object:
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("thresholds", [THRESHOLDS, None])
def test_an_answer_comes_back(thresholds: Thresholds | None) -> None:
    person = PersonMatch("Åsa <b>", "same", 0.9, 0.7, 2, MATCHES)
    answer = Answer("same", "", (person,), thresholds, 7)
    fields = through_text(gallery.answer_as_json(answer))
    assert isinstance(fields, dict)
    assert fields["people"][0]["matches"][0]["time"] == "1970-01-01T00:00:12.500000Z"
    assert gallery.answer_from_json(fields) == answer


def test_the_other_values_come_back() -> None:
    person = Person("a", 3, ("x", "y"), 0.0, None)
    assert gallery.person_from_json(gallery.person_as_json(person)) == person
    enrolment = Enrolment((3, 4), 1, 2, (Refused("x", "blurred"),))
    fields = through_text(gallery.enrolment_as_json(enrolment))
    assert isinstance(fields, dict)
    assert gallery.enrolment_from_json(fields) == enrolment
    facts = StoreFacts("sqlite", 1, 2, "exact", 1.0)
    stats = Stats(3, 2, ("x",), BINDING, THRESHOLDS, KeptPictures(), facts)
    fields = through_text(gallery.stats_as_json(stats))
    assert isinstance(fields, dict)
    assert gallery.stats_from_json(fields) == stats
    lines = [AuditLine(1.5, "me", "erase", 3)]
    assert gallery.audit_from_json(gallery.audit_as_json(lines)) == lines


def test_crops_come_back() -> None:
    crops = Crops.make(
        2,
        ids=[5, 6],
        people=["a", "b"],
        times=[math.nan, 3.0],
        tags=[("t",), ()],
        added=[1.0, 2.0],
    )
    back = gallery.crops_from_json(gallery.crops_as_json(crops))
    for field in dataclasses.fields(Crops):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(crops, field.name))


@given(st.floats(-6e10, 2e11))
def test_moments_come_back(seconds: float) -> None:
    text = format_time(seconds)
    assert text is not None
    assert parse_time(text) == pytest.approx(seconds, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 86400),
        (" 1970-01-01 00:01 ", 60),
        ("12.5", 12.5),
        (3, 3),
    ],
)
def test_moments_are_read_as_people_write_them(text: str | float, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["yesterday", "", "1e300", "inf", "2026-13-01"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ArgumentError):
        parse_time(text)


def test_nobody_knows_when() -> None:
    assert format_time(math.nan) is None
    with pytest.raises(ArgumentError):
        parse_time("nan")


def test_filters_are_checked_and_normalised() -> None:
    assert Where(people=("A\u030a ",)).people == ("Å",)
    with pytest.raises(ArgumentError, match="later than until"):
        Where(since=2, until=1)
    with pytest.raises(ArgumentError, match="since is nan"):
        Where(since=math.nan)


def test_a_file_name_that_is_no_text_does_not_break_the_answer() -> None:
    crops = Crops.make(1, people="a", sources=["bad \udcff.jpg"])
    (fields,) = gallery.crops_as_json(crops)
    assert fields["source"].encode() == b"bad ?.jpg"
