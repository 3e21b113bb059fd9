"""Migrating through PgBouncer in transaction pooling: the lock's own transaction, and the units beside it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from msr_async import AppliedMigration, BackupMode, Config, LockInfo, MigrationScriptExecutor, RollbackStrategy
from msr_async.errors import ConnectionLost, DatabaseError, ScriptFailed
from msr_async.models import Script
from msr_async.postgres import PostgresHandler, lock, pooling
from msr_async.protocols import WorkOptions
from tests.support.pgbouncer import Bouncers
from tests.support.scripted import apply
from tests.support.servers import Database, only_newest

pytestmark = only_newest

LOCKS = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
LOCK_BACKEND = "FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'msr_async:% (lock)'"
ENTRY = AppliedMigration(
    version=202601010001,
    name="first",
    checksum="ab" * 32,
    applied_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    duration=0.25,
    applied_by="me@here",
)


def ignore(holder: LockInfo | None, waited: float) -> None:
    pass


async def execute(handler: PostgresHandler, *statements: str, options: WorkOptions | None = None) -> None:
    async def work(conn: Any) -> None:
        for statement in statements:
            await conn.execute(statement)

    await handler.run(work, options or WorkOptions())


async def test_the_history_and_the_units_work_under_the_lock(database: Database, pgbouncer: Bouncers) -> None:
    async def work(conn: Any) -> None:
        await conn.execute("CREATE TABLE t (id int)")
        await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
        await handler.schema_version.record(conn, ENTRY)

    async with PostgresHandler(pgbouncer(database)) as handler, PostgresHandler(database.dsn) as direct:
        assert await handler.schema_version.applied() == ()
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await handler.run(handler.schema_version.ensure, WorkOptions())
            for _ in range(5):
                await handler.lock.check()
                await execute(handler, "CREATE TABLE gone (id int)", "DROP TABLE gone")
            await handler.run(work, WorkOptions())
            assert [line.id for line in await handler.schema_version.applied()] == [ENTRY.id]
        assert [line.id for line in await direct.schema_version.applied()] == [ENTRY.id]
    assert database.sql("SELECT count(*) FROM t") == "2"


async def test_a_script_and_its_line_are_one_transaction(database: Database, pgbouncer: Bouncers) -> None:
    async def script(text: str) -> None:
        file = Script(path=Path("V202601010001_first.up.sql"), text=text, language="sql")
        await apply(handler, file, ENTRY, "up", WorkOptions(lock_timeout=2, durable=False))

    async with PostgresHandler(pgbouncer(database)) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await handler.run(handler.schema_version.ensure, WorkOptions())
            with pytest.raises(ScriptFailed, match="division by zero"):
                await script("CREATE TABLE t (id int);\nINSERT INTO t VALUES (1 / 0);")
            assert not handler.joins(Script(path=Path("a.sql"), text="CREATE TABLE u (id int)", language="sql"))
            assert database.sql("SELECT to_regclass('t') IS NULL") == "t"
            await handler.lock.check()
            await script("CREATE TABLE t AS SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory';")
            assert database.sql("SELECT locks FROM t") == "2", "the lock and the fence"
            await execute(handler, "CREATE INDEX CONCURRENTLY i ON t (locks)", options=WorkOptions(transaction=False))
            assert [line.id for line in await handler.schema_version.applied()] == [ENTRY.id]


async def test_behaviour_39_a_unit_holds_the_fence_and_nobody_does_in_between(
    database: Database, pgbouncer: Bouncers
) -> None:
    seen: list[str] = []

    async def work(conn: Any) -> None:
        seen.append(database.sql(LOCKS))

    async with PostgresHandler(pgbouncer(database)) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            seen.append(database.sql(LOCKS))
            await handler.run(work, WorkOptions())
            seen.append(database.sql(LOCKS))
        seen.append(database.sql(LOCKS))
        await handler.run(work, WorkOptions())
    assert seen == ["1", "2", "1", "0", "0"]


async def test_work_of_somebody_gone_makes_the_next_wait_until_it_ends(database: Database, pgbouncer: Bouncers) -> None:
    heard: list[LockInfo | None] = []
    async with PostgresHandler(pgbouncer(database)) as left, PostgresHandler(pgbouncer(database)) as next_one:
        ended = anyio.Event()

        async def work(conn: Any) -> None:
            await conn.execute(f"SELECT pg_advisory_xact_lock({left.lock.fence})")
            await ended.wait()

        def waiting(holder: LockInfo | None, waited: float) -> None:
            heard.append(holder)
            ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(left.run, work, WorkOptions())
            await anyio.sleep(0.3)
            async with next_one.lock.hold(timeout=10, waiting=waiting):
                assert database.sql(LOCKS) == "1"
    assert heard[0] is not None
    assert heard[0].doing.startswith("idle in a transaction since ")


async def test_no_time_limit_of_the_database_ends_it(database: Database, pgbouncer: Bouncers) -> None:
    for limit in ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
        database.sql(f"ALTER DATABASE {database.name} SET {limit} = '400ms'")
    database.sql(f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'repeatable read'")
    async with PostgresHandler(pgbouncer(database)) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await anyio.sleep(1)
            await handler.lock.check()
            assert database.sql(f"SELECT state, backend_xmin IS NULL {LOCK_BACKEND}") == "idle in transaction|t"


async def test_a_heartbeat_keeps_the_transaction_from_looking_abandoned(
    database: Database, pgbouncer: Bouncers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "HEARTBEAT", 0.05)
    state = f"SELECT pid, xact_start, state_change {LOCK_BACKEND}"
    async with PostgresHandler(pgbouncer(database)) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await anyio.sleep(0.2)
            early = database.sql(state).split("|")
            await anyio.sleep(0.3)
            late = database.sql(state).split("|")
            assert early[:2] == late[:2]
            assert early[2] < late[2]
            # the heartbeat and the check ask on one connection, one after the other
            with anyio.fail_after(10):
                for _ in range(100):
                    await handler.lock.check()


async def test_a_check_that_is_cancelled_does_not_lose_the_lock(
    database: Database, pgbouncer: Bouncers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with PostgresHandler(pgbouncer(database)) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            before = database.sql(f"SELECT pid, xact_start {LOCK_BACKEND}")
            with monkeypatch.context() as slow:
                slow.setattr(pooling, "_BEAT", "SELECT pg_sleep(0.4)")
                checking = asyncio.create_task(handler.lock.check())
                await anyio.sleep(0.2)
                checking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await checking
            await handler.lock.check()
            assert database.sql(f"SELECT pid, xact_start {LOCK_BACKEND}") == before


async def test_the_block_ends_as_it_ends_and_the_server_connection_goes_back(
    database: Database, pgbouncer: Bouncers
) -> None:
    async with PostgresHandler(pgbouncer(database)) as handler:
        pids = set()
        for _ in range(3):
            with pytest.raises(KeyError):
                async with handler.lock.hold(timeout=5, waiting=ignore):
                    pids.add(database.sql(f"SELECT pid {LOCK_BACKEND}"))
                    raise KeyError
            assert database.sql(LOCKS) == "0"
        with anyio.CancelScope() as scope:
            async with handler.lock.hold(timeout=5, waiting=ignore):
                pids.add(database.sql(f"SELECT pid {LOCK_BACKEND}"))
                scope.cancel()
                await anyio.sleep(30)
        assert scope.cancelled_caught
        assert database.sql(LOCKS) == "0"
        alive = database.sql("SELECT pid FROM pg_stat_activity WHERE datname = current_database()").split()
        assert pids <= set(alive), "the proxy kept its server connections"
        assert [task for task in asyncio.all_tasks() if "_keep_alive" in repr(task)] == []


async def test_a_block_whose_lock_was_lost_still_ends_well(database: Database, pgbouncer: Bouncers) -> None:
    async with PostgresHandler(pgbouncer(database)) as handler:
        with pytest.raises(ConnectionLost, match="the proxy in front of it"):
            async with handler.lock.hold(timeout=5, waiting=ignore):
                database.sql(f"SELECT pg_terminate_backend(pid) {LOCK_BACKEND}")
                await anyio.sleep(0.1)
                await handler.lock.check()
        async with handler.lock.hold(timeout=0, waiting=ignore):
            await handler.lock.check()


async def test_waiting_keeps_no_server_connection_from_the_one_who_migrates(
    database: Database, pgbouncer: Bouncers
) -> None:
    dsn = pgbouncer(database, pool_size=2)
    done: list[int] = []

    async def wait(number: int, waiting: anyio.Event) -> None:
        async with PostgresHandler(dsn) as other:
            async with other.lock.hold(timeout=60, waiting=lambda *_: waiting.set()):
                await execute(other, "INSERT INTO t VALUES (1)")
                done.append(number)

    async with PostgresHandler(dsn) as first, anyio.create_task_group() as group:
        async with first.lock.hold(timeout=5, waiting=ignore):
            await execute(first, "CREATE TABLE t (id int)")
            waiting = [anyio.Event() for _ in range(3)]
            for number, event in enumerate(waiting):
                group.start_soon(wait, number, event)
            with anyio.fail_after(20):
                for event in waiting:
                    await event.wait()
                for _ in range(10):
                    await execute(first, "INSERT INTO t VALUES (1)")
    assert sorted(done) == [0, 1, 2]
    assert database.sql("SELECT count(*) FROM t") == "13"


async def test_a_proxy_with_a_single_server_connection_is_refused(
    database: Database, pgbouncer: Bouncers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_SECOND_CONNECTION_TIMEOUT", 0.5)
    async with PostgresHandler(pgbouncer(database, pool_size=1)) as handler:
        with anyio.fail_after(20), pytest.raises(DatabaseError, match="gave no second connection"):
            async with handler.lock.hold(timeout=5, waiting=ignore):
                pytest.fail("the first unit would wait for itself")
        assert await handler.lock.status() is None


async def test_behaviour_39_runners_who_start_at_once_run_each_migration_once(
    database: Database, pgbouncer: Bouncers, tmp_path: Path
) -> None:
    for number in range(5):
        (tmp_path / f"V20260101000{number}_step{number}.up.sql").write_text(f"CREATE TABLE t{number} (id int);")
    (tmp_path / "V202601010005_index.up.sql").write_text("CREATE INDEX CONCURRENTLY i ON t0 (id);")
    (tmp_path / "V202601010006_rows.py").write_text(
        "async def up(db, ctx):\n    await db.execute('INSERT INTO t0 VALUES ($1)', 1)\n"
    )
    executed: list[int] = []

    async def migrate(dsn: str) -> None:
        config = Config(folder=tmp_path, rollback_strategy=RollbackStrategy.NONE, backup_mode=BackupMode.MANUAL)
        async with PostgresHandler(dsn) as handler:
            result = await MigrationScriptExecutor(handler, config).migrate()
            executed.append(len(result.executed))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for dsn in (pgbouncer(database), database.dsn) * 3:
                group.start_soon(migrate, dsn)
    assert sorted(executed) == [0, 0, 0, 0, 0, 7]
    assert database.sql("SELECT count(*), (SELECT count(*) FROM t0) FROM schema_version") == "7|1"
    assert database.sql(LOCKS) == "0"
