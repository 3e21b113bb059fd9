"""What each method of the API answers, without the network: requests in, responses out."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import grpc
from google.cloud.firestore_v1.types import firestore as types
from google.protobuf.empty_pb2 import Empty

from . import listing, queries
from .faults import Faults
from .refusing import Refused, invalid
from .store import HOUR, Database, Transaction, changed_at
from .values import check_path

MAX_BATCH = 500


class Answering:
    """A Firestore in memory; every project and database that is named is there, and empty."""

    def __init__(self, *, kindless_partitions: bool = False) -> None:
        self.faults = Faults()
        self.kindless_partitions = kindless_partitions
        """Whether PartitionQuery serves all collections at once; whether production does is not known."""
        self._databases: dict[str, Database] = {}

    def database(self, path: str) -> Database:
        """`projects/P/databases/D`"""
        if path.count("/") != 3:
            raise invalid(f"{path!r} is no database")
        if path not in self._databases:
            self._databases[path] = Database(path)
        return self._databases[path]

    # -- writing -----------------------------------------------------------------------------------

    def _commit(self, request: Any) -> Any:
        results, moment = self.database(request.database).commit(request.writes, request.transaction)
        answer = types.CommitResponse.pb()(write_results=results)
        answer.commit_time.FromMicroseconds(moment)
        return answer

    def _batch_write(self, request: Any) -> Any:
        database = self.database(request.database)
        names = [item.delete or item.transform.document or item.update.name for item in request.writes]
        if len(names) > MAX_BATCH:
            raise invalid(f"a batch has at most {MAX_BATCH} writes")
        if len(set(names)) < len(names):
            raise invalid("a document is written twice in one batch")
        for item in request.writes:
            database.check(item)
        answer = types.BatchWriteResponse.pb()()
        for item in request.writes:
            code, words = self.faults.write_status(), "on command"
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

    # -- transactions ------------------------------------------------------------------------------

    def _begin(self, request: Any) -> Any:
        id = self._begun(self.database(request.database), request.options)
        return types.BeginTransactionResponse.pb()(transaction=id)

    def _begun(self, database: Database, options: Any) -> bytes:
        moment = None
        if options.WhichOneof("mode") == "read_only":
            moment = _moment(database, options.read_only) or database.now()
        id = secrets.token_bytes(16)
        database.transactions[id] = Transaction(read_only=moment is not None, read_time=moment)
        return id

    def _rollback(self, request: Any) -> Any:
        database = self.database(request.database)
        database.transaction(request.transaction)
        del database.transactions[request.transaction]
        return Empty()

    # -- reading -----------------------------------------------------------------------------------

    def _run_query(self, request: Any) -> Iterator[Any]:
        database, _ = self._parent(request.parent)
        kind = types.RunQueryResponse.pb()
        moment, transaction, begun = self._reading(database, request)
        if begun:
            yield kind(transaction=begun)
        now = moment or database.now()
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

    def _aggregate(self, request: Any) -> Iterator[Any]:
        database, _ = self._parent(request.parent)
        kind = types.RunAggregationQueryResponse.pb()
        query = request.structured_aggregation_query
        if any(aggregation.WhichOneof("operator") != "count" for aggregation in query.aggregations):
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, "only counts are known here")
        moment, _, begun = self._reading(database, request)
        if begun:
            yield kind(transaction=begun)
        now = moment or database.now()
        found = sum(1 for _ in queries.run(database, request.parent, query.structured_query, now))
        answer = kind()
        for aggregation in query.aggregations:
            limit = aggregation.count.up_to.value if aggregation.count.HasField("up_to") else found
            answer.result.aggregate_fields[aggregation.alias].integer_value = min(found, limit)
        answer.read_time.FromMicroseconds(now)
        yield answer

    def _batch_get(self, request: Any) -> Iterator[Any]:
        database = self.database(request.database)
        kind = types.BatchGetDocumentsResponse.pb()
        paths = {database.path_of(name): name for name in request.documents}  # the same one twice is answered once
        moment, transaction, begun = self._reading(database, request)
        if begun:
            yield kind(transaction=begun)
        now = moment or database.now()
        for path, name in paths.items():
            found = database.at(path, now)
            if transaction is not None:
                transaction.seen[path] = changed_at(found)
            if found is not None and request.HasField("mask"):
                found = queries.masked(found, list(request.mask.field_paths))
            answer = kind(missing=name) if found is None else kind(found=found)
            answer.read_time.FromMicroseconds(now)
            yield answer

    def _get_document(self, request: Any) -> Any:
        database, _ = self._parent(request.name)
        moment, transaction, _ = self._reading(database, request)
        path = database.path_of(request.name)
        found = database.at(path, moment)
        if transaction is not None:
            transaction.seen[path] = changed_at(found)
        if found is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"there is no document {path}")
        return queries.masked(found, list(request.mask.field_paths)) if request.HasField("mask") else found

    # -- listing -----------------------------------------------------------------------------------

    def _list_documents(self, request: Any) -> Any:
        database, above = self._parent(request.parent)
        moment, _, _ = self._reading(database, request)
        return listing.documents(database, above, request, moment)

    def _list_collection_ids(self, request: Any) -> Any:
        database, above = self._parent(request.parent)
        return listing.collection_ids(database, above, request, _moment(database, request))

    def _partition(self, request: Any) -> Any:
        database, _ = self._parent(request.parent)
        return listing.partitions(database, request, _moment(database, request), kindless=self.kindless_partitions)

    # -- the parts of requests ---------------------------------------------------------------------

    def _parent(self, parent: str) -> tuple[Database, str]:
        """The database, and the document in it; no document for the root."""
        path, found, rest = parent.partition("/documents")
        above = rest.removeprefix("/")
        if not found or (rest and rest == above):
            raise invalid(f"{parent!r} is no parent")
        if above:
            check_path(above)
        return self.database(path), above

    def _reading(self, database: Database, request: Any) -> tuple[int | None, Transaction | None, bytes]:
        """When to read (None for now), the transaction that reads, and its id when it begins here."""
        begun = b""
        if request.WhichOneof("consistency_selector") == "new_transaction":
            begun = self._begun(database, request.new_transaction)
        if id := begun or request.transaction:
            transaction = database.transaction(id)
            return transaction.read_time, transaction, begun
        return _moment(database, request), None, b""


def _moment(database: Database, request: Any) -> int | None:
    """The time that a request names, None for now."""
    if not request.HasField("read_time"):
        return None
    if request.read_time.nanos % 1000:
        raise invalid("a read time has whole microseconds")
    moment = int(request.read_time.ToMicroseconds())
    now = database.now()
    if moment > now:
        raise invalid("the read time is in the future")
    if moment < now - HOUR:
        raise Refused(grpc.StatusCode.FAILED_PRECONDITION, "The requested snapshot version is too old.")
    return moment
