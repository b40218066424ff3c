"""What the known networks are made of: one table of plain data for each family.

The architectures: He et al., "Deep Residual Learning for Image Recognition" (2016); Pan et al.,
"Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net" (2018); Hu et al.,
"Squeeze-and-Excitation Networks" (2018); Zhou et al., "Omni-Scale Feature Learning for Person
Re-Identification" (2019) and "Learning Generalisable Omni-Scale Representations for Person
Re-Identification" (2021). Where the strong baseline of Luo et al., "Bag of Tricks and A Strong
Baseline for Deep Person Re-identification" (2019) departs from the residual ones, the baseline
is followed, since its released weights need it: there is *no* ReLU after the stem's batch norm
in the plain ResNets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EPSILON = 1e-5
"""What every batch and instance norm adds to the variance."""

SMALLEST_ACTIVATION = 1e-6
"""What the generalised mean raises smaller values to, so that every power of them exists."""

Activation = Literal["none", "relu", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Pool:
    """The maximum pooling behind the stem; `ceil` rounds the output's size up."""

    kernel: int
    stride: int
    padding: int
    ceil: bool


@dataclass(frozen=True, slots=True)
class StemLayer:
    """One convolution of a stem."""

    outputs: int
    kernel: int
    stride: int


@dataclass(frozen=True, slots=True)
class StemFacts:
    """The convolutions before the first block, and the pooling behind them."""

    prefix: str
    layers: tuple[StemLayer, ...]
    activation: Activation
    pool: Pool


@dataclass(frozen=True, slots=True)
class Step:
    """One convolution of a block; `width` counts in units of the stage's width.

    `strided` marks the one that carries the stage's stride.
    """

    width: int
    kernel: int
    strided: bool = False
    groups: int = 1


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """A kind of block; `reduction` is that of its squeeze-and-excitation gate, 0 for none."""

    steps: tuple[Step, ...]
    reduction: int = 0


@dataclass(frozen=True, slots=True)
class ResidualFacts:
    """A residual network of four stages as its paper would describe it.

    `depths` are the numbers of blocks in the four stages; `shortcut_kernel` is that of the
    convolution on the shortcut of stages 2 to 4 (stage 1 always has 1); the first norm of each
    block is a `half_instance` norm in the first `instance_stages` stages.
    """

    stem: StemFacts
    block: BlockFacts
    depths: tuple[int, int, int, int]
    shortcut_kernel: int = 1
    instance_stages: int = 0
    leftovers: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def embedding_size(self) -> int:
        """The number of channels of the last feature map."""
        return STAGE_WIDTHS[-1] * self.block.steps[-1].width


@dataclass(frozen=True, slots=True)
class OmniScaleFacts:
    """An OSNet as its papers would describe it.

    `widths` are the channels of the stem and of the three stages. Every stage has two blocks;
    `instance_blocks` says for each of the six whether an instance norm closes its residual
    branch, in place of the batch norm, and `instance_stem` whether the stem has one: the paper's
    AIN networks. They also name their tensors in another way, which `indexed` tells apart.
    """

    widths: tuple[int, int, int, int]
    instance_stem: bool = False
    instance_blocks: tuple[bool, bool, bool, bool, bool, bool] = (False,) * 6
    indexed: bool = False
    embedding_size: int = 512


STAGE_WIDTHS = (64, 128, 256, 512)

_PADDED_POOL = Pool(kernel=3, stride=2, padding=1, ceil=False)
_CEIL_POOL = Pool(kernel=3, stride=2, padding=0, ceil=True)
_WIDE_STEM = (StemLayer(64, kernel=7, stride=2),)
_DEEP_STEM = (
    StemLayer(64, kernel=3, stride=2),
    StemLayer(64, kernel=3, stride=1),
    StemLayer(128, kernel=3, stride=1),
)

_PLAIN_STEM = StemFacts("", _WIDE_STEM, "none", _PADDED_POOL)
_IBN_STEM = StemFacts("", _WIDE_STEM, "relu", _PADDED_POOL)
_SE_STEM = StemFacts("layer0.", _WIDE_STEM, "relu", _CEIL_POOL)
_SENET_STEM = StemFacts("layer0.", _DEEP_STEM, "relu", _CEIL_POOL)

_BASIC = BlockFacts((Step(1, 3, strided=True), Step(1, 3)))
_BOTTLENECK = BlockFacts((Step(1, 1), Step(1, 3, strided=True), Step(4, 1)))
_SE_RESNET = BlockFacts((Step(1, 1, strided=True), Step(1, 3), Step(4, 1)), reduction=16)
_SE_RESNEXT = BlockFacts(
    (Step(2, 1), Step(2, 3, strided=True, groups=32), Step(4, 1)), reduction=16
)
_SENET = BlockFacts((Step(2, 1), Step(4, 3, strided=True, groups=64), Step(4, 1)), reduction=16)

_OSNET_WIDTHS = {
    "x0_25": (16, 64, 96, 128),
    "x0_5": (32, 128, 192, 256),
    "x0_75": (48, 192, 288, 384),
    "x1_0": (64, 256, 384, 512),
}
_AIN_BLOCKS = (True, True, False, True, True, False)

_UNUSED_CLASSIFIER = (("fc.weight", (1000, 2048)), ("fc.bias", (1000,)))

ARCHITECTURES: dict[str, ResidualFacts | OmniScaleFacts] = {
    "resnet18": ResidualFacts(_PLAIN_STEM, _BASIC, (2, 2, 2, 2)),
    "resnet34": ResidualFacts(_PLAIN_STEM, _BASIC, (3, 4, 6, 3)),
    "resnet50": ResidualFacts(_PLAIN_STEM, _BOTTLENECK, (3, 4, 6, 3)),
    "resnet101": ResidualFacts(_PLAIN_STEM, _BOTTLENECK, (3, 4, 23, 3)),
    "resnet152": ResidualFacts(_PLAIN_STEM, _BOTTLENECK, (3, 8, 36, 3)),
    "resnet50_ibn_a": ResidualFacts(
        _IBN_STEM, _BOTTLENECK, (3, 4, 6, 3), instance_stages=3, leftovers=_UNUSED_CLASSIFIER
    ),
    "se_resnet50": ResidualFacts(_SE_STEM, _SE_RESNET, (3, 4, 6, 3)),
    "se_resnet101": ResidualFacts(_SE_STEM, _SE_RESNET, (3, 4, 23, 3)),
    "se_resnet152": ResidualFacts(_SE_STEM, _SE_RESNET, (3, 8, 36, 3)),
    "se_resnext50": ResidualFacts(_SE_STEM, _SE_RESNEXT, (3, 4, 6, 3)),
    "se_resnext101": ResidualFacts(_SE_STEM, _SE_RESNEXT, (3, 4, 23, 3)),
    "senet154": ResidualFacts(_SENET_STEM, _SENET, (3, 8, 36, 3), shortcut_kernel=3),
    **{f"osnet_{size}": OmniScaleFacts(widths) for size, widths in _OSNET_WIDTHS.items()},
    **{
        f"osnet_ain_{size}": OmniScaleFacts(widths, True, _AIN_BLOCKS, indexed=True)
        for size, widths in _OSNET_WIDTHS.items()
    },
}
"""Every network that reidkit can build: the strong baseline's under the names that it gives them,
the OSNets under the names that their papers' code gives them."""
