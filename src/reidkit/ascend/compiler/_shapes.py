"""What the compiler's options say of the shapes, and whether it fits the model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reidkit.errors import AscendError
from reidkit.runtimes.sessions import TensorSpec

MOST_GEARS = 100
LARGEST_BATCH = 2048
_LARGEST_SIZE = 2**31 - 1
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")

Shape = tuple[int, ...]


def parse_shapes(text: str) -> dict[str, Shape]:
    """Parse `image:1,3,256,128;other:-1,2` into shapes by input name; -1 is a free size.

    Raises:
        AscendError: it cannot be parsed (E10002), or a size is 0, below -1 (E10011) or too large
            (E10013).
    """
    shapes: dict[str, Shape] = {}
    for part in text.rstrip(";").split(";"):
        name, colon, sizes = part.rpartition(":")
        name = name.strip()
        if not colon or not name:
            raise _unparsable(text, "each input is written as name:sizes")
        if name in shapes:
            raise _unparsable(text, f"{name} is given twice")
        shapes[name] = tuple(_parse_size(text, size.strip()) for size in sizes.split(","))
    return shapes


def parse_gears(text: str) -> tuple[int, ...]:
    """Parse `1,2,4,8`, the batch sizes to choose from, into rising order.

    Raises:
        AscendError: other characters (E10033), fewer than 2 (E10035) or more than 100 of them
            (E10036), one outside 1 to 2048 (E10038) or given twice (E10039).
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(_WHOLE.fullmatch(part) for part in parts):
        raise AscendError(
            f"Value [{text}] for parameter [--dynamic_batch_size] is invalid. Reason: only digits "
            "and commas may be in it",
            "E10033",
        )
    return check_gears("--dynamic_batch_size", [int(part) for part in parts])


def check_gears(option: str, gears: Sequence[int]) -> tuple[int, ...]:
    """Refuse batch sizes that cannot be gears; see `parse_gears`."""
    text = ",".join(map(str, gears))
    start = f"Value [{text if len(text) < 60 else text[:60] + '...'}] for parameter [{option}]"
    if len(gears) < 2:
        raise AscendError(f"{start} is invalid. Reason: it has {len(gears)} sizes", "E10035")
    if len(gears) > MOST_GEARS:
        raise AscendError(f"{start} is invalid. Reason: it has {len(gears)} sizes", "E10036")
    for gear in gears:
        if not 1 <= gear <= LARGEST_BATCH:
            reason = f"{gear} is not from 1 to {LARGEST_BATCH}"
            raise AscendError(f"{start} is invalid. Reason: {reason}", "E10038")
    if len(set(gears)) < len(gears):
        repeated = next(gear for gear in gears if list(gears).count(gear) > 1)
        raise AscendError(f"{start} is invalid. Reason: {repeated} is repeated", "E10039")
    return tuple(sorted(gears))


def parse_dimension_gears(text: str) -> tuple[int, ...]:
    """Parse `--dynamic_dims` where the batch size alone is free: `1;4;8`.

    Raises:
        AscendError: it cannot be parsed (E10042), or frees more than one size.
    """
    groups = [group.strip() for group in text.rstrip(";").split(";")]
    sizes = [group.split(",") for group in groups]
    if not all(_WHOLE.fullmatch(size.strip()) for group in sizes for size in group):
        raise AscendError(
            f"Value [{text}] for parameter [--dynamic_dims] is invalid. Reason: only numbers, "
            "commas and semicolons may be in it",
            "E10042",
        )
    if any(len(group) != 1 for group in sizes):
        raise AscendError(
            f"--dynamic_dims={text} frees more than one size, and the batch size alone may be free "
            'here: write --input_shape="image:-1,3,256,128" --dynamic_dims="1;4;8", or make one '
            "file for each picture size"
        )
    if len(groups) > MOST_GEARS:
        raise AscendError(
            f"Value of parameter [--dynamic_dims] is invalid. Reason: it has {len(groups)} groups",
            "E10042",
        )
    return check_gears("--dynamic_dims", [int(group) for group in groups])


def check_free_axis(option: str, shape: Shape) -> None:
    """Refuse a shape whose first size is not the free one, as batch gears need it.

    Raises:
        AscendError: no size is -1 (E10040), or another than the first is (E10018).
    """
    if -1 not in shape:
        raise AscendError(
            f"No size of [{_show(shape)}] in [--input_shape] is -1, and [{option}] is given",
            "E10040",
        )
    if shape[0] != -1:
        raise AscendError(
            f"Size {shape.index(-1)} of [{_show(shape)}] in [--input_shape] is -1; with [{option}] "
            "the first one must be",
            "E10018",
        )


def fit_shape(spec: TensorSpec, shapes: Mapping[str, Shape] | None) -> Shape:
    """Give the shape that the model's one input is compiled for: the asked, or the model's own.

    Raises:
        AscendError: an unknown name (E10016), another number of sizes (E10049), a size that the
            model fixes to another (E10001), or none where the model leaves one open (E10001).
    """
    for name in shapes or {}:
        if name != spec.name:
            raise AscendError(
                f"Opname [{name}] specified in [--input_shape] is not found in the model, whose "
                f"input is [{spec.name}]",
                "E10016",
            )
    if not shapes:
        if -1 in spec.shape:
            raise AscendError(
                f"Value [-1] for parameter [{spec.name}] is invalid. Reason: maybe you should set "
                "input_shape to specify its shape. The model's input is "
                f"[{spec.name}:{_show(spec.shape)}].",
                "E10001",
            )
        return spec.shape
    shape = shapes[spec.name]
    if len(shape) != len(spec.shape):
        raise AscendError(
            f"[--input_shape] gives [{spec.name}] {len(shape)} sizes, the model's input has "
            f"{len(spec.shape)}",
            "E10049",
        )
    for axis, (asked, own) in enumerate(zip(shape, spec.shape, strict=True)):
        if own not in (-1, asked):
            raise AscendError(
                f"Value [{spec.name}:{_show(shape)}] for parameter [--input_shape] is invalid. "
                f"Reason: size {axis} of the model's input is {own}, not {asked}",
                "E10001",
            )
    return shape


def _parse_size(text: str, size: str) -> int:
    if "~" in size:
        raise AscendError(
            f"Value [{text}] for parameter [--input_shape] is invalid. Reason: ranges such as "
            f"{size} are not emulated",
            "E10048",
        )
    if not _WHOLE.fullmatch(size):
        raise _unparsable(text, f"{size!r} is not a whole number")
    value = int(size)
    if value == 0 or value < -1:
        raise AscendError(
            f"Value [{value}] of [{text}] in [--input_shape] is invalid. Reason: a size is above 0",
            "E10011",
        )
    if value > _LARGEST_SIZE:
        raise AscendError(f"Number [{size}] in [--input_shape] is too large", "E10013")
    return value


def _unparsable(text: str, reason: str) -> AscendError:
    return AscendError(
        f"Value [{text}] for parameter [--input_shape] is invalid. Reason: {reason}", "E10002"
    )


def _show(shape: Shape) -> str:
    return ",".join(map(str, shape))
