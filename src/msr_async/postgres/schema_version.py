"""The history, in a table of the migrated database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from ..errors import DatabaseError
from ..models import AppliedMigration, Version
from .connecting import OWN_ROLE
from .driver import Connection
from .quoting import literal, qualified
from .session import Session
from .translating import translating

_COMMENT = "history of migrations, kept by msr_async"
_COLUMNS = "version, name, checksum, applied_at, duration, applied_by"


class _Row(msgspec.Struct):
    version: int
    name: str
    checksum: str
    applied_at: datetime
    duration: float
    applied_by: str


class PostgresSchemaVersion:
    """The book of what was applied: one row a migration, the version as primary key."""

    def __init__(self, session: Session, names: tuple[str, str]) -> None:
        self._session = session
        self.names = names
        self._table = qualified(names)

    async def applied(self) -> Sequence[AppliedMigration]:
        connection = await self._session.connection()
        received = bytearray()

        async def receive(piece: bytes) -> None:
            received.extend(piece)

        # COPY is one round trip, a prepared SELECT two. JSON holds no control characters: csv with these never quotes.
        query = f"SELECT row_to_json(b) FROM (SELECT {_COLUMNS} FROM {self._table} ORDER BY version) b"
        with translating(f"Reading the history in {'.'.join(self.names)}", connection):
            try:
                await connection.copy_from_query(query, output=receive, format="csv", delimiter="\x02", quote="\x01")
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return ()
            except asyncpg.UndefinedColumnError as error:
                raise DatabaseError(
                    f"The table {'.'.join(self.names)} is not a history of msr_async's.",
                    hint="Choose another name: PostgresHandler(..., version_table=...).",
                ) from error
        rows = [msgspec.json.decode(line, type=_Row) for line in bytes(received).splitlines()]
        return tuple(AppliedMigration(**msgspec.structs.asdict(row)) for row in rows)

    async def ensure(self) -> None:
        schema, name = self.names
        connection = await self._session.connection()
        with translating(f"Making the history table {schema}.{name}", connection):
            # one message; IF NOT EXISTS alone races, but the migration lock is held here
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._table} (version bigint PRIMARY KEY, name text NOT NULL, "
                "checksum text NOT NULL, applied_at timestamptz NOT NULL, duration double precision NOT NULL, "
                f"applied_by text NOT NULL); COMMENT ON TABLE {self._table} IS {literal(_COMMENT)}"
            )

    async def record(self, conn: Connection, entry: AppliedMigration, /) -> None:
        with translating(f"Recording {entry} in the history", conn):
            await conn.execute(OWN_ROLE)  # a script may SET ROLE, so that what it makes belongs to that one
            await conn.execute(
                f"INSERT INTO {self._table} ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6)",
                entry.version, entry.name, entry.checksum, entry.applied_at, entry.duration, entry.applied_by,
            )  # fmt: skip

    async def forget(self, conn: Connection, version: Version, /) -> None:
        with translating(f"Striking {version} out of the history", conn):
            await conn.execute(OWN_ROLE)
            await conn.execute(f"DELETE FROM {self._table} WHERE version = $1", version)
