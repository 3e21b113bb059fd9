"""The history, in a table of the migrated database, and beside it a table of notes about work under way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

import asyncpg
import msgspec

from ..errors import DatabaseError, PermissionMissing
from ..models import AppliedMigration
from .asking import ask, ask_text
from .connecting import OWN_ROLE
from .driver import Connection
from .quoting import literal, qualified
from .session import Session
from .translating import SAVEPOINT, WENT_ON, translating
from .watching import OURS

_COMMENT = "history of migrations, kept by msr_async"
_NOTES_COMMENT = "work under way, noted by msr_async"
_LONGEST_NAME = 63
# As our own login, whatever role the script has taken on; LOCAL, so that outside of a transaction the script keeps it.
_OWN_ROLE_HERE = "SET LOCAL SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE NONE"
_COLUMNS = "id, version, name, checksum, applied_at, duration, applied_by, baseline, run, fingerprint"
_NOW = "pg_catalog.clock_timestamp()"
_BEGUN = "pg_catalog.transaction_timestamp()"
_TAKEN = f"pg_catalog.date_part('epoch', {_NOW} OPERATOR(pg_catalog.-) coalesce({{before}}, {_BEGUN}))"
_TAKEN_ALONE = f"pg_catalog.date_part('epoch', {_NOW} OPERATOR(pg_catalog.-) {_BEGUN})"


_ENTRIES = msgspec.json.Decoder(list[AppliedMigration])  # the column `id` is a property there


class PostgresSchemaVersion:
    """The book of what was applied: one row a migration, its id as primary key."""

    def __init__(self, session: Session, names: tuple[str, str]) -> None:
        self._session = session
        self.names = names
        schema, name = names
        self.notes_names = (schema, f"{name[: _LONGEST_NAME - len('_notes')]}_notes")
        self._table = qualified(names)
        self._notes = qualified(self.notes_names)

    def is_named_in(self, sql: str) -> bool:
        """Whether a script may change the history itself."""
        return self.names[1].lower() in sql.lower()

    async def applied(self) -> Sequence[AppliedMigration]:
        return await self._lines(await self._session.connection())

    async def seen_by(self, connection: Connection) -> tuple[AppliedMigration, ...]:
        """What was applied as of the snapshot that this connection's transaction has."""
        with translating(f"Looking for the history {'.'.join(self.names)}", connection):
            # to ask a table that is not there would be the end of the transaction
            there = await connection.fetchval(f"SELECT pg_catalog.to_regclass({literal(self._table)}) IS NOT NULL")
        return await self._lines(connection) if there else ()

    async def note(self, key: str, /) -> Any:
        query = f"SELECT value FROM {self._notes} WHERE key = {literal(key)}"
        found = await self._read(await self._session.connection(), query, self.notes_names)
        return msgspec.json.decode(found) if found else None

    async def _lines(self, connection: Connection) -> tuple[AppliedMigration, ...]:
        order = 'ORDER BY version NULLS LAST, id COLLATE pg_catalog."C"'
        # one row for all of it: the driver takes 2 us for each
        query = (
            "SELECT pg_catalog.string_agg(pg_catalog.row_to_json(b)::pg_catalog.text, ',') "
            f"FROM (SELECT {_COLUMNS} FROM {self._table} {order}) b"
        )
        return tuple(_ENTRIES.decode(b"[%s]" % await self._read(connection, query, self.names)))

    async def _read(self, connection: Connection, query: str, names: tuple[str, str]) -> bytes:
        """Nothing where there is no such table: reading never makes one."""
        with translating(
            f"Reading the history in {'.'.join(names)}",
            connection,
            right=f"GRANT SELECT ON {'.'.join(names)} and USAGE on its schema TO this role.",
        ):
            try:
                return await ask_text(connection, query)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return b""
            except asyncpg.UndefinedColumnError as error:
                raise DatabaseError(
                    f"The table {'.'.join(names)} is not a history of msr_async's.",
                    hint="Choose another name: PostgresHandler(..., version_table=...).",
                ) from error

    async def ensure(self, conn: Connection, /) -> None:
        schema, name = self.names
        right = f"GRANT USAGE, CREATE ON SCHEMA {schema} TO this role, or let its owner run the first migration."
        with translating(f"Making the history table {schema}.{name}", conn, right=right):
            (there,) = await ask(
                conn,
                f"SELECT pg_catalog.to_regclass({literal(self._table)}) IS NOT NULL "
                f"AND pg_catalog.to_regclass({literal(self._notes)}) IS NOT NULL AS both",
            )
            if there["both"]:
                return  # a user who may write to them need not be one who may make them
            # one message; IF NOT EXISTS alone races, but the migration lock is held here
            await conn.execute(
                f"{OURS}CREATE TABLE IF NOT EXISTS {self._table} (id text PRIMARY KEY, version bigint, "
                "name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL, "
                "duration double precision NOT NULL, applied_by text NOT NULL, baseline boolean NOT NULL, "
                "run text NOT NULL, fingerprint text NOT NULL); "
                f"CREATE TABLE IF NOT EXISTS {self._notes} (key text PRIMARY KEY, value jsonb NOT NULL, "
                "noted_at timestamptz NOT NULL); "
                f"COMMENT ON TABLE {self._table} IS {literal(_COMMENT)}; "
                f"COMMENT ON TABLE {self._notes} IS {literal(_NOTES_COMMENT)}"
            )

    async def record(self, conn: Connection, entry: AppliedMigration, /, *, replace: bool = False) -> None:
        await self.write(conn, f"{OWN_ROLE}; {self.recording(entry, replace=replace)}", f"Recording {entry}")

    async def forget(self, conn: Connection, id: str, /) -> None:
        await self.write(conn, f"{OWN_ROLE}; {self.forgetting(id)}", f"Striking {id} out of the history")

    async def keep_note(self, conn: Connection, key: str, value: Any, /) -> None:
        await self.write(conn, self.noting(key, value), f"Keeping the note {key}")

    async def write(self, conn: Connection, sql: str, doing: str) -> None:
        """Send what `recording`, `forgetting` or `noting` made."""
        with translating(doing, conn):
            try:
                await conn.execute(sql)
            except asyncpg.PostgresError as error:
                if (ours := self.refusal(error, doing)) is not None:
                    raise ours from error
                raise

    # -- the words, for whoever sends them together with others ---------------------------------------

    def recording(self, entry: AppliedMigration, *, replace: bool, anew: bool = False, after: str = "") -> str:
        """Write a line; `anew` takes time and duration from the transaction that it is written in.

        Args:
            after: the id of the line that the same message wrote before: all its transactions have the time of the
                message's beginning, so that this one began where that line was written.
        """
        applied_at = _NOW if anew else f"{literal(entry.applied_at.astimezone(UTC).isoformat())}::timestamptz"
        values = (
            literal(entry.id),
            "NULL" if entry.version is None else str(int(entry.version)),
            literal(entry.name),
            literal(entry.checksum),
            applied_at,
            self._taken(after) if anew else repr(float(entry.duration)),
            literal(entry.applied_by),
            "true" if entry.baseline else "false",
            literal(entry.run),
            literal(entry.fingerprint),
        )
        line = f"INSERT INTO {self._table} ({_COLUMNS}) VALUES ({', '.join(values)})"
        return f"{self.forgetting(entry.id)}; {line}" if replace else line

    def _taken(self, after: str) -> str:
        return self._taken_since(literal(after)) if after else _TAKEN_ALONE

    def _taken_since(self, id: str) -> str:
        return _TAKEN.format(before=f"(SELECT applied_at FROM {self._table} WHERE id = {id})")

    @property
    def line(self) -> str:
        """The same with parameters, for a statement that is prepared: see `line_of`."""
        return (
            "(text, bigint, text, text, text, text, boolean, text, text) AS "
            f"INSERT INTO {self._table} ({_COLUMNS}) "
            f"VALUES ($1, $2, $3, $4, {_NOW}, {self._taken_since('$5')}, $6, $7, $8, $9)"
        )

    def line_of(self, entry: AppliedMigration, after: str) -> str:
        """What the parameters are for `recording` it `anew`."""
        first = ", ".join(map(literal, (entry.name, entry.checksum, after, entry.applied_by)))
        return (
            f"{literal(entry.id)}, {entry.version}, {first}, {entry.baseline}, "
            f"{literal(entry.run)}, {literal(entry.fingerprint)}"
        )

    def finding(self, ids: Iterable[str], run: str | None) -> str:
        """Ask which of these lines are there; of one run, where it is named."""
        among = f"id IN ({', '.join(map(literal, ids))})"
        return f"SELECT id FROM {self._table} WHERE {among}{'' if run is None else f' AND run = {literal(run)}'}"

    def forgetting(self, id: str) -> str:
        return f"DELETE FROM {self._table} WHERE id = {literal(id)}"

    def noting(self, key: str, value: Any) -> str:
        """Write or strike out a note, as our own login; outside of a transaction all of it is one."""
        if value is None:
            return f"{_OWN_ROLE_HERE}; DELETE FROM {self._notes} WHERE key = {literal(key)}"
        return (
            f"{_OWN_ROLE_HERE}; INSERT INTO {self._notes} (key, value, noted_at) "
            f"VALUES ({literal(key)}, {literal(json.dumps(value))}::jsonb, {_NOW}) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, noted_at = excluded.noted_at"
        )

    def refusal(self, error: asyncpg.PostgresError, doing: str) -> DatabaseError | None:
        """The error in our words, if it is the history's and no other table's."""
        where = ".".join(self.names)
        if isinstance(error, asyncpg.UniqueViolationError) and _table_of(error) == self.names:
            return DatabaseError(
                f"{doing}: another run has applied it meanwhile.",
                hint="Nothing of this attempt was kept; look at `status`, then run again.",
            )
        if isinstance(error, asyncpg.InsufficientPrivilegeError):
            return PermissionMissing(
                f"{doing}: this user may not write to {where}.",
                hint=f"GRANT INSERT, UPDATE, DELETE ON {where}, {'.'.join(self.notes_names)} to it.",
            )
        if isinstance(error, asyncpg.UndefinedTableError):
            return DatabaseError(
                f"{doing}: {where}, which keeps the history, is not there: the script itself has taken it away.",
                hint="Leave that table alone in migrations: it is msr_async's.",
            )
        if isinstance(error, asyncpg.InFailedSQLTransactionError):
            return DatabaseError(f"{doing}: {WENT_ON}.", hint=SAVEPOINT)
        return None


def _table_of(error: asyncpg.PostgresError) -> tuple[object, object]:
    return getattr(error, "schema_name", None), getattr(error, "table_name", None)
