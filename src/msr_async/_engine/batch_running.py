"""Runs a migration's data step in committed batches. Its progress stands in the book: a killed run goes on there."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any, Generic, TypeVar

import anyio
from msgspec import Struct
from msgspec.structs import replace

from ..batching import ATTRIBUTE, Batch, BatchSettings, DataStep, Done
from ..errors import ScriptFailed
from ..events import BatchFinished, Warned
from ..models import Migration
from ..protocols import MigrationContext, WorkOptions
from .scripting import context_of, imported, line_of, placed
from .stepping import Ground, Turn, batches_key, options_for

ConnT = TypeVar("ConnT")


class Place(Struct, frozen=True, kw_only=True):
    """Where a data step stands: what its note in the book says."""

    cursor: Any = None
    number: int = 0
    """Batches committed so far, over all runs."""
    rows: int = 0
    """Rows so far, over all runs."""
    idle: bool = False
    """The last batch did nothing."""

    def note(self, migration: Migration) -> dict[str, Any]:
        """What the book keeps of it, beside the text that wrote it."""
        return {
            "checksum": migration.checksum,
            "cursor": self.cursor,
            "number": self.number,
            "rows": self.rows,
            "idle": self.idle,
        }


def place_in(note: Mapping[str, Any]) -> Place:
    """The place that a note was written for."""
    return Place(
        cursor=note.get("cursor"), number=note.get("number", 0), rows=note.get("rows", 0), idle=note.get("idle", False)
    )


async def run_batches(ground: Ground[ConnT], turn: Turn, *, durable: bool) -> None:
    """Run `up` (unless a run before this one did), the batches that are left, and then enter the migration's line.

    Each is a transaction of its own, whatever the transaction mode. The module is imported once for all of them.
    """
    started = time.monotonic()
    migration = turn.migration
    key = batches_key(migration)
    options = replace(options_for(turn, ground.config), notice=ground.notice(lambda: migration), durable=False)
    note = await ground.handler.schema_version.note(key)
    async with imported(migration, turn.script) as module:
        steps = _steps(ground, turn, module)
        place = Place() if note is None else place_in(note)
        if note is None:
            await _up(steps, options, place)
        elif note.get("checksum") != migration.checksum:
            ground.emit(Warned(message=f"{migration} was changed after batch {place.number}; it goes on from there."))
        await _data(steps, options, place)

    async def record(conn: ConnT) -> None:
        await ground.enter(conn, turn, time.monotonic() - started, key)

    await ground.unit(lambda: turn, lambda: ground.handler.run(record, replace(options, durable=durable)))


async def try_batch(ground: Ground[ConnT], turn: Turn, conn: ConnT, note: Mapping[str, Any] | None) -> None:
    """For a rehearsal: `up` and one batch, or the next batch where a note says that the migration is half-done."""
    async with imported(turn.migration, turn.script) as module:
        steps = _steps(ground, turn, module)
        if note is None:
            await steps.up(conn)
        await steps.batch(conn, Place() if note is None else place_in(note))


def _steps(ground: Ground[ConnT], turn: Turn, module: ModuleType) -> DataSteps[ConnT]:
    data = getattr(module, "data", None)
    settings = getattr(data, ATTRIBUTE, None)
    if data is None or not isinstance(settings, BatchSettings):
        raise ScriptFailed(
            "the data step is not marked as one.",
            path=turn.script.path,
            hint="Write @batches(...) above its other decorators.",
        )
    return DataSteps(
        ground=ground,
        turn=turn,
        up_function=getattr(module, "up", None),
        data=data,
        settings=settings,
        context=context_of(ground.handler, turn.migration),
    )


class DataSteps(Struct, Generic[ConnT], frozen=True, kw_only=True):
    """What a batched migration's file offers: `up`, which may be missing, and the data step."""

    ground: Ground[ConnT]
    turn: Turn
    up_function: Callable[[ConnT, MigrationContext[ConnT]], Awaitable[None]] | None
    data: DataStep
    settings: BatchSettings
    context: MigrationContext[ConnT]

    async def up(self, conn: ConnT) -> None:
        """What comes before the data, where there is something."""
        if self.up_function is not None:
            with placed(self.turn.script):
                await self.up_function(conn, self.context)

    async def batch(self, conn: ConnT, place: Place) -> Place | None:
        """One batch from a place on; where it ended, None when nothing is left.

        Raises:
            ScriptFailed: also for an answer that a data step must not give.
        """
        batch = Batch(cursor=place.cursor, size=self.settings.size, number=place.number + 1)
        with placed(self.turn.script):
            done = await self.data(conn, self.context, batch)
        return None if done is None else self._after(done, place)

    def _after(self, done: object, place: Place) -> Place:
        if not isinstance(done, Done):
            raise self._wrong(
                f"the data step answered {type(done).__name__}", "Return `batch.after(cursor, rows=...)`, or None."
            )
        if isinstance(done.rows, bool) or not isinstance(done.rows, int) or done.rows < 0:
            raise self._wrong(f"the batch's rows are {done.rows!r}", "Give the number of rows that it changed.")
        try:
            # As the next run would read it back: a tuple becomes a list here and now.
            cursor = json.loads(json.dumps(done.cursor, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise self._wrong(
                f"the batch's cursor is no JSON value ({error})", "Use a text or a number, such as str(row_id)."
            ) from error
        idle = done.rows == 0
        if idle and place.idle and cursor == place.cursor:
            raise self._wrong(
                f"two batches one after the other did nothing and stayed at {cursor!r}",
                "Move the cursor on, or return None at the end.",
            )
        return Place(cursor=cursor, number=place.number + 1, rows=place.rows + done.rows, idle=idle)

    def _wrong(self, problem: str, hint: str) -> ScriptFailed:
        return ScriptFailed(f"{problem}.", path=self.turn.script.path, line=line_of(self.data), hint=hint)


async def _up(steps: DataSteps[ConnT], options: WorkOptions, place: Place) -> None:
    ground, turn = steps.ground, steps.turn

    async def work(conn: ConnT) -> None:
        await steps.up(conn)
        await ground.handler.schema_version.keep_note(conn, batches_key(turn.migration), place.note(turn.migration))

    await ground.unit(lambda: turn, lambda: ground.handler.run(work, options))


async def _data(steps: DataSteps[ConnT], options: WorkOptions, place: Place) -> None:
    ground, turn, migration = steps.ground, steps.turn, steps.turn.migration
    started, before = time.monotonic(), place.rows

    async def work(conn: ConnT) -> Place | None:
        after = await steps.batch(conn, place)
        if after is not None:
            await ground.handler.schema_version.keep_note(conn, batches_key(migration), after.note(migration))
        return after

    while (after := await ground.unit(lambda: turn, lambda: ground.handler.run(work, options))) is not None:
        rows, place = after.rows - place.rows, after
        ground.emit(
            BatchFinished(
                migration=migration,
                number=place.number,
                rows=rows,
                total_rows=place.rows - before,
                duration=time.monotonic() - started,
            )
        )
        await anyio.sleep(steps.settings.pause)
