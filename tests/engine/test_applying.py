"""What a run does with each kind of migration, in each transaction mode, up and down."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from msr_async import ConnectionLost, Event, ScriptFailed
from msr_async._engine.applying import Course, apply, whoami
from msr_async._engine.loading import load
from msr_async.config import TransactionMode
from msr_async.events import MigrationErred, MigrationFinished, MigrationRetried, MigrationStarted, Noticed
from msr_async.models import Plan
from msr_async.protocols import WorkOptions
from msr_async.testing import Conflict, MemoryConnection, MemoryHandler
from tests.support.runs import Noting, Runs, names


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    async with Noting("shop") as handler:
        yield Runs(folder=tmp_path, handler=handler)


FAILS_TWICE = (
    "tries = await ctx.handler.db.get('tries', ctx.name) + 1",
    "await ctx.handler.db.put('tries', ctx.name, tries)",
    "await db.put('mine', str(tries), 1)",
    "if tries < 3: raise Conflict('no')",
)


def units(runs: Runs) -> list[WorkOptions]:
    """How the units after the book's were asked for."""
    assert isinstance(runs.handler, Noting)
    return runs.handler.units[1:]


# -- Python as a module ---------------------------------------------------------------------------


async def test_the_module_is_whole_while_it_runs_and_gone_afterwards(runs: Runs) -> None:
    text = """
from __future__ import annotations
import sys
from dataclasses import dataclass, field
from typing import ClassVar

@dataclass
class Row:
    kind: ClassVar[str] = "row"
    name: str = field(default="a")

async def up(db, ctx):
    assert sys.modules[__name__].Row is Row
    assert __file__.endswith("step.py")
    await db.put("t", Row().name, f"{ctx.version} {ctx.name} {ctx.handler.name}")
"""
    runs.write("1_step.py", text)
    await runs.apply()
    assert await runs.rows("t") == {"a": "202601010001 step shop"}
    assert not [name for name in sys.modules if name.startswith("_msr_async_migration")]


async def test_up_and_down_each_get_a_fresh_module(runs: Runs) -> None:
    count = ("seen.append(1)", "await db.put('t', ctx.name + str(len(seen)), len(seen))")
    runs.python("1_step", *count, down=("seen.append(1)", "await db.put('t', 'down', len(seen))"), top=("seen = []",))
    await runs.apply()
    await runs.apply("down", 0)
    assert await runs.rows("t") == {"step1": 1, "down": 1}
    assert await runs.ids() == []


async def test_the_text_that_was_checked_is_what_runs(runs: Runs) -> None:
    path = runs.python("1_x", "await db.put('t', 'a', 1)")
    folder = await load(runs.folder)
    path.write_text("async def up(db, ctx):\n    await db.put('t', 'a', 2)\n")
    await runs.handler.run(runs.handler.schema_version.ensure, WorkOptions())
    decided = Plan(pending=folder.migrations, applied=())
    await apply(runs.handler, decided, runs.config, runs.heard.append, Course(), by="me", run="r")
    assert await runs.rows("t") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("import nowhere_at_all\nasync def up(db, ctx): ...", 1, "ModuleNotFoundError: No module named"),
        ("async def up(db, ctx):\n    return 1 / 0", 2, "ZeroDivisionError: division by zero"),
        ("async def up(db, ctx):\n    await db.drop('none')", 2, "DatabaseError: There is no table none."),
        ("async def up(db, ctx):\n    helper()\ndef helper():\n    raise KeyError('k')", 4, "KeyError: 'k'"),
        ("async def up(db, ctx):\n    raise ValueError", 2, "ValueError"),
        ("async def up(db, ctx):\n    raise SystemExit(3)", 2, "SystemExit: 3"),
        ("async def up(db, ctx):\n    raise KeyboardInterrupt", 2, "KeyboardInterrupt"),
        ("async def up(db, ctx):\n    raise GeneratorExit", 2, "GeneratorExit"),
        ("import asyncio\nasync def up(db, ctx):\n    raise asyncio.CancelledError", 3, "CancelledError"),
        (
            "async def up(db, ctx):\n    raise BaseExceptionGroup('g', [KeyboardInterrupt()])",
            2,
            "BaseExceptionGroup: g",
        ),
        ("async def up(db, ctx): ...\nraise KeyboardInterrupt", 2, "KeyboardInterrupt"),
        ("import asyncio\nasync def up(db, ctx): ...\nraise asyncio.CancelledError", 3, "CancelledError"),
        ("async def up(db, ctx): ...\nraise GeneratorExit", 2, "GeneratorExit"),
        (
            "async def up(db, ctx):\n    raise E\nclass E(Exception):\n    def __str__(self): return 1 / 0",
            2,
            "E: its message cannot be read (ZeroDivisionError)",
        ),
    ],
)
@pytest.mark.parametrize("mode", list(TransactionMode))
async def test_an_error_tells_its_place_in_the_file(
    runs: Runs, mode: TransactionMode, text: str, line: int, message: str
) -> None:
    path = runs.write("1_step.py", text)
    runs.config.transaction.mode = mode
    with pytest.raises(ScriptFailed, match=re.escape(message)) as raised:
        await runs.apply()
    assert (raised.value.line, raised.value.path) == (line, path)
    assert raised.value.__cause__ is not None
    assert await runs.ids() == []
    assert not [name for name in sys.modules if name.startswith("_msr_async_migration")]


