"""The server of our own where Google's emulator has nothing to compare with: production's limits, and faults."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.to_thread
import grpc
import grpc.aio
import pytest
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import query

from tests.support.firestore import FirestoreTarget, target
from tests.support.firestore_server import FirestoreServer

from .probing import Value, Wire, micro, number, refused, text, wired

Query: Any = query.StructuredQuery.pb()


@pytest.fixture
def made(firestore_server: FirestoreServer) -> FirestoreTarget:
    return target(firestore_server.address, firestore_server)


@pytest.fixture
async def wire(made: FirestoreTarget) -> AsyncIterator[Wire]:
    async with wired(made) as opened:
        yield opened


@pytest.fixture
def throwaway(one_loop: None) -> Iterator[FirestoreServer]:
    """A server that a test may stop."""
    with FirestoreServer() as server:
        yield server


# -- production's limits -----------------------------------------------------------------------------


async def test_a_batch_of_more_than_500_writes_is_an_invalid_argument_and_a_commit_is_not(wire: Wire) -> None:
    many = [wire.update(f"c/{number:03}", {}) for number in range(501)]
    assert len((await wire.batch(*many[:500])).status) == 500
    with refused("INVALID_ARGUMENT", "500"):
        await wire.batch(*many)
    assert len((await wire.commit(*many)).write_results) == 501


async def test_a_request_of_more_than_ten_mebibytes_is_an_invalid_argument(wire: Wire) -> None:
    mebibyte = Value(bytes_value=b"x" * 1_000_000)
    await wire.commit(*(wire.update(f"c/{number}", {"v": mebibyte}) for number in range(10)))
    with refused("INVALID_ARGUMENT", "10485760"):
        await wire.commit(*(wire.update(f"d/{number}", {"v": mebibyte}) for number in range(11)))
    assert await wire.count(wire.everything()) == 10


async def test_a_name_of_more_than_six_kibibytes_is_an_invalid_argument(wire: Wire) -> None:
    long = "/".join(["c", "d" * 1500] * 4)
    await wire.put(long)
    with refused("INVALID_ARGUMENT", "6144"):
        await wire.put(f"{long}/{'e' * 100}/{'f' * 100}")


async def test_names_are_served_from_the_last_one_too(wire: Wire) -> None:
    await wire.put("c/a", "c/__id3__", "c/b", "c/a/s/1")
    asked = wire.everything(start="c/b", upto="c/a")
    asked.order_by[0].direction = 2
    assert await wire.paths(asked) == ["c/b", "c/a/s/1", "c/a"]


async def test_a_transaction_is_aborted_when_another_writer_was_first(wire: Wire) -> None:
    await wire.put("c/a")
    begun = await wire.begin()
    assert await wire.value("c/a", transaction=begun) == 1
    await wire.put("c/a", value=2)
    with refused("ABORTED"):
        await wire.commit(wire.update("c/b", {}), transaction=begun)
    assert await wire.paths(wire.everything()) == ["c/a"]


async def test_a_transaction_is_aborted_when_a_document_appears_that_it_missed(wire: Wire) -> None:
    begun = await wire.begin()
    assert await wire.get("c/a", transaction=begun) is None
    await wire.put("c/a")
    with refused("ABORTED"):
        await wire.commit(wire.update("c/b", {}), transaction=begun)


# -- PartitionQuery ------------------------------------------------------------------------------------


async def partitions(wire: Wire, count: int, *, asked: Any = None, **how: Any) -> list[str]:
    """The cuts as they come, page by page."""
    found: list[str] = []
    token = ""
    while True:
        answer = await wire.ask(
            "PartitionQuery",
            **{
                "parent": wire.home.root,
                "structured_query": asked or wire.everything("c"),
                "partition_count": count,
                "page_token": token,
                **how,
            },
        )
        found += [wire.home.path_of(cursor.values[0].reference_value) for cursor in answer.partitions]
        token = answer.next_page_token
        if not token:
            return found


async def test_cuts_come_in_pages_and_in_no_order_and_leave_nothing_out(
    wire: Wire, firestore_server: FirestoreServer
) -> None:
    every = [f"c/{number:04}" for number in range(900)]
    await wire.put(*every)
    cuts = await partitions(wire, 5)
    assert len(cuts) == 5
    assert cuts != sorted(cuts)
    edges = [None, *sorted(cuts), None]
    pieces = [
        await wire.paths(wire.everything("c", start=start, before=end)) for start, end in itertools.pairwise(edges)
    ]
    assert [path for piece in pieces for path in piece] == every
    assert all(len(piece) >= 128 for piece in pieces)
    assert len(await partitions(wire, 100)) == 7
    asked = [call.request for call in firestore_server.calls if call.method == "PartitionQuery"]
    assert [bool(request.page_token) for request in asked] == [False, True, False, True, True]


async def test_few_documents_are_not_cut_and_the_past_may_be(wire: Wire) -> None:
    await wire.put(*(f"c/{number}" for number in range(127)))
    assert await partitions(wire, 4) == []
    moment = (await wire.put("c/x")).commit_time
    await wire.commit(*(wire.delete(f"c/{number}") for number in range(127)))
    assert await partitions(wire, 4) == []
    assert len(await partitions(wire, 4, read_time=moment)) == 1


@pytest.mark.parametrize(
    "what", ["no collection", "not all", "a limit", "a cursor", "a filter", "an order", "no count"]
)
async def test_what_is_not_cut_is_an_invalid_argument(wire: Wire, what: str) -> None:
    asked = wire.everything("" if what == "no collection" else "c", start="c/a" if what == "a cursor" else None)
    asked.from_[0].all_descendants = what != "not all"
    changes = {
        "a limit": Query(limit={"value": 1}),
        "an order": Query(order_by=[{"field": {"field_path": "n"}, "direction": 1}]),
        "a filter": Query(where={"unary_filter": {"op": 3, "field": {"field_path": "n"}}}),
    }
    asked.MergeFrom(changes.get(what, Query()))
    with refused("INVALID_ARGUMENT"):
        await partitions(wire, 0 if what == "no count" else 2, asked=asked)
    with refused("INVALID_ARGUMENT"):
        await partitions(wire, 2, parent=f"{wire.home.root}/c/a")


async def test_all_collections_at_once_are_cut_when_it_is_told_to(
    wire: Wire, firestore_server: FirestoreServer
) -> None:
    await wire.put(*(f"{collection}/{number}" for number in range(100) for collection in "cd"))
    firestore_server.kindless_partitions = True
    try:
        assert len(await partitions(wire, 3, asked=wire.everything())) == 1
    finally:
        firestore_server.kindless_partitions = False


# -- faults --------------------------------------------------------------------------------------------


async def test_a_call_fails_as_often_as_told_and_from_which_on(wire: Wire, firestore_server: FirestoreServer) -> None:
    firestore_server.faults.fail("Commit", grpc.StatusCode.RESOURCE_EXHAUSTED, "too much", skip=1, times=2)
    await wire.put("c/1")
    for id in ("2", "3"):
        with refused("RESOURCE_EXHAUSTED", "too much"):
            await wire.put(f"c/{id}")
    await wire.put("c/4")
    assert await wire.paths(wire.everything()) == ["c/1", "c/4"]


async def test_a_commit_may_be_done_and_its_answer_lost(wire: Wire, firestore_server: FirestoreServer) -> None:
    firestore_server.faults.fail("*", after=True)
    with refused("UNAVAILABLE"):
        await wire.put("c/1")
    assert await wire.paths(wire.everything()) == ["c/1"]


async def test_the_same_seed_fails_the_same_calls(one_loop: None) -> None:
    async def outcome() -> list[str]:
        server = FirestoreServer()
        await anyio.to_thread.run_sync(server.start)
        server.faults.fail("Commit", times=float("inf"), probability=0.5)
        codes = []
        async with wired(target(server.address, server)) as other:
            for _ in range(20):
                try:
                    await other.put("c/1")
                    codes.append("OK")
                except grpc.aio.AioRpcError as error:
                    codes.append(error.code().name)
        await anyio.to_thread.run_sync(server.stop)
        return codes

    first = await outcome()
    assert set(first) == {"OK", "UNAVAILABLE"}
    assert await outcome() == first


async def test_a_stream_is_cut_after_so_many_messages(wire: Wire, firestore_server: FirestoreServer) -> None:
    await wire.put(*(f"c/{number}" for number in range(5)))
    firestore_server.faults.cut("RunQuery", 3)
    request = types.RunQueryRequest.pb()(parent=wire.home.root, structured_query=wire.everything())
    call = wire.clients.stream("RunQuery")(request.SerializeToString(), metadata=wire.clients.metadata, timeout=10)
    came = 0
    with refused("UNAVAILABLE"):
        async for _ in call:
            came += 1
    assert came == 3
    assert len(await wire.paths(wire.everything())) == 5


async def test_single_writes_of_a_batch_fail_by_chance(wire: Wire, firestore_server: FirestoreServer) -> None:
    firestore_server.faults.writes = (0.5, (grpc.StatusCode.ABORTED,))
    answer = await wire.batch(*(wire.update(f"c/{number:02}", {}) for number in range(40)))
    codes = [status.code for status in answer.status]
    assert set(codes) == {0, 10}
    done = [f"c/{number:02}" for number, code in enumerate(codes) if code == 0]
    assert await wire.paths(wire.everything()) == done
    assert [result.HasField("update_time") for result in answer.write_results] == [code == 0 for code in codes]


async def test_many_calls_are_held_at_once_until_they_are_released(
    wire: Wire, firestore_server: FirestoreServer
) -> None:
    rules = [firestore_server.faults.hold("Commit") for _ in range(30)]
    async with anyio.create_task_group() as group:
        for place in range(30):
            group.start_soon(wire.put, f"c/{place:02}")
        for rule in rules:
            await anyio.to_thread.run_sync(rule.reached.wait, 10)
        assert await wire.paths(wire.everything()) == []
        for rule in rules:
            rule.release()
    assert await wire.count(wire.everything()) == 30


async def test_a_call_that_its_client_gave_up_is_not_done_later(wire: Wire, firestore_server: FirestoreServer) -> None:
    rule = firestore_server.faults.hold("Commit")
    request = types.CommitRequest.pb()(database=wire.home.path, writes=[wire.update("c/1", {})])
    call = wire.clients.unary("Commit")(request.SerializeToString(), metadata=wire.clients.metadata, timeout=10)
    await anyio.to_thread.run_sync(rule.reached.wait, 10)
    call.cancel()
    await anyio.sleep(0.1)
    rule.release()
    await anyio.sleep(0.1)
    assert await wire.paths(wire.everything()) == []


async def test_a_call_is_delayed(wire: Wire, firestore_server: FirestoreServer) -> None:
    rule = firestore_server.faults.delay("Commit", 0.3, times=1)
    begun = time.monotonic()
    await wire.put("c/1")
    assert time.monotonic() - begun >= 0.3
    await wire.put("c/2")
    assert rule.times == 0
    assert await wire.paths(wire.everything()) == ["c/1", "c/2"]


async def test_each_stream_has_its_own_throttle(wire: Wire, firestore_server: FirestoreServer) -> None:
    await wire.put(*(f"c/{number:03}" for number in range(120)))
    firestore_server.faults.documents_a_second = 200
    begun = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(wire.paths, wire.everything())
    assert 0.5 <= time.monotonic() - begun < 4  # with one throttle for all of them it is five seconds
    firestore_server.faults.clear()
    assert firestore_server.faults.documents_a_second is None


# -- the log, and the server itself --------------------------------------------------------------------


async def test_the_log_says_what_was_asked(wire: Wire, firestore_server: FirestoreServer) -> None:
    moment = (await wire.put("c/1", "c/2", "c/3")).commit_time
    await wire.paths(wire.everything(), read_time=moment)
    await wire.paths(wire.everything())
    asked = [(call.method, call.writes, call.read_time) for call in firestore_server.calls]
    assert asked == [("Commit", 3, None), ("RunQuery", 0, moment.ToMicroseconds()), ("RunQuery", 0, None)]
    assert firestore_server.calls[0].size == len(firestore_server.calls[0].request.SerializeToString())
    firestore_server.reset()
    assert firestore_server.calls == []
    assert await wire.count(wire.everything()) == 3


async def test_the_log_keeps_a_request_as_it_came(wire: Wire, firestore_server: FirestoreServer) -> None:
    sent = micro(1_700_000_000_000_000)
    sent.nanos = 999
    await wire.commit(wire.update("c/1", {"at": Value(timestamp_value=sent), "t": text("x")}))
    assert firestore_server.calls[0].request.writes[0].update.fields["at"].timestamp_value.nanos == 999
    assert (await wire.get("c/1")).fields["at"].timestamp_value.nanos == 0


async def test_a_server_may_be_stopped_and_started_again_where_it_was(throwaway: FirestoreServer) -> None:
    here = target(throwaway.address, throwaway)
    async with wired(here) as wire:
        await wire.put("c/1")
        await anyio.to_thread.run_sync(throwaway.stop)
        with refused("UNAVAILABLE"):
            await wire.put("c/2")
    await anyio.to_thread.run_sync(throwaway.start, int(here.address.partition(":")[2]))
    assert throwaway.address == here.address
    with anyio.fail_after(30):
        while True:  # grpc lets some time pass before it tries an address again that refused it
            try:
                async with wired(here) as wire:
                    assert await wire.value("c/1") == 1
                break
            except grpc.aio.AioRpcError:
                await anyio.sleep(0.1)
    await anyio.to_thread.run_sync(throwaway.stop)
    await anyio.to_thread.run_sync(throwaway.stop)


async def test_what_it_does_not_know_it_says(wire: Wire) -> None:
    asked = wire.everything("c")
    asked.where.field_filter.field.field_path = "n"
    asked.where.field_filter.op = 8
    asked.where.field_filter.value.CopyFrom(number(1))
    await wire.put("c/1")
    with refused("UNIMPLEMENTED"):
        await wire.paths(asked)
    with refused("UNIMPLEMENTED"):
        await wire.clients.unary("ExecutePipeline")(b"", metadata=wire.clients.metadata, timeout=10)


async def test_threads_without_a_loop_may_talk_to_it(wire: Wire, made: FirestoreTarget) -> None:
    await wire.put("c/1", "d/1")
    request = types.ListCollectionIdsRequest.pb()(parent=wire.home.root).SerializeToString()
    found: list[list[str]] = []

    def ask() -> None:
        with grpc.insecure_channel(made.address) as channel:
            call: Any = channel.unary_unary("/google.firestore.v1.Firestore/ListCollectionIds")
            answer = types.ListCollectionIdsResponse.pb().FromString(call(request, timeout=10))
            found.append(list(answer.collection_ids))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(anyio.to_thread.run_sync, ask)
    assert found == [["c", "d"]] * 3
