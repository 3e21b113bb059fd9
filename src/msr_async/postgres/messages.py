"""Whole migrations as one message to the server, and back from a place in the message to one in a file. Pure.

Between the statements stand marks: a savepoint, and a setting that says which statement comes next. An error without a
position (a division by zero) leaves its failed transaction standing, and going back to the last savepoint makes the
setting readable again, so that nothing has to be run twice to learn which statement it was.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

from msgspec import Struct

from .kinds import ends_transaction, leaves_traces
from .remembering import remembering
from .statements import Statement, split

MARK = "msr_async"
SETTING = "msr_async.at"
# Each mark is a subtransaction; beyond 64 of them in one transaction every snapshot of others becomes dearer.
_MOST_STATEMENTS = 32
_LONGEST = 1_000_000
# NOTICE: it is there already, skipping; it is not there, skipping; drop cascades to
_TALKATIVE = re.compile(r"\bif\s+(?:not\s+)?exists\b|(?<!delete )(?<!update )\bcascade\b", re.IGNORECASE)
# They care which subtransaction they are in, or would end ours.
_UNMARKABLE = frozenset(("SAVEPOINT", "RELEASE", "ROLLBACK", "COPY"))


class Piece(Struct, frozen=True, kw_only=True, gc=False):
    """A migration: a transaction of its own in the message."""

    begin: str
    statements: tuple[Statement, ...]
    record: str
    """Writes its line of the history, or strikes it out."""


class _Stretch(Struct, frozen=True, kw_only=True, gc=False):
    """Where a piece stands in the message, in characters."""

    statements: tuple[Statement, ...]
    starts: tuple[int, ...]
    """Of the statements."""
    tail: int
    """Where the words after the last of them begin."""


class Place(Struct, frozen=True, kw_only=True):
    piece: int
    statement: Statement | None
    """None for words of ours: of the history's line."""
    into: int = 0
    """How many characters into it."""


class Message(Struct, frozen=True, kw_only=True):
    text: str
    begins: tuple[int, ...]
    """Where each piece begins in `text`."""
    stretches: tuple[_Stretch, ...]

    def place(self, position: int) -> Place:
        """What stands at a character of the message.

        A statement without its end is found to be wrong at the words of ours that follow it.
        """
        piece = max(bisect_right(self.begins, position) - 1, 0)  # before the first stands what its line needs
        here = self.stretches[piece]
        index = bisect_right(here.starts, position) - 1
        if index < 0 or position >= here.tail:
            return Place(piece=piece, statement=None)
        return Place(piece=piece, statement=here.statements[index], into=position - here.starts[index])


def fits(statements: Sequence[Statement], length: int) -> bool:
    """Whether a script of that many characters goes in one message."""
    if len(statements) > _MOST_STATEMENTS or length > _LONGEST or not all(item.closed for item in statements):
        return False
    return len(statements) < 2 or not any(
        statement.words[:1] and (statement.words[0] in _UNMARKABLE or statement.words[:2] == ("SET", "TRANSACTION"))
        for statement in statements
    )


@remembering
def joins(sql: str) -> bool:
    """Whether a script may stand in one message with others.

    Such a one leaves nothing in its session, and the server says nothing of it that should be told of it alone: what
    remains is what triggers say, which nobody can foresee.
    """
    statements = split(sql)
    return (
        fits(statements, len(sql))
        and not any(leaves_traces(statement) or ends_transaction(statement) for statement in statements)
        and not _TALKATIVE.search(sql)
    )


def compose(pieces: Sequence[Piece], own_role: str, first: str = "") -> Message:
    """All pieces one after the other, each as `begin`, its statements with marks between them, and its line.

    Args:
        first: what the lines need in the session; a transaction of its own, so that theirs begin as they would without.
    """
    texts = [f"BEGIN; {first}; COMMIT;\n"] if first else []
    begins: list[int] = []
    stretches: list[_Stretch] = []
    length = sum(map(len, texts))
    for piece in pieces:
        begins.append(length)
        words, starts, tail = _words(piece, own_role, length)
        texts += words
        stretches.append(_Stretch(statements=piece.statements, starts=starts, tail=tail))
        length = tail + len(words[-1])
    return Message(text="".join(texts), begins=tuple(begins), stretches=tuple(stretches))


def _words(piece: Piece, own_role: str, length: int) -> tuple[list[str], tuple[int, ...], int]:
    """The texts of a piece that begins at `length`, where its statements begin, and where the last text does."""
    texts, starts = [f"{piece.begin};\n"], []
    length += len(texts[0])
    for number, statement in enumerate(piece.statements):
        if number:
            released = f"RELEASE SAVEPOINT {MARK}; " if number > 1 else ""
            mark = f"{released}SET LOCAL {SETTING} = '{number}'; SAVEPOINT {MARK};\n"
            texts.append(mark)
            length += len(mark)
        starts.append(length)
        # the statement may end in a comment
        texts.append(f"{statement.text}\n;\n")
        length += len(texts[-1])
    end = f"RELEASE SAVEPOINT {MARK};\n" if len(piece.statements) > 1 else ""
    role = f"{own_role};\n" if any(leaves_traces(statement) for statement in piece.statements) else ""
    texts.append(f"{end}{role}{piece.record};\nCOMMIT;\n")
    return texts, tuple(starts), length
