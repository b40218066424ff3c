"""Query and gallery through both packages, one engine at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from reidkit import disk
from reidkit.certifying._certificate import Check, Evidence, Watch
from reidkit.embedding import embed, embed_into, plan_embeddings
from reidkit.models import Model, load_model
from reidkit.package import Package
from reidkit.records import Dataset, Embeddings, Progress, Samples
from reidkit.store import EmbeddingsWriter, Plan


def gather(
    compiled: Package, source: Package, dataset: Dataset, check: Check, watch: Watch
) -> Evidence:
    """Embed query and gallery with both packages, or find the vectors in `check.work`.

    Raises:
        UnreadableImagesError: naming every picture that could not be decoded.
        EngineError: an engine failed, or gave NaN or infinity.
    """
    setting = check.setting
    sides: list[Embeddings] = []
    for role, package in (("source", source), ("compiled", compiled)):
        with load_model(package, device=setting.device, threads=setting.threads) as model:
            for split in ("query", "gallery"):
                progress = watch(f"{role} {split}")
                sides.append(_embed(model, dataset.split(split), check, progress))
    return Evidence(*sides)


def _embed(model: Model, samples: Samples, check: Check, progress: Progress | None) -> Embeddings:
    workers = check.setting.workers
    if check.work is None:
        return embed(model, samples, workers=workers, progress=progress)
    plan = plan_embeddings(model)
    with EmbeddingsWriter(_place(check.work, samples, plan), samples, plan) as writer:
        if writer.finished and progress is not None:
            progress(len(samples), len(samples))
        return embed_into(writer, model, workers=workers, progress=progress)


def _place(work: Path, samples: Samples, plan: Plan) -> Path:
    """Give the folder of these vectors; another model, contract or data set has another one."""
    ids = [samples.person_ids.tolist(), samples.camera_ids.tolist()]
    whole = [dataclasses.asdict(plan), samples.paths.tolist(), *ids]
    return work / disk.sha256_json(whole)[:16]
