"""Take every table of a database for oneself while its application goes on working, without throwing anybody out."""

from __future__ import annotations

import random
import time

import anyio
import asyncpg

from ..errors import DatabaseError, LockTimeout
from .connecting import FRESH_SESSION
from .driver import Connection
from .translating import RIGHT_TO_REPLACE, translating

_ONE_WAIT = 500  # ms; below deadlock_timeout (1 s), so that we stand back before the server picks a victim
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
  AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
ORDER BY c.oid
"""
_HOLDERS = """
SELECT string_agg(DISTINCT format('%s (pid %s, %s, %s)', a.usename, a.pid, coalesce(nullif(a.application_name, ''), 'no name'), a.state), '; ')
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.relation = pg_catalog.to_regclass($1) AND l.granted AND a.pid <> pg_catalog.pg_backend_pid()
"""
_AGAIN = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.UndefinedTableError)


async def begin_and_lock(connection: Connection, lock_timeout: float) -> None:
    """Begin a transaction that holds all tables exclusively.

    The table that could not be had stands first in the next attempt, until `lock_timeout` seconds are over.

    Raises:
        LockTimeout: naming the sessions in the way.
    """
    deadline = time.monotonic() + lock_timeout
    first = ""
    while True:
        with translating("Beginning the restore", connection, right=RIGHT_TO_REPLACE):
            # a COMMIT of its own: what a multi-statement message holds is one transaction otherwise
            await connection.execute(FRESH_SESSION)
            await connection.execute(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL search_path = ''; "
                f"SET LOCAL lock_timeout = {_ONE_WAIT}; SET LOCAL client_min_messages = error"
            )
            names = sorted((row[0] for row in await connection.fetch(_TABLES)), key=lambda name: name != first)
        wanted = ""
        try:
            with translating("Locking the target's tables", connection, right=RIGHT_TO_REPLACE):
                for wanted in names:
                    await connection.execute(f"LOCK TABLE ONLY {wanted} IN ACCESS EXCLUSIVE MODE")
                await connection.execute(f"SET LOCAL lock_timeout = {int(lock_timeout * 1000)}")
            return
        except DatabaseError as error:
            if not isinstance(error.__cause__, _AGAIN):
                raise
            await connection.execute("ROLLBACK")
            if time.monotonic() > deadline:
                raise await _in_the_way(connection, wanted, error) from error
        first = wanted
        await anyio.sleep(random.uniform(0.02, 0.1))


async def _in_the_way(connection: Connection, table: str, error: DatabaseError) -> LockTimeout:
    with translating("Looking who is in the way", connection):
        holders = await connection.fetchval(_HOLDERS, table)
    if not holders:
        return LockTimeout(error.problem, hint=error.hint)
    return LockTimeout(
        f"Locking the target's tables: {table} stays locked by {holders}; another session holds a conflicting lock.",
        hint="Let it end its transaction, or end it with pg_terminate_backend(pid), then run again.",
    )
