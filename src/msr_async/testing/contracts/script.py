"""What a handler promises of scripts in the database's own language, alone and together with their line in the book."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, NoReturn, TypeVar

from msgspec.structs import replace

from ...errors import ScriptFailed
from ...models import AppliedMigration, Direction, Directives, Script
from ...protocols import Change, WorkOptions
from .saying import TRANSACTION, VERSION, OwnError, ensure, entry, history, put, record, script
from .world import World, raising

ConnT = TypeVar("ConnT")


class ScriptContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

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

    async def test_reviewing_and_inspecting_write_nothing(self) -> None:
        async with self.world() as world:
            text = script(world.put_text("things", "a", "1"))
            assert list(world.handler.inspect(text)) == []
            await world.handler.review([text])
            assert await world.contents() == {}

    # -- a script with its line --------------------------------------------------------------------

    async def test_a_script_and_its_line_are_applied_as_one(self) -> None:
        async with self.world() as world:
            await ensure(world)
            started = datetime.now(UTC) - timedelta(minutes=1)
            planned = entry(run="3f")
            text = script(world.put_text("things", "a", "1"), world.put_text("things", "b", "2"))
            await apply(world, text, planned, "up", TRANSACTION)
            assert (await world.contents())["things"] == {"a": "1", "b": "2"}
            (line,) = await history(world)
            assert line == replace(planned, applied_at=line.applied_at, duration=line.duration)
            assert started < line.applied_at < datetime.now(UTC) + timedelta(minutes=1)
            assert line.duration >= 0

    async def test_a_script_and_its_line_are_undone_as_one(self) -> None:
        async with self.world() as world:
            await ensure(world)
            await record(world, entry(VERSION + 1))
            await apply(world, script(world.put_text("things", "a", "1")), entry(), "up", TRANSACTION)
            await apply(world, script(world.drop_text("things")), entry(), "down", TRANSACTION)
            assert "things" not in await world.contents()
            assert await history(world) == [entry(VERSION + 1)]

    async def test_a_script_that_fails_leaves_neither_its_change_nor_its_line_nor_strikes_one_out(self) -> None:
        async with self.world() as world:
            await ensure(world)
            await record(world, entry(VERSION + 1))
            before = await world.contents()
            bad = script(world.put_text("things", "a", "1"), "", world.drop_text("nowhere"))
            runs: list[tuple[AppliedMigration, Direction]] = [(entry(), "up"), (entry(VERSION + 1), "down")]
            for line, direction in runs:
                with raising(ScriptFailed) as raised:
                    await apply(world, bad, line, direction, TRANSACTION)
                assert isinstance(raised.error, ScriptFailed)
                assert (raised.error.path, raised.error.line) == (bad.path, 3)
            assert await world.contents() == before
            assert await history(world) == [entry(VERSION + 1)]

    async def test_a_script_that_is_recorded_already_is_not_applied(self) -> None:
        async with self.world() as world:
            await ensure(world)
            await record(world, entry())
            before = await world.contents()
            with raising(Exception):
                await apply(world, script(world.put_text("things", "a", "1")), entry(), "up", TRANSACTION)
            assert await world.contents() == before

    async def test_a_repeatable_script_is_applied_again_and_keeps_one_line(self) -> None:
        async with self.world() as world:
            await ensure(world)
            for value in ("1", "2"):
                planned = entry(None, "views", checksum=value * 64)
                await apply(world, script(world.put_text("things", "a", value)), planned, "up", TRANSACTION)
            assert (await world.contents())["things"] == {"a": "2"}
            assert [(line.id, line.checksum) for line in await history(world)] == [("R__views", "2" * 64)]

    async def test_several_scripts_are_applied_in_order_each_with_its_line(self) -> None:
        async with self.world() as world:
            await ensure(world)
            durations: list[float] = []
            several = [
                _change(world.put_text("things", "a", str(number)), entry(VERSION + number)) for number in range(3)
            ]
            await world.handler.apply(several, "up", TRANSACTION, durations.append)
            assert (await world.contents())["things"] == {"a": "2"}
            lines = await history(world)
            assert [line.id for line in lines] == [str(VERSION + number) for number in range(3)]
            assert [line.applied_at for line in lines] == sorted(line.applied_at for line in lines)
            assert len(durations) == 3
            assert all(0 <= taken < 60 for taken in (*durations, *(line.duration for line in lines)))

    async def test_of_several_scripts_those_before_one_that_fails_are_kept_and_told(self) -> None:
        async with self.world() as world:
            await ensure(world)
            done: list[float] = []
            several = [
                _change(world.put_text("things", "a", "1"), entry(VERSION)),
                _change(world.put_text("things", "b", "1"), entry(VERSION + 1)),
                _change(f"{world.put_text('things', 'c', '1')}\n{world.drop_text('nowhere')}", entry(VERSION + 2)),
                _change(world.put_text("things", "d", "1"), entry(VERSION + 3)),
            ]
            with raising(ScriptFailed) as raised:
                await world.handler.apply(several, "up", TRANSACTION, done.append)
            assert isinstance(raised.error, ScriptFailed)
            assert (raised.error.path, raised.error.line) == (several[2].script.path, 2)
            assert len(done) == 2
            assert (await world.contents())["things"] == {"a": "1", "b": "1"}
            assert [line.id for line in await history(world)] == [str(VERSION), str(VERSION + 1)]
            await world.handler.apply(several[3:], "up", TRANSACTION, done.append)
            assert len(done) == 3

    async def test_several_scripts_are_undone_in_order(self) -> None:
        async with self.world() as world:
            await ensure(world)
            done: list[float] = []
            texts = [world.put_text("things", "a", "1"), world.put_text("others", "b", "1")]
            lines = [entry(VERSION), entry(VERSION + 1)]
            up = [_change(text, line) for text, line in zip(texts, lines, strict=True)]
            await world.handler.apply(up, "up", TRANSACTION, done.append)
            down = [_change(world.drop_text("others"), lines[1]), _change(world.drop_text("nowhere"), lines[0])]
            with raising(ScriptFailed):
                await world.handler.apply(down, "down", TRANSACTION, done.append)
            assert len(done) == 3
            assert "others" not in await world.contents()
            assert [line.id for line in await history(world)] == [str(VERSION)]

    async def test_a_script_without_a_statement_is_recorded(self) -> None:
        async with self.world() as world:
            await ensure(world)
            await apply(world, script("-- nothing to do"), entry(), "up", TRANSACTION)
            assert [line.id for line in await history(world)] == [entry().id]


async def apply(
    world: World[ConnT], text: Script, line: AppliedMigration, direction: Direction, options: WorkOptions
) -> None:
    """One script alone."""
    done: list[float] = []
    await world.handler.apply([Change(script=text, entry=line)], direction, options, done.append)
    assert len(done) == 1


def _change(text: str, line: AppliedMigration) -> Change:
    return Change(script=replace(script(text), path=Path(f"{line}.up.sql")), entry=line)


async def _make(world: World[ConnT], table: str) -> None:
    async def work(conn: ConnT) -> None:
        await world.put(conn, table, "a", "1")

    await world.handler.run(work, TRANSACTION)
