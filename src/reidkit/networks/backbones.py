"""The networks that reidkit knows, each written out from its facts."""

from __future__ import annotations

import functools

from reidkit.networks.facts import ARCHITECTURES, ResidualFacts
from reidkit.networks.layers import Backbone, Network
from reidkit.networks.omniscale import omniscale_backbone
from reidkit.networks.residual import residual_backbone


@functools.lru_cache(maxsize=64)
def backbone(network: Network) -> Backbone:
    """Write a network out layer by layer, in the order of the reference's state dict."""
    facts = ARCHITECTURES[network.architecture]
    if isinstance(facts, ResidualFacts):
        return residual_backbone(facts, network.last_stride)
    return omniscale_backbone(facts)
