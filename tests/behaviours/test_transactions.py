"""Behaviours 28 to 34 and 38: what one transaction holds, what is tried again, and what stops a run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import pytest

from msr_async import Config, ConnectionLost, MigrationFailed, MigrationScriptExecutor, ValidationFailed
from msr_async.events import MigrationRetried, MigrationStarted, Noticed, Warned
from msr_async.postgres import PostgresHandler
from tests.behaviours.setting import FAIL, Setting

postgres_only = pytest.mark.parametrize("world", ["pg18"], indirect=True)


def executor(setting: Setting, strategy: str = "none", mode: str = "manual", **settings: Any) -> Any:
    """One whose `settings` are those of transactions."""
    made = setting.executor(strategy, mode)
    for name, value in settings.items():
        setattr(made.config.transaction, name, value)
    return made


def sql(setting: Setting, number: int, text: str, *, down: str | None = None) -> Path:
    setting.migrations.mkdir(parents=True, exist_ok=True)
    path = setting.migrations / f"V20260101{number:04}_step{number}.up.sql"
    path.write_text(text)
    if down is not None:
        path.with_name(path.name.replace(".up.", ".down.")).write_text(down)
    return path


async def query(setting: Setting, text: str) -> Any:
    connection = await asyncpg.connect(setting.world._dsn)  # type: ignore[attr-defined]
    try:
        return await connection.fetchval(text)
    finally:
        await connection.close()


async def tables(setting: Setting) -> set[str]:
    contents: Mapping[str, Any] = await setting.world.contents()
    return {name for name in contents if not name.startswith("schema_version") and not name.startswith("_")}


# -- 28: transaction modes -------------------------------------------------------------------------


def mixed(setting: Setting) -> None:
    """SQL, Python, and SQL that does something and then fails."""
    sql(setting, 1, "CREATE TABLE one (a int);")
    setting.add(2, "await db.execute('CREATE TABLE two (a int)')")
    sql(setting, 3, "CREATE TABLE three (a int);\nSELECT 1 / 0;")


@postgres_only
@pytest.mark.parametrize(
    ("mode", "left", "versions"),
    [
        ("per_migration", {"one", "two"}, [1, 2]),
        ("per_batch", set[str](), list[int]()),
        ("none", {"one", "two", "three"}, [1, 2]),
    ],
)
async def test_behaviour_28_a_mode_is_what_it_says_for_sql_and_python_mixed(
    setting: Setting, mode: str, left: set[str], versions: list[int]
) -> None:
    mixed(setting)
    with pytest.raises(MigrationFailed) as raised:
        await _migrate(setting, mode)
    assert raised.value.result.failed is not None
    assert raised.value.result.failed.name == "step3"
    assert await tables(setting) == left
    assert await setting.versions() == versions


async def _migrate(setting: Setting, mode: str) -> Any:
    made = setting.executor("none", "manual")
    made.config.transaction.mode = mode  # type: ignore[assignment]
    return await made.migrate()


@postgres_only
@pytest.mark.parametrize("mode", ["per_migration", "per_batch", "none"])
async def test_behaviour_28_python_is_told_the_truth_about_its_transaction(setting: Setting, mode: str) -> None:
    setting.add(1, f"assert db.is_in_transaction() is {mode != 'none'}")
    assert (await _migrate(setting, mode)).success


async def test_behaviour_28_one_transaction_for_all_on_every_database(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    setting.add(3, setting.put("three", "a", "1"), FAIL)
    with pytest.raises(MigrationFailed) as raised:
        await _migrate(setting, "per_batch")
    assert raised.value.result.executed == ()
    assert await setting.world.contents() == before


@postgres_only
@pytest.mark.parametrize("text", ["-- msr: no-transaction\nCREATE TABLE one (a int);", "VACUUM;"])
async def test_behaviour_28_a_batch_refuses_what_cannot_be_in_it(setting: Setting, text: str) -> None:
    sql(setting, 1, text)
    with pytest.raises(ValidationFailed) as raised:
        await _migrate(setting, "per_batch")
    assert [issue.code for issue in raised.value.issues] == ["no-transaction"]
    assert await tables(setting) == set()


# -- 29: a commit that fails -----------------------------------------------------------------------

DEFERRED = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
INSERT INTO child VALUES (7);
"""


