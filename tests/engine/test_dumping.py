"""Making a backup: what is in the file, and that a failure leaves nothing."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from msr_async._engine.emitting import Emitter
from msr_async._engine.verifying import read_manifest, verify
from msr_async.archive import declared_size, decompress
from msr_async.errors import BackupFailed, ConnectionLost, StorageError, StorageFull
from msr_async.events import BackupCreated, Event, PartProgress, Step, TransferStarted
from msr_async.models import Manifest
from msr_async.storage import LocalStorage
from tests.support.fake_backup import FakeBackup, make, shop, small_config
from tests.support.faulty_storage import FaultyStorage


async def manifest_of(storage: LocalStorage, name: str = "b.msrbak") -> Manifest:
    async with storage.open(name) as reader:
        _, manifest = await read_manifest(reader)
    return manifest


def rows_in(path: Path, manifest: Manifest) -> dict[str, bytes]:
    """Every part's bytes, read with the standard zipfile."""
    with zipfile.ZipFile(path) as opened:
        return {
            part.names[1]: b"".join(decompress(opened.read(chunk.member), chunk.raw_size) for chunk in part.chunks)
            for part in manifest.parts
        }


@pytest.mark.parametrize("piece", [1, 333, 4096, 1_000_000])
async def test_every_row_is_in_the_file_whatever_the_pieces(tmp_path: Path, piece: int) -> None:
    tables, storage = shop(rows=60), LocalStorage(tmp_path)
    info = await make(FakeBackup(tables, piece=piece), storage)
    manifest = await manifest_of(storage)
    assert rows_in(info.path, manifest) == {name: b"".join(r + b"\n" for r in rows) for name, rows in tables.items()}
    assert {part.names[1]: part.rows for part in manifest.parts} == {name: len(rows) for name, rows in tables.items()}
    await verify(storage, "b.msrbak", level="full", emit=Emitter())


async def test_the_info_is_what_the_file_says(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup(shop()), storage)
    manifest = await manifest_of(storage)
    assert info.size == info.path.stat().st_size
    assert (info.id, info.rows, info.parts, info.raw_bytes) == (
        manifest.id,
        manifest.totals.rows,
        manifest.totals.parts,
        manifest.totals.raw_bytes,
    )
    assert info.complete
    assert info.tags == {"release": "1.2"}
    assert info.notes == ("roles are not in it",)
    assert info.duration is not None
    assert manifest.snapshot == "00000003-1"
    assert manifest.fingerprint == "ffffffff"
    assert [entry.name for entry in manifest.documents] == ["pre-data.sql", "post-data.sql"]


async def test_parts_stand_in_the_order_of_the_snapshot_and_their_number_is_their_members(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), storage)
    manifest = await manifest_of(storage)
    assert [part.names[1] for part in manifest.parts] == ["wide", "items", "orders", "one", "no_columns", "empty"]
    for number, part in enumerate(manifest.parts):
        members = [chunk.member for chunk in part.chunks]
        assert members == [f"data/{number:06}/{chunk:06}.zst" for chunk in range(len(part.chunks))]
    assert manifest.parts[-1].chunks == ()


async def test_a_database_without_tables_is_backed_up_too(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup({}), storage)
    assert (info.parts, info.rows) == (0, 0)
    await verify(storage, "b.msrbak", level="full", emit=Emitter())


async def test_events_tell_the_beginning_every_row_and_the_end(tmp_path: Path) -> None:
    events: list[Event] = []
    tables = shop()
    info = await make(FakeBackup(tables), LocalStorage(tmp_path), events=events)
    assert isinstance(events[0], TransferStarted)
    assert events[0].path == info.path
    assert events[-1] == BackupCreated(backup=info)
    assert any(isinstance(event, Step) for event in events)
    progress = [event for event in events if isinstance(event, PartProgress)]
    told = {name: sum(event.rows for event in progress if event.part.names[1] == name) for name in tables}
    assert told == {name: len(rows) for name, rows in tables.items()}
    assert sum(event.raw_bytes for event in progress) == info.raw_bytes
    last = {event.part.names[1]: event.finished for event in progress}
    assert all(last.values())
    assert sum(event.finished for event in progress) == len(tables)


async def test_as_many_parts_as_configured_are_dumped_at_once(tmp_path: Path) -> None:
    running = most = 0

    async def at(point: str) -> None:
        nonlocal running, most
        if point.endswith(" 0"):
            running += 1
            most = max(most, running)
            await anyio.sleep(0.01)
        running -= point.startswith("sent")

    tables = {f"t{number}": [b"row"] for number in range(9)}
    await make(FakeBackup(tables, at=at), LocalStorage(tmp_path), config=small_config(concurrency=3))
    assert most == 3


