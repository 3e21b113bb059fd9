"""A Firestore database that can be migrated."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio.to_thread
from google.auth.credentials import Credentials
from google.cloud.firestore import AsyncClient

from ..errors import ConfigError, ConnectionFailed, ConnectionLost, ScriptFailed, already_open
from ..models import DatabaseInfo, Direction, Issue, Script
from ..protocols import Change, Progress, WorkOptions
from ..shielding import to_its_end
from . import reading
from .cancelling import recognised
from .clients import Clients
from .credentials import credentials_from
from .lock import FirestoreLock
from .names import LOCK_COLLECTION, Home
from .schema_version import FirestoreSchemaVersion
from .translating import ERRORS, is_transient, translate, unreachable
from .units import Connection, Units

if TYPE_CHECKING:
    from .backup import FirestoreBackup

T = TypeVar("T")

MAX_BATCH_BYTES = 4 * 1024 * 1024 - 64 * 1024
"""Of a request that writes: what the emulator takes. Production takes 10 MiB."""
_LEAST_BATCH_BYTES, _MOST_BATCH_BYTES = 1280 * 1024, 9728 * 1024
_QUICK = reading.Limits(stream=10.0, patience=10.0)
_CLOSE_TIMEOUT = 5.0


class FirestoreHandler:
    """A Firestore database in Native mode.

    Args:
        project: the Google Cloud project.
        database: `(default)` or its name.
        credentials: a service account's file, its content as a dictionary, or credentials of `google.auth`; the
            application's default ones when left out.
        emulator: `host:port` of an emulator, which needs no credentials.
        environment: what this database is: `production`, `staging`, `development`. A restore onto one that is not
            labelled as one to overwrite (`development`, `test`, `staging` and their like) must confirm its target.
        version_collection: where the history is kept.
        max_batch_bytes: of one request that writes; from 1.25 MiB, so that every document fits, to 9.5 MiB, which
            production takes.
        ramp_up: begin a restore at 500 writes a second and raise that by half every five minutes; None: in production.
        max_reads: refuse a backup of more documents than that.
        max_writes: refuse a restore of more documents than that, and stop one before it has written and deleted more.
        lease: seconds after which the migration lock of a runner that died is free.
        heartbeat: seconds between two signs of life of its holder.

    Raises:
        ConfigError: something of it cannot be used. Also when `emulator` and `credentials` are both given, and when
            FIRESTORE_EMULATOR_HOST is set and neither of them is: Google's own client would go to the emulator, and
            this one to production.
    """

    def __init__(
        self,
        project: str | None = None,
        database: str = "(default)",
        *,
        credentials: str | os.PathLike[str] | Mapping[str, Any] | Credentials | None = None,
        emulator: str | None = None,
        environment: str | None = None,
        version_collection: str = "schema_version",
        max_batch_bytes: int = MAX_BATCH_BYTES,
        ramp_up: bool | None = None,
        max_reads: int | None = None,
        max_writes: int | None = None,
        lease: float = 30.0,
        heartbeat: float = 5.0,
    ) -> None:
        _check(project, database, emulator, version_collection, lease, heartbeat)
        _check_bytes(max_batch_bytes)
        if emulator is None and credentials is None and os.environ.get("FIRESTORE_EMULATOR_HOST"):
            raise ConfigError(
                "FIRESTORE_EMULATOR_HOST is set, and no emulator was given.",
                hint=f'Give emulator="{os.environ["FIRESTORE_EMULATOR_HOST"]}" for the emulator, or unset the variable '
                "(or give credentials) for production.",
            )
        if emulator is not None and credentials is not None:
            raise ConfigError(
                "An emulator takes no credentials, and both were given.",
                hint="Give the emulator, or the credentials if Google's database is meant.",
            )
        assert project
        self.environment = environment
        self.home = Home(project=project, database=database)
        self._credentials = credentials
        self._emulator = emulator
        self._max_batch_bytes = max_batch_bytes
        self._ramp_up = ramp_up
        self._max_reads = max_reads
        self._max_writes = max_writes
        self._clients: Clients | None = None
        self.lock = FirestoreLock(self._opened, lease=lease, heartbeat=heartbeat)
        self._units = Units(self._opened, self.lock)
        self.schema_version = FirestoreSchemaVersion(self._opened, self._units, version_collection)
        self._backup: FirestoreBackup | None = None

    @classmethod
    def from_url(cls, url: str, *, environment: str | None = None, **settings: Any) -> FirestoreHandler:
        """`firestore://PROJECT[/DATABASE][?emulator=HOST:PORT&credentials=PATH]`.

        A setting of the constructor's goes before the URL, unless it is None.

        Raises:
            ConfigError: it is not one.
        """
        parts = urlsplit(url)
        wrong = "Write it as firestore://project/database?emulator=host:port; database and emulator may be left out."
        if parts.scheme != "firestore":
            raise ConfigError("The database URL does not start with firestore://.", hint=wrong)
        said = dict(parse_qsl(parts.query, keep_blank_values=True))
        unknown = said.keys() - {"emulator", "credentials"}
        if unknown or parts.fragment or "@" in parts.netloc or parts.path.strip("/").count("/"):
            raise ConfigError("The database URL has a part that is not known.", hint=wrong)
        database = unquote(parts.path.strip("/")) or "(default)"
        given = {name: value for name, value in settings.items() if value is not None}
        return cls(unquote(parts.netloc), environment=environment, **{"database": database, **said, **given})

    @classmethod
    def from_env(cls) -> FirestoreHandler:
        """The database that a firestore:// URL in MSR_DATABASE_URL (or DATABASE_URL) names, or else
        MSR_FIRESTORE_PROJECT (or GOOGLE_CLOUD_PROJECT) and MSR_FIRESTORE_DATABASE; in the emulator that
        FIRESTORE_EMULATOR_HOST names, where the URL names none and no credentials. MSR_ENVIRONMENT says what it is.

        Raises:
            ConfigError: none of them names a project.
        """
        environ = os.environ
        environment = environ.get("MSR_ENVIRONMENT") or None
        emulator = environ.get("FIRESTORE_EMULATOR_HOST") or None
        for name in ("MSR_DATABASE_URL", "DATABASE_URL"):
            url = environ.get(name, "")
            if url.startswith("firestore://"):
                return cls.from_url(url, environment=environment, emulator=None if names_its_server(url) else emulator)
        project = environ.get("MSR_FIRESTORE_PROJECT") or environ.get("GOOGLE_CLOUD_PROJECT")
        if not project:
            raise ConfigError(
                "No Firestore project is named: MSR_FIRESTORE_PROJECT is not set.",
                hint="Set MSR_FIRESTORE_PROJECT (or GOOGLE_CLOUD_PROJECT), or DATABASE_URL=firestore://project.",
            )
        return cls(
            project,
            environ.get("MSR_FIRESTORE_DATABASE") or "(default)",
            emulator=emulator,
            environment=environment,
        )

    def __repr__(self) -> str:
        return f"<FirestoreHandler {self.name}>"

    @property
    def name(self) -> str:
        """For messages: which database, and in which emulator if it is in one."""
        where = f" in the emulator at {self._emulator}" if self._emulator else ""
        return f"Firestore {self.home.project}/{self.home.database}{where}"

    @property
    def db(self) -> AsyncClient:
        """The native client, for scripts and services."""
        return self._opened().native

    @property
    def backup(self) -> FirestoreBackup:
        from .backup import FirestoreBackup

        if self._backup is None:
            self._backup = FirestoreBackup(
                self._opened,
                self.describe,
                max_batch_bytes=self._max_batch_bytes,
                ramp_up=self._ramp_up,
                max_reads=self._max_reads,
                max_writes=self._max_writes,
                history=self.schema_version.lines,
                still_held=self.lock.check,
            )
        return self._backup

    async def __aenter__(self) -> FirestoreHandler:
        # Reading a file and asking the machine for its credentials blocks.
        credentials = None if self._emulator else await anyio.to_thread.run_sync(credentials_from, self._credentials)
        if self._clients is not None:
            raise already_open()
        self._clients = Clients(self.home, credentials=credentials, emulator=self._emulator)
        return self

    async def __aexit__(self, *exc: object) -> None:
        clients, self._clients = self._clients, None
        if clients is not None:
            with suppress(TimeoutError):
                await to_its_end(asyncio.wait_for(clients.close(), _CLOSE_TIMEOUT))

    async def check_connection(self) -> None:
        await self._asked(reading.root_collections(self._opened(), limits=_QUICK), "Reaching the database")

    async def describe(self) -> DatabaseInfo:
        clients = self._opened()
        if not clients.reached:
            await self._asked(reading.now(clients, limits=_QUICK), "Reaching the database")
        empty = await self._asked(_is_empty(clients), "Looking whether the database is empty")
        return DatabaseInfo(
            kind="firestore",
            name=f"{self.home.project}/{self.home.database}",
            host=clients.host,
            identity=f"firestore:{clients.host}:{self.home.path}",
            server_version="emulator" if clients.emulated else "v1",
            environment=self.environment,
            empty=empty,
        )

    def inspect(self, script: Script, /) -> Sequence[Issue]:
        if script.language == "py":
            return ()
        return [
            Issue(
                code="no-sql",
                severity="error",
                message="Firestore has no SQL; write this migration in Python.",
                path=script.path,
            )
        ]

    async def review(self, scripts: Sequence[Script], /) -> Sequence[Issue]:
        return ()

    def outside(self, script: Script, /) -> bool:
        return not script.directives.transaction

    async def run(self, work: Callable[[Any], Awaitable[T]], options: WorkOptions, /) -> T:
        return await self._units.run(work, options)

    async def execute(self, conn: Connection, script: Script, /, *, resume: str | None = None) -> None:
        raise _no_sql(script)

    def joins(self, script: Script, /) -> bool:
        return False

    async def apply(
        self, changes: Sequence[Change], direction: Direction, options: WorkOptions, done: Callable[[float], None], /
    ) -> None:
        raise _no_sql(changes[0].script)

    def is_transient(self, error: BaseException, /) -> bool:
        return is_transient(error)

    async def progress(self) -> Progress | None:
        return None

    async def catalog(self) -> Mapping[str, str] | None:
        return None

    def _opened(self) -> Clients:
        if self._clients is None:
            raise ConnectionFailed(
                "The handler is not open.", hint="Use it inside `async with FirestoreHandler(...) as handler:`."
            )
        return self._clients

    async def _asked(self, work: Awaitable[T], doing: str) -> T:
        """Await a question to the database: what stands in the way of the first is said as an error of connecting."""
        clients = self._opened()
        try:
            answer = await recognised(work)
        except ConnectionLost as error:
            if clients.reached:
                raise
            raise unreachable(error, clients.host, emulated=clients.emulated, doing=doing) from error
        except ERRORS as error:
            raise translate(error, doing) from error
        clients.reached = True
        return answer


def names_its_server(url: str) -> bool:
    """Whether a firestore:// URL says itself if Google or an emulator is meant, so that no variable has to."""
    said = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    return "emulator" in said or "credentials" in said


