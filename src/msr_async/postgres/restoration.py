"""Everything back, in one transaction: drop, schema, rows, indexes, checks, COMMIT. Until then nobody sees any of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import anyio
import asyncpg

from ..errors import BackupDamaged, ConnectionLost, RestoreFailed, TargetRefused
from ..models import DatabaseInfo, Manifest, Part, PartTotals, RestoreTotals
from ..protocols import RestoreOptions
from ..shielding import to_its_end
from . import catalog, schema, tables
from .claiming import begin_and_lock
from .connecting import FRESH_SESSION, SESSION_SETTINGS, Target, close, refuse_pooler
from .driver import Connection
from .feasibility import check_locks
from .quoting import identifier, literal, qualified, unquoted
from .session import Session
from .statements import Statement
from .translating import DRIVER_ERRORS, RIGHT_TO_REPLACE, server_message, translating
from .wiping import wipe

CATALOG, SEQUENCES, LARGE_OBJECTS = "catalog.json", "sequences.json", "large-objects.json"

_MOST_DIFFERENCES = 12
_MAY_COMMENT_ON_PUBLIC = (
    "SELECT pg_catalog.pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = 'public'"
)
_SEARCH = {
    "nothing": "SET LOCAL search_path = ''",
    "of the database": "SELECT pg_catalog.set_config(name, reset_val, true) FROM pg_catalog.pg_settings WHERE name = 'search_path'",
}
_BUILDS = {("CREATE", "INDEX"), ("CREATE", "UNIQUE"), ("ALTER", "TABLE")}
_NO_PLPGSQL = "DROP EXTENSION IF EXISTS plpgsql CASCADE"
_ROLLBACK_DEADLINE = 30.0  # undoing a big restore is quick, but the server may be busy


@asynccontextmanager
async def restoration(
    target: Callable[[], Awaitable[Target]],
    session: Session,
    describe: Callable[[], Awaitable[DatabaseInfo]],
    manifest: Manifest,
    documents: Mapping[str, bytes],
    options: RestoreOptions,
    notify: Callable[[str], None],
    *,
    lock_timeout: float,
) -> AsyncIterator[PostgresRestoration]:
    """The target is as before unless `finish()` came to its end."""
    expected = _check_backup(manifest, documents)
    connection = await session.prepared()
    await refuse_pooler(connection, "a restore needs a session of its own")
    if not manifest.complete and not (await describe()).empty:
        raise TargetRefused(
            f"The backup is only a part of its database ({' '.join(manifest.notes)}), and restoring it would delete the rest.",
            hint="Restore it into an empty database.",
        )
    await _check_target(connection, expected, documents, options)
    restoring = PostgresRestoration(connection, expected, documents, options, notify)
    try:
        await restoring.begin(lock_timeout)
        yield restoring
    finally:
        if not restoring.finished:
            await to_its_end(restoring.undo())


def _check_backup(manifest: Manifest, documents: Mapping[str, bytes]) -> catalog.Catalog:
    if manifest.source.kind != "postgresql":
        raise RestoreFailed(f"This is a backup of {manifest.source.kind}, and the target is PostgreSQL.")
    missing = [
        name for name in (schema.PRE_DATA, schema.POST_DATA, CATALOG, SEQUENCES, LARGE_OBJECTS) if name not in documents
    ]
    if missing:
        raise RestoreFailed(
            "The backup holds no schema, so it cannot rebuild the tables.",
            hint="Make backups with pg_dump at hand; the rows of this one can be loaded with psql as its README.txt says.",
        )
    try:
        return catalog.Catalog.decode(documents[CATALOG])
    except (ValueError, KeyError, TypeError) as error:
        raise BackupDamaged("it cannot be read as a catalogue", member=CATALOG) from error


async def _check_target(
    connection: Connection, expected: catalog.Catalog, documents: Mapping[str, bytes], options: RestoreOptions
) -> None:
    with translating("Looking at the target", connection):
        if await connection.fetchval("SELECT pg_catalog.pg_is_in_recovery()"):
            raise RestoreFailed("The target is a standby and cannot be written.", hint="Give the primary's address.")
        named = _roles(documents, connection.get_server_version().major, options)
        there = {row[0] for row in await connection.fetch("SELECT rolname::text FROM pg_catalog.pg_roles")}
        if absent := sorted(named - there - {"public"}):
            hint = "Create them, or restore without owners and privileges (--no-owner --no-privileges)."
            if not (options.owners or options.privileges):
                hint = "Create them: policies and user mappings are for them."
            raise RestoreFailed(
                f"The backup's objects belong to roles that the target does not have: {', '.join(absent)}.", hint=hint
            )
        relations = sum(len(expected.sections.get(section, ())) for section in ("relation", "index"))
        await check_locks(connection, relations=relations, large_objects=len(json.loads(documents[LARGE_OBJECTS])))


def _roles(documents: Mapping[str, bytes], major: int, options: RestoreOptions) -> set[str]:
    """Whom the statements name that this restore would run."""
    owners, privileges = options.owners, options.privileges
    found: set[str] = set()
    for document in (documents[schema.PRE_DATA], documents[schema.POST_DATA]):
        found |= schema.roles(schema.statements(document, major=major, owners=owners, privileges=privileges))
    for item in json.loads(documents[LARGE_OBJECTS]):
        if owners:
            found.add(item["owner"])
        if privileges:
            found |= {item["owner"], *(grant["to"] or "public" for grant in item["grants"] or ())}
    return found


class PostgresRestoration:
    """One transaction on the session's connection, which holds the migration lock too."""

    max_concurrency = 1

    def __init__(
        self,
        connection: Connection,
        expected: catalog.Catalog,
        documents: Mapping[str, bytes],
        options: RestoreOptions,
        notify: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._expected = expected
        self._documents = documents
        self._options = options
        self._notify = notify
        self._major = connection.get_server_version().major
        self._kept_schemas: list[str] = []
        self._foreign_extensions: list[str] = []
        self._cleared: set[tuple[str, ...]] = set()
        self._superuser = connection.get_settings().is_superuser == "on"
        self._path: Literal["of the database", "nothing"] = "nothing"
        self._poisoned = False
        self.finished = False

    async def begin(self, lock_timeout: float) -> None:
        connection, sections = self._connection, self._expected.sections
        await begin_and_lock(connection, lock_timeout)
        with translating("Emptying the target", connection, right=RIGHT_TO_REPLACE):
            self._notify("emptying the target")
            rights = self._options.owners and self._options.privileges
            self._kept_schemas = await wipe(connection, extensions=self._extensions(), rights=rights)
            if "public" not in sections.get("schema", {}):
                await connection.execute("DROP SCHEMA IF EXISTS public CASCADE")
            # initdb made it, so pg_dump says nothing of it
            plpgsql = "CREATE EXTENSION IF NOT EXISTS plpgsql" if "plpgsql" in self._extensions() else _NO_PLPGSQL
            await connection.execute(plpgsql)
            found = await connection.fetch(
                "SELECT extname::text FROM pg_extension WHERE NOT pg_has_role(extowner, 'USAGE')"
            )
            self._foreign_extensions = [row[0] for row in found]
        self._notify("rebuilding the schema")
        await self._run_at_once(self._statements(schema.PRE_DATA))
        await self._comment_on_public()
        await self._make_large_objects()

    def _extensions(self) -> dict[str, str]:
        """Each with its schema, as SQL names it."""
        found = self._expected.sections.get("extension", {})
        return {unquoted(name): schema_name for name, schema_name in found.items()}

    def _statements(self, document: str) -> list[Statement]:
        return schema.statements(
            self._documents[document],
            major=self._major,
            owners=self._options.owners,
            privileges=self._options.privileges,
            kept_schemas=[unquoted(name) for name in self._kept_schemas],
            foreign_extensions=self._foreign_extensions,
            superuser=self._superuser,
        )

    async def _run_at_once(self, statements: Sequence[Statement]) -> None:
        if not statements:
            return
        text = ";\n".join(statement.text for statement in statements)
        try:
            await self._connection.execute(text)
        except asyncpg.PostgresError as error:
            position = getattr(error, "position", None)
            at = text.rfind(";\n", 0, int(position)) if position else 0
            shown = f" In: {_shorten(text[max(at, 0) :].lstrip(';').lstrip())}" if position else ""
            raise self._schema_failed(error, shown) from error

    def _schema_failed(self, error: asyncpg.PostgresError, shown: str) -> RestoreFailed:
        source, hint = self._expected.major, "Nothing was changed."
        if source > self._major:
            hint += f" The backup is of PostgreSQL {source}: restore it to that version or a newer one, not to {self._major}."
        return RestoreFailed(f"Rebuilding the schema failed: {server_message(error)}{shown}", hint=hint)

    async def _search(self, path: Literal["of the database", "nothing"]) -> None:
        """Where names without a schema are looked for.

        What is parsed here, ours and pg_dump's, means the system's by them. What only runs, the functions in checks and
        views, finds things where it does on any other day.
        """
        if path != self._path:
            with translating("Setting the search path", self._connection):
                await self._connection.execute(_SEARCH[path])
            self._path = path

    async def _comment_on_public(self) -> None:
        """pg_dump does not say that it has none, once it quotes every name."""
        sections = self._expected.sections
        says_so = self._expected.wording > 1
        if says_so and "public" in sections.get("schema", {}) and "schema public" not in sections.get("comment", {}):
            with translating("Rebuilding the schema", self._connection):
                if await self._connection.fetchval(_MAY_COMMENT_ON_PUBLIC):
                    await self._connection.execute("COMMENT ON SCHEMA public IS NULL")

    async def _make_large_objects(self) -> None:
        lines = []
        for item in json.loads(self._documents[LARGE_OBJECTS]):
            oid = int(item["oid"])
            lines.append(f"SELECT pg_catalog.lo_create({oid})")
            if self._options.owners:
                lines.append(f"ALTER LARGE OBJECT {oid} OWNER TO {identifier(item['owner'])}")
            if item["comment"] is not None:
                lines.append(f"COMMENT ON LARGE OBJECT {oid} IS {literal(item['comment'])}")
            if self._options.privileges and item["grants"] is not None:
                lines.append(f"REVOKE ALL ON LARGE OBJECT {oid} FROM {identifier(item['owner'])}")
                for grant in item["grants"]:
                    to = identifier(grant["to"]) if grant["to"] is not None else "PUBLIC"
                    option = " WITH GRANT OPTION" if grant["grantable"] else ""
                    said = f"GRANT {grant['privilege']} ON LARGE OBJECT {oid} TO {to}{option}"
                    by = grant.get("by", item["owner"])
                    if by != item["owner"] and self._superuser:
                        said = f"SET SESSION AUTHORIZATION {identifier(by)}; {said}; RESET SESSION AUTHORIZATION"
                    lines.append(said)
        if lines:
            with translating("Making the large objects", self._connection):
                await self._connection.execute("; ".join(lines))

    async def load(self, part: Part, chunks: AsyncIterator[bytes], /) -> PartTotals:
        try:
            await self._search("of the database" if part.kind == tables.TABLE else "nothing")
            if part.kind == tables.LARGE_OBJECTS:
                return await self._load_large_objects(part, chunks)
            if part.kind == tables.CONFIG_TABLE and part.names not in self._cleared:
                self._cleared.add(part.names)
                await self._clear_config_table(part)
            counter = _Counter(chunks)
            # Frozen rows need no second visit by VACUUM; allowed because this very transaction made the table.
            rows = await self._copy(part, counter, freeze=part.kind == tables.TABLE)
            return PartTotals(rows=rows, raw_bytes=counter.size)
        except asyncpg.PostgresError:
            raise
        except BaseException:
            self._poisoned = True
            raise

    async def _copy(self, part: Part, source: AsyncIterator[bytes], *, freeze: bool, table: str | None = None) -> int:
        connection = self._connection
        status = ""
        with anyio.CancelScope() as scope:
            # asyncpg's COPY IN waits for room in the socket and would not notice for 15 s and more that nobody reads it
            def lost(_: object) -> None:
                scope.cancel()

            connection.add_termination_listener(lost)
            try:
                with translating(f"Loading {part}", connection, right=RIGHT_TO_REPLACE):
                    status = await connection.copy_to_table(
                        table or part.names[-1],
                        source=source,
                        columns=None if table or not part.columns else [column.name for column in part.columns],
                        schema_name=None if table else part.names[0],
                        freeze=freeze or None,
                    )
            finally:
                connection.remove_termination_listener(lost)
        if scope.cancelled_caught:
            raise ConnectionLost(
                f"Loading {part}: the connection to the server was lost.", hint="Run the restore again."
            )
        return int(status.split()[-1])

    async def _clear_config_table(self, part: Part) -> None:
        with translating(f"Clearing {part}", self._connection, right=RIGHT_TO_REPLACE):
            condition = await self._connection.fetchval(
                "SELECT extcondition[array_position(extconfig, c.oid)] FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n "
                "ON n.oid = c.relnamespace JOIN pg_catalog.pg_extension e ON c.oid = ANY (e.extconfig) WHERE n.nspname = $1 AND c.relname = $2",
                *part.names,
            )
            await self._connection.execute(f"DELETE FROM ONLY {qualified(part.names)} {condition or ''}")

    async def _load_large_objects(self, part: Part, chunks: AsyncIterator[bytes]) -> PartTotals:
        connection, rows, size = self._connection, 0, 0
        with translating("Loading large objects", connection):
            await connection.execute(
                "CREATE TEMPORARY TABLE msr_pieces (loid oid, at bigint, data bytea) ON COMMIT DROP"
            )
        async for chunk in chunks:
            rows += await self._copy(part, _once(chunk), freeze=False, table="msr_pieces")
            size += len(chunk)
            with translating("Loading large objects", connection):
                await connection.execute(
                    "SELECT count(pg_catalog.lo_put(loid, at, data)) FROM pg_temp.msr_pieces; TRUNCATE pg_temp.msr_pieces"
                )
        with translating("Loading large objects", connection):
            await connection.execute("DROP TABLE pg_temp.msr_pieces")
        return PartTotals(rows=rows, raw_bytes=size)

    async def finish(self) -> RestoreTotals:
        connection = self._connection
        await self._search("nothing")
        await self._set_sequences()
        for statement in self._statements(schema.POST_DATA):
            if statement.words[:1] in (("ALTER",), ("CREATE",), ("REFRESH",)):
                self._notify(_shorten(statement.text))
            try:
                await self._run(statement)
            except asyncpg.PostgresError as error:
                raise self._schema_failed(error, f" In: {_shorten(statement.text)}") from error
        self._notify("comparing the catalogue with the backup's")
        with translating("Checking the restored schema", connection):
            await connection.execute(f"{SESSION_SETTINGS}; SET LOCAL search_path = ''")
            found = await catalog.read(connection)
        if lines := catalog.differences(self._expected, found):
            more = f" (and {len(lines) - _MOST_DIFFERENCES} more)" if len(lines) > _MOST_DIFFERENCES else ""
            raise RestoreFailed(
                f"The restored schema is not the backup's: {'; '.join(lines[:_MOST_DIFFERENCES])}{more}.",
                hint="Nothing was changed. If the server is of another major version than the backup's, restore to the same one.",
            )
        warnings = catalog.rewordings(self._expected, found)
        if self._options.owners and self._options.privileges:
            warnings += catalog.rights_differences(self._expected, found)
        with translating("Committing the restore", connection):
            await connection.execute("COMMIT")
        self.finished = True
        with translating("Resetting the session", connection):
            await connection.execute(FRESH_SESSION)
        return RestoreTotals(warnings=tuple(warnings))

    async def _run(self, statement: Statement) -> None:
        connection = self._connection
        if statement.words[:1] == ("REFRESH",):
            await self._search("of the database")
        if statement.words[:2] not in _BUILDS:
            await connection.execute(statement.text)
            await self._search("nothing")
            return
        try:
            await connection.execute(f"SAVEPOINT msr_build; {statement.text}; RELEASE SAVEPOINT msr_build")
        except asyncpg.SyntaxOrAccessError as error:
            # it is parsed and run in one: a function in it may not have found something, before 17
            await connection.execute("ROLLBACK TO SAVEPOINT msr_build")
            await self._search("of the database")
            try:
                await connection.execute(statement.text)
            except asyncpg.PostgresError:
                raise error from None
            await self._search("nothing")

    async def _set_sequences(self) -> None:
        """setval is not transactional, but these sequences were made by this transaction: a rollback takes them away whole.

        That of an extension that stayed was not: RESTART gives it a new file, which a rollback takes away as well.
        """
        calls = []
        for state in json.loads(self._documents[SEQUENCES]):
            name = qualified(state["names"])
            if state.get("config"):
                calls.append(f"ALTER SEQUENCE {name} RESTART")
            is_called = "true" if state["is_called"] else "false"
            value = int(state["last_value"])
            calls.append(f"SELECT pg_catalog.setval({literal(name)}::pg_catalog.regclass, {value}, {is_called})")
        if calls:
            with translating("Setting the sequences", self._connection):
                await self._connection.execute("; ".join(calls))

    async def undo(self) -> None:
        """Back to what it was. A connection that is not trusted any more is closed, and the server rolls back by itself."""
        with anyio.move_on_after(_ROLLBACK_DEADLINE, shield=True) as scope:
            if self._poisoned:
                await close(self._connection, abruptly=True)
            elif not self._connection.is_closed():
                try:
                    await self._connection.execute("ROLLBACK")
                    await self._connection.execute(FRESH_SESSION)
                except DRIVER_ERRORS:
                    await close(self._connection, abruptly=True)
        if scope.cancelled_caught:
            await close(self._connection, abruptly=True)


class _Counter:
    """Hands chunks through and counts their bytes."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self.size = 0

    def __aiter__(self) -> _Counter:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self.size += len(chunk)
        return chunk


async def _once(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 100 else f"{line[:97]}..."
