"""The strong baseline's configuration files: what they say about a trained network.

They are YAML files read by yacs, over defaults that every version of the baseline shares, and
changed on the command line by pairs `KEY VALUE`. yacs itself reads them here, so a value means
what it means to the baseline: each text is evaluated as a Python literal where it is one
(`"('self')"` is the text `self`), and must have the type of the default that it replaces.

What yacs would do on top of that is not done: a `.py` file is not executed.
"""

from __future__ import annotations

import ast
import difflib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reidkit.errors import ArgumentError
from reidkit.package import InputSpec, Triple

# One paragraph a section; the formatter would make it one line a key.
# fmt: off
_DEFAULTS: dict[str, Any] = {
    "MODEL": {
        "DEVICE": "cuda", "DEVICE_ID": "0", "NAME": "resnet50", "LAST_STRIDE": 1,
        "PRETRAIN_PATH": "", "PRETRAIN_CHOICE": "imagenet", "NECK": "bnneck",
        "IF_WITH_CENTER": "no", "METRIC_LOSS_TYPE": "triplet", "IF_LABELSMOOTH": "on",
    },
    "INPUT": {
        "SIZE_TRAIN": [384, 128], "SIZE_TEST": [384, 128], "PROB": 0.5, "RE_PROB": 0.5,
        "PIXEL_MEAN": [0.485, 0.456, 0.406], "PIXEL_STD": [0.229, 0.224, 0.225], "PADDING": 10,
    },
    "DATASETS": {"NAMES": "market1501", "ROOT_DIR": "./data"},
    "DATALOADER": {"NUM_WORKERS": 8, "SAMPLER": "softmax", "NUM_INSTANCE": 16},
    "SOLVER": {
        "OPTIMIZER_NAME": "Adam", "MAX_EPOCHS": 50, "BASE_LR": 3e-4, "BIAS_LR_FACTOR": 2,
        "MOMENTUM": 0.9, "MARGIN": 0.3, "CLUSTER_MARGIN": 0.3, "CENTER_LR": 0.5,
        "CENTER_LOSS_WEIGHT": 0.0005, "RANGE_K": 2, "RANGE_MARGIN": 0.3, "RANGE_ALPHA": 0,
        "RANGE_BETA": 1, "RANGE_LOSS_WEIGHT": 1, "WEIGHT_DECAY": 0.0005, "WEIGHT_DECAY_BIAS": 0.0,
        "GAMMA": 0.1, "STEPS": (30, 55), "WARMUP_FACTOR": 1 / 3, "WARMUP_ITERS": 500,
        "WARMUP_METHOD": "linear", "CHECKPOINT_PERIOD": 50, "LOG_PERIOD": 100, "EVAL_PERIOD": 50,
        "IMS_PER_BATCH": 64,
    },
    "TEST": {
        "IMS_PER_BATCH": 128, "RE_RANKING": "no", "WEIGHT": "", "NECK_FEAT": "after",
        "FEAT_NORM": "yes",
    },
    "OUTPUT_DIR": "",
}
# fmt: on
"""The baseline's own defaults. The size is 384x128: nearly every configuration file changes it."""

_FEAT_NORM = "TEST.FEAT_NORM 'no' changes nothing in the network: scoring uses unit length"
_LARGEST_FILE = 2**20
_LARGEST_CONTENT = 100_000
_LONGEST_SHOWN = 100

_YACS_ERRORS = (AssertionError, KeyError, MemoryError, RecursionError, TypeError, ValueError)
"""What yacs raises over keys and values that it does not take, none of it its own type."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration says about a trained network.

    Fields:
        architecture: `MODEL.NAME`; whether there is such a network is not checked here.
        last_stride: `MODEL.LAST_STRIDE`, 1 or 2.
        bnneck: whether `MODEL.NECK` is `bnneck`.
        contract: how pictures become the network's input (`INPUT.SIZE_TEST`, `PIXEL_MEAN`,
            `PIXEL_STD`) and where the vector is taken (`TEST.NECK_FEAT`; `output` without
            BNNeck).
        weight: `TEST.WEIGHT`, the checkpoint's path as it was written; may be empty.
        remarks: what is set and has no effect on the network, in a sentence each.
    """

    architecture: str
    last_stride: int
    bnneck: bool
    contract: InputSpec
    weight: str
    remarks: tuple[str, ...] = ()


