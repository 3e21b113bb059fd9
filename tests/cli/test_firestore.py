"""The command line on Firestore: how a database is named, what is carried, and what each mode of a restore leaves."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.command import Command, Outcome
from tests.cli.terminal import on_a_terminal
from tests.firestore.filed import document, filed
from tests.support.firestore import target
from tests.support.firestore_server import FirestoreServer

SHOP = {
    path: document(path, name=path)
    for path in ("carts/1", "users/a", "users/a/orders/1", "users/a/orders/2", "users/b", "zoo/bear")
}


@dataclass(frozen=True, kw_only=True)
class Store:
    """A database of Firestore, filled and looked at by the command line alone."""

    cli: Command
    project: str
    address: str

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--project", self.project, "--emulator", self.address)

    @property
    def url(self) -> str:
        return f"firestore://{self.project}?emulator={self.address}"

    def __call__(self, *arguments: object) -> Outcome:
        return self.cli(*arguments, *self.flags, "--environment", "development")

    def put(self, documents: Mapping[str, bytes], *more: str) -> Outcome:
        """Restore a backup that holds these."""
        made = asyncio.run(filed(self.cli.folder / secrets.token_hex(4), documents))
        done = self("backup", "restore", made.path, *more)
        assert done.code == 0, done.err
        return done

    def holds(self, *more: str) -> dict[str, str]:
        """The text in each document's first field, by path."""
        made = self("backup", "create", "--backups", "looked", *more)
        assert made.code == 0, made.err
        lines = self.cli("backup", "export", made.out.strip(), "--output", "-").out.splitlines()[1:-1]
        found = [json.loads(line) for line in lines]
        texts = {item["name"].partition("/documents/")[2]: item.get("fields", {}) for item in found}
        return {path: ",".join(str(*value.values()) for value in fields.values()) for path, fields in texts.items()}

    def mark(self, **values: str) -> None:
        """Write the mark of a restore. In a process of its own: grpc's threads stay with one event loop."""
        command = [sys.executable, "-c", _MARK, self.project, self.address, json.dumps(values)]
        subprocess.run(command, check=True, timeout=60)


_MARK = """
import asyncio, json, sys
from msr_async.firestore import FirestoreHandler

async def main(project, address, values):
    async with FirestoreHandler(project, emulator=address) as handler:
        await handler.db.document("schema_version_lock/restore").set(json.loads(values))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def store(cli: Command, firestore_server: FirestoreServer) -> Store:
    """An empty project on our own server: these tests are about the command line, and Google's takes longer."""
    made = target(firestore_server.address, firestore_server)
    return Store(cli=cli, project=made.project, address=made.address)


@pytest.fixture
def shop(store: Store) -> Store:
    store.put(SHOP)
    return store


def paths(documents: Mapping[str, object], *without: str) -> list[str]:
    return sorted(path for path in documents if not path.startswith(without or ("-",)))


# -- naming a database -----------------------------------------------------------------------------


def test_flags_a_url_and_variables_name_the_same_database(shop: Store) -> None:
    by_variables = {"MSR_FIRESTORE_PROJECT": shop.project, "FIRESTORE_EMULATOR_HOST": shop.address}
    ways: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (shop.flags, {}),
        (("--database-url", shop.url), {}),
        ((), by_variables),
        ((), {"DATABASE_URL": shop.url}),
        (("--project", shop.project), {"FIRESTORE_EMULATOR_HOST": shop.address, "DATABASE_URL": "postgresql://h/x"}),
    ]
    for arguments, env in ways:
        done = shop.cli("backup", "create", "--format", "json", *arguments, env=env)
        assert (done.code, done.document["rows"], done.document["kind"]) == (0, 6, "firestore"), done.err


@pytest.mark.parametrize("way", ["flag", "url", "variable"])
def test_another_database_of_the_project_is_another_database(shop: Store, way: str) -> None:
    project, address = shop.project, shop.address
    ways: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
        "flag": ((*shop.flags, "--database", "other"), {}),
        "url": (("--database-url", f"firestore://{project}/other?emulator={address}"), {}),
        "variable": (shop.flags, {"MSR_FIRESTORE_DATABASE": "other"}),
    }
    arguments, env = ways[way]
    done = shop.cli("backup", "create", "--format", "json", *arguments, env=env)
    assert (done.code, done.document["rows"]) == (0, 0), done.err


def test_two_names_at_once_are_refused(store: Store) -> None:
    done = store.cli("status", "--database-url", store.url, "--project", store.project)
    assert (done.code, done.out) == (2, "")
    assert "--database-url and --project name a database each" in done.err


