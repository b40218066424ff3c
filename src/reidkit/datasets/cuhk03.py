"""CUHK03 with the new protocol: 767 people to train, 700 to test, boxes labelled or detected.

Two forms of folder are in circulation, and both are read:

labeled/bounding_box_train/0001_c1_1.png    as the protocol's authors hand it out (CUHK03-NP):
labeled/query  labeled/bounding_box_test    Market-1501's folders, once labelled and once
detected/...                                detected

images_labeled/1_001_1_01.png               as torchreid unpacks `cuhk-03.mat`: camera pair 1,
splits_new_labeled.json                     person 1 of it, view 1, picture 1; the split by name
images_detected/  splits_new_detected.json

`cuhk-03.mat` itself is a MATLAB 7.3 file, which takes a library (h5py) that reidkit does without.
The protocol is that of Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
Encoding", CVPR 2017. `labeled` is the field's spelling, so the layouts have it too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from reidkit.datasets import market1501
from reidkit.datasets.folders import (
    MARKET_FOLDERS,
    SUFFIXES,
    ThreeFolders,
    check_listed,
    check_root,
    list_contents,
    list_ten,
    load_folders,
    show_names,
)
from reidkit.errors import DatasetError
from reidkit.records import Dataset, Samples

BOXES = ("labeled", "detected")
"""How the people were cut out: boxes drawn by hand, or found by a detector."""

RAW = ("cuhk-03.mat", "cuhk03_release/cuhk-03.mat")
"""Where the file as its authors publish it lies."""

PEOPLE_A_PAIR = 1000
"""Person 1 of camera pair 2 gets the number 2001: torchreid numbers training people anew."""

_UNPACKED = re.compile(r"([1-9])_(\d{3})_([12])_\d{2}\.(png|jpg)", re.ASCII)
_NUMBERED = re.compile(r"\d+_c[12]_\d+\.\w+", re.ASCII)


def load_labeled(root: Path) -> Dataset:
    """Load the pictures cut out by hand as `load_boxes` does."""
    return load_boxes(root, "labeled")


def load_detected(root: Path) -> Dataset:
    """Load the pictures cut out by a detector as `load_boxes` does."""
    return load_boxes(root, "detected")


def load_boxes(root: Path, boxes: str) -> Dataset:
    """Load the new protocol's splits; `boxes` is `labeled` or `detected`.

    `root` is the folder that holds what the module's text shows, or `labeled` or `detected`
    itself. Cameras are the two views of each pair, 1 and 2. Training people and test people have
    different numbers.

    Raises:
        DatasetError: neither form is there, files do not parse, or pictures are missing.
    """
    name = f"cuhk03-{boxes}"
    check_root(root, f"{boxes}/ or splits_new_{boxes}.json and images_{boxes}/", name)
    expected = f"PERSON_cVIEW_..., as in 0001_c1_1.png, ending in {', '.join(SUFFIXES)}"
    layout = ThreeFolders(name, MARKET_FOLDERS, market1501.parse_name, expected)
    if (root / boxes).is_dir():
        return load_folders(root / boxes, layout)
    if (root / f"splits_new_{boxes}.json").is_file():
        return _load_unpacked(root, boxes)
    if market1501.recognise(root) and root.name not in set(BOXES) - {boxes}:
        return load_folders(root, layout)
    raise DatasetError(
        f"{root} holds no CUHK03 with {boxes} boxes (layout {name}): looked for {boxes}/ with "
        f"{', '.join(MARKET_FOLDERS.values())}, or splits_new_{boxes}.json beside "
        f"images_{boxes}/; it holds {list_contents(root)}{advise_raw(root)}"
    )


def recognise(root: Path, boxes: str) -> bool:
    """Tell whether `root` holds pictures of these boxes, in either form.

    A folder that is `labeled` or `detected` itself looks like Market-1501: it counts where its
    pictures are numbered as CUHK03's are.
    """
    below = market1501.recognise(root / boxes) and _are_numbered(root / boxes)
    unpacked = (root / f"splits_new_{boxes}.json").is_file()
    named = boxes in root.absolute().name.lower().replace("labelled", "labeled")
    return below or unpacked or (named and _are_numbered(root))


def recognise_labeled(root: Path) -> bool:
    """Tell whether `root` holds pictures cut out by hand."""
    return recognise(root, "labeled")


def recognise_detected(root: Path) -> bool:
    """Tell whether `root` holds pictures cut out by a detector."""
    return recognise(root, "detected")


def advise_raw(root: Path) -> str:
    """Say what to do with `cuhk-03.mat` where it lies in `root`; else nothing."""
    raw = next((root / name for name in RAW if (root / name).is_file()), None)
    if raw is None:
        return ""
    return (
        f"; {raw} is a MATLAB 7.3 file, which reidkit does not read: unpack it once with a tool "
        "that does (torchreid's reader of cuhk03 writes images_labeled/, images_detected/ and "
        "splits_new_*.json beside it), or take the unpacked CUHK03-NP of the protocol's authors"
    )


def _are_numbered(root: Path) -> bool:
    names = show_names(root)
    return bool(names) and all(_NUMBERED.fullmatch(name) for name in names)


def _load_unpacked(root: Path, boxes: str) -> Dataset:
    """Read the pictures and the split as torchreid writes them.

    The paths in the file are those of the machine that unpacked, so only the names count; its
    person numbers start from 0 in training and are other people's in the test, so that the name
    says who it is as well.
    """
    file = root / f"splits_new_{boxes}.json"
    folder = root / f"images_{boxes}"
    if not folder.is_dir():
        raise DatasetError(f"{root} lacks {folder.name} (layout cuhk03-{boxes}) beside {file.name}")
    try:
        split = json.loads(file.read_bytes())[0]
        listed = {part: [entry[0] for entry in split[part]] for part in MARKET_FOLDERS}
    except (ValueError, LookupError, TypeError) as error:
        raise DatasetError(
            f"{file} is not the split of the new protocol: expected JSON with a list of train, "
            f"query and gallery pictures ({type(error).__name__}: {error})"
        ) from error
    splits = {part: _read_part(file, folder, paths) for part, paths in listed.items()}
    return Dataset(f"cuhk03-{boxes}", **splits)


def _read_part(file: Path, folder: Path, paths: list[object]) -> Samples:
    names = [re.split(r"[/\\]", str(path))[-1] for path in paths]
    parsed = [_UNPACKED.fullmatch(name) for name in names]
    bad = [name for name, found in zip(names, parsed, strict=True) if found is None]
    if bad:
        raise DatasetError(
            f"{len(bad)} of {len(names)} pictures in {file} have names that do not parse:"
            f"{list_ten(bad)}\nExpected PAIR_PERSON_VIEW_NUMBER.png, as in 1_001_1_01.png"
        )
    check_listed(file, folder, names)
    return Samples.from_columns(
        [str(folder / name) for name in names],
        [PEOPLE_A_PAIR * int(found[1]) + int(found[2]) for found in parsed if found],
        [int(found[3]) for found in parsed if found],
    )
