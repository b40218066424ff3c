"""What `score` and `demo` do: embed two sides, score them, report on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reidkit import disk
from reidkit.cli import _options, _output
from reidkit.cli._findings import Looking
from reidkit.cli._ranking import Ranking
from reidkit.datasets import find_layout, load_dataset
from reidkit.embedding import embed, embed_into, plan_embeddings
from reidkit.errors import DatasetError, ReidkitError
from reidkit.models import Model
from reidkit.records import Dataset, Embeddings, Samples, Scores
from reidkit.store import EmbeddingsWriter, Shard


@dataclass(frozen=True, slots=True)
class Scored:
    """What one package scored on one data set, and the sides that were scored."""

    scores: Scores
    query: Embeddings
    gallery: Embeddings
    title: str
    made_by: Mapping[str, object]

    def as_json(self) -> dict[str, object]:
        """Give the scores and what made them."""
        return _output.scores_as_json(self.scores) | {"made_by": self.made_by}

    def write(self, out: Path | None) -> None:
        """Keep the figures beside the embeddings."""
        if out is not None:
            disk.write_json(out / "scores.json", self.as_json())

    def show(self) -> None:
        """Print the scores."""
        unreadable = (*self.query.unreadable, *self.gallery.unreadable)
        _output.print_scores(self.scores, self.title, unreadable)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How packages are scored on data sets, as the options say."""

    ranking: Ranking
    running: _options.Running
    layout: str | None

    def score(self, package: Path, root: Path, out: Path | None) -> Scored:
        """Embed a data set's query and gallery with a package and score them."""
        dataset = load_dataset(self.layout or find_layout(root), root)
        with self.running.load(package) as model:
            query, gallery = embed_sides(model, dataset, self.running, out)
            query, gallery = self.ranking.prepare(query, gallery)
            scores = self.ranking.evaluate(query, gallery)
            made_by = _output.made_by(query, gallery, model) | self.ranking.describe()
        made_by |= {"package": str(package), "data": str(root), "layout": dataset.name}
        return Scored(scores, query, gallery, f"{model.spec.name} on {root}", made_by)

    def score_all(
        self, packages: Sequence[Path], roots: Sequence[Path], out: Path | None
    ) -> list[list[dict[str, object]]]:
        """Score each package on each data set; one row of results a package.

        Where one cannot be scored, its result holds the `error`, and the others go on.
        """
        rows, columns = name_folders(packages), name_folders(roots)
        matrix = []
        for package, row in zip(packages, rows, strict=True):
            results = []
            for root, column in zip(roots, columns, strict=True):
                folder = out and out / row / column
                results.append(self._try(package, root, folder))
            matrix.append(results)
        return matrix

    def _try(self, package: Path, root: Path, folder: Path | None) -> dict[str, object]:
        try:
            scored = self.score(package, root, folder)
            scored.write(folder)
        except (ReidkitError, OSError) as error:
            names = {"package": str(package), "data": str(root)}
            return {"error": str(error) or type(error).__name__, "made_by": names}
        return scored.as_json()


def name_folders(paths: Sequence[Path]) -> list[str]:
    """Give each path a name of its own: that of its last folder, numbered where it recurs."""
    names: list[str] = []
    for path in paths:
        stem = path.absolute().name or "root"
        name, number = stem, 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names


def embed_sides(
    model: Model, dataset: Dataset, running: _options.Running, out: Path | None
) -> tuple[Embeddings, Embeddings]:
    """Embed query and gallery, into folders below `out` where it is given.

    Junk pictures of the gallery are never scored, so they are not run through the network.
    """
    gallery = dataset.scored_gallery
    for name, samples in (("query", dataset.query), ("gallery", gallery)):
        if not len(samples):
            raise DatasetError(f"the data set has nothing to score: its {name} split is empty")
    return (
        embed_samples(model, dataset.query, running, out and out / "query", label="query"),
        embed_samples(model, gallery, running, out and out / "gallery", label="gallery"),
    )


def embed_samples(
    model: Model,
    samples: Samples,
    running: _options.Running,
    out: Path | None,
    *,
    label: str,
    shard: Shard | None = None,
) -> Embeddings:
    """Embed in memory, or into the resumable folder `out`, with a bar called `label`.

    A `shard` needs a folder: only that part of the samples goes into it.
    """
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
        with EmbeddingsWriter(out, samples, plan, shard) as writer:
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
    """Write the HTML report of an evaluation with all that it can show."""
    looking, ranking = Looking(report=path), Ranking(metric=scores.metric)
    found = looking.find(scores, query, gallery, ranking)
    looking.write(found, query, gallery, ranking, made_by)
