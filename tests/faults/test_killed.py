"""SIGKILL at random points of a run of all kinds of migrations: the next run completes it, and nobody helps.

`MSR_FAULT_KILLS` says at how many points, 6 when it is not set; `MSR_FAULT_SEED` repeats the points of another time. The
same at half as many points where the server ends the connection instead.

A point is chosen by time, and on a machine that is busy it comes later than it was chosen. It never comes too late: the
last migration goes on until the test opens a gate. It does so in many units, so that a lock that was lost is noticed.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import time

import pytest

from tests.faults.facts import GATE, OPEN, effects, history, numbers, versions, wait_until_locked
from tests.support.processes import Runners
from tests.support.servers import Database, only_newest

pytestmark = only_newest

KILLS = int(os.environ.get("MSR_FAULT_KILLS", "6"))
CUTS = (KILLS + 1) // 2
SEED = os.environ.get("MSR_FAULT_SEED", secrets.token_hex(4))

COUNT = 21
PYTHON, INDEXES, BATCHED = (4, 10, 16), (7, 13), 11
SECONDS = {BATCHED: 0.3}
"""What a migration takes at least, where it is more than the others' 0.03."""

_CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_FIRST = """
CREATE TABLE effects (migration int);
CREATE TABLE things (id int PRIMARY KEY, touched int NOT NULL DEFAULT 0);
INSERT INTO things SELECT n FROM generate_series(1, 100) n;
CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  PERFORM pg_sleep(0.0004); RETURN $1;
END $$;
INSERT INTO effects VALUES (1);
"""
_PLAIN = """
ALTER TABLE things ADD COLUMN c_{number} int;
INSERT INTO effects VALUES ({number});
SELECT pg_sleep(0.03);
CREATE TABLE made_by_{number} (id int);
"""
_PYTHON = """
async def up(db, ctx):
    await db.execute("CREATE TABLE made_by_{number} (id int)")
    await db.execute("SELECT pg_sleep(0.03)")
    await db.execute("INSERT INTO effects VALUES ($1)", {number})
"""
_INDEX = """
-- msr: no-transaction
INSERT INTO effects VALUES ({number});
CREATE UNIQUE INDEX CONCURRENTLY things_{number} ON things (slow(id + {number}));
"""
_BATCHED = """
from msr_async.batching import batches


async def up(db, ctx):
    await db.execute("INSERT INTO effects VALUES ({number})")


@batches(size=12)
async def data(db, ctx, batch):
    rows = await db.fetch(
        "UPDATE things SET touched = touched + 1 WHERE id > $1 AND id <= $1 + $2 RETURNING id", batch.cursor or 0, batch.size
    )
    await db.execute("SELECT pg_sleep(0.03)")
    return batch.after(max(row["id"] for row in rows), rows=len(rows)) if rows else None
"""
_LAST = """
from msr_async.batching import batches


async def up(db, ctx):
    await db.execute("INSERT INTO effects VALUES ({number})")


@batches(size=1)
async def data(db, ctx, batch):
    if await db.fetchval("SELECT count(*) FROM gate"):
        return None
    await db.execute("SELECT pg_sleep(0.02)")
    return batch.after((batch.cursor or 0) + 1, rows=1)
"""


def write_migrations(runners: Runners, database: Database) -> None:
    database.sql(GATE)
    for number, version in enumerate(versions(COUNT), 1):
        if number in PYTHON:
            runners.write(f"V{version}_step.py", _PYTHON.format(number=number))
        elif number == BATCHED:
            runners.write(f"V{version}_step.py", _BATCHED.format(number=number))
        elif number in INDEXES:
            runners.write(f"V{version}_step.up.sql", _INDEX.format(number=number))
        elif number == COUNT:
            runners.write(f"V{version}_step.py", _LAST.format(number=number))
        else:
            text = _PLAIN.format(number=number) if number > 1 else _FIRST
            runners.write(f"V{version}_step.up.sql", text)


def assert_everything_happened_once(database: Database) -> None:
    assert history(database) == numbers(*versions(COUNT))
    assert effects(database) == numbers(*range(1, COUNT + 1))
    assert database.sql("SELECT touched, count(*) FROM things GROUP BY 1") == "1|100"
    indexes = database.sql(
        "SELECT relname, indisvalid FROM pg_index JOIN pg_class ON oid = indexrelid WHERE indrelid = 'things'::regclass "
        'AND NOT indisprimary ORDER BY relname COLLATE "C"'
    )
    assert indexes == "things_13|t\nthings_7|t"


def chosen(number: int, points: int) -> tuple[str, float]:
    """The words of a run that a point comes after, and the seconds between them: each point has its own stretch of it."""
    chance = random.Random(f"{SEED}-{number}")
    step = int((number + chance.random()) / points * (COUNT + 1))
    # longer than most take, so that the next one is met as well
    wait = chance.uniform(0, 2 * SECONDS.get(step, 0.03))
    print(f"MSR_FAULT_SEED={SEED}: {wait:.3f} s after the beginning of step {step}")
    return running(step), wait


def running(step: int) -> str:
    return f"running V{versions(COUNT)[step - 1]}_step" if step else f"{COUNT} migrations to run"


def complete(runners: Runners, database: Database, url: str) -> None:
    database.sql(OPEN)
    runners.complete(url)
    assert_everything_happened_once(database)


@pytest.mark.parametrize("number", range(KILLS))
def test_behaviour_36_a_run_that_was_killed_anywhere_is_completed_by_the_next(
    runners: Runners, database: Database, url: str, number: int
) -> None:
    words, wait = chosen(number, KILLS)
    write_migrations(runners, database)
    killed = runners.migrate(url)
    killed.wait_for(words)
    time.sleep(wait)
    killed.kill()
    assert killed.end() == -signal.SIGKILL, killed.said
    complete(runners, database, url)


def test_behaviour_36_a_run_that_is_killed_again_and_again_gets_there_in_the_end(
    runners: Runners, database: Database, url: str
) -> None:
    write_migrations(runners, database)
    for step, wait in ((3, 0.0), (7, 0.02), (BATCHED, 0.15), (BATCHED, 0.1), (18, 0.0)):
        killed = runners.migrate(url)
        # or at a later one, where the kill before came late
        killed.wait_for(*(running(later) for later in range(step, COUNT + 1)))
        time.sleep(wait)
        killed.kill()
        assert killed.end() == -signal.SIGKILL, killed.said
    complete(runners, database, url)


@pytest.mark.parametrize("number", range(CUTS))
def test_behaviour_36_a_run_whose_connection_was_cut_anywhere_is_completed_by_the_next(
    runners: Runners, database: Database, url: str, number: int
) -> None:
    words, wait = chosen(number, CUTS)
    write_migrations(runners, database)
    run = runners.migrate(url)
    run.wait_for(words)
    wait_until_locked(database)  # before that a proxy keeps nothing open for it, and it goes on over another connection
    time.sleep(wait)
    # what a killed runner has sent goes on in the server, to the end of its transaction; this ends it half-way
    database.sql(_CUT)
    assert run.end() in (3, 7), run.said
    assert "Traceback" not in run.said
    complete(runners, database, url)
