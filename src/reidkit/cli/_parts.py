"""What `embed` does on an engine: pictures and shards to an embeddings data set."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from reidkit import package as packages
from reidkit.cli import _options, _output
from reidkit.cli._engine import Engine
from reidkit.distributed import (
    DataSet,
    Job,
    Source,
    choose_size,
    cut_samples,
    embed_parts,
    find_place,
    find_source,
    plan_job,
)
from reidkit.errors import DatasetError
from reidkit.records import Samples

_NAMED = 1000
"""Unreadable pictures that JSON names; the data set has a table of all."""


@dataclass(frozen=True, slots=True)
class Parts:
    """How a data set is made, as the options say."""

    running: _options.Running
    engine: Engine
    size: int | None = None

    def embed(self, package: Path, source: Samples | Sequence[str], out: str) -> DataSet:
        """Embed samples, or what addresses name, on the engine."""
        job = self._plan(package, source, out)
        unit = "embedding" if job.source.rows is not None else "embedding (pieces)"
        with _output.progress_bar(unit) as progress:
            return embed_parts(
                job,
                self.engine.cluster(self.running.threads),
                progress=progress,
                skip_unreadable=self.running.skip_unreadable,
            )

    def _plan(self, package: Path, source: Samples | Sequence[str], out: str) -> Job:
        read = packages.read_package(package)
        sizes = choose_size(read, size=self.size, batch=self.running.batch)
        found = _find(source, sizes[0])
        if not found.pieces:
            raise DatasetError("there is nothing to embed: the split, or the table, is empty")
        device, flip = self.running.device, self.running.flip
        return plan_job(read, found, find_place(out), sizes=sizes, device=device, flip=flip)


def show(data: DataSet, *, as_json: bool) -> None:
    """Say what was made."""
    if as_json:
        unreadable = [list(image) for image in itertools.islice(data.list_unreadable(), _NAMED)]
        _output.print_json(
            {
                "out": str(data.place),
                "rows": len(data),
                "dimension": data.dimension,
                "parts": len(data.parts),
                "unreadable_count": data.unreadable,
                "unreadable": unreadable,
                "model_sha256": data.model_sha256,
                "contract_sha256": data.contract_sha256,
            }
        )
        return
    left_out = f", {data.unreadable:,} unreadable pictures left out" if data.unreadable else ""
    parts = f"{len(data.parts):,} part{'s' * (len(data.parts) != 1)}"
    click.echo(
        f"{click.format_filename(str(data.place))}: {len(data):,} vectors in {parts}{left_out}"
    )


def _find(source: Samples | Sequence[str], size: int) -> Source:
    if isinstance(source, Samples):
        return cut_samples(source, size=size)
    return find_source(source, size=size)
