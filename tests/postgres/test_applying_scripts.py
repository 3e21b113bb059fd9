"""A SQL migration and its line in the history as one message: what is committed, and where an error is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import asyncpg
import pytest

from msr_async.errors import ConnectionLost, DatabaseError, PermissionMissing, ScriptFailed
from msr_async.models import Isolation
from msr_async.postgres import PostgresHandler
from msr_async.postgres.driver import Connection
from msr_async.protocols import WorkOptions
from tests.support.scripted import PLAIN, VERSION, apply, line, make_book, sql
from tests.support.servers import Database, only_newest

pytestmark = only_newest

NOTHING_KEPT = "SELECT (SELECT count(*) FROM schema_version), to_regclass('t') IS NULL"


async def refused(handler: PostgresHandler, text: str, options: WorkOptions = PLAIN) -> ScriptFailed:
    """Apply a script that fails, and see that the handler goes on afterwards."""
    await make_book(handler)
    with pytest.raises(ScriptFailed) as caught:
        await apply(handler, sql(text), line(), "up", options)
    await handler.check_connection()
    return caught.value


async def test_script_and_line_are_one_transaction_in_one_message(database: Database) -> None:
    queries: list[str] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        connection = await handler._session.prepared()
        with connection.query_logger(lambda record: queries.append(record.query)):
            await apply(
                handler,
                sql("CREATE TABLE t AS SELECT txid_current() AS id;\n-- and\nINSERT INTO t VALUES (0);"),
                line(name="odd ' \\ é"),
                "up",
                WorkOptions(lock_timeout=5, durable=False),
            )
        (entry,) = await handler.schema_version.applied()
    assert len(queries) == 1
    assert entry.name == "odd ' \\ é"
    assert (entry.version, entry.run, entry.fingerprint, entry.baseline) == (VERSION, "run-1", "", False)
    assert datetime.now(UTC) - entry.applied_at < timedelta(minutes=1), "the time is the database's, not the entry's"
    assert 0 < entry.duration < 5
    assert database.sql("SELECT count(*) FROM t, schema_version s WHERE s.xmin::text = t.id::text") == "1"


async def test_down_strikes_the_line_out_in_the_same_transaction(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await apply(handler, sql("CREATE TABLE t (id int)"), line(), "up", PLAIN)
        with pytest.raises(ScriptFailed):
            await apply(handler, sql("DROP TABLE t; SELECT 1/0"), line(), "down", PLAIN)
        assert len(await handler.schema_version.applied()) == 1
        await apply(handler, sql("DROP TABLE t"), line(), "down", PLAIN)
        assert await handler.schema_version.applied() == ()
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


async def test_a_repeatable_script_replaces_its_line_and_a_version_does_not(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        for checksum in ("aa", "bb"):
            await apply(handler, sql("SELECT 1"), line(None, "views", checksum), "up", PLAIN)
        assert [entry.checksum for entry in await handler.schema_version.applied()] == ["bb"]
        await apply(handler, sql("CREATE TABLE t (id int)"), line(), "up", PLAIN)
        with pytest.raises(DatabaseError, match="another run has applied it"):
            await apply(handler, sql("INSERT INTO t VALUES (1)"), line(), "up", PLAIN)
        assert [entry.id for entry in await handler.schema_version.applied()] == [str(VERSION), "R__views"]
    assert database.sql("SELECT count(*) FROM t") == "0"


@pytest.mark.parametrize("text", ["", " ;;\n", "-- nothing yet\n/* really */;"])
async def test_a_script_of_nothing_but_comments_is_a_line(database: Database, text: str) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await apply(handler, sql(text), line(), "up", PLAIN)
        assert len(await handler.schema_version.applied()) == 1


MANY = "".join(f"CREATE TABLE many_{number} (id int);\n" for number in range(40))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("CREATE TABLE t (id int);\n  SELEC 2;\nSELECT 3", "2:3", 'syntax error at or near "SELEC"'),
        ("CREATE TABLE t (id int);\nSELECT 1;\n\nSELECT id,\n  nothing\nFROM t;", "5:3", "nothing"),
        ("CREATE TABLE t (id int);\n /* here */ SELECT 1/0;\nSELECT 3", "2:13", "division by zero"),
        ("SELECT 1/0;\nCREATE TABLE t (id int);", "1:1", "division by zero"),
        ("CREATE TABLE t (id int); SELECT 2; SELECT 3;\nSELECT 1/0", "4", "division by zero"),
        ("CREATE TABLE t (id int PRIMARY KEY);\nINSERT INTO t VALUES (1);\n INSERT INTO t VALUES (1);", "3:2", "duplicate key"),
        ("CREATE TABLE t (id int);\nDO $$ BEGIN\n RAISE EXCEPTION 'my own words';\nEND $$;", "2:1", "my own words"),
        ("CREATE TABLE t (id int);\nDO $$ BEGIN\n PERFORM nothing FROM t;\nEND $$;", "2:1", "nothing"),
        ("-- é漢字😀\nSELECT '漢字';\nSELECT no_such_column", "3:8", "no_such_column"),
        ("CREATE TABLE t (id int);\nSELECT 1 +;", "2:11", "syntax error"),
        ("CREATE TABLE t (id int);\nSELECT 1 +", "2:11", "syntax error"),
        ("CREATE TABLE t (id int);\nSELECT 'open", "2:8", "unterminated quoted string"),
        ("CREATE TABLE t (id int);\nSELECT 1 /* open", "2:10", "unterminated /* comment"),
        ("CREATE TABLE t (id int);\n /* open\nINSERT INTO t VALUES (1);", "2:2", "unterminated /* comment"),
        ("/* /* open */\nCREATE TABLE t (id int);", "1:1", "unterminated /* comment"),
        ("CREATE TABLE t (id int); -- first\r\rSELECT 1; -- second\r  SELECT 1/0;", "4:3", "division by zero"),
        ("CREATE TABLE t (id int);\r\nSELECT E'a'\r\n'\\';' = ';';\r\n SELECT 1/0; -- '", "4:2", "division by zero"),
        ("CREATE TABLE t (id int);\n\u00a0;", "2:1", 'syntax error at or near "\u00a0"'),
        ("CREATE TABLE t (id int);\nSAVEPOINT a;\nSELECT 1;\nROLLBACK TO a;\nRELEASE a;\nSELECT 1/0;", "6:1", "division"),
        (f"{MANY}SELECT 1/0;", "41:1", "division by zero"),
    ],
)  # fmt: skip
async def test_an_error_has_its_place_and_nothing_is_kept(
    database: Database, text: str, place: str, words: str
) -> None:
    async with PostgresHandler(database.dsn) as handler:
        error = await refused(handler, text)
    assert words in str(error)
    found = f"{error.line}:{error.column}"
    assert found == place if ":" in place else error.line == 2
    assert isinstance(error.__cause__, asyncpg.PostgresError)
    assert database.sql(NOTHING_KEPT) == "0|t"


async def test_no_statement_runs_twice_to_learn_which_one_failed(database: Database) -> None:
    database.sql("CREATE SEQUENCE runs")
    async with PostgresHandler(database.dsn) as handler:
        await refused(handler, "SELECT nextval('runs');\nSELECT 1/0;")
    assert database.sql("SELECT last_value FROM runs") == "1"


async def test_a_deferred_constraint_fails_at_the_commit(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        error = await refused(
            handler,
            "CREATE TABLE t (id int PRIMARY KEY);\n"
            "CREATE TABLE u (t int REFERENCES t DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO u VALUES (1);",
        )
    assert "could not be committed" in str(error)
    assert "violates foreign key constraint" in str(error)
    assert database.sql(NOTHING_KEPT) == "0|t"


async def test_a_deferred_constraint_fails_a_unit_too(database: Database) -> None:
    database.sql("CREATE TABLE t (id int PRIMARY KEY, up int REFERENCES t DEFERRABLE INITIALLY DEFERRED)")

    async def work(connection: Connection) -> None:
        await connection.execute("INSERT INTO t VALUES (1, 2)")

    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(DatabaseError, match=r"could not be committed: .*foreign key"):
            await handler.run(work, PLAIN)
        await handler.check_connection()
    assert database.sql("SELECT count(*) FROM t") == "0"


async def test_a_role_that_the_script_takes_on_does_not_write_the_history(database: Database) -> None:
    role = f"maker_{database.name}"
    database.sql(f"CREATE ROLE {role}; GRANT CREATE ON SCHEMA public TO {role}")
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await apply(handler, sql(f"SET ROLE {role}; SET search_path = ''; CREATE TABLE public.t (id int)"), line(), "up", PLAIN)  # fmt: skip
        await apply(handler, sql("CREATE TABLE mine (id int)"), line(VERSION + 1), "up", PLAIN)
        assert len(await handler.schema_version.applied()) == 2
    owners = database.sql(
        "SELECT string_agg(tableowner, ' ' ORDER BY tablename) FROM pg_tables WHERE tablename IN ('mine', 't')"
    )
    assert owners == f"postgres {role}", "the role of one script is not that of the next"
    database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_user_who_may_not_write_the_history_is_told_so(database: Database) -> None:
    role = f"reader_{database.name}"
    async with PostgresHandler(database.dsn) as owner:
        await make_book(owner)
        await apply(owner, sql("SELECT 1"), line(), "up", PLAIN)
        await owner.run(lambda connection: owner.schema_version.keep_note(connection, "a", {"b": 1}), PLAIN)
    database.sql(
        f"CREATE ROLE {role} LOGIN; GRANT CREATE ON SCHEMA public TO {role}; "
        f"GRANT SELECT ON schema_version, schema_version_notes TO {role}"
    )
    async with PostgresHandler(database.dsn.replace("//postgres@", f"//{role}@")) as handler:
        assert len(await handler.schema_version.applied()) == 1
        assert await handler.schema_version.note("a") == {"b": 1}
        await make_book(handler)
        with pytest.raises(PermissionMissing, match=r"may not write to public\.schema_version"):
            await apply(handler, sql("CREATE TABLE t (id int);\nCREATE TABLE u (id int)"), line(2), "up", PLAIN)
        database.sql(f"GRANT INSERT, DELETE ON schema_version TO {role}")
        with pytest.raises(ScriptFailed, match="1:1: permission denied to create role"):
            await apply(handler, sql("CREATE ROLE nobody_at_all"), line(2), "up", PLAIN)
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"
    database.sql(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_script_that_ends_the_transaction_is_not_even_sent(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        error = await refused(handler, "CREATE TABLE t (id int); COMMIT; SELECT 1")
    assert "ended the transaction" in str(error)
    assert database.sql(NOTHING_KEPT) == "0|t"


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_the_isolation_asked_for_is_the_one_that_scripts_see(database: Database, level: Isolation) -> None:
    seen: list[str] = []

    async def work(connection: Connection) -> None:
        seen.append(await connection.fetchval("SHOW transaction_isolation"))

    look = "CREATE TABLE t AS SELECT current_setting('transaction_isolation') AS level; SELECT 1"
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await apply(handler, sql(look), line(), "up", WorkOptions(isolation=level))
        await handler.run(work, WorkOptions(isolation=level))
    assert [database.sql("SELECT level FROM t"), *seen] == [level, level]


async def test_a_script_may_choose_its_isolation_itself(database: Database) -> None:
    text = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; CREATE TABLE t AS SELECT current_setting('transaction_isolation')"
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await apply(handler, sql(text), line(), "up", WorkOptions(lock_timeout=3, durable=False))
    assert database.sql("SELECT * FROM t") == "serializable"


async def test_a_lock_that_is_not_had_in_time_is_given_up_and_worth_another_try(database: Database) -> None:
    database.sql("CREATE TABLE held (id int)")
    other = await asyncpg.connect(database.dsn)
    await other.execute("BEGIN; LOCK TABLE held")
    async with PostgresHandler(database.dsn) as handler:
        began = anyio.current_time()
        error = await refused(
            handler, "CREATE TABLE t (id int);\nALTER TABLE held ADD a int;", WorkOptions(lock_timeout=0.4)
        )
        assert 0.35 < anyio.current_time() - began < 3
        assert (error.line, error.column) == (2, 1)
        assert isinstance(error.__cause__, asyncpg.LockNotAvailableError)
        assert handler.is_transient(error)
        await other.close()
        await apply(handler, sql("ALTER TABLE held ADD a int"), line(), "up", WorkOptions(lock_timeout=0.4))
        assert await (await handler._session.prepared()).fetchval("SHOW lock_timeout") == "0", "only in its unit"


async def test_a_statement_timeout_ends_a_statement_and_is_not_worth_another_try(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        error = await refused(
            handler, "CREATE TABLE t (id int); SELECT pg_sleep(20)", WorkOptions(statement_timeout=0.2)
        )
        assert "statement timeout" in str(error)
        assert not handler.is_transient(error)


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03"])
async def test_conflicts_are_worth_another_try_however_deep_they_are(database: Database, state: str) -> None:
    async with PostgresHandler(database.dsn) as handler:
        error = await refused(handler, f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END $$")
        outer = ScriptFailed("outer")
        outer.__cause__ = error
        assert handler.is_transient(outer)
        assert not handler.is_transient(ScriptFailed("alone"))


async def test_a_cancelled_script_is_undone_and_the_connection_goes_on(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        before = (await handler._session.connection()).get_server_pid()
        with anyio.move_on_after(0.3) as scope, anyio.fail_after(10):
            await apply(handler, sql("CREATE TABLE t (id int); SELECT pg_sleep(30)"), line(), "up", PLAIN)
        assert scope.cancelled_caught
        assert await handler.schema_version.applied() == ()
        await apply(handler, sql("SELECT 1"), line(), "up", PLAIN)
        assert (await handler._session.connection()).get_server_pid() == before
    assert database.sql("SELECT to_regclass('t') IS NULL") == "t"


async def test_a_backend_that_dies_under_a_script_is_a_lost_connection(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        with pytest.raises(ConnectionLost):
            await apply(
                handler,
                sql("CREATE TABLE t (id int); SELECT pg_terminate_backend(pg_backend_pid())"),
                line(),
                "up",
                PLAIN,
            )
        await apply(handler, sql("SELECT 1"), line(), "up", PLAIN)
    assert database.sql("SELECT to_regclass('t') IS NULL, (SELECT count(*) FROM schema_version)") == "t|1"


async def test_notices_of_the_script_are_told_and_our_own_are_not(database: Database) -> None:
    heard: list[tuple[str, str]] = []
    options = WorkOptions(notice=lambda severity, message: heard.append((severity, message)))
    talk = "DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$"
    async with PostgresHandler(database.dsn) as handler:
        await handler.run(handler.schema_version.ensure, options)
        database.sql("DROP TABLE schema_version_notes")
        await handler.run(handler.schema_version.ensure, options)
        assert heard == []
        await apply(handler, sql(f"DROP TABLE IF EXISTS gone; {talk}"), line(), "up", options)
        assert heard == [
            ("NOTICE", 'table "gone" does not exist, skipping'),
            ("NOTICE", "hello"),
            ("WARNING", "careful"),
        ]
        heard.clear()
        with pytest.raises(ScriptFailed):
            await apply(handler, sql("SELEC 1"), line(2), "up", options)
        await apply(handler, sql(talk), line(3), "up", PLAIN)
    assert heard == []


async def test_what_a_script_leaves_in_the_session_is_gone_before_the_next(database: Database) -> None:
    statements: list[str] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        connection = await handler._session.connection()
        await apply(handler, sql("SET TimeZone = 'Asia/Tokyo'; CREATE TEMP TABLE mine (id int)"), line(1), "up", PLAIN)
        await apply(handler, sql("CREATE TABLE t AS SELECT current_setting('TimeZone'), to_regclass('mine')"), line(2), "up", PLAIN)  # fmt: skip
        with connection.query_logger(lambda record: statements.append(record.query)):
            await apply(handler, sql("CREATE TABLE u (id int)"), line(3), "up", PLAIN)
    assert database.sql("SELECT * FROM t") == "UTC|"
    assert len(statements) == 1, "after plain DDL nothing is reset"


async def test_reading_the_history_sends_nothing_else_on_a_new_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    execute = asyncpg.Connection.execute

    async def spy(self: Connection, query: str, *args: object, **named: object) -> str:
        sent.append(query)
        return await execute(self, query, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncpg.Connection, "execute", spy)
    async with PostgresHandler(database.dsn) as handler:
        assert await handler.schema_version.applied() == ()
        assert await handler.schema_version.note("a") is None
        assert sent == []
        await make_book(handler)
        assert sent
        assert not handler._session.pooled


async def test_a_fence_stands_before_each_unit(database: Database) -> None:
    other = await asyncpg.connect(database.dsn)
    await other.execute("SELECT pg_advisory_lock(4711)")
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        handler._session.fence = 4711
        with pytest.raises(ScriptFailed, match="lock timeout") as caught:
            await apply(handler, sql("CREATE TABLE t (id int)"), line(), "up", WorkOptions(lock_timeout=0.2))
        assert handler.is_transient(caught.value)
        await other.close()
        await apply(handler, sql("CREATE TABLE t (id int)"), line(), "up", WorkOptions(lock_timeout=5))
