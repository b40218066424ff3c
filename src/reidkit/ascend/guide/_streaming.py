"""The guide without files in between: pictures go through memory."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import preprocess, scoring
from reidkit.ascend._streaming import SessionRuntime, open_streaming
from reidkit.ascend.guide._run import Guide
from reidkit.ascend.guide._tables import BatchRow
from reidkit.embedding import embed
from reidkit.models import Model
from reidkit.records import Embeddings, Progress, Samples, Scores

MEASURED_SECONDS, MEASURED_RUNS, MEASURED_PICTURES = 2.0, 4, 128
"""A batch size is measured for so long, alone and from picture files, and over so many at least."""

COMPARED_PICTURES = 64
"""So many pictures of every batch size are compared with the source network's vectors."""


def score_model(
    model: Model, query: Samples, gallery: Samples, progress: Progress | None
) -> Scores:
    """Embed query and gallery and score them; `progress` counts the pictures of both."""
    total = len(query) + len(gallery)
    sides: list[Embeddings] = []
    for before, samples in ((0, query), (len(query), gallery)):

        def report(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, total)

        sides.append(embed(model, samples, progress=report))
    return scoring.evaluate(*sides)


def measure_batch(guide: Guide, file: Path, vectors: NDArray[np.float32], batch: int) -> BatchRow:
    """Measure a compiled file of one batch size: alone, and from picture files to vectors.

    `vectors` are the source network's for the first pictures, (COMPARED_PICTURES, D) or fewer.
    """
    progress = guide.watch(f"batch {batch}")
    model, runtime = open_streaming(file, guide.package, device=guide.settings.device)
    with model:
        throughput = _measure_alone(model, runtime, guide.pictures)
        count = max(MEASURED_PICTURES, MEASURED_RUNS * batch, int(MEASURED_SECONDS * throughput))
        part = guide.pictures.select(slice(0, count))
        began = time.perf_counter()
        found = embed(model, part, progress=progress)
        seconds = time.perf_counter() - began
    return BatchRow(
        batch,
        throughput=throughput,
        end_to_end=len(part) / seconds,
        pictures=len(part),
        difference=find_difference(found.vectors, vectors),
    )


def score_batch(guide: Guide, file: Path, batch: int) -> Scores:
    """Score a compiled file over query and gallery."""
    model, _ = open_streaming(file, guide.package, device=guide.settings.device)
    with model:
        progress = guide.watch(f"scoring, {batch}")
        return score_model(model, guide.dataset.query, guide.gallery, progress)


def find_difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Give the largest difference of a value over the rows that both have."""
    rows = min(len(found), len(expected))
    return float(np.abs(found[:rows] - expected[:rows]).max())


def _measure_alone(model: Model, runtime: SessionRuntime, pictures: Samples) -> float:
    """Run one batch that is ready in memory again and again, and give the throughput."""
    paths = pictures.paths[: runtime.batch or 1].tolist()
    ready = preprocess.load_batch(paths, model.contract, takes=runtime.takes)
    model.embed(ready)  # warm
    runtime.milliseconds.clear()
    until = time.perf_counter() + MEASURED_SECONDS
    while len(runtime.milliseconds) < MEASURED_RUNS or time.perf_counter() < until:
        model.embed(ready)
    return runtime.throughput
