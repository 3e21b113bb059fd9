"""The migration lock of a database in memory."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import anyio
import anyio.lowlevel

from ..errors import ConnectionLost, LockNotAcquired
from ..models import LockInfo
from .memory_data import MemoryDatabase


class MemoryLock:
    """Excludes all handlers of one `MemoryDatabase`. Asked for again and again: an event would belong to one loop."""

    def __init__(self, database: MemoryDatabase, name: str) -> None:
        self._database = database
        self._name = name
        self._held: LockInfo | None = None

    @asynccontextmanager
    async def hold(self, *, timeout: float, waiting: Callable[[LockInfo | None, float], None]) -> AsyncIterator[None]:
        started = time.monotonic()
        pause = 0.005
        await anyio.lowlevel.checkpoint()
        while (holder := self._database.holder) is not None:
            waited = time.monotonic() - started
            if waited >= timeout:
                raise LockNotAcquired(holder, waited)
            waiting(holder, waited)
            await anyio.sleep(min(pause, timeout - waited))
            pause = min(2 * pause, 0.1)
        self._database.holder = self._held = LockInfo(holder=self._name, pid=os.getpid(), since=datetime.now(UTC))
        try:
            yield
        finally:
            if self._database.holder is self._held:
                self._database.holder = None
            self._held = None

    async def status(self) -> LockInfo | None:
        await anyio.lowlevel.checkpoint()
        return self._database.holder

    async def check(self) -> None:
        await anyio.lowlevel.checkpoint()
        if self._held is not None and self._database.holder is not self._held:
            raise ConnectionLost("The migration lock was lost.", hint="Look who released it, then run again.")

    async def release(self) -> LockInfo | None:
        await anyio.lowlevel.checkpoint()
        holder, self._database.holder = self._database.holder, None
        return holder
