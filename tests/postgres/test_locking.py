"""The migration lock on a real PostgreSQL, directly and through PgBouncer: whom it excludes, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import TaskGroup

from msr_async import LockInfo
from msr_async.errors import ConnectionLost, DatabaseError, LockNotAcquired, PermissionMissing
from msr_async.postgres import PostgresHandler, lock
from msr_async.postgres.asking import ask
from msr_async.protocols import WorkOptions
from tests.cli.command import environment
from tests.support.pgbouncer import Bouncers
from tests.support.servers import Database, only_newest

pytestmark = only_newest
both_ways = pytest.mark.parametrize("way", ["direct", "pooled"])
OUTSIDE = WorkOptions(transaction=False)

HOLDER = """
import sys, anyio
from msr_async.postgres import PostgresHandler
from msr_async.protocols import WorkOptions

async def main():
    async with PostgresHandler(sys.argv[1]) as handler:
        async with handler.lock.hold(timeout=10, waiting=lambda *_: None):
            async def work(conn):
                await conn.execute("CREATE TABLE half_done (id int)")
                print("held", flush=True)
                await conn.execute(sys.argv[2])
                await anyio.sleep(60)
            await handler.run(work, WorkOptions())

anyio.run(main)
"""

Reach = Callable[[str], str]


@pytest.fixture
def reach(database: Database, pgbouncer: Bouncers) -> Reach:
    """The URL of the test's database, by the way's name."""
    return lambda way: database.dsn if way == "direct" else pgbouncer(database)


@contextmanager
def holding_process(dsn: str, statement: str = "SELECT 1") -> Iterator[subprocess.Popen[str]]:
    """Another process with the lock, in the middle of a transaction that runs this statement."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, dsn, statement], env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=20)


def ignore(holder: LockInfo | None, waited: float) -> None:
    pass


def hold(
    handler: PostgresHandler, timeout: float = 5, waiting: Callable[[LockInfo | None, float], None] = ignore
) -> Any:
    return handler.lock.hold(timeout=timeout, waiting=waiting)


async def execute(handler: PostgresHandler, sql: str, options: WorkOptions | None = None) -> None:
    async def work(conn: Any) -> None:
        await conn.execute(sql)

    await handler.run(work, options or WorkOptions())


async def start_waiting(group: TaskGroup, dsns: list[str]) -> list[str]:
    """Others who wait for the lock; each that had it is added to the list. Comes back when all are waiting."""
    done: list[str] = []
    heard = [anyio.Event() for _ in dsns]

    async def wait(dsn: str, waiting: anyio.Event) -> None:
        async with PostgresHandler(dsn) as handler, hold(handler, 60, lambda *_: waiting.set()):
            done.append(dsn)

    for dsn, event in zip(dsns, heard, strict=True):
        group.start_soon(wait, dsn, event)
    with anyio.fail_after(20):
        for event in heard:
            await event.wait()
    return done


def lock_backend(database: Database, handler: PostgresHandler) -> int:
    key = handler.lock.key & (1 << 64) - 1
    pids = database.sql(
        f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {key >> 32} AND objid = {key & 0xFFFFFFFF}"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return int(pids)


def advisory_locks(database: Database) -> str:
    return database.sql(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )


def ours(database: Database) -> set[str]:
    """The backends of msr_async in this database, by pid."""
    found = database.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'msr_async:%'"
    )
    return set(found.split())


# -- who is excluded --------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["direct", "pooled"])
@both_ways
async def test_behaviour_39_two_exclude_each_other_and_the_wait_is_bounded_and_names_the_holder(
    way: str, other: str, reach: Reach, database: Database
) -> None:
    heard: list[tuple[LockInfo | None, float]] = []
    async with PostgresHandler(reach(way)) as first, PostgresHandler(reach(other)) as second:
        async with hold(first):
            started = time.monotonic()
            with anyio.fail_after(10), pytest.raises(LockNotAcquired) as caught:
                async with hold(second, 0.5, lambda who, waited: heard.append((who, waited))):
                    pytest.fail("two held it")
            assert 0.4 < time.monotonic() - started < 5
            assert heard
            holder = caught.value.holder
            assert holder is not None
            assert holder.holder.startswith("msr_async:")
            assert holder.holder.endswith(" from 127.0.0.1")
            assert holder.pid == lock_backend(database, first)
            assert holder.since is not None
            assert await second.lock.status() == holder
        assert await second.lock.status() is None
        async with hold(second, 0):
            pass
    assert advisory_locks(database) == "0"


