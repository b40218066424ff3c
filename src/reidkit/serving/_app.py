"""The application: every route and what is wrapped around them."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from reidkit import __version__
from reidkit.serving import _overview, _persons, _searching
from reidkit.serving._context import Service
from reidkit.serving._inference import make_inference_router
from reidkit.serving._metrics import RequestMeter
from reidkit.serving._pages import make_page_router, read_assets
from reidkit.serving._problems import add_problems
from reidkit.serving._running import run_service
from reidkit.serving._security import Guard, allow

_ABOUT = """
Enrol people by pictures, find them again by pictures, and erase them.

Errors are problem details (RFC 9457). Keys are sent as `Authorization: Bearer rk_...` and have
roles: `search`, `enrol`, `erase`, and `admin`, which includes the others. Bodies are JSON, with
pictures in base64, or forms (`multipart/form-data`).
"""


def make_app(service: Service) -> FastAPI:
    """Make the application that serves a service."""
    app = FastAPI(
        title="reidkit",
        version=__version__,
        summary="Person re-identification: a gallery and its model over HTTP.",
        description=_ABOUT,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # its page would load from other sites
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=lambda _: run_service(service),
    )
    app.state.service = service
    add_problems(app)
    for router in (_searching.router, _persons.router, _overview.router):
        app.include_router(router)
    app.include_router(make_inference_router(service, allow("search")))
    app.include_router(make_page_router(read_assets()))
    app.add_api_route("/openapi.json", _describe_api, include_in_schema=False)
    # The last one added is the outermost.
    app.add_middleware(Guard, anybody=service.keys is None)
    app.add_middleware(RequestMeter, metrics=service.metrics)
    return app


async def _describe_api(request: Request) -> Response:
    app: FastAPI = request.app
    return JSONResponse(app.openapi())
