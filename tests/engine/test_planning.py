"""What a run would do, decided from files, history and settings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from msr_async import AppliedMigration, Config, Issue, Migration, Plan, Policy, RollbackStrategy, Script
from msr_async._engine.loading import Folder
from msr_async._engine.planning import judged, plan
from msr_async.config import OutOfOrder, TransactionConfig
from msr_async.models import Directives, Kind, Version

ONE, TWO, THREE, FOUR = 202601010001, 202601010002, 202601010003, 202601010004
PER_BATCH = Config(transaction=TransactionConfig(mode="per_batch"))  # type: ignore[arg-type]


def migration(
    version: int | str,
    name: str = "x",
    *,
    folder: str = "",
    down: bool = True,
    text: str = "a",
    batched: bool = False,
    **says: Any,
) -> Migration:
    path = Path(folder) / f"V{version}_{name}.up.sql"
    return Migration(
        version=int(version),
        name=name,
        up=Script(path=path, text=text, language="sql", directives=Directives(**says)),
        down=Script(path=path.with_name(f"V{version}_{name}.down.sql"), text="", language="sql") if down else None,
        checksum=text,
        batched=batched,
    )


def single(name: str, kind: Kind = "repeatable", *, text: str = "a", batched: bool = False, **says: Any) -> Migration:
    """A repeatable script or a hook."""
    script = Script(path=Path(f"{name}.sql"), text=text, language="sql", directives=Directives(**says))
    return Migration(version=None, name=name, up=script, down=None, checksum=text, kind=kind, batched=batched)


def entry(version: int | None, name: str = "x", checksum: str = "a", *, baseline: bool = False) -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum=checksum,
        applied_at=datetime(2026, 1, 2, tzinfo=UTC),
        duration=0.1,
        applied_by="me@here",
        baseline=baseline,
    )


def decide(
    migrations: list[Migration],
    applied: list[AppliedMigration] | None = None,
    config: Config | None = None,
    *,
    target: Version | None = None,
    found: tuple[Issue, ...] = (),
    before: Migration | None = None,
    after: Migration | None = None,
) -> Plan:
    folder = Folder(migrations=tuple(migrations), before=before, after=after, issues=found)
    return plan(folder, applied or [], config or Config(), lambda script: (), target=target)


def decide_down(
    migrations: list[Migration],
    applied: list[AppliedMigration],
    target: Version | None,
    config: Config | None = None,
) -> Plan:
    folder = Folder(migrations=tuple(migrations))
    return plan(folder, applied, config or Config(), lambda script: (), direction="down", target=target)


def names(decided: Plan) -> list[str]:
    return [str(item) for item in decided.pending]


def versions(decided: Plan) -> list[Version | None]:
    return [item.version for item in decided.pending]


def said(decided: Plan) -> list[tuple[str, str]]:
    return [(issue.code, issue.severity) for issue in decided.issues]


def test_what_was_applied_is_not_pending() -> None:
    decided = decide([migration(ONE), migration(TWO)], [entry(ONE)])
    assert [item.version for item in decided.pending] == [TWO]
    assert [item.version for item in decided.applied] == [ONE]


def test_the_history_is_in_the_order_of_versions() -> None:
    decided = decide([migration(ONE), migration(TWO)], [entry(TWO), entry(ONE)])
    assert [item.version for item in decided.applied] == [ONE, TWO]


def test_a_version_used_twice_is_one_error_that_names_both_files() -> None:
    decided = decide([migration(ONE, "x", folder="a"), migration(ONE, "y", folder="b")])
    assert said(decided) == [("duplicate-version", "error")]
    assert "V202601010001_x" in decided.issues[0].message
    assert "V202601010001_y" in decided.issues[0].message


def test_a_file_older_than_the_newest_applied_is_an_error() -> None:
    decided = decide([migration(ONE), migration(TWO), migration(THREE)], [entry(TWO)])
    assert said(decided) == [("out-of-order", "error")]
    assert decided.issues[0].path == Path("V202601010001_x.up.sql")


def test_a_changed_applied_file_is_an_error() -> None:
    decided = decide([migration(ONE, text="b")], [entry(ONE)])
    assert said(decided) == [("checksum-mismatch", "error")]


def test_a_moved_and_renamed_file_with_the_same_text_is_fine() -> None:
    assert decide([migration(ONE, "other", folder="moved")], [entry(ONE)]).issues == ()


def test_an_applied_migration_without_its_file_is_an_error() -> None:
    decided = decide([migration(TWO)], [entry(ONE)])
    assert said(decided) == [("missing-file", "error")]


@pytest.mark.parametrize(
    ("strategy", "policy", "expected"),
    [
        ("down", None, [("missing-down", "error")]),
        ("down", "warn", [("missing-down", "warning")]),
        ("down", "ignore", []),
        ("both", None, [("missing-down", "warning")]),
        ("both", "error", [("missing-down", "error")]),
        ("both", "ignore", []),
        ("backup", None, []),
        ("backup", "error", []),
        ("none", None, []),
    ],
)
def test_what_a_missing_down_means(strategy: str, policy: str | None, expected: list[tuple[str, str]]) -> None:
    config = Config(
        rollback_strategy=RollbackStrategy(strategy), missing_down=None if policy is None else Policy(policy)
    )
    assert said(decide([migration(ONE, down=False)], config=config)) == expected


def test_a_missing_down_of_an_applied_migration_does_not_matter() -> None:
    config = Config(rollback_strategy=RollbackStrategy.DOWN)
    assert decide([migration(ONE, down=False), migration(TWO)], [entry(ONE)], config).issues == ()


def test_only_pending_scripts_are_inspected_both_ways() -> None:
    seen: list[str] = []

    def inspect(script: Script) -> tuple[Issue, ...]:
        seen.append(script.path.name)
        return (Issue(code="bad", severity="error", message="Bad.", path=script.path),)

    decided = plan(Folder(migrations=(migration(ONE), migration(TWO))), [entry(ONE)], Config(), inspect)
    assert seen == ["V202601010002_x.up.sql", "V202601010002_x.down.sql"]
    assert said(decided) == [("bad", "error"), ("bad", "error")]


def test_a_python_file_is_inspected_once() -> None:
    script = Script(path=Path("V202601010001_x.py"), text="", language="py")
    both = Migration(version=ONE, name="x", up=script, down=script, checksum="a")
    seen: list[Script] = []

    def inspect(item: Script) -> tuple[Issue, ...]:
        seen.append(item)
        return ()

    plan(Folder(migrations=(both,)), [], Config(), inspect)
    assert seen == [script]


def test_what_loading_found_is_passed_on() -> None:
    found = Issue(code="misnamed", severity="error", message="No.")
    assert decide([], found=(found,)).errors == (found,)


# -- the history and the files ---------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "expected"), [("error", ["error"]), ("warn", ["warning"]), ("ignore", [])])
def test_missing_and_changed_files_are_as_bad_as_the_settings_say(policy: str, expected: list[str]) -> None:
    missing = decide([migration(TWO)], [entry(ONE), entry(TWO)], Config(missing_file=Policy(policy)))
    changed = decide([migration(ONE, text="b")], [entry(ONE)], Config(changed_file=Policy(policy)))
    assert said(missing) == [("missing-file", severity) for severity in expected]
    assert said(changed) == [("checksum-mismatch", severity) for severity in expected]


def test_a_baseline_without_its_file_is_fine_and_with_a_changed_one_is_not() -> None:
    assert decide([], [entry(ONE, baseline=True)]).issues == ()
    assert said(decide([migration(ONE, text="b")], [entry(ONE, baseline=True)])) == [("checksum-mismatch", "error")]


def test_an_older_file_is_run_in_its_place_under_allow() -> None:
    decided = decide(
        [migration(ONE), migration(TWO), migration(THREE)], [entry(TWO)], Config(out_of_order=OutOfOrder.ALLOW)
    )
    assert (versions(decided), decided.issues) == ([ONE, THREE], ())


def test_an_older_file_is_left_out_under_ignore_and_repeatable_ones_run_all_the_same() -> None:
    decided = decide(
        [migration(ONE), migration(TWO), migration(THREE), single("view")],
        [entry(TWO)],
        Config(out_of_order=OutOfOrder.IGNORE),
        target=THREE,
    )
    assert (names(decided), decided.issues) == (["V202601010003_x", "R__view"], ())


# -- targets ---------------------------------------------------------------------------------------


def test_a_target_is_the_last_to_run() -> None:
    decided = decide([migration(ONE), migration(TWO), migration(THREE)], [entry(ONE)], target=TWO)
    assert (versions(decided), decided.target, decided.issues) == ([TWO], TWO, ())


@pytest.mark.parametrize("target", [ONE, TWO])
def test_a_target_that_was_reached_leaves_nothing_to_do(target: int) -> None:
    decided = decide([migration(ONE), migration(TWO), migration(THREE)], [entry(ONE), entry(TWO)], target=target)
    assert (decided.pending, decided.issues) == ((), ())


def test_a_target_may_be_known_from_the_history_alone() -> None:
    decided = decide([migration(TWO)], [entry(ONE, baseline=True)], target=ONE)
    assert (decided.pending, decided.issues) == ((), ())


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        (THREE, f"The nearest are {TWO} and {FOUR}."),
        (5, f"There is {ONE}."),
        (999999999999, f"There is {FOUR}."),
    ],
)
def test_an_unknown_target_is_an_error_that_names_the_nearest(target: int, sentence: str) -> None:
    decided = decide([migration(ONE), migration(TWO), migration(FOUR)], target=target)
    assert said(decided) == [("unknown-target", "error")]
    assert decided.issues[0].message.endswith(sentence)


def test_a_target_in_an_empty_folder_is_an_error() -> None:
    assert said(decide([], target=ONE)) == [("unknown-target", "error")]


def test_what_lies_beyond_the_target_is_not_inspected() -> None:
    migrations = [migration(ONE), migration(TWO, down=False)]
    config = Config(rollback_strategy=RollbackStrategy.DOWN)
    assert decide(migrations, config=config, target=ONE).issues == ()


# -- repeatable scripts and hooks --------------------------------------------------------------------


def test_a_new_repeatable_script_runs_and_an_unchanged_one_does_not() -> None:
    decided = decide([migration(ONE), single("a"), single("b")], [entry(ONE), entry(None, "a")])
    assert (names(decided), decided.reapplied, decided.issues) == (["R__b"], (), ())


def test_a_changed_repeatable_script_runs_again_after_the_versioned_ones() -> None:
    decided = decide([migration(ONE), single("a", text="new"), single("b")], [entry(None, "a"), entry(None, "b")])
    assert names(decided) == ["V202601010001_x", "R__a"]
    assert [str(item) for item in decided.reapplied] == ["R__a"]
    assert decided.issues == ()


def test_repeatable_scripts_wait_until_no_versioned_one_is_left() -> None:
    migrations = [migration(ONE), migration(TWO), single("a", text="new")]
    stopped = decide(migrations, [entry(None, "a")], target=ONE)
    assert (versions(stopped), stopped.reapplied) == ([ONE], ())
    assert names(decide(migrations, [entry(None, "a")], target=TWO))[-1] == "R__a"


def test_a_repeatable_script_that_is_gone_is_a_warning() -> None:
    assert said(decide([], [entry(None, "a")])) == [("missing-file", "warning")]
    assert said(decide([], [entry(None, "a")], Config(missing_file=Policy.IGNORE))) == []


def test_two_repeatable_scripts_of_one_name_are_an_error() -> None:
    decided = decide([single("a"), single("a", text="b")])
    assert said(decided) == [("duplicate-repeatable", "error")]


def test_a_repeatable_script_needs_no_way_down() -> None:
    assert decide([single("a")], config=Config(rollback_strategy=RollbackStrategy.DOWN)).issues == ()


def test_hooks_are_inspected_when_something_is_pending_and_only_then() -> None:
    before, after = single("before_migrate", "hook"), single("after_migrate", "hook")
    seen: list[str] = []

    def inspect(script: Script) -> tuple[Issue, ...]:
        seen.append(script.path.name)
        return ()

    folder = Folder(migrations=(migration(ONE, down=False),), before=before, after=after)
    decided = plan(folder, [], Config(), inspect)
    assert [str(step) for step in decided.steps] == ["before_migrate", "V202601010001_x", "after_migrate"]
    assert seen == ["before_migrate.sql", "V202601010001_x.up.sql", "after_migrate.sql"]
    idle = plan(folder, [entry(ONE)], Config(), inspect)
    assert (idle.steps, len(seen)) == ((), 3)


@pytest.mark.parametrize("kind", ["repeatable", "hook"])
def test_only_a_versioned_migration_has_a_data_step(kind: Kind) -> None:
    odd = single("odd", kind, batched=True)
    decided = decide([migration(ONE), odd]) if kind == "repeatable" else decide([migration(ONE)], before=odd)
    assert said(decided) == [("data-not-allowed", "error")]


# -- down ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "expected"), [(0, [THREE, TWO, ONE]), (ONE, [THREE, TWO]), (TWO, [THREE]), (THREE, [])]
)
def test_the_way_down_undoes_what_is_above_the_target_newest_first(target: int, expected: list[int]) -> None:
    migrations = [migration(ONE), migration(TWO), migration(THREE), migration(FOUR), single("view")]
    applied = [entry(None, "view"), entry(TWO), entry(ONE), entry(THREE)]
    decided = decide_down(migrations, applied, target)
    assert (versions(decided), decided.direction, decided.issues) == (expected, "down", ())


@pytest.mark.parametrize("target", [None, TWO, 7])
def test_the_way_down_needs_a_target_that_was_applied(target: int | None) -> None:
    decided = decide_down([migration(ONE), migration(TWO)], [entry(ONE)], target)
    assert [code for code, _ in said(decided)] == ["unknown-target"]


@pytest.mark.parametrize("policy", list(Policy))
def test_the_way_down_without_a_file_is_an_error_whatever_the_policy(policy: Policy) -> None:
    decided = decide_down([migration(TWO)], [entry(ONE), entry(TWO)], 0, Config(missing_file=policy))
    assert said(decided) == [("missing-file", "error")]


def test_a_missing_file_below_the_target_does_not_close_the_way_down() -> None:
    assert decide_down([migration(TWO)], [entry(ONE), entry(TWO)], ONE).issues == ()


@pytest.mark.parametrize(("policy", "expected"), [("error", ["error"]), ("warn", ["warning"]), ("ignore", [])])
def test_a_changed_file_on_the_way_down_is_as_bad_as_the_settings_say(policy: str, expected: list[str]) -> None:
    decided = decide_down([migration(ONE, text="b")], [entry(ONE)], 0, Config(changed_file=Policy(policy)))
    assert said(decided) == [("checksum-mismatch", severity) for severity in expected]


def test_a_migration_without_down_closes_the_way_down_whatever_the_strategy() -> None:
    config = Config(missing_down=Policy.IGNORE)
    decided = decide_down([migration(ONE, down=False), migration(TWO)], [entry(ONE), entry(TWO)], 0, config)
    assert said(decided) == [("missing-down", "error")]


def test_a_baseline_cannot_be_undone() -> None:
    applied = [entry(ONE, baseline=True), entry(TWO)]
    decided = decide_down([migration(ONE), migration(TWO)], applied, 0)
    assert said(decided) == [("baselined", "error")]
    assert decide_down([migration(ONE), migration(TWO)], applied, ONE).issues == ()


def test_only_the_downs_are_inspected_on_the_way_down() -> None:
    seen: list[str] = []

    def inspect(script: Script) -> tuple[Issue, ...]:
        seen.append(script.path.name)
        return ()

    folder = Folder(migrations=(migration(ONE),), before=single("before_migrate", "hook"))
    plan(folder, [entry(ONE)], Config(), inspect, direction="down", target=0)
    assert seen == ["before_migrate.sql", "V202601010001_x.down.sql"]


# -- transaction modes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        (migration(ONE, transaction=False), "no-transaction"),
        (migration(ONE, isolation="serializable"), "isolation"),
        (migration(ONE, batched=True), "batched"),
        (single("view", transaction=False), "no-transaction"),
    ],
)
def test_one_transaction_for_all_cannot_hold_every_script(odd: Migration, code: str) -> None:
    assert said(decide([odd], config=PER_BATCH)) == [(code, "error")]
    assert decide([odd]).issues == ()
    assert decide([odd], config=Config(transaction=TransactionConfig(mode="none"))).issues == ()  # type: ignore[arg-type]


def test_one_transaction_for_all_cannot_hold_every_hook() -> None:
    hook = single("after_migrate", "hook", transaction=False)
    assert said(decide([migration(ONE)], config=PER_BATCH, after=hook)) == [("no-transaction", "error")]
    assert decide([migration(ONE)], [entry(ONE)], PER_BATCH, after=hook).issues == ()


def test_on_the_way_down_in_one_transaction_it_is_the_downs_that_count() -> None:
    up_only = migration(ONE, transaction=False, batched=True)
    assert decide_down([up_only], [entry(ONE)], 0, PER_BATCH).issues == ()


# -- judging -----------------------------------------------------------------------------------------


def warning(code: str, path: Path | None = None) -> Issue:
    return Issue(code=code, severity="warning", message="Hm.", path=path)


def test_strict_takes_every_warning_for_an_error_also_those_that_come_later() -> None:
    config = Config(strict=True, checks=[lambda decided: [warning("own")]])
    decided = decide([], config=config, found=(warning("early"),))
    assert said(decided) == [("early", "error")]
    assert said(judged(decided, [warning("late")], config)) == [
        ("early", "error"),
        ("late", "error"),
        ("own", "error"),
    ]


def test_a_script_silences_its_own_warnings_and_no_others() -> None:
    item = migration(ONE, allow=("lint",))
    decided = decide([item, migration(TWO)], found=(warning("lint", item.up.path), warning("other", item.up.path)))
    assert said(decided) == [("other", "warning")]
    elsewhere = warning("lint", migration(TWO).up.path)
    error = Issue(code="lint", severity="error", message="No.", path=item.up.path)
    found = judged(decided, [warning("lint", item.up.path), elsewhere, error], Config(strict=True)).issues
    assert [(issue.code, issue.path) for issue in found[1:]] == [
        ("lint", Path("V202601010002_x.up.sql")),
        ("lint", item.up.path),
    ]


def test_an_applied_script_silences_the_warning_that_it_was_changed() -> None:
    item = migration(ONE, text="b", allow=("checksum-mismatch",))
    assert decide([item], [entry(ONE)], Config(changed_file=Policy.WARN)).issues == ()
    assert said(decide([item], [entry(ONE)])) == [("checksum-mismatch", "error")]


def test_own_checks_see_the_plan_and_what_they_find_is_said_once() -> None:
    def short(decided: Plan) -> Iterator[Issue]:
        for item in decided.pending:
            yield Issue(code="short-name", severity="error", message=f"{item.name} is short.", path=item.up.path)

    config = Config(checks=[short])
    once = judged(decide([migration(ONE)]), [warning("late")], config)
    assert said(once) == [("late", "warning"), ("short-name", "error")]
    assert judged(once, [warning("late")], config) == once


def test_a_check_that_would_end_the_program_is_an_error_too() -> None:
    def leaving(decided: Plan) -> list[Issue]:
        raise SystemExit(3)

    (issue,) = judged(decide([]), [], Config(checks=[leaving])).issues
    assert "SystemExit: 3" in issue.message


def test_a_check_that_breaks_is_an_error_that_names_it() -> None:
    def naming(decided: Plan) -> list[Issue]:
        raise LookupError("no rule")

    (issue,) = judged(decide([]), [], Config(checks=[naming])).issues
    assert (issue.code, issue.severity) == ("check-failed", "error")
    assert "naming" in issue.message
    assert "LookupError: no rule" in issue.message


@pytest.mark.parametrize("answer", [None, ["a text"]])
def test_a_check_that_gives_no_issues_but_something_else_is_an_error(answer: Any) -> None:
    (issue,) = judged(decide([]), [], Config(checks=[lambda decided: answer])).issues
    assert (issue.code, issue.severity) == ("check-failed", "error")


def test_planning_takes_no_longer_for_a_migration_when_there_are_many() -> None:
    """Counted, not timed: how often the ids of files are asked for."""
    asked = 0

    class Counted(Migration, frozen=True, kw_only=True):
        @property
        def id(self) -> str:
            nonlocal asked
            asked += 1
            return str(self.version)

    script = Script(path=Path("x.up.sql"), text="", language="sql")
    for count in (100, 1_000):
        asked = 0
        many = tuple(Counted(version=n, name="x", up=script, down=None, checksum="a") for n in range(count))
        plan(Folder(migrations=many), [entry(n) for n in range(count // 2)], Config(), lambda script: ())
        assert asked <= 3 * count
