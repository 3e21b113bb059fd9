"""A database whose own pg_dump does not give back the same words, order or rights is restored all the same.

Each case is a way in which a correct restore was refused once, or came out different without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from msr_async.errors import BackupFailed, MigrationFailed, RestoreFailed
from msr_async.executor import MigrationScriptExecutor
from msr_async.postgres import PostgresHandler, catalog, schema, tables
from tests.postgres.test_catalog import read
from tests.postgres.test_round_trip import config_for, write
from tests.support.servers import MAJORS, Database, only_newest
from tests.support.torture import DATA, dump_lines

ROLES = "".join(
    f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
    for role in ("msr_odd_a", "msr_odd_b", '"msr odd C"')
)


def odd_schemas() -> list[ParameterSet]:
    """Each with the oldest and the newest of our servers, where they know it."""
    found = []
    for block in (DATA / "odd_schemas.sql").read_text(encoding="utf-8").split("\n-- == ")[1:]:
        name, _, sql = block.partition("\n")
        for major in (min(MAJORS), max(MAJORS)):
            if ("(18)" in name and major < 18) or ("(<17)" in name and major >= 17):
                continue
            found.append(pytest.param(major, sql, "(reworded)" in name, id=f"{name} in {major}"))
    return found


@pytest.mark.parametrize(("postgres", "sql", "reworded"), odd_schemas(), indirect=["postgres"])
async def test_it_comes_back_without_a_word_as_often_as_one_likes(
    database: Database, tmp_path: Path, sql: str, reworded: bool
) -> None:
    database.sql(ROLES + sql)
    before, lines = await read(database), dump_lines(database.server, database.dsn)
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config_for(tmp_path))
        for _ in range(2):  # what came back is a database like another
            backup = await executor.create_backup()
            restored = await executor.restore_from_backup(backup)
            assert restored.warnings == ()
    after = await read(database)
    assert after.fingerprint == before.fingerprint
    assert catalog.rights_differences(before, after) == []
    # and a mark that is not true any more is found, too
    assert (dump_lines(database.server, database.dsn) != lines) == reworded


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
