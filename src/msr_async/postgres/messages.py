"""A whole migration as one message to the server, and back from a place in the message to one in the file. Pure.

Between the statements stand marks: a savepoint, and a setting that says which statement comes next. An error without a
position (a division by zero) leaves its failed transaction standing, and going back to the last savepoint makes the
setting readable again, so that nothing has to be run twice to learn which statement it was.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from msgspec import Struct

from .kinds import leaves_traces
from .statements import Statement

MARK = "msr_async"
SETTING = "msr_async.at"
# Each mark is a subtransaction; beyond 64 of them in one transaction every snapshot of others becomes dearer.
_MOST_STATEMENTS = 32
_LONGEST = 1_000_000
# They care which subtransaction they are in, or would end ours.
_UNMARKABLE = frozenset(("SAVEPOINT", "RELEASE", "ROLLBACK", "COPY"))


class Message(Struct, frozen=True, kw_only=True):
    text: str
    statements: tuple[Statement, ...]
    starts: tuple[int, ...]
    """Where each of them begins in `text`."""
    tail: int
    """Where the words after the last of them begin."""

    def place(self, position: int) -> tuple[Statement, int] | None:
        """The statement at a character of the message, and how many characters into it; None for the line's words.

        A statement without its end is found to be wrong at the words of ours that follow it.
        """
        index = bisect_right(self.starts, position) - 1
        if index < 0 or position >= self.tail:
            return None
        return self.statements[index], position - self.starts[index]


def fits(statements: Sequence[Statement], length: int) -> bool:
    """Whether a script of that many characters goes in one message."""
    if len(statements) > _MOST_STATEMENTS or length > _LONGEST or not all(item.closed for item in statements):
        return False
    return len(statements) < 2 or not any(
        statement.words[:1] and (statement.words[0] in _UNMARKABLE or statement.words[:2] == ("SET", "TRANSACTION"))
        for statement in statements
    )


def compose(begin: str, statements: Sequence[Statement], own_role: str, record: str) -> Message:
    """`begin`, the statements with marks between them, and the line of the history; all in one transaction."""
    pieces, starts = [f"{begin};\n"], []
    length = len(pieces[0])
    for number, statement in enumerate(statements):
        if number:
            released = f"RELEASE SAVEPOINT {MARK}; " if number > 1 else ""
            mark = f"{released}SET LOCAL {SETTING} = '{number}'; SAVEPOINT {MARK};\n"
            pieces.append(mark)
            length += len(mark)
        starts.append(length)
        # the statement may end in a comment
        pieces.append(f"{statement.text}\n;\n")
        length += len(pieces[-1])
    if len(statements) > 1:
        pieces.append(f"RELEASE SAVEPOINT {MARK};\n")
    if any(leaves_traces(statement) for statement in statements):
        pieces.append(f"{own_role};\n")
    pieces.append(f"{record};\nCOMMIT")
    return Message(text="".join(pieces), statements=tuple(statements), starts=tuple(starts), tail=length)
