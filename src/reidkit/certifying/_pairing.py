"""Do two packages and a data set belong together? Asked before anything is embedded."""

from __future__ import annotations

from reidkit import scoring
from reidkit.errors import DatasetError, MismatchError
from reidkit.package import Package
from reidkit.records import Dataset


def check_pair(compiled: Package, source: Package) -> None:
    """Refuse two packages of which one was not made from the other.

    A package that does not say what it was made from, such as a file from elsewhere, is taken if
    its input contract and its vectors' length are the source's.

    Raises:
        MismatchError: another parent, another input contract, or vectors of another length.
    """
    ours, theirs = source.spec, compiled.spec
    if ours.parent_sha256 == theirs.engine.identity:
        raise MismatchError(
            f"{source.folder} was compiled from {compiled.folder}, not the other way round: swap "
            "the two"
        )
    if theirs.parent_sha256 not in (None, ours.engine.identity):
        raise MismatchError(
            f"{compiled.folder} was compiled from another package than {source.folder}: the sha256 "
            f"of its parent is {theirs.parent_sha256}, this one's is {ours.engine.identity}"
        )
    if theirs.input.sha256 != ours.input.sha256:
        raise MismatchError(
            f"{compiled.folder} and {source.folder} have different input contracts "
            f"({theirs.input.describe()}; {ours.input.describe()}): their vectors cannot be "
            "compared picture by picture"
        )
    if theirs.embedding_size != ours.embedding_size:
        raise MismatchError(
            f"{compiled.folder} gives vectors of {theirs.embedding_size} numbers, {source.folder} "
            f"of {ours.embedding_size}: they are not one network"
        )


def check_scored(dataset: Dataset) -> None:
    """Refuse a data set that gives no score; its gallery is without junk.

    Raises:
        DatasetError: query or gallery is empty.
        MismatchError: no query has its person in the gallery from another camera.
    """
    for name in ("query", "gallery"):
        if not len(dataset.split(name)):
            raise DatasetError(f"the data set has nothing to score: its {name} split is empty")
    if not scoring.find_scored(dataset.query, dataset.gallery).any():
        raise MismatchError(
            f"none of the {len(dataset.query)} queries can be scored: the gallery has nobody of "
            "them from another camera; check person and camera ids"
        )
