"""Dry runs: everything is run, nothing stays, and what cannot be tried is said."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from msr_async import ScriptFailed
from msr_async.config import TransactionMode
from msr_async.events import MigrationErred, MigrationFinished, MigrationRetried, MigrationStarted, Warned
from tests.support.runs import Noting, Runs, names

EVERY_MODE = pytest.mark.parametrize("mode", list(TransactionMode))


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    async with Noting() as handler:
        yield Runs(folder=tmp_path, handler=handler)


@EVERY_MODE
async def test_up_leaves_no_trace_not_even_a_book(runs: Runs, mode: TransactionMode) -> None:
    runs.config.transaction.mode = mode
    runs.write("before_migrate.sql", "put t before 1")
    runs.write("1_one.up.sql", "put t a 1")
    runs.python("2_two", "await db.put('t', 'b', await db.get('t', 'a'))", "assert await db.get('t', 'before')")
    runs.write("R__views.sql", "put t c 1")
    executed, skipped = await runs.rehearse()
    assert (names(executed), skipped) == (["one", "two", "views"], ())
    assert await runs.contents() == {}
    assert len(runs.told(MigrationStarted)) == len(runs.told(MigrationFinished)) == 4
    await runs.apply()
    assert await runs.ids() == ["1", "2", "R__views"]


@EVERY_MODE
async def test_down_leaves_no_trace(runs: Runs, mode: TransactionMode) -> None:
    for number in (1, 2):
        runs.write(f"{number}_step.up.sql", f"put t{number} a 1")
        runs.write(f"{number}_step.down.sql", f"drop t{number}")
    await runs.apply()
    before = await runs.contents()
    runs.config.transaction.mode = mode
    executed, _ = await runs.rehearse("down", 0)
    assert [migration.version for migration in executed] == [202601010002, 202601010001]
    assert await runs.contents() == before


@EVERY_MODE
async def test_an_error_is_as_in_a_real_run_and_leaves_no_trace(runs: Runs, mode: TransactionMode) -> None:
    runs.config.transaction.mode = mode
    runs.write("1_one.up.sql", "put t a 1")
    path = runs.write("2_two.up.sql", "put t b 1", "drop nowhere")
    with pytest.raises(ScriptFailed, match=re.escape(f"{path}:2: There is no table nowhere.")):
        await runs.rehearse()
    assert await runs.contents() == {}
    assert [event.migration.name for event in runs.told(MigrationErred)] == ["two"]
    assert runs.course.step is not None
    assert runs.course.step.name == "two"


async def test_what_cannot_run_in_a_transaction_is_left_out_and_said(runs: Runs) -> None:
    runs.write("1_one.up.sql", "put t a 1")
    runs.write("2_said.up.sql", "-- msr: no-transaction", "put t b 1")
    runs.write("3_found.up.sql", "alone put t c 1")
    runs.python("4_python", "raise OSError('was run')", top=("no_transaction = True",))
    executed, skipped = await runs.rehearse()
    assert (names(executed), names(skipped)) == (["one"], ["said", "found", "python"])
    assert await runs.contents() == {}
    assert [event.message for event in runs.told(Warned)] == [
        f"{migration} cannot run in a transaction: the dry run leaves it out." for migration in skipped
    ]


async def test_nothing_but_such_scripts_is_no_error(runs: Runs) -> None:
    runs.write("1_found.up.sql", "alone put t c 1")
    executed, skipped = await runs.rehearse()
    assert (executed, names(skipped)) == ((), ["found"])


BATCHED = """
from msr_async.batching import batches
async def up(db, ctx):
    await db.create("new")
@batches(size=1)
async def data(db, ctx, batch):
    await ctx.handler.db.put("calls", str(batch.number), batch.cursor)
    await db.put("new", str(batch.number), 1)
    {}
    return batch.after(batch.number, rows=1) if batch.number < 5 else None
"""


async def test_of_a_data_step_one_batch_is_tried(runs: Runs) -> None:
    runs.write("1_fill.py", BATCHED.format(""))
    executed, _ = await runs.rehearse()
    assert names(executed) == ["fill"]
    assert await runs.contents() == {"calls": {"1": None}}
    (warned,) = runs.told(Warned)
    assert warned.message == "Of the data step of V202601010001_fill the dry run tries one batch."


async def test_of_a_half_done_data_step_it_is_the_next_batch(runs: Runs) -> None:
    path = runs.write("1_fill.py", BATCHED.format("if batch.number == 3: raise OSError('stop')"))
    with pytest.raises(ScriptFailed):
        await runs.apply()
    path.write_text(BATCHED.format("").replace("await db.create", "1 / 0 #"))
    before = await runs.contents()
    before["calls"]["3"] = 2
    await runs.rehearse()
    assert await runs.contents() == before


async def test_a_transient_error_repeats_it_all(runs: Runs) -> None:
    runs.config.transaction.retry_delay = 0
    await runs.handler.db.put("tries", "n", 0)
    runs.python(
        "1_step",
        "n = await ctx.handler.db.get('tries', 'n') + 1",
        "await ctx.handler.db.put('tries', 'n', n)",
        "if n < 2: raise Conflict('no')",
        top=("from msr_async.testing import Conflict",),
    )
    executed, _ = await runs.rehearse()
    assert names(executed) == ["step"]
    assert len(runs.told(MigrationRetried)) == 1
    assert await runs.contents() == {"tries": {"n": 2}}
