"""The gRPC server: a thread with an event loop of its own, so that a test's loop stays free for the client."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore as types

from .answering import Answering
from .faults import Rule
from .refusing import Refused

MAX_REQUEST = 10 * 1024 * 1024
LONGEST_HOLD = 60.0
"""Seconds. A test that lets go of nothing must not wait for ever."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request as it came over the wire."""

    method: str
    request: Any
    size: int
    """Bytes."""

    @property
    def writes(self) -> int:
        return len(self.request.writes) if hasattr(self.request, "writes") else 0

    @property
    def read_time(self) -> int | None:
        """Microseconds; None when the request names no time."""
        if not hasattr(self.request, "read_time") or not self.request.HasField("read_time"):
            return None
        return int(self.request.read_time.ToMicroseconds())


class FirestoreServer(Answering):
    """A Firestore in memory, on a loopback port.

    `faults` lets calls fail, `calls` is the log of the wire. It may be stopped and started again, also on its old port;
    its documents stay.
    """

    def __init__(self, *, kindless_partitions: bool = False) -> None:
        super().__init__(kindless_partitions=kindless_partitions)
        self.calls: list[Call] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: Any = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """`host:port`; after a stop the last one."""
        return f"127.0.0.1:{self._port}"

    def start(self, port: int = 0) -> None:
        """On a free port, or on this one."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="firestore-server", daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(port), self._loop).result(20)

    def stop(self) -> None:
        """Calls under way are cut off; does nothing when it does not run."""
        if self._thread is None or self._loop is None:
            return
        self.faults.clear()
        asyncio.run_coroutine_threadsafe(self._server.stop(0.2), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()
        self._thread = self._loop = None

    def reset(self) -> None:
        """Forget faults and the log; the databases stay."""
        self.faults.clear()
        self.calls.clear()

    async def _start(self, port: int) -> None:
        self._server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        unary: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "Commit": (types.CommitRequest, self._commit),
            "BatchWrite": (types.BatchWriteRequest, self._batch_write),
            "BeginTransaction": (types.BeginTransactionRequest, self._begin),
            "Rollback": (types.RollbackRequest, self._rollback),
            "GetDocument": (types.GetDocumentRequest, self._get_document),
            "ListDocuments": (types.ListDocumentsRequest, self._list_documents),
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
                grpc.StatusCode.INVALID_ARGUMENT, f"Request payload size exceeds the limit: {MAX_REQUEST} bytes."
            )
        rule = self.faults.next(method)
        if rule is None:
            return None
        rule.reached.set()
        if rule.delay:
            await asyncio.sleep(rule.delay)
        elif rule.held is not None:
            await _until(rule.held, context)
        elif not rule.after and rule.cut is None:
            await context.abort(rule.code, rule.words)
        return rule


async def _until(released: threading.Event, context: Any) -> None:
    """Not in a thread: many calls may be held at once, and a call that its client gave up waits no longer."""
    deadline = time.monotonic() + LONGEST_HOLD
    while not released.is_set():
        if time.monotonic() > deadline:
            await context.abort(grpc.StatusCode.INTERNAL, "the test never released this call")
        await asyncio.sleep(0.005)
