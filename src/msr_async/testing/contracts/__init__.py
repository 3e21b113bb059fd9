"""Suites of the protocols' promises. A backend or a storage takes one over by subclassing it in its tests:

    class TestMyHandler(HandlerContract[MyConnection]):
        def world(self) -> AbstractAsyncContextManager[World[MyConnection]]:
            return my_world()

The methods are plain `async def test_...` without fixtures, so any runner of asynchronous tests can collect them.
"""

from __future__ import annotations

from .backup import BackupContract
from .handler import HandlerContract
from .storage import StorageContract
from .world import MemoryWorld, World, memory_world

__all__ = ["BackupContract", "HandlerContract", "MemoryWorld", "StorageContract", "World", "memory_world"]
