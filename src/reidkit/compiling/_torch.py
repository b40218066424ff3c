"""The target `torch`: machine code made ahead of time by torch's Inductor, in one `.pt2` file.

It takes pixels and normalises inside, so a quarter of the bytes cross the bus to a GPU. The code
is made for the kind of processor that compiles it.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module, util
from pathlib import Path
from typing import Any

import onnx

from reidkit import disk
from reidkit.compiling._targets import Job, Support, Target
from reidkit.errors import ArgumentError, CompileError, DeviceError, MissingExtraError
from reidkit.machine import available_cores
from reidkit.package import EngineSpec, InputSpec

_FILE = "model.pt2"

_EXAMPLE_BATCH = {"cpu": 16, "cuda": 64}
"""The batch size that code for any batch size is tuned for."""

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def support() -> Support:
    """Say which precisions can be compiled here, for the CPU or a GPU."""
    if util.find_spec("torch") is None:
        return Support((), "pip install 'reidkit[torch]'")
    if not _compiler():
        return Support((), "install a C++ compiler, such as g++ (or name yours in CXX)")
    try:
        torch = import_module("torch")
        gpu, half_types = torch.cuda.is_available(), _half_types_of_cpu(torch)
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        return Support((), f"torch does not load here: {_first_line(error)}")
    if gpu:
        return Support(tuple(_DTYPES))
    missing = [name for name in ("bf16", "fp16") if name not in half_types]
    hint = f"{' and '.join(missing)}: on a CPU with instructions for it, or an NVIDIA GPU"
    return Support(("fp32", *half_types), hint if missing else "")


def build(job: Job, folder: Path) -> EngineSpec:
    """Compile the package's graph and write `model.pt2` into `folder`.

    Its vectors are float32 whatever the precision. Without `target.batch` it takes any batch.

    Raises:
        MissingExtraError: torch is not installed (extra `torch`).
        ArgumentError: an unknown device.
        DeviceError: a GPU that is not there.
        CompileError: no C++ compiler, a precision that this machine lacks, an operator that is
            not known, or torch failed.
    """
    target = job.target
    torch = _import_torch()
    _check_target(torch, target)
    if job.package.spec.engine.runtime != "onnxruntime":
        raise CompileError(
            f"{job.model_file} is not an ONNX file: torch compiles packages that were made from a "
            "checkpoint or an .onnx file"
        )
    model = onnx.load(job.model_file)
    try:
        with _undisturbed(torch):
            _compile(torch, model, job.package.spec.input, target, folder / _FILE)
    except CompileError:
        raise
    except Exception as error:  # torch's compiler raises whatever it stumbled over
        raise CompileError(
            f"torch could not compile {job.model_file} for {target.device} in "
            f"{target.precision}: {_first_line(error)}"
        ) from error
    return EngineSpec(
        file=_FILE,
        sha256=disk.sha256_file(folder / _FILE),
        runtime="torch",
        batch=target.batch,
        precision=target.precision,
        target="torch",
        device=target.device,
        takes="pixels",
    )


def _import_torch() -> Any:
    try:
        return import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch", "torch") from error


def _compiler() -> str | None:
    """Give the path of the C++ compiler that Inductor would call."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", usual))


def _half_types_of_cpu(torch: Any) -> tuple[str, ...]:
    """Give the half types that this CPU multiplies in hardware; emulated ones only cost time."""
    has = torch.cpu.get_capabilities()
    bf16 = has.get("avx512_bf16") or has.get("amx_bf16") or has.get("arm_bf16")
    return tuple(name for name, found in (("bf16", bf16), ("fp16", has.get("amx_fp16"))) if found)


def _check_target(torch: Any, target: Target) -> None:
    kind, _, number = target.device.partition(":")
    if kind not in _EXAMPLE_BATCH or (":" in target.device and not _is_gpu(kind, number)):
        raise ArgumentError(f"device is {target.device!r}, expected cpu, cuda or cuda:N")
    if not _compiler():
        raise CompileError("the torch target needs a C++ compiler: install g++, or name one in CXX")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"asked for {target.device}, but torch {torch.__version__} finds "
            f"{torch.cuda.device_count()} GPUs: look at the driver, or install torch for CUDA"
        )
    possible = tuple(_DTYPES) if kind == "cuda" else ("fp32", *_half_types_of_cpu(torch))
    if target.precision not in possible:
        raise CompileError(
            f"the torch target cannot compile {target.precision} for {target.device} on this "
            f"machine, only {', '.join(possible)}"
        )


def _is_gpu(kind: str, number: str) -> bool:
    return kind == "cuda" and number.isdecimal()


def _compile(torch: Any, model: Any, contract: InputSpec, target: Target, file: Path) -> None:
    from reidkit.compiling._torch_graph import draw_module
    from reidkit.runtimes._torch import LARGEST_BATCH

    kind = target.device.partition(":")[0]
    dtype = getattr(torch, _DTYPES[target.precision])
    module = draw_module(model, dtype, contract=contract).to(target.device).eval()
    count = target.batch or _EXAMPLE_BATCH[kind]
    shape = (count, contract.height, contract.width, 3)
    pixels = torch.zeros(shape, dtype=torch.uint8, device=target.device)
    free = (
        None
        if target.batch
        else ({0: torch.export.Dim("batch", min=1, max=max(LARGEST_BATCH.values()))},)
    )
    with torch.no_grad():
        module(pixels[:1] if free else pixels)  # a graph that does not run fails here, plainly
        program = torch.export.export(module, (pixels,), dynamic_shapes=free)
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(file), inductor_configs=_options(kind)
        )


def _options(kind: str) -> dict[str, Any]:
    """Give Inductor's options; they hold for this one compilation."""
    options: dict[str, Any] = {
        # Weights are constants: they are laid out for the kernels once, now.
        "freezing": True,
        # Not the thread count of the machine that compiles, but that of the one that runs.
        "cpp.dynamic_threads": True,
        # The vector instructions that the file names in its metadata, and no others.
        "cpp.march": "",
        "aot_inductor.enable_frame_pointer": False,
        # Their paths would tell on the machine.
        "aot_inductor.enable_line_tables": False,
        # They would be compiled again each time, as nothing is kept.
        "aot_inductor.precompile_headers": False,
        # The calls between the kernels; plain code compiles in half the time.
        "aot_inductor.compile_wrapper_opt_level": "O0",
        "compile_threads": 1,
    }
    if kind == "cuda":
        options |= {
            # Each kernel is the fastest of those that were timed on this GPU.
            "max_autotune": True,
            "compile_threads": min(8, available_cores()),
            "aot_inductor.compile_wrapper_opt_level": "O1",
        }
    return options


@contextmanager
def _undisturbed(torch: Any) -> Iterator[None]:
    """Keep torch's caches and warnings to ourselves, and its settings as they are.

    What the compiler finds set is built into the kernels, so float32 must be float32 here too.
    """
    from torch._inductor.utils import fresh_cache

    from reidkit.devices import true_float32

    default, threads = torch.get_default_dtype(), torch.get_num_threads()
    try:
        with warnings.catch_warnings(), fresh_cache(), true_float32():
            warnings.simplefilter("ignore")
            torch.set_default_dtype(torch.float32)
            yield
    finally:
        torch.set_default_dtype(default)
        torch.set_num_threads(threads)
        torch._dynamo.reset()


def _first_line(error: BaseException) -> str:
    """Give the first line of what went wrong, without the pages of advice that torch adds."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