# -- the history ----------------------------------------------------------------------------------


async def test_the_line_says_who_did_what_when_and_in_which_run(runs: Runs) -> None:
    runs.write("1_orders.up.sql", "put orders a 1")
    runs.python("2_more", "await db.put('orders', 'b', '2')")
    await runs.apply(run="run-7")
    first, second = await runs.handler.schema_version.applied()
    for line in (first, second):
        assert (line.applied_by, line.run, line.baseline) == ("me@here", "run-7", False)
        assert line.duration >= 0
    assert first.applied_at < second.applied_at
    assert await runs.rows("orders") == {"a": "1", "b": "2"}


async def test_down_runs_the_newest_first_and_strikes_the_lines_out(runs: Runs) -> None:
    for number in (1, 2, 3):
        runs.write(f"{number}_step.up.sql", f"put t{number} a 1")
        runs.write(f"{number}_step.down.sql", f"drop t{number}")
    await runs.apply()
    runs.heard.clear()
    course = await runs.apply("down", 202601010001)
    assert [migration.version for migration in course.executed] == [202601010003, 202601010002]
    assert await runs.ids() == ["1"]
    assert "t2" not in await runs.contents()
    assert {event.direction for event in runs.told(MigrationFinished)} == {"down"}


async def test_hooks_run_around_and_are_not_recorded(runs: Runs) -> None:
    runs.write("before_migrate.sql", "put order a before")
    runs.write("1_step.up.sql", "put order b 1")
    runs.write("R__views.sql", "put order c views")
    runs.write("after_migrate.py", "async def up(db, ctx):\n    await db.put('order', 'd', [ctx.name, ctx.version])")
    for mode in TransactionMode:
        runs.config.transaction.mode = mode
        runs.write("R__views.sql", f"put order c {mode}")
        course = await runs.apply()
        assert list((await runs.rows("order")).values())[-1:] == [["after_migrate", None]]
        assert "before_migrate" not in names(course.executed)
        assert await runs.ids() == ["1", "R__views"]
        assert await runs.rows("order") == {"a": "before", "b": "1", "c": mode, "d": ["after_migrate", None]}
    assert names(event.migration for event in runs.told(MigrationStarted))[:4] == [
        "before_migrate",
        "step",
        "views",
        "after_migrate",
    ]
    assert await runs.handler.schema_version.note("statements:R__before_migrate") is None


async def test_a_repeatable_script_that_changed_runs_again_and_has_one_line(runs: Runs) -> None:
    runs.python("R__rights", "await db.put('rights', 'a', 1)")
    path = runs.folder / "R__rights.py"
    path.write_text("async def up(db, ctx):\n    await db.put('rights', 'a', 1)\n")
    await runs.apply(run="one")
    path.write_text("async def up(db, ctx):\n    await db.put('rights', 'a', 2)\n")
    await runs.apply(run="two")
    assert [(line.id, line.run) for line in await runs.handler.schema_version.applied()] == [("R__rights", "two")]
    assert await runs.rows("rights") == {"a": 2}


# -- one migration, one transaction ---------------------------------------------------------------


