"""Which backups a storage holds."""

from __future__ import annotations

from pathlib import Path

from ..errors import BackupInvalid, StorageError
from ..events import Warned
from ..models import BackupInfo, Manifest
from ..protocols import Storage, StoredFile
from .emitting import Emitter
from .sharing import share
from .verifying import read_manifest

_AT_ONCE = 4


async def backups(storage: Storage, emit: Emitter | None = None) -> list[BackupInfo]:
    """The complete backups that can be read, newest first. Other files are left out, each with a `Warned` event.

    Raises:
        StorageError: when the storage itself cannot be listed.
    """
    found: list[BackupInfo] = []
    tell = emit or Emitter()

    async def look(file: StoredFile) -> None:
        try:
            async with storage.open(file.name) as reader:
                _, manifest = await read_manifest(reader)
        except (BackupInvalid, StorageError) as error:
            tell(Warned(message=f"{file.path} is left out of the list of backups: {error.problem}"))
        else:
            found.append(backup_info(file.path, file.size, manifest))

    await share(await storage.list(), look, workers=_AT_ONCE)
    return sorted(found, key=lambda info: (info.created, info.id), reverse=True)


def backup_info(path: Path, size: int, manifest: Manifest, *, duration: float | None = None) -> BackupInfo:
    """What a user sees of a backup. `duration` in seconds, where it was made just now."""
    return BackupInfo(
        path=path,
        size=size,
        id=manifest.id,
        created=manifest.created,
        parts=manifest.totals.parts,
        rows=manifest.totals.rows,
        raw_bytes=manifest.totals.raw_bytes,
        complete=manifest.complete,
        notes=manifest.notes,
        tags=manifest.tags,
        duration=duration,
        kind=manifest.source.kind,
    )
