"""Reading a database at one point in time: one leader keeps the snapshot, many connections read it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

import anyio
import asyncpg
from msgspec import Struct

from ..errors import BackupFailed, ConfigError, LockTimeout, PermissionMissing, ToolMissing
from ..models import (
    AppliedMigration,
    Column,
    DatabaseInfo,
    Manifest,
    Part,
    PartTotals,
    Selection,
    SnapshotDetails,
)
from ..protocols import RestoreOptions, Send
from . import catalog, schema, tables
from .connecting import Target, close, connect, refuse_pooler
from .driver import Connection
from .feasibility import check_way_back
from .quoting import literal, qualified
from .restoration import CATALOG, LARGE_OBJECTS, SEQUENCES, PostgresRestoration, restoration
from .session import Session
from .translating import RIGHT_TO_READ, is_lost, translating

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# row_security=off makes hidden rows an error; synchronize_seqscans=off keeps rows in their order on disk
# neither compiling a plan nor parallel workers pay for reading a table from one end to the other
_READING = (
    "SET row_security = off; SET search_path = ''; SET synchronize_seqscans = off; "
    "SET jit = off; SET max_parallel_workers_per_gather = 0"
)
_COALESCE_BELOW = 65_536
_LOCK_ATTEMPTS = 5

_LARGE_OBJECTS = """
SELECT coalesce(json_agg(json_build_object('oid', m.oid::bigint, 'owner', pg_get_userbyid(m.lomowner), 'comment', d.description,
  'grants', (SELECT json_agg(json_build_object('to', CASE x.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(x.grantee) END,
      'privilege', x.privilege_type, 'grantable', x.is_grantable, 'by', pg_get_userbyid(x.grantor))) FROM aclexplode(m.lomacl) x)) ORDER BY m.oid), '[]')::text
