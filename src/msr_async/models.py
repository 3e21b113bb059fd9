"""The nouns of the house: frozen values that every room passes to the next, and no behaviour beyond reading them.

Sizes are bytes, durations are seconds, times are aware datetimes in UTC. Those of which a run has thousands are left to
reference counting (`gc=False`): they hold nothing that could hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct, field

from .framing import Framing

VERSION = "0.1.0"
"""This library's; the build reads it here."""

Version: TypeAlias = int
"""A migration's version: the 12 to 14 digits of its file name, ordered as a number."""

Severity: TypeAlias = Literal["error", "warning"]
Language: TypeAlias = Literal["sql", "py"]
Direction: TypeAlias = Literal["up", "down"]
Kind: TypeAlias = Literal["versioned", "repeatable", "hook"]
Isolation: TypeAlias = Literal["read committed", "repeatable read", "serializable"]
RestoreMode: TypeAlias = Literal["replace", "overwrite", "merge", "create"]
"""What a restore does with what the target holds. `replace`: what is not in the backup is deleted, so that the target
becomes what the backup is. `overwrite`: what is in the backup is written over, the rest stays. `merge`: fields that are
in the backup are written over, other fields stay. `create`: what is there already stays as it is."""


# -- migrations -----------------------------------------------------------------------------------


class Directives(Struct, frozen=True, kw_only=True):
    """What a script says of how it wants to be run: `-- msr: ...` lines of SQL, module attributes of Python."""

    transaction: bool = True
    lock_timeout: float | None = None
    """Seconds that a statement waits for a lock; None means the config's."""
    statement_timeout: float | None = None
    """Seconds that a statement may take; None means the config's."""
    isolation: Isolation | None = None
    allow: tuple[str, ...] = ()
    """Codes of warnings that this script is right to ignore."""


NO_DIRECTIVES = Directives()


class Script(Struct, frozen=True, kw_only=True, gc=False):
    """The text of one direction of a migration, and where it stands."""

    path: Path
    text: str
    language: Language
    directives: Directives = NO_DIRECTIVES


class Migration(Struct, frozen=True, kw_only=True, gc=False):
    """One migration as its files describe it. For Python both directions are functions of the same file."""

    version: Version | None
    """None for a repeatable script and for a hook."""
    name: str
    up: Script
    down: Script | None
    checksum: str
    """SHA-256 of the up script. SQL: its text, line endings and byte-order mark left out. Python: its syntax tree."""
    kind: Kind = "versioned"
    batched: bool = False
    """It has a data step that runs in committed batches (`@batches`)."""

    @property
    def id(self) -> str:
        """What the history knows it by."""
        return migration_id(self.version, self.name)

    def __str__(self) -> str:
        return _title(self.version, self.name) if self.kind != "hook" else self.name


class AppliedMigration(Struct, frozen=True, kw_only=True, gc=False):
    """One line of the history: a migration that was applied, as the database's version table records it."""

    version: Version | None
    """None for a repeatable script."""
    name: str
    checksum: str
    applied_at: datetime
    duration: float
    applied_by: str
    baseline: bool = False
    """It was not run: the database was declared to have it."""
    run: str = ""
    """Which run wrote it."""
    fingerprint: str = ""
    """Hash of the catalogue after it, where one was taken: see `Drift`."""

    @property
    def id(self) -> str:
        return migration_id(self.version, self.name)

    def __str__(self) -> str:
        return _title(self.version, self.name)


def migration_id(version: Version | None, name: str) -> str:
    """The version's digits, or `R__<name>`: the key of the history."""
    return f"R__{name}" if version is None else str(version)


def _title(version: Version | None, name: str) -> str:
    return f"R__{name}" if version is None else f"V{version}_{name}"


class Issue(Struct, frozen=True, kw_only=True):
    """One thing found wrong (or doubtful) before anything ran."""

    code: str
    severity: Severity
    message: str
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}:{self.line}: " if self.line else f"{self.path}: "
        return f"{place}{self.message} [{self.code}]"


