"""The embeddings folder in the making. Until it is finished it holds

    plan.json        what determines the vectors: model, contract, samples, batch size
    vectors.partial  the final bytes of vectors.npy, filled batch by batch
    journal.jsonl    one line for each batch on disk, with its checksum

A killed process leaves these behind, and the same call goes on from them: a batch whose checksum
holds is not computed again.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Self

import filelock
import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import MismatchError, ShapeError, StoreError, UnreadableImage
from reidkit.records import Embeddings, Samples
from reidkit.store._folder import (
    FORMAT,
    MANIFEST,
    PLAN,
    VECTORS,
    array_header,
    read_embeddings,
    read_manifest,
    read_plan,
    write_manifest,
)
from reidkit.store._journal import Entry, Stamp, fingerprint, read_journal, stamp_files
from reidkit.store._plan import Identity, Plan
from reidkit.store._shards import Cut, Shard, cut_samples, find_cut, format_cut

_PARTIAL = "vectors.partial"
_JOURNAL = "journal.jsonl"
_LOCK = ".lock"


class EmbeddingsWriter:
    """An embeddings folder that one process fills. Use it as a context manager."""

    def __init__(
        self, folder: str | Path, samples: Samples, plan: Plan, shard: Shard | None = None
    ) -> None:
        """Begin a folder, or go on with one begun with the same samples and plan.

        With a `shard` the folder is for that part of the samples alone; `self.samples` are those.

        Raises:
            StoreError: another process is writing it, or it holds other things.
            MismatchError: it was begun, or finished, with other samples, another plan or shard.
        """
        self.folder = Path(folder)
        self.plan = plan
        self.shard = shard
        self.total = len(samples)  # of the whole run, all shards together
        cut: Cut | None = None
        if shard is not None:
            cut, samples = cut_samples(samples, shard, plan.batch)
        self.samples = samples
        self._header = array_header(len(samples), plan.dimension)
        self._identity = Identity(plan, fingerprint(samples), cut)
        self._finished = False
        self._blocks: dict[int, list[UnreadableImage]] = {}
        self._check_folder()
        self._lock = _lock(self.folder)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def finished(self) -> bool:
        """Whether the folder is complete."""
        return self._finished

    @property
    def pending(self) -> list[int]:
        """First rows of the batches that are not on disk yet, in order."""
        if self._finished:
            return []
        starts = range(0, len(self.samples), self.plan.batch)
        return [start for start in starts if start not in self._blocks]

    @property
    def unreadable(self) -> dict[int, list[UnreadableImage]]:
        """The unreadable pictures on record, by the first row of their batch."""
        return {start: self._blocks[start] for start in sorted(self._blocks) if self._blocks[start]}

    def retry(self, start: int) -> None:
        """Put a batch back among the pending ones."""
        del self._blocks[start]

    def append(
        self, start: int, vectors: NDArray[np.float32], unreadable: list[UnreadableImage]
    ) -> None:
        """Put one batch on disk: (B, D) float32, a row for each picture, unreadable ones too."""
        expected = (self._stop(start) - start, self.plan.dimension)
        if vectors.shape != expected or vectors.dtype != np.float32:
            raise ShapeError(
                f"the vectors of a batch are {vectors.dtype} {vectors.shape}, "
                f"expected float32 {expected}"
            )
        data = vectors.astype("<f4", copy=False).tobytes()
        with (self.folder / _PARTIAL).open("r+b") as file:
            file.seek(self._offset(start))
            file.write(data)
        # The journal's line comes after the bytes it vouches for.
        entry = Entry(start, zlib.crc32(data), self._stamp(start), unreadable)
        with (self.folder / _JOURNAL).open("ab") as file:
            file.write(entry.line())
        self._blocks[start] = unreadable

    def finish(self) -> Embeddings:
        """Move the vectors into place, write the manifest last, and read the folder back."""
        if self.pending:
            raise StoreError(f"{self.folder} still lacks {len(self.pending)} batches")
        if not self._finished:
            self._move_into_place()
        return read_embeddings(self.folder)

    def close(self) -> None:
        """Let other processes at the folder; what is on disk stays."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_folder(self) -> None:
        """Refuse a folder of other things before anything, even a lock, is put into it."""
        ours = (MANIFEST, PLAN)
        if self.folder.is_dir() and not any((self.folder / name).exists() for name in ours):
            other = [entry.name for entry in self.folder.iterdir() if entry.name[0] != "."]
            if other:
                raise StoreError(
                    f"{self.folder} holds other things ({other[0]}): choose another place"
                )

    def _open(self) -> None:
        if (self.folder / MANIFEST).exists():
            manifest = read_manifest(self.folder)
            made_by = manifest.get("made_by") or {}
            self._check_identity(made_by, find_cut(manifest, self.folder), "holds")
            if made_by.get("pictures") != self._stamps().number:
                raise MismatchError(
                    f"{self.folder} holds embeddings of these pictures as they were before they "
                    "changed on disk: choose another folder, or delete this one"
                )
            self._finished = True
        elif (self.folder / PLAN).exists():
            plan = read_plan(self.folder)
            self._check_identity(plan, find_cut(plan, self.folder), "was begun for")
            self._resume()
        else:
            plan = {"format": FORMAT} | self._identity.as_json() | format_cut(self._identity.cut)
            disk.write_json(self.folder / PLAN, plan)
            self._allocate()
        self._sweep()

    def _sweep(self) -> None:
        """Remove what a process left behind that was killed while it wrote or finished."""
        for path in self.folder.glob(".*.partial"):
            path.unlink()
        if self._finished:
            for name in (_PARTIAL, _JOURNAL, PLAN):
                (self.folder / name).unlink(missing_ok=True)

    def _check_identity(self, found: dict[str, object], cut: Cut | None, verb: str) -> None:
        if problem := self._identity.find_difference(found, cut):
            raise MismatchError(
                f"{self.folder} {verb} embeddings with {problem}: choose another folder, or delete "
                "this one"
            )

    def _allocate(self) -> None:
        with (self.folder / _PARTIAL).open("wb") as file:
            file.write(self._header)
            file.truncate(self._offset(len(self.samples)))
        (self.folder / _JOURNAL).write_bytes(b"")

    def _resume(self) -> None:
        """Take over the batches whose bytes are on disk as the journal says."""
        partial, moved = self.folder / _PARTIAL, self.folder / VECTORS
        if not partial.exists() and moved.exists():
            moved.replace(partial)  # the process died between the move and the manifest
        if not partial.exists() or partial.stat().st_size != self._offset(len(self.samples)):
            self._allocate()
        kept = []
        with partial.open("rb") as file:
            for entry in read_journal(self.folder / _JOURNAL):
                file.seek(self._offset(entry.start))
                data = file.read(self._offset(self._stop(entry.start)) - file.tell())
                if (zlib.crc32(data), self._stamp(entry.start)) == (entry.crc32, entry.pictures):
                    self._blocks[entry.start] = entry.unreadable
                    kept.append(entry.line())
        disk.write_bytes(self.folder / _JOURNAL, b"".join(kept))  # without torn lines

    def _move_into_place(self) -> None:
        unreadable = [image for images in self.unreadable.values() for image in images]
        partial, vectors = self.folder / _PARTIAL, self.folder / VECTORS
        samples = self.samples
        if unreadable:
            keep = samples.find_readable(unreadable)
            samples = samples.select(keep)
            np.save(vectors, np.load(partial, mmap_mode="r")[keep])
        else:
            partial.replace(vectors)
        embeddings = Embeddings(
            np.load(vectors, mmap_mode="r"),
            samples,
            self.plan.model_sha256,
            self.plan.contract_sha256,
            tuple(unreadable),
        )
        self._write_manifest(embeddings)
        self._finished = True
        self._sweep()

    def _write_manifest(self, embeddings: Embeddings) -> None:
        stamp = self._stamps()
        made_by = self._identity.as_json() | {"pictures": stamp.number}
        # With its length, the stamp of all shards' pictures can be told from theirs.
        more = format_cut(self._identity.cut, stamped=stamp.length)
        write_manifest(self.folder, embeddings, made_by, more)

    def _stamp(self, start: int) -> int:
        """Give a number that changes when one of a batch's picture files changes."""
        return stamp_files(self.samples.paths[start : start + self.plan.batch].tolist()).number

    def _stamps(self) -> Stamp:
        return stamp_files(self.samples.paths.tolist())

    def _stop(self, start: int) -> int:
        return min(start + self.plan.batch, len(self.samples))

    def _offset(self, row: int) -> int:
        return len(self._header) + row * self.plan.dimension * 4


def _lock(folder: Path) -> filelock.BaseFileLock:
    """Lock a folder until the process ends, however it ends, or lets go."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / _LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StoreError(f"another process is writing {folder}: wait for it to end") from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error}") from error
    return lock
