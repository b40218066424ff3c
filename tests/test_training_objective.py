"""What is minimised: the reference's losses, each of the right vectors and with its weight."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.training._losses import circle_loss  # noqa: E402 - needs torch
from reidkit.training._network import Features, build_network  # noqa: E402 - needs torch
from reidkit.training._objective import Losses, Objective  # noqa: E402 - needs torch
from reidkit.training._recipe import Recipe  # noqa: E402
from tests.drawn_people import quick_recipe  # noqa: E402
from tests.torch_threads import one_thread as one_thread  # noqa: E402

GOLDEN = Path(__file__).parent / "golden" / "training.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


class Given(torch.nn.Module):  # type: ignore[misc, name-defined] # torch is untyped here
    """A network whose vectors are given, with a classifier that gives the neck's back."""

    def __init__(self, pooled: Any, neck: Any) -> None:
        super().__init__()
        self.pooled = torch.nn.Parameter(pooled.clone())
        self.neck = torch.nn.Parameter(neck.clone())
        size = neck.shape[1]
        self.classifier = torch.nn.Linear(size, size, bias=False)
        torch.nn.init.eye_(self.classifier.weight)
        self.embedding_size = pooled.shape[1]
        self.types: list[Any] = []

    def forward(self, _images: Any) -> Features:
        on = torch.is_autocast_enabled("cpu")
        self.types.append(torch.get_autocast_dtype("cpu") if on else torch.float32)
        return Features(self.pooled * 1, self.neck * 1)


def objective_of(golden: dict[str, Any], recipe: Recipe) -> Objective:
    """Give the reference's vectors, scores and centres under a recipe."""
    network: Any = Given(golden["feat"], golden["score"])
    objective = Objective(network, recipe, classes=10)
    if objective.centers is not None:
        objective.centers.data.copy_(golden["centers"])
    return objective


def lose(objective: Objective, labels: Any) -> Losses:
    losses: Losses = objective(torch.zeros(len(labels), 3, 4, 4), labels)
    losses.total.backward()
    return losses


def assert_close(found: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(
        found.detach().double(), wanted.double(), rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"metric_weight": 0.7, "center_weight": 0.002}, "triplet_0.3"),
        (
            {"metric_weight": 2.5, "center_weight": 0.1, "metric_loss": "soft_triplet"},
            "triplet_soft",
        ),
        ({"metric_weight": 0.0, "center_weight": 0.0005}, "triplet_0.3"),
        ({}, "triplet_0.3"),
    ],
)
def test_losses_and_gradients_are_the_reference_s(
    golden: dict[str, Any], settings: dict[str, Any], name: str
) -> None:
    recipe = Recipe(**settings)
    objective = objective_of(golden, recipe)
    losses = lose(objective, golden["labels"])
    identity, metric, center = (golden[f"{each}_loss"] for each in ("smooth", name, "center"))
    assert_close(losses.identity, identity)
    assert_close(losses.metric, metric)
    assert_close(losses.center, center)
    weights = recipe.metric_weight, recipe.center_weight
    assert_close(losses.total, identity + weights[0] * metric + weights[1] * center)
    network, centers = objective.network, objective.centers
    pooled = weights[0] * golden[f"{name}_grad"] + weights[1] * golden["center_grad"]
    assert_close(network.pooled.grad, pooled)
    assert_close(network.neck.grad, golden["smooth_grad"])
    assert_close(network.classifier.weight.grad, golden["smooth_grad"].T @ golden["score"], 1e-4)
    assert centers is not None
    assert_close(centers.grad, weights[1] * golden["center_centers_grad"])


def test_only_the_total_has_gradients(golden: dict[str, Any]) -> None:
    losses = objective_of(golden, Recipe())(torch.zeros(32, 3, 4, 4), golden["labels"])
    assert [loss.requires_grad for loss in losses] == [True, False, False, False]
    assert [loss.shape for loss in losses] == [()] * 4


def test_losses_that_are_not_wanted_are_zero(golden: dict[str, Any]) -> None:
    recipe = Recipe(metric_loss="none", center_weight=0.0, label_smoothing=0.0)
    objective = objective_of(golden, recipe)
    losses = lose(objective, golden["labels"])
    plain = torch.nn.functional.cross_entropy(golden["score"].double(), golden["labels"])
    assert_close(losses.total, plain)
    assert_close(losses.identity, plain)
    assert losses.metric == 0
    assert losses.center == 0
    assert objective.centers is None
    assert not any("center" in name for name in objective.state_dict())


