"""A backup under fire: other sessions change, lock, empty and drop tables; the role sees too little; backends die."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from msr_async.config import BackupMode, RollbackStrategy
from msr_async.errors import BackupFailed, ConnectionLost, LockTimeout, MsrError, PermissionMissing, ToolMissing
from msr_async.executor import MigrationScriptExecutor
from msr_async.models import Manifest, Part, PartTotals, Selection
from msr_async.postgres import PostgresHandler
from msr_async.postgres.backup import PostgresSnapshot
from tests.postgres.test_round_trip import config_for
from tests.support.servers import Database, only_newest

pytestmark = only_newest


async def rows(snapshot: PostgresSnapshot, part: Part) -> list[bytes]:
    received = bytearray()

    async def send(piece: bytes) -> None:
        received.extend(piece)

    totals = await snapshot.dump(part, send)
    lines = bytes(received).splitlines()
    assert totals == PartTotals(rows=len(lines), raw_bytes=len(received))
    return lines


async def nobody_left(database: Database) -> None:
    """Every connection of ours is gone within five seconds."""
    query = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    with anyio.fail_after(5):
        while database.sql(query) != "0":
            await anyio.sleep(0.05)


async def test_all_connections_read_the_same_moment(database: Database) -> None:
    database.sql("CREATE TABLE a (n int); CREATE TABLE b (n int); INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
    async with (
        PostgresHandler(database.dsn) as handler,
        handler.backup.snapshot(Selection(), complete=True) as snapshot,
    ):
        parts = {part.names[1]: part for part in snapshot.parts}
        first = await rows(snapshot, parts["a"])
        database.sql("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)")
        assert await rows(snapshot, parts["b"]) == [b"1"]
        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(rows, snapshot, parts["b"])
        assert await rows(snapshot, parts["a"]) == first == [b"1"]
    await nobody_left(database)


async def test_a_backup_that_waited_for_a_migration_lists_it(database: Database, tmp_path: Path) -> None:
    """It asks for its locks while the migration holds them, and gets them when the migration is there."""
    database.sql("CREATE TABLE a (n int)")
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "V202601010001_wide.up.sql").write_text("ALTER TABLE a ADD b int; SELECT pg_sleep(1.5)")
    config = config_for(tmp_path)
    config.folder = folder
    config.backup_mode = BackupMode.MANUAL
    config.rollback_strategy = RollbackStrategy.NONE
    manifests: list[Manifest] = []

    async def back_up() -> None:
        async with PostgresHandler(database.dsn) as other:
            executor = MigrationScriptExecutor(other, config)
            manifests.append(await executor.inspect_backup(await executor.create_backup()))

    async with PostgresHandler(database.dsn) as handler, anyio.create_task_group() as group:
        group.start_soon(MigrationScriptExecutor(handler, config).migrate)
        locked = (
            "SELECT count(*) FROM pg_locks WHERE relation = 'a'::regclass AND mode = 'AccessExclusiveLock' AND granted"
        )
        while database.sql(locked) == "0":
            await anyio.sleep(0.05)
        group.start_soon(back_up)
    (manifest,) = manifests
    assert [line.version for line in manifest.history] == [202601010001]
    (part,) = [part for part in manifest.parts if part.names == ("public", "a")]
    assert [column.name for column in part.columns] == ["n", "b"]


async def test_slices_of_a_big_table_are_all_of_it(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msr_async.postgres.tables._MIN_SLICE", 65_536)
    database.sql(
        "CREATE TABLE big AS SELECT n, repeat('x', 100) FROM generate_series(1, 20000) n; DELETE FROM big WHERE n % 7 = 0"
    )
    async with (
        PostgresHandler(database.dsn) as handler,
        handler.backup.snapshot(Selection(), complete=True) as snapshot,
    ):
        assert len(snapshot.parts) > 8
        found = [line for part in snapshot.parts for line in await rows(snapshot, part)]
    assert sorted(int(line.split(b"\t")[0]) for line in found) == [n for n in range(1, 20001) if n % 7]


async def test_a_table_cannot_be_emptied_or_dropped_while_it_is_read(database: Database) -> None:
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 10) n")
    async with (
        PostgresHandler(database.dsn) as handler,
        handler.backup.snapshot(Selection(), complete=True) as snapshot,
    ):
        for statement in ("TRUNCATE t", "DROP TABLE t", "ALTER TABLE t ADD COLUMN more int"):
            other = await asyncpg.connect(database.dsn, server_settings={"lock_timeout": "100"})
            with pytest.raises(asyncpg.LockNotAvailableError):
                await other.execute(statement)
            await other.close()
        assert len(await rows(snapshot, snapshot.parts[0])) == 10


async def test_somebody_waiting_for_an_exclusive_lock_does_not_stop_the_backup(database: Database) -> None:
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 10) n")
    other = await asyncpg.connect(database.dsn)
    async with PostgresHandler(database.dsn, lock_timeout=0.3) as handler:
        async with handler.backup.snapshot(Selection(), complete=True) as snapshot:
            async with anyio.create_task_group() as group:
                group.start_soon(other.execute, "ALTER TABLE t ADD COLUMN more int")
                await anyio.sleep(0.2)
                # a reader of our own now stands behind the ALTER; the leader has its lock already
                assert len(await rows(snapshot, snapshot.parts[0])) == 10
                group.cancel_scope.cancel()
    await other.close(timeout=5)


async def test_a_connection_on_its_way_back_to_the_snapshot_is_given_to_nobody(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql("CREATE TABLE locked (n int); CREATE TABLE free (n int); INSERT INTO free VALUES (1)")
    other = await asyncpg.connect(database.dsn)
    joining: list[Any] = []
    back = anyio.Event()
    join = PostgresSnapshot._join

    async def slowly(snapshot: PostgresSnapshot, connection: Any) -> None:
        if connection in joining:
            back.set()
            await anyio.sleep(0.5)
        joining.append(connection)
        await join(snapshot, connection)

    monkeypatch.setattr(PostgresSnapshot, "_join", slowly)
    async with PostgresHandler(database.dsn, lock_timeout=0.3) as handler:
        async with handler.backup.snapshot(Selection(), complete=False) as snapshot:
            parts = {part.names[1]: part for part in snapshot.parts}
            async with anyio.create_task_group() as group:
                group.start_soon(other.execute, "ALTER TABLE locked ADD COLUMN more int")
                await anyio.sleep(0.2)
                database.sql("INSERT INTO free VALUES (2)")
                async with anyio.create_task_group() as reading:
                    reading.start_soon(rows, snapshot, parts["locked"])
                    await back.wait()
                    assert await rows(snapshot, parts["free"]) == [b"1"]
                group.cancel_scope.cancel()
    await other.close(timeout=5)


async def test_a_connection_that_cannot_be_hung_up_does_not_replace_the_cancellation(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 100000) n")

    async def close(connection: Any, *, timeout: float | None = None) -> None:
        # what asyncpg does on uvloop when an answer to the cancelled COPY comes too late
        raise AttributeError("'NoneType' object has no attribute 'cancelled'")

    async with PostgresHandler(database.dsn) as handler:
        async with handler.backup.snapshot(Selection(), complete=False) as snapshot:
            sending = anyio.Event()

            async def send(piece: bytes) -> None:
                sending.set()
                await anyio.sleep(30)

            dumping = asyncio.ensure_future(snapshot.dump(snapshot.parts[0], send))
            await sending.wait()
            with monkeypatch.context() as patch:
                patch.setattr(asyncpg.Connection, "close", close)
                dumping.cancel()
                await asyncio.wait({dumping})
            assert dumping.cancelled()
    await nobody_left(database)


async def test_a_table_that_stays_locked_is_a_clear_error(database: Database) -> None:
    database.sql("CREATE TABLE t (n int)")
    other = await asyncpg.connect(database.dsn)
    async with other.transaction():
        await other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        async with PostgresHandler(database.dsn, lock_timeout=0.2) as handler:
            with pytest.raises(LockTimeout, match="another session holds a conflicting lock") as caught:
                async with handler.backup.snapshot(Selection(), complete=True):
                    pass
    assert "pg_stat_activity" in caught.value.hint
    await other.close()


async def test_rows_hidden_by_row_level_security_are_an_error_never_a_smaller_backup(database: Database) -> None:
    database.sql(
        "CREATE TABLE t (n int, who text); INSERT INTO t VALUES (1, 'x'), (2, 'reader'); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON t USING (who = current_user);"
        "DO $$ BEGIN CREATE ROLE msr_reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        "GRANT SELECT ON t TO msr_reader"
    )
    async with PostgresHandler(database.dsn.replace("postgres@", "msr_reader@")) as handler:
        with pytest.raises(PermissionMissing, match=r"Row-level security hides rows of public\.t") as caught:
            async with handler.backup.snapshot(Selection(), complete=True):
                pass
    assert "BYPASSRLS" in caught.value.hint
    await nobody_left(database)


async def test_a_role_that_may_not_read_a_table(database: Database, tmp_path: Path) -> None:
    database.sql(
        "CREATE TABLE t (n int);"
        "DO $$ BEGIN CREATE ROLE msr_nobody LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    async with PostgresHandler(database.dsn.replace("postgres@", "msr_nobody@")) as handler:
        with pytest.raises(PermissionMissing, match="permission denied for table t"):
            await MigrationScriptExecutor(handler, config_for(tmp_path)).create_backup()
    assert not list(tmp_path.rglob("*.*"))


async def test_a_read_only_role_is_enough_for_a_backup(database: Database, tmp_path: Path) -> None:
    database.sql(
        "CREATE TABLE t AS SELECT generate_series(1, 3) n; CREATE SEQUENCE s;"
        "DO $$ BEGIN CREATE ROLE msr_backup LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        "GRANT pg_read_all_data TO msr_backup; ALTER ROLE msr_backup SET default_transaction_read_only = on"
    )
    async with PostgresHandler(database.dsn.replace("postgres@", "msr_backup@")) as handler:
        backup = await MigrationScriptExecutor(handler, config_for(tmp_path)).create_backup()
    assert (backup.rows, backup.complete) == (3, True)


@pytest.mark.parametrize("victim", ["worker", "leader"])
async def test_a_killed_backend_is_an_error_in_seconds_and_leaves_nothing(database: Database, victim: str) -> None:
    database.sql("CREATE TABLE t AS SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n")
    async with PostgresHandler(database.dsn) as handler:
        with anyio.fail_after(10), pytest.raises(MsrError) as caught:
            async with handler.backup.snapshot(Selection(), complete=True) as snapshot:
                killed = False

                async def send(piece: bytes) -> None:
                    nonlocal killed
                    if not killed:
                        killed = True
                        state = "LIKE 'COPY%'" if victim == "worker" else "NOT LIKE 'COPY%'"
                        database.sql(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'msr_async:%' "
                            f"AND datname = current_database() AND query {state}"
                        )
                        await anyio.sleep(0.2)

                await snapshot.dump(snapshot.parts[0], send)
    assert isinstance(caught.value, ConnectionLost)
    assert killed
    await nobody_left(database)


async def test_cancelling_in_the_middle_of_a_copy_leaves_nothing_behind(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 100000) n")
    for delay in (0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3):
        async with PostgresHandler(database.dsn) as handler:
            with anyio.move_on_after(delay) as scope:
                await MigrationScriptExecutor(handler, config_for(tmp_path)).create_backup()
                scope.cancel()
        await nobody_left(database)
        finished = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert [path.suffix for path in finished] == [".msrbak"] * len(finished)


async def test_without_pg_dump_a_backup_says_that_it_holds_no_schema(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSR_PG_DUMP", str(tmp_path / "gone"))
    database.sql("CREATE TABLE t AS SELECT generate_series(1, 3) n")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        assert (backup.complete, backup.rows) == (False, 3)
        assert "no schema" in backup.notes[0]
        with pytest.raises(ToolMissing):
            async with handler.backup.snapshot(Selection(), complete=True):
                pass


async def test_tables_that_come_and_go_before_the_locks_are_looked_at_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql("CREATE TABLE t (n int); CREATE TABLE goes (n int)")
    original: Any = PostgresSnapshot._list
    looks = 0

    async def listing(self: PostgresSnapshot) -> Any:
        nonlocal looks
        looks += 1
        found = await original(self)
        if looks == 1:
            database.sql("DROP TABLE goes; CREATE TABLE comes (n int)")
        return found

    monkeypatch.setattr(PostgresSnapshot, "_list", listing)
    async with (
        PostgresHandler(database.dsn) as handler,
        handler.backup.snapshot(Selection(), complete=True) as snapshot,
    ):
        assert sorted(part.names[1] for part in snapshot.parts) == ["comes", "t"]


async def test_tables_that_never_stand_still_are_a_clear_error(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    original: Any = PostgresSnapshot._list
    looks = 0

    async def listing(self: PostgresSnapshot) -> Any:
        nonlocal looks
        looks += 1
        found = await original(self)
        database.sql(f"CREATE TABLE comes_{looks} (n int)")
        return found

    monkeypatch.setattr(PostgresSnapshot, "_list", listing)
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(BackupFailed, match="created and dropped all the time"):
            async with handler.backup.snapshot(Selection(), complete=True):
                pass
