"""Moving a gallery to another model: its crops are embedded again, then all switches at once."""

from __future__ import annotations

from dataclasses import dataclass

from reidkit.errors import GalleryError, ImageError
from reidkit.gallery._enrolling import Refused, embed_pictures
from reidkit.gallery._pictures import Picture, decode_picture, read_picture
from reidkit.gallery._stores import Store
from reidkit.gallery._values import EVERYTHING, Binding, Crops
from reidkit.models import Model
from reidkit.records import Progress

_TOGETHER = 128


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
    after = done = 0
    while len(crops := store.list_missing(after=after, limit=_TOGETHER)):
        after = int(crops.ids[-1])
        _embed_some(store, model, crops, missing)
        done += len(crops)
        if progress is not None:
            progress(min(done, total), total)
    dropped = _finish(store, missing, drop_missing=drop_missing, actor=actor)
    return Reembedded(store.count(EVERYTHING), dropped, tuple(missing.values()))


def _embed_some(store: Store, model: Model, crops: Crops, missing: dict[int, Refused]) -> None:
    pictures: list[Picture] = []
    rows = []
    for row, crop in enumerate(crops.ids.tolist()):
        source, digest = crops.sources[row], crops.digests[row]
        try:
            pictures.append(_find_picture(store, crop, source, digest))
            rows.append(row)
        except ImageError as error:
            missing[crop] = Refused(source or f"crop {crop}", error.reason)
    if pictures:
        store.add_vectors(crops.ids[rows], embed_pictures(model, pictures))


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


def _finish(store: Store, missing: dict[int, Refused], *, drop_missing: bool, actor: str) -> int:
    """Switch, unless crops would be lost that nobody agreed to lose."""
    try:
        return store.finish_rebinding(drop_missing=drop_missing, actor=actor)
    except GalleryError as error:
        if not missing:
            raise
        names = ", ".join(f"{each.name} ({each.reason})" for each in list(missing.values())[:10])
        raise GalleryError(
            f"{len(missing)} crops cannot be embedded again, so that nothing was switched and the "
            f"gallery works as before: {names}. Bring the pictures back and run this again, or "
            "erase those crops with --drop-missing (drop_missing=True)"
        ) from error
