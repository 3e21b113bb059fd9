"""The nouns of the house: frozen values that every room passes to the next, and no behaviour beyond reading them.

Sizes are bytes, durations are seconds, times are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

VERSION = "0.1.0"
"""This library's; the build reads it here."""

Version: TypeAlias = int
"""A migration's version: the 12 to 14 digits of its file name, ordered as a number."""

Severity: TypeAlias = Literal["error", "warning"]
Language: TypeAlias = Literal["sql", "py"]


# -- migrations -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Script:
    """The text of one direction of a migration, and where it stands."""

    path: Path
    text: str
    language: Language


@dataclass(frozen=True, kw_only=True)
class Migration:
    """One migration as its files describe it. For Python both directions are functions of the same file."""

    version: Version
    name: str
    up: Script
    down: Script | None
    checksum: str
    """SHA-256 of the up script's text, line endings and byte-order mark left out."""

    def __str__(self) -> str:
        return f"V{self.version}_{self.name}"


@dataclass(frozen=True, kw_only=True)
class AppliedMigration:
    """One line of the history: a migration that was applied, as the database's version table records it."""

    version: Version
    name: str
    checksum: str
    applied_at: datetime
    duration: float
    applied_by: str

    def __str__(self) -> str:
        return f"V{self.version}_{self.name}"


@dataclass(frozen=True, kw_only=True)
class Issue:
    """One thing found wrong (or doubtful) before anything ran."""

    code: str
    severity: Severity
    message: str
    path: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.path is None else f"{self.path}:{self.line}: " if self.line else f"{self.path}: "
        return f"{place}{self.message} [{self.code}]"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run would do: decided from the files and the history alone, without touching anything."""

    pending: tuple[Migration, ...]
    applied: tuple[AppliedMigration, ...]
    issues: tuple[Issue, ...] = ()

    @property
    def errors(self) -> tuple[Issue, ...]:
        return tuple(issue for issue in self.issues if issue.severity == "error")


@dataclass(frozen=True, kw_only=True)
class LockInfo:
    """Who holds the migration lock."""

    holder: str
    pid: int | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        pid = f" (backend pid {self.pid})" if self.pid is not None else ""
        since = f" since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        return f"{self.holder}{pid}{since}"


# -- the database and its parts -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DatabaseInfo:
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


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a database that is dumped and loaded on its own: a table, a slice of one, a collection's range."""

    kind: str
    """`table`, `large_objects`, `collection`, ...: the backend's word."""
    names: tuple[str, ...]
    """The qualified name of what this is a part of, unquoted: `("public", "orders")`."""
    columns: tuple[Column, ...] = ()
    slice: str = ""
    """Which slice of it, in the backend's words; empty means the whole."""
    estimate: int = 0
    """Bytes of data expected, a guess for ordering and progress."""

    @property
    def name(self) -> str:
        return ".".join(self.names)

    def __str__(self) -> str:
        return f"{self.name}[{self.slice}]" if self.slice else self.name


@dataclass(frozen=True, kw_only=True)
class PartTotals:
    rows: int
    raw_bytes: int


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Whose rows a backup carries: shell patterns over qualified names of tables or collections; empty means all."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SnapshotDetails:
    """What a snapshot carries beside its rows.

    `documents` are small files kept under `schema/` in the backup: the backend's own words for how to rebuild what
    holds the rows. `fingerprint` is a hash of the catalogue, compared after a restore.
    """

    documents: Mapping[str, bytes]
    fingerprint: str
    complete: bool
    """False when only data could be taken: such a backup cannot undo a migration."""
    notes: tuple[str, ...] = ()
    """What a reader of the backup must know, one sentence each: what it leaves out and why."""


# -- the manifest: the last member of a backup file ------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ChunkEntry:
    member: str
    size: int
    sha256: str
    raw_size: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    kind: str
    names: tuple[str, ...]
    columns: tuple[Column, ...]
    slice: str
    rows: int
    raw_bytes: int
    chunks: tuple[ChunkEntry, ...]

    @property
    def part(self) -> Part:
        return Part(kind=self.kind, names=self.names, columns=self.columns, slice=self.slice, estimate=self.raw_bytes)


@dataclass(frozen=True, kw_only=True)
class DocumentEntry:
    """A `schema/...` member; its raw text is one zstd frame."""

    name: str
    member: str
    size: int
    sha256: str
    raw_size: int


@dataclass(frozen=True, kw_only=True)
class Totals:
    parts: int
    rows: int
    raw_bytes: int
    stored_bytes: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
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


@dataclass(frozen=True, kw_only=True)
class BackupInfo:
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

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class RestoreInfo:
    """What a finished restore did."""

    path: Path
    parts: int
    rows: int
    raw_bytes: int
    duration: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RestoreTotals:
    """What the backend says at the end of a restoration, after its own checks."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VerifyInfo:
    """What a passed verification looked at."""

    path: Path
    id: str
    level: Literal["quick", "full"]
    members: int
    rows: int
    raw_bytes: int
    size: int
    duration: float


@dataclass(frozen=True, kw_only=True)
class MigrationResult:
    """How a run went. On failure `MigrationFailed.result` holds it, after the recovery was done."""

    success: bool
    executed: tuple[Migration, ...] = ()
    """Applied by this run, on failure those before it; `restored` and `undone` tell what became of them."""
    failed: Migration | None = None
    backup: BackupInfo | None = None
    restored: bool = False
    """True when the backup was put back: the database is as it was before the run."""
    undone: tuple[Migration, ...] = ()
    """Undone by their own `down`, newest first."""
    duration: float = 0.0
