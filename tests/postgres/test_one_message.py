"""Several migrations in one message: each still a transaction of its own, and every word about the right one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import anyio
import asyncpg
import pytest
from msgspec.structs import replace

from msr_async.errors import ConnectionLost, DatabaseError, MsrError, ScriptFailed
from msr_async.postgres import PostgresHandler, applying
from msr_async.protocols import Change, WorkOptions
from tests.support.scripted import PLAIN, VERSION, line, make_book, sql
from tests.support.servers import Database, only_newest

pytestmark = only_newest


@pytest.fixture(autouse=True, params=[applying._WORTH_PREPARING, 2], ids=["written", "prepared"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the lines of the history are written out, or are executions of a prepared statement."""
    monkeypatch.setattr(applying, "_WORTH_PREPARING", request.param)


def change(number: int, text: str) -> Change:
    script = replace(sql(text), path=Path(f"V{VERSION + number}_it.up.sql"))
    return Change(script=script, entry=line(VERSION + number))


def changes(*texts: str) -> list[Change]:
    return [change(number, text) for number, text in enumerate(texts)]


def good(number: int) -> str:
    return f"CREATE TABLE good_{number} (id int)"


KEPT = """SELECT coalesce((SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE tablename ~ '^good'), ''),
    coalesce((SELECT string_agg((version - {first})::text, ' ' ORDER BY version) FROM schema_version), '')"""


def kept(database: Database) -> str:
    """Tables, and the numbers of the history's lines."""
    return database.sql(KEPT.format(first=VERSION))


async def test_they_are_one_message_and_each_is_a_transaction_with_its_line(database: Database) -> None:
    queries: list[str] = []
    durations: list[float] = []
    several = changes(*(f"CREATE TABLE t_{number} AS SELECT txid_current() AS id" for number in range(4)))
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        assert all(handler.joins(one.script) for one in several)
        connection = await handler._session.prepared()
        with connection.query_logger(lambda record: queries.append(record.query)):
            await handler.apply(several, "up", WorkOptions(lock_timeout=5), durations.append)
        lines = await handler.schema_version.applied()
        await handler.apply(
            changes(*(f"DROP TABLE t_{number}" for number in range(4)))[::-1], "down", PLAIN, durations.append
        )
        assert await handler.schema_version.applied() == ()
    assert len(queries) == 1
    assert len(durations) == 8
    assert [entry.version for entry in lines] == [VERSION + number for number in range(4)]
    assert sum(durations[:4]) < 5


async def test_each_line_is_of_its_scripts_transaction_and_has_its_own_duration(database: Database) -> None:
    slow = "CREATE TABLE t_1 AS SELECT txid_current() AS id FROM pg_sleep(0.4)"
    texts = ["CREATE TABLE t_0 AS SELECT txid_current() AS id", slow, "CREATE TABLE t_2 AS SELECT txid_current() AS id"]
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await handler.apply(changes(*texts), "up", PLAIN, lambda duration: None)
        lines = await handler.schema_version.applied()
    ids = "SELECT id FROM t_0 UNION ALL SELECT id FROM t_1 UNION ALL SELECT id FROM t_2"
    same = f"SELECT count(DISTINCT s.xmin::text) FROM schema_version s JOIN ({ids}) t ON s.xmin::text = t.id::text"
    assert database.sql(same) == "3"
    assert [entry.duration >= 0.4 for entry in lines] == [False, True, False]
    assert all(0 < entry.duration < 5 for entry in lines)
    assert [entry.applied_at for entry in lines] == sorted(entry.applied_at for entry in lines)


@pytest.mark.parametrize(("durable", "waits"), [(True, "off off on"), (False, "off off off")])
async def test_settings_are_said_for_each_and_only_the_last_commit_waits_for_the_disk(
    database: Database, durable: bool, waits: str
) -> None:
    database.sql(f"ALTER DATABASE {database.name} SET synchronous_commit = on")
    look = "SELECT current_setting('synchronous_commit') AS waits, current_setting('lock_timeout') AS patience"
    several = changes(*(f"CREATE TABLE good_{number} AS {look}" for number in range(3)))
    options = WorkOptions(lock_timeout=3, statement_timeout=60, isolation="serializable", durable=durable)
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await handler.apply(several, "up", options, lambda duration: None)
        assert await (await handler._session.prepared()).fetchval("SHOW lock_timeout") == "0", "only in its unit"
    found = "SELECT 0 AS n, * FROM good_0 UNION ALL SELECT 1, * FROM good_1 UNION ALL SELECT 2, * FROM good_2"
    seen = f"SELECT string_agg(waits, ' ' ORDER BY n), string_agg(DISTINCT patience, ' ') FROM ({found}) f"
    assert database.sql(seen) == f"{waits}|3s"