FROM pg_largeobject_metadata m LEFT JOIN pg_description d ON d.classoid = 'pg_largeobject'::regclass AND d.objoid = m.oid AND d.objsubid = 0
"""
_SEQUENCES = """
SELECT n.nspname, c.relname, x.oid IS NOT NULL FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_extension x ON c.oid = ANY (x.extconfig)
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (x.oid IS NOT NULL OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
ORDER BY 1, 2
"""
_SUBSCRIPTIONS = """
SELECT count(*) FROM pg_catalog.pg_stat_subscription s
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_subscription p ON p.oid = s.subid AND p.subdbid = d.oid
"""


History: TypeAlias = Callable[[Connection], Awaitable[tuple[AppliedMigration, ...]]]


class _Told(Struct, frozen=True, kw_only=True):
    """What the leader knows of its moment."""

    fingerprint: str
    documents: dict[str, bytes]
    subscriptions: int
    history: tuple[AppliedMigration, ...]


class PostgresBackup:
    """Both directions for one database.

    Args:
        history: reads what was applied, as of the snapshot of a connection's transaction.
    """

    def __init__(
        self,
        target: Callable[[], Awaitable[Target]],
        session: Session,
        describe: Callable[[], Awaitable[DatabaseInfo]],
        *,
        history: History,
        lock_timeout: float,
    ) -> None:
        self._target = target
        self._session = session
        self._describe = describe
        self._history = history
        self._lock_timeout = lock_timeout

    @asynccontextmanager
    async def snapshot(self, selection: Selection, /, *, complete: bool) -> AsyncIterator[PostgresSnapshot]:
        target = await self._target()
        leader = await connect(target, _READING)
        snapshot = PostgresSnapshot(target, leader, selection, self._history, self._lock_timeout)
        done = False
        try:
            await snapshot.open(complete=complete)
            yield snapshot
            with translating("Closing the snapshot", leader):
                # a leader that was lost took the snapshot with it: who joined late may have seen another moment
                await leader.execute("COMMIT")
            done = True
        finally:
            await snapshot.close(abruptly=not done)

    def restoration(
        self,
        manifest: Manifest,
        documents: Mapping[str, bytes],
        options: RestoreOptions,
        notify: Callable[[str], None],
        /,
    ) -> AbstractAsyncContextManager[PostgresRestoration]:
        if options.mode != "replace":
            raise ConfigError(
                f"PostgreSQL has no restore in the mode {options.mode}: all of it is replaced, in one transaction.",
                hint="Leave the mode out.",
            )
        return restoration(
            self._target,
            self._session,
            self._describe,
            manifest,
            documents,
            options,
            notify,
            lock_timeout=self._lock_timeout,
        )


class PostgresSnapshot:
    """One exported snapshot. Tables are locked against DDL before it is taken, so that none shows up empty."""

    def __init__(
        self, target: Target, leader: Connection, selection: Selection, history: History, lock_timeout: float
    ) -> None:
        self._target = target
        self._leader = leader
        self._leader_turn = anyio.Lock()
        self._selection = selection
        self._history = history
        self._lock_timeout = lock_timeout
        self._idle: list[Connection] = []
        self._all: list[Connection] = []
        self._tool: schema.Tool | None = None
        self._tables: dict[tuple[str, ...], tables.Table] = {}
        self._left_out: list[str] = []
        self._unmatched: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()
        self.token = ""
        self.parts: Sequence[Part] = ()

    async def open(self, *, complete: bool) -> None:
        leader = self._leader
        await refuse_pooler(leader, "a snapshot cannot be shared through it")
        if complete:
            await self._find_tool()
        with translating("Locking the tables for the backup", leader, right=RIGHT_TO_READ):
            await leader.execute(f"SET lock_timeout = {int(self._lock_timeout * 1000)}")
            found = await self._lock_tables()
        with translating("Taking the snapshot", leader, right=RIGHT_TO_READ):
            large_objects = await leader.fetchval("SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)")
            large_bytes = await leader.fetchval(tables.LARGE_OBJECT_BYTES) if large_objects else 0
            self.token = await leader.fetchval("SELECT pg_catalog.pg_export_snapshot()")
        hidden = [table.label for table in found if table.hidden_rows]
        if hidden:
            raise PermissionMissing(
                f"Row-level security hides rows of {', '.join(hidden[:5])}{' ...' if len(hidden) > 5 else ''} from this role, "
                "and a backup without them would not be one.",
                hint="Use a role with BYPASSRLS.",
            )
        if complete:
            with translating("Checking whether a restore could succeed", leader):
                await check_way_back(leader)
        holding = [table for table in found if table.kind == "r"]
        chosen = [table for table in holding if tables.wanted(table, self._selection)]
        self._left_out = [table.label for table in holding if table not in chosen]
        self._unmatched = tables.unmatched(found, self._selection)
        self._names = tuple(sorted(table.label for table in found))
        self._tables = {table.names: table for table in chosen}
        self.parts = tables.cut(chosen)
        if large_objects:
            part = Part(
                kind=tables.LARGE_OBJECTS,
                names=("large objects",),
                columns=tables.LARGE_OBJECT_COLUMNS,
                estimate=large_bytes,
            )
            self.parts = [*self.parts, part]

    async def _lock_tables(self) -> list[tables.Table]:
        """ACCESS SHARE on every table, then the snapshot, then a look whether the tables are still those."""
        leader = self._leader
        before = await self._list()
        for _ in range(_LOCK_ATTEMPTS):
            await leader.execute(_BEGIN)
            # LOCK takes no snapshot: the first query after it does
            for start in range(0, len(before), 500):
                block = before[start : start + 500]
                names = ", ".join(f"ONLY {qualified((namespace, name))}" for _, _, namespace, name in block)
                try:
                    await leader.execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
                except asyncpg.UndefinedTableError:
                    break  # dropped in between: look again
            else:
                after = [_table(row) for row in await leader.fetch(tables.QUERY)]
                if [table.identity for table in after] == before:
                    return after
            await leader.execute("ROLLBACK")
            before = await self._list()
        raise BackupFailed(
            "Tables are being created and dropped all the time.", hint="Run the backup when that has ended."
        )

    async def _list(self) -> list[tables.Identity]:
        found = await self._leader.fetch(tables.IDENTITIES)
        return [(row["oid"], row["kind"], row["schema"], row["name"]) for row in found]

    async def dump(self, part: Part, send: Send, /) -> PartTotals:
        connection = await self._reader()
        try:
            totals = await self._copy(connection, part, send)
        except LockTimeout:
            # Somebody waits for an exclusive lock on this table, and whoever asks now stands behind him; the leader
            # has its lock already. Nothing was sent yet: the lock comes before the first row.
            await connection.execute("ROLLBACK")
            await self._join(connection)
            self._idle.append(connection)
            async with self._leader_turn:
                return await self._copy(self._leader, part, send)
        except BaseException:
            # a cancelled COPY poisons its connection now and then
            await close(connection, abruptly=True)
            raise
        self._idle.append(connection)
        return totals

    async def _copy(self, connection: Connection, part: Part, send: Send) -> PartTotals:
        sent = 0

        async def receive(piece: bytes) -> None:
            nonlocal sent
            sent += len(piece)
            await send(piece)
            if len(piece) < _COALESCE_BELOW:
                # asyncpg stops reading while we sleep and the kernel's buffer fills: fewer, bigger pieces, half the CPU
                await anyio.sleep(0.001)

        with translating(f"Reading {part}", connection, right=RIGHT_TO_READ):
            if query := tables.query(part, self._tables.get(part.names)):
                status = await connection.copy_from_query(query, output=receive)
            else:
                namespace, name = part.names
                columns = [column.name for column in part.columns]
                status = await connection.copy_from_table(name, schema_name=namespace, columns=columns, output=receive)
        return PartTotals(rows=int(status.split()[-1]), raw_bytes=sent)

    async def _reader(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        connection = await connect(self._target, f"{_READING}; SET lock_timeout = {int(self._lock_timeout * 1000)}")
        self._all.append(connection)
        await self._join(connection)
        return connection

    async def _join(self, connection: Connection) -> None:
        with translating("Joining the snapshot", connection):
            try:
                await connection.execute(f"{_BEGIN}; SET TRANSACTION SNAPSHOT {literal(self.token)}")
            except asyncpg.PostgresError as error:
                if is_lost(error) or not self._leader.is_closed():
                    raise
                raise BackupFailed(
                    "The connection that holds the snapshot was lost, and the point in time with it.",
                    hint="Run the backup again.",
                ) from error

    async def details(self) -> SnapshotDetails:
        """The schema by pg_dump and the catalogue by the leader, side by side."""
        schema_documents: dict[str, bytes] = {}
        read: list[_Told] = []
        notes: list[str] = []

        async def take_schema() -> None:
            try:
                tool = await self._find_tool()
                taken = await schema.dump(tool, self._target, snapshot=self.token, lock_timeout=self._lock_timeout)
                schema_documents.update(taken)
            except ToolMissing as error:
                notes.append(f"It holds rows but no schema: {error}")

        async with anyio.create_task_group() as group:
            group.start_soon(take_schema)
            read.append(await self._read_catalogue())
        await self._refuse_what_was_replaced()
        (told,) = read
        if self._left_out:
            shown = ", ".join(self._left_out[:10]) + (" ..." if len(self._left_out) > 10 else "")
            notes.append(f"It leaves out the rows of {len(self._left_out)} tables: {shown}.")
        if told.subscriptions:
            notes.append("It leaves out subscriptions: they belong to the server that follows another.")
        return SnapshotDetails(
            documents=schema_documents | told.documents,
            fingerprint=told.fingerprint,
            complete=bool(schema_documents) and not self._left_out,
            history=told.history,
            notes=tuple(notes),
            unmatched=self._unmatched,
            names=self._names,
        )

    async def _refuse_what_was_replaced(self) -> None:
        """A view made anew in these seconds may need a column that the snapshot does not have."""
        now = await connect(self._target, _READING)
        try:
            async with self._leader_turn:
                with translating("Reading the catalogue", self._leader):
                    names = await catalog.replaced(self._leader, now)
        finally:
            await close(now, abruptly=True)
        if names:
            more = " ..." if len(names) > 5 else ""
            raise BackupFailed(
                f"Somebody replaced or dropped {', '.join(names[:5])}{more} while the schema was read.",
                hint="Run the backup again.",
            )

    async def _read_catalogue(self) -> _Told:
        leader = self._leader
        async with self._leader_turn:
            with translating("Reading the catalogue", leader, right=RIGHT_TO_READ):
                found = await catalog.read(leader)
                documents = {
                    CATALOG: found.encode(),
                    SEQUENCES: await self._sequences(),
                    LARGE_OBJECTS: (await leader.fetchval(_LARGE_OBJECTS)).encode(),
                }
                may_ask = await leader.fetchval(
                    "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_subscription', 'SELECT')"
                )
                subscriptions = await leader.fetchval(_SUBSCRIPTIONS) if may_ask else 0
            history = await self._history(leader)
        return _Told(fingerprint=found.fingerprint, documents=documents, subscriptions=subscriptions, history=history)

    async def _find_tool(self) -> schema.Tool:
        """Once: early where a backup without a schema is no use, else beside the rows."""
        if self._tool is None:
            self._tool = await schema.find(self._leader.get_server_version().major)
        return self._tool

    async def _sequences(self) -> bytes:
        """Positions are not part of a snapshot; read after it, they are never behind its rows."""
        found = await self._leader.fetch(_SEQUENCES)
        states = []
        for start in range(0, len(found), 200):
            block = found[start : start + 200]
            query = " UNION ALL ".join(
                f"SELECT {index}, last_value, is_called FROM {qualified(row[:2])}" for index, row in enumerate(block)
            )
            for index, last_value, is_called in await self._leader.fetch(query):
                namespace, name, config = block[index]
                state = {"names": (namespace, name), "last_value": last_value, "is_called": is_called}
                states.append(state | {"config": True} if config else state)
        return json.dumps(states, ensure_ascii=False, indent=1).encode()

    async def close(self, *, abruptly: bool) -> None:
        async with anyio.create_task_group() as group:  # each waits for its server's process to hang up
            for connection in (*self._all, self._leader):
                group.start_soon(partial(close, connection, abruptly=abruptly))


def _table(row: asyncpg.Record) -> tables.Table:
    return tables.Table(
        oid=row["oid"],
        schema=row["schema"],
        name=row["name"],
        kind=row["kind"],
        config=row["config"],
        condition=row["condition"],
        heap=row["heap"],
        total=row["total"],
        sliceable=row["sliceable"],
        hidden_rows=row["hidden_rows"],
        root=row["root"],
        columns=tuple(
            Column(name=name, type=type_) for name, type_ in zip(row["columns"] or (), row["types"] or (), strict=True)
        ),
    )
