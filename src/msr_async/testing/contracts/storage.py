"""What a `Storage` promises: whole files or none."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import anyio

from ...errors import BackupNotFound, StorageError
from ...protocols import Storage
from .world import raising

NAME = "backup-20260102T030405Z-0123abcd.msrbak"


class _OwnError(Exception):
    """An error that no storage knows."""


class StorageContract:
    """Subclass it, and give `storage`."""

    def storage(self) -> AbstractAsyncContextManager[Storage]:
        """One where nothing was ever stored; a folder that it needs does not exist yet."""
        raise NotImplementedError

    async def test_what_was_written_is_read_back(self) -> None:
        async with self.storage() as storage:
            pieces = [b"", b"one", b"\0\xff" * 70_000, b"", b"two"]
            await _store(storage, NAME, *pieces)
            whole = b"".join(pieces)
            async with storage.open(NAME) as reader:
                assert reader.size == len(whole)
                assert await reader.read(0, len(whole)) == whole

    async def test_an_empty_file_is_a_file(self) -> None:
        async with self.storage() as storage:
            await _store(storage, NAME)
            async with storage.open(NAME) as reader:
                assert reader.size == 0
                assert await reader.read(0, 10) == b""

    async def test_ranges_are_exact_and_short_only_at_the_end(self) -> None:
        async with self.storage() as storage:
            await _store(storage, NAME, bytes(range(100)))
            async with storage.open(NAME) as reader:
                assert await reader.read(10, 5) == bytes(range(10, 15))
                assert await reader.read(0, 0) == b""
                assert await reader.read(95, 50) == bytes(range(95, 100))
                assert await reader.read(100, 1) == b""
                assert await reader.read(0, 3) == bytes(range(3))

    async def test_ranges_can_be_read_at_once(self) -> None:
        async with self.storage() as storage:
            data = bytes(index % 251 for index in range(50_000))
            await _store(storage, NAME, data)
            got: dict[int, bytes] = {}
            async with storage.open(NAME) as reader:

                async def read(offset: int) -> None:
                    got[offset] = await reader.read(offset, 5000)

                async with anyio.create_task_group() as group:
                    for offset in range(0, 50_000, 5000):
                        group.start_soon(read, offset)
            assert b"".join(got[offset] for offset in sorted(got)) == data

    async def test_a_place_where_nothing_is_yet_lists_nothing_and_has_no_file(self) -> None:
        async with self.storage() as storage:
            assert list(await storage.list()) == []
            with raising(BackupNotFound):
                async with storage.open(NAME):
                    pass
            with raising(BackupNotFound):
                await storage.delete(NAME)

    async def test_a_file_is_not_there_before_it_is_whole(self) -> None:
        async with self.storage() as storage:
            async with storage.create(NAME) as writer:
                await writer.write(b"half")
                assert list(await storage.list()) == []
                with raising(BackupNotFound):
                    async with storage.open(NAME):
                        pass
            assert [file.name for file in await storage.list()] == [NAME]

    async def test_the_listing_is_oldest_first_and_tells_name_path_and_size(self) -> None:
        async with self.storage() as storage:
            names = ["b.msrbak", "a.msrbak", "c.msrbak"]
            for size, name in enumerate(names):
                await _store(storage, name, b"x" * size)
                await anyio.sleep(0.02)
            files = list(await storage.list())
            assert [(file.name, file.size) for file in files] == [(name, size) for size, name in enumerate(names)]
            assert [file.path for file in files] == [storage.path(name) for name in names]
            assert [file.modified for file in files] == sorted(file.modified for file in files)

    async def test_a_failed_block_leaves_nothing_and_the_name_can_be_used_again(self) -> None:
        async with self.storage() as storage:
            with raising(_OwnError):
                async with storage.create(NAME) as writer:
                    await writer.write(b"x" * 100_000)
                    raise _OwnError
            assert list(await storage.list()) == []
            await _store(storage, NAME, b"whole")
            async with storage.open(NAME) as reader:
                assert await reader.read(0, 10) == b"whole"

    async def test_a_cancelled_block_leaves_nothing_and_the_name_can_be_used_again(self) -> None:
        async with self.storage() as storage:
            with anyio.CancelScope() as scope:
                async with storage.create(NAME) as writer:
                    await writer.write(b"x" * 100_000)
                    scope.cancel()
                    await anyio.sleep(60)
            assert scope.cancelled_caught
            assert list(await storage.list()) == []
            await _store(storage, NAME, b"whole")

    async def test_a_taken_name_is_refused_and_the_file_stays(self) -> None:
        async with self.storage() as storage:
            await _store(storage, NAME, b"first")
            with raising(StorageError):
                await _store(storage, NAME, b"second")
            async with storage.open(NAME) as reader:
                assert await reader.read(0, 10) == b"first"
            assert [file.name for file in await storage.list()] == [NAME]

    async def test_a_deleted_file_is_gone(self) -> None:
        async with self.storage() as storage:
            await _store(storage, NAME, b"x")
            await storage.delete(NAME)
            assert list(await storage.list()) == []
            with raising(BackupNotFound):
                await storage.delete(NAME)

    async def test_two_files_are_written_at_once_without_mixing(self) -> None:
        async with self.storage() as storage:

            async def store(name: str, byte: bytes) -> None:
                async with storage.create(name) as writer:
                    for _ in range(20):
                        await writer.write(byte * 10_000)

            async with anyio.create_task_group() as group:
                group.start_soon(store, "a.msrbak", b"a")
                group.start_soon(store, "b.msrbak", b"b")
            for name, byte in (("a.msrbak", b"a"), ("b.msrbak", b"b")):
                async with storage.open(name) as reader:
                    assert await reader.read(0, reader.size) == byte * 200_000

    async def test_a_name_that_leads_elsewhere_is_refused(self) -> None:
        async with self.storage() as storage:
            for name in ("../x.msrbak", "a/b.msrbak", "/x.msrbak", ".hidden", "", "..", "a\0b"):
                with raising(StorageError):
                    await _store(storage, name, b"x")


async def _store(storage: Storage, name: str, *pieces: bytes) -> None:
    async with storage.create(name) as writer:
        for piece in pieces:
            await writer.write(piece)
