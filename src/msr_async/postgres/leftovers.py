"""What a statement that no transaction covers leaves when it is stopped half-way, and how to tell that it was not.

CREATE INDEX and REINDEX CONCURRENTLY leave indexes that are kept up to date and used by nobody ("invalid"):
https://www.postgresql.org/docs/current/sql-createindex.html, /sql-reindex.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .asking import ask
from .driver import Connection
from .kinds import reindexes_concurrently
from .lexing import WORD
from .quoting import literal
from .statements import Statement

_PIECE = rf'(?:"(?:[^"]|"")+"|{WORD})'
_NAME = rf"{_PIECE}(?:\s*\.\s*{_PIECE})*"
_CREATE_INDEX = re.compile(
    r"create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?"
    rf"(?:(?!on\b)(?P<index>{_PIECE})(?:\s+|(?<=\")))?on\s+(?:only\s+)?(?P<table>{_NAME})",
    re.IGNORECASE,
)
_DROP_INDEX = re.compile(
    rf"drop\s+index\s+concurrently\s+(?:if\s+exists\s+)?(?P<index>{_NAME})\s*(?:cascade|restrict)?\s*$",
    re.IGNORECASE,
)
_REINDEX = re.compile(
    rf"reindex\s*(?:\([^()]*\)\s*)?(?P<kind>index|table|schema|database|system)\s+(?:concurrently\s+)?(?P<name>{_NAME})?",
    re.IGNORECASE,
)
# Said by the server when what was asked for is there, or gone: duplicate or undefined database, object.
_DONE_STATES = {"CREATE": frozenset(("42P04", "42710")), "DROP": frozenset(("3D000", "42704"))}
_OF_THE_CLUSTER = frozenset(("DATABASE", "TABLESPACE", "SUBSCRIPTION"))


class Leftovers:
    """Of a statement that leaves nothing: done or not, it is simply sent again."""

    async def known(self, connection: Connection) -> tuple[int, ...]:
        """What is there before the statement is sent, as object ids, to be told from what it makes."""
        return ()

    async def is_done(self, connection: Connection, known: tuple[int, ...]) -> bool:
        """Whether the statement, which was sent, came to its end."""
        return False

    async def clear(self, connection: Connection, known: tuple[int, ...] | None) -> None:
        """Remove what an attempt before has left; None: nobody knows what was there before that."""

    def says_done(self, sqlstate: str) -> bool:
        """Whether this error of the statement, sent again, means that the first time had done it."""
        return False


@dataclass(frozen=True)
class NewIndex(Leftovers):
    index: str | None
    table: str

    async def known(self, connection: Connection) -> tuple[int, ...]:
        rows = await ask(
            connection, f"SELECT indexrelid::bigint AS id FROM pg_catalog.pg_index i WHERE {self._on_it()}"
        )
        return tuple(row["id"] for row in rows)

    async def is_done(self, connection: Connection, known: tuple[int, ...]) -> bool:
        return bool(await _indexes(connection, f"i.indisvalid AND {self._on_it()}{self._named()}{_unknown(known)}"))

    async def clear(self, connection: Connection, known: tuple[int, ...] | None) -> None:
        if self.index is None and known is None:
            return
        new = _unknown(known or ()) if self.index is None else ""
        await _drop(connection, f"NOT i.indisvalid AND {self._on_it()}{self._named()}{new}")

    def _on_it(self) -> str:
        return f"i.indrelid = pg_catalog.to_regclass({literal(self.table)})"

    def _named(self) -> str:
        if self.index is None:
            return ""
        return f" AND c.relname = (pg_catalog.parse_ident({literal(self.index)}))[1]::name"


@dataclass(frozen=True)
class GoneIndex(Leftovers):
    index: str

    async def is_done(self, connection: Connection, known: tuple[int, ...]) -> bool:
        (row,) = await ask(connection, f"SELECT pg_catalog.to_regclass({literal(self.index)}) IS NULL AS gone")
        return bool(row["gone"])


@dataclass(frozen=True)
class RebuiltIndexes(Leftovers):
    where: str

    async def clear(self, connection: Connection, known: tuple[int, ...] | None) -> None:
        await _drop(connection, rf"NOT i.indisvalid AND c.relname ~ '_cc(new|old)\d*$' AND {self.where}")


@dataclass(frozen=True)
class OfTheCluster(Leftovers):
    verb: str

    def says_done(self, sqlstate: str) -> bool:
        return sqlstate in _DONE_STATES[self.verb]


def leftovers(statement: Statement) -> Leftovers:
    words, text = statement.words, statement.text
    if match := _CREATE_INDEX.match(text):
        return NewIndex(match["index"], match["table"])
    if match := _DROP_INDEX.match(text):
        return GoneIndex(match["index"])
    if words[:1] == ("REINDEX",) and reindexes_concurrently(statement) and (match := _REINDEX.match(text)):
        return RebuiltIndexes(_scope(match["kind"].lower(), match["name"] or ""))
    if words[:1] in (("CREATE",), ("DROP",)) and not _OF_THE_CLUSTER.isdisjoint(words[1:2]):
        return OfTheCluster(words[0])
    return Leftovers()


def _scope(kind: str, name: str) -> str:
    """Which indexes a REINDEX rebuilds."""
    thing = f"pg_catalog.to_regclass({literal(name)})"
    if kind in ("table", "index"):
        of_index = f"(SELECT x.indrelid FROM pg_catalog.pg_index x WHERE x.indexrelid = {thing})"
        table = thing if kind == "table" else of_index
        return f"(i.indrelid = {table} OR i.indrelid IN (SELECT relid FROM pg_catalog.pg_partition_tree({table})))"
    if kind == "schema":
        return f"c.relnamespace = pg_catalog.to_regnamespace({literal(name)})"
    return "true"


def _unknown(known: tuple[int, ...]) -> str:
    return f" AND i.indexrelid NOT IN ({', '.join(str(int(id)) for id in known)})" if known else ""


async def _indexes(connection: Connection, where: str) -> list[str]:
    rows = await ask(
        connection,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) AS name FROM pg_catalog.pg_index i "
        "JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE n.nspname <> 'pg_toast' AND {where} ORDER BY 1",
    )
    return [row["name"] for row in rows]


async def _drop(connection: Connection, where: str) -> None:
    for index in await _indexes(connection, where):
        await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index}")
