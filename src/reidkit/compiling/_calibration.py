"""Which pictures calibrate: those of a training split, never those that are scored later."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import disk, preprocess
from reidkit.datasets import find_layout, load_dataset
from reidkit.datasets.images import find_images
from reidkit.errors import CalibrationError, DatasetError, FormatError, ImageError
from reidkit.package import CALIBRATION, InputSpec
from reidkit.records import JUNK, Dataset

MINIMUM = 32
"""Fewer pictures do not show an activation's range."""

DEFAULT_COUNT = 192
FORMAT = 1

_SCORED_NAMES = frozenset(
    {"query", "gallery", "probe", "val", "test", "bounding_box_test"}
    | {"gt_query", "gt_bbox", "image_query", "image_test"}
)
"""Folders whose pictures are scored, as the field names them."""

_WHY = (
    "int8 ranges that were fitted to the pictures a package is scored on would flatter its scores: "
    "calibrate with pictures of the training split"
)


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationSet:
    """N pictures that calibrate, and others that check what came of it.

    `pictures` (N,) calibrate, `held_out` (M,) do not; both are of the training split. `hashes`
    are the sha256 of the files of `pictures`. `find_calibration` and `calibration_of` make one.
    """

    pictures: tuple[str, ...]
    held_out: tuple[str, ...]
    hashes: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.pictures or len(self.hashes) != len(self.pictures) or len(self.held_out) < 2:
            raise CalibrationError(
                f"{len(self.pictures)} pictures with {len(self.hashes)} hashes calibrate and "
                f"{len(self.held_out)} are held out, expected some, as many, and at least 2"
            )

    def load(self, contract: InputSpec) -> NDArray[np.float32]:
        """Give the pictures as network inputs, (N, 3, H, W) float32.

        Raises:
            ImageError: a picture cannot be decoded.
        """
        return preprocess.load_batch(self.pictures, contract).astype(np.float32, copy=False)

    def write(self, folder: Path) -> str:
        """Write `calibration.json` into a package in the making; gives its sha256.

        It names each picture by its file name and the hash of its bytes, so that certification
        can tell whether any of them is scored.
        """
        named = zip(self.pictures, self.hashes, strict=True)
        pictures = [{"name": Path(path).name, "sha256": sha256} for path, sha256 in named]
        disk.write_json(folder / CALIBRATION, {"format": FORMAT, "pictures": pictures})
        return disk.sha256_file(folder / CALIBRATION)


def read_calibration(folder: Path) -> frozenset[str]:
    """Give the sha256 of every picture that calibrated a package; empty where none did.

    Raises:
        CalibrationError: `calibration.json` is damaged.
        FormatError: it was written in another format number.
    """
    path = folder / CALIBRATION
    if not path.exists():
        return frozenset()
    try:
        fields = disk.read_json(path)
        number = fields["format"]
        hashes = frozenset(str(picture["sha256"]) for picture in fields["pictures"])
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationError(
            f"{path} is damaged: {error!r}; compile the package again"
        ) from error
    if number != FORMAT:
        raise FormatError(
            f"{path} has calibration format {number}, this reidkit reads format {FORMAT}: read it "
            "with the reidkit that wrote it, or compile the package again"
        )
    return hashes


def find_calibration(
    folder: str | Path, *, layout: str | None = None, count: int = DEFAULT_COUNT
) -> CalibrationSet:
    """Choose pictures that calibrate: `count` of a training split, the same ones every time.

    `folder` is a data set, of which the training split is taken, or a folder of training
    pictures. A quarter more are held out to check the result.

    Raises:
        CalibrationError: the folder holds pictures that are scored (query, gallery), or fewer
            than 32 that may be used.
        DatasetError: there is no such folder, or not what `layout` asks for.
    """
    folder = Path(folder)
    if layout is None and (layout := _layout_of(folder)) is None:
        return _choose(_loose_paths(folder), count, str(folder))
    return _choose_of(load_dataset(layout, folder), count, str(folder))