@postgres_only
@pytest.mark.parametrize("language", ["sql", "py"])
async def test_behaviour_29_a_commit_that_fails_is_a_failure(setting: Setting, language: str) -> None:
    if language == "sql":
        sql(setting, 1, DEFERRED)
    else:
        setting.add(1, f"await db.execute({DEFERRED!r})")
    with pytest.raises(MigrationFailed, match="child") as raised:
        await executor(setting).migrate()
    assert raised.value.result.executed == ()
    assert await setting.versions() == []
    assert await tables(setting) == set()


# -- 30: the whole work again ----------------------------------------------------------------------


async def test_behaviour_30_a_conflict_repeats_the_whole_migration(setting: Setting) -> None:
    marks = setting.folder / "marks"
    error = f"{type(setting.world.transient_error()).__module__}:{type(setting.world.transient_error()).__name__}"
    setting.add(
        1,
        "import importlib, pathlib",
        f"marks = pathlib.Path({str(marks)!r})",
        "tries = len(marks.read_text()) if marks.exists() else 0",
        "marks.write_text('x' * (tries + 1))",
        setting.put("shop", "a", "1"),
        f"module, name = {error!r}.split(':')",
        "if tries < 2: raise getattr(importlib.import_module(module), name)('on purpose')",
    )
    result = await executor(setting, retry_delay=0.01).migrate()
    assert result.success
    assert len(marks.read_text()) == 3
    assert [event.attempt for event in setting.heard if isinstance(event, MigrationRetried)] == [1, 2]
    assert await setting.versions() == [1]


async def test_behaviour_30_in_the_end_it_is_a_failure(setting: Setting) -> None:
    error = type(setting.world.transient_error())
    setting.add(1, "import importlib", f"raise importlib.import_module({error.__module__!r}).{error.__name__}('again')")
    with pytest.raises(MigrationFailed, match="again"):
        await executor(setting, retry_delay=0.01, retries=2).migrate()
    assert [event.attempt for event in setting.heard if isinstance(event, MigrationRetried)] == [1, 2]


@postgres_only
async def test_behaviour_30_a_real_serialisation_failure_at_the_commit_is_overcome(setting: Setting) -> None:
    sql(
        setting,
        1,
        "CREATE TABLE doctors (name text, on_call bool);INSERT INTO doctors VALUES ('a', true), ('b', true);",
    )
    await executor(setting).migrate()
    meanwhile = setting.folder / "meanwhile"
    setting.add(
        2,
        "import asyncpg, pathlib",
        f"meanwhile = pathlib.Path({str(meanwhile)!r})",
        "free = await db.fetchval('SELECT count(*) FROM doctors WHERE on_call')",
        "if not meanwhile.exists():",
        "    meanwhile.touch()",
        f"    other = await asyncpg.connect({setting.world._dsn!r})",  # type: ignore[attr-defined]
        "    async with other.transaction(isolation='serializable'):",
        "        await other.fetchval('SELECT count(*) FROM doctors WHERE on_call')",
        "        await other.execute(\"UPDATE doctors SET on_call = false WHERE name = 'b'\")",
        "    await other.close()",
        "if free > 1: await db.execute(\"UPDATE doctors SET on_call = false WHERE name = 'a'\")",
    )
    result = await executor(setting, isolation="serializable", retry_delay=0.01).migrate()
    assert [migration.name for migration in result.executed] == ["step2"]
    assert len([event for event in setting.heard if isinstance(event, MigrationRetried)]) == 1
    assert await query(setting, "SELECT count(*) FROM doctors WHERE on_call") == 1


# -- 31: isolation ---------------------------------------------------------------------------------


