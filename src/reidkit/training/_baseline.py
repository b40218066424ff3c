"""The strong baseline's configuration files as recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reidkit.configs import flatten, merge_config
from reidkit.errors import ArgumentError
from reidkit.training._recipe import DEFAULTS, Recipe, check_kind
from reidkit.training._recipe_toml import make_recipe

FIELDS = {
    "MODEL.NAME": "architecture",
    "MODEL.LAST_STRIDE": "last_stride",
    "INPUT.PROB": "flip_probability",
    "INPUT.RE_PROB": "erasing_probability",
    "INPUT.PIXEL_MEAN": "mean",
    "INPUT.PIXEL_STD": "std",
    "INPUT.PADDING": "padding",
    "DATALOADER.NUM_INSTANCE": "instances",
    "SOLVER.MAX_EPOCHS": "epochs",
    "SOLVER.BASE_LR": "learning_rate",
    "SOLVER.BIAS_LR_FACTOR": "bias_learning_rate_factor",
    "SOLVER.MOMENTUM": "momentum",
    "SOLVER.CENTER_LR": "center_learning_rate",
    "SOLVER.WEIGHT_DECAY": "weight_decay",
    "SOLVER.WEIGHT_DECAY_BIAS": "bias_weight_decay",
    "SOLVER.GAMMA": "gamma",
    "SOLVER.STEPS": "milestones",
    "SOLVER.WARMUP_FACTOR": "warmup_factor",
    # It counts epochs, whatever its name says: the baseline steps its schedule once an epoch.
    "SOLVER.WARMUP_ITERS": "warmup_epochs",
    "SOLVER.WARMUP_METHOD": "warmup_method",
    "SOLVER.LOG_PERIOD": "log_every",
    "SOLVER.EVAL_PERIOD": "validate_every",
    "SOLVER.IMS_PER_BATCH": "batch",
    "TEST.NECK_FEAT": "neck_feature",
}
"""The keys whose value is that of a field."""

CHOSEN: dict[str, tuple[str, Mapping[str, object]]] = {
    "MODEL.NECK": ("bnneck", {"bnneck": True, "no": False}),
    "SOLVER.OPTIMIZER_NAME": ("optimiser", {"Adam": "adam", "AdamW": "adamw", "SGD": "sgd"}),
}
"""The keys whose few values have other names here."""

COMBINED = (
    *("INPUT.SIZE_TRAIN", "INPUT.SIZE_TEST", "DATALOADER.SAMPLER", "DATALOADER.NUM_WORKERS"),
    *("MODEL.METRIC_LOSS_TYPE", "MODEL.IF_WITH_CENTER", "MODEL.IF_LABELSMOOTH"),
    *("SOLVER.MARGIN", "SOLVER.CENTER_LOSS_WEIGHT"),
    *("MODEL.PRETRAIN_CHOICE", "MODEL.PRETRAIN_PATH", "MODEL.DEVICE", "MODEL.DEVICE_ID"),
)
"""The keys that say what they mean only together; a function below for each group."""

_UNUSED = "the baseline does not use it either"
WITHOUT_EFFECT = {
    "DATASETS.NAMES": "--data and --layout say which data set",
    "DATASETS.ROOT_DIR": "--data says where the data set is",
    "SOLVER.CLUSTER_MARGIN": _UNUSED,
    "SOLVER.RANGE_K": _UNUSED,
    "SOLVER.RANGE_MARGIN": _UNUSED,
    "SOLVER.RANGE_ALPHA": _UNUSED,
    "SOLVER.RANGE_BETA": _UNUSED,
    "SOLVER.RANGE_LOSS_WEIGHT": _UNUSED,
    "SOLVER.CHECKPOINT_PERIOD": "a run is saved after every epoch",
    "TEST.IMS_PER_BATCH": "the batch of a validation changes no score",
    "TEST.RE_RANKING": "validation does not re-rank; reidkit score and evaluate do",
    "TEST.WEIGHT": "it names a trained network; what training starts from is MODEL.PRETRAIN_PATH",
    "TEST.FEAT_NORM": "scoring uses unit length",
    "OUTPUT_DIR": "-o says where the run is kept",
}
"""The keys that change nothing, and why."""

_RANDOM = (
    "MODEL.PRETRAIN_PATH is empty: the network starts from random weights; --set pretrained=FILE "
    "starts from others"
)
_YES_NO = {"yes": True, "no": False}
_ON_OFF = {"on": True, "off": False}


def read_baseline_recipe(
    path: Path | None, pairs: Sequence[str] = (), settings: Sequence[str] = ()
) -> tuple[Recipe, tuple[str, ...]]:
    """Read a configuration of the strong baseline as a recipe.

    Args:
        path: a `.yml` or `.yaml` file; `None` for the baseline's defaults.
        pairs: `KEY`, `VALUE`, ... that change it, as on the baseline's command line.
        settings: `key=value` each, which change the recipe that comes of it.

    Returns:
        The recipe, and remarks: what is set and has no effect here, in a sentence each.

    Raises:
        ArgumentError: as `configs.read_config`; or a value that no recipe can follow, with what
            to do instead.
    """
    values = flatten(merge_config(path, pairs))
    usual = flatten(merge_config(None))
    found: dict[str, Any] = {}
    for key, name in FIELDS.items():
        value = tuple(values[key]) if isinstance(values[key], list) else values[key]
        check_kind(key, value, DEFAULTS[name])
        found[name] = value
    for key, (name, choices) in CHOSEN.items():
        found[name] = _choose(values, key, choices)
    remarks = [
        f"{key} has no effect: {reason}"
        for key, reason in WITHOUT_EFFECT.items()
        if values[key] != usual[key]
    ]
    found["height"], found["width"] = _size(values)
    # The baseline reads pictures in its own process where there are 0 workers.
    check_kind("DATALOADER.NUM_WORKERS", values["DATALOADER.NUM_WORKERS"], 0)
    found["workers"] = values["DATALOADER.NUM_WORKERS"] or 1
    found |= _losses(values, remarks)
    found["pretrained"] = _pretrained(values)
    found["device"] = _device(values, remarks)
    place = "the baseline's defaults" if path is None else str(path)
    recipe = make_recipe(found, settings, place=place)
    if not recipe.pretrained:
        remarks.append(_RANDOM)
    return recipe, tuple(remarks)


def _size(values: Mapping[str, Any]) -> tuple[int, int]:
    train, test = values["INPUT.SIZE_TRAIN"], values["INPUT.SIZE_TEST"]
    if train != test:
        raise ArgumentError(
            f"INPUT.SIZE_TRAIN is {train} and INPUT.SIZE_TEST is {test}: a recipe has one size for "
            "both, set them alike"
        )
    if not isinstance(test, list) or [type(number) for number in test] != [int, int]:
        raise ArgumentError(f"INPUT.SIZE_TEST is {test!r}, expected height and width")
    return test[0], test[1]


def _losses(values: Mapping[str, Any], remarks: list[str]) -> dict[str, Any]:
    """Give the fields of the sampler and the losses, which the baseline chooses together."""
    center = _choose(values, "MODEL.IF_WITH_CENTER", _YES_NO)
    smooth = _choose(values, "MODEL.IF_LABELSMOOTH", _ON_OFF)
    sampler = values["DATALOADER.SAMPLER"]
    metric = _center_metric(values) if center else _plain_metric(values)
    if sampler == "softmax" and not center and smooth:
        smooth = False
        remarks.append(
            "MODEL.IF_LABELSMOOTH 'on' has no effect with DATALOADER.SAMPLER 'softmax', as in the "
            "baseline: --set label_smoothing=0.1 smooths"
        )
    return {
        "sampler": "shuffle" if sampler == "softmax" else "identities",
        "label_smoothing": 0.1 if smooth else 0.0,
        "center_weight": values["SOLVER.CENTER_LOSS_WEIGHT"] if center else 0.0,
        **_triplet(values, metric),
    }


def _plain_metric(values: Mapping[str, Any]) -> bool:
    """Say whether there is a triplet loss, of a configuration without centre loss."""
    kind, sampler = values["MODEL.METRIC_LOSS_TYPE"], values["DATALOADER.SAMPLER"]
    if kind in ("center", "triplet_center"):
        raise ArgumentError(
            f"MODEL.METRIC_LOSS_TYPE is {kind!r} and MODEL.IF_WITH_CENTER is 'no': write "
            "MODEL.IF_WITH_CENTER \"('yes')\", or MODEL.METRIC_LOSS_TYPE \"('triplet')\""
        )
    _choose(values, "MODEL.METRIC_LOSS_TYPE", {"triplet": True})
    if sampler == "triplet":
        raise ArgumentError(
            "DATALOADER.SAMPLER is 'triplet', which trains without classifier: reidkit always has "
            "one, write DATALOADER.SAMPLER \"('softmax_triplet')\""
        )
    triplet: bool = _choose(values, "DATALOADER.SAMPLER", {"softmax": False} | _TRIPLET)
    return triplet


def _center_metric(values: Mapping[str, Any]) -> bool:
    """Say whether there is a triplet loss beside the centre loss."""
    kinds = {"center": False, "triplet_center": True}
    triplet: bool = _choose(values, "MODEL.METRIC_LOSS_TYPE", kinds)
    # Beside a centre loss the sampler chooses the pictures and no losses.
    grouped = _choose(values, "DATALOADER.SAMPLER", {"softmax": False, "triplet": True} | _TRIPLET)
    if triplet and not grouped:
        raise ArgumentError(
            "MODEL.METRIC_LOSS_TYPE is 'triplet_center' and DATALOADER.SAMPLER is 'softmax', which "
            "draws too few pictures of a person: write DATALOADER.SAMPLER \"('softmax_triplet')\""
        )
    return triplet


_TRIPLET = {"softmax_triplet": True}


def _triplet(values: Mapping[str, Any], metric: bool) -> dict[str, Any]:
    margin = values["SOLVER.MARGIN"]
    if not metric:
        return {"metric_loss": "none"}
    if margin is None:  # the baseline's sign for the soft margin
        return {"metric_loss": "soft_triplet"}
    return {"metric_loss": "triplet", "margin": margin}


def _pretrained(values: Mapping[str, Any]) -> str:
    if values["MODEL.PRETRAIN_CHOICE"] == "self":
        raise ArgumentError(
            "MODEL.PRETRAIN_CHOICE is 'self', which goes on with a training of the baseline: "
            "reidkit goes on with its own runs when the same command is given again. To start from "
            "the weights of a checkpoint, write MODEL.PRETRAIN_CHOICE \"('imagenet')\" and its "
            "path as MODEL.PRETRAIN_PATH"
        )
    _choose(values, "MODEL.PRETRAIN_CHOICE", {"imagenet": True})
    return values["MODEL.PRETRAIN_PATH"] or ""


def _device(values: Mapping[str, Any], remarks: list[str]) -> str:
    number = values["MODEL.DEVICE_ID"]
    if _choose(values, "MODEL.DEVICE", {"cuda": False, "cpu": True}):
        return "cpu"
    if number in (None, "", "0"):
        return ""
    if isinstance(number, str) and number.isdecimal() and number.isascii():
        return f"cuda:{int(number[:9])}"
    remarks.append(
        f"MODEL.DEVICE_ID {number!r} has no effect: to train on several GPUs, start one process "
        "each with torchrun"
    )
    return ""


def _choose(values: Mapping[str, Any], key: str, choices: Mapping[str, Any]) -> Any:
    if values[key] not in choices:
        expected = " or ".join(map(repr, choices))
        raise ArgumentError(f"{key} is {str(values[key])[:100]!r}, expected {expected}")
    return choices[values[key]]
