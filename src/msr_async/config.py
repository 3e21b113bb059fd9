"""Settings as validated dataclasses. A bad value is refused where it is given, with the sentence that helps.

Nothing here reads the environment or a file: whoever builds a `Config` has done that.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from .errors import ConfigError
from .models import Isolation, Issue, Plan

_EnumT = TypeVar("_EnumT", bound=StrEnum)

Check: TypeAlias = Callable[[Plan], Iterable[Issue]]
"""A rule of one's own: what is wrong with a plan. Must not wait for anything."""


class RollbackStrategy(StrEnum):
    """What puts things back when a migration fails."""

    BACKUP = "backup"
    """Restore the backup that was made before the run."""
    DOWN = "down"
    """Run the `down` of what this run applied, newest first."""
    BOTH = "both"
    """Run the `down`s; when one of them fails, restore the backup."""
    NONE = "none"
    """Leave the database where the failure left it (each migration still is one transaction)."""


class BackupMode(StrEnum):
    """What a run does with backups."""

    FULL = "full"
    """Make one before the run, restore it on failure, delete it on success (`backup.delete_backup`)."""
    CREATE_ONLY = "create_only"
    """Make one before the run and keep it; restoring is left to others."""
    RESTORE_ONLY = "restore_only"
    """Make none; restore `backup.existing_backup_path` on failure. It is verified before the run starts."""
    MANUAL = "manual"
    """Make none, restore none."""


