"""Running SQL scripts inside a transaction: in one message with the history's line, or statement by statement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import asyncpg

from ..errors import MsrError, ScriptFailed
from ..models import Direction, Script
from ..protocols import Change, WorkOptions
from ..shielding import to_its_end, within
from .asking import ask
from .connecting import OWN_ROLE
from .driver import Connection
from .failing import failed, position_of, words
from .kinds import ends_transaction, leaves_traces
from .messages import MARK, SETTING, Message, Piece, Place, compose, fits
from .quoting import literal, qualified
from .schema_version import PostgresSchemaVersion
from .session import EndedByScript, PreparedStatement, Session
from .statements import Statement, split
from .translating import DRIVER_ERRORS, is_lost, is_transient, translate
from .units import NOT_WAITED_FOR
from .watching import OURS

_NO_SUCH_SAVEPOINT, _NO_TRANSACTION, _INSUFFICIENT_PRIVILEGE = "3B001", "25P01", "42501"
_NO_SUCH_STATEMENT = "26000"
_WORTH_PREPARING = 8
"""Migrations in a message. Two thirds of what a line costs the server is its plan; to prepare it costs ten plans."""
_LOOK_DEADLINE = 5.0
"""Seconds."""

Ask = Callable[[str], Awaitable[list[dict[str, Any]]]]


class Application:
    """Changes on their way into the database, each as a transaction, and how many of them are there.

    That is known when their message was answered. Before, and where it was not, the history says it.
    """

    def __init__(
        self,
        session: Session,
        book: PostgresSchemaVersion,
        changes: Sequence[Change],
        direction: Direction,
        done: Callable[[float], None],
    ) -> None:
        self._session = session
        self._book = book
        self._changes = changes
        self._up = direction == "up"
        self._done = done
        self._committed = 0
        self._since = time.monotonic()

    async def to_the_end(self, options: WorkOptions) -> None:
        """Raises:
        ScriptFailed: with the place in the file; no change after that one was run.
        """
        first = self._changes[0].script
        statements = split(first.text)
        if any(ends_transaction(statement) for statement in statements):
            raise EndedByScript
        if len(self._changes) == 1 and not fits(statements, len(first.text)):
            await self._session.run(partial(self._one_by_one, statements), options)
            self._tell(1)
            return
        traces = len(self._changes) == 1 and any(leaves_traces(statement) for statement in statements)
        most = len(self._changes)
        while self._committed < len(self._changes):
            sent = range(self._committed, min(self._committed + most, len(self._changes)))
            try:
                await self._session.whole(partial(self._at_once, sent, options), options, leaves_traces=traces)
            except _SendApart as apart:
                most = max(apart.before, 1)
            else:
                self._tell(sent.stop)

    @property
    def together(self) -> bool:
        """Whether several are under way."""
        return len(self._changes) - self._committed > 1

    async def look(self, asking: Ask) -> None:
        """Ask the history how far they have come, and tell it."""
        if self._committed == len(self._changes):
            return
        rest = self._changes[self._committed :]
        ids = [change.entry.id for change in rest]
        found = {row["id"] for row in await asking(self._book.finding(ids, rest[0].entry.run if self._up else None))}
        there = next((number for number, id in enumerate(ids) if (id in found) is not self._up), len(ids))
        self._tell(len(self._changes) - len(rest) + there)

    def _tell(self, committed: int) -> None:
        new = committed - self._committed
        if new > 0:
            now = time.monotonic()
            share = (now - self._since) / new
            self._committed, self._since = committed, now
            for _ in range(new):
                self._done(share)

    async def _one_by_one(self, statements: Sequence[Statement], connection: Connection) -> None:
        await execute(connection, self._changes[0].script, statements)
        await self._book.write(connection, f"{OWN_ROLE}; {self._record(0)}", self._doing(0))

    async def _at_once(self, sent: range, options: WorkOptions, connection: Connection, begin: str) -> None:
        early = f"{begin}; {NOT_WAITED_FOR}" if options.durable else begin
        worth_it = self._up and len(sent) >= _WORTH_PREPARING
        line = self._session.take_statement(connection, self._book.line) if worth_it else None
        pieces = [
            Piece(
                begin=begin if number == sent.stop - 1 and sent.stop == len(self._changes) else early,
                statements=split(self._changes[number].script.text),
                record=self._record(number, line, follows=number > sent.start),
            )
            for number in sent
        ]
        message = compose(pieces, OWN_ROLE, line.preparing if line else "")
        try:
            await connection.execute(message.text)
        except asyncpg.PostgresError as error:
            raise await self._explained(connection, message, sent, error) from error
        except DRIVER_ERRORS as error:
            raise translate(error, f"Running {self._script.path}", closed=connection.is_closed()) from error
        except asyncio.CancelledError:
            await to_its_end(self._after_cancellation(connection))
            raise
        if line:
            self._session.keep_statement(connection, line)

    async def _after_cancellation(self, connection: Connection) -> None:
        async def settle() -> None:
            await self._roll_back(connection)
            await self._look_here(connection)

        if not connection.is_closed():
            await within(_LOOK_DEADLINE, settle)

    async def _roll_back(self, connection: Connection) -> None:
        with suppress(*DRIVER_ERRORS):
            await connection.execute(f"{OURS}ROLLBACK")

    async def _look_here(self, connection: Connection) -> bool:
        """The same, here; whether the history could be read. Where not, what was known stays known."""
        with suppress(*DRIVER_ERRORS):
            await self.look(partial(ask, connection))
            return True
        return False

    @property
    def _script(self) -> Script:
        """The one under way."""
        return self._changes[min(self._committed, len(self._changes) - 1)].script

    # -- the words ---------------------------------------------------------------------------------

    def _record(self, number: int, line: PreparedStatement | None = None, *, follows: bool = False) -> str:
        entry = self._changes[number].entry
        if not self._up:
            return self._book.forgetting(entry.id)
        after = self._changes[number - 1].entry.id if follows else ""
        if line and entry.version is not None:
            return f"EXECUTE {line.name} ({self._book.line_of(entry, after)})"
        return self._book.recording(entry, replace=entry.version is None, anew=True, after=after)

    def _doing(self, number: int) -> str:
        entry = self._changes[number].entry
        return f"Recording {entry}" if self._up else f"Striking {entry} out of the history"

    # -- errors ------------------------------------------------------------------------------------

    async def _explained(
        self, connection: Connection, message: Message, sent: range, error: asyncpg.PostgresError
    ) -> Exception:
        """Which statement was it? The failed transaction still stands and knows; whose it was, the history does."""
        if is_lost(error) or connection.is_closed():
            return translate(error, f"Running {self._script.path}", closed=connection.is_closed())
        position = position_of(error)
        place = None if position is None else message.place(position)
        at = await _statement_under_way(connection) if place is None else None
        if len(sent) > 1:
            stands = connection.is_in_transaction()
            if place is None:
                await self._roll_back(connection)
                if not await self._look_here(connection):
                    return translate(error, f"Running {self._script.path} or one of those sent with it")
            elif stands:
                self._tell(sent.start + place.piece)
            if error.sqlstate == _NO_SUCH_STATEMENT or (not stands and not is_transient(error)):
                return _SendApart(place.piece if place else 0)
        return await self._named(connection, place, at, error)

    async def _named(
        self, connection: Connection, place: Place | None, at: int | None, error: asyncpg.PostgresError
    ) -> MsrError:
        """The error of the change under way.

        Args:
            place: what the server pointed at.
            at: where it pointed at nothing, the number of the statement; None when it was the COMMIT.
        """
        script, doing, book = self._script, self._doing(self._committed), self._book
        if place is not None:
            statement = place.statement
            if statement is None:  # it is the record's
                return book.refusal(error, doing) or translate(error, doing)
            return failed(script, error, statement, place.into)
        if isinstance(error, asyncpg.UniqueViolationError) and (refusal := book.refusal(error, doing)):
            return refusal
        if at is None:
            return ScriptFailed(
                f"the script ran, but its transaction could not be committed: {words(error)}",
                path=script.path,
                hint="A constraint is only checked at the end (DEFERRABLE), or another transaction came in between.",
            )
        if error.sqlstate == _INSUFFICIENT_PRIVILEGE and (refusal := book.refusal(error, doing)):
            await self._roll_back(connection)
            name = literal(qualified(book.names))
            (answer,) = await ask(
                connection,
                f"SELECT pg_catalog.has_table_privilege({name}, 'INSERT') "
                f"AND pg_catalog.has_table_privilege({name}, 'DELETE') AS may",
            )
            if not answer["may"]:
                return refusal
        statements = split(script.text)
        return failed(script, error, statements[at], 0) if statements else translate(error, doing)


class _SendApart(Exception):
    """What failed was the message, not one of its scripts.

    A text that cannot be read, a COMMIT, or the prepared line, which some script took away (DEALLOCATE ALL).
    """

    def __init__(self, before: int) -> None:
        super().__init__(before)
        self.before = before
        """How many stand before the one that the server pointed at."""


async def execute(connection: Connection, script: Script, statements: Sequence[Statement]) -> None:
    """Statement by statement, each a simple-protocol message, so that every error has its place in the file."""
    for statement in statements:
        await execute_one(connection, script, statement, statement.text)


async def execute_one(
    connection: Connection, script: Script, statement: Statement, text: str, *, hint: str = ""
) -> None:
    """`text` is the statement, and what is sent along with it."""
    try:
        await connection.execute(text)
    except asyncpg.PostgresError as error:
        raise failed(script, error, statement, hint=hint) from error
    except DRIVER_ERRORS as error:
        raise translate(error, f"Running {script.path}", closed=connection.is_closed()) from error


async def _statement_under_way(connection: Connection) -> int | None:
    """Its number; None when it was the COMMIT."""
    try:
        await connection.execute(f"ROLLBACK TO SAVEPOINT {MARK}")
    except asyncpg.PostgresError as error:
        if error.sqlstate == _NO_SUCH_SAVEPOINT:
            return 0
        if error.sqlstate == _NO_TRANSACTION:
            return None
        raise
    (answer,) = await ask(connection, f"SELECT pg_catalog.current_setting({literal(SETTING)}) AS number")
    return int(answer["number"])
