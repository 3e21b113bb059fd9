"""Scripts outside of a transaction: what is done stays done, what is half-done is cleared away, and a retry just works."""

from __future__ import annotations

import anyio
import asyncpg
import pytest

from msr_async.errors import ConnectionLost, MsrError, ScriptFailed
from msr_async.postgres import PostgresHandler
from msr_async.postgres.driver import Connection
from msr_async.protocols import WorkOptions
from tests.support.pgbouncer import Bouncers
from tests.support.scripted import make_book, sql
from tests.support.servers import Database, only_newest

pytestmark = only_newest

KEY = "statements:it"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"


async def run(handler: PostgresHandler, text: str, lock_timeout: float = 5) -> None:
    async def work(connection: Connection) -> None:
        await handler.execute(connection, sql(text), resume=KEY)

    await make_book(handler)
    await handler.run(work, WorkOptions(transaction=False, lock_timeout=lock_timeout))


async def test_each_statement_is_committed_alone_and_what_is_done_is_not_done_again(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ScriptFailed, match=r"3:1: division by zero"):
            await run(handler, "CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\nSELECT 1/0;")
        assert database.sql("SELECT count(*) FROM t") == "1"
        await run(handler, "CREATE TABLE t (id int);\nINSERT INTO t VALUES (1);\nSELECT 1/1;\nINSERT INTO t VALUES (2)")
        assert database.sql("SELECT sum(id) FROM t") == "3"
        assert (await handler.schema_version.note(KEY))["statement"] == 4


async def test_a_script_whose_done_part_was_changed_is_begun_anew_and_says_so(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ScriptFailed):
            await run(handler, "CREATE TABLE t (id int); SELECT 1/0")
        with pytest.raises(ScriptFailed, match=r"already exists.*begun from its first line"):
            await run(handler, "CREATE TABLE t (id bigint); SELECT 1")


@pytest.mark.parametrize("tail", ["/* open\nSELECT 2;", "SELECT 'open", "SELECT $$ open", 'SELECT "open'])
async def test_what_never_ends_is_refused_and_what_was_before_it_stays(database: Database, tail: str) -> None:
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ScriptFailed, match=r":2:\d+: unterminated"):
            await run(handler, f"CREATE TABLE t (id int);\n{tail}")
        assert (await handler.schema_version.note(KEY))["statement"] == 1
    assert database.sql("SELECT to_regclass('t') IS NULL") == "f"


async def test_settings_of_the_script_hold_for_what_is_left_of_it(database: Database) -> None:
    text = "CREATE SCHEMA s;\nSET search_path = s;\nCREATE TABLE t (id int);\nINSERT INTO t VALUES ({});"
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ScriptFailed, match="4:23"):
            await run(handler, text.format("'x'"))
        await run(handler, text.format("1"))
        assert await (await handler._session.connection()).fetchval("SHOW search_path") != "s", "only for the script"
    assert database.sql("SELECT id FROM s.t") == "1"


async def test_a_role_of_the_script_is_kept_and_the_notes_are_our_own(database: Database) -> None:
    role = f"maker_{database.name}"
    database.sql(f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}")
    async with PostgresHandler(database.dsn) as handler:
        await run(handler, f"SET ROLE {role}; CREATE TABLE t (id int); CREATE INDEX CONCURRENTLY i ON t (id)")
    assert database.sql("SELECT tableowner FROM pg_tables WHERE tablename = 't'") == role
    database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("name", ["by_id", '"By Id"', ""])
async def test_an_invalid_index_of_a_failed_attempt_is_removed(database: Database, name: str) -> None:
    database.sql('CREATE SCHEMA "S p"; CREATE TABLE "S p".t (id int); INSERT INTO "S p".t VALUES (1), (1)')
    text = f'CREATE UNIQUE INDEX CONCURRENTLY {name} ON "S p".t (id)'
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ScriptFailed, match=r"1:1: could not create unique index"):
            await run(handler, text)
        assert database.sql(INVALID) == "0"
        database.sql('DELETE FROM "S p".t')
        await run(handler, text)
    assert database.sql("SELECT count(*) FROM pg_index WHERE indrelid = '\"S p\".t'::regclass AND indisvalid") == "1"


