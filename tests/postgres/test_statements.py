"""Where statements end, and what must not stand in a migration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msr_async.models import Script
from msr_async.postgres.statements import inspect, place, split


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" ;; \n-- only a comment\n/* and ; another */;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' , \"a;b\"; SELECT 2", ["SELECT ';' , \"a;b\"", "SELECT 2"]),
        ("SELECT 'it''s; fine'; SELECT 2", ["SELECT 'it''s; fine'", "SELECT 2"]),
        (r"SELECT E'a\';b'; SELECT 2", [r"SELECT E'a\';b'", "SELECT 2"]),
        (r"SELECT 'a\'; SELECT 2", [r"SELECT 'a\'", "SELECT 2"]),
        ("SELECT $$;$$; SELECT $a$ $b$;$b$ $$;$$ $a$; SELECT 3", ["SELECT $$;$$", "SELECT $a$ $b$;$b$ $$;$$ $a$", "SELECT 3"]),
        ("SELECT a$1$b; SELECT 2", ["SELECT a$1$b", "SELECT 2"]),
        ("SELECT $1; SELECT $2", ["SELECT $1", "SELECT $2"]),
        ("/* a /* nested; */ ; */ SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SELECT 3", ["CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)", "SELECT 3"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3",
            ["CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END", "SELECT 3"],
        ),
        ("SELECT 1 -- end; of it\n; SELECT 2", ["SELECT 1 -- end; of it", "SELECT 2"]),
        ("SELECT 1e5; SELECT naïve; SELECT x'1F'", ["SELECT 1e5", "SELECT naïve", "SELECT x'1F'"]),
        ("SELECT 'unclosed; SELECT 2", ["SELECT 'unclosed; SELECT 2"]),
        ("SELECT $a$unclosed; SELECT 2", ["SELECT $a$unclosed; SELECT 2"]),
        ("SELECT ARRAY[1;2]", ["SELECT ARRAY[1;2]"]),
    ],
)  # fmt: skip
def test_statements_end_where_the_server_ends_them(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


@given(st.text(alphabet="aEe'\"$;-*/()[]\\ \n1_é"))
def test_any_text_is_cut_without_loss_and_offsets_point_into_it(sql: str) -> None:
    for statement in split(sql):
        assert sql[statement.offset :].startswith(statement.text)
        assert statement.text.strip()


def test_a_place_counts_from_one() -> None:
    assert place("ab\ncd", 0) == (1, 1)
    assert place("ab\ncd", 4) == (2, 2)


@pytest.mark.parametrize(
    ("sql", "code", "line"),
    [
        ("SELECT 1;\nCOMMIT;", "transaction-control", 2),
        ("begin;", "transaction-control", 1),
        ("ROLLBACK", "transaction-control", 1),
        ("PREPARE TRANSACTION 'x'", "transaction-control", 1),
        ("\\copy t from 'x'", "psql-command", 1),
        ("COPY t FROM\nSTDIN;", "copy-stdin", 1),
    ],
)
def test_what_cannot_work_in_a_migration_is_refused_with_its_line(sql: str, code: str, line: int) -> None:
    script = Script(path=Path("V1.up.sql"), text=sql, language="sql")
    assert [(issue.code, issue.line) for issue in inspect(script)] == [(code, line)]


def test_savepoints_and_prepared_statements_are_fine() -> None:
    sql = "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; ROLLBACK TO a; RELEASE a; PREPARE p AS SELECT 1; COPY t FROM '/x'"
    assert list(inspect(Script(path=Path("V1.up.sql"), text=sql, language="sql"))) == []
