"""Ctrl-C and SIGTERM in the middle of the work."""

from __future__ import annotations

import signal
import time

import anyio
import asyncpg
import pytest

from tests.cli.command import Command
from tests.support.servers import Database, only_newest

pytestmark = only_newest

GOOD = "ALTER TABLE orders ADD COLUMN paid boolean;"
SLOW = "SELECT pg_sleep(300);"


def left_over(shop: Database) -> str:
    """How many client sessions are there once the server had two seconds to notice who has gone."""
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )
    deadline = time.monotonic() + 2
    while (found := shop.sql(query)) != "0" and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def wait_for_sleep(shop: Database) -> None:
    mine = "datname = current_database() AND wait_event = 'PgSleep'"
    while shop.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}") == "0":
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda item: str(item)
)
def test_a_signal_in_the_middle_of_a_migration_puts_everything_back(
    cli: Command, shop: Database, number: signal.Signals, code: int
) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_slow.up.sql", SLOW)
    run = cli.start("migrate", "--format", "json", "--quiet", "--database-url", shop.dsn)
    wait_for_sleep(shop)
    started = time.monotonic()
    run.send(number)
    done = run.end()
    assert time.monotonic() - started < 20
    assert done.code == code
    assert (done.error["type"], done.error["exit_code"]) == ("Interrupted", code)
    assert "was restored" in done.error["message"]
    result = done.error["result"]
    assert (result["restored"], result["failed"]["name"], result["success"]) == (True, "slow", False)
    assert "Traceback" not in done.err
    assert is_as_before(shop)


def test_a_signal_at_the_start_of_a_migration_puts_everything_back(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_slow.up.sql", SLOW)
    run = cli.start("migrate", "--database-url", shop.dsn)
    run.wait_for("running V202601020900_slow")
    run.send(signal.SIGINT)
    done = run.end()
    assert done.code == 130
    assert done.err.count("was restored: the database is as it was") == 1
    assert is_as_before(shop)


def test_an_interrupted_run_that_cannot_be_put_back_exits_with_4(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_slow.up.sql", SLOW)
    run = cli.start("migrate", "--format", "json", "--database-url", shop.dsn)
    wait_for_sleep(shop)
    for file in (cli.folder / "backups").iterdir():
        file.write_bytes(b"gone")
    run.send(signal.SIGINT)
    done = run.end()
    assert (done.code, done.error["exit_code"]) == (4, 4)
    assert "Recovery failed" in done.error["message"]


def is_as_before(shop: Database) -> bool:
    columns = shop.sql("SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'paid'")
    no_history = shop.sql("SELECT to_regclass('schema_version') IS NULL")
    rows = shop.sql("SELECT count(*) FROM customers")
    return (columns, no_history, rows, left_over(shop)) == ("0", "t", "500", "0")


async def test_a_second_interrupt_in_a_recovery_is_answered_and_not_obeyed(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_slow.up.sql", SLOW)
    run = cli.start("migrate", "--database-url", shop.dsn)
    wait_for_sleep(shop)
    reader = await asyncpg.connect(shop.dsn)
    reading = reader.transaction()
    await reading.start()
    await reader.execute("LOCK TABLE customers IN ACCESS SHARE MODE")  # the restore waits for it
    run.send(signal.SIGINT)
    run.wait_for("putting the database back")
    await anyio.sleep(0.5)
    run.send(signal.SIGINT)
    answer = run.wait_for("again")
    await reading.rollback()
    await reader.close()
    done = run.end()
    assert "kill -9" in answer
    assert done.code == 130
    assert is_as_before(shop)


def test_a_held_lock_exits_with_8_and_names_the_holder(cli: Command, shop: Database) -> None:
    cli.write("V202601020900_slow.up.sql", SLOW)
    first = cli.start("migrate", "--database-url", shop.dsn)
    first.wait_for("running V202601020900_slow")
    started = time.monotonic()
    second = cli("migrate", "--lock-timeout", "1", "--format", "json", "--database-url", shop.dsn)
    assert time.monotonic() - started < 15
    assert (second.code, second.error["type"]) == (8, "LockNotAcquired")
    assert second.error["holder"]
    assert second.error["hint"] == "Let the other run finish, or raise --lock-timeout."
    assert "waiting for the migration lock" in second.err
    first.send(signal.SIGINT)
    assert first.end().code == 130


def test_a_signal_in_the_middle_of_a_backup_leaves_no_file(cli: Command, shop: Database) -> None:
    shop.sql("CREATE TABLE big AS SELECT n, repeat(md5(n::text), 20) AS t FROM generate_series(1, 300000) n")
    run = cli.start("backup", "create", "--compression-level", "19", "--database-url", shop.dsn)
    run.wait_for("backup backup-")
    time.sleep(0.5)
    run.send(signal.SIGINT)
    done = run.end()
    assert (done.code, done.out) == (130, "")
    assert list((cli.folder / "backups").iterdir()) == []
    assert left_over(shop) == "0"


@pytest.fixture
def slow_way_down(cli: Command, shop: Database) -> Database:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601010900_paid.down.sql", SLOW)
    cli.write("V202601020900_more.up.sql", "CREATE TABLE more (id bigint);")
    cli.write("V202601020900_more.down.sql", "DROP TABLE more;")
    assert cli("migrate", "--mode", "manual", "--database-url", shop.dsn).code == 0
    return shop


@pytest.mark.parametrize(
    ("flags", "words", "more"),
    [((), "was restored", "t"), (("--strategy", "both"), "was restored", "t"), (("--mode", "manual"), "Undone", "f")],
    ids=["backup", "both", "manual"],
)
def test_a_signal_in_the_middle_of_a_way_down(
    cli: Command, slow_way_down: Database, flags: tuple[str, ...], words: str, more: str
) -> None:
    url = ("--database-url", slow_way_down.dsn)
    run = cli.start("down", "0", "--yes", *flags, "--format", "json", *url)
    wait_for_sleep(slow_way_down)
    run.send(signal.SIGINT)
    done = run.end()
    assert (done.code, done.error["exit_code"]) == (130, 130)
    assert words in done.error["message"]
    assert slow_way_down.sql("SELECT to_regclass('more') IS NOT NULL") == more
    applied = cli("status", "--format", "json", *url).document["applied"]
    assert len(applied) == {"t": 2, "f": 1}[more]


@pytest.mark.parametrize("strategy", ["backup", "both"])
def test_an_interrupted_way_down_that_cannot_be_put_back_exits_with_4(
    cli: Command, slow_way_down: Database, strategy: str
) -> None:
    run = cli.start("down", "0", "--yes", "--strategy", strategy, "--database-url", slow_way_down.dsn)
    wait_for_sleep(slow_way_down)
    for file in (cli.folder / "backups").iterdir():
        file.write_bytes(b"gone")
    run.send(signal.SIGINT)
    assert run.end().code == 4
