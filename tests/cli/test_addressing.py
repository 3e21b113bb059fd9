"""Which database flags and variables name together, and which of them contradict each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async.cli.addressing import Address, UsageError, address
from msr_async.cli.options import Shared
from msr_async.errors import ConfigError

POSTGRES = "postgresql://h/x"
FIRESTORE = "firestore://p/d"


def test_a_url_or_a_project() -> None:
    assert address(Shared(database_url=POSTGRES), {}) == Address(url=POSTGRES)
    assert address(Shared(project="p", database="d"), {}) == Address(project="p", database="d")


def test_a_firestore_url_takes_credentials_or_the_emulator_of_the_variable() -> None:
    environ = {"FIRESTORE_EMULATOR_HOST": "h:1"}
    shared = Shared(database_url=FIRESTORE, emulator="h:1")
    assert address(shared, environ) == Address(url=FIRESTORE, emulator="h:1")
    shared = Shared(database_url=FIRESTORE, credentials=Path("key.json"), emulator="h:1")
    assert address(shared, environ) == Address(url=FIRESTORE, credentials=Path("key.json"))


def test_credentials_mean_google_and_not_the_variables_emulator() -> None:
    shared = Shared(project="p", credentials=Path("key.json"), emulator="h:1")
    meant = Address(project="p", credentials=Path("key.json"))
    assert address(shared, {"FIRESTORE_EMULATOR_HOST": "h:1"}) == meant


def test_a_flag_wins_over_the_other_ways_variable() -> None:
    shared = Shared(database_url=POSTGRES, project="p", emulator="h:1")
    assert address(shared, {"DATABASE_URL": POSTGRES, "FIRESTORE_EMULATOR_HOST": "h:1"}).project == "p"
    assert address(shared, {"MSR_FIRESTORE_PROJECT": "p", "FIRESTORE_EMULATOR_HOST": "h:1"}) == Address(url=POSTGRES)


def test_a_postgresql_url_of_a_variable_does_not_mind_firestores_variables() -> None:
    shared = Shared(database_url=POSTGRES, emulator="h:1", database="d")
    environ = {"DATABASE_URL": POSTGRES, "FIRESTORE_EMULATOR_HOST": "h:1", "MSR_FIRESTORE_DATABASE": "d"}
    assert address(shared, environ) == Address(url=POSTGRES)


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        (Shared(database_url=FIRESTORE, project="p"), "--database-url and --project name a database each"),
        (Shared(database_url=FIRESTORE, database="d"), "--database-url and --database name a database each"),
        (Shared(database_url=FIRESTORE, emulator="h:1"), "--database-url and --emulator name a database each"),
        (Shared(database_url=POSTGRES, credentials=Path("key.json")), "--credentials is for Firestore"),
        (Shared(project="p", credentials=Path("k"), emulator="h:1"), "An emulator takes no credentials"),
        (Shared(database="d"), "--database alone does not name a database"),
        (Shared(emulator="h:1"), "--emulator alone does not name a database"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(shared: Shared, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        address(shared, {})


def test_two_variables_that_name_a_database_each_are_refused() -> None:
    shared = Shared(database_url=POSTGRES, project="p")
    with pytest.raises(UsageError, match="Two databases are set"):
        address(shared, {"DATABASE_URL": POSTGRES, "MSR_FIRESTORE_PROJECT": "p"})


@pytest.mark.parametrize("shared", [Shared(), Shared(database_url=""), Shared(project="")])
def test_no_database_at_all_is_said(shared: Shared) -> None:
    with pytest.raises(ConfigError, match=r"No database was named\. Pass --database-url .* or --project PROJECT"):
        address(shared, {"MSR_FIRESTORE_PROJECT": ""})
