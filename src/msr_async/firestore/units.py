"""Units of work: a transaction with the lock's fence in it, or the plain client."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import anyio.lowlevel
import grpc.aio
from google.cloud.firestore import AsyncClient, AsyncTransaction
from google.cloud.firestore_v1.types import firestore as types

from ..errors import ConnectionLost, DatabaseError
from ..protocols import WorkOptions
from ..shielding import to_its_end
from .cancelling import recognised
from .clients import Clients
from .lock import FirestoreLock
from .translating import AMBIGUOUS, Code, code_of, translate, translating

T = TypeVar("T")
Connection: TypeAlias = AsyncTransaction | AsyncClient
"""What a migration gets: a transaction, or, outside of one, the client."""

MAX_WRITES = 500
"""Of one commit."""
_COMMIT_TIMEOUT = 60.0
_ROLLBACK_TIMEOUT = 5.0

_CommitRequest: Any = types.CommitRequest.pb()
_CommitResponse: Any = types.CommitResponse.pb()


class Units:
    """Runs work against one database."""

    def __init__(self, open: Callable[[], Clients], lock: FirestoreLock) -> None:
        self._open = open
        self._lock = lock

    async def run(self, work: Callable[[Any], Awaitable[T]], options: WorkOptions) -> T:
        """As `DatabaseMigrationHandler.run` says."""
        clients = self._open()
        if not options.transaction:
            result = await recognised(work(clients.native))
            await self._lock.check()
            return result
        transaction = clients.native.transaction(max_attempts=1)
        with translating("Beginning a transaction"):
            await recognised(transaction._begin())
        begun: bytes = transaction.id
        try:
            result = await recognised(work(transaction))
            writes = [type(write).pb(write) for write in transaction._write_pbs]
            if len(writes) > MAX_WRITES:
                raise DatabaseError(
                    f"The transaction has {len(writes):,} writes, and {MAX_WRITES} are the most for one commit.",
                    hint="Write no_transaction = True in the migration's file and commit in batches, or use @batches.",
                )
            await anyio.lowlevel.checkpoint()  # a cancellation that came before the commit still undoes it
        except BaseException:
            await to_its_end(self._roll_back(clients, begun))
            raise
        if not options.commit:
            await to_its_end(self._roll_back(clients, begun))
            return result
        await to_its_end(self._commit(clients, begun, writes))
        return result

    async def _commit(self, clients: Clients, transaction: bytes, writes: list[Any]) -> None:
        unit = uuid.uuid4().hex
        fence = self._lock.fence(unit)
        request = _CommitRequest(database=clients.home.path, transaction=transaction)
        request.writes.extend([*writes, *([] if fence is None else [fence])])
        commit = clients.unary("Commit")
        try:
            answer = await commit(request.SerializeToString(), metadata=clients.metadata, timeout=_COMMIT_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            code = code_of(error)
            if fence is not None and (code in AMBIGUOUS or code in (Code.FAILED_PRECONDITION, Code.NOT_FOUND)):
                if await self._lock.was_committed(unit):
                    return
                await self._lock.check()
            if code in AMBIGUOUS and fence is None and writes:
                raise ConnectionLost(
                    f"The answer to a commit was lost ({code.name if code else 'no status'}): it may have happened.",
                    hint="Look at the database, then run again.",
                ) from error
            await self._roll_back(clients, transaction)
            raise translate(error, "Committing") from error
        if fence is not None:
            self._lock.moved(_CommitResponse.FromString(answer).write_results[-1].update_time)

    async def _roll_back(self, clients: Clients, transaction: bytes) -> None:
        """Give the server's locks back; one that cannot be told lets them run out by itself."""
        request: Any = types.RollbackRequest.pb()(database=clients.home.path, transaction=transaction)
        with suppress(grpc.aio.AioRpcError):
            await clients.unary("Rollback")(
                request.SerializeToString(), metadata=clients.metadata, timeout=_ROLLBACK_TIMEOUT
            )
