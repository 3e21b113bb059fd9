"""A storage around a storage that fails where a test wants it to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from msr_async.protocols import Storage, StorageReader, StorageWriter, StoredFile


class FaultyStorage:
    """`before` is awaited before each call with its name: `create`, `write`, `publish`, `open`, `read`, ..."""

    def __init__(self, storage: Storage, before: Callable[[str], Awaitable[None]]) -> None:
        self._storage = storage
        self._before = before

    @asynccontextmanager
    async def create(self, name: str, /) -> AsyncIterator[StorageWriter]:
        await self._before("create")
        async with self._storage.create(name) as writer:
            yield _Writer(writer, self._before)
            await self._before("publish")

    @asynccontextmanager
    async def open(self, name: str, /) -> AsyncIterator[StorageReader]:
        await self._before("open")
        async with self._storage.open(name) as reader:
            yield _Reader(reader, self._before)

    def path(self, name: str, /) -> Path:
        return self._storage.path(name)

    async def list(self) -> Sequence[StoredFile]:
        await self._before("list")
        return await self._storage.list()

    async def delete(self, name: str, /) -> None:
        await self._before("delete")
        await self._storage.delete(name)


class _Writer:
    def __init__(self, writer: StorageWriter, before: Callable[[str], Awaitable[None]]) -> None:
        self._writer = writer
        self._before = before

    async def write(self, data: bytes, /) -> None:
        await self._before("write")
        await self._writer.write(data)


class _Reader:
    def __init__(self, reader: StorageReader, before: Callable[[str], Awaitable[None]]) -> None:
        self._reader = reader
        self._before = before

    @property
    def size(self) -> int:
        return self._reader.size

    async def read(self, offset: int, length: int, /) -> bytes:
        await self._before("read")
        return await self._reader.read(offset, length)
