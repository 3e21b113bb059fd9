"""The backups of a run: the one it makes, the one it was named, and what becomes of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Generic, TypeVar

from msgspec import Struct

from ..config import BackupConfig, Config
from ..errors import BackupInvalid, ConfigError, words_of
from ..events import BackupDeleted, Warned
from ..models import BackupInfo, Manifest, RestoreInfo
from ..protocols import Backup, DatabaseMigrationHandler, RestoreOptions, Storage
from .emitting import Emitter
from .guarding import guard_target
from .naming import backup_name, new_token

# Imported where they are needed: what reads and writes backups. Many runs make none.

ConnT = TypeVar("ConnT")


class WayBack(Struct, frozen=True, kw_only=True):
    """The backup that a failed run goes back to, or that it leaves for others."""

    info: BackupInfo
    storage: Storage
    name: str


class Keeper(Generic[ConnT]):
    """Makes, checks, restores and deletes backups of one database."""

    def __init__(
        self, handler: DatabaseMigrationHandler[ConnT], config: Config, storage: Callable[[], Storage], emit: Emitter
    ) -> None:
        self._handler = handler
        self._config = config
        self._storage = storage
        self._emit = emit

    async def make(self, *, complete: bool, tags: Mapping[str, str] | None = None) -> WayBack:
        """Make one in the storage, under a new name."""
        from .dumping import dump

        settings, storage = self._config.backup, self._storage()
        config: BackupConfig = dataclasses.replace(settings, tags={**settings.tags, **(tags or {})})
        name = backup_name(config, now=datetime.now(UTC), token=new_token())
        info = await dump(
            backup=self.backup,
            storage=storage,
            name=name,
            config=config,
            source=await self._handler.describe(),
            complete=complete,
            emit=self._emit,
        )
        return WayBack(info=info, storage=storage, name=name)

    async def restore(self, storage: Storage, name: str, options: RestoreOptions) -> RestoreInfo:
        """Put one back; the caller holds the lock."""
        from .restoring import restore

        return await restore(backup=self.backup, storage=storage, name=name, options=options, emit=self._emit)

    def require(self) -> None:
        """Raises:
        ConfigError: when the database offers no backups.
        """
        _ = self.backup

    @property
    def backup(self) -> Backup:
        """Raises:
        ConfigError: when the database offers none.
        """
        if self._handler.backup is None:
            raise ConfigError(
                f"{self._handler.name} offers no backups, and the settings ask for one.",
                hint="Use the rollback strategy down or none with the backup mode manual.",
            )
        return self._handler.backup

    async def named(self, storage: Storage, name: str) -> WayBack:
        """The backup that `restore_only` names, checked from end to end."""
        from .listing import backup_info
        from .verifying import verify

        path = storage.path(name)
        await verify(storage, name, level="full", emit=self._emit)
        manifest, size = await manifest_of(storage, name)
        if not manifest.complete:
            raise BackupInvalid(
                f"{path} does not hold everything, so it cannot undo a migration.",
                hint="Make one with pg_dump at hand, or use another backup.",
            )
        guard_target(
            manifest.source,
            await self._handler.describe(),
            None,
            hint="restore_only goes back without asking: name a backup of this very database.",
        )
        return WayBack(info=backup_info(path, size, manifest), storage=storage, name=name)

    async def tidy(self, made: WayBack | None) -> WayBack | None:
        """Delete a run's own backup after its success; what is left of it, when that fails."""
        if made is None:
            return None
        try:
            await made.storage.delete(made.name)
        except Exception as error:
            self._emit(
                Warned(message=f"The migrations succeeded, and their backup could not be deleted: {words_of(error)}")
            )
            return made
        self._emit(BackupDeleted(path=made.info.path))
        return None


async def manifest_of(storage: Storage, name: str) -> tuple[Manifest, int]:
    """What a backup says of itself, and its size."""
    from .verifying import opened, read_manifest

    async with opened(storage, name) as reader:
        _, manifest = await read_manifest(reader)
        return manifest, reader.size
