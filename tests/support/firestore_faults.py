"""A way to a database that notes every `BatchWrite`, and lets some of them fail as production does now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore as types

from msr_async.firestore.clients import Clients
from msr_async.firestore.names import Home

Request: Any = types.BatchWriteRequest.pb()
Response: Any = types.BatchWriteResponse.pb()

Around = Callable[[Any, Callable[[Any], Awaitable[Any]]], Awaitable[Any]]
"""Takes a request and what sends it on; answers the response. Both are protobuf's own messages."""


def failure(code: grpc.StatusCode, words: str = "on command") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=words)


class WatchedClients(Clients):
    """Clients whose `BatchWrite` goes through `around`; `sent` is the log of the wire: what was asked and how big."""

    def __init__(self, home: Home, emulator: str, around: Around | None = None) -> None:
        super().__init__(home, emulator=emulator)
        self.around = around
        self.sent: list[tuple[Any, int]] = []
        self.at_once = 0
        self.most_at_once = 0

    @property
    def writes(self) -> list[Any]:
        """All writes that were asked for, those that were repeated too."""
        return [write for request, _ in self.sent for write in request.writes]

    @property
    def written(self) -> list[str]:
        return [write.update.name for write in self.writes if write.WhichOneof("operation") == "update"]

    @property
    def deleted(self) -> list[str]:
        return [write.delete for write in self.writes if write.WhichOneof("operation") == "delete"]

    def unary(self, method: str) -> Any:
        call = super().unary(method)
        if method != "BatchWrite":
            return call

        async def watched(request: bytes, **options: Any) -> bytes:
            asked = Request.FromString(request)
            self.sent.append((asked, len(request)))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

            async def forward(message: Any) -> Any:
                return Response.FromString(await call(message.SerializeToString(), **options))

            try:
                await asyncio.sleep(0)
                answer = await (forward(asked) if self.around is None else self.around(asked, forward))
                return bytes(answer.SerializeToString())
            finally:
                self.at_once -= 1

        return watched


class Trouble:
    """Fails whole requests and single writes at random, before they are done and after, with a seed.

    Every request has its turn after at most three failures in a row.
    """

    def __init__(self, random: Any) -> None:
        self.random = random
        self.codes = [
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.ABORTED,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        ]
        self.row = 0
        self.told = 0

    async def __call__(self, request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        dice = self.random.random()
        if self.row >= 3 or dice < 0.4:
            self.row = 0
            return await forward(request)
        self.row += 1
        self.told += 1
        code = self.random.choice(self.codes)
        if dice < 0.55:
            raise failure(code)
        if dice < 0.7:
            await forward(request)  # done, and the answer is lost
            raise failure(code)
        passed = [place for place in range(len(request.writes)) if self.random.random() < 0.5]
        some = Request()
        some.CopyFrom(request)
        del some.writes[:]
        some.writes.extend(request.writes[place] for place in passed)
        statuses = iter((await forward(some)).status) if passed else iter(())
        answer = Response()
        for place in range(len(request.writes)):
            answer.write_results.add()
            status = answer.status.add()
            if place in passed:
                status.CopyFrom(next(statuses))
            else:
                status.code = code.value[0]
                status.message = "on command"
        return answer
