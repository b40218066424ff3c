"""Embeddings data sets for tests, written without an engine."""

from __future__ import annotations

from pathlib import Path

from reidkit.distributed import DataSet, find_place, open_data_set
from reidkit.distributed._folder import begin, finish
from reidkit.distributed._parts import PartPlan, write_part
from reidkit.distributed._sections import SectionNames
from reidkit.records import Embeddings


def write_data_set(folder: Path, embeddings: Embeddings, size: int | list[int]) -> DataSet:
    """Write embeddings as a data set: parts of `size` rows, or of the sizes given."""
    sizes = size
    if isinstance(sizes, int):
        sizes = [sizes] * -(-len(embeddings) // sizes)
    place, plan = find_place(folder), make_plan(embeddings, len(sizes))
    begin(place, plan)
    start, parts = 0, []
    for piece, rows in enumerate(sizes):
        part = slice(start, start + rows)
        columns = embeddings.samples.select(part)
        about = SectionNames(
            piece,
            0,
            True,
            tuple(columns.paths.tolist()),
            tuple(columns.person_ids.tolist()),
            tuple(columns.camera_ids.tolist()),
        )
        parts.append(write_part(place, plan, about, embeddings.vectors[part]))
        start += rows
    assert start >= len(embeddings), "the sizes leave rows out"
    finish(place, plan, parts)
    return open_data_set(place)


def make_plan(embeddings: Embeddings, pieces: int) -> PartPlan:
    """Plan a data set of embeddings whose model may not be known."""
    return PartPlan(
        model_sha256=embeddings.model_sha256,  # type: ignore[arg-type]
        contract_sha256=embeddings.contract_sha256,  # type: ignore[arg-type]
        dimension=embeddings.vectors.shape[1],
        batch=1,
        runtime="fake",
        device="cpu",
        size=1,
        pieces=pieces,
        source_sha256="0" * 64,
    )
