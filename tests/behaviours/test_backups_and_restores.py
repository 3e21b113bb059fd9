"""Behaviours 1 to 6: backups that are whole and restores that are whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

import msr_async._engine.keeping
from msr_async import (
    BackupInfo,
    BackupInvalid,
    BackupNotFound,
    ConfigError,
    DatabaseInfo,
    RestoreUnfinished,
    TargetRefused,
)
from msr_async.events import Warned
from msr_async.testing.contracts import memory_world
from tests.behaviours.setting import Altered, Setting, failing_restore, without_schema


async def test_behaviour_01_a_missing_backup_folder_is_made(setting: Setting) -> None:
    await setting.fill()
    assert not setting.backups.exists()
    backup = await setting.executor().create_backup()
    assert setting.files() == [backup.path.name]
    assert backup.path.parent == setting.backups


async def test_behaviour_02_two_backups_of_one_second_differ_and_each_restores_its_own(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped:
        now = staticmethod(lambda tz: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))

    monkeypatch.setattr(msr_async._engine.keeping, "datetime", Stopped)
    executor = setting.executor()
    first_contents = await setting.fill()
    first = await executor.create_backup()
    setting.add(2, setting.put("shop", "c", "3"))
    await setting.executor("none", "manual").migrate()
    second_contents = await setting.world.contents()
    second = await executor.create_backup()
    assert len({first.path, second.path}) == 2
    assert all("20260102T030405Z" in name for name in setting.files())
    await executor.restore_from_backup(first)
    assert await setting.world.contents() == first_contents
    await executor.restore_from_backup(second.path)
    assert await setting.world.contents() == second_contents


async def test_behaviour_03_a_backup_that_fails_half_way_leaves_no_file(setting: Setting) -> None:
    await setting.fill()
    handler = setting.world.handler

    @asynccontextmanager
    async def snapshot(*arguments: Any, **settings: Any) -> AsyncIterator[Any]:
        async def dump(part: Any, send: Any) -> None:
            await send(b"half a row")
            raise OSError("the server went away")

        assert handler.backup is not None
        async with handler.backup.snapshot(*arguments, **settings) as real:
            yield Altered(real, dump=dump)

    broken = Altered(handler, backup=Altered(handler.backup, snapshot=snapshot))
    with pytest.raises(OSError, match="the server went away"):
        await setting.executor(handler=broken).create_backup()
    assert setting.files() == []


@pytest.mark.parametrize("damage", ["cut", "flipped"])
async def test_behaviour_04_a_damaged_backup_is_refused_before_anything_is_deleted(
    setting: Setting, damage: str
) -> None:
    await setting.fill()
    executor = setting.executor()
    backup = await executor.create_backup()
    data = bytearray(backup.path.read_bytes())
    place = data.index(b"data/000000/000000.zst") + 40
    data[place] ^= 1
    backup.path.write_bytes({"cut": data[:-1], "flipped": data}[damage])
    setting.add(2, setting.put("shop", "c", "3"))
    await setting.executor("none", "manual").migrate()
    before = await setting.world.contents()
    touched = Altered(setting.world.handler.backup)
    handler = Altered(setting.world.handler, backup=touched)
    with pytest.raises(BackupInvalid):
        await setting.executor(handler=handler).restore_from_backup(backup)
    assert "restoration" not in touched.asked
    assert await setting.world.contents() == before


@pytest.mark.parametrize("world", ["memory", "pg16", "pg18"], indirect=True)
@pytest.mark.parametrize("rows", [True, False], ids=["at the rows", "at the end"])
async def test_behaviour_05_a_restore_that_fails_half_way_leaves_the_database_as_before(
    setting: Setting, rows: bool
) -> None:
    await setting.fill()
    backup = await setting.executor().create_backup()
    setting.add(2, setting.put("shop", "c", "3"), setting.put("more", "d", "4"))
    await setting.executor("none", "manual").migrate()
    before = await setting.world.contents()
    handler = failing_restore(setting.world.handler, OSError("no more"), rows=rows)
    with pytest.raises(OSError, match="no more"):
        await setting.executor(handler=handler).restore_from_backup(backup)
    assert await setting.world.contents() == before


@pytest.mark.parametrize("world", ["firestore"], indirect=True)
@pytest.mark.parametrize("rows", [True, False], ids=["at the rows", "at the end"])
async def test_behaviour_05_where_a_restore_is_no_transaction_a_failed_one_is_marked_until_it_is_run_again(
    setting: Setting, rows: bool
) -> None:
    await setting.fill()
    backup = await setting.executor().create_backup()
    before = await setting.world.contents()
    setting.add(2, setting.put("shop", "c", "3"), setting.put("more", "d", "4"))
    await setting.executor("none", "manual").migrate()
    handler = failing_restore(setting.world.handler, OSError("no more"), rows=rows)
    with pytest.raises(OSError, match="no more"):
        await setting.executor(handler=handler).restore_from_backup(backup)
    for refused in (setting.executor().migrate, setting.executor().status, setting.executor().create_backup):
        with pytest.raises(RestoreUnfinished, match="run the same restore again"):
            await refused()
    await setting.executor().restore_from_backup(backup)
    assert await setting.world.contents() == before


async def test_behaviour_06_without_an_argument_the_newest_backup_is_taken_by_a_fresh_executor_too(
    setting: Setting,
) -> None:
    await setting.fill()
    await setting.executor().create_backup()
    setting.add(2, setting.put("shop", "c", "3"))
    await setting.executor("none", "manual").migrate()
    newest_contents = await setting.world.contents()
    newest = await setting.executor().create_backup()
    setting.add(3, setting.drop("shop"))
    await setting.executor("none", "manual").migrate()
    async with setting.world.another() as handler:
        restored = await setting.executor(handler=handler).restore_from_backup()
    assert restored.path == newest.path
    assert await setting.world.contents() == newest_contents


async def test_behaviour_06_in_a_fresh_process(tmp_path: Path) -> None:
    async with memory_world() as world:
        setting = Setting(world=world, folder=tmp_path)
        await setting.fill()
        await setting.executor().create_backup()
    program = f"""
