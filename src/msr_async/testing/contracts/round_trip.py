"""What every `Backup` promises, its snapshots and its restorations. The rows travel in plain memory, without a file."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

import anyio

from ...models import Part, PartTotals, Selection
from ...protocols import WorkOptions
from .carrying import carry, change, count, dumped, fill, offered_backup, put_rows, restore, taken
from .saying import VERSION, ensure, entry, record
from .world import World

ConnT = TypeVar("ConnT")


class RoundTripContract(Generic[ConnT]):
    """Subclass `BackupContract` or `MarkedRestoreContract`, whichever your restores can keep."""

    least_parts = 3
    """How many parts a small database with three tables has at least."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    async def test_a_round_trip_gives_back_what_was_there(self) -> None:
        async with self.world() as world:
            await fill(world)
            before = await world.contents()
            carried = await carry(world.handler)
            await change(world)
            assert await world.contents() != before
            await restore(world.handler, carried)
            assert await world.contents() == before

    async def test_a_backup_goes_into_another_empty_database(self) -> None:
        async with self.world() as world, self.world() as other:
            await fill(world)
            await restore(other.handler, await carry(world.handler))
            assert await other.contents() == await world.contents()

    async def test_an_empty_database_comes_back_empty(self) -> None:
        async with self.world() as world:
            carried = await carry(world.handler)
            assert carried.manifest.totals.rows == 0
            await fill(world)
            await restore(world.handler, carried)
            assert await world.contents() == {}

    async def test_the_history_comes_back_too(self) -> None:
        async with self.world() as world:
            await world.handler.run(world.handler.schema_version.ensure, WorkOptions())
            before = await world.contents()
            carried = await carry(world.handler)
            await put_rows(world, "later", {"a": "1"})
            await restore(world.handler, carried)
            assert await world.contents() == before
            assert list(await world.handler.schema_version.applied()) == []

    async def test_a_snapshot_tells_the_history_of_its_own_moment(self) -> None:
        async with self.world() as world:
            backup = offered_backup(world.handler)
            async with backup.snapshot(Selection(), complete=True) as snapshot:
                await ensure(world)
                await record(world, entry())
                assert (await taken(world.handler, snapshot)).manifest.history == ()
            async with backup.snapshot(Selection(), complete=True) as snapshot:
                await record(world, entry(VERSION + 1, "second"))
                assert (await taken(world.handler, snapshot)).manifest.history == (entry(),)

    async def test_patterns_that_mean_nothing_are_told(self) -> None:
        async with self.world() as world:
            await fill(world)
            selection = Selection(include=("*things", "*thinks"), exclude=("*nowhere", "*things*"))
            async with offered_backup(world.handler).snapshot(selection, complete=False) as snapshot:
                for part in snapshot.parts:
                    await dumped(snapshot, part)
                details = await snapshot.details()
            assert details.unmatched == ("*thinks", "*nowhere")
            assert any(name.endswith("things") for name in details.names)

    async def test_a_snapshot_does_not_see_later_writes(self) -> None:
        async with self.world() as world:
            await fill(world)
            before = await world.contents()
            async with offered_backup(world.handler).snapshot(Selection(), complete=True) as snapshot:
                await put_rows(world, "things", {"a": "changed", "new": "row"})
                carried = await taken(world.handler, snapshot)
            await restore(world.handler, carried)
            assert await world.contents() == before

    async def test_tables_made_after_the_backup_are_gone_after_the_restore(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            await put_rows(world, "later", {"a": "1"})
            await restore(world.handler, carried)
            assert "later" not in await world.contents()

    async def test_the_totals_of_a_part_are_what_was_sent(self) -> None:
        async with self.world() as world:
            await fill(world)
            async with offered_backup(world.handler).snapshot(Selection(), complete=True) as snapshot:
                for part in snapshot.parts:
                    rows, totals = await dumped(snapshot, part)
                    assert totals == PartTotals(rows=count(part, rows), raw_bytes=len(rows))

    async def test_all_parts_can_be_dumped_at_once(self) -> None:
        async with self.world() as world:
            await fill(world)
            async with offered_backup(world.handler).snapshot(Selection(), complete=True) as snapshot:
                alone = {part: (await dumped(snapshot, part))[0] for part in snapshot.parts}
                together: dict[Part, bytes] = {}

                async def dump(part: Part) -> None:
                    together[part] = (await dumped(snapshot, part))[0]

                async with anyio.create_task_group() as group:
                    group.start_soon(snapshot.details)
                    for part in snapshot.parts:
                        group.start_soon(dump, part)
                assert together == alone
                assert len(together) >= self.least_parts

    async def test_a_dump_that_is_cancelled_leaves_the_handler_usable(self) -> None:
        async with self.world() as world:
            await fill(world)
            before = await world.contents()
            with anyio.CancelScope() as scope:
                async with offered_backup(world.handler).snapshot(Selection(), complete=True) as snapshot:

                    async def send(piece: bytes) -> None:
                        scope.cancel()
                        await anyio.sleep(60)

                    for part in snapshot.parts:
                        await snapshot.dump(part, send)
            assert scope.cancelled_caught
            await restore(world.handler, await carry(world.handler))
            assert await world.contents() == before
