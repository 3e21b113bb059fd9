"""How a backup is made: the parts of one snapshot side by side, cut into chunks, packed in threads, in one file."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct

from .. import archive
from ..config import BackupConfig
from ..errors import BackupFailed
from ..events import BackupCreated, PartProgress, Step, TransferStarted, Warned
from ..models import (
    VERSION,
    BackupInfo,
    ChunkEntry,
    DatabaseInfo,
    DocumentEntry,
    Manifest,
    Part,
    PartEntry,
    Selection,
    SnapshotDetails,
)
from ..protocols import Backup, Snapshot, Storage
from .appending import Appender
from .chunking import Chunk, Cutter
from .emitting import Emitter
from .listing import backup_info
from .selecting import check_selection
from .sharing import plainly


async def dump(
    *,
    backup: Backup,
    storage: Storage,
    name: str,
    config: BackupConfig,
    source: DatabaseInfo,
    complete: bool,
    emit: Emitter,
) -> BackupInfo:
    """Write a backup of what `config` selects, as of one point in time; it appears only when all of it is safe.

    Raises:
        BackupFailed: when the two sides counted differently, or the schema was asked for and could not be taken.
        StorageError: when the file cannot be written; `StorageFull` when there is no room.
        MsrError: what the backend reports, unchanged.
    """
    created, started = datetime.now(UTC), time.monotonic()
    path = storage.path(name)

    async def write() -> tuple[Manifest, int]:
        async with storage.create(name) as file:
            appender = Appender(file, config)
            await appender.begin()
            selection = Selection(include=config.include, exclude=config.exclude)
            async with backup.snapshot(selection, complete=complete) as snapshot:
                token, parts = snapshot.token, tuple(snapshot.parts)
                estimate = sum(part.estimate for part in parts)
                emit(TransferStarted(action="backup", path=path, parts=parts, raw_bytes=estimate))
                run = _Run(
                    snapshot=snapshot,
                    appender=appender,
                    config=config,
                    selection=selection,
                    complete=complete,
                    emit=emit,
                )
                contents = await run.everything(parts)
            manifest = Manifest(
                id=str(uuid.uuid4()),
                created=created,
                tool=f"msr_async {VERSION}",
                source=source,
                snapshot=token,
                history=contents.details.history,
                fingerprint=contents.details.fingerprint,
                complete=contents.details.complete,
                notes=contents.details.notes,
                documents=contents.documents,
                parts=contents.parts,
                totals=archive.totals(contents.parts),
                tags=dict(config.tags),
            )
            emit(Step(action="backup", detail="finishing the file"))
            return manifest, await appender.finish(manifest)

    manifest, size = await plainly(write)
    info = backup_info(path, size, manifest, duration=time.monotonic() - started)
    emit(BackupCreated(backup=info))
    return info


class _Contents(Struct, frozen=True, kw_only=True):
    parts: tuple[PartEntry, ...]
    documents: tuple[DocumentEntry, ...]
    details: SnapshotDetails


class _Run(Struct, frozen=True, kw_only=True):
    """One snapshot on its way into the file."""

    snapshot: Snapshot
    appender: Appender
    config: BackupConfig
    selection: Selection
    complete: bool
    emit: Emitter

    async def everything(self, parts: Sequence[Part]) -> _Contents:
        entries: dict[int, PartEntry] = {}
        schema: list[tuple[tuple[DocumentEntry, ...], SnapshotDetails]] = []
        # Biggest first, so that the largest table is not the one that everybody waits for at the end.
        queue = iter(sorted(enumerate(parts), key=lambda numbered: -numbered[1].estimate))

        async with anyio.create_task_group() as group:

            async def worker() -> None:
                cutter = Cutter(self.config.chunk_size)
                for number, part in queue:
                    entries[number] = await _PartDump(self, group, cutter, number, part).whole()

            async def details() -> None:
                schema.append(await self.schema())

            group.start_soon(details)
            for _ in range(min(self.config.concurrency, len(parts))):
                group.start_soon(worker)

        ((documents, taken),) = schema
        ordered = tuple(entries[number] for number in range(len(parts)))
        return _Contents(parts=ordered, documents=documents, details=taken)

    async def schema(self) -> tuple[tuple[DocumentEntry, ...], SnapshotDetails]:
        details = await self.snapshot.details()
        if self.complete and not details.complete:
            raise BackupFailed(
                "Only the rows could be taken, not what holds them: such a backup cannot undo a migration.",
                hint="Look at the backup's notes for what is missing, or ask for a backup of the data alone.",
            )
        for warning in check_selection(self.selection, details):
            self.emit(Warned(message=warning))
        documents: list[DocumentEntry] = []
        for name, content in details.documents.items():
            member = archive.document_member(name)
            packed = await self.appender.pack_document(content)
            await self.appender.add(member, packed)
            size = len(packed.payload)
            documents.append(
                DocumentEntry(name=name, member=member, size=size, sha256=packed.sha256, raw_size=packed.raw_size)
            )
        self.emit(Step(action="backup", detail="schema saved"))
        return tuple(documents), details


class _PartDump:
    """One part. While one of its chunks is packed and written, the next is collected; never more than that."""

    def __init__(self, run: _Run, group: TaskGroup, cutter: Cutter, number: int, part: Part) -> None:
        self._run = run
        self._group = group
        self._cutter = cutter
        self._cutter.framing = part.framing
        self._number = number
        self._part = part
        self._received = 0
        self._cut = 0
        self._entries: list[ChunkEntry] = []
        self._free = anyio.Semaphore(1, fast_acquire=True)
        """Taken while a chunk is under way, and kept when it fails: nothing goes on before the group is stopped."""

    async def whole(self) -> PartEntry:
        totals = await self._run.snapshot.dump(self._part, self._send)
        await self._free.acquire()
        last = self._cutter.finish()
        entry = await self._store(last) if last is not None else None
        part, entries = self._part, tuple(self._entries)
        rows = sum(chunk.rows for chunk in entries)
        if (rows, self._received) != (totals.rows, totals.raw_bytes):
            raise BackupFailed(
                f"{part}: the database counted {totals.rows} rows in {totals.raw_bytes} bytes, "
                f"but {rows} rows in {self._received} bytes arrived.",
                hint="Run it again; if it happens again, please report it with the type of the table's columns.",
            )
        self._tell(entry, finished=True)
        return PartEntry(
            kind=part.kind,
            names=part.names,
            columns=part.columns,
            slice=part.slice,
            framing=part.framing,
            rows=rows,
            raw_bytes=self._received,
            chunks=entries,
        )

    async def _send(self, piece: bytes) -> None:
        self._received += len(piece)
        for chunk in self._cutter.feed(piece):
            await self._free.acquire()
            self._group.start_soon(self._store_aside, chunk)

    async def _store_aside(self, chunk: Chunk) -> None:
        self._tell(await self._store(chunk))
        self._free.release()

    async def _store(self, chunk: Chunk) -> ChunkEntry:
        if not chunk.ended:
            raise BackupFailed(
                f"{self._part}: its last row has no end.", hint="Run it again; if it happens again, please report it."
            )
        member = archive.chunk_member(self._number, self._cut)
        self._cut += 1
        packed = await self._run.appender.pack_chunk(chunk)
        self._cutter.give_back(chunk)
        await self._run.appender.add(member, packed)
        entry = ChunkEntry(
            member=member,
            size=len(packed.payload),
            sha256=packed.sha256,
            raw_size=packed.raw_size,
            rows=packed.rows,
        )
        self._entries.append(entry)
        return entry

    def _tell(self, entry: ChunkEntry | None, *, finished: bool = False) -> None:
        rows, raw_bytes = (entry.rows, entry.raw_size) if entry else (0, 0)
        self._run.emit(
            PartProgress(action="backup", part=self._part, rows=rows, raw_bytes=raw_bytes, finished=finished)
        )
