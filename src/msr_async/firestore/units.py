"""Units of work: a transaction with the lock's fence in it, or the plain client."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias, TypeVar

import anyio.lowlevel
import grpc
import grpc.aio
from google.cloud.firestore import AsyncClient, AsyncTransaction
from google.cloud.firestore_v1.types import firestore as types

from ..errors import ConnectionLost, DatabaseError
from ..protocols import WorkOptions
from ..shielding import to_its_end
from .cancelling import recognised
from .clients import Clients
from .lock import FirestoreLock
from .translating import AMBIGUOUS, TRANSIENT, Code, code_of, is_transient, patiently, translate, translating, words_of

T = TypeVar("T")
Connection: TypeAlias = "UnitTransaction | AsyncClient"
"""What a migration gets: a transaction, or, outside of one, the client."""

MAX_WRITES = 500
"""Of one commit, the history's and the lock's included. Servers take more today; the promise is ours."""
MAX_COMMIT_BYTES = 10 * 1024 * 1024
MAX_COMMIT_BYTES_EMULATED = 4 * 1024 * 1024
_TIMEOUT, _PATIENCE = 20.0, 60.0
"""Seconds for one attempt to begin, and for all of them."""
_COMMIT_TIMEOUT = 60.0
_ROLLBACK_TIMEOUT = 5.0

_CONDITIONS = frozenset({Code.ABORTED, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION, Code.NOT_FOUND})

_BeginRequest: Any = types.BeginTransactionRequest.pb()
_BeginResponse: Any = types.BeginTransactionResponse.pb()
_CommitRequest: Any = types.CommitRequest.pb()
_CommitResponse: Any = types.CommitResponse.pb()
_RollbackRequest: Any = types.RollbackRequest.pb()


class UnitTransaction(AsyncTransaction):
    """Google's transaction, begun and ended by us alone: the history's line and the fence must be in its commit."""

    def __init__(self, client: AsyncClient, id: bytes) -> None:
        super().__init__(client, max_attempts=1)
        self._id: Any = id
        self.book = client.batch()
        """What the history writes in it; apart, for a transaction that has writes takes no more reads."""

    @property
    def writes(self) -> list[Any]:
        """All that it would write, as protobuf's own messages."""
        return [type(write).pb(write) for write in (*self._write_pbs, *self.book._write_pbs)]

    async def _begin(self, retry_id: bytes | None = None) -> NoReturn:
        self._refuse()

    async def _commit(self) -> NoReturn:
        self._refuse()

    async def _rollback(self) -> NoReturn:
        self._refuse()

    async def commit(self, *_: Any, **__: Any) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DatabaseError(
            "The transaction of a migration is begun and committed by msr_async alone.",
            hint="Leave @async_transactional and commit() out, or write no_transaction = True in the migration's file.",
        )


