"""What the rooms say to each other, and what somebody with another database or another storage writes.

The docstrings are the specification; `msr_async.testing` holds a contract suite for each protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from msgspec import Struct

from .events import Observer
from .models import (
    AppliedMigration,
    DatabaseInfo,
    Direction,
    Isolation,
    Issue,
    LockInfo,
    Manifest,
    Part,
    PartTotals,
    RestoreMode,
    RestoreTotals,
    Script,
    Selection,
    SnapshotDetails,
    UnfinishedRestore,
)

ConnT = TypeVar("ConnT")
ConnT_contra = TypeVar("ConnT_contra", contravariant=True)
T = TypeVar("T")


class RestoreOptions(Struct, frozen=True, kw_only=True):
    """How a backup is put back. `owners` and `privileges` off: everything belongs to the restoring role."""

    owners: bool = True
    privileges: bool = True
    mode: RestoreMode = "replace"
    """A backend that knows `replace` only refuses another one before anything is touched (`ConfigError`)."""


class Progress(Struct, frozen=True, kw_only=True):
    """How far a long statement has come."""

    phase: str
    done: int
    total: int


class WorkOptions(Struct, frozen=True, kw_only=True):
    """How a unit of work is run. Times are seconds; 0 means without end, None the database's default."""

    transaction: bool = True
    """All of it in one transaction; False: each statement on its own."""
    isolation: Isolation | None = None
    lock_timeout: float | None = None
    statement_timeout: float | None = None
    commit: bool = True
    """False: a rehearsal. What would be checked at the commit is checked, and then all is undone."""
    durable: bool = True
    """Wait until the commit is on disk. A later durable commit makes the earlier ones durable too."""
    notice: Callable[[str, str], None] | None = None
    """Hears the server's severity and words while the work runs."""


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """A script of the database's own language, and the line of the history that stands for it."""

    script: Script
    entry: AppliedMigration


class MigrationContext(Struct, Generic[ConnT], frozen=True, kw_only=True):
    """The second argument of a Python migration's `up` and `down`."""

    version: int | None
    """None for a repeatable script and for a hook."""
    name: str
    handler: DatabaseMigrationHandler[ConnT]


class SchemaVersion(Protocol[ConnT_contra]):
    """The book of what was applied."""

    async def applied(self) -> Sequence[AppliedMigration]:
        """The history in the order of versions; empty when there is no book yet. Reads only, takes no lock."""
        ...

    async def ensure(self, conn: ConnT_contra, /) -> None:
        """Make the book if it is not there, in the unit of work of `conn`; with the migration lock held."""
        ...

    async def record(self, conn: ConnT_contra, entry: AppliedMigration, /, *, replace: bool = False) -> None:
        """Write a line in the unit of work that `conn` belongs to, so that the line and the change are one.

        Args:
            replace: an earlier line of the same `id` gives way. Without it such a line is an error: the last fence
                against two runs of one migration.
        """
        ...

    async def forget(self, conn: ConnT_contra, id: str, /) -> None:
        """Strike a line out, in the same way."""
        ...

    async def note(self, key: str, /) -> Any:
        """A small JSON value kept beside the history, such as how far a half-done migration has come, or None."""
        ...

    async def keep_note(self, conn: ConnT_contra, key: str, value: Any, /) -> None:
        """Write such a value, in the unit of work that `conn` belongs to; None strikes it out. The book is there."""
        ...


class Lock(Protocol):
    """At most one holder per database and book, over all processes. A holder that dies frees it."""

    def hold(
        self, *, timeout: float, waiting: Callable[[LockInfo | None, float], None]
    ) -> AbstractAsyncContextManager[None]:
        """Hold the lock inside the block. `waiting(holder, seconds)` is called now and then while somebody else has it.

        Raises:
            LockNotAcquired: after `timeout` seconds, naming the holder.
        """
        ...

    async def status(self) -> LockInfo | None:
        """Who holds it, without taking it."""
        ...

    async def check(self) -> None:
        """Raise `ConnectionLost` when the lock that this process holds was lost; cheap, asked before each migration."""
        ...

    async def release(self) -> LockInfo | None:
        """End whoever holds it, work under way included; who that was, None when nobody held it.

        Raises:
            PermissionMissing: this user may not end that session.
        """
        ...