@both_ways
async def test_whoever_waits_has_it_when_it_is_free(way: str, reach: Reach, database: Database) -> None:
    done: list[str] = []
    with anyio.fail_after(20):
        async with PostgresHandler(reach(way)) as first, anyio.create_task_group() as group, hold(first):
            done = await start_waiting(group, [reach("direct"), reach("pooled")])
            await anyio.sleep(0.2)
            assert done == []
    assert len(done) == 2
    assert advisory_locks(database) == "0"


@both_ways
async def test_behaviour_40_create_index_concurrently_ends_while_others_wait_for_the_lock(
    way: str, reach: Reach, database: Database
) -> None:
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id")
    async with PostgresHandler(reach(way)) as first, anyio.create_task_group() as group, hold(first):
        await start_waiting(group, [reach("direct"), reach("pooled"), reach("direct"), reach("pooled")])
        with anyio.fail_after(15):
            await execute(first, "CREATE INDEX CONCURRENTLY t_id ON t (id)", OUTSIDE)
        assert database.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_id'::regclass") == "t"


async def test_waiting_opens_one_connection_a_waiter_and_leaves_none(reach: Reach, database: Database) -> None:
    seen: set[str] = set()
    async with PostgresHandler(reach("direct")) as first:
        async with anyio.create_task_group() as group, hold(first):
            await start_waiting(group, [reach("direct")] * 3 + [reach("pooled")] * 3)
            opened = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
            seen |= ours(database)
            before = int(database.sql(opened))
            for _ in range(10):
                await anyio.sleep(0.1)
                seen |= ours(database)
            asked = 11  # our own questions are sessions too
            late = 3  # the server counts a session when it has time to
            assert int(database.sql(opened)) - before <= asked + late
        # the holder, the three, and what the proxy opened for the other three: at most one each
        assert 4 < len(seen) <= 7
    assert len(ours(database)) <= 3, "the proxy's own are left"


@both_ways
async def test_a_wait_that_is_cancelled_leaves_nothing(way: str, reach: Reach, database: Database) -> None:
    async with PostgresHandler(database.dsn) as first, PostgresHandler(reach(way)) as second:
        async with hold(first):
            for patience in (0.03, 0.06, 0.1, 0.2):
                with anyio.move_on_after(patience) as scope, anyio.fail_after(10):
                    async with hold(second, 30):
                        pytest.fail("two held it")
                assert scope.cancelled_caught
        await expect_no_locks(database)
        async with hold(second, 5):
            pass


# -- how it ends ------------------------------------------------------------------------------------


@both_ways
async def test_behaviour_37_a_killed_process_frees_it_at_once(way: str, reach: Reach, database: Database) -> None:
    with holding_process(reach(way)) as process:
        async with PostgresHandler(reach(way)) as next_one:
            with pytest.raises(LockNotAcquired) as caught:
                async with hold(next_one, 0):
                    pytest.fail("two held it")
            assert f":{process.pid} from" in str(caught.value.holder)
            process.send_signal(signal.SIGKILL)
            killed = time.monotonic()
            async with hold(next_one, 10):
                assert time.monotonic() - killed < 2
            assert database.sql("SELECT to_regclass('half_done') IS NULL") == "t"


