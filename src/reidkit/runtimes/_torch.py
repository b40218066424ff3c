"""torch: networks compiled ahead of time into `.pt2` files, on the CPU or an NVIDIA GPU.

A `.pt2` file holds machine code, which runs with all your rights once it is loaded. Its hash is
checked against `model.json`, which tells whether it was changed, not whether whoever made it
meant well: load a stranger's package as you would start a stranger's program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reidkit.devices import is_out_of_memory, parse_device, true_float32
from reidkit.errors import DeviceError, EngineError
from reidkit.package import EngineSpec, Inputs
from reidkit.runtimes import check_input, check_output

LARGEST_BATCH = {"cpu": 16, "cuda": 1024}
"""What a file for any batch size takes in one run; larger batches are cut up.

On a CPU small pieces stay in its caches: batches of 128 in one run are 5 to 8 % slower. On a GPU
every activation of the known networks has fewer than 2**31 elements up to there, the most that a
compiled kernel counts."""

_FEATURES = {
    "AVX2": "avx2",
    "AVX512": "avx512_f",
    "AVX512_VNNI": "avx512_vnni",
    "AMX_TILE": "amx_tile",
}
"""Instructions that a file may say it needs, by the name that torch has for what a CPU can do."""


class TorchRuntime:
    """A `Runtime` over a network that torch's Inductor compiled.

    `threads` is set for all that torch computes in this process, since torch has but one number.
    Float32 is computed as float32, without TF32, whatever the process allows otherwise.
    """

    name = "torch"

    def __init__(
        self, file: Path, engine: EngineSpec, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        kind, number = parse_device(device)
        _check_machine(file, _read_metadata(file), kind, number)
        self.batch = engine.batch
        self.takes = engine.takes
        self.device = f"cuda:{number}" if kind == "cuda" else "cpu"
        self._threads = threads
        self._largest = 0
        self._network: Any = _open_network(file, number)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run the network once, or piece by piece above `LARGEST_BATCH`."""
        if self._network is None:
            raise EngineError("the runtime is closed")
        check_input(inputs, self.batch, self.takes)
        if self._threads and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        step = self.batch or LARGEST_BATCH[self.device.partition(":")[0]]
        starts = range(0, len(inputs), step)
        parts = [self._run_piece(inputs[start : start + step]) for start in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Drop the network and what it unpacked on disk."""
        self._network = None

    def _run_piece(self, inputs: Inputs) -> NDArray[np.float32]:
        try:
            with torch.inference_mode(), true_float32():
                output = self._network(_tensor(inputs, self.device))
                vectors = output.cpu().numpy()
        except (RuntimeError, MemoryError) as error:  # all that torch's C++ raises
            raise EngineError(self._describe_failure(error, len(inputs))) from error
        self._largest = max(self._largest, len(inputs))
        return check_output(vectors, len(inputs))

    def _describe_failure(self, error: Exception, count: int) -> str:
        text = str(error).strip().partition("\n")[0]
        if not is_out_of_memory(error):
            return f"torch failed on a batch of {count} on {self.device}: {text}"
        worked = f"{self._largest} was the largest that worked" if self._largest else "none worked"
        return (
            f"out of memory on {self.device} with a batch of {count}, so far {worked}: "
            f"take a smaller batch ({text})"
        )


def available_devices() -> list[str]:
    """Give the devices that the installed build of torch finds."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _read_metadata(file: Path) -> dict[str, str]:
    """Read what the file says of the machine that it is for; nothing in it is executed."""
    try:
        found: dict[str, str] = torch._C._aoti.AOTIModelPackageLoader.load_metadata_from_package(
            str(file), "model"
        )
    except Exception as error:  # torch's C++ raises whatever it stumbled over
        raise EngineError(f"torch does not load {file}: {_first_line(error)}") from error
    if "AOTI_DEVICE_KEY" not in found:
        raise EngineError(f"torch does not load {file}: it does not say what device it is for")
    return found


def _check_machine(file: Path, metadata: dict[str, str], kind: str, number: int) -> None:
    """Refuse code for another machine, which would crash the process.

    Raises:
        DeviceError: it is.
    """
    compiled_for = metadata["AOTI_DEVICE_KEY"]
    if compiled_for != kind:
        raise DeviceError(
            f"{file} was compiled for {compiled_for}, it does not run on {kind}: load it on "
            f"{compiled_for}, or compile the package again for {kind}"
        )
    has = torch.cpu.get_capabilities()
    needs = metadata.get("AOTI_CPU_ISA", "").split()
    missing = [name for name in needs if name in _FEATURES and not has.get(_FEATURES[name])]
    if missing:
        raise DeviceError(
            f"{file} was compiled for a CPU with {', '.join(missing)}, which this one lacks: "
            "compile the package again on this machine"
        )
    if kind == "cuda":
        _check_gpu(file, metadata.get("AOTI_COMPUTE_CAPABILITY", ""), number)


def _check_gpu(file: Path, capability: str, number: int) -> None:
    major, minor = torch.cuda.get_device_capability(number)
    if capability not in ("", f"{major}{minor}"):
        raise DeviceError(
            f"{file} was compiled for a GPU of compute capability {capability}, "
            f"{torch.cuda.get_device_name(number)} has {major}{minor}: compile the package again "
            "on this machine"
        )


def _open_network(file: Path, number: int) -> Any:
    try:
        return torch._inductor.aoti_load_package(str(file), device_index=number)
    except Exception as error:  # torch raises several unrelated types
        raise EngineError(f"torch does not load {file}: {_first_line(error)}") from error


def _tensor(inputs: Inputs, device: str) -> Any:
    inputs = np.ascontiguousarray(inputs)
    # torch warns of arrays that may not be written to, though nothing here writes.
    tensor = torch.from_numpy(inputs if inputs.flags.writeable else inputs.copy())
    if device == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
