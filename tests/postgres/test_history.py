"""The history's tables, the notes beside it, and the schema as objects with hashes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from msr_async.errors import DatabaseError
from msr_async.models import AppliedMigration
from msr_async.postgres import PostgresHandler
from msr_async.postgres.driver import Connection
from tests.support.scripted import PLAIN, VERSION, line, make_book
from tests.support.servers import Database, only_newest

pytestmark = only_newest


async def record(handler: PostgresHandler, entry: AppliedMigration, *, replacing: bool = False) -> None:
    async def work(connection: Connection) -> None:
        await handler.schema_version.record(connection, entry, replace=replacing)

    await handler.run(work, PLAIN)


async def keep(handler: PostgresHandler, key: str, value: object) -> None:
    await handler.run(lambda connection: handler.schema_version.keep_note(connection, key, value), PLAIN)


async def test_lines_come_back_as_they_were_written_versions_first(database: Database) -> None:
    entries = [
        line(None, "views"),
        replace(line(VERSION + 1, "odd \\ ' \" é\n"), baseline=True, fingerprint="f" * 64),
        line(VERSION),
        line(None, "Views"),
        line(99_999_999_999_999),
    ]
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await make_book(handler)
        for entry in entries:
            await record(handler, entry)
        found = await handler.schema_version.applied()
    assert list(found) == [entries[2], entries[1], entries[4], entries[3], entries[0]]


async def test_a_second_line_of_one_migration_is_refused_or_replaces_the_first(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await make_book(handler)
        await record(handler, line())
        with pytest.raises(DatabaseError, match="another run has applied it"):
            await record(handler, line(checksum="cd"))
        await record(handler, line(checksum="ef"), replacing=True)
        assert [entry.checksum for entry in await handler.schema_version.applied()] == ["ef"]


@pytest.mark.parametrize("value", [{"a": [1, None, "é\n\t\x01 \\ '"]}, "text", 0, [], False])
async def test_a_note_comes_back_as_it_was_kept_until_it_is_struck_out(database: Database, value: object) -> None:
    async with PostgresHandler(database.dsn) as handler:
        assert await handler.schema_version.note("k'ey") is None
        await make_book(handler)
        await keep(handler, "k'ey", 1)
        await keep(handler, "k'ey", value)
        assert await handler.schema_version.note("k'ey") == value
        await keep(handler, "k'ey", None)
        assert await handler.schema_version.note("k'ey") is None
    assert database.sql("SELECT count(*) FROM schema_version_notes") == "0"


async def test_a_table_of_somebody_else_is_not_taken_for_a_history(database: Database) -> None:
    database.sql("CREATE TABLE schema_version (installed_rank int)")
    async with PostgresHandler(database.dsn) as handler:
        with pytest.raises(DatabaseError, match="not a history of msr_async's"):
            await handler.schema_version.applied()


async def test_odd_names_of_the_history(database: Database) -> None:
    database.sql('CREATE SCHEMA "Odd \'Name"')
    names = {"version_schema": "Odd 'Name", "version_table": 'h"' + "x" * 60}
    async with PostgresHandler(database.dsn, **names) as handler:  # type: ignore[arg-type]
        await make_book(handler)
        await record(handler, line())
        await keep(handler, "a", 1)
        assert len(await handler.schema_version.applied()) == 1
        assert await handler.schema_version.note("a") == 1
        assert set(await _catalog(handler)) == {'schema "Odd \'Name"', "schema public", "extension plpgsql"}


async def _catalog(handler: PostgresHandler) -> dict[str, str]:
    found = await handler.catalog()
    assert found is not None
    return {name: digest for name, digest in found.items() if not name.startswith(("rights ", "comment "))}


async def test_the_schema_is_told_object_by_object_without_the_history(database: Database) -> None:
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW v AS SELECT id FROM t; CREATE INDEX i ON t (id)")
    async with PostgresHandler(database.dsn) as handler:
        before = await _catalog(handler)
        await make_book(handler)
        await record(handler, line())
        assert await _catalog(handler) == before
        assert not any("schema_version" in name for name in before)
        database.sql("CREATE OR REPLACE VIEW v AS SELECT id FROM t WHERE id > 1; INSERT INTO t VALUES (1)")
        after = await _catalog(handler)
    assert {name for name in before if after[name] != before[name]} == {"view public.v"}
    assert {"relation public.t", "column public.t.id", "index public.i", "constraint public.t.t_pkey"} <= set(before)
    assert all(len(digest) == 16 for digest in before.values())
