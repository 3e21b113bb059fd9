"""The history of a database in memory, and the notes beside it: two of its tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio.lowlevel
from msgspec.structs import asdict

from ..errors import DatabaseError
from ..models import AppliedMigration
from .memory_data import BOOK, NOTES, MemoryConnection, MemoryDatabase, Table


class MemoryBook:
    """The book of what was applied."""

    def __init__(self, database: MemoryDatabase, check_open: Callable[[], None]) -> None:
        self._database = database
        self._check_open = check_open

    async def applied(self) -> Sequence[AppliedMigration]:
        self._check_open()
        await anyio.lowlevel.checkpoint()
        return lines(self._database.tables)

    async def ensure(self, conn: MemoryConnection, /) -> None:
        await conn.create(BOOK)
        await conn.create(NOTES)

    async def record(self, conn: MemoryConnection, entry: AppliedMigration, /, *, replace: bool = False) -> None:
        if not replace and await conn.get(BOOK, entry.id) is not None:
            raise DatabaseError(f"{entry} is recorded already.", hint="Another run applied it.")
        await conn.put(BOOK, entry.id, {**asdict(entry), "applied_at": entry.applied_at.isoformat()})

    async def forget(self, conn: MemoryConnection, id: str, /) -> None:
        if await conn.get(BOOK, id) is not None:
            await conn.delete(BOOK, id)

    async def note(self, key: str, /) -> Any:
        self._check_open()
        await anyio.lowlevel.checkpoint()
        text = self._database.tables.get(NOTES, {}).get(key)
        return None if text is None else json.loads(text)

    async def keep_note(self, conn: MemoryConnection, key: str, value: Any, /) -> None:
        if value is not None:
            await conn.put(NOTES, key, value)
        elif await conn.get(NOTES, key) is not None:
            await conn.delete(NOTES, key)


def lines(tables: Mapping[str, Table]) -> tuple[AppliedMigration, ...]:
    """What was applied, as these tables say it."""
    entries = [_entry(json.loads(text)) for text in tables.get(BOOK, {}).values()]
    return tuple(sorted(entries, key=lambda entry: (entry.version is None, entry.version or 0, entry.id)))


def _entry(row: Mapping[str, Any]) -> AppliedMigration:
    return AppliedMigration(**{**row, "applied_at": datetime.fromisoformat(row["applied_at"])})
