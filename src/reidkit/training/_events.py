"""What a training tells while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

EventKind = Literal["start", "step", "epoch", "validation", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Event:
    """How far a training is.

    Fields:
        kind: `start` once, then `step` after steps, `epoch` after each epoch, `validation` after
            each validation, and `checkpoint` when an epoch's files are written.
        epoch: the epoch it is about, from 1; of a `start` the epochs that were done before.
        epochs: of the whole training.
        step: steps done in this epoch.
        steps: of this epoch.
        values: what was measured: `loss` and `learning_rate`; `pictures_per_second`; `waiting`,
            the share of the time, 0 to 1, in which training waited for pictures; `eta_seconds`
            to the end; `seconds` that an epoch took; of a validation `mAP` and `rank1`, shares
            from 0 to 1. What is not known is missing.
    """

    kind: EventKind
    epoch: int
    epochs: int
    step: int = 0
    steps: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
