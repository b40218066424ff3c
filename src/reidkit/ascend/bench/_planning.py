"""Files against the sizes that a model takes: how many go into a run, and which are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reidkit.ascend.bench._inputs import SUFFIXES, Plan
from reidkit.ascend.bench._reading import Content, Shape, count_bytes, is_array, measure_file
from reidkit.ascend.bench._settings import Report
from reidkit.ascend.manifests import Manifest, check_files, read_manifests
from reidkit.errors import AscendError, name_some
from reidkit.runtimes.sessions import TensorSpec

Files = tuple[tuple[str, ...], ...]
"""For each input of a model its files."""

_OPT_OUT = "--compatible 1 lets it pass, as the tool did in 2023"


def plan_runs(
    files: Files, inputs: Sequence[TensorSpec], shapes: Sequence[Shape], *, compatible: bool
) -> Plan:
    """Divide files into runs by the size of the first file of the first input.

    Unless `compatible`, every file is looked at.

    Raises:
        AscendError: the files of a run would not fill it, a file holds a part of a picture, or
            some have another size or type than they should have; all of these are named.
    """
    first, tensor = measure_file(files[0][0]), count_bytes(inputs[0], shapes[0])
    row = tensor // (shapes[0][0] if shapes[0] else 1)
    if first.bytes == 0 or tensor % first.bytes:
        raise AscendError(
            f"arg0 tensorsize: {tensor} filesize: {first.bytes} not match: {files[0][0]} holds "
            f"{first.bytes} bytes, input {inputs[0].name} takes {inputs[0].dtype} {shapes[0]}, "
            f"{row} bytes a picture"
        )
    plan = Plan(files, tensor // first.bytes)
    if compatible:
        return plan
    if first.bytes % row:
        raise AscendError(
            f"{files[0][0]} holds a part of one picture: {first.bytes} bytes, but a picture of "
            f"input {inputs[0].name} has {row} ({inputs[0].dtype} {shapes[0][1:]}); several files "
            f"would be joined to one. Prepare it for this model ({_OPT_OUT})"
        )
    for names, spec, shape in zip(files, inputs, shapes, strict=True):
        _check_sizes(names, spec, shape, plan.per_run)
    return plan


def plan_own_shapes(files: Files, inputs: Sequence[TensorSpec], *, compatible: bool) -> Plan:
    """Plan one run for each npy file, which has the shape of its run.

    Raises:
        AscendError: files that are not npy files, or that the model does not take.
    """
    for names, spec in zip(files, inputs, strict=True):
        other = [name for name in names if not is_array(name)]
        if other:
            raise AscendError(
                "--auto_set_dymshape_mode and --auto_set_dymdims_mode take the shape of npy files; "
                f"{len(other)} files are none: {name_some(other)}"
            )
        measured = [] if compatible else [(name, measure_file(name)) for name in names]
        wrong = [
            f"{name}: {content.dtype} {content.shape}"
            for name, content in measured
            if content.dtype != spec.dtype or not _fits(content.shape or (), spec.shape)
        ]
        if wrong:
            raise AscendError(
                f"input {spec.name} takes {spec.dtype} {spec.shape}; {len(wrong)} of {len(names)} "
                f"files hold something else: {name_some(wrong)} ({_OPT_OUT})"
            )
    return Plan(files, per_run=1)


def check_folders(folders: Sequence[str], report: Report) -> dict[str, Manifest]:
    """Check folders of prepared files that have a manifest, and give these manifests by folder.

    Files that are on none are run all the same, and reported.

    Raises:
        IntegrityError: files are missing or have another size; or a manifest is damaged.
        MismatchError, FormatError: the manifests in one folder do not agree, or cannot be read.
    """
    manifests = {}
    for folder in folders:
        manifest = read_manifests(folder) if Path(folder).is_dir() else None
        if manifest is not None:
            unlisted = [name for name in check_files(folder, manifest) if name.endswith(SUFFIXES)]
            if unlisted:
                report(
                    "WARNING",
                    f"{len(unlisted)} files of {folder} are on no manifest, nothing vouches for "
                    f"them: {name_some(unlisted)}",
                )
            manifests[str(Path(folder))] = manifest
    return manifests


def _check_sizes(names: Sequence[str], spec: TensorSpec, shape: Shape, per_run: int) -> None:
    tensor = count_bytes(spec, shape)
    if tensor % per_run:
        raise AscendError(
            f"input {spec.name} takes {tensor} bytes a run, which is no multiple of the {per_run} "
            "files a run"
        )
    size = tensor // per_run
    wrong = []
    for name in names:
        content = measure_file(name)
        if content.bytes != size:
            wrong.append(f"{name} ({content.bytes} bytes)")
        elif not _has_type(content, spec):
            wrong.append(f"{name} ({content.dtype} {content.shape})")
    if wrong:
        raise AscendError(
            f"{len(wrong)} of {len(names)} files are not what input {spec.name} takes, {size} "
            f"bytes of {spec.dtype} a file: {name_some(wrong)}. Nothing was run; prepare them "
            f"again or take them out ({_OPT_OUT})"
        )


def _has_type(content: Content, spec: TensorSpec) -> bool:
    """Tell whether an array has the input's type, or is plain bytes; a raw file has no type."""
    if content.dtype is None or content.dtype == spec.dtype:
        return True
    return content.dtype in (np.uint8, np.int8) and len(content.shape or ()) == 1


def _fits(shape: Shape, taken: Shape) -> bool:
    return len(shape) == len(taken) and all(
        size in (-1, found) for size, found in zip(taken, shape, strict=True)
    )


def is_folder_mode(given: Sequence[str]) -> bool:
    """Tell whether inputs are given as folders."""
    return bool(given) and Path(given[0]).is_dir()
