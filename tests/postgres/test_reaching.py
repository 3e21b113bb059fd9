"""Not reaching the database: each way has one clear error, and none shows a password."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

from msr_async.errors import ConfigError, ConnectionFailed, DatabaseError
from msr_async.postgres import PostgresHandler
from msr_async.postgres.connecting import Target, connect, refuse_old
from tests.support.servers import Database, only_newest

SECRET = "hunter2-canary"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def failure(dsn: str) -> ConnectionFailed:
    async with PostgresHandler(dsn) as handler:
        assert SECRET not in repr(handler)
        with pytest.raises(ConnectionFailed) as caught:
            await handler.check_connection()
    assert SECRET not in str(caught.value)
    return caught.value


async def test_a_server_that_is_down() -> None:
    port = free_port()
    error = await failure(f"postgresql://me:{SECRET}@127.0.0.1:{port}/app")
    assert f"app@127.0.0.1:{port}" in str(error)
    assert "Is the server running" in error.hint


@only_newest
async def test_cancelled_while_it_closes_it_leaves_no_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = PostgresHandler(database.dsn)
    closing = asyncio.Event()
    close = asyncpg.Connection.close

    async def slowly(connection: Any, *, timeout: float | None = None) -> None:
        closing.set()
        await asyncio.sleep(0.2)
        await close(connection, timeout=timeout)

    async def work() -> None:
        async with handler:
            assert await handler.db.fetchval("SELECT 1") == 1
            await handler.check_connection()
            monkeypatch.setattr(asyncpg.Connection, "close", slowly)

    task = asyncio.ensure_future(work())
    await closing.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    assert database.sql(query) == "0"


async def test_cancelled_twice_while_it_dials_it_leaves_nothing_that_dials() -> None:
    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        before = asyncio.all_tasks()
        dialling = asyncio.ensure_future(connect(Target.from_url(f"postgresql://me@127.0.0.1:{port}/app")))
        while not writers:
            await asyncio.sleep(0.01)
        for _ in range(2):
            dialling.cancel()
            await asyncio.sleep(0.05)
        await asyncio.wait({dialling})
        assert dialling.cancelled()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() <= before
        writers[0].close()


async def test_a_host_that_does_not_exist() -> None:
    error = await failure(f"postgresql://me:{SECRET}@no-such-host.invalid/app")
    assert "Cannot reach PostgreSQL at app@no-such-host.invalid" in str(error)


@only_newest
async def test_an_unknown_database(database: Database) -> None:
    error = await failure(database.dsn.replace(database.name, "nowhere"))
    assert "no such database" in str(error)


@contextmanager
def password_wanted(database: Database, user: str) -> Iterator[None]:
    """The server asks this user for a password while the block lasts."""
    path = database.sql("SHOW hba_file")
    before = database.sql(f"SELECT pg_read_file('{path}')")
    database.sql(f"CREATE ROLE {user} LOGIN PASSWORD 'right'")
    try:
        line = f"host all {user} all scram-sha-256"
        database.sql(
            f"COPY (SELECT unnest(ARRAY['{line}', 'host all all all trust'])) TO '{path}'; SELECT pg_reload_conf()"
        )
        yield
    finally:
        lines = ", ".join("'" + line.replace("'", "''") + "'" for line in before.splitlines() if line)
        database.sql(f"COPY (SELECT unnest(ARRAY[{lines}])) TO '{path}'; SELECT pg_reload_conf()")
        database.sql(f"DROP OWNED BY {user}; DROP ROLE {user}")


@only_newest
async def test_a_wrong_password(database: Database) -> None:
    with password_wanted(database, "locked_out"):
        error = await failure(database.dsn.replace("postgres@", f"locked_out:{SECRET}@"))
        assert 'refused the login as "locked_out"' in str(error)
        async with PostgresHandler(database.dsn.replace("postgres@", "locked_out:right@")) as handler:
            await handler.check_connection()


@pytest.mark.parametrize(
    "dsn", ["mysql://me:hunter2-canary@host/app", "not a url", "postgresql://[::1/app:hunter2-canary"]
)
def test_a_url_that_is_none_is_refused_at_once(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PostgresHandler(dsn)
    assert SECRET not in str(caught.value)
    assert "postgresql://user:password@host" in caught.value.hint


def test_nothing_given_is_refused() -> None:
    with pytest.raises(ConfigError, match="takes a database URL or an asyncpg pool"):
        PostgresHandler("")


async def test_a_port_that_is_none() -> None:
    error = await failure(f"postgresql://me:{SECRET}@127.0.0.1:notaport/app")
    assert "cannot be used" in str(error)


def test_a_target_for_pg_dump_has_no_password_in_it() -> None:
    target = Target.from_url(
        f"postgresql://me:{SECRET}@db.example:5433/my%20app?sslmode=require&search_path=x&password=y"
    )
    assert target.tool_url == "postgresql://me@db.example:5433/my%20app?sslmode=require"
    assert target.label == "my app@db.example:5433"
    assert target.password == SECRET
    assert SECRET not in repr(target)
    assert SECRET not in repr(target.__rich_repr__())


@only_newest
async def test_a_pool_of_the_users_gives_its_address_and_stays_open(database: Database) -> None:
    async with asyncpg.create_pool(database.dsn, min_size=1, max_size=1) as pool:
        async with PostgresHandler(pool) as handler:
            await handler.check_connection()
            assert handler.db is pool
            info = await handler.describe()
            assert info.name == database.name
            target = await handler.target()
            connection = await connect(target)
            await connection.close()
        assert await pool.fetchval("SELECT 1") == 1


@only_newest
async def test_a_closed_handler_says_so(database: Database) -> None:
    handler = PostgresHandler(database.dsn)
    with pytest.raises(ConfigError, match="not open"):
        _ = handler.db
    async with handler:
        assert await handler.db.fetchval("SELECT 1") == 1


@only_newest
async def test_a_history_table_of_somebody_else_is_not_touched(database: Database) -> None:
    database.sql("CREATE TABLE schema_version (installed_rank int)")
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(DatabaseError, match="not a history of msr_async"):
            await handler.schema_version.applied()


def test_a_server_that_is_too_old_is_refused_by_its_number() -> None:
    with pytest.raises(DatabaseError, match="PostgreSQL 14; msr_async needs 15 or newer"):
        refuse_old(14)
    refuse_old(15)


@pytest.mark.parametrize("piece", ["12345/s3cret", "12345#s3cret", "12345?s3cret", "12345?x=s3cret"])
def test_a_password_with_a_special_character_is_refused_and_not_shown(piece: str) -> None:
    with pytest.raises(ConfigError, match="%-encoded") as caught:
        PostgresHandler(f"postgresql://user:{piece}@localhost/app")
    assert "s3cret" not in str(caught.value)
    assert "12345" not in str(caught.value)
