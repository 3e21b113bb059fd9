"""Cut SQL text into statements. Pure.

The server parses SQL; this only finds where statements end, which needs its tokens (`lexing`), parentheses (a rule's
body holds semicolons) and `BEGIN ATOMIC ... END` bodies, and nothing else of the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from .lexing import BLANK, CLOSED, NEVER, NUMBER, SPACE, TOKEN, WORD, end_of
from .remembering import remembering

_FIRST_WORDS = 4
_NEXT_WORD = rf"(?![eE]')({WORD})"
_FIRST = re.compile(_NEXT_WORD + rf"(?:[{SPACE}]++{_NEXT_WORD})?" * (_FIRST_WORDS - 1))
_SIGN = r"""[\x00-\x08\x0e-\x1f!#%&*+,.:<=>?@\\^`{|}~\x7f]|-|/(?!\*)"""
_WORDLESS = rf"""{BLANK}|{NUMBER}|{_SIGN}|'[^']*+'|"[^"]*+\""""
_ANY = rf"(?![eE]'){WORD}|{_WORDLESS}"


def _passing(what: str) -> re.Pattern[str]:
    """What does not matter is passed in one match: token by token takes several times as long."""
    return re.compile(f"(?:{what}|{NEVER})*+")


_BETWEEN = _passing(rf"{BLANK}|;")
_TO_TOKEN = _passing(BLANK)
_TO_WORD = _passing(_WORDLESS)
_TO_SIGN = _passing(rf"{_ANY}|\((?:{_ANY}|\((?:{_ANY}|{NEVER})*+\)|{NEVER})*+\)")
_SPECIAL = re.compile(r"""['"$]|/\*|\batomic\b""", re.IGNORECASE)
_LINE_COMMENT = re.compile(r"--[^\n\r]*")
_PLAIN_WORD = re.compile(rf"{NUMBER}|({WORD})")
_LINE_END = re.compile(r"\r\n?|\n")


class Statement(Struct, frozen=True, gc=False):
    """One statement without its semicolon; `offset` is where it starts in the text it was cut from, in characters."""

    text: str
    offset: int
    words: tuple[str, ...]
    """Its first words in upper case, up to four, to tell what kind it is."""
    closed: bool = True
    """False when a quote or a comment in it never ends, so that it would swallow whatever is sent after it."""


@remembering
def split(sql: str) -> tuple[Statement, ...]:
    """The statements of `sql` in order; comments between them and empty ones are left out.

    A comment that never ends is a statement too: the server is to refuse it.
    """
    plain = None if _SPECIAL.search(sql) else _split_plain(sql)
    return tuple(_split(sql)) if plain is None else plain


def _split_plain(sql: str) -> tuple[Statement, ...] | None:
    """The same where nothing but parentheses can hide a semicolon, in less time; None where one may."""
    code = _LINE_COMMENT.sub(_blank, sql) if "--" in sql else sql
    found: list[Statement] = []
    offset = 0
    for piece in code.split(";"):
        if piece.count("(") != piece.count(")") or piece.count("[") != piece.count("]"):
            return None
        if text := piece.strip(SPACE):
            start = offset + piece.index(text[0])
            found.append(Statement(sql[start : offset + len(piece)].rstrip(SPACE), start, _plain_words(text)))
        offset += len(piece) + 1
    return tuple(found)


def _blank(comment: re.Match[str]) -> str:
    return " " * len(comment[0])


def _plain_words(text: str) -> tuple[str, ...]:
    words: list[str] = []
    for match in _PLAIN_WORD.finditer(text):
        if word := match[1]:
            words.append(_upper(word))
            if len(words) == _FIRST_WORDS:
                break
    return tuple(words)


def _split(sql: str) -> Iterator[Statement]:
    position = 0
    while found := TOKEN.match(sql, _past(_BETWEEN, sql, position)):
        start = found.start()
        if found.lastgroup == "comment" and (end := end_of(sql, found)) is not None:
            position = end
        else:
            words, position, closed = _read(sql, start)
            yield Statement(sql[start:position].rstrip(SPACE), start, tuple(words), closed)


def _read(sql: str, position: int) -> tuple[Sequence[str], int, bool]:
    """The statement that begins here: its first words, where it ends, and whether all that it opens is closed."""
    words: list[str] = []
    if first := _FIRST.match(sql, position):
        words = [_upper(word) for word in first.groups() if word]
        position = first.end()
    passing = _to_what_matters(words)
    depth = body = 0
    previous = words[-1] if words else ""
    while found := TOKEN.match(sql, _past(passing, sql, position)):
        kind, text, position = found.lastgroup, found[0], found.end()
        if kind in CLOSED:
            end = end_of(sql, found)
            if end is None:
                return words, len(sql), False
            position = end
            if kind == "comment":
                continue
        elif kind == "word":
            text = _upper(text)
            if len(words) < _FIRST_WORDS:
                words.append(text)
                passing = _to_what_matters(words)
            if body and previous not in ("AS", "."):  # behind which they are names
                body += (text == "CASE") - (text == "END")
            elif text == "ATOMIC" and previous == "BEGIN" and depth == 0 and _is_routine(words):
                body = 1
        elif text == ";" and depth == 0 and body == 0:
            return words, found.start(), True
        elif text in "([":
            depth += 1
        elif text in ")]":
            depth = max(0, depth - 1)
        previous = text
    return words, len(sql), True


def _upper(word: str) -> str:
    return word.upper() if word.isascii() else word


def _past(passing: re.Pattern[str], sql: str, position: int) -> int:
    found = passing.match(sql, position)
    assert found is not None  # it may match nothing
    return found.end()


def _to_what_matters(words: Sequence[str]) -> re.Pattern[str]:
    """What may be passed behind these first words of a statement."""
    if words[:1] == ["CREATE"] and (len(words) < _FIRST_WORDS or _is_routine(words)):
        return _TO_TOKEN
    return _TO_WORD if len(words) < _FIRST_WORDS else _TO_SIGN


def _is_routine(words: Sequence[str]) -> bool:
    """Whether its body may be SQL without quotes."""
    return words[0] == "CREATE" and ("FUNCTION" in words or "PROCEDURE" in words)


def place(text: str, offset: int) -> tuple[int, int]:
    """Line and column, both from 1, of a character of a text; lines end as an editor shows them."""
    line, start = 1, 0
    for end in _LINE_END.finditer(text, 0, offset):
        line, start = line + 1, end.end()
    return line, offset - start + 1
