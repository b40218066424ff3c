"""Options that several commands share, and the kinds of value they take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from reidkit.models import Model

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)


def absolute(text: str) -> Path:
    """Make a path absolute, so that what is written down holds in any folder."""
    return Path(text).absolute()


def address(text: str) -> str:
    """Make a path absolute; a URI stays as it is."""
    return text if "://" in text else str(absolute(text))


def refuse_uris(*texts: str) -> None:
    """Refuse URIs where a command works on this machine's files alone."""
    if any("://" in text for text in texts):  # not shown: a password may be in it
        raise click.UsageError("URIs: only where --engine ray, or a data set in parts, is meant")


def size(text: str) -> tuple[int, int]:
    """Parse `256x128` into height and width in pixels."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r} is not HEIGHTxWIDTH, such as 256x128")
    return int(parts[0]), int(parts[1])


def triple(text: str) -> tuple[float, float, float]:
    """Parse `0.485,0.456,0.406`, or one number for all three channels."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise click.BadParameter(f"{text!r} is not three numbers, such as 0.485,0.456,0.406")
    return numbers[0], numbers[1], numbers[2]


def whole_numbers(text: str) -> list[int]:
    """Parse `1,4,8` into whole numbers above 0."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r} is not a list of batch sizes, such as 1,4,8")
    return [int(part) for part in parts]


def ratio(text: str) -> float:
    """Parse `1/255` or a decimal number."""
    try:
        return float(Fraction(text))
    except (ValueError, ArithmeticError):
        raise click.BadParameter(f"{text!r} is not a number, such as 1/255 or 0.0039") from None


def common(command: Command) -> Command:
    """Add what every command takes; `--debug` is read by `main`."""
    return add(
        command,
        click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        click.option(
            "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
        ),
    )


_layout = click.option(
    "--layout",
    metavar="NAME",
    help="market1501, table, dukemtmc, msmt17-v1, msmt17-v2, cuhk03-labeled, cuhk03-detected, "
    "veri776, viper or viper-0 to viper-9 (one of its splits); one for all data sets, found out "
    "when not given.",
)


def data(command: Command) -> Command:
    """Add the data set and its layout."""
    return add(
        command,
        click.option("--data", "root", type=absolute, metavar="ROOT", help="Data set."),
        _layout,
    )


def data_sets(command: Command) -> Command:
    """Add one or several data sets and their layout."""
    return add(
        command,
        click.option(
            "--data",
            "roots",
            type=absolute,
            metavar="ROOT",
            multiple=True,
            help="Data set; may be given several times.",
        ),
        _layout,
    )


batches = click.option(
    "--batch",
    "batches",
    type=whole_numbers,
    metavar="LIST",
    default="1,4,8,16,32,64",
    show_default=True,
    help="Batch sizes.",
)


def exporting(command: Command) -> Command:
    """Add what a checkpoint does not say of its network."""
    return add(
        command,
        click.option(
            "--architecture", metavar="NAME", help="Such as resnet50; recognised if not given."
        ),
        click.option(
            "--neck-feature",
            type=click.Choice(["after", "before"]),
            default="after",
            show_default=True,
            help="Take the vector after or before the BNNeck; no effect without one.",
        ),
        click.option(
            "--size",
            type=size,
            metavar="HxW",
            default="256x128",
            show_default=True,
            help="Input height and width.",
        ),
        click.option(
            "--last-stride",
            type=click.Choice(["1", "2"]),
            default="1",
            show_default=True,
            help="Stride of the last stage; no checkpoint records it.",
        ),
    )


def configuration(*, required: bool) -> Callable[[Command], Command]:
    """Give the option for a configuration file of the strong baseline."""
    return click.option(
        "--config_file",
        "--config-file",
        "config_file",
        type=FILE,
        metavar="YAML",
        required=required,
        help="The strong baseline's configuration of the network.",
    )


overwrite = click.option("--overwrite", is_flag=True, help="Replace an older folder of this kind.")


@dataclass(frozen=True, slots=True)
class Running:
    """How a model is run over pictures."""

    device: str | None = None
    batch: int | None = None
    workers: int | None = None
    threads: int | None = None
    flip: bool = False
    skip_unreadable: bool = False

    def load(self, package: Path) -> Model:
        """Load a package as the options say."""
        from reidkit.models import load_model

        model = load_model(package, device=self.device, threads=self.threads)
        return model.with_flip() if self.flip else model


def running(command: Callable[..., None]) -> Callable[..., None]:
    """Add how a model is run; the command gets them as one `running` value."""
    return add(
        gather(command, "running", Running),
        click.option("--batch", type=click.IntRange(1, 4096), help="Pictures a run of the engine."),
        click.option("--workers", type=click.IntRange(1, 1024), help="Threads for decoding."),
        click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the engine."),
        click.option(
            "--device", help="cpu, cuda, cuda:N, ...; the one it was compiled for by default."
        ),
        click.option("--flip", is_flag=True, help="Average with the mirrored picture's vector."),
        click.option(
            "--skip-unreadable", is_flag=True, help="Leave out bad pictures and record them."
        ),
    )


def gather(command: Callable[..., None], name: str, kind: type) -> Callable[..., None]:
    """Let a command get the options named as a dataclass's fields as one value called `name`."""
    names = [field.name for field in fields(kind)]

    @functools.wraps(command)
    def with_value(**options: Any) -> None:
        value = kind(**{field: options.pop(field) for field in names})
        command(**{name: value}, **options)

    return with_value


def add(command: Command, *options: Callable[[Command], Command]) -> Command:
    """Apply option decorators so that the help lists them in the order written."""
    for option in reversed(options):
        command = option(command)
    return command
