"""The real thing: uvicorn processes with several workers over one PostgreSQL, good migrations and bad ones."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from msr_async import Config, MigrationScriptExecutor, RollbackStrategy
from msr_async.postgres import PostgresHandler
from tests.cli.command import Outcome, Running
from tests.fastapi.service import SECRET, Service, address, get
from tests.support.servers import Database, only_newest

pytestmark = only_newest

GOOD = "CREATE TABLE people (id int); INSERT INTO people VALUES (1);"
SLOW = "SELECT pg_sleep(1); INSERT INTO people VALUES (2);"
RUIN = "DELETE FROM old;\nSELECT 1 / 0;"
HANG = "DELETE FROM old;\nSELECT pg_sleep(300);"

SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


@pytest.fixture
def empty(make_database: Callable[[], Database], tmp_path: Path) -> Service:
    """A service over an empty database, with two good migrations that take a second."""
    service = Service(folder=tmp_path, database=make_database())
    service.migration(1, GOOD)
    service.migration(2, SLOW)
    return service


@pytest.fixture
def filled(make_database: Callable[[], Database], tmp_path: Path) -> Service:
    """A service over a database with something to lose, and one good migration."""
    service = Service(folder=tmp_path, database=make_database())
    service.database.sql("CREATE TABLE old (id int PRIMARY KEY); INSERT INTO old SELECT generate_series(1, 100)")
    service.migration(1, GOOD)
    return service


def wait_until(database: Database, query: str, answer: str) -> None:
    deadline = time.monotonic() + 30
    while (found := database.sql(query)) != answer:
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.05)


def stop(server: Running) -> Outcome:
    server.send(signal.SIGTERM)
    return server.end()


def workers_that_answer(url: str, wanted: int) -> set[str]:
    """The processes that answered, asked by four at a time until as many as wanted did."""
    found: set[str] = set()
    deadline = time.monotonic() + 30
    with ThreadPoolExecutor(4) as pool:
        while len(found) < wanted and time.monotonic() < deadline:
            found |= {text for status, text in pool.map(get, [f"{url}/pid"] * 8) if status == 200}
    return found


def said_by_all(outcomes: list[Outcome]) -> str:
    return "".join(done.out + done.err for done in outcomes)


# -- good migrations -------------------------------------------------------------------------------


def test_four_workers_start_on_an_empty_database_and_one_of_them_migrates(empty: Service) -> None:
    with empty.running(workers=4) as (server,):
        url = address(server)
        for _ in range(4):
            server.wait_for("Application startup complete")
        assert len(workers_that_answer(url, 4)) == 4
        assert get(f"{url}/ready") == (200, '{"ready":true,"pending":[]}')
        assert get(f"{url}/fresh") == (200, '{"ready":true,"pending":[]}')
        wait_until(empty.database, CONNECTIONS, "0")
        done = stop(server)
    said = said_by_all([done])
    assert done.code == 0
    assert empty.history == "step1 step2"
    assert empty.database.sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM people") == "1 2"
    assert said.count("event MigrationStarted") == 2
    assert "event LockWaiting" in said
    assert "Traceback" not in said


def test_two_servers_start_at_once_and_one_of_them_migrates(empty: Service) -> None:
    with empty.running(servers=2) as servers:
        assert [get(f"{address(server)}/ready")[0] for server in servers] == [200, 200]
        done = [stop(server) for server in servers]
    said = said_by_all(done)
    assert [item.code for item in done] == [-signal.SIGTERM, -signal.SIGTERM]  # uvicorn ends by the signal it was sent
    assert empty.history == "step1 step2"
    assert said.count("event MigrationStarted") == 2
    assert "event LockWaiting" in said
    assert "Traceback" not in said


async def test_a_server_that_only_checks_starts_once_somebody_has_migrated(empty: Service) -> None:
    with empty.running(ON_PENDING="check") as (server,):
        refused = server.end()
    assert refused.code == 3
    assert "MigrationsPending: 2 migrations are pending, so the app does not start: V202601010001_step1," in refused.err
    assert empty.database.sql("SELECT to_regclass('schema_version') IS NULL") == "t"

    config = Config(folder=empty.folder / "migrations", rollback_strategy=RollbackStrategy.NONE)
    async with PostgresHandler(empty.database.dsn) as handler:
        await MigrationScriptExecutor(handler, config).migrate()
    with empty.running(ON_PENDING="check") as (server,):
        assert get(f"{address(server)}/ready")[0] == 200
        stop(server)


def test_a_recheck_sees_a_migration_that_was_laid_beside_and_a_database_that_is_gone(empty: Service) -> None:
    with empty.running() as (server,):
        url = address(server)
        empty.migration(3, "SELECT 1")
        time.sleep(1.1)  # as long as an answer holds
        status, text = get(f"{url}/fresh")
        assert (status, json.loads(text)["pending"]) == (503, ["V202601010003_step3"])
        empty.database.server.run("dropdb", "--force", empty.database.name)
        time.sleep(1.1)
        status, text = get(f"{url}/fresh")
        assert status == 503
        assert "The server knows no such database" in text
        assert SECRET not in text
        assert get(f"{url}/ready")[0] == 200
        stop(server)


# -- bad ones --------------------------------------------------------------------------------------


def test_a_server_whose_migration_fails_exits_with_3_and_the_database_is_as_before(filled: Service) -> None:
    before = filled.contents
    filled.migration(2, RUIN)
    with filled.running() as (server,):
        done = server.end()
    assert done.code == 3
    assert "Application startup complete" not in done.err
    assert "MigrationFailed: Migration V202601010002_step2 failed: " in done.err
    assert "step2.up.sql:2:1: division by zero." in done.err
    assert "was restored: the database is as it was before the run" in done.err
    assert filled.contents == before
    assert SECRET not in done.out + done.err


def test_none_of_four_workers_serves_when_a_migration_fails_and_the_server_ends(filled: Service) -> None:
    before = filled.contents
    filled.migration(2, RUIN)
    with filled.running(workers=4) as (server,):
        done = server.end()
    assert "failed to start, stopping the parent process" in done.err
    assert "Application startup complete" not in done.err
    assert "division by zero" in done.err
    assert filled.contents == before
    assert SECRET not in done.out + done.err


def test_a_database_that_cannot_be_reached_ends_the_server_without_its_password_being_shown(empty: Service) -> None:
    url = empty.database.dsn.replace("postgres@", f"postgres:{SECRET}@").replace(empty.database.name, "nowhere")
    with empty.running(DATABASE_URL=url) as (server,):
        done = server.end()
    assert done.code == 3
    assert "ConnectionFailed: The server knows no such database: nowhere@" in done.err
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    ("workers", "number", "code"),
    [(1, signal.SIGTERM, 3), (1, signal.SIGINT, 3), (2, signal.SIGTERM, 0)],
    ids=["SIGTERM", "SIGINT", "SIGTERM to two workers"],
)
def test_a_server_that_is_told_to_stop_while_it_migrates_puts_things_back_and_ends(
    filled: Service, workers: int, number: signal.Signals, code: int
) -> None:
    before = filled.contents
    filled.migration(2, HANG)
    with filled.running(workers=workers) as (server,):
        wait_until(filled.database, SLEEPING, "1")
        server.send(number)
        started = time.monotonic()
        done = server.end()
    assert time.monotonic() - started < 20
    assert done.code == code
    assert "StartStopped: The server was told to stop while it started. " in done.err
    assert "was restored: the database is as it was before the run" in done.err
    assert "Application startup complete" not in done.err
    assert filled.contents == before
    wait_until(filled.database, CONNECTIONS, "0")
