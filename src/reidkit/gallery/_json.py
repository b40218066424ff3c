"""The gallery's values as JSON objects and back, for whoever is not in this process."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reidkit.gallery._answers import Answer, CropMatch, PersonMatch
from reidkit.gallery._enrolling import Enrolment, Refused
from reidkit.gallery._gallery import Stats
from reidkit.gallery._thresholds import Thresholds
from reidkit.gallery._times import format_time, parse_time
from reidkit.gallery._values import AuditLine, Binding, Crops, KeptPictures, Person, StoreFacts

Json = dict[str, Any]


def answer_as_json(answer: Answer) -> Json:
    """Give an answer as an object; moments are ISO 8601 texts or null."""
    fields = asdict(answer)
    for person in fields["people"]:
        for match in person["matches"]:
            match["time"] = format_time(match["time"])
            match["source"] = _make_text(match["source"])
    return fields


def answer_from_json(fields: Mapping[str, Any]) -> Answer:
    """Give the answer that `answer_as_json` made an object of."""
    people = tuple(
        PersonMatch(**person | {"matches": tuple(_parse_match(m) for m in person["matches"])})
        for person in fields["people"]
    )
    thresholds = _parse_thresholds(fields["thresholds"])
    return Answer(**{**fields, "people": people, "thresholds": thresholds})


def person_as_json(person: Person) -> Json:
    """Give a person as an object."""
    return asdict(person) | {"first": format_time(person.first), "last": format_time(person.last)}


def person_from_json(fields: Mapping[str, Any]) -> Person:
    """Give the person that `person_as_json` made an object of."""
    moments = {name: _parse_moment(fields[name]) for name in ("first", "last")}
    return Person(**{**fields, **moments, "cameras": tuple(fields["cameras"])})


def crops_as_json(crops: Crops) -> list[Json]:
    """Give crops as a list of objects."""
    columns = {
        "crop": crops.ids.tolist(),
        "person": crops.people.tolist(),
        "camera": crops.cameras.tolist(),
        "time": [format_time(time) for time in crops.times.tolist()],
        "source": [_make_text(source) for source in crops.sources],
        "tags": [list(tags) for tags in crops.tags],
        "sha256": crops.digests.tolist(),
        "added": [format_time(time) for time in crops.added.tolist()],
    }
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def crops_from_json(listed: Sequence[Mapping[str, Any]]) -> Crops:
    """Give the crops that `crops_as_json` made a list of."""
    return Crops.make(
        len(listed),
        ids=[each["crop"] for each in listed],
        people=[each["person"] for each in listed],
        cameras=[each["camera"] for each in listed],
        times=[_or_nan(_parse_moment(each["time"])) for each in listed],
        sources=[each["source"] for each in listed],
        tags=[tuple(each["tags"]) for each in listed],
        digests=[each["sha256"] for each in listed],
        added=[_or_nan(_parse_moment(each["added"])) for each in listed],
    )


def enrolment_as_json(enrolment: Enrolment) -> Json:
    """Give an enrolment as an object."""
    return asdict(enrolment)


def enrolment_from_json(fields: Mapping[str, Any]) -> Enrolment:
    """Give the enrolment that `enrolment_as_json` made an object of."""
    refused = tuple(Refused(**each) for each in fields["refused"])
    return Enrolment(tuple(fields["ids"]), fields["replaced"], fields["skipped"], refused)


def stats_as_json(stats: Stats) -> Json:
    """Give a gallery's statistics as an object."""
    return asdict(stats)


def stats_from_json(fields: Mapping[str, Any]) -> Stats:
    """Give the statistics that `stats_as_json` made an object of."""
    return Stats(
        crops=fields["crops"],
        people=fields["people"],
        cameras=tuple(fields["cameras"]),
        binding=Binding(**fields["binding"]),
        thresholds=_parse_thresholds(fields["thresholds"]),
        pictures=KeptPictures(**fields["pictures"]),
        store=StoreFacts(**fields["store"]),
    )


def audit_as_json(lines: list[AuditLine]) -> list[Json]:
    """Give lines of the audit as objects."""
    return [asdict(line) | {"time": format_time(line.time)} for line in lines]


def audit_from_json(listed: Sequence[Mapping[str, Any]]) -> list[AuditLine]:
    """Give the lines that `audit_as_json` made a list of."""
    return [AuditLine(**{**each, "time": parse_time(each["time"])}) for each in listed]


def _make_text(source: str) -> str:
    """Give a source that is text: a file's name may hold bytes that are none, shown as `?`."""
    return source.encode(errors="replace").decode()


def _parse_match(fields: Mapping[str, Any]) -> CropMatch:
    time = _parse_moment(fields["time"])
    return CropMatch(**{**fields, "time": time, "tags": tuple(fields["tags"])})


def _parse_thresholds(fields: Mapping[str, Any] | None) -> Thresholds | None:
    return None if fields is None else Thresholds(**fields)


def _parse_moment(text: str | None) -> float | None:
    return None if text is None else parse_time(text)


def _or_nan(seconds: float | None) -> float:
    return math.nan if seconds is None else seconds