def read_config(path: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file and the pairs that change it.

    Args:
        path: a `.yml` or `.yaml` file; `None` for the baseline's defaults.
        overrides: `KEY`, `VALUE`, `KEY`, `VALUE`, ... as on a command line.

    Raises:
        ArgumentError: the file cannot be read or is not such a file, there is no such key, a
            value has another type than the key's default, or one that describes the network is
            none that the baseline knows.
    """
    return _describe(merge_config(path, overrides))


def merge_config(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Give all values that hold, section by section, as the baseline's code would see them.

    Parameters and errors are those of `read_config`, but that no value's meaning is checked.
    """
    from yacs.config import CfgNode

    node = CfgNode(_DEFAULTS)
    if path is not None:
        for key, value, content in _leaves(_read_yaml(path)):
            with _explained(f"{path}: ", key, value):
                node.merge_from_other_cfg(CfgNode(content))
    if len(overrides) % 2:
        raise ArgumentError(
            f"{overrides[-1]!r} has no value: what follows the options are pairs KEY VALUE, such "
            "as TEST.WEIGHT model.pth"
        )
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        with _explained("", key, text):
            node.merge_from_list([key, text])
    return dict(node)


def _leaves(content: dict[Any, Any]) -> Iterator[tuple[str, object, dict[Any, Any]]]:
    """Give each value of a file with its key, and as a file of its own.

    One by one they merge into what all together do, and what is refused has a name.
    """
    for section, values in content.items():
        if not isinstance(values, dict) or not values:
            yield str(section), values, {section: values}
        else:
            for name, value in values.items():
                yield f"{section}.{name}", value, {section: {name: value}}


def _read_yaml(path: Path) -> dict[Any, Any]:
    """Read the one mapping that a YAML file holds; nothing in it is executed."""
    import yaml

    text = _read_text(path)
    try:
        _check_expansion(path, yaml.compose(text, yaml.SafeLoader))
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(f"{path} is not a YAML file that can be read: {reason}") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        raise ArgumentError(
            f"{path} holds {kind}, expected sections such as MODEL and INPUT with their values: "
            "pass a configuration file of the strong baseline"
        )
    return content


def _read_text(path: Path) -> str:
    if path.suffix.lower() not in (".yml", ".yaml"):
        raise ArgumentError(
            f"{path} is not a .yml or .yaml file: only those are read as configuration; yacs would "
            "execute a .py file, reidkit does not"
        )
    if not path.is_file():
        raise ArgumentError(f"{path} is no file: pass the configuration that trained the network")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ArgumentError(f"{path} is larger than 1 MiB: it is no configuration file")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} is not text in UTF-8: {error}") from error


def _check_expansion(path: Path, root: Any) -> None:
    """Refuse a file whose aliases stand for more than any configuration holds."""
    waiting, size = [root], 0
    while waiting:
        # A mapping's node holds pairs of nodes, a sequence's nodes, a scalar's a text.
        value = getattr(waiting.pop(), "value", "")
        size += 1 + len(value)
        if size > _LARGEST_CONTENT:
            raise ArgumentError(f"{path} stands for too many values: it is no configuration file")
        for part in value if isinstance(value, list) else ():
            waiting.extend(part if isinstance(part, tuple) else [part])


@contextmanager
def _explained(place: str, key: str, value: object) -> Iterator[None]:
    """Turn what yacs raises while it merges one value into an error that helps."""
    with warnings.catch_warnings():
        # A text that is no Python literal is a text; that it nearly is one is no news.
        warnings.simplefilter("ignore")
        try:
            yield
        except _YACS_ERRORS as error:
            raise ArgumentError(place + _explain(key, value, error)) from error


