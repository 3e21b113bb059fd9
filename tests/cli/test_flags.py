"""Every flag reaches the library as what it says: checked on what the commands hand to the executor."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from msr_async.cli import opening
from msr_async.cli.addressing import Address
from msr_async.cli.app import main
from msr_async.config import BackupMode, Config, OutOfOrder, Policy, RollbackStrategy, TransactionMode
from msr_async.models import AppliedMigration, BackupInfo, MigrationResult, Plan, RepairResult, RestoreInfo

URL = "postgresql://h/x"
BACKUP = BackupInfo(
    path=Path("b.msrbak"),
    size=1,
    id="1",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    parts=1,
    rows=2,
    raw_bytes=3,
    complete=True,
)


class Seen:
    """Stands in for handler and executor, and remembers what they were given."""

    name = "seen"

    def __init__(self) -> None:
        self.address = Address()
        self.environment: str | None = None
        self.config = Config()
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def handler(self, address: Address, *, environment: str | None) -> Seen:
        self.address, self.environment = address, environment
        return self

    async def __aenter__(self) -> Seen:
        return self

    async def __aexit__(self, *exc: object) -> None:
        pass

    def executor(self, handler: Seen, config: Config, *, observers: object) -> Seen:
        self.config = config
        return self

    async def migrate(self, *arguments: Any, **options: Any) -> MigrationResult:
        self.arguments, self.options = arguments, options
        return MigrationResult(success=True)

    down = migrate

    async def plan(self, *arguments: Any, **options: Any) -> Plan:
        self.arguments, self.options = arguments, options
        return Plan(pending=(), applied=())

    status = validate = plan

    async def baseline(self, *arguments: Any) -> tuple[AppliedMigration, ...]:
        self.arguments = arguments
        return ()

    async def repair(self, **options: Any) -> RepairResult:
        self.options = options
        return RepairResult()

    async def create_backup(self) -> BackupInfo:
        return BACKUP

    async def restore_from_backup(self, *arguments: Any, **options: Any) -> RestoreInfo:
        self.arguments, self.options = arguments, options
        return RestoreInfo(path=BACKUP.path, parts=1, rows=2, raw_bytes=3, duration=0.1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Seen:
    it = Seen()
    monkeypatch.setattr("msr_async.executor.MigrationScriptExecutor", it.executor)
    monkeypatch.setattr(opening, "handler_for", it.handler)
    monkeypatch.chdir(tmp_path)
    for name in (name for name in os.environ if name.startswith(("MSR_", "DATABASE_URL", "FIRESTORE_"))):
        monkeypatch.delenv(name)
    return it


def run(*arguments: str) -> None:
    assert main([*arguments, "--database-url", URL]) == 0


COMMANDS = [
    ("migrate",),
    ("down", "0", "--yes"),
    ("plan",),
    ("status",),
    ("validate",),
    ("baseline", "202601010900"),
    ("repair",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_flags_a_command_is_as_the_library_is(seen: Seen, command: tuple[str, ...]) -> None:
    run(*command)
    assert seen.config == Config()
    assert (seen.address, seen.environment) == (Address(url=URL), None)


JUDGING = [
    (("--strategy", "both"), "rollback_strategy", RollbackStrategy.BOTH),
    (("--transaction", "per_batch"), "transaction.mode", TransactionMode.PER_BATCH),
    (("--changed-file", "warn"), "changed_file", Policy.WARN),
    (("--strict",), "strict", True),
]
UP = [
    (("--out-of-order", "allow"), "out_of_order", OutOfOrder.ALLOW),
    (("--missing-file", "ignore"), "missing_file", Policy.IGNORE),
    (("--missing-down", "warn"), "missing_down", Policy.WARN),
]
LINT = [(("--no-lint",), "lint", False)]
DRIFT = [(("--drift", "error"), "drift", Policy.ERROR)]
LOCK = [(("--lock-timeout", "1.5"), "lock_timeout", 1.5)]
RUN = [
    (("--mode", "create_only"), "backup_mode", BackupMode.CREATE_ONLY),
    (("--mode", "manual"), "backup_mode", BackupMode.MANUAL),
    (("--backup", "b"), "backup_mode", BackupMode.RESTORE_ONLY),
    (("--backup", "a/b"), "backup.existing_backup_path", Path("a/b")),
    (("--backup", "b"), "backup.existing_backup_path", Path("backups/b")),
    (("--keep-backup",), "backup.delete_backup", False),
    (("--jobs", "2"), "backup.concurrency", 2),
    (("--tag", "release=42", "--tag", "why=a=b"), "backup.tags", {"release": "42", "why": "a=b"}),
    (("--isolation", "repeatable-read"), "transaction.isolation", "repeatable read"),
    (("--ddl-lock-timeout", "0.5"), "transaction.lock_timeout", 0.5),
    (("--statement-timeout", "2"), "transaction.statement_timeout", 2.0),
    (("--retries", "3"), "transaction.retries", 3),
    (("--migrations", "m"), "folder", Path("m")),
    (("--backups", "b"), "backup.folder", Path("b")),
]
FLAGS: dict[tuple[str, ...], list[tuple[tuple[str, ...], str, Any]]] = {
    ("migrate",): [*JUDGING, *UP, *LINT, *DRIFT, *LOCK, *RUN],
    ("down", "0", "--yes"): [*JUDGING, *LINT, *DRIFT, *LOCK, *RUN],
    ("plan",): [*JUDGING, *UP, *LINT],
    ("status",): [*JUDGING, *UP],
    ("validate",): [*JUDGING, *UP, *LINT, *DRIFT],
    ("baseline", "202601010900"): [*LOCK],
    ("repair",): [*LOCK],
}


@pytest.mark.parametrize(
    ("command", "flags", "setting", "value"),
    [(command, *case) for command, cases in FLAGS.items() for case in cases],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_behaviour_42_a_flag_is_the_setting_that_it_names(
    seen: Seen, command: tuple[str, ...], flags: tuple[str, ...], setting: str, value: object
) -> None:
    assert _get(seen.config, setting) != value
    run(*command, *flags)
    assert _get(seen.config, setting) == value


@pytest.mark.parametrize(
    ("command", "arguments", "options"),
    [
        (("migrate",), (None,), {"dry_run": False}),
        (("migrate", "202601010900", "--dry-run"), (202601010900,), {"dry_run": True}),
        (("migrate", "V202601010900_orders"), (202601010900,), {"dry_run": False}),
        (("down", "0", "--yes"), (0,), {"dry_run": False}),
        (("down", "202601010900", "--dry-run"), (202601010900,), {"dry_run": True}),
        (("plan",), (None,), {"direction": "up"}),
        (("plan", "0", "--down"), (0,), {"direction": "down"}),
        (("baseline", "202601010900"), (202601010900,), {}),
        (("repair",), (), {"dry_run": False}),
        (("repair", "--dry-run"), (), {"dry_run": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and value and isinstance(value[0], str) else None,
)
def test_behaviour_42_targets_and_dry_runs_reach_the_executor(
    seen: Seen,
    command: tuple[str, ...],
    arguments: tuple[Any, ...],
    options: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "V202601010900_orders.up.sql").touch()  # a name must be that of its version's file
    run(*command)
    assert (seen.arguments, seen.options) == (arguments, options)


@pytest.mark.parametrize(
    ("flags", "setting", "value"),
    [
        (("--jobs", "2"), "concurrency", 2),
        (("--include", "public.*", "--include", "audit.log"), "include", ("public.*", "audit.log")),
        (("--exclude", "public.logs"), "exclude", ("public.logs",)),
        (("--compression-level", "7"), "compression_level", 7),
        (("--tag", "release=42"), "tags", {"release": "42"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_behaviour_42_flags_of_backup_create(seen: Seen, flags: tuple[str, ...], setting: str, value: object) -> None:
    assert _get(seen.config.backup, setting) != value
    run("backup", "create", *flags)
    assert _get(seen.config.backup, setting) == value


@pytest.mark.parametrize(
    ("flags", "path", "options"),
    [
        ((), None, {}),
        (("some/a.msrbak",), Path("some/a.msrbak"), {}),
        (("a.msrbak",), Path("backups/a.msrbak"), {}),
        (("--confirm-target", "x@h"), None, {"confirm_target": "x@h"}),
        (("--mode", "merge"), None, {"mode": "merge"}),
        (("--no-owner",), None, {"owners": False}),
        (("--no-privileges",), None, {"privileges": False}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_behaviour_42_flags_of_backup_restore(
    seen: Seen, flags: tuple[str, ...], path: Path | None, options: dict[str, object]
) -> None:
    run("backup", "restore", *flags)
    assert seen.arguments == (path,)
    assert (
        seen.options
        == {
            "confirm_target": None,
            "owners": True,
            "privileges": True,
            "mode": "replace",
        }
        | options
    )


def test_a_bare_name_is_a_file_here_before_it_is_one_of_the_backups(seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "a.msrbak").write_text("")
    run("backup", "restore", "a.msrbak")
    assert seen.arguments == (tmp_path / "a.msrbak",)


@pytest.mark.parametrize(
    ("variable", "setting", "value"),
    [
        ("MSR_ENVIRONMENT", "environment", "staging"),
        ("MSR_MIGRATIONS", "config.folder", Path("m")),
        ("MSR_BACKUPS", "config.backup.folder", Path("b")),
    ],
)
def test_variables_stand_in_for_flags(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, variable: str, setting: str, value: object
) -> None:
    monkeypatch.setenv(variable, str(value))
    run("migrate")
    assert _get(seen, setting) == value


@pytest.mark.parametrize(
    ("flags", "meant"),
    [
        (("--project", "p"), {}),
        (("--project", "p", "--database", "d"), {"database": "d"}),
        (("--project", "p", "--credentials", "a/key.json"), {"credentials": Path("a/key.json")}),
        (("--project", "p", "--emulator", "h:1"), {"emulator": "h:1"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_flags_of_firestore_reach_the_handler(seen: Seen, flags: tuple[str, ...], meant: dict[str, Any]) -> None:
    assert main(["status", *flags]) == 0
    assert seen.address == Address(project="p", **meant)


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("MSR_FIRESTORE_DATABASE", "d", {"database": "d"}),
        ("MSR_FIRESTORE_DATABASE", "", {}),
        ("FIRESTORE_EMULATOR_HOST", "h:1", {"emulator": "h:1"}),
    ],
)
def test_the_variables_of_firestore_reach_the_handler(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, meant: dict[str, Any]
) -> None:
    monkeypatch.setenv("MSR_FIRESTORE_PROJECT", "p")
    monkeypatch.setenv(variable, value)
    assert main(["status"]) == 0
    assert seen.address == Address(project="p", **meant)


def test_the_environment_reaches_the_handler(seen: Seen) -> None:
    run("migrate", "--environment", "production")
    assert seen.environment == "production"


def _get(thing: object, setting: str) -> object:
    for name in setting.split("."):
        thing = getattr(thing, name)
    return thing
