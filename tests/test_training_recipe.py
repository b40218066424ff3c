"""Recipes: their values, as TOML, and the strong baseline's configuration files as recipes."""

from __future__ import annotations

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidkit import configs
from reidkit.errors import ArgumentError
from reidkit.package import InputSpec
from reidkit.training import Recipe, read_baseline_recipe, read_recipe, recipe_as_toml
from reidkit.training import _baseline as baseline

BEST = """
MODEL: {PRETRAIN_PATH: r50.pth, METRIC_LOSS_TYPE: triplet_center, IF_WITH_CENTER: 'yes'}
INPUT: {SIZE_TRAIN: [256, 128], SIZE_TEST: [256, 128]}
DATALOADER: {SAMPLER: softmax_triplet, NUM_INSTANCE: 4, NUM_WORKERS: 3}
SOLVER:
  MAX_EPOCHS: 120
  BASE_LR: 0.00035
  BIAS_LR_FACTOR: 1
  WEIGHT_DECAY_BIAS: 0.0005
  STEPS: [40, 70]
  WARMUP_FACTOR: 0.01
  WARMUP_ITERS: 10
  LOG_PERIOD: 20
  EVAL_PERIOD: 40
"""
"""What the baseline's configuration with all its tricks says, as far as it matters."""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*arguments: Any, **values: Any) -> str:
    """Give what a recipe of these values is refused with."""
    with pytest.raises(ArgumentError) as caught:
        Recipe(*arguments, **values)
    return str(caught.value)


def no_recipe(path: Path | None, *settings: str) -> str:
    with pytest.raises(ArgumentError) as caught:
        read_recipe(path, settings)
    return str(caught.value)


# What a recipe is.


def test_the_contract_of_a_recipe() -> None:
    assert Recipe().contract == InputSpec()
    recipe = Recipe(height=64, width=32, neck_feature="before", mean=(0, 0, 0), std=(1, 1, 1))
    contract = recipe.contract
    assert (contract.height, contract.width, contract.neck) == (64, 32, "before")
    assert contract.sha256 == dataclasses.replace(contract, mean=(0.0, 0.0, 0.0)).sha256
    assert repr(contract.std) == "(1.0, 1.0, 1.0)"
    assert Recipe(bnneck=False).contract.neck == "output"


def test_the_network_of_a_recipe() -> None:
    network = Recipe(architecture="resnet18", last_stride=2, pooling="gem").network(7)
    assert (network.architecture, network.last_stride, network.classes) == ("resnet18", 2, 7)
    assert (network.bnneck, network.pooling) == (True, "gem")
    assert Recipe().network(None).classes is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epochs": 1.5}, "epochs is 1.5, expected a whole number"),
        ({"epochs": True}, "epochs is True, expected a whole number"),
        ({"margin": "wide"}, "margin is 'wide', expected a number"),
        ({"margin": True}, "margin is True, expected a number"),
        ({"margin": float("nan")}, "margin is nan, expected a number, finite"),
        ({"margin": 10**400}, "expected a number, finite"),
        ({"learning_rate": float("inf")}, "learning_rate is inf"),
        ({"std": (1.0, 1.0, float("nan"))}, "std is (1.0, 1.0, nan)"),
        ({"mean": (0.5, 0.5)}, "mean is (0.5, 0.5), expected three numbers in brackets"),
        ({"mean": 0.5}, "expected three numbers in brackets"),
        ({"milestones": (40, 70.5)}, "expected whole numbers in brackets"),
        ({"milestones": [40]}, "expected whole numbers in brackets"),
        ({"bnneck": "yes"}, "bnneck is 'yes', expected true or false"),
        ({"device": 0}, "device is 0, expected a text"),
        ({"device": "cpu\x1b[31m"}, "expected printable characters"),
        ({"architecture": "resnet51"}, "the architecture is 'resnet51', expected one of resnet18"),
        ({"last_stride": 3}, "the last stride is 3, expected 1 or 2"),
        ({"pooling": "max"}, "pooling is 'max', expected one of average, gem"),
        ({"optimiser": "Adam"}, "optimiser is 'Adam', expected one of adam, adamw, sgd"),
        ({"epochs": 0}, "epochs is 0, expected a whole number from 1"),
        ({"seed": 2**31}, "seed is 2147483648, expected a whole number from 0"),
        ({"padding": 5000}, "padding is 5000, expected at most 1024"),
        ({"height": 5000}, "height"),
        ({"std": (1.0, 0.0, 1.0)}, "expected three numbers above 0"),
        ({"flip_probability": 1.1}, "flip_probability is 1.1, expected a number from 0 to 1"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0, expected a number from 0 and below 1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a number above 0"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001, expected a number from 0"),
        ({"milestones": (70, 40)}, "milestones is (70, 40), expected epochs that rise, each once"),
        ({"milestones": (0, 40)}, "expected epochs from 1"),
        ({"batch": 30}, "batch is 30 and instances is 4"),
        ({"batch": 2}, "such as 4"),
        ({"batch": 4}, "a batch of 4 with 4 pictures of each has none to compare"),
        ({"instances": 1}, "a batch of 64 with 1 pictures of each"),
        ({"sampler": "shuffle"}, "metric_loss 'triplet' needs several pictures of a person"),
        ({"head": "arcface", "bnneck": False}, "head 'arcface' compares angles"),
        ({"head": "arcface", "head_margin": 1.6}, "expected an angle below a right one"),
        ({"freeze_epochs": 5}, "a backbone that starts at random has nothing to keep"),
    ],
)
def test_what_a_recipe_refuses(values: dict[str, Any], said: str) -> None:
    assert said in refusal(**values)


