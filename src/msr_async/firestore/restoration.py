"""Everything back, document by document: there is no transaction over it all, so a mark stands until it is done."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import get_args

from google.protobuf.message import DecodeError
from msgspec import Struct

from ..errors import BackupDamaged, ConfigError, RestoreFailed
from ..models import DatabaseInfo, Manifest, Part, PartTotals, RestoreMode, RestoreTotals, Selection
from ..protocols import RestoreOptions
from . import marking, reading, wire
from .cancelling import recognised
from .clients import Clients
from .disagreeing import History, warnings_of
from .marking import Mark
from .merging import Changes, Item, joined, nothing
from .modes import writing
from .names import LOCK_COLLECTION, Home, KeyRange, is_internal, order_key, scope_of
from .overtaking import Watch
from .packing import MOST_WRITES, Batch, Packer
from .ramping import Ramp
from .recounting import recount
from .references import redirecting
from .writing import Writer

COLLECTIONS = "collections.json"
MAX_BATCH_BYTES = 4 * 1024 * 1024 - 16 * 1024
"""Less than the 4 MiB that every server takes, by what encloses the writes."""
_LEAST_BATCH_BYTES = 1280 * 1024


class Contents(Struct, frozen=True, kw_only=True):
    """What `collections.json` says of the backup."""

    source: Home
    selection: Selection
    counts: Mapping[str, int]
    """Documents by collection id."""


def contents_of(document: bytes) -> Contents:
    """Raises:
    BackupDamaged: it cannot be read.
    """
    try:
        said = json.loads(document)
        selection = said["selection"]
        return Contents(
            source=Home(project=said["project"], database=said["database"]),
            selection=Selection(include=tuple(selection["include"]), exclude=tuple(selection["exclude"])),
            counts={str(name): int(count) for name, count in said["collections"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupDamaged("it does not say which documents the backup holds", member=COLLECTIONS) from error


def range_of(part: Part) -> KeyRange:
    """Raises:
    BackupDamaged: the part does not say which documents are in it.
    """
    try:
        start, end = json.loads(part.slice)
        return KeyRange(start=str(start), end=str(end))
    except (ValueError, TypeError) as error:
        raise BackupDamaged(f"a part names no range of documents: {part.slice!r}") from error


@asynccontextmanager
async def restoration(
    clients: Clients,
    describe: Callable[[], Awaitable[DatabaseInfo]],
    manifest: Manifest,
    documents: Mapping[str, bytes],
    options: RestoreOptions,
    notify: Callable[[str], None],
    *,
    max_batch_bytes: int = MAX_BATCH_BYTES,
    ramp_up: bool = True,
    max_writes: int | None = None,
    history: History | None = None,
    still_held: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[FirestoreRestoration]:
    """The database carries the mark from here to the end of `finish()`; what can be refused is refused before.

    Args:
        max_batch_bytes: of a request; 4 MiB everywhere, up to 10 MiB in production.
        ramp_up: begin slowly, as the database wants it; an emulator is written to as fast as it goes.
        max_writes: refuse a backup that holds more documents, and stop before more are written and deleted.
        history: reads what the target has applied, to be compared where not everything is replaced.
        still_held: raises when the migration lock is not held any more.

    Raises:
        RestoreUnfinished: another restore's mark stands, and this one would keep what that one has left.
    """
    contents = _check(manifest, documents, options, max_batch_bytes, max_writes)
    target = await describe()
    scope = scope_of(contents.selection)
    whole = scope.whole and options.mode == "replace"
    # Into an empty database the whole backup brings its history along.
    alone = whole or (scope.whole and target.empty)
    warnings = () if alone or history is None else await warnings_of(manifest.history, history)
    ramp = Ramp(time.monotonic) if ramp_up and not clients.emulated else None
    notify(f"marking the database: {manifest.totals.rows:,} documents are to be restored, mode {options.mode}")
    mark = await marking.put(clients, backup=manifest.id, mode=options.mode, whole=scope.whole)

    async def look() -> None:
        await marking.check(clients, mark)
        if still_held is not None:
            await still_held()

    watch = Watch(look)
    yield FirestoreRestoration(
        clients,
        contents,
        mark,
        watch,
        mode=options.mode,
        same_database=target.identity == manifest.source.identity,
        writer=Writer(clients, keep=options.mode == "create", ramp=ramp, watch=watch),
        max_batch_bytes=max_batch_bytes,
        max_writes=max_writes,
        rows=manifest.totals.rows,
        warnings=warnings,
        notify=notify,
    )


def _check(
    manifest: Manifest,
    documents: Mapping[str, bytes],
    options: RestoreOptions,
    max_batch_bytes: int,
    max_writes: int | None,
) -> Contents:
    if manifest.source.kind != "firestore":
        raise RestoreFailed(
            f"This is a backup of {manifest.source.kind}, and the target is Firestore.", hint="Use its own handler."
        )
    if options.mode not in get_args(RestoreMode):
        raise ConfigError(f"The mode is {options.mode!r}.", hint=f"Use one of: {', '.join(get_args(RestoreMode))}.")
    if max_batch_bytes < _LEAST_BATCH_BYTES:
        raise ConfigError(
            f"max_batch_bytes is {max_batch_bytes}.",
            hint=f"Give at least {_LEAST_BATCH_BYTES}: a document alone may have 1 MiB.",
        )
    if max_writes is not None and manifest.totals.rows > max_writes:
        raise RestoreFailed(
            f"The backup holds {manifest.totals.rows:,} documents, and {max_writes:,} writes are allowed.",
            hint="Raise max_writes; nothing was changed.",
        )
    if COLLECTIONS not in documents:
        raise BackupDamaged("it does not say which documents the backup holds", member=COLLECTIONS)
    contents = contents_of(documents[COLLECTIONS])
    ranges: list[KeyRange] = []
    for entry in manifest.parts:
        if entry.kind != "documents" or entry.framing != "messages":
            raise BackupDamaged(f"{entry.part} is no part of a Firestore backup")
        ranges.append(range_of(entry.part))
    ranges.sort(key=lambda item: order_key(item.start) if item.start else ())
    for before, after in itertools.pairwise(ranges):
        if not before.end or not after.start or order_key(before.end) > order_key(after.start):
            raise BackupDamaged(f"its parts overlap at {after.start or 'their beginning'}")
    return contents


class FirestoreRestoration:
    """A restore under way. Running it again, wherever it stopped, comes to the same end."""

    max_concurrency = 4

    def __init__(
        self,
        clients: Clients,
        contents: Contents,
        mark: Mark,
        watch: Watch,
        *,
        mode: RestoreMode,
        same_database: bool,
        writer: Writer,
        max_batch_bytes: int,
        max_writes: int | None,
        rows: int,
        warnings: tuple[str, ...],
        notify: Callable[[str], None],
    ) -> None:
        self._clients = clients
        self._contents = contents
        self._mark = mark
        self._watch = watch
        self._mode: RestoreMode = mode
        self._same_database = same_database
        self._writer = writer
        self._max_batch_bytes = max_batch_bytes
        self._max_writes = max_writes
        self._rows = rows
        self._warnings = warnings
        self._notify = notify
        self._write_of = writing(mode)
        self._moved = contents.source != clients.home
        self._renaming = (len(contents.source.root), clients.home.root.encode()) if self._moved else (0, b"")
        self._redirect = redirecting(contents.source, clients.home)
        self._scope = scope_of(contents.selection)
        self._tally: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()  # written and deleted, parts under way included

    async def load(self, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
        return await recognised(self._load(part, chunks))

    async def _load(self, part: Part, chunks: AsyncIterator[bytes]) -> PartTotals:
        await self._watch.look()
        counted: Counter[str] = Counter()
        async with aclosing(self._batches(part, chunks, counted)) as batches:
            kept = await self._writer.write(batches)
        counted["kept"] = kept
        counted["written"] -= kept
        self._tally += counted
        return PartTotals(rows=counted["rows"], raw_bytes=counted["raw_bytes"])

    async def _batches(
        self, part: Part, chunks: AsyncIterator[bytes], counted: Counter[str]
    ) -> AsyncGenerator[Batch, None]:
        packer = Packer(max_bytes=self._max_batch_bytes)
        home, within = self._clients.home, range_of(part)
        replacing = self._mode == "replace"
        same = _same_time if replacing and self._same_database else None
        live = self._live(within) if replacing else nothing()
        async with (
            aclosing(live),
            aclosing(self._rows_of(part, within, chunks, counted)) as rows,
            aclosing(joined(rows, live, same)) as steps,
        ):
            async for changes in steps:
                self._count(changes, counted)
                for batch in packer.add(self._writes(changes.write)):
                    yield batch
                for batch in packer.add(wire.delete(home.name(path)) for path, _ in changes.delete):
                    yield batch
        if (rest := packer.rest()) is not None:
            yield rest

    def _count(self, changes: Changes, counted: Counter[str]) -> None:
        counted["written"] += len(changes.write)
        counted["deleted"] += len(changes.delete)
        counted["unchanged"] += changes.unchanged
        asked = self._asked
        asked.update(written=len(changes.write), deleted=len(changes.delete))
        if self._max_writes is not None and asked.total() > self._max_writes:
            raise RestoreFailed(
                f"The restore takes more than the {self._max_writes:,} writes and deletions that are allowed: at least "
                f"{asked['written']:,} to be written and {asked['deleted']:,} to be deleted.",
                hint="What was changed stays changed, and marked: raise max_writes and run it again, or give it up.",
            )

    def _writes(self, items: Sequence[Item]) -> list[bytes]:
        skip, into = self._renaming
        try:
            contents = [wire.content_of(document, skip, into) for _, document in items]
            if self._moved:
                contents = self._redirect(contents)
            return [self._write_of(content) for content in contents]
        except (ValueError, IndexError, DecodeError) as error:
            if len(items) > 1:  # one of them: find out which
                return [write for item in items for write in self._writes([item])]
            name = self._clients.home.name(items[0][0])
            raise RestoreFailed(f"The backup holds a broken {name}: {error}.", hint="Restore another one.") from error

    async def _rows_of(
        self, part: Part, within: KeyRange, chunks: AsyncIterator[bytes], counted: Counter[str]
    ) -> AsyncGenerator[Sequence[Item], None]:
        """The backup's documents, some at a time, each with its path."""
        async for chunk in chunks:
            documents = wire.documents(chunk)
            while page := self._page(part, within, documents):
                counted["rows"] += len(page)
                yield page
            counted["raw_bytes"] += len(chunk)

    def _page(self, part: Part, within: KeyRange, documents: Iterator[bytes]) -> list[Item]:
        """The next few documents, each with its path."""
        root = f"{self._contents.source.root}/"
        locks = f"{root}{LOCK_COLLECTION}/"
        skipped = len(root)
        page: list[Item] = []
        try:
            for document in itertools.islice(documents, MOST_WRITES):
                name = wire.name_of(document)
                if not name.startswith(root) or name.startswith(locks):
                    raise RestoreFailed(
                        f"{name} does not belong into a backup of {self._contents.source.path}.",
                        hint="Restore another backup.",
                    )
                page.append((name[skipped:], document))
        except (ValueError, IndexError) as error:
            raise RestoreFailed(f"{part} holds what is no document: {error}.", hint="Restore another one.") from error
        # Those between them are in order, so they are inside too.
        for path, _ in page[:1] + page[-1:]:
            if path not in within:
                raise RestoreFailed(
                    f"The backup is not in order: {path} stands in {part}.", hint="Restore another one."
                )
        return page

    async def _live(self, within: KeyRange) -> AsyncGenerator[Sequence[Item], None]:
        """What the target holds there and the restore may delete, with the times of its last changes."""
        skipped = len(self._clients.home.root) + 1
        holds = self._scope.holds()
        async with aclosing(reading.pages(self._clients, within, names_only=True)) as pages:
            async for page in pages:
                items = [(wire.name_of(document)[skipped:], document) for document in page]
                if holds is not None:
                    items = [item for item in items if holds(item[0])]
                yield [item for item in items if not is_internal(item[0])]

    async def finish(self) -> RestoreTotals:
        warnings = self._warnings
        # A collection id may stand inside of a selection and outside of it, so that a count of it would say nothing.
        if self._mode == "replace" and self._scope.whole:
            self._notify("counting the documents")
            warnings += await recognised(recount(self._clients, self._contents.counts, self._rows))
        await marking.remove(self._clients, self._mark)
        tally = self._tally
        self._notify(_told(tally, self._writer.unsure))
        return RestoreTotals(
            warnings=warnings,
            written=tally["written"],
            unchanged=tally["unchanged"],
            deleted=tally["deleted"],
            kept=tally["kept"],
        )


def _same_time(ours: bytes, theirs: bytes) -> bool:
    time = wire.update_time_of(ours)
    return bool(time) and time == wire.update_time_of(theirs)


def _told(tally: Mapping[str, int], unsure: int) -> str:
    or_kept = f" (or kept, {unsure:,} of them: an answer was lost)" if unsure else ""
    told = [f"{tally['written']:,} documents were written{or_kept}"]
    told += [f"{tally[what]:,} were {what}" for what in ("unchanged", "deleted", "kept") if tally[what]]
    return ", ".join(told)
