"""Cut SQL text into statements. Pure.

The server parses SQL; this only finds where statements end, which needs quotes, dollar quotes, nested comments,
parentheses (a rule's body holds semicolons) and `BEGIN ATOMIC ... END` bodies, and nothing else of the grammar.
Rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, standard_conforming_strings on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct

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
_CLOSED_ESCAPES = re.compile(r"[eE]'(?:[^'\\]|''|\\.)*'", re.DOTALL)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


_SPECIAL = re.compile(r"""['"$]|/\*|\batomic\b""", re.IGNORECASE)
_LINE_COMMENT = re.compile(r"--[^\n]*")
_PLAIN_WORD = re.compile(r"\d[\w.]*|([^\W\d][\w$]*)")
_FIRST_WORDS = 4
_REMEMBERED = 1024


class Statement(Struct, frozen=True, gc=False):
    """One statement without its semicolon; `offset` is where it starts in the text it was cut from, in characters."""

    text: str
    offset: int
    words: tuple[str, ...]
    """Its first words in upper case, up to four, to tell what kind it is."""
    closed: bool = True
    """False when a quote or a comment in it never ends, so that it would swallow whatever is sent after it."""


@lru_cache(maxsize=_REMEMBERED)
def split(sql: str) -> tuple[Statement, ...]:
    """The statements of `sql` in order; comments between them and empty ones are left out."""
    plain = None if _SPECIAL.search(sql) else _split_plain(sql)
    return tuple(_split(sql)) if plain is None else plain


def _split_plain(sql: str) -> tuple[Statement, ...] | None:
    """The same where nothing but parentheses can hide a semicolon, at a tenth of the time; None where one may."""
    code = _LINE_COMMENT.sub(_blank, sql) if "--" in sql else sql
    found: list[Statement] = []
    offset = 0
    for piece in code.split(";"):
        if piece.count("(") != piece.count(")") or piece.count("[") != piece.count("]"):
            return None
        if text := piece.strip():
            start = offset + piece.index(text[0])
            found.append(Statement(sql[start : offset + len(piece)].rstrip(), start, _plain_words(text)))
        offset += len(piece) + 1
    return tuple(found)


def _blank(comment: re.Match[str]) -> str:
    return " " * len(comment[0])


def _plain_words(text: str) -> tuple[str, ...]:
    words: list[str] = []
    for match in _PLAIN_WORD.finditer(text):
        if word := match[1]:
            words.append(word.upper())
            if len(words) == _FIRST_WORDS:
                break
    return tuple(words)


def _split(sql: str) -> Iterator[Statement]:
    position, start, depth, atomic = 0, -1, 0, 0
    words: list[str] = []
    previous = ""
    closed = True
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        assert match is not None  # `other` takes any character
        kind, token = match.lastgroup, match.group()
        position = match.end()
        if kind == "space" or kind == "line_comment":
            continue
        if kind == "block_comment":
            if (after := _after_comment(sql, position)) is None:
                closed, position = False, len(sql)
            else:
                position = after
            continue
        if kind == "end" and depth == 0 and atomic == 0:
            if start >= 0:
                yield Statement(sql[start : match.start()].rstrip(), start, tuple(words))
            start, words, previous = -1, [], ""
            continue
        if start < 0:
            start = match.start()
        if kind == "dollar":
            closing = sql.find(token, position)
            closed = closing >= 0
            position = closing + len(token) if closed else len(sql)
        elif kind == "string" or kind == "quoted":
            closed = token.count(token[0]) % 2 == 0
        elif kind == "escape_string":
            closed = _CLOSED_ESCAPES.fullmatch(token) is not None
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
            if len(words) < _FIRST_WORDS:
                words.append(word)
    if start >= 0:
        yield Statement(sql[start:].rstrip(), start, tuple(words), closed)


def _after_comment(sql: str, position: int) -> int | None:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return None


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of a character of a text."""
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1
