"""What strategy and mode ask for together, what a recovery does, and what the error says afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from msr_async import (
    AppliedMigration,
    BackupInfo,
    BackupMode,
    Config,
    ConnectionLost,
    DatabaseError,
    DownFailed,
    Migration,
    MigrationResult,
    Plan,
    RecoveryFailed,
    RestoreFailed,
    RollbackStrategy,
    Script,
    ScriptFailed,
)
from msr_async._engine.applying import Course
from msr_async._engine.intending import Intent, intend
from msr_async._engine.recovering import Recovery, may_have_changed, recover, verdict
from msr_async.config import TransactionMode
from msr_async.events import RecoveryStarted
from msr_async.models import Direction
from msr_async.protocols import WorkOptions
from msr_async.testing import MemoryConnection, MemoryHandler
from tests.support.runs import Runs, names

SCRIPT = Script(path=Path("V202601010001_x.up.sql"), text="", language="sql")
FIRST = Migration(version=202601010001, name="x", up=SCRIPT, down=None, checksum="")
SECOND = Migration(version=202601010002, name="y", up=SCRIPT, down=None, checksum="")
BACKUP = BackupInfo(
    path=Path("my backups/a.msrbak"),
    size=1,
    id="a",
    created=datetime(2026, 1, 2, tzinfo=UTC),
    parts=0,
    rows=0,
    raw_bytes=0,
    complete=True,
)


def config(strategy: str, mode: str) -> Config:
    return Config(rollback_strategy=RollbackStrategy(strategy), backup_mode=BackupMode(mode))


def flags(intent: Intent) -> str:
    names = ("make_backup", "undo", "restore", "existing", "delete_backup")
    return " ".join(name for name in names if getattr(intent, name))


@pytest.mark.parametrize(
    ("strategy", "mode", "expected"),
    [
        ("backup", "full", "make_backup restore delete_backup"),
        ("backup", "create_only", "make_backup"),
        ("backup", "restore_only", "restore existing"),
        ("backup", "manual", ""),
        ("down", "full", "undo"),
        ("down", "create_only", "make_backup undo"),
        ("down", "restore_only", "undo existing"),
        ("down", "manual", "undo"),
        ("both", "full", "make_backup undo restore delete_backup"),
        ("both", "create_only", "make_backup undo"),
        ("both", "restore_only", "undo restore existing"),
        ("both", "manual", "undo"),
        ("none", "full", ""),
        ("none", "create_only", "make_backup"),
        ("none", "restore_only", "existing"),
        ("none", "manual", ""),
    ],
)
def test_what_strategy_and_mode_ask_for(strategy: str, mode: str, expected: str) -> None:
    assert flags(intend(config(strategy, mode))) == expected


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("backup", "make_backup restore delete_backup"),
        ("down", ""),
        ("both", "make_backup restore delete_backup"),
        ("none", ""),
    ],
)
def test_a_way_down_is_not_undone_by_ways_down(strategy: str, expected: str) -> None:
    assert flags(intend(config(strategy, "full"), "down")) == expected


def test_delete_backup_off_keeps_it() -> None:
    settings = config("backup", "full")
    settings.backup.delete_backup = False
    assert not intend(settings).delete_backup


# -- what may have changed -------------------------------------------------------------------------


def under_way(way: Any = "message", **settings: Any) -> Course:
    return Course(step=SECOND, way=way, **settings)


@pytest.mark.parametrize(
    ("course", "error", "expected"),
    [
        (under_way(), ScriptFailed("no"), False),
        (under_way(None, together=True), ScriptFailed("no"), False),
        (Course(), ScriptFailed("no"), False),
        (under_way(touched=True), ScriptFailed("no"), True),
        (under_way("outside", note="statements:1"), ScriptFailed("no"), True),
        (under_way("batched", note="batches:1"), ScriptFailed("no"), True),
        (under_way(), ConnectionLost("gone"), True),
        (under_way(), KeyboardInterrupt(), True),
    ],
)
def test_whether_the_database_may_be_different(course: Course, error: BaseException, expected: bool) -> None:
    assert may_have_changed(course, error) is expected


# -- recovering ------------------------------------------------------------------------------------


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    async with MemoryHandler() as handler:
        runs = Runs(folder=tmp_path, handler=handler)
        await handler.run(handler.schema_version.ensure, WorkOptions())
        yield runs


class Restore:
    """A restore that can fail; counts how often it was asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


