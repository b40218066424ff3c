"""Vectors that the guide's inference tool wrote, one file a picture -> scores.

The pictures' folders say who is asked for and who is searched; nothing is counted in advance.
"""

from __future__ import annotations

import dataclasses
import filecmp
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit import disk, scoring
from reidkit.ascend.bins import cut_name
from reidkit.datasets.market1501 import SUFFIXES, natural_key, parse_name
from reidkit.errors import AscendError, DatasetError, name_some
from reidkit.models import to_unit_length
from reidkit.records import JUNK, DroppedQueries, Embeddings, Progress, Samples, Scores

Vector = NDArray[np.float32]

SUFFIX_CHOICES = ("_0", "_1")
"""What the guide's inference tool puts behind a picture's name: its first and second output."""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The vectors of two folders of pictures, junk left out.

    Fields:
        query, gallery: (Q, D) and (G, D) float32 vectors of the pictures, in natural order.
        ending: what the files' names have behind the pictures': `_0.bin`.
        junk: pictures of person id -1 in the query's and the gallery's folder, left out.
        remarks: what is unusual about the files, in sentences.
    """

    query: Embeddings
    gallery: Embeddings
    ending: str
    junk: tuple[int, int]
    remarks: tuple[str, ...] = ()


def read_predictions(
    query_folder: str | Path,
    gallery_folder: str | Path,
    predictions_folder: str | Path,
    *,
    suffix: str | None = None,
    progress: Progress | None = None,
) -> Predictions:
    """Read the vector of every picture of two folders from the files of a third.

    Person and camera come from the pictures' own names, by market1501's rules; files that are
    not named like pictures are not looked at. The vector of `x.jpg` is in `x_0.bin`, or
    `x_1.bin`, whichever there is (or `x` and `suffix`); `.npy` and `.txt` are read too.

    Raises:
        DatasetError: a folder of pictures is missing, has none, or has names that do not parse.
        AscendError: the suffix is not clear, or files are missing, damaged or of several
            lengths, or two pictures share a file.
    """
    folder = Path(predictions_folder)
    query, query_junk = _list_pictures(Path(query_folder))
    gallery, gallery_junk = _list_pictures(Path(gallery_folder))
    stems = [cut_name(Path(path).name) for path in (*query.paths, *gallery.paths)]
    _check_distinct(stems, [*query.paths, *gallery.paths])
    present = _list_files(folder)
    ending = _find_ending(folder, stems, present, suffix)
    names = [stem + ending for stem in stems]
    missing = [name for name in names if name not in present]
    if missing:
        raise AscendError(
            f"{len(missing)} of {len(names)} files are missing in {folder}: {name_some(missing)}; "
            "run the inference again over all prepared pictures"
        )
    vectors = _read_vectors(folder, names, progress)
    queries, others = np.split(vectors, [len(query)])
    return Predictions(
        Embeddings(queries, query),
        Embeddings(others, gallery),
        ending,
        (query_junk, gallery_junk),
        _find_remarks(folder, names, vectors),
    )


def score_predictions(predictions: Predictions) -> Scores:
    """Score predictions as `reidkit score` does: the cosine of the vectors, Market-1501's protocol.

    That ranks as the squared distance of vectors of unit length does, which the reference uses.
    They are brought to unit length as a `Model` does it, so that both give the same figures to
    the last digit. Junk queries count among the dropped ones.

    Raises:
        ArgumentError, MismatchError: as `scoring.evaluate`.
    """
    scores = scoring.evaluate(*map(_normalise, (predictions.query, predictions.gallery)))
    dropped: DroppedQueries = dataclasses.replace(scores.dropped, junk=predictions.junk[0])
    return dataclasses.replace(scores, dropped=dropped)


def _normalise(side: Embeddings) -> Embeddings:
    return dataclasses.replace(side, vectors=to_unit_length(side.vectors))


def _list_pictures(folder: Path) -> tuple[Samples, int]:
    """List a folder's pictures that are not junk, and count those that are."""
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DatasetError(f"{folder} {what}: give a folder of pictures")
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if entry.name.lower().endswith(SUFFIXES) and entry.name[0] != "." and entry.is_file()
        ]
    names.sort(key=natural_key)
    parsed = {name: parse_name(name) for name in names}
    bad = [name for name, ids in parsed.items() if ids is None]
    if bad:
        raise DatasetError(
            f"{len(bad)} of {len(names)} pictures in {folder} have names that do not say person "
            f"and camera, as 0002_c1s1_000451_03.jpg does: {name_some(bad)}"
        )
    kept = [(name, *ids) for name, ids in parsed.items() if ids and ids[0] != JUNK]
    if not kept:
        raise DatasetError(
            f"{folder} holds no pictures to score ({', '.join(SUFFIXES)}), {len(names)} of junk"
        )
    listed, people, cameras = zip(*kept, strict=True)
    paths = [f"{folder}{os.sep}{name}" for name in listed]
    return Samples.from_columns(paths, people, cameras), len(names) - len(kept)


