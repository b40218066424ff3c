"""The shapes of a run, where a model leaves sizes free."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from reidkit.ascend.bench._reading import Shape
from reidkit.ascend.bench._settings import ShapeOptions
from reidkit.errors import AscendError
from reidkit.runtimes.sessions import Session, TensorSpec

_MOST_DIGITS, _MOST_SHAPES = 18, 10_000
_MOST_VALUES = 2**32
"""So many values of one input are more than any engine here can hold at once."""


def choose_shapes(
    session: Session, options: ShapeOptions, batch: int | None = None
) -> tuple[Shape, ...]:
    """Give the shape that each input has in every run.

    A free first size that no option sets is `batch`, or 1.

    Raises:
        AscendError: an option does not fit the model, or sizes remain free.
    """
    specs = session.inputs
    _check_output_sizes(options.output_bytes, len(session.outputs))
    if session.batch_gears:
        shapes = _choose_gear(specs, session.batch_gears, options)
    elif options.batch:
        shapes = _set_batch(specs, options.batch)
    elif options.image_size:
        shapes = _set_image_size(specs, options.image_size)
    elif options.dims:
        shapes = _set_dims(specs, options.dims)
    elif options.shape:
        shapes = _set_shape(specs, options.shape)
    else:
        shapes = tuple(spec.shape for spec in specs)
    shapes = tuple(_fill_batch(shape, batch or 1) for shape in shapes)
    for spec, shape in zip(specs, shapes, strict=True):
        if math.prod(shape) > _MOST_VALUES:
            raise AscendError(
                f"input {spec.name} would be {shape}, {math.prod(shape):,} values a run: choose "
                "smaller sizes"
            )
        if any(size < 0 for size in shape):
            raise AscendError(
                f"input {spec.name} leaves sizes free: {spec.shape}; give them with "
                f'--dymShape "{spec.name}:..."'
            )
    return shapes


def expand_range(text: str) -> list[str]:
    """Give the shapes of a `--dymShape_range`, each in the form of `--dymShape`.

    A size is a number, numbers `16-32-64`, or a range `16~64` or `16~64~8` with both ends; all
    are combined. `text` may be a file ending in `.info` with one such line each.

    Raises:
        AscendError: a size is not of this form, or the file cannot be read.
    """
    if not text.endswith(".info"):
        return _expand(text)
    try:
        lines = Path(text).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise AscendError(f"--dymShape_range: {text} cannot be read: {error}") from error
    return [shape for line in lines if line.strip() for shape in _expand(line.strip())]


def _choose_gear(
    specs: Sequence[TensorSpec], gears: Sequence[int], options: ShapeOptions
) -> tuple[Shape, ...]:
    known = ", ".join(map(str, gears))
    if options.image_size:
        raise AscendError(_not_converted("dynamic_image_size"))
    if options.dims or options.shape:
        raise AscendError(
            "the dynamic_dims parameter is not correct: this model was compiled for batch sizes "
            f"{known}, give --dymBatch one of them"
        )
    if not options.batch:
        raise AscendError(
            f"check failed dym gearcount:{len(gears)} but dymtype:0 not set: this model was "
            f"compiled for batch sizes {known}, give --dymBatch one of them"
        )
    if options.batch not in gears:
        raise AscendError(
            f"the dymBatch parameter is not correct: this model was compiled for batch sizes "
            f"{known}, not for {options.batch}"
        )
    return tuple(_fill_batch(spec.shape, options.batch) for spec in specs)


def _set_batch(specs: Sequence[TensorSpec], batch: int) -> tuple[Shape, ...]:
    if not any(_is_free(spec.shape, 0) for spec in specs):
        raise AscendError(_not_converted("dynamic_batch_size"))
    return tuple(_fill_batch(spec.shape, batch) for spec in specs)


def _set_image_size(specs: Sequence[TensorSpec], text: str) -> tuple[Shape, ...]:
    size = _whole_numbers(text)
    if len(size) != 2:
        raise AscendError(
            f"the dymHW parameter is not correct: {text!r} is not a height and a width"
        )
    free = [len(s.shape) == 4 and (_is_free(s.shape, 2) or _is_free(s.shape, 3)) for s in specs]
    if not any(free):
        raise AscendError(_not_converted("dynamic_image_size"))
    shapes = []
    for spec, resized in zip(specs, free, strict=True):
        shape = (*spec.shape[:2], *size) if resized else spec.shape
        if not _allows(spec.shape, shape):
            raise AscendError(
                f"the dymHW parameter is not correct: input {spec.name} is {spec.shape}, not {size}"
            )
        shapes.append(shape)
    return tuple(shapes)


def _set_dims(specs: Sequence[TensorSpec], text: str) -> tuple[Shape, ...]:
    given = _parse(text, "the dynamic_dims parameter is not correct")
    if not any(size < 0 for spec in specs for size in spec.shape):
        raise AscendError(
            "the dynamic_dims parameter is not correct: this model leaves no size free"
        )
    return _fit(specs, given, "the dynamic_dims parameter is not correct")


def _set_shape(specs: Sequence[TensorSpec], text: str) -> tuple[Shape, ...]:
    given = _parse(text, "the dymShape parameter set error")
    if len(given) != len(specs):
        raise AscendError(f"om has {len(specs)} input, but dymShape parametet give {len(given)}")
    return _fit(specs, given, "the dymShape parameter set error")


def _fit(specs: Sequence[TensorSpec], given: dict[str, Shape], problem: str) -> tuple[Shape, ...]:
    names = [spec.name for spec in specs]
    if sorted(given) != sorted(names):
        raise AscendError(
            f"{problem}, please check input name: it is about {', '.join(given)}, the model's "
            f"inputs are {', '.join(names)}"
        )
    for spec in specs:
        if not _allows(spec.shape, given[spec.name]):
            raise AscendError(
                f"{problem}: input {spec.name} is {spec.shape} (-1 is free), not {given[spec.name]}"
            )
    return tuple(given[name] for name in names)


def _parse(text: str, problem: str) -> dict[str, Shape]:
    """Parse `name:1,3,256,128;other:1,2`; a name may hold colons itself."""
    given = {}
    for part in text.strip().rstrip(";").split(";"):
        name, colon, sizes = part.strip().rpartition(":")
        shape = _whole_numbers(sizes)
        if not colon or not name or not shape:
            raise AscendError(
                f'{problem}: {part!r} is not of the form "name:1,3,256,128", sizes above 0'
            )
        given[name] = shape
    return given


def _check_output_sizes(text: str | None, outputs: int) -> None:
    if text is None:
        return
    sizes = _whole_numbers(text)
    if not sizes:
        raise AscendError(f"--outputSize is {text!r}, expected bytes such as 8192,4096")
    if len(sizes) != outputs:
        raise AscendError(f"om has {outputs} output, but outputSize parametet give {len(sizes)}")


def _whole_numbers(text: str) -> Shape:
    """Parse `1,2,3`; nothing where one is not a whole number above 0."""
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_is_size, parts)):
        return ()
    return tuple(int(part) for part in parts)


def _is_size(text: str) -> bool:
    """Tell whether a text is a whole number from 1 that an array could have as a size."""
    return text.isdecimal() and len(text) <= _MOST_DIGITS and int(text) > 0


def _fill_batch(shape: Shape, batch: int) -> Shape:
    return (batch, *shape[1:]) if _is_free(shape, 0) else shape


def _is_free(shape: Shape, place: int) -> bool:
    return len(shape) > place and shape[place] < 0


def _allows(taken: Shape, shape: Shape) -> bool:
    return len(taken) == len(shape) and all(
        known < 0 or size in (-1, known) for known, size in zip(taken, shape, strict=True)
    )


def _not_converted(parameter: str) -> str:
    return (
        f"the {parameter} parameter is not specified for model conversion: this model has no sizes "
        "of this kind to choose"
    )


def _expand(text: str) -> list[str]:
    names, sizes, count = [], [], 1
    for part in text.rstrip(";").split(";"):
        name, colon, dims = part.strip().rpartition(":")
        if not colon or not name:
            raise AscendError(f'--dymShape_range: {part!r} is not of the form "name:1,3,200~224"')
        names.append(name)
        choices = [_expand_size(dim.strip()) for dim in dims.split(",")]
        count *= math.prod(map(len, choices))
        if count > _MOST_SHAPES:
            raise AscendError(f"--dymShape_range gives more than {_MOST_SHAPES:,} shapes: {text}")
        sizes.append([",".join(map(str, shape)) for shape in itertools.product(*choices)])
    return [
        ";".join(f"{name}:{shape}" for name, shape in zip(names, shapes, strict=True))
        for shapes in itertools.product(*sizes)
    ]


def _expand_size(text: str) -> Sequence[int]:
    separator = "~" if "~" in text else "-"
    parts = text.split(separator)
    if all(map(_is_size, parts)):
        numbers = [int(part) for part in parts]
        if separator == "-" or len(numbers) == 1:
            return numbers
        if len(numbers) in (2, 3) and numbers[0] <= numbers[1]:
            step = numbers[2] if len(numbers) == 3 else 1
            return range(numbers[0], numbers[1] + 1, step)
    raise AscendError(
        f"--dymShape_range: {text!r} is not a size, sizes 16-32-64, or a range 16~64 or 16~64~8"
    )
