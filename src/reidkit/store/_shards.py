"""Shards: a run cut so that N processes, anywhere, embed a part each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from reidkit.errors import ArgumentError, StoreError
from reidkit.records import Samples
from reidkit.store._journal import fingerprint

_TEXT = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")

LARGEST_COUNT = 1_000_000
"""The most shards of a run."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of the `count` parts of a run; `index` goes from 1 to `count`.

    Raises:
        ArgumentError: there is no such shard.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= LARGEST_COUNT:
            raise ArgumentError(
                f"{self} is no shard: a run has from 1 to {LARGEST_COUNT:,} of them"
            )
        if not 1 <= self.index <= self.count:
            raise ArgumentError(f"{self} is no shard: their numbers go from 1 to {self.count}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `3/8`, the third of eight.

        Raises:
            ArgumentError: it is something else.
        """
        if not (found := _TEXT.fullmatch(text)):
            raise ArgumentError(f"{text!r} is no shard, expected INDEX/COUNT, such as 3/8")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def find_rows(self, total: int, batch: int) -> range:
        """Give the shard's rows out of `total` pictures that are embedded `batch` at a time.

        Shards hold whole batches of the run that is not cut, since an engine may round otherwise
        in other company; they differ by one batch at most. Where there are fewer batches than
        shards, some are empty.
        """
        batches = -(-total // batch)
        start, stop = (n * batches // self.count * batch for n in (self.index - 1, self.index))
        return range(start, min(stop, total))


@dataclass(frozen=True, slots=True)
class Cut:
    """What the folder of a shard notes of the whole: which rows it holds out of what.

    `first` is its first row, `total` the number of pictures of all shards together and
    `samples_sha256` their fingerprint.
    """

    index: int
    count: int
    first: int
    total: int
    samples_sha256: str

    @property
    def shard(self) -> Shard:
        """Which shard it is."""
        return Shard(self.index, self.count)

    def find_rows(self, batch: int) -> range:
        """Give the shard's rows; see `Shard.find_rows`."""
        return self.shard.find_rows(self.total, batch)


def cut_samples(samples: Samples, shard: Shard, batch: int) -> tuple[Cut, Samples]:
    """Give a shard's pictures, and where it was cut out of all the `samples`."""
    rows = shard.find_rows(len(samples), batch)
    cut = Cut(shard.index, shard.count, rows.start, len(samples), fingerprint(samples))
    return cut, samples.select(slice(rows.start, rows.stop))


def format_cut(cut: Cut | None, **more: int) -> dict[str, object]:
    """Give what a plan or a manifest holds of a cut: nothing where the folder is no shard."""
    return {} if cut is None else {"shard": asdict(cut) | more}


def find_cut(found: Mapping[str, Any], where: object) -> Cut | None:
    """Read from a plan or a manifest how its folder was cut; `None` where it is no shard.

    Raises:
        StoreError: it makes no sense; `where` is what the message calls the file or folder.
    """
    if found.get("shard") is None:
        return None
    try:
        values = found["shard"]
        shard = Shard(int(values["index"]), int(values["count"]))
        first, total = int(values["first"]), int(values["total"])
        return Cut(shard.index, shard.count, first, total, str(values["samples_sha256"]))
    except (KeyError, ValueError, TypeError, ArgumentError) as error:
        raise StoreError(f"{where} is damaged ({error!r}); embed again") from error
