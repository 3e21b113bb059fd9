"""What observers hear. An observer is one callable that takes one event; new facts become new fields or new classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from .errors import MigrationFailed
from .models import BackupInfo, Direction, Drift, Migration, Part, Plan, RestoreInfo


class Event(Struct, frozen=True, kw_only=True):
    """The root of all events."""


class Planned(Event, frozen=True, kw_only=True):
    plan: Plan


class LockWaiting(Event, frozen=True, kw_only=True):
    holder: str
    waited: float


class MigrationStarted(Event, frozen=True, kw_only=True):
    migration: Migration
    direction: Direction
    position: int
    total: int


class MigrationFinished(Event, frozen=True, kw_only=True):
    migration: Migration
    direction: Direction
    duration: float
    """Seconds; of small ones that went to the server in one message, an equal share. The history has each one's own."""


class MigrationErred(Event, frozen=True, kw_only=True):
    migration: Migration
    direction: Direction
    error: BaseException


class MigrationRetried(Event, frozen=True, kw_only=True):
    """A migration met somebody else's lock, a deadlock or a serialisation failure; all of it is tried again."""

    migration: Migration
    direction: Direction
    attempt: int
    """The one that failed, from 1."""
    delay: float
    """Seconds until the next."""
    error: BaseException


class BatchFinished(Event, frozen=True, kw_only=True):
    """A batch of a migration's data step was committed; `rows`, `total_rows` and `duration` are those of this run."""

    migration: Migration
    number: int
    rows: int
    total_rows: int
    duration: float
    """Seconds since the data step began (in this run)."""

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.total_rows / self.duration if self.duration else 0.0


class StatementProgress(Event, frozen=True, kw_only=True):
    """How far a long statement has come, in the server's words and units."""

    migration: Migration
    phase: str
    done: int
    total: int
    """0 where the server does not say."""


class Noticed(Event, frozen=True, kw_only=True):
    """The server had something to say while a migration ran: a NOTICE or a WARNING."""

    migration: Migration
    among: tuple[Migration, ...] = ()
    """Others that it may have been as well: they went to the server in one message, which rarely says anything."""
    severity: str
    message: str


class Drifted(Event, frozen=True, kw_only=True):
    """The database was changed by hand since the last migration."""

    drift: Drift


class TransferStarted(Event, frozen=True, kw_only=True):
    """A backup or a restore begins; `raw_bytes` is an estimate for a backup and exact for a restore."""

    action: Literal["backup", "restore"]
    path: Path
    parts: tuple[Part, ...]
    raw_bytes: int


class PartProgress(Event, frozen=True, kw_only=True):
    """`rows` and `raw_bytes` are what came since the last event of this part; `finished` says that it was the last."""

    action: Literal["backup", "restore"]
    part: Part
    rows: int
    raw_bytes: int
    finished: bool = False


class Step(Event, frozen=True, kw_only=True):
    """A phase that has no rows to count: schema, indexes, checks. `detail` is one line for a person."""

    action: Literal["backup", "restore", "verify", "migrate"]
    detail: str


class BackupCreated(Event, frozen=True, kw_only=True):
    backup: BackupInfo


class BackupDeleted(Event, frozen=True, kw_only=True):
    path: Path


class RecoveryStarted(Event, frozen=True, kw_only=True):
    strategy: str
    error: BaseException


class Restored(Event, frozen=True, kw_only=True):
    restore: RestoreInfo


class Warned(Event, frozen=True, kw_only=True):
    message: str
    failure: MigrationFailed | None = None
    """Of a run that was cancelled: what would have been raised, were a cancellation not raised as it came."""


Observer: TypeAlias = Callable[[Event], None]
"""Called in the event loop, so it must not block; what it raises is logged and changes nothing."""
