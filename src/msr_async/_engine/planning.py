"""What would a run do? Decided from the files, the history and the settings; nothing here waits or touches anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..config import Config, OnMissingDown, RollbackStrategy
from ..models import AppliedMigration, Issue, Migration, Plan, Severity, Version
from .loading import digits
from .validating import Inspect


def plan(
    migrations: Sequence[Migration],
    load_issues: Sequence[Issue],
    applied: Sequence[AppliedMigration],
    config: Config,
    inspect: Inspect,
) -> Plan:
    """Compare the files with the history.

    Args:
        migrations: as loaded, in any order, doubles included.
        load_issues: what loading found; passed on.
        applied: the history.
        config: whose strategy says what a missing `down` means.
        inspect: says what is wrong with a script without running it; asked about pending ones only.
    """
    ordered = sorted(migrations, key=lambda migration: (migration.version, str(migration.up.path)))
    history = {entry.version: entry for entry in sorted(applied, key=lambda entry: entry.version)}
    files: dict[Version, list[Migration]] = defaultdict(list)
    for migration in ordered:
        files[migration.version].append(migration)
    pending = tuple(migration for migration in ordered if migration.version not in history)
    issues = [
        *load_issues,
        *_mixed_digits(ordered),
        *_duplicates(files),
        *_history(files, history),
        *_out_of_order(pending, history),
        *_missing_downs(pending, config),
        *_scripts(pending, inspect),
    ]
    return Plan(pending=pending, applied=tuple(history.values()), issues=tuple(issues))


def _duplicates(files: Mapping[Version, Sequence[Migration]]) -> Iterator[Issue]:
    for version, same in files.items():
        if len(same) > 1:
            places = ", ".join(str(migration.up.path) for migration in same)
            yield _issue(
                "duplicate-version", f"Version {version} is used more than once: {places}. Give each its own version."
            )


def _history(
    files: Mapping[Version, Sequence[Migration]], history: Mapping[Version, AppliedMigration]
) -> Iterator[Issue]:
    for version, entry in history.items():
        same = files.get(version, ())
        if not same:
            yield _issue(
                "missing-file",
                f"{entry} was applied {entry.applied_at:%Y-%m-%d} and its file is missing. Put the file back.",
            )
        elif not any(migration.checksum == entry.checksum for migration in same):
            yield _issue(
                "checksum-mismatch",
                f"{entry} was changed after it was applied {entry.applied_at:%Y-%m-%d}. "
                "Put its text back, and make the change in a new migration.",
                path=same[0].up.path,
            )


def _out_of_order(pending: Sequence[Migration], history: Mapping[Version, AppliedMigration]) -> Iterator[Issue]:
    newest = max(history, default=None)
    for migration in pending:
        if newest is not None and migration.version < newest:
            yield _issue(
                "out-of-order",
                f"{migration} is older than {history[newest]}, which was applied already. Give it a newer version.",
                path=migration.up.path,
            )


def _mixed_digits(migrations: Sequence[Migration]) -> Iterator[Issue]:
    by_length: dict[int, Path] = {}
    for migration in migrations:
        by_length.setdefault(digits(migration.up.path), migration.up.path)
    if len(by_length) > 1:
        lengths = " and ".join(str(length) for length in sorted(by_length))
        longest = by_length[max(by_length)]
        yield _issue(
            "mixed-digits",
            f"Versions of {lengths} digits are mixed; they are ordered as numbers, so a shorter one comes first. "
            "Use one length.",
            path=longest,
            severity="warning",
        )


def _missing_downs(pending: Sequence[Migration], config: Config) -> Iterator[Issue]:
    severity = missing_down(config)
    if severity is None:
        return
    for migration in pending:
        if migration.down is None:
            wanted = "an `async def down(db, ctx)`" if migration.up.language == "py" else f"a {migration}.down.sql"
            yield _issue(
                "missing-down",
                f"{migration} has no way down, and the rollback strategy is {config.rollback_strategy}. "
                f"Write {wanted}.",
                path=migration.up.path,
                severity=severity,
            )


def missing_down(config: Config) -> Severity | None:
    """How bad a missing `down` is under these settings; None means that it does not matter."""
    if config.rollback_strategy not in (RollbackStrategy.DOWN, RollbackStrategy.BOTH):
        return None
    policy = config.missing_down
    if policy is None:
        policy = OnMissingDown.ERROR if config.rollback_strategy is RollbackStrategy.DOWN else OnMissingDown.WARN
    chosen: dict[OnMissingDown, Severity | None] = {
        OnMissingDown.ERROR: "error",
        OnMissingDown.WARN: "warning",
        OnMissingDown.IGNORE: None,
    }
    return chosen[policy]


def _scripts(pending: Sequence[Migration], inspect: Inspect) -> Iterator[Issue]:
    for migration in pending:
        yield from inspect(migration.up)
        if migration.down is not None and migration.down.path != migration.up.path:
            yield from inspect(migration.down)


def _issue(code: str, message: str, *, path: Path | None = None, severity: Severity = "error") -> Issue:
    return Issue(code=code, severity=severity, message=message, path=path)
