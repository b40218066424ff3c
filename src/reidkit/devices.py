"""torch's devices: which one is meant, and float32 computed as such on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from reidkit.errors import ArgumentError, DeviceError


@contextmanager
def true_float32() -> Iterator[None]:
    """Compute float32 products as such meanwhile: no TF32, no bfloat16 in place of it.

    torch keeps this twice, in older settings and in newer ones; both are put back as they were.
    """
    backends = torch.backends
    settings = (
        *(backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul),
        *(backends.mkldnn.conv, backends.mkldnn.rnn, backends.mkldnn.matmul),
    )
    kept = [setting.fp32_precision for setting in settings]
    products, convolutions = _older_settings()
    try:
        torch.set_float32_matmul_precision("highest")
        backends.cudnn.allow_tf32 = False
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        backends.cudnn.allow_tf32 = convolutions
        for setting, precision in zip(settings, kept, strict=True):
            setting.fp32_precision = precision


def _older_settings() -> tuple[str, bool]:
    """Give the older settings, or torch's own where it has lost them to the newer ones."""
    try:
        products = torch.get_float32_matmul_precision()
    except RuntimeError:
        products = "highest"
    try:
        return products, torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return products, True


def parse_device(device: str) -> tuple[str, int]:
    """Split `cuda:1` into the device's kind and its number, -1 for the CPU's.

    Raises:
        ArgumentError: neither cpu, cuda nor cuda:N.
        DeviceError: torch finds no such GPU.
    """
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda") or (
        ":" in device and not (kind == "cuda" and number.isdecimal())
    ):
        raise ArgumentError(f"device is {device!r}, expected cpu, cuda or cuda:N")
    if kind == "cpu":
        return kind, -1
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= found:
        raise DeviceError(
            f"asked for {device}, but torch {torch.__version__} finds {found} GPUs: look at the "
            "driver (nvidia-smi), or install torch for CUDA"
        )
    return kind, int(number or 0)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error of torch's says that the device's memory is full."""
    text = str(error).lower()
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in text for word in words)
