"""From a package to a compiled package: build, check, and for int8 keep in float what must be."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import reidkit
from reidkit import disk
from reidkit.compiling._calibration import CalibrationSet
from reidkit.compiling._checking import (
    UnlikeError,
    check_engine,
    embed_pictures,
    measure_noise,
)
from reidkit.compiling._layers import group_layers, read_graph
from reidkit.compiling._targets import PRECISIONS, Job, Support, Target
from reidkit.errors import ArgumentError, CompileError
from reidkit.package import (
    MANIFEST,
    REFERENCE,
    EngineSpec,
    ModelSpec,
    Package,
    read_package,
    write_manifest,
)

TARGETS = {
    "onnxruntime": "reidkit.compiling._onnxruntime",
    "openvino": "reidkit.compiling._openvino",
    "torch": "reidkit.compiling._torch",
    "tensorrt": "reidkit.compiling._tensorrt",
}
"""Each target and the file with its two functions, `support` and `build`."""

Accept = Callable[[Package], str | None]
"""Judges a candidate: `None` accepts it, a sentence says why not."""


def supported_targets() -> dict[str, Support]:
    """Say for each target which precisions work on this machine, and what the rest needs."""
    return {name: _support(name) for name in TARGETS}


def compile_package(
    package: str | Path | Package,
    out: str | Path,
    *,
    target: Target,
    calibration: CalibrationSet | None = None,
    accept: Accept | None = None,
    overwrite: bool = False,
) -> Package:
    """Compile a package for a target: another package, whose vectors were held against its source.

    An int8 candidate that `accept` refuses is made again with its most sensitive layers left in
    float, until it is accepted. Which layers are sensitive is measured on embeddings: what
    quantising each of them alone does to the vectors of held-out training pictures.

    Args:
        package: the source, or its folder; not itself a compiled package.
        out: the compiled package's folder.
        target: what to compile for.
        calibration: pictures of the training split; int8 needs them, nothing else takes them.
        accept: judges the finished candidate in its temporary folder. By default int8 must stay
            within `NOISE_LIMIT` on held-out pictures, everything else near its reference vectors.
        overwrite: replace a package that exists.

    Raises:
        PackageError, FormatError, IntegrityError: the source is not a usable package.
        ArgumentError: an unknown target or precision, a batch that the source does not take,
            calibration missing or not wanted, or `out` exists.
        ImageError: a calibration picture cannot be decoded.
        CompileError: the target does not work here, the engine's tools failed, or the result is not
            the network it was made from; nothing was written.
    """
    source = package if isinstance(package, Package) else read_package(package)
    _check_request(source, Path(out), target, calibration)
    with disk.new_folder(Path(out), marker=MANIFEST, overwrite=overwrite) as folder:
        making = _Making(folder, calibration)
        inputs = calibration.load(source.spec.input) if calibration is not None else None
        job = Job(source, target, inputs)
        if calibration is not None:
            made = _keep_floating(making, job, accept or _accept_quiet(source, calibration))
        else:
            made = _finish(_make(making, job), source)
            if accept is not None and (reason := accept(made)):
                raise CompileError(f"{target.name} {target.precision} was refused: {reason}")
    return Package(Path(out), made.spec)


@dataclass(frozen=True, slots=True)
class _Making:
    """Where a compiled package is being made, and what calibrates it."""

    folder: Path
    calibration: CalibrationSet | None


def _support(name: str) -> Support:
    try:
        support: Support = import_module(TARGETS[name]).support()
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        missing = str(getattr(error, "name", None) or "")
        what = "this reidkit is not whole" if missing.startswith("reidkit") else "it does not load"
        return Support((), f"{what}, install it again: {error}")
    return support


def _check_request(
    source: Package, out: Path, target: Target, calibration: CalibrationSet | None
) -> None:
    if target.name not in TARGETS:
        raise ArgumentError(f"target is {target.name!r}, expected one of {', '.join(TARGETS)}")
    if target.precision not in PRECISIONS:
        raise ArgumentError(
            f"precision is {target.precision!r}, expected one of {', '.join(PRECISIONS)}"
        )
    engine = source.spec.engine
    if engine.target is not None:
        raise ArgumentError(
            f"{source.folder} was compiled for {engine.target} {engine.precision} already: compile "
            "the package it was made from"
        )
    if Path(os.path.realpath(out)) == Path(os.path.realpath(source.folder)):
        raise ArgumentError(f"{out} is the package to be compiled itself: choose another place")
    if target.batch is not None and not (type(target.batch) is int and target.batch >= 1):
        raise ArgumentError(f"batch is {target.batch!r}, expected a whole number from 1, or None")
    if engine.batch is not None and target.batch not in (None, engine.batch):
        raise ArgumentError(
            f"batch is {target.batch}, but {source.folder} takes batches of {engine.batch} only: "
            "export it again with a free batch size"
        )
    support = _support(target.name)
    if target.precision not in support.precisions:
        works = ", ".join(support.precisions) or "nothing"
        raise CompileError(
            f"{target.name} {target.precision} does not work on this machine, {works} does: "
            f"{support.hint}"
        )
    if (target.precision == "int8") != (calibration is not None):
        raise ArgumentError(
            "int8 needs pictures of a training split to calibrate it (--calibrate DIR)"
            if calibration is None
            else f"calibration pictures are for int8, {target.precision} takes none"
        )


def _make(making: _Making, job: Job) -> Package:
    """Build one candidate into the folder, emptied before."""
    for entry in making.folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    engine: EngineSpec = import_module(TARGETS[job.target.name]).build(job, making.folder)
    return Package(making.folder, _describe(making, job, engine))


def _finish(candidate: Package, source: Package) -> Package:
    """Check a candidate, and write down how near it is to its source.

    Raises:
        CompileError: it is not the network it was made from.
    """
    engine = dataclasses.replace(candidate.spec.engine, cosine=check_engine(candidate, source))
    return write_manifest(candidate.folder, dataclasses.replace(candidate.spec, engine=engine))


def _describe(making: _Making, job: Job, engine: EngineSpec) -> ModelSpec:
    source = job.package
    shutil.copyfile(source.folder / REFERENCE, making.folder / REFERENCE)
    return dataclasses.replace(
        source.spec,
        engine=engine,
        parent_sha256=source.spec.engine.identity,
        calibration=making.calibration.write(making.folder) if making.calibration else None,
        provenance={**source.spec.provenance, **_versions(engine), "reidkit": reidkit.__version__},
    )


def _versions(engine: EngineSpec) -> Mapping[str, str]:
    # The build has imported it; the GPU builds of onnxruntime are distributions of other names.
    version = getattr(sys.modules.get(engine.runtime), "__version__", None)
    return {f"compiled_with_{engine.runtime}": str(version)} if version else {}


def _accept_quiet(source: Package, calibration: CalibrationSet) -> Accept:
    """Judge by the vectors of held-out training pictures: no labels needed."""
    before = embed_pictures(source, calibration.held_out)

    def accept(candidate: Package) -> str | None:
        return measure_noise(before, embed_pictures(candidate, calibration.held_out)).complaint

    return accept


def _keep_floating(making: _Making, job: Job, accept: Accept) -> Package:
    """Leave no layers in float, then more and more, until the candidate is accepted."""
    candidate, reason = _try(making, job, accept)
    if reason is None:
        return candidate
    ranked = _rank_layers(making, job)
    counts = _growing(len(ranked))
    for count in counts:
        chosen = tuple(layer for group in ranked[:count] for layer in group)
        candidate, reason = _try(making, dataclasses.replace(job, float_layers=chosen), accept)
        if reason is None:
            return candidate
    tried = f"{counts[-1]} of {len(ranked)}" if counts else "none"
    raise CompileError(
        f"int8 on {job.target.name} is refused even with {tried} of its groups of layers in "
        f"float: {reason}; use another precision"
    )


def _try(making: _Making, job: Job, accept: Accept) -> tuple[Package, str | None]:
    """Make a candidate; gives it, and why it will not do."""
    candidate = _make(making, job)
    try:
        candidate = _finish(candidate, job.package)
    except UnlikeError as error:
        return candidate, str(error)
    return candidate, accept(candidate)


def _growing(total: int) -> list[int]:
    """Give how many groups stay in float, try by try: few at first, never all of them."""
    counts, count = [], 1
    while count < total - 1:
        counts.append(count)
        count += max(1, count // 2)
    return [*counts, total - 1] if total > 1 else []


def _rank_layers(making: _Making, job: Job) -> list[tuple[str, ...]]:
    """Order groups of layers by what quantising each alone does to the vectors, worst first."""
    if making.calibration is None or job.package.spec.engine.runtime != "onnxruntime":
        return []  # the names of another engine's layers are not ours to choose from
    groups = group_layers(read_graph(job.model_file))
    every = {layer for group in groups for layer in group}
    pictures = making.calibration.held_out[:_SENSITIVITY_PICTURES]
    before = embed_pictures(job.package, pictures)
    noises = []
    for group in groups:
        alone = dataclasses.replace(job, float_layers=tuple(sorted(every - set(group))))
        after = embed_pictures(_make(making, alone), pictures)
        noises.append(measure_noise(before, after).noise)
    order = sorted(range(len(groups)), key=lambda row: -noises[row])
    return [groups[row] for row in order]


_SENSITIVITY_PICTURES = 16
