"""Cases that a critical reader found, each once broken: they stay here so that they stay mended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from msr_async.errors import (
    BackupFailed,
    LockNotAcquired,
    LockTimeout,
    MigrationFailed,
    RecoveryFailed,
)
from msr_async.executor import MigrationScriptExecutor
from msr_async.postgres import PostgresHandler
from tests.postgres.test_backing_up import nobody_left
from tests.postgres.test_round_trip import config_for, write
from tests.support.servers import Database, only_newest
from tests.support.torture import dump_lines

pytestmark = only_newest

FAILS = "SELECT 1/0;"


async def migrate_and_fail(dsn: str, folder: Path, **settings: Any) -> MigrationFailed:
    config = config_for(folder)
    for name, value in settings.items():
        setattr(config, name, value)
    async with PostgresHandler(dsn) as handler:
        with pytest.raises(MigrationFailed) as caught:
            await MigrationScriptExecutor(handler, config).migrate()
    return caught.value


# -- the lock ---------------------------------------------------------------------------------------


async def test_no_way_back_is_taken_without_the_lock(database: Database, tmp_path: Path) -> None:
    """The connection dies, a rival takes the lock and works: neither a down nor a restore may touch the database."""
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (id int)")
    write(tmp_path, "V202601010001_good.down.sql", "DROP TABLE good")
    write(
        tmp_path,
        "V202601010002_dies.py",
        "import asyncpg\n\nRIVAL = None\n\n\nasync def up(db, ctx):\n"
        "    global RIVAL\n"
        f"    RIVAL = await asyncpg.connect({database.dsn!r})\n"
        "    await RIVAL.execute('SELECT pg_terminate_backend($1)', db.get_server_pid())\n"
        "    await RIVAL.execute('SELECT pg_advisory_lock($1)', ctx.handler.lock.key)\n"
        "    await RIVAL.execute('CREATE TABLE of_the_rival (id int)')\n"
        "    ctx.handler.rival = RIVAL\n"
        "    await db.execute('SELECT 1')\n\n\nasync def down(db, ctx):\n    pass\n",
    )
    config = config_for(tmp_path)
    config.rollback_strategy = "both"  # type: ignore[assignment]
    async with PostgresHandler(database.dsn) as handler:
        with anyio.fail_after(60), pytest.raises(RecoveryFailed) as caught:
            await MigrationScriptExecutor(handler, config).migrate()
        await handler.rival.close()  # type: ignore[attr-defined]
    assert isinstance(caught.value.recovery_error, LockNotAcquired)
    assert database.sql("SELECT to_regclass('of_the_rival') IS NOT NULL, to_regclass('good') IS NOT NULL") == "t|t"


@pytest.mark.parametrize("pause", [0.0, 0.005, 0.02, 0.05])
async def test_two_cancellations_in_a_row_are_as_safe_as_one(database: Database, tmp_path: Path, pause: float) -> None:
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (id int)")
    write(tmp_path, "V202601010002_slow.up.sql", "CREATE TABLE bad (id int); SELECT pg_sleep(30);")
    async with PostgresHandler(database.dsn) as handler:
        task = asyncio.ensure_future(MigrationScriptExecutor(handler, config_for(tmp_path)).migrate())
        with anyio.fail_after(20):
            while (
                database.sql(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(%' AND wait_event = 'PgSleep' AND state = 'active' AND pid <> pg_backend_pid()"
                )
                == "0"
            ):
                await anyio.sleep(0.02)
            task.cancel()
            await anyio.sleep(pause)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert database.sql("SELECT to_regclass('good') IS NULL, to_regclass('schema_version') IS NULL") == "t|t"
        assert await handler.lock.status() is None
        await handler.check_connection()
        assert (
            database.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
            )
            == "0"
        )
    await nobody_left(database)


# -- live traffic -----------------------------------------------------------------------------------


async def test_a_restore_gets_its_locks_from_an_application_that_goes_on_working(
    database: Database, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b AS SELECT 1 AS n; CREATE TABLE c AS SELECT 1 AS n")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        served, closing = 0, False
        thrown_out: list[int] = []

        async def application() -> None:
            nonlocal served
            connection = await asyncpg.connect(database.dsn, statement_cache_size=0)
            while not closing:
                try:
                    async with connection.transaction():
                        await connection.execute("UPDATE b SET n = n + 1")
                        await anyio.sleep(0.02)
                        await connection.execute("UPDATE a SET n = n + 1")
                    served += 1
                except asyncpg.DeadlockDetectedError:
                    thrown_out.append(served)
                except asyncpg.PostgresError:
                    await connection.reload_schema_state()  # the tables are others now
            await connection.close()

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(application)
            await anyio.sleep(0.3)
            before = served
            await executor.restore_from_backup(backup)
            await anyio.sleep(0.3)
            closing = True
    assert 0 < before < served
    assert thrown_out == []


async def test_who_keeps_a_table_locked_is_named(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t (n int)")
    other = await asyncpg.connect(database.dsn, server_settings={"application_name": "the report"})
    async with PostgresHandler(database.dsn, lock_timeout=0.3) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        async with other.transaction():
            await other.execute("SELECT * FROM t")
            with pytest.raises(
                LockTimeout, match=r"public\.t stays locked by postgres \(pid \d+, the report, idle in transaction\)"
            ):
                await executor.restore_from_backup(backup)
    await other.close()


async def test_what_others_wrote_is_kept_when_there_is_nothing_to_undo(database: Database, tmp_path: Path) -> None:
    """The first migration failed and its transaction took it back: restoring would only lose the others' rows."""
    database.sql("CREATE TABLE orders (n int)")
    write(tmp_path, "V202601010001_bad.up.sql", "INSERT INTO orders VALUES (1); SELECT pg_sleep(0.5); SELECT 1/0;")
    async with PostgresHandler(database.dsn) as handler, anyio.create_task_group() as group:

        async def order() -> None:
            await anyio.sleep(0.1)
            while (
                database.sql(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(%' AND wait_event = 'PgSleep' AND pid <> pg_backend_pid()"
                )
                == "0"
            ):
                await anyio.sleep(0.02)
            database.sql("INSERT INTO orders VALUES (2)")

        group.start_soon(order)
        with pytest.raises(MigrationFailed, match="The database is as it was before the run") as caught:
            await MigrationScriptExecutor(handler, config_for(tmp_path)).migrate()
    assert not caught.value.result.restored
    assert caught.value.result.backup is not None
    assert caught.value.result.backup.path.exists()
    assert database.sql("SELECT n FROM orders") == "2"


# -- what scripts and settings leave behind -----------------------------------------------------------


@pytest.mark.parametrize(
    "leftover",
    [
        "SET default_transaction_read_only = on;",
        "CREATE TEMPORARY TABLE good (id int); DECLARE c CURSOR WITH HOLD FOR SELECT 1;",
        "SET search_path = pg_catalog;",
        "SET SESSION AUTHORIZATION pg_monitor;",
        "SET ROLE pg_monitor;",
        "SET statement_timeout = 150; SET lock_timeout = 1;",  # less, and a busy machine stops the script's own line
    ],
)
async def test_what_a_script_leaves_in_the_session_harms_neither_the_next_nor_the_way_back(
    database: Database, tmp_path: Path, leftover: str
) -> None:
    database.sql("CREATE TABLE old AS SELECT generate_series(1, 100) n")
    before = dump_lines(database.server, database.dsn)
    write(tmp_path, "V202601010001_leaves.up.sql", f"CREATE TABLE first (id int);\n{leftover}")
    write(
        tmp_path,
        "V202601010002_next.up.sql",
        "CREATE TABLE second (id int); INSERT INTO public.second VALUES (1); SELECT pg_sleep(0.3)",
    )
    write(tmp_path, "V202601010003_fails.up.sql", FAILS)
    error = await migrate_and_fail(database.dsn, tmp_path)
    assert [migration.name for migration in error.result.executed] == ["leaves", "next"]
    assert error.result.restored
    assert dump_lines(database.server, database.dsn) == before


@pytest.fixture
def owner(database: Database) -> Iterator[str]:
    """A role without privileges that owns the database, as managed services give out; its DSN."""
    database.sql(
        "DO $$ BEGIN CREATE ROLE msr_owner LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        f"ALTER DATABASE {database.name} OWNER TO msr_owner"
    )
    yield database.dsn.replace("postgres@", "msr_owner@")
    database.sql(
        f"ALTER DATABASE {database.name} OWNER TO postgres; ALTER ROLE msr_owner RESET ALL; DROP OWNED BY msr_owner"
    )


@pytest.mark.parametrize(
    "setting",
    [
        "quote_all_identifiers = on", "standard_conforming_strings = off", "DateStyle = 'SQL, DMY'", "IntervalStyle = 'sql_standard'",
        "statement_timeout = '400ms'", "lock_timeout = 1", "idle_session_timeout = '150ms'", "idle_in_transaction_session_timeout = '100ms'",
        "transaction_timeout = '400ms'", "search_path = 'nowhere'", "default_transaction_isolation = serializable",
        "default_transaction_read_only = off", "row_security = off", "extra_float_digits = -5", "bytea_output = escape", "TimeZone = 'Asia/Tokyo'",
    ],
)  # fmt: skip
async def test_settings_of_the_role_change_nothing(
    database: Database, owner: str, tmp_path: Path, setting: str
) -> None:
    connection = await asyncpg.connect(owner)
    await connection.execute(
        "CREATE TABLE t (f float8, b bytea, ts timestamptz, i interval, s text DEFAULT 'it''s a \\ backslash', \"Mixed\" int);"
        "INSERT INTO t VALUES (0.1::float8 + 0.2, '\\x00ff', '2024-01-02 03:04:05+00', '1 day -2 hours', 'a\\b', 1);"
        "CREATE INDEX ON t (\"Mixed\"); CREATE VIEW v AS SELECT s || '\\' AS s FROM t"
    )
    await connection.close()
    before = dump_lines(database.server, database.dsn)
    database.sql(f"ALTER ROLE msr_owner SET {setting}")
    write(
        tmp_path,
        "V202601010001_good.up.sql",
        "SELECT pg_sleep(0.2); DROP VIEW public.v; ALTER TABLE public.t DROP COLUMN b;",
    )
    write(tmp_path, "V202601010002_fails.up.sql", FAILS)
    error = await migrate_and_fail(owner, tmp_path)
    assert error.result.restored
    assert dump_lines(database.server, database.dsn) == before


# -- a role that is no superuser ------------------------------------------------------------------------


async def test_an_owner_without_privileges_has_the_way_back(database: Database, owner: str, tmp_path: Path) -> None:
    database.sql(
        "DO $$ BEGIN CREATE ROLE msr_app; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        "GRANT msr_app TO msr_owner; GRANT CREATE ON SCHEMA public TO msr_app"
    )
    connection = await asyncpg.connect(owner)
    await connection.execute(
        "CREATE TABLE mine AS SELECT 1 AS n; SET ROLE msr_app; CREATE TABLE of_the_app AS SELECT 2 AS n; RESET ROLE;"
        "CREATE SCHEMA s AUTHORIZATION msr_app; SELECT lo_from_bytea(0, 'x')"
    )
    await connection.close()
    before = dump_lines(database.server, database.dsn)
    write(tmp_path, "V202601010001_good.up.sql", "DROP TABLE mine, of_the_app; DROP SCHEMA s;")
    write(tmp_path, "V202601010002_fails.up.sql", FAILS)
    error = await migrate_and_fail(owner, tmp_path)
    assert error.result.restored
    assert dump_lines(database.server, database.dsn) == before
    database.sql("DROP OWNED BY msr_app; REVOKE msr_app FROM msr_owner")


async def test_rights_that_were_passed_on_come_back_without_a_superuser(
    database: Database, owner: str, tmp_path: Path
) -> None:
    """Only a superuser can give them as the one who passed them on; the owner gives them himself."""
    database.sql(
        "DO $$ BEGIN CREATE ROLE msr_app; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        "DO $$ BEGIN CREATE ROLE msr_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
    )
    connection = await asyncpg.connect(owner)
    await connection.execute(
        "CREATE TABLE mine AS SELECT 1 AS n; CREATE SCHEMA s; SELECT lo_from_bytea(8, 'x');"
        "GRANT SELECT ON mine TO msr_app WITH GRANT OPTION; GRANT USAGE ON SCHEMA s TO msr_app WITH GRANT OPTION;"
        "GRANT SELECT ON LARGE OBJECT 8 TO msr_app WITH GRANT OPTION"
    )
    await connection.close()
    database.sql(
        "SET ROLE msr_app; GRANT SELECT ON mine TO msr_reader; GRANT USAGE ON SCHEMA s TO msr_reader;"
        "GRANT SELECT ON LARGE OBJECT 8 TO msr_reader"
    )
    async with PostgresHandler(owner) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        assert (await executor.restore_from_backup(await executor.create_backup())).warnings == ()
    rights = "has_table_privilege('msr_reader', 'mine', 'SELECT'), has_schema_privilege('msr_reader', 's', 'USAGE')"
    assert database.sql(f"SELECT {rights}") == "t|t"
    assert "msr_reader=r" in database.sql("SELECT lomacl FROM pg_largeobject_metadata")
    database.sql("DROP OWNED BY msr_reader, msr_app; DROP ROLE msr_reader")


async def test_what_belongs_to_somebody_else_is_found_before_anything_runs(
    database: Database, owner: str, tmp_path: Path
) -> None:
    database.sql("CREATE TABLE of_the_superuser (n int); GRANT SELECT ON of_the_superuser TO msr_owner")
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (n int)")
    async with PostgresHandler(owner) as handler:
        with pytest.raises(
            BackupFailed, match=r"could make the backup but not go back to it: .*of_the_superuser of postgres"
        ):
            await MigrationScriptExecutor(handler, config_for(tmp_path)).migrate()
    assert database.sql("SELECT to_regclass('good') IS NULL") == "t"


# -- the schema's text ----------------------------------------------------------------------------------


async def test_text_that_looks_like_psql_survives(database: Database, tmp_path: Path) -> None:
    database.sql(
        "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'a\n\\restrict abc\n\\unrestrict abc\nb' $$"
    )
    said = database.sql("SELECT f()")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        await executor.restore_from_backup(await executor.create_backup())
    assert database.sql("SELECT f()") == said == "a\n\\restrict abc\n\\unrestrict abc\nb"


async def test_plpgsql_comes_back_and_goes(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_good.up.sql", "DROP EXTENSION plpgsql;")
    write(tmp_path, "V202601010002_fails.up.sql", FAILS)
    error = await migrate_and_fail(database.dsn, tmp_path)
    assert error.result.restored
    database.sql("DO 'BEGIN END'; DROP EXTENSION plpgsql")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        without = await executor.create_backup()
        database.sql("CREATE EXTENSION plpgsql")
        await executor.restore_from_backup(without)
    assert database.sql("SELECT count(*) FROM pg_extension") == "0"


# -- refused early ------------------------------------------------------------------------------------


async def test_refreshing_concurrently_is_fine(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE MATERIALIZED VIEW mv AS SELECT 1 AS n; CREATE UNIQUE INDEX ON mv (n)")
    write(tmp_path, "V202601010001_good.up.sql", "REFRESH MATERIALIZED VIEW CONCURRENTLY mv;")
    async with PostgresHandler(database.dsn) as handler:
        assert (await MigrationScriptExecutor(handler, config_for(tmp_path)).migrate()).success


@pytest.mark.parametrize(
    "sql",
    ["CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TYPE mood AS ENUM ('a')", "CREATE SCHEMA s"],
)
async def test_a_database_without_tables_is_not_empty_if_it_holds_anything_else(database: Database, sql: str) -> None:
    async with PostgresHandler(database.dsn) as handler:
        assert (await handler.describe()).empty
        database.sql(sql)
        assert not (await handler.describe()).empty