import asyncio
from msr_async import Config, MigrationScriptExecutor
from msr_async.testing import MemoryHandler

async def main():
    config = Config()
    config.backup.folder = {str(setting.backups)!r}
    async with MemoryHandler() as handler:
        await MigrationScriptExecutor(handler, config).restore_from_backup()
        print(await handler.db.rows("shop"))

asyncio.run(main())
"""
    done = await anyio.run_process([sys.executable, "-c", program], stderr=subprocess.STDOUT)
    assert done.stdout.decode() == "{'a': '1', 'b': '2'}\n"


async def test_files_that_are_no_backups_are_passed_over_with_a_warning(setting: Setting) -> None:
    await setting.fill()
    executor = setting.executor()
    backup = await executor.create_backup()
    (setting.backups / "zzz.msrbak").write_bytes(b"not a backup")
    assert [info.path for info in await executor.list_backups()] == [backup.path]
    assert (await executor.restore_from_backup()).path == backup.path
    assert [event for event in setting.heard if isinstance(event, Warned)]


async def test_no_backup_at_all_is_a_clear_error(setting: Setting) -> None:
    with pytest.raises(BackupNotFound, match="no complete backup in"):
        await setting.executor().restore_from_backup()
    with pytest.raises(BackupNotFound, match="no complete backup in"):
        await setting.executor().verify_backup()


@pytest.mark.parametrize("way", ["info", "path", "text", "bare name", "elsewhere", "bare name here"])
async def test_a_backup_can_be_named_in_every_way(setting: Setting, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await setting.fill()
    executor = setting.executor()
    backup = await executor.create_backup()
    elsewhere = setting.folder / "elsewhere" / "copy.msrbak"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(backup.path.read_bytes())
    monkeypatch.chdir(elsewhere.parent)
    names: dict[str, BackupInfo | Path | str] = {
        "info": backup,
        "path": backup.path,
        "text": str(backup),
        "bare name": backup.path.name,
        "elsewhere": elsewhere,
        "bare name here": "copy.msrbak",
    }
    manifest = await executor.inspect_backup(names[way])
    assert manifest.id == backup.id
    assert (await executor.verify_backup(names[way], level="quick")).id == backup.id
    assert (await executor.restore_from_backup(names[way])).rows == backup.rows


async def test_tags_of_the_config_and_of_the_call_are_kept(setting: Setting) -> None:
    await setting.fill()
    executor = setting.executor(tags={"release": "1", "by": "config"})
    backup = await executor.create_backup(tags={"by": "call", "why": "test"})
    assert (await executor.inspect_backup(backup)).tags == {"release": "1", "by": "call", "why": "test"}
    assert executor.config.backup.tags == {"release": "1", "by": "config"}


async def test_the_history_is_in_the_backup(setting: Setting) -> None:
    await setting.fill()
    executor = setting.executor()
    manifest = await executor.inspect_backup(await executor.create_backup())
    assert [entry.name for entry in manifest.history] == ["step1"]
    assert manifest.source == await setting.world.handler.describe()


async def test_another_database_that_is_not_empty_is_refused_until_it_is_named(setting: Setting) -> None:
    await setting.fill()
    backup = await setting.executor().create_backup()
    async with memory_world() as other:
        there = Setting(world=other, folder=setting.folder / "other")
        before = await there.fill()
        foreign = Altered(setting.world.handler, describe=other.handler.describe, backup=other.handler.backup)
        with pytest.raises(TargetRefused) as refused:
            await there.executor(handler=foreign).restore_from_backup(backup)
        label = (await other.handler.describe()).label
        assert label in str(refused.value)
        assert await other.contents() == before


async def test_a_named_target_is_overwritten(setting: Setting) -> None:
    contents = await setting.fill()
    executor = setting.executor()
    backup = await executor.create_backup()
    setting.add(2, setting.drop("shop"))
    await setting.executor("none", "manual").migrate()
    label = (await setting.world.handler.describe()).label
    with pytest.raises(TargetRefused):
        await executor.restore_from_backup(backup, confirm_target="another@there")
    await executor.restore_from_backup(backup, confirm_target=label)
    assert await setting.world.contents() == contents


async def test_a_target_is_refused_before_waiting_for_the_lock(setting: Setting) -> None:
    await setting.fill()
    backup = await setting.executor().create_backup()
    handler = Altered(setting.world.handler)
    with pytest.raises(TargetRefused):
        await setting.executor(handler=handler).restore_from_backup(backup, confirm_target="another@there")
    assert "lock" not in handler.asked


async def test_a_target_that_was_filled_while_the_lock_was_awaited_is_refused(setting: Setting) -> None:
    await setting.fill()
    backup = await setting.executor().create_backup()
    real = await setting.world.handler.describe()
    answers = [
        replace(real, identity="another", empty=True, environment=None),
        replace(real, identity="another", empty=False, environment=None),
    ]

    async def describe() -> DatabaseInfo:
        return answers.pop(0)

    touched = Altered(setting.world.handler.backup)
    handler = Altered(setting.world.handler, describe=describe, backup=touched)
    with pytest.raises(TargetRefused):
        await setting.executor(handler=handler).restore_from_backup(backup)
    assert answers == []
    assert "restoration" not in touched.asked


async def test_a_newer_backup_without_a_schema_is_passed_over_with_a_warning(setting: Setting) -> None:
    await setting.fill()
    whole = await setting.executor().create_backup()
    partial = await setting.executor(handler=without_schema(setting.world.handler)).create_backup()
    executor = setting.executor()
    assert [info.path for info in await executor.list_backups()] == [partial.path, whole.path]
    assert (await executor.restore_from_backup()).path == whole.path
    assert any(str(partial) in event.message for event in setting.heard if isinstance(event, Warned))


async def test_a_restore_waits_for_the_migration_lock(setting: Setting) -> None:
    await setting.fill()
    executor = setting.executor()
    backup = await executor.create_backup()
    lock = setting.world.handler.lock
    assert lock is not None
    finished = anyio.Event()

    async def restore() -> None:
        async with setting.world.another() as handler:
            await setting.executor(handler=handler).restore_from_backup(backup)
        finished.set()

    async with anyio.create_task_group() as group:
        async with lock.hold(timeout=1, waiting=lambda holder, waited: None):
            group.start_soon(restore)
            await anyio.sleep(0.3)
            assert not finished.is_set()
        await finished.wait()


async def test_a_handler_without_backups_says_so(setting: Setting) -> None:
    handler = Altered(setting.world.handler, backup=None)
    setting.add(1, setting.put("shop", "a", "1"))
    for call in (setting.executor(handler=handler).create_backup, setting.executor(handler=handler).migrate):
        with pytest.raises(ConfigError, match="offers no backups"):
            await call()
