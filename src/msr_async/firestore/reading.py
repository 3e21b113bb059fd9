"""Reading: streams of documents that go on where they were cut, counts, and the server's own clock.

A server ends a stream after about a minute, however much is left. A range that is read at one `read_time` in several
streams is still what it was at that time.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import grpc
import grpc.aio
from google.cloud.firestore_v1.types import document as document_types
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import query as query_types
from msgspec import Struct, structs

from ..errors import ConnectionLost, DatabaseError
from . import translating, wire
from .cancelling import recognised
from .clients import Clients
from .names import EVERYTHING, KeyRange
from .translating import translate

_Query: Any = query_types.StructuredQuery.pb()
_RunQuery: Any = types.RunQueryRequest.pb()
_Aggregation: Any = types.RunAggregationQueryRequest.pb()
_AggregationResponse: Any = types.RunAggregationQueryResponse.pb()
_BatchGet: Any = types.BatchGetDocumentsRequest.pb()
_BatchGetResponse: Any = types.BatchGetDocumentsResponse.pb()
_ListIds: Any = types.ListCollectionIdsRequest.pb()
_ListIdsResponse: Any = types.ListCollectionIdsResponse.pb()
_Value: Any = document_types.Value.pb()

_PAGE_DOCUMENTS = 500
_PAGE_BYTES = 256 * 1024

TRANSIENT = frozenset(
    {
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,  # by the server: what this side cancels is no status
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAVAILABLE,
    }
)

NOT_COUNTED = frozenset(
    {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
)
"""What a server answers that has no counts, or did not come to the end of this one."""


class Limits(Struct, frozen=True, kw_only=True):
    """How long to wait for the server, in seconds."""

    stream: float = 45.0
    """Of one stream: less than the minute after which the server would end it."""
    patience: float = 120.0
    """Without a single document or answer, after which it is given up."""
    first_delay: float = 0.1
    longest_delay: float = 15.0

    def at_most(self, seconds: float) -> Limits:
        """The same, for what must not take longer than that."""
        return structs.replace(self, stream=min(seconds, self.patience), patience=min(seconds, self.patience))


LIMITS = Limits()


async def pages(
    clients: Clients,
    within: KeyRange = EVERYTHING,
    *,
    read_time: datetime | None = None,
    names_only: bool = False,
    limits: Limits = LIMITS,
) -> AsyncGenerator[list[bytes], None]:
    """Every document of a range, of all collections and depths, in the order of their names: `Document` messages.

    Close it (`aclosing`) when it is left before its end.

    Args:
        read_time: in whole microseconds; None: each stream reads what is there when it begins.
        names_only: without the fields, but with the times.

    Raises:
        ConnectionLost: the server gave nothing for `limits.patience` seconds.
        DatabaseError: it refuses the query.
    """
    root = clients.home.root
    attempts = _Attempts(clients, f"Reading {root}", limits)
    after = ""
    while True:
        request = _RunQuery(parent=root, structured_query=_query(clients, within, after, names_only=names_only))
        if read_time is not None:
            request.read_time.FromDatetime(read_time)
        stream = _Stream(clients, request.SerializeToString(), attempts.timeout())
        try:
            while not stream.ended:
                page = await anyio.to_thread.run_sync(stream.page, abandon_on_cancel=True)
                if page:
                    after = wire.name_of(page[-1])
                    yield page
                    attempts.went_on()
        finally:
            stream.close()
        if stream.failure is None:
            return
        await attempts.wait_after(stream.failure)


class _Stream:
    """One stream of documents, read in worker threads, one after the other."""

    def __init__(self, clients: Clients, request: bytes, timeout: float) -> None:
        self._call: Any = clients.blocking_stream("RunQuery")(request, metadata=clients.metadata, timeout=timeout)
        self.ended = False
        self.failure: grpc.RpcError | None = None
        """What ended it before its time."""

    def page(self) -> list[bytes]:
        """The next documents; fewer than there could be, or none, only at the stream's end."""
        page: list[bytes] = []
        size, document_in = 0, wire.document_in
        try:
            for response in self._call:
                document = document_in(response)
                if document is not None:
                    page.append(document)
                    size += len(document)
                    if size >= _PAGE_BYTES or len(page) >= _PAGE_DOCUMENTS:
                        return page
        except grpc.RpcError as error:
            self.failure = error
        self.ended = True
        return page

    def close(self) -> None:
        """End it, whether a thread still waits for it or not."""
        self._call.cancel()


