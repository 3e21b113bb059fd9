"""One migration's turn in a run: which way it is run, under which settings, and its line in the history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Generic, Literal, TypeAlias, TypeVar

from msgspec import Struct

from ..config import TransactionConfig, TransactionMode
from ..errors import ScriptFailed
from ..events import MigrationRetried, Noticed, Observer
from ..models import AppliedMigration, Direction, Isolation, Migration, Plan, Script
from ..protocols import DatabaseMigrationHandler, WorkOptions
from .retrying import persistently
from .scripting import Work, runnable
from .watching import watched

ConnT = TypeVar("ConnT")
T = TypeVar("T")

Way: TypeAlias = Literal["message", "unit", "outside", "batched"]
"""`message`: the handler runs script and line as one; `unit`: we do, in one transaction; `outside`: without one, the
line follows; `batched`: its data step in many."""

_STRICTEST_FIRST: tuple[Isolation, ...] = ("serializable", "repeatable read", "read committed")


class Turn(Struct, frozen=True, kw_only=True, gc=False):
    migration: Migration
    direction: Direction
    position: int
    """From 1."""
    total: int
    function: Direction
    """A hook has no way back: it is run the same before and after both directions."""
    scripted: Script | None
    """The script of that function, if there is one."""

    @property
    def in_batches(self) -> bool:
        return self.migration.batched and self.function == "up"

    @property
    def script(self) -> Script:
        """Raises:
        ScriptFailed: when there is none for this direction.
        """
        script = self.scripted
        if script is None:
            raise ScriptFailed(
                f"{self.migration} has no down.", path=self.migration.up.path, hint="Write one, or use a backup."
            )
        return script


def turns(plan: Plan) -> tuple[Turn, ...]:
    """Everything that a plan would run, in order."""
    steps = plan.steps
    return tuple(turn_of(step, plan.direction, position, len(steps)) for position, step in enumerate(steps, 1))


def turn_of(migration: Migration, direction: Direction, position: int, total: int) -> Turn:
    function: Direction = "up" if migration.kind == "hook" else direction
    return Turn(
        migration=migration,
        direction=direction,
        position=position,
        total=total,
        function=function,
        scripted=migration.up if function == "up" else migration.down,
    )


def batches_key(migration: Migration) -> str:
    """Under which note of the book a data step's progress is kept."""
    return f"batches:{migration.id}"


def statements_key(migration: Migration) -> str:
    """Under which note the progress of a script is kept that runs outside of a transaction."""
    return f"statements:{migration.id}"


def options_for(turn: Turn, config: TransactionConfig) -> WorkOptions:
    """The settings, and over them what the script says of itself."""
    said = turn.script.directives
    return WorkOptions(
        isolation=said.isolation or config.isolation,
        lock_timeout=config.lock_timeout if said.lock_timeout is None else said.lock_timeout,
        statement_timeout=config.statement_timeout if said.statement_timeout is None else said.statement_timeout,
    )


def options_for_all(steps: Iterable[Turn], config: TransactionConfig) -> WorkOptions:
    """One transaction for many scripts: as patient as the most patient of them, as strict as the strictest."""
    each = [options_for(turn, config) for turn in steps]
    levels = {options.isolation for options in each}
    return WorkOptions(
        isolation=next((level for level in _STRICTEST_FIRST if level in levels), None),
        lock_timeout=_longest(options.lock_timeout for options in each),
        statement_timeout=_longest(options.statement_timeout for options in each),
    )


def _longest(timeouts: Iterable[float | None]) -> float:
    known = [timeout or 0.0 for timeout in timeouts]
    return 0.0 if 0.0 in known else max(known, default=0.0)


class Ground(Struct, Generic[ConnT], frozen=True, kw_only=True):
    """What all turns of a run stand on."""

    handler: DatabaseMigrationHandler[ConnT]
    config: TransactionConfig
    emit: Observer
    by: str
    """Who runs them, for the history."""
    run: str
    """Which run this is, for the history."""

    def way(self, turn: Turn) -> Way:
        migration, script = turn.migration, turn.script
        if turn.in_batches:
            return "batched"
        if self.config.mode is TransactionMode.NONE or self.must_be_outside(script):
            return "outside"
        return "unit" if script.language == "py" or migration.kind == "hook" or migration.batched else "message"

    def joins(self, turn: Turn) -> bool:
        """Whether it may be applied together with others. What has no script of this direction is to fail alone."""
        return turn.scripted is not None and self.way(turn) == "message" and self.handler.joins(turn.script)

    def look_ahead(self, following: Iterable[Turn]) -> None:
        """Have the handler read the scripts that come next: it remembers what it knows of a text."""
        for turn in following:
            self.joins(turn)

    def must_be_outside(self, script: Script) -> bool:
        """Whether it cannot be run in a transaction; for Python only the file itself can say so."""
        return not script.directives.transaction or (script.language != "py" and self.handler.outside(script))

    def runnable(self, turn: Turn, *, resume: str | None = None) -> AbstractAsyncContextManager[Work[ConnT]]:
        """See `scripting.runnable`."""
        return runnable(self.handler, turn.migration, turn.script, turn.function, resume=resume)

    def notice(self, current: Callable[[], Migration]) -> Callable[[str, str], None]:
        """What hears the server's words while a migration runs."""
        return self.notice_among(lambda: (current(),))

    def notice_among(self, current: Callable[[], Sequence[Migration]]) -> Callable[[str, str], None]:
        """The same where several run together."""

        def hear(severity: str, message: str) -> None:
            first, *others = current()
            self.emit(Noticed(migration=first, among=tuple(others), severity=severity, message=message))

        return hear

    async def check_lock(self) -> None:
        """Raises:
        ConnectionLost: the migration lock was lost, so that nothing more may be run.
        """
        lock = self.handler.lock
        if lock is not None:
            await lock.check()

    async def unit(self, current: Callable[[], Turn], attempt: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        """Await a unit of work: with the lock still held, watched, and all of it again after a transient error.

        Args:
            current: whose turn it is.
            again: False for what must not be tried again.
        """

        def retried(number: int, wait: float, error: Exception) -> None:
            turn = current()
            self.emit(
                MigrationRetried(
                    migration=turn.migration, direction=turn.direction, attempt=number, delay=wait, error=error
                )
            )

        async def checked() -> T:
            await self.check_lock()
            return await attempt()

        async with watched(self.handler, lambda: current().migration, self.emit):
            if not again:
                return await checked()
            return await persistently(checked, self.config, self.handler.is_transient, retried)

    def entry(self, migration: Migration, duration: float) -> AppliedMigration:
        """A line of the history, of now. The duration is in seconds."""
        return AppliedMigration(
            version=migration.version,
            name=migration.name,
            checksum=migration.checksum,
            applied_at=datetime.now(UTC),
            duration=duration,
            applied_by=self.by,
            run=self.run,
        )

    async def enter(self, conn: ConnT, turn: Turn, duration: float, *notes: str) -> None:
        """Write or strike out a migration's line, and strike out notes, in the unit of work of `conn`."""
        book, migration = self.handler.schema_version, turn.migration
        if migration.kind != "hook":
            if turn.direction == "up":
                entry = self.entry(migration, duration)
                await book.record(conn, entry, replace=migration.kind == "repeatable")
            else:
                await book.forget(conn, migration.id)
        for key in notes:
            await book.keep_note(conn, key, None)
