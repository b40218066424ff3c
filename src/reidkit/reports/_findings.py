"""What a report of an evaluation may show besides its scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reidkit.errors import ArgumentError, MismatchError
from reidkit.records import Scores
from reidkit.reports._map import EmbeddingMap
from reidkit.scoring import CameraScores, QueryScores, Verification


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """An evaluation's scores and what else was measured; the page leaves out what is `None`.

    Fields:
        scores: what `scoring.evaluate` found.
        queries: what `scoring.score_queries` found: the page then shows the queries of lowest
            average precision.
        cameras: what `scoring.score_cameras` found, for a table of each pair of cameras.
        verification: what `scoring.measure_pairs` found, for the scores of pairs and the ROC.
        threshold: how an operating point is called and its score, drawn among the scores of
            pairs; a score as people read it: a cosine, or *minus* a Euclidean distance.
        embedding_map: what `project_embeddings` found.

    Raises:
        MismatchError: the parts are not of one evaluation.
        ArgumentError: the threshold's score is not finite.
    """

    scores: Scores
    queries: QueryScores | None = None
    cameras: CameraScores | None = None
    verification: Verification | None = None
    threshold: tuple[str, float] | None = None
    embedding_map: EmbeddingMap | None = None

    def __post_init__(self) -> None:
        if self.queries is not None and len(self.queries) != self.scores.queries:
            raise MismatchError(
                f"there are figures of {len(self.queries)} queries, but {self.scores.queries} "
                "were scored: give what score_queries found for the same evaluation"
            )
        if self.verification is not None:
            for name in ("metric", "protocol"):
                scored, measured = getattr(self.scores, name), getattr(self.verification, name)
                if scored != measured:
                    raise MismatchError(
                        f"the {name} of the scores is {scored}, that of the pairs {measured}: "
                        f"measure both with the same {name}"
                    )
        if self.threshold is not None and not math.isfinite(self.threshold[1]):
            raise ArgumentError(
                f"the threshold {self.threshold[0]} is {self.threshold[1]}, expected a score"
            )
