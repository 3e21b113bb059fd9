"""A database of plain rows in memory, with a hook at every point where a backend can be slow, fail or be cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from msr_async._engine.dumping import dump
from msr_async._engine.emitting import Emitter
from msr_async._engine.restoring import restore
from msr_async.config import BackupConfig
from msr_async.events import Event
from msr_async.models import (
    BackupInfo,
    DatabaseInfo,
    Manifest,
    Part,
    PartTotals,
    RestoreInfo,
    RestoreTotals,
    Selection,
    SnapshotDetails,
)
from msr_async.protocols import RestoreOptions, Send, Storage

Tables = Mapping[str, Sequence[bytes]]
Hook = Callable[[str], Awaitable[None]]

SOURCE = DatabaseInfo(
    kind="memory", name="shop", host="here", identity="shop-1", server_version="1", environment=None, empty=False
)


async def nothing(_point: str) -> None:
    await anyio.lowlevel.checkpoint()


class FakeBackup:
    """`tables` are rows without their ends; `at` is awaited at every point, with its name."""

    def __init__(self, tables: Tables, *, piece: int = 1000, at: Hook = nothing, max_concurrency: int = 2) -> None:
        self.tables: dict[str, list[bytes]] = {name: list(rows) for name, rows in tables.items()}
        self.piece = piece
        self.at = at
        self.max_concurrency = max_concurrency
        self.miscount = 0
        """Added to the rows that it says it dumped or loaded."""
        self.ending = b"\n"
        """What the last row of a part ends in."""
        self.complete = True
        self.open = 0
        """Snapshots and restorations that were entered and not left."""
        self.restorations = 0

    @asynccontextmanager
    async def snapshot(self, _selection: Selection, /, *, complete: bool) -> AsyncIterator[FakeSnapshot]:
        self.open += 1
        try:
            await self.at("snapshot")
            yield FakeSnapshot(self)
        finally:
            self.open -= 1

    @asynccontextmanager
    async def restoration(
        self,
        manifest: Manifest,
        documents: Mapping[str, bytes],
        _options: RestoreOptions,
        notify: Callable[[str], None],
        /,
    ) -> AsyncIterator[FakeRestoration]:
        self.open += 1
        self.restorations += 1
        try:
            await self.at("restoration")
            assert documents == {"pre-data.sql": b"CREATE ...;\n", "post-data.sql": b""}
            notify("tables made")
            yield FakeRestoration(self, manifest)
        finally:
            self.open -= 1


class FakeSnapshot:
    def __init__(self, backup: FakeBackup) -> None:
        self._backup = backup
        self.token = "00000003-1"
        sizes = {name: sum(len(row) + 1 for row in rows) for name, rows in backup.tables.items()}
        order = sorted(sizes, key=lambda name: -sizes[name])
        self.parts = [Part(kind="table", names=("public", name), estimate=sizes[name]) for name in order]

    async def dump(self, part: Part, send: Send, /) -> PartTotals:
        rows = self._backup.tables[part.names[1]]
        data = b"\n".join(rows) + self._backup.ending if rows else b""
        for start in range(0, len(data), self._backup.piece):
            await self._backup.at(f"send {part.names[1]} {start}")
            await send(data[start : start + self._backup.piece])
        await self._backup.at(f"sent {part.names[1]}")
        return PartTotals(rows=len(rows) + self._backup.miscount, raw_bytes=len(data))

    async def details(self) -> SnapshotDetails:
        await self._backup.at("details")
        return SnapshotDetails(
            documents={"pre-data.sql": b"CREATE ...;\n", "post-data.sql": b""},
            fingerprint="f" * 8,
            complete=self._backup.complete,
            history=(),
            notes=("roles are not in it",),
        )


class FakeRestoration:
    def __init__(self, backup: FakeBackup, manifest: Manifest) -> None:
        self._backup = backup
        self._loaded: dict[str, list[bytes]] = {entry.names[1]: [] for entry in manifest.parts}
        self.max_concurrency = backup.max_concurrency

    async def load(self, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
        await self._backup.at(f"load {part.names[1]}")
        loaded, size = self._loaded[part.names[1]], 0
        async for chunk in chunks:
            await self._backup.at(f"take {part.names[1]}")
            assert chunk.endswith(b"\n")
            loaded += chunk[:-1].split(b"\n")
            size += len(chunk)
        return PartTotals(rows=len(loaded) + self._backup.miscount, raw_bytes=size)

    async def finish(self) -> RestoreTotals:
        await self._backup.at("finish")
        self._backup.tables = self._loaded
        return RestoreTotals(warnings=("sequences were not checked",))


def small_config(**settings: object) -> BackupConfig:
    """Small chunks, so that small tables have many."""
    config = BackupConfig(chunk_size=4096, concurrency=3, tags={"release": "1.2"})
    for name, value in settings.items():
        setattr(config, name, value)
    return config


def shop(rows: int = 400) -> dict[str, list[bytes]]:
    """Tables of several chunks, of one chunk and of none, and one row that is larger than a chunk."""
    return {
        "orders": [b"%d\tsomebody\t%d.00" % (number, number * 7 % 1000) for number in range(rows)],
        "items": [b"%d\t%d\tthing" % (number, number % 7) for number in range(rows * 2)],
        "wide": [b"1\tx", b"2\t" + b"y" * 10_000, b"3\tz"],
        "one": [b"1\t\\N"],
        "no_columns": [b"", b"", b""],
        "empty": [],
    }


async def make(
    backup: FakeBackup,
    storage: Storage,
    name: str = "b.msrbak",
    *,
    config: BackupConfig | None = None,
    events: list[Event] | None = None,
    complete: bool = True,
) -> BackupInfo:
    return await dump(
        backup=backup,
        storage=storage,
        name=name,
        config=config or small_config(),
        source=SOURCE,
        complete=complete,
        emit=Emitter(() if events is None else (events.append,)),
    )


async def put_back(
    backup: FakeBackup, storage: Storage, name: str = "b.msrbak", *, events: list[Event] | None = None
) -> RestoreInfo:
    return await restore(
        backup=backup,
        storage=storage,
        name=name,
        options=RestoreOptions(),
        emit=Emitter(() if events is None else (events.append,)),
    )
