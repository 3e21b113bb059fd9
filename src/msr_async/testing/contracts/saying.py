"""The small sentences that the suites have in common."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ...models import AppliedMigration, LockInfo, Script
from ...protocols import Lock, WorkOptions
from .world import World

ConnT = TypeVar("ConnT")
VERSION = 202601010001
TRANSACTION = WorkOptions()


class OwnError(Exception):
    """An error that no handler knows."""


async def put(world: World[ConnT], key: str, value: str) -> None:
    """Write a row of the table `things`, in a unit of its own."""

    async def work(conn: ConnT) -> None:
        await world.put(conn, "things", key, value)

    await world.handler.run(work, TRANSACTION)


async def ensure(world: World[ConnT]) -> None:
    """Make the book."""
    await world.handler.run(world.handler.schema_version.ensure, TRANSACTION)


async def record(world: World[ConnT], entry: AppliedMigration, *, replace: bool = False) -> None:
    """Write a line of the history, in a unit of its own."""

    async def work(conn: ConnT) -> None:
        await world.handler.schema_version.record(conn, entry, replace=replace)

    await world.handler.run(work, TRANSACTION)


def entry(
    version: int | None = VERSION,
    name: str = "first",
    *,
    checksum: str = "ab" * 32,
    baseline: bool = False,
    run: str = "",
    fingerprint: str = "",
) -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum=checksum,
        applied_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        duration=0.25,
        applied_by="me@here",
        baseline=baseline,
        run=run,
        fingerprint=fingerprint,
    )


def script(*lines: str) -> Script:
    """A script of the database's own language."""
    return Script(path=Path("V202601010001_first.up.sql"), text="\n".join(lines), language="sql")


async def history(world: World[ConnT]) -> Sequence[AppliedMigration]:
    return list(await world.handler.schema_version.applied())


def offered(lock: Lock | None) -> Lock:
    assert lock is not None, "this suite is for handlers that offer a lock"
    return lock


def ignore(holder: LockInfo | None, waited: float) -> None:
    pass
