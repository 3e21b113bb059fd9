"""What a handler promises of its units of work, and what it says of its database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, NoReturn, TypeVar

import anyio

from ...errors import ConfigError, ScriptFailed
from ...protocols import WorkOptions
from .saying import TRANSACTION, OwnError, ensure, put
from .world import World, raising

ConnT = TypeVar("ConnT")


class RunContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    async def test_run_commits_and_hands_back_what_the_work_returned(self) -> None:
        async with self.world() as world:

            async def work(conn: ConnT) -> str:
                await world.put(conn, "things", "a", "1")
                return "done"

            assert await world.handler.run(work, TRANSACTION) == "done"
            assert (await world.contents())["things"] == {"a": "1"}

    async def test_run_undoes_everything_when_the_work_raises_and_raises_the_same_error(self) -> None:
        async with self.world() as world:
            await put(world, "a", "1")
            before = await world.contents()
            error = OwnError("no")

            async def work(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "2")
                await world.put(conn, "others", "b", "3")
                await world.drop(conn, "things")
                raise error

            with raising(OwnError) as raised:
                await world.handler.run(work, TRANSACTION)
            assert raised.error is error
            assert await world.contents() == before

    async def test_a_handler_that_is_open_is_not_opened_again_and_goes_on(self) -> None:
        async with self.world() as world:
            with raising(ConfigError) as raised:
                async with world.handler:
                    raise AssertionError("it was opened a second time")
            assert "open already" in str(raised.error)
            await world.handler.check_connection()
            await put(world, "a", "1")
            assert (await world.contents())["things"] == {"a": "1"}

    async def test_nothing_of_a_unit_is_seen_before_its_end(self) -> None:
        async with self.world() as world:
            await put(world, "a", "1")
            before = await world.contents()

            async def work(conn: ConnT) -> None:
                await world.put(conn, "others", "b", "2")
                assert await world.contents() == before

            await world.handler.run(work, TRANSACTION)
            assert (await world.contents())["others"] == {"b": "2"}

    async def test_without_a_transaction_what_was_done_stays(self) -> None:
        async with self.world() as world:

            async def work(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "1")
                raise OwnError

            with raising(OwnError):
                await world.handler.run(work, WorkOptions(transaction=False))
            assert (await world.contents())["things"] == {"a": "1"}

    async def test_a_cancelled_unit_is_undone_and_the_handler_goes_on(self) -> None:
        async with self.world() as world:
            await put(world, "a", "1")
            before = await world.contents()

            async def work(conn: ConnT) -> None:
                await world.put(conn, "things", "a", "2")
                scope.cancel()
                await anyio.sleep(60)

            with anyio.CancelScope() as scope:
                await world.handler.run(work, TRANSACTION)
            assert scope.cancelled_caught
            assert await world.contents() == before
            await put(world, "a", "3")
            assert (await world.contents())["things"] == {"a": "3"}

    async def test_the_handler_goes_on_after_many_errors(self) -> None:
        async with self.world() as world:

            async def fail(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "1")
                raise OwnError

            for _ in range(20):
                with raising(OwnError):
                    await world.handler.run(fail, TRANSACTION)
            await put(world, "a", "2")
            assert (await world.contents())["things"] == {"a": "2"}

    async def test_what_is_transient_is_known_through_its_causes(self) -> None:
        async with self.world() as world:
            assert world.handler.is_transient(world.transient_error())
            wrapped = ScriptFailed("no")
            wrapped.__cause__ = world.transient_error()
            assert world.handler.is_transient(wrapped)
            assert not world.handler.is_transient(ScriptFailed("no"))
            assert not world.handler.is_transient(OwnError())

    async def test_it_says_which_database_it_is(self) -> None:
        async with self.world() as world, world.another() as other:
            await world.handler.check_connection()
            first = await world.handler.describe()
            assert first.empty
            assert first.name
            assert first.label == f"{first.name}@{first.host}"
            assert (await other.describe()).identity == first.identity
            await put(world, "a", "1")
            assert not (await world.handler.describe()).empty
            async with self.world() as elsewhere:
                assert (await elsewhere.handler.describe()).identity != first.identity

    async def test_a_database_with_a_history_is_not_empty(self) -> None:
        async with self.world() as world:
            await ensure(world)
            assert not (await world.handler.describe()).empty
