"""Tasks that share work, and the one plain error that comes out of them."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from msr_async._engine.sharing import plainly, share
from msr_async.errors import BackupFailed


async def test_each_item_is_done_once_and_at_most_so_many_at_a_time() -> None:
    running = most = 0
    done: list[int] = []

    async def work(item: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.001)
        running -= 1
        done.append(item)

    await share(range(20), work, workers=3)
    assert sorted(done) == list(range(20))
    assert most == 3


async def test_the_first_error_comes_out_as_it_was_raised() -> None:
    async def work(item: int) -> None:
        await anyio.sleep(0.001 * item)
        raise BackupFailed(f"number {item}") from KeyError("cause")

    with pytest.raises(BackupFailed, match="number 1") as caught:
        await share([3, 1, 2], work, workers=3)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__context__ is None  # not the group that it travelled in


async def test_errors_of_tasks_that_were_being_stopped_do_not_hide_the_first() -> None:
    async def work(item: int) -> None:
        if item == 0:
            await anyio.sleep(0.001)
            raise BackupFailed("the first")
        try:
            await anyio.sleep(10)
        finally:
            raise OSError("could not close")

    with pytest.raises(BackupFailed, match="the first"):
        await share([0, 1, 2], work, workers=3)


async def fails_when_stopped(_item: int) -> None:
    try:
        await anyio.sleep(10)
    finally:
        raise OSError("could not close")


async def test_a_cancelled_task_raises_the_cancellation_whatever_its_workers_raise() -> None:
    task = asyncio.create_task(share([1, 2], fails_when_stopped, workers=2))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_a_cancelled_scope_ends_as_cancelled_whatever_its_workers_raise() -> None:
    with anyio.move_on_after(0.01) as scope:
        await share([1, 2], fails_when_stopped, workers=2)
    assert scope.cancelled_caught


async def test_an_error_after_an_earlier_cancellation_that_was_handled_stays_an_error() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)

    async def fail(_item: int) -> None:
        raise BackupFailed("plain")

    try:
        with pytest.raises(BackupFailed, match="plain"):
            await share([1], fail, workers=1)
    finally:
        task.uncancel()


async def test_a_result_comes_through() -> None:
    async def work() -> int:
        return 7

    assert await plainly(work) == 7
