"""Both directions for one database: what is read at one point in time, and the restoration that writes it."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
import grpc
from msgspec import structs

from ..errors import BackupFailed, DatabaseError
from ..framing import framed
from ..models import DatabaseInfo, Manifest, Part, PartTotals, Selection, SnapshotDetails
from ..protocols import RestoreOptions, Send
from . import dividing, reading, wire
from .clients import Clients
from .names import KeyRange, Scope, bridged, is_internal, scope_of

if TYPE_CHECKING:
    from .restoration import FirestoreRestoration

COLLECTIONS = "collections.json"
KIND = "documents"

_DOCUMENT_BYTES = 400
"""Of a document, for the estimate: nobody tells before it is read."""
_READABLE = 3600.0 * 0.9
"""Seconds for which what is past can be read, less a margin."""
_RATE = 12_000
"""Documents a second: 3,000 a stream, four streams at once."""

_NOT_COUNTED = frozenset(
    {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
)

_NOT_IN_IT = "Indexes, security rules and TTL policies are not in it: keep them where you deploy them from."


class FirestoreBackup:
    """Backups and restores of one database.

    Args:
        open: gives the clients; asked for each time, for they are made inside the event loop.
        max_batch_bytes: of a request that writes.
        ramp_up: write slowly at first; None: in production, not to an emulator.
        max_reads: refuse a backup of more documents than that; None: as many as there are.
        max_writes: the same for a restore.
        readable: seconds for which a point in time can be read.
        rate: documents that are read in a second, in production.
        least_in_part: documents that a part has at least, about.
        most_parts: how many parts there are at most, about; None: what suits the server.
    """

    def __init__(
        self,
        open: Callable[[], Clients],
        describe: Callable[[], Awaitable[DatabaseInfo]],
        *,
        max_batch_bytes: int,
        ramp_up: bool | None,
        max_reads: int | None,
        max_writes: int | None,
        limits: reading.Limits = reading.LIMITS,
        readable: float = _READABLE,
        rate: float = _RATE,
        least_in_part: int = dividing.LEAST,
        most_parts: int | None = None,
    ) -> None:
        self._open = open
        self._describe = describe
        self._max_batch_bytes = max_batch_bytes
        self._ramp_up = ramp_up
        self._max_reads = max_reads
        self._max_writes = max_writes
        self._limits = limits
        self._readable = readable
        self._rate = rate
        self._least_in_part = least_in_part
        self._most_parts = most_parts

    @asynccontextmanager
    async def snapshot(self, selection: Selection, /, *, complete: bool) -> AsyncIterator[FirestoreSnapshot]:
        """The database at one `read_time`, which any number of streams read.

        Raises:
            BackupFailed: it was to be complete and is a selection, or there are more documents than can be read.
        """
        scope = scope_of(selection)
        if complete and not scope.whole:
            raise BackupFailed(
                "A backup that can undo a migration holds all documents, and this one was to hold a selection.",
                hint="Leave include and exclude out.",
            )
        clients = self._open()
        read_time = await reading.now(clients, limits=self._limits)
        whole = bridged(scope.ranges)
        sizes = await self._sizes(clients, whole, read_time)
        documents = None if sizes is None else sum(sizes)
        self._refuse_too_many(documents)
        ranges = await dividing.ranges(
            clients,
            whole,
            sizes,
            read_time=read_time,
            least=self._least_in_part,
            most=self._most_parts or (dividing.MOST_EMULATED if clients.emulated else dividing.MOST),
            limits=self._limits,
        )
        yield FirestoreSnapshot(
            clients, selection, scope, ranges, read_time=read_time, documents=documents, limits=self._limits
        )

    async def _sizes(self, clients: Clients, whole: Sequence[KeyRange], read_time: datetime) -> list[int] | None:
        """How many documents there are in each range; None where they cannot be counted, or not in a minute."""
        minute = structs.replace(
            self._limits, stream=min(60.0, self._limits.patience), patience=min(60.0, self._limits.patience)
        )
        try:
            return [await reading.count(clients, within=item, read_time=read_time, limits=minute) for item in whole]
        except DatabaseError as error:
            if reading.code_of(error) not in _NOT_COUNTED:
                raise
            return None

    def _refuse_too_many(self, documents: int | None) -> None:
        if self._max_reads is not None and (documents is None or documents > self._max_reads):
            said = "more documents than could be counted" if documents is None else f"{documents:,} documents"
            raise BackupFailed(
                f"There are {said} to read, and {self._max_reads:,} reads are allowed.",
                hint="Raise max_reads, or select fewer collections. Nothing was read yet.",
            )
        seconds = (documents or 0) / self._rate
        if seconds > self._readable:
            raise BackupFailed(
                f"{documents:,} documents take about {seconds / 60:.0f} minutes to read, and the database shows a past "
                f"moment for {self._readable / 60:.0f} minutes only.",
                hint="Back up a selection of collections at a time, or use Google's own export for the whole.",
            )

    def restoration(
        self,
        manifest: Manifest,
        documents: Mapping[str, bytes],
        options: RestoreOptions,
        notify: Callable[[str], None],
        /,
    ) -> AbstractAsyncContextManager[FirestoreRestoration]:
        from .restoration import restoration

        clients = self._open()
        return restoration(
            clients,
            self._describe,
            manifest,
            documents,
            options,
            notify,
            max_batch_bytes=self._max_batch_bytes,
            ramp_up=not clients.emulated if self._ramp_up is None else self._ramp_up,
            max_writes=self._max_writes,
        )


class FirestoreSnapshot:
    """One moment of a database. `token` is its time, at which other processes can read too."""

    def __init__(
        self,
        clients: Clients,
        selection: Selection,
        scope: Scope,
        ranges: Sequence[KeyRange],
        *,
        read_time: datetime,
        documents: int | None,
        limits: reading.Limits,
    ) -> None:
        self._clients = clients
        self._selection = selection
        self._scope = scope
        self._read_time = read_time
        self._limits = limits
        self._holds = scope.holds()
        self._counts: Counter[str] = Counter()
        self._left = {part_slice(item) for item in ranges}
        self._all_read = anyio.Event()
        if not self._left:
            self._all_read.set()
        self._expected = documents
        self._read = 0
        estimate = (documents or 0) * _DOCUMENT_BYTES // max(1, len(ranges))
        self.token = spelled(read_time)
        self.parts: Sequence[Part] = [
            Part(kind=KIND, names=(KIND,), slice=part_slice(item), framing="messages", estimate=estimate)
            for item in ranges
        ]

    async def dump(self, part: Part, send: Send, /) -> PartTotals:
        read = rows = raw_bytes = 0
        counts: Counter[str] = Counter()
        start, end = json.loads(part.slice)
        pages = reading.pages(
            self._clients, KeyRange(start=start, end=end), read_time=self._read_time, limits=self._limits
        )
        try:
            async with aclosing(pages):
                async for page in pages:
                    read += len(page)
                    chosen = self._chosen(page, counts)
                    piece = b"".join([framed(document) for document in chosen])
                    if piece:
                        rows += len(chosen)
                        raw_bytes += len(piece)
                        await send(piece)
        except DatabaseError as error:
            if reading.code_of(error) is grpc.StatusCode.FAILED_PRECONDITION:
                raise BackupFailed(
                    f"The database does not show the moment {self.token} any more: {error.problem}",
                    hint="Back up a selection of collections at a time, or when less is going on.",
                ) from error
            raise
        if part.slice in self._left:
            self._read += read
            self._counts += counts
            self._left.discard(part.slice)
            if not self._left:
                self._all_read.set()
        return PartTotals(rows=rows, raw_bytes=raw_bytes)

    def _chosen(self, page: list[bytes], counts: Counter[str]) -> list[bytes]:
        """Those that the selection means, counted by collection."""
        names = [wire.name_of(document) for document in page]
        skipped = len(self._clients.home.root) + 1
        meant = [not is_internal(name[skipped:]) for name in names]
        if (holds := self._holds) is not None:
            meant = [taken and holds(name[skipped:]) for taken, name in zip(meant, names, strict=True)]
        if not all(meant):
            page = list(itertools.compress(page, meant))
            names = list(itertools.compress(names, meant))
        counts.update([name.rsplit("/", 2)[1] for name in names])
        return page

    async def details(self) -> SnapshotDetails:
        """How many documents there are of each collection; waits until all parts were dumped.

        Raises:
            BackupFailed: other documents were read than the server had counted at that very moment.
        """
        await self._all_read.wait()
        if self._expected is not None and self._read != self._expected:
            raise BackupFailed(
                f"The server counted {self._expected:,} documents at {self.token}, and {self._read:,} were read.",
                hint="Was it an emulator that was started anew? Run the backup again.",
            )
        home, selection = self._clients.home, self._selection
        said = {
            "project": home.project,
            "database": home.database,
            "read_time": self.token,
            "selection": {"include": list(selection.include), "exclude": list(selection.exclude)},
            "collections": dict(sorted(self._counts.items())),
        }
        notes = [_NOT_IN_IT]
        if selection.include:
            notes.insert(0, f"Only these collections and documents are in it: {', '.join(selection.include)}.")
        if selection.exclude:
            notes.insert(len(notes) - 1, f"Left out of it: {', '.join(selection.exclude)}.")
        return SnapshotDetails(
            documents={COLLECTIONS: json.dumps(said, ensure_ascii=False, indent=1).encode()},
            fingerprint="",
            complete=self._scope.whole,
            notes=tuple(notes),
        )


def part_slice(item: KeyRange) -> str:
    """A range as a part's slice says it."""
    return json.dumps([item.start, item.end], ensure_ascii=False)


def spelled(moment: datetime) -> str:
    """A time as RFC 3339 writes it, to the microsecond."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
