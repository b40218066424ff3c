"""What finished steps found, kept on disk so that a killed run goes on after them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from reidkit import disk
from reidkit.records import DroppedQueries, Samples, Scores

Fields = dict[str, Any]
"""What one step found, as JSON holds it."""


_CURVES = ("cmc", "precision")


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of one run: what each found, in a folder, and the seconds each took.

    `identity` is the hash of all that the run works on; what a step found under another identity
    is found anew.
    """

    folder: Path
    identity: str
    seconds: dict[str, float] = field(default_factory=dict)

    def find(self, name: str, version: str, compute: Callable[[], Fields]) -> Fields:
        """Give what an earlier run found in this step, or compute it and write it down.

        `version` is the hash of what this step alone depends on, such as a compiled file's.
        """
        path = self.folder / f"{name}.json"
        key = disk.sha256_json([self.identity, version])
        found = _read(path, key)
        if found is None:
            with self.timed(name) as seconds:
                found = {"found": compute()}
            found |= {"key": key, "seconds": seconds()}
            disk.write_json(path, found)
        self.seconds[name] = found["seconds"]
        fields: Fields = found["found"]
        return fields

    def forget(self, name: str) -> None:
        """Drop what was found in a step, since its files are gone or changed."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    @contextmanager
    def timed(self, name: str) -> Iterator[Callable[[], float]]:
        """Note how many seconds the block takes; the value given tells them afterwards."""
        began = time.perf_counter()
        yield lambda: self.seconds[name]
        self.seconds[name] = time.perf_counter() - began


def identify_pictures(samples: Samples) -> str:
    """Give one hash for a list of pictures: where they are, their sizes, when they changed."""
    facts = []
    for path in samples.paths:
        try:
            status = Path(path).stat()
        except OSError:
            facts.append([path])  # it is named with the unreadable pictures later
            continue
        facts.append([path, status.st_size, status.st_mtime_ns])
    return disk.sha256_json(facts)


def scores_as_fields(scores: Scores) -> Fields:
    """Give scores as JSON holds them, exactly."""
    lists = {name: [float(value) for value in getattr(scores, name)] for name in _CURVES}
    return dataclasses.asdict(scores) | lists


def scores_from_fields(fields: Mapping[str, Any]) -> Scores:
    """Give the scores that `scores_as_fields` was given."""
    curves = {name: np.array(fields.get(name, ()), np.float32) for name in _CURVES}
    return Scores(**{**fields, **curves, "dropped": DroppedQueries(**fields["dropped"])})


def _read(path: Path, key: str) -> Fields | None:
    """Read a step's file; `None` where it is missing, damaged, or about something else."""
    try:
        fields = disk.read_json(path)
    except (OSError, ValueError):
        return None
    whole = {"found", "key", "seconds"} <= fields.keys()
    return fields if whole and fields["key"] == key else None
