"""The whole guide in one call: export, compile, run, score, and its two closing tables.

    package/            the source package
    ReID.onnx           the guide's network file
    ReID_bs<N>.om       the compiled file for each batch size
    guide.md            the tables
    guide.json          the same for programs, written last
    work/               what finished steps found; safe to delete
    prep_dataset/       with `files`: a `.bin` for each picture
    bs<N>/              with `files`: an output for each picture; bs<N>_summary.json beside it

A run that was killed goes on with the step it was in.
"""

from __future__ import annotations

import platform
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import reidkit
from reidkit import disk
from reidkit.ascend._models import is_real, open_model
from reidkit.ascend.guide import _files, _streaming
from reidkit.ascend.guide._compiling import compile_once
from reidkit.ascend.guide._run import NETWORK, Guide, GuideSettings, Watch
from reidkit.ascend.guide._steps import (
    Steps,
    identify_pictures,
    scores_as_fields,
    scores_from_fields,
)
from reidkit.ascend.guide._tables import BatchRow, GuideResult, result_as_json, write_tables
from reidkit.embedding import embed
from reidkit.errors import ArgumentError
from reidkit.exporting import OnnxOptions, export_onnx, export_package
from reidkit.models import Model, load_model
from reidkit.records import Dataset, Scores

TABLES, RESULT = "guide.md", "guide.json"


def follow_guide(
    checkpoint: str | Path,
    dataset: Dataset,
    out: str | Path,
    *,
    settings: GuideSettings | None = None,
    watch: Watch | None = None,
) -> GuideResult:
    """Go from a checkpoint to the guide's two tables.

    Raises:
        ArgumentError, DatasetError: settings or data that do not serve.
        UnreadableImagesError: naming every picture that could not be decoded.
        Whatever exporting, the compiler and the engines raise.
    """
    guide = _prepare(Path(checkpoint), dataset, Path(out), settings or GuideSettings(), watch)
    with load_model(guide.package) as source:
        scores = _score_source(guide, source)
        vectors = _embed_first(guide, source)
    if guide.settings.files:
        _files.prepare_once(guide)
    files = {batch: compile_once(guide, batch) for batch in guide.settings.batches}
    rows = tuple(_measure(guide, file, vectors, batch) for batch, file in files.items())
    best = max(rows, key=lambda row: row.throughput).batch
    result = GuideResult(
        model=guide.package.spec.name,
        source=scores,
        device=_score_device(guide, files[best], best),
        device_name=_name_device(guide, files[best]),
        chip=is_real(files[best]),
        scored_batch=best,
        rows=rows,
        way="files" if guide.settings.files else "streaming",
        seconds=dict(guide.steps.seconds),
        bytes_written=_files.count_bytes(guide) if guide.settings.files else 0,
    )
    disk.write_bytes(guide.out / TABLES, write_tables(result).encode())
    disk.write_json(guide.out / RESULT, result_as_json(result))
    return result


def _prepare(
    checkpoint: Path, dataset: Dataset, out: Path, settings: GuideSettings, watch: Watch | None
) -> Guide:
    """Export the network in both forms; nothing of an older run vouches for this one."""
    _check_ours(out)
    steps = Steps(out / "work", "")
    with steps.timed("export"):
        package = export_package(
            checkpoint,
            out / "package",
            architecture=settings.architecture,
            last_stride=settings.last_stride,
            contract=settings.contract,
            overwrite=True,
        )
        (out / "work").mkdir(exist_ok=True)
        (out / RESULT).unlink(missing_ok=True)
        (out / TABLES).unlink(missing_ok=True)
        network = export_onnx(
            checkpoint,
            out / NETWORK,
            architecture=settings.architecture,
            last_stride=settings.last_stride,
            contract=settings.contract,
            options=OnnxOptions(overwrite=True),
        )
    identity = disk.sha256_json(
        [reidkit.__version__, version_of("onnxruntime"), platform.node(), settings.device]
        + [package.spec.engine.identity, package.spec.input.sha256, network.sha256]
        + [identify_pictures(side) for side in (dataset.query, dataset.gallery)]
    )
    steps = Steps(steps.folder, identity, steps.seconds)
    return Guide(package, dataset, out, settings, steps, watch or _watch_nothing)


def _check_ours(out: Path) -> None:
    """Refuse a folder whose files would be replaced though no run of the guide made them."""
    found = [name for name in (NETWORK, TABLES, RESULT, "package") if (out / name).exists()]
    if found and not (out / "work").is_dir():
        raise ArgumentError(
            f"{out} holds {', '.join(found)} of something else: choose another folder"
        )


def _score_source(guide: Guide, source: Model) -> Scores:
    def compute() -> dict[str, object]:
        progress = guide.watch("source")
        scores = _streaming.score_model(source, guide.dataset.query, guide.gallery, progress)
        return scores_as_fields(scores)

    return scores_from_fields(guide.steps.find("source", "", compute))


def _embed_first(guide: Guide, source: Model) -> NDArray[np.float32]:
    """Give the source network's vectors of the first pictures, for comparison."""
    first = guide.pictures.select(slice(0, _streaming.COMPARED_PICTURES))
    return embed(source, first).vectors


def _measure(guide: Guide, file: Path, vectors: NDArray[np.float32], batch: int) -> BatchRow:
    way = _files if guide.settings.files else _streaming

    def compute() -> dict[str, object]:
        row = way.measure_batch(guide, file, vectors, batch)
        return {name: getattr(row, name) for name in BatchRow.__slots__}

    if way is _files and not _files.has_outputs(guide, batch):
        guide.steps.forget(f"measure-bs{batch}")
        guide.steps.forget(f"score-bs{batch}")
    version = f"{disk.sha256_file(file)} {way.__name__}"
    return BatchRow(**guide.steps.find(f"measure-bs{batch}", version, compute))


def _score_device(guide: Guide, file: Path, batch: int) -> Scores:
    way = _files if guide.settings.files else _streaming

    def compute() -> dict[str, object]:
        return scores_as_fields(way.score_batch(guide, file, batch))

    version = f"{disk.sha256_file(file)} {way.__name__}"
    return scores_from_fields(guide.steps.find(f"score-bs{batch}", version, compute))


def _name_device(guide: Guide, file: Path) -> str:
    session = open_model(file, device=guide.settings.device)
    session.close()
    return session.device


def _watch_nothing(_: str) -> None:
    return None
