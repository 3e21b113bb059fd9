"""Running SQL scripts inside a transaction: as one message with the history's line, or statement by statement."""

from __future__ import annotations

import asyncpg

from ..errors import MsrError, ScriptFailed
from ..models import AppliedMigration, Direction, Script
from ..protocols import WorkOptions
from .asking import ask
from .connecting import OWN_ROLE
from .driver import Connection
from .failing import failed, position_of, words
from .kinds import ends_transaction, leaves_traces
from .messages import MARK, SETTING, Message, compose, fits
from .quoting import literal, qualified
from .schema_version import PostgresSchemaVersion
from .session import EndedByScript, Session
from .statements import Statement, split
from .translating import is_lost, translate

_NO_SUCH_SAVEPOINT, _NO_TRANSACTION, _INSUFFICIENT_PRIVILEGE = "3B001", "25P01", "42501"


async def apply(
    session: Session,
    book: PostgresSchemaVersion,
    script: Script,
    entry: AppliedMigration,
    direction: Direction,
    options: WorkOptions,
) -> None:
    """The script and its line in the history as one transaction, in one message where that can be.

    Raises:
        ScriptFailed: with the place in the file.
    """
    statements = split(script.text)
    if any(ends_transaction(statement) for statement in statements):
        raise EndedByScript
    up = direction == "up"
    record = book.recording(entry, replace=entry.version is None, anew=True) if up else book.forgetting(entry.id)
    doing = f"Recording {entry}" if up else f"Striking {entry} out of the history"

    async def at_once(connection: Connection, begin: str) -> None:
        message = compose(begin, statements, OWN_ROLE, record)
        try:
            await connection.execute(message.text)
        except asyncpg.PostgresError as error:
            raise await _explained(connection, book, script, message, error, doing) from error
        except (asyncpg.InterfaceError, OSError) as error:
            raise translate(error, f"Running {script.path}", closed=connection.is_closed()) from error

    async def one_by_one(connection: Connection) -> None:
        await execute(connection, script)
        await book.write(connection, f"{OWN_ROLE}; {record}", doing)

    if fits(statements, len(script.text)):
        await session.whole(at_once, options, leaves_traces=any(leaves_traces(statement) for statement in statements))
    else:
        await session.run(one_by_one, options)


async def execute(connection: Connection, script: Script) -> None:
    """Statement by statement, each a simple-protocol message, so that every error has its place in the file."""
    for statement in split(script.text):
        await execute_one(connection, script, statement, statement.text)


async def execute_one(
    connection: Connection, script: Script, statement: Statement, text: str, *, hint: str = ""
) -> None:
    """`text` is the statement, and what is sent along with it."""
    try:
        await connection.execute(text)
    except asyncpg.PostgresError as error:
        raise failed(script, error, statement, hint=hint) from error
    except (asyncpg.InterfaceError, OSError) as error:
        raise translate(error, f"Running {script.path}", closed=connection.is_closed()) from error


async def _explained(
    connection: Connection,
    book: PostgresSchemaVersion,
    script: Script,
    message: Message,
    error: asyncpg.PostgresError,
    doing: str,
) -> MsrError:
    """Which statement was it? The failed transaction still stands and knows."""
    if is_lost(error) or connection.is_closed():
        return translate(error, f"Running {script.path}", closed=connection.is_closed())
    if (position := position_of(error)) is not None:
        if place := message.place(position):
            return failed(script, error, *place)
        return translate(error, doing)
    if isinstance(error, asyncpg.UniqueViolationError) and (refusal := book.refusal(error, doing)):
        return refusal
    at = await _statement_under_way(connection)
    if at is None:
        return ScriptFailed(
            f"the script ran, but its transaction could not be committed: {words(error)}",
            path=script.path,
            hint="A constraint is only checked at the end (DEFERRABLE), or another transaction came in between.",
        )
    if error.sqlstate == _INSUFFICIENT_PRIVILEGE and (refusal := book.refusal(error, doing)):
        await connection.execute("ROLLBACK")
        name = literal(qualified(book.names))
        (answer,) = await ask(
            connection,
            f"SELECT pg_catalog.has_table_privilege({name}, 'INSERT') "
            f"AND pg_catalog.has_table_privilege({name}, 'DELETE') AS may",
        )
        if not answer["may"]:
            return refusal
    if not message.statements:
        return translate(error, doing)
    return failed(script, error, message.statements[at], 0)


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
