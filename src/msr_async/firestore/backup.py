"""Both directions for one database: what is read at one point in time, and the restoration that writes it."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import grpc

from ..errors import BackupFailed, DatabaseError
from ..framing import framed
from ..models import (
    AppliedMigration,
    DatabaseInfo,
    Manifest,
    Part,
    PartTotals,
    Selection,
    SnapshotDetails,
    UnfinishedRestore,
)
from ..protocols import RestoreOptions, Send
from . import dividing, marking, reading, translating, wire
from .asking import side_by_side
from .clients import Clients
from .names import KeyRange, Scope, Unseen, bridged, is_internal, plain_patterns, scope_of, under

if TYPE_CHECKING:
    from .restoration import FirestoreRestoration

COLLECTIONS = "collections.json"
KIND = "documents"

_DOCUMENT_BYTES = 400
"""Of a document, for the estimate: nobody tells before it is read."""
_READABLE = 3600.0 * 0.9
"""Seconds for which what is past can be read, less a margin."""
_FIRST_PATIENCE = 10.0
"""Seconds for the first question to a database: what is wrong then is mostly its address."""
_RATE = 12_000
"""Documents a second: 3,000 a stream, four streams at once."""

_COUNTED_AT_ONCE = 8
_NAMES = 1000
"""Collections to look for one in that a misspelt pattern may have meant."""

_TOO_OLD = "too old"
"""In the server's words for a moment that it does not show any more; there is no status of its own for it."""

_NOT_COUNTED_NOTE = (
    "The server could not count its documents, so it was not checked against a count that all of them were read."
)
_NOT_IN_IT = "Indexes, security rules and TTL policies are not in it: keep them where you deploy them from."


class History(Protocol):
    async def __call__(self, at: datetime | None = None) -> tuple[AppliedMigration, ...]: ...


