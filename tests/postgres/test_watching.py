"""How far a long statement has come, asked from a second connection while the first is busy."""

from __future__ import annotations

import anyio
import asyncpg

from msr_async.postgres import PostgresHandler
from msr_async.protocols import Progress, WorkOptions
from tests.postgres.test_backing_up import nobody_left
from tests.support.scripted import PLAIN, apply, line, make_book, sql
from tests.support.servers import Database, only_newest

pytestmark = only_newest


async def test_an_index_tells_how_far_it_is(database: Database) -> None:
    database.sql(
        "CREATE TABLE t AS SELECT id, md5(id::text) AS word FROM generate_series(1, 300000) id; "
        "ALTER DATABASE " + database.name + " SET max_parallel_maintenance_workers = 0"
    )
    seen: list[Progress] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        assert await handler.progress() is None, "nothing is under way"

        async def build() -> None:
            await apply(handler, sql("CREATE INDEX i ON t (word)"), line(), "up", PLAIN)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(build)
            while True:
                if (found := await handler.progress()) is not None:
                    seen.append(found)
                await anyio.sleep(0.005)
        assert len(await handler.schema_version.applied()) == 1
    await nobody_left(database)
    assert any(found.phase.startswith("CREATE INDEX: building") and found.total > 0 for found in seen), seen
    assert any(0 < found.done <= found.total for found in seen), seen


async def test_an_index_that_waits_for_others_tells_so(database: Database) -> None:
    database.sql("CREATE TABLE t (id int)")
    blocker = await asyncpg.connect(database.dsn)
    await blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)

        async def build() -> None:
            async def work(connection: asyncpg.Connection[asyncpg.Record]) -> None:
                await connection.execute("CREATE INDEX CONCURRENTLY i ON t (id)")

            await handler.run(work, WorkOptions(transaction=False))

        async with anyio.create_task_group() as group:
            group.start_soon(build)
            with anyio.fail_after(10):
                while (found := await handler.progress()) is None or "waiting" not in found.phase:
                    await anyio.sleep(0.02)
            await blocker.close()
    assert found is not None
    assert (found.done, found.total) == (0, 1)


async def test_a_lost_second_connection_is_opened_again(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        assert await handler.progress() is None
        assert handler._watcher is not None
        assert handler._watcher._connection is not None
        first = handler._watcher._connection.get_server_pid()
        database.sql(f"SELECT pg_terminate_backend({first})")
        await anyio.sleep(0.2)
        assert await handler.progress() is None
        assert handler._watcher._connection.get_server_pid() != first
    await nobody_left(database)
