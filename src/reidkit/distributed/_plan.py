"""What a run on an engine is to do, decided before anything starts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reidkit.distributed._parts import PartPlan
from reidkit.distributed._places import Place
from reidkit.distributed._sources import Source
from reidkit.embedding import fit_batch
from reidkit.errors import ArgumentError
from reidkit.package import Package

DEFAULT_SIZE = 512
"""Pictures of a part, unless told otherwise: their pixels wait in memory together."""

LARGEST_SIZE = 2**16


@dataclass(frozen=True, slots=True)
class Job:
    """One run.

    Fields:
        package: the model package.
        source: what is embedded.
        out: where the data set goes.
        plan: what determines its bytes.
        device: where the model runs; `None` for the one that the package was compiled for.
        flip: whether mirrored pictures count too.
    """

    package: Package
    source: Source
    out: Place
    plan: PartPlan
    device: str | None
    flip: bool


def plan_job(
    package: Package,
    source: Source,
    out: Place,
    *,
    sizes: tuple[int, int],
    device: str | None = None,
    flip: bool = False,
) -> Job:
    """Say what a run is to do; `sizes` are what `choose_size` gave.

    Raises:
        ArgumentError: `out` lies in a folder that is embedded: the next run would find the parts.
    """
    for folder in source.folders:
        if f"{out.identity}/".startswith(f"{folder.rstrip('/')}/"):
            raise ArgumentError(f"{out} lies in {folder}, which is embedded: choose another place")
    spec = package.spec
    contract = dataclasses.replace(spec.input, flip=True) if flip else spec.input
    size, batch = sizes
    plan = PartPlan(
        model_sha256=spec.engine.identity,
        contract_sha256=contract.sha256,
        dimension=spec.embedding_size,
        batch=batch,
        runtime=spec.engine.runtime,
        device=device or spec.engine.device or "cpu",
        size=size,
        pieces=len(source.pieces),
        source_sha256=source.sha256,
    )
    return Job(package, source, out, plan, device, flip)


def choose_size(package: Package, *, size: int | None, batch: int | None) -> tuple[int, int]:
    """Give the pictures of a part and of a batch; a part holds whole batches.

    Raises:
        ArgumentError: one is out of range, or the model takes batches of another size.
    """
    batch = fit_batch(package.spec.engine.batch, batch)
    size = DEFAULT_SIZE if size is None else size
    if not 1 <= size <= LARGEST_SIZE:
        raise ArgumentError(f"a part is {size} pictures, expected 1 to {LARGEST_SIZE}")
    return -(-size // batch) * batch, batch
