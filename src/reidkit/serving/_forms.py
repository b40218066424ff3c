"""The values that requests carry besides pictures, the same in JSON and in forms.

A form's field may be repeated where JSON has a list; `camera`, `person` and `tag` are how a form
calls what JSON calls `cameras`, `persons` and `tags`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BeforeValidator,
    FailFast,
    Field,
    TypeAdapter,
    ValidationInfo,
)

from reidkit.errors import ArgumentError
from reidkit.gallery import Asking, Where, check_name, check_tags, parse_time

_FIRST, _LAST = -62135596800.0, 253402300799.0
"""The years 1 and 9999, between which a time can be written."""

_Names = Annotated[
    list[Annotated[str, Field(max_length=400)]],
    FailFast(),  # else each of many wrong values is an error of its own
    BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    Field(max_length=256),
]
_Pictures = Annotated[
    list[str],
    FailFast(),
    Field(max_length=4096, description="Picture files (JPEG, PNG, WebP or BMP), each in base64."),
]
_Seconds = Annotated[float, Field(allow_inf_nan=False)]
_Time = Annotated[
    _Seconds | Annotated[str, Field(max_length=64)] | None,
    Field(description="ISO 8601, UTC unless it says otherwise, or seconds since 1970."),
]


def _check_whole(value: object, info: ValidationInfo) -> object:
    """Refuse what JSON has other numbers' types for; a form has only texts."""
    if info.mode == "json" and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError("expected a whole number")
    return value


_Whole = Annotated[int, BeforeValidator(_check_whole)]


@dataclass(frozen=True, slots=True)
class PicturesForm:
    """Pictures and nothing else."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic's name for it

    pictures: _Pictures = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SearchForm:
    """Whom to look for, by pictures of one person or by a crop, and among which crops."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    pictures: _Pictures = field(default_factory=list)
    like: Annotated[_Whole, Field(ge=0, lt=2**63)] | None = None
    people: Annotated[_Whole, Field(ge=1, le=100)] = 10
    crops: Annotated[_Whole, Field(ge=1, le=100)] = 5
    cameras: Annotated[_Names, Field(validation_alias=AliasChoices("cameras", "camera"))] = field(
        default_factory=list
    )
    persons: Annotated[_Names, Field(validation_alias=AliasChoices("persons", "person"))] = field(
        default_factory=list
    )
    tags: Annotated[_Names, Field(validation_alias=AliasChoices("tags", "tag"))] = field(
        default_factory=list
    )
    since: _Time = None
    until: _Time = None


@dataclass(frozen=True, slots=True)
class EnrolForm:
    """Pictures of one person, and what is known of them."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    person: Annotated[str, Field(min_length=1, max_length=400)]
    pictures: _Pictures = field(default_factory=list)
    camera: Annotated[str, Field(max_length=400)] = ""
    time: _Time = None
    source: Annotated[str, Field(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    tags: Annotated[_Names, Field(validation_alias=AliasChoices("tags", "tag"))] = field(
        default_factory=list
    )


PICTURES = TypeAdapter(PicturesForm)
SEARCH = TypeAdapter(SearchForm)
ENROL = TypeAdapter(EnrolForm)


def read_asking(form: SearchForm) -> Asking:
    """Say what a search form asks for.

    Raises:
        ArgumentError: names or times that cannot be.
    """
    where = Where(
        people=tuple(check_name(name, "persons") for name in form.persons) or None,
        cameras=tuple(check_name(name, "cameras") for name in form.cameras) or None,
        since=read_time(form.since),
        until=read_time(form.until),
        tags=check_tags(form.tags),
    )
    return Asking(form.people, form.crops, where)


def read_time(value: float | str | None) -> float | None:
    """Give a time in seconds since 1970; an empty text is no time.

    Raises:
        ArgumentError: a text that is no time, or a time out of the calendar.
    """
    if value is None or value == "":
        return None
    seconds = parse_time(value) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds) or not _FIRST <= seconds <= _LAST:
        raise ArgumentError(f"the time {value!r} is out of the calendar")
    return seconds


def check_person(name: str) -> str:
    """Give a person's name as the gallery keeps it.

    Raises:
        ArgumentError: an empty one, or one that cannot stand in an address.
    """
    person = check_name(name, "person")
    if person in ("", ".", ".."):  # browsers take the dots in an address for folders
        raise ArgumentError(f"person is {name!r}: choose another name")
    return person


def describe_body(form: TypeAdapter[Any], example: dict[str, object]) -> dict[str, Any]:
    """Describe a route's body for OpenAPI, in JSON and as a form."""
    schema = form.json_schema(mode="validation")
    fields = dict(schema["properties"])
    for many, one in (("cameras", "camera"), ("persons", "person"), ("tags", "tag")):
        if many in fields:
            fields[one] = fields.pop(many)
    fields["pictures"] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    required = {"required": schema["required"]} if "required" in schema else {}
    shape = {"type": "object", "properties": fields, **required}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": example},
                "multipart/form-data": {"schema": shape},
            },
        }
    }
