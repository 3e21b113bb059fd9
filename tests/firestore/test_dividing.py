"""Where a database is cut into ranges: without gaps, in order, and evenly where the server helps."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import pytest
from google.cloud.firestore_v1.types import document as documents
from google.cloud.firestore_v1.types import firestore as types
from hypothesis import given
from hypothesis import strategies as st

from msr_async.errors import DatabaseError
from msr_async.firestore import dividing, reading
from msr_async.firestore.clients import Clients
from msr_async.firestore.names import EVERYTHING, Home, KeyRange, bridged, order_key, scope_of, under
from msr_async.models import Selection
from tests.support.firestore import commit, only_own, opening

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
    assert [request.structured_query.from_[0].collection_id for request in clients.asked] == ["", "a", "b", "missing"]


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


@only_own
@pytest.mark.parametrize("kindless", [False, True])
async def test_a_real_server_partitions_what_it_holds(firestore_target: Any, kindless: bool) -> None:
    firestore_target.server.kindless_partitions = kindless
    clients = Clients(firestore_target.home, emulator=firestore_target.address)
    names = [f"c/{number:04}" for number in range(450)]
    await commit(clients, names)
    await commit(clients, [f"c/0001/inner/{number:04}" for number in range(450)])
    every = sorted([*names, *(f"c/0001/inner/{number:04}" for number in range(450))], key=order_key)
    moment = await reading.now(clients)
    pieces = await dividing.ranges(clients, [EVERYTHING], [900], read_time=moment, least=200)
    found = sizes_of(pieces, every)
    await clients.close()
    firestore_target.server.kindless_partitions = False
    assert len(pieces) > 2
    assert sum(found) == 900
    assert min(found) > 100


@given(cuts=st.lists(st.integers(0, 999), unique=True, max_size=200).map(sorted), wanted=st.integers(1, 70))
def test_thinning_keeps_an_even_choice(cuts: list[int], wanted: int) -> None:
    names = [f"c/{cut:04}" for cut in cuts]
    chosen = dividing.thinned(names, wanted)
    assert len(chosen) == min(len(names), wanted)
    assert chosen == sorted(set(chosen))
    places = [-1, *map(names.index, chosen), len(names)]
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert max(gaps) - min(gaps) <= 2
