"""Whether a restore may still write: its mark and its lock, looked at again every few seconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio

EVERY = 10.0
"""Seconds that a look holds good: a third of the lock's lease, so that whoever was suspended looks before he writes."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""It goes on while the machine sleeps, as Linux's monotonic clock does not."""


def _now() -> float:
    return time.clock_gettime(_CLOCK)


class Watch:
    """One look for all that write at the same time.

    Args:
        look: raises when the restore must not go on.
        every: seconds; None: a third of the usual lease.
    """

    def __init__(
        self, look: Callable[[], Awaitable[None]], *, every: float | None = None, clock: Callable[[], float] = _now
    ) -> None:
        self._look = look
        self._every = EVERY if every is None else every
        self._clock = clock
        self._seen = clock()
        self._looking = anyio.Lock()

    async def look(self) -> None:
        """Look now."""
        begun = self._clock()
        await self._look()
        self._seen = begun

    async def sure(self) -> None:
        """Look if the last look is too long ago; who comes meanwhile waits for that one."""
        if self._fresh():
            return
        async with self._looking:
            if not self._fresh():
                await self.look()

    def _fresh(self) -> bool:
        return self._clock() - self._seen < self._every
