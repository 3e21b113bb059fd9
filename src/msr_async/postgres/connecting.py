"""Opening connections of our own, and telling pg_dump how to open one. Secrets never leave this module in a text."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import asyncpg
from msgspec import Struct

from ..errors import ConfigError, DatabaseError
from ..shielding import within
from .driver import Connection, Pool
from .translating import connect_error

_CONNECT_TIMEOUT = 15.0
_HANG_UP_DEADLINE = 1.0
OLDEST_MAJOR = 15
# what libpq and asyncpg both understand in a URL; asyncpg takes any other word for a server setting
_SHARED_OPTIONS = frozenset(
    (
        *("host", "port", "user", "dbname", "passfile", "service", "servicefile", "target_session_attrs"),
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "krbsrvname", "gsslib"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    )
)

# Everything that could change what a value looks like in text, or stop us half-way. What not every server has is asked
# for by name: pg_settings would build all of its rows, 2 ms for each connection.
SESSION_SETTINGS = (
    "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET DateStyle = 'ISO, MDY'; "
    "SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET array_nulls = on; "
    "SET TimeZone = 'UTC'; SET quote_all_identifiers = off; "
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0; "
    "SELECT pg_catalog.set_config(name, value, false) FROM (VALUES "
    # 17 brought the first; with the second a killed runner's statement, and its lock, end within seconds
    "('transaction_timeout', '0'), ('client_connection_check_interval', '5s'), "
    "('tcp_keepalives_idle', '60'), ('tcp_keepalives_interval', '10'), ('tcp_keepalives_count', '6')"
    ") s(name, value) WHERE pg_catalog.current_setting(name, true) IS NOT NULL "
    # a server on Windows cannot do it and refuses the setting
    "AND (name <> 'client_connection_check_interval' OR pg_catalog.version() !~* 'mingw|msvc|visual c')"
)
OWN_ROLE = "RESET SESSION AUTHORIZATION; RESET ROLE"
FRESH_SESSION = f"CLOSE ALL; DISCARD TEMP; {OWN_ROLE}; RESET ALL; {SESSION_SETTINGS}"
"""As if just connected, but for advisory locks: whatever a script left behind."""


def application_name() -> str:
    return f"msr_async:{socket.gethostname()}:{os.getpid()}"[:63]


class Target(Struct, frozen=True, kw_only=True):
    """How to reach one database. Its repr and label hold no password."""

    label: str
    host: str
    user: str
    connect_arguments: Mapping[str, Any]
    tool_url: str
    """The same for libpq's programs, password left out."""
    password: str | None

    def __repr__(self) -> str:
        return f"Target(label={self.label!r}, host={self.host!r}, user={self.user!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Beside `repr` the other thing that a Struct shows its fields by."""
        return [("label", self.label), ("host", self.host), ("user", self.user)]

    @classmethod
    def from_url(cls, url: str) -> Target:
        hint = "It looks like postgresql://user:password@host:5432/database."
        try:
            pieces = urlsplit(url)
            options = {key: values[-1] for key, values in parse_qs(pieces.query, keep_blank_values=True).items()}
        except ValueError:
            raise ConfigError("The database URL cannot be used.", hint=hint) from None
        if pieces.scheme not in ("postgresql", "postgres"):
            raise ConfigError("The database URL is not one of PostgreSQL.", hint=hint)
        if pieces.fragment or "@" in pieces.path + pieces.query:
            # a / ? or # of the password ends the login early, and the rest of it would be taken for a name and shown
            raise ConfigError(
                "The database URL cannot be used: a special character in it is not %-encoded.",
                hint="In user and password write %2F for /, %3F for ?, %23 for #, %40 for @, %25 for %.",
            )
        hosts = pieces.netloc.rpartition("@")[2]
        login = pieces.netloc.rpartition("@")[0]
        user = unquote(login.partition(":")[0]) or options.get("user") or os.environ.get("PGUSER", "")
        password = unquote(login.partition(":")[2]) or options.pop("password", "") or None
        database = unquote(pieces.path.lstrip("/")) or options.get("dbname") or os.environ.get("PGDATABASE") or user
        host = hosts or options.get("host") or os.environ.get("PGHOST") or "localhost"
        shared = {key: value for key, value in options.items() if key in _SHARED_OPTIONS}
        tool_url = "postgresql://"
        tool_url += f"{quote(user, safe='')}@" if user else ""
        tool_url += f"{hosts}/{quote(database, safe='')}"
        tool_url += f"?{urlencode(shared, quote_via=quote)}" if shared else ""
        return cls(
            label=f"{database}@{unquote(host)}",
            host=unquote(host),
            user=user,
            connect_arguments={"dsn": url},
            tool_url=tool_url,
            password=password,
        )

    @classmethod
    async def from_pool(cls, pool: Pool) -> Target:
        """The address and login that a user's pool connects with.

        asyncpg has no public way to ask for it; these two attributes are as old as 0.22 and pinned by a test.
        """
        connection = await pool.acquire()
        try:
            raw: Any = getattr(connection, "_con", connection)
            address, params = raw._addr, raw._params
            ssl = getattr(params, "ssl", None)
            mode = str(getattr(getattr(params, "sslmode", None), "name", "prefer")).replace("_", "-")
        except AttributeError as error:
            raise ConfigError(
                "This version of asyncpg does not tell how the pool connects.", hint="Pass the database URL instead."
            ) from error
        finally:
            await pool.release(connection)
        socket_folder = isinstance(address, str)
        host, port = (os.path.dirname(address), int(address.rpartition(".")[2])) if socket_folder else address
        options = {"host": host, "port": str(port), "sslmode": mode}
        if socket_folder:
            options.pop("sslmode")
        return cls(
            label=f"{params.database}@{host}:{port}",
            host=f"{host}:{port}",
            user=params.user,
            connect_arguments={
                "host": host,
                "port": port,
                "user": params.user,
                "password": params.password,
                "database": params.database,
                "ssl": ssl if ssl is not None and mode not in ("allow", "prefer") else mode,
            },
            tool_url=f"postgresql://{quote(params.user, safe='')}@/{quote(params.database, safe='')}?"
            + urlencode(options, quote_via=quote),
            password=params.password,
        )


