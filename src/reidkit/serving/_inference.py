"""The Open Inference Protocol's REST routes (`/v2/...`), for clients made for Triton or KServe.

They share the batcher with `/v1/embed`. The protocol has errors of its own, `{"error": "..."}`,
which these routes give instead of problem details, except for what is refused before a request
gets here (keys, rates).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

import reidkit
from reidkit.errors import ArgumentError, EngineError
from reidkit.serving import _tensors
from reidkit.serving._load import Overloaded
from reidkit.serving._problems import RequestError, document
from reidkit.serving._running import find_unready
from reidkit.serving._uploads import hold_body

if TYPE_CHECKING:
    from reidkit.serving._context import Service

VERSION = "1"
"""The only version of the model: a service serves one package."""

HEADER_LENGTH = "Inference-Header-Content-Length"

_JSON_GROWTH = 24  # the most bytes that a byte of JSON becomes when it is read ("{}," in a list)

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/json": {}}}
    for status, meaning in {
        400: "Not a request as the protocol or the model wants it.",
        404: "No such model or version.",
        408: "The body took too long to arrive.",
        413: "The body is too large.",
        415: "The body is compressed.",
        503: "Too much to do, or not ready: see `Retry-After`.",
    }.items()
}
_INFER = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {
                        "id": {"type": "string"},
                        "inputs": {"type": "array", "items": {"type": "object"}, "maxItems": 1},
                        "outputs": {"type": "array", "items": {"type": "object"}},
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


def make_inference_router(service: Service, allowed: Callable[..., Any]) -> APIRouter:
    """Make the protocol's routes; `allowed` is the dependency that lets a key search.

    The health routes are open.
    """
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])
    may_search = [Depends(allowed)]
    _add_health(router, service)
    router.add_api_route(
        "",
        _describe_server,
        dependencies=may_search,
        responses=document(),
        summary="Describe the server",
        operation_id="v2_server",
    )
    for prefix in ("/models/{model}", "/models/{model}/versions/{version}"):
        _add_model(router, service, prefix, may_search)
    return router


def _document(*statuses: int | str) -> dict[int | str, dict[str, Any]]:
    """Describe a route's errors: those of keys and rates are problems, the rest the protocol's."""
    return document() | {status: _ERRORS[status] for status in statuses}


def _add_health(router: APIRouter, service: Service) -> None:
    @router.get("/health/live", summary="Tell whether the process lives", operation_id="v2_live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @router.get(
        "/health/ready",
        summary="Tell whether the server is ready",
        operation_id="v2_ready",
        responses={503: _ERRORS[503]},
    )
    async def ready() -> Response:
        good = not await find_unready(service)
        return JSONResponse({"ready": good}, 200 if good else 503)


def _add_model(router: APIRouter, service: Service, prefix: str, may_search: list[Any]) -> None:
    kind = "version" if "version" in prefix else "model"

    @router.get(
        prefix,
        dependencies=may_search,
        responses=_document(404),
        summary=f"Describe a {kind}",
        operation_id=f"v2_{kind}",
    )
    async def describe(model: str, version: str = VERSION) -> Response:
        return _refuse_unknown(service, model, version) or JSONResponse(_describe_model(service))

    @router.get(
        f"{prefix}/ready",
        dependencies=may_search,
        responses=_document(404, 503),
        summary=f"Tell whether a {kind} is ready",
        operation_id=f"v2_{kind}_ready",
    )
    async def ready(model: str, version: str = VERSION) -> Response:
        refused = _refuse_unknown(service, model, version)
        good = not await find_unready(service)
        return refused or JSONResponse({"name": model, "ready": good}, 200 if good else 503)

    @router.post(
        f"{prefix}/infer",
        dependencies=may_search,
        responses=_document(*_ERRORS),
        openapi_extra=_INFER,
        summary=f"Turn pictures into vectors with a {kind}",
        operation_id=f"v2_{kind}_infer",
    )
    async def infer(request: Request, model: str, version: str = VERSION) -> Response:
        return _refuse_unknown(service, model, version) or await _answer(request, service)


async def _answer(request: Request, service: Service) -> Response:
    """Answer an inference request, errors included."""
    try:
        return await _infer(request, service)
    except (_tensors.TensorError, ArgumentError) as error:
        return _fail(400, str(error))
    except Overloaded as error:
        return _fail(503, str(error), {"Retry-After": str(error.retry_after)})
    except RequestError as error:
        return _fail(error.status, error.detail, dict(error.headers or {}))
    except EngineError:
        return _fail(503, "the model's engine failed on these inputs", {"Retry-After": "5"})


async def _infer(request: Request, service: Service) -> Response:
    spec, takes = service.model.spec, service.model.runtime.takes
    async with hold_body(request, service) as body:
        header, binary = _tensors.split_body(body, request.headers.get(HEADER_LENGTH))
        inputs = _count_bytes(len(binary), service)
        needed = len(header) * _JSON_GROWTH + inputs
        # A request that needs more than all has to be alone.
        with service.decoded.hold(min(needed, service.decoded.total)):
            with service.metrics.time("decode"):
                asked = await service.run(_tensors.parse_request, header, binary, spec.input, takes)
            vectors = await service.batcher.embed(asked.inputs)
            data, length = await service.run(_tensors.answer, vectors, asked, spec.name, VERSION)
    if length is None:
        return Response(data, media_type="application/json")
    headers = {HEADER_LENGTH: str(length)}
    return Response(data, headers=headers, media_type="application/octet-stream")


def _count_bytes(size: int, service: Service) -> int:
    """Say how many bytes the engine's inputs have at most that come from `size` binary bytes."""
    return size if service.model.runtime.takes == "pixels" else 4 * size


async def _describe_server() -> dict[str, object]:
    return {
        "name": "reidkit",
        "version": reidkit.__version__,
        "extensions": ["binary_tensor_data"],
    }


def _describe_model(service: Service) -> dict[str, object]:
    spec, takes = service.model.spec, service.model.runtime.takes
    inputs = _tensors.describe_inputs(spec.input, takes)
    output = _tensors.TensorSpec(_tensors.OUTPUT, "FP32", (-1, spec.embedding_size))
    return {
        "name": spec.name,
        "versions": [VERSION],
        "platform": spec.engine.runtime,
        "inputs": [inputs["image"].as_json()],
        "outputs": [output.as_json()],
        # Not among the inputs: a request holds one of the two.
        "parameters": {
            "alternative_input": inputs["pixels"].as_json(),
            "contract": spec.input.describe(),
            "contract_sha256": spec.input.sha256,
            "model_sha256": service.model.sha256,
        },
    }


def _refuse_unknown(service: Service, model: str, version: str) -> Response | None:
    if model != service.model.spec.name:
        return _fail(404, f"there is no such model; the one here is {service.model.spec.name!r}")
    if version != VERSION:
        return _fail(404, f"there is no such version; the one here is {VERSION}")
    return None


def _fail(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
