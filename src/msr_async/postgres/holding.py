"""Who holds an advisory lock, what that session is doing, and how to end it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from ..models import LockInfo
from .asking import ask
from .driver import Connection
from .translating import translating

HOLDER_MARK = " (lock)"
"""Ends the application_name of a session that only holds the lock; its transaction is as old as the lock."""

# a role without rights on a session still sees its pid and application_name
_HOLDERS = """
SELECT l.pid, (l.classid::int8 << 32) | l.objid::int8 AS key, a.application_name, a.usename::text AS username,
       pg_catalog.host(a.client_addr) AS host, a.backend_start, a.xact_start, a.state, a.state_change
FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE {held} ORDER BY a.backend_start
"""
_DOING = {
    "active": "running a statement",
    "idle": "idle",
    "idle in transaction": "idle in a transaction",
    "idle in transaction (aborted)": "idle in a failed transaction",
    "fastpath function call": "calling a function",
}


class Holder(Struct, frozen=True, kw_only=True):
    """A session that holds one of the asked-for locks."""

    pid: int
    key: int
    info: LockInfo
    apart: bool
    """It holds the lock for work that runs in other sessions."""


def held(key: int, *more: int) -> str:
    """The condition on `pg_locks l` for these keys, in this database and granted, by whichever kind of owner."""
    places = ", ".join(f"({number >> 32 & 0xFFFFFFFF}, {number & 0xFFFFFFFF})" for number in (key, *more))
    return (
        "l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.database = "
        "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) "
        f"AND (l.classid::int8, l.objid::int8) IN ({places})"
    )


async def holders(connection: Connection, key: int, *more: int) -> Sequence[Holder]:
    """The sessions that hold one of these locks, the oldest session first."""
    with translating("Looking who holds the migration lock", connection):
        rows = await ask(connection, _HOLDERS.format(held=held(key, *more)))
    return [_holder(row) for row in rows]


async def end(connection: Connection, pids: Sequence[int], key: int, *more: int) -> None:
    """End these sessions, those that still hold one of the locks: a pid may be somebody else's by now."""
    wanted = ", ".join(str(pid) for pid in pids)
    with translating("Ending the holder of the migration lock", connection):
        await ask(
            connection,
            "SELECT pg_catalog.pg_terminate_backend(h.pid) AS ended FROM (SELECT DISTINCT l.pid FROM "
            f"pg_catalog.pg_locks l WHERE l.pid IN ({wanted}) AND {held(key, *more)}) h",
        )


def _holder(row: Mapping[str, Any]) -> Holder:
    name: str = row["application_name"] or row["username"] or "another session"
    apart = name.endswith(HOLDER_MARK)
    # a proxy's connection is older than what is done on it
    since = row["xact_start"] if apart else row["backend_start"]
    state = _DOING.get(row["state"] or "", "")
    info = LockInfo(
        holder=name.removesuffix(HOLDER_MARK) + (f" from {row['host']}" if row["host"] else ""),
        pid=row["pid"],
        since=None if since is None else _moment(since),
        doing=f"{state} since {_moment(row['state_change']):%H:%M:%S}" if state and row["state_change"] else "",
    )
    return Holder(pid=row["pid"], key=row["key"], info=info, apart=apart)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
