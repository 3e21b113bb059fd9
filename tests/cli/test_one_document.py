"""With `--format json` every command prints one document on standard output and nothing else, failures too."""

from __future__ import annotations

from tests.cli.command import Command
from tests.cli.test_page import COMMANDS
from tests.support.servers import Database, only_newest

FIRST = 202601010900


@only_newest
def test_behaviour_43_every_command_prints_one_document(cli: Command, database: Database) -> None:
    cli.write(f"V{FIRST}_one.up.sql", "CREATE TABLE one (id int); DO $$ BEGIN RAISE NOTICE 'hello'; END $$;")
    cli.write(f"V{FIRST}_one.down.sql", "DROP TABLE one;")
    asked = {
        "new": ("two",),
        "plan": (),
        "validate": (),
        "migrate": (),
        "status": (),
        "repair": (),
        "lock status": (),
        "lock release": ("--yes",),
        "backup create": (),
        "backup list": (),
        "backup inspect": (),
        "backup verify": (),
        "backup restore": (),
        "down": (0, "--yes"),
        "baseline": (FIRST,),
    }
    of_firestore = {"backup export", "backup import"}  # test_exporting.py
    assert sorted(asked) == sorted(set(COMMANDS) - {"demo"} - of_firestore)
    for command, arguments in asked.items():
        where = () if command in ("new", "backup list", "backup inspect", "backup verify") else database.dsn
        url = ("--database-url", where) if where else ()
        done = cli(*command.split(), *arguments, "--format", "json", *url)
        assert done.code == 0, (command, done.err)
        assert isinstance(done.document, dict), command


@only_newest
def test_behaviour_43_a_failure_is_one_document_too(cli: Command, database: Database) -> None:
    cli.write(f"V{FIRST}_bad.up.sql", "SELECT 1;\nSELECT 1 / 0;")
    done = cli("migrate", "--mode", "manual", "--format", "json", "--database-url", database.dsn)
    assert (done.code, done.error["exit_code"]) == (3, 3)
    assert f"V{FIRST}_bad.up.sql:2:1: division by zero" in done.error["message"]
    assert done.error["result"]["failed"]["name"] == "bad"
