"""Putting a backup back: the file is checked before anything is touched, and every row before it is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from msr_async._engine.verifying import read_index
from msr_async.archive import Member
from msr_async.errors import BackupDamaged, BackupInvalid, ConnectionLost, RestoreFailed
from msr_async.events import Event, PartProgress, Restored, Step, TransferStarted, Warned
from msr_async.models import Part, PartTotals
from msr_async.storage import LocalStorage
from tests.support import fake_backup
from tests.support.fake_backup import FakeBackup, make, put_back, shop
from tests.support.faulty_storage import FaultyStorage

NAME = "b.msrbak"


async def member_of(storage: LocalStorage, name: str) -> Member:
    async with storage.open(NAME) as reader:
        return (await read_index(reader)).members[name]


@pytest.mark.parametrize("max_concurrency", [1, 3, 100])
async def test_what_was_backed_up_comes_back(tmp_path: Path, max_concurrency: int) -> None:
    storage, tables = LocalStorage(tmp_path), shop()
    made = await make(FakeBackup(tables), storage)
    target = FakeBackup({"orders": [b"changed"], "later": [b"1"]}, max_concurrency=max_concurrency)
    info = await put_back(target, storage)
    assert target.tables == tables
    assert (info.path, info.parts, info.rows, info.raw_bytes) == (made.path, made.parts, made.rows, made.raw_bytes)
    assert info.warnings == ("sequences were not checked",)
    assert target.open == 0


async def test_events_tell_exact_sizes_every_row_and_the_end(tmp_path: Path) -> None:
    storage, tables = LocalStorage(tmp_path), shop()
    made = await make(FakeBackup(tables), storage)
    events: list[Event] = []
    info = await put_back(FakeBackup({}), storage, events=events)
    (started,) = [event for event in events if isinstance(event, TransferStarted)]
    assert (started.action, started.raw_bytes) == ("restore", made.raw_bytes)
    progress = [event for event in events if isinstance(event, PartProgress)]
    assert sum(event.raw_bytes for event in progress) == made.raw_bytes
    assert sum(event.rows for event in progress) == made.rows
    assert {event.part.names[1]: event.finished for event in progress} == dict.fromkeys(tables, True)
    assert Step(action="restore", detail="tables made") in events
    assert events[-2:] == [Warned(message="sequences were not checked"), Restored(restore=info)]


@pytest.mark.parametrize(
    "name", ["README.txt", "schema/pre-data.sql.zst", "data/000002/000000.zst", "manifest.json.zst"]
)
async def test_a_damaged_file_is_refused_before_the_target_is_touched(tmp_path: Path, name: str) -> None:
    storage = LocalStorage(tmp_path)
    made = await make(FakeBackup(shop()), storage)
    member = await member_of(storage, name)
    data = bytearray(made.path.read_bytes())
    data[member.end - 3] ^= 4
    made.path.write_bytes(data)
    target = FakeBackup({"orders": [b"as before"]})
    with pytest.raises(BackupInvalid):
        await put_back(target, storage)
    assert target.restorations == 0
    assert target.tables == {"orders": [b"as before"]}


async def test_a_chunk_that_is_damaged_after_the_first_check_never_reaches_the_target(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    made = await make(FakeBackup(shop()), storage)
    member = await member_of(storage, "data/000001/000002.zst")

    async def at(point: str) -> None:
        if point == "restoration":
            data = bytearray(made.path.read_bytes())
            data[member.end - 3] ^= 4
            made.path.write_bytes(data)

    target = FakeBackup({"orders": [b"as before"]}, at=at)
    with pytest.raises(BackupDamaged) as caught:
        await put_back(target, storage)
    assert caught.value.member == "data/000001/000002.zst"
    assert target.tables == {"orders": [b"as before"]}
    assert target.open == 0


@pytest.mark.parametrize("point", ["restoration", "load orders", "take items", "take wide", "finish"])
@pytest.mark.parametrize("error", [ConnectionLost("gone"), OSError("broken pipe")])
async def test_an_error_of_the_backend_comes_out_plain_and_the_target_stays(
    tmp_path: Path, point: str, error: Exception
) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)

    async def at(reached: str) -> None:
        if reached == point:
            raise error

    target = FakeBackup({"orders": [b"as before"]}, at=at)
    with pytest.raises(type(error)) as caught:
        await put_back(target, storage)
    assert caught.value is error
    assert target.tables == {"orders": [b"as before"]}
    assert target.open == 0


@pytest.mark.parametrize("miscount", [1, -1])
async def test_a_count_that_differs_fails_the_restore(tmp_path: Path, miscount: int) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)
    target = FakeBackup({"orders": [b"as before"]})
    target.miscount = miscount
    with pytest.raises(RestoreFailed, match="the backup holds"):
        await put_back(target, storage)
    assert target.tables == {"orders": [b"as before"]}


async def stops_early(self: fake_backup.FakeRestoration, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
    async for _ in chunks:
        break
    return PartTotals(rows=1, raw_bytes=1)


async def knows_the_end(self: fake_backup.FakeRestoration, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
    size = rows = 0
    while size < part.estimate:
        chunk = await anext(chunks)
        size, rows = size + len(chunk), rows + chunk.count(b"\n")
    return PartTotals(rows=rows, raw_bytes=size)


async def closes_early(self: fake_backup.FakeRestoration, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
    await anext(chunks, b"")
    await chunks.aclose()  # type: ignore[attr-defined]
    await anyio.sleep(0.01)
    raise ConnectionLost("the load failed")


async def test_a_backend_that_stops_taking_rows_fails_the_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)
    monkeypatch.setattr(fake_backup.FakeRestoration, "load", stops_early)
    with anyio.fail_after(10), pytest.raises(RestoreFailed, match="the backup holds"):
        await put_back(FakeBackup({}), storage)


async def test_a_backend_that_takes_the_last_chunk_and_does_not_ask_for_more_is_told_of_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    made = await make(FakeBackup(shop()), storage)
    monkeypatch.setattr(fake_backup.FakeRestoration, "load", knows_the_end)
    events: list[Event] = []
    await put_back(FakeBackup({}), storage, events=events)
    assert sum(event.rows for event in events if isinstance(event, PartProgress)) == made.rows


async def test_a_load_that_closes_its_rows_and_then_fails_is_the_error_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)
    monkeypatch.setattr(fake_backup.FakeRestoration, "load", closes_early)
    with anyio.fail_after(10), pytest.raises(ConnectionLost, match="the load failed"):
        await put_back(FakeBackup({}), storage)


async def test_a_storage_that_fails_in_the_middle_fails_the_restore(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)
    calls = 0
    fail_at = -1

    async def before(_call: str) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 == fail_at:
            raise OSError("input/output error")

    await put_back(FakeBackup({}), FaultyStorage(storage, before))
    for place in range(calls):
        fail_at, calls = place, 0
        target = FakeBackup({"orders": [b"as before"]})
        with pytest.raises(OSError, match="input/output"):
            await put_back(target, FaultyStorage(storage, before))
        assert target.tables == {"orders": [b"as before"]}
        assert target.open == 0


async def test_cancellation_at_every_point_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)
    reached = 0
    cancel_at = -1

    async def before(_point: str) -> None:
        nonlocal reached
        reached += 1
        if reached - 1 == cancel_at:
            task.cancel()
        await anyio.lowlevel.checkpoint()

    async def run(target: FakeBackup) -> None:
        await put_back(target, FaultyStorage(storage, before))

    task = asyncio.create_task(run(FakeBackup({}, at=before)))
    await task
    for place in range(reached):
        cancel_at, reached = place, 0
        target = FakeBackup({"orders": [b"as before"]}, at=before)
        task = asyncio.create_task(run(target))
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert target.tables == {"orders": [b"as before"]}
        assert target.open == 0


async def test_few_chunks_are_read_ahead_of_a_slow_target(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup({"t": [b"x" * 99] * 2000}), storage)
    reads = 0
    slow = anyio.Event()

    async def before(call: str) -> None:
        nonlocal reads
        reads += call == "read"

    async def at(point: str) -> None:
        nonlocal reads
        if point == "load t":
            reads = 0
        if point == "take t":
            await slow.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: put_back(FakeBackup({}, at=at), FaultyStorage(storage, before)))
        await anyio.sleep(0.2)
        assert 2 <= reads <= 3
        slow.set()
    assert reads > 40
