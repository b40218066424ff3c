"""The page: files that are read when the service starts and given out as they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from reidkit.serving._problems import RequestError, document

FOLDER = Path(__file__).parent / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page."""

    data: bytes
    media_type: str
    etag: str


def read_assets(folder: Path = FOLDER) -> dict[str, Asset]:
    """Read the page's files by their paths in its folder, so that no request ever names a path."""
    assets = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _TYPES:
            data = path.read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
            assets[path.relative_to(folder).as_posix()] = Asset(data, _TYPES[path.suffix], etag)
    return assets


def make_page_router(assets: dict[str, Asset]) -> APIRouter:
    """Make the routes of the page, which holds no data and so needs no key."""
    router = APIRouter(default_response_class=Response)

    async def give(request: Request, name: str = "index.html") -> Response:
        """Give a file of the page."""
        asset = assets.get(name)
        if asset is None:
            raise RequestError(404, "the page has no such file")
        headers = {"etag": asset.etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.etag:
            return Response(status_code=304, headers=headers)
        return Response(asset.data, headers=headers, media_type=asset.media_type)

    async def give_index(request: Request) -> Response:
        """Give the page."""
        return await give(request)

    answers: dict[int | str, dict[str, Any]] = {404: document(404)[404]}
    router.add_api_route("/", give_index, summary="The page", responses=answers)
    router.add_api_route("/", give_index, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/page/{name:path}", give, summary="Files of the page", responses=answers)
    return router
