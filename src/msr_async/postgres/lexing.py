"""Which tokens does a statement hold? Strings, quoted names and comments are told from words, no more. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<string>[eE]'(?:[^'\\]|''|\\.)*'?|(?:[uU]&|[bBxXnN])?'(?:[^']|'')*'?)
    | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*"?)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<sign>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Token:
    kind: Literal["word", "name", "string", "number", "sign"]
    """`name` is a quoted identifier."""
    text: str
    """A word folded, a quoted name without its quotes, anything else as written."""
    start: int
    end: int


def tokens(sql: str) -> Iterator[Token]:
    position = 0
    while found := _TOKEN.match(sql, position):
        kind, text, start, position = found.lastgroup, found.group(), found.start(), found.end()
        if kind == "comment":
            position = _after_comment(sql, position)
        elif kind == "word":
            yield Token("word", _fold(text), start, position)
        elif kind == "quoted":
            yield Token("name", text[text.index('"') + 1 :].removesuffix('"').replace('""', '"'), start, position)
        elif kind == "dollar":
            closing = sql.find(text, position)
            position = len(sql) if closing < 0 else closing + len(text)
            yield Token("string", sql[start:position], start, position)
        elif kind == "string":
            yield Token("string", text, start, position)
        elif kind == "number":
            yield Token("number", text, start, position)
        elif kind == "sign":
            yield Token("sign", text, start, position)


def _after_comment(sql: str, position: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


def _fold(word: str) -> str:
    """The server folds ASCII letters only, in every encoding of several bytes."""
    return word.lower() if word.isascii() else "".join(c.lower() if c.isascii() else c for c in word)
