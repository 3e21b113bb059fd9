"""The progress of long statements: asked for now and then, told when it is news, and never in the way."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from msr_async import Config, Event, Migration, Script
from msr_async._engine.watching import watched
from msr_async.events import StatementProgress
from msr_async.protocols import Progress
from msr_async.testing import MemoryHandler
from tests.support.runs import Runs

SCRIPT = Script(path=Path("V202601010001_x.up.sql"), text="", language="sql")
MIGRATION = Migration(version=202601010001, name="x", up=SCRIPT, down=None, checksum="")
EVERY = 0.02


class Telling(MemoryHandler):
    """Tells these one after the other, and the last one for ever; an error is raised."""

    def __init__(self, *answers: Progress | Exception | None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked = 0
        self.asking = False

    async def progress(self) -> Progress | None:
        self.asked += 1
        self.asking = True
        try:
            await anyio.sleep(0.001)
        finally:
            self.asking = False
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def built(done: int) -> Progress:
    return Progress(phase="building index", done=done, total=100)


async def test_what_is_new_is_told_and_the_same_is_not_told_twice() -> None:
    heard: list[Event] = []
    handler = Telling(None, built(10), built(10), built(20))
    async with watched(handler, lambda: MIGRATION, heard.append, every=EVERY):
        with anyio.fail_after(10):
            while handler.asked < 8:
                await anyio.sleep(EVERY)
    told = [(event.phase, event.done, event.total) for event in heard if isinstance(event, StatementProgress)]
    assert told == [("building index", 10, 100), ("building index", 20, 100)]


async def test_short_work_asks_nothing() -> None:
    handler = Telling(built(10))
    async with watched(handler, lambda: MIGRATION, lambda event: None, every=EVERY):
        await anyio.lowlevel.checkpoint()
    await anyio.sleep(EVERY * 2)
    assert handler.asked == 0


async def test_nothing_is_asked_after_the_end_however_the_work_ended() -> None:
    handler = Telling(built(10))
    with pytest.raises(ValueError, match="no"):
        async with watched(handler, lambda: MIGRATION, lambda event: None, every=EVERY):
            await anyio.sleep(EVERY * 3)
            raise ValueError("no")
    with anyio.CancelScope() as scope:
        async with watched(handler, lambda: MIGRATION, lambda event: None, every=EVERY):
            await anyio.sleep(EVERY * 3)
            scope.cancel()
            await anyio.sleep(60)
    assert scope.cancelled_caught
    asked = handler.asked
    assert (asked > 1, handler.asking) == (True, False)
    await anyio.sleep(EVERY * 3)
    assert handler.asked == asked


async def test_a_question_that_fails_is_logged_and_the_work_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    handler = Telling(OSError("no second connection"))
    with caplog.at_level(logging.WARNING, "msr_async"):
        async with watched(handler, lambda: MIGRATION, lambda event: None, every=EVERY):
            await anyio.sleep(EVERY * 5)
    assert handler.asked == 1
    assert "no second connection" in caplog.text


async def test_a_question_that_hangs_does_not_hold_up_the_end() -> None:
    class Hanging(MemoryHandler):
        async def progress(self) -> Progress | None:
            await anyio.sleep(60)
            return None

    with anyio.fail_after(5):
        async with watched(Hanging(), lambda: MIGRATION, lambda event: None, every=EVERY):
            await anyio.sleep(EVERY * 3)


async def test_a_run_watches_its_migrations(tmp_path: Path) -> None:
    async with Telling(built(50)) as handler:
        runs = Runs(folder=tmp_path, handler=handler, config=Config())
        runs.python("1_slow", "import anyio; await anyio.sleep(1.2)")
        await runs.apply()
        (told,) = runs.told(StatementProgress)
        assert (told.migration.name, told.done) == ("slow", 50)
