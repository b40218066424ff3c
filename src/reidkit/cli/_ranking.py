"""How galleries are ranked: what `evaluate` and `score` share."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from reidkit.cli._options import add, gather

if TYPE_CHECKING:
    from reidkit.comparing import Comparison
    from reidkit.distributed import Cluster, Parts
    from reidkit.records import Embeddings, Scores

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_BYTES = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]i?|)b?", re.IGNORECASE)

# The names are repeated here so that --help loads no numpy; a test compares them.
PROTOCOLS = ("market1501", "cuhk03", "cuhk03-classic", "vehicleid", "cross-camera", "any")
VARIANTS = ("strong-baseline", "torchreid", "layumi", "fast-reid", "boxmot", "tao")


def memory(text: str) -> int:
    """Parse `1GiB`, `500MB` or a plain number of bytes."""
    found = _BYTES.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size, such as 1GiB or 500MB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


@dataclass(frozen=True, slots=True)
class Ranking:
    """How two sides are compared and scored, as the options say."""

    metric: str = "cosine"
    max_rank: int = 50
    protocol: str = "market1501"
    memory: int = 2**30
    rerank: bool = False
    k1: int | None = None
    k2: int | None = None
    weight: float | None = None
    variant: str | None = None
    pool: bool = False
    expand: int | None = None
    augment: int | None = None
    rank_device: str = "cpu"

    def __post_init__(self) -> None:
        given = [f"--{name}" for name in ("k1", "k2", "weight", "variant") if self._is_given(name)]
        if given and not self.rerank:
            raise click.UsageError(f"{' and '.join(given)}: only together with --rerank")

    def choose_metric(self) -> str | Comparison:
        """Give what `scoring` ranks by."""
        from reidkit.comparing import VectorComparison
        from reidkit.reranking import KReciprocal

        if not self.rerank:
            return VectorComparison(self.metric, device=self.rank_device)
        names = ("k1", "k2", "weight", "variant")
        given = {name: getattr(self, name) for name in names if self._is_given(name)}
        return KReciprocal(metric=self.metric, device=self.rank_device, **given)

    def prepare(self, query: Embeddings, gallery: Embeddings) -> tuple[Embeddings, Embeddings]:
        """Pool and expand the queries and augment the gallery, where that is asked for."""
        from reidkit import reranking

        if self.augment is not None:
            gallery = reranking.augment_gallery(
                gallery, count=self.augment, metric=self.metric, memory=self.memory
            )
        query = self.pool_queries(query)
        if self.expand is not None:
            query = reranking.expand_queries(
                query, gallery, count=self.expand, metric=self.metric, memory=self.memory
            )
        return query, gallery

    def pool_queries(self, query: Embeddings) -> Embeddings:
        """Pool the queries, where that is asked for."""
        from reidkit import reranking

        return reranking.pool_queries(query, metric=self.metric) if self.pool else query

    def settings(self) -> dict[str, Any]:
        """Give what all functions of `scoring` take."""
        from reidkit.scoring import PROTOCOLS as KNOWN

        return {
            "metric": self.choose_metric(),
            "protocol": KNOWN[self.protocol],
            "memory": self.memory,
        }

    def evaluate(self, query: Embeddings, gallery: Embeddings) -> Scores:
        """Score prepared sides."""
        from reidkit import scoring

        return scoring.evaluate(query, gallery, max_rank=self.max_rank, **self.settings())

    def evaluate_parts(self, query: Embeddings, gallery: Parts, cluster: Cluster | None) -> Scores:
        """Score queries, pooled, against a gallery in parts: on a cluster, or in here."""
        from reidkit import distributed
        from reidkit.reranking import KReciprocal
        from reidkit.scoring import PROTOCOLS as KNOWN

        metric = self.choose_metric()
        with distributed.open_tasks(cluster, memory=self.memory) as tasks:
            settings: dict[str, Any] = {"protocol": KNOWN[self.protocol], "tasks": tasks}
            settings["max_rank"] = self.max_rank
            if isinstance(metric, KReciprocal):
                return distributed.evaluate_reranked(query, gallery, metric=metric, **settings)
            return distributed.evaluate_parts(query, gallery, metric=self.metric, **settings)

    def list_whole(self) -> list[str]:
        """Name the options given that need the whole gallery in one process."""
        given = {
            "--expand": self.expand is not None,
            "--augment": self.augment is not None,
            "--rank-device": self.rank_device != "cpu",
        }
        return [name for name, is_given in given.items() if is_given]

    def needs_whole(self) -> bool:
        """Tell whether this process needs the whole gallery, having no cluster."""
        from reidkit.scoring import PROTOCOLS as KNOWN

        return self.rerank or bool(self.list_whole() or KNOWN[self.protocol].trials)

    def list_changes(self) -> list[str]:
        """Name the options given that change scores, so that no calibrated threshold holds."""
        given = {
            "--rerank": self.rerank,
            "--pool": self.pool,
            "--expand": self.expand is not None,
            "--augment": self.augment is not None,
        }
        return [name for name, is_given in given.items() if is_given]

    def describe(self) -> dict[str, object]:
        """Say what was done to the sides before they were scored, for `made_by`."""
        done = {"pool": self.pool or None, "expand": self.expand, "augment": self.augment}
        return {name: value for name, value in done.items() if value is not None}

    def _is_given(self, name: str) -> bool:
        return getattr(self, name) is not None


def ranking(command: Callable[..., None]) -> Callable[..., None]:
    """Add how galleries are ranked; the command gets it as one `ranking` value."""
    return add(
        gather(command, "ranking", Ranking),
        click.option(
            "--metric",
            type=click.Choice(["cosine", "euclidean"]),
            default="cosine",
            show_default=True,
            help="How vectors are compared.",
        ),
        click.option(
            "--max-rank",
            type=click.IntRange(1),
            default=50,
            show_default=True,
            help="Length of the CMC curve.",
        ),
        click.option(
            "--protocol",
            type=click.Choice(PROTOCOLS),
            default="market1501",
            show_default=True,
            help="Which gallery pictures a query meets.",
        ),
        click.option(
            "--memory",
            type=memory,
            metavar="SIZE",
            default="1GiB",
            show_default=True,
            help="Memory to work in, besides the vectors.",
        ),
        click.option("--rerank", is_flag=True, help="Re-rank by k-reciprocal encoding."),
        click.option("--k1", type=click.IntRange(1), help="Neighbours of an encoding. [20]"),
        click.option("--k2", type=click.IntRange(1), help="Neighbours averaged over. [6]"),
        click.option(
            "--weight", type=click.FloatRange(0, 1), help="Weight of the original distance. [0.3]"
        ),
        click.option(
            "--variant",
            type=click.Choice(VARIANTS),
            help="Whose formula, to reproduce published figures. [strong-baseline]",
        ),
        click.option("--pool", is_flag=True, help="One query a person and camera: their mean."),
        click.option(
            "--expand", type=click.IntRange(1), metavar="N", help="Average queries with N matches."
        ),
        click.option(
            "--augment",
            type=click.IntRange(1),
            metavar="N",
            help="Average gallery pictures with their N nearest.",
        ),
        click.option(
            "--rank-device",
            metavar="NAME",
            default="cpu",
            show_default=True,
            help="Where vectors are compared: cpu, or by torch on cuda or cuda:N.",
        ),
    )