class FirestoreBackup:
    """Backups and restores of one database.

    Args:
        open: gives the clients; asked for each time, for they are made inside the event loop.
        max_batch_bytes: of a request that writes.
        ramp_up: write slowly at first; None: in production, not to an emulator.
        max_reads: refuse a backup of more documents than that; None: as many as there are.
        max_writes: the same for a restore, which also stops before it writes and deletes more than that.
        history: reads what was applied, now or as of a moment, whether a restore is under way or not.
        still_held: raises when the migration lock is not held any more.
        readable: seconds for which a point in time can be read.
        rate: documents that are read in a second, in production.
        least_in_part: documents that a part has at least, about.
        most_parts: how many parts there are at most, about; None: what suits the server.
        clock: seconds that only go up.
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
        history: History | None = None,
        still_held: Callable[[], Awaitable[None]] | None = None,
        limits: reading.Limits = reading.LIMITS,
        readable: float = _READABLE,
        rate: float = _RATE,
        least_in_part: int = dividing.LEAST,
        most_parts: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open = open
        self._describe = describe
        self._max_batch_bytes = max_batch_bytes
        self._ramp_up = ramp_up
        self._max_reads = max_reads
        self._max_writes = max_writes
        self._history = history
        self._still_held = still_held
        self._limits = limits
        self._readable = readable
        self._rate = rate
        self._least_in_part = least_in_part
        self._most_parts = most_parts
        self._clock = clock

    @asynccontextmanager
    async def snapshot(self, selection: Selection, /, *, complete: bool) -> AsyncIterator[FirestoreSnapshot]:
        """The database at one `read_time`, which any number of streams read.

        Raises:
            BackupFailed: it was to be complete and is a selection, or there are more documents than can be read. Where
                they cannot be counted that is found out only by reading.
            RestoreUnfinished: at that time a restore is under way, or has not come to its end.
        """
        scope = scope_of(selection)
        if complete and not scope.whole:
            raise BackupFailed(
                "A backup that can undo a migration holds all documents, and this one was to hold a selection.",
                hint="Leave include and exclude out.",
            )
        clients = self._open()
        begun = self._clock()
        # One answer for both: a restore that begins after a look at its mark would be in the middle of the backup.
        read_time, mark = await marking.with_time(clients, limits=self._limits)
        if mark is not None:
            raise marking.unfinished(mark)
        whole = bridged(scope.ranges)
        sizes = await self._sizes(clients, whole, read_time)
        if sizes is not None:
            self._refuse_too_many(sum(sizes), begun)
        ranges = await dividing.ranges(
            clients,
            whole,
            sizes,
            read_time=read_time,
            least=self._least_in_part,
            most=self._most_parts or (dividing.MOST_EMULATED if clients.emulated else dividing.MOST),
            limits=self._limits,
        )
        if sizes is None:
            # Too many for one count are not too many for a count of each piece.
            sizes = await self._sizes(clients, ranges, read_time) if len(ranges) > len(whole) else None
            self._refuse_too_many(None if sizes is None else sum(sizes), begun)
        yield FirestoreSnapshot(
            clients,
            selection,
            scope,
            ranges,
            unseen=Unseen(selection, await self._missing(clients, selection, read_time)),
            read_time=read_time,
            is_past=lambda: self._clock() - begun > self._readable,
            documents=None if sizes is None else sum(sizes),
            history=() if self._history is None else await self._history(read_time),
            limits=self._limits,
        )

    async def _sizes(self, clients: Clients, ranges: Sequence[KeyRange], read_time: datetime) -> list[int] | None:
        """How many documents there are in each range; None where they cannot be counted, or one not in a minute."""
        count = partial(reading.count, clients, read_time=read_time, limits=self._limits.at_most(60.0))
        try:
            return await side_by_side([partial(count, within=item) for item in ranges], at_once=_COUNTED_AT_ONCE)
        except DatabaseError as error:
            if reading.code_of(error) not in reading.NOT_COUNTED:
                raise
            return None

    async def _missing(self, clients: Clients, selection: Selection, read_time: datetime) -> list[str]:
        """The plain patterns beneath which nothing is. What cannot be counted is there."""
        plain = plain_patterns(selection)
        work = [partial(self._sizes, clients, [under(pattern)], read_time) for pattern in plain]
        sizes = await side_by_side(work, at_once=_COUNTED_AT_ONCE)
        return [
            pattern for pattern, size in zip(plain, sizes, strict=True) if size == [0] or is_internal(f"{pattern}/")
        ]

    def _refuse_too_many(self, documents: int | None, begun: float) -> None:
        """What could not be counted is refused only where the number of reads is limited."""
        if self._max_reads is not None and (documents is None or documents > self._max_reads):
            said = "more documents than could be counted" if documents is None else f"{documents:,} documents"
            raise BackupFailed(
                f"There are {said} to read, and {self._max_reads:,} reads are allowed.",
                hint="Raise max_reads, or select fewer collections. Nothing was read yet.",
            )
        if documents is None:
            return
        seconds = documents / self._rate
        if self._clock() - begun + seconds > self._readable:
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
            history=self._history,
            still_held=self._still_held,
        )

    async def unfinished(self) -> UnfinishedRestore | None:
        """The restore whose mark stands in the database."""
        clients = self._open()
        there = await marking.standing(clients, patience=None if clients.reached else _FIRST_PATIENCE)
        return None if there is None else there.restore

    async def give_up(self, backup: str, /) -> UnfinishedRestore | None:
        """Take its mark away; see `marking.give_up`."""
        there = await marking.give_up(self._open(), backup=backup)
        return None if there is None else there.restore


class FirestoreSnapshot:
    """One moment of a database. `token` is its time, at which other processes can read too."""

    def __init__(
        self,
        clients: Clients,
        selection: Selection,
        scope: Scope,
        ranges: Sequence[KeyRange],
        *,
        unseen: Unseen,
        read_time: datetime,
        is_past: Callable[[], bool],
        documents: int | None,
        history: tuple[AppliedMigration, ...],
        limits: reading.Limits,
    ) -> None:
        self._clients = clients
        self._selection = selection
        self._scope = scope
        self._unseen = unseen
        self._read_time = read_time
        self._is_past = is_past
        self._limits = limits
        self._holds = scope.holds()
        self._counts: Counter[str] = Counter()
        self._left = {part_slice(item) for item in ranges}
        self._all_read = anyio.Event()
        if not self._left:
            self._all_read.set()
        self._expected = documents
        self._history = history
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
            if self._is_gone(error):
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

    def _is_gone(self, error: DatabaseError) -> bool:
        """Whether it says that what is past cannot be read any more. The same status means other things, too."""
        if reading.code_of(error) is not grpc.StatusCode.FAILED_PRECONDITION or error.__cause__ is None:
            return False
        return _TOO_OLD in translating.words_of(error.__cause__).lower() or self._is_past()

    def _chosen(self, page: list[bytes], counts: Counter[str]) -> list[bytes]:
        """Those that the selection means, counted by collection."""
        names = [wire.name_of(document) for document in page]
        skipped = len(self._clients.home.root) + 1
        meant = [not is_internal(name[skipped:]) for name in names]
        if self._unseen.wild:
            self._unseen.see([name[skipped:] for name in itertools.compress(names, meant)])
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
        names: list[str] = []
        if self._unseen.patterns:  # of now: what is past may not be shown any more
            names = await reading.root_collections(self._clients, most=_NAMES, limits=self._limits)
        notes: list[str] = []
        if selection.include:
            notes.append(f"Only these collections and documents are in it: {', '.join(selection.include)}.")
        if selection.exclude:
            notes.append(f"Left out of it: {', '.join(selection.exclude)}.")
        if self._expected is None:
            notes.append(_NOT_COUNTED_NOTE)
        notes.append(_NOT_IN_IT)
        return SnapshotDetails(
            documents={COLLECTIONS: json.dumps(said, ensure_ascii=False, indent=1).encode()},
            fingerprint="",
            complete=self._scope.whole,
            history=self._history,
            notes=tuple(notes),
            unmatched=self._unseen.patterns,
            names=tuple(name for name in names if not is_internal(f"{name}/")),
        )


def part_slice(item: KeyRange) -> str:
    """A range as a part's slice says it."""
    return json.dumps([item.start, item.end], ensure_ascii=False)


def spelled(moment: datetime) -> str:
    """A time as RFC 3339 writes it, to the microsecond."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
