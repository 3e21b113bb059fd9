"""The migration lock through a transaction-pooling proxy: one transaction that stays open beside those that migrate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from ..errors import ConnectionLost
from ..shielding import to_its_end
from .connecting import application_name, close
from .driver import Connection
from .holding import HOLDER_MARK
from .quoting import literal
from .translating import DRIVER_ERRORS

HEARTBEAT = 5.0
"""Seconds between two messages on the transaction that holds the lock, so that no proxy takes it for abandoned."""
_BEAT, _PATIENCE = "SELECT 1", 15.0
_LEAVING_DEADLINE = 5.0


def begin(major: int) -> str:
    """One that may stay open for hours: no snapshot between statements, no time limit, and a name to tell it."""
    name = application_name()[: 63 - len(HOLDER_MARK)] + HOLDER_MARK
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL statement_timeout = 0; "
        "SET LOCAL idle_in_transaction_session_timeout = 0; "
        + ("SET LOCAL transaction_timeout = 0; " if major >= 17 else "")
        + f"SET LOCAL application_name = {literal(name)}"
    )


class LockTransaction:
    """An open transaction on a connection of its own; the lock is held for as long as it is.

    Args:
        take: opens the connection and comes back with the lock held in its transaction. Asked once more after a loss.
    """

    def __init__(self, take: Callable[[], Awaitable[Connection]]) -> None:
        self._take = take
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()
        self._told = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        self._connection = await self._take()
        # not a task group: its errors would wrap those of the block
        beating = asyncio.create_task(self._keep_alive())
        try:
            yield
        finally:
            await to_its_end(self._leave(beating))

    async def before_unit(self) -> None:
        """Raise `ConnectionLost` for a loss, once: whoever asks again takes the lock back, to put things in order."""
        if self._alive():
            return
        if not self._told:
            self._told = True
            raise ConnectionLost(
                "The connection that holds the migration lock was lost; nothing more is run without it.",
                hint="Look at the logs of the server and of the proxy in front of it, then run again.",
            )
        if self._connection is not None:
            await close(self._connection, abruptly=True)
        self._connection = await self._take()
        self._told = False

    async def check(self) -> None:
        """The same after asking the server."""
        if self._alive():
            # a heartbeat that is cancelled half-way would end the transaction, and the lock with it
            await to_its_end(self._beat())
        await self.before_unit()

    def _alive(self) -> bool:
        connection = self._connection
        return connection is not None and not connection.is_closed() and connection.is_in_transaction()

    async def _keep_alive(self) -> None:
        while True:
            await anyio.sleep(HEARTBEAT)
            if self._alive():
                await self._beat()

    async def _beat(self) -> None:
        connection = self._connection
        assert connection is not None
        try:
            async with self._turn:
                with anyio.fail_after(_PATIENCE):
                    await connection.execute(_BEAT)
        except DRIVER_ERRORS:
            await close(connection, abruptly=True)

    async def _leave(self, beating: asyncio.Task[None]) -> None:
        connection = self._connection
        assert connection is not None
        with anyio.move_on_after(_LEAVING_DEADLINE):
            try:
                async with self._turn:
                    await connection.execute("ROLLBACK")  # without it the proxy throws its server connection away
            except DRIVER_ERRORS:
                pass  # whoever lost it has no lock to give back
        await close(connection)
        beating.cancel()
        await asyncio.wait({beating})