@both_ways
async def test_what_a_killed_process_left_running_is_waited_for(way: str, reach: Reach, database: Database) -> None:
    working = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(2)'"
    with holding_process(reach("pooled"), "SELECT pg_sleep(2)") as process:
        await anyio.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        heard: list[LockInfo | None] = []
        async with PostgresHandler(reach(way)) as next_one:
            with pytest.raises(LockNotAcquired):
                async with hold(next_one, 0.2):
                    pytest.fail("the killed one's work is still running")
            assert database.sql(f"{working} AND state = 'active'") == "1"
            async with hold(next_one, 20, lambda who, _: heard.append(who)):
                assert database.sql(f"{working} AND state = 'active'") == "0"
            assert heard[-1] is not None
            assert heard[-1].doing.startswith("running a statement since ")
            assert f":{process.pid} from" in str(heard[-1])


@both_ways
async def test_a_lost_lock_is_seen_once_and_then_taken_back(way: str, reach: Reach, database: Database) -> None:
    async with PostgresHandler(reach(way)) as first, PostgresHandler(reach(way)) as second:
        async with hold(first):
            await first.lock.check()
            await execute(first, "CREATE TABLE t (id int)")
            database.sql(f"SELECT pg_terminate_backend({lock_backend(database, first)})")
            await anyio.sleep(0.1)
            with pytest.raises(ConnectionLost, match="holds the migration lock was lost"):
                await first.lock.check()
            await execute(first, "DROP TABLE t")  # putting things back is done under the lock again
            await first.lock.check()
            with pytest.raises(LockNotAcquired):
                async with hold(second, 0):
                    pytest.fail("two held it")
        async with hold(second, 0):
            pass


@both_ways
async def test_behaviour_38_a_lost_lock_keeps_the_next_unit_from_running(
    way: str, reach: Reach, database: Database
) -> None:
    async with PostgresHandler(reach(way)) as first, hold(first):
        database.sql(f"SELECT pg_terminate_backend({lock_backend(database, first)})")
        await anyio.sleep(0.1)
        with pytest.raises(ConnectionLost):
            await execute(first, "CREATE TABLE t (id int)")
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


@both_ways
async def test_a_lost_lock_that_somebody_else_has_now_is_not_taken_back(
    way: str, reach: Reach, database: Database
) -> None:
    async with PostgresHandler(reach(way)) as first, PostgresHandler(reach("direct")) as second:
        async with hold(first, 0.2):
            database.sql(f"SELECT pg_terminate_backend({lock_backend(database, first)})")
            async with hold(second):
                with pytest.raises(ConnectionLost):
                    await first.lock.check()
                for _ in range(2):
                    with pytest.raises(LockNotAcquired):
                        await execute(first, "CREATE TABLE t (id int)")
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


async def test_a_lock_that_a_migration_gave_away_is_seen_before_the_next(database: Database) -> None:
    async with PostgresHandler(database.dsn) as first, PostgresHandler(database.dsn) as second:
        async with hold(first):
            await execute(first, "CREATE TABLE t (id int)")
            await first.lock.check()
            await execute(first, "SELECT pg_advisory_unlock_all()")
            await first.schema_version.applied()  # what is asked in between does not hide it
            with pytest.raises(ConnectionLost, match="gave the migration lock away"):
                await first.lock.check()
            await first.lock.check()
            with pytest.raises(LockNotAcquired):
                async with hold(second, 0):
                    pytest.fail("two held it")


