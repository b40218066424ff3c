"""`reidkit evaluate`: two sides of embeddings -> scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reidkit.cli import _engine, _findings, _options, _ranking

if TYPE_CHECKING:
    from reidkit.distributed import Cluster, DataSet
    from reidkit.records import Embeddings, Scores


def _side(text: str) -> str:
    """Refuse a file: a side is a folder or a URI."""
    if "://" not in text:
        _options.FOLDER.convert(text, None, None)
    return text


@click.command("evaluate", short_help="Embeddings of two sides to scores.")
@click.argument("query", type=_side)
@click.argument("gallery", type=_side)
@_ranking.ranking
@_engine.engine_options
@_findings.looking
@_options.common
def command(
    query: str,
    gallery: str,
    ranking: _ranking.Ranking,
    engine: _engine.Engine,
    looking: _findings.Looking,
    as_json: bool,
) -> None:
    """Score the embeddings QUERY against the embeddings GALLERY.

    Each is an embeddings folder or data set, which may be a URI. A GALLERY larger than memory is
    read where it is used. Single-shot protocols give scores alone: of each trial's lists there is
    no single one to show.

    With --engine ray tasks on a cluster score the parts of GALLERY, at most --actors at once, each
    in --memory. What needs all of a data set reads it into memory: --pairs, --cameras, --queries,
    --report, and without --engine --rerank, --expand, --augment, --rank-device and single-shot
    protocols.
    """
    from reidkit.cli import _output, _pipeline
    from reidkit.records import Embeddings

    cluster = engine.cluster() if engine.engine else None
    if cluster is not None and (refused := ranking.list_whole()):
        raise click.UsageError(f"{' and '.join(refused)}: not together with --engine ray")
    asked, given = _collect(_open(query)), _open(gallery)
    looking.check(ranking, asked)
    looked = looking != _findings.Looking()
    if cluster is None and (looked or ranking.needs_whole()):
        given = _collect(given)
    if cluster is None and isinstance(given, Embeddings):
        asked, given = ranking.prepare(asked, given)
        scores = ranking.evaluate(asked, given)
    else:
        asked = ranking.pool_queries(asked)
        scores = _score_parts(asked, given, ranking, cluster)
    whole = _collect(given) if looked else _describe(given)
    names = {"query": _name(query), "gallery": _name(gallery)}
    made_by = _output.made_by(asked, whole) | ranking.describe() | names
    scored = _pipeline.Scored(scores, asked, whole, " against ".join(names.values()), made_by)
    looking.present(scored, ranking, as_json=as_json)


def _open(text: str) -> Embeddings | DataSet:
    """Open a side, whose vectors stay where they are."""
    from reidkit import distributed, store

    if distributed.is_data_set(text):
        return distributed.open_data_set(text)
    return store.read_embeddings(text, mapped=True)


def _collect(side: Embeddings | DataSet) -> Embeddings:
    """Read a data set into memory."""
    from reidkit.records import Embeddings

    return side if isinstance(side, Embeddings) else side.collect()


def _describe(side: Embeddings | DataSet) -> Embeddings:
    """Give a data set's facts, without its rows: no one looks at them."""
    from reidkit import distributed
    from reidkit.records import Embeddings

    if isinstance(side, Embeddings):
        return side
    unreadable = tuple(side.list_unreadable())
    return dataclasses.replace(distributed.describe_side(side), unreadable=unreadable)


def _score_parts(
    query: Embeddings,
    gallery: Embeddings | DataSet,
    ranking: _ranking.Ranking,
    cluster: Cluster | None,
) -> Scores:
    from reidkit.distributed import CutEmbeddings
    from reidkit.records import Embeddings

    parts = CutEmbeddings.cut(gallery) if isinstance(gallery, Embeddings) else gallery
    return ranking.evaluate_parts(query, parts, cluster)


def _name(text: str) -> str:
    """Name a side; what a URI says after `?` may be secret."""
    from reidkit.distributed import Place, is_uri

    return str(Place(text)) if is_uri(text) else str(Path(text))
