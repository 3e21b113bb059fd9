"""The commands of the migration engine on a real database; what each flag changes is in `test_flags_at_work`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.support.servers import Database, only_newest

pytestmark = only_newest

FIRST, SECOND = 202601010900, 202601020900


class World:
    """A database and a folder with two migrations, a repeatable one and a hook."""

    def __init__(self, cli: Command, database: Database) -> None:
        self.cli, self.database = cli, database
        self.url = ("--database-url", database.dsn)
        cli.write(f"V{FIRST}_one.up.sql", "CREATE TABLE one (id bigint);")
        cli.write(f"V{FIRST}_one.down.sql", "DROP TABLE one;")
        cli.write(f"V{SECOND}_two.up.sql", "CREATE TABLE two (id bigint);")
        cli.write(f"V{SECOND}_two.down.sql", "DROP TABLE two;")
        cli.write("R__view.sql", "CREATE OR REPLACE VIEW view AS SELECT 1 AS n;")
        cli.write("before_migrate.sql", "CREATE TABLE IF NOT EXISTS hooks (id bigint); INSERT INTO hooks VALUES (1);")

    def tables(self) -> str:
        return self.database.sql(
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class "
            "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relname !~ '^schema_version'"
        )


@pytest.fixture
def world(cli: Command, database: Database) -> World:
    return World(cli, database)


@pytest.mark.parametrize(("flags", "functions"), [((), ["up", "down"]), (("--no-down",), ["up"])], ids=["both", "up"])
def test_a_new_python_migration_runs_as_it_stands(world: World, flags: tuple[str, ...], functions: list[str]) -> None:
    done = world.cli("new", 'in \'python\' """', "--python", *flags)
    (path,) = done.out.splitlines()
    assert (done.code, Path(path).suffix) == (0, ".py")
    text = (world.cli.folder / path).read_text()
    assert [name for name in ("up", "down") if f"async def {name}(db, ctx):" in text] == functions
    assert world.cli("migrate", "--mode", "manual", *world.url).code == 0


def test_what_is_newly_written_is_the_newest(world: World) -> None:
    world.cli.write("V29991231235959_far.up.sql", "SELECT 1;")
    (first, _), (second, _) = (world.cli("new", name).out.splitlines() for name in ("one_more", "and_another"))
    assert "V29991231235960_one_more" in first
    assert "V29991231235961_and_another" in second


def test_a_plan_has_the_exact_order_and_writes_nothing(world: World) -> None:
    world.cli.write("V202601030900_index.up.sql", "CREATE INDEX CONCURRENTLY by_id ON two (id);")
    shown = world.cli("plan", *world.url)
    assert shown.code == 0
    names = ("before_migrate", f"V{FIRST}_one", f"V{SECOND}_two", "V202601030900_index", "R__view")
    places = [shown.out.index(name) for name in names]
    assert places == sorted(places)
    found = world.cli("plan", "--format", "json", *world.url).document
    assert [(step["name"], step["transaction"]) for step in found["steps"]] == [
        ("before_migrate", "own"),
        ("one", "own"),
        ("two", "own"),
        ("index", "none"),
        ("view", "own"),
    ]
    assert world.cli("status", *world.url).code == 0
    assert world.cli("validate", *world.url).code == 0
    assert world.tables() == ""
    assert world.database.sql("SELECT to_regclass('schema_version') IS NULL") == "t"


def test_a_plan_stops_at_its_target_and_goes_down_from_the_newest(world: World) -> None:
    up = world.cli("plan", FIRST, "--format", "json", *world.url).document
    assert ([item["name"] for item in up["pending"]], up["target"]) == (["one"], FIRST)
    assert world.cli("migrate", "--mode", "manual", *world.url).code == 0
    down = world.cli("plan", "--down", 0, "--format", "json", *world.url).document
    assert (down["direction"], [item["name"] for item in down["pending"]]) == ("down", ["two", "one"])
    assert down["steps"][1]["path"] == f"migrations/V{SECOND}_two.down.sql"


def test_a_step_without_a_way_down_is_an_issue_of_the_plan(world: World) -> None:
    (world.cli.folder / "migrations" / f"V{SECOND}_two.down.sql").unlink()
    assert world.cli("migrate", "--mode", "manual", *world.url).code == 0
    plan = world.cli("plan", "--down", FIRST, "--format", "json", *world.url)
    assert (plan.code, plan.document["issues"][0]["code"]) == (0, "missing-down")
    assert plan.document["steps"][-1]["transaction"] is None
    assert "V202601020900_two has no way down" in world.cli("plan", "--down", FIRST, *world.url).out
    refused = world.cli("down", FIRST, "--yes", *world.url)
    assert (refused.code, "two" in world.tables()) == (2, True)


