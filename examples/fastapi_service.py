"""A service that keeps notes, and whose database is migrated when it starts.

DATABASE_URL       the database
MIGRATIONS_FOLDER  `migrations` if not set; one of them makes the table:
                   CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, words text NOT NULL)
BACKUP_FOLDER      where a start that migrates keeps its backup meanwhile; `backups/start` if not set
ON_PENDING         `migrate`, or `check`: do not start while something is pending; `migrate` if not set

Run it with `uvicorn --app-dir examples fastapi_service:app`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from fastapi import FastAPI, Request

from msr_async import Config, ConfigError
from msr_async.fastapi import OnPending, migrations_lifespan, readiness_router
from msr_async.postgres import PostgresHandler


def address() -> str:
    """Where the database is.

    Raises:
        ConfigError: without an address in DATABASE_URL.
    """
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        raise ConfigError("DATABASE_URL is not set.", hint="Set it to postgresql://user:password@host/database.")
    return url


def settings() -> Config:
    config = Config(folder=os.environ.get("MIGRATIONS_FOLDER", "migrations"))
    config.backup.folder = os.environ.get("BACKUP_FOLDER", "backups/start")
    config.backup.prefix = "start"
    return config


@asynccontextmanager
async def pooled(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The service's own lifespan: it begins when the tables are as the code wants them."""
    async with asyncpg.create_pool(address(), min_size=1, max_size=4) as pool:
        yield {"pool": pool}


app = FastAPI(
    lifespan=migrations_lifespan(
        lambda: PostgresHandler(address()),
        settings(),
        on_pending=cast(OnPending, os.environ.get("ON_PENDING", "migrate")),
        lifespan=pooled,
    )
)
app.include_router(readiness_router)


@app.get("/notes")
async def notes(request: Request) -> list[str]:
    return [row["words"] for row in await request.state.pool.fetch("SELECT words FROM notes ORDER BY id")]


@app.post("/notes", status_code=201)
async def note(request: Request, words: str) -> None:
    await request.state.pool.execute("INSERT INTO notes (words) VALUES ($1)", words)
