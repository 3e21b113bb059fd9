"""Backups in a folder: written under a temporary name, synced, and only then given their own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiofiles
from aiofiles.threadpool.binary import AsyncBufferedIOBase
from anyio import to_thread

from ..errors import BackupNotFound, StorageError
from ..protocols import StorageReader, StorageWriter, StoredFile
from ..shielding import patiently
from .unfinished import ENDING, open_unfinished, publish, remove, remove_old, sync_file, sync_folder, translated

_GATHER = 1024 * 1024
"""Bytes that are gathered before a write, so that small tables do not cost a hop to a thread each."""
_WRITE_BACK = 8 * 1024 * 1024
"""Bytes after which the disk is told to begin: at 100 MiB/s the last sync took 0.1 s then, up to 0.7 s otherwise.
`fdatasync` in its place, which waits, took 1.6 s for 400 MiB at full speed against 1.0 s."""
_PATIENCE = 30.0
"""Seconds that a step which must not be cut may go on after a cancellation."""


class LocalStorage:
    """Files in one folder. `mode` is the permission bits of a new backup, whatever the umask says."""

    def __init__(self, folder: str | os.PathLike[str], *, mode: int = 0o600) -> None:
        self._folder = Path(folder).expanduser().absolute()  # a later chdir must not move it
        self._mode = mode

    def __repr__(self) -> str:
        return f"<LocalStorage {self._folder}>"

    @property
    def folder(self) -> Path:
        return self._folder

    def path(self, name: str, /) -> Path:
        """Where the file stands, or will.

        Raises:
            StorageError: for a name that is not one plain file name.
        """
        return self._folder / _checked(name)

    def create(self, name: str, /) -> AbstractAsyncContextManager[StorageWriter]:
        """Write a new file; it appears under its name when the block ends well, and else leaves nothing behind.

        Raises:
            StorageError: when the name is taken or the folder cannot be used.
            StorageFull: from `write` or at the end of the block, when there is no room.
        """
        return self._create(self.path(name))

    def open(self, name: str, /) -> AbstractAsyncContextManager[StorageReader]:
        """Read a file in pieces.

        Raises:
            BackupNotFound: when there is no such file.
        """
        return self._open(self.path(name))

    async def list(self) -> Sequence[StoredFile]:
        """Complete files only, newest last; a folder that does not exist yet is empty."""
        try:
            return await to_thread.run_sync(_listed, self._folder)
        except OSError as error:
            raise translated(error, "list", self._folder) from error

    async def delete(self, name: str, /) -> None:
        """Remove a file for good.

        Raises:
            BackupNotFound: when there is no such file.
        """
        path = self.path(name)
        try:
            await to_thread.run_sync(_deleted, path)
        except FileNotFoundError as error:
            raise _not_found(path) from error
        except OSError as error:
            raise translated(error, "delete", path) from error

    @asynccontextmanager
    async def _create(self, final: Path) -> AsyncIterator[_Writer]:
        writer = _Writer(final, self._mode)
        try:
            await patiently(_PATIENCE, writer.open())
            yield writer
            await writer.sync()
            # A cancelled publication is waited for and then taken back: the caller must not find a backup it never got.
            await patiently(_PATIENCE, writer.publish())
        except BaseException:
            await patiently(_PATIENCE, writer.discard())
            raise

    @asynccontextmanager
    async def _open(self, path: Path) -> AsyncIterator[_Reader]:
        reader = _Reader(path)
        try:
            await patiently(_PATIENCE, reader.open())
            yield reader
        finally:
            await patiently(_PATIENCE, reader.close())


class _Writer:
    def __init__(self, final: Path, mode: int) -> None:
        self._final = final
        self._partial = final.with_name(final.name + ENDING)
        self._mode = mode
        self._file: AsyncBufferedIOBase | None = None
        self._descriptor = -1
        self._gathered: list[bytes] = []
        self._gathered_size = 0
        self._written = 0
        self._begun = 0
        self._whole = True
        self._published = False

    async def open(self) -> None:
        try:
            await to_thread.run_sync(_prepared, self._final, abandon_on_cancel=True)
            self._file = await aiofiles.open(self._partial, "wb", opener=self._opener)
        except FileExistsError as error:
            if error.filename == str(self._partial):
                raise StorageError(
                    f"{self._final.name} is being written by another process.", hint="Wait for it, or use another name."
                ) from error
            raise translated(error, "create", self._final) from error
        except OSError as error:
            raise translated(error, "create", self._final) from error

    def _opener(self, path: str, _flags: int) -> int:
        self._descriptor = open_unfinished(Path(path), self._mode)
        return self._descriptor

    async def write(self, data: bytes, /) -> None:
        """Append. Small pieces are gathered, so a lack of room may show at a later write or at the end."""
        if not self._whole:
            raise StorageError(f"An earlier write to {self._final} failed.", hint="Begin a new backup.")
        self._gathered.append(data)
        self._gathered_size += len(data)
        if self._gathered_size >= _GATHER:
            await self._flush()

    async def _flush(self) -> None:
        assert self._file is not None
        pieces, self._gathered = self._gathered, []
        self._written += self._gathered_size
        self._gathered_size = 0
        # A write that was cancelled may have been done in part: from here on the file is whole only if we come back.
        self._whole = False
        try:
            await self._file.writelines(pieces)
            if self._written - self._begun >= _WRITE_BACK:
                await to_thread.run_sync(_begin_write_back, self._descriptor, self._begun, self._written - self._begun)
                self._begun = self._written
        except OSError as error:
            raise translated(error, "write", self._final) from error
        self._whole = True

    async def sync(self) -> None:
        """Bring everything to the disk. May take as long as the disk needs, and may be cancelled."""
        if not self._whole:
            raise StorageError(f"An earlier write to {self._final} failed.", hint="Begin a new backup.")
        assert self._file is not None
        await self._flush()
        try:
            await self._file.flush()
            await to_thread.run_sync(sync_file, self._descriptor)
        except OSError as error:
            raise translated(error, "write", self._final) from error

    async def publish(self) -> None:
        try:
            await to_thread.run_sync(publish, self._partial, self._final, abandon_on_cancel=True)
        except OSError as error:
            raise translated(error, "create", self._final) from error
        self._published = True
        await self.close()

    async def discard(self) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # the error that brought us here is the one to tell
            await to_thread.run_sync(remove, self._partial, abandon_on_cancel=True)
            if self._published:
                await to_thread.run_sync(remove, self._final, abandon_on_cancel=True)
        await self.close()

    async def close(self) -> None:
        """Waits for a write whose awaiting was cancelled: the buffered file has a lock of its own."""
        if self._file is not None:
            with suppress(OSError):
                await self._file.close()


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    async def open(self) -> None:
        try:
            await to_thread.run_sync(self._opened, abandon_on_cancel=True)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise _not_found(self._path) from error
        except OSError as error:
            raise translated(error, "read", self._path) from error

    def _opened(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not hang us
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "not a regular file", str(self._path))
        self._size = status.st_size

    async def read(self, offset: int, length: int, /) -> bytes:
        try:
            return await to_thread.run_sync(_read, self._descriptor, offset, length)
        except OSError as error:
            raise translated(error, "read", self._path) from error

    async def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            await to_thread.run_sync(os.close, descriptor, abandon_on_cancel=True)


def _checked(name: str) -> str:
    plain = bool(name) and not set(name) & set("/\\\0") and not name.startswith(".") and not name.endswith(ENDING)
    if not plain:
        raise StorageError(
            f"{name!r} cannot be the name of a backup file.",
            hint=f"Give a plain file name: no folder in it, not starting with a dot, not ending in {ENDING}.",
        )
    return name


def _prepared(final: Path) -> None:
    """Make the folder if it is missing, readable for its owner alone, and see that the name is free."""
    folder = final.parent
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)
        except FileExistsError:
            if not folder.is_dir():  # else another process made it just now
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
    remove_old(folder)
    if os.path.lexists(final):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(final))


def _listed(folder: Path) -> list[StoredFile]:
    files: list[tuple[int, StoredFile]] = []
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return []
    with entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.endswith(ENDING):
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:  # deleted while we look
                continue
            except OSError:
                if entry.is_symlink():  # one that leads nowhere says nothing of the folder
                    continue
                raise
            if stat.S_ISREG(status.st_mode):
                stored = StoredFile(
                    name=entry.name, path=Path(entry.path), size=status.st_size, modified=status.st_mtime
                )
                files.append((status.st_mtime_ns, stored))
    files.sort(key=lambda item: (item[0], item[1].name))
    return [stored for _, stored in files]


def _deleted(path: Path) -> None:
    os.unlink(path)
    with suppress(OSError):  # the file is gone; that it stays gone after a power cut matters less
        sync_folder(path.parent)


def _begin_write_back(descriptor: int, offset: int, length: int) -> None:
    advise: Any = getattr(os, "posix_fadvise", None)  # not on macOS
    if advise is not None:
        with suppress(OSError):
            advise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def _read(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) == length:
        return data
    pieces = [data]
    while data and (missing := length - sum(map(len, pieces))):
        data = os.pread(descriptor, missing, offset + length - missing)
        pieces.append(data)
    return b"".join(pieces)


def _not_found(path: Path) -> BackupNotFound:
    return BackupNotFound(f"There is no backup {path}.", hint="List the backups of the folder, or check the path.")
