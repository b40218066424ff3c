"""What `reidkit doctor --package` does and prints."""

from __future__ import annotations

import dataclasses
import sys
import zipfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess
from reidkit.cli import _output
from reidkit.datasets.images import find_images
from reidkit.diagnosing import Diagnosis, diagnose, write_crops
from reidkit.errors import ArgumentError
from reidkit.models import load_model
from reidkit.package import read_package

_DIFFERS = 1


def write_pictures(package: Path, folder: Path, *, as_json: bool) -> None:
    """Write the pictures that somebody's code is to preprocess, and say what to do with them."""
    read = read_package(package)
    count = write_crops(read, folder)
    contract = read.spec.input
    if as_json:
        facts = {"package": str(package), "crops": str(folder), "pictures": count}
        _output.print_json(facts | {"contract": dataclasses.asdict(contract)})
        return
    shown = click.format_filename(folder)
    click.echo(f"{count} pictures in {shown}: 000.png to {count - 1:03}.png")
    click.echo(f"input contract: {contract.describe()}")
    click.echo(
        "Preprocess them in name order with your own code, save the result with "
        'numpy.save("x.npy", arrays), and run again with --arrays x.npy'
    )


def print_diagnosis(package: Path, folder: Path, arrays: Path, *, as_json: bool) -> None:
    """Diagnose arrays, print what differs, and end with 1 where something does."""
    values = _read_arrays(arrays)
    crops = [preprocess.decode(path) for path in find_images([folder])]
    with load_model(package) as model:
        diagnosis = diagnose(model, crops, values)
    if as_json:
        facts = {"package": str(package), "crops": str(folder), "arrays": str(arrays)}
        _output.print_json(facts | dataclasses.asdict(diagnosis))
    else:
        _print_text(diagnosis)
    if not diagnosis.agrees:
        sys.exit(_DIFFERS)


def _read_arrays(path: Path) -> NDArray[Any]:
    """Read one array that `numpy.save` wrote."""
    try:
        values = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ArgumentError(
            f"{path} is not an array of numbers: save it with numpy.save ({error})"
        ) from error
    if not isinstance(values, np.ndarray):
        values.close()
        raise ArgumentError(f"{path} holds several arrays (.npz): save one with numpy.save")
    return values


def _print_text(diagnosis: Diagnosis) -> None:
    if diagnosis.agrees:
        click.echo(f"{diagnosis.pictures} pictures: the arrays agree with the input contract")
    else:
        count = len(diagnosis.findings)
        knobs = "1 knob differs" if count == 1 else f"{count} knobs differ"
        click.echo(f"{diagnosis.pictures} pictures: {knobs} from the input contract")
    for finding in diagnosis.findings:
        click.echo(f"\n{finding.knob}: {_say_cost(finding.cosine, finding.mean_cosine)}")
        click.echo(f"  expected  {finding.expected}")
        click.echo(f"  found     {finding.found}")
    click.echo("")
    if diagnosis.cosine is None:
        click.echo("The engine refuses the arrays as they are.")
    else:
        click.echo(f"All together: smallest cosine with the right vectors {diagnosis.cosine:.6f}")
    if diagnosis.difference is not None:
        click.echo(f"Largest difference of an input element: {diagnosis.difference:.6g}")
    click.echo(f"Left unexplained: {diagnosis.explained:.2g} levels of 0 to 255")
    for note in diagnosis.notes:
        click.echo(f"note: {note}")


def _say_cost(cosine: float | None, mean: float | None) -> str:
    if cosine is None or mean is None:
        return "the engine refuses such arrays"
    return f"alone it takes the cosine down to {cosine:.4f}, {mean:.4f} on average"
