"""Whether the database holds as many documents as the backup that was restored, in all and in each collection."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from datetime import datetime
from functools import partial

from ..errors import DatabaseError, RestoreFailed
from . import reading
from .asking import side_by_side
from .clients import Clients
from .names import LOCK_COLLECTION

_LIMITS = reading.LIMITS.at_most(60.0)
_MOST_IDS = 100
"""Collection ids that are counted one by one, the largest ones: each is a query, and some have ids by the thousand. The
count of the whole database says of the others whether any document is missing or too much."""
_MOST_GIVEN_UP = 4
"""Counts that were not answered, after which no more are asked for: each may have taken a minute."""
_MOST_NAMED = 10


async def recount(clients: Clients, counts: Mapping[str, int], rows: int) -> tuple[str, ...]:
    """Count, and compare: for a whole database that was replaced, for otherwise nobody knows how many there should be.

    Args:
        counts: documents by collection id, as the backup has them.
        rows: all of them.

    Returns:
        Warnings about what the server could not count: every write had its own status, so nothing is known to be wrong.

    Raises:
        RestoreFailed: there are other numbers of documents.
    """
    asking = _Asking(clients, await reading.now(clients))
    names = sorted(heapq.nlargest(_MOST_IDS, counts, key=counts.__getitem__))
    every = partial(asking.count, None)
    locks = partial(asking.count, LOCK_COLLECTION, at_the_top=True)
    total, internal, *found = await side_by_side([every, locks, *(partial(asking.count, name) for name in names)])
    wrong: list[str] = []
    unsure: list[str] = []
    for name, held in zip(names, found, strict=True):
        if held is not None and name == LOCK_COLLECTION:  # somebody's own, further down, is in the backup
            held = None if internal is None else held - internal
        if held is None:
            unsure.append(name)
        elif held != counts[name]:
            wrong.append(f"{name} holds {held:,} and should hold {counts[name]:,}")
    whole = None if total is None or internal is None else total - internal
    if not wrong and whole is not None and whole != rows:
        wrong.append(f"the database holds {whole:,} and should hold {rows:,}")
    if wrong:
        raise RestoreFailed(
            f"The database does not hold as much as the backup: {_some(wrong, '; ')}.",
            hint="Somebody writes to the database: stop that, and run the same restore again.",
        )
    if whole is None:
        unsure = ["the database as a whole", *unsure]
        if others := len(counts) - len(names):
            unsure.append(f"{others:,} smaller collections")
    if not unsure:
        return ()
    return (
        f"The server could not count what it holds ({asking.word}), so these were not checked against the backup's "
        f"numbers: {_some(unsure, ', ')}. Every write that was sent was confirmed by itself.",
    )


class _Asking:
    """Counts at one moment, None where the server cannot count."""

    def __init__(self, clients: Clients, moment: datetime) -> None:
        self._clients = clients
        self._moment = moment
        self._given_up = 0
        self.word = ""
        """Why the first of them was not counted."""

    async def count(self, collection: str | None, *, at_the_top: bool = False) -> int | None:
        if self._given_up >= _MOST_GIVEN_UP:
            return None
        try:
            return await reading.count(
                self._clients, collection, at_the_top=at_the_top, read_time=self._moment, limits=_LIMITS
            )
        except DatabaseError as error:
            code = reading.code_of(error)
            if code not in reading.NOT_COUNTED:
                raise
            assert code is not None
            self._given_up += 1
            self.word = self.word or code.name
            return None


def _some(lines: list[str], between: str) -> str:
    more = f", and {len(lines) - _MOST_NAMED:,} more" if len(lines) > _MOST_NAMED else ""
    return between.join(lines[:_MOST_NAMED]) + more
