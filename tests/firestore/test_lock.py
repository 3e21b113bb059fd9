"""The migration lock of Firestore: a lease that is fought for, kept, lost, and given back whatever happens."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import grpc
import pytest

from msr_async import ConnectionFailed, ConnectionLost, DatabaseError, LockInfo, LockNotAcquired, PermissionMissing
from msr_async.firestore import FirestoreHandler, lease
from msr_async.firestore import lock as lock_module
from msr_async.firestore.lock import FirestoreLock
from tests.firestore.opened import TRANSACTION, found, handler_of, ignore, put
from tests.support.firestore import FirestoreTarget, only_own

Code = grpc.StatusCode
SHORT: dict[str, Any] = {"lease": 0.8, "heartbeat": 0.2}
ASLEEP: dict[str, Any] = {"lease": 120, "heartbeat": 60}
"""A holder that gives no sign of life while a test runs."""


async def lock_documents(target: FirestoreTarget) -> set[str]:
    return set(await found(target, "schema_version_lock"))


async def test_of_many_that_want_it_one_has_it_at_a_time(firestore_target: FirestoreTarget) -> None:
    inside, most, turns = 0, 0, 0

    async def contend() -> None:
        nonlocal inside, most, turns
        async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=60, waiting=ignore):
            inside += 1
            most = max(most, inside)
            await put(handler, f"things/{turns}", turn=turns)
            turns += 1
            inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(contend)
    assert (most, turns) == (1, 5)
    assert len(await found(firestore_target)) == 5
    assert await lock_documents(firestore_target) == set()


async def test_two_tasks_of_one_handler_wait_for_each_other(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        with pytest.raises(LockNotAcquired, match=f"pid {os.getpid()}"):
            async with handler.lock.hold(timeout=0.2, waiting=ignore):
                pass
        await handler.lock.check()
        await put(handler, "things/a")


async def test_a_holder_that_slept_too_long_writes_nothing_more(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target, **ASLEEP) as sleeper, handler_of(firestore_target, **SHORT) as other:
        taken, done = anyio.Event(), anyio.Event()

        async def late(transaction: Any) -> None:
            transaction.set(sleeper.db.document("things/late"), {"too": "late"})
            group.start_soon(take_over)
            await taken.wait()

        async def take_over() -> None:
            async with other.lock.hold(timeout=20, waiting=ignore):
                await put(other, "things/other")
                taken.set()
                await done.wait()
                await other.lock.check()  # the sleeper has not given it back for us

        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectionLost, match=r"The migration lock was lost: .* took it over"):
                async with sleeper.lock.hold(timeout=5, waiting=ignore):
                    await sleeper.run(late, TRANSACTION)
            done.set()
    assert set(await found(firestore_target)) == {"other"}
    assert await lock_documents(firestore_target) == set()


async def test_a_lease_that_ran_out_and_that_nobody_wanted_is_still_good(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target, **ASLEEP) as sleeper, handler_of(firestore_target, **SHORT) as other:
        async with sleeper.lock.hold(timeout=5, waiting=ignore):
            with anyio.fail_after(10):
                while await other.lock.status() is not None:
                    await anyio.sleep(0.1)
            await put(sleeper, "things/a")
            assert await other.lock.status() is not None  # a unit of work is a sign of life
            await sleeper.lock.check()


async def test_its_heartbeat_keeps_the_lock_of_a_long_migration(firestore_target: FirestoreTarget) -> None:
    heard: list[str] = []
    async with handler_of(firestore_target, **SHORT) as holder, handler_of(firestore_target, **SHORT) as other:
        async with holder.lock.hold(timeout=5, waiting=ignore):
            with pytest.raises(LockNotAcquired):
                async with other.lock.hold(timeout=2.5, waiting=lambda holder, waited: heard.append(str(holder))):
                    pass
            await put(holder, "things/a")
        assert heard
        assert all(f"pid {os.getpid()}" in words for words in heard)
        async with other.lock.hold(timeout=0, waiting=ignore):
            pass


async def test_releasing_lets_in_who_waits_and_stops_who_held(firestore_target: FirestoreTarget) -> None:
    order: list[str] = []
    async with (
        handler_of(firestore_target) as holder,
        handler_of(firestore_target) as waiter,
        handler_of(firestore_target) as third,
    ):

        async def wait() -> None:
            async with waiter.lock.hold(timeout=30, waiting=lambda holder, waited: waiting.set()):
                order.append("waiter")
                await put(waiter, "things/waiter")
                got.set()
                await looked.wait()

        waiting, got, looked = anyio.Event(), anyio.Event(), anyio.Event()
        released: LockInfo | None = None
        async with anyio.create_task_group() as group:
            with pytest.raises(ConnectionLost, match="took it over"):
                async with holder.lock.hold(timeout=5, waiting=ignore):
                    group.start_soon(wait)
                    await waiting.wait()
                    released = await third.lock.release()
                    await got.wait()
                    await holder.lock.check()
            assert await third.lock.status() is not None  # who lost it gave back nothing
            looked.set()
    assert released is not None
    assert str(os.getpid()) in released.holder
    assert order == ["waiter"]


async def test_a_lock_that_was_released_says_so(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as holder, handler_of(firestore_target) as other:
        with pytest.raises(ConnectionLost, match="somebody released it"):
            async with holder.lock.hold(timeout=5, waiting=ignore):
                assert await other.lock.release() is not None
                await put(holder, "things/a")
    assert await found(firestore_target) == {}


async def test_no_task_is_left_however_the_block_ends(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target, **SHORT) as handler:
        await handler.lock.status()
        before = len(asyncio.all_tasks())
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await anyio.sleep(0.3)
        with pytest.raises(ValueError, match="on purpose"):
            async with handler.lock.hold(timeout=5, waiting=ignore):
                raise ValueError("on purpose")
        with anyio.move_on_after(0.3) as scope:
            async with handler.lock.hold(timeout=5, waiting=ignore):
                await anyio.sleep(60)
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), handler.lock.hold(timeout=5, waiting=ignore):
                await asyncio.sleep(60)
        assert len(asyncio.all_tasks()) == before
        assert await handler.lock.status() is None


@only_own
async def test_a_heartbeat_that_cannot_be_sent_for_a_lease_is_a_lost_lock(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target, **SHORT) as handler:
        with pytest.raises(ConnectionLost, match=r"could not be renewed for 0\.8 s"):
            async with handler.lock.hold(timeout=5, waiting=ignore):
                firestore_target.server.faults.fail("Commit", times=float("inf"))
                await anyio.sleep(0.5)
                await handler.lock.check()  # it may come back yet
                await anyio.sleep(1.5)
                firestore_target.server.faults.clear()
                await handler.lock.check()
        assert await handler.lock.status() is None


@only_own
async def test_lost_answers_to_heartbeats_lose_no_lock(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target, **SHORT) as holder, handler_of(firestore_target, **SHORT) as other:
        async with holder.lock.hold(timeout=5, waiting=ignore):
            firestore_target.server.faults.fail("Commit", after=True, times=3)
            firestore_target.server.faults.fail("Commit", times=1, skip=1)
            await anyio.sleep(1.8)
            assert await other.lock.status() is not None
            await holder.lock.check()
            await put(holder, "things/a")


@only_own
async def test_a_unit_commits_while_a_heartbeat_is_under_way(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target, lease=4, heartbeat=0.2) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            beat = firestore_target.server.faults.hold("Commit")
            with anyio.fail_after(5):
                while not beat.reached.is_set():
                    await anyio.sleep(0.01)
            assert beat.held is not None
            await put(handler, "things/a")
            await put(handler, "things/b")
            beat.held.set()
            await anyio.sleep(0.5)
            await handler.lock.check()
            await put(handler, "things/c")
    assert set(await found(firestore_target)) == {"a", "b", "c"}


@only_own
@pytest.mark.parametrize("after", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL])
async def test_taking_it_survives_a_lost_answer(firestore_target: FirestoreTarget, code: Code, after: bool) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        firestore_target.server.faults.fail("Commit", code, after=after, times=2)
        firestore_target.server.faults.cut("BatchGetDocuments", 1, times=2)
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await handler.lock.check()
            await put(handler, "things/a")
        assert await handler.lock.status() is None


@only_own
async def test_taking_what_must_not_be_written_is_told_at_once(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    firestore_target.server.faults.fail("Commit", Code.PERMISSION_DENIED, "no writing", times=float("inf"))
    async with handler_of(firestore_target) as handler:
        with (
            pytest.raises(PermissionMissing, match="Taking the migration lock: permission denied"),
            anyio.fail_after(5),
        ):
            async with handler.lock.hold(timeout=60, waiting=ignore):
                pass


async def looking(lock: FirestoreLock) -> None:
    await lock.status()


async def taking(lock: FirestoreLock) -> None:
    async with lock.hold(timeout=60, waiting=ignore):
        pass


async def releasing(lock: FirestoreLock) -> None:
    await lock.release()


ASKING = pytest.mark.parametrize("ask", [looking, taking, releasing], ids=lambda ask: ask.__name__)


@ASKING
async def test_where_nothing_listens_the_first_question_says_so_at_once(
    one_loop: None, ask: Callable[[FirestoreLock], Awaitable[None]]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with FirestoreHandler("test-nobody", emulator=address) as handler:
            begun = time.monotonic()
            with pytest.raises(
                ConnectionFailed,
                match=rf"^{ask.__name__.title()}.* the migration lock: the emulator at {address} cannot be reached .*Start",
            ):
                await ask(handler.lock)
            assert time.monotonic() - begun < 5


@ASKING
@pytest.mark.parametrize(
    ("code", "words"),
    [(Code.UNAVAILABLE, "cannot be reached"), (Code.DEADLINE_EXCEEDED, "did not answer in time")],
    ids=["unavailable", "silent"],
)
@only_own
async def test_a_server_that_never_answers_its_first_question_is_told_as_one_of_connecting(
    firestore_target: FirestoreTarget,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[FirestoreLock], Awaitable[None]],
    code: grpc.StatusCode,
    words: str,
) -> None:
    assert firestore_target.server
    monkeypatch.setattr(lease, "TIMEOUT", 0.2)
    rule = firestore_target.server.faults.fail("BatchGetDocuments", code, times=float("inf"))
    async with handler_of(firestore_target) as handler:
        with pytest.raises(ConnectionFailed, match=rf"the emulator at {firestore_target.address} {words}"):
            await ask(handler.lock)
        rule.times = 2
        await ask(handler.lock)  # what passes is asked again
        rule.times = float("inf")
        with pytest.raises(DatabaseError) as caught:  # what was there once is not at the wrong address
            await ask(handler.lock)
    assert not isinstance(caught.value, ConnectionFailed)


@only_own
async def test_taking_it_is_given_up_when_the_server_never_can(
    firestore_target: FirestoreTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert firestore_target.server
    monkeypatch.setattr(lock_module, "TIMEOUT", 0.5)
    firestore_target.server.faults.fail("Commit", times=float("inf"))
    async with handler_of(firestore_target) as handler:
        with pytest.raises(ConnectionLost, match="Taking the migration lock: the server cannot be reached"):
            async with handler.lock.hold(timeout=60, waiting=ignore):
                pass


@only_own
async def test_releasing_says_who_it_was_when_the_answer_was_lost(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target, **ASLEEP) as holder, handler_of(firestore_target) as other:
        async with holder.lock.hold(timeout=5, waiting=ignore):
            firestore_target.server.faults.fail("Commit", after=True)
            released = await other.lock.release()
            assert released is not None
            assert str(os.getpid()) in released.holder
            assert await other.lock.release() is None


@only_own
@pytest.mark.parametrize("way", ["scope", "task"])
async def test_who_is_cancelled_while_taking_it_leaves_it_free(firestore_target: FirestoreTarget, way: str) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        await handler.lock.status()
        taking = firestore_target.server.faults.hold("Commit")
        assert taking.held is not None
        entered = False

        async def take() -> None:
            nonlocal entered
            with scope:
                async with handler.lock.hold(timeout=5, waiting=ignore):
                    entered = True
                    await anyio.sleep(60)

        scope = anyio.CancelScope()
        task = asyncio.ensure_future(take())
        with anyio.fail_after(5):
            while not taking.reached.is_set():
                await anyio.sleep(0.01)
        {"scope": scope.cancel, "task": task.cancel}[way]()
        await anyio.sleep(0.1)
        taking.held.set()
        await asyncio.wait({task})
        assert task.cancelled() == (way == "task")
        # With a scope, the cancellation comes at the next await: inside of the block, which gives back as well.
        assert entered == (way == "scope")
    assert await lock_documents(firestore_target) == set()


@only_own
async def test_a_lock_that_cannot_be_given_back_runs_out(
    firestore_target: FirestoreTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert firestore_target.server
    monkeypatch.setattr(lock_module, "_GIVE_BACK_TIMEOUT", 0.3)
    async with handler_of(firestore_target, **SHORT) as holder, handler_of(firestore_target, **SHORT) as other:
        with pytest.raises(ValueError, match="what went wrong before"):
            async with holder.lock.hold(timeout=5, waiting=ignore):
                firestore_target.server.faults.fail("Commit", times=float("inf"))
                raise ValueError("what went wrong before")
        firestore_target.server.faults.clear()
        assert await other.lock.status() is not None
        async with other.lock.hold(timeout=10, waiting=ignore):
            await put(other, "things/a")


@only_own
async def test_a_conflict_after_a_kill_waits_for_the_dead_ones_transactions_to_end(
    firestore_target: FirestoreTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert firestore_target.server
    monkeypatch.setattr(lock_module, "_IDLE", 2.0)
    async with handler_of(firestore_target, **ASLEEP) as dead, handler_of(firestore_target, **SHORT) as other:
        async with dead.lock.hold(timeout=5, waiting=ignore):
            begun = time.monotonic()
            async with other.lock.hold(timeout=10, waiting=ignore):
                for conflict in range(2):
                    firestore_target.server.faults.fail("Commit", Code.ABORTED)
                    with pytest.raises(DatabaseError, match="another transaction was in the way"):
                        await put(other, "things/a", number=conflict)
                    assert 1.9 < time.monotonic() - begun < 4
    begun = time.monotonic()
    async with handler_of(firestore_target) as alone, alone.lock.hold(timeout=10, waiting=ignore):
        firestore_target.server.faults.fail("Commit", Code.ABORTED)
        with pytest.raises(DatabaseError):
            await put(alone, "things/a")
    assert time.monotonic() - begun < 1.5
