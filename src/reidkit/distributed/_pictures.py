"""Picture files, one by one, on this machine or in an object store."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from reidkit import preprocess
from reidkit.distributed._pieces import Crop, Pictures
from reidkit.distributed._places import Place
from reidkit.errors import ImageError, StoreError

_AT_ONCE = 16
"""Files of an object store that a task reads at once: each makes it wait."""

_FAULTS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)
"""What is wrong with one picture for good; anything else is a disk's failure, to be tried again."""

_FORBIDDEN = "ACCESS_DENIED"
"""What an object store says of one picture that may not be read."""


def read_pictures(piece: Pictures) -> Iterator[Crop]:
    """Read the files of a piece."""
    places = [Place(piece.root, name) if piece.root else Place(name) for name in piece.names]
    return open_pictures(places, piece.person_ids, piece.camera_ids)


def open_pictures(
    places: Sequence[Place], person_ids: Sequence[int], camera_ids: Sequence[int]
) -> Iterator[Crop]:
    """Read picture files, those of an object store several at once."""
    columns = (places, person_ids, camera_ids)
    if all(place.local is not None for place in places):
        yield from map(_open, *columns)
        return
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="reidkit-reader") as pool:
        for start in range(0, len(places), 4 * _AT_ONCE):
            yield from pool.map(_open, *(each[start : start + 4 * _AT_ONCE] for each in columns))


def _open(place: Place, person_id: int, camera_id: int) -> Crop:
    data, fault = b"", ""
    try:
        path = place.local
        if path is None:
            data = place.read_bytes(largest=preprocess.MAXIMUM_BYTES)
        else:
            data = preprocess.read_bytes(path)
    except ImageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in _FAULTS:
            raise StoreError(f"{place} cannot be read: {error.reason}") from error
        fault = error.reason
    except FileNotFoundError:
        fault = "No such file"
    except StoreError as error:
        if _FORBIDDEN not in str(error):
            raise
        fault = "access is denied"
    return Crop(str(place), person_id, camera_id, data, fault)
