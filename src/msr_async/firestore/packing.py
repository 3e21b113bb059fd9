"""How many writes go into one request: as many as the server takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from ..errors import RestoreFailed
from .wire import ENCLOSING, written_name

MOST_WRITES = 500
"""Writes in a request. Production took no more for many years, and bigger requests gain nothing."""


class Batch(Struct, frozen=True, kw_only=True):
    """The writes of one request."""

    writes: list[bytes]

    def __len__(self) -> int:
        return len(self.writes)

    def name(self, place: int) -> str:
        """The full name of the document that is written there."""
        return written_name(self.writes[place])

    def only(self, places: Sequence[int]) -> Batch:
        """Those of the writes that stand at these places."""
        return Batch(writes=[self.writes[place] for place in places])


class Packer:
    """Takes writes, each of another document, and gives a batch whenever one is full.

    Args:
        max_bytes: of all writes of a batch, with what encloses each of them.
    """

    def __init__(self, *, max_bytes: int, max_writes: int = MOST_WRITES) -> None:
        self._max_bytes = max_bytes
        self._max_writes = max_writes
        self._writes: list[bytes] = []
        self._size = 0

    def add(self, writes: Iterable[bytes]) -> Iterator[Batch]:
        """Take writes; iterate to the end.

        Yields:
            Batches into which the next write does not fit any more.

        Raises:
            RestoreFailed: a write alone is larger than a batch may be.
        """
        held = self._writes
        for write in writes:
            size = len(write) + ENCLOSING
            if self._size + size > self._max_bytes or len(held) >= self._max_writes:
                if size > self._max_bytes:
                    raise RestoreFailed(
                        f"{written_name(write)} takes {size:,} bytes, and a request may hold {self._max_bytes:,}.",
                        hint="Raise the size of a batch; the database takes documents of 1 MiB and requests of 10 MiB.",
                    )
                if (full := self.rest()) is not None:
                    yield full
                held = self._writes
            held.append(write)
            self._size += size

    def rest(self) -> Batch | None:
        """What is left, at the end."""
        writes = self._writes
        if not writes:
            return None
        self._writes, self._size = [], 0
        return Batch(writes=writes)
