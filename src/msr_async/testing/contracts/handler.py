"""What a `DatabaseMigrationHandler` promises, its book and its lock included."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, NoReturn, TypeVar

import anyio
from msgspec.structs import replace

from ...errors import ScriptFailed
from ...models import Directives
from ...protocols import WorkOptions
from .book import BookContract
from .lock import LockContract
from .saying import TRANSACTION, OwnError, ensure, put, script
from .world import World, raising

ConnT = TypeVar("ConnT")


class HandlerContract(BookContract[ConnT], LockContract[ConnT], Generic[ConnT]):
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

    # -- scripts of the database's own language ----------------------------------------------------

    async def test_a_script_runs_on_the_connection_that_it_is_given(self) -> None:
        async with self.world() as world:
            await put(world, "a", "1")
            before = await world.contents()
            text = script(world.put_text("things", "a", "2"), world.put_text("others", "b", "3"))

            async def work(conn: ConnT) -> NoReturn:
                await world.handler.execute(conn, text)
                raise OwnError

            with raising(OwnError):
                await world.handler.run(work, TRANSACTION)
            assert await world.contents() == before

    async def test_an_error_in_a_script_names_the_line(self) -> None:
        async with self.world() as world:
            bad = script(world.put_text("things", "a", "1"), world.drop_text("nowhere"))
            with raising(ScriptFailed) as raised:
                await world.handler.run(lambda conn: world.handler.execute(conn, bad), TRANSACTION)
            assert isinstance(raised.error, ScriptFailed)
            assert (raised.error.path, raised.error.line) == (bad.path, 2)

    async def test_a_script_outside_of_a_transaction_goes_on_where_it_failed(self) -> None:
        async with self.world() as world:
            await ensure(world)
            text = script(
                world.put_text("things", "a", "1"), world.drop_text("obstacle"), world.put_text("things", "b", "2")
            )
            outside = replace(text, directives=Directives(transaction=False))

            async def work(conn: ConnT) -> None:
                await world.handler.execute(conn, outside, resume="statements:1")

            with raising(ScriptFailed):
                await world.handler.run(work, WorkOptions(transaction=False))
            assert (await world.contents())["things"] == {"a": "1"}
            assert await world.handler.schema_version.note("statements:1") is not None
            await put(world, "a", "changed meanwhile")
            await _make(world, "obstacle")
            await world.handler.run(work, WorkOptions(transaction=False))
            contents = await world.contents()
            assert contents["things"] == {"a": "changed meanwhile", "b": "2"}
            assert "obstacle" not in contents

    async def test_a_script_that_asks_for_it_is_outside(self) -> None:
        async with self.world() as world:
            text = script(world.put_text("things", "a", "1"))
            assert not world.handler.outside(text)
            assert world.handler.outside(replace(text, directives=Directives(transaction=False)))

    async def test_what_is_transient_is_known_through_its_causes(self) -> None:
        async with self.world() as world:
            assert world.handler.is_transient(world.transient_error())
            wrapped = ScriptFailed("no")
            wrapped.__cause__ = world.transient_error()
            assert world.handler.is_transient(wrapped)
            assert not world.handler.is_transient(ScriptFailed("no"))
            assert not world.handler.is_transient(OwnError())

    # -- the rest ----------------------------------------------------------------------------------

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

    async def test_the_schema_is_told_by_object_without_the_book(self) -> None:
        async with self.world() as world:
            await ensure(world)
            empty = await world.handler.catalog()
            assert empty is not None, "this suite is for handlers with a schema"
            await put(world, "a", "1")
            one = await world.handler.catalog()
            await put(world, "a", "2")
            assert one == await world.handler.catalog() != empty
            assert one is not None
            assert any("things" in name for name in one.keys() - empty.keys())
            assert not any("schema_version" in name for name in one)

    async def test_reviewing_and_inspecting_write_nothing(self) -> None:
        async with self.world() as world:
            text = script(world.put_text("things", "a", "1"))
            assert list(world.handler.inspect(text)) == []
            await world.handler.review([text])
            assert await world.contents() == {}


async def _make(world: World[ConnT], table: str) -> None:
    async def work(conn: ConnT) -> None:
        await world.put(conn, table, "a", "1")

    await world.handler.run(work, TRANSACTION)
