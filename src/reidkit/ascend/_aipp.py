"""Pixels into the network's input, as the compiler's static AIPP describes it in a text file.

    aipp_op {
        aipp_mode: static
        input_format: RGB888_U8
        csc_switch: false
        mean_chn_0: 0
        min_chn_0: 123.675
        var_reci_chn_0: 0.0171247
        ...
    }

A channel of the network becomes (pixel - mean_chn - min_chn) * var_reci_chn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reidkit.errors import AscendError

Triple = tuple[float, float, float]

_FORMAT = "RGB888_U8"
_OFF = (
    "csc_switch",
    "crop",
    "resize",
    "padding",
    "ax_swap_switch",
    "single_line_mode",
    "support_rotation",
)
"""Switches for what is not computed here; naming one with `false` is fine."""

_SWITCHES = {"true": True, "1": True, "false": False, "0": False}
_CHANNELS = re.compile(r"(mean|min|var_reci)_chn_([0-3])")
_IGNORED = re.compile(
    r"matrix_r[0-2]c[0-2]|(in|out)put_bias_[0-2]|padding_value"
    r"|(left|right|top|bottom)_padding_size|(crop_|load_start_|resize_)\w+|cpadding_value"
)
"""What only matters behind a switch that is off."""

_TOKENS = re.compile(r"""\s+|\#[^\n]*|(?P<mark>[{}:;,])|(?P<word>"[^"]*"|'[^']*'|[^\s{}:;,#"']+)""")

_SINGLE = re.compile(r"(?<=[0-9.])f$")
"""The `f` at the end of a number, as C writes it."""


@dataclass(frozen=True, slots=True)
class Aipp:
    """A static AIPP for RGB pixels of `height` x `width`, three numbers a channel.

    `swap` says that the network's first channel is the pixels' last. `mean` are whole numbers;
    all three are in the network's order of channels.
    """

    height: int
    width: int
    mean: Triple = (0.0, 0.0, 0.0)
    minimum: Triple = (0.0, 0.0, 0.0)
    factor: Triple = (1.0, 1.0, 1.0)
    swap: bool = False

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn pixels, (B, H, W, 3) uint8, into the network's input, (B, 3, H, W) float32."""
        table = self._values()
        inputs = np.empty((len(pixels), 3, self.height, self.width), np.float32)
        for channel in range(3):
            plane = pixels[..., 2 - channel if self.swap else channel]
            # mode="clip" never clips here (a byte is a valid index); it spares numpy a buffer.
            np.take(table[channel], plane, out=inputs[:, channel], mode="clip")
        return inputs

    def _values(self) -> NDArray[np.float32]:
        """Give what each of the 256 pixel values becomes in each channel, (3, 256) float32."""
        start = np.add(self.mean, self.minimum)[:, None]
        values: NDArray[np.float64] = (np.arange(256) - start) * np.array(self.factor)[:, None]
        return values.astype(np.float32)


def read_aipp(path: str | Path, *, height: int, width: int) -> Aipp:
    """Read an AIPP file for a network that takes pictures of this size.

    Raises:
        AscendError: the file cannot be read or parsed (E13001), or asks for what is not computed
            here: another pixel format, a dynamic AIPP, cropping, colour conversion.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise AscendError(
            f"Open file [{path}] of parameter [--insert_op_conf] failed. Reason: {reason}", "E13001"
        ) from error
    return parse_aipp(text, height=height, width=width)


def parse_aipp(text: str, *, height: int, width: int) -> Aipp:
    """Read the text of an AIPP file; see `read_aipp`."""
    fields = _parse_block(text)
    _check_kind(fields)
    for name, wanted in (("src_image_size_h", height), ("src_image_size_w", width)):
        if fields.get(name, str(wanted)) not in (str(wanted), "0"):
            raise _refused(name, fields[name], f"the network takes pictures of {height}x{width}")
    numbers: dict[str, list[float]] = {"mean": [0.0] * 4, "min": [0.0] * 4, "var_reci": [1.0] * 4}
    for name, value in fields.items():
        found = _CHANNELS.fullmatch(name)
        if found is not None:
            numbers[found[1]][int(found[2])] = _number(name, value, whole=found[1] == "mean")
    return Aipp(
        height,
        width,
        mean=_triple(numbers["mean"]),
        minimum=_triple(numbers["min"]),
        factor=_triple(numbers["var_reci"]),
        swap=_switch(fields, "rbuv_swap_switch"),
    )


def _check_kind(fields: Mapping[str, str]) -> None:
    known = ("aipp_mode", "input_format", "related_input_rank", "rbuv_swap_switch", *_OFF)
    sizes = ("src_image_size_h", "src_image_size_w", "max_src_image_size")
    for name, value in fields.items():
        acted_on = name in (*known, *sizes) or _CHANNELS.fullmatch(name)
        if not acted_on and not _IGNORED.fullmatch(name):
            raise _refused(name, value, "there is no such field in an aipp_op")
    if fields.get("aipp_mode") != "static":
        raise _refused("aipp_mode", fields.get("aipp_mode", ""), "only static is computed here")
    if fields.get("input_format") != _FORMAT:
        value = fields.get("input_format", "")
        raise _refused("input_format", value, f"only {_FORMAT} is computed here")
    if fields.get("related_input_rank", "0") != "0":
        raise _refused("related_input_rank", fields["related_input_rank"], "there is one input, 0")
    for name in _OFF:
        if _switch(fields, name):
            raise _refused(name, fields[name], "only false is computed here")


def _parse_block(text: str) -> dict[str, str]:
    """Give the fields of the one `aipp_op { ... }`; separators between fields are optional."""
    tokens = [token for token in _split(text) if token not in (",", ";")]
    if tokens[:2] == ["aipp_op", ":"]:
        del tokens[1]
    if tokens[:2] != ["aipp_op", "{"] or tokens[-1] != "}" or "aipp_op" in tokens[1:]:
        raise _unparsable("expected one aipp_op { ... }")
    inner = tokens[2:-1]
    fields: dict[str, str] = {}
    for start in range(0, len(inner), 3):
        name, colon, value = (*inner[start : start + 3], "", "")[:3]
        if colon != ":" or not value or {name, value} & {"{", "}", ":"}:
            raise _unparsable(f"expected a field and its value, found {name!r} {colon!r}")
        if name in fields:
            raise _unparsable(f"{name} is given twice")
        fields[name] = value.strip("\"'")
    return fields


def _split(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        found = _TOKENS.match(text, position)
        if found is None:
            raise _unparsable(f"unexpected {text[position]!r}")
        position = found.end()
        if found.lastgroup is not None:
            yield found[0]


def _switch(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name, "false")
    if value.lower() not in _SWITCHES:
        raise _refused(name, value, "expected true or false")
    return _SWITCHES[value.lower()]


def _number(name: str, text: str, *, whole: bool) -> float:
    try:
        value = float(int(text)) if whole else float(_SINGLE.sub("", text))
    except ValueError:
        what = "a whole number" if whole else "a number"
        raise _refused(name, text, f"expected {what}") from None
    if not np.isfinite(value):
        raise _refused(name, text, "expected a finite number")
    return value


def _triple(numbers: list[float]) -> Triple:
    return numbers[0], numbers[1], numbers[2]


def _refused(name: str, value: str, reason: str) -> AscendError:
    return AscendError(
        f"Value [{value}] for field [{name}] of [--insert_op_conf] is invalid. Reason: {reason}",
        "E10001",
    )


def _unparsable(reason: str) -> AscendError:
    return AscendError(f"The file of [--insert_op_conf] cannot be parsed: {reason}", "E13001")
