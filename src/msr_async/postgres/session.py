"""The one connection that migrations and the history live on, and the lock too where nothing stands in between."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Literal, TypeVar

import asyncpg
from asyncpg.connection import LoggedQuery
from asyncpg.transaction import Transaction
from msgspec import Struct

from ..errors import ConnectionLost
from ..models import Isolation
from ..protocols import WorkOptions
from ..shielding import to_its_end, within
from .asking import ask
from .connecting import FRESH_SESSION, SESSION_SETTINGS, Target, close, connect_as_it_is
from .driver import Connection
from .translating import DRIVER_ERRORS, is_lost, translating
from .units import inner_settings, opening, outer_settings
from .watching import OURS, listening

T = TypeVar("T")
_ROLLBACK_DEADLINE = 5.0
_MAY_END = re.compile(r"\b(?:commit|end|abort|rollback|prepare)\b", re.IGNORECASE)
_LEVELS: dict[Isolation, Literal["read_committed", "repeatable_read", "serializable"]] = {
    "read committed": "read_committed",
    "repeatable read": "repeatable_read",
    "serializable": "serializable",
}


class PreparedStatement(Struct, frozen=True):
    """One of a session, so that the server plans it once for all of its executions."""

    name: str
    """Nobody else's: through some proxies another program has had this session before."""
    preparing: str
    """What makes it; empty when it was made."""


class Session:
    """Opens its connection when first asked, and again when it was lost.

    A loss while `guard` is set (the lock was held on it) is told once: whoever asks next gets ConnectionLost, so that a
    run stops before its next migration. Asking again opens a new connection, on which `guard` takes the lock back.

    Attributes:
        pooled: a transaction-pooling proxy stands in between, so that the server's session changes from transaction to
            transaction; known once `prepared` was awaited.
        fence: an advisory key that every transactional unit takes first.
        before_unit: awaited before each unit; what it raises keeps the unit from running.
        touches: how many units may have changed their session beyond their transaction.
    """

    def __init__(self, target: Callable[[], Awaitable[Target]]) -> None:
        self._target = target
        self._connection: Connection | None = None
        self._guarded: Connection | None = None
        self._prepared: Connection | None = None
        self._used: Connection | None = None
        """The connection, when a unit may have left something in its session."""
        self.guard: Callable[[Connection], Awaitable[None]] | None = None
        self.pooled = False
        self.fence: int | None = None
        self.touches = 0
        self._statement: tuple[Connection, PreparedStatement] | None = None
        self.before_unit: Callable[[], Awaitable[None]] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process that works for this session; None where it changes, or there is none."""
        current = self._connection
        return None if current is None or current.is_closed() or self.pooled else current.get_server_pid()

    async def connection(self) -> Connection:
        """The connection for a question in one message; before anything else it is to be `prepared`."""
        current = self._connection
        if current is not None and not current.is_closed():
            await self._tidy(current)
            return current
        if self._guarded is not None and self._guarded is current:
            self._connection = self._guarded = None
            raise ConnectionLost(
                "The connection that holds the migration lock was lost; nothing more is run on it.",
                hint="Look at the server's log (restart, out of memory, killed backend), then run again.",
            )
        fresh = await connect_as_it_is(await self._target())
        if self.guard is not None:
            try:
                await self._prepare(fresh)
                await self.guard(fresh)
            except BaseException:
                await close(fresh, abruptly=True)  # without the lock nobody may work on it
                raise
            self._guarded = fresh
        self._connection = fresh
        return fresh

    async def prepared(self) -> Connection:
        """The connection with our settings, and `pooled` known."""
        connection = await self.connection()
        if self._prepared is not connection:
            await self._prepare(connection)
        return connection

    async def _prepare(self, connection: Connection) -> None:
        with translating("Preparing the connection", connection):
            # a proxy's hello names a process that is not the one that answers
            (answer,) = await ask(connection, "SELECT pg_catalog.pg_backend_pid() AS pid")
            self.pooled = answer["pid"] != connection.get_server_pid()
            if not self.pooled:
                await connection.execute(SESSION_SETTINGS)
        self._prepared = connection

    async def _tidy(self, connection: Connection) -> None:
        if self._used is not connection or self.pooled:
            return
        try:
            with translating("Resetting the session", connection):
                await connection.execute(FRESH_SESSION)
        finally:
            self._let_go_if_lost(connection)
        self._used = None

    @asynccontextmanager
    async def guarded(
        self, take: Callable[[Connection], Awaitable[None]], give: Callable[[Connection], Awaitable[None]]
    ) -> AsyncIterator[None]:
        """Inside the block the lock is held on whatever connection this session has."""
        connection = await self.prepared()
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
        async def give_or_end() -> None:
            try:
                await give(held)
            except DRIVER_ERRORS:
                await close(held, abruptly=True)  # the end of its session frees it

        if not await within(_ROLLBACK_DEADLINE, give_or_end):
            await close(held, abruptly=True)

    def take_statement(self, connection: Connection, words: str) -> PreparedStatement:
        """The session's one prepared statement, or a new one; to be given back by `keep_statement` when all went well.

        Where not, it may be gone or half made, and the next one has another name. What stays ends with the connection.

        Args:
            words: types of the parameters, AS, and the statement; always the same.
        """
        taken, self._statement = self._statement, None
        if taken is not None and taken[0] is connection:
            return taken[1]
        name = f"msr_async_{secrets.token_hex(8)}"
        return PreparedStatement(name=name, preparing=f"PREPARE {name} {words}")

    def keep_statement(self, connection: Connection, statement: PreparedStatement) -> None:
        """It stands in the session."""
        self._statement = connection, PreparedStatement(name=statement.name, preparing="")

    async def apart(self) -> Connection:
        """One more connection to the same database, as it is; whoever asks for it closes it."""
        return await connect_as_it_is(await self._target())

    # -- units --------------------------------------------------------------------------------------

    async def run(self, work: Callable[[Connection], Awaitable[T]], options: WorkOptions) -> T:
        """Run `work` as a unit of its own; what it raises is raised again after the rollback."""
        connection = await self._turn()
        unit = connection.transaction(isolation=_level(options)) if options.transaction else None
        ended: list[str] = []
        try:
            if unit is None:
                if (settings := outer_settings(options)) and not self.pooled:
                    await connection.execute(settings)
            else:
                await self._begin(unit, connection, options)
            with listening(connection, options.notice), _hearing_ends(connection, ended):
                answer = await work(connection)
            if unit is not None:
                await asyncio.sleep(0)  # the driver tells of a query when the loop comes round
                if ended or not connection.is_in_transaction():
                    raise EndedByScript(kept=True)
                await (_commit(unit) if options.commit else _rehearsed(connection, unit))
        except BaseException as error:
            await self._undo(connection, unit)
            if ended and unit is not None and isinstance(error, Exception) and not isinstance(error, EndedByScript):
                raise EndedByScript(kept=True) from error
            raise
        finally:
            self._touched(connection)
        return answer

    async def whole(
        self, work: Callable[[Connection, str], Awaitable[T]], options: WorkOptions, *, leaves_traces: bool
    ) -> T:
        """Run `work` that begins and ends a transaction of its own, with the very words that it has to begin with.

        Args:
            leaves_traces: whether it may change its session beyond the transaction.
        """
        connection = await self._turn()
        major = connection.get_server_version().major
        try:
            with listening(connection, options.notice):
                return await work(connection, opening(options, pooled=self.pooled, fence=self.fence, major=major))
        except BaseException:
            await self._undo(connection, None)
            raise
        finally:
            if leaves_traces:
                self._touched(connection)

    async def _turn(self) -> Connection:
        connection = await self.prepared()
        if self.before_unit is not None:
            await self.before_unit()
        return connection

    async def _begin(self, unit: Transaction, connection: Connection, options: WorkOptions) -> None:
        """Two messages: the driver makes savepoints of a script's `db.transaction()` only inside one that it began."""
        try:
            await unit.start()
        except BaseException:
            await close(connection, abruptly=True)  # the driver now believes in a transaction that may not be there
            raise
        major = connection.get_server_version().major
        if settings := inner_settings(options, pooled=self.pooled, fence=self.fence, major=major):
            await connection.execute(settings)

    async def _undo(self, connection: Connection, unit: Transaction | None) -> None:
        try:
            await to_its_end(self._rollback(connection, unit))
        finally:
            self._let_go_if_lost(connection)

    async def _rollback(self, connection: Connection, unit: Transaction | None) -> None:
        """Back to a usable connection, or none: after a cancellation the driver's idea of the state can be wrong."""

        async def back_or_none() -> None:
            try:
                if unit is not None:
                    with suppress(asyncpg.InterfaceError):  # a failed COMMIT: nothing for the driver to roll back
                        await unit.rollback()
                if not connection.is_closed():
                    await connection.execute(f"{OURS}ROLLBACK")  # outside of a transaction only a notice
            except DRIVER_ERRORS:
                await close(connection, abruptly=True)

        if not await within(_ROLLBACK_DEADLINE, back_or_none):
            await close(connection, abruptly=True)

    def _touched(self, connection: Connection) -> None:
        self._used = connection
        self.touches += 1

    def _let_go_if_lost(self, connection: Connection) -> None:
        if connection.is_closed() and self._connection is connection:
            self._connection = self._guarded = None  # whatever is being raised tells of the loss

    async def close(self) -> None:
        if self._connection is not None:
            await close(self._connection)


