"""From a vector to its scores per class: a linear classifier, or one of angles with a margin."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch.nn import functional

from reidkit.errors import ArgumentError, ShapeError
from reidkit.training._losses import check_batch, directions, full_precision, widened

Head = Literal["linear", "arcface", "cosface"]


class Classifier(NamedTuple):
    """What makes scores of vectors: weight (C, D), bias (C,) or `None`, and how they are used.

    With t the angle between a vector and a class's weight, the scores are for each kind

    - "linear": weight @ vector + bias; scale and margin play no part;
    - "cosface": scale cos t, and scale (cos t - margin) for the label (Wang et al., "CosFace:
      Large Margin Cosine Loss for Deep Face Recognition", CVPR 2018);
    - "arcface": scale cos t, and scale cos(t + margin) for the label (Deng et al., "ArcFace:
      Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019). Where t + margin would
      be past a half turn, cos would grow again: scale (cos t - margin sin margin) takes its place,
      as in the authors' code, so that a larger angle is never rewarded.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    kind: Head
    scale: float = 1.0
    margin: float = 0.0


def classify(features: torch.Tensor, labels: torch.Tensor, classifier: Classifier) -> torch.Tensor:
    """Score features (B, D) for each of C classes: (B, C), to be given to a cross-entropy.

    Labels are (B,) int64 from 0 to C - 1. A vector of zeros is at a right angle to all. Computed
    in float32 (float64 of float64), also under `autocast`.

    Raises:
        ShapeError: features, labels, weight or bias of another shape.
        ArgumentError: another kind; for angles a bias, a scale that is not positive, or a margin
            outside 0 to 1 ("cosface"), 0 to half pi ("arcface").
    """
    weight, bias, kind, scale, margin = classifier
    check_batch(features, labels)
    if weight.ndim != 2 or weight.shape[1] != features.shape[1]:
        raise ShapeError(
            f"the classifier's weight is {tuple(weight.shape)}, expected (classes, "
            f"{features.shape[1]}): a row is as long as a feature"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"the bias is {tuple(bias.shape)}, expected ({len(weight)},)")
    with full_precision(features):
        if kind == "linear":
            return functional.linear(
                widened(features), widened(weight), None if bias is None else widened(bias)
            )
        _check_angular(classifier)
        cosines = directions(widened(features)) @ directions(widened(weight)).T
        own = cosines.gather(1, labels[:, None])
        lowered = own - margin if kind == "cosface" else _turn(own, margin)
        return scale * cosines.scatter(1, labels[:, None], lowered)


def _turn(cosines: torch.Tensor, margin: float) -> torch.Tensor:
    """Give cos(t + margin) of cos t, and what falls on beyond a half turn."""
    # Rounding takes a cosine past 1, and at 1 itself the root's gradient is infinite: below the
    # clamp it is zero.
    squares = (1 - cosines.square()).clamp(min=torch.finfo(cosines.dtype).eps)
    turned = cosines * math.cos(margin) - squares.sqrt() * math.sin(margin)
    beyond = cosines - margin * math.sin(margin)
    return turned.where(cosines > -math.cos(margin), beyond)


def _check_angular(classifier: Classifier) -> None:
    _, bias, kind, scale, margin = classifier
    limits = {"arcface": math.pi / 2, "cosface": 1.0}
    if kind not in limits:
        raise ArgumentError(f"kind is {kind!r}, expected linear, arcface or cosface")
    if bias is not None:
        raise ArgumentError(
            f"a bias was given to head {kind!r}, which compares angles and has no place for one: "
            "use a classifier without bias (a network with BNNeck), or head linear"
        )
    if scale <= 0:
        raise ArgumentError(f"scale is {scale}, expected more than 0")
    if not 0 <= margin < limits[kind]:
        raise ArgumentError(
            f"margin is {margin}, expected from 0 to below {limits[kind]:.4g} for head {kind!r}"
        )
