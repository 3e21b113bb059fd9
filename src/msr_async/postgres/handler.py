"""A PostgreSQL database that can be migrated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio
import asyncpg

from ..errors import ConfigError, DatabaseError, ScriptFailed
from ..models import DatabaseInfo, Issue, Script
from ..protocols import TransactionConfig
from .backup import PostgresBackup
from .connecting import Target
from .driver import Connection, Pool
from .lock import PostgresLock
from .schema_version import PostgresSchemaVersion
from .session import EndedByScript, Session
from .statements import Statement, inspect, place, split
from .translating import is_lost, server_message, translate, translating

T = TypeVar("T")

_DESCRIBE = """
SELECT pg_catalog.current_database() AS name, pg_catalog.current_setting('server_version') AS version,
       (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) AS oid,
       pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE') AS may_ask,
       NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend
             WHERE classid = 'pg_catalog.pg_class'::regclass AND objid = c.oid AND deptype = 'e'))
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
       AND NOT EXISTS (SELECT FROM (
           SELECT 'pg_catalog.pg_proc'::regclass AS class, oid FROM pg_catalog.pg_proc
           UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid FROM pg_catalog.pg_type WHERE typnamespace::regnamespace::text !~ '^pg_'
           UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_'
           UNION ALL SELECT 'pg_catalog.pg_event_trigger'::regclass, oid FROM pg_catalog.pg_event_trigger
           UNION ALL SELECT 'pg_catalog.pg_publication'::regclass, oid FROM pg_catalog.pg_publication) o
         WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
           WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'i'))) AS empty
"""


class PostgresHandler:
    """A PostgreSQL database, by URL or by the pool that a service has already.

    Args:
        dsn: `postgresql://user:password@host:port/database`, or an `asyncpg.Pool`. A pool stays the caller's: it is not
            closed, and backups and migrations open connections of their own with its address and login.
        environment: what this database is: `production`, `staging`, `development`. A restore onto one that is not
            named, or is production, must confirm its target.
        version_table, version_schema: where the history is kept.
        lock_timeout: seconds that a backup or a restore waits for a table that somebody else has locked.
    """

    def __init__(
        self,
        dsn: str | Pool,
        *,
        environment: str | None = None,
        version_table: str = "schema_version",
        version_schema: str = "public",
        lock_timeout: float = 10.0,
    ) -> None:
        if not isinstance(dsn, str | asyncpg.Pool) or not dsn:
            raise ConfigError(
                "PostgresHandler takes a database URL or an asyncpg pool.", hint="Set DATABASE_URL, or pass one."
            )
        if lock_timeout <= 0:
            raise ConfigError(f"lock_timeout is {lock_timeout!r}.", hint="Give a number of seconds above 0.")
        self.environment = environment
        self._dsn = dsn
        self._target: Target | None = Target.from_url(dsn) if isinstance(dsn, str) else None
        self._pool: Pool | None = None
        names = (version_schema, version_table)
        self._session = Session(self.target)
        self.schema_version = PostgresSchemaVersion(self._session, names)
        self.lock = PostgresLock(self._session, names)
        self.backup = PostgresBackup(self.target, self._session, self.describe, lock_timeout=lock_timeout)

    def __repr__(self) -> str:
        return f"<PostgresHandler {self.name}>"

    @property
    def name(self) -> str:
        return f"PostgreSQL {self._target.label}" if self._target else "PostgreSQL (a pool's)"

    @property
    def db(self) -> Pool:
        """A pool for scripts and services; open inside `async with`, with no connection until one is asked for."""
        if self._pool is None:
            raise ConfigError(
                "The handler is not open.", hint="Use it inside `async with PostgresHandler(...) as handler:`."
            )
        return self._pool

    async def target(self) -> Target:
        if self._target is None:
            assert not isinstance(self._dsn, str)
            with translating("Asking the pool for its address"):
                self._target = await Target.from_pool(self._dsn)
        return self._target

    async def __aenter__(self) -> PostgresHandler:
        if isinstance(self._dsn, str):
            # min_size=0: nothing is opened before somebody asks, so a bad address is reported by check_connection
            self._pool = await asyncpg.create_pool(self._dsn, min_size=0)
        else:
            self._pool = self._dsn
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._session.close()
            if self._pool is not None and self._pool is not self._dsn:
                with anyio.move_on_after(5) as scope:
                    await self._pool.close()
                if scope.cancelled_caught:
                    self._pool.terminate()
        self._pool = None

    async def check_connection(self) -> None:
        connection = await self._session.connection()
        with translating("Checking the connection", connection):
            await connection.execute("SELECT 1")

    async def describe(self) -> DatabaseInfo:
        connection = await self._session.connection()
        target = await self.target()
        with translating("Asking the server which database this is", connection):
            row = await connection.fetchrow(_DESCRIBE)
            assert row is not None
            system = target.host
            if row["may_ask"]:
                system = await connection.fetchval("SELECT system_identifier::text FROM pg_catalog.pg_control_system()")
        return DatabaseInfo(
            kind="postgresql",
            name=row["name"],
            host=target.host,
            identity=f"{system}/{row['oid']}",
            server_version=row["version"],
            environment=self.environment,
            empty=row["empty"],
        )

    def inspect(self, script: Script, /) -> Sequence[Issue]:
        return tuple(inspect(script)) if script.language == "sql" else ()

    async def run(self, work: Callable[[Connection], Awaitable[T]], /, *, transaction: TransactionConfig | None) -> T:
        try:
            return await self._session.run(work, transaction=transaction is not None)
        except EndedByScript:
            raise ScriptFailed(
                "the script ended the transaction that it runs in, so its change and its record are not one.",
                hint="Take COMMIT and ROLLBACK out of it.",
            ) from None
        except asyncpg.PostgresError as error:
            if is_lost(error):
                raise translate(error, "Running a migration") from error
            if isinstance(error, asyncpg.IntegrityConstraintViolationError):
                raise DatabaseError(f"The transaction could not be committed: {server_message(error)}") from error
            raise

    async def execute(self, conn: Connection, script: Script, /) -> None:
        """Statement by statement, each a simple-protocol message, so that every error has its place in the file."""
        for statement in split(script.text):
            try:
                await conn.execute(statement.text)
            except asyncpg.PostgresError as error:
                if is_lost(error):
                    raise translate(error, f"Running {script.path}") from error
                raise _script_failed(script, statement, error) from error
            except (asyncpg.InterfaceError, OSError) as error:
                raise translate(error, f"Running {script.path}", closed=conn.is_closed()) from error


def _script_failed(script: Script, statement: Statement, error: asyncpg.PostgresError) -> ScriptFailed:
    position = getattr(error, "position", None)
    offset = statement.offset + (int(position) - 1 if position else 0)
    line, column = place(script.text, offset)
    message = server_message(error)
    if context := getattr(error, "context", None):
        message += f" (in {str(context).splitlines()[0]})"
    return ScriptFailed(message, path=script.path, line=line, column=column)