def test_up_to_a_target_the_rest_and_down_again(world: World) -> None:
    done = world.cli("migrate", FIRST, "--format", "json", *world.url)
    assert [item["name"] for item in done.document["executed"]] == ["one"]
    assert world.tables() == "hooks one"
    again = world.cli("migrate", FIRST, *world.url)
    assert again.out == f"Nothing to run: everything up to {FIRST} is applied.\n"
    rest = world.cli("migrate", *world.url)
    assert rest.code == 0
    assert f"V{SECOND}_two" in rest.out
    assert world.tables() == "hooks one two view"
    down = world.cli("down", FIRST, "--yes", "--format", "json", *world.url)
    assert (down.code, down.document["direction"]) == (0, "down")
    assert [item["name"] for item in down.document["executed"]] == ["two"]
    assert world.tables() == "hooks one view"
    assert "Nothing to undo" in world.cli("down", FIRST, "--yes", *world.url).out


@pytest.mark.parametrize("command", [("migrate",), ("down", "0")], ids=" ".join)
def test_a_dry_run_leaves_no_trace(world: World, command: tuple[str, ...]) -> None:
    assert world.cli("migrate", FIRST, "--mode", "manual", *world.url).code == 0
    world.cli.write("V202601030900_index.up.sql", "CREATE INDEX CONCURRENTLY by_id ON one (id);")
    before = world.database.sql("TABLE schema_version")
    done = world.cli(*command, "--dry-run", "--format", "json", *world.url)
    assert (done.code, done.document["dry_run"]) == (0, True)
    assert done.document["executed"] != []
    assert "run and rolled back" in world.cli(*command, "--dry-run", *world.url).out
    assert (world.tables(), world.database.sql("TABLE schema_version")) == ("hooks one", before)
    assert not (world.cli.folder / "backups").exists()


def test_a_dry_run_says_what_it_left_out_and_what_failed(world: World) -> None:
    world.cli.write("V202601030900_index.up.sql", "CREATE INDEX CONCURRENTLY by_id ON two (id);")
    done = world.cli("migrate", "--dry-run", "--format", "json", *world.url)
    assert [item["name"] for item in done.document["skipped"]] == ["index"]
    world.cli.write("V202601040900_bad.up.sql", "SELECT * FROM nowhere;")
    failed = world.cli("migrate", "--dry-run", *world.url)
    assert failed.code == 3
    assert "V202601040900_bad.up.sql:1:15" in failed.err
    assert "nothing was changed" in failed.err
    assert world.tables() == ""


def test_a_failing_down_exits_with_3_and_everything_is_back(world: World) -> None:
    assert world.cli("migrate", "--mode", "manual", *world.url).code == 0
    world.cli.write(f"V{FIRST}_one.down.sql", "DROP TABLE nowhere;")
    done = world.cli("down", 0, "--yes", "--format", "json", *world.url)
    assert (done.code, done.error["type"]) == (3, "MigrationFailed")
    assert (done.error["result"]["direction"], done.error["result"]["restored"]) == ("down", True)
    assert world.tables() == "hooks one two view"
    kept = world.cli("down", 0, "--yes", "--mode", "manual", "--format", "json", *world.url)
    assert (kept.code, world.tables()) == (3, "hooks one view")
    pending = world.cli("status", "--format", "json", *world.url).document["pending"]
    assert [item["name"] for item in pending] == ["two", "view"]  # a way down makes the repeatable ones run again


def test_status_tells_what_is_applied_outdated_and_only_declared(world: World) -> None:
    assert world.cli("baseline", FIRST, *world.url).code == 0
    assert world.cli("migrate", "--mode", "manual", *world.url).code == 0
    assert world.cli("status", "--check", *world.url).code == 0
    world.cli.write("R__view.sql", "CREATE OR REPLACE VIEW view AS SELECT 1 AS n, 2 AS m;")
    shown = world.cli("status", "--check", *world.url)
    assert shown.code == 9
    states = {line.split()[0]: line for line in shown.out.splitlines()[2:]}
    assert "baseline" in states[str(FIRST)]
    assert "applied" in states[str(SECOND)]
    assert "changed, runs again" in states["R__"]
    found = world.cli("status", "--format", "json", *world.url).document
    assert found["reapplied"] == ["R__view"]
    assert [item["baseline"] for item in found["applied"]] == [True, False, False]


