"""VIPeR's layout: 632 people, one picture by each of two cameras.

cam_a/000_45.bmp        person 0, seen by camera 1 (a) at 45 degrees
cam_b/000_90.bmp        person 0, seen by camera 2 (b)
splits.json             splits as torchreid writes them; read where it is

The two folders lie in the root or in `VIPeR` below it. Half of the people train and half test; the
literature averages over 10 random splits. Person 0 is a person here, as any other.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from reidkit.datasets.folders import (
    check_repeated,
    check_root,
    find_below,
    list_contents,
    list_files,
    list_ten,
)
from reidkit.errors import ArgumentError, DatasetError
from reidkit.records import Dataset, Samples

CAMERAS = {"cam_a": 1, "cam_b": 2}
"""The folder of each camera, and its number."""

SPLITS = "splits.json"
"""torchreid's file of splits."""

SEEDED_SPLITS = 10
"""How many splits there are without a file."""

_NAME = re.compile(r"(\d{1,9})_\d+\.(bmp|png|jpg)", re.ASCII | re.IGNORECASE)


def load(root: Path, split: int = 0) -> Dataset:
    """Load one split: the first half of the people trains, the others are query and gallery.

    With `splits.json` it is that file's split number `split` (torchreid writes 20: an even one
    asks camera a against b, the next one b against a, of the same people). Without it, the people
    are put in the order of the sha256 of `reidkit viper SPLIT PERSON`, which is the same on every
    machine for ever, for `split` 0 to 9; queries are camera a's.

    Raises:
        DatasetError: folders or pictures are missing, names do not parse, or a person is missing
            from one camera.
        ArgumentError: there is no split of that number.
    """
    check_root(root, ", ".join(CAMERAS), "viper")
    home = root if (root / "cam_a").is_dir() or (root / "cam_b").is_dir() else root / "VIPeR"
    missing = [name for name in CAMERAS if not (home / name).is_dir()]
    if missing:
        raise DatasetError(
            f"{root} lacks {', '.join(missing)} (layout viper): it holds "
            f"{list_contents(root)}{find_below(root, recognise)}"
        )
    pictures = {camera: _read_camera(home / name) for name, camera in CAMERAS.items()}
    _check_pairs(home, pictures)
    if (root / SPLITS).is_file():
        return _read_splits(root / SPLITS, home, pictures, split)
    if not 0 <= split < SEEDED_SPLITS:
        raise ArgumentError(f"split is {split}, expected 0 to {SEEDED_SPLITS - 1}")
    people = sorted(pictures[1], key=lambda person: _shuffle_key(split, person))
    train, test = people[: len(people) // 2], people[len(people) // 2 :]
    return Dataset(
        "viper",
        _select(pictures, [(person, camera) for person in sorted(train) for camera in (1, 2)]),
        _select(pictures, [(person, 1) for person in sorted(test)]),
        _select(pictures, [(person, 2) for person in sorted(test)]),
    )


def recognise(root: Path) -> bool:
    """Tell whether both cameras' folders are there."""
    return any(all((home / name).is_dir() for name in CAMERAS) for home in (root, root / "VIPeR"))


def _read_camera(folder: Path) -> dict[int, str]:
    """Give each person's picture."""
    names = list_files(folder)
    parsed = [_NAME.fullmatch(name) for name in names]
    bad = [name for name, found in zip(names, parsed, strict=True) if found is None]
    if bad:
        raise DatasetError(
            f"{len(bad)} of {len(names)} files in {folder} have names that do not parse:"
            f"{list_ten(bad)}\nExpected PERSON_ANGLE.bmp, as in 000_45.bmp: rename or remove them"
        )
    pictures: dict[int, str] = {}
    for name, found in zip(names, parsed, strict=True):
        person = int(found[1]) if found else -1
        if person in pictures:
            raise DatasetError(
                f"{folder} holds two pictures of person {person}: {Path(pictures[person]).name} "
                f"and {name}; VIPeR has one by each camera"
            )
        pictures[person] = f"{folder}{os.sep}{name}"
    return pictures


def _check_pairs(home: Path, pictures: dict[int, dict[int, str]]) -> None:
    single = sorted(set(pictures[1]) ^ set(pictures[2]))
    if single:
        raise DatasetError(
            f"{len(single)} people of {home} were seen by one camera only:"
            f"{list_ten([Path((pictures[1] | pictures[2])[who]).name for who in single])}\n"
            "VIPeR has a picture of each by both: unpack it again"
        )
    if len(pictures[1]) < 2:
        raise DatasetError(f"{home} holds {len(pictures[1])} people, too few to split")


def _shuffle_key(split: int, person: int) -> str:
    return hashlib.sha256(f"reidkit viper {split} {person}".encode()).hexdigest()


def _select(pictures: dict[int, dict[int, str]], chosen: list[tuple[int, int]]) -> Samples:
    return Samples.from_columns(
        [pictures[camera][person] for person, camera in chosen],
        [person for person, _ in chosen],
        [camera for _, camera in chosen],
    )


def _read_splits(
    file: Path, home: Path, pictures: dict[int, dict[int, str]], split: int
) -> Dataset:
    """Read one of torchreid's splits.

    Its paths are those of the machine that made it and its person numbers start from 0 in both
    halves: camera folder and file name alone say which picture is meant.
    """
    try:
        splits = json.loads(file.read_bytes())
        count = len(splits)
        parts = [
            [re.split(r"[/\\]", entry[0])[-2:] for entry in splits[split % count][part]]
            for part in ("train", "query", "gallery")
        ]
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise DatasetError(
            f"{file} holds no splits: expected JSON with a list of train, query and gallery "
            f"pictures ({type(error).__name__}: {error})"
        ) from error
    if not 0 <= split < count:
        raise ArgumentError(f"split is {split}, but {file} has the splits 0 to {count - 1}")
    known = {tuple(Path(path).parts[-2:]) for side in pictures.values() for path in side.values()}
    unknown = ["/".join(name) for part in parts for name in part if tuple(name) not in known]
    if unknown:
        raise DatasetError(
            f"{file} names {len(unknown)} pictures that are not in {home}:{list_ten(unknown)}"
        )
    for part in parts:
        check_repeated(file, ["/".join(name) for name in part])
    chosen = [[(int(name[1].split("_")[0]), CAMERAS[name[0]]) for name in part] for part in parts]
    return Dataset("viper", *(_select(pictures, part) for part in chosen))
