"""Tiny copies of the field's data sets, made of empty files, for the tests that need folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from reidkit.datasets.folders import MARKET_FOLDERS
from reidkit.datasets.veri776 import FOLDERS as VERI_FOLDERS

MSMT_LISTS = {
    "train": [
        "0000/0000_000_01_0303morning_0015_0.jpg 0",
        "0001/0001_001_14_0303noon_0015_0.jpg 1",
    ],
    "val": ["0001/0001_002_09_0303noon_0020_2.jpg 1"],
    "query": ["0000/0000_000_12_0302morning_0015_0.jpg 0"],
    "gallery": [
        "0000/0000_003_03_0302noon_0099_1.jpg 0",
        "0017/0017_001_15_0303noon_0001_0.jpg 17",
    ],
}


def touch(folder: Path, names: Iterable[str]) -> None:
    """Make empty files below a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def make_folders(root: Path, folders: dict[str, str], **names: list[str]) -> Path:
    """Make a layout of three folders."""
    for split, folder in folders.items():
        (root / folder).mkdir(parents=True)
        touch(root / folder, names[split])
    return root


def make_duke(root: Path) -> Path:
    """Make DukeMTMC-reID: training person 1, test person 5, and 7 who is never asked for."""
    return make_folders(
        root,
        dict(MARKET_FOLDERS),
        train=["0001_c2_f0046182.jpg", "0001_c2_f0046302.jpg"],
        query=["0005_c2_f0046985.jpg"],
        gallery=["0005_c1_f0044158.jpg", "0007_c8_f0001.jpg"],
    )


def make_msmt(root: Path, *, version: int = 1, **lists: list[str]) -> Path:
    """Make MSMT17; `lists` replaces the lines of some lists, whose pictures are not made."""
    training, testing = ("train", "test") if version == 1 else ("mask_train_v2", "mask_test_v2")
    for name, folder in zip(MSMT_LISTS, (training, training, testing, testing), strict=True):
        touch(root / folder, (line.split()[0] for line in MSMT_LISTS[name]))
        lines = lists.get(name, MSMT_LISTS[name])
        (root / f"list_{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


def make_numbered(root: Path) -> Path:
    """Make one half of CUHK03-NP."""
    return make_folders(
        root,
        dict(MARKET_FOLDERS),
        train=["0001_c1_1.png", "0001_c2_2.png"],
        query=["0003_c1_21.png"],
        gallery=["0003_c2_26.png", "0003_c1_22.png"],
    )


def make_unpacked(root: Path, boxes: str) -> Path:
    """Make CUHK03 as torchreid unpacks it: training people count from 0, test people do not."""
    split = {
        "train": [["/far/away/1_001_1_01.png", 0, 0], ["/far/away/2_001_2_06.png", 1, 1]],
        "query": [["C:\\far\\away\\1_002_1_02.png", 2, 0]],
        "gallery": [["/far/away/1_002_2_07.png", 2, 1], ["/far/away/5_049_1_01.png", 1467, 0]],
    }
    names = [entry[0] for part in split.values() for entry in part]
    touch(root / f"images_{boxes}", [str(n).replace("\\", "/").split("/")[-1] for n in names])
    (root / f"splits_new_{boxes}.json").write_text(json.dumps([split]))
    return root


def make_veri(root: Path) -> Path:
    """Make VeRi-776 without lists."""
    return make_folders(
        root,
        VERI_FOLDERS,
        train=["0001_c001_00016450_0.jpg", "0003_c020_00016460_0.jpg"],
        query=["0002_c002_00030600_0.jpg"],
        gallery=["0002_c002_00030600_0.jpg", "0002_c003_00084280_0.jpg"],
    )


def make_viper(root: Path, people: int = 6) -> Path:
    """Make VIPeR: people 0, 2, 4 ..."""
    touch(root / "cam_a", [f"{2 * person:03d}_45.bmp" for person in range(people)])
    touch(root / "cam_b", [f"{2 * person:03d}_90.bmp" for person in range(people)])
    return root