def _explain(key: str, value: object, error: Exception) -> str:
    known = flatten(_DEFAULTS)
    if isinstance(_DEFAULTS.get(key), dict):
        first = next(iter(_DEFAULTS[key]))
        return f"{key} is a section: change one of its keys, such as {key}.{first}"
    if key not in known:
        near = difflib.get_close_matches(key.upper(), known, 1, 0.5)
        hint = f"perhaps {near[0]} is meant" if near else f"the sections are {', '.join(_DEFAULTS)}"
        return f"there is no key {_show(key)}: {hint}"
    found = _decode(value)
    if type(found) is type(known[key]):
        return f"{key} cannot be set to {_show(value)}: {error}"
    kind = type(found).__name__
    return f"{key} is {_show(found)}, of type {kind}, expected {_wanted(found, known[key])}"


def _wanted(found: object, default: object) -> str:
    """Say what a key takes, and how a value is written so that yacs gives it that type."""
    if isinstance(default, str):
        inner = found[0] if isinstance(found, (tuple, list)) and len(found) == 1 else found
        return f"a text: write \"('{str(inner)[:_LONGEST_SHOWN]}')\""
    if isinstance(default, float):
        number = f"{found}.0" if type(found) is int else default
        return f"a number with a decimal point: write {number}"
    if isinstance(default, (list, tuple)):
        return f'a list of numbers: write "{default}"'
    return f"a whole number: write {default}"


def _decode(value: object) -> object:
    """Read a value as yacs does, but never fail over it."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (*_YACS_ERRORS, SyntaxError):
        return value


def flatten(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values of all sections by their dotted keys, such as `MODEL.NAME`."""
    flat: dict[str, Any] = {}
    for name, value in sections.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        else:
            flat[name] = value
    return flat


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _describe(sections: Mapping[str, Any]) -> Config:
    values = flatten(sections)
    height, width = _numbers(values, "INPUT.SIZE_TEST", (int,), 2)
    bnneck = _choose(values, "MODEL.NECK", ("bnneck", "no")) == "bnneck"
    feature = _choose(values, "TEST.NECK_FEAT", ("after", "before"))
    normalised = _choose(values, "TEST.FEAT_NORM", ("yes", "no"))
    return Config(
        architecture=str(values.get("MODEL.NAME")),
        last_stride=_choose(values, "MODEL.LAST_STRIDE", (1, 2)),
        bnneck=bnneck,
        contract=InputSpec(
            height=height,
            width=width,
            mean=_triple(values, "INPUT.PIXEL_MEAN"),
            std=_triple(values, "INPUT.PIXEL_STD"),
            neck=feature if bnneck else "output",
        ),
        weight=values.get("TEST.WEIGHT") or "",
        remarks=() if normalised == "yes" else (_FEAT_NORM,),
    )


def _choose(values: Mapping[str, Any], key: str, choices: tuple[Any, ...]) -> Any:
    """Give a value that must be one of a few; the baseline takes any other text for the last."""
    if values.get(key) in choices:
        return values[key]
    expected = " or ".join(map(repr, choices))
    raise ArgumentError(f"{key} is {_show(values.get(key))}, expected {expected}")


def _triple(values: Mapping[str, Any], key: str) -> Triple:
    red, green, blue = _numbers(values, key, (int, float), 3)
    return float(red), float(green), float(blue)


def _numbers(values: Mapping[str, Any], key: str, kinds: tuple[type, ...], count: int) -> list[Any]:
    """Give a list of so many numbers; yacs checks that it is a list and not what is in it."""
    found = values.get(key)
    if isinstance(found, list) and [type(number) in kinds for number in found] == [True] * count:
        return found
    kind = "numbers" if float in kinds else "whole numbers"
    usual = flatten(_DEFAULTS)[key]
    raise ArgumentError(f"{key} is {_show(found)}, expected {count} {kind}, such as {usual}")
