"""The migration lock: a session-level advisory lock on the very connection that migrates, so that it dies with it."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from ..errors import LockNotAcquired
from ..models import LockInfo
from .connecting import refuse_pooler
from .driver import Connection
from .session import Session
from .translating import translating

# advisory locks are per database already; the key only has to differ between books
_HOLDER = """
SELECT coalesce(nullif(a.application_name, ''), a.usename::text, 'another session')
         || coalesce(' from ' || host(a.client_addr), '') AS holder, l.pid, a.backend_start
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND (l.classid::bigint << 32) | l.objid::bigint = $1
"""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.025, 1.0
_RETAKE_TIMEOUT = 5.0


class PostgresLock:
    def __init__(self, session: Session, names: tuple[str, str]) -> None:
        self._session = session
        digest = hashlib.sha256(("msr_async:" + ".".join(names)).encode()).digest()
        self.key = int.from_bytes(digest[:8], "big", signed=True)

    @asynccontextmanager
    async def hold(self, *, timeout: float, waiting: Callable[[LockInfo | None, float], None]) -> AsyncIterator[None]:
        retaking = False

        async def take(connection: Connection) -> None:
            nonlocal retaking
            await self._take(connection, min(timeout, _RETAKE_TIMEOUT) if retaking else timeout, waiting)
            retaking = True

        async with self._session.guarded(take, self._give):
            yield

    async def status(self) -> LockInfo | None:
        return await self._holder(await self._session.connection())

    async def _take(
        self, connection: Connection, timeout: float, waiting: Callable[[LockInfo | None, float], None]
    ) -> None:
        with translating("Taking the migration lock", connection):
            await refuse_pooler(connection, "a migration lock would end up in somebody else's session")
            started, pause = time.monotonic(), _FIRST_PAUSE
            # never block in the server: a blocked waiter holds a snapshot and deadlocks with CREATE INDEX CONCURRENTLY
            while not await connection.fetchval("SELECT pg_catalog.pg_try_advisory_lock($1)", self.key):
                waited = time.monotonic() - started
                holder = await self._holder(connection)
                if waited >= timeout:
                    raise LockNotAcquired(holder, waited)
                waiting(holder, waited)
                await anyio.sleep(min(pause, timeout - waited) * random.uniform(0.5, 1.0))
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _give(self, connection: Connection) -> None:
        await connection.execute(f"SELECT pg_catalog.pg_advisory_unlock({self.key})")

    async def _holder(self, connection: Connection) -> LockInfo | None:
        with translating("Looking who holds the migration lock", connection):
            row = await connection.fetchrow(_HOLDER, self.key)
        return LockInfo(holder=row["holder"], pid=row["pid"], since=row["backend_start"]) if row else None
