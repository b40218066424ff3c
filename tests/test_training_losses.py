"""Losses and heads: the reference's numbers, naive loops in float64, and degenerate batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reidkit.errors import ArgumentError, ShapeError

torch = pytest.importorskip("torch", reason="torch is not installed")

from reidkit.training._heads import Classifier, Head, classify  # noqa: E402 - needs torch
from reidkit.training._losses import (  # noqa: E402 - needs torch
    center_loss,
    circle_loss,
    smoothed_cross_entropy,
    triplet_loss,
)

GOLDEN = Path(__file__).parent / "golden" / "training.npz"
Loss = Callable[[Any, Any], Any]

METRIC_LOSSES: dict[str, Loss] = {
    "triplet": lambda features, labels: triplet_loss(features, labels, margin=0.3),
    "soft_triplet": lambda features, labels: triplet_loss(features, labels, margin=None),
    "circle": lambda features, labels: circle_loss(features, labels, margin=0.25, scale=64.0),
}

label_lists = st.lists(st.integers(0, 3), min_size=1, max_size=10)
seeds = st.integers(0, 2**32 - 1)


def golden(*names: str) -> list[Any]:
    """Read golden arrays as tensors that gather gradients where they are of floats."""
    with np.load(GOLDEN) as arrays:
        tensors = [torch.from_numpy(arrays[name]) for name in names]
    return [tensor.requires_grad_(tensor.is_floating_point()) for tensor in tensors]


def normal(*shape: int, seed: int = 0, dtype: Any = None) -> Any:
    values = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(values).to(dtype or torch.float64).requires_grad_()


def gradients(loss: Any, *tensors: Any) -> list[Any]:
    return list(torch.autograd.grad(loss, tensors, allow_unused=True))


def assert_close(found: Any, wanted: Any, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found, wanted, rtol=tolerance, atol=tolerance)


def pairs_of(labels: list[int], anchor: int) -> tuple[list[int], list[int]]:
    others = [row for row in range(len(labels)) if row != anchor]
    positives = [row for row in others if labels[row] == labels[anchor]]
    return positives, [row for row in others if labels[row] != labels[anchor]]


def naive_triplet(features: Any, labels: list[int], margin: float | None) -> Any:
    total = features.sum() * 0
    for anchor in range(len(labels)):
        positives, negatives = pairs_of(labels, anchor)
        if positives and negatives:
            far = max((features[anchor] - features[row]).norm() for row in positives)
            near = min((features[anchor] - features[row]).norm() for row in negatives)
            gap = far - near
            total = total + ((1 + gap.exp()).log() if margin is None else (gap + margin).relu())
    return total / len(labels)


def naive_circle(features: Any, labels: list[int], margin: float, scale: float) -> Any:
    total = features.sum() * 0
    for anchor in range(len(labels)):
        positives, negatives = pairs_of(labels, anchor)
        if not positives or not negatives:
            continue
        over_positives, over_negatives = features.new_zeros(2)
        for row in positives:
            cosine = torch.cosine_similarity(features[anchor], features[row], dim=0)
            weight = max(0.0, 1 + margin - cosine.item())
            over_positives = over_positives + torch.exp(-scale * weight * (cosine - (1 - margin)))
        for row in negatives:
            cosine = torch.cosine_similarity(features[anchor], features[row], dim=0)
            weight = max(0.0, cosine.item() + margin)
            over_negatives = over_negatives + torch.exp(scale * weight * (cosine - margin))
        total = total + (1 + over_positives * over_negatives).log()
    return total / len(labels)


def naive_center(features: Any, labels: list[int], centers: Any) -> Any:
    total = 0
    for row, label in enumerate(labels):
        for number in range(len(centers)):
            square = ((features[row] - centers[number]) ** 2).sum() * (number == label)
            total += square.clamp(1e-12, 1e12)
    return total / len(labels)


@pytest.mark.parametrize(("name", "margin"), [("triplet_0.3", 0.3), ("triplet_soft", None)])
def test_triplet_is_the_reference(name: str, margin: float | None) -> None:
    features, labels, value, gradient = golden("feat", "labels", f"{name}_loss", f"{name}_grad")
    loss = triplet_loss(features, labels, margin=margin)
    assert_close(loss.double(), value, 1e-6)
    assert_close(gradients(loss, features)[0], gradient, 1e-6)


def test_label_smoothing_is_the_reference() -> None:
    scores, labels, value, gradient = golden("score", "labels", "smooth_loss", "smooth_grad")
    loss = smoothed_cross_entropy(scores, labels, 0.1)
    assert_close(loss.double(), value, 1e-6)
    assert_close(gradients(loss, scores)[0], gradient, 1e-6)


def test_center_loss_is_the_reference() -> None:
    features, labels, centers, value = golden("feat", "labels", "centers", "center_loss")
    by_feature, by_center = golden("center_grad", "center_centers_grad")
    loss = center_loss(features, labels, centers)
    assert_close(loss.double(), value, 1e-6)
    for found, wanted in zip(
        gradients(loss, features, centers), [by_feature, by_center], strict=True
    ):
        assert_close(found, wanted, 1e-6)


@settings(max_examples=80, deadline=None)
@given(label_lists, seeds, st.sampled_from([0.0, 0.3, 2.0, None]))
def test_triplet_is_a_loop_over_anchors(labels: list[int], seed: int, margin: float | None) -> None:
    features = normal(len(labels), 3, seed=seed)
    loss = triplet_loss(features, torch.tensor(labels), margin=margin)
    wanted = naive_triplet(features, labels, margin)
    assert_close(loss, wanted)
    assert_close(gradients(loss, features), gradients(wanted, features))


@settings(max_examples=60, deadline=None)
@given(label_lists, seeds, st.floats(0, 0.5), st.floats(1, 64))
def test_circle_is_a_loop_over_pairs(
    labels: list[int], seed: int, margin: float, scale: float
) -> None:
    features = normal(len(labels), 3, seed=seed)
    loss = circle_loss(features, torch.tensor(labels), margin=margin, scale=scale)
    wanted = naive_circle(features, labels, margin, scale)
    assert_close(loss, wanted, 1e-8)
    assert_close(gradients(loss, features), gradients(wanted, features), 1e-8)


@settings(max_examples=60, deadline=None)
@given(label_lists, seeds)
def test_center_loss_is_a_loop_over_classes(labels: list[int], seed: int) -> None:
    features, centers = normal(len(labels), 3, seed=seed), normal(4, 3, seed=seed + 1)
    loss = center_loss(features, torch.tensor(labels), centers)
    wanted = naive_center(features, labels, centers)
    assert_close(loss, wanted)
    assert_close(gradients(loss, features, centers), gradients(wanted, features, centers))


def test_smoothing_spreads_a_share_over_all_classes() -> None:
    scores, labels = normal(5, 7), torch.tensor([0, 6, 3, 3, 1])
    logs = scores.log_softmax(dim=1)
    target = torch.nn.functional.one_hot(labels, 7).double() * 0.8 + 0.2 / 7
    assert_close(smoothed_cross_entropy(scores, labels, 0.2), -(target * logs).sum() / 5)
    plain = torch.nn.functional.cross_entropy(scores, labels)
    assert_close(smoothed_cross_entropy(scores, labels, 0.0), plain)


def test_pictures_at_their_centre_leave_the_constant_of_the_clamp() -> None:
    centers = normal(751, 8, dtype=torch.float32)
    labels = torch.arange(4)
    features = centers.detach()[labels].clone().requires_grad_()
    loss = center_loss(features, labels, centers)
    assert loss.item() == pytest.approx(751e-12)
    for gradient in gradients(loss, features, centers):
        assert not gradient.any()


@pytest.mark.parametrize("name", METRIC_LOSSES)
@pytest.mark.parametrize(
    "labels", [[2, 2, 2, 2], [0, 1, 2, 3], [5]], ids=["no negatives", "no positives", "one picture"]
)
def test_a_batch_without_comparisons_is_worth_nothing(name: str, labels: list[int]) -> None:
    features = normal(len(labels), 6, dtype=torch.float32)
    loss = METRIC_LOSSES[name](features, torch.tensor(labels))
    assert loss.item() == 0
    assert not gradients(loss, features)[0].any()


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_an_anchor_without_positives_is_a_negative_only(name: str) -> None:
    features = normal(5, 6, dtype=torch.float32)
    labels = torch.tensor([0, 0, 1, 1, 2])
    # Next to the first two: the hardest negative of both.
    features.detach()[4] = features.detach()[:2].mean(dim=0) + 0.01
    with_it = METRIC_LOSSES[name](features, labels)
    assert gradients(with_it, features)[0][4].any()
    others = METRIC_LOSSES[name](features[:4], labels[:4])
    assert with_it * 5 > others * 4


@pytest.mark.parametrize("name", METRIC_LOSSES)
@pytest.mark.parametrize("value", [0.0, 1.0, 100.0])
def test_identical_pictures_have_a_finite_gradient(name: str, value: float) -> None:
    features = torch.full((6, 8), value, requires_grad=True)
    loss = METRIC_LOSSES[name](features, torch.tensor([0, 0, 0, 1, 1, 2]))
    assert loss.isfinite()
    assert gradients(loss, features)[0].abs().max() < 100


def test_identical_pictures_are_a_margin_apart() -> None:
    features = torch.full((4, 8), 30.0, requires_grad=True)
    loss = triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3)
    assert loss.item() == pytest.approx(0.3)
    assert not gradients(loss, features)[0].any()


def test_nearly_identical_pictures_keep_their_distance() -> None:
    # Squares of 1e4 in float32 leave no digit of a distance of 1e-3; differences do.
    features = torch.full((4, 100), 10.0)
    features[1, 0] += 0.01
    features[2:] = -10.0
    found = triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=200.0)
    assert found.item() == pytest.approx((2 * (0.01 - 200) - 400 + 800) / 4, abs=1e-3)


def test_soft_margin_does_not_overflow() -> None:
    features = torch.tensor([[0.0], [1000.0], [1.0], [1001.0]], requires_grad=True)
    loss = triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=None)
    assert loss.item() == pytest.approx(999)
    assert gradients(loss, features)[0].isfinite().all()


@pytest.mark.parametrize("name", METRIC_LOSSES)
def test_a_feature_that_is_no_number_shows(name: str) -> None:
    features = normal(4, 3, dtype=torch.float32).detach()
    features[1, 2] = torch.nan
    assert METRIC_LOSSES[name](features, torch.tensor([0, 0, 1, 1])).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", [*METRIC_LOSSES, "smoothing", "center"])
def test_losses_are_float32_in_half_precision(name: str, dtype: Any) -> None:
    losses = METRIC_LOSSES | {
        "smoothing": lambda values, labels: smoothed_cross_entropy(values, labels, 0.1),
        "center": lambda values, labels: center_loss(values, labels, values.detach() * 0.5),
    }
    # Squares of such values are beyond float16.
    features = (normal(8, 512).detach() * 50).to(dtype).requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3])
    with torch.autocast("cpu", dtype):
        loss = losses[name](features, labels)
    assert loss.dtype == torch.float32
    assert_close(loss, losses[name](features.float(), labels), 1e-6)
    assert gradients(loss, features)[0].isfinite().all()


@pytest.mark.parametrize("name", [*METRIC_LOSSES, "center"])
def test_gradients_are_the_same_every_time(name: str) -> None:
    centers = normal(16, 2048, seed=1, dtype=torch.float32).detach()
    losses = METRIC_LOSSES | {
        "center": lambda values, labels: center_loss(values[:64], labels, values[64:]),
    }
    values = torch.cat([normal(64, 2048, dtype=torch.float32).detach(), centers])
    if name != "center":
        values = values[:64]
    values.requires_grad_()
    # Many pictures add to the same rows.
    labels = torch.arange(64) // 32
    first = gradients(losses[name](values, labels), values)[0]
    for _ in range(5):
        assert torch.equal(gradients(losses[name](values, labels), values)[0], first)


def angular_by_angles(
    weight: Any, features: Any, labels: list[int], kind: Head, scale: float, margin: float
) -> Any:
    """Score with angles computed as such, in float64, one by one."""
    rows = []
    for feature, label in zip(features, labels, strict=True):
        row = []
        for number, each in enumerate(weight):
            cosine = torch.cosine_similarity(feature, each, dim=0)
            angle = torch.acos(cosine)
            score = cosine
            if number == label and kind == "cosface":
                score = cosine - margin
            elif number == label and angle + margin < math.pi:
                score = torch.cos(angle + margin)
            elif number == label:
                score = cosine - margin * math.sin(margin)
            row.append(scale * score)
        rows.append(torch.stack(row))
    return torch.stack(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["arcface", "cosface"]),
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    seeds,
    st.floats(0, 0.9),
)
def test_angular_heads_are_made_of_angles(
    kind: Head, labels: list[int], seed: int, margin: float
) -> None:
    # Of two dimensions, so that angles past a half turn come up.
    features, weight = normal(len(labels), 2, seed=seed), normal(4, 2, seed=seed + 1)
    found = classify(features, torch.tensor(labels), Classifier(weight, None, kind, 30.0, margin))
    wanted = angular_by_angles(weight, features, labels, kind, 30.0, margin)
    assert_close(found, wanted, 1e-6)
    tensors = (weight, features)
    mixed = normal(len(labels), 4, seed=seed + 2).detach()
    found_gradients = gradients((found * mixed).sum(), *tensors)
    wanted_gradients = gradients((wanted * mixed).sum(), *tensors)
    assert_close(found_gradients, wanted_gradients, 1e-4)


def test_a_larger_angle_is_never_rewarded() -> None:
    angles = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    weight, labels = torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1001, dtype=torch.int64)
    scores = classify(features, labels, Classifier(weight, None, "arcface", 1.0, 0.5))
    assert (scores.diff(dim=0) < 1e-7).all()
    assert scores[0].item() == pytest.approx(math.cos(0.5), abs=1e-6)


@pytest.mark.parametrize("kind", ["arcface", "cosface"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sign", [1, -1, 0])
def test_angular_heads_are_finite_at_the_ends(kind: Head, dtype: Any, sign: int) -> None:
    """A feature along, against or of no direction, as long as half precision allows."""
    weight = normal(5, 64, dtype=torch.float32)
    labels = torch.arange(5)
    features = (weight.detach() * 20 * sign).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16 if dtype == torch.float32 else dtype):
        scores = classify(features, labels, Classifier(weight, None, kind, 30.0, 0.35))
        loss = smoothed_cross_entropy(scores, labels, 0.1)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    for gradient in gradients(loss, weight, features):
        assert gradient.abs().max() < 100


def test_without_margin_both_angular_heads_are_scaled_cosines() -> None:
    weight, features, labels = normal(4, 8), normal(6, 8, seed=1), torch.arange(6) % 4
    cosines = torch.cosine_similarity(features[:, None], weight[None], dim=2)
    for kind in ("arcface", "cosface"):
        found = classify(features, labels, Classifier(weight, None, kind, 16.0, 0.0))
        assert_close(found, 16 * cosines, 1e-7)


def test_linear_head_is_a_linear_layer() -> None:
    layer = torch.nn.Linear(8, 4)
    features, labels = normal(3, 8, dtype=torch.float32), torch.arange(3)
    given_bias = classify(
        features, labels, Classifier(layer.weight, layer.bias, "linear", 30.0, 9.0)
    )
    assert torch.equal(given_bias, layer(features))
    without = classify(features, labels, Classifier(layer.weight, None, "linear", 1.0, 0.0))
    assert_close(without, features @ layer.weight.T, 1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        again = classify(
            features.bfloat16(), labels, Classifier(layer.weight, layer.bias, "linear", 1, 0)
        )
    assert again.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "bias", "scale", "margin", "message"),
    [
        ("sphereface", False, 30.0, 0.3, "kind is 'sphereface', expected linear, arcface or"),
        ("arcface", True, 30.0, 0.3, "bias was given to head 'arcface'"),
        ("cosface", False, 0.0, 0.3, "scale is 0.0, expected more than 0"),
        ("cosface", False, 30.0, 1.0, "margin is 1.0, expected from 0 to below 1"),
        ("arcface", False, 30.0, 1.6, "margin is 1.6, expected from 0 to below 1.571"),
        ("arcface", False, 30.0, -0.1, "margin is -0.1"),
    ],
)
def test_heads_refuse(kind: Any, bias: bool, scale: float, margin: float, message: str) -> None:
    weight, features = normal(4, 8), normal(2, 8)
    with pytest.raises(ArgumentError, match=message):
        classifier = Classifier(weight, normal(4) if bias else None, kind, scale, margin)
        classify(features, torch.arange(2), classifier)


@pytest.mark.parametrize(
    ("weight", "bias"), [((4, 7), None), ((4,), None), ((4, 8), (5,)), ((4, 8), (4, 1))]
)
def test_heads_refuse_other_shapes(weight: tuple[int, ...], bias: tuple[int, ...] | None) -> None:
    with pytest.raises(ShapeError, match="expected"):
        given_bias = None if bias is None else normal(*bias)
        classify(normal(2, 8), torch.arange(2), Classifier(normal(*weight), given_bias, "linear"))


def test_losses_refuse_arguments_out_of_range() -> None:
    features, labels = normal(4, 3), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ArgumentError, match=r"margin is -0.3, expected at least 0, or None"):
        triplet_loss(features, labels, margin=-0.3)
    with pytest.raises(ArgumentError, match=r"margin is -0.3"):
        circle_loss(features, labels, margin=-0.3, scale=64.0)
    with pytest.raises(ArgumentError, match="scale is 0"):
        circle_loss(features, labels, margin=0.25, scale=0)
    with pytest.raises(ArgumentError, match=r"epsilon is 1.5, expected a number from 0 to 1"):
        smoothed_cross_entropy(features, labels, 1.5)


@pytest.mark.parametrize("name", [*METRIC_LOSSES, "smoothing", "center"])
def test_losses_refuse_other_shapes(name: str) -> None:
    losses = METRIC_LOSSES | {
        "smoothing": lambda values, labels: smoothed_cross_entropy(values, labels, 0.1),
        "center": lambda values, labels: center_loss(values, labels, torch.zeros(9, 3)),
    }
    labels = torch.tensor([0, 0, 1, 1])
    for features, wrong in (
        (torch.zeros(4), labels),
        (torch.zeros(0, 3), labels[:0]),
        (torch.zeros(4, 3), labels[:3]),
        (torch.zeros(4, 3), labels[:, None]),
        (torch.zeros(4, 3), labels.int()),
    ):
        with pytest.raises(ShapeError, match="expected"):
            losses[name](features, wrong)


def test_centers_of_another_length_are_refused() -> None:
    labels = torch.tensor([0, 1])
    for centers in (torch.zeros(2, 4), torch.zeros(3)):
        with pytest.raises(ShapeError, match=r"expected \(classes, 3\)"):
            center_loss(torch.zeros(2, 3), labels, centers)
