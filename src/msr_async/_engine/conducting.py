"""One run from plan to tidy end: lock, plan again, look, back up, run, and put back what failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from msgspec.structs import replace

from ..config import Config, Policy
from ..errors import (
    BackupFailed,
    ConnectionLost,
    DatabaseError,
    MigrationFailed,
    MsrError,
    PermissionMissing,
    ScriptFailed,
    ValidationFailed,
    words_of,
)
from ..events import Drifted, LockWaiting, Planned, Warned
from ..models import (
    AppliedMigration,
    Drift,
    LockInfo,
    MigrationResult,
    Plan,
    RepairResult,
    Version,
)
from ..protocols import DatabaseMigrationHandler, RestoreOptions, Storage, WorkOptions
from ..shielding import in_thread, undisturbed
from .applying import Course, apply, rehearse, whoami
from .drifting import drift_issue, find_drift, note_schema
from .emitting import Emitter
from .intending import Intent, intend
from .keeping import Keeper, WayBack
from .loading import Folder, load
from .naming import new_token
from .planning import judged
from .recovering import STAYS, Recovery, may_have_changed, recover, verdict
from .repairing import baseline, repair
from .surveying import refuse_errors, reviewed, survey, surveyed_again

ConnT = TypeVar("ConnT")


_NOTE_DEADLINE = 60.0
"""Seconds."""


class Conductor(Generic[ConnT]):
    """Conducts runs over one database with one set of settings."""

    def __init__(
        self, handler: DatabaseMigrationHandler[ConnT], config: Config, storage: Callable[[], Storage], emit: Emitter
    ) -> None:
        self._handler = handler
        self._config = config
        self._emit = emit
        self.backups = Keeper(handler, config, storage, emit)

    # -- looking -----------------------------------------------------------------------------------

    async def validated(self) -> Plan:
        """The reviewed plan, and what was changed by hand as an issue of it."""
        folder = await load(Path(self._config.folder))
        decided = await reviewed(self._handler, self._config, await survey(self._handler, self._config, folder))
        found = await self.drift(decided.applied) if self._config.drift is not Policy.IGNORE else None
        return judged(decided, (drift_issue(found, self._config.drift),), self._config) if found else decided

    async def drift(self, applied: Sequence[AppliedMigration]) -> Drift | None:
        """What was changed by hand since the last run."""
        return await find_drift(self._handler, applied)

    # -- running -----------------------------------------------------------------------------------

    async def run(
        self, folder: Folder, before: Plan, existing: tuple[Storage, str] | None, *, dry_run: bool
    ) -> MigrationResult:
        """Run what is pending; see `MigrationScriptExecutor.migrate`.

        Args:
            folder: the files, read once: what a run runs is what it planned.
            before: the plan as it was before the lock; something is pending in it.
            existing: the backup that `restore_only` names.
        """
        started = time.monotonic()
        direction = before.direction
        intent = intend(self._config, direction)
        nothing = MigrationResult(success=True, direction=direction, dry_run=dry_run)
        if not dry_run and (intent.make_backup or intent.existing or intent.restore):
            self.backups.require()
        self._warn(await self._fit(before))
        named = await self.backups.named(*existing) if existing and not dry_run else None
        async with self.locked():
            # somebody may have run them meanwhile
            now = await surveyed_again(self._handler, self._config, folder, before)
            if now.pending != before.pending:
                self._emit(Planned(plan=now))
                await self._fit(now)
            refuse_errors(now)
            if not now.pending:
                return replace(nothing, duration=time.monotonic() - started)
            await self._look_for_drift(now.applied)
            if dry_run:
                return replace(await self._rehearse(now), duration=time.monotonic() - started)
            made = await self._back_up(intent) if intent.make_backup else None
            course = await self._apply(now, intent, made or named, started)
            await self._note_schema()
        kept = await self.backups.tidy(made) if intent.delete_backup else made
        return replace(
            nothing,
            executed=tuple(course.executed),
            backup=kept.info if kept else None,
            duration=time.monotonic() - started,
        )

    async def _fit(self, decided: Plan) -> Plan:
        judgement = await reviewed(self._handler, self._config, decided)
        refuse_errors(judgement)
        return judgement

    def _warn(self, decided: Plan) -> None:
        for issue in decided.issues:
            self._emit(Warned(message=str(issue)))

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Inside the block no other run changes this database."""

        def waiting(holder: LockInfo | None, waited: float) -> None:
            self._emit(LockWaiting(holder=str(holder) if holder else "another run", waited=waited))

        lock = self._handler.lock
        if lock is None:
            yield
        else:
            async with lock.hold(timeout=self._config.lock_timeout, waiting=waiting):
                yield

    async def _rehearse(self, now: Plan) -> MigrationResult:
        nothing = MigrationResult(success=False, direction=now.direction, dry_run=True)
        course, by = Course(), await _whoami()
        try:
            executed, skipped = await rehearse(
                self._handler, now, self._config, self._emit, by=by, run=new_token(), course=course
            )
        except MsrError as error:
            if course.step is None:
                raise  # no migration has failed: it did not come to the first
            failure = replace(nothing, failed=course.step)
            outcome, hint = "It was a dry run: nothing was changed.", ""
            if isinstance(error, ScriptFailed) and error.kept:
                outcome = f"It was a dry run, but a part of it stays. {STAYS}"
                hint = "See msr-async status for what is in the history now; no backup was made."
            raise MigrationFailed(failure, error, outcome=outcome, hint=hint) from error
        return replace(nothing, success=True, executed=executed, skipped=skipped)

    async def _back_up(self, intent: Intent) -> WayBack:
        try:
            return await self.backups.make(complete=intent.restore)
        except DatabaseError as error:
            if type(error) not in (DatabaseError, PermissionMissing):  # the others say more by their class
                raise
            raise BackupFailed(error.problem, hint=error.hint) from error

    async def _apply(self, now: Plan, intent: Intent, way_back: WayBack | None, started: float) -> Course:
        course = Course()
        run = new_token()
        await self._handler.run(partial(self._open_book, now), WorkOptions())
        try:
            await apply(self._handler, now, self._config, self._emit, course, by=await _whoami(), run=run)
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited
        except BaseException as error:
            # a named backup is gone back to in any case: it may be from before more than this run
            due = intent.existing or may_have_changed(course, error)
            put_back = None
            if way_back and intent.restore and due:
                put_back = partial(self.backups.restore, way_back.storage, way_back.name, RestoreOptions())
            recovery, cancelled = await undisturbed(self._recover(now, course, put_back, error, run))
            result = MigrationResult(
                success=False,
                direction=now.direction,
                executed=tuple(course.executed),
                failed=course.step,
                backup=way_back.info if way_back else None,
                restored=recovery.restored,
                undone=recovery.undone,
                duration=time.monotonic() - started,
            )
            if not isinstance(error, Exception):
                # A cancellation is never replaced, so the story goes to the observers.
                stopped = asyncio.CancelledError("The run was cancelled")
                failure = verdict(self._config, result, stopped, recovery, course)
                self._emit(Warned(message=str(failure), failure=failure))
                raise
            failure = verdict(self._config, result, error, recovery, course)
            if cancelled is not None:
                self._emit(Warned(message=str(failure), failure=failure))
                raise cancelled from failure
            raise failure from error
        return course

    async def _open_book(self, now: Plan, conn: ConnT) -> None:
        book = self._handler.schema_version
        await book.ensure(conn)
        if now.direction == "down":
            for line in now.applied:
                if line.version is None:
                    await book.forget(conn, line.id)  # what it stands on goes: it is to run again

    async def _recover(
        self,
        now: Plan,
        course: Course,
        put_back: Callable[[], Awaitable[object]] | None,
        error: BaseException,
        run: str,
    ) -> Recovery:
        recovery = await recover(self._handler, now, self._config, course, put_back, error, self._emit, run=run)
        if not recovery.restored and recovery.error is None and not isinstance(error, ConnectionLost):
            await self._note_schema()  # what stays of this run is no drift
        return recovery

    # -- the history -------------------------------------------------------------------------------

    async def baseline(self, version: Version) -> tuple[AppliedMigration, ...]:
        """Record what is there already; see `MigrationScriptExecutor.baseline`."""
        book = self._handler.schema_version
        async with self.locked():
            folder = await load(Path(self._config.folder))
            lines = baseline(
                folder, await book.applied(), version, now=datetime.now(UTC), by=await _whoami(), run=new_token()
            )

            async def work(conn: ConnT) -> None:
                await book.ensure(conn)
                for line in lines:
                    await book.record(conn, line)

            await self._handler.run(work, WorkOptions())
            await self._note_schema()
        return lines

    async def repair(self, *, dry_run: bool) -> RepairResult:
        """Make the history agree with the files; see `MigrationScriptExecutor.repair`."""
        book = self._handler.schema_version
        async with AsyncExitStack() as stack:
            if not dry_run:
                await stack.enter_async_context(self.locked())
            applied = await book.applied()
            found = repair(await load(Path(self._config.folder)), applied)
            if dry_run or not (found.rechecksummed or found.forgotten):
                return replace(found, dry_run=dry_run)

            async def work(conn: ConnT) -> None:
                for line in found.rechecksummed:
                    await book.record(conn, line, replace=True)
                for line in found.forgotten:
                    await book.forget(conn, line.id)

            await self._handler.run(work, WorkOptions())
        return found

    async def _look_for_drift(self, applied: Sequence[AppliedMigration]) -> None:
        if self._config.drift is Policy.IGNORE:
            return
        found = await find_drift(self._handler, applied)
        if not found:
            return
        if self._config.drift is Policy.ERROR or self._config.strict:
            raise ValidationFailed((drift_issue(found, Policy.ERROR),))
        self._emit(Drifted(drift=found))

    async def _note_schema(self) -> None:
        if self._config.drift is Policy.IGNORE:
            return
        limit = asyncio.timeout(_NOTE_DEADLINE)  # also after a failure, where nothing may wait for ever
        try:
            async with limit:
                await note_schema(self._handler)
            return
        except Exception as error:
            why = f"it took more than {_NOTE_DEADLINE:.0f} s" if limit.expired() else words_of(error)
        self._emit(Warned(message=f"The schema could not be noted, so the next run sees no drift: {why}"))


async def _whoami() -> str:
    return await in_thread(whoami)