@postgres_only
@pytest.mark.parametrize("mode", ["per_migration", "per_batch"])
@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
async def test_behaviour_31_the_level_asked_for_is_the_one_observed(setting: Setting, level: str, mode: str) -> None:
    sql(setting, 1, "CREATE TABLE seen AS SELECT current_setting('transaction_isolation') AS level;")
    setting.add(2, "await db.execute(\"INSERT INTO seen SELECT current_setting('transaction_isolation')\")")
    made = executor(setting, isolation=level)
    made.config.transaction.mode = mode
    await made.migrate()
    assert await query(setting, "SELECT array_agg(DISTINCT level) FROM seen") == [level]


@postgres_only
async def test_behaviour_31_a_script_asks_for_its_own(setting: Setting) -> None:
    sql(
        setting,
        1,
        "-- msr: isolation=serializable\n"
        "CREATE TABLE seen AS SELECT current_setting('transaction_isolation') AS level;",
    )
    await executor(setting).migrate()
    assert await query(setting, "SELECT level FROM seen") == "serializable"


# -- 32: dry runs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["per_migration", "per_batch", "none"])
async def test_behaviour_32_a_dry_run_leaves_no_trace(setting: Setting, mode: str) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"), down=[setting.drop("two")])
    setting.add(3, setting.drop("shop"), setting.put("three", "a", "1"))
    made = setting.executor()
    made.config.transaction.mode = mode  # type: ignore[assignment]
    result = await made.migrate(dry_run=True)
    assert result.dry_run
    assert [migration.name for migration in result.executed] == ["step2", "step3"]
    assert await setting.world.contents() == before
    assert setting.files() == []


@pytest.mark.parametrize("mode", ["per_migration", "per_batch", "none"])
async def test_behaviour_32_down_neither(setting: Setting, mode: str) -> None:
    before = await setting.fill()
    made = setting.executor()
    made.config.transaction.mode = mode  # type: ignore[assignment]
    result = await made.down(0, dry_run=True)
    assert [migration.name for migration in result.executed] == ["step1"]
    assert await setting.world.contents() == before


