"""Migrations on a real PostgreSQL: one transaction with its record, errors with their place, locks, lost connections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from msr_async.config import Config, Policy, RollbackStrategy
from msr_async.errors import ConnectionLost, LockNotAcquired, MigrationFailed, ScriptFailed, ValidationFailed
from msr_async.executor import MigrationScriptExecutor
from msr_async.models import LockInfo
from msr_async.postgres import PostgresHandler
from tests.postgres.test_backing_up import nobody_left
from tests.postgres.test_round_trip import config_for, write
from tests.support.servers import Database, only_newest

pytestmark = only_newest


def quick(folder: Path, strategy: str = "none", mode: str = "manual") -> Config:
    config = config_for(folder)
    config.rollback_strategy = strategy  # type: ignore[assignment]
    config.backup_mode = mode  # type: ignore[assignment]
    return config


async def failing(database: Database, folder: Path, strategy: str = "none", mode: str = "manual") -> MigrationFailed:
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(MigrationFailed) as caught:
            await MigrationScriptExecutor(handler, quick(folder, strategy, mode)).migrate()
    await nobody_left(database)
    return caught.value


@pytest.mark.parametrize(
    ("sql", "place", "words"),
    [
        ("SELECT 1;\n  SELEC 2;", "2:3", 'syntax error at or near "SELEC"'),
        ("CREATE TABLE t (id int);\n\nINSERT INTO t VALUES ('x');", "3:23", "invalid input syntax for type integer"),
        (
            "CREATE TABLE t (id int PRIMARY KEY);\nINSERT INTO t VALUES (1);\n INSERT INTO t VALUES (1);",
            "3:2",
            "duplicate key",
        ),
        ("-- é漢字😀\nSELECT no_such_column", "2:8", "no_such_column"),
        ("DO $$ BEGIN\n RAISE EXCEPTION 'my own words';\nEND $$;", "1:1", "my own words"),
        ("\ufeffSELECT 1;\r\nSELECT nothing;", "2:8", "nothing"),
    ],
)
async def test_behaviour_44_an_error_in_sql_has_its_place_in_the_file(
    database: Database, tmp_path: Path, sql: str, place: str, words: str
) -> None:
    write(tmp_path, "V202601010001_bad.up.sql", sql)
    error = await failing(database, tmp_path)
    assert isinstance(error.error, ScriptFailed)
    assert f"V202601010001_bad.up.sql:{place}: " in str(error.error)
    assert words in str(error.error)
    assert isinstance(error.error.__cause__, asyncpg.PostgresError)
    assert database.sql("SELECT to_regclass('t') IS NULL, (SELECT count(*) FROM schema_version)") == "t|0"


async def test_behaviour_44_an_error_in_python_has_its_line(database: Database, tmp_path: Path) -> None:
    write(
        tmp_path,
        "V202601010001_bad.py",
        "async def up(db, ctx):\n    await db.execute('CREATE TABLE t (id int)')\n    await db.execute('SELEC 1')\n",
    )
    error = await failing(database, tmp_path)
    assert "V202601010001_bad.py:3: " in str(error.error)
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


async def test_script_and_record_are_one_transaction(database: Database, tmp_path: Path) -> None:
    write(
        tmp_path, "V202601010001_one.up.sql", "CREATE TABLE t AS SELECT txid_current() AS id; SELECT 1;;\n-- the end\n"
    )
    write(
        tmp_path,
        "V202601010002_two.py",
        "async def up(db, ctx):\n    await db.execute('INSERT INTO t SELECT txid_current()')\n",
    )
    config = quick(tmp_path)
    config.drift = Policy.IGNORE  # the note of the schema after a run rewrites its newest line
    async with PostgresHandler(database.dsn) as handler:
        await MigrationScriptExecutor(handler, config).migrate()
    same = "SELECT array_agg(xmin::text ORDER BY version) = (SELECT array_agg(id::text ORDER BY id) FROM t) FROM schema_version"
    assert database.sql(same) == "t"


async def test_a_script_of_nothing_but_comments_is_applied(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_empty.up.sql", "-- nothing yet\n;\n/* really */")
    async with PostgresHandler(database.dsn) as handler:
        result = await MigrationScriptExecutor(handler, quick(tmp_path)).migrate()
    assert len(result.executed) == 1


async def test_a_deferred_constraint_fails_at_the_commit_and_is_a_failure(database: Database, tmp_path: Path) -> None:
    write(
        tmp_path,
        "V202601010001_deferred.up.sql",
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED); INSERT INTO b VALUES (1);",
    )
    error = await failing(database, tmp_path)
    assert "violates foreign key constraint" in str(error)
    assert database.sql("SELECT to_regclass('b') IS NULL, (SELECT count(*) FROM schema_version)") == "t|0"


async def test_transaction_commands_are_refused_before_anything_runs(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_fine.up.sql", "CREATE TABLE t (id int);")
    write(tmp_path, "V202601010002_commits.up.sql", "INSERT INTO t VALUES (1);\nCOMMIT;")
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ValidationFailed, match=r"V202601010002_commits\.up\.sql:2: COMMIT must not stand"):
            await MigrationScriptExecutor(handler, quick(tmp_path)).migrate()
    assert database.sql("SELECT to_regclass('t') IS NULL, to_regclass('schema_version') IS NULL") == "t|t"


@pytest.mark.parametrize("strategy", ["backup", "none"])
async def test_a_comment_that_never_ends_does_not_hide_the_rest_of_a_script(
    database: Database, tmp_path: Path, strategy: str
) -> None:
    write(tmp_path, "V202601010001_open.up.sql", "CREATE TABLE t (id int);\n/* old\nINSERT INTO t VALUES (1);\n")
    error = await failing(database, tmp_path, strategy, "full")
    assert "V202601010001_open.up.sql:2:1: unterminated /* comment" in str(error)
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


async def test_a_python_script_that_commits_is_caught(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_commits.py", "async def up(db, ctx):\n    await db.execute('COMMIT')\n")
    error = await failing(database, tmp_path)
    assert "ended the transaction" in str(error)


COMMITS = """async def up(db, ctx):
    await db.execute('CREATE TABLE stays (id int)')
    await db.execute('{ends}')
    await db.execute('CREATE TABLE goes (id int)')
    {then}

