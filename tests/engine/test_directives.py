"""What scripts say of how they want to be run, and what is said of a directive that makes no sense."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from msr_async._engine.directives import python_directives, sql_directives
from msr_async.models import NO_DIRECTIVES, Directives, Issue

PATH = Path("V202601010001_x.up.sql")


def sql(text: str) -> tuple[Directives, list[tuple[str, str, int | None]]]:
    directives, issues = sql_directives(text, PATH)
    return directives, short(issues)


def python(text: str) -> tuple[Directives, list[tuple[str, str, int | None]]]:
    directives, issues = python_directives(ast.parse(text), text, PATH)
    return directives, short(issues)


def short(issues: tuple[Issue, ...]) -> list[tuple[str, str, int | None]]:
    assert all(issue.path == PATH for issue in issues)
    return [(issue.code, issue.severity, issue.line) for issue in issues]


def test_every_directive_of_sql_is_read() -> None:
    text = "-- msr: lock-timeout=2s, statement-timeout=1h, isolation=serializable, allow=a-b, allow=c\nselect 1;"
    assert sql(text) == (
        Directives(lock_timeout=2.0, statement_timeout=3600.0, isolation="serializable", allow=("a-b", "c")),
        [],
    )


def test_every_directive_of_python_is_read() -> None:
    text = "lock_timeout = '500ms'\nstatement_timeout: float = 0.5\nisolation = 'repeatable_read'\nallow = ['a-b', 'c']"
    assert python(text) == (
        Directives(lock_timeout=0.5, statement_timeout=0.5, isolation="repeatable read", allow=("a-b", "c")),
        [],
    )
    assert python("no_transaction = True\nallow = 'a'") == (Directives(transaction=False, allow=("a",)), [])


@pytest.mark.parametrize("text", ["-- first\r-- msr: no-transaction\rVACUUM;", "--\u00a0msr: no-transaction\nVACUUM;"])
def test_lines_end_as_the_server_has_it_and_any_space_may_stand_before_the_name(text: str) -> None:
    assert sql(text) == (Directives(transaction=False), [])


def test_lines_are_counted_as_an_editor_shows_them() -> None:
    assert sql("-- a\r\n\r-- msr: what\rSELECT 1;") == (NO_DIRECTIVES, [("directive", "error", 3)])
    assert sql("\u00a0-- msr: no-transaction\nVACUUM;") == (NO_DIRECTIVES, [("late-directive", "warning", 1)])
    assert python("import os\r# msr: no-transaction\r") == (NO_DIRECTIVES, [("late-directive", "warning", 2)])


def test_a_code_of_another_tool_can_be_allowed() -> None:
    assert sql("-- msr: allow=squawk:ban-char-field") == (Directives(allow=("squawk:ban-char-field",)), [])


@pytest.mark.parametrize("text", ["no_transaction = False", "lock_timeout = None", "lock_timeout: str", "x = 1"])
def test_a_python_file_may_say_nothing(text: str) -> None:
    directives, issues = python(text)
    assert directives is NO_DIRECTIVES
    assert issues == []


@pytest.mark.parametrize(
    "text",
    [
        "-- msr: no-transaction",
        "--msr:no-transaction",
        "  -- MSR: No-Transaction  \nvacuum;",
        "\n\n-- why\n-- msr: no-transaction\nvacuum;",
        "/* a licence\n/* inside */ -- msr: lock-timeout=1\n*/\n-- msr: no-transaction\nvacuum;",
        "-- one\r\n-- msr: no-transaction\r\nvacuum;",
        "/* a */ /* b */ -- msr: no-transaction\nvacuum;",
        "-- msr: no-transaction,\nvacuum;",
    ],
)
def test_comment_lines_above_the_first_statement_count(text: str) -> None:
    assert sql(text) == (Directives(transaction=False), [])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("vacuum;\n-- msr: no-transaction", 2),
        ("vacuum; -- msr: no-transaction", 1),
        ("-- why\nvacuum;\n  --msr: no-transaction\n", 3),
    ],
)
def test_a_directive_below_the_first_statement_is_a_warning(text: str, line: int) -> None:
    assert sql(text) == (NO_DIRECTIVES, [("late-directive", "warning", line)])


@pytest.mark.parametrize(
    "text", ["-- a word on msr: nothing\nselect 1;", "select 'msr: no-transaction';", "", "/* msr:"]
)
def test_other_words_are_no_directives(text: str) -> None:
    assert sql(text) == (NO_DIRECTIVES, [])


def test_a_comment_in_python_is_a_warning() -> None:
    assert python("import os\n# msr: no-transaction\n") == (NO_DIRECTIVES, [("late-directive", "warning", 2)])


@pytest.mark.parametrize(
    "directive",
    [
        "hurry",
        "hurry=1",
        "",
        "no-transaction=yes",
        "lock-timeout",
        "lock-timeout=",
        "lock-timeout=soon",
        "lock-timeout=-1",
        "lock-timeout=2 days",
        "lock-timeout=1m",
        "lock-timeout=1000h",
        "lock-timeout=1s, lock-timeout=1s",
        "lock_timeout=1s",
        "isolation",
        "isolation=snapshot",
        "allow",
        "allow=",
        "allow=A B",
        "allow=a, allow=a",
        "no-transaction, isolation=serializable",
    ],
)
def test_a_directive_that_makes_no_sense_is_an_error_at_its_line(directive: str) -> None:
    _, issues = sql(f"-- why\n-- msr: {directive}\nselect 1;")
    assert issues == [("directive", "error", 2)]


@pytest.mark.parametrize(
    "attribute",
    [
        "no_transaction = 1",
        "lock_timeout = 'soon'",
        "lock_timeout = True",
        "lock_timeout = -1",
        "lock_timeout = 1e400",
        "lock_timeout = compute()",
        "isolation = 3",
        "allow = 3",
        "allow = ['a', 3]",
        "allow = {'a': 1}",
    ],
)
def test_an_attribute_that_makes_no_sense_is_an_error_at_its_line(attribute: str) -> None:
    assert python(f"import os\n{attribute}")[1] == [("directive", "error", 2)]


def test_an_attribute_set_twice_is_an_error() -> None:
    assert python("lock_timeout = 1\nlock_timeout = 2")[1] == [("directive", "error", 2)]


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("0", 0.0), ("1.5", 1.5), ("500ms", 0.5), ("2s", 2.0), ("2 s", 2.0), ("1min", 60.0), ("1h", 3600.0)],
)
def test_times_are_seconds_in_the_end(given: str, seconds: float) -> None:
    assert sql(f"-- msr: lock-timeout={given}")[0].lock_timeout == seconds


@pytest.mark.parametrize("given", ["repeatable read", "repeatable-read", "Repeatable_Read"])
def test_an_isolation_level_may_be_written_in_several_ways(given: str) -> None:
    assert sql(f"-- msr: isolation={given}")[0].isolation == "repeatable read"


def test_messages_say_what_to_do() -> None:
    _, issues = sql_directives("-- msr: hurry\n-- msr: lock-timeout=soon\nselect 1;", PATH)
    assert [str(issue) for issue in issues] == [
        "V202601010001_x.up.sql:1: There is no directive 'hurry'. There are: allow, isolation, lock-timeout, "
        "no-transaction, statement-timeout. [directive]",
        "V202601010001_x.up.sql:2: The directive 'lock-timeout' has 'soon'. Give a time such as 500ms, 2s, 1min, 1h, "
        "or seconds as a number; 0 waits without end. [directive]",
    ]
