"""Moving a gallery to another model: its crops are embedded again, then all switches at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reidkit.errors import GalleryError, ImageError
from reidkit.gallery._enrolling import Refused
from reidkit.gallery._pictures import Picture, decode_picture, embed_pictures, read_picture
from reidkit.gallery._stores import Store
from reidkit.gallery._values import EVERYTHING, Binding
from reidkit.models import Model
from reidkit.records import Progress

_TOGETHER = 128
_HELD_BYTES = 2**27
"""Decoded pictures that wait for each other at most, one apart."""


@dataclass(frozen=True, slots=True)
class Reembedded:
    """What became of a gallery's crops.

    Fields:
        crops: how many have a vector of the new model.
        dropped: how many were erased since neither a kept picture nor their source was there.
        missing: those, by source.
    """

    crops: int
    dropped: int = 0
    missing: tuple[Refused, ...] = ()


def reembed(
    store: Store,
    model: Model,
    binding: Binding,
    *,
    drop_missing: bool = False,
    progress: Progress | None = None,
    actor: str = "library",
) -> Reembedded:
    """Embed all crops again and switch; see `Gallery.reembed`."""
    if store.binding().same_vectors(binding):
        raise GalleryError("this gallery's vectors are of that model already: nothing to do")
    store.start_rebinding(binding)
    total = store.count(EVERYTHING)
    missing: dict[int, Refused] = {}
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(min(done, total), total)

    dropped = -1
    while dropped < 0:  # somebody may enrol between the last crop and the switch
        _embed_missing(store, model, binding, missing, tell)
        if missing and not drop_missing:
            _refuse_missing(store, missing)
        dropping = np.array(sorted(missing), np.int64)
        dropped = store.finish_rebinding(binding=binding, dropping=dropping, actor=actor)
    return Reembedded(store.count(EVERYTHING), dropped, tuple(missing.values()))


def _embed_missing(
    store: Store,
    model: Model,
    binding: Binding,
    missing: dict[int, Refused],
    tell: Callable[[int], None],
) -> None:
    """Embed the crops that lack a vector; those that cannot be are added to `missing`."""
    after = 0
    while len(crops := store.list_missing(binding=binding, after=after, limit=_TOGETHER)):
        after = int(crops.ids[-1])
        crops = crops.select(np.array([crop not in missing for crop in crops.ids.tolist()]))
        held: dict[int, Picture] = {}
        for row, crop in enumerate(crops.ids.tolist()):
            source, digest = crops.sources[row], crops.digests[row]
            try:
                held[crop] = _find_picture(store, crop, source, digest)
            except ImageError as error:
                missing[crop] = Refused(source or f"crop {crop}", error.reason)
            if sum(picture.pixels.nbytes for picture in held.values()) > _HELD_BYTES:
                _embed_some(store, model, binding, held)
                held = {}
        _embed_some(store, model, binding, held)
        tell(len(crops))


def _embed_some(store: Store, model: Model, binding: Binding, pictures: dict[int, Picture]) -> None:
    if pictures:
        vectors = embed_pictures(model, list(pictures.values()))
        store.add_vectors(np.array(list(pictures), np.int64), vectors, binding=binding)


def _find_picture(store: Store, crop: int, source: str, digest: str) -> Picture:
    """Give a crop's kept picture, else what its source holds, if that is still the same file.

    A source is what whoever enrolled the crop said: without the check of its hash it could make
    this process read any file.
    """
    kept = store.picture(crop)
    if kept is not None:
        return decode_picture(kept, source or f"crop {crop}")
    if not source:
        raise ImageError(f"crop {crop}", "no picture is kept, and no source is known")
    picture = read_picture(source)
    if picture.digest != digest:
        raise ImageError(source, "it is not the file that was enrolled")
    return picture


def _refuse_missing(store: Store, missing: dict[int, Refused]) -> None:
    """Stop where crops would be lost that nobody agreed to lose; those erased meanwhile are not.

    Raises:
        GalleryError: some are still there.
    """
    there = store.read(np.array(sorted(missing), np.int64)).ids.tolist()
    if not there:
        return
    listed = [missing[crop] for crop in there[:10]]
    names = ", ".join(f"{each.name} ({each.reason})" for each in listed)
    raise GalleryError(
        f"{len(there)} crops cannot be embedded again, so that nothing was switched and the "
        f"gallery works as before: {names}. Bring the pictures back and run this again, or "
        "erase those crops with --drop-missing (drop_missing=True)"
    )
