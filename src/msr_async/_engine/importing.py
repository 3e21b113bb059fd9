"""Lines of JSON as a backup file: read twice, first to see that the file is whole, then row by row."""

from __future__ import annotations

import hashlib
import time
import uuid
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec
from anyio import to_thread
from msgspec import Struct

from .. import archive
from ..config import BackupConfig
from ..errors import BackupInvalid, BackupTooNew, NotABackup
from ..events import BackupCreated, Step
from ..framing import framed
from ..models import VERSION, BackupInfo, ChunkEntry, DocumentEntry, Manifest, Part, PartEntry
from ..protocols import Storage, StorageReader
from . import exporting
from .appending import Appender
from .chunking import Chunk, Cutter
from .emitting import Emitter
from .exporting import Head, LineCodec, Placing, Tail
from .listing import backup_info

_BLOCK = 1024 * 1024
_LONGEST = 64 * 1024 * 1024
"""Bytes of a line: a document of 1 MiB takes 6 MiB where every character is written as an escape."""
_GZIP = b"\x1f\x8b"
_CHANGED = (
    "The export had been changed by hand: it is the state of no database, so it is restored only when it is named, "
    "and no row is taken for unchanged."
)


async def import_lines(
    *,
    lines: StorageReader,
    path: Path,
    storage: Storage,
    name: str,
    config: BackupConfig,
    codec_of: Callable[[Head], LineCodec],
    emit: Emitter,
) -> BackupInfo:
    """Make a backup file of an export, changed by hand or not; it appears only when every line was good.

    What was changed is no state of a database any more: it is a new backup, made now and not `complete`.

    Args:
        lines: the export, plain or compressed by gzip.
        path: what to call it in messages.

    Raises:
        BackupInvalid: naming the line that is wrong.
    """
    started = time.monotonic()
    try:
        whole = await _looked_over(lines)
        head = _head(whole.head)
        try:
            placing = codec_of(head).placing(_parts(head), _documents(head))
        except ValueError as error:
            raise _wrong(1, str(error)) from None
        emit(Step(action="backup", detail=f"importing {path.name}"))
        async with storage.create(name) as file:
            intake = _Intake(Appender(file, config), head, config, untouched=whole.untouched)
            await intake.begin()
            async with aclosing(_blocks(lines)) as blocks:
                rows = _Rows(codec_of(head), placing, whole)
                async for block in blocks:
                    await intake.take(await to_thread.run_sync(rows.of, block))
            rows.check_end()
            manifest = await intake.finish(placing.documents(), _notes(head, whole))
            size = await intake.appender.finish(manifest)
    except BackupInvalid as error:
        error.path = path
        raise
    info = backup_info(storage.path(name), size, manifest, duration=time.monotonic() - started)
    emit(BackupCreated(backup=info))
    return info


# -- the first reading: is it whole ----------------------------------------------------------------


class _Whole(Struct, frozen=True, kw_only=True):
    head: bytes
    rows: int
    sha256: str
    """Of the lines of the rows, as they were read first."""
    untouched: bool
    """The lines are those that were exported, and as many as the head says."""


async def _looked_over(lines: StorageReader) -> _Whole:
    look = _Look()
    async with aclosing(_blocks(lines)) as blocks:
        async for block in blocks:
            await to_thread.run_sync(look.take, block)
    return look.whole()


class _Look:
    """Counts and hashes the lines between the first and the last."""

    def __init__(self) -> None:
        self._split = _Splitter()
        self._digest = hashlib.sha256()
        self._head: bytes | None = None
        self._held: bytes | None = None
        """The newest line, which may be the last."""
        self._rows = 0

    def take(self, block: bytes | None) -> None:
        for line in self._split.lines(block):
            if self._head is None:
                self._head = line
                _head(line)
                continue
            if self._held is not None:
                self._digest.update(self._held + b"\n")
                self._rows += 1
            self._held = line

    def whole(self) -> _Whole:
        if self._head is None:
            raise _not_ours("it is empty")
        try:
            tail = msgspec.json.decode(self._held or b"", type=Tail)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            tail = Tail(format="", rows=0)
        if tail.format != exporting.END:
            raise NotABackup(
                "The export is not whole: its last line, which holds the number of rows, is missing.",
                hint="Copy or export it again.",
            )
        if tail.rows != self._rows:
            raise BackupInvalid(
                f"Its last line says {tail.rows} rows, and there are {self._rows}.",
                hint="Export it again; if you took lines out or put some in, correct the number in the last line.",
            )
        digest = self._digest.hexdigest()
        untouched = tail.sha256 == digest and _head(self._head).rows == self._rows
        return _Whole(head=self._head, rows=self._rows, sha256=digest, untouched=untouched)


