"""A gallery and the model package whose vectors it holds."""

from __future__ import annotations

from pathlib import Path

from reidkit.errors import MismatchError, PackageError
from reidkit.gallery._values import Binding
from reidkit.package import Package, read_package


def bind(package: Package) -> Binding:
    """Give the binding of vectors that a package's model makes."""
    spec = package.spec
    return Binding(
        spec.engine.identity,
        spec.input.sha256,
        spec.embedding_size,
        str(Path(package.folder).absolute()),
    )


def check_package(place: str | Path, package: Package, binding: Binding) -> None:
    """Refuse a package whose vectors are not those of a gallery.

    Raises:
        MismatchError: they are of another model, precision or input contract.
    """
    if not bind(package).same_vectors(binding):
        raise MismatchError(
            f"the vectors of {_show_place(place)} are of model {binding.model_sha256} and input "
            f"contract {binding.contract_sha256}, {package.folder} is another one: "
            f"{package.spec.engine.identity}, {package.spec.input.sha256}. Use the package it was "
            "made with, or move the gallery: reidkit gallery reembed PLACE --package PACKAGE"
        )


def find_package(place: str | Path, package: str | Path | None, binding: Binding) -> Package:
    """Read a gallery's model package; the one that its binding names, unless told otherwise.

    Raises:
        PackageError, FormatError, IntegrityError: it is not there any more, or not usable.
    """
    if package is not None:
        return read_package(package)
    try:
        return read_package(binding.package)
    except PackageError as error:
        raise PackageError(
            f"the model package of {_show_place(place)} is not at {binding.package} any more "
            f"({error}): say where it is with --package (package=...)"
        ) from error


def _show_place(place: str | Path) -> str:
    """Name a place in a message; a DSN may hold a password."""
    return "this gallery" if "://" in str(place) else str(place)
