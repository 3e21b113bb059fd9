"""Events and amounts in words, for whoever shows them to a person. Pure: nothing here writes.

Sizes are decimal (1 MB is 1,000,000 bytes), as file managers and disks count them.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import Literal, TypeAlias

from msgspec import Struct

from ..errors import ScriptFailed, words_of
from ..events import (
    BackupCreated,
    BackupDeleted,
    BatchFinished,
    Drifted,
    Event,
    LockWaiting,
    MigrationErred,
    MigrationFinished,
    MigrationRetried,
    MigrationStarted,
    Noticed,
    Planned,
    RecoveryStarted,
    Restored,
    StatementProgress,
    Step,
    TransferStarted,
    Warned,
)
from ..models import Drift, Part, RestoreInfo

Mood: TypeAlias = Literal["done", "failed", "back", "warning", "plain"]


class Told(Struct, frozen=True, kw_only=True):
    """One line for a person, and how it is meant."""

    mood: Mood
    text: str


def tell(event: Event) -> Told | None:
    """What stays on the screen of an event; None for those that only move a bar."""
    match event:
        case Planned(plan=plan) if not plan.errors:
            pending = len(plan.pending)
            verb = "run" if plan.direction == "up" else "undo"
            return Told(
                mood="plain", text=f"{count(pending, 'migration')} to {verb}" if pending else f"nothing to {verb}"
            )
        case LockWaiting(holder=holder, waited=waited):
            return Told(mood="warning", text=f"waiting for the migration lock, held by {holder} ({seconds(waited)})")
        case MigrationFinished(migration=migration, direction=direction, duration=duration):
            undone = "" if direction == "up" else "undone: "
            return Told(mood="done", text=f"{undone}{migration}  {seconds(duration)}")
        case MigrationErred(migration=migration, direction=direction, error=error):
            which = "" if direction == "up" else "down of "
            place = _where(error)
            name = "" if place.startswith(str(migration)) else f"{migration}: "
            return Told(mood="failed", text=f"{which}{name}{place}")
        case MigrationRetried(migration=migration, attempt=attempt, delay=delay, error=error):
            again = f"tried again in {seconds(delay)} (attempt {attempt} failed: {first_line(error)})"
            return Told(mood="warning", text=f"{migration}: {again}")
        case Noticed(migration=migration, among=among, severity=severity, message=message):
            who = f"{migration} or one of the {len(among)} sent with it" if among else str(migration)
            return Told(mood="warning" if severity == "WARNING" else "plain", text=f"{who}: {severity}: {message}")
        case Drifted(drift=drift):
            return Told(mood="warning", text=drifted(drift))
        case BackupCreated(backup=backup):
            took = "" if backup.duration is None else f"  {seconds(backup.duration)}"
            pace = "" if not backup.duration else f"  {rate(backup.raw_bytes, backup.duration)}"
            packed = f"{size(backup.raw_bytes)} in a file of {size(backup.size)}"
            return Told(mood="done", text=f"backup: {row_count(backup.rows, backup.kind)}, {packed}{took}{pace}")
        case BackupDeleted(path=path):
            return Told(mood="plain", text=f"backup {path.name} deleted, the run succeeded")
        case RecoveryStarted(strategy=strategy):
            return Told(mood="back", text=f"putting the database back (strategy {strategy})")
        case Restored(restore=restore):
            pace = f"{seconds(restore.duration)}  {rate(restore.raw_bytes, restore.duration)}"
            came = f"{row_count(restore.rows, restore.kind)}, {size(restore.raw_bytes)}"
            how = "checked" if restore.mode == "replace" else f"mode {restore.mode}: {became(restore)}"
            return Told(mood="done", text=f"restored: {came}, {how}  {pace}")
        case Warned(message=message):
            return Told(mood="warning", text=message)
        case _:
            return None


def doing(event: Event) -> str | None:
    """What the program is in the middle of after this event, as the end of "it is ...".

    Empty when something ended; None when the event changes nothing.
    """
    match event:
        case MigrationStarted(migration=migration, direction="up"):
            return f"running {migration}"
        case MigrationStarted(migration=migration):
            return f"undoing {migration}"
        case TransferStarted(action=action, path=path):
            return f"making the backup {path.name}" if action == "backup" else f"restoring {path.name}"
        case RecoveryStarted():
            return "putting the database back"
        case Step(action="restore", detail=detail):
            return f"restoring ({detail})"
        case BatchFinished(migration=migration, number=number):
            return f"running {migration}, after batch {number}"
        case MigrationFinished() | MigrationErred() | BackupCreated() | Restored():
            return ""
        case _:
            return None


def advance(event: BatchFinished | StatementProgress) -> str:
    """How far a long migration has come."""
    if isinstance(event, BatchFinished):
        pace = f"{event.rate:,.0f} rows/s"
        return f"{event.migration}: batch {event.number}, {count(event.total_rows, 'row')}, {pace}"
    share = f" {event.done / event.total:.0%}" if event.total else ""
    return f"{event.migration}: {event.phase}{share}"


def drifted(drift: Drift) -> str:
    """What was changed by hand, at most ten names."""
    names = [
        *(f"added {name}" for name in drift.added),
        *(f"removed {name}" for name in drift.removed),
        *(f"changed {name}" for name in drift.changed),
    ]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"the schema was changed by hand since {drift.since}: {', '.join(names[:10])}{more}"


def size(amount: float) -> str:
    if amount < 1000:
        return f"{amount:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            break
    return f"{amount:.1f} {unit}" if amount < 99.95 else f"{amount:,.0f} {unit}"


def rate(amount: float, duration: float) -> str:
    return f"{size(amount / max(duration, 0.001))}/s"


def seconds(duration: float) -> str:
    if duration < 0.0995:
        return f"{duration * 1000:.0f} ms"
    if duration < 59.95:
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def row_count(number: int, kind: str) -> str:
    """How many rows, in the word of that kind of database or of part."""
    return count(number, "document" if kind in ("firestore", "documents") else "row")


def became(restore: RestoreInfo) -> str:
    """What was done with a restore's documents: `3 written, 10 unchanged, 2 deleted`."""
    rest = (("unchanged", restore.unchanged), ("deleted", restore.deleted), ("kept", restore.kept))
    return ", ".join([f"{restore.written:,} written", *(f"{number:,} {word}" for word, number in rest if number)])


def part_label(part: Part) -> str:
    """What to call a part on the screen: `public.orders[3]`, `documents from users/alice`."""
    if part.kind != "documents":
        return str(part)
    start = part.slice.partition('"')[2].partition('"')[0]
    return f"documents from {start}" if start else "documents"


def first_line(error: BaseException) -> str:
    if isinstance(error, CancelledError):
        return "interrupted"
    lines = words_of(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _where(error: BaseException) -> str:
    """The error with the file's name only: its folder is the same for all of them and fills the line."""
    if not isinstance(error, ScriptFailed) or error.path is None:
        return first_line(error)
    place = ":".join(str(item) for item in (error.path.name, error.line, error.column) if item is not None)
    return f"{place}: {first_line(Exception(error.message))}"


def printable(text: str) -> str:
    """The text with control characters spelled out: names come from databases, and a terminal obeys what it is sent."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shorten(text: str, width: int) -> str:
    """Cut in the middle, where names differ least."""
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"
