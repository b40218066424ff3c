"""Every error that reidkit raises on purpose.

    ReidkitError
    ├── DatasetError                a data set that does not have the layout it should have
    ├── ImageError                  one picture that cannot be decoded
    ├── UnreadableImagesError       the pictures of a run that could not be decoded, all of them
    ├── CheckpointError             a file that is not a usable checkpoint
    │   ├── UnsafeCheckpointError       it would run code when loaded
    │   └── IncompatibleCheckpointError its tensors are not those of the network
    ├── PackageError                a folder that is not a usable model package
    ├── StoreError                  a folder that is not a usable embeddings folder
    ├── GalleryError                a place that is not a usable gallery, or what a gallery refuses
    │   └── AbsentError                 somebody, or a crop, that is not in the gallery
    ├── FormatError                 a file written in a format number this version does not read
    ├── IntegrityError              a file whose bytes are not those that were recorded
    ├── MismatchError               two values that do not belong together
    ├── ShapeError                  an array or a column of another shape or type than required
    ├── ArgumentError               an argument outside its allowed values
    ├── ExportError                 a network that could not be turned into a verified package
    ├── CompileError                a package that could not be compiled for a target
    ├── CalibrationError            data that may not, or cannot, calibrate what is asked for
    ├── EngineError                 an inference engine that failed or gave unusable output
    │   └── DeviceError                 the device asked for is not the one that would run
    ├── TrainingError               a training that cannot go on, or a folder that is not one
    ├── AscendError                 what a step of the Ascend guide refuses
    └── MissingExtraError           an optional dependency that is not installed

A message says what happened, to which value, and what to do about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class ReidkitError(Exception):
    """The root: catch this to catch whatever reidkit raises on purpose."""


class DatasetError(ReidkitError):
    """A data set that does not have the layout it should have."""


class ImageError(ReidkitError):
    """One picture that cannot be decoded.

    `path` is the picture as it was asked for, `reason` the cause in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class UnreadableImage(NamedTuple):
    """A picture left out of a run, and why."""

    path: str
    reason: str


class UnreadableImagesError(ReidkitError):
    """All pictures of a run that could not be decoded; the run went on to find every one.

    `images` holds them in sample order, `total` counts all pictures; `advice` says what else to do
    than to repair them.
    """

    def __init__(self, images: Sequence[UnreadableImage], total: int, advice: str = "") -> None:
        shown = "; ".join(f"{path}: {reason}" for path, reason in images[:10])
        more = f"; and {len(images) - 10} more" if len(images) > 10 else ""
        super().__init__(
            f"{len(images)} of {total} pictures could not be read: {shown}{more}. Repair or "
            f"remove them{advice}"
        )
        self.images = tuple(images)
        self.total, self.advice = total, advice

    def __reduce__(
        self,
    ) -> tuple[type[UnreadableImagesError], tuple[tuple[UnreadableImage, ...], int, str]]:
        return type(self), (self.images, self.total, self.advice)


class CheckpointError(ReidkitError):
    """A file that is not a usable checkpoint."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint that would run code when loaded; nothing of it was executed."""


class IncompatibleCheckpointError(CheckpointError):
    """A checkpoint whose tensors are not those of the network."""


class PackageError(ReidkitError):
    """A folder that is not a usable model package."""


class StoreError(ReidkitError):
    """A folder that is not a usable embeddings folder."""


class GalleryError(ReidkitError):
    """A place that is not a usable gallery, or what a gallery refuses."""


class AbsentError(GalleryError):
    """Somebody, or a crop, that is not in the gallery."""


class FormatError(ReidkitError):
    """A file written in a format number that this version does not read."""


class IntegrityError(ReidkitError):
    """A file whose bytes are not those that were recorded."""


class MismatchError(ReidkitError):
    """Two values that do not belong together, such as embeddings of two models."""


class ShapeError(ReidkitError):
    """An array or a column of another shape or type than required."""


class ArgumentError(ReidkitError):
    """An argument outside its allowed values."""


class ExportError(ReidkitError):
    """A network that could not be turned into a verified package."""


class CompileError(ReidkitError):
    """A package that could not be compiled for a target; nothing was written."""


class CalibrationError(ReidkitError):
    """Data that may not, or cannot, calibrate a compilation or an operating point."""


class EngineError(ReidkitError):
    """An inference engine that failed or gave unusable output."""


class DeviceError(EngineError):
    """The device that was asked for is not the one that would run."""


class TrainingError(ReidkitError):
    """A training that cannot go on, or a folder that is not a usable run."""


class AscendError(ReidkitError, RuntimeError):
    """What a step of the Ascend guide refuses: files, options or names that do not belong together.

    `code` is the compiler's own number for it, such as `E10001`, where it has one. It is a
    `RuntimeError` too, since that is what scripts for the guide's tools catch.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message if code is None else f"{code}: {message}")
        self.code = code
        self._message = message

    def __reduce__(self) -> tuple[type[AscendError], tuple[str, str | None]]:
        return type(self), (self._message, self.code)


class MissingExtraError(ReidkitError):
    """An optional dependency that is not installed.

    `extra` is the name in `pip install 'reidkit[extra]'`.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'reidkit[{extra}]'")
        self.extra = extra
        self._library = library

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self._library, self.extra)


def name_some(names: Sequence[str]) -> str:
    """List names for a message, at most ten of them."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
