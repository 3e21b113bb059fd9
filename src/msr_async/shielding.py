"""Work that comes to its end whatever happens to the task that asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def undisturbed(work: Coroutine[Any, Any, T]) -> tuple[T, asyncio.CancelledError | None]:
    """Await work that has a deadline of its own.

    anyio's shield keeps out the cancellation of anyio's own scopes only; `asyncio.timeout`, `asyncio.run` after Ctrl-C
    and web servers cancel the task itself. So the work is a task of its own, and the waiter remembers being cancelled.

    Returns:
        The work's answer, and the cancellation that came meanwhile, for the caller to raise.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    return task.result(), cancelled


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The same, where a cancellation meanwhile is raised as soon as the work is over."""
    answer, cancelled = await undisturbed(work)
    if cancelled is not None:
        raise cancelled
    return answer
