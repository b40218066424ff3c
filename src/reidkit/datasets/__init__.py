"""Data sets on disk, one layout a file: folders of pictures become a `Dataset`.

Nothing here opens a picture; whether it can be decoded is found out when it is embedded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from reidkit.datasets import market1501, table
from reidkit.errors import DatasetError
from reidkit.records import Dataset

LAYOUTS: dict[str, Callable[[Path], Dataset]] = {
    "market1501": market1501.load,
    "table": table.load,
}
"""Each layout's name and the function that reads it."""


def load_dataset(layout: str, root: str | Path) -> Dataset:
    """Load a data set of a named layout: `market1501` (drawn data sets too) or `table`.

    Raises:
        DatasetError: no such layout, or `root` does not hold what the layout asks for.
    """
    if layout not in LAYOUTS:
        raise DatasetError(f"unknown layout {layout!r}, expected one of {', '.join(LAYOUTS)}")
    return LAYOUTS[layout](Path(root))


def find_layout(root: str | Path) -> str:
    """Tell the layout of what lies at `root`.

    A CSV file, or a folder that holds `dataset.csv`, is a `table`; a folder with any of the
    Market-1501 split folders is `market1501`.

    Raises:
        DatasetError: neither, or both at once.
    """
    root = Path(root)
    if not root.exists():
        raise DatasetError(f"{root} does not exist: give a data set's folder or CSV file")
    if root.is_file() and root.suffix.lower() == ".csv":
        return "table"
    found = {
        "table": (root / table.FILE).is_file(),
        "market1501": any((root / folder).is_dir() for folder in market1501.FOLDERS.values()),
    }
    names = [name for name, present in found.items() if present]
    looked_for = f"a CSV file, a {table.FILE}, or a folder of {market1501.list_folders()}"
    if not names:
        hint = market1501.find_below(root)
        raise DatasetError(
            f"{root} is no data set of a known layout: looked for {looked_for}{hint}"
        )
    if len(names) > 1:
        raise DatasetError(f"{root} could be either of {', '.join(names)}: name the layout")
    return names[0]
