"""The values of a certificate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reidkit.benchmarking import Setting, Speed
from reidkit.errors import ArgumentError
from reidkit.records import Embeddings, Progress, Scores

FORMAT = 1
"""The number of the certificate format that this version writes."""

BATCHES = (1, 4, 8, 16, 32, 64)
"""The batch sizes that are checked and timed where the caller says nothing."""

Verdict = Literal["pass", "fail"]

Watch = Callable[[str], Progress | None]
"""Called with the name of each stage; gives the callback that shows its progress."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a compiled package may lose against its source before it fails.

    `drop_map` and `drop_rank1` are percentage points; `cosine` is the smallest cosine that any
    picture's two vectors may have, `None` for one that depends on the precision.
    """

    drop_map: float = 0.3
    drop_rank1: float = 0.3
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """How a certificate is made.

    `batches` are the batch sizes that will be used; `seconds` the time that timing takes for
    each of them. A package that takes one batch size only is checked and timed at that one.
    `work` is a folder for the vectors: a killed run goes on from it, and another certificate of
    the same source finds its vectors there.

    Raises:
        ArgumentError: a batch size is not a whole number above 0, or the time is not.
    """

    limits: Limits = field(default_factory=Limits)
    batches: tuple[int, ...] = BATCHES
    seconds: float = 2.0
    setting: Setting = field(default_factory=Setting)
    work: Path | None = None

    def __post_init__(self) -> None:
        if not self.batches or any(batch < 1 for batch in self.batches):
            raise ArgumentError(
                f"batches is {self.batches}, expected one or more whole numbers above 0"
            )
        if not (self.seconds > 0 and math.isfinite(self.seconds)):
            raise ArgumentError(f"seconds is {self.seconds}, expected a number above 0")


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition of the certificate: what was measured, its limit, and why it failed."""

    name: str
    limit: float | None
    value: float | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How alike the vectors of source and compiled package are, picture by picture.

    `cosines` (N,) float32 are those between a picture's two vectors; `largest_difference` is the
    largest |difference| of any element of any two vectors as they are compared (of unit length
    where the contract says so). `neighbour_overlap` is the share of a query's first
    `neighbours` matches that both have, mean over queries. The effective rank is exp(entropy of
    the normalised singular values) of the centred vectors (Roy and Vetterli, "The effective
    rank", EUSIPCO 2007); `pair_cosine` is the mean cosine between the vectors of two pictures
    chosen at random.
    """

    cosines: NDArray[np.float32]
    largest_difference: float
    neighbours: int
    neighbour_overlap: float
    source_rank: float
    compiled_rank: float
    source_pair_cosine: float
    compiled_pair_cosine: float


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """One batch size, run over real crops with a short last batch.

    `cosine` is the smallest between a picture's vector at this batch size and the one it has
    alone, `last_cosine` the smallest among the `last` pictures of the short last batch.
    """

    batch: int
    pictures: int
    last: int
    cosine: float
    last_cosine: float


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far one inner value of the compiled network is from the source's.

    `error` is |compiled - source| / |source - its mean over the pictures|, Euclidean, all
    pictures together: 0 is equal, about 1 is unrelated.
    """

    layer: str
    operator: str
    error: float


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where a compiled network leaves its source, or its own values at another batch size.

    `first` is the first layer in the order of the graph whose error is above `limit` (`None`
    where no layer that can be seen is); `layers` are all that were compared, in that order;
    `explanation` says it in a sentence.
    """

    first: LayerError | None
    limit: float
    layers: tuple[LayerError, ...]
    explanation: str


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The source or the compiled package: what it is, how it scores, how fast it is."""

    name: str
    sha256: str
    precision: str
    runtime: str
    device: str
    batch: int | None
    float_layers: tuple[str, ...]
    scores: Scores
    speed: Speed


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What `certify` found: does the compiled file still find the right people?

    `verdict` is `pass` where every gate passes. `data` and `versions` are label -> text;
    `warnings` are sentences that no gate stands for, such as an int8 file that is slower.
    """

    verdict: Verdict
    gates: tuple[Gate, ...]
    source: Side
    compiled: Side
    agreement: Agreement
    batches: tuple[BatchCheck, ...]
    divergence: Divergence | None
    contract: str
    contract_sha256: str
    data: Mapping[str, str]
    versions: Mapping[str, str]
    warnings: tuple[str, ...]
    date: str


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The vectors that a certificate rests on, for reports."""

    source_query: Embeddings
    source_gallery: Embeddings
    compiled_query: Embeddings
    compiled_gallery: Embeddings
