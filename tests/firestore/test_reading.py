"""Reading documents: all of them, in order, exactly as they stand, whatever becomes of the streams."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import grpc
import pytest
from google.cloud.firestore_v1.types import document as documents
from google.cloud.firestore_v1.types import firestore as types

from msr_async.errors import ConnectionLost, DatabaseError, PermissionMissing
from msr_async.firestore import reading, wire
from msr_async.firestore.clients import Clients
from msr_async.firestore.names import EVERYTHING, Home, KeyRange, order_key, under
from tests.support.firestore import FirestoreTarget, commit, only_own, opening
from tests.support.firestore_cutting import CutClients

Document: Any = documents.Document.pb()
Value: Any = documents.Value.pb()
BatchGetResponse: Any = types.BatchGetDocumentsResponse.pb()
BatchGetRequest: Any = types.BatchGetDocumentsRequest.pb()
FAST = reading.Limits(stream=5, patience=0.5, first_delay=0.001, longest_delay=0.01)

Open = Callable[..., CutClients]


@pytest.fixture
async def opened(firestore_target: FirestoreTarget) -> AsyncIterator[Open]:
    """Opens clients whose streams are cut as the arguments say."""
    async with opening(firestore_target, CutClients) as opens:
        yield opens


@pytest.fixture
def clients(opened: Open) -> CutClients:
    return opened()


async def write(clients: Clients, *paths: str, fields: Any = None, size: int = 0) -> None:
    """Documents with these fields, or one field of `size` bytes."""
    await commit(clients, paths, fields or {"f": Value(bytes_value=b"x" * size)})


async def read(clients: Clients, within: KeyRange = EVERYTHING, **options: Any) -> list[bytes]:
    async with aclosing(reading.pages(clients, within, **{"limits": FAST, **options})) as pages:
        return [document async for page in pages for document in page]


async def paths(clients: Clients, within: KeyRange = EVERYTHING, **options: Any) -> list[str]:
    found = await read(clients, within, **options)
    return [clients.home.path_of(wire.name_of(document)) for document in found]


def values(clients: Clients) -> dict[str, Any]:
    """One of every type, at the ends of their ranges."""
    nested = Value()
    nested.map_value.fields["a.b `c`"].array_value.values.add().string_value = "deep"
    vector = Value()
    vector.map_value.fields["__type__"].string_value = "__vector__"
    vector.map_value.fields["value"].array_value.values.add().double_value = 1.5
    empty_map, empty_list = Value(), Value()
    empty_map.map_value.SetInParent()
    empty_list.array_value.SetInParent()
    point = Value()
    point.geo_point_value.latitude, point.geo_point_value.longitude = -90.0, 180.0
    early, late = Value(), Value()
    early.timestamp_value.FromDatetime(datetime(1, 1, 1, tzinfo=UTC))
    late.timestamp_value.FromDatetime(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
    return {
        "null": Value(null_value=0),
        "true": Value(boolean_value=True),
        "false": Value(boolean_value=False),
        "least": Value(integer_value=-(2**63)),
        "greatest": Value(integer_value=2**63 - 1),
        "beyond doubles": Value(integer_value=2**53 + 1),
        "zero": Value(integer_value=0),
        "minus zero": Value(double_value=-0.0),
        "nan": Value(double_value=float("nan")),
        "infinity": Value(double_value=float("inf")),
        "minus infinity": Value(double_value=float("-inf")),
        "subnormal": Value(double_value=5e-324),
        "whole": Value(double_value=3.0),
        "text": Value(string_value="é \U0001f600 \0 \n"),
        "no text": Value(string_value=""),
        "bytes": Value(bytes_value=bytes(range(256))),
        "no bytes": Value(bytes_value=b""),
        "reference": Value(reference_value=clients.home.name("a/b")),
        "reference elsewhere": Value(reference_value="projects/other/databases/d/documents/a/b"),
        "looks like times": Value(bytes_value=b"\x1a\x06\x08\x80\x80\x80\x80\x08\x22\x06\x08\x80\x80\x80\x80\x08"),
        "point": point,
        "early": early,
        "late": late,
        "map": nested,
        "vector": vector,
        "no map": empty_map,
        "no list": empty_list,
    }


async def test_every_type_of_value_comes_as_the_server_gives_it(clients: CutClients) -> None:
    await write(clients, "types/all", fields=values(clients))
    (found,) = await read(clients)
    document = Document.FromString(found)
    assert document.fields["nan"].double_value != document.fields["nan"].double_value
    sent, got = values(clients), dict(document.fields)
    sent.pop("nan"), got.pop("nan")
    assert got == sent
    assert document.fields["minus zero"].SerializeToString() == sent["minus zero"].SerializeToString()
    assert document.create_time == document.update_time
    assert document.create_time.seconds > 0
    request = BatchGetRequest(database=clients.home.path, documents=[clients.home.name("types/all")])
    call = clients.stream("BatchGetDocuments")(request.SerializeToString(), metadata=clients.metadata, timeout=10)
    (answer,) = [BatchGetResponse.FromString(response) async for response in call]
    assert answer.found.SerializeToString(deterministic=True) == document.SerializeToString(deterministic=True)


TREE = [
    *("a/1/b/2/c/3/d/4/e/5", "a/1/b/2/c/3/d/4/e/6", "a/1/b/2"),
    *("missing/x/below/y", "missing/x/below/y/deeper/__id7__", "missing/x/below/z", "missing/\U0001f600/below/z"),
    *("numbers/__id-5__", "numbers/__id7__", "numbers/__id10__", "numbers/__id7__\0", "z/z"),
]


async def test_every_depth_is_read_in_order_and_under_missing_parents_too(clients: CutClients) -> None:
    await write(clients, *TREE)
    assert await paths(clients) == sorted(TREE, key=order_key)


async def test_a_range_is_what_lies_in_it(clients: CutClients) -> None:
    await write(clients, *TREE)
    edges = sorted([*TREE, "a/1", "missing/x", "missing/x/below/yy", "zz/z"], key=order_key)
    dice = random.Random(7)
    for _ in range(12):
        start, end = sorted(dice.sample(["", *edges], 2), key=lambda path: order_key(path) if path else ())
        for within in (KeyRange(start=start, end=end), KeyRange(start=end), KeyRange(end=end)):
            assert await paths(clients, within) == [path for path in sorted(TREE, key=order_key) if path in within]


@pytest.mark.parametrize("top", ["a", "a/1", "a/1/b", "missing", "missing/x", "numbers/__id7__", "nothing", "z/z"])
async def test_what_is_under_a_path(clients: CutClients, top: str) -> None:
    await write(clients, *TREE)
    expected = [path for path in sorted(TREE, key=order_key) if path == top or path.startswith(f"{top}/")]
    assert await paths(clients, under(top)) == expected


async def test_nothing_is_read_of_nothing(clients: CutClients) -> None:
    assert await read(clients) == []


async def test_names_come_with_their_times(clients: CutClients) -> None:
    await write(clients, "a/b", fields={"f": Value(string_value="x" * 1000)})
    (whole,), (name,) = await read(clients), await read(clients, names_only=True)
    assert len(name) < 200
    assert wire.name_of(name) == wire.name_of(whole)
    assert wire.update_time_of(name) == wire.update_time_of(whole) != b""


async def test_pages_are_small(clients: CutClients) -> None:
    await write(clients, *(f"few/{number:03}" for number in range(8)), size=100_000)
    await write(clients, *(f"many/{number:04}" for number in range(1200)))
    async with aclosing(reading.pages(clients)) as pages:
        sizes = [(len(page), sum(map(len, page))) async for page in pages]
    assert sum(count for count, _ in sizes) == 1208
    assert max(count for count, _ in sizes) <= 500
    assert max(size for _, size in sizes) <= 256 * 1024 + 100_200
    assert len(sizes) >= 5


# -- one point in time -----------------------------------------------------------------------------


async def test_all_is_read_as_it_was_while_somebody_writes(opened: Open) -> None:
    clients = opened(cuts=[40] * 30)
    names = [f"c/{number:04}" for number in range(600)]
    await write(clients, *names, fields={"round": Value(integer_value=0)})
    moment = await reading.now(clients)
    async with anyio.create_task_group() as group:

        async def change() -> None:
            for round_ in itertools.count(1):
                await write(clients, *names[::7], f"c/{round_:04}x", fields={"round": Value(integer_value=round_)})
                await clients.native.document(names[round_ % 600]).delete()

        group.start_soon(change)
        await anyio.sleep(0.05)
        found = [Document.FromString(document) for document in await read(clients, read_time=moment)]
        group.cancel_scope.cancel()
    assert [document.name for document in found] == [clients.home.name(name) for name in names]
    assert {document.fields["round"].integer_value for document in found} == {0}
    assert clients.streams > 10


async def test_what_was_written_before_is_there_at_the_servers_time(clients: CutClients) -> None:
    for number in range(5):
        await write(clients, f"c/{number}")
        moment = await reading.now(clients)
        assert len(await read(clients, read_time=moment)) == number + 1
        assert await reading.count(clients, read_time=moment) == number + 1
    assert moment.tzinfo is UTC
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=1)


# -- streams that are cut --------------------------------------------------------------------------

MANY = [f"c/{number:04}" for number in range(300)]


@pytest.mark.parametrize("each", [1, 7, 299, 300])
@pytest.mark.parametrize("names_only", [False, True])
async def test_a_stream_that_is_cut_again_and_again_loses_nothing(opened: Open, each: int, names_only: bool) -> None:
    clients = opened(cuts=[each] * 300)
    await write(clients, *MANY)
    assert await paths(clients, names_only=names_only) == MANY
    assert clients.streams >= 300 // each


@pytest.mark.parametrize("code", sorted(reading.TRANSIENT, key=str), ids=lambda code: str(code).lower())
async def test_every_failure_that_passes_is_outlived(opened: Open, code: grpc.StatusCode) -> None:
    clients = opened(cuts=[0, 100, 0, 0, 3, 0], code=code)
    await write(clients, *MANY)
    within = KeyRange(start=MANY[5], end=MANY[290])
    assert await paths(clients, within) == MANY[5:290]
    assert clients.streams == 7


async def test_a_stream_ends_at_its_own_deadline_and_is_resumed(clients: CutClients) -> None:
    names = MANY[:60]
    await write(clients, *names, size=60_000)
    found: list[bytes] = []
    limits = reading.Limits(stream=0.25, patience=10, first_delay=0.001, longest_delay=0.01)
    async with aclosing(reading.pages(clients, limits=limits)) as pages:
        async for page in pages:
            found += page
            await anyio.sleep(0.1)
    assert [clients.home.path_of(wire.name_of(document)) for document in found] == names
    assert clients.streams > 1


async def test_a_server_that_is_away_for_ever_is_told_in_time(opened: Open) -> None:
    clients = opened(cuts=itertools.chain([3], itertools.repeat(0)))
    await write(clients, *MANY)
    begun = time.monotonic()
    with pytest.raises(ConnectionLost, match=r"nothing came from the server for .* UNAVAILABLE: on command"):
        await read(clients)
    assert time.monotonic() - begun < 3
    assert clients.streams > 10
    assert clients.open == 0


async def test_nobody_there_is_told_in_time(one_loop: None) -> None:
    clients = Clients(Home(project="p", database="(default)"), emulator="127.0.0.1:1")
    for ask in (read(clients), reading.now(clients, limits=FAST), reading.count(clients, limits=FAST)):
        with pytest.raises(ConnectionLost, match=r"UNAVAILABLE.*See that the database can be reached"):
            await ask
    await clients.close()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, PermissionMissing),
        (grpc.StatusCode.INVALID_ARGUMENT, DatabaseError),
        (grpc.StatusCode.FAILED_PRECONDITION, DatabaseError),
    ],
)
async def test_a_refusal_is_told_at_once(opened: Open, code: grpc.StatusCode, error: type[Exception]) -> None:
    clients = opened(cuts=[2], code=code)
    await write(clients, *MANY)
    with pytest.raises(error, match=r"Reading projects/.*on command") as caught:
        await read(clients)
    assert reading.code_of(caught.value) is code
    assert clients.streams == 1


async def test_cancelled_in_the_middle_the_channel_is_as_good_as_before(clients: CutClients) -> None:
    await write(clients, *MANY, size=10_000)
    for seconds in (0.0, 0.001, 0.005, 0.02, 0.05):
        with anyio.move_on_after(seconds) as scope:
            await read(clients)
            await anyio.sleep(1)
        assert scope.cancelled_caught
    assert clients.open == 0
    assert await paths(clients) == MANY


async def test_left_in_the_middle_the_stream_is_ended(clients: CutClients) -> None:
    await write(clients, *MANY, size=10_000)
    async with aclosing(reading.pages(clients)) as pages:
        first = await anext(pages)
        assert clients.open == 1
    assert clients.open == 0
    assert 0 < len(first) < len(MANY)


async def test_many_ranges_are_read_side_by_side(clients: CutClients) -> None:
    await write(clients, *MANY, size=1000)
    found: dict[int, list[str]] = {}

    async def one(number: int, within: KeyRange) -> None:
        found[number] = await paths(clients, within)

    async with anyio.create_task_group() as group:
        for number, within in enumerate(EVERYTHING.cut(MANY[20::20])):
            group.start_soon(one, number, within)
    assert [path for number in sorted(found) for path in found[number]] == MANY


# -- what only a server of our own can do ----------------------------------------------------------


@only_own
async def test_streams_that_the_server_cuts_lose_nothing(
    firestore_target: FirestoreTarget, clients: CutClients
) -> None:
    await write(clients, *MANY)
    assert firestore_target.server is not None
    firestore_target.server.faults.cut("RunQuery", 11, times=20)
    moment = await reading.now(clients)
    assert await paths(clients, read_time=moment) == MANY
    queries = [call.request for call in firestore_target.server.calls if call.method == "RunQuery"]
    assert len(queries) == 21
    assert {query.read_time.ToDatetime(tzinfo=UTC) for query in queries} == {moment}
    assert [query.structured_query.start_at.values[0].reference_value for query in queries[1:]] == [
        clients.home.name(MANY[11 * number - 1]) for number in range(1, 21)
    ]


@only_own
async def test_a_server_that_says_nothing_is_told_in_time(
    firestore_target: FirestoreTarget, clients: CutClients
) -> None:
    await write(clients, *MANY)
    assert firestore_target.server is not None
    holds = [firestore_target.server.faults.hold("RunQuery") for _ in range(20)]
    limits = reading.Limits(stream=0.2, patience=0.7, first_delay=0.001, longest_delay=0.01)
    begun = time.monotonic()
    with pytest.raises(ConnectionLost, match="DEADLINE_EXCEEDED"):
        await read(clients, limits=limits)
    assert 0.6 < time.monotonic() - begun < 3
    assert sum(hold.reached.is_set() for hold in holds) >= 3


@only_own
async def test_cancelled_while_the_server_says_nothing_the_thread_is_free_at_once(
    firestore_target: FirestoreTarget, clients: CutClients
) -> None:
    await write(clients, *MANY)
    assert firestore_target.server is not None
    before = threading.active_count()
    hold = firestore_target.server.faults.hold("RunQuery")
    begun = time.monotonic()
    with anyio.move_on_after(0.3) as scope:
        await read(clients)
    assert scope.cancelled_caught
    assert time.monotonic() - begun < 2
    assert hold.reached.is_set()
    assert await paths(clients) == MANY
    limiter = anyio.to_thread.current_default_thread_limiter()
    with anyio.fail_after(2):
        while limiter.borrowed_tokens:
            await anyio.sleep(0.01)
    assert threading.active_count() <= before + 3
    assert hold.held is not None
    hold.held.set()


@only_own
@pytest.mark.parametrize("method", ["RunAggregationQuery", "BatchGetDocuments", "ListCollectionIds"])
async def test_short_questions_are_asked_again(
    firestore_target: FirestoreTarget, clients: CutClients, method: str
) -> None:
    await write(clients, "a/1", "b/1")
    assert firestore_target.server is not None
    firestore_target.server.faults.fail(method, times=3)
    assert await reading.count(clients, limits=FAST) == 2
    assert await reading.root_collections(clients, limits=FAST) == ["a", "b"]
    assert await reading.now(clients, limits=FAST) > datetime(2026, 1, 1, tzinfo=UTC)
    asked = [call for call in firestore_target.server.calls if call.method == method]
    assert len(asked) == 4


@only_own
@pytest.mark.parametrize("method", ["RunAggregationQuery", "ListCollectionIds"])
async def test_a_short_question_can_be_cancelled(
    firestore_target: FirestoreTarget, clients: CutClients, method: str
) -> None:
    assert firestore_target.server is not None
    hold = firestore_target.server.faults.hold(method)
    with anyio.move_on_after(0.2) as scope:
        await reading.count(clients)
        await reading.root_collections(clients)
    assert scope.cancelled_caught
    assert hold.reached.is_set()
    assert hold.held is not None
    hold.held.set()
    assert await reading.count(clients) == 0


# -- counts and collections ------------------------------------------------------------------------


async def test_documents_are_counted_by_collection_and_range(clients: CutClients) -> None:
    await write(clients, "a/1", "a/2", "b/1/a/3", "missing/x/a/4", "b/1/c/1")
    before = await reading.now(clients)
    await write(clients, "a/5")
    assert await reading.count(clients) == 6
    assert await reading.count(clients, read_time=before) == 5
    assert await reading.count(clients, "a") == 5
    assert await reading.count(clients, "a", read_time=before) == 4
    assert await reading.count(clients, "nothing") == 0
    assert await reading.count(clients, within=under("b")) == 2
    assert await reading.count(clients, within=under("a/2")) == 1


async def test_root_collections_are_listed_even_where_only_something_beneath_is_there(clients: CutClients) -> None:
    await write(clients, "b/1", "a/1/inner/2", "missing/x/below/y")
    before = await reading.now(clients)
    await write(clients, "later/1")
    assert await reading.root_collections(clients) == ["a", "b", "later", "missing"]
    assert await reading.root_collections(clients, read_time=before) == ["a", "b", "missing"]


async def test_root_collections_come_in_pages(clients: CutClients) -> None:
    wanted = [f"c{number:04}" for number in range(1100)]
    await write(clients, *(f"{collection}/x" for collection in wanted))
    assert await reading.root_collections(clients) == wanted


async def test_a_name_by_its_place(clients: CutClients) -> None:
    await write(clients, *MANY[:30])
    within = KeyRange(start=MANY[10])
    assert await reading.name_at(clients, within, 0) == clients.home.name(MANY[10])
    assert await reading.name_at(clients, within, 19) == clients.home.name(MANY[29])
    assert await reading.name_at(clients, within, 20) is None
