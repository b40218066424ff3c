"""The benchmarks of training in their smallest sizes: what they count, measure and keep."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from reidkit.networks import Network  # noqa: E402

FOLDER = Path(__file__).parent.parent / "benchmarks"
SMALL = ["--architecture", "osnet_x0_25", "--height", "32", "--width", "16"]
PREFIXES = ("training", "recipe", "machine", "modeling", "layers", "solver")


STAND_INS = {
    "modeling": """
        import torch
        class Model(torch.nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.classifier = torch.nn.Linear(2, classes, bias=False)
            def forward(self, images):
                features = images.mean((2, 3))[:, :2]
                return self.classifier(features), features
        def build_model(settings, classes):
            return Model(classes)
    """,
    "layers": """
        import torch
        class Centers(torch.nn.Module):
            def __init__(self, classes):
                super().__init__()
                self.centers = torch.nn.Parameter(torch.zeros(classes, 2).cuda())
        def make_loss_with_center(settings, classes):
            print("as the reference prints")
            centers = Centers(classes)
            def losses(scores, features, labels):
                distances = (features - centers.centers[labels]).pow(2).sum() / 2
                weight = settings.SOLVER.CENTER_LOSS_WEIGHT
                return scores.mean().cuda() + weight * distances
            return losses, centers
    """,
    "solver": """
        import torch
        def make_optimizer_with_center(settings, model, centers):
            solver = settings.SOLVER
            first = torch.optim.SGD(model.parameters(), lr=solver.BASE_LR)
            return first, torch.optim.SGD(centers.parameters(), lr=solver.CENTER_LR)
    """,
}
"""The reference's modules in the smallest."""


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give what imports a file of the benchmarks, as their scripts do."""
    monkeypatch.syspath_prepend(FOLDER)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield importlib.import_module
    torch.set_num_threads(before)
    for name in [name for name in sys.modules if name.startswith(PREFIXES)]:
        del sys.modules[name]


def run(script: Any, *line: str) -> None:
    """Run a script's main function with a command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["benchmark", *line])
        script.main()


def settings_of(recipe: Any, *line: str) -> Any:
    """Give the settings that a command line of the recipe's benchmark means."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recipe.py", *line])
        options = recipe.parse()
    return options, recipe.describe_settings(options)


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        # 4.09e9 products and sums for ResNet-50 at 224 x 224 (He et al. 2016), 0.98e9 for
        # OSNet x1.0 at 256 x 128 (Zhou et al. 2019).
        (Network("resnet50", last_stride=2), (224, 224), 8.18e9),
        (Network("resnet50"), (256, 128), 8.107e9),
        (Network("osnet_x1_0"), (256, 128), 1.96e9),
    ],
)
def test_operations_are_those_published(
    benchmarks: Any, network: Network, size: tuple[int, int], expected: float
) -> None:
    found = benchmarks("training_operations").count_operations(network, *size)
    assert found == pytest.approx(expected, rel=0.01)


def test_operations_of_a_network_are_those_that_torch_counts(benchmarks: Any) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from reidkit.training._network import ReidNetwork

    for network in (Network("se_resnet50", last_stride=2), Network("osnet_ain_x0_25")):
        module = ReidNetwork(network).eval()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            module(torch.zeros(1, 3, 64, 32))
        found = benchmarks("training_operations").count_operations(network, 64, 32)
        assert found == counter.get_total_flops()


def test_the_speed_of_training_is_measured_and_merged(tmp_path: Path, benchmarks: Any) -> None:
    record = tmp_path / "training.json"
    kept = {"parts": {"cuda-batch64": {"rounds": 7}}}
    record.write_text(json.dumps(kept), encoding="utf-8")
    ways = ["--ways", "float32,float32+channels_last+files"]
    amount = ["--rounds", "1", "--steps", "1", "--batch", "8", "--threads", "1"]
    run(benchmarks("training"), *SMALL, *ways, *amount, "--record", str(record))
    parts = json.loads(record.read_text(encoding="utf-8"))["parts"]
    assert parts["cuda-batch64"] == kept["parts"]["cuda-batch64"]
    part = parts["cpu-batch8"]
    assert part["machine"]["threads"] == 1
    assert set(part["ways"]) == {"float32", "float32+channels_last+files"}
    for way in part["ways"].values():
        assert way["pictures_per_second"] > 0
        assert way["first_loss"] > 0
        assert 0 <= way["waiting"] < 1
        assert 0 < way["share_of_peak"] < 1
    assert part["over_float32"]["float32+channels_last+files"] > 0


def test_the_reference_is_trained_as_its_trainer_does(
    tmp_path: Path, benchmarks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from reidkit.training import Recipe

    for name, source in STAND_INS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(dedent(source), encoding="utf-8")
    recipe, before = Recipe(center_weight=0.25), torch.Tensor.cuda
    reference = benchmarks("training_reference").Reference(
        tmp_path, recipe, classes=3, device="cpu"
    )
    state = {"network.classifier.weight": torch.ones(3, 2), "centers": torch.zeros(3, 2)}
    reference.load(state)
    images, labels = torch.ones(2, 3, 4, 4), torch.tensor([0, 2])
    # Scores of 2; two features of 1 each lie at a squared distance of 2 from their centres.
    assert reference.step(images, labels) == pytest.approx(2 + 0.25 * 2)
    # Half the way to the features, as if the centre loss had no weight: from 2 to 0.5.
    rate = 1 - recipe.center_learning_rate
    expected = pytest.approx(2 + 0.25 * 2 * rate**2, abs=1e-3)
    assert reference.step(images, labels) == expected
    assert torch.Tensor.cuda is before
    assert capsys.readouterr().out == ""


def test_a_way_changes_the_recipe_as_its_name_says(benchmarks: Any) -> None:
    from reidkit.training import Recipe

    changed = benchmarks("training_ways").change_recipe(Recipe(), "bfloat16+channels_last+compile")
    assert changed == Recipe(precision="bfloat16", channels_last=True, compile=True)
    read = benchmarks("training")._list_ways
    assert read("reference,float32+files") == ["reference", "float32+files"]
    for wrong in ("float8", "reference+compile"):
        with pytest.raises(argparse.ArgumentTypeError):
            read(wrong)


def test_each_row_takes_one_more_part_of_the_recipe(benchmarks: Any) -> None:
    rows, recipe = benchmarks("recipe_rows"), benchmarks("recipe")
    _, settings = settings_of(recipe, "--architecture", "resnet18")
    made = [rows.make_recipe(row, 1, settings) for row in rows.TRICKS]
    assert made[0].metric_loss == "none"
    assert made[0].last_stride == 2
    for (row, fields), before, after in zip(
        list(rows.TRICKS.items())[1:], made, made[1:], strict=False
    ):
        differing = {
            name for name in before.__slots__ if getattr(before, name) != getattr(after, name)
        }
        assert differing == set(fields), row
    # What is left of the recipe's own defaults.
    assert (made[-1].center_weight, made[-1].erasing_probability) == (0.0005, 0.5)


def test_only_what_is_missing_is_run(benchmarks: Any) -> None:
    recipe = benchmarks("recipe")
    options, settings = settings_of(recipe, "--rows", "colours,stride,softmax,re-ranking")
    missing = recipe.list_missing(options, settings, [])
    assert missing[:3] == [("colours", 0), ("softmax", 0), ("centre", 0)]
    assert len(missing) == 7
    done = [{"row": row, "seed": seed, "settings": settings} for row, seed in missing[1:]]
    assert recipe.list_missing(options, settings, done) == [("colours", 0)]
    others = [line | {"settings": settings | {"epochs": 1}} for line in done]
    assert recipe.list_missing(options, settings, others) == missing


def test_runs_are_added_line_by_line_and_summed_up(
    tmp_path: Path, benchmarks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = benchmarks("recipe")
    _, settings = settings_of(recipe)
    path = tmp_path / "records" / "recipe.jsonl"
    about = {"settings": settings, "machine": {}, "seconds": 60.0}
    for seed, score in enumerate((0.25, 0.75)):
        scores = dict.fromkeys(("mAP", "rank1", "mINP"), score)
        for row, factor in (("softmax", 0.5), ("centre", 1.0)):
            line = {name: value * factor for name, value in scores.items()}
            recipe.append_line(path, {"row": row, "seed": seed, **line, **about})
    recipe.append_line(path, {"row": "triplet", "seed": 0, "failed": "not finite", **about})
    with path.open("a", encoding="utf-8") as file:
        file.write('{"row": "cut o')
    recipe.append_line(path, {"row": "untrained", "seed": 9, "settings": {}})
    lines = recipe.read_lines(path)
    assert len(lines) == 6
    assert "cut off" in capsys.readouterr().out
    record = recipe.sum_up(lines, settings)
    assert set(record["rows"]) == {"softmax", "centre"}
    assert record["rows"]["centre"]["mAP"]["mean"] == pytest.approx(0.5)
    assert record["rows"]["centre"]["mAP"]["deviation"] == pytest.approx(0.5 / 2**0.5)
    assert record["findings"] == {"mAP_over_softmax": pytest.approx(0.25)}
    assert set(record["left_out"]) == {"stride", "triplet, seed 0"}
    assert "| centre | 50.0 ± 35.4 | 50.0 ± 35.4 | 2 |" in recipe.draw_table(record)


def test_rows_are_run_on_people_that_training_has_not_seen(tmp_path: Path, benchmarks: Any) -> None:
    record = tmp_path / "recipe.json"
    rows = ["--rows", "colours,re-ranking", "--seeds", "3", "--people", "4", "--epochs", "1"]
    line = [*SMALL, *rows, "--batch", "8", "--record", str(record)]
    run(benchmarks("recipe"), *line, "--folder", str(tmp_path / "kept"))
    found = json.loads(record.read_text(encoding="utf-8"))
    assert set(found["rows"]) == {"colours", "centre", "re-ranking"}
    for row in found["rows"].values():
        assert 0 < row["mAP"]["mean"] <= 1
    assert found["rows"]["centre"]["seeds"] == [3]
    assert list(found["findings"]) == ["mAP_over_colours"]
    assert not any((tmp_path / "kept" / "runs").iterdir())
    lines = benchmarks("recipe").read_lines(record.with_suffix(".jsonl"))
    assert [line["row"] for line in lines] == ["colours", "centre", "re-ranking"]


def test_colours_tell_pictures_apart(tmp_path: Path, benchmarks: Any) -> None:
    from reidkit.package import InputSpec
    from reidkit.records import Samples

    paths = [tmp_path / name for name in ("red.png", "red2.png", "blue.png")]
    for path, colour in zip(paths, ((250, 10, 10), (240, 5, 20), (10, 10, 250)), strict=True):
        Image.new("RGB", (16, 32), colour).save(path)
    samples = Samples.from_paths([str(path) for path in paths])
    vectors = benchmarks("recipe_rows").describe_colours(samples, InputSpec(height=32, width=16))
    likeness = vectors.vectors @ vectors.vectors.T
    assert likeness[0, 1] == pytest.approx(1)
    assert likeness[0, 2] == pytest.approx(0)