def test_margins_and_scales_are_the_recipe_s(golden: dict[str, Any]) -> None:
    circle = {"metric_loss": "circle", "circle_margin": 0.4, "circle_scale": 8.0}
    losses = lose(objective_of(golden, Recipe(**circle)), golden["labels"])  # type: ignore[arg-type]
    assert_close(losses.metric, circle_loss(golden["feat"], golden["labels"], margin=0.4, scale=8))
    losses = lose(objective_of(golden, Recipe(margin=1.3)), golden["labels"])
    gaps = golden["triplet_0.3_ap"].double() - golden["triplet_0.3_an"].double()
    assert_close(losses.metric, (gaps + 1.3).clamp(min=0).mean())


def test_the_head_sees_the_neck_and_the_classifier_s_weights(golden: dict[str, Any]) -> None:
    """CosFace by hand: against the unit vectors of the classes a cosine is a scaled score."""
    recipe = Recipe(head="cosface", head_scale=7.0, head_margin=0.2, label_smoothing=0.0)
    losses = lose(objective_of(golden, recipe), golden["labels"])
    score, labels = golden["score"].double(), golden["labels"]
    cosines = score / score.norm(dim=1, keepdim=True)
    cosines[torch.arange(len(labels)), labels] -= 0.2
    assert_close(losses.identity, torch.nn.functional.cross_entropy(7 * cosines, labels))


def test_a_classifier_s_bias_counts(golden: dict[str, Any]) -> None:
    objective = objective_of(golden, Recipe())
    bias = torch.arange(10.0) / 5
    objective.network.classifier.bias = torch.nn.Parameter(bias)
    losses = lose(objective, golden["labels"])
    wanted = torch.nn.functional.cross_entropy(
        golden["score"].double() + bias, golden["labels"], label_smoothing=0.1
    )
    assert_close(losses.identity, wanted)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_network_is_in_the_recipe_s_precision_and_the_losses_are_not(
    golden: dict[str, Any], precision: str
) -> None:
    objective = objective_of(golden, Recipe(precision=precision))  # type: ignore[arg-type]
    kind = getattr(torch, precision)
    objective.network.to(kind)
    losses = lose(objective, golden["labels"])
    assert objective.network.types == [kind]
    assert {loss.dtype for loss in losses} == {torch.float32}
    rounded = golden["feat"].to(kind).double() - golden["centers"].double()[golden["labels"]]
    assert_close(losses.center, rounded.square().sum(1).mean(), 1e-4)


def test_centres_begin_by_the_seed() -> None:
    recipe = quick_recipe(seed=4)
    network = build_network(recipe.network(3), seed=0)
    first, again = (Objective(network, recipe, classes=3).centers for _ in range(2))
    other = Objective(network, quick_recipe(seed=5), classes=3).centers
    assert first is not None
    assert first.shape == (3, network.embedding_size)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.requires_grad


def test_a_real_network_s_two_vectors() -> None:
    """The metric and centre losses see the vector before the BNNeck, the head the one after."""
    recipe = quick_recipe(metric_weight=0.5, center_weight=0.01)
    objective = Objective(build_network(recipe.network(2), seed=0), recipe, classes=2).eval()
    labels = torch.tensor([0, 1, 0, 1])
    images = torch.randn((4, 3, 32, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        objective.network.bottleneck.running_mean.fill_(3.0)
        features = objective.network(images)
        losses = objective(images, labels)
    scores = features.neck @ objective.network.classifier.weight.T
    wanted = torch.nn.functional.cross_entropy(scores, labels, label_smoothing=0.1)
    assert_close(losses.identity, wanted)
    assert objective.centers is not None
    gaps = features.pooled - objective.centers.detach()[labels]
    assert_close(losses.center, gaps.square().sum(1).mean())


def test_a_compiled_network_is_kept_under_its_own_names(
    golden: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which backend makes the code is torch's business: the quickest is enough here."""
    compiled = []

    def compile_eagerly(module: Any) -> Any:
        compiled.append(module)
        return functools.partial(torch.nn.Module.__call__, module)

    monkeypatch.setattr(torch, "compile", compile_eagerly)
    plain = objective_of(golden, Recipe())
    quick = objective_of(golden, Recipe(compile=True))
    assert compiled == [quick.network]
    assert list(quick.state_dict()) == list(plain.state_dict())
    assert list(dict(quick.named_parameters())) == list(dict(plain.named_parameters()))
    labels = golden["labels"]
    assert_close(lose(quick, labels).total, lose(plain, labels).total.detach())
