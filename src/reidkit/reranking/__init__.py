"""Re-ranking in bounded memory: k-reciprocal encoding, and searching with more than one vector.

`KReciprocal` is a `Comparison`: give it to `scoring.evaluate` as `metric`. The rest makes
embeddings from embeddings before they are scored.
"""

from reidkit.reranking._expanding import (
    augment_gallery,
    average_flips,
    expand_queries,
    pool_queries,
)
from reidkit.reranking._reranking import Encoded, KReciprocal
from reidkit.reranking._variants import VARIANTS, Variant

__all__ = [
    "VARIANTS",
    "Encoded",
    "KReciprocal",
    "Variant",
    "augment_gallery",
    "average_flips",
    "expand_queries",
    "pool_queries",
]
