"""How many migrations go together: which may, and how the number follows what they take."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async._engine.grouping import LONGEST, MOST, Pace, group
from msr_async._engine.stepping import Ground, Turn, turn_of
from msr_async.config import TransactionConfig, TransactionMode
from msr_async.events import Event, MigrationFinished, MigrationStarted, Noticed
from msr_async.models import Direction, Directives, Kind, Language, Migration, Script
from msr_async.protocols import WorkOptions
from msr_async.testing import MemoryHandler
from tests.support.runs import Noting, Runs


def turn(
    text: str = "put t a 1",
    *,
    language: Language = "sql",
    kind: Kind = "versioned",
    batched: bool = False,
    direction: Direction = "up",
    directives: Directives | None = None,
) -> Turn:
    script = Script(path=Path("a.sql"), text=text, language=language, directives=directives or Directives())
    version = 202601010001 if kind == "versioned" else None
    migration = Migration(version=version, name="a", up=script, down=None, checksum="", kind=kind, batched=batched)
    return turn_of(migration, direction, 1, 1)


class Picky(MemoryHandler):
    def joins(self, script: Script, /) -> bool:
        return "talks" not in script.text


def size(*steps: Turn, most: int = MOST, mode: TransactionMode = TransactionMode.PER_MIGRATION) -> int:
    config = TransactionConfig(mode=mode)
    ground = Ground(handler=Picky(), config=config, emit=lambda event: None, by="me", run="1")
    return len(group(steps, 0, most, ground.joins))


def test_it_begins_with_one_and_doubles_while_all_is_quick() -> None:
    pace = Pace()
    sizes = [pace.size]
    for _ in range(7):
        pace.took(0.001)
        sizes.append(pace.size)
    assert sizes == [1, 2, 4, 8, 16, 32, 32, 32]


@pytest.mark.parametrize(("seconds", "then"), [(0.001, 16), (0.03, 8), (0.06, 1), (20, 1)])
def test_what_a_group_took_says_how_large_the_next_one_is(seconds: float, then: int) -> None:
    pace = Pace()
    for _ in range(3):
        pace.took(0.001)
    pace.took(seconds)
    assert pace.size == then


def test_after_words_of_nobody_in_particular_each_goes_alone() -> None:
    pace = Pace()
    for _ in range(3):
        pace.took(0.001)
    pace.heard()
    for _ in range(3):
        pace.took(0.001)
        assert pace.size == 1


def test_neighbours_that_ask_for_nothing_go_together() -> None:
    assert size(turn(), turn(), turn()) == 3
    assert size(turn(), turn(), turn(), most=2) == 2
    assert size(turn(), turn(kind="repeatable")) == 2
    assert size(turn(), turn(), mode=TransactionMode.NONE) == 1


@pytest.mark.parametrize(
    "other",
    [
        turn("talks"),
        turn("alone put t a 1"),
        turn(language="py"),
        turn(kind="hook"),
        turn(batched=True),
        turn(directives=Directives(lock_timeout=2)),
        turn(directives=Directives(transaction=False)),
        turn("x" * LONGEST),
        turn(direction="down"),
    ],
    ids=["talkative", "outside by itself", "python", "hook", "batched", "timeout", "outside", "large", "no down"],
)
def test_what_is_different_ends_the_group(other: Turn) -> None:
    assert size(turn(), other, turn()) == 1


@pytest.mark.parametrize(
    "first", [turn("talks"), turn("x" * (LONGEST + 1)), turn(directives=Directives(lock_timeout=2))]
)
def test_what_is_different_goes_alone(first: Turn) -> None:
    assert size(first, turn()) == 1


def test_a_group_is_not_long() -> None:
    third = turn("x" * (LONGEST // 3))
    assert size(*[third] * 5) == 3


async def test_over_a_run_the_groups_grow_and_each_migration_is_told_in_its_order(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(Noting):
        async def apply(self, changes, *more) -> None:  # type: ignore[no-untyped-def]
            sizes.append(len(changes))
            await super().apply(changes, *more)

    handler = Counting("shop")
    async with handler:
        runs = Runs(folder=tmp_path, handler=handler)
        for number in range(1, 9):
            runs.write(f"{number}_step.up.sql", f"put t{number} a {number}")
        runs.write("9_last.up.sql", "put t9 a 9")
        course = await runs.apply()
        assert await runs.ids() == [str(number) for number in range(1, 10)]
    assert sizes == [1, 2, 4, 2]
    assert len(course.executed) == 9
    assert course.step is None
    assert [type(event) for event in runs.heard] == [MigrationStarted, MigrationFinished] * 9
    assert [event.migration.version for event in runs.heard if isinstance(event, MigrationFinished)] == [
        202601010000 + number for number in range(1, 10)
    ]
    durable = [options.durable for options in handler.units[1:]]
    assert durable == [False] * 8 + [True]


async def test_a_lock_lost_inside_of_a_group_runs_nothing_more(tmp_path: Path) -> None:
    async with Noting("shop") as handler:
        runs = Runs(folder=tmp_path, handler=handler)
        for number in range(1, 8):
            runs.write(f"{number}_step.up.sql", f"put t{number} a 1")

        class Thief(list[Event]):
            def append(self, event: Event) -> None:
                super().append(event)
                if isinstance(event, MigrationFinished) and event.migration.version == 202601010005:
                    handler.database.holder = None

        runs.heard = Thief()
        with pytest.raises(Exception, match="lock"):
            await runs.apply()
        assert await runs.ids() == ["1", "2", "3", "4", "5"]
        assert len(runs.course.executed) == 5
        assert runs.course.step is not None
        assert runs.course.step.version == 202601010006


async def test_what_is_heard_in_a_group_names_all_that_are_under_way(tmp_path: Path) -> None:
    class Loud(Noting):
        def _hear(self, options: WorkOptions) -> None:
            self.says = ("NOTICE", "oh") if len(self.units) == 5 else None
            super()._hear(options)

    async with Loud("shop") as handler:
        runs = Runs(folder=tmp_path, handler=handler)
        for number in range(1, 9):
            runs.write(f"{number}_step.up.sql", f"put t{number} a 1")
        await runs.apply()
    (event,) = runs.told(Noticed)
    assert event.migration.version == 202601010005, "those before it are known to be done"
    assert [migration.version for migration in event.among] == [202601010006, 202601010007]
