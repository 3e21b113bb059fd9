"""The database in memory and the local storage keep what the protocols promise."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from msr_async import LocalStorage, Storage
from msr_async.testing import MemoryConnection
from msr_async.testing.contracts import BackupContract, HandlerContract, StorageContract, World, memory_world


class TestMemoryHandler(HandlerContract[MemoryConnection]):
    def world(self) -> AbstractAsyncContextManager[World[MemoryConnection]]:
        return memory_world()


class TestMemoryBackup(BackupContract[MemoryConnection]):
    def world(self) -> AbstractAsyncContextManager[World[MemoryConnection]]:
        return memory_world()


class TestLocalStorage(StorageContract):
    @asynccontextmanager
    async def storage(self) -> AsyncIterator[Storage]:
        with tempfile.TemporaryDirectory() as folder:
            yield LocalStorage(Path(folder, "not", "there", "yet"))
