"""Cancelling at the k-th place where a coroutine waits for a thread or a backend: before it, or in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

import anyio.lowlevel
import anyio.to_thread
import pytest

Way = Literal["task", "scope"]
Moment = Literal["before", "during", "twice"]


class Interruption:
    """Counts the places that a run passes and cancels the run at one of them."""

    def __init__(self, cancel_at: int, way: Way, moment: Moment) -> None:
        self._cancel_at = cancel_at
        self._way = way
        self._moment = moment
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._scope = anyio.CancelScope()
        self.passed = 0

    async def run(self, work: Callable[[], Awaitable[object]]) -> bool:
        """Await `work`; True when it ended as cancelled, by the way that was asked for."""

        async def inside() -> None:
            with self._scope:
                await work()

        self._task = asyncio.create_task(inside())
        done, _ = await asyncio.wait([self._task], timeout=20)
        assert done, "the cancelled run did not end"
        if self._way == "task":
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            return self._task.cancelled()
        await self._task
        return self._scope.cancelled_caught

    def place(self) -> bool:
        """Pass a place; True when the run is to be cancelled while what stands there is under way."""
        self.passed += 1
        if self.passed - 1 != self._cancel_at:
            return False
        if self._moment == "before":
            self.cancel()
            return False
        return True

    def cancel(self) -> None:
        if self._way == "scope":
            self._scope.cancel()
        elif self._task is not None:
            self._task.cancel()

    def cancel_from_thread(self) -> None:
        self._loop.call_soon_threadsafe(self.cancel)
        if self._moment == "twice":
            self._loop.call_later(0.001, self.cancel)

    async def at(self, _point: str) -> None:
        """A hook for a backend."""
        if self.place():
            self.cancel()
        await anyio.lowlevel.checkpoint()

    def threaded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if not self.place():
            return function

        def cancelled_on_the_way(*args: Any) -> Any:
            self.cancel_from_thread()
            return function(*args)

        return cancelled_on_the_way


@contextlib.contextmanager
def watching(interruption: Interruption, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every hop to a thread a place: anyio's, and those of aiofiles through the loop's executor."""
    loop = asyncio.get_running_loop()
    run_sync, run_in_executor = anyio.to_thread.run_sync, loop.run_in_executor

    async def watched_sync(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return await run_sync(interruption.threaded(function), *args, **options)

    def watched_executor(executor: Any, function: Callable[..., Any], *args: Any) -> Any:
        return run_in_executor(executor, interruption.threaded(function), *args)

    with monkeypatch.context() as patch:
        patch.setattr(anyio.to_thread, "run_sync", watched_sync)
        patch.setattr(loop, "run_in_executor", watched_executor)
        yield
