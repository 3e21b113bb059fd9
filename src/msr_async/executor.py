"""The one object that a user awaits: it takes a handler, a `Config` and a storage, and conducts the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from ._engine.emitting import Emitter
from ._engine.intending import intend
from ._engine.loading import Folder, load
from ._engine.surveying import refuse_errors, reviewed, survey
from .config import Config
from .errors import BackupNotFound, ConfigError
from .events import Observer, Planned, Warned
from .models import (
    AppliedMigration,
    BackupInfo,
    Direction,
    Drift,
    ExportInfo,
    Language,
    LockInfo,
    Manifest,
    MigrationResult,
    Plan,
    RepairResult,
    RestoreInfo,
    RestoreMode,
    UnfinishedRestore,
    VerifyInfo,
    Version,
)
from .observers.log import log_event
from .protocols import DatabaseMigrationHandler, Lock, MarkedBackup, RestoreOptions, Storage
from .shielding import in_thread

if TYPE_CHECKING:
    from ._engine.conducting import Conductor

ConnT = TypeVar("ConnT")


class MigrationScriptExecutor(Generic[ConnT]):
    """Backs up, migrates and restores one database.

    Args:
        handler: the database, opened by its `async with`.
        config: what to do and where; it is read at each call.
        storage: where backups rest; the config's backup folder when left out.
        observers: hear the events, after the log under `msr_async`.
    """

    def __init__(
        self,
        handler: DatabaseMigrationHandler[ConnT],
        config: Config | None = None,
        *,
        storage: Storage | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.handler = handler
        self.config = Config() if config is None else config
        self._storage = storage
        self._emit = Emitter((log_event, *observers))

    def __repr__(self) -> str:
        config = self.config
        way = f"{config.rollback_strategy}/{config.backup_mode}"
        return f"<MigrationScriptExecutor {self.handler.name}, {config.folder}, {way}>"

    @property
    def storage(self) -> Storage:
        """Where backups rest."""
        if self._storage is not None:
            return self._storage
        from .storage.local import LocalStorage

        return LocalStorage(Path(self.config.backup.folder))

    @property
    def _conductor(self) -> Conductor[ConnT]:
        # Imported where they are needed, here and below: nothing pending is the usual run, and it needs few of them.
        from ._engine.conducting import Conductor

        return Conductor(self.handler, self.config, lambda: self.storage, self._emit)

    # -- looking: no lock, nothing written, a role that may only read is enough ----------------------

    async def status(self) -> Plan:
        """What is applied, what `migrate()` would do, and everything that is wrong; the history is all that is read."""
        return await survey(self.handler, self.config, await self._files())

    async def plan(self, target: Version | None = None, *, direction: Direction = "up") -> Plan:
        """What `migrate(target)` or `down(target)` would run, in its order, and the review of the scripts."""
        if direction == "down" and target is None:
            raise ConfigError("A way down needs a target.", hint="Name the version to go back to; 0 undoes everything.")
        decided = await survey(self.handler, self.config, await self._files(), direction, target)
        return await reviewed(self.handler, self.config, decided)

    async def validate(self) -> Plan:
        """Everything that can be looked at without running: `plan()`, and whether the schema was changed by hand."""
        return await self._conductor.validated()

    async def drift(self) -> Drift | None:
        """What was changed by hand since the last run; None where that cannot be told."""
        return await self._conductor.drift(await self.handler.schema_version.applied())

    async def lock_status(self) -> LockInfo | None:
        """Who holds the migration lock."""
        return await self._lock().status()

    # -- migrations --------------------------------------------------------------------------------

    async def migrate(self, target: Version | None = None, *, dry_run: bool = False) -> MigrationResult:
        """Apply what is pending. On failure, first put things back as the strategy and the mode say.

        Args:
            target: the last version to apply; all of them when left out.
            dry_run: run everything in one transaction and roll it back. Nothing is backed up.

        Raises:
            ValidationFailed: something is wrong with the migrations; nothing was touched.
            ConfigError, BackupInvalid, TargetRefused: the way back does not hold; nothing was touched.
            LockNotAcquired: another run did not end in time.
            BackupFailed: no migration was run.
            MigrationFailed: after the recovery, with `.result`; `RecoveryFailed` when that did not succeed.
        """
        return await self._run("up", target, dry_run)

    async def down(self, target: Version, *, dry_run: bool = False) -> MigrationResult:
        """Undo what was applied after `target`, newest first; 0 undoes everything.

        A failure is recovered from by the backup, where strategy and mode have one; otherwise what was undone stays
        undone, and the history says exactly that. Raises what `migrate` raises.
        """
        return await self._run("down", target, dry_run)

    async def _run(self, direction: Direction, target: Version | None, dry_run: bool) -> MigrationResult:
        started = time.monotonic()
        path, intent = self.config.backup.existing_backup_path, intend(self.config, direction)
        if intent.existing and path is None and not dry_run:
            raise ConfigError(
                "The backup mode is restore_only and no backup is named.", hint="Set backup.existing_backup_path."
            )
        folder = await self._files()
        before = await survey(self.handler, self.config, folder, direction, target)
        self._emit(Planned(plan=before))
        refuse_errors(before)
        if not before.pending:
            duration = time.monotonic() - started
            return MigrationResult(success=True, direction=direction, dry_run=dry_run, duration=duration)
        existing = await self._locate(path) if intent.existing and path is not None and not dry_run else None
        return await self._conductor.run(folder, before, existing, dry_run=dry_run)

    async def _files(self) -> Folder:
        return await load(Path(self.config.folder))

    async def baseline(self, version: Version) -> tuple[AppliedMigration, ...]:
        """Declare that the database has all migrations up to `version` already: they are recorded and not run.

        Raises:
            ConfigError: there is no such migration, or the history is beyond it.
        """
        return await self._conductor.baseline(version)

    async def repair(self, *, dry_run: bool = False) -> RepairResult:
        """Make the history agree with the files: checksums of changed ones are taken over, missing ones are forgotten.

        No migration is run. The database is not changed but for its history.
        """
        return await self._conductor.repair(dry_run=dry_run)

    async def new(self, name: str, *, language: Language = "sql", down: bool = True) -> tuple[Path, ...]:
        """Write the files of a new migration, newer than all that are there; needs no database.

        Returns:
            Their paths, `up` first.
        """
        from ._engine.starting import start

        return await start(Path(self.config.folder), name, language, down=down)

    async def release_lock(self) -> LockInfo | None:
        """End whoever holds the migration lock, work under way included.

        Returns:
            Who that was; None when nobody held it.
        """
        return await self._lock().release()

    def _lock(self) -> Lock:
        if self.handler.lock is None:
            raise ConfigError(f"{self.handler.name} offers no migration lock.", hint="There is nothing to look at.")
        return self.handler.lock

    # -- backups -----------------------------------------------------------------------------------

    async def create_backup(self, *, tags: Mapping[str, str] | None = None) -> BackupInfo:
        """Make a backup of one point in time; it appears under its name when all of it is safe.

        Args:
            tags: kept in the backup, beside those of the config.
        """
        made = await self._conductor.backups.make(complete=False, tags=tags)
        return made.info

    async def restore_from_backup(
        self,
        backup: str | os.PathLike[str] | None = None,
        *,
        confirm_target: str | None = None,
        owners: bool = True,
        privileges: bool = True,
        mode: RestoreMode = "replace",
    ) -> RestoreInfo:
        """Replace what the database holds by a backup's content, under the migration lock.

        Args:
            backup: a path or a `BackupInfo`; the newest complete backup of the storage when left out.
            confirm_target: `<database>@<host>`, where the target guard asks for it.
            owners, privileges: whether to restore who owns what and who may do what.
            mode: what becomes of what the database holds. `replace`: it becomes what the backup is, and what is not in
                the backup is deleted. The others leave that alone: `overwrite` writes over what both have, `merge`
                writes over the fields that the backup's documents have, `create` adds only what is not there.
                PostgreSQL knows `replace` only.

        Raises:
            BackupNotFound, BackupInvalid: nothing was touched.
            ConfigError: the database has no such mode; nothing was touched.
            RestoreUnfinished: another restore stopped half-way, and this one would leave some of that.
            TargetRefused: with the name to give.
            RestoreFailed: the target is as it was, where its database can do that.
        """
        from ._engine.guarding import guard_target
        from ._engine.keeping import manifest_of

        conductor = self._conductor
        conductor.backups.require()
        storage, name = await self._newest() if backup is None else await self._locate(backup)
        manifest, _size = await manifest_of(storage, name)
        guard_target(manifest.source, await self.handler.describe(), confirm_target)
        async with conductor.locked():
            # Once more: what was empty may have been filled while we waited.
            guard_target(manifest.source, await self.handler.describe(), confirm_target)
            options = RestoreOptions(owners=owners, privileges=privileges, mode=mode)
            return await conductor.backups.restore(storage, name, options)

    async def unfinished_restore(self) -> UnfinishedRestore | None:
        """The restore whose mark stands in the database, under way or cut; None without one, and where a restore is one
        transaction."""
        marked = self.handler.backup
        return await marked.unfinished() if isinstance(marked, MarkedBackup) else None

    async def give_up_restore(self, backup: str) -> UnfinishedRestore | None:
        """Take away the mark of a restore that will not be run again, under the migration lock.

        The database stays as it is: some of it as the backup has it, the rest as it was, and nobody checks it.

        Args:
            backup: the id of that restore's backup, as `unfinished_restore()` says it: the confirmation.

        Returns:
            What was given up; None when there was no mark.

        Raises:
            LockNotAcquired: the restore is still under way.
            RestoreFailed: the mark is of another restore.
        """
        marked = self.handler.backup
        if not isinstance(marked, MarkedBackup):
            raise ConfigError(
                f"A restore of {self.handler.name} leaves no mark.",
                hint="There is nothing to give up: a restore that failed has changed nothing.",
            )
        async with self._conductor.locked():
            return await marked.give_up(backup)

    async def list_backups(self) -> list[BackupInfo]:
        """The complete backups of the storage, newest first."""
        from ._engine.listing import backups

        return list(await backups(self.storage, emit=self._emit))

    async def inspect_backup(self, backup: str | os.PathLike[str]) -> Manifest:
        """What a backup says of itself."""
        from ._engine.keeping import manifest_of

        manifest, _ = await manifest_of(*await self._locate(backup))
        return manifest

    async def verify_backup(
        self, backup: str | os.PathLike[str] | None = None, *, level: Literal["quick", "full"] = "full"
    ) -> VerifyInfo:
        """Check a backup, the newest one when none is named; a damaged one raises `BackupInvalid`."""
        from ._engine.verifying import verify

        storage, name = await self._newest() if backup is None else await self._locate(backup)
        return await verify(storage, name, level=level, emit=self._emit)

    async def export_backup(
        self, backup: str | os.PathLike[str], path: str | os.PathLike[str], *, overwrite: bool = False
    ) -> ExportInfo:
        """Write a backup as lines of JSON, compressed by gzip where the name ends in `.gz`. Firestore's only.

        Raises:
            StorageError: when there is such a file already, unless it may be overwritten.
        """
        from .exchanging import export_to_file

        storage, name = await self._locate(backup)
        return await export_to_file(storage, name, path, overwrite=overwrite, emit=self._emit)

    async def import_backup(self, path: str | os.PathLike[str]) -> BackupInfo:
        """Make a backup in the storage of what `export_backup` wrote, changed by hand or not.

        Raises:
            BackupInvalid: naming the line that is wrong; no backup was made.
        """
        from .exchanging import import_file

        return await import_file(path, storage=self.storage, config=self.config.backup, emit=self._emit)

    async def _newest(self) -> tuple[Storage, str]:
        from ._engine.listing import backups

        storage = self.storage
        found = list(await backups(storage, emit=self._emit))
        complete = [info for info in found if info.complete]
        if not complete:
            where = self.config.backup.folder if self._storage is None else "the storage"
            raise BackupNotFound(
                f"There is no complete backup in {where}.", hint="Name one by its path, or make one first."
            )
        if complete[0] is not found[0]:
            self._emit(Warned(message=f"{found[0].path} is newer and does not hold everything: passed over."))
        return storage, complete[0].path.name

    async def _locate(self, backup: str | os.PathLike[str]) -> tuple[Storage, str]:
        path = Path(backup)
        storage = self.storage
        if _same_place(storage.path(path.name), path):
            return storage, path.name
        # A bare name is looked for here first, as a shell would, and then in the storage.
        if len(path.parts) == 1 and not await in_thread(path.is_file):
            return storage, path.name
        from .storage.local import LocalStorage

        return LocalStorage(path.parent), path.name


def _same_place(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)
