"""Recipes as TOML: one flat file, every field with its comment."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reidkit.errors import ArgumentError
from reidkit.training._recipe import CHOICES, DEFAULTS, Recipe, check_kind

_LARGEST_FILE = 2**20
_COMMENT_COLUMN = 34

_COMMENTS: dict[str, dict[str, str]] = {
    "The network": {
        "architecture": "Such as resnet50, resnet50_ibn_a or osnet_x0_25.",
        "bnneck": "A batch norm between the vector that metric losses see and the classifier.",
        "last_stride": "Stride of the last stage, 1 or 2; 1 keeps a larger last map.",
        "pooling": "How the last map becomes a vector; gem is a mean with a learnt power.",
        "neck_feature": "Take the vector for search after or before the BNNeck.",
        "pretrained": 'A file of ImageNet weights, "timm" to get them, or "" to start at random.',
    },
    "Pictures": {
        "height": "Pixels.",
        "width": "Pixels.",
        "mean": "Of red, green and blue on a scale of 0 to 1.",
        "std": "Of red, green and blue on a scale of 0 to 1.",
        "flip_probability": "Share of pictures that are mirrored.",
        "padding": "Pixels of black around a picture before it is cropped at random.",
        "erasing_probability": "Share of pictures in which a rectangle is filled with the mean.",
    },
    "Batches": {
        "batch": "Pictures a step, over all GPUs.",
        "sampler": "identities draws people and pictures of each; shuffle draws pictures.",
        "instances": "Pictures of each person in a batch, for identities.",
    },
    "Losses": {
        "head": "The classifier: linear, or by angle with a margin (arcface, cosface).",
        "head_scale": "What arcface and cosface multiply cosines by.",
        "head_margin": "The margin of arcface (radians) and cosface (cosine).",
        "label_smoothing": "Share of the label that is spread over all people; 0 for none.",
        "metric_loss": "On the vectors before the BNNeck; soft_triplet has no margin.",
        "metric_weight": "Its weight beside the classifier's loss, which has 1.",
        "margin": "Of triplet, a Euclidean distance.",
        "circle_scale": "Of circle.",
        "circle_margin": "Of circle, a cosine.",
        "center_weight": "Weight of the centre loss; 0 for none.",
        "center_learning_rate": "Of the centres' own optimiser.",
    },
    "The optimiser and its schedule": {
        "optimiser": "adam decays weights through the gradient, adamw beside it.",
        "learning_rate": "After the warm-up.",
        "bias_learning_rate_factor": "Biases learn so many times as fast.",
        "weight_decay": "Of all that is no bias.",
        "bias_weight_decay": "Of biases.",
        "momentum": "Of sgd.",
        "epochs": "Times that the training split is gone through.",
        "schedule": "multistep multiplies the rate by gamma at milestones; cosine lets it fall.",
        "milestones": "Epochs from which on the rate is smaller.",
        "gamma": "Factor of the rate at each milestone.",
        "final_factor": "Share of the rate that is left at the end of cosine.",
        "warmup_epochs": "Epochs with a smaller rate at the start; 0 for none.",
        "warmup_factor": "Share of the rate at the very start.",
        "warmup_method": "linear grows to the whole rate, constant stays until the end.",
    },
    "Running": {
        "freeze_epochs": "Epochs at the start in which the backbone stays as it is.",
        "accumulate": "Batches whose gradients make one step of the optimiser.",
        "ema_decay": "Of a running average of the weights, which is then the result; 0 for none.",
        "precision": "Of activations; weights are always float32.",
        "compile": "Compile the network with torch.compile.",
        "channels_last": "Lay pictures out channel by channel last, faster on most machines.",
        "device": 'Such as "cpu" or "cuda:1"; "" for a GPU where there is one.',
        "workers": "Threads that read pictures; 0 for one a core.",
        "seed": "Start of all chance.",
        "validate_every": "Epochs between two validations; the last one is always validated.",
        "log_every": "Steps between two lines of the log.",
        "tensorboard": "Write a log for TensorBoard too.",
    },
}
"""What a field means, by part of the recipe; every field stands here once."""

_HEADER = """\
# A recipe of `reidkit train`. Every field is optional: what is missing has its default, which is
# the strong baseline's recipe with centre loss.
"""


def read_recipe(path: Path | None, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe and change it.

    Args:
        path: a TOML file of the fields of `Recipe`, by name; `None` for the defaults.
        settings: `key=value` each. A value is written as in TOML; a text may leave its quotes
            out. A later one for the same key wins.

    Raises:
        ArgumentError: the file cannot be read or is no TOML, there is no such field, or a value
            is none that the recipe takes; the message names the file.
    """
    values = {} if path is None else _read_toml(path)
    return make_recipe(values, settings, place="" if path is None else str(path))


