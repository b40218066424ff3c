"""What is scored: which pictures, and the hashes of their files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from reidkit import disk
from reidkit.compiling import read_calibration
from reidkit.package import Package
from reidkit.records import Dataset


def leave_out_junk(dataset: Dataset) -> Dataset:
    """Give the data set without the junk of its gallery, which no score counts."""
    return dataclasses.replace(dataset, gallery=dataset.scored_gallery)


def hash_pictures(dataset: Dataset) -> dict[str, str]:
    """Give the sha256 of the bytes of every picture of query and gallery, by its path."""
    paths = (*dataset.query.paths, *dataset.gallery.paths)
    return {path: disk.sha256_file(Path(path)) for path in dict.fromkeys(paths)}


def describe_data(dataset: Dataset, hashes: Mapping[str, str]) -> Mapping[str, str]:
    """Say what was scored; `dataset` is without junk, `hashes` are those of its pictures."""
    return {
        "layout": dataset.name,
        "sha256": fingerprint(dataset, hashes),
        "queries": str(len(dataset.query)),
        "gallery": str(len(dataset.gallery)),
        "people": str(len(np.unique(dataset.query.person_ids))),
    }


def fingerprint(dataset: Dataset, hashes: Mapping[str, str]) -> str:
    """Give one sha256 of what is scored: every picture's bytes with its person and camera.

    Where the pictures lie and what they are called does not matter, their order does.
    """
    rows = [
        [split, hashes[path], int(person), int(camera)]
        for split, samples in (("query", dataset.query), ("gallery", dataset.gallery))
        for path, person, camera in zip(
            samples.paths, samples.person_ids, samples.camera_ids, strict=True
        )
    ]
    return disk.sha256_json(rows)


def count_calibrated(compiled: Package, hashes: Mapping[str, str]) -> int:
    """Count the scored pictures that calibrated a compiled package."""
    calibrated = read_calibration(compiled.folder)
    return sum(sha256 in calibrated for sha256 in hashes.values())
