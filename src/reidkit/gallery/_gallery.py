"""The gallery: enrol, search, forget; bound to one model."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import AbsentError, ArgumentError, MismatchError, ShapeError
from reidkit.gallery import _enrolling, _exporting, _reembedding
from reidkit.gallery._answers import Answer, Asking, Searched, find_people
from reidkit.gallery._enrolling import Door, Enrolment
from reidkit.gallery._packages import bind, check_package, find_package
from reidkit.gallery._pictures import Picture, embed_pictures, read_picture
from reidkit.gallery._quality import Quality
from reidkit.gallery._reembedding import Reembedded
from reidkit.gallery._stores import MEMORY, Store, create_store, open_store
from reidkit.gallery._thresholds import Thresholds, find_thresholds
from reidkit.gallery._values import (
    EVERYTHING,
    AuditLine,
    Binding,
    Crops,
    KeptPictures,
    Person,
    StoreFacts,
    Where,
    join_crops,
)
from reidkit.models import Model, load_model, to_unit_length
from reidkit.package import Package, read_package
from reidkit.records import Embeddings, Progress

MOST_POOLED = 1000
"""The most pictures of one person that a search takes."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a gallery is and holds."""

    crops: int
    people: int
    cameras: tuple[str, ...]
    binding: Binding
    thresholds: Thresholds | None
    pictures: KeptPictures
    store: StoreFacts