def test_a_baseline_is_recorded_and_not_run(world: World) -> None:
    done = world.cli("baseline", f"V{FIRST}_one", "--format", "json", *world.url)
    assert (done.code, [item["id"] for item in done.document["recorded"]]) == (0, [str(FIRST)])
    assert world.tables() == ""
    assert "in the history already" in world.cli("baseline", FIRST, *world.url).out
    unknown = world.cli("baseline", 202601010901, *world.url)
    assert (unknown.code, str(FIRST) in unknown.err) == (2, True)
    assert f"V{SECOND}_two" in world.cli("baseline", SECOND, *world.url).out
    assert "cannot be undone" in world.cli("down", 0, "--yes", *world.url).err


def test_a_repair_makes_the_history_agree_with_the_files(world: World) -> None:
    assert world.cli("migrate", "--mode", "manual", *world.url).code == 0
    assert "nothing to repair" in world.cli("repair", *world.url).out
    world.cli.write(f"V{FIRST}_one.up.sql", "CREATE TABLE one (id bigint PRIMARY KEY);")
    for path in (world.cli.folder / "migrations").glob("*_two.*"):
        path.unlink()
    dry = world.cli("repair", "--dry-run", *world.url)
    assert (dry.code, dry.out.count("would be")) == (0, 2)
    assert world.cli("validate", *world.url).code == 2
    done = world.cli("repair", "--format", "json", *world.url)
    assert done.code == 0
    assert [item["name"] for item in done.document["rechecksummed"]] == ["one"]
    assert [item["name"] for item in done.document["forgotten"]] == ["two"]
    assert world.cli("validate", "--drift", "ignore", *world.url).code == 0
    assert world.tables() == "hooks one two view"


def test_validate_looks_at_everything_and_exits_with_2_on_errors(world: World) -> None:
    good = world.cli("validate", *world.url)
    assert (good.code, good.err) == (0, "")
    assert "nothing is wrong" in good.out
    world.cli.write("V202601030900_bad.up.sql", "SELECT 1;\nBEGIN;\nSELECT (;")
    bad = world.cli("validate", "--format", "json", *world.url)
    assert (bad.code, bad.document["valid"]) == (2, False)
    assert [Path(item["path"]).name for item in bad.document["issues"]] != []
    shown = world.cli("validate", *world.url)
    assert shown.code == 2
    assert "V202601030900_bad.up.sql:" in shown.out


def test_a_reader_may_look(world: World) -> None:
    assert world.cli("migrate", FIRST, "--mode", "manual", *world.url).code == 0
    database = world.database
    database.sql(
        "DROP ROLE IF EXISTS msr_reader; CREATE ROLE msr_reader LOGIN; "
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO msr_reader"
    )
    try:
        url = ("--database-url", database.dsn.replace("://postgres@", "://msr_reader@"))
        assert world.cli("status", "--check", *url).code == 9
        for command in (("plan",), ("plan", "--down", "0"), ("validate",), ("lock", "status"), ("repair", "--dry-run")):
            done = world.cli(*command, *url)
            assert (done.code, done.err) == (0, "")
        refused = world.cli("baseline", SECOND, "--format", "json", *url)
        assert (refused.code, refused.error["type"]) == (1, "PermissionMissing")
    finally:
        database.sql("DROP OWNED BY msr_reader; DROP ROLE msr_reader")


def test_notices_and_batches_are_told_on_standard_error(world: World) -> None:
    world.cli.write("V202601030900_talk.up.sql", "DO $$ BEGIN RAISE NOTICE 'hello there'; END $$;")
    done = world.cli("migrate", "--mode", "manual", "--format", "json", *world.url)
    assert done.code == 0
    assert "V202601030900_talk: NOTICE: hello there" in done.err
    assert done.document["success"] is True


def test_drift_is_told_and_the_run_goes_on(world: World) -> None:
    assert world.cli("migrate", FIRST, "--mode", "manual", *world.url).code == 0
    world.database.sql("CREATE TABLE handmade (id bigint)")
    done = world.cli("migrate", "--mode", "manual", *world.url)
    assert done.code == 0
    assert "warning: the schema was changed by hand" in done.err
    assert "handmade" in done.err
