"""`migrate` and `status` on a real database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.support.servers import Database, only_newest

pytestmark = only_newest

GOOD = "ALTER TABLE orders ADD COLUMN paid boolean;"
BAD = "SELECT 1;\n\nINSERT INTO nowhere VALUES (1);\n"


def files(cli: Command) -> list[Path]:
    return sorted((cli.folder / "backups").glob("*"))


def columns(database: Database) -> str:
    return database.sql("SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute "
                        "WHERE attrelid = 'orders'::regclass AND attnum > 0 AND NOT attisdropped")  # fmt: skip


def test_a_run_from_start_to_end(cli: Command, shop: Database) -> None:
    url = ("--database-url", shop.dsn)
    cli.write("V202601010900_paid.up.sql", GOOD)

    before = cli("status", *url)
    assert before.code == 0
    assert "0 migrations applied, 1 pending" in before.out
    assert cli("status", "--check", *url).code == 9

    done = cli("migrate", *url)
    assert (done.code, "V202601010900_paid" in done.out) == (0, True)
    assert "running V202601010900_paid (1 of 1)" in done.err
    assert columns(shop) == "id note paid"
    assert files(cli) == []

    after = cli("status", "--check", "--format", "json", *url)
    assert after.code == 0
    assert after.document["pending"] == []
    assert [item["version"] for item in after.document["applied"]] == [202601010900]

    again = cli("migrate", "--format", "json", *url)
    assert (again.code, again.document["executed"]) == (0, [])


def test_quiet_says_nothing_but_the_result(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    done = cli(
        "migrate", "--quiet", "--format", "json", "--keep-backup", "--tag", "why=test", "--database-url", shop.dsn
    )
    assert (done.code, done.err) == (0, "")
    assert done.document["success"] is True
    assert [item["name"] for item in done.document["executed"]] == ["paid"]
    assert done.document["backup"]["tags"] == {"why": "test"}
    assert [Path(done.document["backup"]["path"]).name] == [path.name for path in files(cli)]


DROPS = "DROP TABLE schema_version, schema_version_notes"
CATCHES = "try:\n        await db.execute('SELECT 1 / 0')\n    except Exception:\n        {}\n"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("drops.up.sql", DROPS, "the script itself has taken it away"),
        ("drops.py", f"async def up(db, ctx):\n    await db.execute('{DROPS}')", "the script itself has taken it away"),
        (
            "goes_on.py",
            "async def up(db, ctx):\n    " + CATCHES.format("pass"),
            "a statement had failed, the script caught",
        ),
        (
            "goes_on.py",
            "async def up(db, ctx):\n    " + CATCHES.format("pass") + "    await db.execute('SELECT 1')",
            "goes_on.py:6: a statement had failed, the script caught",
        ),
        (
            "goes_on.py",
            "async def up(db, ctx):\n    " + CATCHES.format("await db.execute('SELECT 2')"),
            "and the server keeps nothing of such a transaction (division by zero.).",
        ),
    ],
    ids=["drops in SQL", "drops in Python", "goes on to the end", "goes on", "goes on in the handler"],
)
@pytest.mark.parametrize("mode", ["per_migration", "per_batch"])
def test_what_a_script_did_to_its_own_record_is_said(
    cli: Command, shop: Database, file: str, text: str, words: str, mode: str
) -> None:
    cli.write(f"V202601010900_{file}", text)
    done = cli("migrate", "--mode", "manual", "--transaction", mode, "--format", "json", "--database-url", shop.dsn)
    assert done.code == 3
    assert words in done.error["message"]
    assert "db.transaction()" in done.error["message"] or "drop" in file


def test_rights_that_a_backup_needs_are_named_and_its_code_is_5(cli: Command, shop: Database) -> None:
    role = f"weak_{shop.name}"
    shop.sql(f"CREATE ROLE {role} LOGIN")
    cli.write("V202601010900_paid.up.sql", GOOD)
    url = ("--format", "json", "--database-url", shop.dsn.replace("//postgres@", f"//{role}@"))
    refused = cli("migrate", *url)
    assert (refused.code, refused.error["type"]) == (5, "BackupFailed")
    assert "GRANT pg_read_all_data TO this role" in refused.error["hint"]
    for flags in (("--mode", "manual"), ("--dry-run",)):
        early = cli("migrate", *flags, *url)
        assert (early.code, early.error["type"]) == (1, "PermissionMissing")
        assert "GRANT USAGE, CREATE ON SCHEMA public TO this role" in early.error["hint"]
        assert "failed: V2026" not in early.err


@pytest.mark.parametrize(("text", "code"), [(GOOD, 1), (BAD, 3)])
def test_a_run_is_what_it_was_when_nobody_can_be_told(cli: Command, shop: Database, text: str, code: int) -> None:
    cli.write("V202601010900_paid.up.sql", text)
    done = cli.script(
        "import os\nfull = os.open('/dev/full', os.O_WRONLY)\nos.dup2(full, 1)\nos.dup2(full, 2)",
        "migrate", "--format", "json", "--database-url", shop.dsn,
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (code, "", "")
    assert columns(shop) == ("id note paid" if text == GOOD else "id note")


def test_a_failing_migration_exits_with_3_and_everything_is_back(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_bad.up.sql", BAD)
    done = cli("migrate", "--format", "json", env={"DATABASE_URL": shop.dsn})
    assert done.code == 3
    assert "Traceback" not in done.err
    assert (done.error["type"], done.error["exit_code"]) == ("MigrationFailed", 3)
    assert done.error["result"]["restored"] is True
    assert done.error["result"]["failed"]["name"] == "bad"
    assert (done.error["cause"]["type"], done.error["cause"]["line"]) == ("ScriptFailed", 3)
    assert "V202601020900_bad.up.sql:3:13" in done.err
    assert columns(shop) == "id note"
    assert shop.sql("SELECT to_regclass('schema_version') IS NULL") == "t"


@pytest.mark.parametrize("format", ["json", "table"])
def test_what_a_script_prints_goes_to_standard_error(cli: Command, shop: Database, format: str) -> None:
    cli.write(
        "V202601010900_talk.py",
        "import logging, sys\nprint('imported')\nlogging.basicConfig(stream=sys.stdout, level=logging.WARNING)\n"
        "async def up(db, ctx):\n    print('running')\n    logging.warning('logged')\n    sys.stdout.write('written\\n')\n",
    )
    done = cli("migrate", "--quiet", "--mode", "manual", "--format", format, "--database-url", shop.dsn)
    assert done.code == 0
    assert done.err.splitlines() == ["imported", "running", "WARNING:root:logged", "written"]
    assert "V202601010900_talk" in done.out
    assert not {"imported", "running", "written"} & set(done.out.split())


@pytest.mark.parametrize(
    "error",
    [
        "KeyboardInterrupt()",
        "asyncio.CancelledError()",
        "GeneratorExit()",
        "BaseExceptionGroup('g', [KeyboardInterrupt()])",
        "Mute()",
    ],
)
def test_whatever_a_script_raises_is_a_failed_migration(cli: Command, shop: Database, error: str) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write(
        "V202601020900_bad.py",
        "import asyncio\nclass Mute(Exception):\n    def __str__(self): return 1 / 0\n"
        f"async def up(db, ctx):\n    raise {error}\n",
    )
    done = cli("migrate", "--format", "json", "--database-url", shop.dsn)
    assert (done.code, done.error["type"]) == (3, "MigrationFailed"), done.err
    assert f"V202601020900_bad.py:5: {error.partition('(')[0].rpartition('.')[2]}" in done.error["message"]
    assert done.error["result"]["restored"] is True
    assert "Traceback" not in done.err
    assert columns(shop) == "id note"


@pytest.mark.parametrize(
    ("flags", "left", "kept"),
    [
        (("--strategy", "none"), "id note paid", 0),
        (("--strategy", "none", "--mode", "create_only"), "id note paid", 1),
        (("--mode", "create_only"), "id note paid", 1),
        (("--mode", "manual"), "id note paid", 0),
        (("--strategy", "down", "--mode", "manual"), "id note", 0),
        (("--strategy", "both"), "id note", 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_strategy_and_mode_decide_what_a_failure_leaves(
    cli: Command, shop: Database, flags: tuple[str, ...], left: str, kept: int
) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601010900_paid.down.sql", "ALTER TABLE orders DROP COLUMN paid;")
    cli.write("V202601020900_bad.up.sql", BAD)
    cli.write("V202601020900_bad.down.sql", "SELECT 1;")
    done = cli("migrate", *flags, "--database-url", shop.dsn)
    assert done.code == 3
    assert columns(shop) == left
    assert len(files(cli)) == kept


def test_an_existing_backup_is_gone_back_to(cli: Command, shop: Database) -> None:
    made = cli("backup", "create", "--backups", "safe", "--database-url", shop.dsn)
    path = made.out.strip()
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write("V202601020900_bad.up.sql", BAD)
    done = cli("migrate", "--backup", path, "--database-url", shop.dsn)
    assert done.code == 3
    assert columns(shop) == "id note"
    assert files(cli) == []
    missing = cli("migrate", "--backup", "missing.msrbak", "--database-url", shop.dsn)
    assert (missing.code, columns(shop)) == (2, "id note")


def test_what_is_wrong_with_the_files_exits_with_2_and_touches_nothing(cli: Command, shop: Database) -> None:
    missing = cli("migrate", "--migrations", "nowhere", "--database-url", shop.dsn)
    assert (missing.code, "nowhere" in missing.err) == (2, True)

    cli.write("V202601010900_one.up.sql", GOOD)
    cli.write("V202601010900_two.up.sql", GOOD)
    done = cli("migrate", "--format", "json", "--database-url", shop.dsn)
    assert (done.code, done.error["type"]) == (2, "ValidationFailed")
    assert done.error["issues"]
    assert cli("status", "--check", "--database-url", shop.dsn).code == 2
    assert cli("status", "--database-url", shop.dsn).code == 0
    assert columns(shop) == "id note"


def test_migrations_are_taken_from_the_folder_that_is_named(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    (cli.folder / "migrations").rename(cli.folder / "elsewhere")
    done = cli("migrate", "--migrations", "elsewhere", "--database-url", shop.dsn)
    assert (done.code, columns(shop)) == (0, "id note paid")


def test_a_restore_that_fails_too_exits_with_4(cli: Command, shop: Database) -> None:
    cli.write("V202601010900_paid.up.sql", GOOD)
    cli.write(
        "V202601020900_bad.py",
        "from pathlib import Path\n"
        "async def up(db, ctx):\n"
        "    for file in Path('backups').iterdir():\n"
        "        file.write_bytes(b'gone')\n"
        "    raise RuntimeError('no')\n",
    )
    done = cli("migrate", "--format", "json", "--database-url", shop.dsn)
    assert (done.code, done.error["type"]) == (4, "RecoveryFailed")
    assert done.error["cause"]["message"]
    assert done.error["recovery_cause"]["type"] in ("NotABackup", "BackupDamaged", "BackupInvalid")