class Gallery:
    """Crops of people that can be searched: a store, and the model package its vectors are of.

    Safe to use from several threads. Use it as a context manager, or call `close()`. An `actor`
    is who acts, for the audit.
    """

    def __init__(self, store: Store, package: Package, *, place: str, device: str | None) -> None:
        self.place = place
        self.store = store
        self.package = package
        self.binding = bind(package)
        self.thresholds = find_thresholds(package)
        self.pictures = store.kept_pictures()
        self._device = device
        self._model: Model | None = None
        self._loading = threading.Lock()

    @classmethod
    def create(
        cls,
        place: str | Path,
        package: str | Path | Package,
        *,
        pictures: KeptPictures = KeptPictures(),  # noqa: B008 - frozen
        actor: str = "library",
    ) -> Gallery:
        """Make an empty gallery in a new folder or a PostgreSQL database, and open it.

        Raises:
            PackageError, FormatError, IntegrityError, MismatchError: the package, or its
                operating points, cannot be used.
            GalleryError: there is a gallery already, or none can be made there.
        """
        if not isinstance(package, Package):
            package = read_package(package)
        find_thresholds(package)
        create_store(place, bind(package), pictures, actor=actor)
        return cls.open(place, package=package)

    @classmethod
    def open(
        cls,
        place: str | Path,
        *,
        package: str | Path | Package | None = None,
        memory: int = MEMORY,
        device: str | None = None,
    ) -> Gallery:
        """Open a gallery with the model package its vectors are of.

        Without `package` it is the one it was made with, or moved to, where that was then.
        `memory` bytes of vectors are held in memory; `device` is where the model will run.

        Raises:
            GalleryError: there is no gallery.
            PackageError, FormatError, IntegrityError: the package cannot be used.
            MismatchError: the vectors are of another model or input contract than the package's.
        """
        store = open_store(place, memory=memory)
        try:
            binding = store.binding()
            if not isinstance(package, Package):
                package = find_package(place, package, binding)
            check_package(place, package, binding)
            return cls(store, package, place=str(place), device=device)
        except BaseException:
            store.close()
            raise

    @property
    def model(self) -> Model:
        """The model, loaded on first use."""
        with self._loading:
            if self._model is None:
                self._model = load_model(self.package, device=self._device)
            return self._model

    def embed(
        self, pictures: Sequence[str | Path | Picture], *, batch: int | None = None
    ) -> NDArray[np.float32]:
        """Turn pictures into vectors, (N, D) float32 of unit length.

        Raises:
            ImageError: for the first that cannot be decoded.
            EngineError: the engine failed.
        """
        read = [each if isinstance(each, Picture) else read_picture(each) for each in pictures]
        return embed_pictures(self.model, read, batch=batch)

    def add(
        self,
        crops: Crops,
        *,
        quality: Quality = Quality(),  # noqa: B008 - frozen
        batch: int | None = None,
        progress: Progress | None = None,
        actor: str = "library",
    ) -> Enrolment:
        """Read, embed and add the files that `crops.sources` name.

        Each part is on disk before the next is read; files that are there already for the same
        person are skipped, so that a killed call goes on when it is made again. Files that cannot
        be read or are not good enough are named in the result.

        Raises:
            ArgumentError: a crop has no person's name.
            MismatchError: the gallery was moved to another model meanwhile.
        """
        door = self._open_door(quality, actor)
        return _enrolling.add_files(door, crops, lambda: self.model, batch=batch, progress=progress)

    def enrol(
        self,
        crops: Crops,
        vectors: NDArray[np.float32],
        pictures: Sequence[Picture | None],
        *,
        quality: Quality = Quality(),  # noqa: B008 - frozen
        actor: str = "library",
    ) -> Enrolment:
        """Add crops with vectors (N, D) float32 that this gallery's model gave for them.

        Where there is a picture, its hash and quality count and it is kept as the gallery's rule
        says. All or none of those that are not refused are added.

        Raises:
            ArgumentError: a crop has no person's name.
            MismatchError, ShapeError: vectors of another model, shape or type, or not finite.
        """
        return _enrolling.enrol(self._open_door(quality, actor), crops, vectors, pictures)

    def add_embeddings(
        self,
        embeddings: Embeddings,
        crops: Crops,
        *,
        progress: Progress | None = None,
        actor: str = "library",
    ) -> Enrolment:
        """Add crops whose vectors were made before; no pictures are read or kept.

        Raises:
            MismatchError: the vectors are of another model or input contract, or nobody knows.
        """
        theirs = (embeddings.model_sha256, embeddings.contract_sha256)
        if theirs != (self.binding.model_sha256, self.binding.contract_sha256):
            raise MismatchError(
                f"these vectors are of model {theirs[0] or 'unknown'} and input contract "
                f"{theirs[1] or 'unknown'}, the gallery's of {self.binding.model_sha256} and "
                f"{self.binding.contract_sha256}: embed the pictures with {self.package.folder}"
            )
        parts = []
        for start in range(0, len(crops), 1024):
            rows = slice(start, start + 1024)
            part = crops.select(rows)
            nothing: list[Picture | None] = [None] * len(part)
            parts.append(self.enrol(part, embeddings.vectors[rows], nothing, actor=actor))
            if progress is not None:
                progress(start + len(part), len(crops))
        return _enrolling.join_enrolments(parts)

    def search(
        self,
        pictures: Sequence[str | Path | Picture],
        asking: Asking = Asking(),  # noqa: B008 - frozen
        *,
        actor: str = "library",
    ) -> Answer:
        """Find the people most like the one whom all `pictures` show.

        Raises:
            ArgumentError: no picture.
            ImageError: one cannot be decoded.
        """
        if not pictures:
            raise ArgumentError("a search needs at least one picture")
        searched = self._take_moment()  # before the model is run: it may be another afterwards
        return self._answer(searched, self.embed(pictures), asking, actor=actor)

    def search_vectors(
        self,
        vectors: NDArray[np.float32],
        asking: Asking = Asking(),  # noqa: B008 - frozen
        *,
        actor: str = "library",
    ) -> Answer:
        """Find the people most like the one of whom all vectors (Q, D) float32 are: their mean.

        The search is in the audit with the number of vectors; who was found is not.

        Raises:
            ShapeError, MismatchError: other vectors than this gallery's.
        """
        return self._answer(self._take_moment(), vectors, asking, actor=actor)

    def search_like(
        self,
        crop: int,
        asking: Asking = Asking(),  # noqa: B008 - frozen
        *,
        actor: str = "library",
    ) -> Answer:
        """Find the people most like a crop in the gallery; the crop itself is left out.

        Raises:
            AbsentError: there is no such crop.
        """
        vector = self.store.read_vectors(np.array([_check_crop(crop)], np.int64))
        where = dataclasses.replace(asking.where, without=(*asking.where.without, crop))
        return self.search_vectors(vector, dataclasses.replace(asking, where=where), actor=actor)

    def list_people(self, *, after: str = "", limit: int = 100, named: str = "") -> list[Person]:
        """List people by name: those after `after` whose name contains `named`."""
        return self.store.list_people(after=after, limit=limit, named=named)

    def read_person(self, name: str, *, after: int = 0, limit: int | None = None) -> Crops:
        """Give a person's crops by id, those after an id; none where nobody has that name."""
        size = 1024 if limit is None else max(1, min(limit, 1024))
        parts: list[Crops] = []
        for crops, _ in self.store.export(Where(people=(name,)), after=after, batch=size):
            parts.append(crops)
            if limit is not None and size * len(parts) >= limit:
                break
        return join_crops(parts).select(slice(limit))

    def picture(self, crop: int) -> bytes | None:
        """Give the picture kept of a crop, a PNG file; `None` where there is none."""
        return self.store.picture(crop) if 0 <= crop < 2**63 else None

    def remove(self, person: str, *, actor: str = "library") -> int:
        """Erase a person: all crops, vectors and pictures. Gives how many crops there were.

        `compact` then drops the last traces from disk.

        Raises:
            ArgumentError: no name.
        """
        if not person:
            raise ArgumentError("a person's name is needed to erase somebody")
        return self.store.remove(Where(people=(person,)), actor=actor)

    def remove_where(self, where: Where, *, actor: str = "library", action: str = "erase") -> int:
        """Erase all crops that are meant, and count them; see `remove`.

        Raises:
            ArgumentError: `where` means every crop of the gallery.
        """
        if where == EVERYTHING:  # an empty tuple of names means nobody, not everybody
            raise ArgumentError("this would erase the whole gallery: delete its folder instead")
        return self.store.remove(where, actor=actor, action=action)

    def stats(self, *, measure: bool = False) -> Stats:
        """Say what the gallery is and holds; `measure` measures the recall of its search."""
        return Stats(
            crops=self.store.count(EVERYTHING),
            people=self.store.count_people(),
            cameras=tuple(self.store.list_cameras()),
            binding=self.store.binding(),
            thresholds=self.thresholds,
            pictures=self.pictures,
            store=self.store.facts(measure=measure),
        )

    def audit(self, *, limit: int = 1000) -> list[AuditLine]:
        """Give the latest lines of the audit, the newest first."""
        return self.store.audit(limit=limit)

    def export(
        self,
        folder: str | Path,
        *,
        where: Where = EVERYTHING,
        pictures: bool = False,
        actor: str = "library",
    ) -> int:
        """Write crops to a new folder and count them: see `docs/gallery.md` for its files.

        Raises:
            ArgumentError: the folder exists already.
        """
        return _exporting.export(
            self.store, Path(folder), where=where, pictures=pictures, actor=actor
        )

    def compact(self, *, actor: str = "library") -> None:
        """Give back space, and drop every trace of what was erased."""
        self.store.compact(actor=actor)

    def reembed(
        self,
        package: str | Path | Package,
        *,
        drop_missing: bool = False,
        progress: Progress | None = None,
        actor: str = "library",
    ) -> Reembedded:
        """Move the gallery to another model: embed its crops again, then switch all at once.

        Kept pictures come first, then sources. Until the switch everybody searches and enrols as
        before; a killed call goes on when it is made again. Afterwards this object is of the new
        model; other processes refuse to search until they open the gallery again.

        Raises:
            GalleryError: it is of that model already, or crops cannot be embedded again: nothing
                was switched.
        """
        if not isinstance(package, Package):
            package = read_package(package)
        thresholds = find_thresholds(package)
        model = load_model(package, device=self._device)
        try:
            done = _reembedding.reembed(
                self.store,
                model,
                bind(package),
                drop_missing=drop_missing,
                progress=progress,
                actor=actor,
            )
        except BaseException:
            model.close()
            raise
        with self._loading:
            # The older model is not closed: a thread may be running it. It goes with its last user.
            self._model = model
            self.package, self.binding, self.thresholds = package, bind(package), thresholds
        return done

    def close(self) -> None:
        """Let go of the store and the model."""
        self.store.close()
        with self._loading:
            if self._model is not None:
                self._model.close()
                self._model = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _take_moment(self) -> Searched:
        """Say what is searched, and what its vectors are of at this moment."""
        return Searched(self.store, self.binding, self.thresholds)

    def _answer(
        self, searched: Searched, vectors: NDArray[np.float32], asking: Asking, *, actor: str
    ) -> Answer:
        """Search for the mean of vectors (Q, D), and note it."""
        answer = find_people(searched, self._pool(vectors), asking)
        self.store.note("search", len(vectors), actor=actor)
        return answer

    def _open_door(self, quality: Quality, actor: str) -> Door:
        return Door(self.store, self.binding, quality, actor)

    def _pool(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the direction of the mean of unit vectors, (D,) float32."""
        if vectors.ndim != 2 or not 1 <= len(vectors) <= MOST_POOLED:
            raise ShapeError(
                f"vectors are {vectors.shape}, expected (Q, {self.binding.dimension}) with Q from "
                f"1 to {MOST_POOLED}"
            )
        if vectors.shape[1] != self.binding.dimension:
            raise MismatchError(
                f"the vectors have length {vectors.shape[1]}, those of this gallery "
                f"{self.binding.dimension}: they are of another model"
            )
        if not np.isfinite(vectors).all():
            raise ShapeError("vectors hold NaN or infinity")
        mean = to_unit_length(vectors.astype(np.float32)).mean(axis=0, keepdims=True)
        pooled: NDArray[np.float32] = to_unit_length(mean)[0]
        return pooled


def reembed_place(
    place: str | Path,
    package: str | Path | Package,
    *,
    drop_missing: bool = False,
    progress: Progress | None = None,
    actor: str = "library",
    device: str | None = None,
) -> Reembedded:
    """Move the gallery at a place to another model; see `Gallery.reembed`.

    The package that its vectors are of now is not needed: it may be lost.

    Raises:
        GalleryError: see `Gallery.reembed`.
    """
    if not isinstance(package, Package):
        package = read_package(package)
    find_thresholds(package)
    store = open_store(place)
    try:
        with load_model(package, device=device) as model:
            return _reembedding.reembed(
                store,
                model,
                bind(package),
                drop_missing=drop_missing,
                progress=progress,
                actor=actor,
            )
    finally:
        store.close()


def _check_crop(crop: int) -> int:
    """Refuse a number that is no crop's id.

    Raises:
        AbsentError: it does not fit.
    """
    if not 0 <= crop < 2**63:
        raise AbsentError(f"there is no crop {crop} in this gallery")
    return crop
