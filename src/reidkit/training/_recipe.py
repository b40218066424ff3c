"""What a training does, as one flat value: the strong baseline's recipe and what may be changed."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from reidkit import networks
from reidkit.errors import ArgumentError
from reidkit.networks.graph import MINIMUM_SIDE
from reidkit.package import InputSpec, Triple

CHOICES: dict[str, tuple[str, ...]] = {
    "pooling": ("average", "gem"),
    "neck_feature": ("after", "before"),
    "sampler": ("identities", "shuffle"),
    "head": ("linear", "arcface", "cosface"),
    "metric_loss": ("triplet", "soft_triplet", "circle", "none"),
    "optimiser": ("adam", "adamw", "sgd"),
    "schedule": ("multistep", "cosine"),
    "warmup_method": ("linear", "constant"),
    "precision": ("float32", "bfloat16", "float16"),
}
"""The texts that a field takes, for the fields that take a few only."""

_SHARES = (
    "flip_probability",
    "erasing_probability",
    "label_smoothing",
    "final_factor",
    "warmup_factor",
)
_NOT_NEGATIVE = (
    "metric_weight",
    "margin",
    "circle_margin",
    "center_weight",
    "center_learning_rate",
    "bias_learning_rate_factor",
    "weight_decay",
    "bias_weight_decay",
    "head_margin",
)
_ABOVE_ZERO = ("head_scale", "circle_scale", "learning_rate", "gamma")
_BELOW_ONE = ("momentum", "ema_decay")
_SMALLEST: dict[str, int] = {
    "height": MINIMUM_SIDE,
    "width": MINIMUM_SIDE,
    "padding": 0,
    "batch": 2,
    "instances": 1,
    "epochs": 1,
    "warmup_epochs": 0,
    "freeze_epochs": 0,
    "accumulate": 1,
    "workers": 0,
    "seed": 0,
    "validate_every": 1,
    "log_every": 1,
}
_LARGEST = 2**31 - 1
_LARGEST_PADDING = 1024
_LARGEST_NUMBER = 1e30


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained; the defaults are the strong baseline's recipe with centre loss.

    What each field means stands beside it in the file that `recipe_as_toml` writes. Rates and
    factors are plain numbers, sizes and paddings pixels, probabilities shares from 0 to 1; an
    empty text stands for none. Whole numbers are taken where a number may have decimals.

    Raises:
        ArgumentError: a value of another type, outside its range, or one that contradicts
            another.
    """

    # The network.
    architecture: str = "resnet50"
    bnneck: bool = True
    last_stride: int = 1
    pooling: Literal["average", "gem"] = "average"
    neck_feature: Literal["after", "before"] = "after"
    pretrained: str = ""
    # Pictures.
    height: int = 256
    width: int = 128
    mean: Triple = (0.485, 0.456, 0.406)
    std: Triple = (0.229, 0.224, 0.225)
    flip_probability: float = 0.5
    padding: int = 10
    erasing_probability: float = 0.5
    # Batches.
    batch: int = 64
    sampler: Literal["identities", "shuffle"] = "identities"
    instances: int = 4
    # Losses.
    head: Literal["linear", "arcface", "cosface"] = "linear"
    head_scale: float = 30.0
    head_margin: float = 0.35
    label_smoothing: float = 0.1
    metric_loss: Literal["triplet", "soft_triplet", "circle", "none"] = "triplet"
    metric_weight: float = 1.0
    margin: float = 0.3
    circle_scale: float = 64.0
    circle_margin: float = 0.25
    center_weight: float = 0.0005
    center_learning_rate: float = 0.5
    # The optimiser and its schedule.
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 3.5e-4
    bias_learning_rate_factor: float = 1.0
    weight_decay: float = 5e-4
    bias_weight_decay: float = 5e-4
    momentum: float = 0.9
    epochs: int = 120
    schedule: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[int, ...] = (40, 70)
    gamma: float = 0.1
    final_factor: float = 0.002
    warmup_epochs: int = 10
    warmup_factor: float = 0.01
    warmup_method: Literal["linear", "constant"] = "linear"
    # Running.
    freeze_epochs: int = 0
    accumulate: int = 1
    ema_decay: float = 0.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    channels_last: bool = True
    device: str = ""
    workers: int = 0
    seed: int = 0
    validate_every: int = 10
    log_every: int = 20
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name, default in DEFAULTS.items():
            check_kind(name, getattr(self, name), default)
        _check_ranges(self)
        _check_combinations(self)
        _ = self.contract
        _ = self.network(None)

    @property
    def contract(self) -> InputSpec:
        """How a picture becomes the network's input, and where its vector is taken."""
        return InputSpec(
            height=self.height,
            width=self.width,
            # The contract is hashed as it is written: 0 and 0.0 would be two contracts.
            mean=_floats(self.mean),
            std=_floats(self.std),
            neck=self.neck_feature if self.bnneck else "output",
        )

    def network(self, classes: int | None) -> networks.Network:
        """Give the network to train on so many people; `None` gives it without classifier."""
        return networks.Network(
            self.architecture,
            bnneck=self.bnneck,
            last_stride=self.last_stride,
            classes=classes,
            pooling=self.pooling,
        )