def test_what_a_recipe_takes() -> None:
    assert Recipe(margin=1).margin == 1
    Recipe(sampler="shuffle", metric_loss="none", batch=30)
    Recipe(instances=1, metric_loss="none")
    Recipe(milestones=())
    Recipe(head="cosface", head_margin=1.6)
    Recipe(freeze_epochs=5, pretrained="timm")
    Recipe(epochs=5, warmup_epochs=10)


# As TOML.


def test_the_file_has_every_field_with_a_comment() -> None:
    text = recipe_as_toml(Recipe())
    lines = [line for line in text.splitlines() if " = " in line and not line.startswith("#")]
    names = [field.name for field in dataclasses.fields(Recipe)]
    assert [line.split(" = ")[0] for line in lines] == names
    assert all(line.partition(" # ")[2].endswith(".") for line in lines)
    assert list(tomllib.loads(text)) == names


def test_a_recipe_reads_back_equal(tmp_path: Path) -> None:
    recipe = Recipe(
        architecture="resnet18",
        pretrained='C:\\weights\\"best" ü # 1.pth',
        learning_rate=1e-05,
        margin=1,
        mean=(0, 0.1 + 0.2, 1e-30),
        milestones=(),
        bnneck=False,
        freeze_epochs=3,
    )
    path = write(tmp_path / "recipe.toml", recipe_as_toml(recipe))
    assert read_recipe(path) == recipe
    assert read_recipe(None) == Recipe()
    assert read_recipe(write(path, "\ufeffepochs = 3")) == Recipe(epochs=3)


@given(
    rate=st.floats(1e-12, 1e3, exclude_min=True),
    text=st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])),
)
def test_any_value_reads_back_equal(rate: float, text: str) -> None:
    text = "".join(letter for letter in text if letter.isprintable())
    recipe = Recipe(learning_rate=rate, pretrained=text)
    assert tomllib.loads(recipe_as_toml(recipe))["learning_rate"] == rate
    assert tomllib.loads(recipe_as_toml(recipe))["pretrained"] == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epochs = 3\nbatch 5", "at line 2, column 7"),
        ("epochs = 3\nepochs = 4", "Cannot overwrite a value"),
        ("learning_rat = 0.1", "no field 'learning_rat': perhaps learning_rate is meant"),
        ("optimizer = 'sgd'", "perhaps optimiser is meant"),
        ("zzz = 1", "no field 'zzz': --print-config shows all there are"),
        ("[network]\nbnneck = true", "'network' is a section: a recipe is flat"),
        ("margin = nan", "margin is nan, expected a number, finite"),
        ("epochs = '120'", "epochs is '120', expected a whole number"),
        ("milestones = [40, 'x']", "milestones is (40, 'x'), expected whole numbers in brackets"),
        ("mean = [[0.5], [0.5], [0.5]]", "expected three numbers in brackets"),
        ("epochs = 0", "epochs is 0, expected a whole number from 1"),
        ("batch = 30", "batch is 30 and instances is 4"),
        ("device = 2024-01-01", "expected a text"),
        ("a = " + "[" * 5000, "is not TOML that can be read"),
        ("a = " + "9" * 5000, "is not TOML that can be read"),
        ("#" * (2**20 + 1), "larger than 1 MiB"),
    ],
)
def test_what_is_no_recipe_is_refused_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "bad.toml", text)
    message = no_recipe(path)
    assert message.startswith(str(path))
    assert said in message
    assert len(message) < 600


