"""What a run leaves on disk after each epoch, so that a killed one goes on as if it had not been.

`state.pth` is the truth. The checkpoint of a best epoch waits under another name until the state
that calls it the best is written; the rest is written after the state, and again from it where a
run was killed in between.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from safetensors.numpy import save

from reidkit import disk
from reidkit.errors import MismatchError
from reidkit.training._distributed import Ranks
from reidkit.training._network import state_as_arrays
from reidkit.training._runs import CHECKPOINTS, Run, write_run
from reidkit.training._state import STATE, State, damaged, write_state
from reidkit.training._stepping import Stepper


class Keeper:
    """Keeps a run's files; `run` says how far it is.

    It takes up the `state` that an earlier process left: the stepper is put where that one was.

    Raises:
        TrainingError: the state is not of this run.
    """

    def __init__(self, run: Run, stepper: Stepper, ranks: Ranks, *, state: State | None) -> None:
        self.run = run
        self._stepper, self._ranks = stepper, ranks
        if state is not None:
            self.run = self._take_up(state)
        if ranks.first:
            self._publish(self.run, self._checkpoint() if self.run.epoch else b"")

    def keep(self, epoch: int, scores: Mapping[str, float] | None, *, judged: bool) -> None:
        """Keep the network after an epoch; where no epoch is ever `judged` the last is the best."""
        best = self.run.scores.get("mAP", -1.0)
        better = scores is not None and scores["mAP"] > best
        run = dataclasses.replace(self.run, epoch=epoch)
        if better or not judged:
            run = dataclasses.replace(run, best_epoch=epoch, scores=dict(scores or {}))
        if self._ranks.first:
            checkpoint = self._checkpoint()
            if run.best_epoch == epoch:
                disk.write_bytes(self._waiting(epoch), checkpoint)
            fingerprint = str(run.data["fingerprint"])
            left = (self._stepper.state(), epoch, run.best_epoch, dict(run.scores), fingerprint)
            write_state(run.folder, State(*left))
            self._publish(run, checkpoint)
        self.run = run

    def _take_up(self, state: State) -> Run:
        path = self.run.folder / STATE
        if state.fingerprint != self.run.data["fingerprint"]:
            raise damaged(path, "it is of a run on other data")
        try:
            self._stepper.restore(state.stepper)
        except (KeyError, RuntimeError, TypeError, ValueError, MismatchError) as error:
            raise damaged(path, str(error).strip().partition("\n")[0]) from error
        return dataclasses.replace(
            self.run, epoch=state.epoch, best_epoch=state.best_epoch, scores=state.scores
        )

    def _publish(self, run: Run, checkpoint: bytes) -> None:
        """Bring the other files to where the state is."""
        run.folder.mkdir(parents=True, exist_ok=True)
        if run.epoch:
            waiting = self._waiting(run.best_epoch)
            if waiting.exists():
                waiting.replace(run.folder / CHECKPOINTS["best"])
            disk.write_bytes(run.folder / CHECKPOINTS["last"], checkpoint)
        for pattern in (".best.*", ".*.partial"):  # what killed processes left
            for left in run.folder.glob(pattern):
                left.unlink()
        write_run(run)

    def _waiting(self, epoch: int) -> Path:
        return self.run.folder / f".best.{epoch}.safetensors"

    def _checkpoint(self) -> bytes:
        """Give the network, or its running average, as the bytes of a checkpoint."""
        with self._stepper.averaged():
            return save(state_as_arrays(self._stepper.objective.network))
