"""Where a database is cut into ranges: without gaps, in order, and evenly where the server helps."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import grpc
import grpc.aio
import pytest
from google.cloud.firestore_v1.types import document as documents
from google.cloud.firestore_v1.types import firestore as types
from hypothesis import given
from hypothesis import strategies as st

from msr_async.errors import DatabaseError
from msr_async.firestore import dividing, reading, weighing
from msr_async.firestore.clients import Clients
from msr_async.firestore.names import EVERYTHING, Home, KeyRange, bridged, scope_of, under
from msr_async.models import Selection
from tests.support.firestore import FirestoreTarget, commit, only_own, opening
from tests.support.firestore_server import FirestoreServer, listing

Request: Any = types.PartitionQueryRequest.pb()
Response: Any = types.PartitionQueryResponse.pb()
Document: Any = documents.Document.pb()

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
NAMES = [f"c/{number:03}" for number in range(120)]


class Partitioning(Clients):
    """Answers `PartitionQuery` itself: in pages, out of order, by collection or for all, as it was told."""

    def __init__(
        self, home: Home, emulator: str, partitions: dict[str, Sequence[str]], refusal: grpc.StatusCode | None = None
    ) -> None:
        super().__init__(home, emulator=emulator)
        self.partitions = partitions
        self.refusal = refusal
        self.asked: list[Any] = []

    def unary(self, method: str) -> Any:
        if method != "PartitionQuery":
            return super().unary(method)

        async def answer(data: bytes, **options: Any) -> bytes:
            request = Request.FromString(data)
            self.asked.append(request)
            collection = request.structured_query.from_[0].collection_id
            if collection not in self.partitions:
                assert self.refusal is not None
                raise grpc.aio.AioRpcError(self.refusal, grpc.aio.Metadata(), grpc.aio.Metadata(), details="no")
            names = sorted(self.partitions[collection], reverse=True)
            start = int(request.page_token or 0)
            response = Response()
            for name in names[start : start + 3]:
                response.partitions.add().values.add(reference_value=self.home.name(name))
            if start + 3 < len(names):
                response.next_page_token = str(start + 3)
            return bytes(response.SerializeToString())

        return answer


@pytest.fixture
async def opened(firestore_target: Any) -> AsyncIterator[Callable[..., Partitioning]]:
    async with opening(firestore_target, Partitioning) as opens:
        yield opens


def sizes_of(pieces: Sequence[KeyRange], paths: Sequence[str]) -> list[int]:
    return [sum(path in piece for path in paths) for piece in pieces]


async def test_what_is_small_stays_one(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={"": NAMES})
    assert await dividing.ranges(clients, [EVERYTHING], [39_999], read_time=MOMENT) == [EVERYTHING]
    assert await dividing.ranges(clients, [EVERYTHING], [0], read_time=MOMENT) == [EVERYTHING]
    assert clients.asked == []


async def test_the_server_says_where_to_cut(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={"": NAMES})
    pieces = await dividing.ranges(clients, [EVERYTHING], [100_000], read_time=MOMENT)
    assert sizes_of(pieces, NAMES) == [24] * 5
    first = clients.asked[0]
    assert first.parent == clients.home.root
    assert first.structured_query.from_[0].all_descendants
    assert first.structured_query.order_by[0].field.field_path == "__name__"
    assert first.read_time.ToDatetime(tzinfo=UTC) == MOMENT
    assert len(clients.asked) == 40


async def test_more_than_the_most_is_not_made(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={"": NAMES})
    for sizes in ([10**9], None):
        assert len(await dividing.ranges(clients, [EVERYTHING], sizes, read_time=MOMENT)) == 64
    assert len(await dividing.ranges(clients, [EVERYTHING], [10**9], read_time=MOMENT, most=3)) == 3


async def test_a_server_that_wants_a_collection_is_asked_for_each(opened: Callable[..., Partitioning]) -> None:
    clients = opened(
        partitions={"a": ["a/2", "z/1/a/3"], "b": [], "missing": ["missing/1"]},
        refusal=grpc.StatusCode.INVALID_ARGUMENT,
    )
    await commit(clients, ["a/1", "a/2", "b/1", "missing/x/below/y"])
    moment = await reading.now(clients)
    pieces = await dividing.ranges(clients, [EVERYTHING], [100], read_time=moment, least=1)
    assert pieces == EVERYTHING.cut(["a/2", "missing/1", "z/1/a/3"])
    asked = [request.structured_query.from_[0].collection_id for request in clients.asked]
    assert asked == ["", "a", "b", "missing", "below"]


async def test_a_server_that_has_no_partitions_is_counted_off(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={}, refusal=grpc.StatusCode.UNIMPLEMENTED)
    await commit(clients, [*NAMES, "schema_version_lock/lock", "z/1"])
    moment = await reading.now(clients)
    pieces = await dividing.ranges(clients, [EVERYTHING], [122], read_time=moment, least=30)
    assert sizes_of(pieces, NAMES) == [30, 31, 30, 29]
    assert (pieces[0].start, pieces[-1].end) == ("", "")


async def test_counting_off_goes_on_from_range_to_range(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={}, refusal=grpc.StatusCode.UNIMPLEMENTED)
    await commit(clients, [*NAMES, *(f"d/{number}" for number in range(50))])
    whole = [KeyRange(start="c/000", end="c/070"), KeyRange(start="c/090")]
    moment = await reading.now(clients)
    pieces = await dividing.ranges(clients, whole, [70, 80], read_time=moment, least=50)
    every = [*NAMES, *(f"d/{number}" for number in range(50))]
    assert [size for size in sizes_of(pieces, every) if size] == [50, 20, 30, 50]


async def test_a_collection_that_the_server_does_not_partition_is_not_cut(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={"b": ["b/1"]}, refusal=grpc.StatusCode.INVALID_ARGUMENT)
    await commit(clients, ["a/1", "b/1"])
    moment = await reading.now(clients)
    assert await dividing.ranges(clients, [EVERYTHING], [10**6], read_time=moment) == EVERYTHING.cut(["b/1"])


async def test_what_could_not_be_counted_is_not_counted_off(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={}, refusal=grpc.StatusCode.UNIMPLEMENTED)
    assert await dividing.ranges(clients, [EVERYTHING], None, read_time=MOMENT) == [EVERYTHING]


async def test_another_refusal_is_told(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={}, refusal=grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(DatabaseError, match="Asking how to divide the documents: permission denied"):
        await dividing.ranges(clients, [EVERYTHING], [10**6], read_time=MOMENT)


async def test_cuts_outside_of_a_selection_do_not_thin_it_out(opened: Callable[..., Partitioning]) -> None:
    clients = opened(partitions={"": [*NAMES, *(f"d/{number:03}" for number in range(500))]})
    whole = bridged(scope_of(Selection(include=("c",))).ranges)
    pieces = await dividing.ranges(clients, whole, [120], read_time=MOMENT, least=30)
    assert sizes_of(pieces, NAMES) == [30] * 4
    assert (pieces[0].start, pieces[-1].end) == (under("c").start, under("c").end)


@pytest.fixture
def server(firestore_target: Any, monkeypatch: pytest.MonkeyPatch) -> FirestoreServer:
    """Ours, which wants to be told a collection, and cuts small ones too; a query into so many pieces at most."""
    server: FirestoreServer = firestore_target.server
    monkeypatch.setattr(server, "kindless_partitions", False)
    monkeypatch.setattr(listing, "LEAST_PARTITION", 10)
    monkeypatch.setattr(weighing, "_ASKED_FOR", 20)
    return server


@pytest.fixture
async def plain(firestore_target: FirestoreTarget) -> AsyncIterator[Clients]:
    clients = Clients(firestore_target.home, emulator=firestore_target.address)
    yield clients
    await clients.close()


async def divided(clients: Clients, paths: Sequence[str], *, most: int, whole: KeyRange = EVERYTHING) -> list[int]:
    """The documents in each piece of a database that holds these."""
    await commit(clients, paths)
    moment = await reading.now(clients)
    size = sum(path in whole for path in paths)
    pieces = await dividing.ranges(clients, [whole], [size], read_time=moment, least=10, most=most)
    return sizes_of(pieces, [path for path in paths if path in whole])


def asked(server: FirestoreServer) -> Counter[str]:
    return Counter(call.method for call in server.calls)


@only_own
@pytest.mark.parametrize("kindless", [False, True])
async def test_the_own_servers_cuts_make_even_pieces_in_either_way(
    plain: Clients, server: FirestoreServer, monkeypatch: pytest.MonkeyPatch, kindless: bool
) -> None:
    monkeypatch.setattr(server, "kindless_partitions", kindless)
    names = [f"c/{number:03}" for number in range(200)]
    found = await divided(plain, [*names, *(f"c/001/inner/{number:03}" for number in range(200))], most=4)
    assert len(found) == 4
    assert sum(found) == 400
    assert max(found) <= 150
    assert asked(server)["PartitionQuery"] == (1 if kindless else 3)


LARGE_AND_SMALL = [
    *(f"large/{number:04}" for number in range(1200)),
    *(f"s{place:02}/{number:02}" for place in range(20) for number in range(30)),
]


@only_own
async def test_a_large_collection_beside_many_small_ones_gets_its_share(
    plain: Clients, server: FirestoreServer
) -> None:
    found = await divided(plain, LARGE_AND_SMALL, most=9)
    assert len(found) == 9
    assert sum(found) == 1800
    assert max(found) <= 260
    assert not asked(server).keys() & {"ListDocuments"}
    assert asked(server).total() < 60


@only_own
async def test_what_is_too_large_to_be_counted_is_given_all_that_the_others_are_not(
    plain: Clients, server: FirestoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighing, "_AT_ONCE", 1)
    server.faults.fail("RunAggregationQuery", grpc.StatusCode.INVALID_ARGUMENT)
    found = await divided(plain, LARGE_AND_SMALL, most=9)
    assert len(found) == 9
    assert max(found) <= 260


@only_own
@pytest.mark.parametrize("above", ["tenants/{}", "tenants/{}/projects/p"])
async def test_collections_beneath_documents_are_found_also_where_the_documents_are_missing(
    plain: Clients, server: FirestoreServer, above: str
) -> None:
    deep = [f"{above.format(tenant)}/events/{number:03}" for tenant in "abc" for number in range(200)]
    found = await divided(plain, [*(f"users/{number:02}" for number in range(40)), *deep], most=8)
    assert len(found) == 8
    assert sum(found) == 640
    assert max(found) <= 120
    assert asked(server).total() < 40


@only_own
async def test_a_collection_that_only_some_documents_have_is_found_beneath_the_cuts(
    plain: Clients, server: FirestoreServer
) -> None:
    users = [f"users/{number:03}" for number in range(100)]
    late = [f"users/{number:03}/events/{event}" for number in range(50, 100) for event in range(10)]
    found = await divided(plain, [*users, *late], most=6)
    assert len(found) == 6
    assert max(found) <= 170


@only_own
async def test_a_selection_is_weighed_by_what_is_in_it(plain: Clients, server: FirestoreServer) -> None:
    paths = [*(f"a/{number:04}" for number in range(1000)), *(f"b/{number:03}" for number in range(300)), "c/1"]
    found = await divided(plain, paths, most=4, whole=KeyRange(start="a/0900", end="b/300"))
    assert len(found) == 4
    assert sum(found) == 400
    assert max(found) <= 130


@only_own
async def test_no_more_is_asked_than_there_is_time_for(
    plain: Clients, server: FirestoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighing, "_SECONDS", 0.5)
    server.faults.hold("RunAggregationQuery")
    with anyio.fail_after(8):
        found = await divided(plain, [f"c/{number:03}" for number in range(400)], most=4)
    assert len(found) == 4
    assert max(found) <= 120


@only_own
async def test_no_more_ids_are_asked_for_than_that(
    plain: Clients, server: FirestoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighing, "_MOST_IDS", 5)
    found = await divided(plain, [f"s{place:02}/{number:02}" for place in range(20) for number in range(30)], most=4)
    assert len(found) == 4
    assert asked(server)["PartitionQuery"] == 1 + 5


@only_own
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED], ids=lambda code: code.name
)
async def test_without_counts_the_collections_are_taken_for_equally_large(
    plain: Clients, server: FirestoreServer, code: grpc.StatusCode
) -> None:
    server.faults.fail("RunAggregationQuery", code, times=100)
    found = await divided(plain, [f"{place}/{number:03}" for place in "ab" for number in range(200)], most=4)
    assert len(found) == 4
    assert max(found) <= 150


@only_own
async def test_what_the_server_does_not_list_is_not_looked_at(plain: Clients, server: FirestoreServer) -> None:
    server.faults.fail("ListDocuments", grpc.StatusCode.INVALID_ARGUMENT, times=100)
    paths = [f"users/{number:03}" for number in range(100)]
    found = await divided(plain, [*paths, *(f"t/missing/events/{number:03}" for number in range(100))], most=4)
    assert sum(found) == 200
    assert found[0] > 100


@given(cuts=st.lists(st.integers(0, 999), unique=True, max_size=200).map(sorted), wanted=st.integers(1, 70))
def test_thinning_keeps_an_even_choice(cuts: list[int], wanted: int) -> None:
    names = [f"c/{cut:04}" for cut in cuts]
    chosen = dividing.thinned(dict.fromkeys(names, 1.0), wanted)
    assert len(chosen) == min(len(names), wanted)
    assert chosen == sorted(set(chosen))
    places = [-1, *map(names.index, chosen), len(names)]
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert max(gaps) - min(gaps) <= 2


@given(
    weights=st.lists(st.floats(1, 1e6), min_size=1, max_size=200),
    wanted=st.integers(1, 70),
)
def test_thinning_weighs(weights: list[float], wanted: int) -> None:
    cuts = {f"c/{number:04}": weight for number, weight in enumerate(weights)}
    chosen = dividing.thinned(cuts, wanted)
    assert len(chosen) <= wanted
    assert chosen == sorted(set(chosen))
    total = sum(weights) * (1 + 1 / len(weights))
    edges = [0, *(list(cuts).index(path) + 1 for path in chosen), len(weights)]
    for before, after in itertools.pairwise(edges):
        # No piece is larger than its share by more than the cut that could not be divided.
        assert sum(weights[before:after]) <= total / (wanted + 1) + max(weights[before:after], default=0) + 1
