"""Behaviours 7 to 19: what a run leaves behind when it succeeds, fails, or is stopped."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from msr_async import (
    BackupInvalid,
    BackupNotFound,
    ConfigError,
    DownFailed,
    Event,
    MigrationFailed,
    RecoveryFailed,
    ScriptFailed,
    TargetRefused,
    ValidationFailed,
)
from msr_async.events import (
    BackupDeleted,
    LockWaiting,
    MigrationErred,
    MigrationFinished,
    MigrationStarted,
    RecoveryStarted,
    Restored,
    TransferStarted,
    Warned,
)
from tests.behaviours.setting import FAIL, Altered, Setting, failing_restore, without_schema


def heard(setting: Setting, kind: type[Event]) -> list[Any]:
    return [event for event in setting.heard if isinstance(event, kind)]


async def failed(setting: Setting, *arguments: Any, **settings: Any) -> MigrationFailed:
    with pytest.raises(MigrationFailed) as raised:
        await setting.executor(*arguments, **settings).migrate()
    return raised.value


def three_with_a_bad_last(setting: Setting, *, bad_down: bool = False) -> None:
    """Migrations 2 and 3, whose downs work (or that of 2 does not), and 4, which fails after doing harm."""
    setting.add(2, setting.put("two", "a", "1"), down=[FAIL if bad_down else setting.drop("two")])
    setting.add(3, setting.put("three", "a", "1"), down=[setting.drop("three")])
    setting.add(4, setting.put("four", "a", "1"), setting.drop("shop"), FAIL, down=[setting.drop("four")])


# -- backups of a run ----------------------------------------------------------------------------


async def test_behaviour_07_full_and_success_deletes_the_backup(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    result = await setting.executor().migrate()
    assert (result.success, result.backup, result.failed) == (True, None, None)
    assert [migration.name for migration in result.executed] == ["step2"]
    assert setting.files() == []
    assert len(heard(setting, BackupDeleted)) == 1
    assert await setting.versions() == [1, 2]


async def test_behaviour_07_full_and_success_keeps_it_when_told_to(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    result = await setting.executor(delete_backup=False).migrate()
    assert result.backup is not None
    assert setting.files() == [result.backup.path.name]


async def test_behaviour_07_a_backup_that_was_restored_from_is_never_deleted(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, FAIL)
    failure = await failed(setting)
    assert failure.result.backup is not None
    assert setting.files() == [failure.result.backup.path.name]


async def test_behaviour_07_a_backup_that_cannot_be_deleted_is_a_warning(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    executor = setting.executor()

    async def delete(name: str) -> None:
        raise PermissionError("not yours")

    executor._storage = Altered(executor.storage, delete=delete)
    result = await executor.migrate()
    assert result.success
    assert result.backup is not None
    assert ["could not be deleted: not yours" in event.message for event in heard(setting, Warned)] == [True]


@pytest.mark.parametrize("strategy", ["backup", "down", "both", "none"])
async def test_behaviour_08_create_only_keeps_the_backup_on_success(setting: Setting, strategy: str) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"), down=[])
    result = await setting.executor(strategy, "create_only").migrate()
    assert result.backup is not None
    assert setting.files() == [result.backup.path.name]


async def test_behaviour_08_create_only_keeps_the_backup_on_failure_and_restores_nothing(setting: Setting) -> None:
    await setting.fill()
    three_with_a_bad_last(setting)
    failure = await failed(setting, "backup", "create_only")
    assert not failure.result.restored
    assert failure.result.backup is not None
    assert setting.files() == [failure.result.backup.path.name]
    assert await setting.versions() == [1, 2, 3]
    assert heard(setting, RecoveryStarted) == []
    assert f"msr-async backup restore {failure.result.backup}" in failure.hint
    assert "Applied before it and kept: V202601010002_step2, V202601010003_step3." in str(failure)


@pytest.mark.parametrize(("strategy", "mode"), [("backup", "manual"), ("none", "full"), ("none", "manual")])
async def test_behaviour_08_where_no_backup_is_asked_for_none_is_made(
    setting: Setting, strategy: str, mode: str
) -> None:
    await setting.fill()
    setting.add(2, FAIL)
    failure = await failed(setting, strategy, mode)
    assert (failure.result.backup, failure.result.restored) == (None, False)
    assert not setting.backups.exists()
    assert "Nothing was applied. Its own transaction was rolled back. Nothing was restored." in str(failure)


async def test_behaviour_09_restore_only_without_a_path_fails_before_anything_runs(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    with pytest.raises(ConfigError, match="existing_backup_path"):
        await setting.executor("backup", "restore_only").migrate()
    assert await setting.world.contents() == before


@pytest.mark.parametrize("damage", ["absent", "cut", "flipped", "other"])
async def test_behaviour_09_restore_only_with_a_bad_backup_fails_before_anything_runs(
    setting: Setting, damage: str
) -> None:
    before = await setting.fill()
    backup = await setting.executor().create_backup()
    data = bytearray(backup.path.read_bytes())
    backup.path.unlink()
    flipped = bytearray(data)
    flipped[data.index(b"data/000000/000000.zst") + 40] ^= 1
    contents = {"absent": None, "cut": data[:-10], "flipped": flipped, "other": b"something else"}[damage]
    (setting.folder / "made.msrbak").write_bytes(contents or b"")
    name = "gone.msrbak" if contents is None else "made.msrbak"
    setting.add(2, setting.put("shop", "c", "3"))
    executor = setting.executor("backup", "restore_only", existing_backup_path=setting.folder / name)
    with pytest.raises((BackupInvalid, BackupNotFound)):
        await executor.migrate()
    assert await setting.world.contents() == before
    assert heard(setting, MigrationStarted) == []


async def test_behaviour_09_restore_only_refuses_the_backup_of_another_database(setting: Setting) -> None:
    before = await setting.fill()
    backup = await setting.executor().create_backup()
    setting.add(2, setting.put("shop", "c", "3"))
    original = await setting.world.handler.describe()

    async def describe() -> Any:
        return Altered(original, identity="somebody else's", environment=None, empty=False)

    handler = Altered(setting.world.handler, describe=describe)
    executor = setting.executor("backup", "restore_only", handler=handler, existing_backup_path=backup.path)
    with pytest.raises(TargetRefused, match="name a backup of this very database"):
        await executor.migrate()
    assert await setting.world.contents() == before


async def test_behaviour_09_restore_only_refuses_a_backup_without_a_schema(setting: Setting) -> None:
    before = await setting.fill()
    backup = await setting.executor(handler=without_schema(setting.world.handler)).create_backup()
    assert not backup.complete
    setting.add(2, setting.put("shop", "c", "3"))
    with pytest.raises(BackupInvalid, match="cannot undo a migration"):
        await setting.executor("backup", "restore_only", existing_backup_path=backup.path).migrate()
    assert await setting.world.contents() == before


async def test_restore_only_goes_back_to_the_named_backup_and_keeps_it(setting: Setting) -> None:
    before = await setting.fill()
    backup = await setting.executor().create_backup()
    setting.add(2, setting.put("shop", "c", "3"))
    settings: dict[str, Any] = {"existing_backup_path": backup.path}
    assert (await setting.executor("backup", "restore_only", **settings).migrate()).success
    assert setting.files() == [backup.path.name]
    setting.add(3, FAIL)
    failure = await failed(setting, "backup", "restore_only", **settings)
    assert failure.result.restored
    assert "the database is as that backup has it" in str(failure)
    assert await setting.world.contents() == before
    assert setting.files() == [backup.path.name]


@pytest.mark.parametrize("strategy", ["backup", "down", "both", "none"])
async def test_behaviour_10_a_validation_error_touches_nothing(setting: Setting, strategy: str) -> None:
    before = await setting.fill()
    path = setting.add(2, setting.put("shop", "c", "3"), down=[])
    path.with_name("V202601010003_broken.py").write_text("async def up(db): ...\n\nasync def down(db, ctx): ...\n")
    with pytest.raises(ValidationFailed, match=r"V202601010003_broken\.py:1: ") as raised:
        await setting.executor(strategy).migrate()
    assert [issue.code for issue in raised.value.issues] == ["up-arguments"]
    assert await setting.world.contents() == before
    assert setting.files() == []
    assert heard(setting, TransferStarted) == []


async def test_behaviour_10_a_changed_applied_file_touches_nothing(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(1, setting.put("shop", "changed", "1"))
    setting.add(2, setting.put("shop", "c", "3"))
    with pytest.raises(ValidationFailed, match="checksum-mismatch"):
        await setting.executor().migrate()
    assert await setting.world.contents() == before


async def test_behaviour_10_an_error_between_the_lock_and_the_first_migration_restores_nothing(
    setting: Setting,
) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))

    async def ensure(conn: Any) -> None:
        raise OSError("no book")

    handler = Altered(
        setting.world.handler, schema_version=Altered(setting.world.handler.schema_version, ensure=ensure)
    )
    with pytest.raises(OSError, match="no book"):
        await setting.executor(handler=handler).migrate()
    assert heard(setting, RecoveryStarted) == []
    assert await setting.world.contents() == before


# -- recovery ------------------------------------------------------------------------------------


async def test_behaviour_11_both_and_every_down_works_restores_nothing(setting: Setting) -> None:
    before = await setting.fill()
    three_with_a_bad_last(setting)
    failure = await failed(setting, "both")
    assert not failure.result.restored
    assert [migration.name for migration in failure.result.undone] == ["step3", "step2"]
    assert heard(setting, Restored) == []
    assert await setting.world.contents() == before


async def test_behaviour_12_both_and_one_down_fails_restores(setting: Setting) -> None:
    before = await setting.fill()
    three_with_a_bad_last(setting, bad_down=True)
    failure = await failed(setting, "both")
    assert failure.result.restored
    assert "down of V202601010002_step2 failed" in str(failure)
    assert len(heard(setting, Restored)) == 1
    assert await setting.world.contents() == before


async def test_behaviour_12_both_and_a_missing_down_restores(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    setting.add(3, FAIL)
    failure = await failed(setting, "both")
    assert failure.result.restored
    assert await setting.world.contents() == before


@pytest.mark.parametrize("mode", ["create_only", "manual"])
async def test_behaviour_12_both_without_a_backup_to_restore_says_that_recovery_failed(
    setting: Setting, mode: str
) -> None:
    await setting.fill()
    three_with_a_bad_last(setting, bad_down=True)
    failure = await failed(setting, "both", mode)
    assert isinstance(failure, RecoveryFailed)
    assert isinstance(failure.recovery_error, DownFailed)
    assert not failure.result.restored
    assert [migration.name for migration in failure.result.undone] == ["step3"]
    assert await setting.versions() == [1, 2]


async def test_behaviour_13_down_undoes_what_was_applied_newest_first_with_its_records(setting: Setting) -> None:
    before = await setting.fill()
    three_with_a_bad_last(setting)
    failure = await failed(setting, "down")
    started = [(event.migration.name, event.direction) for event in heard(setting, MigrationStarted)]
    assert started[-5:] == [("step2", "up"), ("step3", "up"), ("step4", "up"), ("step3", "down"), ("step2", "down")]
    assert [migration.name for migration in failure.result.undone] == ["step3", "step2"]
    assert [migration.name for migration in failure.result.executed] == ["step2", "step3"]
    assert failure.result.failed is not None
    assert failure.result.failed.name == "step4"
    assert await setting.versions() == [1]
    assert await setting.world.contents() == before
    assert setting.files() == []


async def test_behaviour_13_a_migration_that_failed_after_its_commit_is_undone_too(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"), down=[setting.drop("two")])
    real = setting.world.handler

    async def run(work: Any, options: Any) -> Any:
        await real.run(work, options)
        if (await real.schema_version.applied())[-1].name == "step2":
            raise ConnectionError("the answer to COMMIT was lost")

    failure = await failed(setting, "down", handler=Altered(real, run=run))
    assert [migration.name for migration in failure.result.undone] == ["step2"]
    assert await setting.world.contents() == before


async def test_behaviour_13_a_failing_down_carries_both_errors_and_keeps_honest_records(setting: Setting) -> None:
    await setting.fill()
    three_with_a_bad_last(setting, bad_down=True)
    failure = await failed(setting, "down")
    assert isinstance(failure, RecoveryFailed)
    assert isinstance(failure.recovery_error, DownFailed)
    assert failure.recovery_error.migration.name == "step2"
    assert await setting.versions() == [1, 2]
    assert "two" in await setting.world.contents()
    assert "three" not in await setting.world.contents()


async def test_behaviour_14_a_missing_down_under_down_fails_before_anything_runs(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    with pytest.raises(ValidationFailed, match="missing-down"):
        await setting.executor("down").migrate()
    assert await setting.world.contents() == before
    assert (await setting.executor("down", missing_down="ignore").migrate()).success


async def test_behaviour_15_when_the_restore_fails_too_the_error_carries_both(setting: Setting) -> None:
    await setting.fill()
    three_with_a_bad_last(setting)
    handler = failing_restore(setting.world.handler, OSError("disk on fire"))
    failure = await failed(setting, handler=handler)
    assert isinstance(failure, RecoveryFailed)
    assert isinstance(failure.error, ScriptFailed)
    assert failure.__cause__ is failure.error
    assert str(failure.recovery_error) == "disk on fire"
    assert not failure.result.restored
    assert failure.result.backup is not None
    for piece in ("on purpose", "disk on fire", f"msr-async backup restore {failure.result.backup}"):
        assert piece in str(failure)
    assert setting.files() == [failure.result.backup.path.name]
    await setting.executor().restore_from_backup(failure.result.backup)
    assert await setting.versions() == [1]


async def test_behaviour_16_a_failing_observer_changes_nothing(
    setting: Setting, caplog: pytest.LogCaptureFixture
) -> None:
    before = await setting.fill()

    def observer(event: Event) -> None:
        raise RuntimeError("observer down")

    setting.add(2, setting.put("shop", "c", "3"))
    assert (await setting.executor(observers=[observer]).migrate()).success
    setting.add(3, FAIL)
    failure = await failed(setting, observers=[observer])
    assert failure.result.restored
    assert (await setting.world.contents())["shop"] == {**before["shop"], "c": "3"}
    assert "observer down" in caplog.text


async def test_behaviour_17_two_good_and_one_bad_with_backup_is_as_before_the_run(setting: Setting) -> None:
    before = await setting.fill()
    three_with_a_bad_last(setting)
    failure = await failed(setting)
    assert await setting.world.contents() == before
    result = failure.result
    assert (result.success, result.restored, result.undone) == (False, True, ())
    assert [migration.name for migration in result.executed] == ["step2", "step3"]
    assert result.failed is not None
    assert result.failed.name == "step4"
    assert "the database is as it was before the run" in str(failure)


async def test_behaviour_17_on_a_database_that_was_empty(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"))
    setting.add(2, FAIL)
    assert (await failed(setting)).result.restored
    assert await setting.world.contents() == {}


async def test_behaviour_17_the_failure_says_where_in_the_script(setting: Setting) -> None:
    path = setting.add(1, "x = 1", "help_me()", down=None)
    with path.open("a") as file:
        file.write("\n\ndef help_me():\n    raise ValueError('deep')\n")
    failure = await failed(setting)
    assert isinstance(failure.error, ScriptFailed)
    assert (failure.error.path, failure.error.line) == (path, 7)
    assert isinstance(failure.error.__cause__, ValueError)
    assert f"{path}:7: ValueError: deep" in str(failure)
    erred = heard(setting, MigrationErred)
    assert [event.error for event in erred] == [failure.error]


async def test_behaviour_18_nothing_pending_is_one_read_and_nothing_else(setting: Setting) -> None:
    before = await setting.fill()
    book = Altered(setting.world.handler.schema_version)
    handler = Altered(setting.world.handler, schema_version=book)
    result = await setting.executor(handler=handler).migrate()
    assert (result.success, result.executed, result.backup) == (True, (), None)
    assert book.asked == ["applied"]
    assert set(handler.asked) <= {"name", "schema_version", "inspect", "outside"}
    assert not setting.backups.exists()
    assert await setting.world.contents() == before


async def test_behaviour_18_an_empty_folder_on_a_fresh_database_makes_no_book(setting: Setting) -> None:
    setting.migrations.mkdir()
    assert (await setting.executor().migrate()).success
    assert await setting.world.contents() == {}


async def test_behaviour_19_the_backup_of_the_first_failed_attempt_is_kept_through_retries(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, FAIL)
    first = (await failed(setting)).result.backup
    assert first is not None
    second = (await failed(setting)).result.backup
    assert second is not None
    setting.add(2, setting.put("shop", "c", "3"))
    assert (await setting.executor().migrate()).success
    assert setting.files() == sorted([first.path.name, second.path.name])


# -- order and the lock --------------------------------------------------------------------------


async def test_behaviour_20_migrations_run_by_version_whatever_the_folder(setting: Setting) -> None:
    for number, folder in ((1, "z"), (2, "a"), (3, "m/deep")):
        path = setting.add(number, setting.put("shop", str(number), "x"))
        target = setting.migrations / folder / path.name
        target.parent.mkdir(parents=True)
        path.rename(target)
    result = await setting.executor().migrate()
    assert [migration.name for migration in result.executed] == ["step1", "step2", "step3"]
    assert len(heard(setting, MigrationFinished)) == 3


async def test_status_tells_everything_and_touches_nothing(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(1, "changed = True")
    setting.add(2, setting.put("shop", "c", "3"))
    plan = await setting.executor().status()
    assert [migration.name for migration in plan.pending] == ["step2"]
    assert [entry.name for entry in plan.applied] == ["step1"]
    assert [issue.code for issue in plan.errors] == ["checksum-mismatch"]
    assert await setting.world.contents() == before


async def test_what_somebody_else_applied_while_we_waited_is_not_applied_again(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    lock = setting.world.handler.lock
    assert lock is not None
    real = setting.world.handler.schema_version
    reads = 0

    async def applied() -> Any:
        nonlocal reads
        reads += 1
        found = await real.applied()
        if reads == 1:
            async with setting.world.another() as other:
                await setting.executor(handler=other).migrate()
        return found

    book = Altered(real, applied=applied)
    result = await setting.executor(handler=Altered(setting.world.handler, schema_version=book)).migrate()
    assert (result.success, result.executed) == (True, ())
    assert book.asked == ["applied", "applied"]
    assert await setting.versions() == [1, 2]
    assert setting.files() == []


async def test_a_run_waits_for_the_lock_and_says_who_holds_it(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    lock = setting.world.handler.lock
    assert lock is not None
    async with lock.hold(timeout=1, waiting=lambda holder, waited: None), setting.world.another() as other:
        with pytest.raises(Exception, match="The migration lock is held by"):
            await setting.executor(handler=other, lock_timeout=0.2).migrate()
    assert heard(setting, LockWaiting)
    assert await setting.versions() == [1]
    assert setting.files() == []


async def test_a_failing_backup_stops_the_run_before_any_migration(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    setting.backups.write_text("a file in the way")
    with pytest.raises(Exception, match=r"backups"):
        await setting.executor().migrate()
    assert heard(setting, MigrationStarted) == []
    assert await setting.world.contents() == before


async def test_a_handler_without_a_lock_runs_without_one(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, setting.put("shop", "c", "3"))
    assert (await setting.executor(handler=Altered(setting.world.handler, lock=None)).migrate()).success


async def test_the_run_is_told_to_the_log(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="msr_async"):
        await setting.fill()
        setting.add(2, FAIL)
        await failed(setting)
    levels = {record.levelno for record in caplog.records if record.name == "msr_async"}
    assert {logging.INFO, logging.WARNING, logging.ERROR, logging.DEBUG} <= levels
    assert "running V202601010002_step2 (1 of 1)" in caplog.text


async def test_who_applied_it_and_when_is_in_the_history(setting: Setting) -> None:
    await setting.fill()
    (entry,) = await setting.world.handler.schema_version.applied()
    assert "@" in entry.applied_by
    assert entry.duration >= 0
    assert len(entry.checksum) == 64
