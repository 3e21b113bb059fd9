"""Behaviour 41 and its kin: being stopped in the middle puts things back and stays a cancellation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from msr_async import Event, LockInfo, MigrationFailed, RecoveryFailed, RestoreFailed
from msr_async.events import MigrationStarted, Restored, TransferStarted, Warned
from tests.behaviours.setting import FAIL, HANG, Altered, Setting


async def assert_lock_is_free(setting: Setting) -> None:
    lock = setting.world.handler.lock
    assert lock is not None

    def waiting(holder: LockInfo | None, waited: float) -> None:
        raise AssertionError(f"still held by {holder}")

    async with setting.world.another() as other:
        assert other.lock is not None
        async with other.lock.hold(timeout=2, waiting=waiting):
            pass


def slow_restore(handler: Any, seconds: float, begun: asyncio.Event) -> Altered:
    """A handler whose restores take a while."""

    @asynccontextmanager
    async def restoration(*arguments: Any) -> AsyncIterator[Any]:
        begun.set()
        await anyio.sleep(seconds)
        async with handler.backup.restoration(*arguments) as real:
            yield real

    return Altered(handler, backup=Altered(handler.backup, restoration=restoration))


class StopAt:
    """An observer that sets an event when it hears of the `number`th migration."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.reached = asyncio.Event()

    def __call__(self, event: Event) -> None:
        if isinstance(event, MigrationStarted) and event.position == self._number:
            self.reached.set()


@pytest.mark.parametrize("strategy", ["backup", "down", "both"])
@pytest.mark.parametrize("how", ["scope", "task", "timeout"])
async def test_behaviour_41_a_run_cancelled_in_a_migration_is_put_back_and_the_lock_is_free(
    setting: Setting, strategy: str, how: str
) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"), down=[setting.drop("two")])
    setting.add(3, setting.drop("shop"), HANG, down=[])
    stop = StopAt(2)
    executor = setting.executor(strategy, observers=[stop])
    started = time.monotonic()
    if how == "scope":
        async with anyio.create_task_group() as group:
            group.start_soon(executor.migrate)
            await stop.reached.wait()
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()
    elif how == "task":
        task = asyncio.ensure_future(executor.migrate())
        await stop.reached.wait()
        await anyio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await executor.migrate()
    assert stop.reached.is_set()
    assert time.monotonic() - started < 20
    assert await setting.world.contents() == before
    assert any("The run was cancelled" in event.message for event in setting.heard if isinstance(event, Warned))
    await assert_lock_is_free(setting)


async def test_a_run_cancelled_while_it_backs_up_leaves_no_file_and_recovers_nothing(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    with anyio.CancelScope() as scope:

        def observer(event: Event) -> None:
            if isinstance(event, TransferStarted):
                scope.cancel()

        await setting.executor(observers=[observer]).migrate()
    assert scope.cancelled_caught
    assert setting.files() == []
    assert not [event for event in setting.heard if isinstance(event, Restored)]
    assert await setting.world.contents() == before
    await assert_lock_is_free(setting)


@pytest.mark.parametrize("times", [1, 3])
async def test_cancelling_during_the_recovery_does_not_halve_it(setting: Setting, times: int) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    setting.add(3, FAIL)
    begun = asyncio.Event()
    handler = slow_restore(setting.world.handler, 0.5, begun)
    task = asyncio.ensure_future(setting.executor(handler=handler).migrate())
    await begun.wait()
    for _ in range(times):
        task.cancel()
        await anyio.sleep(0.05)
    assert not task.done()
    await asyncio.wait({task})
    assert task.cancelled()
    assert await setting.world.contents() == before
    assert any("was restored" in event.message for event in setting.heard if isinstance(event, Warned))
    await assert_lock_is_free(setting)


async def test_a_scope_cancelled_during_the_recovery_neither_halves_it_nor_spins(setting: Setting) -> None:
    await setting.fill()
    setting.add(2, FAIL)
    begun = asyncio.Event()
    handler = slow_restore(setting.world.handler, 1.0, begun)
    failures: list[MigrationFailed] = []

    async def migrate() -> None:
        try:
            await setting.executor(handler=handler).migrate()
        except MigrationFailed as failure:
            failures.append(failure)

    async with anyio.create_task_group() as group:
        group.start_soon(migrate)
        await begun.wait()
        busy = time.process_time()
        group.cancel_scope.cancel()
    assert time.process_time() - busy < 0.7
    assert [failure.result.restored for failure in failures] == [True]
    assert len([event for event in setting.heard if isinstance(event, Restored)]) == 1


@pytest.mark.parametrize("strategy", ["backup", "down"])
async def test_a_recovery_ends_at_its_deadline(setting: Setting, strategy: str) -> None:
    await setting.fill()
    setting.add(2, setting.put("two", "a", "1"), down=[HANG])
    setting.add(3, FAIL, down=[])
    handler = slow_restore(setting.world.handler, 60, asyncio.Event())
    executor = setting.executor(strategy, handler=handler, recovery_timeout=1)
    with pytest.raises(RecoveryFailed) as raised:
        await executor.migrate()
    assert isinstance(raised.value.recovery_error, RestoreFailed)
    assert "stopped after 1 s" in str(raised.value)
    await assert_lock_is_free(setting)


async def test_a_script_that_exits_the_program_is_a_failed_migration(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, "import sys", "sys.exit('bye')")
    with pytest.raises(MigrationFailed, match="SystemExit: bye") as raised:
        await setting.executor().migrate()
    assert raised.value.result.restored
    assert await setting.world.contents() == before


@pytest.mark.parametrize(
    "error", ["KeyboardInterrupt()", "asyncio.CancelledError()", "GeneratorExit()", "BaseExceptionGroup('g', [E()])"]
)
async def test_what_a_script_raises_as_if_the_program_ended_is_a_failed_migration(setting: Setting, error: str) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"), down=[setting.drop("two")])
    setting.add(3, "import asyncio", "class E(BaseException): ...", f"raise {error}")
    with pytest.raises(MigrationFailed, match=r"V\w+3_\w+\.py:\d+: ") as raised:
        await setting.executor().migrate()
    assert raised.value.result.restored
    assert await setting.world.contents() == before
    await assert_lock_is_free(setting)


@pytest.mark.parametrize("how", ["scope", "task"])
async def test_a_script_that_makes_a_cancellation_of_its_own_leaves_ours_one(setting: Setting, how: str) -> None:
    """The run is cancelled while the script waits, and what the script raises then is no CancelledError of ours."""
    before = await setting.fill()
    setting.add(
        2, "import asyncio", "try:", "    await asyncio.sleep(60)", "finally:", "    raise asyncio.CancelledError"
    )
    task = asyncio.current_task()
    assert task is not None
    if how == "scope":
        with anyio.move_on_after(1) as scope:
            await setting.executor().migrate()
        assert scope.cancelled_caught
    else:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await setting.executor().migrate()
    assert task.cancelling() == 0
    assert await setting.world.contents() == before
    await assert_lock_is_free(setting)


async def test_a_run_cancelled_while_it_waits_for_the_lock_does_nothing(setting: Setting) -> None:
    before = await setting.fill()
    setting.add(2, setting.put("two", "a", "1"))
    lock = setting.world.handler.lock
    assert lock is not None
    async with setting.world.another() as other, lock.hold(timeout=1, waiting=lambda holder, waited: None):
        with anyio.move_on_after(0.3) as scope:
            await setting.executor(handler=other).migrate()
    assert scope.cancelled_caught
    assert await setting.world.contents() == before
    assert setting.files() == []
    await assert_lock_is_free(setting)
