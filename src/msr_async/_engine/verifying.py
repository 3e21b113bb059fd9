"""What is in a backup file, and whether all of it is still what was written."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from anyio import to_thread

from .. import archive
from ..archive import ArchiveIndex, Member
from ..archive.reader import Reading
from ..errors import BackupDamaged, BackupInvalid
from ..events import Step
from ..framing import Framing, rows_in
from ..models import ChunkEntry, DocumentEntry, Manifest, VerifyInfo
from ..protocols import Storage, StorageReader
from .emitting import Emitter
from .sharing import plainly, share

_Entry: TypeAlias = ChunkEntry | DocumentEntry
_Check: TypeAlias = Callable[[Member], Awaitable[None]]

_READERS = 4
"""Members that are read and checked at once: the next are read while the threads work."""


@asynccontextmanager
async def opened(storage: Storage, name: str) -> AsyncIterator[StorageReader]:
    """A backup to read; what is found wrong with it inside the block names its file."""
    async with storage.open(name) as reader:
        try:
            yield reader
        except BackupInvalid as error:
            error.path = storage.path(name)
            raise


async def read_index(reader: StorageReader) -> ArchiveIndex:
    """The file's directory, strictly checked, and its format, which must be one that we read.

    Raises:
        BackupInvalid: `NotABackup`, `BackupTooNew` or `BackupDamaged`.
    """
    steps = archive.read_index(reader.size)
    request, index = await to_thread.run_sync(_step, steps, None)
    while index is None:
        data = await reader.read(*request)
        request, index = await to_thread.run_sync(_step, steps, data)  # a directory of a million members takes seconds
    return index


async def read_manifest(reader: StorageReader) -> tuple[ArchiveIndex, Manifest]:
    """The index and what the backup says of itself; both agree on the members and their sizes.

    Raises:
        BackupInvalid: as `read_index`.
    """
    index = await read_index(reader)
    member = index.members[archive.MANIFEST_MEMBER]
    data = await _bytes_of(reader, member)

    def read() -> Manifest:
        manifest = archive.unpack_manifest(archive.check_member(member, data))
        archive.check_against_manifest(index, manifest)
        return manifest

    return index, await to_thread.run_sync(read)


async def check_hashes(reader: StorageReader, index: ArchiveIndex, manifest: Manifest) -> None:
    """Header, CRC-32 and SHA-256 of every member, without decompressing: the whole file is as it was written.

    Raises:
        BackupDamaged: naming the first damaged member that was found.
    """
    await share(index.members.values(), _each(reader, manifest, _payload), workers=_READERS)


async def read_chunk(reader: StorageReader, index: ArchiveIndex, entry: ChunkEntry, framing: Framing) -> bytes:
    """A chunk's rows, handed out only when its hash, its size and its row count are the manifest's.

    Raises:
        BackupDamaged: when they are not.
    """
    member = index.members[entry.member]
    data = await _bytes_of(reader, member)
    return await to_thread.run_sync(_raw, member, data, entry, framing)


async def read_documents(reader: StorageReader, index: ArchiveIndex, manifest: Manifest) -> dict[str, bytes]:
    """The schema's documents by name, checked as `read_chunk` does.

    Raises:
        BackupDamaged: when one of them is not what the manifest says.
    """
    documents: dict[str, bytes] = {}
    for entry in manifest.documents:
        member = index.members[entry.member]
        data = await _bytes_of(reader, member)
        documents[entry.name] = await to_thread.run_sync(_raw, member, data, entry, None)
    return documents


async def verify(storage: Storage, name: str, *, level: Literal["quick", "full"], emit: Emitter) -> VerifyInfo:
    """Check a backup: its structure, every member's header and the sizes; `full` adds every hash, byte and row count.

    Raises:
        BackupInvalid: when it must not be restored from.
        BackupNotFound: when there is no such file.
    """
    started = time.monotonic()

    async def look() -> tuple[ArchiveIndex, Manifest]:
        async with opened(storage, name) as reader:
            index, manifest = await read_manifest(reader)
            emit(Step(action="verify", detail=f"{len(index.members)} members, {level}"))
            check = _each(reader, manifest, _raw) if level == "full" else _each_header(reader)
            await share(index.members.values(), check, workers=_READERS)
            return index, manifest

    index, manifest = await plainly(look)
    return VerifyInfo(
        path=storage.path(name),
        id=manifest.id,
        level=level,
        members=len(index.members),
        rows=manifest.totals.rows,
        raw_bytes=manifest.totals.raw_bytes,
        size=index.size,
        duration=time.monotonic() - started,
    )


def _each(
    reader: StorageReader,
    manifest: Manifest,
    check: Callable[[Member, bytes, _Entry | None, Framing | None], object],
) -> _Check:
    """Read a member and check it in a worker thread against its line in the manifest."""
    listed: Mapping[str, tuple[_Entry, Framing | None]] = {
        **{entry.member: (entry, None) for entry in manifest.documents},
        **{entry.member: (entry, part.framing) for part in manifest.parts for entry in part.chunks},
    }

    async def check_member(member: Member) -> None:
        data = await _bytes_of(reader, member)
        await to_thread.run_sync(check, member, data, *listed.get(member.name, (None, None)))

    return check_member


def _each_header(reader: StorageReader) -> _Check:
    async def check_header(member: Member) -> None:
        if await reader.read(member.offset, member.header_size) != member.header_bytes():
            raise BackupDamaged("its header was changed", member=member.name)

    return check_header


async def _bytes_of(reader: StorageReader, member: Member) -> bytes:
    return await reader.read(member.offset, member.end - member.offset)


def _step(steps: Reading, data: bytes | None) -> tuple[tuple[int, int], ArchiveIndex | None]:
    try:
        return (next(steps) if data is None else steps.send(data)), None
    except StopIteration as stop:  # it cannot travel through a future
        return (0, 0), stop.value


def _payload(member: Member, data: bytes, entry: _Entry | None, framing: Framing | None = None) -> bytes:
    """A member's content as it is stored. Without an entry it is one that only the file's directory vouches for."""
    payload = archive.check_member(member, data)
    if entry is not None and archive.digest(payload) != entry.sha256:
        raise BackupDamaged("its content was changed (SHA-256)", member=member.name)
    return payload


def _raw(member: Member, data: bytes, entry: _Entry | None, framing: Framing | None) -> bytes:
    payload = _payload(member, data, entry)
    if entry is None:
        return payload
    raw = archive.decompress(payload, entry.raw_size, member=member.name)
    if framing is not None and isinstance(entry, ChunkEntry):
        try:
            rows = rows_in(raw, framing)
        except ValueError as error:
            raise BackupDamaged(str(error), member=member.name) from None
        if rows != entry.rows:
            raise BackupDamaged(f"it holds {rows} rows where {entry.rows} were written", member=member.name)
    return raw
