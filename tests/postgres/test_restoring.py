"""A restore that cannot be done leaves the target as it was and says why."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from msr_async.errors import (
    BackupDamaged,
    BackupInvalid,
    ConnectionLost,
    LockNotAcquired,
    LockTimeout,
    MsrError,
    PermissionMissing,
    RestoreFailed,
    TargetRefused,
)
from msr_async.executor import MigrationScriptExecutor
from msr_async.models import BackupInfo
from msr_async.postgres import PostgresHandler, feasibility, restoration
from msr_async.postgres.restoration import PostgresRestoration
from tests.postgres.test_backing_up import nobody_left
from tests.postgres.test_round_trip import config_for
from tests.support.servers import Database, only_newest
from tests.support.torture import dump_lines

pytestmark = only_newest

SHOP = """
CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES customers, note text);
INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 2000) n;
INSERT INTO orders (customer, note) SELECT n % 2000 + 1, repeat(md5(n::text), 3) FROM generate_series(1, 40000) n;
CREATE INDEX ON orders (customer);
SELECT lo_from_bytea(4711, 'a large object');
"""


@pytest.fixture
async def backup(database: Database, tmp_path: Path) -> BackupInfo:
    database.sql(SHOP)
    async with PostgresHandler(database.dsn) as handler:
        return await MigrationScriptExecutor(handler, config_for(tmp_path)).create_backup()


async def restore(dsn: str, backup: BackupInfo | Path, tmp_path: Path, **options: Any) -> None:
    async with PostgresHandler(dsn, lock_timeout=0.5) as handler:
        await MigrationScriptExecutor(handler, config_for(tmp_path)).restore_from_backup(backup, **options)


async def refused(
    database: Database, backup: BackupInfo | Path, tmp_path: Path, error: type[MsrError], match: str
) -> MsrError:
    """The restore fails like this, within seconds, and the database is as before."""
    before = dump_lines(database.server, database.dsn)
    with anyio.fail_after(20), pytest.raises(error, match=match) as caught:
        await restore(database.dsn, backup, tmp_path)
    assert dump_lines(database.server, database.dsn) == before
    await nobody_left(database)
    return caught.value


def altered(backup: BackupInfo, tmp_path: Path, change: Callable[[bytearray], object]) -> Path:
    content = bytearray(backup.path.read_bytes())
    change(content)
    copy = tmp_path / "altered.msrbak"
    copy.write_bytes(content)
    return copy


async def test_a_changed_byte_in_the_middle(database: Database, backup: BackupInfo, tmp_path: Path) -> None:
    def flip(content: bytearray) -> None:
        content[len(content) // 2] ^= 1

    await refused(database, altered(backup, tmp_path, flip), tmp_path, BackupDamaged, "damaged")


async def test_a_cut_file(database: Database, backup: BackupInfo, tmp_path: Path) -> None:
    def cut(content: bytearray) -> None:
        del content[-1:]

    await refused(database, altered(backup, tmp_path, cut), tmp_path, BackupInvalid, "never completed|damaged")


async def test_a_file_that_is_not_a_backup(database: Database, backup: BackupInfo, tmp_path: Path) -> None:
    other = tmp_path / "other.msrbak"
    other.write_text("hello")
    await refused(database, other, tmp_path, BackupInvalid, "not a backup")


async def test_a_file_that_is_not_there(database: Database, backup: BackupInfo, tmp_path: Path) -> None:
    await refused(database, tmp_path / "gone.msrbak", tmp_path, MsrError, "gone.msrbak")


async def test_a_target_with_other_peoples_data_must_be_named(
    make_database: Callable[[], Database], backup: BackupInfo, tmp_path: Path
) -> None:
    target = make_database()
    target.sql("CREATE TABLE precious AS SELECT 1 AS n")
    error = await refused(target, backup, tmp_path, TargetRefused, "confirm")
    label = f"{target.name}@127.0.0.1:{target.server.port}"
    assert label in str(error)
    await restore(target.dsn, backup, tmp_path, confirm_target=label)
    assert target.sql("SELECT count(*) FROM orders") == "40000"
    assert target.sql("SELECT to_regclass('precious') IS NULL") == "t"


async def test_a_backup_of_some_tables_is_refused_where_it_would_delete_the_others(
    database: Database, tmp_path: Path
) -> None:
    database.sql(SHOP)
    config = config_for(tmp_path)
    config.backup.exclude = ("public.orders",)
    async with PostgresHandler(database.dsn) as handler:
        backup = await MigrationScriptExecutor(handler, config).create_backup()
    assert not backup.complete
    assert "public.orders" in backup.notes[0]
    await refused(database, backup, tmp_path, TargetRefused, "only a part of its database")


async def test_a_backup_of_some_tables_restores_into_an_empty_database(
    make_database: Callable[[], Database], tmp_path: Path
) -> None:
    source, target = make_database(), make_database()
    source.sql(SHOP)
    config = config_for(tmp_path)
    config.backup.exclude = ("public.orders",)
    async with PostgresHandler(source.dsn) as handler:
        backup = await MigrationScriptExecutor(handler, config).create_backup()
    await restore(target.dsn, backup, tmp_path)
    assert target.sql("SELECT (SELECT count(*) FROM customers), (SELECT count(*) FROM orders)") == "2000|0"


async def test_roles_that_the_target_lacks_are_named_before_anything_is_touched(
    make_database: Callable[[], Database], tmp_path: Path
) -> None:
    source, target = make_database(), make_database()
    source.sql(
        "CREATE ROLE gone_soon; CREATE TABLE t (n int); ALTER TABLE t OWNER TO gone_soon; INSERT INTO t VALUES (1)"
    )
    async with PostgresHandler(source.dsn) as handler:
        backup = await MigrationScriptExecutor(handler, config_for(tmp_path)).create_backup()
    source.sql("ALTER TABLE t OWNER TO postgres; DROP ROLE gone_soon")
    error = await refused(target, backup, tmp_path, RestoreFailed, "gone_soon")
    assert "--no-owner" in error.hint
    await restore(target.dsn, backup, tmp_path, owners=False, privileges=False)
    assert target.sql("SELECT n, tableowner FROM t, pg_tables WHERE tablename = 't'") == "1|postgres"


async def test_a_role_that_may_not_drop_what_is_there(database: Database, backup: BackupInfo, tmp_path: Path) -> None:
    database.sql("DO $$ BEGIN CREATE ROLE msr_weak LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    before = dump_lines(database.server, database.dsn)
    with pytest.raises(PermissionMissing, match="must be owner"):
        await restore(database.dsn.replace("postgres@", "msr_weak@"), backup, tmp_path)
    assert dump_lines(database.server, database.dsn) == before


async def test_a_table_that_the_application_keeps_locked(
    database: Database, backup: BackupInfo, tmp_path: Path
) -> None:
    import asyncpg

    other = await asyncpg.connect(database.dsn)
    async with other.transaction():
        await other.execute("LOCK TABLE orders IN ACCESS SHARE MODE")
        with pytest.raises(LockTimeout, match="conflicting lock"):
            await restore(database.dsn, backup, tmp_path)
    await other.close()
    assert database.sql("SELECT count(*) FROM orders") == "40000"


@pytest.mark.parametrize("phase", ["begin", "load", "finish"])
async def test_a_failure_in_each_phase_leaves_the_target_as_it_was(
    database: Database, backup: BackupInfo, tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(PostgresRestoration, phase)
    calls = 0

    async def failing(self: PostgresRestoration, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        # the phase does its work first, so that there is something to undo
        if phase != "finish":
            await original(self, *arguments)
        raise RestoreFailed("injected")

    monkeypatch.setattr(PostgresRestoration, phase, failing)
    await refused(database, backup, tmp_path, RestoreFailed, "injected")
    assert calls == 1


@pytest.mark.parametrize("phase", ["_set_sequences", "_copy", "_make_large_objects", "finish"])
async def test_a_killed_backend_is_an_error_in_seconds(
    database: Database, backup: BackupInfo, tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(PostgresRestoration, phase)
    killed = False

    async def killing(self: PostgresRestoration, *arguments: Any, **options: Any) -> Any:
        nonlocal killed
        if not killed:
            killed = True
            database.sql(f"SELECT pg_terminate_backend({self._connection.get_server_pid()})")
        return await original(self, *arguments, **options)

    monkeypatch.setattr(PostgresRestoration, phase, killing)
    await refused(database, backup, tmp_path, ConnectionLost, "lost")
    assert killed


async def test_a_backend_killed_while_rows_stream_in(
    database: Database, backup: BackupInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = restoration._Counter.__anext__
    seen = 0

    async def counting(self: restoration._Counter) -> bytes:
        nonlocal seen
        seen += 1
        if seen == 2:
            database.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%'"
            )
        return await original(self)

    monkeypatch.setattr(restoration._Counter, "__anext__", counting)
    await refused(database, backup, tmp_path, ConnectionLost, "lost")
    assert seen >= 2


async def test_rows_that_are_fewer_than_the_manifest_says(
    database: Database, backup: BackupInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loses_one(self: PostgresRestoration, part: Any, source: AsyncIterator[bytes], **options: Any) -> int:
        async def shorter() -> AsyncIterator[bytes]:
            first = True
            async for chunk in source:
                yield chunk[chunk.index(b"\n") + 1 :] if first else chunk
                first = False

        return await original(self, part, shorter(), **options)

    original = PostgresRestoration._copy
    monkeypatch.setattr(PostgresRestoration, "_copy", loses_one)
    await refused(database, backup, tmp_path, RestoreFailed, "rows")


async def test_a_schema_that_came_out_different_is_not_committed(
    database: Database, backup: BackupInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = PostgresRestoration._statements

    def without_indexes(self: PostgresRestoration, document: str) -> Any:
        return [statement for statement in original(self, document) if "CREATE INDEX" not in statement.text]

    monkeypatch.setattr(PostgresRestoration, "_statements", without_indexes)
    await refused(database, backup, tmp_path, RestoreFailed, r"index public\.orders_customer_idx is missing")


async def test_cancelling_a_restore_anywhere_leaves_the_target_as_it_was(
    database: Database, backup: BackupInfo, tmp_path: Path
) -> None:
    before = dump_lines(database.server, database.dsn)
    cancelled = 0
    for delay in (0.005, 0.02, 0.04, 0.06, 0.09, 0.12, 0.16, 0.2, 0.25, 0.3):
        with anyio.move_on_after(delay) as scope:
            await restore(database.dsn, backup, tmp_path)
        cancelled += scope.cancelled_caught
        await nobody_left(database)
        assert dump_lines(database.server, database.dsn) == before
    assert cancelled >= 3


async def test_two_restores_at_once_the_second_names_the_first(
    database: Database, backup: BackupInfo, tmp_path: Path
) -> None:
    config = config_for(tmp_path)
    config.lock_timeout = 0
    async with PostgresHandler(database.dsn) as first, PostgresHandler(database.dsn) as second:
        async with first.lock.hold(timeout=1, waiting=lambda holder, waited: None):
            with pytest.raises(LockNotAcquired, match="msr_async:"):
                await MigrationScriptExecutor(second, config).restore_from_backup(backup)


async def test_too_many_relations_for_the_servers_lock_table(
    database: Database, backup: BackupInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        feasibility, "_LOCKS", "SELECT 10::bigint AS most, 20::bigint AS present, 0::bigint AS large_objects"
    )
    error = await refused(database, backup, tmp_path, RestoreFailed, "locks")
    assert "max_locks_per_transaction" in error.hint


async def test_a_backup_copied_elsewhere_under_another_name_restores(
    make_database: Callable[[], Database], backup: BackupInfo, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    copy = shutil.copy(backup, shared / "latest-prod.bkp")
    target = make_database()
    await restore(target.dsn, Path(copy), tmp_path)
    assert target.sql("SELECT convert_from(lo_get(4711), 'UTF8')") == "a large object"
