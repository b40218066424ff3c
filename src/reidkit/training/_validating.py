"""Validation: the network in training through `embed` and `evaluate`, as any other model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from reidkit import preprocess, scoring
from reidkit.embedding import embed
from reidkit.errors import DatasetError, UnreadableImage, UnreadableImagesError
from reidkit.models import Model
from reidkit.records import Dataset, Embeddings, Samples, Scores
from reidkit.training._distributed import Ranks

_BATCH = {"cpu": 16, "cuda": 256}
"""What goes through the network at once; on a CPU small batches stay in its caches."""


def check_validation(dataset: Dataset, ranks: Ranks, *, workers: int) -> None:
    """Find what would make a validation fail, before anything is trained.

    Raises:
        UnreadableImagesError: naming every picture of query and gallery that cannot be decoded.
        DatasetError: no query has an answer in the gallery.
    """
    if not can_validate(dataset):
        return
    sides = (dataset.query, dataset.scored_gallery)
    query, gallery = (
        set(zip(side.person_ids.tolist(), side.camera_ids.tolist(), strict=True)) for side in sides
    )
    cameras: dict[int, set[int]] = {}
    for person, camera in gallery:
        cameras.setdefault(person, set()).add(camera)
    if not any(cameras.get(person, set()) - {camera} for person, camera in query):
        raise DatasetError(
            f"none of the {len(dataset.query)} queries is in the gallery under another camera: "
            "there is nothing to validate on; look at the data set with reidkit data check"
        )
    paths = [str(path) for side in sides for path in side.paths][ranks.rank :: ranks.count]
    with ThreadPoolExecutor(workers, thread_name_prefix="reidkit-checker") as pool:
        faults = zip(paths, pool.map(preprocess.find_fault, paths), strict=True)
        mine = [UnreadableImage(path, fault) for path, fault in faults if fault is not None]
    found = [image for part in ranks.gather(mine) for image in part]
    if found:
        raise UnreadableImagesError(found, sum(map(len, sides)))


def can_validate(dataset: Dataset) -> bool:
    """Tell whether a data set has queries and a gallery to score a network on."""
    return len(dataset.query) > 0 and len(dataset.gallery) > 0


def validate(model: Model, dataset: Dataset, ranks: Ranks, *, workers: int | None) -> Scores:
    """Score a model on a data set's queries and gallery.

    Each process embeds its share, and the first one scores them for all.
    """
    query, gallery = (
        _embed_together(model, side, ranks, workers=workers)
        for side in (dataset.query, dataset.scored_gallery)
    )
    mine = scoring.evaluate(query, gallery) if ranks.first else None
    scores: Scores = ranks.gather(mine)[0]
    return scores


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
