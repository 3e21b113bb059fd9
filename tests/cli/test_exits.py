"""Which exit code an error means."""

from __future__ import annotations

import pytest

from msr_async.cli.asking import Declined
from msr_async.cli.exits import exit_code
from msr_async.errors import (
    BackupDamaged,
    BackupFailed,
    BackupInvalid,
    BackupNotFound,
    BackupTooNew,
    ConfigError,
    ConnectionFailed,
    ConnectionLost,
    DatabaseError,
    LockNotAcquired,
    LockTimeout,
    MigrationFailed,
    MsrError,
    NotABackup,
    PermissionMissing,
    RecoveryFailed,
    RestoreFailed,
    RestoreUnfinished,
    ScriptFailed,
    StorageError,
    StorageFull,
    TargetRefused,
    ToolMissing,
    ValidationFailed,
)
from msr_async.models import MigrationResult

RESULT = MigrationResult(success=False)
CAUSE = ScriptFailed("no such table")


@pytest.mark.parametrize(
    ("error", "command", "code"),
    [
        (ConfigError("x"), "migrate", 2),
        (ValidationFailed([]), "migrate", 2),
        (MigrationFailed(RESULT, CAUSE, outcome=""), "migrate", 3),
        (MigrationFailed(RESULT, ConnectionLost("gone"), outcome=""), "migrate", 3),
        (RecoveryFailed(RESULT, CAUSE, RestoreFailed("x"), hint=""), "migrate", 4),
        (BackupFailed("x"), "migrate", 5),
        (StorageFull("x"), "backup create", 5),
        (StorageFull("x"), "migrate", 5),
        (StorageError("x"), "backup create", 5),
        (StorageError("x"), "migrate", 5),
        (PermissionMissing("x"), "backup create", 5),
        (ToolMissing("x"), "backup create", 5),
        (ToolMissing("x"), "migrate", 5),
        (ToolMissing("x"), "demo", 1),
        (RestoreFailed("x"), "backup restore", 6),
        (BackupNotFound("x"), "backup restore", 6),
        (DatabaseError("x"), "backup restore", 6),
        (ConnectionFailed("x"), "backup restore", 7),
        (ConnectionLost("x"), "backup create", 7),
        (LockNotAcquired(None, 3), "migrate", 8),
        (LockTimeout("x"), "backup create", 8),
        (NotABackup("x"), "backup restore", 10),
        (BackupDamaged("x"), "backup verify", 10),
        (BackupTooNew("x"), "backup inspect", 10),
        (BackupNotFound("x"), "backup verify", 10),
        (BackupNotFound("x"), "migrate", 2),
        (BackupNotFound("x"), "backup inspect", 1),
        (TargetRefused("x"), "backup restore", 11),
        (RestoreUnfinished("x"), "migrate", 6),
        (BackupNotFound("x"), "backup import", 5),
        (BackupInvalid("x"), "backup import", 10),
        (PermissionMissing("x"), "migrate", 1),
        (StorageError("x"), "down", 5),
        (BackupNotFound("x"), "down", 2),
        (PermissionMissing("x"), "lock release", 8),
        (Declined("x"), "lock release", 1),
        (Declined("x"), "down", 1),
        (MsrError("x"), "status", 1),
        (ValueError("x"), "backup create", 1),
    ],
    ids=lambda value: (
        value if isinstance(value, str) else type(value).__name__ if isinstance(value, Exception) else None
    ),
)
def test_the_code_of(error: BaseException, command: str, code: int) -> None:
    assert exit_code(error, command) == code
