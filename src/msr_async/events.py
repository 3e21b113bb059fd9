"""What observers hear. An observer is one callable that takes one event; new facts become new fields or new classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from .models import BackupInfo, Migration, Part, Plan, RestoreInfo

Direction: TypeAlias = Literal["up", "down"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """The root of all events."""


@dataclass(frozen=True, kw_only=True)
class Planned(Event):
    plan: Plan


@dataclass(frozen=True, kw_only=True)
class LockWaiting(Event):
    holder: str
    waited: float


@dataclass(frozen=True, kw_only=True)
class MigrationStarted(Event):
    migration: Migration
    direction: Direction
    position: int
    total: int


@dataclass(frozen=True, kw_only=True)
class MigrationFinished(Event):
    migration: Migration
    direction: Direction
    duration: float


@dataclass(frozen=True, kw_only=True)
class MigrationErred(Event):
    migration: Migration
    direction: Direction
    error: BaseException


@dataclass(frozen=True, kw_only=True)
class TransferStarted(Event):
    """A backup or a restore begins; `raw_bytes` is an estimate for a backup and exact for a restore."""

    action: Literal["backup", "restore"]
    path: Path
    parts: tuple[Part, ...]
    raw_bytes: int


@dataclass(frozen=True, kw_only=True)
class PartProgress(Event):
    """`rows` and `raw_bytes` are what came since the last event of this part; `finished` says that it was the last."""

    action: Literal["backup", "restore"]
    part: Part
    rows: int
    raw_bytes: int
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    """A phase that has no rows to count: schema, indexes, checks. `detail` is one line for a person."""

    action: Literal["backup", "restore", "verify", "migrate"]
    detail: str


@dataclass(frozen=True, kw_only=True)
class BackupCreated(Event):
    backup: BackupInfo


@dataclass(frozen=True, kw_only=True)
class BackupDeleted(Event):
    path: Path


@dataclass(frozen=True, kw_only=True)
class RecoveryStarted(Event):
    strategy: str
    error: BaseException


@dataclass(frozen=True, kw_only=True)
class Restored(Event):
    restore: RestoreInfo


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    message: str


Observer: TypeAlias = Callable[[Event], None]
"""Called in the event loop, so it must not block; what it raises is logged and changes nothing."""
