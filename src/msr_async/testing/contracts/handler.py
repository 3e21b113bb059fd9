"""What a `DatabaseMigrationHandler`, its book and its lock promise."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Generic, NoReturn, TypeVar

import anyio

from ...errors import LockNotAcquired
from ...models import AppliedMigration, LockInfo
from ...protocols import Lock, TransactionConfig
from .world import World, raising

ConnT = TypeVar("ConnT")

_TRANSACTION = TransactionConfig()
_VERSION = 202601010001


class _OwnError(Exception):
    """An error that no handler knows."""


class HandlerContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    # -- run ---------------------------------------------------------------------------------------

    async def test_run_commits_and_hands_back_what_the_work_returned(self) -> None:
        async with self.world() as world:

            async def work(conn: ConnT) -> str:
                await world.put(conn, "things", "a", "1")
                return "done"

            assert await world.handler.run(work, transaction=_TRANSACTION) == "done"
            assert (await world.contents())["things"] == {"a": "1"}

    async def test_run_undoes_everything_when_the_work_raises_and_raises_the_same_error(self) -> None:
        async with self.world() as world:
            await self._put(world, "a", "1")
            before = await world.contents()
            error = _OwnError("no")

            async def work(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "2")
                await world.put(conn, "others", "b", "3")
                await world.drop(conn, "things")
                raise error

            with raising(_OwnError) as raised:
                await world.handler.run(work, transaction=_TRANSACTION)
            assert raised.error is error
            assert await world.contents() == before

    async def test_nothing_of_a_unit_is_seen_before_its_end(self) -> None:
        async with self.world() as world:
            await self._put(world, "a", "1")
            before = await world.contents()

            async def work(conn: ConnT) -> None:
                await world.put(conn, "others", "b", "2")
                assert await world.contents() == before

            await world.handler.run(work, transaction=_TRANSACTION)
            assert (await world.contents())["others"] == {"b": "2"}

    async def test_without_a_transaction_what_was_done_stays(self) -> None:
        async with self.world() as world:

            async def work(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "1")
                raise _OwnError

            with raising(_OwnError):
                await world.handler.run(work, transaction=None)
            assert (await world.contents())["things"] == {"a": "1"}

    async def test_a_cancelled_unit_is_undone_and_the_handler_goes_on(self) -> None:
        async with self.world() as world:
            await self._put(world, "a", "1")
            before = await world.contents()

            async def work(conn: ConnT) -> None:
                await world.put(conn, "things", "a", "2")
                scope.cancel()
                await anyio.sleep(60)

            with anyio.CancelScope() as scope:
                await world.handler.run(work, transaction=_TRANSACTION)
            assert scope.cancelled_caught
            assert await world.contents() == before
            await self._put(world, "a", "3")
            assert (await world.contents())["things"] == {"a": "3"}

    async def test_the_handler_goes_on_after_many_errors(self) -> None:
        async with self.world() as world:

            async def fail(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "1")
                raise _OwnError

            for _ in range(20):
                with raising(_OwnError):
                    await world.handler.run(fail, transaction=_TRANSACTION)
            await self._put(world, "a", "2")
            assert (await world.contents())["things"] == {"a": "2"}

    # -- the book ----------------------------------------------------------------------------------

    async def test_the_history_is_empty_before_there_is_a_book_and_reading_makes_none(self) -> None:
        async with self.world() as world:
            assert list(await world.handler.schema_version.applied()) == []
            assert await world.contents() == {}

    async def test_making_the_book_twice_is_fine_and_keeps_it(self) -> None:
        async with self.world() as world:
            book = world.handler.schema_version
            await book.ensure()
            await self._record(world, _entry())
            await book.ensure()
            assert list(await book.applied()) == [_entry()]

    async def test_what_was_recorded_is_read_back_by_everybody_in_the_order_of_versions(self) -> None:
        async with self.world() as world:
            await world.handler.schema_version.ensure()
            entries = [_entry(_VERSION + 2, "later'\"\\ \u00e9"), _entry(_VERSION), _entry(20260101000200)]
            for entry in entries:
                await self._record(world, entry)
            expected = sorted(entries, key=lambda entry: entry.version)
            assert list(await world.handler.schema_version.applied()) == expected
            async with world.another() as other:
                assert list(await other.schema_version.applied()) == expected

    async def test_a_record_is_one_unit_with_its_change(self) -> None:
        async with self.world() as world:
            book = world.handler.schema_version
            await book.ensure()
            before = await world.contents()

            async def work(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "1")
                await book.record(conn, _entry())
                raise _OwnError

            with raising(_OwnError):
                await world.handler.run(work, transaction=_TRANSACTION)
            assert list(await book.applied()) == []
            assert await world.contents() == before

    async def test_a_version_is_recorded_once(self) -> None:
        async with self.world() as world:
            await world.handler.schema_version.ensure()
            await self._record(world, _entry())
            with raising(Exception):
                await self._record(world, _entry(name="again"))
            assert list(await world.handler.schema_version.applied()) == [_entry()]

    async def test_forgetting_strikes_one_line_out_in_its_unit(self) -> None:
        async with self.world() as world:
            book = world.handler.schema_version
            await book.ensure()
            await self._record(world, _entry())
            await self._record(world, _entry(_VERSION + 1))

            async def undone(conn: ConnT) -> NoReturn:
                await book.forget(conn, _VERSION)
                raise _OwnError

            async def kept(conn: ConnT) -> None:
                await book.forget(conn, _VERSION + 1)

            with raising(_OwnError):
                await world.handler.run(undone, transaction=_TRANSACTION)
            await world.handler.run(kept, transaction=_TRANSACTION)
            assert list(await book.applied()) == [_entry()]

    # -- the lock ----------------------------------------------------------------------------------

    async def test_the_lock_excludes_others_and_names_its_holder(self) -> None:
        async with self.world() as world, world.another() as other:
            heard: list[tuple[LockInfo | None, float]] = []
            async with _lock(world.handler.lock).hold(timeout=5, waiting=_ignore):
                with raising(LockNotAcquired) as raised:
                    async with _lock(other.lock).hold(
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
                async with _lock(other.lock).hold(timeout=30, waiting=lambda holder, waited: waiting.set()):
                    order.append("other")

            waiting = anyio.Event()
            async with anyio.create_task_group() as group, _lock(world.handler.lock).hold(timeout=5, waiting=_ignore):
                group.start_soon(wait)
                await waiting.wait()
                order.append("first")
            assert order == ["first", "other"]

    async def test_the_lock_is_free_after_the_block_however_it_ended(self) -> None:
        async with self.world() as world, world.another() as other:
            lock = _lock(world.handler.lock)
            async with lock.hold(timeout=5, waiting=_ignore):
                pass
            with raising(_OwnError):
                async with lock.hold(timeout=5, waiting=_ignore):
                    raise _OwnError
            with anyio.CancelScope() as scope:
                async with lock.hold(timeout=5, waiting=_ignore):
                    scope.cancel()
                    await anyio.sleep(60)
            async with _lock(other.lock).hold(timeout=0, waiting=_ignore):
                pass
            assert await lock.status() is None

    async def test_giving_up_waiting_leaves_the_lock_with_its_holder(self) -> None:
        async with self.world() as world, world.another() as other:
            async with _lock(world.handler.lock).hold(timeout=5, waiting=_ignore):
                with anyio.CancelScope() as scope:
                    async with _lock(other.lock).hold(timeout=30, waiting=lambda holder, waited: scope.cancel()):
                        raise AssertionError("two held it")
                assert scope.cancelled_caught
                assert await _lock(other.lock).status() is not None
            async with _lock(other.lock).hold(timeout=0, waiting=_ignore):
                pass

    async def test_work_runs_under_the_lock(self) -> None:
        async with self.world() as world:
            async with _lock(world.handler.lock).hold(timeout=5, waiting=_ignore):
                await world.handler.schema_version.ensure()
                await self._put(world, "a", "1")
                await self._record(world, _entry())
            assert (await world.contents())["things"] == {"a": "1"}

    # -- the rest ----------------------------------------------------------------------------------

    async def test_it_says_which_database_it_is(self) -> None:
        async with self.world() as world, world.another() as other:
            await world.handler.check_connection()
            first = await world.handler.describe()
            assert first.empty
            assert first.name
            assert first.label == f"{first.name}@{first.host}"
            assert (await other.describe()).identity == first.identity
            await self._put(world, "a", "1")
            assert not (await world.handler.describe()).empty
            async with self.world() as elsewhere:
                assert (await elsewhere.handler.describe()).identity != first.identity

    async def test_a_database_with_a_history_is_not_empty(self) -> None:
        async with self.world() as world:
            await world.handler.schema_version.ensure()
            assert not (await world.handler.describe()).empty

    async def _put(self, world: World[ConnT], key: str, value: str) -> None:
        async def work(conn: ConnT) -> None:
            await world.put(conn, "things", key, value)

        await world.handler.run(work, transaction=_TRANSACTION)

    async def _record(self, world: World[ConnT], entry: AppliedMigration) -> None:
        async def work(conn: ConnT) -> None:
            await world.handler.schema_version.record(conn, entry)

        await world.handler.run(work, transaction=_TRANSACTION)


def _entry(version: int = _VERSION, name: str = "first") -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum="ab" * 32,
        applied_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        duration=0.25,
        applied_by="me@here",
    )


def _lock(lock: Lock | None) -> Lock:
    assert lock is not None, "this suite is for handlers that offer a lock"
    return lock


def _ignore(holder: LockInfo | None, waited: float) -> None:
    pass
