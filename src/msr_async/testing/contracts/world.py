"""What a suite must be able to say to any database: put a row, drop a table, tell what is there."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Protocol, TypeVar

from ...protocols import DatabaseMigrationHandler
from ..memory import Conflict, MemoryConnection, MemoryHandler

ConnT = TypeVar("ConnT")


class World(Protocol[ConnT]):
    """One fresh database. Its tables hold texts under texts: `table[key] = value`."""

    @property
    def handler(self) -> DatabaseMigrationHandler[ConnT]:
        """An open handler of it."""
        ...

    def another(self) -> AbstractAsyncContextManager[DatabaseMigrationHandler[ConnT]]:
        """One more open handler of the same database, as another process would have."""
        ...

    async def put(self, conn: ConnT, table: str, key: str, value: str, /) -> None:
        """Write a row through a connection, making the table if it is not there."""
        ...

    async def drop(self, conn: ConnT, table: str, /) -> None:
        """Drop a table that is there."""
        ...

    async def contents(self) -> Mapping[str, Mapping[str, str]]:
        """All that is committed, read from outside: every table, the history's among them, with its rows."""
        ...

    def put_line(self, table: str, key: str, value: str, /) -> str:
        """`put` as a line of a Python migration whose connection is called `db`."""
        ...

    def drop_line(self, table: str, /) -> str:
        """`drop` in the same way."""
        ...

    def put_text(self, table: str, key: str, value: str, /) -> str:
        """`put` in the database's own language: a line of a `.sql` file."""
        ...

    def drop_text(self, table: str, /) -> str:
        """`drop` in the same way."""
        ...

    def transient_error(self) -> Exception:
        """What the database or its driver raises when two transactions were in each other's way."""
        ...


class MemoryWorld:
    """A database in memory."""

    def __init__(self, handler: MemoryHandler) -> None:
        self._handler = handler

    @property
    def handler(self) -> DatabaseMigrationHandler[MemoryConnection]:
        return self._handler

    def another(self) -> AbstractAsyncContextManager[DatabaseMigrationHandler[MemoryConnection]]:
        return MemoryHandler("another", database=self._handler.database)

    async def put(self, conn: MemoryConnection, table: str, key: str, value: str, /) -> None:
        await conn.put(table, key, value)

    async def drop(self, conn: MemoryConnection, table: str, /) -> None:
        await conn.drop(table)

    async def contents(self) -> Mapping[str, Mapping[str, str]]:
        db = self._handler.db
        return {name: {key: str(row) for key, row in (await db.rows(name)).items()} for name in await db.tables()}

    def put_line(self, table: str, key: str, value: str, /) -> str:
        return f"await db.put({table!r}, {key!r}, {value!r})"

    def drop_line(self, table: str, /) -> str:
        return f"await db.drop({table!r})"

    def put_text(self, table: str, key: str, value: str, /) -> str:
        return shlex.join(["put", table, key, value])

    def drop_text(self, table: str, /) -> str:
        return shlex.join(["drop", table])

    def transient_error(self) -> Exception:
        return Conflict("Somebody else was faster.")


@asynccontextmanager
async def memory_world(environment: str | None = None) -> AsyncIterator[MemoryWorld]:
    """A fresh database in memory."""
    async with MemoryHandler(environment=environment) as handler:
        yield MemoryWorld(handler)


class _Raised:
    error: BaseException | None = None


@contextmanager
def raising(kind: type[BaseException]) -> Iterator[_Raised]:
    """Fail unless the block raises that error; the suites depend on no test framework."""
    raised = _Raised()
    try:
        yield raised
    except kind as error:
        raised.error = error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")
