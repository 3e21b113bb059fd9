"""Runs a plan's migrations, each together with its line in the history, and undoes them the same way."""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

from ..errors import DownFailed
from ..events import Direction, MigrationErred, MigrationFinished, MigrationStarted, Observer
from ..models import AppliedMigration, Migration
from ..protocols import DatabaseMigrationHandler, TransactionConfig
from .scripting import module_name, prepare

ConnT = TypeVar("ConnT")


async def apply(
    handler: DatabaseMigrationHandler[ConnT],
    migrations: Sequence[Migration],
    emit: Observer,
    finished: Callable[[Migration], None],
    *,
    by: str,
) -> None:
    """Run the migrations in the given order, up to the first that fails.

    Args:
        finished: hears of each that is done, so that a failure leaves no doubt about which those are.
        by: who runs them, for the history.
    """
    for position, migration in enumerate(migrations, 1):
        await _up(handler, migration, position, len(migrations), emit, by)
        finished(migration)


async def undo(
    handler: DatabaseMigrationHandler[ConnT],
    migrations: Sequence[Migration],
    emit: Observer,
    finished: Callable[[Migration], None],
) -> None:
    """Run the `down`s of the migrations in the given order.

    Raises:
        DownFailed: at the first that fails; those before it stay undone.
    """
    for position, migration in enumerate(migrations, 1):
        try:
            await _down(handler, migration, position, len(migrations), emit)
        except Exception as error:
            raise DownFailed(migration, error) from error
        finished(migration)


async def _up(
    handler: DatabaseMigrationHandler[ConnT],
    migration: Migration,
    position: int,
    total: int,
    emit: Observer,
    by: str,
) -> None:
    async with _told(migration, "up", position, total, emit):
        started = time.monotonic()
        with module_name(migration) as name:
            script = await prepare(handler, migration, "up", name)

            async def work(conn: ConnT) -> None:
                await script(conn)
                entry = AppliedMigration(
                    version=migration.version,
                    name=migration.name,
                    checksum=migration.checksum,
                    applied_at=datetime.now(UTC),
                    duration=time.monotonic() - started,
                    applied_by=by,
                )
                await handler.schema_version.record(conn, entry)

            await _run(handler, work)


async def _down(
    handler: DatabaseMigrationHandler[ConnT], migration: Migration, position: int, total: int, emit: Observer
) -> None:
    async with _told(migration, "down", position, total, emit):
        with module_name(migration) as name:
            script = await prepare(handler, migration, "down", name)

            async def work(conn: ConnT) -> None:
                await script(conn)
                await handler.schema_version.forget(conn, migration.version)

            await _run(handler, work)


async def _run(handler: DatabaseMigrationHandler[ConnT], work: Callable[[ConnT], Awaitable[None]]) -> None:
    await handler.run(work, transaction=TransactionConfig())


@asynccontextmanager
async def _told(
    migration: Migration, direction: Direction, position: int, total: int, emit: Observer
) -> AsyncIterator[None]:
    emit(MigrationStarted(migration=migration, direction=direction, position=position, total=total))
    started = time.monotonic()
    try:
        yield
    except BaseException as error:
        emit(MigrationErred(migration=migration, direction=direction, error=error))
        raise
    emit(MigrationFinished(migration=migration, direction=direction, duration=time.monotonic() - started))


def whoami() -> str:
    """`user@host` for the history; a user without a name is its number."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
