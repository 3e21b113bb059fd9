"""Which tokens does SQL hold? As the server's scanner reads it, with standard_conforming_strings on. Pure.

Rules: https://www.postgresql.org/docs/current/sql-syntax-lexical.html, and where it says less, the server's scan.l: a
carriage return ends a line too, six characters are space, and whatever is not ASCII is a letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from msgspec import Struct

SPACE = " \t\n\r\f\v"
BLANK = r"[\ \t\n\r\f\v]++|--[^\n\r]*+"
# The rest of ASCII, left out: `re` takes 10 ms to compile a class that reaches up to the last of all characters.
LETTER = r"[^\x00-@\[-^`{-\x7f]"
_TAG = rf"{LETTER}[^\x00-/:-@\[-^`{{-\x7f]*+"
WORD = rf"{LETTER}[^\x00-#%-/:-@\[-^`{{-\x7f]*+"
NUMBER = r"[0-9][^\x00-,\-/:-@\[-^`{-\x7f]*+"

TOKEN = re.compile(
    rf"""
      (?P<blank>{BLANK})
    | (?P<comment>/\*)
    | (?P<escapes>[eE]')
    | (?P<string>(?:[uU]&|[bBxXnN])?')
    | (?P<quoted>(?:[uU]&)?")
    | (?P<dollar>\$(?:{_TAG})?\$)
    | (?P<word>{WORD})
    | (?P<number>{NUMBER})
    | (?P<sign>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
"""The next token, or how it begins: `end_of` knows where those end that something has to close."""

# Loops are possessive, so that a long text needs no stack. Where the last round of one may fail half-way, Python before
# 3.11.5 forgets to go back (https://github.com/python/cpython/issues/106052) unless what it tries last is NEVER.
NEVER = "(?!)"
_REST = {
    "string": re.compile(r"[^']*+(?:''[^']*+)*+'"),
    "escapes": re.compile(r"[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+'", re.DOTALL),
    "quoted": re.compile(r'[^"]*+(?:""[^"]*+)*+"'),
}
# A string goes on as what it began as, behind a line's end and nothing but blanks.
_GOES_ON = re.compile(rf"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[{SPACE}]|--[^\n\r]*+[\n\r]|{NEVER})*+'")
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class Token(Struct, frozen=True, gc=False):
    kind: Literal["word", "name", "string", "number", "sign"]
    """`name` is a quoted identifier."""
    text: str
    """A word folded, a quoted name without its quotes, anything else as written."""
    start: int
    end: int


def tokens(sql: str, position: int = 0) -> Iterator[Token]:
    while found := TOKEN.match(sql, position):
        kind, start, position = found.lastgroup, found.start(), found.end()
        if kind in CLOSED:
            end = end_of(sql, found)
            position = len(sql) if end is None else end
        text = sql[start:position]
        if kind == "word":
            yield Token("word", _fold(text), start, position)
        elif kind == "quoted":
            yield Token("name", text[text.index('"') + 1 :].removesuffix('"').replace('""', '"'), start, position)
        elif kind == "dollar" or kind == "string" or kind == "escapes":
            yield Token("string", text, start, position)
        elif kind == "number":
            yield Token("number", text, start, position)
        elif kind == "sign":
            yield Token("sign", text, start, position)


CLOSED = frozenset(("comment", "escapes", "string", "quoted", "dollar"))
"""Kinds of tokens that only an end of their own ends."""


def end_of(sql: str, found: re.Match[str]) -> int | None:
    """Where a token of these kinds ends that begins with a match of TOKEN; None when it never does."""
    kind, position = found.lastgroup, found.end()
    if kind == "comment":
        return _end_of_comment(sql, position)
    if kind == "dollar":
        closing = sql.find(found[0], position)
        return None if closing < 0 else closing + len(found[0])
    rest = _REST[kind or ""]
    while part := rest.match(sql, position):
        position = part.end()
        if kind == "quoted" or (more := _GOES_ON.match(sql, position)) is None:
            return position
        position = more.end()
    return None


def _end_of_comment(sql: str, position: int) -> int | None:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return None


def _fold(word: str) -> str:
    """The server folds ASCII letters only, in every encoding of several bytes."""
    return word.lower() if word.isascii() else "".join(c.lower() if c.isascii() else c for c in word)