async def test_behaviour_32_on_a_fresh_database_not_even_the_book_is_made(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"))
    await setting.executor().migrate(dry_run=True)
    assert await setting.world.contents() == {}


async def test_behaviour_32_a_dry_run_finds_what_a_run_would_and_restores_nothing(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"), FAIL)
    with pytest.raises(MigrationFailed, match="dry run") as raised:
        await setting.executor().migrate(dry_run=True)
    assert raised.value.result.failed is not None
    assert (raised.value.result.failed.name, raised.value.result.dry_run) == ("step2", True)
    assert await setting.world.contents() == before


@postgres_only
async def test_behaviour_32_what_cannot_be_rolled_back_is_left_out_and_told(setting: Setting) -> None:
    sql(setting, 1, "CREATE TABLE one (a int);")
    await executor(setting).migrate()
    sql(setting, 2, "CREATE INDEX CONCURRENTLY one_a ON one (a);")
    sql(setting, 3, "CREATE TABLE three (a int);")
    result = await executor(setting).migrate(dry_run=True)
    assert [migration.name for migration in result.executed] == ["step3"]
    assert [migration.name for migration in result.skipped] == ["step2"]
    assert any("step2" in event.message for event in setting.heard if isinstance(event, Warned))
    assert await tables(setting) == {"one"}


# -- 33: outside of a transaction ------------------------------------------------------------------


@postgres_only
@pytest.mark.parametrize(
    "text",
    [
        "-- msr: no-transaction\nCREATE TABLE two (a int);\nVACUUM one;",
        "CREATE INDEX CONCURRENTLY one_a ON one (a);",
        "VACUUM (ANALYZE) one;",
        "ALTER SYSTEM RESET work_mem;",
        "/* quiet */ REINDEX TABLE CONCURRENTLY one;",
    ],
)
async def test_behaviour_33_what_cannot_run_in_a_transaction_runs_outside_of_one(setting: Setting, text: str) -> None:
    sql(setting, 1, "CREATE TABLE one (a int);")
    sql(setting, 2, text)
    await executor(setting).migrate()
    assert await setting.versions() == [1, 2]


@postgres_only
async def test_behaviour_33_an_invalid_index_of_a_failed_attempt_is_removed_before_the_retry(setting: Setting) -> None:
    sql(setting, 1, "CREATE TABLE one (a int);INSERT INTO one VALUES (1), (1);")
    sql(setting, 2, "CREATE UNIQUE INDEX CONCURRENTLY one_a ON one (a);")
    with pytest.raises(MigrationFailed, match="one_a"):
        await executor(setting).migrate()
    await query(setting, "DELETE FROM one WHERE ctid = '(0,1)'")
    await executor(setting).migrate()
    assert await query(setting, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'one_a'::regclass") is True


@postgres_only
async def test_behaviour_33_an_invalid_index_that_a_killed_attempt_left_is_removed_too(setting: Setting) -> None:
    sql(setting, 1, "CREATE TABLE one (a int);INSERT INTO one VALUES (1), (1);")
    sql(setting, 2, "CREATE UNIQUE INDEX CONCURRENTLY one_a ON one (a);")
    await executor(setting).migrate(202601010001)
    with pytest.raises(asyncpg.UniqueViolationError):  # by hand, as a killed backend would leave it
        await query(setting, "CREATE UNIQUE INDEX CONCURRENTLY one_a ON one (a)")
    await query(setting, "DELETE FROM one WHERE ctid = '(0,1)'")
    await executor(setting).migrate()
    assert await query(setting, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'one_a'::regclass") is True


@postgres_only
async def test_behaviour_33_python_says_it_with_an_attribute(setting: Setting) -> None:
    setting.migrations.mkdir()
    (setting.migrations / "V202601010001_plain.py").write_text(
        "no_transaction = True\n\n\nasync def up(db, ctx):\n    assert not db.is_in_transaction()\n"
    )
    await executor(setting).migrate()
    assert await setting.versions() == [1]


# -- 34: waiting for locks -------------------------------------------------------------------------


@postgres_only
async def test_behaviour_34_a_waiting_alter_gives_way_and_comes_back(setting: Setting) -> None:
    sql(setting, 1, "CREATE TABLE busy (a int);")
    await executor(setting).migrate()
    sql(setting, 2, "ALTER TABLE busy ADD b int;")
    application = await asyncpg.connect(setting.world._dsn)  # type: ignore[attr-defined]
    reader = await asyncpg.connect(setting.world._dsn)  # type: ignore[attr-defined]
    try:
        holding = application.transaction()
        await holding.start()
        await application.execute("LOCK TABLE busy IN ACCESS SHARE MODE")
        async with anyio.create_task_group() as group:

            async def let_go() -> None:
                await anyio.sleep(0.8)
                # the ALTER has waited and given way: a reader that came behind it gets through meanwhile
                await asyncio.wait_for(reader.fetch("SELECT * FROM busy"), 3)
                await holding.rollback()

            group.start_soon(let_go)
            result = await executor(setting, lock_timeout=0.2, retry_delay=0.1).migrate()
        assert result.success
        retried = [event for event in setting.heard if isinstance(event, MigrationRetried)]
        assert len(retried) >= 1
        assert re.search("lock", str(retried[0].error))
    finally:
        await application.close()
        await reader.close()


@postgres_only
async def test_behaviour_34_the_default_is_five_seconds_and_a_script_may_say_otherwise(setting: Setting) -> None:
    sql(setting, 1, "CREATE TABLE seen AS SELECT current_setting('lock_timeout') AS value;")
    sql(setting, 2, "-- msr: lock-timeout=250ms\nINSERT INTO seen SELECT current_setting('lock_timeout');")
    setting.add(3, "await db.execute(\"INSERT INTO seen SELECT current_setting('lock_timeout')\")")
    await executor(setting).migrate()
    assert await query(setting, "SELECT array_agg(value ORDER BY ctid) FROM seen") == ["5s", "250ms", "5s"]


# -- 38: a lock that was lost ----------------------------------------------------------------------


@postgres_only
@pytest.mark.parametrize("language", ["sql", "py"])
async def test_behaviour_38_a_lost_lock_stops_the_run_before_the_next_migration(
    setting: Setting, language: str
) -> None:
    free = "SELECT pg_advisory_unlock_all();"
    if language == "sql":
        sql(setting, 1, f"CREATE TABLE one (a int);\n{free}")
    else:
        setting.add(1, "await db.execute('CREATE TABLE one (a int)')", f"await db.execute({free!r})")
    sql(setting, 2, "CREATE TABLE two (a int);")
    with pytest.raises(MigrationFailed, match="lock") as raised:
        await executor(setting).migrate()
    assert isinstance(raised.value.error, ConnectionLost)
    assert [event.migration.name for event in setting.heard if isinstance(event, MigrationStarted)][:1] == ["step1"]
    assert await tables(setting) == {"one"}
    assert await setting.versions() == [1]


async def test_behaviour_38_nothing_is_restored_over_another_run(setting: Setting) -> None:
    """Another run got in while ours had lost its lock: its work must not be thrown away by our recovery."""
    await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    setting.add(3, "await ctx.handler.rival()", FAIL)
    real = setting.world.handler

    class WithRival:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        async def rival(self) -> None:
            # as a run elsewhere does it, whose folder holds another migration; the lock is taken to be lost
            folder = setting.folder / "elsewhere"
            folder.mkdir()
            for path in setting.migrations.glob("*step[12].py"):
                (folder / path.name).write_text(path.read_text())
            theirs = setting.put("theirs", "a", "1")
            (folder / "V202601010009_theirs.py").write_text(f"async def up(db, ctx):\n    {theirs}\n")
            config = Config(folder=folder, rollback_strategy="none", backup_mode="manual")  # type: ignore[arg-type]
            async with setting.world.another() as other:

                class Unlocked:
                    lock = None

                    def __getattr__(self, name: str) -> Any:
                        return getattr(other, name)

                await MigrationScriptExecutor(Unlocked(), config).migrate()

    with pytest.raises(MigrationFailed) as raised:
        await setting.executor(handler=WithRival()).migrate()
    assert not raised.value.result.restored
    assert "V202601010009_theirs" in str(raised.value)
    assert "theirs" in await setting.world.contents()


# -- what the server says --------------------------------------------------------------------------


@postgres_only
async def test_notices_become_events(setting: Setting) -> None:
    sql(setting, 1, "DO $$ BEGIN RAISE NOTICE 'half way'; RAISE WARNING 'careful'; END $$;")
    await executor(setting).migrate()
    told = [(event.severity, event.message) for event in setting.heard if isinstance(event, Noticed)]
    assert told == [("NOTICE", "half way"), ("WARNING", "careful")]


# -- 27: plan and status of somebody who may only read -----------------------------------------------


@postgres_only
async def test_behaviour_27_plan_and_status_need_no_right_to_write(setting: Setting) -> None:
    sql(setting, 1, "CREATE TABLE one (a int);")
    await executor(setting).migrate()
    sql(setting, 2, "ALTER TABLE one ADD b int;")
    role = f"reader_{setting.folder.name[-6:]}".lower()
    await query(setting, f"CREATE ROLE {role} LOGIN")
    try:
        for right in (f"REVOKE ALL ON SCHEMA public FROM {role}", f"GRANT USAGE ON SCHEMA public TO {role}",
                      f"GRANT SELECT ON schema_version, schema_version_notes TO {role}"):  # fmt: skip
            await query(setting, right)
        dsn = setting.world._dsn.replace("postgres@", f"{role}@")  # type: ignore[attr-defined]
        async with PostgresHandler(dsn) as handler:
            reader = setting.executor("none", "manual", handler=handler)
            for plan in (await reader.status(), await reader.plan(), await reader.validate()):
                assert [migration.name for migration in plan.pending] == ["step2"]
                assert plan.issues == ()
            with pytest.raises(MigrationFailed, match="may not write"):
                await reader.migrate()
    finally:
        await query(setting, f"DROP OWNED BY {role}")
        await query(setting, f"DROP ROLE {role}")
    assert await setting.versions() == [1]
