"""The known networks as torch modules, made from the same tables as their ONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from reidkit import networks
from reidkit.errors import IncompatibleCheckpointError, name_some
from reidkit.networks import Network
from reidkit.networks.facts import EPSILON, SMALLEST_ACTIVATION
from reidkit.networks.initial import GEM_START
from reidkit.networks.layers import Backbone, Dense
from reidkit.training._trunk import Trunk, build_trunk, place, run_trunk

_COUNTER = "num_batches_tracked"
_WRAPPERS = ("module.", "_orig_mod.")


class Features(NamedTuple):
    """What a network makes of a batch: two vectors a picture, (B, D) float32 each.

    `pooled` is what the metric losses see. `neck` is `pooled` behind the BNNeck, which the
    classifier sees; without BNNeck the two are the same tensor.
    """

    pooled: Tensor
    neck: Tensor


class ReidNetwork(nn.Module):  # type: ignore[misc] # torch's modules are untyped here
    """A network that can be trained.

    Its state dict has the names, shapes and order of `networks.tensor_shapes`. The BNNeck's bias
    stays zero (Luo et al. 2019), and tensors that nothing uses are buffers, so that no optimiser
    touches either. The classifier is not part of `forward`: what is made of its weights is for
    the loss to say.

    Attributes:
        network: what was built.
        classifier: a linear layer (`classes`, D), or `None` without classes. It has a bias where
            there is no BNNeck.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        described = networks.backbone(network)
        self._prefix = described.prefix
        self._trunk: Trunk = build_trunk(self, described)
        self._dense = _build_dense(self, described)
        for name, shape in described.leftovers:
            place(self, described.prefix + name, torch.zeros(shape))
        self.gem: Any = None
        if network.pooling == "gem":
            self.gem = nn.Module()
            self.gem.p = nn.Parameter(torch.full((1,), GEM_START))
        self.bottleneck: Any = None
        if network.bnneck:
            self.bottleneck = nn.BatchNorm1d(network.embedding_size, EPSILON)
            self.bottleneck.bias.requires_grad_(False)
        self.classifier: Any = None
        if network.classes is not None:
            sizes = (network.embedding_size, network.classes)
            self.classifier = nn.Linear(*sizes, bias=not network.bnneck)

    @property
    def embedding_size(self) -> int:
        """The length D of the vectors."""
        return self.network.embedding_size

    def forward(self, images: Tensor) -> Features:
        """Compute the vectors of images (B, 3, H, W) float32, normalised by the contract.

        The vectors are float32 under autocast too.
        """
        maps = run_trunk(self._trunk, images)
        if self.gem is None:
            pooled = maps.mean((2, 3), dtype=torch.float32)
        else:
            pooled = generalised_mean(maps, self.gem.p)
        if self._dense is not None:
            pooled = _run_dense(self._dense, pooled)
        return Features(pooled, pooled if self.bottleneck is None else self.bottleneck(pooled))

    def backbone_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Give the parameters that pretrained weights are for, by name.

        That is all but the power of the pooling, the BNNeck and the classifier.
        """
        return [
            (name, parameter)
            for name, parameter in self.named_parameters()
            if name.startswith(self._prefix)
            and not name.startswith(("gem.", "bottleneck.", "classifier."))
        ]


def build_network(network: Network, *, seed: int) -> ReidNetwork:
    """Build a network with the weights of `networks.initial_tensors`, on the CPU.

    torch's own random numbers are not touched.
    """
    with torch.device("meta"):
        module = ReidNetwork(network)
    module.to_empty(device="cpu")
    load_arrays(module, networks.initial_tensors(network, seed=seed))
    return module


def state_as_arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Copy a module's state dict into arrays: float32, counters int64, each C-contiguous.

    The names are the plain ones where the module is compiled or wrapped for several processes.
    """
    return {
        _plain(name): _as_array(tensor.detach()) for name, tensor in module.state_dict().items()
    }


def load_arrays(module: nn.Module, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Copy a complete state dict into a module; batch norms' counters that it lacks become 0.

    Raises:
        IncompatibleCheckpointError: names or shapes are not those of the module, which then
            stays as it was.
    """
    own = {_plain(name): tensor for name, tensor in module.state_dict().items()}
    missing = [name for name in own if name not in tensors and not name.endswith(_COUNTER)]
    unexpected = [name for name in tensors if name not in own]
    misshapen = [
        f"{name} {tensors[name].shape}, expected {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in tensors and tensors[name].shape != tuple(tensor.shape)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(kinds.values()):
        found = "; ".join(f"{kind}: {name_some(names)}" for kind, names in kinds.items() if names)
        raise IncompatibleCheckpointError(
            f"these tensors are not those of the network in training ({found}): load what was "
            "saved for this network, with this number of classes"
        )
    for name, tensor in own.items():
        copy_array(tensor, tensors.get(name, np.zeros((), np.int64)))


def copy_array(tensor: Tensor, values: NDArray[Any]) -> None:
    """Copy an array into a tensor of the same shape, which may be a parameter that learns."""
    kind = np.float32 if tensor.dtype.is_floating_point else np.int64
    # A copy, since torch warns of arrays that may not be written to, such as those of a file.
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(np.array(values, kind)))


def generalised_mean(maps: Tensor, power: Tensor) -> Tensor:
    """Give mean(clamp(x, 1e-6) ** p) ** (1 / p) of maps (B, C, H, W): (B, C) float32.

    Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation" (2019). It is
    computed in float32 whatever the maps are in: a cube of 41 is beyond float16 already.
    """
    return maps.float().clamp(min=SMALLEST_ACTIVATION).pow(power).mean((2, 3)).pow(1 / power)


def _build_dense(root: nn.Module, described: Backbone) -> tuple[Any, Any] | None:
    dense: Dense | None = described.dense
    if dense is None:
        return None
    name = described.prefix + dense.name
    linear = place(root, f"{name}.0", nn.Linear(dense.inputs, dense.outputs))
    return linear, place(root, f"{name}.1", nn.BatchNorm1d(dense.outputs, EPSILON))


def _run_dense(dense: tuple[Any, Any], pooled: Tensor) -> Tensor:
    """Compute the dense layer in float32, under autocast too: (B, C) -> (B, D)."""
    linear, norm = dense
    with torch.autocast(pooled.device.type, enabled=False):
        return functional.relu(norm(linear(pooled)), inplace=True)


def _plain(name: str) -> str:
    """Take away what wrappers put before a name."""
    for wrapper in _WRAPPERS * 2:
        name = name.removeprefix(wrapper)
    return name


def _as_array(tensor: Tensor) -> NDArray[Any]:
    kind = torch.float32 if tensor.dtype.is_floating_point else torch.int64
    # np.array copies, so that the next step of training does not change what was given.
    return np.array(tensor.to("cpu", kind).numpy(), order="C")
