"""A PostgreSQL database that can be migrated."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg

from ..errors import ConfigError, DatabaseError, ScriptFailed, already_open
from ..models import DatabaseInfo, Direction, Issue, Script
from ..protocols import Change, Progress, WorkOptions
from ..shielding import to_its_end, within
from .asking import ask
from .connecting import Target
from .driver import Connection, Pool
from .schema_version import PostgresSchemaVersion
from .session import EndedByScript, NotCommitted, Session
from .translating import SAVEPOINT, WENT_ON, is_lost, is_transient, server_message, translate, translating

if TYPE_CHECKING:
    from .applying import Application
    from .backup import PostgresBackup
    from .lock import PostgresLock
    from .watching import Watcher

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
            labelled as one to overwrite (`development`, `test`, `staging` and their like) must confirm its target.
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
        self._names = names
        self._lock_timeout = lock_timeout
        self._lock: PostgresLock | None = None
        self._backup: PostgresBackup | None = None
        self._watcher: Watcher | None = None
        self._application: Application | None = None

    # Imported where they are needed: nothing pending is the usual run, and it only reads the history.

    @property
    def lock(self) -> PostgresLock:
        if self._lock is None:
            from .lock import PostgresLock

            self._lock = PostgresLock(self._session, self._names)
        return self._lock

    @property
    def backup(self) -> PostgresBackup:
        if self._backup is None:
            from .backup import PostgresBackup

            self._backup = PostgresBackup(
                self.target,
                self._session,
                self.describe,
                history=self.schema_version.seen_by,
                lock_timeout=self._lock_timeout,
            )
        return self._backup

    @classmethod
    def from_env(cls) -> PostgresHandler:
        """The database that MSR_DATABASE_URL (or DATABASE_URL) names; MSR_ENVIRONMENT says what it is.

        Raises:
            ConfigError: when neither is set.
        """
        url = os.environ.get("MSR_DATABASE_URL") or os.environ.get("DATABASE_URL")
        if not url:
            raise ConfigError(
                "No database is named: DATABASE_URL is not set.",
                hint="Set DATABASE_URL (or MSR_DATABASE_URL) to postgresql://user:password@host:5432/database.",
            )
        return cls(url, environment=os.environ.get("MSR_ENVIRONMENT") or None)

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
        if self._pool is not None:
            raise already_open()
        if isinstance(self._dsn, str):
            # min_size=0: nothing is opened before somebody asks, so a bad address is reported by check_connection
            self._pool = await asyncpg.create_pool(self._dsn, min_size=0)
        else:
            self._pool = self._dsn
        return self

    async def __aexit__(self, *exc: object) -> None:
        pool, self._pool = self._pool, None
        await to_its_end(self._close(None if pool is self._dsn else pool))

    async def _close(self, pool: Pool | None) -> None:
        if self._watcher is not None:
            await self._watcher.close()
        await self._session.close()
        if pool is not None and not await within(5, pool.close):
            pool.terminate()

    async def check_connection(self) -> None:
        connection = await self._session.connection()
        with translating("Checking the connection", connection):
            await connection.execute("SELECT 1")

    async def describe(self) -> DatabaseInfo:
        connection = await self._session.connection()
        target = await self.target()
        with translating("Asking the server which database this is", connection):
            (row,) = await ask(connection, _DESCRIBE)
            system = target.host
            if row["may_ask"]:
                (answer,) = await ask(
                    connection, "SELECT system_identifier::text AS id FROM pg_catalog.pg_control_system()"
                )
                system = answer["id"]
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
        from .kinds import inspect

        return tuple(inspect(script)) if script.language == "sql" else ()

    async def review(self, scripts: Sequence[Script], /) -> Sequence[Issue]:
        from . import linting

        connection = await self._session.prepared()
        if not self._session.pooled:
            return await linting.review(connection, scripts)
        async with connection.transaction(readonly=True):  # through a proxy two messages may reach two servers
            return await linting.review(connection, scripts)

    def outside(self, script: Script, /) -> bool:
        from .kinds import needs_no_transaction

        return needs_no_transaction(script)

    async def run(self, work: Callable[[Connection], Awaitable[T]], options: WorkOptions, /) -> T:
        with _plainly("Running a migration"):
            return await self._session.run(work, options)

    async def execute(self, conn: Connection, script: Script, /, *, resume: str | None = None) -> None:
        from . import applying, outside, statements

        if resume is None or conn.is_in_transaction():
            await applying.execute(conn, script, statements.split(script.text))
        else:
            await outside.execute(conn, self.schema_version, script, resume)

    def joins(self, script: Script, /) -> bool:
        from .messages import joins

        # through a proxy each unit asks first whether the lock is still held
        if self._session.pooled or self.schema_version.is_named_in(script.text):
            return False
        return joins(script.text)

    async def apply(
        self, changes: Sequence[Change], direction: Direction, options: WorkOptions, done: Callable[[float], None], /
    ) -> None:
        from .applying import Application

        application = Application(self._session, self.schema_version, changes, direction, done)
        self._application = application
        try:
            with _plainly("Running migrations", changes[0].script.path):
                await application.to_the_end(options)
        finally:
            self._application = None

    def is_transient(self, error: BaseException, /) -> bool:
        return is_transient(error)

    async def progress(self) -> Progress | None:
        from .watching import Watcher

        if self._watcher is None:
            self._watcher = Watcher(self._session.apart)
        pid, application = self._session.pid, self._application
        if pid is None:
            return None
        if application is not None and application.together:
            await application.look(self._watcher.ask)  # so that what it is at is told of the right migration
        return await self._watcher.progress(pid)

    async def catalog(self) -> Mapping[str, str] | None:
        from . import catalog

        async def read(connection: Connection, begin: str) -> Mapping[str, str]:
            with translating("Reading the catalogue", connection):
                await connection.execute(f"{begin}; SET LOCAL search_path = ''; SET LOCAL jit = off")
                found = await catalog.objects(connection, (book.names, book.notes_names))
                await connection.execute("COMMIT")
            return found

        book = self.schema_version
        return await self._session.whole(read, WorkOptions(), leaves_traces=False)


@contextmanager
def _plainly(doing: str, path: Path | None = None) -> Iterator[None]:
    """What a unit of work can meet at its edges, in our words; what its work raised comes out as it is."""
    try:
        yield
    except EndedByScript as ended:
        said, hint = "ended the transaction that it runs in", "Take COMMIT and ROLLBACK out of it."
        cause = ended.__cause__
        if cause is None:
            words = f"the script {said}, so its change and its record are not one."
            raise ScriptFailed(words, path=path, hint=hint, kept=ended.kept) from None
        place = cause if isinstance(cause, ScriptFailed) else ScriptFailed(str(cause), path=path)
        words = f"{place.message.rstrip('.')}. Before that, the script {said}."
        raise ScriptFailed(
            words, path=place.path, line=place.line, column=place.column, hint=hint, kept=True
        ) from cause
    except ScriptFailed as raised:
        cause = raised.__cause__
        if not isinstance(cause, asyncpg.InFailedSQLTransactionError):
            raise
        first = (
            f" ({server_message(cause.__context__)})" if isinstance(cause.__context__, asyncpg.PostgresError) else ""
        )
        raise ScriptFailed(f"{WENT_ON}{first}.", path=raised.path, line=raised.line, hint=SAVEPOINT) from cause
    except NotCommitted as refused:
        error = refused.__cause__
        assert isinstance(error, asyncpg.PostgresError)
        raise DatabaseError(
            f"The transaction could not be committed: {server_message(error)}",
            hint="A constraint that is checked at the end (DEFERRABLE) may be violated; nothing of it was kept.",
        ) from error
    except (asyncpg.PostgresError, asyncpg.InternalClientError) as error:
        if is_lost(error):
            raise translate(error, doing) from error
        raise
