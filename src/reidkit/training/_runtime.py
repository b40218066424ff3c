"""A network in training as a model like any other: normalised on its device, run in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reidkit import disk, networks, preprocess
from reidkit.devices import is_out_of_memory, true_float32
from reidkit.errors import DeviceError, EngineError
from reidkit.exporting import sha256_tensors
from reidkit.models import Model
from reidkit.package import EngineSpec, Inputs, InputSpec, ModelSpec, Takes
from reidkit.runtimes import check_input, check_output
from reidkit.training._network import ReidNetwork, state_as_arrays
from reidkit.training._recipe import Recipe

_NAME = "torch-training"


class ModuleRuntime:
    """A `Runtime` over a torch module that gives `Features`, in evaluation mode while it runs.

    The module is used as it is: training it on changes what later runs give. Afterwards each of
    its parts is in the mode in which it was before.

    Raises:
        DeviceError: the module is on another device.
    """

    name = _NAME
    batch: int | None = None
    takes: Takes = "pixels"

    def __init__(
        self, module: nn.Module, contract: InputSpec, device: str | torch.device = "cpu"
    ) -> None:
        self._device = _device_of(module)
        self.device = str(self._device)
        if torch.device(device) not in (self._device, torch.device(self._device.type)):
            raise DeviceError(
                f"asked for {device}, but the network is on {self.device}: move it there first"
            )
        self._module: nn.Module | None = module
        self._before = contract.neck == "before"
        self._colour: Literal["rgb", "bgr"] = contract.colour
        table = torch.from_numpy(np.array(preprocess.normalised_values(contract)))
        self._table = table.to(self._device)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the network once: (B, H, W, 3) uint8 RGB, resized -> (B, D) float32."""
        if self._module is None:
            raise EngineError("the runtime is closed")
        check_input(inputs, self.batch, self.takes)
        # torch warns of arrays that may not be written to, though nothing here writes.
        inputs = np.require(inputs, requirements=("C", "W"))
        try:
            return check_output(self._compute(self._module, torch.from_numpy(inputs)), len(inputs))
        except (RuntimeError, MemoryError) as error:  # all that torch's C++ raises
            advice = ": take a smaller batch" if is_out_of_memory(error) else ""
            raise EngineError(
                f"torch failed on a batch of {len(inputs)} on {self.device}{advice} "
                f"({str(error).strip().partition(chr(10))[0]})"
            ) from error

    def close(self) -> None:
        """Let go of the module, which stays its owner's."""
        self._module = None

    def _compute(self, module: nn.Module, pixels: Tensor) -> NDArray[np.float32]:
        plain = torch.autocast(self._device.type, enabled=False)
        with _evaluating(module), torch.inference_mode(), true_float32(), plain:
            images = normalise(pixels.to(self._device), self._table, self._colour)
            features = module(images)
            vectors: Tensor = features.pooled if self._before else features.neck
            found: NDArray[np.float32] = vectors.cpu().numpy()
            return found


def normalise(pixels: Tensor, table: Tensor, colour: Literal["rgb", "bgr"]) -> Tensor:
    """Normalise resized RGB pictures on the device they are on.

    Args:
        pixels: (B, H, W, 3) uint8.
        table: `preprocess.normalised_values` of the contract, (3, 256) float32, on that device.
        colour: the contract's order of the channels.

    Returns:
        (B, 3, H, W) float32, contiguous: the very numbers of `preprocess.normalise`.
    """
    planes = pixels.permute(0, 3, 1, 2)
    if colour == "bgr":
        planes = planes.flip(1)
    images = torch.empty(planes.shape, dtype=table.dtype, device=table.device)
    # Looked up, since arithmetic may be fused, and then rounds otherwise.
    for channel in range(3):
        rows = planes[:, channel].int()
        images[:, channel] = table[channel].index_select(0, rows.flatten()).view(rows.shape)
    return images


def as_model(module: ReidNetwork, recipe: Recipe, device: str | torch.device = "cpu") -> Model:
    """Give a network in training, as it is now, as a model for `embed`.

    Its `weights_sha256` is that of the package which an export of these weights would make; there
    are no files and no reference pictures behind it. It is of no more use once the network has
    been trained on.

    Raises:
        DeviceError: the module is on another device.
    """
    runtime = ModuleRuntime(module, recipe.contract, device)
    network = module.network
    arrays = state_as_arrays(module)
    weights = sha256_tensors({name: arrays[name] for name in networks.used_tensors(network)})
    identity = {
        "architecture": network.architecture,
        "bnneck": network.bnneck,
        "last_stride": network.last_stride,
        "pooling": network.pooling,
        "neck": recipe.contract.neck,
        "weights": weights,
    }
    spec = ModelSpec(
        name=network.architecture,
        architecture=network.architecture,
        embedding_size=network.embedding_size,
        weights_sha256=weights,
        reference_sha256=disk.sha256_json(None),
        input=recipe.contract,
        engine=EngineSpec(
            file="module",
            sha256=disk.sha256_json(identity),
            runtime=_NAME,
            device=runtime.device,
            takes=runtime.takes,
        ),
    )
    return Model(spec, runtime)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode meanwhile, and each of its parts back as it was."""
    learning = [part for part in module.modules() if part.training]
    for part in learning:
        part.training = False
    try:
        yield
    finally:
        for part in learning:
            part.training = True


def _device_of(module: nn.Module) -> torch.device:
    tensors: Any = next(module.parameters())
    return torch.device(tensors.device)
