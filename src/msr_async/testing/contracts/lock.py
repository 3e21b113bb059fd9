"""What a `Lock` promises."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import anyio

from ...errors import ConnectionLost, LockNotAcquired
from ...models import LockInfo
from .saying import TRANSACTION, OwnError, ensure, entry, ignore, offered, put, record
from .world import World, raising

ConnT = TypeVar("ConnT")


class LockContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    async def test_the_lock_excludes_others_and_names_its_holder(self) -> None:
        async with self.world() as world, world.another() as other:
            heard: list[tuple[LockInfo | None, float]] = []
            async with offered(world.handler.lock).hold(timeout=5, waiting=ignore):
                with raising(LockNotAcquired) as raised:
                    async with offered(other.lock).hold(
                        timeout=0.3, waiting=lambda holder, waited: heard.append((holder, waited))
                    ):
                        raise AssertionError("two held it")
            assert isinstance(raised.error, LockNotAcquired)
            assert raised.error.holder is not None
            assert raised.error.holder.holder
            assert raised.error.waited >= 0.25
            assert heard
            assert [waited for _, waited in heard] == sorted(waited for _, waited in heard)

    async def test_whoever_waits_gets_the_lock_when_it_is_free(self) -> None:
        async with self.world() as world, world.another() as other:
            order: list[str] = []

            async def wait() -> None:
                async with offered(other.lock).hold(timeout=30, waiting=lambda holder, waited: waiting.set()):
                    order.append("other")

            waiting = anyio.Event()
            async with anyio.create_task_group() as group, offered(world.handler.lock).hold(timeout=5, waiting=ignore):
                group.start_soon(wait)
                await waiting.wait()
                order.append("first")
            assert order == ["first", "other"]

    async def test_the_lock_is_free_after_the_block_however_it_ended(self) -> None:
        async with self.world() as world, world.another() as other:
            lock = offered(world.handler.lock)
            async with lock.hold(timeout=5, waiting=ignore):
                pass
            with raising(OwnError):
                async with lock.hold(timeout=5, waiting=ignore):
                    raise OwnError
            with anyio.CancelScope() as scope:
                async with lock.hold(timeout=5, waiting=ignore):
                    scope.cancel()
                    await anyio.sleep(60)
            async with offered(other.lock).hold(timeout=0, waiting=ignore):
                pass
            assert await lock.status() is None

    async def test_giving_up_waiting_leaves_the_lock_with_its_holder(self) -> None:
        async with self.world() as world, world.another() as other:
            async with offered(world.handler.lock).hold(timeout=5, waiting=ignore):
                with anyio.CancelScope() as scope:
                    async with offered(other.lock).hold(timeout=30, waiting=lambda holder, waited: scope.cancel()):
                        raise AssertionError("two held it")
                assert scope.cancelled_caught
                assert await offered(other.lock).status() is not None
            async with offered(other.lock).hold(timeout=0, waiting=ignore):
                pass

    async def test_work_runs_under_the_lock(self) -> None:
        async with self.world() as world:
            async with offered(world.handler.lock).hold(timeout=5, waiting=ignore):
                await ensure(world)
                await put(world, "a", "1")
                await record(world, entry())
            assert (await world.contents())["things"] == {"a": "1"}

    async def test_checking_a_lock_that_is_held_says_nothing(self) -> None:
        async with self.world() as world:
            lock = offered(world.handler.lock)
            async with lock.hold(timeout=5, waiting=ignore):
                await lock.check()
                await put(world, "a", "1")
                await lock.check()

    async def test_releasing_ends_the_holder_and_says_who_it_was(self) -> None:
        async with self.world() as world, world.another() as other:
            lock, released = offered(world.handler.lock), None
            with raising(ConnectionLost):
                async with lock.hold(timeout=5, waiting=ignore):
                    released = await offered(other.lock).release()
                    with anyio.fail_after(10):
                        while True:  # the news may have to come over a network
                            await lock.check()
                            await anyio.sleep(0.01)
            assert released is not None
            assert released.holder
            async with offered(other.lock).hold(timeout=5, waiting=ignore):
                pass

    async def test_releasing_what_nobody_holds_does_nothing(self) -> None:
        async with self.world() as world:
            assert await offered(world.handler.lock).release() is None

    async def test_work_under_a_lock_that_was_released_is_undone(self) -> None:
        async with self.world() as world, world.another() as other:
            await put(world, "a", "1")
            before = await world.contents()

            async def work(conn: ConnT) -> None:
                await world.put(conn, "things", "a", "2")
                await offered(other.lock).release()
                await world.put(conn, "things", "b", "3")

            with raising(Exception):
                async with offered(world.handler.lock).hold(timeout=5, waiting=ignore):
                    await world.handler.run(work, TRANSACTION)
            assert await world.contents() == before
