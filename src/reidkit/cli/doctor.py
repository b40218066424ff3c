"""`reidkit doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path

import click

import reidkit
from reidkit.cli import _options
from reidkit.machine import available_cores

_LIBRARIES = (
    "numpy",
    "pillow",
    "simplejpeg",
    "onnx",
    "onnxruntime",
    "safetensors",
    "torch",
    "openvino",
    "nncf",
)


@click.command("doctor", short_help="Say what works here, or whose preprocessing differs.")
@click.option("--package", type=_options.FOLDER, metavar="P", help="Model package to compare with.")
@click.option("--crops", type=_options.FOLDER, metavar="DIR", help="Pictures for your own code.")
@click.option("--arrays", type=_options.FILE, metavar="X.npy", help="What your code made of them.")
@_options.common
def command(package: Path | None, crops: Path | None, arrays: Path | None, as_json: bool) -> None:
    """Say what works on this machine and what to install for the rest.

    With --package and --crops, write the package's reference pictures to the new folder DIR:
    preprocess them in name order with your own code and save the arrays with numpy.save. With
    --arrays as well, say what differs from the package's input contract (channel order, scale,
    mean and std, resize, size, axes ...) and what each difference costs; the exit code is 1 where
    something differs. DIR may also hold pictures of your own.
    """
    if package is None and crops is None and arrays is None:
        _report(as_json=as_json)
        return
    if package is None or crops is None:
        missing = "--package P" if package is None else "--crops DIR"
        raise click.UsageError(f"{missing} is missing")
    from reidkit.cli import _diagnosis

    if arrays is None:
        _diagnosis.write_pictures(package, crops, as_json=as_json)
    else:
        _diagnosis.print_diagnosis(package, crops, arrays, as_json=as_json)


def _report(*, as_json: bool) -> None:
    """Print what works here."""
    from reidkit.cli import _output

    report: dict[str, object] = {
        "reidkit": reidkit.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "checks": {"jpeg decoders agree": _check(_decoders_agree), "engines": _check(_engines)},
        "targets": _targets(),
        "hints": _hints(),
    }
    if as_json:
        _output.print_json(report)
        return
    for name, value in report.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, item in value.items():
                click.echo(f"  {key:<20} {_say_target(item) if name == 'targets' else item}")
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
    except (ImportError, OSError, RuntimeError) as error:
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


def _targets() -> dict[str, dict[str, object]]:
    """Give, for each target of `reidkit compile`, what works here and what the rest needs."""
    from reidkit.compiling import supported_targets

    return {
        name: {"precisions": list(support.precisions), "hint": support.hint}
        for name, support in supported_targets().items()
    }


def _say_target(target: dict[str, object]) -> str:
    precisions, hint = target["precisions"], target["hint"]
    works = ", ".join(precisions) if isinstance(precisions, list) else ""
    return "; ".join(part for part in (works or "not here", str(hint)) if part)


def _hints() -> list[str]:
    hints = []
    if util.find_spec("torch") is None:
        hints.append("export other torch networks: pip install 'reidkit[torch]'")
    return hints
