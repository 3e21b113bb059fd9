"""Cut SQL text into statements. Pure.

The server parses SQL; this only finds where statements end, which needs quotes, dollar quotes, nested comments,
parentheses (a rule's body holds semicolons) and `BEGIN ATOMIC ... END` bodies, and nothing else of the grammar.
Rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, standard_conforming_strings on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..models import Issue, Script

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<line_comment>--[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<escape_string>[eE]'(?:[^'\\]|''|\\.)*'?)
    | (?P<string>'(?:[^']|'')*'?)
    | (?P<quoted>"(?:[^"]|"")*"?)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<open>[(\[])
    | (?P<close>[)\]])
    | (?P<end>;)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement without its semicolon; `offset` is where it starts in the text it was cut from, in characters."""

    text: str
    offset: int
    words: tuple[str, ...]
    """Its first words in upper case, up to four, to tell what kind it is."""


def split(sql: str) -> Iterator[Statement]:
    """The statements of `sql` in order; comments between them and empty ones are left out."""
    position, start, depth, atomic = 0, -1, 0, 0
    words: list[str] = []
    previous = ""
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        assert match is not None  # `other` takes any character
        kind, token = match.lastgroup, match.group()
        position = match.end()
        if kind == "space" or kind == "line_comment":
            continue
        if kind == "block_comment":
            position = _after_comment(sql, position)
            continue
        if kind == "end" and depth == 0 and atomic == 0:
            if start >= 0:
                yield Statement(text=sql[start : match.start()].rstrip(), offset=start, words=tuple(words))
            start, words, previous = -1, [], ""
            continue
        if start < 0:
            start = match.start()
        if kind == "dollar":
            closing = sql.find(token, position)
            position = len(sql) if closing < 0 else closing + len(token)
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "word":
            word = token.upper()
            if atomic:
                atomic += (word == "CASE") - (word == "END")
            elif word == "ATOMIC" and previous == "BEGIN":
                atomic = 1
            previous = word
            if len(words) < 4:
                words.append(word)
    if start >= 0:
        yield Statement(text=sql[start:].rstrip(), offset=start, words=tuple(words))


def _after_comment(sql: str, position: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of a character of a text."""
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


_OUTSIDE = {
    ("VACUUM",), ("ALTER", "SYSTEM"), ("CREATE", "DATABASE"), ("DROP", "DATABASE"), ("CREATE", "TABLESPACE"),
    ("DROP", "TABLESPACE"), ("CREATE", "SUBSCRIPTION"), ("DROP", "SUBSCRIPTION"), ("DISCARD", "ALL"),
}  # fmt: skip
_ENDS_TRANSACTION = {"BEGIN", "START", "COMMIT", "END", "ABORT", "ROLLBACK"}


def _outside(words: tuple[str, ...]) -> str:
    """What the statement is called if it refuses to run in a transaction."""
    if "CONCURRENTLY" in words and words[0] != "REFRESH":
        return " ".join(words[: words.index("CONCURRENTLY") + 1])
    return next((" ".join(start) for start in _OUTSIDE if words[: len(start)] == start), "")


def inspect(script: Script) -> Iterator[Issue]:
    """What cannot work in a migration, each at its line."""
    for statement in split(script.text):
        line, _ = place(script.text, statement.offset)
        words = statement.words
        first = words[0] if words else ""
        code = message = ""
        if statement.text.startswith("\\"):
            code = "psql-command"
            message = f"{statement.text.split()[0]} is a command of psql, not SQL: take it out of the script."
        elif first == "PREPARE" and words[1:2] == ("TRANSACTION",):
            code, message = "transaction-control", "PREPARE TRANSACTION cannot be used in a migration."
        elif first in _ENDS_TRANSACTION and not (first == "ROLLBACK" and "TO" in words[1:3]):
            code = "transaction-control"
            message = (
                f"{first} must not stand in a migration: script and history are one transaction, and msr_async runs it."
            )
        elif what := _outside(words):
            code = "no-transaction"
            message = (
                f"{what} cannot run in a transaction, and every migration runs in one: run it outside of msr_async."
            )
        elif first == "COPY" and re.search(r"\b(?:from\s+stdin|to\s+stdout)\b", statement.text, re.IGNORECASE):
            code, message = "copy-stdin", "COPY FROM STDIN and TO STDOUT need a client: use INSERT, or a .py migration."
        if code:
            yield Issue(code=code, severity="error", message=message, path=script.path, line=line)
