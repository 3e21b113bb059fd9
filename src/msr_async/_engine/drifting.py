"""Was the schema changed by hand since the last run? Each run notes it, object by object, beside the history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import TypeVar

from msgspec.structs import replace

from ..config import Policy
from ..models import AppliedMigration, Drift, Issue
from ..protocols import DatabaseMigrationHandler, WorkOptions

ConnT = TypeVar("ConnT")
_KEY = "catalog"


async def find_drift(handler: DatabaseMigrationHandler[ConnT], applied: Sequence[AppliedMigration]) -> Drift | None:
    """Compare the schema with what the last run left.

    Returns:
        None where there is nothing to compare with: no schema, no run yet, or one that was killed before its note.
    """
    newest = _newest(applied)
    if newest is None:
        return None
    note = await handler.schema_version.note(_KEY)
    if note is None or note.get("after") != _moment(newest):
        return None
    now = await handler.catalog()
    if now is None:
        return None
    return compare(note["objects"], now, newest)


async def note_schema(handler: DatabaseMigrationHandler[ConnT]) -> None:
    """Note the schema as it is now, and its fingerprint at the newest line of the history, in one transaction."""
    objects = await handler.catalog()
    if objects is None:
        return
    book = handler.schema_version
    newest = _newest(await book.applied())
    value = None if newest is None else {"after": _moment(newest), "objects": dict(objects)}

    async def work(conn: ConnT) -> None:
        if newest is not None:
            await book.record(conn, replace(newest, fingerprint=fingerprint(objects)), replace=True)
        await book.keep_note(conn, _KEY, value)

    await handler.run(work, WorkOptions())


def compare(before: Mapping[str, str], now: Mapping[str, str], since: AppliedMigration) -> Drift:
    """What is new, gone and different, each sorted by name."""
    return Drift(
        since=since,
        added=tuple(sorted(now.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - now.keys())),
        changed=tuple(sorted(name for name in before.keys() & now.keys() if before[name] != now[name])),
    )


def drift_issue(drift: Drift, policy: Policy) -> Issue:
    """A drift as a finding among others."""
    changes = [(word, names) for word, names in _changes(drift) if names]
    told = "; ".join(f"{word}: {', '.join(names)}" for word, names in changes)
    return Issue(
        code="drift",
        severity="error" if policy is Policy.ERROR else "warning",
        message=f"The schema was changed by hand since {drift.since}. {told}. Write it as a migration, or undo it.",
    )


def fingerprint(objects: Mapping[str, str]) -> str:
    """One hash of a whole schema."""
    return _hash(f"{name}\0{objects[name]}" for name in sorted(objects))


def _changes(drift: Drift) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return (("added", drift.added), ("removed", drift.removed), ("changed", drift.changed))


def _newest(applied: Sequence[AppliedMigration]) -> AppliedMigration | None:
    return max(applied, key=lambda entry: (entry.applied_at, entry.id), default=None)


def _moment(entry: AppliedMigration) -> str:
    """Which history a note belongs to: the one that ends with this line."""
    return f"{entry.id} {entry.applied_at.astimezone(UTC).isoformat()}"


def _hash(pieces: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()[:32]
