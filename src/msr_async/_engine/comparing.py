"""Do the files and the history agree? Each finding is an issue; what to do about them is decided elsewhere."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..config import Config, OutOfOrder, Policy
from ..models import AppliedMigration, Issue, Migration, Severity, Version


def by_id(migrations: Iterable[Migration]) -> dict[str, list[Migration]]:
    """Files by what the history knows them by, in their order; more than one of an id are doubles."""
    files: dict[str, list[Migration]] = defaultdict(list)
    for migration in migrations:
        files[migration.id].append(migration)
    return dict(files)


def in_order(applied: Iterable[AppliedMigration]) -> tuple[AppliedMigration, ...]:
    """The history by version, then its repeatable scripts by name."""
    return tuple(sorted(applied, key=lambda entry: (entry.version is None, entry.version or 0, entry.name)))


def versions_of(entries: Iterable[Migration | AppliedMigration]) -> list[Version]:
    """Each version once, in order."""
    return sorted({entry.version for entry in entries if entry.version is not None})


def severity_of(policy: Policy) -> Severity | None:
    """None: not worth a word."""
    severities: dict[Policy, Severity | None] = {Policy.ERROR: "error", Policy.WARN: "warning", Policy.IGNORE: None}
    return severities[policy]


def is_changed(entry: AppliedMigration, same: Sequence[Migration]) -> bool:
    """Whether no file of that id is the one that was applied."""
    return entry.checksum not in [migration.checksum for migration in same]


def doubles(files: Mapping[str, Sequence[Migration]]) -> Iterator[Issue]:
    """Ids that more than one file has."""
    for same in files.values():
        if len(same) == 1:
            continue
        places = ", ".join(str(migration.up.path) for migration in same)
        version = same[0].version
        if version is None:
            message = f"The repeatable script {same[0]} is there more than once: {places}. Give each its own name."
            yield _issue("duplicate-repeatable", message, path=same[1].up.path)
        else:
            message = f"Version {version} is used more than once: {places}. Give each its own version."
            yield _issue("duplicate-version", message, path=same[1].up.path)


def missing_files(
    files: Mapping[str, Sequence[Migration]], history: Mapping[str, AppliedMigration], config: Config
) -> Iterator[Issue]:
    """Lines of the history, by id, without a file. A baseline stands for files that may never have been there."""
    severity = severity_of(config.missing_file)
    if severity is None:
        return
    for id, entry in history.items():
        if entry.baseline or id in files:
            continue
        if entry.version is None:
            message = f"{entry} was applied {_day(entry)} and its file is gone. Take it out of the history by a repair."
            yield _issue("missing-file", message, severity="warning")
        else:
            message = f"{entry} was applied {_day(entry)} and its file is missing. Put the file back."
            yield _issue("missing-file", message, severity=severity)


def changed_files(
    files: Mapping[str, Sequence[Migration]], history: Mapping[str, AppliedMigration], config: Config
) -> Iterator[Issue]:
    """Versioned ones that are not what was applied; for repeatable ones a change is their way of life."""
    severity = severity_of(config.changed_file)
    if severity is None:
        return
    for id, entry in history.items():
        same = files.get(id)
        if entry.version is not None and same and is_changed(entry, same):
            yield _issue(
                "checksum-mismatch",
                f"{entry} was changed after it was applied {_day(entry)}. "
                "Put its text back, and make the change in a new migration.",
                path=same[0].up.path,
                severity=severity,
            )


def out_of_order(
    pending: Iterable[Migration], newest: AppliedMigration | None, config: Config
) -> Iterator[tuple[Migration, Issue | None]]:
    """The pending migrations that stay, each with the error that it is, where it is one."""
    limit = -1 if newest is None or newest.version is None else newest.version
    for migration in pending:
        late = migration.version is not None and migration.version < limit
        if not late or config.out_of_order is OutOfOrder.ALLOW:
            yield migration, None
        elif config.out_of_order is OutOfOrder.ERROR:
            message = f"{migration} is older than {newest}, which was applied already. Give it a newer version."
            yield migration, _issue("out-of-order", message, path=migration.up.path)


def nearest(versions: Sequence[Version], wanted: Version) -> str:
    """A sentence with the versions (which are in order) around one that is not there."""
    position = bisect_left(versions, wanted)
    around = [str(version) for version in versions[max(position - 1, 0) : position + 1]]
    return f"The nearest are {' and '.join(around)}." if len(around) > 1 else "".join(f"There is {v}." for v in around)


def _day(entry: AppliedMigration) -> str:
    return f"{entry.applied_at:%Y-%m-%d}"


def _issue(code: str, message: str, *, path: Path | None = None, severity: Severity = "error") -> Issue:
    return Issue(code=code, severity=severity, message=message, path=path)
