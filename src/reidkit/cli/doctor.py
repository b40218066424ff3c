"""`reidkit doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from importlib import metadata, util

import click

import reidkit
from reidkit.cli import _options

_LIBRARIES = ("numpy", "pillow", "simplejpeg", "onnx", "onnxruntime", "safetensors", "torch")


@click.command(short_help="Say what works on this machine.")
@_options.common
def doctor(as_json: bool) -> None:
    """Say what works on this machine and what to install for the rest."""
    from reidkit.cli import _output

    report: dict[str, object] = {
        "reidkit": reidkit.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "checks": {"jpeg decoders agree": _decoders_agree(), "engines": _engines()},
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


def _decoders_agree() -> str:
    from reidkit.preprocess import decoders_agree

    if decoders_agree():
        return "yes"
    return "NO: install the versions of pillow and simplejpeg named in constraints.txt"


def _engines() -> str:
    from reidkit.runtimes import available_devices

    return "; ".join(
        f"{name} on {', '.join(devices)}" for name, devices in available_devices().items()
    )


def _hints() -> list[str]:
    hints = []
    if util.find_spec("torch") is None:
        hints.append("export other torch networks: pip install 'reidkit[torch]'")
    return hints