DEFAULTS: dict[str, object] = {each.name: each.default for each in fields(Recipe)}
"""Each field's name and default, whose type is the type that the field takes."""


def kind_of(default: object) -> str:
    """Say in words what a field takes, by its default."""
    if isinstance(default, bool):
        return "true or false"
    if isinstance(default, int):
        return "a whole number"
    if isinstance(default, float):
        return "a number"
    if isinstance(default, tuple):
        whole = all(isinstance(value, int) for value in default)
        return "whole numbers in brackets" if whole else "three numbers in brackets"
    return "a text"


def check_kind(name: str, value: object, default: object) -> None:
    """Check that a value has the type of its default, `int` for `float` allowed.

    Raises:
        ArgumentError: it has not, or it is a number that is not finite.
    """
    if not _is_like(value, default):
        raise ArgumentError(f"{name} is {_show(value)}, expected {kind_of(default)}")
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(abs(number) <= _LARGEST_NUMBER for number in numbers if not isinstance(number, str)):
        raise ArgumentError(f"{name} is {_show(value)}, expected {kind_of(default)}, finite")


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, float):
        return type(value) in (int, float)
    if not isinstance(default, tuple):
        return type(value) is type(default)
    if not isinstance(value, tuple):
        return False
    if isinstance(default[0], float):
        return [type(number) in (int, float) for number in value] == [True] * len(default)
    return all(type(number) is int for number in value)


def _floats(numbers: Triple) -> Triple:
    red, green, blue = map(float, numbers)
    return red, green, blue


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _check_ranges(recipe: Recipe) -> None:
    for name, choices in CHOICES.items():
        _expect(recipe, name, getattr(recipe, name) in choices, f"one of {', '.join(choices)}")
    for name, smallest in _SMALLEST.items():
        value = getattr(recipe, name)
        _expect(recipe, name, smallest <= value <= _LARGEST, f"a whole number from {smallest}")
    for name in _SHARES:
        _expect(recipe, name, 0 <= getattr(recipe, name) <= 1, "a number from 0 to 1")
    for name in _NOT_NEGATIVE:
        _expect(recipe, name, getattr(recipe, name) >= 0, "a number from 0")
    for name in _ABOVE_ZERO:
        _expect(recipe, name, getattr(recipe, name) > 0, "a number above 0")
    for name in _BELOW_ONE:
        _expect(recipe, name, 0 <= getattr(recipe, name) < 1, "a number from 0 and below 1")
    _expect(recipe, "padding", recipe.padding <= _LARGEST_PADDING, f"at most {_LARGEST_PADDING}")
    for name in ("pretrained", "device"):
        # A file of text has no place for others, and a terminal may act on them.
        _expect(recipe, name, getattr(recipe, name).isprintable(), "printable characters")
    rising = list(recipe.milestones) == sorted(set(recipe.milestones))
    _expect(recipe, "milestones", rising, "epochs that rise, each once")
    _expect(recipe, "milestones", min(recipe.milestones, default=1) >= 1, "epochs from 1")


def _expect(recipe: Recipe, name: str, holds: bool, wanted: str) -> None:
    if not holds:
        raise ArgumentError(f"{name} is {_show(getattr(recipe, name))}, expected {wanted}")


def _check_combinations(recipe: Recipe) -> None:
    if recipe.sampler == "identities":
        _check_identities(recipe)
    elif recipe.metric_loss != "none":
        raise ArgumentError(
            f"metric_loss {recipe.metric_loss!r} needs several pictures of a person in a batch, "
            "which sampler 'shuffle' does not promise: set sampler = \"identities\" or "
            'metric_loss = "none"'
        )
    if recipe.head != "linear" and not recipe.bnneck:
        raise ArgumentError(
            f"head {recipe.head!r} compares angles and has no use for the bias of a classifier "
            'without BNNeck: set bnneck = true or head = "linear"'
        )
    if recipe.head == "arcface" and recipe.head_margin >= math.pi / 2:
        raise ArgumentError(
            f"head_margin is {recipe.head_margin}, expected an angle below a right one (1.57)"
        )
    if recipe.freeze_epochs and not recipe.pretrained:
        raise ArgumentError(
            f"freeze_epochs is {recipe.freeze_epochs}, but a backbone that starts at random has "
            "nothing to keep: set pretrained, or freeze_epochs = 0"
        )


def _check_identities(recipe: Recipe) -> None:
    batch, instances = recipe.batch, recipe.instances
    if batch % instances:
        near = batch - batch % instances or instances
        raise ArgumentError(
            f"batch is {batch} and instances is {instances}: a batch holds {instances} pictures of "
            f"each of its people, so it must be a multiple of that, such as {near}"
        )
    if recipe.metric_loss != "none" and (instances < 2 or batch // instances < 2):
        raise ArgumentError(
            f"metric_loss {recipe.metric_loss!r} compares two pictures of a person with another "
            f"person's, but a batch of {batch} with {instances} pictures of each has none to "
            "compare: set instances to at least 2, and batch to at least twice that"
        )
