"""Statements as the server itself reads them: random texts are sent whole, and it says how many it has found."""

from __future__ import annotations

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from msr_async.postgres.lexing import tokens
from msr_async.postgres.statements import split
from tests.support.servers import Database, only_newest

pytestmark = only_newest

LINE_ENDS = st.sampled_from(
    ["\n", "\r", "\r\n", "--\n", "-- ';\r", " -- it's /* $$;\r\n", '\n\t-- ";\n\f', "\r--;\n\v"]
)
GAPS = st.sampled_from([" ", "\t", "\f\v ", "/*;*/", "/* ' \" */", "/*/*;*/ $$ -- */", "/**//*'/**/*/"]) | LINE_ENDS


def _pieces(*pieces: str) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(pieces), max_size=4).map("".join)


ANYTHING = ("a", ";", "--", "/*", "*/", "$$", "$a$", "(", "]", "\n", "\r", "é", " ", ";SELECT 1;")
PLAIN = _pieces(*ANYTHING, "''", '"', "\\")
ESCAPED = _pieces(*ANYTHING, "''", '"', "\\'", "\\\\", "\\;")
NAMED = _pieces(*ANYTHING, '""', "'", "\\")
TAGGED = _pieces(";", "--", "/*", "'", '"', "\\", "$", "$b$", "(", "\r")


@st.composite
def strings(draw: st.DrawFn, prefix: str, part: st.SearchStrategy[str]) -> str:
    """One that goes on behind ends of lines."""
    text = f"{prefix}'{draw(part)}'"
    for _ in range(draw(st.integers(0, 2))):
        text += f"{draw(LINE_ENDS)}'{draw(part)}'"
    return text


VALUES = st.one_of(
    strings("", PLAIN),
    strings("N", PLAIN),
    strings("U&", _pieces(*ANYTHING, "''")),
    strings("E", ESCAPED),
    strings("e", ESCAPED),
    TAGGED.map("$é1${}$é1$".format),
    TAGGED.map("$${}$$".format).filter(lambda text: text.count("$$") == 2 and "$$$" not in text),
    st.sampled_from(["(1)", "1", "ARRAY[1]", "1.5", "2 -+1", "4 /-2", "3 *-- ;\n2"]),
)
NAMES = st.one_of(
    st.sampled_from(["x", "e", "U", "é", "a$1$b", "a$$", "\u00a0", "€$$", "\u0663$", "begin", "atomic"]),
    NAMED.map(lambda inner: f'"a{inner}"'),
    NAMED.map(lambda inner: f'U&"a{inner}"').filter(lambda name: "\\" not in name),
)


@st.composite
def scripts(draw: st.DrawFn) -> tuple[str, list[int]]:
    """A script, and which numbers it inserts."""
    numbers = draw(st.lists(st.integers(0, 99), max_size=4))
    text = draw(GAPS)
    for number in numbers:
        words = [
            "INSERT",
            "INTO",
            "seen",
            "SELECT",
            str(number),
            "FROM",
            "(",
            "SELECT",
            draw(VALUES),
            "AS",
            draw(NAMES),
        ]
        text += "".join(f"{word}{draw(GAPS)}" for word in [*words, ")", "found", ";"])
    return text, numbers


async def seen(database: Database, text: str) -> list[int]:
    """What a text has inserted, sent in one message."""
    connection = await asyncpg.connect(database.dsn)
    try:
        await connection.execute("CREATE TEMP TABLE seen (number int)")
        await connection.execute(f"SELECT 0;{text}")  # the driver takes no empty message
        return [row["number"] for row in await connection.fetch("SELECT number FROM seen")]
    finally:
        await connection.close()


def number_of(statement: str) -> int:
    return int(next(token.text for token in tokens(statement) if token.kind == "number"))


often = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@often
@given(script=scripts())
@example(script=("INSERT INTO seen SELECT 1 WHERE E'a'\n'\\'' = $$;$$ OR true; INSERT INTO seen SELECT 2 -- '", [1, 2]))
@example(script=("INSERT INTO seen SELECT 1; -- then\rINSERT INTO seen SELECT 2;", [1, 2]))
async def test_the_server_finds_the_statements_that_are_cut(database: Database, script: tuple[str, list[int]]) -> None:
    text, numbers = script
    assert await seen(database, text) == numbers
    found = split(text)
    assert [number_of(statement.text) for statement in found] == numbers
    assert all(statement.closed for statement in found)
    assert await seen(database, "\n;".join(statement.text for statement in found)) == numbers


OPEN = ["'", "E'", "E'\\'", "e'a'\n'\\'", '"', 'U&"', "U&'", "$$", "$a$", "/*", "/* /* */", "'a'\n'", "$é$ $e$"]


@often
@given(
    script=scripts(), tail=st.sampled_from(OPEN), rest=PLAIN.map(lambda text: text.replace("'", "").replace('"', ""))
)
@example(script=("INSERT INTO seen SELECT 1;", [1]), tail="/*", rest="; INSERT INTO seen SELECT 2;")
async def test_what_never_ends_reaches_the_server_and_is_refused(
    database: Database, script: tuple[str, list[int]], tail: str, rest: str
) -> None:
    rest = rest.replace("$", "").replace("*/", "").replace("\\", "")
    text = f"{script[0]}\nSELECT {tail}{rest}" if tail[0] != "/" else f"{script[0]}\n{tail}{rest}"
    with pytest.raises(asyncpg.PostgresSyntaxError, match="unterminated"):
        await seen(database, text)
    *before, last = split(text)
    assert all(statement.closed for statement in before)
    assert not last.closed
    assert last.text.endswith(rest.rstrip())
    with pytest.raises(asyncpg.PostgresSyntaxError, match="unterminated"):
        await seen(database, last.text)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE FUNCTION f(begin int, atomic int) RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT 2; SELECT 3",
        "CREATE FUNCTION f() RETURNS TABLE (a int) BEGIN/**/ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; SELECT 1; END; SELECT 2; SELECT 3",
        "CREATE OR REPLACE PROCEDURE p() BEGIN -- of it\r ATOMIC SELECT 1 AS end; SELECT 2 AS case; END; SELECT 2; SELECT 3",
        "CREATE SCHEMA begin; CREATE FUNCTION begin.atomic() RETURNS int LANGUAGE sql AS 'SELECT 1'; SELECT 3",
        "CREATE TABLE s (begin int); CREATE TYPE t AS (atomic int); SELECT begin atomic FROM s",
    ],
)  # fmt: skip
async def test_bodies_without_quotes_end_where_the_server_ends_them(database: Database, sql: str) -> None:
    found = split(sql)
    assert len(found) == 3
    connection = await asyncpg.connect(database.dsn)
    for statement in found:
        await connection.fetch(statement.text)  # takes one statement only
    await connection.close()