async def test_one_chunk_of_a_part_is_under_way_while_the_next_is_collected_and_no_more(tmp_path: Path) -> None:
    reached: list[int] = []
    stuck = anyio.Event()

    async def before(call: str) -> None:
        if call == "write" and reached:  # the first chunk comes to the file, and the file is slow
            await stuck.wait()

    async def at(point: str) -> None:
        if point.startswith("send"):
            reached.append(int(point.split()[2]))

    backup = FakeBackup({"t": [b"x" * 99] * 1000}, piece=1000, at=at)
    config = small_config(chunk_size=10_000, concurrency=1)
    storage = FaultyStorage(LocalStorage(tmp_path), before)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: make(backup, storage, config=config))
        await anyio.sleep(0.2)
        assert max(reached) < 22_000
        stuck.set()
    assert max(reached) == 99_000


@pytest.mark.parametrize("miscount", [1, -1])
async def test_a_count_that_differs_from_the_databases_fails_the_backup(tmp_path: Path, miscount: int) -> None:
    backup = FakeBackup(shop())
    backup.miscount = miscount
    with pytest.raises(BackupFailed, match=r"public\.\w+: the database counted"):
        await make(backup, LocalStorage(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert backup.open == 0


async def test_a_row_without_an_end_fails_the_backup(tmp_path: Path) -> None:
    backup = FakeBackup({"t": [b"x" * 99] * 100})
    backup.ending = b""
    with pytest.raises(BackupFailed, match="its last row has no end"):
        await make(backup, LocalStorage(tmp_path))
    assert list(tmp_path.iterdir()) == []


async def test_rows_alone_are_refused_when_a_complete_backup_was_asked_for(tmp_path: Path) -> None:
    backup = FakeBackup(shop())
    backup.complete = False
    with pytest.raises(BackupFailed, match="Only the rows"):
        await make(backup, LocalStorage(tmp_path))
    assert list(tmp_path.iterdir()) == []
    info = await make(backup, LocalStorage(tmp_path), complete=False)
    assert not info.complete


@pytest.mark.parametrize("point", ["snapshot", "send wide 0", "send items 8000", "sent empty", "details"])
@pytest.mark.parametrize("error", [ConnectionLost("gone"), OSError("broken pipe"), RuntimeError("a bug")])
async def test_an_error_of_the_backend_comes_out_plain_and_leaves_nothing(
    tmp_path: Path, point: str, error: Exception
) -> None:
    async def at(reached: str) -> None:
        await anyio.lowlevel.checkpoint()
        if reached == point:
            raise error

    backup = FakeBackup(shop(), at=at)
    with pytest.raises(type(error)) as caught:
        await make(backup, LocalStorage(tmp_path))
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []
    assert backup.open == 0


async def test_no_room_at_any_write_leaves_nothing(tmp_path: Path) -> None:
    calls = 0
    full_at = -1

    async def before(call: str) -> None:
        nonlocal calls
        calls += 1
        if calls - 1 == full_at:
            raise StorageFull("No space.") if call != "create" else StorageError("No folder.")

    backup, storage = FakeBackup(shop(rows=60)), FaultyStorage(LocalStorage(tmp_path), before)
    await make(backup, storage, "whole.msrbak")
    total = calls
    assert total > 20
    for place in range(total):
        full_at, calls = place, 0
        with pytest.raises(StorageError):
            await make(backup, storage)
        assert [path.name for path in tmp_path.iterdir()] == ["whole.msrbak"]
        assert backup.open == 0


async def test_a_taken_name_is_refused_before_the_database_is_asked(tmp_path: Path) -> None:
    points: list[str] = []

    async def at(point: str) -> None:
        points.append(point)

    (tmp_path / "b.msrbak").write_bytes(b"precious")
    with pytest.raises(StorageError, match="is there already"):
        await make(FakeBackup(shop(), at=at), LocalStorage(tmp_path))
    assert (tmp_path / "b.msrbak").read_bytes() == b"precious"
    assert points == []


async def test_two_dumps_into_one_folder_at_once(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    async with anyio.create_task_group() as group:
        for name in ("a.msrbak", "b.msrbak"):
            group.start_soon(make, FakeBackup(shop()), storage, name)
    for name in ("a.msrbak", "b.msrbak"):
        await verify(storage, name, level="full", emit=Emitter())


async def test_members_stay_whole_when_every_write_lets_other_parts_go_on(tmp_path: Path) -> None:
    async def before(_call: str) -> None:
        await anyio.sleep(0.0005)

    storage = LocalStorage(tmp_path)
    await make(FakeBackup(shop()), FaultyStorage(storage, before))
    await verify(storage, "b.msrbak", level="full", emit=Emitter())


async def test_the_manifest_is_readable_json(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup(shop()), storage)
    async with storage.open("b.msrbak") as reader:
        index, _ = await read_manifest(reader)
    member = index.members["manifest.json.zst"]
    with zipfile.ZipFile(info.path) as opened:
        data = opened.read(member.name)
    content = json.loads(decompress(data, declared_size(data)))
    assert content["source"]["name"] == "shop"
