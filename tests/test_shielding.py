"""Work that is not to be cut half-way, whoever wants to."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest

from msr_async.shielding import in_thread, patiently, to_its_end, undisturbed, within


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


@pytest.mark.parametrize("shielded", [undisturbed, to_its_end], ids=lambda shielded: shielded.__name__)
@pytest.mark.parametrize("kind", [ValueError, TimeoutError, asyncio.CancelledError])
async def test_a_cancellation_is_not_lost_where_the_work_fails(
    shielded: Callable[[Coroutine[Any, Any, str]], Awaitable[object]], kind: type[BaseException]
) -> None:
    async def fail() -> str:
        await anyio.sleep(0.05)
        raise kind("no")

    async def run() -> None:
        with contextlib.suppress(Exception):  # as one that tries again, or cleans up as well as it can
            await shielded(fail())
        reached.append("behind it")

    reached: list[str] = []
    task = asyncio.ensure_future(run())
    await anyio.sleep(0.01)
    task.cancel("somebody's")
    with pytest.raises(asyncio.CancelledError, match="somebody's") as caught:
        await task
    assert reached == []
    assert isinstance(caught.value.__cause__, kind)
    assert str(caught.value.__cause__) == "no"


async def test_a_time_limit_is_told_where_the_work_fails_after_it() -> None:
    async def fail() -> None:
        await anyio.sleep(0.05)
        raise ValueError("no")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await to_its_end(fail())


async def test_work_without_a_deadline_is_waited_for_when_its_task_is_cancelled_and_then_again() -> None:
    done: list[str] = []
    assert await patiently(0.001, work(done)) == "answer"  # nobody cancels it: it may take its time
    task = asyncio.ensure_future(patiently(5, work(done)))
    for _ in range(2):
        await anyio.sleep(0.01)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["done", "done"]


async def test_a_cancelled_scope_is_told_as_soon_as_work_without_a_deadline_is_over() -> None:
    done: list[str] = []
    with anyio.move_on_after(0.01) as scope:
        await patiently(5, work(done))
        done.append("behind it")
    assert scope.cancelled_caught
    assert done == ["done"]


async def test_work_without_a_deadline_is_done_in_a_scope_that_is_cancelled_already() -> None:
    done: list[str] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await patiently(5, work(done))
    assert scope.cancelled_caught
    assert done == ["done"]


@pytest.mark.parametrize("how", ["the task", "a scope"])
async def test_work_that_goes_on_for_too_long_after_a_cancellation_is_cut(how: str) -> None:
    ended: list[str] = []

    async def never() -> None:
        try:
            await anyio.sleep(60)
        finally:
            ended.append("cut")

    async def run() -> None:
        with scope:
            await patiently(0.05, never())

    scope = anyio.CancelScope()
    task = asyncio.ensure_future(run())
    await anyio.sleep(0.01)
    {"the task": task.cancel, "a scope": scope.cancel}[how]()
    await anyio.sleep(0.02)
    assert ended == []
    with anyio.fail_after(5):
        await asyncio.wait({task})
    assert ended == ["cut"]
    assert (task.cancelled(), scope.cancelled_caught) == (how == "the task", how == "a scope")


async def test_an_error_of_work_without_a_deadline_comes_out_and_a_cancellation_comes_first() -> None:
    async def fail() -> None:
        await anyio.sleep(0.05)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await patiently(5, fail())
    task = asyncio.ensure_future(patiently(5, fail()))
    await anyio.sleep(0.01)
    task.cancel("somebody's")
    with pytest.raises(asyncio.CancelledError, match="somebody's") as caught:
        await task
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_cancelled_scope_lets_work_with_a_deadline_end() -> None:
    done: list[str] = []
    with anyio.move_on_after(0.01) as scope:
        assert await within(5, lambda: work(done))
        await anyio.sleep(60)
    assert scope.cancelled_caught
    assert done == ["done"]


async def test_work_that_takes_too_long_is_left() -> None:
    assert not await within(0.01, lambda: anyio.sleep(60))


async def test_a_timeout_of_the_work_itself_comes_out() -> None:
    async def fail() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await within(5, fail)


async def test_a_thread_answers_and_is_not_this_one() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()


async def test_a_cancelled_scope_waits_for_the_thread() -> None:
    done: list[str] = []

    def slowly() -> None:
        time.sleep(0.05)
        done.append("done")

    with anyio.move_on_after(0.01) as scope:
        await in_thread(slowly)
        await anyio.sleep(60)
    assert scope.cancelled_caught
    assert done == ["done"]


_WITHOUT_ANYIO = """
import asyncio, sys, threading
from msr_async.shielding import in_thread, to_its_end, within

async def work(done):
    await asyncio.sleep(0.05)
    done.append("done")

async def fail():
    raise TimeoutError("mine")

async def main():
    done = []
    assert await within(5, lambda: work(done)) and done == ["done"]
    assert not await within(0.01, lambda: asyncio.sleep(60))
    try:
        await within(5, fail)
    except TimeoutError as error:
        assert str(error) == "mine"
    else:
        raise AssertionError("the work's own error was swallowed")
    assert await in_thread(threading.get_ident) != threading.get_ident()
    for shielded in (to_its_end, lambda coroutine: within(5, lambda: to_its_end(coroutine))):
        done = []
        task = asyncio.ensure_future(shielded(work(done)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() and done == ["done"]
    task = asyncio.ensure_future(within(5, lambda: asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert "anyio" not in sys.modules

asyncio.run(main())
"""


def test_where_nobody_has_loaded_anyio_all_of_it_works_without() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_ANYIO], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


_LOADED_MEANWHILE = """
import asyncio
from msr_async.shielding import within

async def main():
    done = []

    async def work():
        import anyio
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(60)
        await asyncio.sleep(0.01)
        done.append(scope.cancelled_caught)

    assert await within(5, work)
    import anyio
    with anyio.move_on_after(0.01) as scope:
        assert await within(5, work)
        await anyio.sleep(60)
    assert scope.cancelled_caught and done == [True, True]

asyncio.run(main())
"""


def test_anyio_may_be_loaded_while_it_waits() -> None:
    done = subprocess.run([sys.executable, "-c", _LOADED_MEANWHILE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
