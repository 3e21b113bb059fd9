"""One tree of errors. The message is for a person and ends with what to do next; data stands in attributes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models import Issue, LockInfo, Migration, MigrationResult


class MsrError(Exception):
    """Something that msr_async reports to a person: `problem` says what happened, `hint` what to do next."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        self.problem = problem
        self.hint = hint
        super().__init__(f"{problem} {hint}".rstrip())


class ConfigError(MsrError):
    """A setting that cannot be used; nothing was touched."""


def already_open() -> ConfigError:
    """For a handler that is opened inside of its own `async with`: the inner end would close it for the outer one."""
    return ConfigError("The handler is open already.", hint="Open it once and hand it on, or make another one.")


# -- reaching the database -------------------------------------------------------------------------


class DatabaseError(MsrError):
    """The database refused or failed something."""


class ConnectionFailed(DatabaseError):
    """The database cannot be reached, or not as this user."""


class ConnectionLost(DatabaseError):
    """The database was reached and then went away in the middle of the work."""


class PermissionMissing(DatabaseError):
    """The role may not do what is needed."""


class LockTimeout(DatabaseError):
    """A table stayed locked by somebody else for longer than we wait."""


class LockNotAcquired(DatabaseError):
    """Another runner holds the migration lock."""

    def __init__(self, holder: LockInfo | None, waited: float) -> None:
        self.holder = holder
        self.waited = waited
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"The migration lock is held{by}; waited {waited:.0f} s for it.",
            hint="Let the other run finish, or raise lock_timeout.",
        )


class ToolMissing(DatabaseError):
    """A program that is needed (pg_dump) was not found, or is too old for the server."""


# -- migrations ------------------------------------------------------------------------------------


class ValidationFailed(MsrError):
    """The migrations as they stand must not run; nothing was touched."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        self.issues = tuple(issues)
        lines = "\n".join(f"  {issue}" for issue in self.issues)
        count = f"{len(self.issues)} problem{'s' if len(self.issues) != 1 else ''}"
        super().__init__(f"The migrations have {count}; nothing was run:\n{lines}")


class ScriptFailed(MsrError):
    """A migration script failed. `line` and `column` count from 1 where the place is known.

    `kept`: it ended the transaction that it ran in, so what it did until then may stay.
    """

    def __init__(
        self,
        message: str,
        *,
        path: Path | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str = "",
        kept: bool = False,
    ) -> None:
        self.message = message
        self.path = path
        self.line = line
        self.column = column
        self.kept = kept
        place = ":".join(str(item) for item in (path, line, column) if item is not None)
        super().__init__(f"{place}: {message}" if place else message, hint=hint)


class MigrationFailed(MsrError):
    """A migration failed, and recovery was done as `result` says (or was not asked for). `__cause__` is the failure."""

    def __init__(self, result: MigrationResult, error: BaseException, *, outcome: str, hint: str = "") -> None:
        self.result = result
        self.error = error
        name = f"Migration {result.failed} failed" if result.failed else "The run failed"
        super().__init__(f"{name}: {_inline(error)} {outcome}", hint=hint)


class RecoveryFailed(MigrationFailed):
    """A migration failed, and putting things back failed too: `error` and `recovery_error` are the two causes."""

    def __init__(
        self, result: MigrationResult, error: BaseException, recovery_error: BaseException, *, hint: str
    ) -> None:
        self.recovery_error = recovery_error
        super().__init__(result, error, outcome=f"Recovery failed too: {_inline(recovery_error)}", hint=hint)


class DownFailed(MsrError):
    """A migration's `down` failed while a failed run was being undone."""

    def __init__(self, migration: Migration, error: BaseException) -> None:
        self.migration = migration
        self.error = error
        super().__init__(f"down of {migration} failed: {_inline(error)}")


# -- backups ---------------------------------------------------------------------------------------


class BackupFailed(MsrError):
    """A backup could not be made. Nothing appeared under its name, and the database is as it was."""


class StorageError(MsrError):
    """The place where backups rest cannot be used as asked."""


class StorageFull(StorageError):
    """No room is left where the backup is written; the unfinished file was removed."""


class BackupNotFound(StorageError):
    """There is no such backup."""


class BackupInvalid(MsrError):
    """A file must not be restored from. `path` is the file's, where it is known."""

    path: Path | None = None

    def __str__(self) -> str:
        return f"{self.path}: {super().__str__()}" if self.path else super().__str__()


class NotABackup(BackupInvalid):
    """The file is not a backup of ours, or was never completed."""


class BackupDamaged(BackupInvalid):
    """The file was a backup and has been cut or changed since. `member` names the damaged piece where it is known."""

    def __init__(self, problem: str, *, member: str | None = None) -> None:
        self.member = member
        where = f" in {member}" if member else ""
        super().__init__(
            f"The backup is damaged{where}: {problem}.",
            hint="Use another copy of it or another backup; the target was not changed.",
        )


class BackupTooNew(BackupInvalid):
    """The file was written by a newer version of the format than this one can read."""


class RestoreFailed(MsrError):
    """A restore failed. Where the database can do it, the target is as it was before."""


class RestoreUnfinished(MsrError):
    """The database is in the middle of a restore that did not come to its end; it must not be used as it is."""


class TargetRefused(RestoreFailed):
    """The target is not one that may be overwritten without its name being said."""


def words_of(error: BaseException) -> str:
    """What an error says. Those of scripts and drivers can be anything, also unable to say it."""
    try:
        return str(error)
    except Exception as broken:
        return f"its message cannot be read ({type(broken).__name__})"


def _inline(error: BaseException) -> str:
    text = words_of(error) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
