"""Which lines of the history a baseline writes, and which a repair writes anew or strikes out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from msr_async import AppliedMigration, ConfigError, Issue, Migration, Script, ValidationFailed
from msr_async._engine.loading import Folder
from msr_async._engine.repairing import baseline, repair
from msr_async.models import Kind, RepairResult

ONE, TWO, THREE = 202601010001, 202601010002, 202601010003
NOW = datetime(2026, 3, 4, tzinfo=UTC)


def migration(version: int | None, name: str = "x", text: str = "a") -> Migration:
    script = Script(path=Path(f"{version}_{name}"), text=text, language="sql")
    kind: Kind = "repeatable" if version is None else "versioned"
    return Migration(version=version, name=name, up=script, down=None, checksum=text, kind=kind)


def entry(version: int | None, name: str = "x", checksum: str = "a", *, baseline: bool = False) -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum=checksum,
        applied_at=datetime(2026, 1, 2, tzinfo=UTC),
        duration=0.1,
        applied_by="me@here",
        baseline=baseline,
        run="r1",
        fingerprint="f",
    )


def folder(*migrations: Migration) -> Folder:
    return Folder(migrations=migrations)


ALL = folder(migration(ONE), migration(TWO), migration(THREE), migration(None, "view"))
UNSURE = [
    replace(ALL, issues=(Issue(code="not-utf8", severity="error", message="No."),)),
    folder(migration(ONE), migration(ONE, "y")),
]


def declare(where: Folder, applied: list[AppliedMigration], version: int) -> tuple[AppliedMigration, ...]:
    return baseline(where, applied, version, now=NOW, by="me@here", run="r2")


def test_a_baseline_has_a_line_for_each_versioned_file_up_to_its_version() -> None:
    lines = declare(ALL, [], TWO)
    assert [line.version for line in lines] == [ONE, TWO]
    assert lines[0] == AppliedMigration(
        version=ONE,
        name="x",
        checksum="a",
        applied_at=NOW,
        duration=0.0,
        applied_by="me@here",
        baseline=True,
        run="r2",
    )


def test_a_baseline_leaves_what_the_history_has() -> None:
    assert [line.version for line in declare(ALL, [entry(ONE)], TWO)] == [TWO]
    assert declare(ALL, [entry(ONE), entry(TWO), entry(None, "view")], TWO) == ()


@pytest.mark.parametrize(
    ("where", "version", "words"),
    [
        (ALL, 202601010004, f"no migration 202601010004. .* There is {THREE}"),
        (ALL, 5, f"no migration at or below 5. .* There is {ONE}"),
        (folder(migration(None, "view")), ONE, "no migration at or below .* There are none"),
        (folder(migration(ONE), migration(THREE)), TWO, f"The nearest are {ONE} and {THREE}"),
    ],
)
def test_a_baseline_needs_the_version_of_a_file(where: Folder, version: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        declare(where, [], version)


def test_a_baseline_below_the_history_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"beyond {TWO} already: V{THREE}_x"):
        declare(ALL, [entry(THREE)], TWO)


@pytest.mark.parametrize("where", UNSURE)
def test_files_that_are_not_sure_are_no_ground_for_a_baseline_or_a_repair(where: Folder) -> None:
    with pytest.raises(ValidationFailed):
        declare(where, [], ONE)
    with pytest.raises(ValidationFailed):
        repair(where, [entry(ONE)])


def test_a_repair_takes_the_checksums_of_changed_files_and_nothing_else_of_them() -> None:
    changed = entry(TWO, "old name", "before")
    assert repair(ALL, [entry(ONE), changed, entry(THREE)]) == RepairResult(
        rechecksummed=(replace(changed, checksum="a"),)
    )


def test_a_repair_forgets_what_has_no_file_but_for_baselines() -> None:
    gone, gone_too = entry(TWO), entry(None, "gone")
    found = repair(folder(migration(THREE)), [gone_too, entry(ONE, baseline=True), gone, entry(THREE)])
    assert found == RepairResult(forgotten=(gone, gone_too))


def test_a_changed_repeatable_script_is_left_for_the_next_run() -> None:
    assert repair(ALL, [entry(None, "view", "before")]) == RepairResult()


def test_a_repair_against_an_empty_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match="strike out the whole history"):
        repair(folder(), [entry(ONE)])
    assert repair(folder(), []) == RepairResult()