def test_what_is_no_file_of_text_is_refused(tmp_path: Path) -> None:
    assert "is no file" in no_recipe(tmp_path)
    assert "is no file" in no_recipe(tmp_path / "missing.toml")
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "is not text in UTF-8" in no_recipe(path)
    path = write(tmp_path / "a.yml", "MODEL:\n  NAME: resnet50")
    assert "is passed as --config_file" in no_recipe(path)


def test_settings_are_read_as_toml_or_as_text(tmp_path: Path) -> None:
    path = write(tmp_path / "recipe.toml", "epochs = 3\nbatch = 30")
    settings = (
        *("epochs=60", " epochs = 70 ", "batch=32", "architecture=resnet18", "bnneck=false"),
        *("milestones=[10, 20]", 'device="cpu"', "pretrained=2024", "margin=1"),
    )
    assert read_recipe(path, settings) == Recipe(
        epochs=70,
        batch=32,
        architecture="resnet18",
        bnneck=False,
        milestones=(10, 20),
        device="cpu",
        pretrained="2024",
        margin=1.0,
    )
    assert read_recipe(None, ["pretrained=a=b.pth"]).pretrained == "a=b.pth"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epochs", "'epochs' is no setting: write key=value"),
        ("epoch=3", "perhaps epochs is meant"),
        ("=3", "no field ''"),
        ("epochs=many", "the setting 'epochs=many': epochs is 'many', expected a whole number"),
        ("bnneck=True", "expected true or false"),
        ("milestones=40,70", "expected whole numbers in brackets"),
        ("margin=nan", "finite"),
        ("margin={a = 1}", "is a section"),
        ("epochs=3\nbatch=8", "epochs is '3\\nbatch=8', expected a whole number"),
        ("epochs=0", "epochs is 0, expected a whole number from 1"),
    ],
)
def test_what_settings_are_refused(setting: str, said: str) -> None:
    assert said in no_recipe(None, setting)


# The strong baseline's configuration files.


def read(
    tmp_path: Path, text: str, *pairs: str, settings: tuple[str, ...] = ()
) -> tuple[Recipe, tuple[str, ...]]:
    return read_baseline_recipe(write(tmp_path / "config.yml", text), pairs, settings)


def no_baseline(tmp_path: Path, *pairs: str) -> str:
    with pytest.raises(ArgumentError) as caught:
        read(tmp_path, BEST, *pairs)
    return str(caught.value)


def test_the_baselines_best_recipe_is_the_default(tmp_path: Path) -> None:
    recipe, remarks = read(tmp_path, BEST)
    assert remarks == ()
    assert recipe == Recipe(pretrained="r50.pth", workers=3, validate_every=40)


def test_every_key_has_its_place() -> None:
    usual = configs.merge_config(None)
    keys = {
        f"{section}.{key}" if isinstance(values, dict) else section
        for section, values in usual.items()
        for key in (values if isinstance(values, dict) else [""])
    }
    places = [*baseline.FIELDS, *baseline.CHOSEN, *baseline.COMBINED, *baseline.WITHOUT_EFFECT]
    assert len(places) == len(set(places))
    assert set(places) == keys


