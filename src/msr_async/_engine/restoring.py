"""How a backup comes back: the whole file is checked first, then its parts are loaded, read ahead and checked again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import Struct

from ..archive import ArchiveIndex
from ..errors import RestoreFailed
from ..events import PartProgress, Restored, Step, TransferStarted, Warned
from ..models import ChunkEntry, Manifest, Part, PartEntry, RestoreInfo, RestoreTotals
from ..protocols import Backup, Restoration, RestoreOptions, Storage, StorageReader
from .emitting import Emitter
from .sharing import plainly, share
from .verifying import check_hashes, opened, read_chunk, read_documents, read_manifest

_AHEAD = 1
"""Chunks that wait for the database, beside the one that it takes and the one that is being read."""


async def restore(
    *, backup: Backup, storage: Storage, name: str, options: RestoreOptions, emit: Emitter
) -> RestoreInfo:
    """Replace what the target holds by a backup. Nothing of the target is touched before the whole file was checked.

    Raises:
        BackupInvalid: when the file must not be restored from; the target was not touched.
        RestoreFailed: when the target took another number of rows than the backup holds.
        MsrError: what the backend reports, unchanged.
    """
    started = time.monotonic()
    path = storage.path(name)

    async def load() -> tuple[Manifest, RestoreTotals]:
        async with opened(storage, name) as reader:
            emit(Step(action="restore", detail="checking the backup"))
            index, manifest = await read_manifest(reader)
            await check_hashes(reader, index, manifest)
            documents = await read_documents(reader, index, manifest)
            parts = tuple(entry.part for entry in manifest.parts)
            emit(TransferStarted(action="restore", path=path, parts=parts, raw_bytes=manifest.totals.raw_bytes))

            def notify(detail: str) -> None:
                emit(Step(action="restore", detail=detail))

            async with backup.restoration(manifest, documents, options, notify) as restoration:
                run = _Run(reader=reader, index=index, restoration=restoration, emit=emit)
                # The manifest's order is the snapshot's: biggest tables first, a table's slices as they were on disk
                workers = max(1, min(restoration.max_concurrency, len(manifest.parts)))
                await share(manifest.parts, run.part, workers=workers)
                return manifest, await restoration.finish()

    manifest, totals = await plainly(load)
    info = RestoreInfo(
        path=path,
        parts=manifest.totals.parts,
        rows=manifest.totals.rows,
        raw_bytes=manifest.totals.raw_bytes,
        duration=time.monotonic() - started,
        warnings=totals.warnings,
        kind=manifest.source.kind,
        mode=options.mode,
        written=manifest.totals.rows if totals.written is None else totals.written,
        unchanged=totals.unchanged,
        deleted=totals.deleted,
        kept=totals.kept,
    )
    for warning in info.warnings:
        emit(Warned(message=warning))
    emit(Restored(restore=info))
    return info


class _Checked(Struct, frozen=True, kw_only=True):
    rows: bytes
    entry: ChunkEntry


class _Run(Struct, frozen=True, kw_only=True):
    """One backup file on its way into the target."""

    reader: StorageReader
    index: ArchiveIndex
    restoration: Restoration
    emit: Emitter

    async def part(self, entry: PartEntry) -> None:
        part = entry.part
        send, receive = anyio.create_memory_object_stream[_Checked](_AHEAD)
        chunks = _Chunks(receive, part, self.emit)
        loaded = 0
        # The streams are closed after the tasks have ended: a reader that fails must not look like the end of the rows.
        with send, receive:
            async with anyio.create_task_group() as group:
                group.start_soon(self._read, entry, send)
                loaded = (await self.restoration.load(part, chunks)).rows
                group.cancel_scope.cancel()  # the reader has ended, or waits for somebody who stopped taking
        chunks.tell()
        if not entry.rows == chunks.rows == loaded:
            raise RestoreFailed(
                f"{part}: the backup holds {entry.rows} rows; {chunks.rows} were taken and {loaded} loaded.",
                hint="Run it again; if it happens again, please report it.",
            )
        self.emit(PartProgress(action="restore", part=part, rows=0, raw_bytes=0, finished=True))

    async def _read(self, entry: PartEntry, send: MemoryObjectSendStream[_Checked]) -> None:
        try:
            for chunk in entry.chunks:
                rows = await read_chunk(self.reader, self.index, chunk, entry.framing)
                await send.send(_Checked(rows=rows, entry=chunk))
                del rows
        except anyio.BrokenResourceError:
            return  # the loader closed its end: it has an error of its own, or the counts will differ
        send.close()


class _Chunks(AsyncIterator[bytes]):
    """What a backend loads from. Not an async generator: nothing is left half-way when it stops early."""

    def __init__(self, receive: MemoryObjectReceiveStream[_Checked], part: Part, emit: Emitter) -> None:
        self._receive = receive
        self._part = part
        self._emit = emit
        self._taken: ChunkEntry | None = None
        self.rows = 0
        """Rows handed out so far."""

    async def __anext__(self) -> bytes:
        self.tell()
        try:
            checked = await self._receive.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        self._taken = checked.entry
        self.rows += checked.entry.rows
        return checked.rows

    async def aclose(self) -> None:
        self._receive.close()

    def tell(self) -> None:
        """Report the chunk that was handed out last: its taker is done with it."""
        if self._taken is not None:
            taken, self._taken = self._taken, None
            self._emit(PartProgress(action="restore", part=self._part, rows=taken.rows, raw_bytes=taken.raw_size))
