"""The parts that a written-out network is made of: plain data, without any library that runs it.

The ONNX graph, the key layout of a checkpoint and the modules for training are all made from
what `backbones.backbone` puts together of them, so they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from reidkit.errors import ArgumentError
from reidkit.networks.facts import ARCHITECTURES, Activation, Pool, ResidualFacts

NormKind = Literal["none", "batch", "half_instance", "instance"]

Pooling = Literal["average", "gem"]


@dataclass(frozen=True, slots=True)
class Network:
    """One network: a backbone, global pooling, and perhaps a BNNeck.

    `last_stride` is the stride of the last stage, which no checkpoint records; OSNet has no such
    stage, and its `last_stride` is 1. `classes` is the number of people its classifier tells
    apart, `None` where it has none. `pooling` makes one vector of the last map: the `average`, or
    `gem`, the generalised mean with a learnt power (Radenovic et al., "Fine-tuning CNN Image
    Retrieval with No Human Annotation", 2019).

    Raises:
        ArgumentError: an unknown architecture or pooling, no class, or a last stride that the
            network cannot have.
    """

    architecture: str
    bnneck: bool = True
    last_stride: int = 1
    classes: int | None = None
    pooling: Pooling = "average"

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ArgumentError(
                f"the architecture is {self.architecture!r}, "
                f"expected one of {', '.join(ARCHITECTURES)}"
            )
        if self.last_stride not in (1, 2):
            raise ArgumentError(f"the last stride is {self.last_stride}, expected 1 or 2")
        if self.last_stride != 1 and not isinstance(
            ARCHITECTURES[self.architecture], ResidualFacts
        ):
            raise ArgumentError(
                f"the last stride is {self.last_stride}, expected 1: the strides of "
                f"{self.architecture} cannot be chosen"
            )
        if self.classes is not None and self.classes < 1:
            raise ArgumentError(f"{self.classes} classes, expected at least 1, or None")
        if self.pooling not in get_args(Pooling):
            raise ArgumentError(f"the pooling is {self.pooling!r}, expected 'average' or 'gem'")

    @property
    def embedding_size(self) -> int:
        """The length D of the vectors."""
        return ARCHITECTURES[self.architecture].embedding_size


@dataclass(frozen=True, slots=True)
class Layer:
    """A square convolution, the norm behind it, and the activation behind that.

    `name` and `norm_name` are where its tensors sit in a state dict. An `instance` norm has a
    weight and a bias and no running statistics. A `half_instance` norm is an instance norm
    (`norm_name.IN`) over the first half of the channels, rounded down, and a batch norm
    (`norm_name.BN`) over the rest. Only a layer without norm may have a bias.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    groups: int = 1
    norm: NormKind = "batch"
    norm_name: str = ""
    activation: Activation = "relu"
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block: relu(exit(sum over streams of gate(stream(layers(x)))) + shortcut(x)).

    `layers` come first; then each of the `streams` works on what they give (one stream without
    layers in a block that has no streams). `gate` are the two layers of a
    squeeze-and-excitation gate, which sees a stream's average over the picture and multiplies
    its channels: the same gate for every stream, empty where there is none. The sum of the
    streams passes the `exit` layers. `shortcut` is `None` where the input itself is added.
    """

    name: str
    layers: tuple[Layer, ...]
    gate: tuple[Layer, ...]
    shortcut: Layer | None
    streams: tuple[tuple[Layer, ...], ...] = ((),)
    exit: tuple[Layer, ...] = ()


@dataclass(frozen=True, slots=True)
class AveragePool:
    """Average pooling over squares of `size`, side by side; what is left at an edge is dropped."""

    size: int


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer with a bias (`name.0`), a batch norm (`name.1`) and a ReLU."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network up to what its head pools, and the dense layer behind the pooling.

    Every name in it is relative to `prefix` in the state dict. `leftovers` are tensors, by name
    and shape, that the state dict holds and nothing uses.
    """

    stem: tuple[Layer, ...]
    pool: Pool
    body: tuple[Block | Layer | AveragePool, ...]
    leftovers: tuple[tuple[str, tuple[int, ...]], ...] = ()
    prefix: str = "base."
    dense: Dense | None = None


def squeeze_and_excitation(name: str, channels: int, reduction: int) -> tuple[Layer, Layer]:
    """Give the two layers of the gate called `name` over so many channels (Hu et al. 2018)."""
    narrow = channels // reduction
    return (
        Layer(f"{name}.fc1", channels, narrow, 1, 1, 0, norm="none", bias=True),
        Layer(
            f"{name}.fc2",
            narrow,
            channels,
            1,
            1,
            0,
            norm="none",
            activation="sigmoid",
            bias=True,
        ),
    )
