"""Work that comes to its end whatever happens to the task that asked for it.

anyio's backend takes longer to import than a run with nothing to do needs otherwise (20 ms). Before somebody has loaded
it no task can be inside a scope of anyio's, so that there is nothing to shield from: until then asyncio does the same.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

T = TypeVar("T")
_BACKEND = "anyio._backends._asyncio"


async def undisturbed(
    work: Coroutine[Any, Any, T] | asyncio.Task[T],
) -> tuple[T, asyncio.CancelledError | None]:
    """Await work that has a deadline of its own.

    anyio's shield keeps out the cancellation of anyio's own scopes only; `asyncio.timeout`, `asyncio.run` after Ctrl-C
    and web servers cancel the task itself. So the work is a task of its own, and the waiter remembers being cancelled.

    Returns:
        The work's answer, and the cancellation that came meanwhile, for the caller to raise.

    Raises:
        CancelledError: that cancellation, where the work failed: its error is the cause.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with _shield():
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    try:
        return task.result(), cancelled
    except BaseException as error:
        if cancelled is None:
            raise
        raise cancelled from error


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """The same, where a cancellation meanwhile is raised as soon as the work is over."""
    answer, cancelled = await undisturbed(work)
    if cancelled is not None:
        raise cancelled
    return answer


async def patiently(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The same for work without a deadline: a cancellation, a scope's too, leaves it so many seconds at most."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError as cancelled:
        end = asyncio.get_running_loop().call_later(seconds, task.cancel)
        try:
            await undisturbed(task)
        except BaseException as error:
            raise cancelled from error
        finally:
            end.cancel()
        raise
    return task.result()


async def within(seconds: float, work: Callable[[], Awaitable[object]]) -> bool:
    """Await work that no scope of anyio's may cancel, for so long at most; whether it came to its end."""
    if not _scopes_there():
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                await work()
        except TimeoutError:
            if not limit.expired():
                raise
        return not limit.expired()
    from anyio import move_on_after

    with move_on_after(seconds, shield=True) as scope:
        await work()
    return not scope.cancelled_caught


async def in_thread(work: Callable[[], T]) -> T:
    """What a function says that blocks; a worker thread runs it."""
    if not _scopes_there():
        return await asyncio.to_thread(work)
    from anyio import to_thread

    return await to_thread.run_sync(work)


def _shield() -> AbstractContextManager[object]:
    if not _scopes_there():
        return nullcontext()
    from anyio import CancelScope

    return CancelScope(shield=True)


def _scopes_there() -> bool:
    """Whether some task may be inside a scope of anyio's."""
    return _BACKEND in sys.modules