def _check_distinct(stems: Sequence[str], paths: Sequence[str]) -> None:
    """Refuse two pictures whose vectors would be in one file; copies of one picture may be."""
    seen: dict[str, str] = {}
    for stem, path in zip(stems, paths, strict=True):
        first = seen.setdefault(stem, path)
        if first is not path and not filecmp.cmp(first, path, shallow=False):
            raise AscendError(
                f"{first} and {path} are different pictures, but their vectors would be in files "
                "of one name (names are cut at the first dot): rename one and run all steps again"
            )


def _list_files(folder: Path) -> frozenset[str]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise AscendError(f"{folder} {what}: give the folder of the inference tool's files")
    return frozenset(path.name for path in folder.iterdir())


def _find_ending(
    folder: Path, stems: Sequence[str], present: frozenset[str], suffix: str | None
) -> str:
    """Find out what the files' names have behind the pictures'."""
    if suffix is not None and suffix.endswith(tuple(_READERS)):
        return suffix
    suffixes = SUFFIX_CHOICES if suffix is None else (suffix,)
    endings = [choice + kind for choice in suffixes for kind in _READERS]
    found = [e for e in endings if any(stem + e in present for stem in stems)]
    if len(found) == 1:
        return found[0]
    if found:
        raise AscendError(
            f"{folder} has files ending in {' and '.join(found)} for these pictures: say which "
            f"are meant, such as --suffix {found[0]}"
        )
    below = sorted(name for name in present if (folder / name).is_dir())
    hint = f"; it has folders: did you mean {folder / below[0]}?" if below else ""
    raise AscendError(
        f"{folder} has no file for any of the {len(stems)} pictures: looked for such as "
        f"{' or '.join(stems[0] + e for e in endings)}, found "
        f"{name_some(sorted(present)) if present else 'nothing'}{hint}"
    )


def _read_bin(data: bytes) -> Vector:
    return np.frombuffer(data, "<f4")


def _read_npy(data: bytes) -> Vector:
    values = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if values.dtype.kind not in "fiu":
        raise ValueError(f"it holds {values.dtype}, not numbers")
    return values.reshape(-1).astype(np.float32)


def _read_txt(data: bytes) -> Vector:
    return np.array(data.split(), np.float32)


_READERS: Mapping[str, Callable[[bytes], Vector]] = {
    ".bin": _read_bin,
    ".npy": _read_npy,
    ".txt": _read_txt,
}
"""Kinds of file -> what reads one as a vector (D,); `ValueError` where that fails."""


def _read_vectors(
    folder: Path, names: Sequence[str], progress: Progress | None
) -> NDArray[np.float32]:
    """Read the vectors of all files, (N, D) float32."""
    read = _READERS[Path(names[0]).suffix]
    vectors: list[Vector] = []
    damaged: list[str] = []
    for done, name in enumerate(names, 1):
        try:
            with np.errstate(over="ignore"):  # infinity is refused below
                vectors.append(read((folder / name).read_bytes()))
        except (OSError, ValueError) as error:
            damaged.append(f"{name} ({getattr(error, 'strerror', None) or error})")
        if progress is not None:
            progress(done, len(names))
    _refuse(damaged, "cannot be read as vectors", folder)
    usual = Counter(map(len, vectors)).most_common(1)[0][0]
    lengths = zip(names, map(len, vectors), strict=True)
    odd = [f"{name} ({length} values)" for name, length in lengths if length != usual or not usual]
    _refuse(odd, f"hold no vector of {usual} values, as most do", folder)
    matrix = np.stack(vectors)
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1)).tolist()
    _refuse([names[row] for row in bad], "hold NaN or infinity", folder)
    return matrix


def _refuse(names: Sequence[str], what: str, folder: Path) -> None:
    if names:
        raise AscendError(
            f"{len(names)} files in {folder} {what}: {name_some(names)}; run the inference again"
        )


def _find_remarks(folder: Path, names: Sequence[str], vectors: Vector) -> tuple[str, ...]:
    remarks = []
    whole = folder.absolute()
    summary = whole.with_name(f"{whole.name}_summary.json")
    if not summary.is_file():
        remarks.append(
            f"no {summary.name} lies beside {folder}: if reidkit wrote these files, the run did "
            "not end and some may be of an earlier one"
        )
    elif others := _find_others(summary, names):
        remarks.append(
            f"{len(others)} of {len(names)} files are not of the run that {summary.name} is about: "
            f"{name_some(others)}; make sure that one model made them all"
        )
    zeros = np.flatnonzero(~vectors.any(axis=1)).tolist()
    if zeros:
        remarks.append(
            f"{len(zeros)} vectors are all zeros: {name_some([names[row] for row in zeros])}"
        )
    return tuple(remarks)


def _find_others(summary: Path, names: Sequence[str]) -> list[str]:
    """Give the names that a summary does not list; all of them where it cannot be read."""
    try:
        entries = disk.read_json(summary)["filesinfo"].values()
        listed = {Path(file).name for entry in entries for file in entry["outfiles"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        listed = set()
    return [name for name in names if name not in listed]