async def test_an_invalid_index_of_somebody_before_us_is_replaced(database: Database) -> None:
    database.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1)")
    other = await asyncpg.connect(database.dsn)
    with pytest.raises(asyncpg.UniqueViolationError):
        await other.execute("CREATE UNIQUE INDEX CONCURRENTLY i ON t (id)")
    await other.close()
    assert database.sql(INVALID) == "1"
    database.sql("DELETE FROM t")
    async with PostgresHandler(database.dsn) as handler:
        await run(handler, "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON t (id)")
    assert database.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == "t"


async def test_an_invalid_index_that_is_not_ours_stays(database: Database) -> None:
    database.sql(
        "CREATE TABLE t (id int, other int); INSERT INTO t VALUES (1, 1), (1, 1); CREATE INDEX theirs ON t (other)"
    )
    database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'theirs'::regclass")
    async with PostgresHandler(database.dsn) as handler:
        for name in ("", "ours"):
            with pytest.raises(ScriptFailed):
                await run(handler, f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON t (id)")
    assert database.sql("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 't'::regclass") == "theirs"


async def test_a_valid_index_that_was_there_before_is_an_error_and_stays_one(database: Database) -> None:
    database.sql("CREATE TABLE t (id int); CREATE INDEX i ON t (id)")
    async with PostgresHandler(database.dsn) as handler:
        for _ in range(2):
            with pytest.raises(ScriptFailed, match="already exists"):
                await run(handler, "CREATE INDEX CONCURRENTLY i ON t (id)")


@pytest.mark.parametrize("name", ["i", ""])
async def test_a_backend_killed_while_it_builds_an_index(database: Database, name: str) -> None:
    database.sql("CREATE TABLE t (id int)")
    text = f"CREATE TABLE u (id int);\nCREATE INDEX CONCURRENTLY {name} ON t (id);\nCREATE TABLE v (id int);"
    blocker = await asyncpg.connect(database.dsn)
    await blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
    async with PostgresHandler(database.dsn) as handler, PostgresHandler(database.dsn) as next_runner:

        async def kill() -> None:
            pid = handler._session.pid
            with anyio.fail_after(10):
                while database.sql(INVALID) == "0":
                    await anyio.sleep(0.05)
            database.sql(f"SELECT pg_terminate_backend({pid})")

        await make_book(handler)
        async with anyio.create_task_group() as group:
            group.start_soon(kill)
            with pytest.raises(ConnectionLost):
                await run(handler, text, lock_timeout=0)
        assert database.sql(INVALID) == "1"
        await blocker.close()
        await run(next_runner, text)
    assert database.sql(f"{INVALID}") == "0"
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"
    assert database.sql(f"{indexes}; SELECT to_regclass('v') IS NULL") == "1\nf"


@pytest.mark.parametrize(
    ("before", "statement", "check"),
    [
        ("", "CREATE INDEX CONCURRENTLY i ON t (id)", "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"),
        ("", "CREATE INDEX CONCURRENTLY ON t (id)", "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass"),
        ("CREATE INDEX i ON t (id)", "DROP INDEX CONCURRENTLY i", "SELECT 1 + count(*) FROM pg_index WHERE indrelid = 't'::regclass"),
        ("", "VACUUM t", "SELECT 1"),
    ],
)  # fmt: skip
async def test_a_statement_that_was_done_before_its_note_could_be_kept_counts_as_done(
    database: Database, monkeypatch: pytest.MonkeyPatch, before: str, statement: str, check: str
) -> None:
    database.sql(f"CREATE TABLE t (id int); {before}")
    async with PostgresHandler(database.dsn) as handler:
        book = handler.schema_version
        keep, kept = book.keep_note, 0

        async def dies(conn: Connection, key: str, value: object) -> None:
            nonlocal kept
            kept += 1
            if kept == 2:
                raise ConnectionLost("killed")
            await keep(conn, key, value)

        monkeypatch.setattr(book, "keep_note", dies)
        with pytest.raises(ConnectionLost):
            await run(handler, statement)
        monkeypatch.undo()
        assert (await book.note(KEY))["begun"]
        await run(handler, statement)
        assert (await book.note(KEY))["statement"] == 1
    assert database.sql(check) == "1"


async def test_a_database_that_was_made_before_the_note_counts_as_made(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{database.name}_more"
    async with PostgresHandler(database.dsn) as handler:
        book = handler.schema_version
        keep, kept = book.keep_note, 0

        async def dies(conn: Connection, key: str, value: object) -> None:
            nonlocal kept
            kept += 1
            if kept in (2, 4):
                raise ConnectionLost("killed")
            await keep(conn, key, value)

        monkeypatch.setattr(book, "keep_note", dies)
        for text in (f"CREATE DATABASE {name}", f"CREATE DATABASE {name}; DROP DATABASE {name}"):
            with pytest.raises(ConnectionLost):
                await run(handler, text)
        monkeypatch.undo()
        await run(handler, f"CREATE DATABASE {name}; DROP DATABASE {name}")
    assert database.sql(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'") == "0"


async def test_a_database_that_was_there_before_is_an_error_each_time(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        for _ in range(2):
            with pytest.raises(ScriptFailed, match="already exists"):
                await run(handler, f"CREATE DATABASE {database.name}")


async def test_leftovers_of_reindex_concurrently_are_dropped(database: Database) -> None:
    database.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1); CREATE INDEX i ON t (id)")
    database.sql("CREATE INDEX i_ccnew ON t (id); CREATE INDEX mine_ccnew ON t (id)")
    database.sql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'i_ccnew'::regclass")
    async with PostgresHandler(database.dsn) as handler:
        await run(handler, "REINDEX INDEX CONCURRENTLY i")
    assert database.sql("SELECT to_regclass('i_ccnew') IS NULL, to_regclass('mine_ccnew') IS NULL") == "t|f"


async def test_cancelling_leaves_no_invalid_index_and_the_next_attempt_works(database: Database) -> None:
    database.sql("CREATE TABLE t (id int)")
    blocker = await asyncpg.connect(database.dsn)
    await blocker.execute("BEGIN; INSERT INTO t VALUES (1)")
    async with PostgresHandler(database.dsn) as handler:
        scope = anyio.CancelScope()

        async def build() -> None:
            with scope:
                await run(handler, "CREATE INDEX CONCURRENTLY i ON t (id)", lock_timeout=0)

        async with anyio.create_task_group() as group:
            group.start_soon(build)
            with anyio.fail_after(10):
                while database.sql(INVALID) == "0":
                    await anyio.sleep(0.05)
            scope.cancel()
            await anyio.sleep(0.2)
            await blocker.close()
        assert scope.cancelled_caught
        assert database.sql(INVALID) == "0"
        await run(handler, "CREATE INDEX CONCURRENTLY i ON t (id)")
    assert database.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == "t"


async def test_what_commits_by_itself_may(database: Database) -> None:
    text = "CREATE TABLE t (id int);\nDO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (1/0); END $$;"
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(ScriptFailed, match="2:1: division by zero"):
            await run(handler, text)
    assert database.sql("SELECT count(*) FROM t") == "1"


async def test_timeouts_hold_for_each_statement_and_not_beyond(database: Database) -> None:
    database.sql("CREATE TABLE t (id int)")
    blocker = await asyncpg.connect(database.dsn)
    await blocker.execute("BEGIN; LOCK TABLE t")
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(MsrError) as caught:
            await run(handler, "ALTER TABLE t ADD a int", lock_timeout=0.3)
        assert handler.is_transient(caught.value)
        await blocker.close()
        assert await (await handler._session.prepared()).fetchval("SHOW lock_timeout") == "0"


async def test_in_a_transaction_nothing_is_noted(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:

        async def work(connection: Connection) -> None:
            await handler.execute(connection, sql("CREATE TABLE t (id int); SELECT 1/0"), resume=KEY)

        await make_book(handler)
        with pytest.raises(ScriptFailed):
            await handler.run(work, WorkOptions())
        assert await handler.schema_version.note(KEY) is None
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


async def test_through_a_pooling_proxy_too(database: Database, pgbouncer: Bouncers) -> None:
    database.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (1)")
    text = "CREATE TABLE u (id int);\nCREATE UNIQUE INDEX CONCURRENTLY i ON t (id);\nVACUUM u;"
    async with PostgresHandler(pgbouncer(database)) as handler:
        with pytest.raises(ScriptFailed, match="2:1: could not create unique index"):
            await run(handler, text)
        database.sql("DELETE FROM t")
        await run(handler, text)
        assert handler._session.pooled
        assert await handler.progress() is None
        catalog = await handler.catalog()
        assert catalog is not None
        assert "index public.i" in catalog
        assert (await handler.describe()).name == database.name
        await handler.review([sql("ALTER TABLE t ALTER id TYPE bigint")])
    assert database.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") == "t"
