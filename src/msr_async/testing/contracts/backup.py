"""What a `Backup` promises whose restores happen as a whole or not at all."""

from __future__ import annotations

from typing import Generic, TypeVar

from ...models import Selection
from .carrying import (
    cancel_half_way,
    carry,
    change,
    chunks,
    count,
    fail_half_way,
    fail_to_come,
    fill,
    put_rows,
    restoration_of,
    restore,
    without_first,
)
from .round_trip import RoundTripContract

ConnT = TypeVar("ConnT")


class BackupContract(RoundTripContract[ConnT], Generic[ConnT]):
    """Subclass it, and give `world`."""

    async def test_a_restoration_that_is_not_finished_leaves_the_target_as_it_was(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            await change(world)
            before = await world.contents()
            async with restoration_of(world.handler, carried) as restoration:
                for part, rows in carried.rows:
                    await restoration.load(part, chunks(part, rows))
            assert await world.contents() == before

    async def test_an_error_or_a_cancellation_half_way_leaves_the_target_as_it_was(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            await change(world)
            before = await world.contents()
            await fail_half_way(world.handler, carried)
            assert await world.contents() == before
            await cancel_half_way(world.handler, carried)
            assert await world.contents() == before
            await restore(world.handler, carried)
            assert await world.contents() != before

    async def test_rows_that_fail_to_come_are_raised_as_they_are(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            before = await world.contents()
            await fail_to_come(world.handler, carried)
            assert await world.contents() == before

    async def test_loading_counts_the_rows_that_came(self) -> None:
        async with self.world() as world:
            await fill(world)
            carried = await carry(world.handler)
            before = await world.contents()
            async with restoration_of(world.handler, carried) as restoration:
                for part, rows in carried.rows:
                    fewer = without_first(part, rows)
                    assert (await restoration.load(part, chunks(part, fewer))).rows == count(part, fewer)
            assert await world.contents() == before

    async def test_left_out_rows_leave_their_empty_table(self) -> None:
        async with self.world() as world, self.world() as other:
            await fill(world)
            await restore(other.handler, await carry(world.handler, Selection(exclude=("*things",))))
            assert await other.contents() == {**await world.contents(), "things": {}}

    async def test_the_fingerprint_tells_schemas_apart_and_does_not_mind_rows(self) -> None:
        async with self.world() as world:
            await fill(world)
            first = (await carry(world.handler)).manifest.fingerprint
            await put_rows(world, "things", {"more": "rows"})
            assert (await carry(world.handler)).manifest.fingerprint == first
            await put_rows(world, "later", {"a": "1"})
            assert (await carry(world.handler)).manifest.fingerprint != first
