"""How many writes go into one request: as many as the server takes, and never two of one document."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from ..errors import RestoreFailed
from .wire import batched_size

MOST_WRITES = 500
"""Writes in a request. Production took no more for many years, and bigger requests gain nothing."""


class Batch(Struct, frozen=True, kw_only=True):
    """The writes of one request, with the names of their documents."""

    names: list[str]
    writes: list[bytes]

    def __len__(self) -> int:
        return len(self.writes)

    def only(self, places: Sequence[int]) -> Batch:
        """Those of the writes that stand at these places."""
        return Batch(
            names=[self.names[place] for place in places],
            writes=[self.writes[place] for place in places],
        )


class Packer:
    """Takes one write after the other and gives a batch whenever one is full.

    Args:
        max_bytes: of all writes of a batch, with what encloses each of them.
    """

    def __init__(self, *, max_bytes: int, max_writes: int = MOST_WRITES) -> None:
        self._max_bytes = max_bytes
        self._max_writes = max_writes
        self._names: dict[str, bytes] = {}
        self._size = 0

    def add(self, name: str, write: bytes) -> Batch | None:
        """Take a write.

        Returns:
            The batch before it, when this write does not fit in there any more.

        Raises:
            RestoreFailed: the write alone is larger than a batch may be.
        """
        size = batched_size(write)
        full: Batch | None = None
        names = self._names
        if self._size + size > self._max_bytes or len(names) >= self._max_writes or name in names:
            if size > self._max_bytes:
                raise RestoreFailed(
                    f"{name} takes {size:,} bytes, and a request may hold {self._max_bytes:,}.",
                    hint="Raise the size of a batch; the database takes documents of 1 MiB and requests of 10 MiB.",
                )
            full = self.rest()
        self._names[name] = write
        self._size += size
        return full

    def rest(self) -> Batch | None:
        """What is left, at the end."""
        names = self._names
        if not names:
            return None
        self._names, self._size = {}, 0
        return Batch(names=list(names), writes=list(names.values()))