class _Kind(Struct, frozen=True, kw_only=True):
    format: str = ""
    version: int = 0


def _head(line: bytes) -> Head:
    try:
        kind = msgspec.json.decode(line, type=_Kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_ours("its first line does not describe one") from None
    if kind.format != exporting.FORMAT:
        raise _not_ours("its first line does not describe one")
    if kind.version > exporting.VERSION:
        raise BackupTooNew(
            f"The export has version {kind.version}; this msr_async reads version {exporting.VERSION}.",
            hint="Install a newer msr_async: pip install --upgrade msr_async.",
        )
    try:
        return msgspec.json.decode(line, type=Head)
    except UnicodeDecodeError:
        raise _wrong(1, "it is not UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise _wrong(1, str(error)) from None


def _not_ours(why: str) -> NotABackup:
    return NotABackup(
        f"The file is not an export of msr_async: {why}.", hint="Give a file that msr-async backup export wrote."
    )


def _wrong(number: int, fault: str) -> BackupInvalid:
    return BackupInvalid(
        f"Line {number}: {fault}.", hint="Correct that line, or export the backup again; no backup was made."
    )


def _parts(head: Head) -> list[Part]:
    return [
        Part(kind=part.kind, names=part.names, columns=part.columns, slice=part.slice, framing=part.framing)
        for part in head.parts
    ]


def _documents(head: Head) -> dict[str, bytes]:
    return {
        name: content.encode() if isinstance(content, str) else msgspec.json.encode(content)
        for name, content in head.documents.items()
    }


def _notes(head: Head, whole: _Whole) -> tuple[str, ...]:
    told = f"It was imported from an export of the backup {head.backup}."
    if whole.untouched:
        return (*head.notes, told)
    return (*head.notes, told, _CHANGED)


# -- the second reading: the rows ------------------------------------------------------------------


class _Rows:
    """Turns blocks of the file into rows, framed, with the number of their part."""

    def __init__(self, codec: LineCodec, placing: Placing, whole: _Whole) -> None:
        self._codec = codec
        self._placing = placing
        self._whole = whole
        self._split = _Splitter()
        self._number = 0
        self._digest = hashlib.sha256()

    def of(self, block: bytes | None) -> list[tuple[int, bytes]]:
        rows = []
        for line in self._split.lines(block):
            self._number += 1
            if 1 < self._number <= self._whole.rows + 1:
                self._digest.update(line + b"\n")
                try:
                    row = self._codec.to_row(line, times=self._whole.untouched)
                    rows.append((self._placing.part(row), row))
                except ValueError as error:
                    raise _wrong(self._number, str(error)) from None
        return rows

    def check_end(self) -> None:
        """Raises:
        BackupInvalid: these were other lines than at the first reading, by which the file was judged.
        """
        if self._digest.hexdigest() != self._whole.sha256:
            raise BackupInvalid(
                "The file was changed while it was read; no backup was made.",
                hint="Import it again when nobody writes to it.",
            )


class _Intake:
    """The backup file that the rows go into."""

    def __init__(self, appender: Appender, head: Head, config: BackupConfig, *, untouched: bool) -> None:
        self.appender = appender
        self._head = head
        self._untouched = untouched
        self._parts = _parts(head)
        self._tags = {**head.tags, **config.tags}
        self._cutter = Cutter(config.chunk_size)
        self._chunks: dict[int, list[ChunkEntry]] = {number: [] for number in range(len(head.parts))}
        self._part = -1

    async def begin(self) -> None:
        await self.appender.begin()

    async def take(self, rows: Iterable[tuple[int, bytes]]) -> None:
        for number, row in rows:
            if number != self._part:
                await self._end_part()
                self._part, self._cutter.framing = number, self._parts[number].framing
            frame = framed(row) if self._cutter.framing == "messages" else row + b"\n"
            for chunk in self._cutter.feed(frame):
                await self._store(chunk)

    async def finish(self, documents: Mapping[str, bytes], notes: tuple[str, ...]) -> Manifest:
        await self._end_part()
        entries = [await self._document(name, content) for name, content in documents.items()]
        head = self._head
        parts = tuple(_entry(part, self._chunks[number]) for number, part in enumerate(self._parts))
        return Manifest(
            id=str(uuid.uuid4()),
            created=head.created if self._untouched else datetime.now(UTC),
            tool=f"msr_async {VERSION}",
            source=head.source,
            snapshot=head.snapshot,
            history=head.history,
            fingerprint="",
            complete=head.complete and self._untouched,
            notes=notes,
            documents=tuple(entries),
            parts=parts,
            totals=archive.totals(parts),
            tags=self._tags,
        )

    async def _end_part(self) -> None:
        last = self._cutter.finish()
        if last is not None:
            await self._store(last)

    async def _store(self, chunk: Chunk) -> None:
        chunks = self._chunks[self._part]
        member = archive.chunk_member(self._part, len(chunks))
        packed = await self.appender.pack_chunk(chunk)
        self._cutter.give_back(chunk)
        await self.appender.add(member, packed)
        size = len(packed.payload)
        chunks.append(
            ChunkEntry(member=member, size=size, sha256=packed.sha256, raw_size=packed.raw_size, rows=packed.rows)
        )

    async def _document(self, name: str, content: bytes) -> DocumentEntry:
        member = archive.document_member(name)
        packed = await self.appender.pack_document(content)
        await self.appender.add(member, packed)
        size = len(packed.payload)
        return DocumentEntry(name=name, member=member, size=size, sha256=packed.sha256, raw_size=packed.raw_size)


def _entry(part: Part, chunks: list[ChunkEntry]) -> PartEntry:
    return PartEntry(
        kind=part.kind,
        names=part.names,
        columns=part.columns,
        slice=part.slice,
        rows=sum(chunk.rows for chunk in chunks),
        raw_bytes=sum(chunk.raw_size for chunk in chunks),
        chunks=tuple(chunks),
        framing=part.framing,
    )


# -- the file --------------------------------------------------------------------------------------


async def _blocks(lines: StorageReader) -> AsyncGenerator[bytes | None, None]:
    """The text in blocks, and None behind the last one."""
    zipped = await lines.read(0, 2) == _GZIP
    inflate = _Inflate() if zipped else None
    for offset in range(0, lines.size, _BLOCK):
        block = await lines.read(offset, min(_BLOCK, lines.size - offset))
        if inflate is None:
            yield block
            continue
        pieces = inflate.pieces(block)
        while (piece := await to_thread.run_sync(partial(next, pieces, None))) is not None:
            yield piece
    if inflate is not None:
        inflate.check_end()
    yield None


class _Inflate:
    """gzip's members one after the other, in pieces of a bounded size."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def pieces(self, block: bytes) -> Iterator[bytes]:
        while block:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            try:
                yield self._member.decompress(block, _BLOCK)
            except zlib.error:
                raise NotABackup("The export is damaged: gzip cannot unpack it.", hint="Copy it again.") from None
            block = self._member.unconsumed_tail or self._member.unused_data

    def check_end(self) -> None:
        if not self._member.eof:
            raise NotABackup("The export is not whole: its gzip stream has no end.", hint="Copy or export it again.")


class _Splitter:
    """Lines without their ends, out of blocks that are cut anywhere."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._size = 0
        self._count = 0

    def lines(self, block: bytes | None) -> Iterator[bytes]:
        if block is None:
            if self._size:
                yield b"".join(self._rest)
            return
        *whole, rest = block.split(b"\n")
        for line in whole:
            self._count += 1
            yield b"".join((*self._rest, line))
            self._rest, self._size = [], 0
        self._rest.append(rest)
        self._size += len(rest)
        if self._size > _LONGEST:
            raise _wrong(self._count + 1, f"it is longer than {_LONGEST >> 20} MiB")
