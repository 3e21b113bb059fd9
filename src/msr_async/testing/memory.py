"""`MemoryHandler`: a database in memory that keeps every promise of the protocols."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import anyio.lowlevel
from msgspec.structs import replace

from ..errors import ConnectionFailed, already_open
from ..models import DatabaseInfo, Direction, Issue, Script
from ..protocols import Backup, Change, Lock, Progress, SchemaVersion, WorkOptions
from . import memory_scripts
from .memory_backup import MemoryBackup
from .memory_book import MemoryBook
from .memory_data import BOOK, NOTES, Conflict, MemoryConnection, MemoryDatabase
from .memory_lock import MemoryLock

T = TypeVar("T")


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
        if self._open:
            raise already_open()
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
        return memory_scripts.inspect(script) if script.language == "sql" else ()

    async def review(self, scripts: Sequence[Script], /) -> Sequence[Issue]:
        self._check_open()
        await anyio.lowlevel.checkpoint()
        return ()

    def outside(self, script: Script, /) -> bool:
        return memory_scripts.outside(script)

    async def run(self, work: Callable[[MemoryConnection], Awaitable[T]], options: WorkOptions, /) -> T:
        self._check_open()
        connection = MemoryConnection(self.database, transaction=options.transaction)
        try:
            result = await work(connection)
            # A cancellation that came before the commit still undoes it, and so does a lock that somebody released.
            await self._lock.check()
            if options.commit:
                connection.commit()
        finally:
            connection.end()
        return result

    async def execute(self, conn: MemoryConnection, script: Script, /, *, resume: str | None = None) -> None:
        await memory_scripts.execute(conn, self._book, script, resume)

    def joins(self, script: Script, /) -> bool:
        return not memory_scripts.outside(script)

    async def apply(
        self, changes: Sequence[Change], direction: Direction, options: WorkOptions, done: Callable[[float], None], /
    ) -> None:
        for number, change in enumerate(changes, 1):
            started = time.monotonic()
            await self._apply(change, direction, replace(options, durable=options.durable and number == len(changes)))
            done(time.monotonic() - started)

    async def _apply(self, change: Change, direction: Direction, options: WorkOptions) -> None:
        started = time.monotonic()

        async def work(conn: MemoryConnection) -> None:
            await self.execute(conn, change.script)
            if direction == "up":
                now, duration = datetime.now(UTC), time.monotonic() - started
                line = replace(change.entry, applied_at=now, duration=duration)
                await self._book.record(conn, line, replace=line.version is None)
            else:
                await self._book.forget(conn, change.entry.id)

        await self.run(work, options)

    def is_transient(self, error: BaseException, /) -> bool:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, Conflict):
            cause = cause.__cause__
        return cause is not None

    async def progress(self) -> Progress | None:
        return None

    async def catalog(self) -> Mapping[str, str] | None:
        self._check_open()
        await anyio.lowlevel.checkpoint()
        names = self.database.tables.keys() - {BOOK, NOTES}
        return {f"table {name}": hashlib.sha256(name.encode()).hexdigest()[:16] for name in names}

    def _check_open(self) -> None:
        if not self._open:
            raise ConnectionFailed(f"{self._name} is not open.", hint="Use it inside `async with`.")


__all__ = ["BOOK", "NOTES", "Conflict", "MemoryConnection", "MemoryDatabase", "MemoryHandler"]
