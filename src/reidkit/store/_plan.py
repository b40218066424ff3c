"""What determines the vectors of a folder, and how an error names what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from reidkit.store._shards import Cut

OTHER_PICTURES = "other pictures or ids"

DIFFERENCES = {
    "model_sha256": "another model",
    "contract_sha256": "another input contract",
    "dimension": "another vector length",
    "batch": "another batch size",
    "runtime": "another runtime",
    "device": "another device",
    "samples_sha256": OTHER_PICTURES,
}
"""How an error names what differs between a folder's plan and the one at hand."""

_WHOLE = "the whole run"


@dataclass(frozen=True, slots=True)
class Plan:
    """What determines the bytes of the vectors, besides the pictures.

    `batch`, `runtime` and `device` belong to it because an engine may round differently at
    another batch size or on another device, and a resumed run promises the bytes of an unbroken
    one.
    """

    model_sha256: str
    contract_sha256: str
    dimension: int
    batch: int
    runtime: str
    device: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Which vectors a folder holds: its plan, its pictures, and what it was cut from if anything.

    `samples_sha256` is the fingerprint of the folder's own pictures.
    """

    plan: Plan
    samples_sha256: str
    cut: Cut | None = None

    def as_json(self) -> dict[str, object]:
        """Give the plan and the pictures, as `plan.json` and the manifest hold them."""
        return asdict(self.plan) | {"samples_sha256": self.samples_sha256}

    def find_difference(self, found: Mapping[str, object], cut: Cut | None) -> str | None:
        """Say what differs first from a folder with these values and cut, if anything does."""
        if problem := find_difference(asdict(self.plan), found):
            return problem
        ours, theirs = (value and value.shard for value in (self.cut, cut))
        if theirs != ours:
            return f"another shard ({theirs or _WHOLE}, not {ours or _WHOLE})"
        return OTHER_PICTURES if cut != self.cut else find_difference(self.as_json(), found)


def find_difference(expected: Mapping[str, object], found: Mapping[str, object]) -> str | None:
    """Say which of the expected values differs first from the one found, if any does."""
    for name, value in expected.items():
        if found.get(name) != value:
            shown = "" if "sha256" in name else f" ({found.get(name)}, not {value})"
            return f"{DIFFERENCES[name]}{shown}"
    return None
