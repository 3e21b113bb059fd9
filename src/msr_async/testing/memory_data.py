"""The data of a database in memory, and the connection that scripts get.

A table is a name with rows under keys; a row is anything that JSON can say. Committed tables are never changed in
place: a write makes a new one, so a snapshot is a reference and a transaction sees its own copy.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, TypeAlias

import anyio.lowlevel

from ..errors import DatabaseError
from ..models import LockInfo

Table: TypeAlias = Mapping[str, str]
"""The rows of a table as JSON texts, by their keys."""

BOOK = "schema_version"
"""The table that holds the history."""
NOTES = "schema_version_notes"
"""The table beside it."""


class Conflict(DatabaseError):
    """Another transaction was in the way; the same work, tried again, may well succeed."""


class MemoryDatabase:
    """The data, and who holds the migration lock. Handlers of the same one see the same."""

    def __init__(self) -> None:
        self.identity = f"memory-{uuid.uuid4()}"
        self.tables: Mapping[str, Table] = {}
        self.holder: LockInfo | None = None

    def __repr__(self) -> str:
        return f"<MemoryDatabase, {len(self.tables)} tables>"

    def commit(self, base: Mapping[str, Table], changed: Mapping[str, Table | None]) -> None:
        """Make a transaction's tables the committed ones; None drops a table.

        Raises:
            Conflict: somebody else changed one of them since the transaction began.
        """
        for name in changed:
            if self.tables.get(name) is not base.get(name):
                raise Conflict(f"Table {name} was changed by another transaction.", hint="Run it again.")
        kept = {name: table for name, table in self.tables.items() if name not in changed}
        self.tables = {**kept, **{name: table for name, table in changed.items() if table is not None}}


class MemoryConnection:
    """In a transaction nothing is visible to others before its end; outside of one, everything at once."""

    def __init__(self, database: MemoryDatabase, *, transaction: bool) -> None:
        self._database = database
        self._transaction = transaction
        self._ended = False
        self._base = database.tables
        self._changed: dict[str, dict[str, str] | None] = {}

    @property
    def in_transaction(self) -> bool:
        return self._transaction

    async def put(self, table: str, key: str, row: Any) -> None:
        """Write a row, making the table if it is not there."""
        text = json.dumps(row, allow_nan=False)
        await anyio.lowlevel.checkpoint()
        rows = self._own(table, {} if self._table(table) is None else None)
        rows[key] = text
        self._keep(table, rows)

    async def get(self, table: str, key: str) -> Any:
        """A row, or None."""
        await anyio.lowlevel.checkpoint()
        text = (self._table(table) or {}).get(key)
        return None if text is None else json.loads(text)

    async def delete(self, table: str, key: str) -> None:
        """Delete a row that is there."""
        await anyio.lowlevel.checkpoint()
        rows = self._own(table)
        if key not in rows:
            raise DatabaseError(f"Table {table} has no row {key}.", hint="Check the key.")
        del rows[key]
        self._keep(table, rows)

    async def create(self, table: str) -> None:
        """Make an empty table; one that is there stays as it is."""
        await anyio.lowlevel.checkpoint()
        if self._table(table) is None:
            self._keep(table, {})

    async def drop(self, table: str) -> None:
        """Drop a table with its rows."""
        await anyio.lowlevel.checkpoint()
        self._own(table)
        self._keep(table, None)

    async def rows(self, table: str) -> dict[str, Any]:
        """All rows of a table."""
        await anyio.lowlevel.checkpoint()
        return {key: json.loads(text) for key, text in self._existing(table).items()}

    async def tables(self) -> list[str]:
        """The names of all tables, the history's among them."""
        await anyio.lowlevel.checkpoint()
        return sorted(name for name in {*self._seen(), *self._changed} if self._table(name) is not None)

    def commit(self) -> None:
        """End the transaction; the connection is of no use after it."""
        self.end()
        self._database.commit(self._base, self._changed)

    def end(self) -> None:
        self._ended = True

    def _seen(self) -> Mapping[str, Table]:
        if self._ended:
            raise DatabaseError("The transaction has ended.", hint="Use a connection inside its own work only.")
        return self._base if self._transaction else self._database.tables

    def _table(self, name: str) -> Table | None:
        seen = self._seen()
        return self._changed[name] if name in self._changed else seen.get(name)

    def _existing(self, name: str) -> Table:
        table = self._table(name)
        if table is None:
            raise DatabaseError(f"There is no table {name}.", hint="Create it first.")
        return table

    def _own(self, name: str, otherwise: dict[str, str] | None = None) -> dict[str, str]:
        """A copy to change; a transaction that has one already goes on with it."""
        mine = self._changed.get(name)
        if mine is not None:
            return mine
        return dict(self._existing(name)) if otherwise is None else otherwise

    def _keep(self, name: str, rows: dict[str, str] | None) -> None:
        if self._transaction:
            self._changed[name] = rows
        else:
            self._database.commit(self._database.tables, {name: rows})
