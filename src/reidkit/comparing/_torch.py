"""Products on a GPU, with torch: scores in blocks, and the nearest of every vector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reidkit.comparing._neighbours import Neighbours
from reidkit.comparing._prepared import Prepared
from reidkit.comparing._rows import split_range
from reidkit.devices import is_out_of_memory, parse_device, true_float32
from reidkit.errors import EngineError

_UPLOAD_BYTES = 2**26
_BLOCK_BYTES = 2**30
"""Bytes of a block of scores on the device."""


class DeviceProducts:
    """Prepared rows in a device's memory, to be multiplied with queries.

    Raises:
        DeviceError: torch finds no such device.
        EngineError: the rows do not fit into its memory.
    """

    def __init__(self, prepared: Prepared, device: str) -> None:
        kind, number = parse_device(device)
        self.device = f"cuda:{number}" if kind == "cuda" else "cpu"
        step = max(1, _UPLOAD_BYTES // (4 * prepared.dimension))
        with _explaining(self.device):
            shape = (len(prepared), prepared.dimension)
            self.rows: Any = torch.empty(shape, dtype=torch.float32, device=self.device)
            for start, stop in split_range(len(prepared), step):
                self.rows[start:stop] = torch.tensor(prepared.read(start, stop))

    def multiply(self, queries: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Write the products of (n, D) queries with all rows into (n, M) `out`."""
        with _explaining(self.device), true_float32():
            products = torch.tensor(queries).to(self.device) @ self.rows.T
            torch.from_numpy(out).copy_(products)


def find_on_device(prepared: Prepared, count: int, device: str) -> Neighbours:
    """Find the `count` nearest of vectors among those that are no copies; see `Neighbours`.

    Of rows equally far away any may be among the last: a GPU does not tell which came first.
    """
    products = DeviceProducts(prepared, device)
    length = len(prepared)
    rows = np.empty((length, count), np.int32)
    scores, lowest = np.empty((length, count), np.float32), np.empty(length, np.float32)
    with _explaining(products.device), true_float32():
        halves = _upload(prepared.half_squares, products.device)
        copies = _upload(prepared.copies, products.device)
        for start, stop in split_range(length, max(1, _BLOCK_BYTES // (4 * length))):
            block = products.rows[start:stop] @ products.rows.T
            if halves is not None:
                block -= halves[start:stop, None]
                block -= halves
            lowest[start:stop] = block.amin(dim=1).cpu().numpy()
            block[:, copies] = -torch.inf
            own = torch.arange(start, stop, device=products.device)
            block[own - start, own] = torch.inf
            best, nearest = block.topk(count, dim=1)
            scores[start:stop] = best.cpu().numpy()
            rows[start:stop] = nearest.cpu().numpy()
    order = np.lexsort((rows, -scores), axis=1)
    best_rows = np.take_along_axis(rows, order, axis=1)
    distances = prepared.turn_to_squares(np.take_along_axis(scores, order, axis=1))
    return Neighbours(best_rows, distances, prepared.turn_to_squares(lowest))


def _upload(values: NDArray[Any] | None, device: str) -> Any:
    return None if values is None else torch.tensor(values).to(device)


@contextmanager
def _explaining(device: str) -> Iterator[None]:
    try:
        with torch.inference_mode():
            yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            text = str(error).strip().partition("\n")[0]
            raise EngineError(f"torch failed on {device}: {text}") from error
        raise EngineError(
            f"out of memory on {device}: the vectors and a block of their scores do not fit; "
            "compare them on the CPU"
        ) from error
