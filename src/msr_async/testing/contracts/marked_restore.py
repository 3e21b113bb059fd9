"""What a `Backup` promises whose restores are not one transaction: a mark for as long as one is not finished."""

from __future__ import annotations

from typing import Generic, TypeVar

from ...errors import RestoreFailed, RestoreUnfinished
from .carrying import (
    cancel_half_way,
    carry,
    change,
    chunks,
    count,
    fail_half_way,
    fail_to_come,
    fill,
    first_of,
    restoration_of,
    restore,
    without_first,
)
from .round_trip import RoundTripContract
from .world import World, raising

ConnT = TypeVar("ConnT")


class MarkedRestoreContract(RoundTripContract[ConnT], Generic[ConnT]):
    """Subclass it, and give `world`."""

    async def test_while_a_restore_runs_the_history_is_not_read_and_no_snapshot_taken(self) -> None:
        async with self.world() as world, world.another() as other:
            await fill(world)
            carried = await carry(world.handler)
            async with restoration_of(world.handler, carried) as restoration:
                for part, rows in carried.rows:
                    await restoration.load(part, chunks(part, rows))
                with raising(RestoreUnfinished):
                    await other.schema_version.applied()
                with raising(RestoreUnfinished):
                    await carry(other)
                await restoration.finish()
            assert list(await other.schema_version.applied()) == []

    async def test_a_restore_that_was_not_finished_is_marked_and_comes_to_its_end_when_it_is_run_again(self) -> None:
        async with self.world() as world:
            await fill(world)
            before = await world.contents()
            carried = await carry(world.handler)
            await change(world)
            async with restoration_of(world.handler, carried) as restoration:
                await restoration.load(*first_of(carried))
            await _is_marked(world)
            await restore(world.handler, carried)
            assert await world.contents() == before
            assert list(await world.handler.schema_version.applied()) == []

    async def test_an_error_or_a_cancellation_half_way_leaves_the_mark_until_a_restore_comes_to_its_end(self) -> None:
        async with self.world() as world:
            await fill(world)
            before = await world.contents()
            carried = await carry(world.handler)
            await change(world)
            await fail_half_way(world.handler, carried)
            await _is_marked(world)
            await cancel_half_way(world.handler, carried)
            await _is_marked(world)
            await restore(world.handler, carried)
            assert await world.contents() == before

    async def test_another_backup_makes_a_half_restored_database_whole_too(self) -> None:
        async with self.world() as world:
            await fill(world)
            earlier = await carry(world.handler)
            before = await world.contents()
            await change(world)
            later = await carry(world.handler)
            async with restoration_of(world.handler, later) as restoration:
                await restoration.load(*first_of(later))
            await restore(world.handler, earlier)
            assert await world.contents() == before

    async def test_rows_that_fail_to_come_are_raised_as_they_are(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            await fail_to_come(world.handler, carried)
            await _is_marked(world)

    async def test_a_restore_that_lost_rows_is_not_finished(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            with raising(RestoreFailed):
                async with restoration_of(world.handler, carried) as restoration:
                    for part, rows in carried.rows:
                        fewer = without_first(part, rows) if rows else rows
                        assert (await restoration.load(part, chunks(part, fewer))).rows == count(part, fewer)
                    await restoration.finish()
            await _is_marked(world)


async def _is_marked(world: World[ConnT]) -> None:
    with raising(RestoreUnfinished):
        await world.handler.schema_version.applied()
