"""A database whose own pg_dump does not give back the same words, order or rights is restored all the same.

Each case is a way in which a correct restore was refused once, or came out different without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msr_async.errors import BackupFailed, MigrationFailed, RestoreFailed
from msr_async.executor import MigrationScriptExecutor
from msr_async.postgres import PostgresHandler, catalog, schema, tables
from tests.postgres.test_catalog import read
from tests.postgres.test_round_trip import config_for, write
from tests.support.servers import Database, only_newest
from tests.support.torture import dump_lines

# The server folds a list's casts into its elements when it reads its own words again.
REWORDED = {
    "check": "CREATE TABLE t (kind varchar(10) CHECK (kind IN ('a', 'b (c)', 'd::e')), n numeric CHECK (n = ANY (ARRAY[1, 2])))",
    "domain": "CREATE DOMAIN size AS varchar CHECK (VALUE IN ('s', 'm', 'l')) DEFAULT CASE WHEN 's'::varchar IN ('s', 'm') THEN 's' END;"
    "CREATE TABLE t (s size)",
    "default": "CREATE TABLE t (v varchar, ok boolean DEFAULT ('a'::varchar IN ('a', 'b')),"
    "  g boolean GENERATED ALWAYS AS (v IN ('a', 'b')) STORED)",
    "views": "CREATE TABLE t (v varchar, w char(3)); CREATE VIEW one AS SELECT v IN ('a', 'b') AS ok FROM t;"
    "CREATE MATERIALIZED VIEW two AS SELECT count(*) FROM t WHERE w NOT IN ('a', 'b')",
    "index": "CREATE TABLE t (v varchar); CREATE INDEX ON t (v) WHERE v IN ('a', 'b'); CREATE INDEX ON t ((v IN ('a', 'b')))",
    "rule": "CREATE TABLE t (v varchar); CREATE RULE r AS ON DELETE TO t WHERE old.v IN ('a', 'b') DO INSTEAD NOTHING",
    "trigger": "CREATE TABLE t (v varchar); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
    "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW WHEN (new.v IN ('a', 'b')) EXECUTE FUNCTION f()",
    "policy": "CREATE TABLE t (v varchar); CREATE POLICY p ON t USING (v IN ('a', 'b')) WITH CHECK (v IN ('a', 'b'))",
    "function": "CREATE TABLE t (v varchar); CREATE FUNCTION f(a boolean DEFAULT 'a'::varchar IN ('a', 'b')) RETURNS bigint"
    " BEGIN ATOMIC SELECT count(*) FROM t WHERE v IN ('a', 'b'); END",
    "statistics": "CREATE TABLE t (v varchar, n int); CREATE STATISTICS st ON (v IN ('a', 'b')), n FROM t",
    "partitions": "CREATE TABLE t (v varchar) PARTITION BY LIST ((v IN ('a', 'b'))); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (true)",
}

MOVED = {
    "a parent's late column": "CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent);"
    "ALTER TABLE parent ADD COLUMN c int; INSERT INTO child VALUES (1, 2, 3)",
    "two parents": "CREATE TABLE p1 (a int); CREATE TABLE p2 (b int); CREATE TABLE child (c int);"
    "ALTER TABLE child ADD COLUMN b int; ALTER TABLE child INHERIT p2; ALTER TABLE p1 ADD COLUMN z int;"
    "ALTER TABLE child ADD COLUMN a int, ADD COLUMN z int; ALTER TABLE child INHERIT p1; INSERT INTO child VALUES (1, 2, 3, 4)",
    "a published column after a dropped one": "CREATE TABLE t (x int, id int PRIMARY KEY, v int); ALTER TABLE t DROP COLUMN x;"
    "CREATE PUBLICATION p FOR TABLE t (id, v)",
    "a published schema": "CREATE SCHEMA s; CREATE TABLE s.t (id int); CREATE PUBLICATION p FOR TABLES IN SCHEMA s",
    "an aggregate of no arguments": "CREATE AGGREGATE nothing(*) (sfunc = int8inc, stype = bigint, initcond = '0')",
    "an ordered-set aggregate": "CREATE AGGREGATE odd(float8 ORDER BY anyelement) "
    "(sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra)",
    "public made anew": "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE t (id int)",
    "public made anew, with a comment": "DROP SCHEMA public CASCADE; CREATE SCHEMA public; COMMENT ON SCHEMA public IS 'ours'",
    "public without its comment": "COMMENT ON SCHEMA public IS NULL",
    "a comment on an inherited constraint": "CREATE TABLE parent (a int, CONSTRAINT positive CHECK (a > 0));"
    "CREATE TABLE child () INHERITS (parent); COMMENT ON CONSTRAINT positive ON child IS 'inherited'",
    "a comment on a partition's trigger": "CREATE TABLE t (a int) PARTITION BY LIST (a); CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);"
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';"
    "CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f(); COMMENT ON TRIGGER g ON t1 IS 'a copy'",
    "a comment on a partition's foreign key": "CREATE TABLE k (a int PRIMARY KEY); CREATE TABLE t (a int REFERENCES k) PARTITION BY LIST (a);"
    "CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1); COMMENT ON CONSTRAINT t_a_fkey ON t1 IS 'a copy'",
    "words of rights in a body": "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'OWNER TO \"nobody here\"'; $$;"
    "COMMENT ON FUNCTION f() IS 'GRANT SELECT ON t TO \"nobody else\"'",
    "a comment that ends in an owner": "CREATE TABLE t (id int); ALTER TABLE t ADD CHECK (id::text <> 'OWNER TO x');"
    "COMMENT ON TABLE t IS 'ALTER TABLE x OWNER TO nobody'",
    "an event trigger and a view to fill": "CREATE TABLE t (id int); CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM t;"
    "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no DDL, %', tg_tag; END $$;"
    "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION no(); COMMENT ON EVENT TRIGGER et IS 'strict'",
}


@only_newest
@pytest.mark.parametrize("sql", {**REWORDED, **MOVED}.values(), ids={**REWORDED, **MOVED}.keys())
async def test_it_comes_back_without_a_word_as_often_as_one_likes(database: Database, tmp_path: Path, sql: str) -> None:
    database.sql(sql)
    before = await read(database)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        for _ in range(2):  # what came back is a database like another
            backup = await executor.create_backup()
            restored = await executor.restore_from_backup(backup)
            assert restored.warnings == ()
    after = await read(database)
    assert after.fingerprint == before.fingerprint
    assert catalog.rights_differences(before, after) == []


async def round_trip(database: Database, tmp_path: Path, *, meanwhile: str) -> None:
    """Back up, change something, restore: the database is what it was, and nobody is warned of anything."""
    before, lines = await read(database), dump_lines(database.server, database.dsn)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        database.sql(meanwhile)
        assert (await executor.restore_from_backup(backup)).warnings == ()
    assert dump_lines(database.server, database.dsn) == lines
    assert catalog.rights_differences(before, await read(database)) == []


@only_newest
@pytest.mark.parametrize(
    "meanwhile",
    [
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public",
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; COMMENT ON SCHEMA public IS 'theirs'",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC",
        "COMMENT ON SCHEMA public IS NULL",
        "DROP SCHEMA public CASCADE",
    ],
)
async def test_initdbs_schema_public_comes_back_whatever_was_done_to_it(
    database: Database, tmp_path: Path, meanwhile: str
) -> None:
    database.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    await round_trip(database, tmp_path, meanwhile=meanwhile)


async def test_an_extension_goes_back_to_its_schema(postgres_full: Database, tmp_path: Path) -> None:
    postgres_full.sql("CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE TABLE t (h ext.hstore)")
    await round_trip(postgres_full, tmp_path, meanwhile="ALTER EXTENSION hstore SET SCHEMA public")


async def test_a_users_tables_in_an_extensions_schema_go_and_come(postgres_full: Database, tmp_path: Path) -> None:
    database = postgres_full
    folder = Path(database.sql("SELECT setting FROM pg_config() WHERE name = 'SHAREDIR'")) / "extension"
    control, script = folder / "msr_schema_test.control", folder / "msr_schema_test--1.0.sql"
    try:
        control.write_text("default_version = '1.0'\nschema = msr_own\n")
        script.write_text("CREATE TABLE built_in (id int);")
        control.chmod(0o644)
        script.chmod(0o644)
        database.sql(
            "CREATE EXTENSION msr_schema_test; CREATE TABLE msr_own.mine (id int); INSERT INTO msr_own.mine VALUES (1)"
        )
        await round_trip(database, tmp_path, meanwhile="CREATE TABLE msr_own.added (id int); DELETE FROM msr_own.mine")
        assert database.sql("SELECT id FROM msr_own.mine") == "1"
    finally:
        control.unlink(missing_ok=True)
        script.unlink(missing_ok=True)


@only_newest
async def test_a_role_that_takes_null_for_a_word_loses_none(database: Database, tmp_path: Path) -> None:
    role = f"{database.name}_words"
    database.sql(
        f"CREATE ROLE {role} LOGIN SUPERUSER; ALTER ROLE {role} SET array_nulls = off; CREATE TABLE t (a text[]);"
        "INSERT INTO t VALUES (ARRAY[NULL, 'x'])"
    )
    dsn = database.dsn.replace("//postgres@", f"//{role}@")
    assert dsn != database.dsn
    try:
        async with PostgresHandler(dsn) as handler:
            executor = MigrationScriptExecutor(handler, config_for(tmp_path))
            await executor.restore_from_backup(await executor.create_backup())
        assert database.sql("SELECT a[1] IS NULL FROM t") == "t"
    finally:
        database.sql(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")


@only_newest
async def test_roles_of_policies_are_looked_for_before_anything_is_touched(database: Database, tmp_path: Path) -> None:
    role = f"{database.name}_policy"
    database.sql(f"CREATE ROLE {role}; CREATE TABLE t (id int); CREATE POLICY p ON t TO {role} USING (true)")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        backup = await executor.create_backup()
        database.sql(f"DROP POLICY p ON t; DROP ROLE {role}")
        with pytest.raises(RestoreFailed, match=role) as caught:
            await executor.restore_from_backup(backup, owners=False, privileges=False)
    assert "policies" in caught.value.hint


@only_newest
@pytest.mark.parametrize("sliced", [False, True], ids=["small", "big"])
async def test_rows_are_read_where_an_index_calls_a_function_that_needs_a_search_path(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sliced: bool
) -> None:
    """The planner puts the body of a SQL function into the query, and finds no `helper` under an empty search_path."""
    database.sql(
        "CREATE FUNCTION helper(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';"
        "CREATE FUNCTION outer_(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';"
        "CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 5000)"
    )
    database.sql(
        "CREATE INDEX ON t (outer_(n)); CREATE STATISTICS st ON (outer_(n)), n FROM t;"
        "CREATE OR REPLACE FUNCTION outer_(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT helper($1)'"
    )
    if sliced:
        monkeypatch.setattr(tables, "_MIN_SLICE", 8192)
    async with PostgresHandler(database.dsn) as handler:
        backup = await MigrationScriptExecutor(handler, config_for(tmp_path)).create_backup()
    assert backup.rows == 5000


@only_newest
@pytest.mark.parametrize(
    "meanwhile",
    ["CREATE OR REPLACE VIEW v AS SELECT 1 AS one, 2 AS two", "DROP FUNCTION f()", "ALTER FUNCTION f() RENAME TO g"],
)
async def test_a_definition_that_is_replaced_while_it_is_read_is_never_kept(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    """pg_get_viewdef says what a view is now, and not what it was at the snapshot."""
    database.sql("CREATE VIEW v AS SELECT 1 AS one; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    original = schema.dump

    async def late(*arguments: Any, **options: Any) -> dict[str, bytes]:
        database.sql(meanwhile)
        return await original(*arguments, **options)

    monkeypatch.setattr(schema, "dump", late)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        with pytest.raises(BackupFailed, match=r"(replaced or dropped|pg_dump)"):
            await executor.create_backup()
        monkeypatch.setattr(schema, "dump", original)
        backup = await executor.create_backup()
        assert (await executor.restore_from_backup(backup)).warnings == ()


@only_newest
async def test_a_failed_migration_is_put_back_and_nobody_is_told_of_a_drift(database: Database, tmp_path: Path) -> None:
    """The list of a CHECK comes back with its casts elsewhere: neither the restore nor the next run may mind."""
    write(tmp_path, "V202601010001_shop.up.sql", "CREATE TABLE t (kind varchar(9) CHECK (kind IN ('a', 'b')));")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        await executor.migrate()
        said = database.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 't_kind_check'")
        write(tmp_path, "V202601010002_bad.up.sql", "-- msr: no-transaction\nDROP TABLE t;\nSELECT 1/0;")
        with pytest.raises(MigrationFailed) as caught:
            await executor.migrate()
        assert caught.value.result.restored
        drift = await executor.drift()
        assert drift is not None
        assert not drift
    after = database.sql("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 't_kind_check'")
    assert after != said  # what the server says is another text, or this would show nothing
