"""Scripts and history lines for tests that ask a PostgreSQL handler without an engine around it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from msr_async.models import NO_DIRECTIVES, AppliedMigration, Direction, Directives, Script
from msr_async.postgres import PostgresHandler
from msr_async.protocols import Change, WorkOptions

PLAIN = WorkOptions()
VERSION = 202601010001


def sql(text: str, directives: Directives = NO_DIRECTIVES) -> Script:
    return Script(path=Path("V202601010001_it.up.sql"), text=text, language="sql", directives=directives)


def line(version: int | None = VERSION, name: str = "it", checksum: str = "ab" * 32) -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum=checksum,
        applied_at=datetime(2020, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        duration=9.5,
        applied_by="me@here",
        run="run-1",
    )


async def apply(
    handler: PostgresHandler,
    script: Script,
    entry: AppliedMigration,
    direction: Direction = "up",
    options: WorkOptions = PLAIN,
) -> None:
    """One script with its line."""
    done: list[float] = []
    await handler.apply([Change(script=script, entry=entry)], direction, options, done.append)
    assert len(done) == 1


async def make_book(handler: PostgresHandler) -> None:
    await handler.run(handler.schema_version.ensure, PLAIN)
