"""Requests as they go over the wire, in few words, for probes of what a server does with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.cloud.firestore_v1.types import common, document, query, write
from google.cloud.firestore_v1.types import firestore as types
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from msr_async.firestore.clients import Clients
from msr_async.firestore.names import Home
from tests.support.firestore import FirestoreTarget

Document: Any = document.Document.pb()
MapValue: Any = document.MapValue.pb()
ArrayValue: Any = document.ArrayValue.pb()
Value: Any = document.Value.pb()
Write: Any = write.Write.pb()
Precondition: Any = common.Precondition.pb()
Query: Any = query.StructuredQuery.pb()
ASCENDING = 1

ABSENT = Precondition(exists=False)
PRESENT = Precondition(exists=True)


def unchanged_since(moment: Timestamp) -> Any:
    return Precondition(update_time=moment)


def micro(moment: int) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(moment)
    return made


def number(value: int) -> Any:
    return Value(integer_value=value)


def text(value: str) -> Any:
    return Value(string_value=value)


def nested(fields: Mapping[str, Any]) -> Any:
    return Value(map_value=MapValue(fields=fields))


def array(*values: Any) -> Any:
    return Value(array_value=ArrayValue(values=values))


@contextmanager
def refused(code: str, words: str = "") -> Iterator[None]:
    """The server answers with this status inside."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert caught.value.code().name == code, caught.value.details()
    assert words in (caught.value.details() or "")


class Wire:
    """One database."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self.home = clients.home

    async def ask(self, method: str, **fields: Any) -> Any:
        request = getattr(types, f"{method}Request").pb()(**fields)
        data = await self.clients.unary(method)(request.SerializeToString(), metadata=self.clients.metadata, timeout=20)
        answers = {"Rollback": Empty, "GetDocument": Document}
        kind = answers[method] if method in answers else getattr(types, f"{method}Response").pb()
        return kind.FromString(data)

    async def flow(self, method: str, **fields: Any) -> AsyncIterator[Any]:
        request = getattr(types, f"{method}Request").pb()(**fields)
        kind = getattr(types, f"{method}Response").pb()
        async for data in self.clients.stream(method)(
            request.SerializeToString(), metadata=self.clients.metadata, timeout=20
        ):
            yield kind.FromString(data)

    async def stream(self, method: str, **fields: Any) -> list[Any]:
        return [answer async for answer in self.flow(method, **fields)]

    # -- writes --------------------------------------------------------------------------------------

    def update(
        self, path: str, fields: Mapping[str, Any], *, mask: Sequence[str] | None = None, only: Any = None
    ) -> Any:
        made = Write(update=Document(name=self.home.name(path), fields=fields))
        if mask is not None:
            made.update_mask.SetInParent()
            made.update_mask.field_paths.extend(mask)
        if only is not None:
            made.current_document.CopyFrom(only)
        return made

    def delete(self, path: str, *, only: Any = None) -> Any:
        return Write(delete=self.home.name(path), current_document=only)

    async def commit(self, *writes: Any, transaction: bytes = b"") -> Any:
        return await self.ask("Commit", database=self.home.path, writes=writes, transaction=transaction)

    async def put(self, *paths: str, value: int = 1) -> Any:
        return await self.commit(*(self.update(path, {"n": number(value)}) for path in paths))

    async def batch(self, *writes: Any) -> Any:
        return await self.ask("BatchWrite", database=self.home.path, writes=writes)

    async def begin(self, *, read_only: bool = False, read_time: Timestamp | None = None) -> bytes:
        options = common.TransactionOptions.pb()()
        if read_only:
            options.read_only.SetInParent()
            if read_time is not None:
                options.read_only.read_time.CopyFrom(read_time)
        else:
            options.read_write.SetInParent()
        answer = await self.ask("BeginTransaction", database=self.home.path, options=options)
        return bytes(answer.transaction)

    # -- reads ---------------------------------------------------------------------------------------

    async def get(self, path: str, **how: Any) -> Any:
        """The document, or None."""
        (answer,) = await self.stream(
            "BatchGetDocuments", database=self.home.path, documents=[self.home.name(path)], **how
        )
        return answer.found if answer.HasField("found") else None

    async def value(self, path: str, **how: Any) -> int | None:
        """What `put` has put there."""
        found = await self.get(path, **how)
        return None if found is None else int(found.fields["n"].integer_value)

    async def paths(self, asked: Any, *, under: str = "", **how: Any) -> list[str]:
        answers = await self.stream("RunQuery", parent=self._parent(under), structured_query=asked, **how)
        return [self.home.path_of(item.document.name) for item in answers if item.HasField("document")]

    async def count(self, asked: Any, **how: Any) -> int:
        asked = {"structured_query": asked, "aggregations": [{"alias": "n", "count": {}}]}
        (answer,) = await self.stream(
            "RunAggregationQuery", parent=self.home.root, structured_aggregation_query=asked, **how
        )
        return int(answer.result.aggregate_fields["n"].integer_value)

    async def collections(self, under: str = "", **how: Any) -> list[str]:
        answer = await self.ask("ListCollectionIds", parent=self._parent(under), **how)
        return list(answer.collection_ids)

    def everything(
        self,
        collection: str = "",
        *,
        start: str | None = None,
        after: str | None = None,
        before: str | None = None,
        upto: str | None = None,
        **more: Any,
    ) -> Any:
        """All descendants in the order of their names, between these two."""
        asked = Query(
            order_by=[{"field": {"field_path": "__name__"}, "direction": ASCENDING}],
            from_=[{"collection_id": collection, "all_descendants": True}],
            **more,
        )
        for cursor, path, is_before in (
            (asked.start_at, start, True),
            (asked.start_at, after, False),
            (asked.end_at, before, True),
            (asked.end_at, upto, False),
        ):
            if path is not None:
                cursor.before = is_before
                cursor.values.add(reference_value=self.home.name(path))
        return asked

    async def now(self) -> Timestamp:
        """The server's clock, from an answer of its own."""
        (answer, *_) = await self.stream(
            "BatchGetDocuments", database=self.home.path, documents=[self.home.name("clock/none")]
        )
        moment: Timestamp = answer.read_time
        return moment

    def _parent(self, under: str) -> str:
        return f"{self.home.root}/{under}" if under else self.home.root


@asynccontextmanager
async def wired(target: FirestoreTarget, database: str = "(default)") -> AsyncIterator[Wire]:
    clients = Clients(Home(project=target.project, database=database), emulator=target.address)
    try:
        yield Wire(clients)
    finally:
        await clients.close()
