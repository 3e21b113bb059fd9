"""Scripts outside of a transaction: each statement is committed alone, and a run that was killed goes on where it was.

A statement that could run in a transaction is sent together with the note that it is done: both happen, or neither. One
that cannot is noted as begun first, and whoever finds such a note looks what its half-done work has left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import anyio
from msgspec import Struct
from msgspec.structs import asdict, replace

from ..errors import DatabaseError, ScriptFailed
from ..models import Script
from ..shielding import to_its_end
from .applying import execute_one
from .driver import Connection
from .kinds import outside
from .leftovers import Leftovers, leftovers
from .schema_version import PostgresSchemaVersion
from .statements import Statement, place, split
from .translating import DRIVER_ERRORS, translating

_CLEANUP_DEADLINE = 10.0
_ACTIVE_TRANSACTION = "25001"
# A procedure and an anonymous block may commit by themselves, which they cannot in a transaction of ours.
_MAY_COMMIT = frozenset(("CALL", "DO"))
# They last as long as the session, so that a new one needs them again.
_OF_THE_SESSION = frozenset(("SET", "RESET"))


class Mark(Struct, frozen=True, kw_only=True):
    """How far a script has come."""

    checksum: str
    """Of the statements that are done, so that one that failed may be corrected."""
    statement: int = 0
    """How many are done."""
    begun: str = ""
    """Checksum of the next, if it was sent and nobody saw its end."""
    known: tuple[int, ...] = ()
    """What was there before that one: see `Leftovers.known`."""

    @classmethod
    def read(cls, value: Any) -> Mark:
        return _START if value is None else cls(**{**value, "known": tuple(value["known"])})


async def execute(connection: Connection, book: PostgresSchemaVersion, script: Script, key: str) -> None:
    """Run what is left to run of a script. The note of what is done stays: the line in the history takes its place.

    Raises:
        ScriptFailed: with the place in the file. What its half-done work left is removed, if it can be.
    """
    await _Run(connection, book, script, key).to_the_end()


class _Run:
    def __init__(self, connection: Connection, book: PostgresSchemaVersion, script: Script, key: str) -> None:
        self._connection = connection
        self._book = book
        self._script = script
        self._key = key
        self._hint = ""

    async def to_the_end(self) -> None:
        statements = split(self._script.text)
        mark = Mark.read(await self._book.note(self._key))
        if _checksum(statements[: mark.statement]) != mark.checksum:
            self._hint = "A part of this script had run before it was changed; it was begun from its first line."
            mark = _START
        for number, statement in enumerate(statements):
            if statement.words[:1] and statement.words[0] in _OF_THE_SESSION:
                await self._send(statement, statement.text)
            elif number >= mark.statement:
                here = Mark(checksum=_checksum(statements[:number]), statement=number)
                done = Mark(checksum=_checksum(statements[: number + 1]), statement=number + 1)
                began = mark if number == mark.statement and mark.begun == _checksum((statement,)) else None
                if began is None and not outside(statement) and _MAY_COMMIT.isdisjoint(statement.words[:1]):
                    await self._together(statement, here, done)
                else:
                    await self._alone(statement, here, done, began)

    async def _together(self, statement: Statement, here: Mark, done: Mark) -> None:
        """The statement and the note that it is done, in one transaction."""
        note = self._book.noting(self._key, asdict(done))
        try:
            await self._send(statement, f"{statement.text}\n;\n{note}" if statement.closed else statement.text)
        except ScriptFailed as error:
            if _state(error) != _ACTIVE_TRANSACTION:
                raise
            await self._alone(statement, here, done, None)  # it refuses a transaction, which we did not know

    async def _alone(self, statement: Statement, here: Mark, done: Mark, began: Mark | None) -> None:
        """The statement between two notes. `began`: an attempt before sent it, and nobody saw its end."""
        left = leftovers(statement)
        hint = self._hint
        with translating(f"Looking what an attempt before left of {self._script.path}", self._connection):
            if began is None:
                await left.clear(self._connection, None)
                known = await left.known(self._connection)
            else:
                known = began.known
                if await left.is_done(self._connection, known):
                    await self._keep(done)
                    return
                await left.clear(self._connection, known)
                line, _ = place(self._script.text, statement.offset)
                hint = f"A run before was stopped in the middle of line {line}'s statement: look what it has done."
        await self._keep(replace(here, begun=_checksum((statement,)), known=known))
        try:
            await self._send(statement, statement.text, hint)
        except ScriptFailed as error:
            if began is not None and left.says_done(_state(error)):
                await self._keep(done)
                return
            await to_its_end(self._clean_up(left, here, known))
            raise
        except BaseException:
            await to_its_end(self._after_interruption(left, here, done, known))
            raise
        await self._keep(done)

    async def _clean_up(self, left: Leftovers, here: Mark, known: tuple[int, ...]) -> None:
        """The statement failed: remove its half-done work, and note that it is not under way any more.

        Where that cannot be, its note stays, and the next attempt does it.
        """
        with anyio.move_on_after(_CLEANUP_DEADLINE, shield=True):
            try:
                await left.clear(self._connection, known)
                await self._keep(here)
            except (*DRIVER_ERRORS, DatabaseError):
                return

    async def _after_interruption(self, left: Leftovers, here: Mark, done: Mark, known: tuple[int, ...]) -> None:
        """It was cancelled, and may have come to its end all the same."""
        with anyio.move_on_after(_CLEANUP_DEADLINE, shield=True):
            try:
                if not await left.is_done(self._connection, known):
                    await self._clean_up(left, here, known)
                else:
                    await self._keep(done)
            except (*DRIVER_ERRORS, DatabaseError):
                return

    async def _send(self, statement: Statement, text: str, hint: str = "") -> None:
        await execute_one(self._connection, self._script, statement, text, hint=hint or self._hint)

    async def _keep(self, mark: Mark) -> None:
        await self._book.keep_note(self._connection, self._key, asdict(mark))


def _state(error: ScriptFailed) -> str:
    return str(getattr(error.__cause__, "sqlstate", ""))


def _checksum(statements: Sequence[Statement]) -> str:
    digest = hashlib.sha256()
    for statement in statements:
        digest.update(statement.text.encode() + b"\0")
    return digest.hexdigest()


_START = Mark(checksum=_checksum(()))
