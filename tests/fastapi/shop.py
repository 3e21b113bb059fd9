"""Apps around a database in memory, entered as a server enters them, without a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.applications import Starlette

from msr_async import BackupMode, Config, Event, RollbackStrategy
from msr_async.fastapi import Lifespan, migrations_lifespan
from msr_async.testing import MemoryHandler
from msr_async.testing.memory import MemoryDatabase


class Noting(MemoryHandler):
    """Writes down when it is opened and closed."""

    def __init__(self, story: list[str], database: MemoryDatabase) -> None:
        super().__init__("shop", database=database)
        self._story = story

    async def __aenter__(self) -> Noting:
        await super().__aenter__()
        self._story.append("opened")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        self._story.append("closed")


@dataclass(kw_only=True)
class Shop:
    """One database with a folder of migrations; `story` says what happened in which order."""

    folder: Path
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    story: list[str] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)

    def add(self, number: int, *lines: str) -> None:
        """Write migration `number`, whose `up` runs these lines."""
        folder = self.folder / "migrations"
        folder.mkdir(exist_ok=True)
        body = "".join(f"    {line}\n" for line in lines or ("pass",))
        (folder / f"V20260101{number:04}_step{number}.py").write_text(f"async def up(db, ctx):\n{body}")

    def handler(self) -> Noting:
        return Noting(self.story, self.database)

    def config(self, **settings: Any) -> Config:
        config = Config(
            folder=self.folder / "migrations",
            rollback_strategy=RollbackStrategy.BACKUP,
            backup_mode=BackupMode.FULL,
            **settings,
        )
        config.backup.folder = self.folder / "backups"
        return config

    def lifespan(self, **arguments: Any) -> Lifespan:
        config = arguments.pop("config", None) or self.config()
        return migrations_lifespan(self.handler, config, observers=[self.heard.append], **arguments)

    def heard_of(self, kind: type[Event]) -> int:
        return sum(isinstance(event, kind) for event in self.heard)

    @property
    def versions(self) -> list[int]:
        """The numbers of the migrations in the history."""
        return sorted(int(key) % 10_000 for key in self.database.tables.get("schema_version", {}))

    @property
    def rows(self) -> dict[str, str]:
        return dict(self.database.tables.get("shop", {}))


PUT_A = 'await db.put("shop", "a", 1)'
FAIL = 'raise RuntimeError("on purpose")'
HANG = "import anyio; await anyio.sleep(60)"


@asynccontextmanager
async def serving(app: FastAPI | Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """The app between its start and its end, with a client that talks to it directly."""
    async with app.router.lifespan_context(app), client(app) as talking:
        yield talking


def client(app: FastAPI | Starlette) -> httpx.AsyncClient:
    """A client of an app that may not have been started."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://app")