async def down(db, ctx):
    await db.execute('DROP TABLE stays')
"""
THERE = "SELECT to_regclass('stays') IS NOT NULL, to_regclass('goes') IS NOT NULL"


@pytest.mark.parametrize(
    "ends", ["COMMIT; BEGIN", "commit and chain", "/* 1 */ END; START TRANSACTION", "ROLLBACK; BEGIN"]
)
@pytest.mark.parametrize("then", ["pass", "await db.execute('SELECT 1/0')", "raise ValueError('no')"])
@pytest.mark.parametrize("strategy", list(RollbackStrategy))
async def test_a_transaction_that_the_script_began_is_not_taken_for_ours(
    database: Database, tmp_path: Path, ends: str, then: str, strategy: RollbackStrategy
) -> None:
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (id int);")
    write(tmp_path, "V202601010001_good.down.sql", "DROP TABLE good;")
    write(tmp_path, "V202601010002_commits.py", COMMITS.format(ends=ends, then=then))
    config = config_for(tmp_path)
    config.rollback_strategy = strategy
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(MigrationFailed, match="ended the transaction") as caught:
            await MigrationScriptExecutor(handler, config).migrate()
    error, stays = caught.value, "ROLLBACK" not in ends
    restored = strategy in (RollbackStrategy.BACKUP, RollbackStrategy.BOTH)
    assert error.result.restored is restored
    assert database.sql(THERE) == ("f|f" if restored or not stays else "t|f")
    assert ("stays" in str(error)) is not restored
    assert "Its own transaction was rolled back" not in str(error)
    assert "The database is at the version" not in str(error)
    if then.startswith("raise"):
        assert "V202601010002_commits.py:5: ValueError: no. Before that, the script ended" in str(error)


async def test_what_a_dry_run_could_not_hold_back_is_said(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (id int);")
    write(tmp_path, "V202601010002_commits.py", COMMITS.format(ends="COMMIT; BEGIN", then="pass"))
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        with pytest.raises(MigrationFailed, match="dry run, but a part of it stays") as caught:
            await executor.migrate(dry_run=True)
        assert "nothing was changed" not in str(caught.value)
        applied = [line.id for line in (await executor.status()).applied]
    assert database.sql(THERE) == "t|f"
    assert applied == ["202601010001"]


async def test_a_deadlock_after_a_commit_is_not_tried_again(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE tries (id int)")
    write(
        tmp_path,
        "V202601010001_commits.py",
        "async def up(db, ctx):\n"
        "    await db.execute('INSERT INTO tries VALUES (1)')\n"
        "    await db.execute('COMMIT; BEGIN')\n"
        "    await db.execute(\"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40P01'; END $$\")\n",
    )
    config = config_for(tmp_path)
    config.rollback_strategy = RollbackStrategy.NONE
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(MigrationFailed, match="ended the transaction"):
            await MigrationScriptExecutor(handler, config).migrate()
    assert database.sql("SELECT count(*) FROM tries") == "1"


async def test_a_python_script_may_nest_transactions_and_use_the_handler(database: Database, tmp_path: Path) -> None:
    write(
        tmp_path,
        "V202601010001_nested.py",
        "async def up(db, ctx):\n"
        "    async with db.transaction():\n"
        "        await db.execute('CREATE TABLE t (id int)')\n"
        "    try:\n"
        "        async with db.transaction():\n"
        "            await db.execute('SELECT 1/0')\n"
        "    except Exception:\n"
        "        pass\n"
        "    await db.execute('INSERT INTO t VALUES ($1)', ctx.version % 10)\n"
        "    assert await ctx.handler.db.fetchval('SELECT 1') == 1\n",
    )
    async with PostgresHandler(database.dsn) as handler:
        await MigrationScriptExecutor(handler, quick(tmp_path)).migrate()
    assert database.sql("SELECT id FROM t") == "1"


async def test_behaviour_18_nothing_pending_is_one_round_trip_and_takes_no_lock(
    database: Database, tmp_path: Path
) -> None:
    write(tmp_path, "V202601010001_one.up.sql", "CREATE TABLE t (id int)")
    statements: list[str] = []

    def log(record: asyncpg.connection.LoggedQuery) -> None:
        statements.append(record.query)

    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        await executor.migrate()
        connection = await handler._session.connection()
        other = await asyncpg.connect(database.dsn)
        await other.execute(f"SELECT pg_advisory_lock({handler.lock.key})")
        before = database.sql("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        connection.add_query_logger(log)
        result = await executor.migrate()
        await other.close()
    assert result.success
    assert result.executed == ()
    assert before
    assert statements == [], "the history is read by COPY, which the driver does not log; nothing else may be sent"
    assert not list((tmp_path / "backups").glob("*"))


async def test_a_backend_killed_in_the_middle_of_a_migration(database: Database, tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (id int)")
    write(
        tmp_path,
        "V202601010002_dies.up.sql",
        "CREATE TABLE bad (id int);\nSELECT pg_terminate_backend(pg_backend_pid());",
    )
    with anyio.fail_after(20):
        error = await failing(database, tmp_path, "backup", "full")
    assert isinstance(error.error, ConnectionLost)
    assert error.result.restored, "a new connection took the lock and put everything back"
    assert database.sql("SELECT to_regclass('good') IS NULL, to_regclass('schema_version') IS NULL") == "t|t"


async def test_a_connection_lost_between_migrations_stops_the_run(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE good (id int)")
    write(tmp_path, "V202601010002_next.up.sql", "CREATE TABLE next (id int)")
    async with PostgresHandler(database.dsn) as handler:
        original = handler.apply

        async def apply(*arguments: Any) -> None:
            await original(*arguments)
            connection = await handler._session.connection()
            database.sql(f"SELECT pg_terminate_backend({connection.get_server_pid()})")
            await anyio.sleep(0.1)

        monkeypatch.setattr(handler, "apply", apply)
        with pytest.raises(MigrationFailed, match="holds the migration lock was lost") as caught:
            await MigrationScriptExecutor(handler, quick(tmp_path)).migrate()
    assert [migration.name for migration in caught.value.result.executed] == ["good"]
    assert database.sql("SELECT to_regclass('good') IS NULL, to_regclass('next') IS NULL") == "f|t"


async def test_behaviour_41_cancelling_a_migration_rolls_back_and_frees_the_lock(
    database: Database, tmp_path: Path
) -> None:
    write(tmp_path, "V202601010001_slow.up.sql", "CREATE TABLE t (id int); SELECT pg_sleep(30);")
    async with PostgresHandler(database.dsn) as handler:
        with anyio.move_on_after(0.7) as scope, anyio.fail_after(10):
            await MigrationScriptExecutor(handler, quick(tmp_path)).migrate()
        assert scope.cancelled_caught
        assert await handler.lock.status() is None
        await handler.check_connection()
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


# -- the lock ---------------------------------------------------------------------------------------


async def test_the_lock_names_its_holder_and_gives_up_in_time(database: Database) -> None:
    heard: list[LockInfo | None] = []
    async with PostgresHandler(database.dsn) as first, PostgresHandler(database.dsn) as second:
        async with first.lock.hold(timeout=1, waiting=lambda *_: None):
            holder = await second.lock.status()
            assert holder is not None
            assert holder.holder.startswith("msr_async:")
            with anyio.fail_after(5), pytest.raises(LockNotAcquired) as caught:
                async with second.lock.hold(timeout=0.3, waiting=lambda who, waited: heard.append(who)):
                    pass
            assert caught.value.holder == holder
            assert heard[0] == holder
        assert await second.lock.status() is None
        async with second.lock.hold(timeout=0, waiting=lambda *_: None):
            pass


async def test_the_lock_of_a_killed_holder_is_free_at_once(database: Database) -> None:
    async with PostgresHandler(database.dsn) as first, PostgresHandler(database.dsn) as second:
        async with first.lock.hold(timeout=1, waiting=lambda *_: None):
            database.sql(f"SELECT pg_terminate_backend({(await first._session.connection()).get_server_pid()})")
            async with second.lock.hold(timeout=2, waiting=lambda *_: None):
                pass


async def test_a_lost_lock_that_somebody_else_took_is_not_taken_back(database: Database) -> None:
    async with PostgresHandler(database.dsn) as first, PostgresHandler(database.dsn) as second:
        async with first.lock.hold(timeout=0.2, waiting=lambda *_: None):
            database.sql(f"SELECT pg_terminate_backend({(await first._session.connection()).get_server_pid()})")
            async with second.lock.hold(timeout=2, waiting=lambda *_: None):
                with pytest.raises(ConnectionLost):
                    await first._session.connection()
                with pytest.raises(LockNotAcquired):
                    await first._session.connection()


async def test_a_lock_of_another_history_does_not_stand_in_the_way(database: Database) -> None:
    async with PostgresHandler(database.dsn) as one, PostgresHandler(database.dsn, version_table="other") as two:
        async with one.lock.hold(timeout=0, waiting=lambda *_: None), two.lock.hold(timeout=0, waiting=lambda *_: None):
            pass


async def test_cancelling_while_waiting_leaves_the_lock_alone(database: Database) -> None:
    async with PostgresHandler(database.dsn) as first, PostgresHandler(database.dsn) as second:
        async with first.lock.hold(timeout=0, waiting=lambda *_: None):
            with anyio.move_on_after(0.2):
                async with second.lock.hold(timeout=30, waiting=lambda *_: None):
                    pass
        assert await first.lock.status() is None
        async with second.lock.hold(timeout=1, waiting=lambda *_: None):
            pass
