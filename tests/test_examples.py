"""The files of `examples/` run as they are, as processes, on a real PostgreSQL."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.scripts import run, script_environment
from tests.support.servers import Database, only_newest

EXAMPLES = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A folder to work in, production and development as databases, and the examples as commands."""

    folder: Path
    production: Database
    development: Database
    environment: dict[str, str]

    def run(self, name: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return run([sys.executable, str(EXAMPLES / name), *arguments], self.folder, self.environment | more)

    def shell(self, line: str) -> subprocess.CompletedProcess[str]:
        return run(["sh", "-c", line], self.folder, self.environment)

    def migration(self, name: str, sql: str) -> None:
        folder = self.folder / "migrations"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.up.sql").write_text(sql)

    def backups(self, folder: str) -> list[Path]:
        return sorted((self.folder / folder).glob("*.msrbak"))


@pytest.fixture
def stage(make_database: Callable[[], Database], tmp_path: Path) -> Stage:
    production, development = make_database(), make_database()
    production.sql(
        "CREATE TABLE people (id int PRIMARY KEY, name text); INSERT INTO people VALUES (1, 'Ada'), (2, 'Bo')"
    )
    development.sql("CREATE TABLE rubbish (id int); INSERT INTO rubbish VALUES (1)")
    environment = script_environment(
        tmp_path / "bin", PROD_DATABASE_URL=production.dsn, DEV_DATABASE_URL=development.dsn
    )
    return Stage(folder=tmp_path, production=production, development=development, environment=environment)


PEOPLE = "SELECT string_agg(id || name, ',' ORDER BY id) FROM people"


@only_newest
def test_the_handler_says_which_database_it_is(stage: Stage) -> None:
    done = stage.run("production_handler.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{stage.production.name}@")
    assert "PostgreSQL 18" in done.stdout
    assert ", production, 0 migrations applied" in done.stdout


@only_newest
@pytest.mark.parametrize("name", ["production_handler.py", "backup_production.py", "safe_migration.py"])
def test_without_an_address_there_is_one_sentence(stage: Stage, name: str) -> None:
    done = stage.run(name, PROD_DATABASE_URL="")
    assert done.returncode > 0
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: PROD_DATABASE_URL is not set. Set it to postgresql://user:password@host/database."
    ]


@only_newest
def test_the_backup_is_kept_and_copied_whole(stage: Stage) -> None:
    shared = stage.folder / "shared"
    done = stage.run("backup_production.py", SHARED_FOLDER=str(shared))
    assert done.returncode == 0, done.stderr
    (kept,) = stage.backups("backups/production")
    assert kept.name.startswith("prod-backup-")
    assert f"backup: {kept} ({kept.stat().st_size:,} bytes, 2 rows, 1 parts)" in done.stdout
    assert [path.name for path in shared.iterdir()] == ["latest-prod.bkp"]
    assert (shared / "latest-prod.bkp").read_bytes() == kept.read_bytes()
    assert (shared / "latest-prod.bkp").stat().st_mode & 0o777 == 0o640


@only_newest
def test_a_later_backup_takes_the_shared_name_over(stage: Stage) -> None:
    shared = stage.folder / "shared"
    stage.run("backup_production.py", SHARED_FOLDER=str(shared))
    before = (shared / "latest-prod.bkp").read_bytes()
    assert stage.run("backup_production.py", SHARED_FOLDER=str(shared)).returncode == 0
    assert len(stage.backups("backups/production")) == 2
    assert (shared / "latest-prod.bkp").read_bytes() != before


@only_newest
def test_a_copy_that_fails_leaves_the_old_one(stage: Stage) -> None:
    shared = stage.folder / "shared"
    (shared / "latest-prod.bkp").mkdir(parents=True)
    done = stage.run("backup_production.py", SHARED_FOLDER=str(shared))
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert [path.name for path in shared.iterdir()] == ["latest-prod.bkp"]
    assert len(stage.backups("backups/production")) == 1


