"""The training split as training needs it: people numbered from 0, and what identifies it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import DatasetError
from reidkit.records import JUNK, Dataset, Samples

_FEWEST = 2


def label_people(dataset: Dataset) -> tuple[Samples, NDArray[np.int64]]:
    """Give the pictures to train on and their labels (N,) int64, 0 to the number of people - 1.

    Labels are in the order of the person ids; junk is left out.

    Raises:
        DatasetError: fewer than two people.
    """
    samples = dataset.train.select(dataset.train.person_ids != JUNK)
    people, labels = np.unique(samples.person_ids, return_inverse=True)
    if len(people) < _FEWEST:
        raise DatasetError(
            f"the training split has {len(samples)} pictures of {len(people)} people, expected "
            "at least 2 people: look at the data set with reidkit data check"
        )
    return samples, labels.astype(np.int64)


def describe_data(dataset: Dataset, samples: Samples, classes: int) -> dict[str, str | int]:
    """Say what a run is trained on: `root`, `layout`, `pictures`, `people`, `fingerprint`.

    The fingerprint is over the names of the pictures of all three splits and who is on them,
    wherever they lie. `samples` are those of `label_people`, of so many `classes`.
    """
    columns = [
        [
            [Path(path).name for path in side.paths],
            side.person_ids.tolist(),
            side.camera_ids.tolist(),
        ]
        for side in (samples, dataset.query, dataset.gallery)
    ]
    return {
        "root": _find_root([str(Path(path).parent) for path in samples.paths]),
        "layout": dataset.name,
        "pictures": len(samples),
        "people": classes,
        "fingerprint": disk.sha256_json(columns),
    }


def _find_root(folders: list[str]) -> str:
    """Give the folder that holds all of them, the first one where there is none."""
    try:
        return os.path.commonpath(folders)
    except ValueError:  # some are relative, or they lie on several drives
        return folders[0]
