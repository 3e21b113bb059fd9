"""Clean-up that comes to its end whatever happens to the task that asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio


async def to_its_end(step: Coroutine[Any, Any, None]) -> None:
    """Await a clean-up that has a deadline of its own; a cancellation meanwhile is raised when it is over.

    anyio's shield holds off the cancellation of anyio's own scopes, not a `Task.cancel()` by somebody else.
    """
    task = asyncio.ensure_future(step)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled
