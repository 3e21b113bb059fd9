"""SIGKILL, and a server that ends the connection, while many small migrations go to the database in groups."""

from __future__ import annotations

import random

import pytest

from tests.faults.facts import effects, history, numbers, seconds_until_free, versions
from tests.support.processes import Runners
from tests.support.servers import Database, only_newest

pytestmark = only_newest

COUNT = 200
_LEAST_LEFT = 60
"""Migrations after the one at which a run is stopped, so that it is not over before that is done."""
_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


def write_migrations(runners: Runners) -> None:
    first = "CREATE TABLE effects (migration int);\n"
    for number, version in enumerate(versions(COUNT), 1):
        text = f"CREATE TABLE made_by_{number} (id int);\nINSERT INTO effects SELECT {number} FROM pg_sleep(0.002);\n"
        runners.write(f"V{version}_step.up.sql", first + text if number == 1 else text)


def assert_it_is_as_far_everywhere(database: Database) -> int:
    """History, tables and rows end at the same migration, and none before it is missing; which one that is."""
    reached = len(history(database))
    assert history(database) == numbers(*versions(COUNT)[:reached])
    assert effects(database) == numbers(*range(1, reached + 1))
    made = database.sql("SELECT count(*), max(substr(tablename, 9)::int) FROM pg_tables WHERE tablename ~ '^made_by_'")
    assert made == f"{reached}|{reached}"
    return reached


@pytest.mark.parametrize("way", ["killed", "cut off"])
def test_what_is_there_is_whole_and_the_next_run_goes_on(runners: Runners, database: Database, way: str) -> None:
    write_migrations(runners)
    reached = 0
    while reached < COUNT - _LEAST_LEFT - 35:
        chosen = reached + random.randint(15, 35)
        runner = runners.migrate(database.dsn)
        runner.wait_for(f"running V{versions(COUNT)[chosen - 1]}_step")
        if way == "killed":
            runner.kill()
        else:
            database.sql(_CUT)
            assert runner.end() != 0
            assert "connection" in runner.said, runner.said
        seconds_until_free(database, 20)
        before, reached = reached, assert_it_is_as_far_everywhere(database)
        assert before < chosen - 1 <= reached
    runners.complete(database.dsn)
    assert assert_it_is_as_far_everywhere(database) == COUNT
