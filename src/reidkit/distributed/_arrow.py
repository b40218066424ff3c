"""Apache Arrow, which reads and writes Parquet and object stores: imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from reidkit.errors import MissingExtraError


def arrow() -> Any:
    """Give `pyarrow`.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _import("pyarrow")


def arrow_files() -> Any:
    """Give `pyarrow.fs`; raises as `arrow`."""
    return _import("pyarrow.fs")


def parquet() -> Any:
    """Give `pyarrow.parquet`; raises as `arrow`."""
    return _import("pyarrow.parquet")


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtraError("pyarrow", "ray") from error
