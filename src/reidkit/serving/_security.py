"""Who may do what, what answers say to browsers, and what other sites may not make them do."""

from __future__ import annotations

import ipaddress
import logging
import math
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reidkit.serving._context import service_of
from reidkit.serving._keys import ROLES
from reidkit.serving._problems import RequestError, answer_problem, explain

logger = logging.getLogger(__name__)

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; font-src 'self'; manifest-src 'self'; form-action 'self'; "
        "frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

_BEARER = HTTPBearer(
    scheme_name="key",
    bearerFormat="rk_<id>_<secret>",
    auto_error=False,
    description="An API key made by `reidkit keys add`.",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request: `actor` is how the audit names them."""

    name: str
    roles: tuple[str, ...]
    actor: str


_HOST = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:@]+))(?::[0-9]{1,5})?")

Check = Callable[..., Awaitable[Caller]]

_ANYBODY = Caller("no-auth", ROLES, "no-auth")


def allow(role: str | None, *, cost: float = 1.0) -> Check:
    """Make a route's dependency that lets keys with a role pass; `None` lets any key pass.

    It raises 401 without a good key, 403 for a missing role and 429 for more requests than the
    key may send, of which this one counts `cost`.
    """

    async def check(
        request: Request,
        sent: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
    ) -> Caller:
        service = service_of(request)
        if service.keys is None:
            return _ANYBODY
        key = service.keys.find(sent.credentials) if sent else None
        if key is None and sent and service.keys.lost:
            raise RequestError(
                503,
                "the service cannot read its keys: its log says why",
                kind="keys",
                headers={"Retry-After": "2"},
            )
        if key is None:
            raise _refuse_key(request, sent is None)
        _check_rate(service.rates.take(key.id, cost), f"the key {key.name!r}")
        if role is not None and not key.may(role):
            raise RequestError(
                403, f"the key {key.name!r} has not the role {role}", kind="missing-role"
            )
        return Caller(key.name, key.roles, f"key:{key.name}")

    return check


class Guard:
    """ASGI middleware around everything: request ids, headers, other sites, unexpected errors.

    `anybody` is for a service without keys: only then could a page of another site, opened in a
    browser on this machine, make it do something, so only then are such requests refused.
    """

    def __init__(self, app: ASGIApp, *, anybody: bool) -> None:
        self.app, self.anybody = app, anybody

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; every answer gets the headers, and nothing gets out unexplained."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = scope["request_id"] = secrets.token_hex(8)
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                add_headers(MutableHeaders(scope=message), request_id)
            await send(message)

        try:
            if self.anybody:
                refuse_other_sites(scope)
            await self.app(scope, receive, send_on)
        except ClientDisconnect:
            raise  # the meter counts it; there is nobody to answer
        except Exception as error:
            if not isinstance(error, RequestError):
                logger.exception("request %s: unexpected error", request_id)
            if started:
                raise
            await answer_problem(explain(error), request_id)(scope, receive, send_on)


def refuse_other_sites(scope: Scope) -> None:
    """Refuse what a page of another site made a browser send to a service without keys.

    A name that is not loopback's is how DNS rebinding looks; browsers send `Origin` and
    `Sec-Fetch-Site` of themselves, and pages cannot forge them.

    Raises:
        RequestError: 403 it came from elsewhere.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if not _is_loopback(host):
        raise RequestError(403, "without keys the service answers to loopback names only")
    origin = headers.get("origin")
    if origin is not None and origin.lower() != f"{scope['scheme']}://{host}".lower():
        raise RequestError(403, "without keys no page of another origin is answered")
    opened = (
        headers.get("sec-fetch-mode") == "navigate"
        and scope["method"] == "GET"
        and scope["path"] == "/"
    )
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not opened:
        raise RequestError(403, "without keys no page of another site is answered")


def _refuse_key(request: Request, missing: bool) -> RequestError:
    service = service_of(request)
    if not missing:
        address = request.client.host if request.client else ""
        _check_rate(service.failures.take(address), "wrong keys from this address")
    detail = "send an API key: `Authorization: Bearer rk_...`" if missing else "no such API key"
    return RequestError(
        401, detail, kind="key", headers={"WWW-Authenticate": 'Bearer realm="reidkit"'}
    )


def _check_rate(wait: float, whose: str) -> None:
    if wait:
        seconds = math.ceil(wait)
        raise RequestError(
            429,
            f"too many requests of {whose}: wait {seconds} s",
            kind="rate",
            headers={"Retry-After": str(seconds)},
        )


def add_headers(headers: MutableHeaders, request_id: str) -> None:
    """Give an answer the headers that all have."""
    for name, value in _HEADERS.items():
        headers[name] = value
    headers["x-request-id"] = request_id
    headers.setdefault("cache-control", "no-store")


def _is_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host)
    if not match:
        return False
    name = (match[1] or match[2]).lower()
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