def make_recipe(
    values: Mapping[str, Any], settings: Sequence[str] = (), *, place: str = ""
) -> Recipe:
    """Make a recipe of named values and of settings that change them.

    Lists stand for tuples. `place` is where the values are from, for messages. Errors are those
    of `read_recipe`.
    """
    where = f"{place}: " if place else ""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found[key] = _check_field(key, value, where)
    for setting in settings:
        key, value = _parse_setting(setting)
        found[key] = _check_field(key, value, f"the setting {setting[:100]!r}: ")
    try:
        return Recipe(**found)
    except ArgumentError as error:
        raise ArgumentError(f"{where}{error}") from error


def recipe_as_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, every field with its comment; `read_recipe` reads it back equal."""
    lines = [_HEADER]
    for title, comments in _COMMENTS.items():
        lines.append(f"# --- {title} ---")
        for name, comment in comments.items():
            choices = f" One of {', '.join(CHOICES[name])}." if name in CHOICES else ""
            field = f"{name} = {_write(getattr(recipe, name))}"
            lines.append(f"{field:<{_COMMENT_COLUMN}} # {comment}{choices}")
        lines.append("")
    return "\n".join(lines)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():
            raise ArgumentError(f"{path} is no file: pass a recipe in TOML")
        if path.stat().st_size > _LARGEST_FILE:
            raise ArgumentError(f"{path} is larger than 1 MiB: it is no recipe")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ArgumentError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ArgumentError(f"{path} is not text in UTF-8: {error}") from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        hint = (
            ": a configuration of the strong baseline is passed as --config_file"
            if path.suffix.lower() in (".yml", ".yaml")
            else ""
        )
        raise ArgumentError(f"{path} is not TOML that can be read: {error}{hint}") from error


def _parse_setting(setting: str) -> tuple[str, Any]:
    """Split `key=value` and read the value: as TOML, or as the text that it is."""
    key, sign, text = setting.partition("=")
    key, text = key.strip(), text.strip()
    if not sign:
        raise ArgumentError(f"{setting[:100]!r} is no setting: write key=value, such as epochs=60")
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return key, text
    # Several lines could hold more than the one value, and what looks like a number may be a name.
    is_text = isinstance(DEFAULTS.get(key), str) and not isinstance(parsed["value"], str)
    return key, text if is_text or len(parsed) > 1 else parsed["value"]


def _check_field(key: str, value: Any, where: str) -> Any:
    """Check that there is such a field and that the value has its type; give the value."""
    if isinstance(value, dict):
        raise ArgumentError(f"{where}{key!r} is a section: a recipe is flat, without [sections]")
    if key not in DEFAULTS:
        near = difflib.get_close_matches(key.lower(), DEFAULTS, 1, 0.5)
        hint = f"perhaps {near[0]} is meant" if near else "--print-config shows all there are"
        raise ArgumentError(f"{where}a recipe has no field {key[:100]!r}: {hint}")
    value = tuple(value) if isinstance(value, list) else value
    try:
        check_kind(key, value, DEFAULTS[key])
    except ArgumentError as error:
        raise ArgumentError(f"{where}{error}") from error
    return value


def _write(value: object) -> str:
    """Write a value as TOML; a number is written so that it reads back equal."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_write, value))}]"
    return repr(value)
