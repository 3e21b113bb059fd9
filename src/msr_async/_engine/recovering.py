"""What puts things back when a migration fails: decided by the settings, done shielded, told in a sentence."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import anyio

from ..config import BackupMode, Config, RollbackStrategy
from ..errors import ConnectionLost, MigrationFailed, RecoveryFailed, RestoreFailed
from ..events import Observer, RecoveryStarted
from ..models import Migration, MigrationResult
from ..protocols import DatabaseMigrationHandler
from .applying import undo

ConnT = TypeVar("ConnT")


@dataclass(frozen=True, kw_only=True)
class Intent:
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


def intend(config: Config) -> Intent:
    """Read the strategy and the mode."""
    strategy, mode = config.rollback_strategy, config.backup_mode
    by_backup = strategy in (RollbackStrategy.BACKUP, RollbackStrategy.BOTH)
    full = mode is BackupMode.FULL and by_backup
    return Intent(
        make_backup=full or mode is BackupMode.CREATE_ONLY,
        undo=strategy in (RollbackStrategy.DOWN, RollbackStrategy.BOTH),
        restore=by_backup and mode in (BackupMode.FULL, BackupMode.RESTORE_ONLY),
        existing=mode is BackupMode.RESTORE_ONLY,
        delete_backup=full and config.backup.delete_backup,
    )


def may_have_changed(executed: Sequence[Migration], failed: Migration, error: BaseException) -> bool:
    """Whether the database can be different from what it was before the run.

    It is not when the very first migration failed and its transaction was rolled back; restoring then would only throw
    away what others have written meanwhile. A Python migration may have used connections of its own.
    """
    return (
        bool(executed)
        or failed.up.language == "py"
        or isinstance(error, ConnectionLost)
        or not isinstance(error, Exception)
    )


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What a recovery did. `error` says that it could not be finished."""

    undone: tuple[Migration, ...] = ()
    restored: bool = False
    down_error: Exception | None = None
    """Why the `down`s were given up for the backup."""
    error: Exception | None = None


async def recover(
    handler: DatabaseMigrationHandler[ConnT],
    config: Config,
    migrations: Sequence[Migration],
    restore: Callable[[], Awaitable[object]] | None,
    error: BaseException,
    emit: Observer,
) -> Recovery:
    """Put things back as the settings say; what goes wrong on the way is in the answer, never raised.

    Args:
        config: whose strategy and time limit count.
        migrations: what the failed run was to apply. Which of them are in the database is read from its history: a
            COMMIT whose answer was lost may have happened.
        restore: puts the backup back; None when there is none to put back.
        error: what stopped the run.
    """
    undone: list[Migration] = []
    restored = False
    down_error: Exception | None = None
    failure: Exception | None = None
    by_downs = intend(config).undo
    if not by_downs and restore is None:
        return Recovery()
    emit(RecoveryStarted(strategy=str(config.rollback_strategy), error=error))
    with anyio.move_on_after(config.recovery_timeout, shield=True) as scope:
        if by_downs:
            try:
                await _undo_recorded(handler, migrations, emit, undone.append)
            except Exception as problem:
                down_error = problem
        if restore is not None and (down_error is not None or not by_downs):
            try:
                await restore()
                restored = True
            except Exception as problem:
                failure = problem
        elif down_error is not None:
            failure, down_error = down_error, None
    if scope.cancelled_caught:
        failure = RestoreFailed(
            f"The recovery was stopped after {config.recovery_timeout:.0f} s.",
            hint="Give it more time with recovery_timeout.",
        )
    return Recovery(undone=tuple(undone), restored=restored, down_error=down_error, error=failure)


async def _undo_recorded(
    handler: DatabaseMigrationHandler[ConnT],
    migrations: Sequence[Migration],
    emit: Observer,
    finished: Callable[[Migration], None],
) -> None:
    recorded = {entry.version for entry in await handler.schema_version.applied()}
    await undo(handler, [item for item in reversed(migrations) if item.version in recorded], emit, finished)


async def undisturbed(work: Awaitable[Recovery]) -> tuple[Recovery, asyncio.CancelledError | None]:
    """Wait for a recovery to its end, whatever happens to the waiting task.

    anyio's shield keeps out the cancellation of anyio's own scopes only; `asyncio.timeout`, `asyncio.run` after Ctrl-C
    and web servers cancel the task itself. So the recovery is a task of its own, and the waiter remembers being
    cancelled.

    Returns:
        What the recovery says, and the cancellation that came meanwhile, for the caller to raise.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    return task.result(), cancelled


def verdict(config: Config, result: MigrationResult, error: BaseException, recovery: Recovery) -> MigrationFailed:
    """The error that tells the whole story: what failed, what was done about it, what is true of the database now."""
    command = f"msr-async backup restore {shlex.quote(str(result.backup))}" if result.backup else ""
    if recovery.error is not None:
        undone = f" Undone before that: {_names(result.undone)}." if result.undone else ""
        way = f"The backup is intact; to restore it: {command}" if command else "Look at it with: msr-async status"
        hint = f"{undone} The database may be in between. {way}".lstrip()
        return RecoveryFailed(result, error, recovery.error, hint=hint)
    if recovery.restored:
        why = f"A way down failed too ({recovery.down_error}). " if recovery.down_error else ""
        taken = f"{result.backup.created:%H:%M:%S} UTC" if result.backup else ""
        state = "as that backup has it" if intend(config).existing else f"as it was before the run, at {taken}"
        outcome = f"{why}The backup {result.backup} was restored: the database is {state}."
        return MigrationFailed(result, error, outcome=f"{outcome} What other sessions have written since then is gone.")
    if intend(config).undo:
        outcome = f"Undone: {_names(result.undone)}." if result.undone else "Nothing of the run was left to undo."
        return MigrationFailed(result, error, outcome=f"{outcome} The database is at the version it was at before.")
    kept = f"Applied before it and kept: {_names(result.executed)}." if result.executed else "Nothing was applied."
    own = "Its own transaction was rolled back."
    if not result.executed and intend(config).restore and recovery == Recovery():
        own += " The database is as it was before the run."
    if isinstance(error, ConnectionLost):
        own = "Whether its own transaction was committed is not known; see msr-async status."
    hint = f"To go back to the state before the run: {command}" if command else ""
    return MigrationFailed(result, error, outcome=f"{kept} {own} Nothing was restored.", hint=hint)


def _names(migrations: Sequence[Migration]) -> str:
    return ", ".join(str(migration) for migration in migrations)