@pytest.mark.parametrize(
    ("key", "text", "name", "value"),
    [
        ("MODEL.NAME", "resnet18", "architecture", "resnet18"),
        ("MODEL.LAST_STRIDE", "2", "last_stride", 2),
        ("MODEL.NECK", "no", "bnneck", False),
        ("MODEL.IF_LABELSMOOTH", "off", "label_smoothing", 0.0),
        ("MODEL.PRETRAIN_PATH", "other.pth", "pretrained", "other.pth"),
        ("MODEL.METRIC_LOSS_TYPE", "center", "metric_loss", "none"),
        ("MODEL.DEVICE", "cpu", "device", "cpu"),
        ("MODEL.DEVICE_ID", "('2')", "device", "cuda:2"),
        ("INPUT.PROB", "0.25", "flip_probability", 0.25),
        ("INPUT.RE_PROB", "0.0", "erasing_probability", 0.0),
        ("INPUT.PADDING", "4", "padding", 4),
        ("INPUT.PIXEL_MEAN", "[0.0, 0.25, 0.5]", "mean", (0.0, 0.25, 0.5)),
        ("INPUT.PIXEL_STD", "[1.0, 1.0, 0.5]", "std", (1.0, 1.0, 0.5)),
        ("DATALOADER.NUM_INSTANCE", "8", "instances", 8),
        ("DATALOADER.NUM_WORKERS", "0", "workers", 1),
        ("DATALOADER.SAMPLER", "triplet", "sampler", "identities"),
        ("SOLVER.OPTIMIZER_NAME", "SGD", "optimiser", "sgd"),
        ("SOLVER.OPTIMIZER_NAME", "AdamW", "optimiser", "adamw"),
        ("SOLVER.MAX_EPOCHS", "7", "epochs", 7),
        ("SOLVER.BASE_LR", "0.01", "learning_rate", 0.01),
        ("SOLVER.BIAS_LR_FACTOR", "2", "bias_learning_rate_factor", 2.0),
        ("SOLVER.MOMENTUM", "0.5", "momentum", 0.5),
        ("SOLVER.MARGIN", "0.5", "margin", 0.5),
        ("SOLVER.MARGIN", "None", "metric_loss", "soft_triplet"),
        ("SOLVER.CENTER_LR", "0.25", "center_learning_rate", 0.25),
        ("SOLVER.CENTER_LOSS_WEIGHT", "0.001", "center_weight", 0.001),
        ("SOLVER.WEIGHT_DECAY", "0.001", "weight_decay", 0.001),
        ("SOLVER.WEIGHT_DECAY_BIAS", "0.0", "bias_weight_decay", 0.0),
        ("SOLVER.GAMMA", "0.5", "gamma", 0.5),
        ("SOLVER.STEPS", "[5]", "milestones", (5,)),
        ("SOLVER.WARMUP_FACTOR", "0.5", "warmup_factor", 0.5),
        ("SOLVER.WARMUP_ITERS", "0", "warmup_epochs", 0),
        ("SOLVER.WARMUP_METHOD", "constant", "warmup_method", "constant"),
        ("SOLVER.LOG_PERIOD", "5", "log_every", 5),
        ("SOLVER.EVAL_PERIOD", "5", "validate_every", 5),
        ("SOLVER.IMS_PER_BATCH", "32", "batch", 32),
        ("TEST.NECK_FEAT", "before", "neck_feature", "before"),
    ],
)
def test_each_key_changes_its_field_alone(
    tmp_path: Path, key: str, text: str, name: str, value: object
) -> None:
    before, _ = read(tmp_path, BEST)
    recipe, remarks = read(tmp_path, BEST, key, text)
    assert recipe == dataclasses.replace(before, **{name: value})  # type: ignore[arg-type]
    assert remarks == ()


@pytest.mark.parametrize("key", baseline.WITHOUT_EFFECT)
def test_each_key_without_effect_is_remarked(tmp_path: Path, key: str) -> None:
    others = {"TEST.RE_RANKING": "yes", "TEST.FEAT_NORM": "no", "DATASETS.NAMES": "dukemtmc"}
    usual = configs.merge_config(None)
    section, _, name = key.partition(".")
    value = usual[section][name] if name else usual[section]
    text = others.get(key) or (f"{value}x" if isinstance(value, str) else str(value + 1))
    before, _ = read(tmp_path, BEST)
    recipe, (remark,) = read(tmp_path, BEST, key, text)
    assert recipe == before
    assert remark.startswith(f"{key} has no effect: ")


def test_the_baselines_first_recipe(tmp_path: Path) -> None:
    recipe, remarks = read(tmp_path, "MODEL: {NECK: 'no', LAST_STRIDE: 2, PRETRAIN_PATH: a.pth}")
    assert (recipe.sampler, recipe.metric_loss, recipe.label_smoothing) == ("shuffle", "none", 0.0)
    assert (recipe.center_weight, recipe.bnneck, recipe.last_stride) == (0.0, False, 2)
    assert (recipe.height, recipe.width, recipe.milestones) == (384, 128, (30, 55))
    (remark,) = remarks
    assert remark.startswith("MODEL.IF_LABELSMOOTH 'on' has no effect with DATALOADER.SAMPLER")
    recipe, _ = read_baseline_recipe(None)
    assert (recipe.bias_learning_rate_factor, recipe.bias_weight_decay) == (2.0, 0.0)


def test_the_losses_without_center(tmp_path: Path) -> None:
    pairs = ("MODEL.IF_WITH_CENTER", "no", "MODEL.METRIC_LOSS_TYPE", "triplet")
    recipe, _ = read(tmp_path, BEST, *pairs)
    before, _ = read(tmp_path, BEST)
    assert recipe == dataclasses.replace(before, center_weight=0.0)


def test_center_loss_with_shuffled_pictures_keeps_the_smoothing(tmp_path: Path) -> None:
    pairs = ("MODEL.METRIC_LOSS_TYPE", "center", "DATALOADER.SAMPLER", "softmax")
    recipe, remarks = read(tmp_path, BEST, *pairs)
    assert remarks == ()
    assert (recipe.sampler, recipe.metric_loss) == ("shuffle", "none")
    assert (recipe.label_smoothing, recipe.center_weight) == (0.1, 0.0005)


