"""Where statements end, and what must not stand in a migration."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msr_async.models import Directives, Script
from msr_async.postgres.kinds import inspect, leaves_traces, needs_no_transaction, outside
from msr_async.postgres.lexing import SPACE
from msr_async.postgres.remembering import remembering
from msr_async.postgres.statements import _split, _split_plain, place, split


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
        ("SELECT 1; /* unclosed; SELECT 2", ["SELECT 1", "/* unclosed; SELECT 2"]),
        ("-- a\rSELECT 1; -- b\rSELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT $$\r$$ -- a\rFROM t; SELECT 2;", ["SELECT $$\r$$ -- a\rFROM t", "SELECT 2"]),
        ("SELECT E'a' -- it's\n '\\';'; SELECT 2", ["SELECT E'a' -- it's\n '\\';'", "SELECT 2"]),
        ("SELECT E'a' '\\'; SELECT 2", ["SELECT E'a' '\\'", "SELECT 2"]),
        ("SELECT a€$$;$$ FROM \u00a0; SELECT 2", ["SELECT a€$$", "$$ FROM \u00a0; SELECT 2"]),
        ("SELECT 1; \u00a0;\x85", ["SELECT 1", "\u00a0", "\x85"]),
    ],
)  # fmt: skip
def test_statements_end_where_the_server_ends_them(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


@given(st.text(alphabet="aEe'\"$;-*/()[]\\ \n\r1_é\u00a0"))
def test_any_text_is_cut_without_loss_and_offsets_point_into_it(sql: str) -> None:
    for statement in split(sql):
        assert sql[statement.offset :].startswith(statement.text)
        assert statement.text.strip(SPACE)


def test_a_place_counts_from_one() -> None:
    assert place("ab\ncd", 0) == (1, 1)
    assert place("ab\ncd", 4) == (2, 2)
    assert place("ab\r\ncd\re", 5) == (2, 2)
    assert place("ab\r\ncd\re", 7) == (3, 1)
    assert place("\n\r\n\r\r", 5) == (5, 1)


@pytest.mark.parametrize(
    ("sql", "code", "line"),
    [
        ("SELECT 1;\nCOMMIT;", "transaction-control", 2),
        ("begin;", "transaction-control", 1),
        ("ROLLBACK", "transaction-control", 1),
        ("PREPARE TRANSACTION 'x'", "transaction-control", 1),
        ("\\copy t from 'x'", "psql-command", 1),
        ("COPY t FROM\nSTDIN;", "copy-stdin", 1),
        ("SELECT 1;\nDISCARD ALL", "discard-all", 2),
        ("SELECT 1;\nSELECT '\0'", "nul-character", 2),
        ("SELECT 1; -- old Mac\rCOMMIT;\rSELECT 2;", "transaction-control", 2),
        ("SELECT E'a'\n'\\''; COMMIT; SELECT ' ' '" + "'';", "transaction-control", 2),
    ],
)
def test_what_cannot_work_in_a_migration_is_refused_with_its_line(sql: str, code: str, line: int) -> None:
    script = Script(path=Path("V1.up.sql"), text=sql, language="sql")
    assert [(issue.code, issue.line) for issue in inspect(script)] == [(code, line)]


def test_savepoints_and_prepared_statements_are_fine() -> None:
    sql = "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; ROLLBACK TO a; RELEASE a; PREPARE p AS SELECT 1; COPY t FROM '/x'"
    assert list(inspect(Script(path=Path("V1.up.sql"), text=sql, language="sql"))) == []


@given(st.text(alphabet="ab1e;\n\r (_é-\u00a0\x1c"))
def test_plain_text_is_cut_the_quick_way_as_the_slow_way_cuts_it(sql: str) -> None:
    quick = _split_plain(sql)
    assert quick is None or quick == tuple(_split(sql))


def test_comments_do_not_slow_plain_text_down() -> None:
    sql = "-- first; of all\nSELECT 1; -- more; of it\nSELECT 2 -- the end;"
    assert _split_plain(sql) == tuple(_split(sql))


def test_parentheses_that_hide_a_semicolon_are_left_to_the_slow_way() -> None:
    assert _split_plain("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)") is None


@pytest.mark.parametrize(
    ("sql", "closed"),
    [
        ("SELECT 'a''b'", True),
        ("SELECT 'a''", False),
        ("SELECT E'a\\'", False),
        ("SELECT E'a\\'b'", True),
        ('SELECT "a', False),
        ("SELECT $a$ $b$", False),
        ("SELECT $a$ $b$ $a$", True),
        ("SELECT 1 /* /* */", False),
        ("SELECT 1 /* /* */ */ -- '", True),
    ],
)
def test_a_quote_or_comment_without_an_end_is_noticed(sql: str, closed: bool) -> None:
    (statement,) = split(sql)
    assert statement.closed is closed


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "create unique index concurrently if not exists i on t (a)",
        "CREATE INDEX CONCURRENTLY ON t (a)",
        "DROP INDEX CONCURRENTLY IF EXISTS i",
        "REINDEX TABLE CONCURRENTLY t",
        "REINDEX (VERBOSE) INDEX CONCURRENTLY i",
        "REINDEX (CONCURRENTLY) TABLE t",
        "REINDEX (CONCURRENTLY true, VERBOSE) TABLE t",
        "REINDEX SCHEMA s",
        "REINDEX (VERBOSE) DATABASE",
        "REINDEX SYSTEM",
        "VACUUM",
        "VACUUM (FULL) t",
        "CLUSTER",
        "CLUSTER VERBOSE",
        "CLUSTER (VERBOSE)",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "CREATE DATABASE d",
        "DROP DATABASE IF EXISTS d",
        "ALTER DATABASE d SET TABLESPACE s",
        "CREATE TABLESPACE s LOCATION '/x'",
        "DROP TABLESPACE s",
        "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
        "DROP SUBSCRIPTION s",
        "ALTER SUBSCRIPTION s REFRESH PUBLICATION",
        "ALTER SUBSCRIPTION s SET PUBLICATION p",
        "ALTER TABLE IF EXISTS ONLY s.t DETACH PARTITION p CONCURRENTLY",
    ],
)
def test_what_refuses_a_transaction_is_known(sql: str) -> None:
    (statement,) = split(sql)
    assert outside(statement)
    script = Script(path=Path("V1.up.sql"), text=sql, language="sql")
    assert needs_no_transaction(script)
    assert list(inspect(script)) == []


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON t (a)",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "REINDEX TABLE t",
        "REINDEX (CONCURRENTLY false) TABLE t",
        "CLUSTER t",
        "CLUSTER (VERBOSE) t USING i",
        "ALTER TABLE t DETACH PARTITION p",
        "ALTER TABLE t DETACH PARTITION p FINALIZE",
        "ALTER DATABASE d SET work_mem = '1MB'",
        "ALTER DATABASE d RENAME TO e",
        "ALTER SUBSCRIPTION s DISABLE",
        "ALTER SUBSCRIPTION s SET PUBLICATION p WITH (refresh = false)",
        "ALTER TYPE e ADD VALUE 'x'",
        "SELECT 'VACUUM', 'CREATE INDEX CONCURRENTLY'",
        "-- VACUUM\nSELECT 1",
        "CREATE TABLE vacuum_log (id int)",
    ],
)
def test_what_runs_in_a_transaction_is_left_there(sql: str) -> None:
    assert not needs_no_transaction(Script(path=Path("V1.up.sql"), text=sql, language="sql"))


def test_a_script_that_mixes_both_is_warned_of_unless_it_says_so() -> None:
    text = "CREATE TABLE t (id int);\nVACUUM t;"
    plain = Script(path=Path("V1.up.sql"), text=text, language="sql")
    knowing = Script(path=Path("V1.up.sql"), text=text, language="sql", directives=Directives(transaction=False))
    (issue,) = inspect(plain)
    assert (issue.code, issue.severity, issue.line) == ("mixed-transaction", "warning", 2)
    assert list(inspect(knowing)) == []


def test_a_script_that_says_so_runs_outside_whatever_it_holds() -> None:
    for language in ("sql", "py"):
        script = Script(path=Path("V1"), text="", language=language, directives=Directives(transaction=False))
        assert needs_no_transaction(script)


@pytest.mark.parametrize(
    ("sql", "traces"),
    [
        ("CREATE TABLE t (id int)", False),
        ("INSERT INTO t VALUES (1)", False),
        ("CREATE TEMP TABLE t (id int)", True),
        ("CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1", True),
        ("CREATE TABLE pg_temp.t (id int)", True),
        ("SET ROLE a", True),
        ("SELECT set_config('a.b', '1', false)", True),
        ("DO $$ BEGIN END $$", True),
        ("CREATE EXTENSION x", True),
        ("(SELECT 1)", True),
    ],
)
def test_what_may_leave_something_in_the_session(sql: str, traces: bool) -> None:
    (statement,) = split(sql)
    assert leaves_traces(statement) is traces


def test_what_is_remembered_of_texts_is_bounded_by_their_length() -> None:
    calls: list[int] = []
    ask = remembering(lambda text: calls.append(len(text)))
    for text in ("a", "a" * 1_000_000, "a", "a" * 1_000_000, *("a" * 4_000_000 + str(n) for n in range(9)), "a"):
        ask(text)
    assert calls == [1, 1_000_000] + [4_000_001] * 9
    ask("a" * 1_000_000)
    assert calls[-1] == 1_000_000, "the longer ones took its place"
    for _ in range(2):
        ask("a" * 5_000_000)
    assert calls[-2:] == [5_000_000] * 2


def test_a_long_string_needs_no_more_memory_than_itself() -> None:
    text = "SELECT '" + "a''" * 500_000 + "'; SELECT E'" + "a\\'" * 500_000 + "'"
    tracemalloc.start()
    assert len(split(text)) == 2
    assert tracemalloc.get_traced_memory()[1] < 3 * len(text)
    tracemalloc.stop()
