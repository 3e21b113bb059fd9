"""How several tasks share one queue of work, and what the caller sees when one of them fails: the plain error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio
from anyio.lowlevel import checkpoint_if_cancelled

T = TypeVar("T")


async def share(items: Iterable[T], work: Callable[[T], Awaitable[None]], *, workers: int) -> None:
    """Do `work` on every item, `workers` at a time, in the order of `items`; the first error stops it and is raised."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:  # one iterator for all, so that each item is taken once
            await work(item)

    async def run() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(workers):
                group.start_soon(worker)

    await plainly(run)


async def plainly(work: Callable[[], Awaitable[T]]) -> T:
    """Await `work`; of the errors that its task groups collected, the first one comes out, as it was raised.

    The others are what that one led to in tasks that were being stopped. A cancellation of the caller comes out as
    itself, even when tasks failed while they were being stopped for it.
    """
    task = asyncio.current_task()
    assert task is not None
    cancellations = task.cancelling()
    try:
        return await work()
    except BaseExceptionGroup as group:
        error = first_of(group)
    await checkpoint_if_cancelled()
    if task.cancelling() > cancellations:
        raise asyncio.CancelledError
    # Raised out here, because inside the `except` Python would add the group to it as its context.
    try:
        raise error
    finally:
        del error  # the traceback refers to this frame: no cycle that keeps buffers alive


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group and of the groups in it. Task groups collect in the order of time."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
