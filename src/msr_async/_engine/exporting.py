"""A backup as lines of JSON, for people and other tools: a line that says what it is, a line a row, a line at the end.

Which line a row is, the backend's codec knows. The last line holds the number of rows and a hash of their lines, so
that a file that was cut is noticed, and one that was changed by hand is known to be.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
from anyio import to_thread
from msgspec import Struct

from ..errors import BackupFailed
from ..events import Step
from ..framing import Framing
from ..models import AppliedMigration, Column, DatabaseInfo, Manifest, Part, PartEntry
from ..protocols import Storage
from .emitting import Emitter
from .verifying import opened, read_chunk, read_documents, read_manifest

FORMAT = "msr-export"
END = "msr-export-end"
VERSION = 1

Write = Callable[[bytes], Awaitable[None]]


class Placing(Protocol):
    """Takes the rows of an import in and says which part each belongs to."""

    def part(self, row: bytes, /) -> int:
        """The number of the part; asked once for each row, in their order.

        Raises:
            ValueError: the row cannot stand there, in words that follow a colon.
        """
        ...

    def documents(self) -> Mapping[str, bytes]:
        """The backup's documents that go with the rows that came."""
        ...


class LineCodec(Protocol):
    """How the rows of one kind of database are written as lines of JSON. A module with these functions is one."""

    def split(self, chunk: bytes, /) -> Iterable[bytes]:
        """The rows of a chunk, without their frames."""
        ...

    def to_line(self, row: bytes, /) -> bytes:
        """One line of JSON without its end. Raises `ValueError` for a row that has none."""
        ...

    def to_row(self, line: bytes, /, *, times: bool) -> bytes:
        """The row of a line. Raises `ValueError` with what is wrong.

        Args:
            times: keep what tells an unchanged row from a changed one; not wanted when somebody edited the lines.
        """
        ...

    def placing(self, parts: Sequence[Part], documents: Mapping[str, bytes], /) -> Placing:
        """Begin an import. Raises `ValueError` when these are not parts and documents of this kind."""
        ...


class HeadPart(Struct, frozen=True, kw_only=True):
    kind: str
    names: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    slice: str = ""
    framing: Framing = "lines"


class Head(Struct, frozen=True, kw_only=True):
    """The first line: the backup's manifest without what only its file needs."""

    format: str
    version: int
    source: DatabaseInfo
    snapshot: str
    created: datetime
    backup: str
    """The id of the backup that was exported."""
    tool: str
    complete: bool
    rows: int
    documents: Mapping[str, Any]
    """By name: the value of a `.json` document, the text of another one."""
    parts: tuple[HeadPart, ...]
    history: tuple[AppliedMigration, ...] = ()
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = {}


class Tail(Struct, frozen=True, kw_only=True):
    """The last line."""

    format: str
    rows: int
    sha256: str = ""
    """Of the lines of the rows, each with its line feed."""


class Exported(Struct, frozen=True, kw_only=True):
    rows: int
    size: int
    """Bytes of text."""
    duration: float


async def export(
    *, storage: Storage, name: str, codec_of: Callable[[Manifest], LineCodec], write: Write, emit: Emitter
) -> Exported:
    """Write a backup as lines. Every chunk is checked before its rows are written.

    Args:
        codec_of: how rows of such a backup are written; raises `ConfigError` where that is not known.

    Raises:
        BackupInvalid: when the backup must not be read from.
        BackupFailed: when a row has no JSON form.
    """
    started = time.monotonic()
    async with opened(storage, name) as reader:
        index, manifest = await read_manifest(reader)
        codec = codec_of(manifest)
        documents = await read_documents(reader, index, manifest)
        emit(Step(action="backup", detail=f"exporting {name}"))
        head = _line(_head(manifest, documents))
        await write(head)
        size, rows, digest = len(head), 0, hashlib.sha256()
        for part in manifest.parts:
            for chunk in part.chunks:
                raw = await read_chunk(reader, index, chunk, part.framing)
                text = await to_thread.run_sync(_lines, codec, raw, chunk.member)
                digest.update(text)
                await write(text)
                size, rows = size + len(text), rows + chunk.rows
        tail = _line(Tail(format=END, rows=rows, sha256=digest.hexdigest()))
        await write(tail)
    return Exported(rows=rows, size=size + len(tail), duration=time.monotonic() - started)


def _head(manifest: Manifest, documents: Mapping[str, bytes]) -> Head:
    return Head(
        format=FORMAT,
        version=VERSION,
        source=manifest.source,
        snapshot=manifest.snapshot,
        created=manifest.created,
        backup=manifest.id,
        tool=manifest.tool,
        complete=manifest.complete,
        rows=manifest.totals.rows,
        documents={
            name: msgspec.json.decode(content) if name.endswith(".json") else content.decode()
            for name, content in documents.items()
        },
        parts=tuple(_head_part(entry) for entry in manifest.parts),
        history=manifest.history,
        notes=manifest.notes,
        tags=manifest.tags,
    )


def _head_part(entry: PartEntry) -> HeadPart:
    return HeadPart(kind=entry.kind, names=entry.names, columns=entry.columns, slice=entry.slice, framing=entry.framing)


def _line(value: Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _lines(codec: LineCodec, chunk: bytes, member: str) -> bytes:
    try:
        return b"".join([codec.to_line(row) + b"\n" for row in codec.split(chunk)])
    except ValueError as error:
        raise BackupFailed(
            f"A row of {member} cannot be written as a line: {error}.",
            hint="Update google-cloud-firestore and msr_async, or restore the backup instead of exporting it.",
        ) from error
