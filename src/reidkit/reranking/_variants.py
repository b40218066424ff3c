"""The k-reciprocal re-rankings in circulation, by name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Variant:
    """What sets one k-reciprocal re-ranking apart from another.

    The original distance of two vectors is their Euclidean distance to the power of `power`,
    divided by the largest of the row where `scaled`. `neighbours` is added to k1, and
    `expansion` to k2. The final distance mixes the Jaccard distance with `mixed` times the
    original one.
    """

    power: float = 2.0
    scaled: bool = True
    neighbours: int = 1
    expansion: int = 0
    mixed: float = 1.0

    def measure(
        self, squares: NDArray[np.float32], farthest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Turn squared distances into original ones; `farthest` is each row's largest.

        Overwrites and gives the squared distances.
        """
        if self.scaled:
            # All vectors equal: every distance is 0, and so is the largest.
            np.divide(squares, np.where(farthest > 0, farthest, np.float32(1)), out=squares)
        if self.power != 2:
            np.power(squares, np.float32(self.power / 2), out=squares)
        return squares


VARIANTS = {
    "strong-baseline": Variant(),
    "torchreid": Variant(power=4.0),
    "layumi": Variant(power=4.0),
    "fast-reid": Variant(scaled=False, neighbours=0, mixed=0.5),
    "boxmot": Variant(expansion=1),
    "tao": Variant(power=1.0),
}
"""Variants by the project whose published figures they go with.

- `strong-baseline`: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal
  Encoding", CVPR 2017, as its authors' code and the strong baseline compute it: squared distance.
- `torchreid`, `layumi`: square the squared distance once more.
- `fast-reid`: unscaled squared distance, k1 neighbours counting the picture itself, mixed with
  the cosine distance, which for unit vectors is half the squared one.
- `boxmot`: cosine distance, proportional to the squared one; averages over k2 + 1 neighbours
  (k2 = 1 averages nothing, as everywhere).
- `tao`: the distance itself, not squared.
"""
