"""Behaviours 21 to 27: which migrations run, in which order, and how history and files are brought together."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async import ConfigError, MigrationFailed, ValidationFailed
from msr_async.events import MigrationStarted
from tests.behaviours.setting import FAIL, Setting


def quiet(setting: Setting) -> None:
    setting.heard.clear()


def codes(error: ValidationFailed) -> list[str]:
    return [issue.code for issue in error.issues]


def started(setting: Setting) -> list[str]:
    return [event.migration.name for event in setting.heard if isinstance(event, MigrationStarted)]


def repeatable(setting: Setting, name: str, *lines: str) -> Path:
    path = setting.migrations / f"R__{name}.py"
    path.write_text("async def up(db, ctx):\n" + "".join(f"    {line}\n" for line in lines))
    return path


# -- 21: out of order ------------------------------------------------------------------------------


async def applied_two_and_then_a_one(setting: Setting) -> None:
    setting.add(2, setting.put("shop", "two", "2"), down=[setting.drop("shop")])
    await setting.executor("none", "manual").migrate()
    setting.add(1, setting.put("late", "one", "1"), down=[setting.drop("late")])
    setting.add(3, setting.put("new", "three", "3"), down=[setting.drop("new")])
    quiet(setting)


async def test_behaviour_21_an_out_of_order_file_is_an_error(setting: Setting) -> None:
    await applied_two_and_then_a_one(setting)
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual").migrate()
    assert codes(raised.value) == ["out-of-order"]
    assert await setting.versions() == [2]


async def test_behaviour_21_allow_runs_it_by_version(setting: Setting) -> None:
    await applied_two_and_then_a_one(setting)
    await setting.executor("none", "manual", out_of_order="allow").migrate()
    assert started(setting) == ["step1", "step3"]
    assert await setting.versions() == [1, 2, 3]


async def test_behaviour_21_ignore_leaves_it_out(setting: Setting) -> None:
    await applied_two_and_then_a_one(setting)
    await setting.executor("none", "manual", out_of_order="ignore").migrate()
    assert started(setting) == ["step3"]
    assert await setting.versions() == [2, 3]


# -- 22: duplicates --------------------------------------------------------------------------------


async def test_behaviour_22_two_files_of_one_version_are_an_error(setting: Setting) -> None:
    first = setting.add(1, setting.put("shop", "a", "1"))
    (setting.migrations / "sub").mkdir()
    (setting.migrations / "sub" / first.name.replace("step1", "other")).write_text(first.read_text())
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual").migrate()
    assert codes(raised.value) == ["duplicate-version"]
    assert await setting.world.contents() == {}


# -- 23: targets -----------------------------------------------------------------------------------


async def test_behaviour_23_a_target_is_the_last_that_runs(setting: Setting) -> None:
    for number in (1, 2, 3):
        setting.add(number, setting.put(f"t{number}", "a", "1"))
    await setting.executor("none", "manual").migrate(202601010002)
    assert await setting.versions() == [1, 2]


async def test_behaviour_23_a_target_that_is_reached_is_an_empty_success(setting: Setting) -> None:
    await setting.fill()
    result = await setting.executor().migrate(202601010001)
    assert result.success
    assert result.executed == ()
    assert setting.files() == []


async def test_behaviour_23_an_unknown_target_is_an_error(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"))
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual").migrate(202601010007)
    assert codes(raised.value) == ["unknown-target"]
    assert await setting.world.contents() == {}


@pytest.mark.parametrize("target", [None, 202601010003])
async def test_behaviour_23_with_and_without_a_target_a_failure_is_told_the_same_way(
    setting: Setting, target: int | None
) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    setting.add(3, FAIL)
    with pytest.raises(MigrationFailed) as raised:
        await setting.executor().migrate(target)
    result = raised.value.result
    assert [migration.name for migration in result.executed] == ["step2"]
    assert result.failed is not None
    assert (result.failed.name, result.restored) == ("step3", True)
    assert await setting.world.contents() == before


# -- 24: down --------------------------------------------------------------------------------------


async def three_up(setting: Setting, *, bad_down: bool = False) -> None:
    setting.add(1, setting.put("one", "a", "1"), down=[setting.drop("one")])
    setting.add(2, setting.put("two", "a", "1"), down=[FAIL] if bad_down else [setting.drop("two")])
    setting.add(3, setting.put("three", "a", "1"), down=[setting.drop("three")])
    await setting.executor("none", "manual").migrate()
    quiet(setting)


async def test_behaviour_24_down_undoes_what_is_above_the_target_newest_first(setting: Setting) -> None:
    await three_up(setting)
    result = await setting.executor("none", "manual").down(202601010001)
    assert [migration.name for migration in result.executed] == ["step3", "step2"]
    assert await setting.versions() == [1]
    assert {"two", "three"}.isdisjoint(await setting.world.contents())


async def test_behaviour_24_down_to_zero_undoes_everything(setting: Setting) -> None:
    await three_up(setting)
    await setting.executor("none", "manual").down(0)
    assert await setting.versions() == []


async def test_behaviour_24_a_missing_down_is_an_error_before_any_runs(setting: Setting) -> None:
    setting.add(1, setting.put("one", "a", "1"))
    setting.add(2, setting.put("two", "a", "1"), down=[setting.drop("two")])
    await setting.executor("none", "manual").migrate()
    quiet(setting)
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual").down(0)
    assert codes(raised.value) == ["missing-down"]
    assert started(setting) == []
    assert await setting.versions() == [1, 2]


async def test_behaviour_24_a_file_that_is_gone_is_an_error_before_any_runs(setting: Setting) -> None:
    await three_up(setting)
    next(setting.migrations.glob("*step1.py")).unlink()
    with pytest.raises(ValidationFailed):
        await setting.executor("none", "manual").down(0)
    assert started(setting) == []
    assert await setting.versions() == [1, 2, 3]


async def test_behaviour_24_failing_midway_the_history_is_exactly_what_is_there(setting: Setting) -> None:
    await three_up(setting, bad_down=True)
    with pytest.raises(MigrationFailed) as raised:
        await setting.executor("none", "manual").down(0)
    assert raised.value.result.failed is not None
    assert raised.value.result.failed.name == "step2"
    assert await setting.versions() == [1, 2]
    contents = await setting.world.contents()
    assert "two" in contents
    assert "three" not in contents


async def test_behaviour_24_with_a_backup_a_failed_way_down_is_put_back(setting: Setting) -> None:
    await three_up(setting, bad_down=True)
    before = await setting.world.contents()
    with pytest.raises(MigrationFailed) as raised:
        await setting.executor("backup").down(0)
    assert raised.value.result.restored
    assert await setting.world.contents() == before


async def test_behaviour_24_in_one_transaction_all_or_nothing_goes_down(setting: Setting) -> None:
    await three_up(setting, bad_down=True)
    executor = setting.executor("none", "manual")
    executor.config.transaction.mode = "per_batch"  # type: ignore[assignment]
    with pytest.raises(MigrationFailed):
        await executor.down(0)
    assert await setting.versions() == [1, 2, 3]
    assert "three" in await setting.world.contents()


async def test_behaviour_24_down_waits_for_the_lock(setting: Setting) -> None:
    await three_up(setting)
    asked: list[str] = []

    async with setting.world.another() as other:
        lock = other.lock
        assert lock is not None
        async with lock.hold(timeout=1, waiting=lambda holder, waited: None):
            executor = setting.executor("none", "manual", lock_timeout=0.2)
            with pytest.raises(Exception, match="lock") as raised:
                await executor.down(0)
            asked.append(type(raised.value).__name__)
    assert asked == ["LockNotAcquired"]
    assert await setting.versions() == [1, 2, 3]


# -- 25: changed files -----------------------------------------------------------------------------


async def test_behaviour_25_a_changed_executed_file_is_a_mismatch(setting: Setting) -> None:
    await setting.fill()
    setting.add(1, setting.put("shop", "a", "9"), down=[setting.drop("shop")])
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor().migrate()
    assert codes(raised.value) == ["checksum-mismatch"]


async def test_behaviour_25_line_endings_a_mark_comments_and_the_folder_do_not_count(setting: Setting) -> None:
    await setting.fill()
    path = next(setting.migrations.glob("*step1.py"))
    text = "\ufeff# what the shop starts with\r\n" + path.read_text().replace("\n", "\r\n")
    path.unlink()
    (setting.migrations / "2026").mkdir()
    (setting.migrations / "2026" / path.name).write_bytes(text.encode())
    assert (await setting.executor().migrate()).success
    assert (await setting.executor().status()).issues == ()


@pytest.mark.parametrize(("policy", "severities"), [("warn", ["warning"]), ("ignore", [])])
async def test_behaviour_25_the_policy_can_be_softer(setting: Setting, policy: str, severities: list[str]) -> None:
    await setting.fill()
    setting.add(1, setting.put("shop", "a", "9"), down=[setting.drop("shop")])
    plan = await setting.executor(changed_file=policy).status()
    assert [issue.severity for issue in plan.issues] == severities


# -- 26: repeatable scripts ------------------------------------------------------------------------


async def test_behaviour_26_repeatable_scripts_run_after_the_versioned_ones(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"))
    repeatable(setting, "b_view", setting.put("shop", "b", "b"))
    repeatable(setting, "a_view", setting.put("shop", "a", "a"))
    result = await setting.executor("none", "manual").migrate()
    assert [str(migration) for migration in result.executed] == ["V202601010001_step1", "R__a_view", "R__b_view"]


async def test_behaviour_26_and_again_only_when_they_changed(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"))
    repeatable(setting, "same", setting.put("shop", "s", "1"))
    repeatable(setting, "view", setting.put("shop", "v", "1"))
    await setting.executor("none", "manual").migrate()
    assert (await setting.executor().migrate()).executed == ()
    repeatable(setting, "view", setting.put("shop", "v", "2"))
    result = await setting.executor("none", "manual").migrate()
    assert [str(migration) for migration in result.executed] == ["R__view"]
    ids = [entry.id for entry in await setting.world.handler.schema_version.applied()]
    assert sorted(ids) == ["202601010001", "R__same", "R__view"]


async def test_behaviour_26_a_repeatable_that_fails_is_put_back_too(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    repeatable(setting, "bad", setting.drop("shop"), FAIL)
    with pytest.raises(MigrationFailed) as raised:
        await setting.executor().migrate()
    assert raised.value.result.restored
    assert await setting.world.contents() == before


async def test_behaviour_26_after_a_way_down_they_run_again(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"), down=[setting.drop("shop")])
    repeatable(setting, "view", setting.put("shop", "v", "1"))
    await setting.executor("none", "manual").migrate()
    await setting.executor("none", "manual").down(0)
    result = await setting.executor("none", "manual").migrate()
    assert [str(migration) for migration in result.executed] == ["V202601010001_step1", "R__view"]


# -- 27: baseline, repair, plan --------------------------------------------------------------------


async def test_behaviour_27_baseline_records_without_running(setting: Setting) -> None:
    for number in (1, 2, 3):
        setting.add(number, setting.put(f"t{number}", "a", "1"), down=[setting.drop(f"t{number}")])
    lines = await setting.executor().baseline(202601010002)
    assert [(line.name, line.baseline) for line in lines] == [("step1", True), ("step2", True)]
    assert "t1" not in await setting.world.contents()
    result = await setting.executor("none", "manual").migrate()
    assert [migration.name for migration in result.executed] == ["step3"]


async def test_behaviour_27_what_was_declared_cannot_be_undone(setting: Setting) -> None:
    setting.add(1, setting.put("t1", "a", "1"), down=[setting.drop("t1")])
    await setting.executor().baseline(202601010001)
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual").down(0)
    assert codes(raised.value) == ["baselined"]


async def test_behaviour_27_a_baseline_that_no_file_has_is_refused(setting: Setting) -> None:
    setting.add(2, setting.put("t2", "a", "1"))
    with pytest.raises(ConfigError):
        await setting.executor().baseline(202601010001)
    assert await setting.world.contents() == {}


async def test_behaviour_27_repair_takes_new_checksums_over_and_forgets_what_is_gone(setting: Setting) -> None:
    setting.add(1, setting.put("t1", "a", "1"))
    setting.add(2, setting.put("t2", "a", "1"))
    await setting.executor("none", "manual").migrate()
    setting.add(1, setting.put("t1", "a", "9"))
    next(setting.migrations.glob("*step2.py")).unlink()
    shown = await setting.executor().repair(dry_run=True)
    assert len((await setting.executor().status()).errors) == 2
    done = await setting.executor().repair()
    assert [line.name for line in done.rechecksummed] == [line.name for line in shown.rechecksummed] == ["step1"]
    assert [line.name for line in done.forgotten] == [line.name for line in shown.forgotten] == ["step2"]
    plan = await setting.executor().status()
    assert plan.issues == ()
    assert plan.pending == ()
    assert await setting.world.contents() != {}


async def test_behaviour_27_plan_shows_the_exact_order_and_writes_nothing(setting: Setting) -> None:
    await setting.fill()
    setting.add(3, setting.put("three", "a", "1"))
    setting.add(2, setting.put("two", "a", "1"))
    repeatable(setting, "view", setting.put("shop", "v", "1"))
    for hook in ("before_migrate", "after_migrate"):
        (setting.migrations / f"{hook}.py").write_text("async def up(db, ctx):\n    pass\n")
    before = await setting.world.contents()
    plan = await setting.executor().plan()
    assert [step.name for step in plan.steps] == ["before_migrate", "step2", "step3", "view", "after_migrate"]
    assert await setting.world.contents() == before
    await setting.executor("none", "manual").migrate()
    assert started(setting) == [step.name for step in plan.steps]


async def test_behaviour_27_plan_of_a_way_down(setting: Setting) -> None:
    await three_up(setting)
    plan = await setting.executor().plan(202601010001, direction="down")
    assert [step.name for step in plan.steps] == ["step3", "step2"]
    assert await setting.versions() == [1, 2, 3]


# -- hooks, checks, strictness ---------------------------------------------------------------------


async def test_hooks_run_inside_and_are_not_recorded(setting: Setting) -> None:
    setting.add(1, setting.put("shop", "a", "1"))
    (setting.migrations / "before_migrate.py").write_text(
        f"async def up(db, ctx):\n    {setting.put('told', 'before', '1')}\n"
    )
    await setting.executor("none", "manual").migrate()
    assert "told" in await setting.world.contents()
    assert await setting.versions() == [1]


async def test_hooks_do_not_run_when_nothing_is_pending(setting: Setting) -> None:
    await setting.fill()
    (setting.migrations / "before_migrate.py").write_text(f"async def up(db, ctx):\n    {FAIL}\n")
    assert (await setting.executor().migrate()).success


async def test_a_failing_after_hook_puts_everything_back(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    (setting.migrations / "after_migrate.py").write_text(f"async def up(db, ctx):\n    {FAIL}\n")
    with pytest.raises(MigrationFailed) as raised:
        await setting.executor().migrate()
    assert raised.value.result.failed is not None
    assert raised.value.result.failed.name == "after_migrate"
    assert await setting.world.contents() == before


async def test_a_check_of_ones_own_stops_a_run(setting: Setting) -> None:
    from msr_async import Issue, Plan

    def at_most_one(plan: Plan) -> list[Issue]:
        return [Issue(code="too-many", severity="error", message="One at a time.")] if len(plan.pending) > 1 else []

    setting.add(1, setting.put("one", "a", "1"))
    setting.add(2, setting.put("two", "a", "1"))
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual", checks=[at_most_one]).migrate()
    assert codes(raised.value) == ["too-many"]
    assert await setting.world.contents() == {}


async def test_strict_takes_warnings_for_errors(setting: Setting) -> None:
    setting.add(1, setting.put("one", "a", "1"))
    (setting.migrations / "seed.sql").write_text("")
    assert (await setting.executor().status()).errors == ()
    with pytest.raises(ValidationFailed) as raised:
        await setting.executor("none", "manual", strict=True).migrate()
    assert codes(raised.value) == ["not-a-migration"]
