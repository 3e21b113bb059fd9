"""Which ranges to read side by side. Any sorted list of names is a right list of cuts; a good one makes even ranges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import grpc
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import query as query_types

from ..errors import DatabaseError
from . import reading
from .clients import Clients
from .names import KeyRange, order_key

LEAST = 20_000
"""Documents in a range, about: less is read by one stream in a few seconds."""
MOST = 64
MOST_EMULATED = 1
"""An emulator walks over all documents for each query: 100,000 came later through 2 or 4 streams than through one."""
_ASKED_FOR = 128
_PAGE = 300

_Request: Any = types.PartitionQueryRequest.pb()
_Response: Any = types.PartitionQueryResponse.pb()


async def ranges(
    clients: Clients,
    whole: Sequence[KeyRange],
    sizes: Sequence[int] | None,
    *,
    read_time: datetime,
    least: int = LEAST,
    most: int = MOST,
    limits: reading.Limits = reading.LIMITS,
) -> list[KeyRange]:
    """The same ranges, in order and without gaps, cut where they are large.

    Args:
        sizes: documents in each of them; None: too many to be counted.
        least: documents in a piece, about.
        most: pieces, about.
    """
    wanted = most if sizes is None else min(most, sum(sizes) // least)
    if wanted <= 1:
        return list(whole)
    try:
        cuts = await _partitions(clients, whole, read_time=read_time, limits=limits)
    except DatabaseError as error:
        if reading.code_of(error) is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        cuts = await _counted_off(clients, whole, sizes or (), wanted, read_time=read_time, limits=limits)
    chosen = thinned(cuts, wanted - 1)
    return [piece for item in whole for piece in item.cut(chosen)]


def thinned(cuts: Sequence[str], wanted: int) -> list[str]:
    """At most that many of them, evenly chosen."""
    if len(cuts) <= wanted:
        return list(cuts)
    return [cuts[(place + 1) * len(cuts) // (wanted + 1)] for place in range(wanted)]


async def _partitions(
    clients: Clients, whole: Sequence[KeyRange], *, read_time: datetime, limits: reading.Limits
) -> list[str]:
    """Where the server would cut: among all documents, or collection by collection where it wants to be told one."""
    found = await _partition_query(clients, "", read_time=read_time, limits=limits)
    if found is None:
        collections = await reading.root_collections(clients, read_time=read_time, limits=limits)
        asked = [await _partition_query(clients, name, read_time=read_time, limits=limits) for name in collections]
        found = [path for paths in asked for path in paths or ()]
    inside = {path for path in found if any(path in item for item in whole)}
    return sorted(inside, key=order_key)


async def _partition_query(
    clients: Clients, collection: str, *, read_time: datetime, limits: reading.Limits
) -> list[str] | None:
    """None: the server does not want to be asked that."""
    request = _Request(parent=clients.home.root, partition_count=_ASKED_FOR, page_size=_PAGE)
    query = request.structured_query
    query.from_.add(all_descendants=True, collection_id=collection)
    order = query.order_by.add(direction=query_types.StructuredQuery.Direction.ASCENDING)
    order.field.field_path = "__name__"
    request.read_time.FromDatetime(read_time)
    found: list[str] = []
    while True:
        try:
            answer = await reading.asked(
                clients,
                "PartitionQuery",
                request.SerializeToString(),
                "Asking how to divide the documents",
                limits=limits,
            )
        except DatabaseError as error:
            if reading.code_of(error) is grpc.StatusCode.INVALID_ARGUMENT:
                return None
            raise
        page = _Response.FromString(answer)
        found += [clients.home.path_of(value.reference_value) for cursor in page.partitions for value in cursor.values]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _counted_off(
    clients: Clients,
    whole: Sequence[KeyRange],
    sizes: Sequence[int],
    wanted: int,
    *,
    read_time: datetime,
    limits: reading.Limits,
) -> list[str]:
    """Every n-th name, for an emulator; of a real server, all that is passed over has its price."""
    total = sum(sizes)
    places = iter([total * number // wanted for number in range(1, wanted)])
    place = next(places, total)
    cuts: list[str] = []
    passed = 0
    for item, size in zip(whole, sizes, strict=False):
        while place < passed + size:
            name = await reading.name_at(clients, item, place - passed, read_time=read_time, limits=limits)
            if name is not None:
                cuts.append(clients.home.path_of(name))
            place = next(places, total)
        passed += size
    return cuts
