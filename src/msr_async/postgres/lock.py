"""The migration lock: an advisory lock that dies with the session which migrates, or with a transaction beside it."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from msgspec.structs import replace

from ..errors import ConnectionLost, DatabaseError, LockNotAcquired, PermissionMissing
from ..models import LockInfo
from ..shielding import to_its_end
from .asking import ask
from .connecting import close
from .driver import Connection
from .holding import end, held, holders
from .pooling import LockTransaction, begin
from .session import Session
from .translating import translating

_FIRST_PAUSE, _LONGEST_PAUSE = 0.025, 1.0
_RETAKE_TIMEOUT = 5.0
_RELEASE_TIMEOUT, _RELEASE_PAUSE = 5.0, 0.05
_SECOND_CONNECTION_TIMEOUT = 30.0

Waiting = Callable[[LockInfo | None, float], None]


class PostgresLock:
    """Excludes all runners of one history, whichever way they reach the server.

    Directly it is a session lock on the very connection that migrates. Through a transaction-pooling proxy it is a
    transaction lock on a connection of its own, and each unit of work takes `fence` in its own transaction: what a
    killed runner left running in the server still holds that one, and the next runner waits for it.
    """

    def __init__(self, session: Session, names: tuple[str, str]) -> None:
        self._session = session
        # advisory locks are per database already; the keys only have to differ between books
        self.key = _key("msr_async:" + ".".join(names))
        self.fence = _key("msr_async fence:" + ".".join(names))
        self._held_here = False
        self._held_apart: LockTransaction | None = None
        self._seen_touches = 0

    @asynccontextmanager
    async def hold(self, *, timeout: float, waiting: Waiting) -> AsyncIterator[None]:
        await self._session.prepared()
        async with self._apart(timeout, waiting) if self._session.pooled else self._here(timeout, waiting):
            yield

    async def status(self) -> LockInfo | None:
        return await self._holder(await self._session.connection())

    async def check(self) -> None:
        """What a unit may have done to its session is looked at after such a unit only: the look is a round trip."""
        if self._held_apart is not None:
            await self._held_apart.check()
        elif self._held_here:
            connection = await self._session.connection()
            if self._session.touches != self._seen_touches:
                # a COPY that is cut off half-way may leave a connection that nothing more can be done on
                await to_its_end(self._look(connection))

    async def release(self) -> LockInfo | None:
        connection = await self._session.connection()
        found = await holders(connection, self.key, self.fence)
        if not found:
            return None
        who = await self._holder(connection)
        pids = {holder.pid for holder in found}
        try:
            await end(connection, sorted(pids), self.key, self.fence)
        except PermissionMissing as error:
            raise PermissionMissing(
                f"This user may not end the session that holds the migration lock: {who}.",
                hint="Use its own role or a superuser, or GRANT pg_signal_backend to this one.",
            ) from error
        deadline = time.monotonic() + _RELEASE_TIMEOUT
        while pids & {holder.pid for holder in await holders(connection, self.key, self.fence)}:
            if time.monotonic() >= deadline:
                raise DatabaseError(
                    f"The session that holds the migration lock was told to end and did not within "
                    f"{_RELEASE_TIMEOUT:.0f} s: {who}.",
                    hint="It ends when its statement can be interrupted; look at pg_stat_activity and try again.",
                )
            await anyio.sleep(_RELEASE_PAUSE)
        return who

    # -- on the connection that migrates -------------------------------------------------------------

    @asynccontextmanager
    async def _here(self, timeout: float, waiting: Waiting) -> AsyncIterator[None]:
        retaking = False

        async def take(connection: Connection) -> None:
            nonlocal retaking
            patience = min(timeout, _RETAKE_TIMEOUT) if retaking else timeout
            await self._take(connection, lambda: self._try(connection, "pg_try_advisory_lock"), patience, waiting)
            retaking = True
            self._seen_touches = self._session.touches

        async with self._session.guarded(take, self._give):
            self._held_here = True
            try:
                yield
            finally:
                self._held_here = False

    async def _give(self, connection: Connection) -> None:
        await connection.execute(f"SELECT pg_catalog.pg_advisory_unlock({self.key})")

    async def _look(self, connection: Connection) -> None:
        touches = self._session.touches
        with translating("Checking the migration lock", connection):
            mine = f"l.pid = pg_catalog.pg_backend_pid() AND {held(self.key)}"
            if await ask(connection, f"SELECT 1 AS mine FROM pg_catalog.pg_locks l WHERE {mine}"):
                self._seen_touches = touches
                return
        await close(connection, abruptly=True)
        with suppress(ConnectionLost):  # told here; whoever asks next gets a new connection, with the lock
            await self._session.connection()
        raise ConnectionLost(
            "A migration gave the migration lock away; nothing more is run without it.",
            hint="Take pg_advisory_unlock_all() out of the migration, then run again.",
        )

    # -- beside the connections of a proxy -----------------------------------------------------------

    @asynccontextmanager
    async def _apart(self, timeout: float, waiting: Waiting) -> AsyncIterator[None]:
        retaking = False

        async def take() -> Connection:
            nonlocal retaking
            patience = min(timeout, _RETAKE_TIMEOUT) if retaking else timeout
            connection = await self._session.apart()
            try:
                await self._take(connection, lambda: self._try_apart(connection), patience, waiting)
            except BaseException:
                await close(connection, abruptly=True)
                raise
            retaking = True
            return connection

        transaction = LockTransaction(take)
        async with transaction.held():
            await self._refuse_lone_connection()
            self._held_apart = transaction
            self._session.fence, self._session.before_unit = self.fence, transaction.before_unit
            try:
                yield
            finally:
                self._held_apart = self._session.fence = self._session.before_unit = None

    async def _refuse_lone_connection(self) -> None:
        """The lock keeps one of the proxy's server connections, so the first unit would wait for itself."""
        connection = await self._session.connection()
        with anyio.move_on_after(_SECOND_CONNECTION_TIMEOUT) as scope, translating("Asking the proxy", connection):
            await connection.execute("SELECT 1")
        if scope.cancelled_caught:
            await close(connection, abruptly=True)
            raise DatabaseError(
                "The proxy in front of the server gave no second connection to it: a run through a proxy keeps two, "
                "one for the lock and one for the migrations.",
                hint="Raise its pool size, or give the server's own address.",
            )

    async def _try_apart(self, connection: Connection) -> bool:
        await connection.execute(begin(connection.get_server_version().major))
        if await self._try(connection, "pg_try_advisory_xact_lock"):
            return True
        await connection.execute("ROLLBACK")  # a waiter keeps no server connection of the proxy's
        return False

    # -- both ----------------------------------------------------------------------------------------

    async def _take(
        self, connection: Connection, attempt: Callable[[], Awaitable[bool]], timeout: float, waiting: Waiting
    ) -> None:
        """Come back with the lock, and nobody else's work left in the server."""

        async def nothing_left() -> bool:
            return not await holders(connection, self.fence)

        async def anybody() -> LockInfo | None:
            return await self._holder(connection)

        async def worker() -> LockInfo | None:
            return next((holder.info for holder in await holders(connection, self.fence)), None)

        started = time.monotonic()
        with translating("Taking the migration lock", connection):
            for done, who in ((attempt, anybody), (nothing_left, worker)):
                pause = _FIRST_PAUSE
                while not await done():
                    waited = time.monotonic() - started
                    holder = await who()
                    if waited >= timeout:
                        raise LockNotAcquired(holder, waited)
                    waiting(holder, waited)
                    await anyio.sleep(min(pause, timeout - waited) * random.uniform(0.5, 1.0))
                    pause = min(pause * 2, _LONGEST_PAUSE)

    async def _try(self, connection: Connection, function: str) -> bool:
        """Never wait in the server: a waiter there holds a snapshot, and CREATE INDEX CONCURRENTLY waits for that."""
        (row,) = await ask(
            connection,
            "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby' "
            f"WHEN pg_catalog.{function}({self.key}) THEN 'taken' ELSE 'held' END AS outcome",
        )
        if row["outcome"] == "standby":
            raise DatabaseError(
                "The server is a standby: it takes no writes, so nothing can be migrated on it.",
                hint="Give the primary's address; with several hosts in the URL, target_session_attrs=read-write.",
            )
        return bool(row["outcome"] == "taken")

    async def _holder(self, connection: Connection) -> LockInfo | None:
        """Whoever holds the lock; else whose work is left in the server."""
        found = sorted(await holders(connection, self.key, self.fence), key=lambda holder: holder.key != self.key)
        if not found:
            return None
        if found[0].apart:
            # it only holds the lock: what it does is done elsewhere
            return replace(found[0].info, doing=next((one.info.doing for one in found if one.key == self.fence), ""))
        return found[0].info


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
