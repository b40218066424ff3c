"""The values of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One knob of the preprocessing that is set otherwise than the contract says.

    `cosine` and `mean_cosine` are the smallest and the mean cosine between each picture's right
    vector and the one it gets when this knob alone is wrong; `None` where the engine refuses
    such arrays or gives no finite vectors for them, so that the mistake cannot stay unnoticed.
    """

    knob: str
    expected: str
    found: str
    cosine: float | None
    mean_cosine: float | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What somebody's preprocessing does, beside what the package's contract asks for.

    `findings` are the knobs that differ, the most harmful first; there are none where the arrays
    agree. `explained` says how well they account for the arrays: what remains, as a root mean
    square in levels of 0 to 255. `cosine` is the smallest between the vectors of the arrays as
    they are and the right ones (`None` where the engine refuses the arrays), `difference` the
    largest |element - right element| (`None` where the shapes differ). An array whose axes alone
    are in another order is compared after they were put right. `notes` are remarks for people.
    """

    agrees: bool
    findings: tuple[Finding, ...]
    cosine: float | None
    difference: float | None
    explained: float
    pictures: int
    notes: tuple[str, ...] = ()
