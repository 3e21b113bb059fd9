"""PostgreSQL's and asyncpg's errors in our words: decided by class and SQLSTATE, never by words in a message."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from ..errors import (
    ConnectionFailed,
    ConnectionLost,
    DatabaseError,
    LockTimeout,
    MsrError,
    PermissionMissing,
    ScriptFailed,
)
from .driver import Connection

_TRANSIENT_STATES = {"40001", "40P01", "55P03"}
_LOST_STATES = {"57P01", "57P02", "57P03", "57P05"}
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything that a statement can raise; TimeoutError is an OSError."""


_RIGHT = "Grant it to this role, or use a role that has it."
WENT_ON = (
    "a statement had failed, the script caught that and went on, and the server keeps nothing of such a transaction"
)
SAVEPOINT = "Put a savepoint around what may fail: async with db.transaction(): ..."
RIGHT_TO_READ = "A backup reads every table: GRANT pg_read_all_data TO this role, or use a role that has it."
RIGHT_TO_REPLACE = "A restore drops and makes everything: use the role that owns it all, or a superuser."


def server_message(error: asyncpg.PostgresError) -> str:
    """The server's own words, detail and hint included: they are the best there is about SQL."""
    pieces = [str(error.args[0]) if error.args else type(error).__name__]
    for extra in (getattr(error, "detail", None), getattr(error, "hint", None)):
        if extra:
            pieces.append(str(extra))
    return " ".join(piece if piece.endswith((".", "!", "?", ":")) else f"{piece}." for piece in pieces)


def is_lost(error: BaseException) -> bool:
    """Whether this error means that the connection is gone.

    Words that it ended may reach the driver before the end itself, while nothing runs. Who asks it for something in
    between gets an error of the driver's own state (https://github.com/MagicStack/asyncpg/issues/784).
    """
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", "") or ""
        return state.startswith("08") or state in _LOST_STATES
    return isinstance(error, OSError | asyncpg.InternalClientError)


def is_transient(error: BaseException) -> bool:
    """Whether it, or what caused it, is a deadlock, a serialisation failure or a lock that was not had in time."""
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ScriptFailed) and cause.kept:
            return False  # a part of it would be done twice
        if getattr(cause, "sqlstate", None) in _TRANSIENT_STATES and isinstance(cause, asyncpg.PostgresError):
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def translate(error: BaseException, doing: str, *, closed: bool = False, right: str = "") -> MsrError:
    """Args:
    doing: what was under way, as the sentence's beginning: "Reading public.orders".
    right: what to grant where a right is missing, as a sentence.
    """
    if isinstance(error, MsrError):
        return error
    if closed or is_lost(error):
        return ConnectionLost(
            f"{doing}: the connection to the server was lost.",
            hint="Look at the server's log (restart, out of memory, killed backend), then run again.",
        )
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", "") or ""
        message = server_message(error)
        if state == "42501":
            return PermissionMissing(f"{doing}: {message}", hint=right or _RIGHT)
        if state == "55P03":
            return LockTimeout(
                f"{doing}: another session holds a conflicting lock ({message.rstrip('.')}).",
                hint="Look for it in pg_stat_activity and pg_locks, let it end, then run again.",
            )
        if state == "53100":
            return DatabaseError(f"{doing}: the server's disk is full.", hint="Make room there, then run again.")
        if state == "57014":
            return DatabaseError(f"{doing}: {message}", hint="Somebody or a time limit cancelled it; run again.")
        return DatabaseError(f"{doing}: {message}")
    if isinstance(error, asyncpg.InterfaceError):
        return DatabaseError(f"{doing}: {error}")
    return DatabaseError(f"{doing}: {type(error).__name__}: {error}")


@contextmanager
def translating(doing: str, connection: Connection | None = None, *, right: str = "") -> Iterator[None]:
    """Everything the driver raises inside comes out as one of ours, with the driver's error as its cause."""
    try:
        yield
    except DRIVER_ERRORS as error:
        closed = connection is not None and connection.is_closed()
        raise translate(error, doing, closed=closed, right=right) from error


def connect_error(error: BaseException, where: str, user: str) -> MsrError | None:
    """Why a connection could not be opened; None for what is not about connecting."""
    state = getattr(error, "sqlstate", "") or "" if isinstance(error, asyncpg.PostgresError) else ""
    as_user = f' as "{user}"' if user else ""
    if state == "3D000":
        return ConnectionFailed(
            f"The server knows no such database: {where}.", hint="Create it first, or correct the database URL."
        )
    if state.startswith("28"):
        assert isinstance(error, asyncpg.PostgresError)
        return ConnectionFailed(
            f"{where} refused the login{as_user}: {server_message(error).rstrip('.')}.",
            hint="Check user and password of the database URL, and the server's pg_hba.conf.",
        )
    if state == "53300":
        return ConnectionFailed(
            f"{where} has no connection left.",
            hint="Close some, or raise max_connections or the role's CONNECTION LIMIT: a backup takes concurrency + 3.",
        )
    if state == "57P03":
        return ConnectionFailed(f"{where} is starting up or shutting down.", hint="Try again in a moment.")
    if isinstance(error, asyncpg.PostgresError):
        return ConnectionFailed(f"{where} refused the connection: {server_message(error)}")
    if isinstance(error, TimeoutError):
        return ConnectionFailed(f"{where} did not answer in time.", hint="Check host, port and firewall.")
    if isinstance(error, OSError):
        return ConnectionFailed(
            f"Cannot reach PostgreSQL at {where}: {error.strerror or error}.",
            hint="Is the server running, and are host and port right?",
        )
    if isinstance(error, asyncpg.InterfaceError | ValueError):
        # the driver's own words may hold a piece of the URL, and with it a password
        return ConnectionFailed(
            "The database URL cannot be used.",
            hint="It looks like postgresql://user:password@host:5432/database; special characters in it are %-encoded.",
        )
    return None