async def fail(runs: Runs, strategy: str, restore: Restore | None = None, direction: Direction = "up") -> Recovery:
    """Run what is pending, which must fail, and recover from it."""
    runs.config.rollback_strategy = RollbackStrategy(strategy)
    decided = await runs.plan(direction, 0 if direction == "down" else None)
    with pytest.raises(ScriptFailed) as raised:
        await runs.apply(direction, 0 if direction == "down" else None)
    return await recovered(runs, decided, raised.value, restore)


async def recovered(runs: Runs, decided: Plan, error: BaseException, restore: Restore | None = None) -> Recovery:
    return await recover(
        runs.handler, decided, runs.config, runs.course, restore, error, runs.heard.append, run="run-1"
    )


def steps(runs: Runs, *failing: str) -> None:
    """Migrations 1 and 2, which can be undone, and 3, which fails."""
    for number in (1, 2):
        runs.write(f"{number}_step{number}.up.sql", f"put t{number} a 1")
        runs.write(f"{number}_step{number}.down.sql", f"drop t{number}")
    runs.write("3_bad.up.sql", *(failing or ("put t3 a 1", "drop nowhere")))
    runs.write("3_bad.down.sql", "drop t3")


@pytest.mark.parametrize("mode", [TransactionMode.PER_MIGRATION, TransactionMode.PER_BATCH])
async def test_what_the_run_has_applied_is_undone_newest_first(runs: Runs, mode: TransactionMode) -> None:
    steps(runs)
    before = await runs.contents()
    runs.config.transaction.mode = mode
    recovery = await fail(runs, "down")
    expected = ["step2", "step1"] if mode is TransactionMode.PER_MIGRATION else []
    assert (names(recovery.undone), recovery.error) == (expected, None)
    assert await runs.contents() == before
    assert len(runs.told(RecoveryStarted)) == 1


async def test_what_was_there_before_the_run_is_not_undone(runs: Runs) -> None:
    runs.write("1_old.up.sql", "put old a 1")
    await runs.apply(run="an earlier run")
    runs.write("2_bad.up.sql", "drop nowhere")
    runs.config.missing_down = None
    runs.write("2_bad.down.sql", "drop nowhere")
    recovery = await fail(runs, "down")
    assert (recovery.undone, await runs.ids()) == ((), ["1"])


async def test_a_down_that_fails_is_given_with_its_name_and_those_before_it_stay_undone(runs: Runs) -> None:
    steps(runs)
    runs.write("1_step1.down.sql", "drop nowhere")
    recovery = await fail(runs, "down")
    assert names(recovery.undone) == ["step2"]
    assert isinstance(recovery.error, DownFailed)
    assert str(recovery.error.migration) == "V202601010001_step1"
    assert await runs.ids() == ["1"]


async def test_a_down_that_fails_is_what_the_backup_is_for(runs: Runs) -> None:
    steps(runs)
    runs.write("1_step1.down.sql", "drop nowhere")
    restore = Restore()
    recovery = await fail(runs, "both", restore)
    assert (recovery.restored, restore.asked) == (True, 1)
    assert isinstance(recovery.down_error, DownFailed)
    assert recovery.error is None


async def test_downs_that_all_work_leave_the_backup_alone(runs: Runs) -> None:
    steps(runs)
    restore = Restore()
    recovery = await fail(runs, "both", restore)
    assert (names(recovery.undone), restore.asked, recovery.down_error) == (["step2", "step1"], 0, None)


async def test_a_restore_that_fails_is_the_recoverys_error(runs: Runs) -> None:
    steps(runs)
    problem = RestoreFailed("disk")
    recovery = await fail(runs, "backup", Restore(problem))
    assert (recovery.restored, recovery.error, recovery.undone) == (False, problem, ())


async def test_a_run_down_is_restored_and_never_undone(runs: Runs) -> None:
    steps(runs, "put t3 a 1")
    runs.write("1_step1.down.sql", "drop nowhere")
    await runs.apply(run="an earlier run")
    restore = Restore()
    recovery = await fail(runs, "both", restore, "down")
    assert (recovery.undone, recovery.restored) == ((), True)


# -- a migration that is half-done -----------------------------------------------------------------

