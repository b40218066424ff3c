"""What `score` and `demo` both do: embed two sides, report on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reidkit import reports, scoring
from reidkit.cli import _options, _output
from reidkit.embedding import embed, embed_into, plan_embeddings
from reidkit.errors import DatasetError
from reidkit.models import Model
from reidkit.records import JUNK, Dataset, Embeddings, Samples, Scores
from reidkit.store import EmbeddingsWriter


def embed_sides(
    model: Model, dataset: Dataset, running: _options.Running, out: Path | None
) -> tuple[Embeddings, Embeddings]:
    """Embed query and gallery, into folders below `out` where it is given.

    Junk pictures of the gallery are never scored, so they are not run through the network.
    """
    gallery = dataset.gallery.select(dataset.gallery.person_ids != JUNK)
    for name, samples in (("query", dataset.query), ("gallery", gallery)):
        if not len(samples):
            raise DatasetError(f"the data set has nothing to score: its {name} split is empty")
    return (
        embed_samples(model, dataset.query, running, out and out / "query", label="query"),
        embed_samples(model, gallery, running, out and out / "gallery", label="gallery"),
    )


def embed_samples(
    model: Model, samples: Samples, running: _options.Running, out: Path | None, *, label: str
) -> Embeddings:
    """Embed in memory, or into the resumable folder `out`, with a bar called `label`."""
    with _output.progress_bar(label) as progress:
        if out is None:
            return embed(
                model,
                samples,
                batch=running.batch,
                workers=running.workers,
                progress=progress,
                skip_unreadable=running.skip_unreadable,
            )
        plan = plan_embeddings(model, batch=running.batch)
        with EmbeddingsWriter(out, samples, plan) as writer:
            return embed_into(
                writer,
                model,
                workers=running.workers,
                progress=progress,
                skip_unreadable=running.skip_unreadable,
            )


def write_report(
    path: Path,
    scores: Scores,
    query: Embeddings,
    gallery: Embeddings,
    made_by: Mapping[str, object],
) -> None:
    """Write the HTML report of an evaluation, with its ranked lists."""
    matches = scoring.match(query, gallery, metric=scores.metric, count=reports.SHOWN_MATCHES)
    facts = {
        name.replace("_", " "): str(value)
        for name, value in made_by.items()
        if name != "unreadable"
    }
    reports.write_report(path, scores, query=query, gallery=gallery, matches=matches, facts=facts)
