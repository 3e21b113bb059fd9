"""Behaviour 42: every flag of a run changes what happens, shown on a real database by the real command line."""

from __future__ import annotations

import asyncpg
import pytest

from tests.cli.command import Command
from tests.support.servers import Database, only_newest

pytestmark = only_newest

ONE, TWO, THREE = "V202601010900_one", "V202601020900_two", "V202601030900_three"


@pytest.fixture
def url(database: Database) -> tuple[str, str]:
    return ("--database-url", database.dsn)


def write(cli: Command, name: str, up: str, down: str | None = None) -> None:
    cli.write(f"{name}.up.sql", up)
    if down is not None:
        cli.write(f"{name}.down.sql", down)


def names(database: Database) -> str:
    return database.sql(
        "SELECT coalesce(string_agg(relname, ' ' ORDER BY relname), '') FROM pg_class "
        "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname !~ '^schema_version'"
    )


# -- transactions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ((), "one"),
        (("--transaction", "per_migration"), "one"),
        (("--transaction", "per_batch"), ""),
        (("--transaction", "none"), "half one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_behaviour_42_transaction(
    cli: Command, database: Database, url: tuple[str, str], flags: tuple[str, ...], left: str
) -> None:
    write(cli, ONE, "CREATE TABLE one (id bigint);")
    write(cli, TWO, "CREATE TABLE half (id bigint);\nSELECT 1 / 0;")
    done = cli("migrate", "--strategy", "none", "--mode", "manual", *flags, *url)
    assert (done.code, names(database)) == (3, left)


def test_behaviour_42_transaction_is_shown_by_plan(cli: Command, url: tuple[str, str]) -> None:
    write(cli, ONE, "CREATE TABLE one (id bigint);")
    shown = [
        cli("plan", "--transaction", mode, "--format", "json", *url).document["steps"][0]["transaction"]
        for mode in ("per_migration", "per_batch", "none")
    ]
    assert shown == ["own", "shared", "none"]


