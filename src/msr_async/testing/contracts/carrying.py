"""A backup without a file, for the suites: what it takes to fill a database, carry it, and bring it back."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import anyio
import anyio.lowlevel

from ...framing import ROW_END, messages_end, rows_in, varint
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
from .saying import OwnError
from .world import World, raising

ConnT = TypeVar("ConnT")


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A backup as values."""

    manifest: Manifest
    documents: Mapping[str, bytes]
    rows: Sequence[tuple[Part, bytes]]


def offered_backup(handler: DatabaseMigrationHandler[ConnT]) -> Backup:
    assert handler.backup is not None, "this suite is for handlers that offer backups"
    return handler.backup


async def put_rows(world: World[ConnT], table: str, rows: Mapping[str, str]) -> None:
    async def work(conn: ConnT) -> None:
        for key, value in rows.items():
            await world.put(conn, table, key, value)

    await world.handler.run(work, WorkOptions())


async def fill(world: World[ConnT]) -> None:
    """Three tables with what tends to break: separators, escapes, other alphabets, nothing at all."""
    await put_rows(world, "things", {"a": "1", "b": "", "c": "tab\tline\nback\\slash \\N \\. quote'\" end"})
    await put_rows(world, "others", {"\u00fcn\u00efc\u00f6de": "\U0001f98a \u4e2d", "x" * 60: "y" * 100_000})
    await put_rows(world, "many", {f"{number:04}": f"row {number}" for number in range(150)})


async def change(world: World[ConnT]) -> None:
    await put_rows(world, "things", {"a": "2", "d": "new"})
    await put_rows(world, "later", {"a": "1"})

    async def work(conn: ConnT) -> None:
        await world.drop(conn, "others")

    await world.handler.run(work, WorkOptions())


async def dumped(snapshot: Snapshot, part: Part) -> tuple[bytes, PartTotals]:
    pieces: list[bytes] = []

    async def send(piece: bytes) -> None:
        pieces.append(bytes(piece))
        await anyio.lowlevel.checkpoint()

    totals = await snapshot.dump(part, send)
    return b"".join(pieces), totals


async def carry(handler: DatabaseMigrationHandler[ConnT], selection: Selection | None = None) -> Carried:
    async with offered_backup(handler).snapshot(selection or Selection(), complete=True) as snapshot:
        return await taken(handler, snapshot)


async def taken(handler: DatabaseMigrationHandler[ConnT], snapshot: Snapshot) -> Carried:
    rows = [(part, await dumped(snapshot, part)) for part in snapshot.parts]
    details = await snapshot.details()
    entries = tuple(_part_entry(number, part, data, totals) for number, (part, (data, totals)) in enumerate(rows))
    manifest = Manifest(
        id="contract",
        created=datetime.now(UTC),
        tool="contract",
        source=await handler.describe(),
        snapshot=snapshot.token,
        history=details.history,
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
    return Carried(manifest=manifest, documents=details.documents, rows=[(part, data) for part, (data, _) in rows])


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
        framing=part.framing,
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


def restoration_of(
    handler: DatabaseMigrationHandler[ConnT], carried: Carried
) -> AbstractAsyncContextManager[Restoration]:
    return offered_backup(handler).restoration(
        carried.manifest, carried.documents, RestoreOptions(), lambda detail: None
    )


async def restore(handler: DatabaseMigrationHandler[ConnT], carried: Carried) -> None:
    async with restoration_of(handler, carried) as restoration:
        for part, rows in carried.rows:
            totals = await restoration.load(part, chunks(part, rows))
            assert totals.rows == count(part, rows)
        await restoration.finish()


async def fail_half_way(handler: DatabaseMigrationHandler[ConnT], carried: Carried) -> None:
    """A restore that ends with an error of the caller's, which comes out as it is."""
    with raising(OwnError):
        async with restoration_of(handler, carried) as restoration:
            await restoration.load(*first_of(carried))
            raise OwnError


async def cancel_half_way(handler: DatabaseMigrationHandler[ConnT], carried: Carried) -> None:
    """A restore that is cancelled."""
    with anyio.CancelScope() as scope:
        async with restoration_of(handler, carried) as restoration:
            await restoration.load(*first_of(carried))
            scope.cancel()
            await anyio.sleep(60)
    assert scope.cancelled_caught


async def fail_to_come(handler: DatabaseMigrationHandler[ConnT], carried: Carried) -> None:
    """A restore whose rows end with an error, which comes out as it is."""

    async def broken(rows: bytes) -> AsyncIterator[bytes]:
        yield rows
        raise OwnError

    with raising(OwnError):
        async with restoration_of(handler, carried) as restoration:
            for part, rows in carried.rows:
                await restoration.load(part, broken(rows))


def first_of(carried: Carried) -> tuple[Part, AsyncIterator[bytes]]:
    part, rows = carried.rows[0]
    return part, chunks(part, rows)


def count(part: Part, rows: bytes) -> int:
    """How many rows these are."""
    return rows_in(rows, part.framing) if rows else 0


def without_first(part: Part, rows: bytes) -> bytes:
    """All but the first row."""
    if part.framing == "lines":
        return rows[rows.find(ROW_END) + 1 :]
    size, after = varint(rows, 1)
    return rows[after + size :]


async def chunks(part: Part, rows: bytes) -> AsyncIterator[bytes]:
    """In two pieces that end at row ends, where there are two rows."""
    if part.framing == "lines":
        middle = rows.find(ROW_END, len(rows) // 2) + 1
    else:
        middle, _ = messages_end(rows, 0, len(rows) // 2)
    for piece in (rows[:middle], rows[middle:]):
        if piece:
            await anyio.lowlevel.checkpoint()
            yield piece
