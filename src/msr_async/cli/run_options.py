"""The flags of runs: which command has which, and what they make of the settings. Defaults are the library's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter

from ..config import (
    BackupConfig,
    BackupMode,
    Config,
    OutOfOrder,
    Policy,
    RollbackStrategy,
    TransactionConfig,
    TransactionMode,
)
from ..errors import ConfigError
from .options import Shared, Switch, Tags, UsageError, locate, parse_tags

IsolationLevel: TypeAlias = Literal["read-committed", "repeatable-read", "serializable"]
Target: TypeAlias = Annotated[str, Parameter(metavar="TARGET")]

_WAY_BACK = Group("Way back", sort_key=1)
_TRANSACTIONS = Group("Transactions and locks", sort_key=2)
_FINDINGS = Group("Findings: an error stops the run before anything is touched", sort_key=3)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class _Options:
    def config(self, shared: Shared) -> Config:
        """The settings that these flags and the shared ones ask for.

        Raises:
            UsageError: a value is refused, with the name of its flag.
        """
        config = shared.config()
        for item in fields(self):
            _set(config, _SETTINGS.get(item.name, item.name), getattr(self, item.name), item.name)
        return config


@dataclass(frozen=True, kw_only=True)
class _Any(_Options):
    strategy: Annotated[
        RollbackStrategy,
        Parameter(
            group=_WAY_BACK, help="What puts things back: the backup, the `down` scripts, both in turn, or nothing."
        ),
    ] = Config.rollback_strategy
    transaction: Annotated[
        TransactionMode,
        Parameter(group=_TRANSACTIONS, help="What one transaction holds: a migration, all of the run, or nothing."),
    ] = TransactionConfig.mode
    changed_file: Annotated[Policy, Parameter(group=_FINDINGS, help="An applied migration whose file was changed.")] = (
        Config.changed_file
    )
    strict: Annotated[Switch, Parameter(group=_FINDINGS, help="Take every warning for an error.")] = Config.strict


@dataclass(frozen=True, kw_only=True)
class _Up(_Options):
    out_of_order: Annotated[
        OutOfOrder,
        Parameter(group=_FINDINGS, help="A pending migration older than an applied one: refuse, run or leave it out."),
    ] = Config.out_of_order
    missing_file: Annotated[Policy, Parameter(group=_FINDINGS, help="An applied migration whose file is gone.")] = (
        Config.missing_file
    )
    missing_down: Annotated[
        Policy | None,
        Parameter(
            group=_FINDINGS,
            show_default=False,
            help="A pending migration without a `down`, under --strategy down or both. Default: error under down, "
            "warn under both.",
        ),
    ] = Config.missing_down


@dataclass(frozen=True, kw_only=True)
class _Lint(_Options):
    no_lint: Annotated[
        Switch, Parameter(group=_FINDINGS, help="Do not look for statements that hurt a running application.")
    ] = not Config.lint


@dataclass(frozen=True, kw_only=True)
class _Drift(_Options):
    drift: Annotated[Policy, Parameter(group=_FINDINGS, help="A schema that was changed by hand.")] = Config.drift


@dataclass(frozen=True, kw_only=True)
class LockOptions(_Options):
    """Of commands that take the migration lock."""

    lock_timeout: Annotated[
        float,
        Parameter(
            group=_TRANSACTIONS, metavar="SECONDS", help="How long to wait while another run holds the migration lock."
        ),
    ] = Config.lock_timeout


@dataclass(frozen=True, kw_only=True)
class StatusOptions(_Any, _Up):
    """Of `status`."""


@dataclass(frozen=True, kw_only=True)
class PlanOptions(StatusOptions, _Lint):
    """Of `plan`."""


@dataclass(frozen=True, kw_only=True)
class ValidateOptions(PlanOptions, _Drift):
    """Of `validate`."""


@dataclass(frozen=True, kw_only=True)
class DownOptions(_Any, _Lint, _Drift, LockOptions):
    """Of `down`."""

    mode: Annotated[
        BackupMode | None,
        Parameter(
            group=_WAY_BACK,
            help="What the run does with backups. Default: full, or restore_only when --backup is given.",
        ),
    ] = None
    backup: Annotated[
        Path | None,
        Parameter(
            group=_WAY_BACK,
            metavar="PATH",
            help="An existing backup that --strategy backup or both goes back to, instead of making one.",
        ),
    ] = None
    keep_backup: Annotated[
        Switch, Parameter(group=_WAY_BACK, help="Keep the run's own backup when the run succeeded.")
    ] = not BackupConfig.delete_backup
    jobs: Annotated[int, Parameter(group=_WAY_BACK, help="How many parts are dumped at once.")] = (
        BackupConfig.concurrency
    )
    tag: Annotated[
        Tags, Parameter(group=_WAY_BACK, help="Kept in the backup, such as release=42. May be given several times.")
    ] = ()
    isolation: Annotated[
        IsolationLevel | None,
        Parameter(group=_TRANSACTIONS, metavar="LEVEL", help="Of the transactions. Default: the server's."),
    ] = None
    ddl_lock_timeout: Annotated[
        float,
        Parameter(
            group=_TRANSACTIONS,
            metavar="SECONDS",
            help="How long a statement waits for a table that others use; then the migration is tried again. 0: "
            "without end.",
        ),
    ] = TransactionConfig.lock_timeout
    statement_timeout: Annotated[
        float,
        Parameter(group=_TRANSACTIONS, metavar="SECONDS", help="How long one statement may take. 0: without end."),
    ] = TransactionConfig.statement_timeout
    retries: Annotated[
        int,
        Parameter(group=_TRANSACTIONS, help="How often a migration is tried again after a deadlock or a lock not had."),
    ] = TransactionConfig.retries

    def config(self, shared: Shared) -> Config:
        mode = self.mode or (BackupMode.RESTORE_ONLY if self.backup else BackupMode.FULL)
        if self.backup and mode is not BackupMode.RESTORE_ONLY:
            raise UsageError(
                f"--backup is not used with --mode {mode}.", hint="Leave --mode out, or give restore_only."
            )
        config = super().config(shared)
        config.backup_mode = mode
        config.backup.existing_backup_path = locate(self.backup, shared)
        return config


@dataclass(frozen=True, kw_only=True)
class MigrateOptions(DownOptions, _Up):
    """Of `migrate`."""


PLAN_DEFAULTS, STATUS_DEFAULTS, VALIDATE_DEFAULTS = PlanOptions(), StatusOptions(), ValidateOptions()
MIGRATE_DEFAULTS, DOWN_DEFAULTS, LOCK_DEFAULTS = MigrateOptions(), DownOptions(), LockOptions()

_SETTINGS: Mapping[str, str] = {
    "strategy": "rollback_strategy",
    "transaction": "transaction.mode",
    "no_lint": "lint",
    "keep_backup": "backup.delete_backup",
    "jobs": "backup.concurrency",
    "tag": "backup.tags",
    "isolation": "transaction.isolation",
    "ddl_lock_timeout": "transaction.lock_timeout",
    "statement_timeout": "transaction.statement_timeout",
    "retries": "transaction.retries",
    "mode": "",
    "backup": "",
}
"""The setting of a flag, where it has another name; empty where it takes more than one flag to know."""


def _set(config: Config, setting: str, value: Any, name: str) -> None:
    if not setting:
        return
    *sections, last = setting.split(".")
    try:
        setattr(reduce(getattr, sections, config), last, _translated(name, value))
    except ConfigError as error:
        if isinstance(error, UsageError) or not error.problem.startswith(last):
            raise
        raise UsageError(f"--{name.replace('_', '-')}{error.problem.removeprefix(last)}", hint=error.hint) from None


def _translated(name: str, value: Any) -> Any:
    match name:
        case "tag":
            return parse_tags(value)
        case "isolation" if value is not None:
            return value.replace("-", " ")
        case "no_lint" | "keep_backup":
            return not value
        case _:
            return value
