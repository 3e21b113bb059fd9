"""Who holds the migration lock, for how long, and who gets it next: shown with real processes and real signals."""

from __future__ import annotations

import signal

import pytest

from tests.faults.facts import (
    AT_THE_GATE,
    GATE,
    OPEN,
    effects,
    history,
    numbers,
    seconds_until_free,
    versions,
    wait_until_asleep,
)
from tests.support.processes import Runner, Runners
from tests.support.servers import Database, only_newest

pytestmark = only_newest

FIRST, SECOND, THIRD = versions(3)
WAITING = "waiting for the migration lock"
PATIENCE = ("--lock-timeout", "60")

# A Python migration that waits in Python: its transaction is open and idle.
IDLE_AT_THE_GATE = """
import asyncio


async def up(db, ctx):
    await db.execute("INSERT INTO effects VALUES ({number})")
    while not await db.fetchval("SELECT count(*) FROM gate"):
        await db.execute("SELECT pg_sleep(0.001)")
        print("idle at the gate", flush=True)
        await asyncio.sleep(300)
"""


@pytest.fixture
def gate(database: Database) -> Database:
    """A database with a gate, closed."""
    database.sql(GATE)
    return database


def write_step(runners: Runners, version: int, number: int, *, more: str = "") -> None:
    table = "CREATE TABLE effects (migration int);" if number == 1 else ""
    runners.write(f"V{version}_step.up.sql", f"{table}\nINSERT INTO effects VALUES ({number});\n{more}")


def begun(runners: Runners, url: str, version: int) -> Runner:
    """A run that has come to that migration."""
    runner = runners.migrate(url, *PATIENCE)
    runner.wait_for(f"running V{version}_step")
    return runner


def test_behaviour_37_the_lock_of_a_killed_runner_is_free_at_once(runners: Runners, gate: Database, url: str) -> None:
    write_step(runners, FIRST, 1)
    runners.write(f"V{SECOND}_step.py", IDLE_AT_THE_GATE.format(number=2))
    killed = begun(runners, url, SECOND)
    killed.wait_for("idle at the gate")
    killed.kill()
    assert seconds_until_free(gate, deadline=10) < 1
    gate.sql(OPEN)
    runners.complete(url)
    assert effects(gate) == numbers(1, 2)


def test_behaviour_37_what_a_killed_runner_left_running_keeps_everybody_out(
    runners: Runners, gate: Database, url: str
) -> None:
    write_step(runners, FIRST, 1)
    write_step(runners, SECOND, 2, more=AT_THE_GATE)
    killed = begun(runners, url, SECOND)
    wait_until_asleep(gate)
    killed.kill()
    after = runners.migrate(url, *PATIENCE)
    after.wait_for(WAITING)
    gate.sql(OPEN)
    assert after.end() == 0, after.said
    assert effects(gate) == numbers(1, 2)
    assert history(gate) == numbers(FIRST, SECOND)


def test_behaviour_37_a_long_migration_keeps_the_lock_and_leaves_nothing_to_run(
    runners: Runners, gate: Database, url: str
) -> None:
    write_step(runners, FIRST, 1)
    # longer than a heartbeat, and longer than the server needs to look whether its client is still there
    write_step(runners, SECOND, 2, more="SELECT pg_sleep(7);")
    long = begun(runners, url, SECOND)
    other = runners.migrate(url, *PATIENCE)
    other.wait_for(WAITING)
    assert other.end() == 0, other.said
    assert "running V" not in other.said
    assert long.end() == 0, long.said
    assert effects(gate) == numbers(1, 2)


def test_behaviour_40_an_index_is_made_concurrently_while_two_others_wait_for_the_lock(
    runners: Runners, gate: Database, url: str
) -> None:
    write_step(runners, FIRST, 1, more=AT_THE_GATE)
    runners.write(f"V{SECOND}_step.up.sql", "CREATE INDEX CONCURRENTLY effects_index ON effects (migration);")
    write_step(runners, THIRD, 3)
    first = begun(runners, url, FIRST)
    others = [runners.migrate(url, *PATIENCE) for _ in range(2)]
    for other in others:
        other.wait_for(WAITING)
    gate.sql(OPEN)
    everybody = [first, *others]
    assert [runner.end() for runner in everybody] == [0, 0, 0], "\n\n".join(runner.said for runner in everybody)
    assert f"running V{SECOND}_step" in first.said
    assert gate.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'effects_index'::regclass") == "t"
    assert effects(gate) == numbers(1, 3)
    assert history(gate) == numbers(FIRST, SECOND, THIRD)


@pytest.mark.parametrize("language", ["sql", "py"])
def test_behaviour_41_a_sigterm_in_a_migration_rolls_it_back_and_frees_the_lock(
    runners: Runners, gate: Database, url: str, language: str
) -> None:
    write_step(runners, FIRST, 1)
    texts = {
        "sql": f"INSERT INTO effects VALUES (2);\n{AT_THE_GATE}",
        "py": IDLE_AT_THE_GATE.format(number=2),
    }
    runners.write(f"V{SECOND}_step.{'up.sql' if language == 'sql' else 'py'}", texts[language])
    write_step(runners, THIRD, 3)
    stopped = begun(runners, url, SECOND)
    {"sql": lambda: wait_until_asleep(gate), "py": lambda: stopped.wait_for("idle at the gate")}[language]()
    stopped.send(signal.SIGTERM)
    assert stopped.end() == 143, stopped.said
    assert seconds_until_free(gate, deadline=10) < 1
    assert effects(gate) == numbers(1)
    assert history(gate) == numbers(FIRST)
    gate.sql(OPEN)
    runners.complete(url)
    assert effects(gate) == numbers(1, 2, 3)
    assert history(gate) == numbers(FIRST, SECOND, THIRD)