async def test_the_first_failure_ends_it_and_what_was_done_is_known(runs: Runs) -> None:
    runs.write("1_good.up.sql", "put t a 1")
    runs.write("2_bad.up.sql", "put t b 1", "drop nowhere")
    runs.write("3_never.up.sql", "put t c 1")
    with pytest.raises(ScriptFailed, match="nowhere") as raised:
        await runs.apply()
    assert raised.value.line == 2
    assert names(runs.course.executed) == ["good"]
    assert runs.course.step is not None
    assert runs.course.step.name == "bad"
    assert await runs.rows("t") == {"a": "1"}
    assert [type(event) for event in runs.heard] == [
        MigrationStarted,
        MigrationFinished,
        MigrationStarted,
        MigrationErred,
    ]


async def test_only_the_last_commit_of_a_run_waits_for_the_disk(runs: Runs) -> None:
    for number in (1, 2, 3):
        runs.write(f"{number}_step.up.sql", f"put t a {number}")
    runs.python("4_last", "await db.put('t', 'a', 4)")
    await runs.apply()
    assert [options.durable for options in units(runs)] == [False, False, False, True]


async def test_settings_reach_the_unit_and_a_script_has_the_last_word(runs: Runs) -> None:
    transaction = runs.config.transaction
    transaction.lock_timeout, transaction.statement_timeout, transaction.isolation = 3, 60, "repeatable read"
    runs.write("1_plain.up.sql", "put t a 1")
    runs.write(
        "2_own.up.sql",
        "-- msr: lock-timeout=500ms, statement-timeout=0",
        "-- msr: isolation=serializable",
        "put t b 1",
    )
    runs.python("3_own", "await db.put('t', 'c', 1)", top=("lock_timeout = '2s'",))
    await runs.apply()
    assert [(options.lock_timeout, options.statement_timeout, options.isolation) for options in units(runs)] == [
        (3, 60, "repeatable read"),
        (0.5, 0, "serializable"),
        (2, 60, "repeatable read"),
    ]


async def test_what_the_server_says_is_told_of_the_migration_that_runs(runs: Runs) -> None:
    runs.write("1_one.up.sql", "put t a 1")
    runs.python("2_two", "await db.put('t', 'b', 1)")
    assert isinstance(runs.handler, Noting)
    runs.handler.says = ("NOTICE", "relation exists, skipping")
    await runs.apply()
    told = [(event.migration.name, event.severity, event.message) for event in runs.told(Noticed)]
    assert told == [(name, "NOTICE", "relation exists, skipping") for name in ("one", "two")]


