"""`reidkit doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata, util

import click

import reidkit
from reidkit.cli import _options
from reidkit.machine import available_cores

_LIBRARIES = ("numpy", "pillow", "simplejpeg", "onnx", "onnxruntime", "safetensors", "torch")


@click.command("doctor", short_help="Say what works on this machine.")
@_options.common
def command(as_json: bool) -> None:
    """Say what works on this machine and what to install for the rest."""
    from reidkit.cli import _output

    report: dict[str, object] = {
        "reidkit": reidkit.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "checks": {"jpeg decoders agree": _check(_decoders_agree), "engines": _check(_engines)},
        "hints": _hints(),
    }
    if as_json:
        _output.print_json(report)
        return
    for name, value in report.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, item in value.items():
                click.echo(f"  {key:<20} {item}")
        elif isinstance(value, list):
            for item in value:
                click.echo(f"hint: {item}")
        else:
            click.echo(f"{name:<22} {value}")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _check(check: Callable[[], str]) -> str:
    """Run a check; a library that does not import is a finding, not a crash."""
    try:
        return check()
    except ImportError as error:
        return f"NO: {error}"


def _decoders_agree() -> str:
    from reidkit.preprocess import decoders_agree

    if decoders_agree():
        return "yes"
    return "NO: install the versions of pillow and simplejpeg named in constraints.txt"


def _engines() -> str:
    from reidkit.runtimes import available_devices

    engines = available_devices().items()
    return "; ".join(f"{name} on {', '.join(devices)}" for name, devices in engines)


def _hints() -> list[str]:
    hints = []
    if util.find_spec("torch") is None:
        hints.append("export other torch networks: pip install 'reidkit[torch]'")
    return hints
