"""The fingerprint sees every change of structure and nothing else; wiping and restoring undo every one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from msr_async.errors import RestoreFailed
from msr_async.executor import MigrationScriptExecutor
from msr_async.postgres import PostgresHandler, catalog
from tests.postgres.test_round_trip import config_for
from tests.support.servers import Database, only_newest
from tests.support.torture import dump_lines

BASE = """
CREATE SCHEMA s; CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE TABLE t (id int PRIMARY KEY, name text DEFAULT 'x', m mood); CREATE TABLE u (t int REFERENCES t, n posint);
CREATE INDEX t_name ON t (name); CREATE SEQUENCE q; CREATE VIEW v AS SELECT id FROM t;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tf(); COMMENT ON TABLE t IS 'c';
INSERT INTO t SELECT n, 'n' || n, 'a' FROM generate_series(1, 20) n; INSERT INTO u SELECT 1, 1; SELECT nextval('q');
DO $$ BEGIN CREATE ROLE msr_other; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
"""

CHANGES = [
    "ALTER TABLE t DROP COLUMN name",
    "ALTER TABLE t RENAME COLUMN name TO title",
    "ALTER TABLE t ADD COLUMN extra int NOT NULL DEFAULT 0",
    "ALTER TABLE t ALTER COLUMN name TYPE varchar(50)",
    "ALTER TABLE t ALTER COLUMN name SET NOT NULL",
    "ALTER TABLE t ALTER COLUMN name DROP DEFAULT",
    "ALTER TABLE t ALTER COLUMN name SET STORAGE EXTERNAL",
    "ALTER TABLE t ALTER COLUMN name SET STATISTICS 7",
    "ALTER TABLE t ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY",
    "DROP TABLE u",
    "ALTER TABLE t RENAME TO t2",
    "ALTER TABLE t SET SCHEMA s",
    "ALTER TABLE t ADD CHECK (id > 0)",
    "ALTER TABLE t ADD UNIQUE (name)",
    "ALTER TABLE u ADD FOREIGN KEY (n) REFERENCES t NOT VALID",
    "ALTER TABLE u DROP CONSTRAINT u_t_fkey",
    "ALTER TYPE mood ADD VALUE 'c'",
    "ALTER TYPE mood RENAME VALUE 'a' TO 'z'",
    "ALTER DOMAIN posint ADD CHECK (VALUE < 100)",
    "DROP INDEX t_name",
    "CREATE INDEX ON t (m)",
    "ALTER TABLE t CLUSTER ON t_name",
    "ALTER TABLE t REPLICA IDENTITY FULL",
    "ALTER TABLE t SET (fillfactor = 50)",
    "ALTER TABLE u SET UNLOGGED",
    "ALTER SEQUENCE q INCREMENT 5",
    "ALTER SEQUENCE q OWNED BY t.id",
    "CREATE OR REPLACE VIEW v AS SELECT id + 1 AS id FROM t",
    "CREATE MATERIALIZED VIEW mv AS SELECT 1 AS one",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "DROP TRIGGER g ON t",
    "ALTER TABLE t DISABLE TRIGGER g",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON t USING (id > 1)",
    "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING",
    "CREATE STATISTICS st ON id, name FROM t",
    "COMMENT ON TABLE t IS 'other'",
    "COMMENT ON COLUMN t.id IS 'new'",
    "CREATE SCHEMA s2",
    "CREATE TYPE addr AS (street text)",
    "CREATE PUBLICATION pub FOR TABLE t",
    "CREATE CAST (int AS mood) WITH INOUT",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
    "CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int)",
    "CREATE TEXT SEARCH CONFIGURATION tsc (COPY = simple)",
    "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION ef()",
    "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER srv FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR public SERVER srv",
    "CREATE COLLATION coll (locale = 'C')",
    "CREATE SCHEMA s3 CREATE TABLE t3 (id int) CREATE VIEW v3 AS SELECT id FROM t3",
    "DROP SCHEMA s",
]

RIGHTS = [
    "GRANT SELECT ON t TO msr_other",
    "GRANT SELECT (name) ON t TO msr_other",
    "ALTER TABLE t OWNER TO msr_other",
    "ALTER SCHEMA s OWNER TO msr_other",
    "GRANT CREATE ON SCHEMA public TO msr_other",
    "REVOKE USAGE ON SCHEMA public FROM public",
    "REVOKE EXECUTE ON FUNCTION f() FROM public",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO msr_other",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO msr_other",
    "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM public",
    "ALTER SCHEMA public OWNER TO msr_other",
]

ROWS = ["INSERT INTO t VALUES (99)", "DELETE FROM u", "TRUNCATE u", "VACUUM FULL t", "SELECT nextval('q')", "ANALYZE"]


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(database.dsn, server_settings={"search_path": ""})
    try:
        yield connection
    finally:
        await connection.close()


async def read(database: Database) -> catalog.Catalog:
    async with connected(database) as connection:
        return await catalog.read(connection)


def change(database: Database, sql: str) -> None:
    if "EVENT TRIGGER" in sql:
        database.sql("CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
    database.sql(sql)


@only_newest
async def test_every_change_of_structure_changes_the_fingerprint_and_is_undone_by_a_restore(
    database: Database, tmp_path: Path
) -> None:
    """One long test on purpose: the restore of one change is the start of the next, so a leftover of any is found."""
    database.sql(BASE)
    before, lines = await read(database), dump_lines(database.server, database.dsn)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        for sql in CHANGES:
            change(database, sql)
            changed = await read(database)
            assert changed.fingerprint != before.fingerprint, sql
            assert catalog.differences(before, changed) + catalog.rewordings(before, changed), sql
            restored = await executor.restore_from_backup(backup)
            assert restored.warnings == (), sql
            assert dump_lines(database.server, database.dsn) == lines, sql
    assert (await read(database)).fingerprint == before.fingerprint


@only_newest
async def test_every_change_of_rights_is_seen_apart_and_undone_by_a_restore(database: Database, tmp_path: Path) -> None:
    database.sql(BASE)
    before, lines = await read(database), dump_lines(database.server, database.dsn)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        for sql in RIGHTS:
            change(database, sql)
            changed = await read(database)
            assert changed.fingerprint == before.fingerprint, sql
            assert catalog.rights_differences(before, changed), sql
            restored = await executor.restore_from_backup(backup)
            assert restored.warnings == (), sql
            assert dump_lines(database.server, database.dsn) == lines, sql


@only_newest
@pytest.mark.parametrize("sql", ROWS)
async def test_rows_do_not_change_the_fingerprint(database: Database, sql: str) -> None:
    database.sql(BASE)
    before = await read(database)
    change(database, sql)
    assert (await read(database)).fingerprint == before.fingerprint


def test_a_catalogue_survives_its_document() -> None:
    one = catalog.Catalog(major=18, sections={"relation": {'"é"': "r"}, "rights": {"x": "y"}})
    assert catalog.Catalog.decode(one.encode()) == one
    assert catalog.Catalog(major=18, sections={"relation": {'"é"': "r"}}).fingerprint == one.fingerprint


def test_between_majors_names_are_compared_and_wording_is_not() -> None:
    old = catalog.Catalog(major=16, sections={"column": {"t.a": "integer"}, "function": {"f": "x"}})
    new = catalog.Catalog(major=18, sections={"column": {"t.a": "int4"}, "function": {"g": "x"}})
    assert catalog.differences(old, new) == []
    assert catalog.differences(old, catalog.Catalog(major=18, sections={"column": {}})) == ["column t.a is missing"]


async def test_extensions_stay_come_back_and_go(postgres_full: Database, tmp_path: Path) -> None:
    """hstore lives in a schema of its own and stays; pgcrypto is dropped and citext added by what is undone."""
    database = postgres_full
    database.sql(
        'CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION pgcrypto; CREATE SCHEMA "odd ext";'
        'CREATE EXTENSION citext SCHEMA "odd ext";'
        "CREATE TABLE t (h ext.hstore, c \"odd ext\".citext); INSERT INTO t VALUES ('a=>1', 'Ab')"
    )
    lines = dump_lines(database.server, database.dsn)
    oid = database.sql("SELECT oid FROM pg_extension WHERE extname = 'hstore'")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        database.sql(
            "DROP EXTENSION pgcrypto; CREATE SCHEMA more; CREATE EXTENSION btree_gist SCHEMA more; CREATE TABLE ext.added (id int)"
        )
        restored = await executor.restore_from_backup(backup)
    assert restored.warnings == ()
    assert dump_lines(database.server, database.dsn) == lines
    assert database.sql("SELECT oid FROM pg_extension WHERE extname = 'hstore'") == oid


async def test_an_extensions_configuration_rows_are_carried(
    postgres_full: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extension marks tables whose rows are the user's; here one of the test's own, put beside the server's."""
    database = postgres_full
    folder = Path(database.sql("SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'")) / "extension"
    name = "msr_config_test"
    sql = (
        "CREATE TABLE settings (key text PRIMARY KEY, value text, ours boolean);"
        "INSERT INTO settings VALUES ('built in', '1', true);"
        "SELECT pg_extension_config_dump('settings', 'WHERE NOT ours');"
        "CREATE SEQUENCE numbers; SELECT pg_extension_config_dump('numbers', '');"
    )
    control, script = folder / f"{name}.control", folder / f"{name}--1.0.sql"
    try:
        control.write_text("default_version = '1.0'\nrelocatable = true\n")
        script.write_text(sql)
        control.chmod(0o644)
        script.chmod(0o644)
        database.sql(
            f"CREATE EXTENSION {name}; INSERT INTO settings VALUES ('mine', '2', false), ('more', E'tab\\t', false);"
            "SELECT setval('numbers', 41)"
        )
        lines = dump_lines(database.server, database.dsn)
        async with PostgresHandler(database.dsn) as handler:
            executor = MigrationScriptExecutor(handler, config_for(tmp_path))
            backup = await executor.create_backup()
            database.sql(
                "DELETE FROM settings WHERE key = 'mine'; UPDATE settings SET value = 'x' WHERE NOT ours;"
                "SELECT setval('numbers', 99)"
            )
            with monkeypatch.context() as patched, pytest.raises(RestoreFailed):
                patched.setattr(catalog, "differences", lambda expected, found: ["so that it is rolled back"])
                await executor.restore_from_backup(backup)
            assert database.sql("SELECT last_value FROM numbers") == "99"
            await executor.restore_from_backup(backup)
        assert dump_lines(database.server, database.dsn) == lines
        assert database.sql("SELECT key FROM settings ORDER BY 1") == "built in\nmine\nmore"
        assert database.sql("SELECT nextval('numbers')") == "42"
    finally:
        control.unlink(missing_ok=True)
        script.unlink(missing_ok=True)


def test_words_are_a_warning_and_facts_a_difference() -> None:
    one = catalog.Catalog(major=18, sections={"index": {"i": ""}, "index definition": {"i": "a"}, "view": {"v": "a"}})
    two = catalog.Catalog(
        major=18, sections={"index": {"i": "clustered"}, "index definition": {"i": "b"}, "comment": {"table t": "c"}}
    )
    assert catalog.differences(one, two) == ["index i is 'clustered', not ''", "view v is missing"]
    assert catalog.rewordings(one, two) == [
        "index definition i is 'b', not 'a'",
        "comment table t is not in the backup",
    ]


def test_catalogues_of_other_wording_are_compared_by_name() -> None:
    old = catalog.Catalog.decode(
        b'{"major": 18, "sections": {"column": {"t.a": "1 integer"}, "constraint": {"t.c": "x"}}}'
    )
    new = catalog.Catalog(major=18, sections={"column": {"t.a": "integer"}, "constraint": {"t.c": "c"}, "default": {}})
    assert catalog.differences(old, new) == catalog.rewordings(old, new) == catalog.rights_differences(old, new) == []
    assert catalog.differences(old, catalog.Catalog(major=18, sections={"column": {"t.a": "integer"}})) == [
        "constraint t.c is missing"
    ]
