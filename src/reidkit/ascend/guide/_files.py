"""The guide as it is written: a file for each picture, and one for each output."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.ascend.bench import BenchSettings, SaveOptions, TimeOptions, run_bench
from reidkit.ascend.bins import BinSpec, cut_name, find_pictures, write_bins
from reidkit.ascend.guide._run import Guide
from reidkit.ascend.guide._streaming import find_difference
from reidkit.ascend.guide._tables import BatchRow
from reidkit.ascend.manifests import check_files, read_manifests
from reidkit.ascend.predictions import read_predictions, score_predictions
from reidkit.errors import DatasetError, IntegrityError
from reidkit.models import to_unit_length
from reidkit.records import Samples, Scores

BINS = "prep_dataset"


def prepare_once(guide: Guide) -> None:
    """Write the `.bin` files, or find that all are there as an earlier step left them.

    Raises:
        DatasetError: the data set is not in Market-1501's layout, which the guide's steps read.
    """
    if guide.dataset.name != "market1501":
        raise DatasetError(
            f"the guide's own steps need the layout market1501, this is {guide.dataset.name}: "
            "leave out --files"
        )
    folder = guide.out / BINS
    sources = [_folder_of(side) for side in (guide.dataset.query, guide.gallery)]

    def compute() -> dict[str, object]:
        # They may be those of other pictures; whatever is right is made again in seconds.
        shutil.rmtree(folder, ignore_errors=True)
        spec = BinSpec(guide.package.spec.input)
        found = find_pictures(sources, skip_junk=True)
        manifest = write_bins(found, folder, spec=spec, progress=guide.watch("preparing"))
        return {"files": len(manifest.files), "bytes": manifest.total_bytes}

    guide.steps.find("prepare", "", compute)
    if not _is_whole(folder):
        guide.steps.forget("prepare")
        guide.steps.find("prepare", "", compute)


def measure_batch(guide: Guide, file: Path, vectors: NDArray[np.float32], batch: int) -> BatchRow:
    """Run a compiled file of one batch size over all `.bin` files.

    `vectors` are the source network's for the first pictures.
    """
    shutil.rmtree(guide.out / f"bs{batch}", ignore_errors=True)
    settings = BenchSettings(
        file,
        (str(guide.out / BINS),),
        devices=(guide.settings.device,),
        saving=SaveOptions(guide.out, f"bs{batch}"),
        timing=TimeOptions(batch=batch),
        arguments=("reidkit ascend guide",),
    )
    result = run_bench(settings, progress=guide.watch(f"batch {batch}"))
    found = _read_first(guide, batch, len(vectors))
    return BatchRow(
        batch,
        throughput=result.throughput,
        end_to_end=result.pictures / result.seconds,
        pictures=result.pictures,
        difference=find_difference(found, vectors),
    )


def score_batch(guide: Guide, file: Path, batch: int) -> Scores:
    """Score the outputs of one batch size."""
    query, gallery = (_folder_of(side) for side in (guide.dataset.query, guide.gallery))
    return score_predictions(read_predictions(query, gallery, guide.out / f"bs{batch}"))


def has_outputs(guide: Guide, batch: int) -> bool:
    """Tell whether the outputs of a finished run are all there, and its summary."""
    names = {f"{cut_name(Path(path).name)}_0.bin" for path in guide.pictures.paths}
    folder = guide.out / f"bs{batch}"
    if not folder.with_name(f"bs{batch}_summary.json").is_file() or not folder.is_dir():
        return False
    return names <= {path.name for path in folder.iterdir()}


def count_bytes(guide: Guide) -> int:
    """Give the bytes of all pictures and outputs that were written."""
    folders = [guide.out / BINS, *(guide.out / f"bs{batch}" for batch in guide.settings.batches)]
    return sum(
        path.stat().st_size for folder in folders for path in folder.iterdir() if path.is_file()
    )


def _is_whole(folder: Path) -> bool:
    try:
        manifest = read_manifests(folder)
        return manifest is not None and not check_files(folder, manifest)
    except (IntegrityError, OSError):
        return False


def _read_first(guide: Guide, batch: int, count: int) -> NDArray[np.float32]:
    """Read the outputs of the first pictures, to unit length as the package says."""
    names = [cut_name(Path(path).name) for path in guide.pictures.paths[:count]]
    files = [guide.out / f"bs{batch}" / f"{name}_0.bin" for name in names]
    vectors = np.stack([np.fromfile(file, np.float32) for file in files])
    return to_unit_length(vectors) if guide.package.spec.input.unit_length else vectors


def _folder_of(samples: Samples) -> Path:
    """Give the folder that a split of Market-1501's layout lies in."""
    return Path(samples.paths[0]).parent
