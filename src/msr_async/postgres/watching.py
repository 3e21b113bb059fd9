"""What the server tells while a unit runs: its notices, and from a second connection how far a statement has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from ..protocols import Progress
from ..shielding import to_its_end
from .asking import ask
from .connecting import close
from .driver import Connection
from .translating import translating

OURS = "/* msr_async */ "
"""Begins a message of our own whose notices are nobody's news."""
_ANSWER_DEADLINE = 5.0
# What each view counts differs with the phase: what has a total is what moves.
_PROGRESS = """
SELECT phase, done, total FROM (
  SELECT 'CREATE INDEX: ' || phase AS phase,
    CASE WHEN tuples_total > 0 THEN tuples_done WHEN blocks_total > 0 THEN blocks_done ELSE lockers_done END AS done,
    coalesce(nullif(tuples_total, 0), nullif(blocks_total, 0), lockers_total) AS total, pid
    FROM pg_catalog.pg_stat_progress_create_index
  UNION ALL SELECT 'VACUUM: ' || phase, heap_blks_scanned, heap_blks_total, pid FROM pg_catalog.pg_stat_progress_vacuum
  UNION ALL SELECT command || ': ' || phase, heap_blks_scanned, heap_blks_total, pid
    FROM pg_catalog.pg_stat_progress_cluster
  UNION ALL SELECT command, bytes_processed, bytes_total, pid FROM pg_catalog.pg_stat_progress_copy
  UNION ALL SELECT 'ANALYZE: ' || phase, sample_blks_scanned, sample_blks_total, pid
    FROM pg_catalog.pg_stat_progress_analyze
) p WHERE pid = {pid} LIMIT 1
"""


@contextmanager
def listening(connection: Connection, notice: Callable[[str, str], None] | None) -> Iterator[None]:
    """Inside the block `notice(severity, words)` hears what the server says beside its answers."""
    if notice is None:
        yield
        return

    def hear(_: object, message: asyncpg.PostgresLogMessage) -> None:
        if not str(getattr(message, "query", "")).startswith(OURS):
            notice(str(getattr(message, "severity_en", None) or message.severity), str(message.message))

    connection.add_log_listener(hear)
    try:
        yield
    finally:
        if not connection.is_closed():
            connection.remove_log_listener(hear)


class Watcher:
    """Asks on a connection of its own, opened when first asked, what the server is doing on another."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    async def progress(self, pid: int) -> Progress | None:
        """How far the statement of the server's process `pid` has come; None when it does not tell."""
        rows = await self.ask(_PROGRESS.format(pid=int(pid)))
        return Progress(phase=rows[0]["phase"], done=rows[0]["done"], total=rows[0]["total"]) if rows else None

    async def ask(self, query: str) -> list[dict[str, Any]]:
        """What `asking.ask` says, on this connection."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
        connection = self._connection
        with translating("Asking how far a statement has come", connection):
            # cut off half-way, the question would take the connection along
            return await to_its_end(_in_time(connection, query))

    async def close(self) -> None:
        if self._connection is not None:
            await close(self._connection)


async def _in_time(connection: Connection, query: str) -> list[dict[str, Any]]:
    async with asyncio.timeout(_ANSWER_DEADLINE):
        return await ask(connection, query)
