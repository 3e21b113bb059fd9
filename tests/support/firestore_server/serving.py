"""The gRPC server: a thread with an event loop of its own, so that a test's loop stays free for the client."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import query as query_types
from google.protobuf.empty_pb2 import Empty

from . import queries
from .faults import Faults, Rule
from .store import HOUR, Database, Refused, Transaction, changed_at, invalid

MAX_REQUEST = 10 * 1024 * 1024
MAX_BATCH = 500
LEAST_PARTITION = 128


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it came over the wire."""

    method: str
    request: Any
    size: int

    @property
    def writes(self) -> int:
        return len(self.request.writes) if hasattr(self.request, "writes") else 0


class FirestoreServer:
    """A Firestore in memory; every project and database that is named is there, and empty.

    `faults` lets calls fail, `calls` is the log of the wire.
    """

    def __init__(self, *, kindless_partitions: bool = False) -> None:
        self.faults = Faults()
        self.calls: list[Call] = []
        self.kindless_partitions = kindless_partitions
        self._databases: dict[str, Database] = {}
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._server: Any = None
        self._port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self, port: int = 0) -> None:
        self._thread = threading.Thread(target=self._loop.run_forever, name="firestore-server", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(port), self._loop).result(20)

    def stop(self) -> None:
        if self._thread is None:
            return
        self.faults.clear()
        asyncio.run_coroutine_threadsafe(self._server.stop(0.2), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        self._thread = None

    def reset(self) -> None:
        """Forget faults and the log; the databases stay."""
        self.faults.clear()
        self.calls.clear()

    def database(self, path: str) -> Database:
        return self._databases.setdefault(path, Database(path))

    async def _start(self, port: int) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        unary: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "Commit": (types.CommitRequest, self._commit),
            "BatchWrite": (types.BatchWriteRequest, self._batch_write),
            "BeginTransaction": (types.BeginTransactionRequest, self._begin),
            "Rollback": (types.RollbackRequest, self._rollback),
            "ListCollectionIds": (types.ListCollectionIdsRequest, self._list_collection_ids),
            "PartitionQuery": (types.PartitionQueryRequest, self._partition),
        }
        streams: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "RunQuery": (types.RunQueryRequest, self._run_query),
            "RunAggregationQuery": (types.RunAggregationQueryRequest, self._aggregate),
            "BatchGetDocuments": (types.BatchGetDocumentsRequest, self._batch_get),
        }
        handlers = {
            **{name: self._unary(name, kind.pb(), work) for name, (kind, work) in unary.items()},
            **{name: self._stream(name, kind.pb(), work) for name, (kind, work) in streams.items()},
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("google.firestore.v1.Firestore", handlers),)
        )
        self._port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    # -- around every call -------------------------------------------------------------------------

    def _unary(self, method: str, kind: Any, work: Callable[[Any], Any]) -> Any:
        async def serve(data: bytes, context: Any) -> bytes:
            rule = await self._before(method, kind, data, context)
            try:
                answer = work(kind.FromString(data))
            except Refused as refused:
                await context.abort(refused.code, refused.words)
            if rule is not None and rule.after:
                await context.abort(rule.code, rule.words)
            return bytes(answer.SerializeToString())

        return grpc.unary_unary_rpc_method_handler(serve)

    def _stream(self, method: str, kind: Any, work: Callable[[Any], Any]) -> Any:
        async def serve(data: bytes, context: Any) -> AsyncIterator[bytes]:
            rule = await self._before(method, kind, data, context)
            begun, sent = time.monotonic(), 0
            try:
                for answer in work(kind.FromString(data)):
                    if rule is not None and rule.cut is not None and sent >= rule.cut:
                        await context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut on command")
                    yield answer.SerializeToString()
                    sent += 1
                    if self.faults.documents_a_second:
                        due = begun + sent / self.faults.documents_a_second
                        if sent % 30 == 0 and due > time.monotonic():
                            await asyncio.sleep(due - time.monotonic())
            except Refused as refused:
                await context.abort(refused.code, refused.words)
            if rule is not None and (rule.after or rule.cut is not None):
                await context.abort(rule.code, rule.words)

        return grpc.unary_stream_rpc_method_handler(serve)

    async def _before(self, method: str, kind: Any, data: bytes, context: Any) -> Rule | None:
        self.calls.append(Call(method=method, request=kind.FromString(data), size=len(data)))
        if len(data) > MAX_REQUEST:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "Request payload size exceeds the limit: 10485760 bytes."
            )
        rule = self.faults.next(method)
        if rule is None:
            return None
        rule.reached.set()
        if rule.delay:
            await asyncio.sleep(rule.delay)
        elif rule.held is not None:
            await asyncio.to_thread(rule.held.wait, 60)
        elif not rule.after and rule.cut is None:
            await context.abort(rule.code, rule.words)
        return rule

    # -- the methods -------------------------------------------------------------------------------

    def _commit(self, request: Any) -> Any:
        database = self.database(request.database)
        results, moment = database.commit(request.writes, request.transaction)
        answer = types.CommitResponse.pb()(write_results=results)
        answer.commit_time.FromMicroseconds(moment)
        return answer

    def _batch_write(self, request: Any) -> Any:
        database = self.database(request.database)
        names = [item.delete or item.update.name for item in request.writes]
        if len(names) > MAX_BATCH:
            raise invalid(f"a batch has at most {MAX_BATCH} writes")
        if len(set(names)) < len(names):
            raise invalid("a document is written twice in one batch")
        answer = types.BatchWriteResponse.pb()()
        for item in request.writes:
            code = self.faults.write_status()
            words = "on command"
            if code is None:
                try:
                    (result,), _ = database.commit([item])
                    answer.write_results.append(result)
                    answer.status.add()
                    continue
                except Refused as refused:
                    code, words = refused.code, refused.words
            answer.write_results.add()
            answer.status.add(code=code.value[0], message=words)
        return answer

    def _begin(self, request: Any) -> Any:
        database = self.database(request.database)
        options = request.options
        moment = None
        if options.WhichOneof("mode") == "read_only":
            moment = self._moment(database, options.read_only) or database.now()
        id = secrets.token_bytes(16)
        database.transactions[id] = Transaction(read_only=moment is not None, read_time=moment)
        return types.BeginTransactionResponse.pb()(transaction=id)

    def _rollback(self, request: Any) -> Any:
        self.database(request.database).transactions.pop(request.transaction, None)
        return Empty()

    def _list_collection_ids(self, request: Any) -> Any:
        database, above = self._parent(request.parent)
        moment = self._moment(database, request)
        found = sorted(
            {
                path[len(above) + 1 if above else 0 :].split("/")[0]
                for path, _ in database.all(moment)
                if not above or path.startswith(f"{above}/")
            }
        )
        start = int(request.page_token or 0)
        size = request.page_size or 100
        answer = types.ListCollectionIdsResponse.pb()(collection_ids=found[start : start + size])
        if start + size < len(found):
            answer.next_page_token = str(start + size)
        return answer

    def _run_query(self, request: Any) -> Any:
        database, _ = self._parent(request.parent)
        moment, transaction = self._reading(database, request)
        now = moment or database.now()
        kind = types.RunQueryResponse.pb()
        empty = True
        for document in queries.run(database, request.parent, request.structured_query, now):
            empty = False
            if transaction is not None:
                transaction.seen[document.name[len(database.root) + 1 :]] = changed_at(document)
            answer = kind(document=document)
            answer.read_time.FromMicroseconds(now)
            yield answer
        if empty:
            answer = kind()
            answer.read_time.FromMicroseconds(now)
            yield answer

    def _aggregate(self, request: Any) -> Any:
        database, _ = self._parent(request.parent)
        moment, _ = self._reading(database, request)
        now = moment or database.now()
        query = request.structured_aggregation_query
        count = sum(1 for _ in queries.run(database, request.parent, query.structured_query, now))
        answer = types.RunAggregationQueryResponse.pb()()
        for aggregation in query.aggregations:
            if aggregation.WhichOneof("operator") != "count":
                raise invalid("only counts are known here")
            answer.result.aggregate_fields[aggregation.alias].integer_value = count
        answer.read_time.FromMicroseconds(now)
        yield answer

    def _batch_get(self, request: Any) -> Any:
        database = self.database(request.database)
        moment, transaction = self._reading(database, request)
        now = moment or database.now()
        kind = types.BatchGetDocumentsResponse.pb()
        for name in request.documents:
            path = database.path_of(name)
            found = database.at(path, now)
            if transaction is not None:
                transaction.seen[path] = changed_at(found)
            answer = kind(missing=name) if found is None else kind(found=found)
            answer.read_time.FromMicroseconds(now)
            yield answer

    def _partition(self, request: Any) -> Any:
        database, above = self._parent(request.parent)
        query = request.structured_query
        (source,) = query.from_
        if above or not source.all_descendants or query.HasField("where") or query.HasField("limit"):
            raise invalid("a partition query is of all descendants of the root, without filters and limits")
        if not source.collection_id and not self.kindless_partitions:
            raise invalid("a partition query must specify a collection")
        moment = self._moment(database, request)
        everything = query_types.StructuredQuery.pb()()
        everything.CopyFrom(query)
        names = [document.name for document in queries.run(database, request.parent, everything, moment)]
        count = min(request.partition_count, len(names) // LEAST_PARTITION)
        cuts = [names[len(names) * place // (count + 1)] for place in range(1, count + 1)]
        cuts = cuts[::2] + cuts[1::2]  # pages of it are in no order
        start = int(request.page_token or 0)
        size = request.page_size or 3
        answer = types.PartitionQueryResponse.pb()()
        for name in cuts[start : start + size]:
            answer.partitions.add(before=True).values.add(reference_value=name)
        if start + size < len(cuts):
            answer.next_page_token = str(start + size)
        return answer

    # -- the parts of requests ---------------------------------------------------------------------

    def _parent(self, parent: str) -> tuple[Database, str]:
        path, found, above = parent.partition("/documents")
        if not found:
            raise invalid(f"{parent!r} is no parent")
        return self.database(path), above.strip("/")

    def _moment(self, database: Database, request: Any) -> int | None:
        """When to read, None for now."""
        if not request.HasField("read_time"):
            return None
        if request.read_time.nanos % 1000:
            raise invalid("a read time has whole microseconds")
        moment = int(request.read_time.ToMicroseconds())
        now = max(database.now(), time.time_ns() // 1000)
        if moment > now:
            raise invalid("the read time is in the future")
        if moment < now - HOUR:
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "The requested snapshot version is too old.")
        return moment

    def _reading(self, database: Database, request: Any) -> tuple[int | None, Transaction | None]:
        if request.transaction:
            begun = database.transactions.get(request.transaction)
            if begun is None:
                raise invalid("the transaction is not known, or has ended")
            return begun.read_time, begun
        return self._moment(database, request), None
