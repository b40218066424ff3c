"""OpenVINO without its telemetry.

Merely importing `openvino` sends an event to its maker, unless the user opted out before, and so
does every conversion. Nothing that reidkit does may tell anybody about its user, so the library
is imported as if the package that sends the events were not installed; it has a stub of its own
for that case. A program that imported openvino itself, before reidkit did, has sent its event
already; reidkit then calls nothing that sends another.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reidkit import disk
from reidkit.errors import EngineError, MissingExtraError

_SENDER = "openvino_telemetry"
_COUNTED = re.compile(r"(.*/)?[A-Z][A-Za-z0-9]*_\d+")
_NOISE = ("Exception from ", "Check '", "FrontEnd API failed with ")


def import_openvino() -> Any:
    """Import openvino.

    Raises:
        MissingExtraError: it is not installed.
    """
    with without_telemetry():
        try:
            import openvino
        except ModuleNotFoundError as error:
            raise MissingExtraError("openvino", "openvino") from error
    return openvino


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Let whatever is imported inside the block find no telemetry package."""
    missing = object()
    before = sys.modules.get(_SENDER, missing)
    sys.modules[_SENDER] = None  # type: ignore[assignment]  # the way to forbid an import
    try:
        yield
    finally:
        if before is missing:
            del sys.modules[_SENDER]
        else:
            sys.modules[_SENDER] = before  # type: ignore[assignment]


def read_model(file: Path) -> Any:
    """Read an OpenVINO IR (`.xml`, with its `.bin` beside it) or an ONNX file.

    Only the reader of that one format is asked: openvino's own choice tries every reader it has,
    and some of them write their complaints to the terminal.

    Raises:
        MissingExtraError: openvino is not installed.
        EngineError: the file is missing, damaged, or holds what this openvino does not know.
    """
    import_openvino()
    from openvino.frontend import FrontEndManager

    try:
        reader = FrontEndManager().load_by_framework("ir" if file.suffix == ".xml" else "onnx")
        return reader.convert(reader.load(str(file)))
    except Exception as error:  # openvino raises several unrelated types
        raise EngineError(f"openvino does not read {file}: {explain(error)}") from error


def explain(error: Exception) -> str:
    """Give what openvino says went wrong, without where in its own source code it noticed."""
    lines = [line.strip() for line in str(error).splitlines()]
    kept = [line for line in lines if line and not line.startswith(_NOISE)]
    return " ".join(kept) or str(error) or type(error).__name__


def write_model(model: Any, file: Path) -> dict[str, str]:
    """Write a model as an IR, the same bytes for the same model; gives each file's sha256 by name.

    Names that openvino counted up, the versions and settings of tools, and paths are left out:
    they differ from run to run, or tell on the machine. The weights are written as they are.
    """
    model.set_friendly_name("network")
    for key in list(model.rt_info):
        del model.rt_info[key]
    for place, operation in enumerate(model.get_ordered_ops()):
        notes = operation.get_rt_info()
        for key in [key for key in notes if key.startswith("fused_names")]:
            del notes[key]
        if _is_counted(operation):
            operation.set_friendly_name(f"{operation.get_type_name()}.{place}")
    weights = file.with_suffix(".bin")
    import_openvino().serialize(model, str(file), str(weights))
    return {path.name: disk.sha256_file(path) for path in (file, weights)}


def _is_counted(operation: Any) -> bool:
    """Say whether an operation's name is a number that openvino gave it, and nobody else's."""
    named = any(port.get_names() for port in operation.outputs())
    return not named and _COUNTED.fullmatch(operation.get_friendly_name()) is not None