class Policy(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Nothing runs."""
    WARN = "warn"
    """It is told, and the run goes on."""
    IGNORE = "ignore"


class OutOfOrder(StrEnum):
    """What becomes of a pending migration that is older than one that was applied."""

    ERROR = "error"
    """Nothing runs."""
    ALLOW = "allow"
    """It is run, by version, before newer pending ones."""
    IGNORE = "ignore"
    """It is left out."""


class TransactionMode(StrEnum):
    """What one transaction holds. A script that says `no-transaction` runs outside of any under PER_MIGRATION."""

    PER_MIGRATION = "per_migration"
    """A migration and its line in the history."""
    PER_BATCH = "per_batch"
    """All of a run."""
    NONE = "none"
    """Nothing: each statement is on its own, and the line in the history follows."""


def _enum(kind: type[_EnumT]) -> Callable[[str, Any], _EnumT]:
    def check(name: str, value: Any) -> _EnumT:
        try:
            return kind(value)
        except ValueError:
            raise ConfigError(f"{name} is {value!r}.", hint=f"Use one of: {', '.join(kind)}.") from None

    return check


def _number(*, least: float, whole: bool = False) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not value >= least:
            raise ConfigError(
                f"{name} is {value!r}.", hint=f"Give a {'whole ' if whole else ''}number from {least} up."
            )
        return value

    return check


def _path(name: str, value: Any) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise ConfigError(f"{name} is {value!r}.", hint="Give a path.")
    return Path(value)


def _optional_path(name: str, value: Any) -> Path | None:
    return None if value is None else _path(name, value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}.", hint="Give True or False.")
    return value


_NAME_PIECE = re.compile(r"[\w.+ @-]*", re.ASCII)


def _name_piece(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _NAME_PIECE.fullmatch(value) or value.startswith((".", "-")):
        raise ConfigError(
            f"{name} is {value!r}.",
            hint="A piece of a file name: letters, digits and . _ - + @ only, not starting with . or -.",
        )
    return value


def _extension(name: str, value: Any) -> str:
    piece = _name_piece(name, value)
    if not piece or piece == "partial":
        raise ConfigError(f"{name} is {value!r}.", hint="Give an extension without its dot, such as msrbak.")
    return piece


def _timestamp_format(name: str, value: Any) -> str:
    try:
        stamp = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).strftime(value)
    except (TypeError, ValueError):
        stamp = "/"
    if not stamp or not _NAME_PIECE.fullmatch(stamp):
        raise ConfigError(f"{name} is {value!r}.", hint="Give a strftime format that makes a piece of a file name.")
    return str(value)


def _patterns(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(f"{name} is {value!r}.", hint="Give a list of patterns such as public.orders or audit.*.")
    return tuple(value)


def _tags(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for pair in value.items() for item in pair):
        raise ConfigError(f"{name} is {value!r}.", hint="Give a mapping of texts to texts.")
    return dict(value)


def _isolation(name: str, value: Any) -> Isolation | None:
    known: tuple[Isolation, ...] = ("read committed", "repeatable read", "serializable")
    plain = value.replace("_", " ").lower() if isinstance(value, str) else value
    if plain is None:
        return None
    for level in known:
        if plain == level:
            return level
    raise ConfigError(f"{name} is {value!r}.", hint=f"Use one of: {', '.join(known)}.")


def _checks_of_plans(name: str, value: Any) -> tuple[Check, ...]:
    if callable(value) or not all(callable(item) for item in value):
        raise ConfigError(f"{name} is {value!r}.", hint="Give a list of functions from a plan to issues.")
    return tuple(value)


class _Checked:
    """Runs a field's check on every assignment, so that a section changed after its making is as safe as a new one.

    `repr` and `==` are what a dataclass would have: to have it write them takes as long as all the rest of its making.
    """

    _checks: Mapping[str, Callable[[str, Any], Any]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        fields = type(self).__dataclass_fields__  # type: ignore[attr-defined]
        if name not in fields:
            raise ConfigError(f"There is no setting {name!r}.", hint=f"Settings here: {', '.join(sorted(fields))}.")
        check = self._checks.get(name)
        super().__setattr__(name, check(name, value) if check else value)

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={value!r}' for name, value in self._settings())})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._settings() == other._settings()

    __hash__ = None  # type: ignore[assignment]

    def _settings(self) -> list[tuple[str, Any]]:
        names = type(self).__dataclass_fields__  # type: ignore[attr-defined]
        return [(name, getattr(self, name)) for name in names]


@dataclass(kw_only=True, repr=False, eq=False)
class BackupConfig(_Checked):
    """Where backups go, what they are called, what they hold."""

    folder: Path | str = Path("backups")
    prefix: str = "backup"
    custom: str = ""
    suffix: str = ""
    timestamp: bool = True
    timestamp_format: str = "%Y%m%dT%H%M%SZ"
    extension: str = "msrbak"
    delete_backup: bool = True
    """Delete a run's own backup when the run succeeded. A backup that was restored from is never deleted."""
    existing_backup_path: Path | str | None = None
    """The backup that `BackupMode.RESTORE_ONLY` goes back to."""
    concurrency: int = 4
    """How many parts are dumped at once: one database connection each."""
    compression_level: int = 1
    """zstd's level, 1 to 19. On table data 3 gains almost nothing over 1 at half the speed."""
    chunk_size: int = 2 * 1024 * 1024
    """Bytes of raw data a chunk, up to 8 MiB. Memory grows with concurrency x chunk_size x 3."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    """Kept in every backup: a release, a commit, a reason."""

    _checks = {  # noqa: RUF012 - not annotated on purpose: a dataclass field otherwise
        "folder": _path,
        "prefix": _name_piece,
        "custom": _name_piece,
        "suffix": _name_piece,
        "timestamp": _flag,
        "timestamp_format": _timestamp_format,
        "extension": _extension,
        "delete_backup": _flag,
        "existing_backup_path": _optional_path,
        "concurrency": _number(least=1, whole=True),
        "compression_level": _number(least=1, whole=True),
        "chunk_size": _number(least=4096, whole=True),
        "include": _patterns,
        "exclude": _patterns,
        "tags": _tags,
    }

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "chunk_size" and self.chunk_size > 8 * 1024 * 1024:
            raise ConfigError(f"chunk_size is {value}.", hint="The format allows at most 8 MiB.")
        if name == "compression_level" and self.compression_level > 19:
            raise ConfigError(f"compression_level is {value}.", hint="zstd's levels here are 1 to 19.")


@dataclass(kw_only=True, repr=False, eq=False)
class TransactionConfig(_Checked):
    """How migrations are enclosed in transactions, how long they wait, and how often they are tried."""

    mode: TransactionMode = TransactionMode.PER_MIGRATION
    isolation: Isolation | None = None
    """None means the server's default."""
    lock_timeout: float = 5.0
    """Seconds that a statement waits for a table's lock, so that a waiting ALTER does not hold up the application; 0
    waits without end."""
    statement_timeout: float = 0.0
    """Seconds that one statement may take; 0 means without end."""
    retries: int = 10
    """How often the whole work is tried again after a serialisation failure, a deadlock or a lock that was not had."""
    retry_delay: float = 0.1
    """Seconds before the first of them; each next one waits twice as long, up to 10 seconds, with jitter."""

    _checks = {  # noqa: RUF012
        "mode": _enum(TransactionMode),
        "isolation": _isolation,
        "lock_timeout": _number(least=0),
        "statement_timeout": _number(least=0),
        "retries": _number(least=0, whole=True),
        "retry_delay": _number(least=0),
    }


_TABLE_NAME = set(string.ascii_letters + string.digits + "_")


def _table_name(name: str, value: Any) -> str:
    if (
        not isinstance(value, str)
        or not value
        or len(value) > 63
        or not set(value) <= _TABLE_NAME
        or value[0].isdigit()
    ):
        raise ConfigError(f"{name} is {value!r}.", hint="Give a plain name: letters, digits, underscores, at most 63.")
    return value


@dataclass(kw_only=True, repr=False, eq=False)
class Config(_Checked):
    """Everything a `MigrationScriptExecutor` wants to know."""

    folder: Path | str = Path("migrations")
    rollback_strategy: RollbackStrategy = RollbackStrategy.BACKUP
    backup_mode: BackupMode = BackupMode.FULL
    missing_down: Policy | None = None
    """A pending migration without a `down`. None means: an error under DOWN, a warning under BOTH, else nothing."""
    missing_file: Policy = Policy.ERROR
    """An applied migration whose file is gone."""
    changed_file: Policy = Policy.ERROR
    """An applied migration whose file was changed."""
    out_of_order: OutOfOrder = OutOfOrder.ERROR
    drift: Policy = Policy.WARN
    """A schema that was changed by hand since the last run. Under `ignore` it is neither looked at nor noted."""
    lint: bool = True
    """Warn of statements that lock or rewrite tables of a running application."""
    strict: bool = False
    """Take every warning for an error."""
    checks: Sequence[Check] = ()
    """Rules of one's own: functions from a plan to issues."""
    transaction: TransactionConfig = field(default_factory=TransactionConfig)
    lock_timeout: float = 300.0
    """Seconds to wait for the migration lock."""
    recovery_timeout: float = 3600.0
    """Seconds that a recovery may take. For as long it is shielded from cancellation: Ctrl-C must not halve it."""
    backup: BackupConfig = field(default_factory=BackupConfig)

    _checks = {  # noqa: RUF012
        "folder": _path,
        "rollback_strategy": _enum(RollbackStrategy),
        "backup_mode": _enum(BackupMode),
        "missing_down": lambda name, value: None if value is None else _enum(Policy)(name, value),
        "missing_file": _enum(Policy),
        "changed_file": _enum(Policy),
        "out_of_order": _enum(OutOfOrder),
        "drift": _enum(Policy),
        "lint": _flag,
        "strict": _flag,
        "checks": _checks_of_plans,
        "lock_timeout": _number(least=0),
        "recovery_timeout": _number(least=1),
    }
