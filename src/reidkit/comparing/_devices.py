"""Where products are computed: by numpy on the processor, or by torch on a GPU."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from reidkit.errors import ArgumentError, MissingExtraError

CPU = "cpu"


def check_device(device: str) -> None:
    """Refuse what is no device's name.

    Raises:
        ArgumentError: neither cpu, cuda nor cuda:N.
    """
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ArgumentError(f"device is {device!r}, expected cpu, cuda or cuda:N")


def open_torch() -> Any:
    """Give the module `comparing._torch`; torch is imported only when it is asked for.

    Raises:
        MissingExtraError: torch is not installed.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("torch", "torch")
    return import_module("reidkit.comparing._torch")
