"""`backup create | restore | list | inspect | verify` on a real database."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.support.servers import Database, only_newest

pytestmark = only_newest


@pytest.fixture
def made(cli: Command, shop: Database) -> Path:
    """A backup of the shop."""
    return cli.folder / cli("backup", "create", "--database-url", shop.dsn).out.strip()


def test_a_table_that_is_not_there_is_told(cli: Command, shop: Database) -> None:
    url = ("--database-url", shop.dsn)
    missed = cli("backup", "create", "--include", "orders", "--format", "json", *url)
    assert (missed.code, missed.error["type"]) == (5, "BackupFailed")
    assert missed.error["hint"] == "Did you mean public.orders?"
    assert not list((cli.folder / "backups").glob("*.msrbak"))

    made = cli(
        "backup", "create", "--include", "public.orders", "--include", "public.order", "--exclude", "log.*", *url
    )
    assert made.code == 0
    assert (
        "warning: include public.order means nothing that is in the database. Did you mean public.orders?" in made.err
    )
    assert "warning: exclude log.* means nothing that is in the database." in made.err


def test_create_prints_the_path_and_nothing_else(cli: Command, shop: Database) -> None:
    done = cli("backup", "create", "--database-url", shop.dsn)
    assert done.code == 0
    assert done.out.count("\n") == 1
    path = cli.folder / done.out.strip()
    assert path.parent == cli.folder / "backups"
    assert path.stat().st_size > 0
    assert "backup: 2,500 rows" in done.err


def test_create_in_json_gives_path_size_and_rows(cli: Command, shop: Database) -> None:
    done = cli("backup", "create", "--format", "json", "--quiet", "--database-url", shop.dsn)
    assert (done.code, done.err) == (0, "")
    path = cli.folder / done.document["path"]
    assert (done.document["size"], done.document["rows"]) == (path.stat().st_size, 2500)


def test_create_hands_its_path_over_to_the_next_step(cli: Command, shop: Database) -> None:
    outputs = cli.folder / "github"
    outputs.write_text("BEFORE=1\n")
    done = cli(
        "backup", "create", "--output-file", "path.txt", "--database-url", shop.dsn, env={"GITHUB_OUTPUT": str(outputs)}
    )
    path = done.out.strip()
    assert (cli.folder / "path.txt").read_text() == f"{path}\n"
    assert outputs.read_text() == f"BEFORE=1\nBACKUP_PATH={path}\n"


def test_create_whose_path_cannot_be_handed_over_says_where_the_backup_is(cli: Command, shop: Database) -> None:
    done = cli("backup", "create", "--output-file", "no/such/path.txt", "--database-url", shop.dsn)
    assert done.code == 5
    (file,) = (cli.folder / "backups").iterdir()
    assert file.name in done.err


def test_create_takes_the_rows_that_are_asked_for(cli: Command, shop: Database) -> None:
    def rows(*flags: str) -> object:
        return cli("backup", "create", *flags, "--format", "json", "--database-url", shop.dsn).document["rows"]

    assert rows("--include", "public.customers") == 500
    assert rows("--exclude", "public.customers") == 2000
    assert rows("--include", "public.*", "--exclude", "public.orders") == 500


def test_create_compresses_as_hard_as_it_is_told(cli: Command, shop: Database) -> None:
    def size(level: str) -> int:
        done = cli("backup", "create", "--compression-level", level, "--format", "json", "--database-url", shop.dsn)
        return int(done.document["size"])

    assert size("19") < size("1")


def test_tags_are_shown_by_list_and_inspect(cli: Command, shop: Database) -> None:
    cli("backup", "create", "--tag", "release=42", "--backups", "safe", "--database-url", shop.dsn)
    listed = cli("backup", "list", "--backups", "safe")
    assert "release=42" in listed.out
    (entry,) = cli("backup", "list", "--backups", "safe", "--format", "json").document["backups"]
    assert entry["tags"] == {"release": "42"}
    assert "release=42" in cli("backup", "inspect", "--backups", "safe").out
    assert cli("backup", "inspect", entry["path"], "--format", "json").document["tags"] == {"release": "42"}


def test_list_is_newest_first_and_restore_and_inspect_take_the_newest(cli: Command, shop: Database) -> None:
    first = cli("backup", "create", "--database-url", shop.dsn).out.strip()
    shop.sql("DELETE FROM orders WHERE id > 10")
    second = cli("backup", "create", "--database-url", shop.dsn).out.strip()
    listed = cli("backup", "list", "--format", "json").document["backups"]
    assert [item["path"] for item in listed] == [second, first]
    assert cli("backup", "inspect", "--format", "json").document["path"] == second
    shop.sql("DELETE FROM orders")
    done = cli("backup", "restore", "--database-url", shop.dsn)
    assert (done.code, shop.sql("SELECT count(*) FROM orders")) == (0, "10")
    assert cli("backup", "restore", first, "--database-url", shop.dsn).code == 0
    assert shop.sql("SELECT count(*) FROM orders") == "2000"


def test_inspect_tells_tables_and_rows(cli: Command, made: Path) -> None:
    shown = cli("backup", "inspect", made)
    assert shown.code == 0
    assert "public.orders" in shown.out
    document = cli("backup", "inspect", made, "--format", "json").document
    assert {part["name"]: part["rows"] for part in document["parts"]} == {
        "public.orders": 2000,
        "public.customers": 500,
    }
    assert document["source"]["kind"] == "postgresql"


def test_restore_into_an_empty_database(cli: Command, made: Path, make_database: Callable[[], Database]) -> None:
    target = make_database()
    done = cli("backup", "restore", made, "--format", "json", "--database-url", target.dsn)
    assert (done.code, done.document["rows"]) == (0, 2500)
    assert target.sql("SELECT count(*) FROM orders") == "2000"


def test_restore_over_another_database_wants_its_name(
    cli: Command, made: Path, make_database: Callable[[], Database]
) -> None:
    target = make_database()
    target.sql("CREATE TABLE precious (id int)")
    url = ("--database-url", target.dsn)
    refused = cli("backup", "restore", made, "--format", "json", *url)
    assert (refused.code, refused.error["type"]) == (11, "TargetRefused")
    label = f"{target.name}@{target.server.host}:{target.server.port}"
    assert f'name it: --confirm-target "{label}"' in refused.error["hint"]
    assert cli("backup", "restore", made, "--confirm-target", "other@host", *url).code == 11
    assert cli("backup", "restore", made, "--environment", "production", *url).code == 11
    assert target.sql("SELECT count(*) FROM precious") == "0"
    done = cli(
        "backup", "restore", made, "--confirm-target", f"{target.name}@{target.server.host}:{target.server.port}", *url
    )
    assert done.code == 0
    assert target.sql("SELECT to_regclass('precious') IS NULL") == "t"


def test_restore_over_a_database_for_development_wants_nothing(
    cli: Command, made: Path, make_database: Callable[[], Database]
) -> None:
    target = make_database()
    target.sql("CREATE TABLE precious (id int)")
    done = cli("backup", "restore", made, "--environment", "development", "--database-url", target.dsn)
    assert (done.code, target.sql("SELECT to_regclass('precious') IS NULL")) == (0, "t")


@pytest.fixture
def role(shop: Database) -> Iterator[str]:
    """A role that owns one table of the shop and may read the other."""
    name = f"role_{secrets.token_hex(4)}"
    shop.sql(f"CREATE ROLE {name}; ALTER TABLE orders OWNER TO {name}; GRANT SELECT ON customers TO {name};")
    yield name
    shop.server.run("dropdb", "--force", shop.name)
    shop.server.run("psql", "-Xqc", f"DROP ROLE {name}", "postgres")


@pytest.mark.parametrize(
    ("flags", "owned", "granted"),
    [((), True, True), (("--no-owner",), False, True), (("--no-privileges",), True, False)],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_owners_and_privileges_come_along_unless_told_otherwise(
    cli: Command, shop: Database, role: str, flags: tuple[str, ...], owned: bool, granted: bool
) -> None:
    made = cli("backup", "create", "--database-url", shop.dsn).out.strip()
    done = cli("backup", "restore", made, *flags, "--database-url", shop.dsn)
    assert done.code == 0
    owner = shop.sql("SELECT relowner::regrole FROM pg_class WHERE oid = 'orders'::regclass")
    grants = shop.sql("SELECT coalesce(relacl::text, '') FROM pg_class WHERE oid = 'customers'::regclass")
    assert (owner == role, role in grants) == (owned, granted)


def test_verify_passes_a_good_file_and_names_what_it_did(cli: Command, made: Path) -> None:
    full = cli("backup", "verify", made)
    assert (full.code, "every byte was read" in full.out) == (0, True)
    quick = cli("backup", "verify", "--level", "quick", "--format", "json")
    assert (quick.code, quick.document["level"]) == (0, "quick")


def test_verify_and_restore_refuse_a_file_with_one_changed_byte(cli: Command, made: Path, shop: Database) -> None:
    data = bytearray(made.read_bytes())
    data[len(data) // 3] ^= 1
    made.write_bytes(bytes(data))
    done = cli("backup", "verify", made, "--format", "json")
    assert (done.code, done.error["exit_code"]) == (10, 10)
    assert str(made) in json.dumps(done.error)
    shop.sql("DELETE FROM customers")
    restored = cli("backup", "restore", made, "--database-url", shop.dsn)
    assert (restored.code, shop.sql("SELECT count(*) FROM customers")) == (10, "0")
    assert "Traceback" not in restored.err


def test_a_cut_file_is_refused(cli: Command, made: Path) -> None:
    made.write_bytes(made.read_bytes()[:-1])
    assert cli("backup", "verify", "--level", "quick", made).code == 10


def test_the_folder_for_backups_cannot_be_made(cli: Command, shop: Database) -> None:
    (cli.folder / "file").write_text("")
    done = cli("backup", "create", "--backups", "file/backups", "--database-url", shop.dsn)
    assert (done.code, done.out) == (5, "")
    assert "Traceback" not in done.err
