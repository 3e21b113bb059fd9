"""What strategy and mode ask for together, and what the error says afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from msr_async import (
    BackupInfo,
    BackupMode,
    Config,
    ConnectionLost,
    Migration,
    MigrationResult,
    RecoveryFailed,
    RollbackStrategy,
    Script,
)
from msr_async._engine.recovering import Intent, Recovery, intend, verdict

SCRIPT = Script(path=Path("V202601010001_x.up.sql"), text="", language="sql")
FIRST = Migration(version=202601010001, name="x", up=SCRIPT, down=None, checksum="")
SECOND = Migration(version=202601010002, name="y", up=SCRIPT, down=None, checksum="")
BACKUP = BackupInfo(
    path=Path("my backups/a.msrbak"),
    size=1,
    id="a",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    parts=0,
    rows=0,
    raw_bytes=0,
    complete=True,
)


def config(strategy: str, mode: str) -> Config:
    return Config(rollback_strategy=RollbackStrategy(strategy), backup_mode=BackupMode(mode))


def flags(intent: Intent) -> str:
    names = ("make_backup", "undo", "restore", "existing", "delete_backup")
    return " ".join(name for name in names if getattr(intent, name))


@pytest.mark.parametrize(
    ("strategy", "mode", "expected"),
    [
        ("backup", "full", "make_backup restore delete_backup"),
        ("backup", "create_only", "make_backup"),
        ("backup", "restore_only", "restore existing"),
        ("backup", "manual", ""),
        ("down", "full", "undo"),
        ("down", "create_only", "make_backup undo"),
        ("down", "restore_only", "undo existing"),
        ("down", "manual", "undo"),
        ("both", "full", "make_backup undo restore delete_backup"),
        ("both", "create_only", "make_backup undo"),
        ("both", "restore_only", "undo restore existing"),
        ("both", "manual", "undo"),
        ("none", "full", ""),
        ("none", "create_only", "make_backup"),
        ("none", "restore_only", "existing"),
        ("none", "manual", ""),
    ],
)
def test_what_strategy_and_mode_ask_for(strategy: str, mode: str, expected: str) -> None:
    assert flags(intend(config(strategy, mode))) == expected


def test_delete_backup_off_keeps_it() -> None:
    settings = config("backup", "full")
    settings.backup.delete_backup = False
    assert not intend(settings).delete_backup


def result(*, backup: BackupInfo | None = BACKUP, undone: tuple[Migration, ...] = ()) -> MigrationResult:
    return MigrationResult(success=False, executed=(FIRST,), failed=SECOND, backup=backup, undone=undone)


def told(strategy: str, mode: str, recovery: Recovery, **settings: object) -> str:
    error = settings.pop("error", ValueError("no"))
    assert isinstance(error, BaseException)
    return str(verdict(config(strategy, mode), result(**settings), error, recovery))  # type: ignore[arg-type]


def test_a_restored_run_says_that_all_is_as_before() -> None:
    assert told("backup", "full", Recovery(restored=True)) == (
        "Migration V202601010002_y failed: no. "
        "The backup my backups/a.msrbak was restored: the database is as it was before the run, "
        "at 00:00:00 UTC. What other sessions have written since then is gone."
    )


def test_a_kept_backup_comes_with_the_command_that_restores_it() -> None:
    assert told("backup", "create_only", Recovery()) == (
        "Migration V202601010002_y failed: no. Applied before it and kept: V202601010001_x. "
        "Its own transaction was rolled back. Nothing was restored. "
        "To go back to the state before the run: msr-async backup restore 'my backups/a.msrbak'"
    )


def test_an_undone_run_names_what_was_undone() -> None:
    text = told("down", "full", Recovery(undone=(FIRST,)), backup=None, undone=(FIRST,))
    assert text.endswith("Undone: V202601010001_x. The database is at the version it was at before.")


def test_nothing_to_undo_says_so() -> None:
    assert "Nothing of the run was left to undo." in told("down", "full", Recovery(), backup=None)


def test_a_lost_connection_leaves_the_last_commit_open() -> None:
    text = told("none", "manual", Recovery(), backup=None, error=ConnectionLost("gone"))
    assert "Whether its own transaction was committed is not known" in text


def test_a_failed_recovery_carries_both_errors_and_the_command() -> None:
    failure = verdict(
        config("both", "full"), result(undone=(FIRST,)), ValueError("one"), Recovery(error=OSError("two"))
    )
    assert isinstance(failure, RecoveryFailed)
    assert (str(failure.error), str(failure.recovery_error)) == ("one", "two")
    assert "Undone before that: V202601010001_x." in str(failure)
    assert "msr-async backup restore 'my backups/a.msrbak'" in str(failure)


def test_a_failed_recovery_without_a_backup_points_at_status() -> None:
    text = told("down", "full", Recovery(error=OSError("two")), backup=None)
    assert "msr-async status" in text
