"""Runs of the bare engine over a database in memory: files in a folder, a plan, and what `apply` makes of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from msr_async import Config, Event, Migration, Plan
from msr_async._engine.applying import Course, apply, rehearse
from msr_async._engine.loading import load
from msr_async._engine.planning import plan
from msr_async._engine.validating import inspector
from msr_async.models import Direction
from msr_async.protocols import WorkOptions
from msr_async.testing import MemoryConnection, MemoryHandler

T = TypeVar("T")
EventT = TypeVar("EventT", bound=Event)


class Noting(MemoryHandler):
    """A database in memory that notes how each unit was asked for, and tells what it is told to."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.units: list[WorkOptions] = []
        self.says: tuple[str, str] | None = None

    async def run(self, work: Callable[[MemoryConnection], Awaitable[T]], options: WorkOptions, /) -> T:
        self._hear(options)
        return await super().run(work, options)

    def _hear(self, options: WorkOptions) -> None:
        self.units.append(options)
        if self.says is not None and options.notice is not None:
            options.notice(*self.says)


@dataclass(kw_only=True)
class Runs:
    """One folder, one database, and all that was heard of the runs."""

    folder: Path
    handler: MemoryHandler
    config: Config = field(default_factory=Config)
    heard: list[Event] = field(default_factory=list)
    course: Course = field(default_factory=Course)
    """Of the last run."""

    def write(self, name: str, *lines: str) -> Path:
        """A file of the folder; a number is a version's end: `1_orders.up.sql`."""
        number, _, rest = name.partition("_")
        path = self.folder / (f"V20260101{int(number):04}_{rest}" if number.isdigit() else name)
        path.write_text("\n".join(lines) + "\n")
        return path

    def python(self, name: str, *up: str, down: tuple[str, ...] = ("pass",), top: tuple[str, ...] = ()) -> Path:
        """A Python migration whose functions hold these lines."""
        functions = [("up", up), ("down", down)]
        text = [
            f"async def {function}(db, ctx):\n" + "".join(f"    {line}\n" for line in body)
            for function, body in functions
        ]
        return self.write(f"{name}.py", *top, *text)

    async def plan(self, direction: Direction = "up", target: int | None = None) -> Plan:
        return plan(
            await load(self.folder),
            await self.handler.schema_version.applied(),
            self.config,
            inspector(self.handler.inspect),
            direction=direction,
            target=target,
        )

    async def apply(self, direction: Direction = "up", target: int | None = None, *, run: str = "run-1") -> Course:
        """Under the lock and with a book, as a real run does it."""
        lock = self.handler.lock
        assert lock is not None
        self.course = Course()
        async with lock.hold(timeout=1, waiting=lambda holder, waited: None):
            decided = await self.plan(direction, target)
            assert decided.errors == ()
            await self.handler.run(self.handler.schema_version.ensure, WorkOptions())
            await apply(self.handler, decided, self.config, self.heard.append, self.course, by="me@here", run=run)
        return self.course

    async def rehearse(
        self, direction: Direction = "up", target: int | None = None
    ) -> tuple[tuple[Migration, ...], tuple[Migration, ...]]:
        decided = await self.plan(direction, target)
        assert decided.errors == ()
        return await rehearse(
            self.handler, decided, self.config, self.heard.append, by="me@here", run="dry", course=self.course
        )

    def told(self, kind: type[EventT]) -> list[EventT]:
        return [event for event in self.heard if isinstance(event, kind)]

    async def ids(self) -> list[str]:
        """What the history holds; versions by the numbers of their files."""
        applied = await self.handler.schema_version.applied()
        return [entry.id if entry.version is None else str(entry.version % 10_000) for entry in applied]

    async def contents(self) -> dict[str, Any]:
        """All tables, those of the book too."""
        db = self.handler.db
        return {name: await db.rows(name) for name in await db.tables()}

    async def rows(self, table: str) -> dict[str, Any]:
        return await self.handler.db.rows(table) if table in await self.handler.db.tables() else {}


def names(migrations: Any) -> list[str]:
    return [migration.name for migration in migrations]
