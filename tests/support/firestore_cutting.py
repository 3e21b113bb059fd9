"""A way to a database whose streams of documents break on command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import grpc

from msr_async.firestore.clients import Clients
from msr_async.firestore.names import Home


class Broken(grpc.RpcError):
    """As grpc raises it, when a server has ended a stream before its time."""

    def __init__(self, code: grpc.StatusCode, words: str = "on command") -> None:
        super().__init__(words)
        self._code = code
        self._words = words

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._words


class CutClients(Clients):
    """Each `RunQuery` of documents gives as many responses as the next of `cuts` says, and then fails.

    When the cuts have run out, streams come to their own end. `streams` counts all that were opened, `open` those that
    nobody has ended yet.

    Args:
        forgets: after the first failure the server holds nothing any more, as an emulator that was started anew.
    """

    def __init__(
        self,
        home: Home,
        emulator: str,
        cuts: Iterable[int] = (),
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        *,
        forgets: bool = False,
    ) -> None:
        super().__init__(home, emulator=emulator)
        self.cuts = iter(cuts)
        self.code = code
        self.forgets = forgets
        self.streams = 0
        self.open = 0

    def blocking_stream(self, method: str) -> Any:
        call = super().blocking_stream(method)

        def opened(request: bytes, **options: Any) -> _Cut:
            self.streams += 1
            self.open += 1
            cut = next(self.cuts, None)
            stream = _Empty() if self.forgets and self.streams > 1 else call(request, **options)
            return _Cut(self, stream, cut)

        return opened


class _Cut:
    def __init__(self, clients: CutClients, call: Any, responses: int | None) -> None:
        self._clients = clients
        self._call = call
        self._left = responses

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left is not None:
            if self._left == 0:
                raise Broken(self._clients.code)
            self._left -= 1
        response: bytes = next(self._call)
        return response

    def cancel(self) -> None:
        self._clients.open -= 1
        self._call.cancel()


class _Empty:
    def __next__(self) -> bytes:
        raise StopIteration

    def cancel(self) -> None:
        pass
