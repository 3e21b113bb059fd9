"""What the database says after a fault, and a gate that a migration waits at until the test lets it through."""

from __future__ import annotations

import time

from tests.support.servers import Database

GATE = "CREATE TABLE gate (opened int)"
AT_THE_GATE = """
DO $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.02); END LOOP;
END $$;
"""
"""One long statement, until somebody else has put a row into the gate."""
OPEN = "INSERT INTO gate VALUES (1)"

_LOCKS = """
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_ASLEEP = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
_PAUSE = 0.02


def versions(count: int) -> list[int]:
    return [202601010000 + number for number in range(1, count + 1)]


def history(database: Database) -> list[str]:
    """The ids of the history, each as often as it stands there."""
    return database.sql("SELECT version FROM schema_version ORDER BY version").splitlines()


def effects(database: Database) -> list[str]:
    """What the migrations wrote into `effects`, each as often as it did so. The table has no key on purpose."""
    return database.sql("SELECT migration FROM effects ORDER BY 1").splitlines()


def numbers(*wanted: int) -> list[str]:
    return [str(number) for number in wanted]


def wait_until_asleep(database: Database, deadline: float = 30.0) -> None:
    """Wait until a migration is at the gate."""
    end = time.monotonic() + deadline
    while database.sql(_ASLEEP) == "0":
        assert time.monotonic() < end, "no migration came to the gate"
        time.sleep(_PAUSE)


def wait_until_locked(database: Database, deadline: float = 30.0) -> None:
    """Wait until somebody holds an advisory lock in this database, as a run does from its lock to its end."""
    end = time.monotonic() + deadline
    while database.sql(_LOCKS) == "0":
        assert time.monotonic() < end, "nobody took the lock"
        time.sleep(_PAUSE)


def seconds_until_free(database: Database, deadline: float) -> float:
    """How long it takes until nobody holds an advisory lock in this database."""
    started = time.monotonic()
    while database.sql(_LOCKS) != "0":
        assert time.monotonic() - started < deadline, f"the lock was still held after {deadline} s"
        time.sleep(_PAUSE)
    return time.monotonic() - started
