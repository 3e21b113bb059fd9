"""Runs what a plan holds, each migration together with its line in the history; up and down are one path."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from ..config import Config, TransactionMode
from ..events import MigrationErred, MigrationFinished, MigrationStarted, Observer, Warned
from ..models import Migration, Plan
from ..protocols import Change, DatabaseMigrationHandler
from .batch_running import run_batches, try_batch
from .grouping import Pace, group
from .stepping import Ground, Turn, Way, batches_key, options_for, options_for_all, statements_key, turns

ConnT = TypeVar("ConnT")


class Course(Struct):
    """How far a run has come: written by `apply` as it goes, read by whoever deals with its failure."""

    executed: list[Migration] = field(default_factory=list)
    """Committed, in this order, hooks left out."""
    step: Migration | None = None
    """The one under way, a hook too."""
    way: Way | None = None
    """How that one is run; None while all of the run is one transaction."""
    note: str | None = None
    """Under which note of the book the progress of that one is kept, where it is kept."""
    touched: bool = False
    """Something may stay in the database when the run fails now; what has its progress in a note is not counted."""
    together: bool = False
    """All of the run is one transaction."""
    sent: tuple[Migration, ...] = ()
    """What went to the database along with the one under way, each as a transaction of its own."""

    def begin(self, turn: Turn, way: Way | None) -> None:
        self.step, self.way, self.note = turn.migration, way, None
        script = turn.script
        if way == "batched":
            self.note = batches_key(turn.migration)
        elif way == "outside" and script.language != "py" and turn.migration.kind != "hook":
            self.note = statements_key(turn.migration)
        # Python may have used connections of its own
        self.touched |= script.language == "py" or (way == "outside" and self.note is None)

    def end(self, *migrations: Migration) -> None:
        """They are committed."""
        self.step = self.way = self.note = None
        self.sent = ()
        self.touched = True
        self.executed += migrations


async def apply(
    handler: DatabaseMigrationHandler[ConnT],
    plan: Plan,
    config: Config,
    emit: Observer,
    course: Course,
    *,
    by: str,
    run: str,
    durable_last: bool = True,
) -> None:
    """Run everything that the plan holds, up to the first that fails; its error comes out as it is.

    The book is there and the lock is held.

    Args:
        course: is told of each that is done, so that a failure leaves no doubt about which those are.
        by: who runs them, for the history.
        run: which run this is, for the history.
        durable_last: the last commit waits until it is on disk, and so makes all of them safe.
    """
    ground = Ground(handler=handler, config=config.transaction, emit=emit, by=by, run=run)
    steps = turns(plan)
    if steps and config.transaction.mode is TransactionMode.PER_BATCH:
        await _together(ground, steps, course, durable=durable_last)
        return
    at, pace = 0, Pace()
    while at < len(steps):
        turn = steps[at]
        _announce(turn, emit)
        course.step = turn.migration
        try:
            way = ground.way(turn)
            course.begin(turn, way)
            if way == "message":
                at += await _messages(ground, steps, at, course, pace, durable_last=durable_last)
            else:
                await _alone(ground, turn, way, course, durable=durable_last and turn.position == turn.total)
                at += 1
        except BaseException as error:
            if course.step is not None:  # cancelled at the end of the last one, nothing is under way
                emit(MigrationErred(migration=course.step, direction=turn.function, error=error))
            raise


async def _messages(
    ground: Ground[ConnT], steps: Sequence[Turn], at: int, course: Course, pace: Pace, *, durable_last: bool
) -> int:
    """The migration and those after it that may go together, each as a transaction of its own; how many that were."""
    handler, began = ground.handler, time.monotonic()
    waiting = list(group(steps, at, pace.size, ground.joins))
    size = together = len(waiting)
    tried = False
    course.sent = _migrations(waiting[1:])

    def current() -> Turn:
        return waiting[0] if waiting else steps[at + size - 1]

    def speaking() -> Sequence[Migration]:
        if together > 1:
            pace.heard()
        return _migrations(waiting[:together] or [current()])

    notice = ground.notice_among(speaking)
    options = replace(options_for(waiting[0], ground.config), notice=notice)

    def done(duration: float) -> None:
        nonlocal together
        turn = waiting.pop(0)
        together -= 1
        sent = course.sent[1:]
        course.end(turn.migration)
        _done(turn, duration, ground.emit)
        if together:
            _announce(waiting[0], ground.emit)
            course.begin(waiting[0], "message")
            course.sent = sent

    async def attempt() -> None:
        nonlocal together, tried
        if tried:  # alone, so that every failure that counts is its own
            together, course.sent = 1, ()
        tried = True
        changes = [Change(script=turn.script, entry=ground.entry(turn.migration, 0.0)) for turn in waiting[:together]]
        last = waiting[together - 1]
        durable = durable_last and last.position == last.total
        await handler.apply(changes, last.direction, replace(options, durable=durable), done)

    following = steps[at + size : at + size + 2 * pace.size]
    asyncio.get_running_loop().call_soon(ground.look_ahead, following)  # it runs while the server does
    await ground.unit(current, attempt)
    pace.took(time.monotonic() - began)
    return size - len(waiting)


async def _alone(ground: Ground[ConnT], turn: Turn, way: Way, course: Course, *, durable: bool) -> None:
    started = time.monotonic()
    if way == "outside":
        await _outside(ground, turn)
    elif way == "batched":
        await run_batches(ground, turn, durable=durable)
    else:
        await _unit(ground, turn, durable=durable)
    course.end(*_migrations([turn]))
    _done(turn, time.monotonic() - started, ground.emit)


async def _unit(ground: Ground[ConnT], turn: Turn, *, durable: bool) -> None:
    notice = ground.notice(lambda: turn.migration)
    options = replace(options_for(turn, ground.config), durable=durable, notice=notice)
    notes = (batches_key(turn.migration),) if turn.migration.batched else ()

    async def attempt() -> None:
        started = time.monotonic()
        async with ground.runnable(turn) as script:  # a fresh module each time: nothing is left of an earlier attempt

            async def work(conn: ConnT) -> None:
                await script(conn)
                await ground.enter(conn, turn, time.monotonic() - started, *notes)

            await ground.handler.run(work, options)

    await ground.unit(lambda: turn, attempt)


async def _outside(ground: Ground[ConnT], turn: Turn) -> None:
    """The script without a transaction, then its line in one of its own.

    SQL notes how far it has come, so that it can be tried again. Python cannot: it is not retried.
    """
    migration = turn.migration
    notice = ground.notice(lambda: migration)
    options = replace(options_for(turn, ground.config), notice=notice)
    notes = [statements_key(migration)] if turn.script.language != "py" else []
    resume = notes[0] if notes and migration.kind != "hook" else None
    notes += [batches_key(migration)] if migration.batched else []
    started = time.monotonic()

    async def attempt() -> None:
        async with ground.runnable(turn, resume=resume) as script:
            await ground.handler.run(script, replace(options, transaction=False, isolation=None))

    async def record(conn: ConnT) -> None:
        await ground.enter(conn, turn, time.monotonic() - started, *notes)

    await ground.unit(lambda: turn, attempt, again=turn.script.language != "py")
    if migration.kind != "hook":
        await ground.unit(lambda: turn, lambda: ground.handler.run(record, replace(options, isolation=None)))


async def rehearse(
    handler: DatabaseMigrationHandler[ConnT],
    plan: Plan,
    config: Config,
    emit: Observer,
    *,
    by: str,
    run: str,
    course: Course | None = None,
) -> tuple[tuple[Migration, ...], tuple[Migration, ...]]:
    """Run everything that the plan holds in one transaction, and roll it back; errors are as in a real run.

    What cannot run in a transaction is left out, and of a data step only one batch is run; both are told.

    Args:
        course: is told where it failed.

    Returns:
        Which migrations were run, and which were left out; hooks are in neither.
    """
    ground = Ground(handler=handler, config=config.transaction, emit=emit, by=by, run=run)
    steps: list[Turn] = []
    skipped: list[Turn] = []
    notes: dict[int, Any] = {}
    for turn in turns(plan):
        if ground.must_be_outside(turn.script):
            skipped.append(turn)
            emit(Warned(message=f"{turn.migration} cannot run in a transaction: the dry run leaves it out."))
            continue
        steps.append(turn)
        if turn.in_batches:
            # Read now: in the transaction, asking a book that is not there yet would be an error that ends it.
            notes[turn.position] = await handler.schema_version.note(batches_key(turn.migration))
            emit(Warned(message=f"Of the data step of {turn.migration} the dry run tries one batch."))
    if steps:
        await _together(ground, steps, course or Course(), durable=True, notes=notes)
    return _migrations(steps), _migrations(skipped)


async def _together(
    ground: Ground[ConnT],
    steps: Sequence[Turn],
    course: Course,
    *,
    durable: bool,
    notes: Mapping[int, Any] | None = None,
) -> None:
    """All of a run as one transaction.

    Args:
        notes: given for a rehearsal, which is rolled back: how far data steps have come, by their position.
    """
    book, current, durations = ground.handler.schema_version, steps[0], dict[int, float]()
    notice = ground.notice(lambda: current.migration)
    options = replace(options_for_all(steps, ground.config), durable=durable, notice=notice, commit=notes is None)

    async def work(conn: ConnT) -> None:
        nonlocal current
        if notes is not None:
            await book.ensure(conn)
        for current in steps:
            await ground.check_lock()
            _announce(current, ground.emit)
            course.begin(current, None)
            started = time.monotonic()
            if notes is not None and current.in_batches:
                await try_batch(ground, current, conn, notes[current.position])
            else:
                async with ground.runnable(current) as script:
                    await script(conn)
            durations[current.position] = time.monotonic() - started
            await ground.enter(conn, current, durations[current.position])

    async def attempt() -> None:
        await ground.handler.run(work, options)

    course.together = True
    try:
        await ground.unit(lambda: current, attempt)
    except BaseException as error:
        if course.step is not None:
            ground.emit(MigrationErred(migration=current.migration, direction=current.function, error=error))
        raise
    if notes is None:
        course.end(*_migrations(steps))
    for turn in steps:
        _done(turn, durations[turn.position], ground.emit)


def _migrations(steps: Iterable[Turn]) -> tuple[Migration, ...]:
    return tuple(turn.migration for turn in steps if turn.migration.kind != "hook")


def _announce(turn: Turn, emit: Observer) -> None:
    emit(MigrationStarted(migration=turn.migration, direction=turn.function, position=turn.position, total=turn.total))


def _done(turn: Turn, duration: float, emit: Observer) -> None:
    emit(MigrationFinished(migration=turn.migration, direction=turn.function, duration=duration))


def whoami() -> str:
    """`user@host` for the history; a user without a name is its number."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
