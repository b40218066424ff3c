"""Outputs cut into one part for each file, named after it and saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reidkit.ascend.bench._settings import OutputFormat
from reidkit.ascend.bins import cut_name
from reidkit.errors import AscendError, name_some
from reidkit.runtimes.sessions import Array


def cut_stem(path: str) -> str:
    """Give a file's name up to its first dot, which its outputs are named after."""
    return cut_name(Path(path).name)


def name_output(path: str, place: int, kind: OutputFormat) -> str:
    """Name the file of output number `place` for an input file."""
    return f"{cut_stem(path)}_{place}.{kind.lower()}"


def check_apart(folder: Path, inputs: Sequence[str]) -> None:
    """Refuse a folder of outputs that is one of inputs.

    Raises:
        AscendError: naming it.
    """
    for name in inputs:
        if Path(name).resolve() == folder.resolve():
            raise AscendError(
                f"{folder} is a folder of inputs, a second run would take outputs for inputs: "
                "choose another --output_dirname (--compatible 1 lets it pass, as the tool did in "
                "2023)"
            )


def check_names(files: Sequence[str]) -> None:
    """Refuse input files whose outputs would overwrite each other.

    Raises:
        AscendError: naming such files.
    """
    owners: dict[str, list[str]] = {}
    for path in files:
        owners.setdefault(cut_stem(path), []).append(path)
    shared = [" and ".join(paths[:3]) for paths in owners.values() if len(paths) > 1]
    if shared:
        raise AscendError(
            "outputs are named after a file's name up to its first dot, so that those of some "
            f"files would overwrite each other: {name_some(shared)}. Rename them, or run them "
            "apart (--compatible 1 lets the last one win, as the tool did in 2023)"
        )


def cut_outputs(outputs: Sequence[Array], parts: int, axis: int) -> list[list[Array]]:
    """Cut each output of a run on an axis into one part for each of its files.

    Returns:
        For each output its `parts` parts, which keep the axis.

    Raises:
        AscendError: an output has no such axis, or its size there is no multiple of `parts`.
    """
    for output in outputs:
        if axis >= output.ndim or (parts > 1 and output.shape[axis] % parts):
            raise AscendError(
                f"save out files error array shape:{output.shape} filesinfo:{parts} files on axis "
                f"{axis}: it cannot be cut into equal parts; is --output_batchsize_axis right, and "
                "does each file hold whole pictures?"
            )
    return [np.array_split(output, parts, axis) if parts > 1 else [output] for output in outputs]


def save_part(path: Path, part: Array, kind: OutputFormat) -> None:
    """Save one part: raw bytes in C order, an npy file, or text, a line for each row.

    Text has six decimals: small float32 values lose digits.
    """
    if kind == "BIN":
        path.write_bytes(np.ascontiguousarray(part).data)
    elif kind == "NPY":
        np.save(path, part, allow_pickle=False)
    else:
        form = "%f " if part.dtype.kind == "f" else "%d "
        rows = part.reshape(-1, max(1, part.shape[-1]))
        lines = ["".join(form % value for value in row) + "\n" for row in rows.tolist()]
        path.write_text("".join(lines), encoding="ascii", newline="\n")
