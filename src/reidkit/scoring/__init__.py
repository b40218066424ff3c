"""How well embeddings find the right people: mAP, CMC and mINP under the field's protocols.

The protocol is that of Market-1501 (Zheng et al., "Scalable Person Re-identification: A
Benchmark", ICCV 2015) unless another `Protocol` is given: junk is not in the gallery, a query
never meets its own person seen by its own camera, and every other gallery picture of its person
is a hit.

Everything is exact and done in blocks of queries: the whole query x gallery matrix never
exists. The rank of a hit is 1 + the rows in front of it. Among equal scores the row
that comes earlier in the gallery is in front, as a stable sort would have it. Equal gallery
vectors have exactly equal scores; two different vectors whose scores lie within float32 rounding
of each other may come in either order, and that may depend on the machine.
"""

from reidkit.comparing import MEMORY, METRICS, Comparison, VectorComparison
from reidkit.scoring._averaging import average_ranks, check_max_rank
from reidkit.scoring._cameras import CameraScores, score_cameras
from reidkit.scoring._evaluating import QueryScores, evaluate, score_queries
from reidkit.scoring._kin import Kin, Pairs, count_dropped, find_kin
from reidkit.scoring._matching import match
from reidkit.scoring._protocols import (
    ANY,
    CROSS_CAMERA,
    CUHK03,
    CUHK03_CLASSIC,
    MARKET1501,
    PROTOCOLS,
    VEHICLEID,
    Protocol,
)
from reidkit.scoring._ranking import Ranks, count_before, is_sorting_cheaper, rank_block
from reidkit.scoring._sides import (
    Sides,
    check_sides,
    check_sizes,
    choose_scored,
    find_scored,
    refuse_trials,
)
from reidkit.scoring._verifying import FALSE_POSITIVE_RATES, Verification, measure_pairs

__all__ = [
    "ANY",
    "CROSS_CAMERA",
    "CUHK03",
    "CUHK03_CLASSIC",
    "FALSE_POSITIVE_RATES",
    "MARKET1501",
    "MEMORY",
    "METRICS",
    "PROTOCOLS",
    "VEHICLEID",
    "CameraScores",
    "Comparison",
    "Kin",
    "Pairs",
    "Protocol",
    "QueryScores",
    "Ranks",
    "Sides",
    "VectorComparison",
    "Verification",
    "average_ranks",
    "check_max_rank",
    "check_sides",
    "check_sizes",
    "choose_scored",
    "count_before",
    "count_dropped",
    "evaluate",
    "find_kin",
    "find_scored",
    "is_sorting_cheaper",
    "match",
    "measure_pairs",
    "rank_block",
    "refuse_trials",
    "score_cameras",
    "score_queries",
]
