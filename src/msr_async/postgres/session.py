"""The one connection that migrations, the history and the lock live on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import anyio
import asyncpg
from asyncpg.transaction import Transaction

from ..errors import ConnectionLost
from .connecting import FRESH_SESSION, Target, close, connect
from .driver import Connection
from .shielding import to_its_end

T = TypeVar("T")
_ROLLBACK_DEADLINE = 5.0


class Session:
    """Opens its connection when first asked, and again when it was lost.

    A loss while `guard` is set (the lock was held on it) is told once: whoever asks next gets ConnectionLost, so that a
    run stops before its next migration. Asking again opens a new connection, on which `guard` takes the lock back.
    """

    def __init__(self, target: Callable[[], Awaitable[Target]]) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._guarded: Connection | None = None
        self.guard: Callable[[Connection], Awaitable[None]] | None = None

    async def connection(self) -> Connection:
        current = self._connection
        if current is not None and not current.is_closed():
            return current
        if self._guarded is not None and self._guarded is current:
            self._connection = self._guarded = None
            raise ConnectionLost(
                "The connection that holds the migration lock was lost; nothing more is run on it.",
                hint="Look at the server's log (restart, out of memory, killed backend), then run again.",
            )
        fresh = await connect(await self._target())
        if self.guard is not None:
            try:
                await self.guard(fresh)
            except BaseException:
                await close(fresh, abruptly=True)  # without the lock nobody may work on it
                raise
            self._guarded = fresh
        self._connection = fresh
        return fresh

    @asynccontextmanager
    async def guarded(
        self, take: Callable[[Connection], Awaitable[None]], give: Callable[[Connection], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Inside the block the lock is held on whatever connection this session has."""
        connection = await self.connection()
        try:
            await take(connection)
            self.guard, self._guarded = take, connection
            yield
        except BaseException:
            # cancelled while taking it: the server may have granted it already
            if self._guarded is None:
                await close(connection, abruptly=True)
            raise
        finally:
            self.guard = self._guarded = None
            held = self._connection
            if held is not None and not held.is_closed():
                await to_its_end(self._give_back(held, give))

    async def _give_back(self, held: Connection, give: Callable[[Connection], Awaitable[None]]) -> None:
        with anyio.move_on_after(_ROLLBACK_DEADLINE, shield=True) as scope:
            try:
                await give(held)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await close(held, abruptly=True)  # the end of its session frees it
        if scope.cancelled_caught:
            await close(held, abruptly=True)

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, transaction: bool) -> T:
        """Run `work`; what it raises is raised again after the rollback."""
        connection = await self.connection()
        unit = connection.transaction() if transaction else None
        try:
            await connection.execute(FRESH_SESSION)  # what a script before this one may have SET
            if unit is None:
                return await work(connection)
            await self._begin(unit, connection)
            answer = await work(connection)
            if not connection.is_in_transaction():
                raise EndedByScript
            await unit.commit()
        except BaseException:
            try:
                await to_its_end(self._rollback(connection, unit))
            finally:
                if connection.is_closed() and self._connection is connection:
                    self._connection = self._guarded = None  # whatever is raised here tells of the loss
            raise
        return answer

    async def _begin(self, unit: Transaction, connection: Connection) -> None:
        try:
            await unit.start()
        except BaseException:
            await close(connection, abruptly=True)  # the driver now believes in a transaction that may not be there
            raise

    async def _rollback(self, connection: Connection, unit: Transaction | None) -> None:
        """Back to a usable connection, or none: after a cancellation the driver's idea of the state can be wrong."""
        with anyio.move_on_after(_ROLLBACK_DEADLINE, shield=True) as scope:
            try:
                if unit is not None:
                    with suppress(asyncpg.InterfaceError):  # a failed COMMIT: nothing for the driver to roll back
                        await unit.rollback()
                if not connection.is_closed():
                    await connection.execute("ROLLBACK")  # outside of a transaction only a notice
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await close(connection, abruptly=True)
        if scope.cancelled_caught:
            await close(connection, abruptly=True)

    async def close(self) -> None:
        if self._connection is not None:
            await close(self._connection)


class EndedByScript(Exception):
    """The script itself ended the transaction that it was running in."""