@only_newest
def test_without_a_shared_folder_nothing_is_copied(stage: Stage) -> None:
    done = stage.run("backup_production.py", BACKUP_FOLDER="elsewhere")
    assert done.returncode == 0, done.stderr
    assert len(stage.backups("elsewhere")) == 1
    assert "copy:" not in done.stdout


@only_newest
@pytest.mark.parametrize("how", ["named", "shared"])
def test_development_holds_what_production_held(stage: Stage, how: str) -> None:
    shared = {"SHARED_FOLDER": str(stage.folder / "shared")}
    stage.run("backup_production.py", **shared)
    arguments = {"named": [str(stage.backups("backups/production")[0])], "shared": []}[how]
    done = stage.run("restore_to_development.py", *arguments, **shared)
    assert done.returncode == 0, done.stderr
    assert "restored: 2 rows in 1 parts from " in done.stdout
    assert stage.development.sql(PEOPLE) == "1Ada,2Bo"
    assert stage.development.sql("SELECT to_regclass('rubbish') IS NULL") == "t"


@only_newest
def test_production_is_not_taken_for_development(stage: Stage) -> None:
    stage.run("backup_production.py")
    stage.production.sql("DELETE FROM people WHERE id = 1")
    (backup,) = stage.backups("backups/production")
    done = stage.run("restore_to_development.py", str(backup), DEV_DATABASE_URL=stage.production.dsn)
    assert done.returncode == 1
    assert "the very database that the backup was made of" in done.stderr
    assert stage.production.sql(PEOPLE) == "2Bo"


@only_newest
@pytest.mark.parametrize("arguments", [[], ["one", "two"]], ids=["none", "two"])
def test_a_restore_needs_one_path(stage: Stage, arguments: list[str]) -> None:
    done = stage.run("restore_to_development.py", *arguments)
    assert done.returncode == 1
    assert done.stderr == "error: No backup was named. Give one path, or set SHARED_FOLDER.\n"


@only_newest
def test_a_good_migration_keeps_its_tagged_backup(stage: Stage) -> None:
    stage.migration("V202611220900_cities", "CREATE TABLE cities (name text)")
    done = stage.run("safe_migration.py", RELEASE="2026.11")
    assert done.returncode == 0, done.stderr
    assert "applied: V202611220900_cities" in done.stdout
    (backup,) = stage.backups("backups/critical")
    assert f"backup: {backup}" in done.stdout
    inspected = stage.shell(f"msr-async backup inspect {backup}").stdout
    assert "reason=pre-migration-safety" in inspected
    assert "release=2026.11" in inspected
    again = stage.run("safe_migration.py")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "applied: nothing was pending\n"


@only_newest
def test_a_bad_migration_is_undone_and_the_printed_command_goes_back_too(stage: Stage) -> None:
    stage.migration("V202611220900_cities", "CREATE TABLE cities (name text)")
    stage.migration("V202611221000_ruin", "DELETE FROM people;\nSELECT 1 / 0;")
    done = stage.run("safe_migration.py")
    assert done.returncode == 3
    assert "V202611221000_ruin.up.sql:2:1: division by zero." in done.stderr
    assert "applied before it: V202611220900_cities\n" in done.stderr
    assert "restored: yes\n" in done.stderr
    assert stage.production.sql(PEOPLE) == "1Ada,2Bo"
    assert stage.production.sql("SELECT to_regclass('cities') IS NULL") == "t"

    stage.production.sql("DROP TABLE people")
    (command,) = [line.removeprefix("by hand: ") for line in done.stderr.splitlines() if line.startswith("by hand: ")]
    by_hand = stage.shell(command)
    assert by_hand.returncode == 0, by_hand.stderr
    assert stage.production.sql(PEOPLE) == "1Ada,2Bo"


@only_newest
def test_migrations_that_must_not_run_are_refused(stage: Stage) -> None:
    stage.migration("V202611220900_commits", "COMMIT;")
    done = stage.run("safe_migration.py")
    assert done.returncode == 2
    assert "transaction-control" in done.stderr
    assert stage.backups("backups/critical") == []


