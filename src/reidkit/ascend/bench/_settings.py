"""What a run of the inference tool is told, and what it refuses before it looks at any file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reidkit.errors import ArgumentError, AscendError

Report = Callable[[str, str], None]
"""Called with a level (`INFO`, `WARNING`, `ERROR` or `DEBUG`) and a line of text."""

OutputFormat = Literal["BIN", "NPY", "TXT"]
RunMode = Literal["array", "files", "tensor", "full"]
PureData = Literal["zero", "random"]


@dataclass(frozen=True, slots=True)
class ShapeOptions:
    """The sizes that a model leaves free, as the options give them; at most one of the first four.

    Fields:
        batch: `--dymBatch`, 0 for none.
        image_size: `--dymHW`, such as `256,128`.
        dims: `--dymDims`, such as `image:8,3,256,128;mask:8,1`.
        shape: `--dymShape`, of the same form.
        sweep: `--dymShape_range`, a range of shapes or a file of such lines.
        from_files: each npy file has the shape of its own run.
        output_bytes: `--outputSize`, bytes for each output; checked, not needed here.
    """

    batch: int = 0
    image_size: str | None = None
    dims: str | None = None
    shape: str | None = None
    sweep: str | None = None
    from_files: bool = False
    output_bytes: str | None = None

    def __post_init__(self) -> None:
        if self.batch < 0:
            raise AscendError(f"the dymBatch parameter is not correct: {self.batch} is below 0")
        given = {
            "--dymBatch": self.batch,
            "--dymHW": self.image_size,
            "--dymDims": self.dims,
            "--dymShape": self.shape,
        }
        named = [name for name, value in given.items() if value]
        if len(named) > 1:
            raise AscendError(f"{' and '.join(named)} exclude each other: give one of them")


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """Where outputs go and how.

    Fields:
        folder: parent folder; None saves nothing.
        name: the folder of outputs in it; None takes the time of the start.
        format: of the files, `BIN`, `NPY` or `TXT`.
        axis: the one on which an output is cut into parts, one for each file.

    Raises:
        AscendError: a name without a folder, or an absolute one.
    """

    folder: Path | None = None
    name: str | None = None
    format: OutputFormat = "BIN"
    axis: int = 0

    def __post_init__(self) -> None:
        if self.name is not None and self.folder is None:
            raise AscendError("error bad parameters --output_dirname: it needs --output")
        if self.name is not None and Path(self.name).is_absolute():
            raise AscendError(f"--output_dirname do not support abs path! It is {self.name}")
        if self.name is not None and (not Path(self.name).name or ".." in Path(self.name).parts):
            raise AscendError(f"--output_dirname is {self.name!r}, expected a folder's name")


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """How often the model is run and what its time is related to.

    Fields:
        loop: executions of each batch, each with a time of its own.
        warm_up: executions of the first batch whose times are dropped.
        batch: `--batchsize`, what the throughput is computed with; None: the model's.
        copies: also report the times of copies to and from the device.
    """

    loop: int = 1
    warm_up: int = 1
    batch: int | None = None
    copies: bool = False

    def __post_init__(self) -> None:
        if self.loop < 1:
            raise ArgumentError(f"loop is {self.loop}, expected at least 1")
        if self.warm_up < 0:
            raise ArgumentError(f"warm_up is {self.warm_up}, expected at least 0")
        if self.batch is not None and self.batch < 1:
            raise ArgumentError(f"batch is {self.batch}, expected at least 1")


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Which files are taken and how they are read.

    Fields:
        limit: take only so many files of each input, the first ones.
        run_mode: `full` reads everything before the first run and saves after the last; `files`
            takes raw files only; `array` and `tensor` are the same here.
        pure_data: what the model is fed without inputs: `zero`, or `random` bytes.
        readers: threads that read while the model runs; 0 reads in between.
        compatible: do as the tool did in 2023 and let pass what loses data: colliding names,
            parts of pictures, wrong sizes and types behind the first file.
    """

    limit: int | None = None
    run_mode: RunMode = "array"
    pure_data: PureData = "zero"
    readers: int = 0
    compatible: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ArgumentError(f"limit is {self.limit}, expected at least 1")
        if self.readers < 0:
            raise ArgumentError(f"readers is {self.readers}, expected at least 0")


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """A run of the inference tool.

    Fields:
        model: an .onnx file, a model package or an .om file.
        inputs: folders, one for each input of the model; or files; none for pure inference.
        devices: numbers; with several, each has a process of its own.
        divide: share the files out among the devices; otherwise each gets all of them.
        threads: of the engine; None for one a core.
        arguments: what the summary calls `args`: the program and its arguments.

    Raises:
        ArgumentError: no device, or a number out of range.
    """

    model: Path
    inputs: tuple[str, ...] = ()
    devices: tuple[int, ...] = (0,)
    divide: bool = True
    files: FileOptions = field(default_factory=FileOptions)
    shapes: ShapeOptions = field(default_factory=ShapeOptions)
    saving: SaveOptions = field(default_factory=SaveOptions)
    timing: TimeOptions = field(default_factory=TimeOptions)
    threads: int | None = None
    arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.devices or min(self.devices) < 0 or max(self.devices) > 255:
            raise ArgumentError(f"devices are {self.devices}, expected numbers from 0 to 255")
        if self.sweeps and len(self.devices) > 1:
            raise AscendError("--dymShape_range runs on one device: give --device one number")

    @property
    def sweeps(self) -> bool:
        """Whether a range of shapes is run, one after the other."""
        return bool(self.shapes.sweep) and not self.shapes.shape


def check_chip_options(*, profiler: bool, dump: bool, output: bool) -> None:
    """Refuse what the guide's tool refuses of its profiler and dump, which only a chip has.

    Raises:
        AscendError: both at once, or one without an output folder.
    """
    if profiler and dump:
        raise AscendError("error bad parameters --profiler and --dump: they exclude each other")
    if (profiler or dump) and not output:
        raise AscendError("miss output parameter! --profiler and --dump need --output")
