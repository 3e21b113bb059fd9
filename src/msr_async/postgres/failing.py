"""A server's error about a script, as one that says where in the file."""

from __future__ import annotations

import asyncpg

from ..errors import MsrError, ScriptFailed
from ..models import Script
from .statements import Statement, place
from .translating import is_lost, server_message, translate


def position_of(error: asyncpg.PostgresError) -> int | None:
    """Where in the message that was sent, in characters from 0."""
    position = getattr(error, "position", None)
    return int(position) - 1 if position else None


def failed(
    script: Script, error: asyncpg.PostgresError, statement: Statement, into: int | None = None, *, hint: str = ""
) -> MsrError:
    """The error of one of the script's statements.

    Args:
        into: how many characters into the statement; None means what the error says, sent alone.
    """
    if is_lost(error):
        return translate(error, f"Running {script.path}")
    if into is None:
        into = position_of(error) or 0
    line, column = place(script.text, statement.offset + min(into, len(statement.text)))
    return ScriptFailed(words(error), path=script.path, line=line, column=column, hint=hint)


def words(error: asyncpg.PostgresError) -> str:
    message = server_message(error)
    if context := getattr(error, "context", None):
        message += f" (in {str(context).splitlines()[0]})"
    return message