class Units:
    """Runs work against one database."""

    def __init__(self, open: Callable[[], Clients], lock: FirestoreLock) -> None:
        self._open = open
        self._lock = lock
        self._committing = asyncio.Lock()

    async def run(self, work: Callable[[Any], Awaitable[T]], options: WorkOptions) -> T:
        """As `DatabaseMigrationHandler.run` says."""
        clients = self._open()
        if not options.transaction:
            result = await recognised(work(clients.native))
            await self._lock.check()
            return result
        # Cancelled while it begins, it stays behind without an id; one that has read nothing locks nothing.
        begun = await recognised(self._begin(clients))
        transaction = UnitTransaction(clients.native, begun)
        try:
            result = await recognised(work(transaction))
            writes = transaction.writes
            if options.commit:  # a rehearsal puts all migrations into one transaction, the real run does not
                _refuse_too_many(len(writes) + self._lock.held, own=len(transaction))
            await anyio.lowlevel.checkpoint()  # a cancellation that came before the commit still undoes it
        except BaseException as error:
            await to_its_end(self._roll_back(clients, begun))
            await self._outwait(error)
            raise
        if not options.commit:
            await to_its_end(self._roll_back(clients, begun))
            return result
        try:
            await to_its_end(self._commit(clients, begun, writes))
        except DatabaseError as error:
            await self._outwait(error)
            raise
        return result

    async def _outwait(self, error: BaseException) -> None:
        """What stands in the way of the first work after a kill is often the dead one's transaction: it cannot be
        ended from here, and trying again before it has run out is of no use."""
        if isinstance(error, Exception) and is_transient(error):
            await self._lock.outwait()

    async def _begin(self, clients: Clients) -> bytes:
        request = _BeginRequest(database=clients.home.path)
        request.options.read_write.SetInParent()
        begin = clients.unary("BeginTransaction")

        async def attempt() -> bytes:
            answer = await begin(request.SerializeToString(), metadata=clients.metadata, timeout=_TIMEOUT)
            id: bytes = _BeginResponse.FromString(answer).transaction
            return id

        with translating("Beginning a transaction"):
            return await patiently(attempt, _PATIENCE)

    async def _commit(self, clients: Clients, transaction: bytes, writes: list[Any]) -> None:
        async with self._committing:  # each fence stands on the one before
            unit = uuid.uuid4().hex
            fence = self._lock.fence(unit)
            request = _CommitRequest(database=clients.home.path, transaction=transaction)
            request.writes.extend([*writes, *([] if fence is None else [fence])])
            message = request.SerializeToString()
            try:
                _refuse_too_big(clients, len(message))
                try:
                    answer = await clients.unary("Commit")(message, metadata=clients.metadata, timeout=_COMMIT_TIMEOUT)
                except grpc.aio.AioRpcError as error:
                    if fence is not None and await self._happened(error, unit):
                        return
                    raise _failure(error, fenced=fence is not None, wrote=bool(writes)) from error
            except BaseException:
                await self._roll_back(clients, transaction)
                raise
            if fence is not None:
                self._lock.moved(unit, _CommitResponse.FromString(answer).write_results[-1].update_time)

    async def _happened(self, error: grpc.aio.AioRpcError, unit: str) -> bool:
        """Whether a fenced commit was carried out although it failed.

        Raises:
            ConnectionLost: the lock was lost, or the database cannot be asked.
        """
        code = code_of(error)
        if code in AMBIGUOUS:
            return await self._lock.settled(unit)
        if code in _CONDITIONS:  # the fence's, or one of the work's own
            await self._lock.check()
        return False

    async def _roll_back(self, clients: Clients, transaction: bytes) -> None:
        """Give the server's locks back; one that cannot be told lets them run out by itself."""
        request = _RollbackRequest(database=clients.home.path, transaction=transaction)
        with suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
            await clients.unary("Rollback")(
                request.SerializeToString(), metadata=clients.metadata, timeout=_ROLLBACK_TIMEOUT
            )


def _failure(error: grpc.aio.AioRpcError, *, fenced: bool, wrote: bool) -> DatabaseError:
    """What a commit that failed means to whoever wanted it."""
    code, words = code_of(error), words_of(error).rstrip(".")
    if code in AMBIGUOUS and wrote and not fenced:
        return ConnectionLost(
            f"The answer to a commit was lost ({words}), and it may have happened.",
            hint="Look at the database before you run it again. Under the migration lock this would be known.",
        )
    if code in AMBIGUOUS and code in TRANSIENT:
        return DatabaseError(f"Committing: the server could not do it just now ({words}).", hint="Run it again.")
    told = translate(error, "Committing")
    return told if isinstance(told, DatabaseError) else DatabaseError(str(told))


def _refuse_too_many(writes: int, *, own: int) -> None:
    """`own` are the migration's; the others come from the history and the lock."""
    if writes > MAX_WRITES:
        more = f", {writes - own} of them for the history and the lock" if writes > own else ""
        raise DatabaseError(
            f"The transaction has {writes:,} writes{more}, and {MAX_WRITES} are the most for one commit.",
            hint="Write no_transaction = True in the migration's file and commit in batches, or use @batches."
            if own
            else "Declare a baseline of so many migrations in steps, an earlier version first.",
        )


def _refuse_too_big(clients: Clients, size: int) -> None:
    most = MAX_COMMIT_BYTES_EMULATED if clients.emulated else MAX_COMMIT_BYTES
    if size > most:
        raise DatabaseError(
            f"The transaction has {size / 1024**2:.1f} MiB to write, and {most / 1024**2:.0f} MiB are the most for one "
            "commit.",
            hint="Write no_transaction = True in the migration's file and commit in batches, or use @batches.",
        )