class Plan(Struct, frozen=True, kw_only=True):
    """What a run would do: decided from the files and the history alone, without touching anything."""

    pending: tuple[Migration, ...]
    """What would be run, in this order: for `up` by version and then the repeatable ones, for `down` newest first."""
    applied: tuple[AppliedMigration, ...]
    """The whole history."""
    issues: tuple[Issue, ...] = ()
    direction: Direction = "up"
    target: Version | None = None
    """Where the run would stop; None means the newest."""
    before: Migration | None = None
    """The hook `before_migrate`, run when something is pending."""
    after: Migration | None = None
    """The hook `after_migrate`, likewise."""
    reapplied: tuple[AppliedMigration, ...] = ()
    """Lines of the history whose repeatable script has changed, so that it runs again."""

    @property
    def steps(self) -> tuple[Migration, ...]:
        """All that a run would run, hooks included; nothing when nothing is pending."""
        if not self.pending:
            return ()
        return tuple(step for step in (self.before, *self.pending, self.after) if step is not None)

    @property
    def errors(self) -> tuple[Issue, ...]:
        return tuple(issue for issue in self.issues if issue.severity == "error")


class LockInfo(Struct, frozen=True, kw_only=True):
    """Who holds the migration lock."""

    holder: str
    pid: int | None = None
    since: datetime | None = None
    doing: str = ""
    """What it is at, where this user may know: `running a statement since 12:30:01`."""

    def __str__(self) -> str:
        pid = f" (backend pid {self.pid})" if self.pid is not None else ""
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        doing = f", {self.doing}" if self.doing else ""
        return f"{self.holder}{pid}{since}{doing}"


# -- the database and its parts -------------------------------------------------------------------


class DatabaseInfo(Struct, frozen=True, kw_only=True):
    """What a handler knows of its database. `identity` is equal only for the very same database on the same server."""

    kind: str
    """`postgresql`, `firestore`, `memory`."""
    name: str
    host: str
    identity: str
    server_version: str
    environment: str | None
    empty: bool
    """True when there is nothing of the user's in it, so that a restore overwrites nothing."""

    @property
    def label(self) -> str:
        """The name to confirm a restore with: `<database>@<host>`."""
        return f"{self.name}@{self.host}"


class Column(Struct, frozen=True, kw_only=True):
    name: str
    type: str


class Part(Struct, frozen=True, kw_only=True):
    """A piece of a database that is dumped and loaded on its own: a table, a slice of one, a collection's range."""

    kind: str
    """`table`, `large_objects`, `collection`, ...: the backend's word."""
    names: tuple[str, ...]
    """The qualified name of what this is a part of, unquoted: `("public", "orders")`."""
    columns: tuple[Column, ...] = ()
    slice: str = ""
    """Which slice of it, in the backend's words; empty means the whole."""
    framing: Framing = "lines"
    estimate: int = 0
    """Bytes of data expected, a guess for ordering and progress."""

    @property
    def name(self) -> str:
        return ".".join(self.names)

    def __str__(self) -> str:
        return f"{self.name}[{self.slice}]" if self.slice else self.name


class PartTotals(Struct, frozen=True, kw_only=True):
    rows: int
    raw_bytes: int


