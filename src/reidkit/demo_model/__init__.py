"""A small network of our own, for demonstrations and trials: it knows drawn people, not real ones.

    recipe.toml                how it was trained, for `reidkit train --config`
    demonstration.safetensors  its state dict, without the classifier
    card.json                  on what it was trained, for how long, and how well it does

`benchmarks/demo_model.py` makes all of it anew. It has learnt to find *drawn* people again, by
`reidkit draw`. It is of no use for pictures of real people, and may not be used for them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reidkit import disk

FOLDER = Path(__file__).parent
RECIPE = FOLDER / "recipe.toml"
CHECKPOINT = FOLDER / "demonstration.safetensors"
CARD = FOLDER / "card.json"


def read_card() -> dict[str, Any]:
    """Read what is known of the network: `data`, `training` and `scores`.

    Scores are mAP and Rank-1, shares from 0 to 1, on people that it never saw.
    """
    return disk.read_json(CARD)
