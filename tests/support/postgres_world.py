"""PostgreSQL as the contract suites and the behaviours want to speak of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg

from msr_async.postgres import PostgresHandler
from msr_async.postgres.driver import Connection
from msr_async.postgres.quoting import identifier, literal
from msr_async.testing.embedded import EmbeddedPostgres
from tests.support.servers import fresh_database


class PostgresWorld:
    """A database whose tables hold texts under texts."""

    def __init__(self, handler: PostgresHandler, dsn: str) -> None:
        self._handler = handler
        self._dsn = dsn

    @property
    def handler(self) -> PostgresHandler:
        return self._handler

    def another(self) -> AbstractAsyncContextManager[PostgresHandler]:
        return PostgresHandler(self._dsn)

    async def put(self, conn: Connection, table: str, key: str, value: str, /) -> None:
        await conn.execute(_put(table, key, value))

    async def drop(self, conn: Connection, table: str, /) -> None:
        await conn.execute(f"DROP TABLE {identifier(table)}")

    async def contents(self) -> Mapping[str, Mapping[str, str]]:
        outside = await asyncpg.connect(self._dsn)
        try:
            names = await outside.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
            found = {}
            for (name,) in names:
                rows = await outside.fetch(
                    f"SELECT t::text AS whole, to_jsonb(t)->>'key' AS key, to_jsonb(t)->>'value' AS value FROM {identifier(name)} t"
                )
                found[name] = {row["key"] or row["whole"]: row["value"] or row["whole"] for row in rows}
            return found
        finally:
            await outside.close()

    def put_line(self, table: str, key: str, value: str, /) -> str:
        return f"await db.execute({_put(table, key, value)!r})"

    def drop_line(self, table: str, /) -> str:
        return f"await db.execute({f'DROP TABLE {identifier(table)}'!r})"

    def put_text(self, table: str, key: str, value: str, /) -> str:
        return f"{_put(table, key, value)};"

    def drop_text(self, table: str, /) -> str:
        return f"DROP TABLE {identifier(table)};"

    def transient_error(self) -> Exception:
        return asyncpg.DeadlockDetectedError("deadlock detected")


def _put(table: str, key: str, value: str) -> str:
    name = identifier(table)
    return (
        f"CREATE TABLE IF NOT EXISTS {name} (key text PRIMARY KEY, value text); "
        f"INSERT INTO {name} VALUES ({literal(key)}, {literal(value)}) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
    )


@asynccontextmanager
async def postgres_world(server: EmbeddedPostgres) -> AsyncIterator[PostgresWorld]:
    """A fresh database on that server."""
    with fresh_database(server) as database:
        async with PostgresHandler(database.dsn) as handler:
            yield PostgresWorld(handler, database.dsn)
