"""Examples for OpenAPI: what answers look like, and a picture to send."""

from __future__ import annotations

from typing import Any

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
    answer_as_json,
    audit_as_json,
    crops_as_json,
    enrolment_as_json,
    person_as_json,
    stats_as_json,
)

PERSON = "visitor 17"

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAgCAIAAACU62+bAAAAIElEQVR42mOMqrBhIAUwMZAIRjWMahjVMKphVMNQ1A"
    "AAPksBTlIMLpYAAAAASUVORK5CYII="
)
"""A green picture of 16x32 pixels: a PNG file in base64."""

_HASHES = {"model_sha256": "3b" * 32, "contract_sha256": "c4" * 32}

EMBED: dict[str, Any] = {**_HASHES, "dimension": 4, "vectors": [[0.5, -0.5, 0.5, -0.5]]}

_TIME = 1795550400.0
_PERSON = Person(PERSON, 1, ("entrance",), _TIME, _TIME)

PERSONS: dict[str, Any] = {"persons": [person_as_json(_PERSON)], "next": None}

PERSON_CROPS: dict[str, Any] = {
    "person": person_as_json(_PERSON),
    "crops": crops_as_json(
        Crops.make(
            1,
            ids=[41],
            people=PERSON,
            cameras="entrance",
            times=_TIME,
            sources="upload:door.jpg",
            tags=[("visitor",)],
            digests="5e" * 32,
            added=_TIME + 60,
        )
    ),
    "next": None,
}

ENROLMENT = enrolment_as_json(
    Enrolment((41, 42), 0, 0, (Refused("pictures[2] 'door.jpg'", "cannot be decoded: truncated"),))
)

_THRESHOLDS = Thresholds(0.71, 0.64, 0.001, 0.01, "identification")

SEARCH = answer_as_json(
    Answer(
        "same",
        "",
        (
            PersonMatch(
                PERSON,
                "same",
                0.83,
                0.79,
                2,
                (CropMatch(41, 0.83, "entrance", _TIME, "upload:door.jpg", ("visitor",)),),
            ),
        ),
        _THRESHOLDS,
        3062,
    )
)

AUDIT = {"lines": audit_as_json([AuditLine(_TIME, "key:page", "search", 1)])}

STATS = stats_as_json(
    Stats(
        3062,
        211,
        ("entrance", "hall"),
        Binding(**_HASHES, dimension=512),
        _THRESHOLDS,
        KeptPictures(),
        StoreFacts("sqlite", 41_000_000, 6_270_976, "exact, float32"),
    )
)


def answer_text(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer for OpenAPI that is no JSON."""
    schema = {"type": "string"} if media_type.startswith("text/") else _BYTES
    return {200: {"description": description, "content": {media_type: {"schema": schema}}}}


_BYTES = {"type": "string", "format": "binary"}


def answer(example: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Describe a JSON answer for OpenAPI by an example."""
    content = {"application/json": {"schema": {"type": "object"}, "example": example}}
    return {status: {"description": "Done.", "content": content}}
