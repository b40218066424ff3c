"""From start to stop: what runs while a service runs, and whether it is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reidkit.serving._context import Service

HUNG = 60.0
"""An engine that has been at one batch for so many seconds is not coming back."""

logger = logging.getLogger(__name__)


@asynccontextmanager
async def run_service(service: Service) -> AsyncIterator[None]:
    """Run the batcher and the background tasks of a service while the block runs.

    On leaving, what waits for the engine is answered first. The gallery stays open.
    """
    await service.batcher.start()
    service.metrics.watch(
        "queue_pictures", "Pictures that wait for the engine.", lambda: service.batcher.queued
    )
    if service.retention is not None:
        await service.retention.start()
    await service.census.start()
    try:
        yield
    finally:
        service.draining = True
        await service.census.stop()
        if service.retention is not None:
            await service.retention.stop()
        try:
            await asyncio.wait_for(service.batcher.stop(), HUNG)
        except TimeoutError:
            logger.error("the engine did not finish within %.0f s: what waits is lost", HUNG)


async def find_unready(service: Service) -> list[str]:
    """Say why a service should be sent no requests now; empty where it should.

    The model is loaded when a service is made; its gallery is asked to count its people.
    """
    reasons = []
    if service.draining:
        reasons.append("the service is stopping")
    elif not service.batcher.running:
        reasons.append("the service has not started")
    if service.batcher.busy_seconds > HUNG:
        reasons.append(f"the engine has been at one batch for more than {HUNG:.0f} s")
    if service.retention is not None:
        if service.retention.error is not None:
            reasons.append("retention fails: the log says why")
        elif not service.retention.running and not service.draining:
            reasons.append("retention does not run")
    if not await service.census.count():
        reasons.append("the gallery does not answer: the log says why")
    if service.census.moved:
        reasons.append("the gallery has moved to another model: restart with its package")
    return reasons
