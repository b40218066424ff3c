"""One run of the guide: how it is followed, and what its steps work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reidkit.ascend.guide._steps import Steps
from reidkit.errors import ArgumentError
from reidkit.package import InputSpec, Package
from reidkit.records import Dataset, Progress, Samples

NETWORK = "ReID.onnx"
"""The network's file, by the guide's name."""

Watch = Callable[[str], Progress | None]
"""Called with a step's name when it starts; may give a callback for its progress."""


@dataclass(frozen=True, slots=True)
class GuideSettings:
    """How the guide is followed.

    Fields:
        batches: batch sizes, each compiled and measured.
        files: write a file for each picture and each output, as the guide does.
        device: number of the chip, or of the GPU.
        soc_version: the chip's name for its compiler; by default it is asked for.
        architecture, last_stride, contract: as for `exporting.export_package`.
    """

    batches: tuple[int, ...] = (1, 4, 8, 16, 32, 64)
    files: bool = False
    device: int = 0
    soc_version: str | None = None
    architecture: str | None = None
    last_stride: int = 1
    contract: InputSpec = field(default_factory=InputSpec)

    def __post_init__(self) -> None:
        if not self.batches or min(self.batches) < 1:
            raise ArgumentError(f"batch sizes are {self.batches}, expected some, from 1")


@dataclass(frozen=True, slots=True)
class Guide:
    """A run of the guide: what every step works on."""

    package: Package
    dataset: Dataset
    out: Path
    settings: GuideSettings
    steps: Steps
    watch: Watch

    @property
    def pictures(self) -> Samples:
        """Query and gallery, junk left out: what the guide's tool is given."""
        sides = (self.dataset.query, self.gallery)
        return Samples.from_columns(
            [path for side in sides for path in side.paths],
            np.concatenate([side.person_ids for side in sides]),
            np.concatenate([side.camera_ids for side in sides]),
        )

    @property
    def gallery(self) -> Samples:
        """The gallery without junk."""
        return self.dataset.scored_gallery