async def _is_empty(clients: Clients) -> bool:
    # A query for the first document would make an emulator look through all of them.
    return not set(await reading.root_collections(clients, most=2)) - {LOCK_COLLECTION}


def _no_sql(script: Script) -> ScriptFailed:
    return ScriptFailed("Firestore has no SQL.", path=script.path, hint="Write this migration in Python.")


_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{2,62}")
_DATABASE = re.compile(r"\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]")
_COLLECTION = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


def _check(
    project: str | None, database: str, emulator: str | None, collection: str, lease: float, heartbeat: float
) -> None:
    if not project or not isinstance(project, str):
        raise ConfigError(
            "No Firestore project is named.", hint='Give FirestoreHandler("my-project"), or use from_env().'
        )
    if not _PROJECT.fullmatch(project):
        raise ConfigError(f"{project!r} is no id of a project.", hint="It looks like my-project-4711.")
    if not isinstance(database, str) or not _DATABASE.fullmatch(database):
        raise ConfigError(
            f"{database!r} is no id of a database.", hint="It is (default), or 4 to 63 letters, digits and hyphens."
        )
    if emulator is not None and not (isinstance(emulator, str) and re.fullmatch(r"[^\s/@]+:\d+", emulator)):
        raise ConfigError(f"emulator is {emulator!r}.", hint="Give host:port, such as 127.0.0.1:8080.")
    if not isinstance(collection, str) or not _COLLECTION.fullmatch(collection):
        raise ConfigError(f"version_collection is {collection!r}.", hint="Give a plain name: letters, digits, _ and -.")
    if not 0 < heartbeat * 2 <= lease:
        raise ConfigError(
            f"lease is {lease!r} and heartbeat {heartbeat!r}.", hint="Give seconds, the lease at least two heartbeats."
        )


def _check_bytes(most: int) -> None:
    if isinstance(most, bool) or not isinstance(most, int) or not _LEAST_BATCH_BYTES <= most <= _MOST_BATCH_BYTES:
        raise ConfigError(
            f"max_batch_bytes is {most!r}.",
            hint=f"Give bytes from {_LEAST_BATCH_BYTES:,} (1.25 MiB) to {_MOST_BATCH_BYTES:,} (9.5 MiB).",
        )
