"""What `score` and `demo` both do: embed two sides, report on them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reidkit import reports, scoring
from reidkit.cli import _options, _output
from reidkit.embedding import embed, embed_into, plan_embeddings
from reidkit.models import Model
from reidkit.records import JUNK, Dataset, Embeddings, Samples, Scores
from reidkit.store import EmbeddingsWriter

_MATCHES_SHOWN = 10


def embed_sides(
    model: Model, dataset: Dataset, running: _options.Running, out: Path | None
) -> tuple[Embeddings, Embeddings]:
    """Embed query and gallery, into folders below `out` where it is given.

    Junk pictures of the gallery are never scored, so they are not run through the network.
    """
    gallery = dataset.gallery.select(dataset.gallery.person_ids != JUNK)
    return (
        _embed_side(model, "query", dataset.query, running, out),
        _embed_side(model, "gallery", gallery, running, out),
    )


def _embed_side(
    model: Model, name: str, samples: Samples, running: _options.Running, out: Path | None
) -> Embeddings:
    with _output.progress_bar(name) as progress:
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
        with EmbeddingsWriter(out / name, samples, plan) as writer:
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
    matches = scoring.match(query, gallery, metric=scores.metric, count=_MATCHES_SHOWN)
    facts = {
        name.replace("_", " "): str(value)
        for name, value in made_by.items()
        if name != "unreadable"
    }
    reports.write_report(path, scores, query=query, gallery=gallery, matches=matches, facts=facts)
