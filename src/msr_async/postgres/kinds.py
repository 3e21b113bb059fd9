"""What kind of statement is it? Told by its first words, as far as a migration has to know. Pure.

Which statements refuse to run in a transaction: the reference page of each command, under "Notes", on
https://www.postgresql.org/docs/current/sql-commands.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..models import Issue, Script
from .remembering import remembering
from .statements import Statement, place, split

_OUTSIDE = frozenset(
    (
        *(("VACUUM",), ("ALTER", "SYSTEM")),
        *(("CREATE", "DATABASE"), ("CREATE", "TABLESPACE"), ("CREATE", "SUBSCRIPTION")),
        *(("DROP", "DATABASE"), ("DROP", "TABLESPACE"), ("DROP", "SUBSCRIPTION")),
    )
)
_DETACH = re.compile(r"\bdetach\s+partition\b.*\bconcurrently\s*$", re.IGNORECASE | re.DOTALL)
_NEW_TABLESPACE = re.compile(r"\bset\s+tablespace\b", re.IGNORECASE)
_SUBSCRIBED = re.compile(r"\b(?:refresh|(?:set|add|drop)\s+publication)\b", re.IGNORECASE)
_NO_REFRESH = re.compile(r"\brefresh\s*=\s*(?:'?(?:false|off|no)\b|0)", re.IGNORECASE)
_WHOLE_CLUSTER = re.compile(r"cluster(?:\s+verbose|\s*\([^()]*\))?\s*$", re.IGNORECASE)
_REINDEX_ALL = re.compile(r"reindex\s*(?:\([^()]*\)\s*)?(?:schema|database|system)\b", re.IGNORECASE)
_REINDEX_CONCURRENTLY = re.compile(
    r"reindex\s*(?:\(([^()]*)\)\s*)?(?:index|table|schema|database|system)\s+(concurrently\b)?", re.IGNORECASE
)
_OPTION_CONCURRENTLY = re.compile(r"\bconcurrently\b(?!\s+'?(?:false|off|no|0)\b)", re.IGNORECASE)
_COPY_TO_CLIENT = re.compile(r"\b(?:from\s+stdin|to\s+stdout)\b", re.IGNORECASE)

_ENDS_TRANSACTION = frozenset(("BEGIN", "START", "COMMIT", "END", "ABORT", "ROLLBACK"))
# what changes nothing but the database itself; a function that a row's trigger calls could, and never does
_TRACELESS = frozenset(
    (
        *("CREATE", "ALTER", "DROP", "COMMENT", "GRANT", "REVOKE", "SECURITY", "REASSIGN", "TRUNCATE", "LOCK"),
        *("INSERT", "UPDATE", "DELETE", "MERGE", "REFRESH", "REINDEX", "CLUSTER", "ANALYZE", "VACUUM", "NOTIFY"),
    )
)
_OF_THE_SESSION = frozenset(("TEMP", "TEMPORARY", "PG_TEMP", "EXTENSION"))


def outside(statement: Statement) -> str:
    """What the statement is called if it refuses to run in a transaction; empty if it does not."""
    words, text = statement.words, statement.text
    first = words[0] if words else ""
    second = words[1] if len(words) > 1 else ""
    if first in ("CREATE", "DROP") and "CONCURRENTLY" in words and "INDEX" in words[1:3]:
        return f"{first} INDEX CONCURRENTLY"
    if (first,) in _OUTSIDE:
        return first
    if (first, second) in _OUTSIDE:
        return f"{first} {second}"
    if first == "REINDEX":
        if _REINDEX_ALL.match(text):
            return "REINDEX of a schema or database"
        return "REINDEX CONCURRENTLY" if reindexes_concurrently(statement) else ""
    if first == "CLUSTER" and _WHOLE_CLUSTER.match(text):
        return "CLUSTER of all tables"
    if first == "ALTER":
        if second == "TABLE" and _DETACH.search(text):
            return "DETACH PARTITION CONCURRENTLY"
        if second == "DATABASE" and _NEW_TABLESPACE.search(text):
            return "ALTER DATABASE SET TABLESPACE"
        if second == "SUBSCRIPTION" and _SUBSCRIBED.search(text) and not _NO_REFRESH.search(text):
            return "ALTER SUBSCRIPTION with a refresh"
    return ""


def reindexes_concurrently(statement: Statement) -> bool:
    match = _REINDEX_CONCURRENTLY.match(statement.text)
    return match is not None and bool(match[2] or (match[1] and _OPTION_CONCURRENTLY.search(match[1])))


@remembering
def any_outside(sql: str) -> bool:
    """Whether one of the statements refuses to run in a transaction."""
    return any(outside(statement) for statement in split(sql))


def needs_no_transaction(script: Script) -> bool:
    """Whether the script must run outside of a transaction: it says so, or one of its statements cannot run inside."""
    return not script.directives.transaction or (script.language == "sql" and any_outside(script.text))


def ends_transaction(statement: Statement, *, begins: bool = True) -> bool:
    """Whether it ends a transaction or, unless `begins` is false, begins one."""
    words = statement.words
    first = words[0] if words else ""
    if first in ("BEGIN", "START"):
        return begins
    return (first in _ENDS_TRANSACTION and not (first == "ROLLBACK" and "TO" in words[1:3])) or (
        words[:2] == ("PREPARE", "TRANSACTION")
    )


def leaves_traces(statement: Statement) -> bool:
    """Whether it may leave something in its session: a setting, a role, a cursor, a temporary table."""
    words = statement.words
    return not words or words[0] not in _TRACELESS or not _OF_THE_SESSION.isdisjoint(words[1:])


def inspect(script: Script) -> Iterator[Issue]:
    """What cannot work in a migration, or works otherwise than it looks, each at its line."""
    text = script.text
    if "\0" in text:
        line, _ = place(text, text.index("\0"))
        yield _issue(script, line, "nul-character", "A NUL character cannot stand in SQL: take it out of the script.")
        return
    statements = split(text)
    for statement in statements:
        if found := _wrong(statement):
            yield _issue(script, place(text, statement.offset)[0], *found)
    if script.directives.transaction and len(statements) > 1:
        alone = next((statement for statement in statements if outside(statement)), None)
        if alone is not None and not all(outside(statement) for statement in statements):
            yield Issue(
                code="mixed-transaction",
                severity="warning",
                message=(
                    f"{outside(alone)} cannot run in a transaction, so this script's statements are committed one by "
                    "one: give it a migration of its own, or say -- msr: no-transaction."
                ),
                path=script.path,
                line=place(text, alone.offset)[0],
            )


def _wrong(statement: Statement) -> tuple[str, str] | None:
    words = statement.words
    if statement.text.startswith("\\"):
        command = statement.text.split()[0]
        return "psql-command", f"{command} is a command of psql, not SQL: take it out of the script."
    if words[:2] == ("PREPARE", "TRANSACTION"):
        return "transaction-control", "PREPARE TRANSACTION cannot be used in a migration."
    if ends_transaction(statement):
        return (
            "transaction-control",
            f"{words[0]} must not stand in a migration: script and history are one transaction, and msr_async runs it.",
        )
    if words[:2] == ("DISCARD", "ALL"):
        return "discard-all", "DISCARD ALL gives up the migration lock: RESET or DROP by name what has to go."
    if words[:1] == ("COPY",) and _COPY_TO_CLIENT.search(statement.text):
        return "copy-stdin", "COPY FROM STDIN and TO STDOUT need a client: use INSERT, or a .py migration."
    return None


def _issue(script: Script, line: int, code: str, message: str) -> Issue:
    return Issue(code=code, severity="error", message=message, path=script.path, line=line)
