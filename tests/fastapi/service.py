"""A real service: uvicorn as a process, or as many as it is told, over a real PostgreSQL."""

from __future__ import annotations

import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cli.command import Running, environment
from tests.support.servers import Database

SECRET = "hunter2-canary"

APP = """\
import os
import time

from fastapi import FastAPI

from msr_async import Config
from msr_async.fastapi import make_readiness_router, migrations_lifespan, readiness_router
from msr_async.postgres import PostgresHandler


def tell(event):
    print("event", type(event).__name__, flush=True)


app = FastAPI(
    lifespan=migrations_lifespan(
        lambda: PostgresHandler(os.environ["DATABASE_URL"]),
        Config(folder="migrations", lock_timeout=60),
        on_pending=os.environ.get("ON_PENDING", "migrate"),
        observers=[tell],
    )
)
app.include_router(readiness_router)
app.include_router(make_readiness_router("/fresh", recheck=True))


@app.get("/pid")
async def pid() -> int:
    time.sleep(0.2)  # blocks the worker, so that another one takes the next request
    return os.getpid()
"""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A folder with an app and its migrations, and the database that they are for."""

    folder: Path
    database: Database

    def migration(self, number: int, sql: str) -> None:
        folder = self.folder / "migrations"
        folder.mkdir(exist_ok=True)
        (folder / f"V20260101{number:04}_step{number}.up.sql").write_text(sql)

    @contextmanager
    def running(self, *, servers: int = 1, workers: int = 1, **more: str) -> Iterator[list[Running]]:
        """As many uvicorn processes at once, each with as many workers; killed at the end, whatever happened."""
        (self.folder / "app.py").write_text(APP)
        url = self.database.dsn.replace("postgres@", f"postgres:{SECRET}@")  # trusted without it, and looked for
        environ = environment() | {"DATABASE_URL": url} | more
        command = [sys.executable, "-m", "uvicorn", "app:app", "--port", "0", "--workers", str(workers)]
        with ExitStack() as stack:
            started = []
            for _ in range(servers):
                server = Running(command, self.folder, environ)
                stack.callback(server.kill)
                started.append(server)
            yield started

    @property
    def contents(self) -> str:
        """All that is in the database, as pg_dump writes it."""
        text = self.database.server.run("pg_dump", self.database.dsn)
        # newer ones wrap it in a password of their own, another one each time
        return re.sub(r"^\\(un)?restrict .*$", "", text, flags=re.MULTILINE)

    @property
    def history(self) -> str:
        return self.database.sql("SELECT string_agg(name, ' ' ORDER BY version) FROM schema_version")


def address(server: Running) -> str:
    """Wait until it says where it listens."""
    line = server.wait_for("Uvicorn running on ")
    found = re.search(r"http://[\d.]+:\d+", line)
    assert found, line
    return found[0]


def get(url: str) -> tuple[int, str]:
    """Over a connection of its own."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
