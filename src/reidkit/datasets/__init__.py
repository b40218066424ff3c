"""Data sets on disk, one layout a file: folders of pictures become a `Dataset`.

Nothing here opens a picture; whether it can be decoded is found out when it is embedded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from reidkit.datasets import cuhk03, dukemtmc, market1501, msmt17, table, veri776, viper
from reidkit.datasets.folders import find_below
from reidkit.errors import DatasetError
from reidkit.records import Dataset

LAYOUTS: dict[str, Callable[[Path], Dataset]] = {
    "market1501": market1501.load,
    "table": table.load,
    "dukemtmc": dukemtmc.load,
    "msmt17-v1": msmt17.load_v1,
    "msmt17-v2": msmt17.load_v2,
    "cuhk03-labeled": cuhk03.load_labeled,
    "cuhk03-detected": cuhk03.load_detected,
    "veri776": veri776.load,
    "viper": viper.load,
    **{f"viper-{split}": functools.partial(viper.load, split=split) for split in range(10)},
}
"""Each layout's name and the function that reads it; `viper` is its first split, `viper-0`."""

_SIGNS: dict[str, Callable[[Path], bool]] = {
    "table": table.recognise,
    "dukemtmc": dukemtmc.recognise,
    "msmt17-v1": msmt17.recognise_v1,
    "msmt17-v2": msmt17.recognise_v2,
    "cuhk03-labeled": cuhk03.recognise_labeled,
    "cuhk03-detected": cuhk03.recognise_detected,
    "veri776": veri776.recognise,
    "viper": viper.recognise,
    "market1501": market1501.recognise,
}
"""How each layout is known."""

_LOOKED_FOR = (
    f"a CSV file, a {table.FILE}, or a folder of {market1501.LAYOUT.describe()} (market1501, "
    "dukemtmc), labeled/ or detected/ with these or splits_new_*.json (cuhk03), list_train.txt "
    f"beside train/ or mask_train_v2/ (msmt17), {veri776.LAYOUT.describe()} (veri776), or cam_a "
    "and cam_b (viper)"
)


def load_dataset(layout: str, root: str | Path) -> Dataset:
    """Load a data set of a named layout: one of `LAYOUTS`; drawn data sets are `market1501`.

    Raises:
        DatasetError: no such layout, or `root` does not hold what the layout asks for.
    """
    if layout not in LAYOUTS:
        raise DatasetError(f"unknown layout {layout!r}, expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](Path(root))


def find_layout(root: str | Path) -> str:
    """Tell the layout of what lies at `root`.

    A CSV file, or a folder that holds `dataset.csv`, is a `table`. Several sets have Market-1501's
    folders: `dukemtmc` where the names have a frame (`_f0046182`), CUHK03 where a folder called
    `labeled` or `detected` holds pictures numbered as its are, else `market1501`, which reads all
    of them.

    Raises:
        DatasetError: none, or several at once.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root} does not exist: give a data set's folder or CSV file")
    names = _recognise(root)
    if not names:
        hint = cuhk03.advise_raw(root) or find_below(root, lambda folder: bool(_recognise(folder)))
        raise DatasetError(
            f"{root} is no data set of a known layout: looked for {_LOOKED_FOR}{hint}"
        )
    if len(names) > 1:
        raise DatasetError(f"{root} could be either of {', '.join(names)}: name the layout")
    return names[0]


def _recognise(root: Path) -> list[str]:
    found = [name for name, recognise in _SIGNS.items() if recognise(root)]
    # The sets that share its folders are told by their names, and are then meant.
    shared = {"dukemtmc", "cuhk03-labeled", "cuhk03-detected"}
    if shared & set(found) and "market1501" in found:
        found.remove("market1501")
    return found
