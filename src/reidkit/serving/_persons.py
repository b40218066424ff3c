"""Routes about people: enrol, list, read, erase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from reidkit.gallery import (
    Crops,
    Enrolment,
    Gallery,
    Person,
    check_name,
    crops_as_json,
    enrolment_as_json,
    person_as_json,
)
from reidkit.serving import _examples
from reidkit.serving._context import Service, service_of, while_connected
from reidkit.serving._decoding import hold_pictures, refuse_pictures
from reidkit.serving._forms import ENROL, EnrolForm, check_person, describe_body, read_time
from reidkit.serving._problems import RequestError, document
from reidkit.serving._security import Caller, allow
from reidkit.serving._uploads import File, hold_form

router = APIRouter(prefix="/v1/persons")

_NAME = Path(
    description="The person's name, percent-encoded; it may hold slashes.",
    max_length=400,
    examples=[_examples.PERSON],
)
_Text = Annotated[str, Query(max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")]

MaySearch = Annotated[Caller, Depends(allow("search"))]


@router.get(
    "",
    summary="List people",
    responses=_examples.answer(_examples.PERSONS) | document(422),
)
async def list_persons(
    request: Request,
    caller: MaySearch,
    after: _Text = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    named: _Text = "",
) -> Response:
    """List people by name, those after a name, whose name contains `named`.

    `next` is the name to go on after, and null at the end.
    """
    service = service_of(request)
    people = await service.run(
        service.gallery.list_people, after=after, limit=limit + 1, named=named
    )
    following = people[limit - 1].name if len(people) > limit else None
    return JSONResponse(
        {"persons": [person_as_json(person) for person in people[:limit]], "next": following}
    )


@router.post(
    "",
    status_code=201,
    summary="Enrol a person",
    responses=_examples.answer(_examples.ENROLMENT, 201) | document(400, 408, 409, 413, 415, 422),
    openapi_extra=describe_body(
        ENROL,
        {
            "person": _examples.PERSON,
            "pictures": [_examples.PICTURE],
            "camera": "entrance",
            "time": "2026-11-24T20:00:00Z",
            "tags": ["visitor"],
        },
    ),
)
async def enrol(request: Request, caller: Annotated[Caller, Depends(allow("enrol"))]) -> Response:
    """Add pictures of a person; when this answers 201 they are on disk.

    Pictures that cannot be used are named with the reason; 422 where that is all of them.
    """
    service = service_of(request)
    async with hold_form(request, ENROL) as (form, files):
        work = partial(_enrol, service, form, files, caller.actor)
        enrolment = await while_connected(request, work)
    if not enrolment.ids and enrolment.refused:
        raise refuse_pictures(enrolment.refused)
    return JSONResponse(enrolment_as_json(enrolment), 201)


@router.get(
    "/{name:path}",
    summary="Read what is known of a person",
    responses=_examples.answer(_examples.PERSON_CROPS) | document(404, 422),
)
async def read_person(
    request: Request,
    caller: MaySearch,
    name: Annotated[str, _NAME],
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> Response:
    """Give a person and those of their crops that come after an id, by id.

    `next` is the id to go on after, and null at the end. The audit notes who read when, and how
    many crops, never whose.
    """
    service = service_of(request)
    gallery, known = service.gallery, check_name(name, "person")

    def read() -> tuple[Person, Crops]:
        person = find_person(gallery, known)
        if person is None:
            raise _nobody(name)
        crops = gallery.read_person(known, after=after, limit=limit + 1)
        gallery.store.note("read", min(limit, len(crops)), actor=caller.actor)
        return person, crops

    person, crops = await service.run(read)
    following = int(crops.ids[limit - 1]) if len(crops) > limit else None
    return JSONResponse(
        {
            "person": person_as_json(person),
            "crops": crops_as_json(crops.select(slice(limit))),
            "next": following,
        }
    )


@router.delete(
    "/{name:path}",
    summary="Erase a person",
    responses=_examples.answer({"erased": 3}) | document(404, 422),
)
async def erase_person(
    request: Request,
    caller: Annotated[Caller, Depends(allow("erase"))],
    name: Annotated[str, _NAME],
) -> Response:
    """Erase a person's crops, vectors and pictures. The audit notes how many, not whose."""
    service = service_of(request)
    person = check_name(name, "person")
    erased = await service.run(service.gallery.remove, person, actor=caller.actor)
    if not erased:
        raise _nobody(name)
    return JSONResponse({"erased": erased})


async def _enrol(service: Service, form: EnrolForm, files: Sequence[File], actor: str) -> Enrolment:
    person, time = check_person(form.person), read_time(form.time)
    check_name(form.camera, "camera")
    if not files:
        raise RequestError(422, "there is no picture: send at least one", kind="values")
    async with hold_pictures(files, service) as decoded:
        if not decoded.pictures:
            return Enrolment(refused=tuple(decoded.refused))
        count = len(decoded.pictures)
        crops = Crops.make(
            count,
            people=person,
            cameras=form.camera,
            times=np.nan if time is None else time,
            sources=form.source or [_name_source(files[place]) for place in decoded.places],
            tags=[tuple(form.tags)] * count,
            digests=[picture.digest for picture in decoded.pictures],
        )
        vectors = await service.batcher.embed(decoded.inputs)
        enrolment = await service.run(
            service.gallery.enrol,
            crops,
            vectors,
            decoded.pictures,
            quality=service.quality,
            actor=actor,
        )
    return replace(enrolment, refused=(*decoded.refused, *enrolment.refused))


def _name_source(file: File) -> str:
    """Say where an upload came from, in words that are no path."""
    return f"upload:{file.shown}"


def find_person(gallery: Gallery, name: str) -> Person | None:
    """Find a person without reading their crops; `None` where there is nobody of that name.

    People are listed by code point, so the name is the first after the last name that can come
    before it: names have at most 200 characters.
    """
    if not name:
        return None
    last = 0xD7FF if name[-1] == "\ue000" else ord(name[-1]) - 1  # surrogates are no characters
    before = name[:-1] + chr(last) + "\U0010ffff" * 200
    found = gallery.list_people(after=before, limit=1, named=name)
    return found[0] if found and found[0].name == name else None


def _nobody(name: str) -> RequestError:
    return RequestError(404, f"nobody is named {name[:200]!r}", kind="nobody")
