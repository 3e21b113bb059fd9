"""A run of many small migrations, which go to the server in groups of 1, 2, 4, ...: what is told and what is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import asyncpg
import pytest

from msr_async import Event, MigrationScriptExecutor
from msr_async._engine import applying
from msr_async._engine.grouping import Pace
from msr_async.errors import ConnectionLost, MigrationFailed, ScriptFailed
from msr_async.events import MigrationErred, MigrationFinished, MigrationRetried, MigrationStarted, Noticed
from msr_async.models import MigrationResult
from msr_async.postgres import PostgresHandler
from msr_async.postgres import applying as sending
from msr_async.protocols import Change
from tests.postgres.test_migrating import quick
from tests.postgres.test_round_trip import write
from tests.support.servers import Database, only_newest

pytestmark = only_newest

COUNT = 12
"""In groups of 1, 2, 4 and 5 while nothing is slow: 1 / 2 3 / 4 5 6 7 / 8 9 10 11 12."""
MIDDLE = 6


@pytest.fixture(autouse=True, params=[sending._WORTH_PREPARING, 2], ids=["written", "prepared"])
def lines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the lines of the history are written out, or are executions of a prepared statement."""
    monkeypatch.setattr(sending, "_WORTH_PREPARING", request.param)


def prepare(folder: Path, texts: dict[int, str] | None = None, *, downs: bool = False) -> None:
    for number in range(1, COUNT + 1):
        text = (texts or {}).get(number, f"CREATE TABLE t_{number} (id int)")
        write(folder, f"V{202601010000 + number}_n{number}.up.sql", text)
        if downs:
            write(folder, f"V{202601010000 + number}_n{number}.down.sql", f"DROP TABLE t_{number}")


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many changes each `apply` was given; that a busy machine is slow changes nothing."""
    given: list[int] = []
    original = PostgresHandler.apply

    async def apply(self: PostgresHandler, changes: list[Change], *more: object) -> None:
        given.append(len(changes))
        await original(self, changes, *more)  # type: ignore[arg-type]

    class Steady(Pace):
        def took(self, seconds: float) -> None:
            super().took(0.001)

    monkeypatch.setattr(PostgresHandler, "apply", apply)
    monkeypatch.setattr(applying, "Pace", Steady)
    return given


async def run(
    database: Database, folder: Path, heard: Callable[[Event], None], *, retries: int = 3, target: int | None = None
) -> MigrationResult:
    config = quick(folder)
    config.transaction.lock_timeout, config.transaction.retries, config.transaction.retry_delay = 0.3, retries, 0.01
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config, observers=[heard])
        return await (executor.migrate() if target is None else executor.down(target))


def story(events: list[Event]) -> list[str]:
    """`+6` started, `.6` finished, `!6` erred, `~6` retried."""
    signs = {MigrationStarted: "+", MigrationFinished: ".", MigrationErred: "!", MigrationRetried: "~"}
    return [
        f"{signs[type(event)]}{event.migration.name[1:]}"
        for event in events
        if isinstance(event, MigrationStarted | MigrationFinished | MigrationErred | MigrationRetried)
    ]


def smooth(*numbers: int) -> list[str]:
    return [f"{sign}{number}" for number in numbers for sign in "+."]


def kept(database: Database) -> str:
    return database.sql(
        "SELECT (SELECT string_agg(substr(tablename, 3), ' ' ORDER BY substr(tablename, 3)::int) FROM pg_tables "
        "WHERE tablename ~ '^t_'), (SELECT string_agg(substr(name, 2), ' ' ORDER BY version) FROM schema_version)"
    )


def numbers(last: int) -> str:
    return " ".join(str(number) for number in range(1, last + 1))


async def test_each_starts_and_finishes_in_its_order_up_and_down(
    database: Database, tmp_path: Path, groups: list[int]
) -> None:
    prepare(tmp_path, downs=True)
    heard: list[Event] = []
    result = await run(database, tmp_path, heard.append)
    assert groups == [1, 2, 4, 5]
    assert story(heard) == smooth(*range(1, COUNT + 1))
    assert [migration.name for migration in result.executed] == [f"n{number}" for number in range(1, COUNT + 1)]
    assert kept(database) == f"{numbers(COUNT)}|{numbers(COUNT)}"
    heard.clear()
    await run(database, tmp_path, heard.append, target=202601010001)
    assert groups == [1, 2, 4, 5, 1, 2, 4, 4]
    assert story(heard) == smooth(*range(COUNT, 1, -1))
    assert kept(database) == "1|1"


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        ("CREATE TABLE x (id int);\n CREATE TABEL y", "2:9"),
        ("CREATE TABLE x (id int);\n  UPDATE one SET id = 1 / (id - id)", "2:3"),
    ],
)
async def test_an_error_in_the_middle_of_a_group_is_told_as_if_each_had_been_sent_alone(
    database: Database, tmp_path: Path, groups: list[int], bad: str, place: str
) -> None:
    database.sql("CREATE TABLE one (id int); INSERT INTO one VALUES (1)")
    prepare(tmp_path, {MIDDLE: bad})
    heard: list[Event] = []
    with pytest.raises(MigrationFailed) as caught:
        await run(database, tmp_path, heard.append)
    result = caught.value.result
    assert isinstance(caught.value.error, ScriptFailed)
    assert f"n{MIDDLE}.up.sql:{place}: " in str(caught.value)
    assert [migration.name for migration in result.executed] == [f"n{number}" for number in range(1, MIDDLE)]
    assert result.failed is not None
    assert result.failed.name == f"n{MIDDLE}"
    assert story(heard) == [*smooth(*range(1, MIDDLE)), f"+{MIDDLE}", f"!{MIDDLE}"]
    assert kept(database) == f"{numbers(MIDDLE - 1)}|{numbers(MIDDLE - 1)}"
    assert groups == [1, 2, 4]


async def test_a_lock_that_is_not_had_is_tried_again_from_that_one_on(
    database: Database, tmp_path: Path, groups: list[int]
) -> None:
    database.sql("CREATE TABLE held (id int)")
    prepare(tmp_path, {MIDDLE: f"ALTER TABLE held ADD a int;\nCREATE TABLE t_{MIDDLE} (id int)"})
    other = await asyncpg.connect(database.dsn)
    await other.execute("BEGIN; LOCK TABLE held")
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if isinstance(event, MigrationRetried) and event.attempt == 2:
            other.terminate()

    await run(database, tmp_path, hear)
    before, after = smooth(*range(1, MIDDLE)), smooth(*range(MIDDLE + 1, COUNT + 1))
    again = [f"+{MIDDLE}", f"~{MIDDLE}", f"~{MIDDLE}", f".{MIDDLE}"]
    assert story(heard) == [*before, *again, *after]
    assert groups[:5] == [1, 2, 4, 1, 1], "the rest of the group waits until that one is through"
    assert kept(database) == f"{numbers(COUNT)}|{numbers(COUNT)}"


async def test_the_retries_are_each_ones_own(database: Database, tmp_path: Path, groups: list[int]) -> None:
    """Three fail once each in one group; with one retry a migration all of them come through."""
    failing = "BEGIN IF currval('tries') IN (4, 6, 8) THEN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END IF; RETURN 1; END"
    database.sql(
        "CREATE SEQUENCE tries; CREATE TABLE one (id int);"
        f"CREATE FUNCTION flaky() RETURNS int LANGUAGE plpgsql AS $$ {failing} $$"
    )
    trying = "INSERT INTO one SELECT nextval('tries');\nINSERT INTO one SELECT flaky()"
    prepare(tmp_path, dict.fromkeys(range(1, COUNT + 1), trying))
    heard: list[Event] = []
    await run(database, tmp_path, heard.append, retries=1)
    assert [event.attempt for event in heard if isinstance(event, MigrationRetried)] == [1, 1, 1]
    assert database.sql("SELECT count(*) FROM schema_version") == str(COUNT)


async def test_a_script_with_words_of_its_own_goes_alone(database: Database, tmp_path: Path, groups: list[int]) -> None:
    prepare(
        tmp_path,
        {
            5: "CREATE TABLE IF NOT EXISTS t_1 (id int)",
            11: "CREATE INDEX CONCURRENTLY i ON t_1 (id)",
            9: "-- msr: lock-timeout=2s\nCREATE TABLE t_9 (id int)",
        },
    )
    heard: list[Event] = []
    await run(database, tmp_path, heard.append)
    told = [(event.migration.name, event.among) for event in heard if isinstance(event, Noticed)]
    assert told == [("n5", ())]
    assert groups == [1, 2, 1, 1, 3, 1, 1, 1], "the index is built outside of a transaction"
    assert story(heard) == smooth(*range(1, COUNT + 1))


async def test_words_that_nobody_foresaw_name_all_that_may_have_caused_them_and_from_there_each_goes_alone(
    database: Database, tmp_path: Path, groups: list[int]
) -> None:
    database.sql(
        "CREATE TABLE loud (id int); CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE NOTICE 'row %', NEW.id; RETURN NEW; END $$; "
        "CREATE TRIGGER shout BEFORE INSERT ON loud FOR EACH ROW EXECUTE FUNCTION shout()"
    )
    prepare(tmp_path, {5: "INSERT INTO loud VALUES (5)", 9: "INSERT INTO loud VALUES (9)"})
    heard: list[Event] = []
    await run(database, tmp_path, heard.append)
    told = [
        (event.message, event.migration.name, [migration.name for migration in event.among])
        for event in heard
        if isinstance(event, Noticed)
    ]
    assert told == [("row 5", "n4", ["n5", "n6", "n7"]), ("row 9", "n9", [])]
    assert groups == [1, 2, 4, 1, 1, 1, 1, 1]


async def test_cancelled_in_the_middle_what_is_there_is_what_was_told(
    database: Database, tmp_path: Path, groups: list[int]
) -> None:
    prepare(tmp_path, {MIDDLE: f"CREATE TABLE t_{MIDDLE} AS SELECT 1 AS id FROM pg_sleep(30)"})
    heard: list[Event] = []
    with anyio.move_on_after(0.9) as scope, anyio.fail_after(15):
        await run(database, tmp_path, heard.append)
    assert scope.cancelled_caught
    assert story(heard) == [*smooth(*range(1, MIDDLE)), f"+{MIDDLE}", f"!{MIDDLE}"]
    assert kept(database) == f"{numbers(MIDDLE - 1)}|{numbers(MIDDLE - 1)}"


async def test_a_slow_one_in_a_group_is_named_while_it_runs(
    database: Database, tmp_path: Path, groups: list[int]
) -> None:
    prepare(tmp_path, {MIDDLE: f"CREATE TABLE t_{MIDDLE} AS SELECT 1 AS id FROM pg_sleep(2.5)"})
    named: list[float] = []
    heard: list[Event] = []

    def hear(event: Event) -> None:
        heard.append(event)
        if isinstance(event, MigrationStarted | MigrationFinished) and event.migration.name == f"n{MIDDLE}":
            named.append(anyio.current_time())

    await run(database, tmp_path, hear)
    assert named[1] - named[0] > 0.5, "it was told before it was done"
    assert story(heard) == smooth(*range(1, COUNT + 1))


async def test_a_connection_lost_in_the_middle_says_what_is_not_known(
    database: Database, tmp_path: Path, groups: list[int]
) -> None:
    prepare(tmp_path, {MIDDLE: f"CREATE TABLE t_{MIDDLE} AS SELECT pg_terminate_backend(pg_backend_pid())"})
    with pytest.raises(MigrationFailed, match=r"is not known, nor of the 3 sent along with it; see") as caught:
        await run(database, tmp_path, lambda event: None)
    assert isinstance(caught.value.error, ConnectionLost)
    assert kept(database) == f"{numbers(MIDDLE - 1)}|{numbers(MIDDLE - 1)}"
    prepare(tmp_path, {MIDDLE: f"CREATE TABLE t_{MIDDLE} (id int)"})
    result = await run(database, tmp_path, lambda event: None)
    assert len(result.executed) == COUNT - MIDDLE + 1


@pytest.mark.parametrize("strategy", ["down", "backup"])
async def test_what_a_group_has_left_is_put_back(
    database: Database, tmp_path: Path, groups: list[int], strategy: str
) -> None:
    prepare(tmp_path, {MIDDLE: "CREATE TABEL x"}, downs=True)
    config = quick(tmp_path, strategy, "full" if strategy == "backup" else "manual")
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(MigrationFailed) as caught:
            await MigrationScriptExecutor(handler, config).migrate()
    assert len(caught.value.result.executed) == MIDDLE - 1
    assert database.sql("SELECT count(*) FROM pg_tables WHERE tablename ~ '^t_'") == "0"
