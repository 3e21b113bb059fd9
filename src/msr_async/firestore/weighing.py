"""Where a server would cut that wants to be told a collection: by ids, with how many documents stand between two cuts.

There is a list of the ids at the top only. What is deeper is looked for beneath a few documents of each collection, and
only while more documents were counted in all than in the collections that are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import anyio
import grpc
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import query as query_types
from msgspec import Struct

from ..errors import DatabaseError
from . import reading
from .asking import side_by_side
from .clients import Clients
from .names import LOCK_COLLECTION, KeyRange

_ASKED_FOR = 128
"""Cuts of a query, at most."""
_PAGE = 300
_MOST_IDS = 300
_SECONDS, _COUNT_SECONDS = 60.0, 30.0
"""For all of the looking around, and for one count: the moment can be read for an hour only."""
_SAMPLES = 3
"""Documents of a collection beneath which more collections are looked for."""
_AT_ONCE = 8

_Partition: Any = types.PartitionQueryRequest.pb()
_PartitionResponse: Any = types.PartitionQueryResponse.pb()
_List: Any = types.ListDocumentsRequest.pb()
_ListResponse: Any = types.ListDocumentsResponse.pb()
_ListIds: Any = types.ListCollectionIdsRequest.pb()
_ListIdsResponse: Any = types.ListCollectionIdsResponse.pb()


async def weights(
    clients: Clients,
    whole: Sequence[KeyRange],
    total: int | None,
    *,
    enough: int,
    read_time: datetime,
    limits: reading.Limits,
) -> dict[str, float]:
    """Places to cut inside of the ranges, in no order, each with the documents that it stands for.

    Args:
        total: documents in these ranges; None: too many to be counted.
        enough: so many documents may be in collections that nobody knows.
    """
    look = _Look(clients, whole, read_time, limits)
    with anyio.move_on_after(_SECONDS):
        await look.around(total, enough)
    return _weighed(look.found.values(), total)


class _Group(Struct, kw_only=True):
    """All collections of one id."""

    cuts: Sequence[str]
    size: int | None = None
    """Documents; None where they were not counted."""


def _weighed(groups: Iterable[_Group], total: int | None) -> dict[str, float]:
    """The server cuts a group evenly. What could not be counted is large: it is given what nobody else has."""
    groups = list(groups)
    counted = [group.size for group in groups if group.size is not None]
    unknown = max(1, len(groups) - len(counted))
    rest = max([1, *counted] if total is None else [1, (total - sum(counted)) // unknown])
    found: dict[str, float] = {}
    for group in groups:
        size = rest if group.size is None else group.size
        found.update(dict.fromkeys(group.cuts, max(1.0, size / (len(group.cuts) + 1))))
    return found


class _Look:
    """One look around; what it has found is kept when its time is over."""

    def __init__(
        self, clients: Clients, whole: Sequence[KeyRange], read_time: datetime, limits: reading.Limits
    ) -> None:
        self._clients = clients
        self._whole = whole
        self._span = KeyRange(start=whole[0].start, end=whole[-1].end)
        self._read_time = read_time
        self._limits = limits
        self.found: dict[str, _Group] = {}

    async def around(self, total: int | None, enough: int) -> None:
        """From the top down, until that is enough, or there is nothing more."""
        ids = await reading.root_collections(self._clients, read_time=self._read_time, limits=self._limits)
        level = {id: "" for id in ids if id != LOCK_COLLECTION}
        while level := dict(list(level.items())[: _MOST_IDS - len(self.found)]):
            await side_by_side([partial(self._measure, id) for id in level], at_once=_AT_ONCE)
            known = sum(group.size or 0 for group in self.found.values())
            if total is not None and total - known <= enough:
                return
            level = await self._beneath(level)

    async def _measure(self, id: str) -> None:
        cuts = await partitions(self._clients, id, read_time=self._read_time, limits=self._limits) or ()
        group = self.found[id] = _Group(cuts=[path for path in cuts if any(path in item for item in self._whole)])
        try:
            group.size = await reading.count(
                self._clients,
                id,
                within=self._span,
                read_time=self._read_time,
                limits=self._limits.at_most(_COUNT_SECONDS),
            )
        except DatabaseError as error:
            if reading.code_of(error) not in reading.NOT_COUNTED:
                raise

    async def _beneath(self, level: Mapping[str, str]) -> dict[str, str]:
        """The ids beneath these collections that are new, each with a document that has such a collection."""
        samples = await side_by_side([partial(self._sample, *item) for item in level.items()], at_once=_AT_ONCE)
        documents = list(dict.fromkeys(path for paths in samples for path in paths))
        ids = await side_by_side([partial(self._ids_beneath, path) for path in documents], at_once=_AT_ONCE)
        found: dict[str, str] = {}
        for path, those in zip(documents, ids, strict=True):
            for id in those:
                if id not in self.found:
                    found.setdefault(id, path)
        return found

    async def _sample(self, id: str, above: str) -> list[str]:
        """Some documents of a collection, and some that stand elsewhere in a collection of its id."""
        request = _List(parent=self._parent(above), collection_id=id, page_size=_SAMPLES, show_missing=True)
        request.mask.SetInParent()
        answer = await self._asked("ListDocuments", request)
        first = [self._clients.home.path_of(item.name) for item in _ListResponse.FromString(answer).documents]
        cuts = self.found[id].cuts
        return [*first, *cuts[:: len(cuts) // _SAMPLES + 1]]

    async def _ids_beneath(self, path: str) -> Sequence[str]:
        request = _ListIds(parent=self._parent(path), page_size=_PAGE)
        answer = await self._asked("ListCollectionIds", request)
        return list(_ListIdsResponse.FromString(answer).collection_ids)

    def _parent(self, path: str) -> str:
        return self._clients.home.name(path) if path else self._clients.home.root

    async def _asked(self, method: str, request: Any) -> bytes:
        """Empty where the server does not want to be asked that: then this branch is not looked at."""
        request.read_time.FromDatetime(self._read_time)
        data = request.SerializeToString()
        try:
            return await reading.asked(self._clients, method, data, "Looking for collections", limits=self._limits)
        except DatabaseError as error:
            if reading.code_of(error) is grpc.StatusCode.INVALID_ARGUMENT:
                return b""
            raise


async def partitions(
    clients: Clients, collection: str, *, read_time: datetime, limits: reading.Limits
) -> list[str] | None:
    """Where the server cuts all collections of that id, or all documents where it is empty, into even pieces.

    Returns:
        Paths in no order; None: the server does not want to be asked that.
    """
    request = _Partition(parent=clients.home.root, partition_count=_ASKED_FOR, page_size=_PAGE)
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
        page = _PartitionResponse.FromString(answer)
        found += [clients.home.path_of(value.reference_value) for cursor in page.partitions for value in cursor.values]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
