"""Work that is not to be cut half-way, whoever wants to."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from msr_async.shielding import to_its_end, undisturbed


async def work(done: list[str]) -> str:
    await anyio.sleep(0.05)
    done.append("done")
    return "answer"


async def test_the_answer_comes_back() -> None:
    done: list[str] = []
    assert await undisturbed(work(done)) == ("answer", None)
    assert await to_its_end(work(done)) == "answer"


async def test_a_task_that_is_cancelled_twice_still_waits_and_is_told() -> None:
    done: list[str] = []
    task = asyncio.ensure_future(undisturbed(work(done)))
    for _ in range(2):
        await anyio.sleep(0.01)
        task.cancel()
    answer, cancelled = await task
    assert (answer, done) == ("answer", ["done"])
    assert isinstance(cancelled, asyncio.CancelledError)


async def test_to_its_end_raises_the_cancellation_afterwards() -> None:
    done: list[str] = []
    task = asyncio.ensure_future(to_its_end(work(done)))
    await anyio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["done"]


async def test_a_cancelled_scope_waits_too() -> None:
    done: list[str] = []
    with anyio.move_on_after(0.01) as scope:
        await to_its_end(work(done))
        await anyio.sleep(60)
    assert scope.cancelled_caught
    assert done == ["done"]


async def test_an_error_comes_out_as_it_is() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await to_its_end(fail())