Send = Callable[[bytes], Awaitable[None]]


class Snapshot(Protocol):
    """One point in time of a database."""

    @property
    def token(self) -> str:
        """What other processes join this point in time with: an exported snapshot's id, a read time."""
        ...

    @property
    def parts(self) -> Sequence[Part]:
        """All that there is to dump, biggest first. Independent of each other: the executor dumps many at once."""
        ...

    async def dump(self, part: Part, send: Send, /) -> PartTotals:
        """Send the rows of a part in pieces of any size; the sizes and rows are counted by both sides and compared."""
        ...

    async def details(self) -> SnapshotDetails:
        """What is not rows, the history of that moment too. Asked for while parts are dumped, and may wait for them."""
        ...


class Restoration(Protocol):
    """A restore under way. Leaving the block without `finish()` puts the target back to what it was, where it can.

    Where it cannot, the target carries a mark from the first change to the end of `finish()`, and meanwhile its history
    cannot be read and no snapshot be taken (`RestoreUnfinished`): nothing is migrated or backed up that is half of one
    state and half of another. The same restore, run again, comes to its end.
    """

    @property
    def max_concurrency(self) -> int:
        """How many parts may be loaded at once; 1 where the restore is one transaction."""
        ...

    async def load(self, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
        """Load a part. Chunks end at row ends and have been checked before they are handed in."""
        ...

    async def finish(self) -> RestoreTotals:
        """Everything that comes after the rows, then this side's checks, then make it final."""
        ...


class Backup(Protocol):
    """Data that can be carried away and brought back."""

    def snapshot(self, selection: Selection, /, *, complete: bool) -> AbstractAsyncContextManager[Snapshot]:
        """One point in time, for as long as the block lasts.

        Args:
            selection: whose rows to carry; what holds the rows (the schema) is always carried whole.
            complete: refuse, before anything is read, when only data could be taken (a tool is missing).
        """
        ...

    def restoration(
        self,
        manifest: Manifest,
        documents: Mapping[str, bytes],
        options: RestoreOptions,
        notify: Callable[[str], None],
        /,
    ) -> AbstractAsyncContextManager[Restoration]:
        """Begin to replace what the target holds by the backup's content. `notify` takes one line per phase.

        The engine has checked the file and holds the migration lock.
        """
        ...


@runtime_checkable
class MarkedBackup(Protocol):
    """What a `Backup` offers besides, whose restores are not one transaction and mark the target."""

    async def unfinished(self) -> UnfinishedRestore | None:
        """The restore whose mark stands in the target: it is under way, or has not come to its end."""
        ...

    async def give_up(self, backup: str, /) -> UnfinishedRestore | None:
        """Take the mark of a restore of that backup (its id) away; the target stays as it is, partly restored.

        The engine holds the migration lock.

        Raises:
            RestoreFailed: the mark is of another restore.
        """
        ...


class DatabaseMigrationHandler(Protocol[ConnT]):
    """A database that can be migrated. Owns its connections: `async with` opens and closes it."""

    @property
    def name(self) -> str:
        """What to call it in messages; never holds a secret."""
        ...

    @property
    def db(self) -> Any:
        """The native client, for scripts and services."""
        ...

    @property
    def schema_version(self) -> SchemaVersion[ConnT]: ...

    @property
    def lock(self) -> Lock | None:
        """None means: not offered."""
        ...

    @property
    def backup(self) -> Backup | None:
        """None means: not offered."""
        ...

    async def __aenter__(self) -> DatabaseMigrationHandler[ConnT]:
        """Raises:
        ConfigError: it is open already. Closed, it may be opened again.
        """
        ...

    async def __aexit__(self, *exc: object) -> None: ...

    async def check_connection(self) -> None:
        """Raises:
        ConnectionFailed: with the reason and what to do.
        """
        ...

    async def describe(self) -> DatabaseInfo:
        """Which database this is, and whether it is empty."""
        ...

    def inspect(self, script: Script, /) -> Sequence[Issue]:
        """What is wrong with a script of this database's language, found without running it."""
        ...

    async def review(self, scripts: Sequence[Script], /) -> Sequence[Issue]:
        """Warnings about scripts that may hurt a running application; looks at the database, writes nothing."""
        ...

    def outside(self, script: Script, /) -> bool:
        """Whether the script must run outside of a transaction: it says so, or a statement cannot run inside."""
        ...

    async def run(self, work: Callable[[ConnT], Awaitable[T]], options: WorkOptions, /) -> T:
        """Run `work` with a connection, as the options say.

        What `work` raises undoes the transaction and is raised again. After an error or a cancellation the connection
        is usable again or closed, never left half-way.
        """
        ...

    async def execute(self, conn: ConnT, script: Script, /, *, resume: str | None = None) -> None:
        """Run a script of this database's own language (several statements allowed).

        Args:
            resume: outside of a transaction, the key that what is done is noted under, so that a run that was killed
                goes on where it was and does not fail on its own half-done work.

        Raises:
            ScriptFailed: with the place in the file.
        """
        ...

    def joins(self, script: Script, /) -> bool:
        """Whether the script, which runs in a transaction, may be applied together with others.

        Not where it may leave something in its session, or where the server is likely to say something while it runs.
        """
        ...

    async def apply(
        self, changes: Sequence[Change], direction: Direction, options: WorkOptions, done: Callable[[float], None], /
    ) -> None:
        """Run scripts of this database's own language, each and its line in the history as one transaction, in order.

        The same as, one after the other, `run` with `execute` and `record` (`down`: `forget`), in as few round trips as
        the database allows. `record` replaces an earlier line where the entry has no version. The entries' times and
        durations are taken anew.

        Args:
            changes: one, or several that `joins` said yes to.
            options: of each; only the last is `durable`, where it is asked for.
            done: called for each, in order, once it is known to be committed, with the seconds that it took (of those
                that cannot be told apart, an equal share): before this returns, raises or is cancelled.

        Raises:
            ScriptFailed: of the first that failed. Nothing of it is kept, and none after it was run.
        """
        ...

    def is_transient(self, error: BaseException, /) -> bool:
        """Whether the same work, tried again, may well succeed: a deadlock, a serialisation failure, a lock not had."""
        ...

    async def progress(self) -> Progress | None:
        """How far the statement under way has come, asked while `run` or `apply` is waiting; None: nothing to tell."""
        ...

    async def catalog(self) -> Mapping[str, str] | None:
        """Every object of the database's schema (`table public.orders`) with a hash of its definition, rows and the
        history's own tables left out; None where there is no schema."""
        ...


class StorageWriter(Protocol):
    async def write(self, data: bytes, /) -> None:
        """Append. Raises `StorageFull` when there is no room."""
        ...


class StorageReader(Protocol):
    @property
    def size(self) -> int: ...

    async def read(self, offset: int, length: int, /) -> bytes:
        """Exactly `length` bytes from `offset`; fewer only at the end of the file."""
        ...


class StoredFile(Struct, frozen=True, kw_only=True):
    """One complete file of a storage."""

    name: str
    path: Path
    size: int
    modified: float
    """Seconds since the epoch."""


class Storage(Protocol):
    """Where bytes rest. What it lists is complete: a file appears under its name only when all of it is safe."""

    def create(self, name: str, /) -> AbstractAsyncContextManager[StorageWriter]:
        """Write a new file. It is published when the block ends well and leaves nothing behind when it does not.

        Raises:
            StorageError: when the name is taken; nothing is ever overwritten.
        """
        ...

    def open(self, name: str, /) -> AbstractAsyncContextManager[StorageReader]:
        """Raises:
        BackupNotFound: when there is no such file.
        """
        ...

    def path(self, name: str, /) -> Path:
        """Where the file stands, or will."""
        ...

    async def list(self) -> Sequence[StoredFile]:
        """Complete files only, newest last; a folder that does not exist yet is empty."""
        ...

    async def delete(self, name: str, /) -> None:
        """Raises:
        BackupNotFound: when there is no such file.
        """
        ...


__all__ = [
    "Backup",
    "Change",
    "DatabaseMigrationHandler",
    "Lock",
    "MarkedBackup",
    "MigrationContext",
    "Observer",
    "Progress",
    "Restoration",
    "RestoreOptions",
    "SchemaVersion",
    "Send",
    "Snapshot",
    "Storage",
    "StorageReader",
    "StorageWriter",
    "StoredFile",
    "WorkOptions",
]