@pytest.mark.parametrize("name", ["gone.json", "broken.json"])
def test_credentials_that_cannot_be_used_are_refused(cli: Command, name: str) -> None:
    (cli.folder / "broken.json").write_text("{}")
    done = cli("status", "--project", "shop-1", "--credentials", name)
    assert done.code == 2
    assert name in done.err
    assert "Traceback" not in done.err


def test_an_emulator_that_does_not_run_is_one_sentence(cli: Command) -> None:
    done = cli("backup", "create", "--project", "shop-1", "--emulator", "127.0.0.1:1")
    assert (done.code, done.out) == (7, "")
    assert "127.0.0.1:1" in done.err
    assert "Traceback" not in done.err


# -- backups ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ((), paths(SHOP)),
        (("--include", "users"), paths(SHOP, "carts", "zoo")),
        (("--include", "users/a", "--include", "zoo"), paths(SHOP, "carts", "users/b")),
        (("--exclude", "users/*/orders"), paths(SHOP, "users/a/orders")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_selection(shop: Store, flags: tuple[str, ...], left: list[str]) -> None:
    assert sorted(shop.holds(*flags)) == left


def test_progress_and_inspection_speak_of_documents(shop: Store) -> None:
    made = shop("backup", "create")
    assert "backup: 6 documents, " in made.err
    shown = shop.cli("backup", "inspect", made.out.strip()).out
    assert ["orders", "2"] in [line.split() for line in shown.splitlines()]
    assert "holds    every document" in shown


# -- restores --------------------------------------------------------------------------------------

OLD = {"users/a": document("users/a", name="old", more="kept"), "users/c": document("users/c", name="c")}
NEW = {"users/a": document("users/a", name="new"), "users/b": document("users/b", name="b")}


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ((), {"users/a": "new", "users/b": "b"}),
        (("--mode", "replace"), {"users/a": "new", "users/b": "b"}),
        (("--mode", "overwrite"), {"users/a": "new", "users/b": "b", "users/c": "c"}),
        (("--mode", "merge"), {"users/a": "kept,new", "users/b": "b", "users/c": "c"}),
        (("--mode", "create"), {"users/a": "kept,old", "users/b": "b", "users/c": "c"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_behaviour_of_each_mode(store: Store, flags: tuple[str, ...], left: dict[str, str]) -> None:
    store.put(OLD)
    done = store.put(NEW, *flags)
    assert "2 documents" in done.out
    assert store.holds() == left


def test_postgresqls_mode_is_the_only_one_that_it_has(cli: Command, store: Store) -> None:
    done = store("backup", "restore", "x.msrbak", "--mode", "sideways")
    assert (done.code, "sideways" in done.err) == (2, True)


def test_what_may_not_be_overwritten_is_named_and_can_be_confirmed(shop: Store) -> None:
    made = asyncio.run(filed(shop.cli.folder / "made", NEW))
    refused = shop.cli("backup", "restore", made.path, *shop.flags)
    assert refused.code == 11
    label = f"{shop.project}/(default)@{shop.address}"
    assert label in refused.err
    assert len(shop.holds()) == 6
    wrong = shop.cli("backup", "restore", made.path, *shop.flags, "--confirm-target", "other@h")
    assert wrong.code == 11
    done = shop.cli("backup", "restore", made.path, *shop.flags, "--confirm-target", label)
    assert done.code == 0, done.err
    assert sorted(shop.holds()) == ["users/a", "users/b"]


@pytest.mark.parametrize("command", [("status",), ("migrate",), ("backup", "create")], ids=" ".join)
def test_a_restore_that_has_not_come_to_its_end_stops_everything_else(
    shop: Store, command: tuple[str, ...], tmp_path: Path
) -> None:
    shop.cli.write("V202601010900_one.py", "async def up(db, ctx): ...\n")
    shop.mark(backup="b-1", mode="replace", holder="somebody")
    done = shop(*command)
    assert (done.code, done.out) == (6, "")
    assert "in the middle of a restore of the backup b-1" in done.err
    shop.put(NEW)
    assert shop(*command).code == 0


@pytest.mark.parametrize(
    ("mode", "words", "counts"),
    [
        ("replace", "{name} holds what {path} held: 2 documents, ", (2, 0, 1, 0)),
        (
            "overwrite",
            "{path} was written over what {name} held, and the rest of it stays: 2 documents, ",
            (2, 0, 0, 0),
        ),
        ("merge", "the fields in {path} were written into {name}, and all others stay: 2 documents, ", (2, 0, 0, 0)),
        ("create", "{name} was given what it did not have of {path}: 2 documents, ", (1, 0, 0, 1)),
    ],
)
def test_what_a_restore_has_done_is_said_as_its_mode_is(
    store: Store, mode: str, words: str, counts: tuple[int, int, int, int]
) -> None:
    store.put(OLD)
    told = dict(zip(("written", "unchanged", "deleted", "kept"), counts, strict=True))
    in_words = ", ".join(f"{number} {word}" for word, number in told.items() if number)
    made = asyncio.run(filed(store.cli.folder / "made", NEW)).path
    done = store("backup", "restore", made, "--mode", mode)
    (line,) = done.out.splitlines()
    wanted = (
        re.escape(words).replace(r"\{name\}", f"Firestore {store.project}.*").replace(r"\{path\}", re.escape(f"{made}"))
    )
    assert re.fullmatch(rf"{wanted}.* \({in_words}\)\.", line)
    assert ("checked" if mode == "replace" else f"mode {mode}: {in_words}") in done.err
    store.put(OLD)
    shown = store("backup", "restore", made, "--mode", mode, "--format", "json").document
    assert {key: shown[key] for key in told} == told
    assert (shown["mode"], shown["rows"]) == (mode, 2)


def test_a_restore_that_nobody_will_finish_is_given_up_with_consent(shop: Store) -> None:
    shop.mark(backup="b-1", mode="create", holder="somebody")
    (shop.cli.folder / "migrations").mkdir()
    asked = shop("lock", "release", "--restore-mark")
    assert asked.code == 2
    assert "in the middle of a restore of the backup b-1 (mode create, by somebody)" in asked.err
    assert "the database stays as it is, partly restored" in asked.err
    assert shop("status").code == 6
    assert "--restore-mark" in shop("status").err
    with on_a_terminal(shop.cli.folder, "lock", "release", "--restore-mark", *shop.flags) as terminal:
        terminal.wait_for("Give it up? The database stays as it is, partly restored, and is used like that. [y/N]")
        terminal.type("n\n")
        assert terminal.end() == 1
    assert shop("status").code == 6
    done = shop("lock", "release", "--restore-mark", "--yes", "--format", "json")
    assert done.code == 0, done.out + done.err
    assert (done.document["ended"], done.document["given_up"]["backup"]) == (None, "b-1")
    assert shop("status").code == 0
    assert sorted(shop.holds()) == paths(SHOP)
    again = shop("lock", "release", "--restore-mark")
    assert (again.code, again.out.endswith("no restore is unfinished.\n")) == (0, True)


# -- migrations ------------------------------------------------------------------------------------

RENAME = """
async def up(db, ctx):
    bear = await ctx.handler.db.document("zoo/bear").get()
    db.update(bear.reference, {"name": "Balu"})

async def down(db, ctx):
    db.update(ctx.handler.db.document("zoo/bear"), {"name": "zoo/bear"})
"""
RUIN = """
no_transaction = True

async def up(db, ctx):
    async for user in db.collection("users").stream():
        await user.reference.delete()
    raise RuntimeError("on purpose")
"""


def test_migrate_status_and_down(shop: Store) -> None:
    shop.cli.write("V202601010900_rename.py", RENAME)
    assert shop("status", "--check").code == 9
    assert shop("migrate", "--dry-run").code == 0
    assert shop.holds()["zoo/bear"] == "zoo/bear"
    done = shop("migrate")
    assert done.code == 0, done.err
    assert "1 migration applied" in done.out
    assert shop.holds("--include", "zoo") == {"zoo/bear": "Balu"}
    assert shop("status", "--check").code == 0
    assert shop("lock", "status").code == 0
    assert shop("down", "0", "--yes").code == 0
    assert shop.holds("--include", "zoo") == {"zoo/bear": "zoo/bear"}


def test_a_migration_that_fails_is_undone_by_the_backup(shop: Store) -> None:
    shop.cli.write("V202601010900_rename.py", RENAME)
    shop.cli.write("V202601020900_ruin.py", RUIN)
    before = shop.holds()
    done = shop("migrate")
    assert done.code == 3
    assert "restored: 6 documents" in done.err
    assert shop.holds() == before


def test_sql_is_refused(shop: Store) -> None:
    shop.cli.write("V202601010900_one.up.sql", "SELECT 1;")
    done = shop("migrate")
    assert done.code == 2
    assert "no-sql" in done.err
