"""How batches reach the database: several under way at once, and what the server could not take now is sent again.

`BatchWrite` is no transaction: each write has its own outcome. All of ours may be done twice without harm, so an answer
that was lost needs no more care than a refusal.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import grpc
import grpc.aio
from google.cloud.firestore_v1.types import firestore as types
from msgspec import Struct

from ..errors import MsrError, PermissionMissing, RestoreFailed
from . import wire
from .cancelling import recognised
from .clients import Clients
from .overtaking import Watch
from .packing import Batch
from .ramping import Ramp

_CALL_TIMEOUT = 60.0
_PATIENCE = 120.0
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 15.0
_IN_FLIGHT = 8
_LONGEST_WORD = 300

_TRANSIENT = {
    code.value[0]: code.name
    for code in (
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.CANCELLED,
    )
}
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_INVALID_ARGUMENT: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]
_PERMISSION_DENIED: int = grpc.StatusCode.PERMISSION_DENIED.value[0]
_ALREADY_EXISTS: int = grpc.StatusCode.ALREADY_EXISTS.value[0]

_Response: Any = types.BatchWriteResponse.pb()
_DONE = b"\x12\x00"
"""A status without a word, as the last field of an answer: that write was done."""


class Refused(Struct, frozen=True, kw_only=True):
    """What the server said of one write, or of a whole request."""

    code: int
    word: str

    def __str__(self) -> str:
        return f"{_NAMES.get(self.code, self.code)}: {self.word[:_LONGEST_WORD]}"


class Writer:
    """Writes to one database, for as many parts at once as there are; what bounds it is bounded over all of them.

    Args:
        keep: a document that is there already, where the write says it must not be, counts as kept.
        ramp: tells how fast to begin; None: as fast as it goes.
        watch: is asked before each request whether writing may go on.
        in_flight: requests under way at once.
        patience: seconds without any write taken, after which it is given up.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        keep: bool = False,
        ramp: Ramp | None = None,
        watch: Watch | None = None,
        in_flight: int = _IN_FLIGHT,
        patience: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clients = clients
        self._call = clients.unary("BatchWrite")
        self._keep = keep
        self._ramp = ramp
        self._watch = watch
        self._slots = anyio.Semaphore(in_flight)
        self._patience = _PATIENCE if patience is None else patience
        self._clock = clock
        self._jitter = jitter
        self._progress = clock()
        self.unsure = 0
        """Documents that were there when they were sent again, after an answer that failed: they were written by the
        attempt before it, or kept. They count as written."""

    async def write(self, batches: AsyncIterator[Batch]) -> int:
        """Write all that comes.

        Returns:
            How many documents were there already and were kept.

        Raises:
            RestoreFailed: naming the document that the server refused, or the last answer when it took nothing more.
            PermissionMissing: these credentials may not write.
            MsrError: what the watch raises.
        """
        failures: list[Exception] = []
        kept = 0
        async with anyio.create_task_group() as group:

            async def send(batch: Batch) -> None:
                nonlocal kept
                try:
                    kept += await self._send(batch)
                except Exception as error:
                    failures.append(error)
                    group.cancel_scope.cancel()
                finally:
                    self._slots.release()

            async def send_all() -> None:
                async for batch in batches:
                    await self._slots.acquire()
                    group.start_soon(send, batch)

            try:
                await recognised(send_all())
            except Exception as error:
                failures.append(error)
                group.cancel_scope.cancel()
        if failures:
            try:
                raise failures[0]
            finally:
                failures.clear()  # no cycle through the traceback, which would keep batches alive
        return kept

    async def _send(self, batch: Batch, *, again: bool = False) -> int:
        """One batch to its end; how many of its documents were kept.

        Args:
            again: an attempt to write them has failed, and may have written them.
        """
        if self._ramp is not None and (wait := self._ramp.wait(len(batch))) > 0:
            await anyio.sleep(wait)
        kept, attempt, begun = 0, 0, self._clock()
        while True:
            if self._watch is not None:
                await self._watch.sure()
            answers = await self._attempt(batch)
            if isinstance(answers, Refused):
                if answers.code == _INVALID_ARGUMENT and len(batch) > 1:
                    # One write spoils the request for all of them: find out which.
                    middle = len(batch) // 2
                    for places in (range(middle), range(middle, len(batch))):
                        kept += await self._send(batch.only(places), again=again)
                    return kept
                if answers.code not in _TRANSIENT:
                    raise _refused(batch, None if len(batch) > 1 else 0, answers)
                last = answers
            else:
                failed = [place for place, answer in enumerate(answers) if answer is not None]
                if len(failed) < len(answers):
                    self._progress = self._clock()
                    attempt = 0
                left: list[int] = []
                last = Refused(code=0, word="")
                for place in failed:
                    answer = answers[place]
                    assert answer is not None
                    if answer.code == _ALREADY_EXISTS and self._keep:
                        kept += not again
                        self.unsure += again
                        self._progress = self._clock()
                    elif answer.code in _TRANSIENT:
                        left.append(place)
                        last = answer
                    else:
                        raise _refused(batch, place, answer)
                if not left:
                    return kept
                batch = batch.only(left)
            again = True
            waited = self._clock() - max(begun, self._progress)
            if waited >= self._patience:
                raise RestoreFailed(
                    f"The database has taken no write for {waited:.0f} s; its last answer for "
                    f"{batch.name(0)} was {last}",
                    hint="See that it can be reached and has quota left, and run the same restore again.",
                )
            delay = min(_FIRST_DELAY * 2**attempt, _LONGEST_DELAY) * (0.5 + self._jitter() / 2)
            attempt += 1
            await anyio.sleep(min(delay, self._patience - waited))

    async def _attempt(self, batch: Batch) -> Sequence[Refused | None] | Refused:
        """Send it once.

        Returns:
            For each write None where it was done; one refusal for the whole request where the server gave one.
        """
        request = wire.batch(self._clients.home.path, batch.writes)
        try:
            answer = await self._call(
                request, metadata=self._clients.metadata, timeout=min(_CALL_TIMEOUT, self._patience)
            )
        except grpc.aio.AioRpcError as error:
            return Refused(code=error.code().value[0], word=error.details() or "no word from the server")
        if answer.endswith(_DONE * len(batch)):
            return [None] * len(batch)  # the usual case: nothing needs to be unpacked
        statuses = _Response.FromString(answer).status
        if len(statuses) != len(batch):
            raise RestoreFailed(
                f"{len(batch)} writes were sent, and the server answered for {len(statuses)}.",
                hint="Run the same restore again; if it happens again, please report it.",
            )
        return [Refused(code=status.code, word=status.message) if status.code else None for status in statuses]


def _refused(batch: Batch, place: int | None, answer: Refused) -> MsrError:
    what = batch.name(place) if place is not None else f"{len(batch)} documents from {batch.name(0)} on"
    if answer.code == _PERMISSION_DENIED:
        return PermissionMissing(
            f"{what} cannot be written: {answer}", hint="Give these credentials the role roles/datastore.user."
        )
    return RestoreFailed(
        f"{what} cannot be written: {answer}", hint="What was written before stays; run the same restore again."
    )