def _query(clients: Clients, within: KeyRange, after: str, *, names_only: bool = False) -> Any:
    """`after` is the full name of the last document that was read."""
    query = _Query()
    query.from_.add(all_descendants=True)
    by_name = query.order_by.add(direction=query_types.StructuredQuery.Direction.ASCENDING)
    by_name.field.field_path = "__name__"
    if names_only:
        query.select.fields.add(field_path="__name__")
    if after:
        query.start_at.values.add(reference_value=after)
    elif within.start:
        query.start_at.values.add(reference_value=clients.home.name(within.start))
        query.start_at.before = True
    if within.end:
        query.end_at.values.add(reference_value=clients.home.name(within.end))
        query.end_at.before = True
    return query


async def name_at(
    clients: Clients, within: KeyRange, offset: int, *, read_time: datetime | None = None, limits: Limits = LIMITS
) -> str | None:
    """The full name of the document that has `offset` others of the range before it, None past the end."""
    query = _query(clients, within, "", names_only=True)
    query.offset = offset
    query.limit.value = 1
    request = _RunQuery(parent=clients.home.root, structured_query=query)
    if read_time is not None:
        request.read_time.FromDatetime(read_time)
    for response in await answers(
        clients, "RunQuery", request.SerializeToString(), "Looking for documents", limits=limits
    ):
        document = wire.document_in(response)
        if document is not None:
            return wire.name_of(document)
    return None


async def count(
    clients: Clients,
    collection: str | None = None,
    *,
    at_the_top: bool = False,
    within: KeyRange = EVERYTHING,
    read_time: datetime | None = None,
    limits: Limits = LIMITS,
) -> int:
    """How many documents there are: in all collections of an id at any depth, or altogether (None).

    Args:
        at_the_top: in the one collection of that id that has no document above it.
    """
    request = _Aggregation(parent=clients.home.root)
    query = _query(clients, within, "")
    if collection is not None:
        query.from_[0].collection_id = collection
        query.from_[0].all_descendants = not at_the_top
    request.structured_aggregation_query.structured_query.CopyFrom(query)
    request.structured_aggregation_query.aggregations.add(alias="count").count.SetInParent()
    if read_time is not None:
        request.read_time.FromDatetime(read_time)
    responses = await answers(
        clients, "RunAggregationQuery", request.SerializeToString(), "Counting documents", limits=limits
    )
    for response in responses:
        found = _AggregationResponse.FromString(response).result.aggregate_fields
        if "count" in found:
            return int(found["count"].integer_value)
    raise DatabaseError("The database did not say how many documents there are.", hint="Run it again.")


async def now(clients: Clients, *, limits: Limits = LIMITS) -> datetime:
    """The server's time, in whole microseconds: everything that was committed before can be read at it."""
    moment, _ = await seen(clients, "schema_version_lock/clock", limits=limits)
    return moment


async def seen(clients: Clients, path: str, *, limits: Limits = LIMITS) -> tuple[datetime, bytes | None]:
    """The server's time, and the document that stands at the path at that very time: a `Document`, or None."""
    request = _BatchGet(database=clients.home.path, documents=[clients.home.name(path)])
    for response in await answers(
        clients, "BatchGetDocuments", request.SerializeToString(), "Asking for the time", limits=limits
    ):
        answer = _BatchGetResponse.FromString(response)
        if answer.HasField("read_time"):
            moment: datetime = answer.read_time.ToDatetime(tzinfo=UTC)
            return moment, answer.found.SerializeToString() if answer.HasField("found") else None
    raise DatabaseError("The database did not say what time it is.", hint="Run it again.")