DEFERRED = "CREATE TABLE u (t int UNIQUE REFERENCES one DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO u VALUES (7)"


@pytest.mark.parametrize(
    ("bad", "place", "words"),
    [
        ("CREATE TABLE t (id int);\n  CREAT TABLE u (id int)", "2:3", 'syntax error at or near "CREAT"'),
        ("CREATE TABLE t (id int", "1:23", "syntax error"),
        ("CREATE TABLE t (id int);\nCREATE INDEX ON t (nothing)", "2:1", "nothing"),
        ("INSERT INTO nowhere VALUES (1)", "1:13", "nowhere"),
        ("-- é漢字😀\nUPDATE one SET id = no_such", "2:21", "no_such"),
        ("UPDATE one SET id = 1 / (id - id)", "1:1", "division by zero"),
        ("CREATE TABLE t (id int);\n UPDATE one SET id = 1 / (id - id);\nDROP TABLE t", "2:2", "division by zero"),
        ("INSERT INTO one VALUES (2);\nINSERT INTO one VALUES (3);\nINSERT INTO one VALUES (3)", "3:1", "duplicate key"),
        ("CREATE TABLE t (id \ud55c\uae00)", "1:20", "does not exist"),
        (DEFERRED, "", "could not be committed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("at", [0, 3])
async def test_an_error_in_the_middle_names_the_place_keeps_what_came_before_and_runs_nothing_after(
    database: Database, bad: str, place: str, words: str, at: int
) -> None:
    database.sql("CREATE TABLE one (id int PRIMARY KEY); INSERT INTO one VALUES (1)")
    texts = [good(number) for number in range(6)]
    texts[at] = bad
    done: list[float] = []
    several = changes(*texts)
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        with pytest.raises(ScriptFailed) as caught:
            await handler.apply(several, "up", PLAIN, done.append)
        error = caught.value
        assert words in str(error)
        assert error.path == several[at].script.path
        assert place in (f"{error.line}:{error.column}", "")
        assert isinstance(error.__cause__, asyncpg.PostgresError)
        assert len(done) == at
        connection = await handler._session.connection()
        assert not connection.is_in_transaction(), "no failed transaction is left"
        before = range(at)
        expected = " ".join(f"good_{number}" for number in before) + "|" + " ".join(str(number) for number in before)
        assert kept(database) == expected
        await handler.apply(several[at + 1 :], "up", PLAIN, done.append)
    assert database.sql("SELECT to_regclass('t') IS NULL AND to_regclass('u') IS NULL") == "t"
    assert len(done) == 5


async def test_no_script_before_or_at_an_error_runs_twice(database: Database) -> None:
    database.sql("CREATE SEQUENCE runs; CREATE TABLE one (id int)")
    counting = "INSERT INTO one SELECT nextval('runs')"
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        for number, (bad, runs) in enumerate(
            [("CREAT TABLE t (id int)", 3), (f"{counting};\nINSERT INTO one SELECT 1 / 0", 4)]
        ):
            database.sql("SELECT setval('runs', 1, false)")
            several = [change(number * 10 + place, counting) for place in range(3)]
            with pytest.raises(ScriptFailed):
                await handler.apply([*several, change(99, bad)], "up", PLAIN, done.append)
            assert database.sql("SELECT last_value FROM runs") == str(runs)
            assert len(done) == 3 * (number + 1)


async def test_a_line_that_is_there_already_stops_at_that_one(database: Database) -> None:
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        theirs = Change(script=sql("CREATE TABLE other (id int)"), entry=replace(line(VERSION + 2), run="another"))
        await handler.apply([theirs], "up", PLAIN, done.append)
        several = changes(*(good(number) for number in range(4)))
        with pytest.raises(DatabaseError, match=rf"Recording V{VERSION + 2}_it: another run has applied it"):
            await handler.apply(several, "up", PLAIN, done.append)
    assert kept(database) == "good_0 good_1|0 1 2"
    assert len(done) == 3


PREPARED = "SELECT count(*) FROM pg_prepared_statements WHERE name ~ '^msr_async_'"


async def test_the_line_is_prepared_once_for_all_groups_of_a_connection(database: Database) -> None:
    queries: list[str] = []
    several = changes(*(good(number) for number in range(16)))
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        connection = await handler._session.prepared()
        with connection.query_logger(lambda record: queries.append(record.query)):
            await handler.apply(several[:8], "up", PLAIN, lambda duration: None)
            await handler.apply(several[8:], "up", PLAIN, lambda duration: None)
        assert await connection.fetchval(PREPARED) == 1
    assert ["PREPARE" in query for query in queries] == [True, False]
    assert kept(database).endswith("|0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15")


async def test_a_script_that_takes_the_prepared_line_away_does_no_harm(database: Database) -> None:
    several = changes(*(good(number) for number in range(20)))
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await handler.apply(several[:8], "up", PLAIN, lambda duration: None)
        await handler.apply([change(30, "DEALLOCATE ALL")], "up", PLAIN, lambda duration: None)
        await handler.apply(several[8:], "up", PLAIN, lambda duration: None)
    assert kept(database).endswith("|0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 30")


async def test_nor_does_a_trigger_that_does_it_in_the_middle_of_a_group(database: Database) -> None:
    body = "BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN new; END"
    database.sql(
        f"CREATE TABLE one (id int); CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$; "
        "CREATE TRIGGER gone BEFORE INSERT ON one FOR EACH ROW EXECUTE FUNCTION gone()"
    )
    texts = [good(number) for number in range(10)]
    texts[4] = "INSERT INTO one VALUES (1)"
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await handler.apply(changes(*texts), "up", PLAIN, done.append)
    assert (len(done), database.sql("SELECT count(*) FROM one")) == (10, "1")
    assert kept(database) == "good_0 good_1 good_2 good_3 good_5 good_6 good_7 good_8 good_9|0 1 2 3 4 5 6 7 8 9"


async def test_a_prepared_line_holds_what_a_written_one_does(database: Database) -> None:
    odd = replace(line(VERSION), name="it's \\ odd", applied_by="o'x@h", baseline=True, run="r", fingerprint="f")
    several = [Change(script=sql(good(n)), entry=replace(odd, version=VERSION + n)) for n in range(9)]
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await handler.apply(several[:8], "up", PLAIN, lambda duration: None)
        await handler.apply(several[8:], "up", PLAIN, lambda duration: None)
        lines = await handler.schema_version.applied()
    plain = [replace(entry, version=VERSION, applied_at=odd.applied_at, duration=0.0) for entry in lines]
    assert plain == [replace(odd, duration=0.0)] * 9


async def test_after_a_cancellation_the_line_is_prepared_anew(database: Database) -> None:
    texts = [good(number) for number in range(16)]
    slow = texts.copy()
    slow[2] = "CREATE TABLE good_2 AS SELECT FROM pg_sleep(60)"
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        with anyio.move_on_after(0.5) as scope, anyio.fail_after(10):
            await handler.apply(changes(*slow), "up", PLAIN, lambda duration: None)
        assert scope.cancelled_caught
        await handler.apply(changes(*texts)[2:], "up", PLAIN, lambda duration: None)
    assert kept(database).endswith("|0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15")


@pytest.mark.parametrize("turns", range(5))
async def test_a_connection_that_ends_between_two_messages_is_told_as_lost(database: Database, turns: int) -> None:
    """However far the loop is with the words of the end, the end itself, and what is sent next."""
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        async with handler.lock.hold(timeout=5, waiting=lambda holder, waited: None):
            await handler.apply(changes(good(0), good(1)), "up", PLAIN, lambda duration: None)
            pid = (await handler._session.connection()).get_server_pid()
            database.sql(f"SELECT pg_terminate_backend({pid}, 5000)")  # the loop stands still: nothing is read yet
            for _ in range(turns):
                await asyncio.sleep(0)
            with pytest.raises(ConnectionLost):
                await handler.apply(changes(good(0), good(1), good(2))[2:], "up", PLAIN, lambda duration: None)
    assert kept(database) == "good_0 good_1|0 1"


async def test_after_an_error_the_line_is_prepared_anew(database: Database) -> None:
    several = changes(*(good(number) for number in range(9)))
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        bad = [*several[:8], change(8, "CREATE TABLE good_0 (id int)")]
        with pytest.raises(ScriptFailed, match="already exists"):
            await handler.apply(bad, "up", PLAIN, lambda duration: None)
        more = changes(*(good(number) for number in range(20)))[8:]
        await handler.apply(more, "up", PLAIN, lambda duration: None)
    assert kept(database).endswith("|0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19")


async def test_where_the_history_is_damaged_the_error_is_told_all_the_same(database: Database) -> None:
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        first, damaging = changes(good(0), "DROP TABLE Schema_Version")
        assert not handler.joins(damaging.script), "the error would be told of another"
        await handler.apply([first], "up", PLAIN, done.append)
        with pytest.raises(MsrError, match=f"Recording V{VERSION + 1}_it"):
            await handler.apply([damaging], "up", PLAIN, done.append)
        assert len(done) == 1
    assert kept(database) == "good_0|0"


async def test_where_the_history_cannot_be_read_nobody_is_blamed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.sql("CREATE TABLE one (id int); INSERT INTO one VALUES (1)")
    failing = "CREATE TABLE t (id int);\nUPDATE one SET id = 1 / (id - id)"
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        monkeypatch.setattr(handler.schema_version, "finding", lambda ids, run: "SELECT nothing")
        with pytest.raises(DatabaseError, match=r"Running .* or one of those sent with it: division by zero"):
            await handler.apply(changes(good(0), failing), "up", PLAIN, lambda duration: None)
    assert kept(database) == "good_0|0"


@pytest.mark.parametrize(("state", "transient"), [("40001", True), ("40P01", True), ("55P03", True), ("P0001", False)])
async def test_what_is_worth_another_try_is_known_in_the_middle_too(
    database: Database, state: str, transient: bool
) -> None:
    raising = f"BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{state}'; END"
    database.sql(f"CREATE FUNCTION no() RETURNS int LANGUAGE plpgsql AS $$ {raising} $$; CREATE TABLE one (id int)")
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        with pytest.raises(ScriptFailed) as caught:
            await handler.apply(changes(good(0), "INSERT INTO one SELECT no()", good(2)), "up", PLAIN, done.append)
        assert handler.is_transient(caught.value) is transient
    assert (len(done), kept(database)) == (1, "good_0|0")


async def test_a_backend_that_dies_in_the_middle_keeps_what_came_before(database: Database) -> None:
    deadly = "CREATE TABLE good_2 AS SELECT pg_terminate_backend(pg_backend_pid())"
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        with pytest.raises(ConnectionLost):
            await handler.apply(changes(good(0), good(1), deadly, good(3)), "up", PLAIN, done.append)
        assert kept(database) == "good_0 good_1|0 1"
        assert len(done) <= 2, "nothing is told that is not known"
        await handler.apply([change(2, good(2))], "up", PLAIN, done.append)


async def slow_one(handler: PostgresHandler, done: Callable[[float], None]) -> None:
    several = changes(good(0), good(1), "CREATE TABLE good_2 AS SELECT 1 AS id FROM pg_sleep(30)", good(3))
    await handler.apply(several, "up", PLAIN, done)


async def test_cancelled_in_the_middle_those_before_are_told_and_the_connection_goes_on(database: Database) -> None:
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        before = (await handler._session.connection()).get_server_pid()
        with anyio.move_on_after(0.5) as scope, anyio.fail_after(10):
            await slow_one(handler, done.append)
        assert scope.cancelled_caught
        assert len(done) == 2
        connection = await handler._session.connection()
        assert (connection.get_server_pid(), connection.is_in_transaction()) == (before, False)
        assert kept(database) == "good_0 good_1|0 1"
        await handler.apply(changes(good(0), good(1), good(2))[2:], "up", PLAIN, done.append)
    assert kept(database) == "good_0 good_1 good_2|0 1 2"


async def test_whoever_asks_how_far_it_is_hears_of_those_that_are_done(database: Database) -> None:
    done: list[float] = []
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(slow_one, handler, done.append)
                while len(done) < 2:
                    await handler.progress()
                    await anyio.sleep(0.05)
                await handler.progress()
                assert len(done) == 2, "the third is under way"
                group.cancel_scope.cancel()
    assert len(done) == 2
    assert kept(database) == "good_0 good_1|0 1"
