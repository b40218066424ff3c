"""The HTTP service: a gallery and its model behind an API and a page.

`add_key`, `list_keys` and `remove_key` need nothing but the standard library; the rest is
resolved on first use and needs the extra `serve`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from reidkit.errors import MissingExtraError
from reidkit.serving._keys import ROLES as ROLES
from reidkit.serving._keys import Key as Key
from reidkit.serving._keys import add_key as add_key
from reidkit.serving._keys import list_keys as list_keys
from reidkit.serving._keys import read_keys as read_keys
from reidkit.serving._keys import remove_key as remove_key

if TYPE_CHECKING:
    from reidkit.serving._app import make_app as make_app
    from reidkit.serving._context import Service as Service
    from reidkit.serving._limits import Limits as Limits
    from reidkit.serving._load import BatchLimits as BatchLimits
    from reidkit.serving._server import ServeSettings as ServeSettings
    from reidkit.serving._server import serve as serve

_HOMES = {
    "BatchLimits": "_load",
    "Limits": "_limits",
    "ServeSettings": "_server",
    "Service": "_context",
    "make_app": "_app",
    "serve": "_server",
}

_LIBRARIES = ("fastapi", "starlette", "uvicorn", "python_multipart", "prometheus_client")


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _LIBRARIES:
            raise
        raise MissingExtraError(error.name.partition(".")[0], "serve") from error
