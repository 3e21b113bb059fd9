"""Plans, runs, the history and the lock for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from ..models import (
    AppliedMigration,
    Issue,
    LockInfo,
    Migration,
    MigrationResult,
    Plan,
    RepairResult,
    UnfinishedRestore,
    Version,
)
from ..observers.wording import count, seconds
from .plans import Step
from .rendering import line, row, table


def show_status(out: Console, plan: Plan, database: str) -> None:
    again = {entry.id: entry for entry in plan.reapplied}
    stand = [entry for entry in plan.applied if entry.id not in again]
    line(out, f"{database}: {count(len(stand), 'migration')} applied, {len(plan.pending)} pending")
    if plan.applied or plan.pending:
        shown = table("version", "name", "state", "applied at (UTC)", "took")
        for entry in stand:
            state = "baseline" if entry.baseline else "applied"
            took = "" if entry.baseline else seconds(entry.duration)
            row(shown, _version(entry), entry.name, state, _moment(entry), took)
        for pending in plan.pending:
            before = again.get(pending.id)
            state, moment = ("changed, runs again", _moment(before)) if before else ("pending", "")
            row(shown, _version(pending), pending.name, state, moment, "", style="yellow")
        out.print(shown)
    _show_issues(out, plan.issues)


def show_steps(out: Console, plan: Plan, steps: Sequence[Step], database: str) -> None:
    verb = "run" if plan.direction == "up" else "undo"
    if not steps:
        line(out, f"{database}: nothing to {verb}")
    else:
        line(out, f"{database}: {count(len(plan.pending), 'migration')} to {verb}, in this order")
        shown = table("#", "migration", "transaction", "script")
        number = 0
        for step in steps:
            hook = step.migration.kind == "hook"
            number += not hook
            enclosure = _ENCLOSURES[step.transaction] if step.transaction else ""
            path = "" if step.path is None else str(step.path)
            row(shown, "" if hook else str(number), str(step.migration), enclosure, path)
        out.print(shown)
    _show_issues(out, plan.issues)


_ENCLOSURES = {"own": "its own", "shared": "one for all", "none": "none", "batches": "in batches"}


def show_validation(out: Console, plan: Plan, database: str) -> None:
    _show_issues(out, plan.issues)
    amounts = f"{len(plan.applied)} applied, {len(plan.pending)} pending"
    errors, warnings = len(plan.errors), len(plan.issues) - len(plan.errors)
    if errors:
        also = f" and {count(warnings, 'warning')}" if warnings else ""
        line(out, f"{database}: {count(errors, 'error')}{also} ({amounts})", style="red")
    elif warnings:
        line(out, f"{database}: no error, {count(warnings, 'warning')} ({amounts})", style="yellow")
    else:
        line(out, f"{database}: nothing is wrong ({amounts})", style="green")


def show_result(out: Console, result: MigrationResult, *, target: Version | None) -> None:
    up, dry = result.direction == "up", result.dry_run
    if not result.executed and not result.skipped:
        everything = "every migration is applied" if target is None else f"everything up to {target} is applied"
        line(out, f"Nothing to run: {everything}." if up else f"Nothing to undo: nothing after {target} is applied.")
        return
    what = {
        (True, False): "applied",
        (False, False): "undone",
        (True, True): "would be applied: run and rolled back",
        (False, True): "would be undone: run and rolled back",
    }[up, dry]
    took = f" in {seconds(result.duration)}"
    line(out, f"{count(len(result.executed), 'migration')} {what}{took}:", style="green")
    _show_migrations(out, result.executed)
    if result.skipped:
        line(out, f"{count(len(result.skipped), 'migration')} not tried, for want of a transaction:", style="yellow")
        _show_migrations(out, result.skipped)
    if result.backup is not None:
        line(out, f"The backup of before the run is {result.backup.path}")


def show_paths(out: Console, paths: Iterable[Path]) -> None:
    for path in paths:
        line(out, str(path))


def show_baseline(out: Console, lines: Sequence[AppliedMigration], database: str) -> None:
    if not lines:
        line(out, f"{database}: all of them are in the history already.")
        return
    line(out, f"{database}: {count(len(lines), 'migration')} recorded as applied, none was run:", style="green")
    _show_migrations(out, lines)


def show_repair(out: Console, result: RepairResult, database: str) -> None:
    if not result.rechecksummed and not result.forgotten:
        line(out, f"{database}: nothing to repair, the history agrees with the files.")
        return
    would = "would be " if result.dry_run else ""
    for found, noun, what in (
        (result.rechecksummed, "checksum", f"{would}taken over from the files"),
        (result.forgotten, "line", f"{would}struck out, their files are gone"),
    ):
        if found:
            line(out, f"{database}: {count(len(found), noun)} {what}:", style="green")
            _show_migrations(out, found)


def show_lock(out: Console, holder: LockInfo | None, database: str) -> None:
    line(out, f"{database}: the migration lock is {f'held by {holder}' if holder else 'free'}")


def show_released(out: Console, ended: LockInfo | None, database: str) -> None:
    if ended is None:
        line(out, f"{database}: nobody holds the migration lock.")
    else:
        line(out, f"{database}: {ended} was ended.", style="green")


def show_given_up(out: Console, restore: UnfinishedRestore | None, database: str) -> None:
    if restore is None:
        line(out, f"{database}: no restore is unfinished.")
    else:
        line(out, f"{database}: {restore} was given up; the database stays as it is, partly restored.", style="yellow")


def _show_migrations(out: Console, migrations: Iterable[Migration | AppliedMigration]) -> None:
    for migration in migrations:
        line(out, f"  {migration}")


def _show_issues(out: Console, issues: Iterable[Issue]) -> None:
    for issue in issues:
        line(out, f"{issue.severity}: {issue}", style="red" if issue.severity == "error" else "yellow")


def _version(migration: Migration | AppliedMigration) -> str:
    return "R__" if migration.version is None else str(migration.version)


def _moment(entry: AppliedMigration) -> str:
    return f"{entry.applied_at:%Y-%m-%d %H:%M:%S}"
