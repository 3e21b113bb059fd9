"""The main promise: what was backed up comes back exactly, into an empty database and after a failed migration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from msr_async.config import Config
from msr_async.errors import MigrationFailed, RestoreFailed
from msr_async.executor import MigrationScriptExecutor
from msr_async.postgres import PostgresHandler
from tests.support.servers import Database, Servers, fresh_database
from tests.support.torture import dump_lines, load_torture, same_database

DESTROYS = """
-- one of everything that a data-only restore cannot undo
ALTER TABLE shop.orders DROP COLUMN note;
ALTER TABLE shop.customers RENAME COLUMN name TO full_name;
ALTER TABLE a ALTER COLUMN b_id TYPE bigint;
DROP TABLE tree CASCADE;
DROP MATERIALIZED VIEW shop.mv CASCADE;
DROP TYPE "Weird Schema"."Mixed Type" CASCADE;
DELETE FROM shop.docs;
TRUNCATE alltypes;
ALTER TYPE shop.status ADD VALUE 'lost';
ALTER TYPE shop.status RENAME VALUE 'paid' TO 'payed';
CREATE TYPE brand_new AS ENUM ('a');
CREATE TABLE brand_new_table (id serial PRIMARY KEY, kind brand_new, ref int REFERENCES a);
CREATE SCHEMA brand_new_schema;
CREATE TABLE brand_new_schema.t (id int);
SELECT nextval('standalone'), nextval('untouched');
ALTER SEQUENCE standalone INCREMENT 3;
SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata;
SELECT lo_from_bytea(0, 'another');
ALTER TABLE rls_t DISABLE ROW LEVEL SECURITY;
REVOKE ALL ON rls_t FROM torture_app;
COMMENT ON TABLE shop.orders IS 'changed';
CREATE FUNCTION brand_new_function() RETURNS int LANGUAGE sql AS 'SELECT 1';
"""


def config_for(folder: Path) -> Config:
    config = Config(folder=folder / "migrations")
    config.backup.folder = folder / "backups"
    return config


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "migrations" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


async def test_torture_database_comes_back_into_an_empty_database(
    make_database: Callable[[], Database], tmp_path: Path
) -> None:
    source, target = make_database(), make_database()
    load_torture(source.server, source.dsn)
    config = config_for(tmp_path)
    async with PostgresHandler(source.dsn) as handler:
        backup = await MigrationScriptExecutor(handler, config).create_backup()
    assert backup.complete
    async with PostgresHandler(target.dsn) as handler:
        restored = await MigrationScriptExecutor(handler, config).restore_from_backup(backup)
    assert restored.warnings == ()
    assert restored.rows == backup.rows
    assert same_database(source.server, source.dsn, target.dsn) == ""


async def test_torture_database_comes_back_after_a_failed_migration_that_destroyed_it(
    make_database: Callable[[], Database], tmp_path: Path
) -> None:
    database, reference = make_database(), make_database()
    load_torture(database.server, database.dsn)
    before = dump_lines(database.server, database.dsn)
    write(tmp_path, "V202601010001_good.up.sql", "CREATE TABLE first_good (id int); INSERT INTO first_good VALUES (1);")
    write(tmp_path, "V202601010002_destroys.up.sql", DESTROYS)
    write(tmp_path, "V202601010003_fails.up.sql", "INSERT INTO first_good VALUES (2);\nSELECT 1/0;")
    config = config_for(tmp_path)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config)
        with pytest.raises(MigrationFailed) as caught:
            await executor.migrate()
        assert caught.value.result.restored
        assert [migration.name for migration in caught.value.result.executed] == ["good", "destroys"]
        assert "V202601010003_fails.up.sql:2:" in str(caught.value.error)
        assert await handler.schema_version.applied() == ()
    assert dump_lines(database.server, database.dsn) == before
    assert same_database(reference.server, reference.dsn, database.dsn) != "", "the comparer must see a difference"


async def test_restoring_twice_over_itself_changes_nothing(database: Database, tmp_path: Path) -> None:
    load_torture(database.server, database.dsn)
    before = dump_lines(database.server, database.dsn)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        await executor.restore_from_backup(backup)
        await executor.restore_from_backup()
    assert dump_lines(database.server, database.dsn) == before


async def test_a_backup_of_16_restores_into_18(servers: Servers, tmp_path: Path) -> None:
    old, new = servers.get(16), servers.get(18)
    with fresh_database(old) as source, fresh_database(new) as roles, fresh_database(new) as target:
        load_torture(old, source.dsn)
        load_torture(new, roles.dsn)  # only for the roles that it makes
        config = config_for(tmp_path)
        async with PostgresHandler(source.dsn) as handler:
            backup = await MigrationScriptExecutor(handler, config).create_backup()
        async with PostgresHandler(target.dsn) as handler:
            await MigrationScriptExecutor(handler, config).restore_from_backup(backup)

        def rows(database: Database) -> list[str]:
            lines = new.run("pg_dump", "--no-sync", "--data-only", "-d", database.dsn).split("\n")
            return sorted(line for line in lines if not line.startswith(("\\", "--")))

        assert rows(target) == rows(source)


async def test_a_backup_of_18_is_refused_by_16_with_the_reason(servers: Servers, tmp_path: Path) -> None:
    old, new = servers.get(16), servers.get(18)
    with fresh_database(old) as roles, fresh_database(old) as target, fresh_database(new) as source:
        load_torture(old, roles.dsn)
        load_torture(new, source.dsn)
        config = config_for(tmp_path)
        async with PostgresHandler(source.dsn) as handler:
            backup = await MigrationScriptExecutor(handler, config).create_backup()
        async with PostgresHandler(target.dsn) as handler:
            with pytest.raises(RestoreFailed, match="restore it to that version or a newer one, not to 16"):
                await MigrationScriptExecutor(handler, config).restore_from_backup(backup)
        assert target.sql("SELECT count(*) FROM pg_class WHERE oid >= 16384") == "0"
