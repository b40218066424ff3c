"""Routes that look at pictures: their vectors, and whom they show."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from reidkit.gallery import Answer, answer_as_json
from reidkit.serving import _examples
from reidkit.serving._context import Service, service_of, while_connected
from reidkit.serving._decoding import hold_pictures, refuse_pictures
from reidkit.serving._forms import PICTURES, SEARCH, SearchForm, describe_body, read_asking
from reidkit.serving._problems import RequestError, document
from reidkit.serving._security import Caller, allow
from reidkit.serving._uploads import File, hold_form

router = APIRouter(prefix="/v1")

MaySearch = Annotated[Caller, Depends(allow("search"))]


@router.post(
    "/embed",
    summary="Turn pictures into vectors",
    responses=_examples.answer(_examples.EMBED) | document(400, 408, 413, 415, 422),
    openapi_extra=describe_body(PICTURES, {"pictures": [_examples.PICTURE]}),
)
async def embed(request: Request, caller: MaySearch) -> Response:
    """Give each picture's vector; nothing is kept.

    The hashes say which model and contract made them: vectors of others may not be compared.
    """
    service = service_of(request)
    async with hold_form(request, PICTURES) as (_, files):
        vectors = await while_connected(request, partial(_embed, service, files))
    binding = service.binding
    return JSONResponse(
        {
            "model_sha256": binding.model_sha256,
            "contract_sha256": binding.contract_sha256,
            "dimension": binding.dimension,
            "vectors": await service.run(vectors.tolist),
        }
    )


@router.post(
    "/search",
    summary="Find a person",
    responses=_examples.answer(_examples.SEARCH) | document(400, 404, 408, 409, 413, 415, 422),
    openapi_extra=describe_body(
        SEARCH, {"pictures": [_examples.PICTURE], "people": 5, "cameras": ["entrance"]}
    ),
)
async def search(request: Request, caller: MaySearch) -> Response:
    """Rank the gallery's people by likeness to pictures of one person, or to a crop (`like`).

    Several pictures must show the same person and are pooled. The filters come before the
    search. The audit notes who searched when, never whom they found.
    """
    service = service_of(request)
    async with hold_form(request, SEARCH) as (form, files):
        work = partial(_search, service, form, files, caller.actor)
        answer = await while_connected(request, work)
    return JSONResponse(answer_as_json(answer))


async def _embed(service: Service, files: Sequence[File]) -> Any:
    if not files:
        raise RequestError(422, "there is no picture: send at least one", kind="values")
    async with hold_pictures(files, service) as decoded:
        if decoded.refused:
            raise refuse_pictures(decoded.refused)
        inputs = decoded.inputs
    return await service.batcher.embed(inputs)


async def _search(service: Service, form: SearchForm, files: Sequence[File], actor: str) -> Answer:
    asking = read_asking(form)
    gallery = service.gallery
    if form.like is not None:
        if files:
            raise RequestError(422, "send pictures or `like`, not both", kind="values")
        with service.metrics.time("search"):
            return await service.run(gallery.search_like, form.like, asking, actor=actor)
    vectors = await _embed(service, files)
    with service.metrics.time("search"):
        return await service.run(gallery.search_vectors, vectors, asking, actor=actor)
