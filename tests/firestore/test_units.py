"""Units of work on Firestore: what is committed, what is undone, and what is known of a commit without an answer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import grpc
import grpc.aio
import pytest
from google.cloud.firestore_v1.types import firestore as types

from msr_async import ConnectionLost, DatabaseError
from msr_async.firestore.clients import Clients
from msr_async.protocols import WorkOptions
from tests.firestore.opened import TRANSACTION, found, handler_of, ignore, put, putting
from tests.support.firestore import FirestoreTarget, only_own

Code = grpc.StatusCode
LOST = [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN, Code.CANCELLED]


def calls(target: FirestoreTarget, method: str) -> list[Any]:
    assert target.server
    return [call.request for call in target.server.calls if call.method == method]


def open_transactions(target: FirestoreTarget) -> int:
    assert target.server
    return len(target.server.database(f"projects/{target.project}/databases/(default)").transactions)


async def test_a_commit_has_five_hundred_writes_with_the_locks_own_and_one_more_is_refused(
    firestore_target: FirestoreTarget,
) -> None:
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        with pytest.raises(
            DatabaseError, match=r"501 writes, 1 of them .*, and 500 are the most.*no_transaction.*@batches"
        ):
            await put(handler, *(f"things/{number}" for number in range(500)))
        assert await found(firestore_target) == {}
        await put(handler, *(f"things/{number}" for number in range(499)))
    assert len(await found(firestore_target)) == 499


async def test_a_rehearsal_of_several_migrations_is_not_refused_for_their_sum(
    firestore_target: FirestoreTarget,
) -> None:
    async def work(transaction: Any) -> None:
        for number in range(600):
            transaction.set(handler.db.document(f"things/{number}"), {})

    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        await handler.run(work, WorkOptions(commit=False))
    assert await found(firestore_target) == {}


async def test_units_that_run_at_the_same_time_under_one_lock_do_not_disturb_each_other(
    firestore_target: FirestoreTarget,
) -> None:
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        await asyncio.gather(*(put(handler, f"things/{number}") for number in range(20)))
    assert len(await found(firestore_target)) == 20


@only_own
async def test_no_commit_on_the_wire_has_more_than_five_hundred_writes(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:
        await put(handler, *(f"things/{number}" for number in range(500)))
        with pytest.raises(DatabaseError, match="501 writes, and 500"):
            await put(handler, *(f"things/{number}" for number in range(501)))
    assert firestore_target.server
    assert max(call.writes for call in firestore_target.server.calls if call.method == "Commit") == 500


async def test_a_history_too_long_for_one_commit_is_refused_with_the_way_out(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:

        async def work(transaction: Any) -> None:
            for number in range(501):
                await handler.schema_version.keep_note(transaction, f"number:{number}", number)

        with pytest.raises(DatabaseError, match=r"501 of them for the history.*in steps"):
            await handler.run(work, TRANSACTION)
        assert await handler.schema_version.note("number:0") is None


async def test_more_than_a_request_may_hold_is_refused_with_the_way_out(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:
        with pytest.raises(DatabaseError, match=r"4\.4 MiB to write, and 4 MiB are the most.*@batches"):
            await put(handler, *(f"things/{number}" for number in range(5)), text="x" * 920_000)
        assert await found(firestore_target) == {}
        await put(handler, "things/a", text="x" * 920_000)


async def test_reads_of_a_transaction_see_what_was_there_and_its_writes_come_at_its_end(
    firestore_target: FirestoreTarget,
) -> None:
    async with handler_of(firestore_target) as handler:
        await put(handler, "things/a", number=1)

        async def work(transaction: Any) -> int:
            thing = await handler.db.document("things/a").get(transaction=transaction)
            await handler.schema_version.keep_note(transaction, "of:1", "noted")  # reads may still follow
            again = [line async for line in handler.db.collection("things").stream(transaction=transaction)]
            transaction.update(thing.reference, {"number": thing.get("number") + len(again)})
            assert await found(firestore_target) == {"a": {"number": 1}}
            return 7

        assert await handler.run(work, TRANSACTION) == 7
        assert await handler.schema_version.note("of:1") == "noted"
    assert await found(firestore_target) == {"a": {"number": 2}}


async def test_a_rehearsal_is_rolled_back(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        await put(handler, "things/a", number=1)
        await handler.run(putting(handler, "things/a", "things/b", number=2), WorkOptions(commit=False))
        assert await found(firestore_target) == {"a": {"number": 1}}
        await put(handler, "things/c", number=3)  # the fence still stands where it stood
    assert set(await found(firestore_target)) == {"a", "c"}


@pytest.mark.parametrize("way", ["commit", "_commit", "_rollback", "_begin"])
async def test_nobody_else_ends_the_transaction(firestore_target: FirestoreTarget, way: str) -> None:
    async with handler_of(firestore_target) as handler:

        async def work(transaction: Any) -> None:
            transaction.set(handler.db.document("things/a"), {})
            await getattr(transaction, way)()

        with pytest.raises(DatabaseError, match=r"begun and committed by msr_async alone.*no_transaction = True"):
            await handler.run(work, TRANSACTION)
    assert await found(firestore_target) == {}


async def test_a_precondition_that_fails_undoes_all_and_the_lock_stays(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        await put(handler, "things/a")

        async def work(transaction: Any) -> None:
            transaction.set(handler.db.document("things/b"), {})
            transaction.create(handler.db.document("things/a"), {})

        with pytest.raises(DatabaseError, match=r"Committing: .*ALREADY_EXISTS") as raised:
            await handler.run(work, TRANSACTION)
        assert not isinstance(raised.value, ConnectionLost)
        assert not handler.is_transient(raised.value)
        await handler.lock.check()
        await put(handler, "things/c")
    assert set(await found(firestore_target)) == {"a", "c"}


async def test_without_a_transaction_a_lost_lock_is_told_after_the_work(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler, handler_of(firestore_target) as other:

        async def work(client: Any) -> None:
            await client.document("things/a").set({})
            await other.lock.release()

        with pytest.raises(ConnectionLost, match="somebody released it"):
            async with handler.lock.hold(timeout=5, waiting=ignore):
                await handler.run(work, WorkOptions(transaction=False))


# -- answers that are lost -------------------------------------------------------------------------


@only_own
@pytest.mark.parametrize("code", LOST)
async def test_under_the_lock_a_commit_without_an_answer_is_looked_up(
    firestore_target: FirestoreTarget, code: Code
) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        await put(handler, "things/first")
        firestore_target.server.faults.fail("Commit", code, after=True)
        await put(handler, "things/a")
        await put(handler, "things/b")
        firestore_target.server.faults.fail("Commit", code)
        with pytest.raises(DatabaseError) as raised:
            await put(handler, "things/never")
        assert not isinstance(raised.value, ConnectionLost)
        await put(handler, "things/c")
        await handler.lock.check()
    assert set(await found(firestore_target)) == {"first", "a", "b", "c"}
    assert open_transactions(firestore_target) == 0


@only_own
async def test_a_commit_that_was_not_done_and_may_be_tried_again_says_so(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        for code in (Code.UNAVAILABLE, Code.ABORTED, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED):
            firestore_target.server.faults.fail("Commit", code)
            with pytest.raises(DatabaseError) as raised:
                await put(handler, "things/a")
            assert handler.is_transient(raised.value)
    assert await found(firestore_target) == {}


@only_own
async def test_what_arrives_late_finds_its_way_barred(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            await put(handler, "things/a")
            late = types.CommitRequest.pb()(database=handler.home.path)
            late.writes.add().update.name = handler.home.name("things/late")
            late.writes.append(handler.lock.fence("some unit"))
            assert not await handler.lock.settled("some unit")
            clients = Clients(handler.home, emulator=firestore_target.address)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await clients.unary("Commit")(late.SerializeToString(), metadata=clients.metadata, timeout=5)
            await clients.close()
            assert raised.value.code() is Code.FAILED_PRECONDITION
            assert not await handler.lock.settled("some unit")
            await put(handler, "things/b")
    assert set(await found(firestore_target)) == {"a", "b"}


@only_own
async def test_a_unit_given_up_that_was_done_all_the_same_does_not_shut_out_the_next(
    firestore_target: FirestoreTarget,
) -> None:
    async with handler_of(firestore_target) as handler:
        async with handler.lock.hold(timeout=5, waiting=ignore):
            unseen = types.CommitRequest.pb()(database=handler.home.path)
            unseen.writes.append(handler.lock.fence("unseen"))
            clients = Clients(handler.home, emulator=firestore_target.address)
            await clients.unary("Commit")(unseen.SerializeToString(), metadata=clients.metadata, timeout=5)
            await clients.close()
            await handler.lock.check()
            await put(handler, "things/a")
    assert set(await found(firestore_target)) == {"a"}


@only_own
async def test_an_answer_lost_together_with_the_lock_is_not_known(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler, handler_of(firestore_target) as other:
        with pytest.raises(ConnectionLost, match=r"The answer to a commit was lost, .* it may have happened") as raised:
            async with handler.lock.hold(timeout=5, waiting=ignore):
                looking = firestore_target.server.faults.hold("BatchGetDocuments")
                firestore_target.server.faults.fail("Commit", after=True)
                losing = asyncio.ensure_future(put(handler, "things/a"))
                await reached(looking)
                await other.lock.release()
                assert looking.held is not None
                looking.held.set()
                await losing
        assert not handler.is_transient(raised.value)


@only_own
async def test_without_the_lock_a_commit_without_an_answer_is_not_known(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        for after in (False, True):
            firestore_target.server.faults.fail("Commit", after=after)
            with pytest.raises(ConnectionLost, match="it may have happened") as raised:
                await put(handler, "things/a")
            assert not handler.is_transient(raised.value)


@only_own
async def test_the_same_work_twice_at_once_is_a_conflict_that_passes(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:
        await put(handler, "things/a", number=0)

        async def first(transaction: Any) -> None:
            thing = await handler.db.document("things/a").get(transaction=transaction)
            await handler.run(second, TRANSACTION)
            transaction.update(thing.reference, {"number": thing.get("number") + 1})

        async def second(transaction: Any) -> None:
            transaction.update(handler.db.document("things/a"), {"number": 10})

        with pytest.raises(DatabaseError, match="another transaction was in the way") as raised:
            await handler.run(first, TRANSACTION)
        assert handler.is_transient(raised.value)
    assert await found(firestore_target) == {"a": {"number": 10}}
    assert calls(firestore_target, "Rollback")


@only_own
async def test_a_transaction_that_cannot_begin_just_now_begins_later(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        firestore_target.server.faults.fail("BeginTransaction", times=3)
        await put(handler, "things/a")
        firestore_target.server.faults.fail("BeginTransaction", Code.INVALID_ARGUMENT, "no")
        with pytest.raises(DatabaseError, match=r"Beginning a transaction: no \(INVALID_ARGUMENT\)"):
            await put(handler, "things/b")
    assert set(await found(firestore_target)) == {"a"}


# -- being cancelled -------------------------------------------------------------------------------


async def reached(rule: Any) -> None:
    with anyio.fail_after(5):
        while not rule.reached.is_set():
            await anyio.sleep(0.01)


@only_own
@pytest.mark.parametrize("way", ["scope", "task"])
@pytest.mark.parametrize(
    ("method", "written"), [("BeginTransaction", set[str]()), ("Commit", {"a"})], ids=["beginning", "committing"]
)
async def test_cancelled_at_a_call_it_is_done_wholly_or_not_at_all(
    firestore_target: FirestoreTarget, way: str, method: str, written: set[str]
) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        await handler.check_connection()
        rule = firestore_target.server.faults.hold(method)
        assert rule.held is not None
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await put(handler, "things/a")
                await anyio.lowlevel.checkpoint()

        task = asyncio.ensure_future(run())
        await reached(rule)
        {"scope": scope.cancel, "task": task.cancel}[way]()
        await anyio.sleep(0.1)
        rule.held.set()
        await asyncio.wait({task})
        assert task.cancelled() == (way == "task")
        assert scope.cancelled_caught == (way == "scope")
        assert set(await found(firestore_target)) == written
        await put(handler, "things/b")


@only_own
async def test_cancelled_while_a_commit_fails_it_is_not_tried_again(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        committing = firestore_target.server.faults.hold("Commit")
        tried = 0

        async def work(transaction: Any) -> None:
            nonlocal tried
            tried += 1
            await handler.db.document("things/a").get(transaction=transaction)
            transaction.set(handler.db.document("things/b"), {"mine": True})

        async def run() -> None:
            for _ in range(2):
                with suppress(DatabaseError):
                    await handler.run(work, TRANSACTION)

        task = asyncio.ensure_future(run())
        await reached(committing)
        async with firestore_target.client() as other:
            await other.document("things/a").set({"theirs": True})  # so the commit fails
        task.cancel()
        await anyio.lowlevel.checkpoint()
        committing.release()
        await asyncio.wait({task})
        assert task.cancelled()
        assert tried == 1
        assert set(await found(firestore_target)) == {"a"}


@only_own
@pytest.mark.parametrize("way", ["scope", "task"])
async def test_cancelled_while_it_reads_its_transaction_is_ended(firestore_target: FirestoreTarget, way: str) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        scope = anyio.CancelScope()

        async def work(transaction: Any) -> None:
            await handler.db.document("things/a").get(transaction=transaction)

        async def run() -> None:
            with scope:
                await handler.run(work, TRANSACTION)

        rule = firestore_target.server.faults.hold("BatchGetDocuments")
        assert rule.held is not None
        task = asyncio.ensure_future(run())
        await reached(rule)
        {"scope": scope.cancel, "task": task.cancel}[way]()
        await asyncio.wait({task})
        rule.held.set()
        assert task.cancelled() == (way == "task")
        assert scope.cancelled_caught == (way == "scope")
        assert open_transactions(firestore_target) == 0