SETTINGS = (
    "CREATE TABLE seen AS SELECT current_setting('transaction_isolation') AS isolation, "
    "current_setting('lock_timeout') AS lock, current_setting('statement_timeout') AS statement;"
)


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        ((), "read committed|5s|0"),
        (("--isolation", "serializable"), "serializable|5s|0"),
        (("--isolation", "repeatable-read"), "repeatable read|5s|0"),
        (("--ddl-lock-timeout", "1.5"), "read committed|1500ms|0"),
        (("--statement-timeout", "7"), "read committed|5s|7s"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_behaviour_42_settings_of_the_transaction(
    cli: Command, database: Database, url: tuple[str, str], flags: tuple[str, ...], seen: str
) -> None:
    write(cli, ONE, SETTINGS, SETTINGS)
    assert cli("migrate", "--mode", "manual", *flags, *url).code == 0
    assert database.sql("TABLE seen; DROP TABLE seen") == seen
    assert cli("down", "0", "--yes", "--mode", "manual", *flags, *url).code == 0
    assert database.sql("TABLE seen") == seen


@pytest.mark.parametrize(("retries", "told"), [("0", 0), ("2", 2)])
async def test_behaviour_42_retries(
    cli: Command, database: Database, url: tuple[str, str], retries: str, told: int
) -> None:
    database.sql("CREATE TABLE busy (id bigint)")
    write(cli, ONE, "ALTER TABLE busy ADD COLUMN note text;")
    holder = await asyncpg.connect(database.dsn)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE busy")
            flags = ("--ddl-lock-timeout", "0.05", "--retries", retries, "--mode", "manual")
            done = cli("migrate", *flags, *url)
    finally:
        await holder.close()
    assert (done.code, done.err.count("tried again")) == (3, told)


# -- findings --------------------------------------------------------------------------------------


REWRITE = "ALTER TABLE one ADD COLUMN own uuid DEFAULT gen_random_uuid();"


def codes(cli: Command, *arguments: object) -> list[tuple[str, str]]:
    return [(item["code"], item["severity"]) for item in cli(*arguments, "--format", "json").document["issues"]]


@pytest.fixture
def ran(cli: Command, url: tuple[str, str]) -> Command:
    """The first and the third migration are applied."""
    write(cli, ONE, "CREATE TABLE one (id bigint);", "DROP TABLE one;")
    write(cli, THREE, "CREATE TABLE three (id bigint);", "DROP TABLE three;")
    assert cli("migrate", "--mode", "manual", *url).code == 0
    return cli


@pytest.mark.parametrize(
    ("flags", "code", "left", "found"),
    [
        ((), 2, "one three", [("out-of-order", "error")]),
        (("--out-of-order", "allow"), 0, "one three two", []),
        (("--out-of-order", "ignore"), 0, "one three", []),
    ],
    ids=["error", "allow", "ignore"],
)
def test_behaviour_42_out_of_order(
    ran: Command,
    database: Database,
    url: tuple[str, str],
    flags: tuple[str, ...],
    code: int,
    left: str,
    found: list[tuple[str, str]],
) -> None:
    write(ran, TWO, "CREATE TABLE two (id bigint);")
    for command in ("plan", "status", "validate"):
        assert [item for item in codes(ran, command, *flags, *url) if item[1] == "error"] == found
    assert (ran("migrate", "--mode", "manual", *flags, *url).code, names(database)) == (code, left)


POLICIES = pytest.mark.parametrize(
    ("policy", "code", "severities"), [("error", 2, ["error"]), ("warn", 0, ["warning"]), ("ignore", 0, [])]
)


@POLICIES
def test_behaviour_42_missing_file(
    ran: Command, url: tuple[str, str], policy: str, code: int, severities: list[str]
) -> None:
    (ran.folder / "migrations" / f"{ONE}.up.sql").unlink()
    (ran.folder / "migrations" / f"{ONE}.down.sql").unlink()
    flags = ("--missing-file", policy)
    for command in ("plan", "status", "validate"):
        assert codes(ran, command, *flags, *url) == [("missing-file", severity) for severity in severities]
    assert ran("migrate", *flags, *url).code == code


@POLICIES
def test_behaviour_42_changed_file(
    ran: Command, url: tuple[str, str], policy: str, code: int, severities: list[str]
) -> None:
    write(ran, ONE, "CREATE TABLE one (id bigint, note text);")
    flags = ("--changed-file", policy)
    for command in (("plan",), ("status",), ("validate",)):
        assert codes(ran, *command, *flags, *url) == [("checksum-mismatch", severity) for severity in severities]
    assert ran("migrate", *flags, *url).code == code
    assert ran("down", "0", "--yes", "--mode", "manual", *flags, *url).code == code


@POLICIES
@pytest.mark.parametrize("strategy", ["down", "both"])
def test_behaviour_42_missing_down(
    ran: Command, url: tuple[str, str], strategy: str, policy: str, code: int, severities: list[str]
) -> None:
    write(ran, "V202601040900_four", "CREATE TABLE four (id bigint);")
    flags = ("--strategy", strategy, "--missing-down", policy)
    for command in ("plan", "status", "validate"):
        assert codes(ran, command, *flags, *url) == [("missing-down", severity) for severity in severities]
    assert ran("migrate", *flags, *url).code == code


@POLICIES
def test_behaviour_42_drift(
    ran: Command, url: tuple[str, str], database: Database, policy: str, code: int, severities: list[str]
) -> None:
    database.sql("CREATE TABLE handmade (id bigint)")
    write(ran, "V202601040900_four", "CREATE TABLE four (id bigint);")
    flags = ("--drift", policy)
    assert codes(ran, "validate", *flags, *url) == [("drift", severity) for severity in severities]
    done = ran("migrate", "--mode", "manual", "--dry-run", *flags, *url)
    assert (done.code, "handmade" in done.err) == (code, policy != "ignore")
    down = ran("down", "0", "--dry-run", *flags, *url)
    assert (down.code, "handmade" in down.err) == (code, policy != "ignore")


def test_behaviour_42_strict_and_no_lint(ran: Command, database: Database, url: tuple[str, str]) -> None:
    database.sql("INSERT INTO one SELECT generate_series(1, 1000); ANALYZE one")
    write(ran, "V202601040900_four", REWRITE)
    write(ran, THREE, "CREATE TABLE three (id bigint);", REWRITE)
    assert {severity for _, severity in codes(ran, "plan", *url)} == {"warning"}
    assert {severity for _, severity in codes(ran, "plan", "--strict", *url)} == {"error"}
    assert codes(ran, "plan", "--strict", "--no-lint", *url) == []
    assert ran("validate", *url).code == 0
    assert ran("validate", "--strict", *url).code == 2
    assert ran("validate", "--strict", "--no-lint", *url).code == 0
    assert ran("migrate", "--strict", "--dry-run", *url).code == 2
    assert ran("migrate", "--strict", "--no-lint", "--dry-run", *url).code == 0
    assert ran("down", "202601010900", "--strict", "--dry-run", *url).code == 2
    assert ran("down", "202601010900", "--strict", "--no-lint", "--dry-run", *url).code == 0


def test_behaviour_42_strict_of_status(ran: Command, url: tuple[str, str]) -> None:
    write(ran, ONE, "CREATE TABLE one (id bigint, note text);")
    flags = ("--check", "--changed-file", "warn")
    assert ran("status", *flags, *url).code == 0
    assert ran("status", *flags, "--strict", *url).code == 2


# -- the way back ----------------------------------------------------------------------------------


def test_behaviour_42_keep_backup_jobs_and_tag_of_down(ran: Command, url: tuple[str, str]) -> None:
    flags = ("--keep-backup", "--jobs", "1", "--tag", "why=back")
    done = ran("down", "202601010900", "--yes", *flags, "--format", "json", *url)
    assert (done.code, done.document["backup"]["tags"]) == (0, {"why": "back"})
    assert len(list((ran.folder / "backups").iterdir())) == 1
    assert ran("down", "0", "--yes", *url).code == 0
    assert len(list((ran.folder / "backups").iterdir())) == 1


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ((), "one three"),
        (("--strategy", "none"), "one"),
        (("--strategy", "both"), "one three"),
        (("--mode", "create_only"), "one"),
        (("--mode", "manual"), "one"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_behaviour_42_strategy_and_mode_of_a_failing_down(
    ran: Command, database: Database, url: tuple[str, str], flags: tuple[str, ...], left: str
) -> None:
    ran.write(f"{ONE}.down.sql", "DROP TABLE nowhere;")
    done = ran("down", "0", "--yes", *flags, *url)
    assert (done.code, names(database)) == (3, left)


def test_behaviour_42_backup_of_a_failing_down(ran: Command, database: Database, url: tuple[str, str]) -> None:
    made = ran("backup", "create", "--backups", "safe", *url).out.strip()
    ran.write(f"{ONE}.down.sql", "DROP TABLE nowhere;")
    done = ran("down", "0", "--yes", "--backup", made, *url)
    assert (done.code, names(database)) == (3, "one three")
    assert "was restored" in done.err
