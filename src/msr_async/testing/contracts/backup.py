"""What a `Backup`, its snapshots and its restorations promise. The rows travel in plain memory here, without a file."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from ...models import (
    ChunkEntry,
    DocumentEntry,
    Manifest,
    Part,
    PartEntry,
    PartTotals,
    Selection,
    SnapshotDetails,
    Totals,
)
from ...protocols import Backup, DatabaseMigrationHandler, Restoration, RestoreOptions, Snapshot, WorkOptions
from .world import World, raising

ConnT = TypeVar("ConnT")


@dataclass(frozen=True, kw_only=True)
class _Carried:
    """A backup as values."""

    manifest: Manifest
    documents: Mapping[str, bytes]
    rows: Sequence[tuple[Part, bytes]]


class _OwnError(Exception):
    """An error that no backend knows."""


class BackupContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    async def test_a_round_trip_gives_back_what_was_there(self) -> None:
        async with self.world() as world:
            await _fill(world)
            before = await world.contents()
            carried = await _carry(world.handler)
            await _change(world)
            assert await world.contents() != before
            await _restore(world.handler, carried)
            assert await world.contents() == before

    async def test_a_backup_goes_into_another_empty_database(self) -> None:
        async with self.world() as world, self.world() as other:
            await _fill(world)
            await _restore(other.handler, await _carry(world.handler))
            assert await other.contents() == await world.contents()

    async def test_an_empty_database_comes_back_empty(self) -> None:
        async with self.world() as world:
            carried = await _carry(world.handler)
            assert carried.manifest.totals.rows == 0
            await _fill(world)
            await _restore(world.handler, carried)
            assert await world.contents() == {}

    async def test_the_history_comes_back_too(self) -> None:
        async with self.world() as world:
            await world.handler.run(world.handler.schema_version.ensure, WorkOptions())
            before = await world.contents()
            carried = await _carry(world.handler)
            await _put(world, "later", {"a": "1"})
            await _restore(world.handler, carried)
            assert await world.contents() == before
            assert list(await world.handler.schema_version.applied()) == []

    async def test_a_snapshot_does_not_see_later_writes(self) -> None:
        async with self.world() as world:
            await _fill(world)
            before = await world.contents()
            async with _backup(world.handler).snapshot(Selection(), complete=True) as snapshot:
                await _put(world, "things", {"a": "changed", "new": "row"})
                carried = await _taken(world.handler, snapshot)
            await _restore(world.handler, carried)
            assert await world.contents() == before

    async def test_tables_made_after_the_backup_are_gone_after_the_restore(self) -> None:
        async with self.world() as world:
            await _fill(world)
            carried = await _carry(world.handler)
            await _put(world, "later", {"a": "1"})
            await _restore(world.handler, carried)
            assert "later" not in await world.contents()

    async def test_a_restoration_that_is_not_finished_leaves_the_target_as_it_was(self) -> None:
        async with self.world() as world:
            await _fill(world)
            carried = await _carry(world.handler)
            await _change(world)
            before = await world.contents()
            async with _restoration(world.handler, carried) as restoration:
                for part, rows in carried.rows:
                    await restoration.load(part, _chunks(rows))
            assert await world.contents() == before

    async def test_an_error_or_a_cancellation_half_way_leaves_the_target_as_it_was(self) -> None:
        async with self.world() as world:
            await _fill(world)
            carried = await _carry(world.handler)
            await _change(world)
            before = await world.contents()
            with raising(_OwnError):
                async with _restoration(world.handler, carried) as restoration:
                    await restoration.load(*_first(carried))
                    raise _OwnError
            assert await world.contents() == before
            with anyio.CancelScope() as scope:
                async with _restoration(world.handler, carried) as restoration:
                    await restoration.load(*_first(carried))
                    scope.cancel()
                    await anyio.sleep(60)
            assert scope.cancelled_caught
            assert await world.contents() == before
            await _restore(world.handler, carried)
            assert await world.contents() != before

    async def test_rows_that_fail_to_come_are_raised_as_they_are(self) -> None:
        async with self.world() as world:
            await _fill(world)
            carried = await _carry(world.handler)
            before = await world.contents()

            async def broken(rows: bytes) -> AsyncIterator[bytes]:
                yield rows
                raise _OwnError

            with raising(_OwnError):
                async with _restoration(world.handler, carried) as restoration:
                    for part, rows in carried.rows:
                        await restoration.load(part, broken(rows))
            assert await world.contents() == before

    async def test_loading_counts_the_rows_that_came(self) -> None:
        async with self.world() as world:
            await _fill(world)
            carried = await _carry(world.handler)
            before = await world.contents()
            async with _restoration(world.handler, carried) as restoration:
                for part, rows in carried.rows:
                    fewer = rows[rows.find(b"\n") + 1 :]
                    assert (await restoration.load(part, _chunks(fewer))).rows == fewer.count(b"\n")
            assert await world.contents() == before

    async def test_the_totals_of_a_part_are_what_was_sent(self) -> None:
        async with self.world() as world:
            await _fill(world)
            async with _backup(world.handler).snapshot(Selection(), complete=True) as snapshot:
                for part in snapshot.parts:
                    rows, totals = await _dumped(snapshot, part)
                    assert totals == PartTotals(rows=rows.count(b"\n"), raw_bytes=len(rows))

    async def test_all_parts_can_be_dumped_at_once(self) -> None:
        async with self.world() as world:
            await _fill(world)
            async with _backup(world.handler).snapshot(Selection(), complete=True) as snapshot:
                alone = {part: (await _dumped(snapshot, part))[0] for part in snapshot.parts}
                together: dict[Part, bytes] = {}

                async def dump(part: Part) -> None:
                    together[part] = (await _dumped(snapshot, part))[0]

                async with anyio.create_task_group() as group:
                    group.start_soon(snapshot.details)
                    for part in snapshot.parts:
                        group.start_soon(dump, part)
                assert together == alone
                assert len(together) >= 3

    async def test_a_dump_that_is_cancelled_leaves_the_handler_usable(self) -> None:
        async with self.world() as world:
            await _fill(world)
            before = await world.contents()
            with anyio.CancelScope() as scope:
                async with _backup(world.handler).snapshot(Selection(), complete=True) as snapshot:

                    async def send(piece: bytes) -> None:
                        scope.cancel()
                        await anyio.sleep(60)

                    for part in snapshot.parts:
                        await snapshot.dump(part, send)
            assert scope.cancelled_caught
            await _restore(world.handler, await _carry(world.handler))
            assert await world.contents() == before

    async def test_left_out_rows_leave_their_empty_table(self) -> None:
        async with self.world() as world, self.world() as other:
            await _fill(world)
            await _restore(other.handler, await _carry(world.handler, Selection(exclude=("*things",))))
            assert await other.contents() == {**await world.contents(), "things": {}}

    async def test_the_fingerprint_tells_schemas_apart_and_does_not_mind_rows(self) -> None:
        async with self.world() as world:
            await _fill(world)
            first = (await _carry(world.handler)).manifest.fingerprint
            await _put(world, "things", {"more": "rows"})
            assert (await _carry(world.handler)).manifest.fingerprint == first
            await _put(world, "later", {"a": "1"})
            assert (await _carry(world.handler)).manifest.fingerprint != first


def _backup(handler: DatabaseMigrationHandler[ConnT]) -> Backup:
    assert handler.backup is not None, "this suite is for handlers that offer backups"
    return handler.backup


async def _put(world: World[ConnT], table: str, rows: Mapping[str, str]) -> None:
    async def work(conn: ConnT) -> None:
        for key, value in rows.items():
            await world.put(conn, table, key, value)

    await world.handler.run(work, WorkOptions())


async def _fill(world: World[ConnT]) -> None:
    """Three tables with what tends to break: separators, escapes, other alphabets, nothing at all."""
    await _put(world, "things", {"a": "1", "b": "", "c": "tab\tline\nback\\slash \\N \\. quote'\" end"})
    await _put(world, "others", {"\u00fcn\u00efc\u00f6de": "\U0001f98a \u4e2d", "x" * 60: "y" * 100_000})
    await _put(world, "many", {f"{number:04}": f"row {number}" for number in range(150)})


async def _change(world: World[ConnT]) -> None:
    await _put(world, "things", {"a": "2", "d": "new"})
    await _put(world, "later", {"a": "1"})

    async def work(conn: ConnT) -> None:
        await world.drop(conn, "others")

    await world.handler.run(work, WorkOptions())


async def _dumped(snapshot: Snapshot, part: Part) -> tuple[bytes, PartTotals]:
    pieces: list[bytes] = []

    async def send(piece: bytes) -> None:
        pieces.append(bytes(piece))
        await anyio.lowlevel.checkpoint()

    totals = await snapshot.dump(part, send)
    return b"".join(pieces), totals


async def _carry(handler: DatabaseMigrationHandler[ConnT], selection: Selection | None = None) -> _Carried:
    async with _backup(handler).snapshot(selection or Selection(), complete=True) as snapshot:
        return await _taken(handler, snapshot)


async def _taken(handler: DatabaseMigrationHandler[ConnT], snapshot: Snapshot) -> _Carried:
    rows = [(part, await _dumped(snapshot, part)) for part in snapshot.parts]
    details = await snapshot.details()
    entries = tuple(_part_entry(number, part, data, totals) for number, (part, (data, totals)) in enumerate(rows))
    manifest = Manifest(
        id="contract",
        created=datetime.now(UTC),
        tool="contract",
        source=await handler.describe(),
        snapshot=snapshot.token,
        history=tuple(await handler.schema_version.applied()),
        fingerprint=details.fingerprint,
        complete=details.complete,
        notes=details.notes,
        documents=_document_entries(details),
        parts=entries,
        totals=Totals(
            parts=len(entries),
            rows=sum(entry.rows for entry in entries),
            raw_bytes=sum(entry.raw_bytes for entry in entries),
            stored_bytes=sum(entry.raw_bytes for entry in entries),
        ),
    )
    return _Carried(manifest=manifest, documents=details.documents, rows=[(part, data) for part, (data, _) in rows])


def _part_entry(number: int, part: Part, data: bytes, totals: PartTotals) -> PartEntry:
    chunk = ChunkEntry(
        member=f"data/{number:06}/000000.zst",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        raw_size=len(data),
        rows=totals.rows,
    )
    return PartEntry(
        kind=part.kind,
        names=part.names,
        columns=part.columns,
        slice=part.slice,
        rows=totals.rows,
        raw_bytes=totals.raw_bytes,
        chunks=(chunk,) if data else (),
    )


def _document_entries(details: SnapshotDetails) -> tuple[DocumentEntry, ...]:
    return tuple(
        DocumentEntry(
            name=name,
            member=f"schema/{name}.zst",
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            raw_size=len(data),
        )
        for name, data in details.documents.items()
    )


def _restoration(
    handler: DatabaseMigrationHandler[ConnT], carried: _Carried
) -> AbstractAsyncContextManager[Restoration]:
    return _backup(handler).restoration(carried.manifest, carried.documents, RestoreOptions(), lambda detail: None)


async def _restore(handler: DatabaseMigrationHandler[ConnT], carried: _Carried) -> None:
    async with _restoration(handler, carried) as restoration:
        for part, rows in carried.rows:
            totals = await restoration.load(part, _chunks(rows))
            assert totals.rows == rows.count(b"\n")
        await restoration.finish()


def _first(carried: _Carried) -> tuple[Part, AsyncIterator[bytes]]:
    part, rows = carried.rows[0]
    return part, _chunks(rows)


async def _chunks(rows: bytes) -> AsyncIterator[bytes]:
    """In two pieces that end at row ends, where there are two rows."""
    middle = rows.find(b"\n", len(rows) // 2) + 1
    for piece in (rows[:middle], rows[middle:]):
        if piece:
            await anyio.lowlevel.checkpoint()
            yield piece
