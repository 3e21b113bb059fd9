"""What the behaviours are told with: a database, a folder of migrations, and a handler that fails on command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from msr_async import BackupMode, Config, Event, MigrationScriptExecutor, RollbackStrategy
from msr_async.testing.contracts import World

FAIL = "raise RuntimeError('on purpose')"
HANG = "import anyio; await anyio.sleep(60)"


@dataclass(kw_only=True)
class Setting:
    """One database with its folders."""

    world: World[Any]
    folder: Path
    heard: list[Event] = field(default_factory=list)

    @property
    def migrations(self) -> Path:
        return self.folder / "migrations"

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def add(self, number: int, *lines: str, down: Sequence[str] | None = None) -> Path:
        """Write migration `number`, whose `up` and `down` run these lines."""
        self.migrations.mkdir(parents=True, exist_ok=True)
        path = self.migrations / f"V20260101{number:04}_step{number}.py"
        functions = [("up", lines)] + ([] if down is None else [("down", tuple(down))])
        path.write_text("\n\n".join(_function(name, body) for name, body in functions))
        return path

    def put(self, table: str, key: str, value: str) -> str:
        return self.world.put_line(table, key, value)

    def drop(self, table: str) -> str:
        return self.world.drop_line(table)

    def executor(
        self,
        strategy: str = "backup",
        mode: str = "full",
        *,
        handler: Any = None,
        observers: Sequence[Callable[[Event], None]] = (),
        **settings: Any,
    ) -> MigrationScriptExecutor[Any]:
        """An executor over the setting's folders; `settings` are the config's, those of backups too."""
        config = Config(
            folder=self.migrations,
            rollback_strategy=RollbackStrategy(strategy),
            backup_mode=BackupMode(mode),
            lock_timeout=5,
        )
        config.backup.folder = self.backups
        for name, value in settings.items():
            setattr(config if hasattr(config, name) else config.backup, name, value)
        return MigrationScriptExecutor(
            self.world.handler if handler is None else handler, config, observers=(self.heard.append, *observers)
        )

    async def fill(self) -> Mapping[str, Mapping[str, str]]:
        """Something to lose: an applied migration and a table; its contents."""
        self.add(1, self.put("shop", "a", "1"), self.put("shop", "b", "2"), down=[self.drop("shop")])
        await self.executor("none", "manual").migrate()
        self.heard.clear()
        return await self.world.contents()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.backups.iterdir()) if self.backups.exists() else []

    async def versions(self) -> list[int]:
        """The numbers of the migrations in the history."""
        history = await self.world.handler.schema_version.applied()
        return [entry.version % 10_000 for entry in history if entry.version is not None]


def _function(name: str, lines: Sequence[str]) -> str:
    return f"async def {name}(db, ctx):\n" + "".join(f"    {line}\n" for line in lines or ("pass",))


class Altered:
    """A handler, storage or backup like another, but for the attributes given here; notes what was asked of it."""

    def __init__(self, original: Any, **changes: Any) -> None:
        self._original = original
        self._changes = changes
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return self._changes[name] if name in self._changes else getattr(self._original, name)


def without_schema(handler: Any) -> Altered:
    """A handler whose backups hold data only, as where pg_dump is missing."""

    @asynccontextmanager
    async def snapshot(*arguments: Any, **settings: Any) -> AsyncIterator[Any]:
        async with handler.backup.snapshot(*arguments, **settings) as real:

            async def details() -> Any:
                return replace(await real.details(), complete=False)

            yield Altered(real, details=details)

    return Altered(handler, backup=Altered(handler.backup, snapshot=snapshot))


def failing_restore(handler: Any, error: BaseException, *, rows: bool = True) -> Altered:
    """A handler whose restores fail: at the first rows, or when all is loaded."""

    @asynccontextmanager
    async def restoration(*arguments: Any) -> AsyncIterator[Any]:
        async def fail(*_: Any) -> None:
            raise error

        async with handler.backup.restoration(*arguments) as real:
            yield Altered(real, **({"load": fail} if rows else {"finish": fail}))

    return Altered(handler, backup=Altered(handler.backup, restoration=restoration))