def test_several_gpus_are_remarked(tmp_path: Path) -> None:
    recipe, (remark,) = read(tmp_path, BEST, "MODEL.DEVICE_ID", "('0,1')")
    assert recipe.device == ""
    assert "torchrun" in remark
    assert read(tmp_path, BEST, "MODEL.DEVICE_ID", "('0')")[0].device == ""


def test_random_weights_are_remarked_unless_settings_name_others(tmp_path: Path) -> None:
    pairs = ("MODEL.PRETRAIN_PATH", "")
    _, (remark,) = read(tmp_path, BEST, *pairs)
    assert remark.startswith("MODEL.PRETRAIN_PATH is empty")
    recipe, remarks = read(tmp_path, BEST, *pairs, settings=("pretrained=timm", "epochs=5"))
    assert (recipe.pretrained, recipe.epochs, remarks) == ("timm", 5, ())


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (("MODEL.METRIC_LOSS_TYPE", "cluster"), "expected 'center' or 'triplet_center'"),
        (("MODEL.METRIC_LOSS_TYPE", "triplet"), "expected 'center' or 'triplet_center'"),
        (("MODEL.IF_WITH_CENTER", "no"), "MODEL.METRIC_LOSS_TYPE is 'triplet_center' and"),
        (
            ("MODEL.IF_WITH_CENTER", "no", "MODEL.METRIC_LOSS_TYPE", "range"),
            "MODEL.METRIC_LOSS_TYPE is 'range', expected 'triplet'",
        ),
        (
            (
                *("MODEL.IF_WITH_CENTER", "no", "MODEL.METRIC_LOSS_TYPE", "triplet"),
                *("DATALOADER.SAMPLER", "triplet"),
            ),
            "trains without classifier",
        ),
        (("DATALOADER.SAMPLER", "softmax"), "draws too few pictures of a person"),
        (("DATALOADER.SAMPLER", "random"), "expected 'softmax' or 'triplet' or 'softmax_triplet'"),
        (("MODEL.IF_WITH_CENTER", "maybe"), "expected 'yes' or 'no'"),
        (("MODEL.IF_LABELSMOOTH", "yes"), "expected 'on' or 'off'"),
        (("MODEL.NECK", "None"), "MODEL.NECK is 'None', expected 'bnneck' or 'no'"),
        (("MODEL.NAME", "resnet51"), "the architecture is 'resnet51'"),
        (("MODEL.PRETRAIN_CHOICE", "self"), "goes on with a training of the baseline"),
        (("MODEL.PRETRAIN_CHOICE", "coco"), "expected 'imagenet'"),
        (("MODEL.DEVICE", "npu"), "expected 'cuda' or 'cpu'"),
        (("INPUT.SIZE_TEST", "[384, 128]"), "INPUT.SIZE_TRAIN is [256, 128]"),
        (
            ("INPUT.SIZE_TEST", "[1.5, 2]", "INPUT.SIZE_TRAIN", "[1.5, 2]"),
            "expected height and width",
        ),
        (("INPUT.PIXEL_MEAN", "[0.5]"), "INPUT.PIXEL_MEAN is (0.5,), expected three numbers"),
        (("SOLVER.STEPS", "[4, 'x']"), "SOLVER.STEPS is (4, 'x'), expected whole numbers"),
        (("SOLVER.STEPS", "[70, 40]"), "expected epochs that rise"),
        (("SOLVER.OPTIMIZER_NAME", "Adagrad"), "expected 'Adam' or 'AdamW' or 'SGD'"),
        (("SOLVER.WARMUP_METHOD", "cosine"), "expected one of linear, constant"),
        (("SOLVER.IMS_PER_BATCH", "30"), "batch is 30 and instances is 4"),
        (("SOLVER.MAX_EPOCHS", "None"), "SOLVER.MAX_EPOCHS is None, expected a whole number"),
        (("DATALOADER.NUM_WORKERS", "None"), "DATALOADER.NUM_WORKERS is None"),
        (("TEST.NECK_FEAT", "both"), "expected one of after, before"),
        (("SOLVER.NO_SUCH", "1"), "there is no key"),
    ],
)
def test_what_of_the_baseline_no_recipe_can_follow(
    tmp_path: Path, pairs: tuple[str, ...], said: str
) -> None:
    assert said in no_baseline(tmp_path, *pairs)
