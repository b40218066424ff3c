"""How much the gallery holds, which also says whether it answers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from reidkit.gallery import EVERYTHING
from reidkit.serving._metrics import Metrics

if TYPE_CHECKING:
    from reidkit.gallery import Gallery

PATIENCE = 5.0
"""Seconds that a gallery may take to answer."""

_PAUSE = 15.0

logger = logging.getLogger(__name__)


class Census:
    """Counts a gallery's crops and people for the metrics, one count at a time.

    A database that hangs holds one thread, however often it is asked for. `moved` is true once the
    gallery's vectors are found to be of another model than when the service started.
    """

    def __init__(self, gallery: Gallery, metrics: Metrics) -> None:
        self.moved = False
        self._gallery, self._metrics = gallery, metrics
        self._binding = gallery.binding
        self._count: asyncio.Task[bool] | None = None
        self._loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to count now and then: reading the metrics must not wait for a database."""
        self._loop = asyncio.create_task(self._run(), name="census")

    async def stop(self) -> None:
        """End counting; a count that has begun may take its time, but not for ever."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
        if self._count is not None:
            await asyncio.wait({self._count}, timeout=PATIENCE)

    async def count(self, *, patience: float = PATIENCE) -> bool:
        """Count; False where the gallery fails or does not answer within `patience` seconds."""
        if self._count is None or self._count.done():
            self._count = asyncio.create_task(self._ask())
        # Kept apart: who asks next may have begun another count before this one goes on.
        count = self._count
        done, _ = await asyncio.wait({count}, timeout=patience)
        return bool(done) and count.result()

    async def _ask(self) -> bool:
        store = self._gallery.store
        try:
            crops = await asyncio.to_thread(store.count, EVERYTHING)
            people = await asyncio.to_thread(store.count_people)
            binding = await asyncio.to_thread(store.binding)
        except Exception as error:  # noqa: BLE001 - any failure of a database is one
            logger.error("the gallery does not answer: %s: %s", type(error).__name__, error)
            return False
        self._metrics.set("gallery_crops", "Crops in the gallery.", crops)
        self._metrics.set("gallery_people", "People in the gallery.", people)
        moved = not binding.same_vectors(self._binding)
        if moved and not self.moved:
            logger.error("the gallery has moved to another model: restart with its package")
        self.moved = moved
        self._metrics.set(
            "gallery_moved", "1 if the gallery has moved to another model, else 0.", moved
        )
        return True

    async def _run(self) -> None:
        while True:
            await self.count()
            await asyncio.sleep(_PAUSE)
