"""What training minimises: a network with the losses of its recipe around it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from reidkit.training._heads import Classifier, classify
from reidkit.training._losses import (
    center_loss,
    circle_loss,
    smoothed_cross_entropy,
    triplet_loss,
)
from reidkit.training._network import ReidNetwork
from reidkit.training._recipe import Recipe


class Losses(NamedTuple):
    """The losses of one batch, each a scalar tensor; the parts are before their weights."""

    total: torch.Tensor
    identity: torch.Tensor
    metric: torch.Tensor
    center: torch.Tensor


class Objective(nn.Module):  # type: ignore[misc] # torch's modules are untyped here
    """A network, the centres of its people, and the losses over both.

    One module, so that whatever learns takes part in one forward pass: that is what training in
    several processes needs. The metric losses see the vector before the BNNeck, the classifier
    the one after it (Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person
    Re-identification", 2019).
    """

    def __init__(self, network: ReidNetwork, recipe: Recipe, *, classes: int) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        # A compiled network has the same tensors under other names: only the plain one is kept
        # as a module.
        self._run = [torch.compile(network) if recipe.compile else network]
        self.centers: nn.Parameter | None = None
        if recipe.center_weight:
            chance = torch.Generator().manual_seed(recipe.seed)
            size = (classes, network.embedding_size)
            self.centers = nn.Parameter(torch.randn(size, generator=chance))

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> Losses:
        """Compute the losses of images (B, 3, H, W) float32 of the people `labels` (B,) int64."""
        recipe = self.recipe
        with torch.autocast(images.device.type, *self._reduced()):
            features = self._run[0](images)
        # The losses are sums of many terms and distances: in float32 whatever the network is in.
        pooled, neck = features.pooled.float(), features.neck.float()
        layer = self.network.classifier
        angular = (recipe.head_scale, recipe.head_margin)
        classifier = Classifier(layer.weight, layer.bias, recipe.head, *angular)
        scores = classify(neck, labels, classifier)
        identity = smoothed_cross_entropy(scores, labels, recipe.label_smoothing)
        metric = _metric_loss(pooled, labels, recipe)
        center = pooled.new_zeros(())
        if self.centers is not None:
            center = center_loss(pooled, labels, self.centers)
        total = identity + recipe.metric_weight * metric + recipe.center_weight * center
        return Losses(total, identity.detach(), metric.detach(), center.detach())

    def _reduced(self) -> tuple[torch.dtype, bool]:
        """Give the type that autocast computes in, and whether it is wanted at all."""
        kind = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.recipe.precision)
        return kind or torch.bfloat16, kind is not None


def _metric_loss(features: torch.Tensor, labels: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    match recipe.metric_loss:
        case "triplet":
            return triplet_loss(features, labels, margin=recipe.margin)
        case "soft_triplet":
            return triplet_loss(features, labels, margin=None)
        case "circle":
            return circle_loss(
                features, labels, margin=recipe.circle_margin, scale=recipe.circle_scale
            )
        case _:
            return features.new_zeros(())
