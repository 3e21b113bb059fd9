"""Which exit code an error means. Pure."""

from __future__ import annotations

from enum import IntEnum

from ..errors import (
    BackupFailed,
    BackupInvalid,
    BackupNotFound,
    ConfigError,
    ConnectionFailed,
    ConnectionLost,
    DownFailed,
    LockNotAcquired,
    LockTimeout,
    MigrationFailed,
    MsrError,
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
from .asking import Declined


class Exit(IntEnum):
    """The exit codes, as the documentation lists them."""

    OK = 0
    GENERAL = 1
    VALIDATION = 2
    MIGRATION = 3
    ROLLBACK = 4
    BACKUP = 5
    RESTORE = 6
    CONNECTION = 7
    LOCK = 8
    PENDING = 9
    VERIFICATION = 10
    TARGET_REFUSED = 11
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


# The first class that fits decides, so the special ones stand before the general ones.
_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (RecoveryFailed, Exit.ROLLBACK),
    (DownFailed, Exit.ROLLBACK),
    (MigrationFailed, Exit.MIGRATION),
    (ScriptFailed, Exit.MIGRATION),
    (ValidationFailed, Exit.VALIDATION),
    (ConfigError, Exit.VALIDATION),
    (ConnectionFailed, Exit.CONNECTION),
    (ConnectionLost, Exit.CONNECTION),
    (LockNotAcquired, Exit.LOCK),
    (LockTimeout, Exit.LOCK),
    (TargetRefused, Exit.TARGET_REFUSED),
    (RestoreFailed, Exit.RESTORE),
    (RestoreUnfinished, Exit.RESTORE),
    (BackupInvalid, Exit.VERIFICATION),
    (BackupFailed, Exit.BACKUP),
    (StorageFull, Exit.BACKUP),
    (Declined, Exit.GENERAL),
)

# What a command's other failures (a folder that cannot be read, a missing permission) mean.
_COMMANDS = {
    "backup create": Exit.BACKUP,
    "backup import": Exit.BACKUP,
    "backup restore": Exit.RESTORE,
    "backup verify": Exit.VERIFICATION,
    "lock status": Exit.LOCK,
    "lock release": Exit.LOCK,
}


def exit_code(error: BaseException, command: str = "") -> Exit:
    """The code of an error of ours; anything else is a bug and exits with 1.

    Args:
        command: what was asked for (`backup create`): it decides where the error does not say what failed.
    """
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if not isinstance(error, MsrError):
        return Exit.GENERAL
    if command in ("migrate", "down") and isinstance(error, StorageError | ToolMissing):
        # A backup to go back to that is not there is a setting of the run; anything else is the run's own backup.
        return Exit.VALIDATION if isinstance(error, BackupNotFound) else Exit.BACKUP
    return _COMMANDS.get(command, Exit.GENERAL)