@contextmanager
def _hearing_ends(connection: Connection, ended: list[str]) -> Iterator[None]:
    """Inside the block the statements that end a transaction come to stand in `ended`.

    That there is a transaction afterwards does not say that it is ours: after COMMIT and BEGIN it is the script's.
    """

    def hear(said: LoggedQuery) -> None:
        if _MAY_END.search(said.query):
            from .kinds import ends_transaction
            from .statements import split

            ended.extend(statement.text for statement in split(said.query) if ends_transaction(statement, begins=False))

    connection.add_query_logger(hear)
    try:
        yield
    finally:
        connection.remove_query_logger(hear)


def _level(options: WorkOptions) -> Literal["read_committed", "repeatable_read", "serializable"] | None:
    return None if options.isolation is None else _LEVELS[options.isolation]


async def _commit(unit: Transaction) -> None:
    try:
        await unit.commit()
    except asyncpg.PostgresError as error:
        if is_lost(error):
            raise
        raise NotCommitted from error


async def _rehearsed(connection: Connection, unit: Transaction) -> None:
    """Check what a commit would check, and undo everything."""
    try:
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    except asyncpg.PostgresError as error:
        if is_lost(error):
            raise
        raise NotCommitted from error
    await unit.rollback()


class NotCommitted(Exception):
    """All of the work was done, and then the server refused to commit it; `__cause__` is its error."""


class EndedByScript(Exception):
    """The script itself ends the transaction that it is to run in; `__cause__` is what went wrong after that.

    Attributes:
        kept: it was run, so what it committed stays.
    """

    def __init__(self, *, kept: bool = False) -> None:
        self.kept = kept
        super().__init__()