async def test_a_lost_lock_stops_the_run_before_the_next_migration(runs: Runs) -> None:
    for number in (1, 2, 3):
        runs.write(f"{number}_step.up.sql", f"put t{number} a 1")

    class Thief(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if isinstance(event, MigrationFinished):
                runs.handler.database.holder = None

    runs.heard = Thief()
    with pytest.raises(ConnectionLost):
        await runs.apply()
    assert await runs.ids() == ["1"]
    assert len(units(runs)) == 1


# -- one transaction for all ----------------------------------------------------------------------


async def test_per_batch_all_or_nothing(runs: Runs) -> None:
    runs.config.transaction.mode = TransactionMode.PER_BATCH
    runs.write("1_one.up.sql", "put t a 1")
    runs.python("2_two", "await db.put('t', 'b', await db.get('t', 'a'))")
    bad = runs.write("3_three.up.sql", "drop nowhere")
    with pytest.raises(ScriptFailed, match="nowhere"):
        await runs.apply()
    assert (await runs.ids(), await runs.rows("t")) == ([], {})
    assert (runs.course.executed, runs.course.together) == ([], True)
    assert [event.migration.name for event in runs.told(MigrationErred)] == ["three"]
    assert runs.told(MigrationFinished) == []
    bad.write_text("put t c 3")
    course = await runs.apply()
    assert (await runs.ids(), await runs.rows("t")) == (["1", "2", "3"], {"a": "1", "b": "1", "c": "3"})
    assert names(course.executed) == names(event.migration for event in runs.told(MigrationFinished))
    assert course.step is None


async def test_per_batch_is_one_unit_as_patient_as_its_most_patient_script(runs: Runs) -> None:
    transaction = runs.config.transaction
    transaction.mode, transaction.statement_timeout = TransactionMode.PER_BATCH, 60
    runs.write("1_one.up.sql", "-- msr: lock-timeout=30s, statement-timeout=10s", "put t a 1")
    runs.write("2_two.up.sql", "-- msr: lock-timeout=1s, statement-timeout=0", "put t b 1")
    await runs.apply()
    (options,) = units(runs)
    assert (options.lock_timeout, options.statement_timeout, options.durable) == (30, 0, True)
    assert options.isolation is None


async def test_a_rehearsal_is_as_strict_as_its_strictest_script(runs: Runs) -> None:
    runs.config.transaction.isolation = "repeatable read"
    runs.write("1_one.up.sql", "put t a 1")
    runs.write("2_two.up.sql", "-- msr: isolation=serializable", "put t b 1")
    runs.write("3_three.up.sql", "-- msr: isolation=read committed", "put t c 1")
    await runs.rehearse()
    assert isinstance(runs.handler, Noting)
    assert [options.isolation for options in runs.handler.units] == ["serializable"]


async def test_per_batch_a_transient_error_repeats_all_of_it(runs: Runs) -> None:
    runs.config.transaction.mode = TransactionMode.PER_BATCH
    runs.config.transaction.retry_delay = 0
    await runs.handler.db.put("tries", "two", 0)
    runs.write("1_one.up.sql", "put t a 1")
    runs.python("2_two", *FAILS_TWICE, top=("from msr_async.testing import Conflict",))
    await runs.apply()
    assert await runs.rows("tries") == {"two": 3}
    assert [(event.attempt, event.migration.name) for event in runs.told(MigrationRetried)] == [(1, "two"), (2, "two")]
    assert names(event.migration for event in runs.told(MigrationStarted)) == ["one", "two"] * 3
    assert await runs.ids() == ["1", "2"]


async def test_per_batch_down_too(runs: Runs) -> None:
    runs.config.transaction.mode = TransactionMode.PER_BATCH
    for number in (1, 2):
        runs.write(f"{number}_step.up.sql", f"put t{number} a 1")
    first = runs.write("1_step.down.sql", "drop nowhere")
    runs.write("2_step.down.sql", "drop t2")
    await runs.apply()
    with pytest.raises(ScriptFailed):
        await runs.apply("down", 0)
    assert await runs.ids() == ["1", "2"]
    first.write_text("drop t1")
    await runs.apply("down", 0)
    assert await runs.ids() == []


# -- no transaction -------------------------------------------------------------------------------


async def test_none_leaves_what_was_done_and_the_next_run_goes_on(runs: Runs) -> None:
    runs.config.transaction.mode = TransactionMode.NONE
    runs.write("1_step.up.sql", "put t a 1", "drop obstacle", "put t b 1")
    with pytest.raises(ScriptFailed):
        await runs.apply()
    assert (await runs.ids(), await runs.rows("t")) == ([], {"a": "1"})
    assert runs.course.note == "statements:202601010001"
    assert await runs.handler.schema_version.note(runs.course.note) is not None
    await runs.handler.db.put("t", "a", "changed meanwhile")
    await runs.handler.db.create("obstacle")
    await runs.apply()
    assert (await runs.ids(), await runs.rows("t")) == (["1"], {"a": "changed meanwhile", "b": "1"})
    assert await runs.handler.schema_version.note("statements:202601010001") is None


async def test_none_gives_python_a_connection_without_a_transaction(runs: Runs) -> None:
    runs.python("1_mode", "await db.put('t', 'a', db.in_transaction)", down=("await db.put('t', 'a', 'undone')",))
    await runs.apply()
    assert await runs.rows("t") == {"a": True}
    await runs.apply("down", 0)
    runs.config.transaction.mode = TransactionMode.NONE
    await runs.apply()
    assert (await runs.rows("t"), await runs.ids()) == ({"a": False}, ["1"])
    await runs.apply("down", 0)
    assert (await runs.rows("t"), await runs.ids()) == ({"a": "undone"}, [])


@pytest.mark.parametrize("first", ["-- msr: no-transaction", "-- nothing said"])
async def test_a_script_that_cannot_run_in_a_transaction_runs_outside_of_one(runs: Runs, first: str) -> None:
    runs.write("1_plain.up.sql", "put t a 1")
    runs.write("2_alone.up.sql", first, "alone put t b 1")
    runs.write("2_alone.down.sql", first, "alone put t b undone")
    await runs.apply()
    assert [options.transaction for options in units(runs)] == [True, False, True]
    assert await runs.ids() == ["1", "2"]
    await runs.apply("down", 202601010001)
    assert (await runs.ids(), await runs.rows("t")) == (["1"], {"a": "1", "b": "undone"})


async def test_a_script_that_was_done_before_a_kill_is_only_recorded(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.write("1_step.up.sql", "-- msr: no-transaction", "put t a 1", "put t b 1")
    with monkeypatch.context() as patch:
        patch.setattr(type(runs.handler.schema_version), "record", _killed)
        with pytest.raises(KeyboardInterrupt):
            await runs.apply()
    await runs.handler.db.put("t", "a", "changed meanwhile")
    await runs.apply()
    assert (await runs.ids(), await runs.rows("t")) == (["1"], {"a": "changed meanwhile", "b": "1"})


async def _killed(*arguments: object, **settings: object) -> None:
    raise KeyboardInterrupt


# -- tried again ----------------------------------------------------------------------------------


async def test_a_transient_error_repeats_the_whole_migration_with_a_fresh_module(runs: Runs) -> None:
    runs.config.transaction.retry_delay = 0
    await runs.handler.db.put("tries", "step", 0)
    top = ("from msr_async.testing import Conflict", "seen = []")
    runs.python("1_step", "seen.append(1)", "assert len(seen) == 1", *FAILS_TWICE, top=top)
    await runs.apply()
    assert (await runs.rows("tries"), await runs.rows("mine")) == ({"step": 3}, {"3": 1})
    retried = runs.told(MigrationRetried)
    assert [(event.attempt, event.direction) for event in retried] == [(1, "up"), (2, "up")]
    assert all(isinstance(event.error.__cause__, Conflict) for event in retried)
    assert len(runs.told(MigrationStarted)) == len(runs.told(MigrationFinished)) == 1


async def test_two_transactions_in_each_others_way_both_come_through(runs: Runs) -> None:
    runs.config.transaction.retry_delay = 0
    runs.write("1_step.up.sql", "put t mine 1")
    original, disturbed = MemoryHandler.execute, False

    async def execute(conn: MemoryConnection, script: object, *, resume: str | None = None) -> None:
        nonlocal disturbed
        if not disturbed:
            disturbed = True
            await runs.handler.db.put("t", "theirs", 1)
        await original(runs.handler, conn, script, resume=resume)  # type: ignore[arg-type]

    runs.handler.execute = execute  # type: ignore[method-assign]
    await runs.apply()
    assert await runs.rows("t") == {"mine": "1", "theirs": 1}
    assert len(runs.told(MigrationRetried)) == 1


async def test_retries_end_and_the_error_is_the_last_one(runs: Runs) -> None:
    runs.config.transaction.retry_delay, runs.config.transaction.retries = 0, 2
    runs.python("1_step", "from msr_async.testing import Conflict; raise Conflict('no')")
    with pytest.raises(ScriptFailed, match="Conflict: no"):
        await runs.apply()
    assert len(runs.told(MigrationRetried)) == 2
    assert len(runs.told(MigrationErred)) == 1


async def test_python_without_a_transaction_is_not_tried_again(runs: Runs) -> None:
    runs.config.transaction.mode, runs.config.transaction.retry_delay = TransactionMode.NONE, 0
    runs.python("1_step", "from msr_async.testing import Conflict; await db.put('t', 'a', 1); raise Conflict('no')")
    with pytest.raises(ScriptFailed):
        await runs.apply()
    assert runs.told(MigrationRetried) == []
    assert runs.course.touched


async def test_a_cancellation_does_not_wait_for_the_next_attempt(runs: Runs) -> None:
    runs.config.transaction.retry_delay = 60
    runs.python("1_step", "from msr_async.testing import Conflict; raise Conflict('no')")

    class Stop(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if isinstance(event, MigrationRetried):
                scope.cancel()

    runs.heard = Stop()
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        await runs.apply()
    assert scope.cancelled_caught
    assert await runs.ids() == []


# -- the rest -------------------------------------------------------------------------------------


async def test_an_empty_plan_does_nothing(runs: Runs) -> None:
    for mode in TransactionMode:
        runs.config.transaction.mode = mode
        course = await runs.apply()
        assert (course.executed, course.touched, runs.heard) == ([], False, [])


def test_whoever_runs_it_is_a_user_at_a_host() -> None:
    assert re.fullmatch(r"[^@]+@.+", whoami())


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 123_456_789)
    assert whoami().startswith("123456789@")
