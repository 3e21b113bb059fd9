"""Suites of the protocols' promises. A backend or a storage takes one over by subclassing it in its tests:

    class TestMyHandler(HandlerContract[MyConnection]):
        def world(self) -> AbstractAsyncContextManager[World[MyConnection]]:
            return my_world()

`HandlerContract` and `BackupContract` are for a database with scripts in a language of its own, a schema, and restores
that happen as a whole. A backend that lacks some of this takes over what it does promise: `RunContract`,
`BookContract`, `LockContract`, `ScriptContract`, `SchemaContract`, and `MarkedRestoreContract` in `BackupContract`'s
place.

The methods are plain `async def test_...` without fixtures, so any runner of asynchronous tests can collect them.
"""

from __future__ import annotations

from .backup import BackupContract
from .book import BookContract
from .handler import HandlerContract
from .lock import LockContract
from .marked_restore import MarkedRestoreContract
from .round_trip import RoundTripContract
from .run import RunContract
from .schema import SchemaContract
from .script import ScriptContract
from .storage import StorageContract
from .world import MemoryWorld, World, memory_world

__all__ = [
    "BackupContract",
    "BookContract",
    "HandlerContract",
    "LockContract",
    "MarkedRestoreContract",
    "MemoryWorld",
    "RoundTripContract",
    "RunContract",
    "SchemaContract",
    "ScriptContract",
    "StorageContract",
    "World",
    "memory_world",
]
