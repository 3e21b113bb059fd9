"""What a run would do, decided from files, history and settings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from msr_async import AppliedMigration, Config, Issue, Migration, OnMissingDown, Plan, RollbackStrategy, Script
from msr_async._engine.planning import plan


def migration(
    version: int | str, name: str = "x", *, folder: str = "", down: bool = True, text: str = "a"
) -> Migration:
    path = Path(folder) / f"V{version}_{name}.up.sql"
    return Migration(
        version=int(version),
        name=name,
        up=Script(path=path, text=text, language="sql"),
        down=Script(path=path.with_name(f"V{version}_{name}.down.sql"), text="", language="sql") if down else None,
        checksum=text,
    )


def entry(version: int, name: str = "x", checksum: str = "a") -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum=checksum,
        applied_at=datetime(2026, 1, 2, tzinfo=UTC),
        duration=0.1,
        applied_by="me@here",
    )


def decide(
    migrations: list[Migration],
    applied: list[AppliedMigration] | None = None,
    config: Config | None = None,
    found: tuple[Issue, ...] = (),
) -> Plan:
    return plan(migrations, found, applied or [], config or Config(), lambda script: ())


def said(decided: Plan) -> list[tuple[str, str]]:
    return [(issue.code, issue.severity) for issue in decided.issues]


ONE, TWO, THREE = 202601010001, 202601010002, 202601010003


def test_pending_is_by_version_whatever_the_folder() -> None:
    decided = decide([migration(THREE, folder="a"), migration(ONE, folder="z"), migration(TWO)])
    assert [item.version for item in decided.pending] == [ONE, TWO, THREE]
    assert decided.issues == ()


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


def test_versions_of_different_lengths_are_a_warning() -> None:
    decided = decide([migration(ONE), migration("20260101000200")])
    assert said(decided) == [("mixed-digits", "warning")]
    assert decided.errors == ()


def test_leading_zeros_count_as_digits() -> None:
    assert decide([migration("000000000001"), migration(TWO)]).issues == ()


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
        rollback_strategy=RollbackStrategy(strategy), missing_down=None if policy is None else OnMissingDown(policy)
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

    decided = plan([migration(ONE), migration(TWO)], (), [entry(ONE)], Config(), inspect)
    assert seen == ["V202601010002_x.up.sql", "V202601010002_x.down.sql"]
    assert said(decided) == [("bad", "error"), ("bad", "error")]


def test_a_python_file_is_inspected_once() -> None:
    script = Script(path=Path("V202601010001_x.py"), text="", language="py")
    both = Migration(version=ONE, name="x", up=script, down=script, checksum="a")
    seen: list[Script] = []

    def inspect(item: Script) -> tuple[Issue, ...]:
        seen.append(item)
        return ()

    plan([both], (), [], Config(), inspect)
    assert seen == [script]


def test_what_loading_found_is_passed_on() -> None:
    found = Issue(code="misnamed", severity="error", message="No.")
    assert decide([], found=(found,)).errors == (found,)
