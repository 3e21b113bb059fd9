"""Whether what a restore leaves may have another shape than the history beside it says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from ..errors import ConnectionFailed, ConnectionLost, DatabaseError
from ..models import AppliedMigration

History = Callable[[], Awaitable[Sequence[AppliedMigration]]]
_MOST_NAMED = 5


async def warnings_of(backup: Sequence[AppliedMigration], target: History) -> tuple[str, ...]:
    """For a restore after which the target holds documents of its own beside the backup's, or its own history.

    Args:
        target: reads the history that the target has before the restore.
    """
    try:
        own = await target()
    except (ConnectionFailed, ConnectionLost):
        raise
    except DatabaseError as error:
        return (f"The database's history was not compared with the backup's: {error.problem}",)
    told = disagreement(backup, own)
    return (told,) if told else ()


def disagreement(backup: Sequence[AppliedMigration], target: Sequence[AppliedMigration]) -> str:
    """In words; empty when both have the same migrations."""
    theirs, own = {line.id for line in backup}, {line.id for line in target}
    if theirs == own:
        return ""
    sides = [
        f"only in {where}: {_named([line for line in lines if line.id not in other])}"
        for where, lines, other in (("the backup's history", backup, own), ("the database's", target, theirs))
        if {line.id for line in lines} - other
    ]
    return (
        "The backup and the database had other migrations applied, and not everything was replaced by the backup "
        f"({'; '.join(sides)}): some documents may have another shape than the history now says."
    )


def _named(lines: Sequence[AppliedMigration]) -> str:
    more = f" and {len(lines) - _MOST_NAMED} more" if len(lines) > _MOST_NAMED else ""
    return ", ".join(map(str, lines[:_MOST_NAMED])) + more
