"""What the book of what was applied promises."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, NoReturn, TypeVar

from msgspec.structs import replace

from .saying import TRANSACTION, VERSION, OwnError, ensure, entry, history, record
from .world import World, raising

ConnT = TypeVar("ConnT")

_NOTES: tuple[Any, ...] = (
    {"cursor": ["a", 1, None], "number": 3},
    "text with 'quotes' and \\ and \u00e9",
    0,
    [],
    {},
    False,
)


class BookContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    # -- the history -------------------------------------------------------------------------------

    async def test_the_history_is_empty_before_there_is_a_book_and_reading_makes_none(self) -> None:
        async with self.world() as world:
            assert await history(world) == []
            assert await world.handler.schema_version.note("anything") is None
            assert await world.contents() == {}

    async def test_making_the_book_twice_is_fine_and_keeps_it(self) -> None:
        async with self.world() as world:
            await ensure(world)
            await record(world, entry())
            await ensure(world)
            assert await history(world) == [entry()]

    async def test_a_book_made_in_a_unit_that_failed_is_not_there(self) -> None:
        async with self.world() as world:

            async def work(conn: ConnT) -> NoReturn:
                await world.handler.schema_version.ensure(conn)
                await world.handler.schema_version.record(conn, entry())
                raise OwnError

            with raising(OwnError):
                await world.handler.run(work, TRANSACTION)
            assert await world.contents() == {}

    async def test_what_was_recorded_is_read_back_by_everybody_in_the_order_of_versions(self) -> None:
        async with self.world() as world:
            await ensure(world)
            first = entry(run="3f", fingerprint="ab12")
            later = entry(VERSION + 2, "later'\"\\ \u00e9", baseline=True)
            longer = entry(20260101000200)
            views, others = entry(None, "views"), entry(None, "others")
            for line in (views, later, first, others, longer):
                await record(world, line)
            expected = [first, later, longer, others, views]
            assert await history(world) == expected
            async with world.another() as other:
                assert list(await other.schema_version.applied()) == expected

    async def test_a_record_is_one_unit_with_its_change(self) -> None:
        async with self.world() as world:
            await ensure(world)
            before = await world.contents()

            async def work(conn: ConnT) -> NoReturn:
                await world.put(conn, "things", "a", "1")
                await world.handler.schema_version.record(conn, entry())
                raise OwnError

            with raising(OwnError):
                await world.handler.run(work, TRANSACTION)
            assert await history(world) == []
            assert await world.contents() == before

    async def test_a_migration_is_recorded_once(self) -> None:
        async with self.world() as world:
            await ensure(world)
            for line in (entry(), entry(None, "views")):
                await record(world, line)
                with raising(Exception):
                    await record(world, replace(line, checksum="cd" * 32))
            assert await history(world) == [entry(), entry(None, "views")]

    async def test_a_line_gives_way_to_one_that_replaces_it(self) -> None:
        async with self.world() as world:
            await ensure(world)
            await record(world, entry(None, "views"), replace=True)
            await record(world, entry())
            await record(world, entry(None, "views", checksum="cd" * 32), replace=True)
            assert await history(world) == [entry(), entry(None, "views", checksum="cd" * 32)]

    async def test_forgetting_strikes_one_line_out_in_its_unit(self) -> None:
        async with self.world() as world:
            book = world.handler.schema_version
            await ensure(world)
            for line in (entry(), entry(VERSION + 1), entry(None, "views")):
                await record(world, line)

            async def undone(conn: ConnT) -> NoReturn:
                await book.forget(conn, entry().id)
                raise OwnError

            async def kept(conn: ConnT) -> None:
                await book.forget(conn, entry(VERSION + 1).id)
                await book.forget(conn, "R__views")

            with raising(OwnError):
                await world.handler.run(undone, TRANSACTION)
            await world.handler.run(kept, TRANSACTION)
            assert await history(world) == [entry()]

    # -- notes -------------------------------------------------------------------------------------

    async def test_a_note_is_read_back_as_it_was_written(self) -> None:
        async with self.world() as world:
            await ensure(world)
            for number, value in enumerate(_NOTES):
                await _note(world, f"key:{number}", value)
            found = [await world.handler.schema_version.note(f"key:{number}") for number in range(len(_NOTES))]
            assert found == list(_NOTES)
            async with world.another() as other:
                assert await other.schema_version.note("key:0") == _NOTES[0]

    async def test_a_note_is_written_over_and_struck_out(self) -> None:
        async with self.world() as world:
            book = world.handler.schema_version
            await ensure(world)
            await _note(world, "batches:1", {"number": 1})
            await _note(world, "batches:1", {"number": 2})
            assert await book.note("batches:1") == {"number": 2}
            await _note(world, "batches:1", None)
            await _note(world, "batches:1", None)
            assert await book.note("batches:1") is None

    async def test_a_note_is_lost_with_its_unit_and_so_is_its_striking_out(self) -> None:
        async with self.world() as world:
            book = world.handler.schema_version
            await ensure(world)
            await _note(world, "kept", 1)

            async def work(conn: ConnT) -> NoReturn:
                await book.keep_note(conn, "lost", 2)
                await book.keep_note(conn, "kept", None)
                raise OwnError

            with raising(OwnError):
                await world.handler.run(work, TRANSACTION)
            assert (await book.note("lost"), await book.note("kept")) == (None, 1)


async def _note(world: World[ConnT], key: str, value: Any) -> None:
    async def work(conn: ConnT) -> None:
        await world.handler.schema_version.keep_note(conn, key, value)

    await world.handler.run(work, TRANSACTION)
