"""What puts things back when a migration fails: decided by the settings, done shielded, told in a sentence."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import anyio
from msgspec import Struct
from msgspec.structs import replace

from ..config import Config
from ..errors import (
    ConnectionFailed,
    ConnectionLost,
    DownFailed,
    LockNotAcquired,
    MigrationFailed,
    MsrError,
    RecoveryFailed,
    RestoreFailed,
    RestoreUnfinished,
    ScriptFailed,
)
from ..events import Observer, RecoveryStarted
from ..models import AppliedMigration, Migration, MigrationResult, Plan
from ..protocols import DatabaseMigrationHandler
from .applying import Course, apply
from .intending import intend
from .stepping import Way

ConnT = TypeVar("ConnT")
T = TypeVar("T")


def may_have_changed(course: Course, error: BaseException) -> bool:
    """Whether the database can be different from what it was before the run.

    It is not when all that was run was rolled back; restoring then would only throw away what others have written
    meanwhile. Python may have used connections of its own, a script outside of a transaction and a data step leave
    what they did, and a connection lost or a run stopped at a COMMIT may have committed.
    """
    left = course.touched or course.note is not None
    return left or isinstance(error, ConnectionLost) or not isinstance(error, Exception)


class Recovery(Struct, frozen=True, kw_only=True):
    """What a recovery did. `error` says that it could not be finished."""

    undone: tuple[Migration, ...] = ()
    stayed: tuple[Migration, ...] = ()
    """Repeatable scripts that the run has run: they have no `down`."""
    half_done: bool = False
    """The migration that failed left its progress in the book, so the next run goes on with it."""
    restored: bool = False
    down_error: Exception | None = None
    """Why the `down`s were given up for the backup."""
    error: Exception | None = None


async def recover(
    handler: DatabaseMigrationHandler[ConnT],
    plan: Plan,
    config: Config,
    course: Course,
    restore: Callable[[], Awaitable[object]] | None,
    error: BaseException,
    emit: Observer,
    *,
    run: str,
) -> Recovery:
    """Put things back as the settings say; what goes wrong on the way is in the answer, never raised.

    Which migrations are in the database is read from its history: a COMMIT whose answer was lost may have happened.

    Args:
        plan: what the failed run was to do, and the history from before it.
        config: whose strategy, transaction settings and time limit count.
        course: how far the run came.
        restore: puts the backup back; None when there is none to put back.
        error: what stopped the run.
        run: its id in the history. With lines of others in it, no backup is put back over them.
    """
    by_downs = intend(config, plan.direction).undo
    if not by_downs and restore is None and course.note is None:
        return Recovery()
    done, way_down = Recovery(), Course()
    with anyio.move_on_after(config.recovery_timeout, shield=True) as scope:
        done = replace(done, half_done=await _half_done(handler, course))
        if restore is not None and not done.half_done and _left_nothing(config, course):
            restore = None
        if by_downs or restore is not None:
            emit(RecoveryStarted(strategy=str(config.rollback_strategy), error=error))
        if by_downs:
            done = await _undo(handler, plan, config, done, way_down, emit, run)
            if restore is None:
                done = replace(done, error=done.down_error, down_error=None)
            elif done.down_error is None:
                done = replace(done, down_error=_gap(done, course, error))
        if restore is not None and (done.down_error is not None or not by_downs):
            try:
                await _refuse_over_others(handler, plan, run)
                await restore()
                done = replace(done, restored=True)
            except Exception as problem:
                done = replace(done, error=problem)
    if scope.cancelled_caught:
        timeout = RestoreFailed(
            f"The recovery was stopped after {config.recovery_timeout:.0f} s.",
            hint="Give it more time with recovery_timeout.",
        )
        done = replace(done, error=timeout)
    return replace(done, undone=tuple(way_down.executed))


def _left_nothing(config: Config, course: Course) -> bool:
    """A script outside of a transaction is not half-done, and nothing else was run: as if it had not begun."""
    return course.way == "outside" and course.note is not None and not course.touched and not intend(config).existing


async def _half_done(handler: DatabaseMigrationHandler[ConnT], course: Course) -> bool:
    """Whether the migration that failed has left its progress in the book; also when that cannot be read."""
    key = course.note
    if key is None:
        return False
    try:
        note = await _asked(lambda: handler.schema_version.note(key))
    except Exception:
        return True
    if note is None or course.way == "batched":
        return note is not None
    return bool(note.get("statement") or note.get("begun"))


async def _undo(
    handler: DatabaseMigrationHandler[ConnT],
    plan: Plan,
    config: Config,
    done: Recovery,
    course: Course,
    emit: Observer,
    run: str,
) -> Recovery:
    """Run the `down`s of what this run has in the history, newest first; those before one that fails stay undone."""
    if done.half_done:
        return done  # it builds on what ran before it, and goes on from there
    try:
        ours = {entry.id for entry in await _asked(handler.schema_version.applied) if entry.run == run}
        recorded = [migration for migration in reversed(plan.pending) if migration.id in ours]
        versioned = tuple(migration for migration in recorded if migration.kind == "versioned")
        done = replace(done, stayed=tuple(migration for migration in recorded if migration.kind == "repeatable"))
        downs = Plan(direction="down", pending=versioned, applied=plan.applied)
        await apply(handler, downs, config, emit, course, by="", run=run)
    except Exception as error:
        failed = error if course.step is None else DownFailed(course.step, error)
        failed.__cause__ = error if failed is not error else error.__cause__
        return replace(done, down_error=failed)
    return done


def _kept(error: BaseException) -> bool:
    """Whether a rollback did not undo all of what failed."""
    return isinstance(error, ScriptFailed) and error.kept


def _gap(done: Recovery, course: Course, error: BaseException) -> MsrError | None:
    """What the `down`s, which all worked, could not put back."""
    if done.half_done:
        return MsrError(f"{course.step} is half-done, and what ran before it cannot be undone under it.")
    if done.stayed:
        return MsrError(f"{_names(done.stayed)} has no down.")
    if _kept(error):
        return MsrError(f"No down undoes what {course.step} committed itself.")
    return None


async def _refuse_over_others(handler: DatabaseMigrationHandler[ConnT], plan: Plan, run: str) -> None:
    """Raises:
    RestoreFailed: the history holds lines that were not there before the run, and that are not this run's.
    ConnectionLost: the lock was lost, and whoever took it may be at work.
    RestoreUnfinished: somebody else is putting a backup back.
    """
    if handler.lock is not None:
        await _asked(handler.lock.check)  # whatever it says but yes: without the lock it would destroy what others do
    try:
        history = await _asked(handler.schema_version.applied)
    except (ConnectionFailed, ConnectionLost, LockNotAcquired, RestoreUnfinished):
        raise
    except Exception:
        return  # a migration has damaged the history, and the backup brings it back
    before = {_mark(entry) for entry in plan.applied}
    others = [entry for entry in history if entry.run != run and _mark(entry) not in before]
    if others:
        who = ", ".join(sorted({entry.applied_by for entry in others}))
        raise RestoreFailed(
            f"{who} has meanwhile applied {_names(others)}; putting the older backup back would destroy that.",
            hint="Compare msr-async status with the backup, and restore by hand what is to be restored.",
        )


def _mark(entry: AppliedMigration) -> tuple[object, ...]:
    return entry.id, entry.run, entry.applied_at, entry.checksum


async def _asked(ask: Callable[[], Awaitable[T]]) -> T:
    """A connection that was lost is told once; the second question opens a new one, with the lock taken back."""
    try:
        return await ask()
    except ConnectionLost:
        return await ask()


def verdict(
    config: Config, result: MigrationResult, error: BaseException, recovery: Recovery, course: Course
) -> MigrationFailed:
    """The error that tells the whole story: what failed, what was done about it, what is true of the database now."""
    command = f"msr-async backup restore {shlex.quote(str(result.backup))}" if result.backup else ""
    intent = intend(config, result.direction)
    if recovery.error is not None:
        undone = f" Undone before that: {_names(result.undone)}." if result.undone else ""
        way = f"The backup is intact; to restore it: {command}" if command else "Look at it with: msr-async status"
        hint = f"{undone} The database may be in between. {way}".lstrip()
        return RecoveryFailed(result, error, recovery.error, hint=hint)
    if recovery.restored:
        why = f"The ways down did not lead back ({recovery.down_error}). " if recovery.down_error else ""
        taken = f"{result.backup.created:%H:%M:%S} UTC" if result.backup else ""
        state = "as that backup has it" if intent.existing else f"as it was before the run, at {taken}"
        outcome = f"{why}The backup {result.backup} was restored: the database is {state}."
        return MigrationFailed(result, error, outcome=f"{outcome} What other sessions have written since then is gone.")
    unchanged = not result.executed and _left_no_doubt(error, recovery, course)
    hint = _ways(result, command, unchanged=unchanged, named=intent.existing)
    if intent.undo:
        return MigrationFailed(result, error, outcome=_undone(result, recovery, course, error), hint=hint)
    verb, none = ("Applied", "applied") if result.direction == "up" else ("Undone", "undone")
    kept = f"{verb} before it and kept: {_names(result.executed)}." if result.executed else f"Nothing was {none}."
    own = _left(error, recovery, course)
    if unchanged:
        own += " The database is as it was before the run."
    return MigrationFailed(result, error, outcome=f"{kept} {own} Nothing was restored.", hint=hint)


def _left_no_doubt(error: BaseException, recovery: Recovery, course: Course) -> bool:
    """Whether what failed has surely left nothing, as its rollback or its note in the book says."""
    if course.touched or recovery.half_done or isinstance(error, ConnectionLost):
        return False
    return isinstance(error, Exception) or (course.way == "outside" and course.note is not None)


def _ways(result: MigrationResult, command: str, *, unchanged: bool, named: bool) -> str:
    """What can be done with the backup that was not put back."""
    if not command:
        return ""
    if unchanged:
        return f"Nothing has to be restored; the backup {result.backup} was kept."
    return f"To go back to {'that backup' if named else 'the state before the run, data included'}: {command}"


def _undone(result: MigrationResult, recovery: Recovery, course: Course, error: BaseException) -> str:
    if recovery.half_done:
        return f"{_GOES_ON[course.way]} So nothing that ran before it was undone."
    undone = f"Undone: {_names(result.undone)}." if result.undone else "Nothing of the run was left to undo."
    if recovery.stayed:
        return f"{undone} There is no way down from {_names(recovery.stayed)}: what this run made of it stays."
    if _kept(error):
        return f"{undone} {STAYS} No down undoes that."
    return f"{undone} The database is at the version it was at before."


STAYS = "It ended its transaction itself: what it committed stays."
"""Of a script that is `kept`."""
_GOES_ON: Mapping[Way | None, str] = {
    "batched": "Its finished batches stay, and the next run goes on after them.",
    "outside": "It ran outside of a transaction: what it did stays, and the next run goes on from there.",
}


def _left(error: BaseException, recovery: Recovery, course: Course) -> str:
    """What the migration that failed has left behind."""
    if recovery.half_done:
        return _GOES_ON[course.way]
    if isinstance(error, ConnectionLost):
        others = f", nor of the {len(course.sent)} sent along with it" if course.sent else ""
        return f"Whether its own transaction was committed is not known{others}; see msr-async status."
    if course.way == "outside":
        return "It left nothing behind." if course.note else "It ran outside of a transaction: what it did stays."
    if _kept(error):
        return f"{STAYS} See msr-async status." if course.together else STAYS
    return (
        "The transaction of the whole run was rolled back."
        if course.together
        else "Its own transaction was rolled back."
    )


def _names(items: Iterable[Migration | AppliedMigration]) -> str:
    return ", ".join(str(item) for item in items)
