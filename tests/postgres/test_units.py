"""How a unit of work begins, and how a whole migration becomes one message: decided without a server."""

from __future__ import annotations

import pytest

from msr_async.errors import ConfigError
from msr_async.postgres import PostgresHandler
from msr_async.postgres.messages import Piece, Place, compose, fits, joins
from msr_async.postgres.statements import split
from msr_async.postgres.units import inner_settings, opening, outer_settings
from msr_async.protocols import WorkOptions


def begin(options: WorkOptions, *, pooled: bool = False, fence: int | None = None, major: int = 18) -> str:
    return opening(options, pooled=pooled, fence=fence, major=major)


def test_a_unit_without_wishes_just_begins() -> None:
    assert begin(WorkOptions()) == "BEGIN"
    assert outer_settings(WorkOptions()) == ""


def test_wishes_are_said_in_the_transaction_and_the_fence_waits_no_longer_than_a_lock() -> None:
    options = WorkOptions(isolation="repeatable read", lock_timeout=1.5, statement_timeout=0, durable=False)
    assert begin(options, fence=-7) == (
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = 1500; SET LOCAL statement_timeout = 0; "
        "SET LOCAL synchronous_commit = off; SELECT pg_catalog.pg_advisory_xact_lock(-7)"
    )


def test_a_little_time_is_never_no_limit() -> None:
    assert outer_settings(WorkOptions(lock_timeout=0.0001, statement_timeout=0)) == (
        "SET lock_timeout = 1; SET statement_timeout = 0"
    )


def test_through_a_proxy_everything_is_local_and_no_setting_is_unknown_to_the_server() -> None:
    for major in (15, 16, 17, 18):
        said = inner_settings(WorkOptions(lock_timeout=1), pooled=True, fence=1, major=major).split("; ")
        assert all(words.startswith("SET LOCAL ") for words in said[:-1])
        assert ("SET LOCAL transaction_timeout = 0" in said) is (major >= 17)


def piece(script: str, record: str = "INSERT INTO h") -> Piece:
    return Piece(begin="BEGIN", statements=split(script), record=record)


def test_a_single_plain_statement_is_sent_without_marks() -> None:
    message = compose([piece("CREATE TABLE t (id int) -- the end")], "RESET ROLE")
    assert message.text == "BEGIN;\nCREATE TABLE t (id int) -- the end\n;\nINSERT INTO h;\nCOMMIT;\n"


def test_every_character_of_a_statement_is_found_again() -> None:
    pieces = [
        piece("SELECT 1; INSERT INTO t VALUES ('é');\n  SELECT 3", "INSERT INTO h VALUES (1)"),
        piece("", "INSERT INTO h VALUES (2)"),
        piece("UPDATE t SET a = '漢'; DELETE FROM t", "INSERT INTO h VALUES (3)"),
    ]
    message = compose(pieces, "RESET ROLE")
    for number, one in enumerate(pieces):
        for statement in one.statements:
            start = message.text.index(statement.text)
            for into in range(len(statement.text)):
                assert message.place(start + into) == Place(piece=number, statement=statement, into=into)
        ours = Place(piece=number, statement=None)
        assert message.place(message.text.index(one.record)) == ours
        assert message.place(message.text.index(one.record) + len(one.record)) == ours
    assert message.place(0) == Place(piece=0, statement=None)
    assert message.text.count("RESET ROLE") == 1, "a SELECT may have changed the role; an UPDATE has not"
    assert message.text.count("BEGIN") == message.text.count("COMMIT") == 3


@pytest.mark.parametrize(
    ("script", "joined"),
    [
        ("CREATE TABLE t (id int REFERENCES u ON DELETE CASCADE ON UPDATE CASCADE)", True),
        ("INSERT INTO t VALUES (';'); UPDATE t SET id = 2", True),
        ("-- nothing", True),
        ("CREATE TABLE IF NOT EXISTS t (id int)", False),
        ("DROP TABLE if  exists t", False),
        ("DROP TABLE t CASCADE", False),
        ("SELECT 1", False),
        ("DO $$ BEGIN END $$", False),
        ("SET search_path = a", False),
        ("CREATE TEMP TABLE t (id int)", False),
        ("CREATE TABLE t (id int); COMMIT", False),
        ("BEGIN; CREATE TABLE t (id int)", False),
        ("CREATE TABLE t (name text DEFAULT 'open)", False),
        ("COPY t FROM '/x'", False),
        ("\\d t", False),
        ("DELETE FROM t;" * 32, True),
        ("DELETE FROM t;" * 33, False),
    ],
)
def test_only_quiet_scripts_that_leave_nothing_behind_share_a_message(script: str, joined: bool) -> None:
    assert joins(script) is joined


@pytest.mark.parametrize(
    ("script", "fitting"),
    [
        ("", True),
        ("SELECT 1;" * 32, True),
        ("SELECT 1;" * 33, False),
        ("COPY t FROM '/x'", True),
        ("TRUNCATE t; COPY t FROM '/x' (FREEZE)", False),
        ("SAVEPOINT a; RELEASE a", False),
        ("SET TRANSACTION READ ONLY; SELECT 1", False),
        ("SET TRANSACTION READ ONLY", True),
        ("SELECT 'open", False),
    ],
)
def test_what_goes_in_one_message(script: str, fitting: bool) -> None:
    assert fits(split(script), len(script)) is fitting


def test_a_very_long_script_does_not() -> None:
    assert not fits(split("SELECT 1"), 1_000_001)


def test_a_handler_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "MSR_DATABASE_URL", "MSR_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="DATABASE_URL is not set"):
        PostgresHandler.from_env()
    monkeypatch.setenv("DATABASE_URL", "postgresql://a@one/x")
    assert PostgresHandler.from_env().name == "PostgreSQL x@one"
    assert PostgresHandler.from_env().environment is None
    monkeypatch.setenv("MSR_DATABASE_URL", "postgresql://a@two/y")
    monkeypatch.setenv("MSR_ENVIRONMENT", "staging")
    assert PostgresHandler.from_env().name == "PostgreSQL y@two"
    assert PostgresHandler.from_env().environment == "staging"
