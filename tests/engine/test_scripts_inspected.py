"""What is said of a Python migration before it runs, from its text alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async import Issue, Script
from msr_async._engine.validating import inspect_python, inspector

GOOD = "async def up(db, ctx):\n    pass\n"
DATA = "@batches(size=10)\nasync def data(db, ctx, batch): ...\n"


def python(text: str) -> Script:
    return Script(path=Path("V202601010001_x.py"), text=text, language="py")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "async def up(db, ctx, /): ...",
        "async def up(db, ctx, more=1): ...",
        "async def up(*args): ...",
        "async def up(db, *rest): ...",
        "async def up(db, ctx, *, more=1): ...",
        "def up(db): ...\n" + GOOD,
        "import functools\n@functools.cache\nasync def up(db, ctx): ...",
        "async def up(db, ctx):\n    async def rows():\n        yield 1\n    [row async for row in rows()]\n",
        GOOD + "async def down(db, ctx): ...",
        GOOD + DATA,
        DATA,
        "@m.batches()\nasync def data(db, ctx, batch, more=1): ...",
        "lock_timeout = '2s'\n" + GOOD,
    ],
)
def test_a_good_file_has_nothing_wrong(text: str) -> None:
    assert inspect_python(python(text)) == ()


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("", "no-up", None),
        ("up = None", "no-up", None),
        ("class A:\n    async def up(db, ctx): ...", "no-up", None),
        ("\n\ndef up(db, ctx): ...", "sync-up", 3),
        ("\nasync def up(db): ...", "up-arguments", 2),
        ("async def up(): ...", "up-arguments", 1),
        ("async def up(db, ctx, more): ...", "up-arguments", 1),
        ("async def up(db, *, ctx): ...", "up-arguments", 1),
        ("async def up(db, ctx, *, more): ...", "up-arguments", 1),
        ("async def up(db, ctx):\n    yield", "up-yields", 1),
        (GOOD + "def down(db, ctx): ...", "sync-down", 3),
        (GOOD + "async def down(db): ...", "down-arguments", 3),
        ("async def up(db, ctx):\n    x = (\n", "syntax", 2),
        (GOOD + "@batches()\ndef data(db, ctx, batch): ...", "sync-data", 4),
        (GOOD + "@batches()\nasync def data(db, ctx): ...", "data-arguments", 4),
        (GOOD + "@batches()\nasync def data(db, ctx, batch):\n    yield", "data-yields", 4),
        (GOOD + "async def data(db, ctx, batch): ...", "data-undecorated", 3),
        (GOOD + "@batches\nasync def data(db, ctx, batch): ...", "data-undecorated", 4),
        (DATA + "async def up(db): ...", "up-arguments", 3),
        ("lock_timeout = 'soon'\n" + GOOD, "directive", 1),
    ],
)
def test_a_bad_file_is_an_error_with_its_line(text: str, code: str, line: int | None) -> None:
    (issue,) = inspect_python(python(text))
    assert (issue.code, issue.severity, issue.line) == (code, "error", line)
    assert issue.path == Path("V202601010001_x.py")


def test_a_file_nested_beyond_what_python_parses_is_an_issue_and_not_a_crash() -> None:
    (issue,) = inspect_python(python("x = " + "(" * 5000 + ")" * 5000))
    assert issue.code == "syntax"


def test_scripts_of_the_database_go_to_the_handler_and_python_does_not() -> None:
    issue = Issue(code="seen", severity="error", message="Seen.")
    inspect = inspector(lambda script: [issue])
    assert list(inspect(Script(path=Path("x.up.sql"), text="", language="sql"))) == [issue]
    assert list(inspect(python(GOOD))) == []


def test_directives_of_sql_are_judged_beside_what_the_handler_says() -> None:
    issue = Issue(code="seen", severity="error", message="Seen.")
    inspect = inspector(lambda script: [issue])
    found = inspect(Script(path=Path("x.up.sql"), text="-- a\n-- msr: hurry\nselect 1;", language="sql"))
    assert [(item.code, item.line) for item in found] == [("directive", 2), ("seen", None)]


def test_a_warning_of_python_taken_for_an_error_does_not_make_the_file_invalid() -> None:
    text = GOOD + "pattern = '\\d'\n"  # an invalid escape: Python warns, and pytest here takes that for an error
    assert inspect_python(python(text)) == ()
