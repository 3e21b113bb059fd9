"""The `.sql` files of a database in memory: a line is a statement, `put table key value` or `drop table`.

A statement that begins in `alone` cannot run in a transaction: `alone put table key value`.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Sequence

from ..errors import DatabaseError, ScriptFailed
from ..models import Issue, Script
from .memory_book import MemoryBook
from .memory_data import MemoryConnection

Statement = tuple[int, list[str]]
"""The line's number, from 1, and its words."""
_WORDS = {"put": 4, "drop": 2}


def inspect(script: Script) -> Sequence[Issue]:
    """Lines that say nothing known."""
    known = "`put table key value` or `drop table`"
    return [
        Issue(code="no-sql", severity="error", message=f"Write {known} here.", path=script.path, line=line)
        for line, words in _statements(script)
        if len(words) != _WORDS.get(_plain(words)[0], -1) + (words[0] == "alone")
    ]


def outside(script: Script) -> bool:
    """Whether it must run outside of a transaction."""
    says_so = not script.directives.transaction
    return says_so or (script.language == "sql" and any(words[0] == "alone" for _, words in _statements(script)))


async def execute(conn: MemoryConnection, book: MemoryBook, script: Script, resume: str | None) -> None:
    """Run a script, from where its note says that a run before this one has come to."""
    done = 0
    checksum = hashlib.sha256(script.text.encode()).hexdigest()
    if resume is not None:
        note = await book.note(resume)
        done = note["statement"] if note is not None and note["checksum"] == checksum else 0
    for number, (line, words) in enumerate(_statements(script), 1):
        if number <= done:
            continue
        try:
            if words[0] == "alone" and conn.in_transaction:
                raise DatabaseError("This cannot run in a transaction.")
            await _run(conn, _plain(words))
        except (DatabaseError, ValueError) as error:
            raise ScriptFailed(str(error), path=script.path, line=line) from error
        if resume is not None:
            await book.keep_note(conn, resume, {"checksum": checksum, "statement": number})


async def _run(conn: MemoryConnection, words: list[str]) -> None:
    match words:
        case ["put", table, key, value]:
            await conn.put(table, key, value)
        case ["drop", table]:
            await conn.drop(table)
        case _:
            raise DatabaseError(f"A database in memory does not know {' '.join(words)!r}.")


def _statements(script: Script) -> Iterator[Statement]:
    for line, text in enumerate(script.text.splitlines(), 1):
        if words := shlex.split(text.partition("--")[0].rstrip("; ")):
            yield line, words


def _plain(words: list[str]) -> list[str]:
    return words[1:] or [""] if words[0] == "alone" else words
