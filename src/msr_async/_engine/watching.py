"""How far has a long statement come? Asked about once a second while a unit of work runs, and told when it is news."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio

from ..events import Observer, StatementProgress
from ..models import Migration
from ..protocols import DatabaseMigrationHandler, Progress
from ..shielding import to_its_end

ConnT = TypeVar("ConnT")
EVERY = 1.0
"""Seconds before the first question, and between two."""
_END_DEADLINE = 5.0

_log = logging.getLogger("msr_async")


@asynccontextmanager
async def watched(
    handler: DatabaseMigrationHandler[ConnT], current: Callable[[], Migration], emit: Observer, *, every: float = EVERY
) -> AsyncIterator[None]:
    """Inside the block, statements that take long tell how far they are. A question that fails is logged, no more.

    A timer, and a task only when it fires: a thousand small migrations should not pay for a thousand tasks.

    Args:
        current: the migration that is running.
        every: seconds.
    """
    loop = asyncio.get_running_loop()
    watching: asyncio.Task[None] | None = None

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(_watch(handler, current, emit, every))

    timer = loop.call_later(every, begin)
    try:
        yield
    finally:
        timer.cancel()
        if watching is not None:
            watching.cancel()
            await to_its_end(_ended(watching))


async def _watch(
    handler: DatabaseMigrationHandler[ConnT], current: Callable[[], Migration], emit: Observer, every: float
) -> None:
    last: Progress | None = None
    while True:
        try:
            progress = await handler.progress()
        except Exception:
            _log.warning("How far the statement has come cannot be told.", exc_info=True)
            return
        if progress is not None and progress != last:
            last = progress
            phase, done, total = progress.phase, progress.done, progress.total
            emit(StatementProgress(migration=current(), phase=phase, done=done, total=total))
        await anyio.sleep(every)


async def _ended(task: asyncio.Task[None]) -> None:
    with anyio.move_on_after(_END_DEADLINE):
        await asyncio.wait({task})
