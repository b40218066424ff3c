"""The model package: a folder that holds a network and everything needed to run it rightly.

    model.json        what it is: the input contract, hashes, provenance (written last)
    model.onnx        the engine file; a compiled package has its engine's own, perhaps several
    reference.npz     small pictures (uint8) and the vectors the reference network gave for them
    calibration.json  in a package that was calibrated: the pictures that were used, by hash

`reference.npz` lets anybody check the package on any machine without a data set.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reidkit import disk
from reidkit.errors import (
    ArgumentError,
    FormatError,
    IntegrityError,
    PackageError,
    ShapeError,
)

FORMAT = 2
"""The number of the package format that this version writes."""

READABLE_FORMATS = (1, 2)
"""Those it reads. Format 1 had no compiled packages."""

MANIFEST = "model.json"
REFERENCE = "reference.npz"
CALIBRATION = "calibration.json"
MINIMUM_REFERENCE_PICTURES = 16

Triple = tuple[float, float, float]
Inputs = NDArray[np.float32 | np.uint8]
"""What an engine is fed: see `Takes`."""

Takes = Literal["tensor", "pixels"]
"""What an engine file takes: `tensor`, (B, 3, H, W) float32 normalised by the contract, or
`pixels`, (B, H, W, 3) uint8 RGB, resized by the contract and normalised inside the file."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The input contract: how a picture becomes the network's input, and its output a vector.

    A picture is decoded to RGB as Pillow does it (grey, palette, alpha and CMYK converted; the
    EXIF orientation is *ignored*, as the field's reference code does), resized to `height` x
    `width` with Pillow's antialiased `resize` filter, put into `colour` order, and each channel
    becomes `(pixel * scale - mean) / std` in float32. `mean` and `std` are in `colour` order.

    `neck` says where the vector is taken: `after` or `before` the BNNeck, or `output` for a
    network from elsewhere. `flip` averages the vectors of the picture and its mirror image;
    `unit_length` divides each vector by its Euclidean length.
    """

    height: int = 256
    width: int = 128
    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    colour: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    neck: Literal["after", "before", "output"] = "after"
    flip: bool = False
    unit_length: bool = True

    def __post_init__(self) -> None:
        _check_choice("resize", self.resize, ("bilinear", "bicubic", "nearest"))
        _check_choice("colour", self.colour, ("rgb", "bgr"))
        _check_choice("neck", self.neck, ("after", "before", "output"))
        for name, size in (("height", self.height), ("width", self.width)):
            _check_whole(f"the input {name}", size, 4096)
        for name, switch in (("flip", self.flip), ("unit_length", self.unit_length)):
            if not isinstance(switch, bool):
                raise ArgumentError(f"{name} is {switch!r}, expected true or false")
        for name, triple in (("mean", self.mean), ("std", self.std)):
            if [math.isfinite(value) for value in triple] != [True] * 3:
                raise ArgumentError(f"{name} is {triple}, expected three numbers, one a channel")
        if not all(value > 0 for value in self.std):
            raise ArgumentError(f"std is {self.std}, expected three numbers above 0")
        if not 0 < self.scale <= 1:
            raise ArgumentError(
                f"scale is {self.scale}, expected a number above 0 and at most 1: it multiplies "
                "pixel values of 0 to 255: 1/255 makes them 0 to 1, 1 leaves them as they are"
            )

    @property
    def sha256(self) -> str:
        """The contract's hash: equal hashes mean equal inputs for equal pictures."""
        return disk.sha256_json(dataclasses.asdict(self) | {"semantics": "pillow-rgb-no-exif"})

    def describe(self) -> str:
        """Say the contract in one line, for people."""
        vector = f"vector {self.neck}" + (" the BNNeck" if self.neck != "output" else "")
        parts = (
            f"{self.height}x{self.width} {self.resize}",
            self.colour.upper(),
            f"(pixel * {self.scale:.6g} - {list(self.mean)}) / {list(self.std)}",
            vector + (", flip-averaged" if self.flip else ""),
            "unit length" if self.unit_length else "length kept",
        )
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The file that an inference engine runs.

    `runtime` names the engine's library; `batch` is the only batch size the file takes, `None`
    for any; `takes` what is fed to it; `companions` are further files that it needs beside it,
    name -> sha256.

    The rest describes a compiled package: `target` and `device` it was compiled for (`None` in
    a package straight from a checkpoint), the layers that a reduced `precision` left in float,
    and `cosine`, the smallest cosine between its vectors and the reference network's over the
    reference pictures, on the machine that made it.
    """

    file: str
    sha256: str
    runtime: str = "onnxruntime"
    batch: int | None = None
    precision: str = "fp32"
    target: str | None = None
    device: str | None = None
    takes: Takes = "tensor"
    companions: Mapping[str, str] = field(default_factory=dict)
    float_layers: tuple[str, ...] = ()
    cosine: float | None = None

    def __post_init__(self) -> None:
        for name in (self.file, *self.companions):
            if Path(name).name != name:
                raise ArgumentError(
                    f"the engine's file is {name!r}, which lies outside the package"
                )
        _check_choice("takes", self.takes, ("tensor", "pixels"))
        _check_choice("precision", self.precision, ("fp32", "bf16", "fp16", "int8"))
        if self.batch is not None:
            _check_whole("the batch size", self.batch, 2**16)

    @property
    def identity(self) -> str:
        """One sha256 for all that makes the vectors: the file, and its companions if it has any."""
        if not self.companions:
            return self.sha256
        return disk.sha256_json({self.file: self.sha256, **self.companions})


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Everything `model.json` says.

    `weights_sha256` is the hash of the network's weights, whatever file they came in;
    `parent_sha256` the identity of the engine this one was compiled from; `calibration` the
    fingerprint of the calibration set, which is the sha256 of `calibration.json`; `provenance`
    says which tools made it from what.
    """

    name: str
    architecture: str
    embedding_size: int
    weights_sha256: str
    reference_sha256: str
    input: InputSpec
    engine: EngineSpec
    parent_sha256: str | None = None
    calibration: str | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_whole("the embedding size", self.embedding_size, 2**20)


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePictures:
    """What the reference network gave for a few pictures.

    Columns:
        pixels: (N, H, W, 3) uint8, RGB, *before* resizing; N >= 16.
        vectors: (N, D) float32, the network's raw output: before flip and unit length.
    """

    pixels: NDArray[np.uint8]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            raise ShapeError(
                f"reference pixels are {self.pixels.dtype} {shape}, expected uint8 (N, H, W, 3)"
            )
        if shape[0] < MINIMUM_REFERENCE_PICTURES:
            raise ShapeError(
                f"{shape[0]} reference pictures, expected at least {MINIMUM_REFERENCE_PICTURES}"
            )
        if self.vectors.dtype != np.float32 or self.vectors.shape[:1] != shape[:1]:
            raise ShapeError(
                f"reference vectors are {self.vectors.dtype} {self.vectors.shape}, "
                f"expected float32 ({shape[0]}, D)"
            )


@dataclass(frozen=True, slots=True)
class Package:
    """A model package on disk whose hashes were checked."""

    folder: Path
    spec: ModelSpec

    @property
    def engine_file(self) -> Path:
        """The file that the inference engine runs."""
        return self.folder / self.spec.engine.file

    def reference(self) -> ReferencePictures:
        """Read the reference pictures and their vectors."""
        with np.load(self.folder / REFERENCE, allow_pickle=False) as arrays:
            return ReferencePictures(arrays["pixels"], arrays["vectors"])


def write_reference(folder: Path, reference: ReferencePictures) -> str:
    """Write `reference.npz` into a package folder in the making and give its sha256."""
    path = folder / REFERENCE
    np.savez_compressed(path, pixels=reference.pixels, vectors=reference.vectors)
    return disk.sha256_file(path)


def write_manifest(folder: Path, spec: ModelSpec) -> Package:
    """Write `model.json` into a package folder in the making; the last file to be written.

    It holds its own hash, so that a contract edited by hand does not go unnoticed.
    """
    fields = {"format": FORMAT, **dataclasses.asdict(spec), "contract_sha256": spec.input.sha256}
    disk.write_json(folder / MANIFEST, fields | {"manifest_sha256": disk.sha256_json(fields)})
    return Package(folder, spec)


def read_package(folder: str | Path) -> Package:
    """Read a model package and check its hashes.

    Raises:
        PackageError: the folder is not a model package, or `model.json` is damaged.
        FormatError: it was written in another format number.
        IntegrityError: a file was changed after the package was made.
    """
    folder = Path(folder)
    spec = _read_spec(folder)
    recorded = {
        spec.engine.file: spec.engine.sha256,
        **spec.engine.companions,
        REFERENCE: spec.reference_sha256,
        **({CALIBRATION: spec.calibration} if spec.calibration else {}),
    }
    for name, sha256 in recorded.items():
        if not (folder / name).is_file():
            raise PackageError(f"{folder} is incomplete: {name} is missing; make it again")
        found = disk.sha256_file(folder / name)
        if found != sha256:
            raise IntegrityError(
                f"{folder / name} was changed after the package was made: its sha256 is {found}, "
                f"{MANIFEST} says {sha256}; make the package again"
            )
    return Package(folder, spec)


def _read_spec(folder: Path) -> ModelSpec:
    path = folder / MANIFEST
    if not path.is_file():
        hint = (
            "reidkit export makes one from a checkpoint, reidkit package from an .onnx or .xml file"
        )
        what = f"is not a model package (no {MANIFEST})" if folder.exists() else "does not exist"
        raise PackageError(f"{folder} {what}: {hint}")
    try:
        fields = disk.read_json(path)
        number, recorded = fields["format"], fields.pop("manifest_sha256", None)
    except (ValueError, KeyError) as error:
        raise PackageError(f"{path} is damaged: {error!r}") from error
    if number not in READABLE_FORMATS:
        known = " and ".join(map(str, READABLE_FORMATS))
        raise FormatError(
            f"{path} has package format {number}, this reidkit reads formats {known}: "
            "read it with the reidkit that wrote it, or make the package again"
        )
    if recorded != disk.sha256_json(fields):
        raise IntegrityError(
            f"{path} was changed after the package was made: make the package again with the "
            "contract it should have"
        )
    return _parse_spec(path, fields)


def _parse_spec(path: Path, fields: dict[str, Any]) -> ModelSpec:
    try:
        del fields["format"], fields["contract_sha256"]
        contract = fields.pop("input")
        contract |= {name: tuple(contract[name]) for name in ("mean", "std")}
        engine = fields.pop("engine")
        engine["float_layers"] = tuple(engine.get("float_layers", ()))
        engine = EngineSpec(**engine)
        return ModelSpec(input=InputSpec(**contract), engine=engine, **fields)
    except (KeyError, TypeError, AttributeError, ArgumentError) as error:
        raise PackageError(f"{path} is damaged: {error}") from error


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ArgumentError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")


def _check_whole(name: str, value: int, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ArgumentError(f"{name} is {value!r}, expected a whole number from 1 to {most}")
