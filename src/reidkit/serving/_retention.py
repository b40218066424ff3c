"""Retention: crops are erased when they have been kept for as long as they may be."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from reidkit.errors import ArgumentError
from reidkit.gallery import Where
from reidkit.serving._metrics import Metrics

if TYPE_CHECKING:
    from reidkit.gallery import Gallery

PAUSE = 60.0
"""Seconds between two rounds."""

COMPACT_PAUSE = 3600.0
"""Seconds between two compactions."""

logger = logging.getLogger(__name__)


def erase_expired(gallery: Gallery, keep: float, now: float) -> int:
    """Erase the crops that the gallery took more than `keep` seconds before `now`; count them.

    `now` is in seconds since 1970 (UTC). The audit gets a line when something was erased.
    """
    if not math.isfinite(keep) or keep <= 0:
        raise ArgumentError(f"crops are to be kept for {keep} s, expected more than 0")
    expired = Where(added_before=now - keep)
    # Looked at first: a line of the audit for each minute in which nothing happened hides the rest.
    if not gallery.store.count(expired):
        return 0
    return gallery.remove_where(expired, actor="retention", action="retention")


class Retention:
    """The task that erases what has expired: when the service starts, and then again and again.

    `error` says why the last round failed; `None` where it did not. A service whose retention
    does not work is not ready. After a round that erased something the gallery is compacted, at
    most once in `COMPACT_PAUSE`, so that no trace of it stays in the store's files.
    """

    def __init__(
        self,
        gallery: Gallery,
        keep: float,
        *,
        metrics: Metrics,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`keep` and `pause` are seconds; `clock` gives seconds since 1970 (UTC)."""
        self.error: str | None = None
        self._gallery, self._keep, self._metrics = gallery, keep, metrics
        self._pause, self._clock = pause, clock
        self._task: asyncio.Task[None] | None = None
        self._traces, self._compacted = False, -math.inf

    @property
    def running(self) -> bool:
        """Tell whether the task is alive."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Say how much has expired and erase it, then go on in a task."""
        await asyncio.to_thread(self._announce)
        await self._finish(self._erase())
        if not self.running:
            self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """End the task; a round that has begun is waited for."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def run_once(self) -> None:
        """Do one round; a failure is logged, counted and kept in `error`.

        A compaction that fails is logged and counted, and tried again in the next round.
        """
        await self._finish(self._erase())
        await self._finish(self._compact())

    async def _finish(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait({task})  # the gallery must not be closed under its thread
            raise

    def _announce(self) -> None:
        try:
            old = self._gallery.store.count(Where(added_before=self._clock() - self._keep))
        except Exception:  # noqa: BLE001 - the round that follows says it
            return
        if old:
            logger.warning("retention: %d crops are too old and are being erased now", old)

    async def _erase(self) -> None:
        try:
            erased = await asyncio.to_thread(
                erase_expired, self._gallery, self._keep, self._clock()
            )
        except Exception as error:  # noqa: BLE001 - it makes the service unready until it is over
            self.error = f"{type(error).__name__}: {error}"
            logger.error("retention failed: %s", self.error)
            self._metrics.count_retention(0, failed=True)
        else:
            self.error = None
            self._metrics.count_retention(erased)
            if erased:
                self._traces = True
                logger.info("retention erased %d crops", erased)

    async def _compact(self) -> None:
        now = self._clock()
        if not self._traces or now - self._compacted < COMPACT_PAUSE:
            return
        try:
            await asyncio.to_thread(self._gallery.compact, actor="retention")
        except Exception as error:  # noqa: BLE001 - what expired is gone, only its traces are not
            logger.error("compacting after retention failed: %s: %s", type(error).__name__, error)
            self._metrics.count_retention(0, failed=True)
        else:
            self._traces, self._compacted = False, now

    async def _run(self) -> None:
        # What was erased at the start is compacted here: nobody waits for it.
        await self._finish(self._compact())
        while True:
            await asyncio.sleep(self._pause)
            await self.run_once()
