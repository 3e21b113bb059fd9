"""Data steps in committed batches: how they go on, resume, end, and what they must not answer."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from msr_async import ConfigError, Event, ScriptFailed
from msr_async.batching import batches
from msr_async.events import BatchFinished, MigrationRetried, Warned
from tests.support.runs import Noting, Runs

KEY = "batches:202601010001"
TOP = """
from msr_async.batching import batches
from msr_async.testing import Conflict

async def up(db, ctx):
    await db.put("log", "up", await count(ctx, "ups"))

async def down(db, ctx):
    await db.drop("log")

async def count(ctx, name):
    number = (await ctx.handler.db.get("counts", name) or 0) + 1
    await ctx.handler.db.put("counts", name, number)
    return number
"""
COUNTING = """
@batches(size=10)
async def data(db, ctx, batch):
    calls = await count(ctx, "calls")
    start = batch.cursor or 0
    if start >= 35:
        return None
    end = min(start + batch.size, 35)
    await db.put("done", str(batch.number), [start, end])
    {}
    return batch.after(end, rows=end - start)
"""


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    async with Noting() as handler:
        yield Runs(folder=tmp_path, handler=handler)


ALL = {"1": [0, 10], "2": [10, 20], "3": [20, 30], "4": [30, 35]}


async def test_batches_run_to_their_end_and_leave_a_line_and_no_note(runs: Runs) -> None:
    runs.write("1_fill.py", TOP, COUNTING.format(""))
    course = await runs.apply()
    assert await runs.rows("done") == ALL
    assert (await runs.ids(), await runs.handler.schema_version.note(KEY)) == (["1"], None)
    assert [migration.batched for migration in course.executed] == [True]
    told = [(event.number, event.rows, event.total_rows) for event in runs.told(BatchFinished)]
    assert told == [(1, 10, 10), (2, 10, 20), (3, 10, 30), (4, 5, 35)]
    assert isinstance(runs.handler, Noting)
    durable = [options.durable for options in runs.handler.units[1:]]
    assert durable == [False] * 6 + [True]
    assert all(options.transaction for options in runs.handler.units)


async def test_a_run_that_failed_goes_on_where_it_was_and_up_is_not_repeated(runs: Runs) -> None:
    runs.write("1_fill.py", TOP, COUNTING.format("if calls == 3: raise OSError('killed')"))
    with pytest.raises(ScriptFailed, match="killed"):
        await runs.apply()
    assert await runs.rows("done") == {"1": [0, 10], "2": [10, 20]}
    note = await runs.handler.schema_version.note(KEY)
    assert (note["cursor"], note["number"], note["rows"]) == (20, 2, 20)
    assert (runs.course.note, runs.course.touched, await runs.ids()) == (KEY, True, [])
    runs.heard.clear()
    await runs.apply()
    assert await runs.rows("done") == ALL
    assert await runs.rows("log") == {"up": 1}
    assert [(event.number, event.total_rows) for event in runs.told(BatchFinished)] == [(3, 10), (4, 15)]
    assert await runs.handler.schema_version.note(KEY) is None


async def test_a_cancelled_run_keeps_the_batches_that_were_committed(runs: Runs) -> None:
    runs.write("1_fill.py", TOP, COUNTING.format("if calls == 3: import anyio; await anyio.sleep(60)"))

    class Stop(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if isinstance(event, BatchFinished) and event.number == 2:
                scope.cancel()

    runs.heard = Stop()
    with anyio.fail_after(10), anyio.CancelScope() as scope:
        await runs.apply()
    assert (await runs.handler.schema_version.note(KEY))["number"] == 2
    runs.heard = []
    await runs.handler.db.put("counts", "calls", 100)
    await runs.apply()
    assert await runs.rows("done") == ALL


async def test_an_up_that_fails_leaves_no_note_and_is_run_again(runs: Runs) -> None:
    path = runs.write("1_fill.py", TOP.replace('await count(ctx, "ups")', "1 / 0"), COUNTING.format(""))
    with pytest.raises(ScriptFailed, match="ZeroDivisionError"):
        await runs.apply()
    assert await runs.handler.schema_version.note(KEY) is None
    path.write_text(path.read_text().replace("1 / 0", "'now'"))
    await runs.apply()
    assert (await runs.rows("log"), await runs.rows("done")) == ({"up": "now"}, ALL)


async def test_up_may_be_missing(runs: Runs) -> None:
    runs.write("1_fill.py", TOP.replace("async def up(", "async def other("), COUNTING.format(""))
    await runs.apply()
    assert (await runs.rows("done"), await runs.rows("log")) == (ALL, {})


async def test_a_file_that_changed_half_way_goes_on_with_a_warning(runs: Runs) -> None:
    path = runs.write("1_fill.py", TOP, COUNTING.format("if calls == 3: raise OSError('bug')"))
    with pytest.raises(ScriptFailed):
        await runs.apply()
    path.write_text(TOP + COUNTING.format(""))
    await runs.apply()
    assert await runs.rows("done") == ALL
    (warned,) = runs.told(Warned)
    assert warned.message == "V202601010001_fill was changed after batch 2; it goes on from there."


async def test_a_transient_error_repeats_one_batch(runs: Runs) -> None:
    runs.config.transaction.retry_delay = 0
    runs.write("1_fill.py", TOP, COUNTING.format("if calls in (2, 3): raise Conflict('no')"))
    await runs.apply()
    assert await runs.rows("done") == ALL
    assert [event.attempt for event in runs.told(MigrationRetried)] == [1, 2]
    assert [event.number for event in runs.told(BatchFinished)] == [1, 2, 3, 4]


async def test_the_pause_between_batches_is_kept(runs: Runs) -> None:
    runs.write("1_fill.py", TOP, COUNTING.format("").replace("size=10", "size=10, pause=0.05"))
    await runs.apply()
    durations = [event.duration for event in runs.told(BatchFinished)]
    assert all(after - before >= 0.045 for before, after in itertools.pairwise(durations))


async def test_a_cursor_comes_as_a_later_run_would_read_it(runs: Runs) -> None:
    runs.write(
        "1_fill.py",
        "from msr_async.batching import batches",
        "@batches()",
        "async def data(db, ctx, batch):",
        "    await db.put('seen', str(batch.number), repr(batch.cursor))",
        "    return batch.after(('a', 1), rows=1) if batch.number < 3 else None",
    )
    await runs.apply()
    assert await runs.rows("seen") == {"1": "None", "2": "['a', 1]", "3": "['a', 1]"}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("batch.after({1, 2}, rows=1)", "cursor is no JSON value"),
        ("batch.after(float('nan'), rows=1)", "cursor is no JSON value"),
        ("batch.after(1, rows=-1)", "rows are -1"),
        ("batch.after(1, rows=True)", "rows are True"),
        ("batch.after(1, rows='1')", "rows are '1'"),
        ("7", "answered int"),
        ("True", "answered bool"),
        ("batch.after('here', rows=0)", "did nothing and stayed at 'here'"),
        ("batch.after(None, rows=0)", "did nothing and stayed at None"),
    ],
)
async def test_a_wrong_answer_fails_with_the_place(runs: Runs, answer: str, message: str) -> None:
    path = runs.write(
        "1_fill.py",
        "from msr_async import batching",
        "",
        "@batching.batches()",
        "async def data(db, ctx, batch):",
        "    await db.put('t', str(batch.number), 1)",
        f"    return {answer}",
    )
    with anyio.fail_after(10), pytest.raises(ScriptFailed, match=re.escape(message)) as raised:
        await runs.apply()
    assert (raised.value.path, raised.value.line) == (path, 3)
    assert raised.value.hint
    assert len(await runs.rows("t")) == (1 if "rows=0" in answer else 0)


async def test_a_cursor_that_moves_on_over_nothing_is_no_standstill(runs: Runs) -> None:
    answer = "return batch.after(batch.number, rows=0) if batch.number < 5 else None"
    runs.write("1_fill.py", TOP, "@batches()\nasync def data(db, ctx, batch):\n    " + answer)
    await runs.apply()
    assert len(runs.told(BatchFinished)) == 4


async def test_down_strikes_the_line_out_and_the_note(runs: Runs) -> None:
    runs.write("1_fill.py", TOP, COUNTING.format(""))
    await runs.apply()

    async def leave_note(conn: object) -> None:
        await runs.handler.schema_version.keep_note(conn, KEY, {"number": 9})  # type: ignore[arg-type]

    await runs.handler.run(leave_note, runs.handler.units[0])  # type: ignore[attr-defined]
    await runs.apply("down", 0)
    assert (await runs.ids(), await runs.rows("log")) == ([], {})
    assert await runs.handler.schema_version.note(KEY) is None


async def test_a_data_step_whose_mark_was_lost_says_so(runs: Runs) -> None:
    runs.write(
        "1_fill.py",
        "from msr_async.batching import batches",
        "def wrap(function):",
        "    async def inner(db, ctx, batch): return None",
        "    return inner",
        "@wrap",
        "@batches()",
        "async def data(db, ctx, batch):",
        "    return None",
    )
    with pytest.raises(ScriptFailed, match="not marked"):
        await runs.apply()


def test_settings_of_batches_are_checked_where_they_are_given() -> None:
    for size in (0, -1, 1.5, True, "10"):
        with pytest.raises(ConfigError, match="size is"):
            batches(size=size)  # type: ignore[arg-type]
    for pause in (-1, float("nan")):
        with pytest.raises(ConfigError, match="pause is"):
            batches(pause=pause)