HALF_DONE = ("-- msr: no-transaction", "put t3 a 1", "drop nowhere")
NOT_BEGUN = ("-- msr: no-transaction", "drop nowhere")
BATCHED = """
from msr_async.batching import batches
async def down(db, ctx): ...
@batches()
async def data(db, ctx, batch):
    if batch.number == 2: raise OSError("stop")
    return batch.after(1, rows=1)
"""


def batched(runs: Runs) -> None:
    steps(runs)
    for path in runs.folder.glob("*_bad.*"):
        path.unlink()
    runs.write("3_bad.py", BATCHED)


async def test_nothing_below_a_half_done_script_is_undone(runs: Runs) -> None:
    steps(runs, *HALF_DONE)
    recovery = await fail(runs, "down")
    assert (recovery.half_done, recovery.undone, recovery.error) == (True, (), None)
    assert await runs.ids() == ["1", "2"]
    assert await runs.handler.schema_version.note("statements:202601010003") is not None


async def test_nothing_below_half_done_batches_is_undone_and_their_note_stays(runs: Runs) -> None:
    batched(runs)
    recovery = await fail(runs, "down")
    assert (recovery.half_done, recovery.undone, await runs.ids()) == (True, (), ["1", "2"])
    assert (await runs.handler.schema_version.note("batches:202601010003"))["number"] == 1


async def test_a_half_done_migration_is_told_of_without_a_way_back_too(runs: Runs) -> None:
    batched(runs)
    recovery = await fail(runs, "none")
    assert recovery == Recovery(half_done=True)
    assert runs.told(RecoveryStarted) == []


async def test_a_half_done_migration_is_what_the_backup_is_for(runs: Runs) -> None:
    steps(runs, *HALF_DONE)
    restore = Restore()
    recovery = await fail(runs, "both", restore)
    assert (recovery.restored, recovery.undone) == (True, ())
    assert "V202601010003_bad is half-done" in str(recovery.down_error)


async def test_a_script_outside_of_a_transaction_that_has_done_nothing_holds_up_no_undoing(runs: Runs) -> None:
    steps(runs, *NOT_BEGUN)
    recovery = await fail(runs, "down")
    assert (recovery.half_done, names(recovery.undone), await runs.ids()) == (False, ["step2", "step1"], [])


@pytest.mark.parametrize(("lines", "asked"), [(NOT_BEGUN, 0), (HALF_DONE, 1)])
async def test_a_backup_is_put_back_only_over_what_such_a_script_has_done(
    runs: Runs, lines: tuple[str, ...], asked: int
) -> None:
    runs.write("1_alone.up.sql", *lines)
    restore = Restore()
    recovery = await fail(runs, "backup", restore)
    assert (restore.asked, recovery.restored) == (asked, bool(asked))


async def test_a_named_backup_is_put_back_in_any_case(runs: Runs) -> None:
    runs.write("1_alone.up.sql", *NOT_BEGUN)
    runs.config.backup_mode = BackupMode.RESTORE_ONLY
    restore = Restore()
    await fail(runs, "backup", restore)
    assert restore.asked == 1


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        (None, False),
        ({"statement": 0, "begun": ""}, False),
        ({"statement": 0, "begun": "checksum of the first"}, True),
        ({"statement": 1, "begun": ""}, True),
    ],
)
async def test_a_script_is_half_done_when_a_statement_is_done_or_nobody_knows(
    runs: Runs, note: Any, expected: bool
) -> None:
    decided = await after_two_steps(runs)

    async def keep(conn: MemoryConnection) -> None:
        await runs.handler.schema_version.keep_note(conn, "statements:1", note)

    await runs.handler.run(keep, WorkOptions())
    runs.course.way, runs.course.note = "outside", "statements:1"
    assert (await recovered(runs, decided, ScriptFailed("no"))).half_done is expected


async def test_what_somebody_else_has_applied_meanwhile_is_not_undone(runs: Runs) -> None:
    decided = await after_two_steps(runs)
    runs.config.rollback_strategy = RollbackStrategy.DOWN
    second = (await runs.handler.schema_version.applied())[1]
    await record(runs, replace(second, run="run-2"), replace=True)
    recovery = await recovered(runs, decided, ConnectionLost("the lock was lost"))
    assert names(recovery.undone) == ["bad", "step1"]
    assert await runs.ids() == ["2"]


