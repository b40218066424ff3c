"""Routes about the gallery as a whole and about the service itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator

from reidkit.gallery import audit_as_json, stats_as_json
from reidkit.serving import _examples
from reidkit.serving._context import service_of
from reidkit.serving._metrics import CONTENT_TYPE
from reidkit.serving._problems import RequestError, document
from reidkit.serving._running import find_unready
from reidkit.serving._security import Caller, allow

router = APIRouter()

_CROP = Path(ge=0, lt=2**63, examples=[1])


def _check_digits(value: object) -> object:
    """Refuse what `int` takes and no crop is called, such as `1_0`."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("expected a crop's number")
    return value


_Crop = Annotated[int, BeforeValidator(_check_digits), _CROP]

MaySearch = Annotated[Caller, Depends(allow("search"))]
MayFetch = Annotated[Caller, Depends(allow("search", cost=0.2))]
MayAdminister = Annotated[Caller, Depends(allow("admin"))]
AnyKey = Annotated[Caller, Depends(allow(None))]


@router.get(
    "/v1/crops/{crop}/picture",
    summary="Fetch a crop's picture",
    response_class=Response,
    responses=_examples.answer_text(
        "image/png", "The picture, as pixels alone: what else its file held is gone."
    )
    | document(404, 422),
)
async def fetch_picture(request: Request, caller: MayFetch, crop: _Crop) -> Response:
    """Give a crop's picture where pictures are kept."""
    service = service_of(request)
    picture = await service.run(service.gallery.picture, crop)
    if picture is None:
        raise RequestError(404, f"there is no picture of a crop {crop}", kind="no-picture")
    return Response(picture, media_type="image/png")


@router.get(
    "/v1/gallery",
    summary="Describe the gallery",
    responses=_examples.answer(_examples.STATS) | document(409),
)
async def describe_gallery(request: Request, caller: MaySearch) -> Response:
    """Give the gallery's size, model, thresholds and store."""
    service = service_of(request)
    stats = await service.run(service.gallery.stats)
    # Where the package lies is no business of clients.
    binding = replace(stats.binding, package="")
    return JSONResponse(stats_as_json(replace(stats, binding=binding)))


@router.post(
    "/v1/gallery/compact",
    summary="Overwrite what was erased",
    responses=_examples.answer({"compacted": True}) | document(),
)
async def compact(request: Request, caller: MayAdminister) -> Response:
    """Give back space, and leave no trace on disk of what was erased."""
    service = service_of(request)
    await service.run(service.gallery.compact, actor=caller.actor)
    return JSONResponse({"compacted": True})


@router.get(
    "/v1/audit",
    summary="Read the audit",
    responses=_examples.answer(_examples.AUDIT) | document(422),
)
async def read_audit(
    request: Request,
    caller: MayAdminister,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """Say who did what when, and to how many crops, the newest first; never to whom."""
    service = service_of(request)
    lines = await service.run(service.gallery.audit, limit=limit)
    return JSONResponse({"lines": audit_as_json(lines)})


@router.get(
    "/v1/session",
    summary="Say who asks",
    responses=_examples.answer({"name": "page", "roles": ["search", "enrol"]}) | document(),
)
async def describe_session(caller: AnyKey) -> Response:
    """Give the name and the roles of the key that is sent."""
    return JSONResponse({"name": caller.name, "roles": list(caller.roles)})


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Tell whether the process lives")
async def tell_alive() -> dict[str, str]:
    """Answer."""
    return {"status": "alive"}


@router.get(
    "/readyz",
    summary="Tell whether requests can be served",
    responses={503: document(503)[503]},
)
async def tell_ready(request: Request) -> dict[str, str]:
    """Ask the gallery and the engine; 503 says what is not ready."""
    reasons = await find_unready(service_of(request))
    if reasons:
        headers = {"Retry-After": "5"}
        raise RequestError(503, "; ".join(reasons), kind="not-ready", headers=headers)
    return {"status": "ready"}


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=_examples.answer_text(
        "text/plain", "Requests, latencies, batches, the queue and the gallery's size."
    )
    | document(),
)
async def render_metrics(request: Request, caller: AnyKey) -> Response:
    """Give the metrics in Prometheus' text format."""
    return Response(service_of(request).metrics.render(), headers={"content-type": CONTENT_TYPE})
