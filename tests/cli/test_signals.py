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
    return shop.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda item: str(item)
)
def test_a_signal_in_the_middle_of_a_migration_puts_everything_back(
    cli: Command, shop: Database, number: signal.Signals, code: int
) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_slow.up.sql", SLOW)
    run = cli.start("migrate", "--format", "json", "--database-url", shop.dsn)
    run.wait_for("running V202601020900_slow")
    started = time.monotonic()
    run.send(number)
    done = run.end()
    assert time.monotonic() - started < 20
    assert done.code == code
    assert (done.error["type"], done.error["exit_code"]) == ("Interrupted", code)
    assert "Traceback" not in done.err
    assert shop.sql("SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'paid'") == "0"
    assert shop.sql("SELECT to_regclass('schema_version') IS NULL") == "t"
    assert left_over(shop) == "0"


async def test_a_second_interrupt_in_a_recovery_is_answered_and_not_obeyed(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_slow.up.sql", SLOW)
    run = cli.start("migrate", "--database-url", shop.dsn)
    run.wait_for("running V202601020900_slow")
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
    assert shop.sql("SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'paid'") == "0"
    assert shop.sql("SELECT count(*) FROM customers") == "500"
    assert left_over(shop) == "0"


def test_a_held_lock_exits_with_8_and_names_the_holder(cli: Command, shop: Database) -> None:
    cli.write("V202601020900_slow.up.sql", SLOW)
    first = cli.start("migrate", "--database-url", shop.dsn)
    first.wait_for("running V202601020900_slow")
    started = time.monotonic()
    second = cli("migrate", "--lock-timeout", "1", "--format", "json", "--database-url", shop.dsn)
    assert time.monotonic() - started < 15
    assert (second.code, second.error["type"]) == (8, "LockNotAcquired")
    assert second.error["holder"]
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
