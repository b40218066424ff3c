"""What a training tells of itself: lines of JSON, and TensorBoard where it is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from reidkit import disk
from reidkit.errors import MissingExtraError
from reidkit.training._events import Event

LOG = "log.jsonl"
BOARD = "tensorboard"


class Log:
    """The log of a run: `log.jsonl`, one line an event, and perhaps a TensorBoard folder.

    Lines of epochs after `epoch`, which a killed run began and did not finish, are taken out.
    """

    def __init__(self, folder: Path, *, epoch: int, board: bool) -> None:
        path = folder / LOG
        _forget_after(path, epoch)
        self._board = _open_board(folder / BOARD) if board else None
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: Event) -> None:
        """Write the values of an event; `step` of a line counts from the start of its epoch."""
        place = {"kind": event.kind, "epoch": event.epoch, "step": event.step}
        self._file.write(json.dumps(place | dict(event.values)) + "\n")
        self._file.flush()
        if self._board is not None:
            # Epochs may differ by a step; TensorBoard wants one count over all of them.
            step = (event.epoch - 1) * event.steps + event.step
            for name, value in event.values.items():
                self._board.add_scalar(f"{event.kind}/{name}", value, step)

    def close(self) -> None:
        """Finish the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _forget_after(path: Path, epoch: int) -> None:
    if not path.exists():
        return
    kept = [line for line in path.read_bytes().splitlines(keepends=True) if _holds(line, epoch)]
    disk.write_bytes(path, b"".join(kept))


def _holds(line: bytes, epoch: int) -> bool:
    """Tell whether a line is whole and of an epoch that was finished."""
    try:
        return line.endswith(b"\n") and int(json.loads(line)["epoch"]) <= epoch
    except (ValueError, KeyError, TypeError):
        return False


def _open_board(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tensorboard") from error
    return SummaryWriter(str(folder))