async def test_a_repeatable_script_stays_and_is_named(runs: Runs) -> None:
    runs.write("1_step.up.sql", "put t1 a 1")
    runs.write("1_step.down.sql", "drop t1")
    runs.write("R__a.sql", "put views a 1")
    runs.write("R__b.sql", "drop nowhere")
    recovery = await fail(runs, "down")
    assert (names(recovery.undone), names(recovery.stayed)) == (["step"], ["a"])
    assert await runs.ids() == ["R__a"]


async def test_a_repeatable_script_that_ran_is_what_the_backup_is_for(runs: Runs) -> None:
    runs.write("R__a.sql", "put views a 1")
    runs.write("R__b.sql", "drop nowhere")
    restore = Restore()
    recovery = await fail(runs, "both", restore)
    assert recovery.restored
    assert str(recovery.down_error) == "R__a has no down."


# -- somebody else has migrated since --------------------------------------------------------------


async def record(runs: Runs, entry: AppliedMigration, *, replace: bool = False) -> None:
    async def work(conn: MemoryConnection) -> None:
        await runs.handler.schema_version.record(conn, entry, replace=replace)

    await runs.handler.run(work, WorkOptions())


THEIRS = AppliedMigration(
    version=202601010009,
    name="theirs",
    checksum="ab",
    applied_at=datetime(2026, 1, 2, tzinfo=UTC),
    duration=0.1,
    applied_by="eve@elsewhere",
    run="run-2",
)


async def after_two_steps(runs: Runs) -> Plan:
    """What a run of migrations 1 and 2 leaves, for a failure that comes then."""
    steps(runs, "put t3 a 1")
    decided = await runs.plan()
    runs.config.rollback_strategy = RollbackStrategy.BACKUP
    await runs.apply()
    return decided


async def test_a_backup_is_not_put_back_over_what_others_have_applied_since(runs: Runs) -> None:
    decided = await after_two_steps(runs)
    await record(runs, THEIRS)
    restore = Restore()
    recovery = await recovered(runs, decided, ConnectionLost("the lock was lost"), restore)
    assert (restore.asked, recovery.restored) == (0, False)
    assert isinstance(recovery.error, RestoreFailed)
    assert "eve@elsewhere has meanwhile applied V202601010009_theirs" in str(recovery.error)


async def test_lines_from_before_and_of_this_run_hold_up_no_restore(runs: Runs) -> None:
    await record(runs, THEIRS)
    runs.config.out_of_order = runs.config.out_of_order.__class__("allow")
    runs.write("9_theirs.up.sql", "put t9 a 1")
    runs.config.changed_file = runs.config.changed_file.__class__("ignore")
    decided = await after_two_steps(runs)
    await record(runs, replace(THEIRS, fingerprint="noted since"), replace=True)
    restore = Restore()
    recovery = await recovered(runs, decided, ScriptFailed("no"), restore)
    assert (restore.asked, recovery.restored) == (1, True)


