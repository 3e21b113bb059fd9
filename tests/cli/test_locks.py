"""`lock status` and `lock release`, and the questions on a terminal."""

from __future__ import annotations

import pytest

from tests.cli.command import Command, Running
from tests.cli.terminal import on_a_terminal
from tests.support.servers import Database, only_newest

pytestmark = only_newest

HELD = "msr_async:"


@pytest.fixture
def slow(cli: Command, shop: Database) -> Running:
    """A run that holds the lock for long."""
    cli.write("V202601010900_paid.up.sql", "ALTER TABLE orders ADD COLUMN paid boolean; SELECT pg_sleep(300);")
    run = cli.start("migrate", "--mode", "manual", "--database-url", shop.dsn)
    run.wait_for("running V202601010900_paid")
    while shop.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "0":
        pass
    return run


def test_a_free_lock_is_said_to_be_free(cli: Command, shop: Database) -> None:
    status = cli("lock", "status", "--database-url", shop.dsn)
    assert (status.code, status.err) == (0, "")
    assert status.out.endswith("the migration lock is free\n")
    in_json = cli("lock", "status", "--format", "json", "--database-url", shop.dsn)
    assert (in_json.document["held"], in_json.document["holder"]) == (False, None)
    released = cli("lock", "release", "--format", "json", "--database-url", shop.dsn)
    assert (released.code, released.document["ended"]) == (0, None)


def test_the_holder_is_named_and_with_yes_ended(cli: Command, shop: Database, slow: Running) -> None:
    status = cli("lock", "status", "--format", "json", "--database-url", shop.dsn)
    holder = status.document["holder"]
    assert status.document["held"] is True
    assert holder["name"].startswith(HELD)
    assert "running a statement" in holder["doing"]
    assert shop.sql(f"SELECT query ~ 'pg_sleep' FROM pg_stat_activity WHERE pid = {holder['pid']}") == "t"

    asked = cli("lock", "release", "--database-url", shop.dsn)
    assert asked.code == 2
    assert f"(backend pid {holder['pid']})" in asked.err
    assert "Pass --yes" in asked.err

    done = cli("lock", "release", "--yes", "--format", "json", "--database-url", shop.dsn)
    assert (done.code, done.document["ended"]["pid"]) == (0, holder["pid"])
    assert f"(backend pid {holder['pid']})" in done.err
    failed = slow.end()
    assert failed.code == 3
    assert "Traceback" not in failed.err
    assert shop.sql("SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'paid'") == "0"
    assert "is free" in cli("lock", "status", "--database-url", shop.dsn).out


def test_quiet_names_nobody_on_standard_error(cli: Command, shop: Database, slow: Running) -> None:
    done = cli("lock", "release", "--yes", "--quiet", "--database-url", shop.dsn)
    assert (done.code, done.err) == (0, "")
    assert HELD in done.out
    assert slow.end().code == 3


def test_on_a_terminal_it_asks_and_no_leaves_the_holder_alone(cli: Command, shop: Database, slow: Running) -> None:
    with on_a_terminal(cli.folder, "lock", "release", "--database-url", shop.dsn) as terminal:
        terminal.wait_for("[y/N]")
        assert HELD in terminal.said
        terminal.type("\n")
        assert terminal.end() == 1
        assert "Nothing was ended" in terminal.said
    assert HELD in cli("lock", "status", "--database-url", shop.dsn).out
    with on_a_terminal(cli.folder, "lock", "release", "--database-url", shop.dsn) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        assert terminal.end() == 0
        assert "was ended" in terminal.said
    assert slow.end().code == 3


def test_who_may_not_end_the_session_is_told_so(cli: Command, shop: Database, slow: Running) -> None:
    shop.sql("DROP ROLE IF EXISTS msr_onlooker; CREATE ROLE msr_onlooker LOGIN")
    try:
        url = shop.dsn.replace("://postgres@", "://msr_onlooker@")
        done = cli("lock", "release", "--yes", "--format", "json", "--database-url", url)
        assert (done.code, done.error["type"]) == (8, "PermissionMissing")
        assert HELD in cli("lock", "status", "--database-url", url).out
    finally:
        shop.sql("DROP ROLE msr_onlooker")
    assert "held by" in cli("lock", "status", "--database-url", shop.dsn).out


@pytest.mark.parametrize(
    "command", [("migrate",), ("down", "0", "--yes"), ("baseline", "202601010900"), ("repair",)], ids=" ".join
)
def test_a_command_that_writes_waits_for_the_lock_no_longer_than_asked(
    cli: Command, shop: Database, command: tuple[str, ...]
) -> None:
    cli.write("V202601010900_one.up.sql", "CREATE TABLE one (id bigint);")
    cli.write("V202601010900_one.down.sql", "DROP TABLE one;")
    url = ("--database-url", shop.dsn)
    assert cli("migrate", "--mode", "manual", *url).code == 0
    cli.write("V202601020900_slow.up.sql", "SELECT pg_sleep(300);")
    run = cli.start("migrate", "--mode", "manual", *url)
    run.wait_for("running V202601020900_slow")
    done = cli(*command, "--lock-timeout", "0.2", "--format", "json", *url)
    assert (done.code, done.error["type"]) == (8, "LockNotAcquired")
    assert done.error["holder"].startswith(HELD)
    assert done.error["waited"] < 5


# -- going down asks too ---------------------------------------------------------------------------


@pytest.fixture
def applied(cli: Command, shop: Database) -> Database:
    cli.write("V202601010900_paid.up.sql", "ALTER TABLE orders ADD COLUMN paid boolean;")
    cli.write("V202601010900_paid.down.sql", "ALTER TABLE orders DROP COLUMN paid;")
    assert cli("migrate", "--mode", "manual", "--database-url", shop.dsn).code == 0
    return shop


def columns(database: Database) -> str:
    return database.sql("SELECT count(*) FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attname = 'paid'")


def test_without_a_terminal_going_down_needs_yes(cli: Command, applied: Database) -> None:
    done = cli("down", "0", "--format", "json", "--database-url", applied.dsn)
    assert (done.code, columns(applied)) == (2, "1")
    assert "--yes" in done.error["hint"]
    assert cli("down", "0", "--yes", "--database-url", applied.dsn).code == 0
    assert columns(applied) == "0"


@pytest.mark.parametrize(
    ("keys", "code", "left"),
    [("n\n", 1, "1"), ("\n", 1, "1"), ("\x04", 1, "1"), ("\x03", 130, "1"), ("y\n", 0, "0"), ("YES\n", 0, "0")],
    ids=["no", "enter", "end of input", "Ctrl-C", "y", "YES"],
)
def test_on_a_terminal_going_down_shows_what_it_would_undo_and_asks(
    cli: Command, applied: Database, keys: str, code: int, left: str
) -> None:
    url = ("--database-url", applied.dsn)
    with on_a_terminal(cli.folder, "down", "0", "--mode", "manual", *url) as terminal:
        terminal.wait_for("Undo them? [y/N]")
        assert "V202601010900_paid.down.sql" in terminal.said
        terminal.type(keys)
        assert terminal.end() == code
        assert "Traceback" not in terminal.said
    assert columns(applied) == left


@pytest.mark.parametrize("arguments", [("202601010900",), ("0", "--dry-run"), ("5",)], ids=" ".join)
def test_nothing_is_asked_where_nothing_would_be_undone(
    cli: Command, applied: Database, arguments: tuple[str, ...]
) -> None:
    with on_a_terminal(cli.folder, "down", *arguments, "--database-url", applied.dsn) as terminal:
        terminal.end()
    assert "[y/N]" not in terminal.said
    assert columns(applied) == "1"