def calibration_of(dataset: Dataset, *, count: int = DEFAULT_COUNT) -> CalibrationSet:
    """Choose pictures that calibrate from a loaded data set's training split.

    Raises:
        CalibrationError: fewer than 32 that may be used, or some that are scored as well.
    """
    return _choose_of(dataset, count, f"the data set ({dataset.name})")


def _layout_of(folder: Path) -> str | None:
    """Tell a data set's layout; `None` for a folder that is none."""
    if not folder.exists():
        raise DatasetError(f"{folder} does not exist: give a data set or a folder of pictures")
    try:
        return find_layout(folder)
    except DatasetError:
        return None


def _choose_of(dataset: Dataset, count: int, where: str) -> CalibrationSet:
    train = dataset.train
    if not len(train):
        raise CalibrationError(f"{where} has no training pictures: {_WHY}")
    chosen = _choose(train.paths[train.person_ids != JUNK].tolist(), count, where)
    _refuse_scored([*chosen.pictures, *chosen.held_out], dataset, where)
    return chosen


def _loose_paths(folder: Path) -> list[str]:
    """List the pictures of a folder that is no data set, unless some belong to a scored split."""
    paths = find_images([folder])
    inside = {part for path in paths for part in Path(path).relative_to(folder).parts[:-1]}
    for name in (folder.absolute().name, folder.resolve().name, *sorted(inside)):
        if name.lower() in _SCORED_NAMES:
            where = f"{folder} is" if name not in inside else f"{folder} holds"
            raise CalibrationError(f"{where} a {name} folder: {_WHY}")
    parents = folder.resolve().parents
    for root in parents[:2]:
        layout = _layout_of(root)
        if layout is not None and (dataset := _load_if_whole(layout, root)) is not None:
            _refuse_scored(paths, dataset, str(folder))
    return paths


def _load_if_whole(layout: str, root: Path) -> Dataset | None:
    try:
        return load_dataset(layout, root)
    except DatasetError:
        return None  # what only surrounds the pictures need not be in order


def _refuse_scored(paths: list[str], dataset: Dataset, where: str) -> None:
    """Refuse pictures of a query or gallery split: the same files, or copies of them."""
    scored = [str(path) for split in (dataset.query, dataset.gallery) for path in split.paths]
    places = {os.path.realpath(path) for path in scored}
    sizes = _group_by_size(scored)
    for path in paths:
        if os.path.realpath(path) in places:
            raise CalibrationError(f"{path} of {where} is a query or gallery picture: {_WHY}")
    # Only files of one size can be equal, so that most are never read.
    for size, own in _group_by_size(paths).items():
        hashes = {disk.sha256_file(Path(path)): path for path in sizes.get(size, ())}
        for path in own if hashes else ():
            if (original := hashes.get(disk.sha256_file(Path(path)))) is not None:
                raise CalibrationError(
                    f"{path} of {where} is a copy of {original}, a query or gallery picture: {_WHY}"
                )


def _group_by_size(paths: list[str]) -> dict[int, list[str]]:
    groups: dict[int, list[str]] = {}
    for path in paths:
        if Path(path).is_file():
            groups.setdefault(Path(path).stat().st_size, []).append(path)
    return groups


def _choose(paths: list[str], count: int, where: str) -> CalibrationSet:
    """Choose at random, the same ones every time; a quarter as many again are held out."""
    if len(paths) < MINIMUM:
        raise CalibrationError(
            f"{where} has {len(paths)} training pictures, calibration needs at least {MINIMUM}: "
            "a few hundred of many people and all cameras are usual"
        )
    wanted = max(MINIMUM, count)
    order = np.random.default_rng(0).permutation(len(paths))
    # With few pictures a fifth of them is held out, and the rest calibrates.
    used = min(wanted, len(paths) - len(paths) // 5)
    held = order[used : used + max(MINIMUM // 4, wanted // 4)]
    pictures = tuple(paths[row] for row in np.sort(order[:used]))
    return CalibrationSet(
        pictures, tuple(paths[row] for row in np.sort(held)), tuple(map(_hash, pictures))
    )


def _hash(path: str) -> str:
    try:
        return disk.sha256_file(Path(path))
    except OSError as error:
        raise ImageError(path, error.strerror or str(error)) from error
