"""The options of the guide's inference tool, each in all the ways it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from reidkit.cli import _options

_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


class _Boolean(click.ParamType[bool]):
    """A yes or no that is written out, such as `--debug 1`."""

    name = "0|1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bool:
        """Give the truth value, or refuse the text."""
        if isinstance(value, bool):
            return value
        if value.lower() not in _TRUE + _FALSE:
            self.fail(f"{value!r} is not a boolean, such as 1 or 0", param, ctx)
        return value.lower() in _TRUE


BOOLEAN = _Boolean()
_POSITIVE = click.IntRange(1)


def parse_devices(text: str) -> tuple[int, ...]:
    """Parse `0` or `0,1` into device numbers."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) <= 255 for part in parts):
        raise click.BadParameter(f"{text!r} is not a device or a list of them, such as 0 or 0,1")
    return tuple(int(part) for part in parts)


def _option(name: str, *others: str, **settings: Any) -> Callable[[Any], Any]:
    """Make an option that is written with underscores or hyphens, and in other ways."""
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}", *others))
    return click.option(name, *spellings, **settings)


CHIP_ONLY: dict[str, tuple[tuple[str, ...], Any]] = {
    "profiler": (("-pf",), BOOLEAN),
    "dump": ((), BOOLEAN),
    "acl_json_path": (("-acl",), str),
    "aipp_config": (("-aipp",), str),
    "energy_consumption": (("-ec",), BOOLEAN),
    "npu_id": ((), str),
    "backend": ((), click.Choice(["trtexec"])),
    "perf": ((), BOOLEAN),
    "profiler_rename": ((), BOOLEAN),
    "dump_npy": ((), BOOLEAN),
}
"""Options that only the chip's own tools can act upon: other spellings and kind of value."""

_RUNNING = (
    _option(
        "model",
        "-m",
        "--om",
        "-om",
        "--om-model",
        required=True,
        type=_options.PATH,
        help="An .om or .onnx file, or a model package.",
    ),
    _option("input", "-i", help="Folders, one an input, or files; separated by commas."),
    _option(
        "output", "-o", type=_options.FOLDER, help="Parent folder; without it nothing is saved."
    ),
    _option("output_dirname", "-od", help="Name of the folder of outputs; the time by default."),
    _option(
        "outfmt",
        type=click.Choice(["NPY", "BIN", "TXT"]),
        default="BIN",
        show_default=True,
        help="Format of outputs.",
    ),
    _option(
        "loop",
        "-l",
        "-r",
        type=_POSITIVE,
        default=1,
        show_default=True,
        help="Executions of each batch.",
    ),
    _option("debug", type=BOOLEAN, default=False, help="Describe the model."),
    _option(
        "device",
        "-d",
        type=parse_devices,
        default="0",
        show_default=True,
        help="Device, or a list: 0,1.",
    ),
    _option(
        "batchsize",
        "--batch-size",
        type=_POSITIVE,
        help="What the throughput is computed with; the model's by default.",
    ),
    _option(
        "pure_data_type",
        "-pdt",
        type=click.Choice(["zero", "random"]),
        default="zero",
        show_default=True,
        help="Data without --input.",
    ),
    _option(
        "output_batchsize_axis",
        "-oba",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Axis on which outputs are cut.",
    ),
    _option(
        "run_mode",
        "-rm",
        type=click.Choice(["array", "files", "tensor", "full"]),
        default="array",
        show_default=True,
        help="full: read all, run all, save all.",
    ),
    _option(
        "display_all_summary",
        "-das",
        type=BOOLEAN,
        default=False,
        help="Print the times of copies too.",
    ),
    _option(
        "warmup_count",
        "-wcount",
        type=click.IntRange(0),
        default=1,
        show_default=True,
        help="Runs before the timed ones.",
    ),
    _option("pipeline", type=BOOLEAN, default=False, help="Read while the model runs."),
    _option(
        "threads",
        type=_POSITIVE,
        default=1,
        show_default=True,
        help="Threads that read, with --pipeline 1.",
    ),
    _option(
        "divide_input",
        type=BOOLEAN,
        default=True,
        show_default=True,
        help="Share files among devices.",
    ),
    _option("limit", type=_POSITIVE, help="Take the first files only."),
    _option(
        "compatible",
        type=BOOLEAN,
        default=False,
        help="Let pass what loses data, as the tool did in 2023: colliding names, parts of "
        "pictures, wrong sizes and types.",
    ),
)

_SHAPES = (
    _option("dymBatch", "-db", "--dym-batch", type=int, default=0, help="Batch size to choose."),
    _option("dymHW", "-dhw", "--dym-hw", metavar="H,W", help="Picture size to choose."),
    _option("dymDims", "-dd", "--dym-dims", metavar="NAME:SIZES", help="Sizes to choose."),
    _option("dymShape", "-ds", "--dym-shape", metavar="NAME:SIZES", help="Sizes to choose."),
    _option(
        "dymShape_range",
        "-dr",
        "--dym-shape-range",
        metavar="NAME:RANGES",
        help="Run many shapes: a~b, a~b~step, a-b-c.",
    ),
    _option("outputSize", "-outsize", "--output-size", help="Bytes of each output."),
    _option(
        "auto_set_dymshape_mode",
        "-asdsm",
        type=BOOLEAN,
        default=False,
        help="Take shapes from npy files.",
    ),
    _option(
        "auto_set_dymdims_mode",
        "-asddm",
        type=BOOLEAN,
        default=False,
        help="Take shapes from npy files.",
    ),
)

_UNUSED = tuple(
    _option(name, *others, type=kind, help="Accepted; only the chip's own tools do it.")
    for name, (others, kind) in CHIP_ONLY.items()
)


def add_all(command: Any) -> Any:
    """Add every option of the tool to a command."""
    return _options.add(command, *_RUNNING, *_SHAPES, *_UNUSED)
