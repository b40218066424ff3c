"""Embedding on Ray Data: read and decode in tasks, embed in actors, write in tasks.

A row of the engine's stream is a whole section: its names, and its pixels or vectors as one
tensor. Only what the parts hold comes back to the driver.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reidkit.distributed._cluster import Share, quiet_data, speaking
from reidkit.distributed._embedding import embed_section, open_model, pack, unpacked
from reidkit.distributed._parts import PartFacts, PartPlan, write_part
from reidkit.distributed._places import Place
from reidkit.distributed._plan import Job
from reidkit.distributed._sections import Section, SectionNames, read_sections
from reidkit.package import InputSpec

_PIECES_OF_A_TASK = 16
"""In a long run: tasks that last some seconds cost the engine little."""

_SECTIONS_OF_AN_ACTOR = 2
"""One that is worked on, and one that waits."""

_APART = 0.01
"""How much of a processor less an actor asks for than its share: where it asked for what reading
asks for, Ray would put both into one process, one after the other."""

_WRITING = 0.25
"""The share of a processor that writing a part takes, most of it waiting."""

_Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Work:
    """What an actor is told; see `Job` and `Share`."""

    device: str | None
    flip: bool
    batch: int
    threads: int


def run(
    ray: Any, job: Job, share: Share, missing: Mapping[int, frozenset[int]]
) -> Iterator[PartFacts]:
    """Embed the pieces `missing`, piece -> sections that are done, and tell of each part written.

    Raises:
        ReidkitError: a task or an actor failed for good; the parts written stay.
    """
    from ray.data import ActorPoolStrategy, from_items

    items = [
        {"piece": pickle.dumps((number, job.source.pieces[number], done))}
        for number, done in sorted(missing.items())
    ]
    blocks = max(1, min(len(items), 4 * share.actors + len(items) // _PIECES_OF_A_TASK))
    files = ray.put(pack(job.package))
    # Ray shows an actor its own GPU only, under the first number.
    device = job.plan.device.partition(":")[0] if share.gpus else job.device
    work = _Work(device, job.flip, job.plan.batch, share.threads)
    with speaking(), quiet_data():
        stream = from_items(items, override_num_blocks=blocks).map_batches(
            _read,
            fn_kwargs={"contract": job.package.spec.input, "size": job.plan.size},
            batch_size=None,
            num_cpus=1,
        )
        stream = stream.map_batches(
            _Embedder,
            # In a list it stays a reference, which each actor follows by itself.
            fn_constructor_kwargs={"files": [files], "work": work},
            batch_size=None,
            compute=ActorPoolStrategy(
                size=share.actors, max_tasks_in_flight_per_actor=_SECTIONS_OF_AN_ACTOR
            ),
            num_cpus=max(0, share.cpus - _APART),
            num_gpus=share.gpus,
        )
        stream = stream.map_batches(
            _write, fn_kwargs={"out": job.out, "plan": job.plan}, batch_size=None, num_cpus=_WRITING
        )
        for row in stream.iter_rows():
            yield PartFacts(**row)


class _Embedder:
    """An actor: a model, loaded once."""

    def __init__(self, files: list[Any], work: _Work) -> None:
        import ray

        self._work = work
        self._open = ExitStack()
        folder = self._open.enter_context(unpacked(ray.get(files[0])))
        model = open_model(folder, device=work.device, threads=work.threads, flip=work.flip)
        self._model = self._open.enter_context(model)

    def __call__(self, block: _Block) -> Iterator[_Block]:
        """Turn sections of pixels into sections of vectors."""
        for about, pixels in zip(block["about"], block["values"], strict=True):
            names: SectionNames = pickle.loads(about)
            section = Section(names, pixels[: len(names.names)])
            yield _as_row(about, embed_section(self._model, section, batch=self._work.batch))


def _read(block: _Block, contract: InputSpec, size: int) -> Iterator[_Block]:
    """Read pieces section by section."""
    for packed in block["piece"]:
        number, piece, done = pickle.loads(packed)
        for section in read_sections(number, piece, contract, size=size, done=done):
            yield _as_row(pickle.dumps(section.about), section.pixels)


def _write(block: _Block, out: Place, plan: PartPlan) -> Iterator[_Block]:
    """Write parts and tell what they hold."""
    for about, vectors in zip(block["about"], block["values"], strict=True):
        names: SectionNames = pickle.loads(about)
        part = write_part(out, plan, names, vectors[: len(names.names)])
        yield {name: [value] for name, value in asdict(part).items()}


def _as_row(about: bytes, values: NDArray[Any]) -> _Block:
    """Give a stream's row; a section without pictures gets a row of zeros, which is cut off."""
    if not len(values):
        values = np.zeros((1, *values.shape[1:]), values.dtype)
    column = np.empty(1, np.object_)
    column[0] = about
    return {"about": column, "values": values[None]}