class Selection(Struct, frozen=True, kw_only=True):
    """Whose rows a backup carries: shell patterns over qualified names of tables or collections; empty means all."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


class SnapshotDetails(Struct, frozen=True, kw_only=True):
    """What a snapshot carries beside its rows.

    `documents` are small files kept under `schema/` in the backup: the backend's own words for how to rebuild what
    holds the rows. `fingerprint` is a hash of the catalogue, compared after a restore.
    """

    documents: Mapping[str, bytes]
    fingerprint: str
    complete: bool
    """False when only data could be taken: such a backup cannot undo a migration."""
    history: tuple[AppliedMigration, ...]
    """What was applied at the moment of the snapshot, as `SchemaVersion.applied` says it."""
    notes: tuple[str, ...] = ()
    """What a reader of the backup must know, one sentence each: what it leaves out and why."""
    unmatched: tuple[str, ...] = ()
    """Patterns of the selection that mean nothing that is there."""
    names: tuple[str, ...] = ()
    """What a pattern could have meant, wanted where one is in `unmatched`."""


# -- the manifest: the last member of a backup file ------------------------------------------------


class ChunkEntry(Struct, frozen=True, kw_only=True):
    member: str
    size: int
    sha256: str
    raw_size: int
    rows: int


class PartEntry(Struct, frozen=True, kw_only=True):
    kind: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    slice: str
    rows: int
    raw_bytes: int
    chunks: tuple[ChunkEntry, ...]
    framing: Framing = "lines"
    """How the rows stand in the chunks; in a manifest that does not say it, lines."""

    @property
    def part(self) -> Part:
        return Part(
            kind=self.kind,
            names=self.names,
            columns=self.columns,
            slice=self.slice,
            framing=self.framing,
            estimate=self.raw_bytes,
        )


class DocumentEntry(Struct, frozen=True, kw_only=True):
    """A `schema/...` member; its raw text is one zstd frame."""

    name: str
    member: str
    size: int
    sha256: str
    raw_size: int


class Totals(Struct, frozen=True, kw_only=True):
    parts: int
    rows: int
    raw_bytes: int
    stored_bytes: int


class Manifest(Struct, frozen=True, kw_only=True):
    """All that a backup says of itself. Written last: a file without it is not a backup."""

    id: str
    created: datetime
    tool: str
    source: DatabaseInfo
    snapshot: str
    history: tuple[AppliedMigration, ...]
    fingerprint: str
    complete: bool
    notes: tuple[str, ...]
    documents: tuple[DocumentEntry, ...]
    parts: tuple[PartEntry, ...]
    totals: Totals
    tags: Mapping[str, str] = field(default_factory=dict)


# -- what the user gets ----------------------------------------------------------------------------


class BackupInfo(Struct, frozen=True, kw_only=True):
    """A complete backup in a storage. It is an `os.PathLike`: pass it wherever a path is taken."""

    path: Path
    size: int
    id: str
    created: datetime
    parts: int
    rows: int
    raw_bytes: int
    complete: bool
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    duration: float | None = None
    """Seconds it took to make; None when it was read back from a listing."""
    kind: str = ""
    """Of the database: `postgresql`, `firestore`."""

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


class ExportInfo(Struct, frozen=True, kw_only=True):
    """A backup written out as lines of JSON."""

    path: Path
    rows: int
    size: int
    duration: float


class RestoreInfo(Struct, frozen=True, kw_only=True):
    """What a finished restore did."""

    path: Path
    parts: int
    rows: int
    """That the backup holds; what became of them stands in the last fields."""
    raw_bytes: int
    duration: float
    warnings: tuple[str, ...] = ()
    kind: str = ""
    mode: RestoreMode = "replace"
    written: int = 0
    """Of the backup's rows; PostgreSQL: all of them."""
    unchanged: int = 0
    """Of the backup's rows: the target held them as they are."""
    deleted: int = 0
    """Of the target's, which the backup does not hold."""
    kept: int = 0
    """Of the backup's rows that were not written in the mode `create`, for the target had them already."""


class RestoreTotals(Struct, frozen=True, kw_only=True):
    """What the backend says at the end of a restoration, after its own checks."""

    warnings: tuple[str, ...] = ()
    written: int | None = None
    """None: all of the backup's rows."""
    unchanged: int = 0
    deleted: int = 0
    kept: int = 0


class UnfinishedRestore(Struct, frozen=True, kw_only=True):
    """A restore whose mark stands in the database: it is under way, or has not come to its end."""

    backup: str
    """The backup's id."""
    mode: str
    holder: str
    since: datetime | None = None

    def __str__(self) -> str:
        since = f", begun {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return f"a restore of the backup {self.backup} (mode {self.mode}, by {self.holder}{since})"


class VerifyInfo(Struct, frozen=True, kw_only=True):
    """What a passed verification looked at."""

    path: Path
    id: str
    level: Literal["quick", "full"]
    members: int
    rows: int
    raw_bytes: int
    size: int
    duration: float


class MigrationResult(Struct, frozen=True, kw_only=True):
    """How a run went. On failure `MigrationFailed.result` holds it, after the recovery was done."""

    success: bool
    direction: Direction = "up"
    dry_run: bool = False
    """Everything was run and rolled back."""
    executed: tuple[Migration, ...] = ()
    """Run by this run, on failure those before it; `restored` and `undone` tell what became of them."""
    skipped: tuple[Migration, ...] = ()
    """Left out of a dry run: they cannot run in a transaction."""
    failed: Migration | None = None
    backup: BackupInfo | None = None
    restored: bool = False
    """True when the backup was put back: the database is as it was before the run."""
    undone: tuple[Migration, ...] = ()
    """Undone by their own `down`, newest first."""
    duration: float = 0.0


class RepairResult(Struct, frozen=True, kw_only=True):
    """What a repair changed in the history, or would change."""

    rechecksummed: tuple[AppliedMigration, ...] = ()
    """Their files were changed after they were applied; the history now has the files' checksums."""
    forgotten: tuple[AppliedMigration, ...] = ()
    """Their files are gone, and now their lines too."""
    dry_run: bool = False


class Drift(Struct, frozen=True, kw_only=True):
    """What was changed by hand since the last migration: names of catalogue objects, with their kinds."""

    since: AppliedMigration
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)