async def root_collections(
    clients: Clients, *, most: int | None = None, read_time: datetime | None = None, limits: Limits = LIMITS
) -> list[str]:
    """The ids of the collections that stand at the top, in order; also those with nothing but sub-collections.

    Args:
        most: how many are wanted; None: all.
    """
    found: list[str] = []
    request = _ListIds(parent=clients.home.root, page_size=min(1000, most or 1000))
    if read_time is not None:
        request.read_time.FromDatetime(read_time)
    while True:
        answer = _ListIdsResponse.FromString(
            await asked(clients, "ListCollectionIds", request.SerializeToString(), "Listing collections", limits=limits)
        )
        found += answer.collection_ids
        if not answer.next_page_token or (most is not None and len(found) >= most):
            return sorted(found)[:most]
        request.page_token = answer.next_page_token


async def asked(clients: Clients, method: str, request: bytes, doing: str, *, limits: Limits = LIMITS) -> bytes:
    """The answer to one request that changes nothing, asked again while the server cannot answer.

    Args:
        doing: what it is for, as the beginning of a sentence in an error.
    """
    call = clients.unary(method)
    attempts = _Attempts(clients, doing, limits)
    while True:
        try:
            answer: bytes = await recognised(call(request, metadata=clients.metadata, timeout=attempts.timeout()))
            return answer
        except grpc.aio.AioRpcError as error:
            failure = error
        await attempts.wait_after(failure)


async def answers(clients: Clients, method: str, request: bytes, doing: str, *, limits: Limits = LIMITS) -> list[bytes]:
    """All answers of a short stream, likewise."""
    open_stream = clients.stream(method)
    attempts = _Attempts(clients, doing, limits)
    while True:
        call = open_stream(request, metadata=clients.metadata, timeout=attempts.timeout())
        try:
            return await recognised(_all_of(call))
        except grpc.aio.AioRpcError as error:
            failure = error
        finally:
            call.cancel()
        await attempts.wait_after(failure)


async def _all_of(call: AsyncIterable[bytes]) -> list[bytes]:
    return [response async for response in call]


class _Attempts:
    """How long and how often to try again, counted from the last time that anything came."""

    def __init__(
        self, clients: Clients, doing: str, limits: Limits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clients = clients
        self._doing = doing
        self._limits = limits
        self._clock = clock
        self._failed = 0
        self._since: float | None = None

    def timeout(self) -> float:
        """Seconds for the attempt that begins now."""
        if self._since is None:
            self._since = self._clock()
        left = self._limits.patience - (self._clock() - self._since)
        return min(self._limits.stream, max(left, self._limits.first_delay))

    def went_on(self) -> None:
        self._failed = 0
        self._since = None

    async def wait_after(self, failure: grpc.RpcError) -> None:
        """Raises:
        MsrError: trying again is of no use, or has not been for too long.
        """
        if failure.code() not in TRANSIENT:
            raise translate(failure, self._doing) from failure
        waited = self._clock() - self._since if self._since is not None else 0.0
        if waited >= self._limits.patience or self._clients.refused:
            raise ConnectionLost(
                f"{self._doing}: nothing came from the server for {waited:.0f} s; its last word was "
                f"{failure.code().name}: {failure.details()}.",
                hint="See that the database can be reached and has quota left, and run it again.",
            ) from failure
        delay = min(self._limits.first_delay * 2**self._failed, self._limits.longest_delay)
        self._failed += 1
        await anyio.sleep(min(delay * (0.5 + random.random() / 2), self._limits.patience - waited))


def code_of(error: BaseException) -> grpc.StatusCode | None:
    """The server's status behind an error of ours."""
    return None if error.__cause__ is None else translating.code_of(error.__cause__)
