"""`operating-points.json`: one model's operating points on disk, beside its `model.json`."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, TypeVar

import reidkit
from reidkit import disk
from reidkit.errors import ArgumentError, FormatError, IntegrityError, MismatchError, PackageError
from reidkit.operating._points import (
    Control,
    EqualError,
    IdentificationPoint,
    OperatingPoint,
    OperatingPoints,
    Population,
    Rate,
    Unsupported,
)
from reidkit.package import Package, read_package
from reidkit.records import Embeddings

FORMAT = 1
"""The number of the format that this version writes and reads."""

FILE = "operating-points.json"

_AGAIN = "calibrate again: reidkit calibrate EMBEDDINGS --package PACKAGE"

Point = TypeVar("Point", OperatingPoint, IdentificationPoint)


def write_points(path: str | Path, points: OperatingPoints) -> None:
    """Write operating points to a file, whole or not at all; it holds its own hash.

    Missing parent folders are made.
    """
    fields = points_as_json(points)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    disk.write_json(path, fields | {"sha256": disk.sha256_json(fields)})


def check_writable(path: str | Path) -> None:
    """Refuse a file that cannot be written, before work that takes long; its folder is made.

    Raises:
        ArgumentError: the folder cannot be made or written to, or `path` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise ArgumentError(
            f"{path} is a folder: give operating points a file name, such as {FILE}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"{path} cannot be written: {error}; choose another place") from error
    if not os.access(path.parent, os.W_OK):
        raise ArgumentError(f"{path} cannot be written: {path.parent} is read-only")


def points_as_json(points: OperatingPoints) -> dict[str, object]:
    """Give the object that the file holds; rates are fractions, `euclidean` minus the distance."""
    return {"format": FORMAT, "reidkit": reidkit.__version__, **dataclasses.asdict(points)}


def read_points(path: str | Path) -> OperatingPoints:
    """Read operating points from a file.

    Raises:
        PackageError: no such file, or it is damaged.
        FormatError: it was written in another format number.
        IntegrityError: it was changed after it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise PackageError(f"{path} does not exist: there are no operating points; {_AGAIN}")
    try:
        fields = disk.read_json(path)
        number, recorded = fields["format"], fields.pop("sha256", None)
    except (ValueError, KeyError) as error:
        raise PackageError(f"{path} is damaged: {error!r}; {_AGAIN}") from error
    if number != FORMAT:
        raise FormatError(
            f"{path} has operating points of format {number}, this reidkit reads format {FORMAT}: "
            f"read it with the reidkit that wrote it, or {_AGAIN}"
        )
    if recorded != disk.sha256_json(fields):
        raise IntegrityError(f"{path} was changed after it was written; {_AGAIN}")
    try:
        return _parse(fields)
    except (KeyError, TypeError, AttributeError, ArgumentError) as error:
        raise PackageError(f"{path} is damaged: {error!r}; {_AGAIN}") from error


def check_package(folder: str | Path, embeddings: Embeddings) -> Package:
    """Refuse a model package that cannot keep what is calibrated on these embeddings.

    Raises:
        PackageError, FormatError, IntegrityError: the package is not usable.
        MismatchError: the vectors are of another model, or of another input contract.
        ArgumentError: nothing can be written there.
    """
    package = read_package(folder)
    _check_belong(embeddings, package, "these embeddings are")
    check_writable(package.folder / FILE)
    return package


def store_operating_points(folder: str | Path, points: OperatingPoints) -> Path:
    """Put operating points into a model package, beside `model.json`; older ones are replaced.

    Raises:
        PackageError, FormatError, IntegrityError: the package is not usable.
        MismatchError: the points are of another model, or of another input contract.
    """
    package = read_package(folder)
    _check_belong(points, package, "these operating points are")
    path = package.folder / FILE
    write_points(path, points)
    return path


def read_operating_points(package: str | Path | Package) -> OperatingPoints:
    """Read the operating points of a model package.

    Raises:
        PackageError, FormatError, IntegrityError: there are none, they or the package are not
            usable.
        MismatchError: they are of another engine file (another model, or another precision of
            it) or input contract: thresholds do not carry over.
    """
    if not isinstance(package, Package):
        package = read_package(package)
    path = package.folder / FILE
    points = read_points(path)
    _check_belong(points, package, f"{path} is")
    return points


def check_comparable(points: OperatingPoints, embeddings: Embeddings, metric: str) -> None:
    """Refuse operating points for vectors of another model, contract or metric.

    Raises:
        MismatchError: they are of another one: their thresholds mean nothing here.
    """
    pairs = {
        "model (sha256)": (points.model_sha256, embeddings.model_sha256),
        "input contract (sha256)": (points.contract_sha256, embeddings.contract_sha256),
        "metric": (points.metric, metric),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise MismatchError(
                f"these operating points are of another {name}: {theirs or 'unknown'}, the "
                f"vectors compared have {ours or 'unknown'}; {_AGAIN}"
            )


def _check_belong(found: OperatingPoints | Embeddings, package: Package, which: str) -> None:
    spec = package.spec
    pairs = {
        "model (sha256)": (found.model_sha256, spec.engine.identity),
        "input contract (sha256; flip averaging is part of it)": (
            found.contract_sha256,
            spec.input.sha256,
        ),
    }
    for name, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise MismatchError(
                f"{which} of another {name} than {package.folder}: {theirs or 'unknown'}, the "
                f"package has {ours}. Thresholds hold for one model, precision and "
                f"preprocessing; embed with this package and {_AGAIN}"
            )


def _parse(fields: dict[str, Any]) -> OperatingPoints:
    del fields["format"], fields["reidkit"]
    equal_error, control = fields["equal_error"], fields["control"]
    return OperatingPoints(
        **fields
        | {
            "points": tuple(_parse_point(OperatingPoint, each) for each in fields["points"]),
            "identification": tuple(
                _parse_point(IdentificationPoint, each) for each in fields["identification"]
            ),
            "unsupported": tuple(Unsupported(**each) for each in fields["unsupported"]),
            "unsupported_identification": tuple(
                Unsupported(**each) for each in fields["unsupported_identification"]
            ),
            "equal_error": EqualError(equal_error["threshold"], Rate(**equal_error["EER"])),
            "population": Population(**fields["population"]),
            "control": Control(**control) if control is not None else None,
            "notes": tuple(fields["notes"]),
        }
    )


def _parse_point(kind: type[Point], fields: dict[str, Any]) -> Point:
    rates = {name: Rate(**value) for name, value in fields.items() if isinstance(value, dict)}
    return kind(**fields | rates)
