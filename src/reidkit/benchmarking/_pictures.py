"""The pictures of a benchmark where none are given."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def draw_pictures() -> Iterator[list[str]]:
    """Draw about a hundred crops and give their JPEG files, which last as long as the block."""
    # Imported here because a package's process imports this file too, against the clock.
    from reidkit.datasets.drawn import draw_dataset
    from reidkit.datasets.images import find_images

    with tempfile.TemporaryDirectory(prefix="reidkit-") as folder:
        root = Path(folder) / "drawn"
        draw_dataset(root, people=4, cameras=3, workers=1)
        yield find_images([root])
