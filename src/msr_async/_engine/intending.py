"""What do the strategy and the backup mode, taken together, ask of a run?"""

from __future__ import annotations

from msgspec import Struct

from ..config import BackupMode, Config, RollbackStrategy
from ..models import Direction


class Intent(Struct, frozen=True, kw_only=True):
    """What the strategy and the mode, taken together, ask of a run."""

    make_backup: bool
    """Make a backup before the first migration."""
    undo: bool
    """On failure, run the `down`s of what was applied."""
    restore: bool
    """On failure (under `undo`: when that fails), restore the backup: the run's own, or the one that was named."""
    existing: bool
    """The backup to go back to is one that was named; it is checked before the run."""
    delete_backup: bool
    """On success, delete the run's own backup."""


def intend(config: Config, direction: Direction = "up") -> Intent:
    """Read the strategy and the mode. A run that goes down has no `down`s to undo it."""
    strategy, mode = config.rollback_strategy, config.backup_mode
    by_backup = strategy in (RollbackStrategy.BACKUP, RollbackStrategy.BOTH)
    full = mode is BackupMode.FULL and by_backup
    return Intent(
        make_backup=full or mode is BackupMode.CREATE_ONLY,
        undo=strategy in (RollbackStrategy.DOWN, RollbackStrategy.BOTH) and direction == "up",
        restore=by_backup and mode in (BackupMode.FULL, BackupMode.RESTORE_ONLY),
        existing=mode is BackupMode.RESTORE_ONLY,
        delete_backup=full and config.backup.delete_backup,
    )