@pytest.mark.parametrize(("error", "restored"), [(OSError("damaged"), True), (ConnectionLost("gone"), False)])
async def test_a_history_that_cannot_be_read_is_what_a_restore_is_for_but_not_without_a_connection(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, error: Exception, restored: bool
) -> None:
    decided = await after_two_steps(runs)

    async def applied(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(type(runs.handler.schema_version), "applied", applied)
    restore = Restore()
    recovery = await recovered(runs, decided, ScriptFailed("no"), restore)
    assert (restore.asked, recovery.restored) == (int(restored), restored)
    assert recovery.error is (None if restored else error)


async def test_a_dropped_history_is_restored(runs: Runs) -> None:
    decided = await after_two_steps(runs)
    await runs.handler.db.drop("schema_version")
    restore = Restore()
    assert (await recovered(runs, decided, ScriptFailed("no"), restore)).restored


async def test_a_lost_connection_is_told_once_and_then_the_history_is_read(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = await after_two_steps(runs)
    real, lost = type(runs.handler.schema_version).applied, [ConnectionLost("gone")]

    async def applied(self: Any) -> Any:
        if lost:
            raise lost.pop()
        return await real(self)

    monkeypatch.setattr(type(runs.handler.schema_version), "applied", applied)
    assert (await recovered(runs, decided, ConnectionLost("gone"), Restore())).restored


async def test_a_recovery_that_takes_too_long_ends_and_says_so(runs: Runs) -> None:
    decided = await after_two_steps(runs)
    object.__setattr__(runs.config, "recovery_timeout", 0.05)

    class Slow(Restore):
        async def __call__(self) -> None:
            await anyio.sleep(60)

    recovery = await recovered(runs, decided, ScriptFailed("no"), Slow())
    assert "The recovery was stopped after 0 s." in str(recovery.error)


# -- the verdict -----------------------------------------------------------------------------------


def result(
    *,
    backup: BackupInfo | None = BACKUP,
    undone: tuple[Migration, ...] = (),
    executed: tuple[Migration, ...] = (FIRST,),
    direction: Direction = "up",
) -> MigrationResult:
    return MigrationResult(
        success=False, executed=executed, failed=SECOND, backup=backup, undone=undone, direction=direction
    )


def told(strategy: str, mode: str, recovery: Recovery, **settings: object) -> str:
    error = settings.pop("error", ValueError("no"))
    course = settings.pop("course", under_way())
    assert isinstance(error, BaseException)
    assert isinstance(course, Course)
    return str(verdict(config(strategy, mode), result(**settings), error, recovery, course))  # type: ignore[arg-type]


def test_a_restored_run_says_that_all_is_as_before() -> None:
    assert told("backup", "full", Recovery(restored=True)) == (
        "Migration V202601010002_y failed: no. "
        "The backup my backups/a.msrbak was restored: the database is as it was before the run, "
        "at 00:00:00 UTC. What other sessions have written since then is gone."
    )


def test_a_kept_backup_comes_with_the_command_that_restores_it() -> None:
    assert told("backup", "create_only", Recovery()) == (
        "Migration V202601010002_y failed: no. Applied before it and kept: V202601010001_x. "
        "Its own transaction was rolled back. Nothing was restored. "
        "To go back to the state before the run, data included: msr-async backup restore 'my backups/a.msrbak'"
    )


GO_BACK = "To go back to the state before the run, data included: msr-async backup restore 'my backups/a.msrbak'"
NOTHING_TO_DO = "Nothing has to be restored; the backup my backups/a.msrbak was kept."
OUTSIDE = under_way("outside", note="statements:1")


@pytest.mark.parametrize(
    ("strategy", "mode", "recovery", "settings", "end"),
    [
        ("down", "create_only", Recovery(undone=(FIRST,)), {"undone": (FIRST,)}, GO_BACK),
        ("down", "create_only", Recovery(half_done=True), {"course": OUTSIDE}, GO_BACK),
        ("both", "create_only", Recovery(undone=(FIRST,), stayed=(SECOND,)), {"undone": (FIRST,)}, GO_BACK),
        ("none", "create_only", Recovery(half_done=True), {"course": OUTSIDE, "executed": ()}, GO_BACK),
        ("none", "create_only", Recovery(), {"course": under_way(touched=True), "executed": ()}, GO_BACK),
        ("none", "create_only", Recovery(), {"error": ConnectionLost("gone"), "executed": ()}, GO_BACK),
        ("none", "create_only", Recovery(), {"error": asyncio.CancelledError(), "executed": ()}, GO_BACK),
        (
            "down",
            "restore_only",
            Recovery(),
            {},
            GO_BACK.replace("the state before the run, data included", "that backup"),
        ),
        ("backup", "full", Recovery(), {"executed": ()}, NOTHING_TO_DO),
        ("backup", "full", Recovery(), {"course": OUTSIDE, "executed": ()}, NOTHING_TO_DO),
        ("none", "create_only", Recovery(), {"executed": ()}, NOTHING_TO_DO),
        ("down", "create_only", Recovery(), {"executed": ()}, NOTHING_TO_DO),
        (
            "none",
            "manual",
            Recovery(),
            {"executed": (), "backup": None},
            "as it was before the run. Nothing was restored.",
        ),
    ],
)
def test_what_to_do_with_a_backup_that_was_not_put_back_is_said(
    strategy: str, mode: str, recovery: Recovery, settings: dict[str, object], end: str
) -> None:
    assert told(strategy, mode, recovery, **settings).endswith(end)


def test_an_undone_run_names_what_was_undone() -> None:
    text = told("down", "full", Recovery(undone=(FIRST,)), backup=None, undone=(FIRST,))
    assert text.endswith("Undone: V202601010001_x. The database is at the version it was at before.")


def test_nothing_to_undo_says_so() -> None:
    assert "Nothing of the run was left to undo." in told("down", "full", Recovery(), backup=None)


def test_a_lost_connection_leaves_the_last_commit_open() -> None:
    text = told("none", "manual", Recovery(), backup=None, error=ConnectionLost("gone"))
    assert "Whether its own transaction was committed is not known" in text


def test_a_failed_recovery_carries_both_errors_and_the_command() -> None:
    failure = verdict(
        config("both", "full"),
        result(undone=(FIRST,)),
        ValueError("one"),
        Recovery(error=OSError("two")),
        under_way(),
    )
    assert isinstance(failure, RecoveryFailed)
    assert (str(failure.error), str(failure.recovery_error)) == ("one", "two")
    assert "Undone before that: V202601010001_x." in str(failure)
    assert "msr-async backup restore 'my backups/a.msrbak'" in str(failure)


def test_a_failed_recovery_without_a_backup_points_at_status() -> None:
    text = told("down", "full", Recovery(error=OSError("two")), backup=None)
    assert "msr-async status" in text


def test_a_restore_after_downs_that_failed_says_why() -> None:
    text = told("both", "full", Recovery(restored=True, down_error=ValueError("bad down")))
    assert "The ways down did not lead back (bad down). The backup my backups/a.msrbak was restored" in text


def test_a_half_done_script_says_where_the_next_run_goes_on() -> None:
    course = under_way("outside", note="statements:1")
    text = told("none", "manual", Recovery(half_done=True), backup=None, course=course)
    assert text == (
        "Migration V202601010002_y failed: no. Applied before it and kept: V202601010001_x. It ran outside of a "
        "transaction: what it did stays, and the next run goes on from there. Nothing was restored."
    )


def test_half_done_batches_under_down_say_that_nothing_below_was_undone() -> None:
    course = under_way("batched", note="batches:1")
    text = told("down", "full", Recovery(half_done=True), backup=None, course=course)
    assert text.endswith(
        "Its finished batches stay, and the next run goes on after them. So nothing that ran before it was undone."
    )


def test_python_outside_of_a_transaction_leaves_what_it_did() -> None:
    text = told("none", "manual", Recovery(), backup=None, course=under_way("outside", touched=True))
    assert "It ran outside of a transaction: what it did stays." in text


def test_a_script_outside_of_a_transaction_that_did_nothing_says_so() -> None:
    course = under_way("outside", note="statements:1")
    text = told("backup", "full", Recovery(), executed=(), course=course)
    assert "Nothing was applied. It left nothing behind. The database is as it was before the run." in text


def test_a_batch_of_all_says_that_all_was_rolled_back() -> None:
    course = under_way(None, together=True)
    text = told("backup", "full", Recovery(), executed=(), course=course)
    assert "The transaction of the whole run was rolled back. The database is as it was before the run." in text


def test_repeatable_scripts_that_stay_are_named() -> None:
    views = replace(FIRST, version=None, name="views", kind="repeatable")
    text = told("down", "full", Recovery(undone=(FIRST,), stayed=(views,)), backup=None, undone=(FIRST,))
    assert text.endswith("Undone: V202601010001_x. There is no way down from R__views: what this run made of it stays.")


def test_a_failed_way_down_says_what_was_undone() -> None:
    text = told("down", "full", Recovery(), backup=None, direction="down")
    assert text == (
        "Migration V202601010002_y failed: no. Undone before it and kept: V202601010001_x. "
        "Its own transaction was rolled back. Nothing was restored."
    )


async def test_without_a_word_from_the_lock_no_backup_is_put_back(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent() -> None:
        raise DatabaseError("the server did not answer in time")

    steps(runs)
    restore = Restore()
    decided = await runs.plan("up", None)
    runs.config.rollback_strategy = RollbackStrategy("backup")
    with pytest.raises(ScriptFailed) as raised:
        await runs.apply("up", None)
    assert runs.handler.lock is not None
    monkeypatch.setattr(runs.handler.lock, "check", silent)
    recovery = await recovered(runs, decided, raised.value, restore)
    assert (restore.asked, recovery.restored) == (0, False)
    assert isinstance(recovery.error, DatabaseError)