@only_newest
def test_a_recovery_that_fails_has_its_own_code(stage: Stage) -> None:
    stage.migration("V202611220900_breaks_its_backup", "CREATE TABLE x (a int)")
    (stage.folder / "migrations" / "V202611221000_ruin.py").write_text(
        "from pathlib import Path\n\n\n"
        "async def up(db, ctx):\n"
        "    for path in Path('backups/critical').glob('*.msrbak'):\n"
        "        path.write_bytes(path.read_bytes()[:-1])\n"
        "    raise RuntimeError('on purpose')\n"
    )
    done = stage.run("safe_migration.py")
    assert done.returncode == 4
    assert "Recovery failed too" in done.stderr
    assert "restored: no\n" in done.stderr


BATCHED = EXAMPLES / "batched_migration" / "run.py"
CURRENCIES = "SELECT currency, count(*) FROM orders GROUP BY 1 ORDER BY 1"


@only_newest
def test_a_batched_migration_that_is_killed_goes_on_where_it_was(stage: Stage) -> None:
    environ = stage.environment | {"DATABASE_URL": stage.production.dsn}
    killed = subprocess.Popen([sys.executable, str(BATCHED)], env=environ, stdout=subprocess.PIPE, text=True)
    try:
        assert killed.stdout is not None
        assert killed.stdout.readline().startswith("batch 1: 1,000 rows, ")
        assert killed.stdout.readline().startswith("batch 2: 1,000 rows, ")
    finally:
        killed.kill()
        killed.communicate(timeout=20)
    wait_until_nobody_migrates(stage.production)
    half_way = [int(line.partition("|")[2]) for line in stage.production.sql(CURRENCIES).splitlines()]
    assert len(half_way) == 2
    assert half_way[0] in (2000, 3000)  # it may have been killed between a commit and its word
    # Whoever touches a row a second time is found out.
    stage.production.sql("UPDATE orders SET currency = 'DONE' WHERE currency = 'EUR'")
    after = run([sys.executable, str(BATCHED)], stage.folder, environ)
    assert after.returncode == 0, after.stderr
    numbers = [line.partition(":")[0] for line in after.stdout.splitlines() if line.startswith("batch")]
    assert numbers == [f"batch {number}" for number in range(half_way[0] // 1000 + 1, 6)]
    assert after.stdout.splitlines()[-1] == "applied: V202611221000_add_currency"
    assert stage.production.sql(CURRENCIES) == f"DONE|{half_way[0]}\nEUR|{5000 - half_way[0]}"
    again = run([sys.executable, str(BATCHED)], stage.folder, environ)
    assert (again.returncode, again.stdout) == (0, "applied: nothing was pending\n")


def wait_until_nobody_migrates(database: Database) -> None:
    """What a killed runner has sent goes on in the server to its end."""
    end = time.monotonic() + 20
    ours = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ '^msr_async'"
    )
    while database.sql(ours) != "0":
        assert time.monotonic() < end, "the killed runner's session did not end"
        time.sleep(0.05)


@only_newest
def test_a_batched_migration_without_an_address_is_one_sentence(stage: Stage) -> None:
    done = run([sys.executable, str(BATCHED)], stage.folder, stage.environment)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: No database is named: DATABASE_URL is not set. ")


def test_the_page_about_batches_shows_the_example() -> None:
    page = (EXAMPLES.parent / "docs" / "how-to" / "large-data-changes.md").read_text("utf-8")
    for path in (BATCHED.parent / "migrations").iterdir():
        shown = page.partition(f" migrations/{path.name}\n")[2].partition("```")[0]
        assert statements(shown) == statements(path.read_text("utf-8")) != []


def statements(text: str) -> list[str]:
    """The SQL of a text, SQL or Python, without layout."""
    return re.findall(r"CREATE TABLE \w+|(?:ALTER|INSERT|UPDATE|SELECT)\b[^\n\"]+", text)


def test_every_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    shown = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/*.py")]
    assert len(shown) > 5
    assert [path.name for path in sorted(shown) if f"({path.relative_to(EXAMPLES)})" not in listed] == []