async def test_a_check_asks_the_server_only_after_a_unit_that_may_have_done_something(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def counted(connection: Any, query: str) -> Any:
        asked.append(query)
        return await ask(connection, query)

    async with PostgresHandler(database.dsn) as handler, hold(handler):
        monkeypatch.setattr(lock, "ask", counted)
        await handler.lock.check()
        await handler.lock.check()
        assert asked == []
        await execute(handler, "CREATE TABLE t (id int)")
        await handler.lock.check()
        await handler.lock.check()
        assert len(asked) == 1


async def test_a_check_that_is_cancelled_does_not_lose_the_lock(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(connection: Any, query: str) -> Any:
        await ask(connection, "SELECT pg_sleep(0.4)::text AS slept")
        return await ask(connection, query)

    async with PostgresHandler(database.dsn) as handler, hold(handler):
        before = lock_backend(database, handler)
        await execute(handler, "SELECT 1")
        monkeypatch.setattr(lock, "ask", slow)
        checking = asyncio.create_task(handler.lock.check())
        await anyio.sleep(0.2)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking
        await handler.lock.check()
        assert lock_backend(database, handler) == before


# -- looking at it, and ending it -------------------------------------------------------------------


@both_ways
async def test_status_says_what_the_holder_is_doing(way: str, reach: Reach, database: Database) -> None:
    info: LockInfo | None = None
    async with PostgresHandler(reach(way)) as first, PostgresHandler(database.dsn) as second:
        async with anyio.create_task_group() as group, hold(first):
            group.start_soon(execute, first, "SELECT pg_sleep(30)")
            await anyio.sleep(0.5)
            info = await second.lock.status()
            group.cancel_scope.cancel()
        assert info is not None
        assert info.doing.startswith("running a statement since ")
        assert str(info).endswith(info.doing)


@both_ways
async def test_releasing_ends_the_holder_and_its_work(way: str, reach: Reach, database: Database) -> None:
    with holding_process(reach(way), "SELECT pg_sleep(50)") as process:
        async with PostgresHandler(reach("pooled")) as admin:
            with anyio.fail_after(10):
                released = await admin.lock.release()
                assert released is not None
                assert f":{process.pid} from" in released.holder
                assert await admin.lock.status() is None
                async with hold(admin, 0):
                    pass
            assert await admin.lock.release() is None
        with anyio.fail_after(20):
            assert await anyio.to_thread.run_sync(process.wait) != 0, "its work was ended too"
    assert database.sql("SELECT to_regclass('half_done') IS NULL") == "t"


async def test_releasing_needs_the_right_to_end_that_session(database: Database) -> None:
    database.sql(f"CREATE ROLE {database.name}_weak LOGIN")
    try:
        weak_dsn = database.dsn.replace("postgres@", f"{database.name}_weak@")
        async with PostgresHandler(database.dsn) as first, PostgresHandler(weak_dsn) as weak, hold(first):
            info = await weak.lock.status()
            assert info is not None
            assert info.holder.startswith("msr_async:")
            assert (info.since, info.doing) == (None, ""), "this user may not know"
            with pytest.raises(PermissionMissing, match="GRANT pg_signal_backend"):
                await weak.lock.release()
            await first.lock.check()
    finally:
        database.sql(f"DROP ROLE {database.name}_weak")


@both_ways
async def test_a_standby_is_refused(way: str, reach: Reach, database: Database) -> None:
    # the answer of a standby, without building one
    database.sql(
        "SET allow_system_table_mods = on; CREATE OR REPLACE FUNCTION pg_catalog.pg_is_in_recovery() RETURNS bool"
        " LANGUAGE sql AS 'SELECT true'"
    )
    async with PostgresHandler(reach(way)) as handler:
        with pytest.raises(DatabaseError, match="is a standby"):
            async with hold(handler):
                pytest.fail("nothing can be migrated there")
    await expect_no_locks(database)


async def test_locks_of_other_histories_and_databases_do_not_stand_in_the_way(
    make_database: Callable[[], Database],
) -> None:
    one, other = make_database(), make_database()
    async with (
        PostgresHandler(one.dsn) as first,
        PostgresHandler(one.dsn, version_table="other") as second,
        PostgresHandler(other.dsn) as third,
        hold(first, 0),
        hold(second, 0),
        hold(third, 0),
    ):
        pids = {info.pid for info in [await handler.lock.status() for handler in (first, second, third)] if info}
        assert len(pids) == 3


async def expect_no_locks(database: Database) -> None:
    """The proxy and the server need a moment to notice a closed connection."""
    with anyio.fail_after(5):
        while advisory_locks(database) != "0":
            await anyio.sleep(0.02)
