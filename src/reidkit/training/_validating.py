"""Validation: the network in training through `embed` and `evaluate`, as any other model."""

from __future__ import annotations

import numpy as np

from reidkit import scoring
from reidkit.embedding import embed
from reidkit.models import Model
from reidkit.records import JUNK, Dataset, Embeddings, Samples, Scores
from reidkit.training._distributed import Ranks

_BATCH = {"cpu": 16, "cuda": 256}
"""What goes through the network at once; on a CPU small batches stay in its caches."""


def can_validate(dataset: Dataset) -> bool:
    """Tell whether a data set has queries and a gallery to score a network on."""
    return len(dataset.query) > 0 and len(dataset.gallery) > 0


def validate(model: Model, dataset: Dataset, ranks: Ranks, *, workers: int | None) -> Scores:
    """Score a model on a data set's queries and gallery; each process embeds its share.

    Raises:
        UnreadableImagesError: naming the pictures of this process's share that cannot be decoded.
    """
    gallery = dataset.gallery.select(dataset.gallery.person_ids != JUNK)
    sides = [
        _embed_together(model, side, ranks, workers=workers) for side in (dataset.query, gallery)
    ]
    return scoring.evaluate(*sides)


def _embed_together(
    model: Model, samples: Samples, ranks: Ranks, *, workers: int | None
) -> Embeddings:
    """Embed every so-manieth picture here, and gather the rest from the other processes."""
    mine = samples.select(slice(ranks.rank, None, ranks.count))
    vectors = np.empty((0, model.spec.embedding_size), np.float32)
    if len(mine):
        batch = _BATCH[ranks.device.type]
        vectors = embed(model, mine, batch=batch, workers=workers).vectors
    parts = ranks.gather(vectors)
    if ranks.count > 1:
        vectors = np.empty((len(samples), vectors.shape[1]), np.float32)
        for rank, part in enumerate(parts):
            vectors[rank :: ranks.count] = part
    return Embeddings(vectors, samples, model.sha256, model.contract.sha256)
