"""`MemoryHandler`: a database in memory that keeps every promise of the protocols."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import anyio.lowlevel

from ..errors import ConnectionFailed, DatabaseError, ScriptFailed
from ..models import AppliedMigration, DatabaseInfo, Issue, Script, Version
from ..protocols import Backup, Lock, SchemaVersion, TransactionConfig
from .memory_backup import MemoryBackup
from .memory_data import BOOK, MemoryConnection, MemoryDatabase
from .memory_lock import MemoryLock

T = TypeVar("T")


class MemoryBook:
    """The history, kept as one of the tables."""

    def __init__(self, database: MemoryDatabase, check_open: Callable[[], None]) -> None:
        self._database = database
        self._check_open = check_open

    async def applied(self) -> Sequence[AppliedMigration]:
        self._check_open()
        await anyio.lowlevel.checkpoint()
        rows = [json.loads(text) for text in self._database.tables.get(BOOK, {}).values()]
        return sorted((_entry(row) for row in rows), key=lambda entry: entry.version)

    async def ensure(self) -> None:
        self._check_open()
        await MemoryConnection(self._database, transaction=False).create(BOOK)

    async def record(self, conn: MemoryConnection, entry: AppliedMigration, /) -> None:
        if await conn.get(BOOK, str(entry.version)) is not None:
            raise DatabaseError(f"{entry} is recorded already.", hint="Another run applied it.")
        row = {"version": entry.version, "name": entry.name, "checksum": entry.checksum}
        row |= {"applied_at": entry.applied_at.isoformat(), "duration": entry.duration, "applied_by": entry.applied_by}
        await conn.put(BOOK, str(entry.version), row)

    async def forget(self, conn: MemoryConnection, version: Version, /) -> None:
        await conn.delete(BOOK, str(version))


def _entry(row: Mapping[str, Any]) -> AppliedMigration:
    return AppliedMigration(**{**row, "applied_at": datetime.fromisoformat(row["applied_at"])})


class MemoryHandler:
    """A handler for tests: hand in a database to share it or to look into it.

    Args:
        name: what it is called in messages, and the database's name.
        environment: the label that the target guard looks at.
        database: a fresh one when left out.
    """

    def __init__(
        self, name: str = "memory", *, environment: str | None = None, database: MemoryDatabase | None = None
    ) -> None:
        self._name = name
        self._environment = environment
        self._open = False
        self.database = MemoryDatabase() if database is None else database
        self._book = MemoryBook(self.database, self._check_open)
        self._lock = MemoryLock(self.database, name)
        self._backup = MemoryBackup(self.database)

    def __repr__(self) -> str:
        return f"<MemoryHandler {self._name}, {'open' if self._open else 'closed'}>"

    @property
    def name(self) -> str:
        return self._name

    @property
    def db(self) -> MemoryConnection:
        """Reads and writes outside of any transaction."""
        self._check_open()
        return MemoryConnection(self.database, transaction=False)

    @property
    def schema_version(self) -> SchemaVersion[MemoryConnection]:
        return self._book

    @property
    def lock(self) -> Lock | None:
        return self._lock

    @property
    def backup(self) -> Backup | None:
        return self._backup

    async def __aenter__(self) -> MemoryHandler:
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._open = False

    async def check_connection(self) -> None:
        self._check_open()
        await anyio.lowlevel.checkpoint()

    async def describe(self) -> DatabaseInfo:
        self._check_open()
        await anyio.lowlevel.checkpoint()
        return DatabaseInfo(
            kind="memory",
            name=self._name,
            host="memory",
            identity=self.database.identity,
            server_version="1",
            environment=self._environment,
            empty=not self.database.tables,
        )

    def inspect(self, script: Script, /) -> Sequence[Issue]:
        message = "A database in memory has no SQL. Write a Python migration."
        return [Issue(code="no-sql", severity="error", message=message, path=script.path)]

    async def run(
        self, work: Callable[[MemoryConnection], Awaitable[T]], /, *, transaction: TransactionConfig | None
    ) -> T:
        self._check_open()
        connection = MemoryConnection(self.database, transaction=transaction is not None)
        try:
            result = await work(connection)
            await anyio.lowlevel.checkpoint()  # a cancellation that came before the commit still undoes it
            connection.commit()
        finally:
            connection.end()
        return result

    async def execute(self, conn: MemoryConnection, script: Script, /) -> None:
        raise ScriptFailed(
            "A database in memory has no SQL.", path=script.path, hint="Write a Python migration instead."
        )

    def _check_open(self) -> None:
        if not self._open:
            raise ConnectionFailed(f"{self._name} is not open.", hint="Use it inside `async with`.")


__all__ = ["BOOK", "MemoryConnection", "MemoryDatabase", "MemoryHandler"]
