"""Backups as files of JSON lines, and back: which codec speaks for which database, and what stands where."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from ._engine.emitting import Emitter
from ._engine.exporting import Exported, Head, LineCodec, Write, export
from ._engine.importing import import_lines
from ._engine.naming import backup_name, new_token
from .config import BackupConfig
from .errors import BackupNotFound, ConfigError, StorageError
from .models import BackupInfo, ExportInfo, Manifest
from .protocols import Storage
from .shielding import patiently

if TYPE_CHECKING:
    from .storage.local import LocalStorage

_PATIENCE = 30.0
"""Seconds that an export may take, once it is written, to get its name although it is cancelled."""


async def export_to_file(
    storage: Storage, name: str, path: str | os.PathLike[str], *, overwrite: bool, emit: Emitter
) -> ExportInfo:
    """Write a backup as lines of JSON; the file appears when all of it is safe, compressed where its name ends in .gz.

    Raises:
        StorageError: when the file is there already, unless it may be overwritten.
        ConfigError: when the backup is of a kind whose rows have no JSON form.
    """
    started = time.monotonic()
    path = Path(path)
    async with _file(path, overwrite=overwrite) as write:
        done = await export_to(storage, name, write, emit=emit)
    size = (await to_thread.run_sync(path.stat)).st_size
    return ExportInfo(path=path, rows=done.rows, size=size, duration=time.monotonic() - started)


async def export_to(storage: Storage, name: str, write: Write, *, emit: Emitter) -> Exported:
    """Write a backup as lines of JSON, piece by piece."""
    return await export(storage=storage, name=name, codec_of=codec_of, write=write, emit=emit)


async def import_file(
    path: str | os.PathLike[str], *, storage: Storage, config: BackupConfig, emit: Emitter
) -> BackupInfo:
    """Make a backup in the storage of a file that an export wrote.

    Raises:
        BackupInvalid: naming the line that is wrong; no backup was made.
    """
    path = Path(path)
    try:
        async with _local(path).open(path.name) as lines:
            return await import_lines(
                lines=lines,
                path=path,
                storage=storage,
                name=backup_name(config, now=datetime.now(UTC), token=new_token()),
                config=config,
                codec_of=codec_of,
                emit=emit,
            )
    except BackupNotFound:
        raise BackupNotFound(
            f"There is no file {path}.", hint="Give the path of a file that msr-async backup export wrote."
        ) from None


def codec_of(about: Manifest | Head) -> LineCodec:
    """How rows of such a backup are written as lines.

    Raises:
        ConfigError: there is no such way.
    """
    kind = about.source.kind
    if kind == "firestore":
        from .firestore import lines

        return lines
    raise ConfigError(
        f"A backup of {kind} is not exported to JSON lines.",
        hint="A PostgreSQL backup holds SQL and COPY text already: open it by hand, as its README.txt says."
        if kind == "postgresql"
        else "Only backups of Firestore are.",
    )


@asynccontextmanager
async def _file(path: Path, *, overwrite: bool) -> AsyncIterator[Write]:
    """What to write a new file with: it gets its name at the end of the block, if that is a good end."""
    storage = _local(path)
    # Called like a backup, so that what a kill leaves of it is cleared away like that of a backup.
    written = f"{path.name}-{new_token()}.export" if overwrite else path.name
    async with storage.create(written) as file:
        if path.suffix != ".gz":
            yield file.write
        else:
            zipped = zlib.compressobj(wbits=31)

            async def write(data: bytes) -> None:
                await file.write(await to_thread.run_sync(zipped.compress, data))

            yield write
            await file.write(zipped.flush())
    if overwrite:
        await patiently(_PATIENCE, _replace(storage, written, path))


async def _replace(storage: LocalStorage, written: str, path: Path) -> None:
    try:
        await to_thread.run_sync(os.replace, storage.path(written), path)
    except OSError as error:
        await storage.delete(written)
        raise StorageError(f"{path} cannot be overwritten: {error.strerror}.", hint="Choose another file.") from error


def _local(path: Path) -> LocalStorage:
    from .storage.local import LocalStorage

    return LocalStorage(path.parent)
