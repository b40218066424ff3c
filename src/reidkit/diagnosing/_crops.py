"""The pictures that somebody's own preprocessing is tried with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import disk, preprocess
from reidkit.datasets.drawn import draw_crops
from reidkit.package import InputSpec, Package

_LARGE = 8
_LARGEST = 1024
_SEED = 27


def write_crops(package: Package, folder: Path) -> int:
    """Write a package's reference pictures as `000.png`, `001.png` ... into a new or empty folder.

    Where these are not twice the size of the network's input, a few drawn pictures of that size
    follow them: resize functions differ most where pictures shrink, as large crops do.

    Returns:
        The number of pictures.

    Raises:
        ArgumentError: the folder holds something already.
    """
    pictures = [*package.reference().pixels]
    pictures += _draw_large(package.spec.input, pictures[0].shape[:2])
    with disk.new_folder(folder, marker="000.png") as made:
        for index, picture in enumerate(pictures):
            (made / f"{index:03}.png").write_bytes(preprocess.encode_png(picture))
    return len(pictures)


def _draw_large(contract: InputSpec, size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    height, width = (
        min(max(2 * side + 5, 16), _LARGEST) for side in (contract.height, contract.width)
    )
    if size[0] >= 2 * contract.height and size[1] >= 2 * contract.width:
        return []
    return [*draw_crops(_LARGE, height=height, width=width, seed=_SEED)]
