"""Backups of a database in memory: a part per table, a line of JSON per row."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio.lowlevel

from ..errors import BackupDamaged, ConfigError, RestoreFailed
from ..models import Column, Manifest, Part, PartTotals, RestoreTotals, Selection, SnapshotDetails
from ..protocols import Restoration, RestoreOptions, Send, Snapshot
from .memory_book import lines
from .memory_data import MemoryDatabase, Table

_PIECE = 16 * 1024
_SCHEMA = "tables.json"


class MemoryBackup:
    """Snapshots are references to what is never changed in place; a restore builds new tables and swaps them in."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    @asynccontextmanager
    async def snapshot(self, selection: Selection, /, *, complete: bool) -> AsyncIterator[Snapshot]:
        await anyio.lowlevel.checkpoint()
        yield MemorySnapshot(self._database.tables, selection)

    @asynccontextmanager
    async def restoration(
        self,
        manifest: Manifest,
        documents: Mapping[str, bytes],
        options: RestoreOptions,
        notify: Callable[[str], None],
        /,
    ) -> AsyncIterator[Restoration]:
        await anyio.lowlevel.checkpoint()
        if options.mode != "replace":
            raise ConfigError(f"Memory has no restore in the mode {options.mode}.", hint="Leave the mode out.")
        if manifest.source.kind != "memory" or _SCHEMA not in documents:
            raise RestoreFailed(
                f"A backup of {manifest.source.kind} cannot be restored into memory.", hint="Use its own handler."
            )
        yield MemoryRestoration(self._database, manifest, json.loads(documents[_SCHEMA]), notify)


class MemorySnapshot:
    """One state of all tables."""

    def __init__(self, tables: Mapping[str, Table], selection: Selection) -> None:
        self._tables = tables
        self._selection = selection
        parts = [
            Part(
                kind="table",
                names=(name,),
                columns=(Column(name="key", type="text"), Column(name="row", type="json")),
                estimate=sum(len(key) + len(text) + 20 for key, text in table.items()),
            )
            for name, table in tables.items()
            if _selected(name, selection)
        ]
        self._parts = sorted(parts, key=lambda part: (-part.estimate, part.name))

    @property
    def token(self) -> str:
        return f"memory-{id(self._tables):x}"

    @property
    def parts(self) -> Sequence[Part]:
        return self._parts

    async def dump(self, part: Part, send: Send, /) -> PartTotals:
        await anyio.lowlevel.checkpoint()
        rows = raw_bytes = 0
        piece = bytearray()
        for key, text in self._tables[part.name].items():
            piece += f"[{json.dumps(key)}, {text}]\n".encode()
            rows += 1
            if len(piece) >= _PIECE:
                raw_bytes += len(piece)
                await send(bytes(piece))
                piece.clear()
        if piece:
            raw_bytes += len(piece)
            await send(bytes(piece))
        return PartTotals(rows=rows, raw_bytes=raw_bytes)

    async def details(self) -> SnapshotDetails:
        await anyio.lowlevel.checkpoint()
        return SnapshotDetails(
            documents={_SCHEMA: json.dumps(sorted(self._tables)).encode()},
            fingerprint=_fingerprint(self._tables),
            complete=True,
            history=lines(self._tables),
            unmatched=tuple(
                pattern
                for pattern in (*self._selection.include, *self._selection.exclude)
                if not fnmatch.filter(self._tables, pattern)
            ),
            names=tuple(sorted(self._tables)),
        )


class MemoryRestoration:
    """New tables beside the old ones, until `finish` puts them in their place."""

    max_concurrency = 4

    def __init__(
        self, database: MemoryDatabase, manifest: Manifest, names: Sequence[str], notify: Callable[[str], None]
    ) -> None:
        self._database = database
        self._manifest = manifest
        self._notify = notify
        self._tables: dict[str, dict[str, str]] = {name: {} for name in names}

    async def load(self, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
        table = self._tables.get(part.name)
        if table is None:
            raise BackupDamaged(f"its schema has no table {part.name}")
        rows = raw_bytes = 0
        async for chunk in chunks:
            for line in chunk.splitlines():
                key, row = json.loads(line)
                table[key] = json.dumps(row)
                rows += 1
            raw_bytes += len(chunk)
        return PartTotals(rows=rows, raw_bytes=raw_bytes)

    async def finish(self) -> RestoreTotals:
        self._notify("tables checked")
        await anyio.lowlevel.checkpoint()
        if _fingerprint(self._tables) != self._manifest.fingerprint:
            raise BackupDamaged("its tables are not those of the database it was made from")
        rows = sum(len(table) for table in self._tables.values())
        if rows != self._manifest.totals.rows:
            raise BackupDamaged(f"{self._manifest.totals.rows} rows were expected and {rows} came")
        self._database.tables = self._tables
        return RestoreTotals()


def _fingerprint(tables: Mapping[str, Table]) -> str:
    return hashlib.sha256("\n".join(sorted(tables)).encode()).hexdigest()


def _selected(name: str, selection: Selection) -> bool:
    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return (not selection.include or matches(selection.include)) and not matches(selection.exclude)