async def connect(target: Target, settings: str = "") -> Connection:
    """A connection with our session settings, in nobody's pool.

    Raises:
        ConnectionFailed: with the reason, and never with the password.
    """
    connection = await connect_as_it_is(target)
    try:
        await connection.execute(f"{SESSION_SETTINGS}; {settings}" if settings else SESSION_SETTINGS)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def connect_as_it_is(target: Target) -> Connection:
    """A connection with the settings of its role and database, in nobody's pool: nothing is sent on it.

    Raises:
        ConnectionFailed: with the reason, and never with the password.
    """
    try:
        connection = await _dial(target)
    except Exception as error:
        ours = connect_error(error, target.label, target.user)
        if ours is None:
            raise
        raise ours from (None if isinstance(error, asyncpg.InterfaceError | ValueError) else error)
    try:
        refuse_old(connection.get_server_version().major)
    except BaseException:
        connection.terminate()
        raise
    return connection


def refuse_old(major: int) -> None:
    if major < OLDEST_MAJOR:
        raise DatabaseError(
            f"The server is PostgreSQL {major}; msr_async needs {OLDEST_MAJOR} or newer.",
            hint="Upgrade the server: older ones get no fixes from the PostgreSQL project any more.",
        )


async def _dial(target: Target) -> Connection:
    """asyncpg's connect; cancelled between TCP and TLS, it would log an error that nobody can catch."""
    dialling: asyncio.Task[Connection] = asyncio.ensure_future(
        asyncpg.connect(
            **target.connect_arguments,
            timeout=_CONNECT_TIMEOUT,
            statement_cache_size=0,  # our statements run once, and DDL in between would make cached ones invalid
            server_settings={"application_name": application_name()},
        )
    )
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        try:
            await within(_HANG_UP_DEADLINE, lambda: asyncio.wait([dialling]))
        finally:  # also when a second cancellation cuts the waiting
            if not dialling.done():
                dialling.cancel()
            elif not dialling.cancelled() and dialling.exception() is None:
                dialling.result().terminate()
        raise


async def refuse_pooler(connection: Connection, why: str) -> None:
    """Session state through a transaction-pooling proxy lands in somebody else's session: refuse it.

    The proxy's hello names a process that is not the one that answers.
    """
    if await connection.fetchval("SELECT pg_catalog.pg_backend_pid()") != connection.get_server_pid():
        raise DatabaseError(
            f"The connection goes through a transaction-pooling proxy (PgBouncer), and {why}.",
            hint="Give the server's own address.",
        )


async def close(connection: Connection, *, abruptly: bool = False) -> None:
    """Close, within 5 seconds (2 abruptly), whatever state it is in. Safe to call while being cancelled.

    Even abruptly the driver is asked first: it may be telling the server to cancel a query, on a connection of its own,
    and a plain terminate() would log that one's end as an error that nobody can catch.
    """
    if connection.is_closed():
        return
    patience = 2 if abruptly else 5
    try:
        await within(patience, lambda: _hang_up(connection, patience - 0.5))
    finally:
        if not connection.is_closed():
            connection.terminate()


async def _hang_up(connection: Connection, timeout: float) -> None:
    # After a COPY that was cancelled asyncpg may meet an answer that it does not expect: an AttributeError, often on
    # uvloop. Whatever it is, the connection is terminated then, and what brought us here is the one to tell.
    with suppress(Exception):
        await connection.close(timeout=timeout)
