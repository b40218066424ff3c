"""Problem details (RFC 9457): how every error leaves the service.

A problem says what happened and what to do; it never holds a path of this machine, a key, a stack
trace or the text of an unexpected error. `instance` names the request as the log does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from reidkit.errors import (
    AbsentError,
    ArgumentError,
    EngineError,
    GalleryError,
    ImageError,
    MismatchError,
    ReidkitError,
    ShapeError,
)
from reidkit.serving._load import Overloaded

MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 20
_MANY_ERRORS = 1000
_ALWAYS = (401, 403, 429, 503)

logger = logging.getLogger(__name__)

_STATUSES: dict[type[ReidkitError], int] = {
    AbsentError: 404,
    ImageError: 422,
    ArgumentError: 422,
    ShapeError: 422,
    MismatchError: 409,
    Overloaded: 503,
    EngineError: 503,
    GalleryError: 503,
}

_HIDDEN: dict[type[ReidkitError], str] = {
    MismatchError: "this does not belong to the gallery's model or contract",
    EngineError: "the model's engine failed: restart the service; its log says why",
    GalleryError: "the gallery cannot be used now: try again; the service's log says why",
}
"""What is said instead of a message that may name files of this machine."""


_COUNTED = frozenset({"bodies", "decoding", "threads", "rate"})
"""Refusals that are counted here; the batcher counts its own."""


class RequestError(ReidkitError):
    """A request that is answered with a problem.

    `status` is the HTTP status, `kind` a short name of the problem, for programs; `headers` go
    with the answer and `more` are further members of the problem.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind = status, detail, kind
        self.headers, self.more = dict(headers or {}), dict(more or {})


def answer_problem(error: RequestError, request_id: str) -> Response:
    """Turn an error into the answer that says it."""
    problem: dict[str, object] = {
        "type": f"urn:reidkit:problem:{error.kind}" if error.kind else "about:blank",
        "title": HTTPStatus(error.status).phrase,
        "status": error.status,
        "detail": error.detail,
        "instance": f"urn:reidkit:request:{request_id}",
    }
    body = json.dumps(error.more | problem).encode()
    return Response(body, error.status, headers=error.headers, media_type=MEDIA_TYPE)


def explain(error: Exception) -> RequestError:
    """Say an error of the library or the framework as a request's error."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, Overloaded):
        headers = {"Retry-After": str(max(1, round(error.retry_after)))}
        return RequestError(503, str(error), kind="overloaded", headers=headers)
    if isinstance(error, ReidkitError):
        return _explain_reidkit(error)
    if isinstance(error, HTTPException):
        return RequestError(error.status_code, str(error.detail), headers=error.headers)
    if isinstance(error, RequestValidationError | ValidationError):
        return explain_validation(error)
    return RequestError(500, "an unexpected error: the service's log says more", kind="unexpected")


def explain_validation(error: RequestValidationError | ValidationError) -> RequestError:
    """Say what a request's values lack, without the values, which may be pictures."""
    if isinstance(error, ValidationError):
        if error.error_count() > _MANY_ERRORS:
            return RequestError(422, f"{error.error_count()} unusable values", kind="values")
        errors: Sequence[Any] = error.errors(
            include_url=False, include_context=False, include_input=False
        )
    else:
        errors = error.errors()
    found = [
        {"at": ".".join(str(part) for part in error["loc"])[:200], "why": error["msg"][:200]}
        for error in errors[:_MOST_ERRORS]
    ]
    if any(error["type"] == "json_invalid" for error in errors):
        return RequestError(400, "the body is no JSON", kind="json", more={"errors": found})
    detail = "; ".join(f"{error['at']}: {error['why']}" for error in found[:3])
    return RequestError(422, detail or "unusable values", kind="values", more={"errors": found})


def add_problems(app: FastAPI) -> None:
    """Let every error that the app's routes raise become a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = explain(error)
        request_id = str(request.scope.get("request_id", ""))
        if problem.status >= 500:
            logger.warning("request %s: %d: %s", request_id, problem.status, error)
        reason = error.reason if isinstance(error, Overloaded) else problem.kind
        if reason in _COUNTED:
            request.app.state.service.metrics.reject(reason)
        return answer_problem(problem, request_id)

    for kind in (ReidkitError, HTTPException, RequestValidationError, ValidationError):
        app.add_exception_handler(kind, answer)


def document(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe problems for OpenAPI: those of a route, by status, and those of every route."""
    return {status: _describe(status) for status in sorted({*statuses, *_ALWAYS})}


def _explain_reidkit(error: ReidkitError) -> RequestError:
    kind = next((kind for kind in _STATUSES if isinstance(error, kind)), None)
    if kind is None:
        return explain(Exception())
    status = _STATUSES[kind]
    headers = {"Retry-After": "5"} if status == 503 else None
    name = kind.__name__.removesuffix("Error").lower()
    return RequestError(status, _HIDDEN.get(kind, str(error)), kind=name, headers=headers)


_MEANINGS = {
    400: "The body is neither good JSON nor good multipart.",
    401: "No key, or one that is not known.",
    403: "The key lacks the role that this needs.",
    404: "Nothing there of that name or number.",
    408: "The body took too long to arrive.",
    409: "It belongs to another model, or the gallery has moved to one: see the type.",
    413: "The body, or one picture in it, holds too many bytes.",
    415: "The body is of a type, or a picture of a format, that is not taken.",
    422: "Values or pictures that cannot be used; the detail names each.",
    429: "Too many requests: `Retry-After` says when there may be more.",
    503: "Too much to do, or the gallery or the model cannot be used now: see `Retry-After`.",
}

_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "format": "uri"},
    },
}


def _describe(status: int) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": _MEANINGS[status],
        "instance": "urn:reidkit:request:5f0c3d1e9a7b2c44",
    }
    return {
        "description": _MEANINGS[status],
        "content": {MEDIA_TYPE: {"schema": _SCHEMA, "example": example}},
    }
