"""The one object that a user awaits: it takes a handler, a `Config` and a storage, and conducts the engine."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Generic, Literal, TypeVar

import anyio
import anyio.to_thread

from ._engine.applying import apply, whoami
from ._engine.dumping import dump
from ._engine.emitting import Emitter
from ._engine.guarding import guard_target
from ._engine.listing import backup_info, backups
from ._engine.loading import load
from ._engine.naming import backup_name, new_token
from ._engine.planning import plan
from ._engine.recovering import Intent, intend, may_have_changed, recover, undisturbed, verdict
from ._engine.restoring import restore
from ._engine.validating import inspector
from ._engine.verifying import opened, read_manifest, verify
from .config import BackupConfig, Config
from .errors import BackupInvalid, BackupNotFound, ConfigError, ValidationFailed
from .events import BackupDeleted, LockWaiting, Observer, Planned, Warned
from .models import (
    AppliedMigration,
    BackupInfo,
    LockInfo,
    Manifest,
    Migration,
    MigrationResult,
    Plan,
    RestoreInfo,
    VerifyInfo,
)
from .observers.log import log_event
from .protocols import Backup, DatabaseMigrationHandler, RestoreOptions, Storage
from .storage.local import LocalStorage

ConnT = TypeVar("ConnT")


@dataclass(frozen=True, kw_only=True)
class _WayBack:
    """The backup that a failed run goes back to, or that it leaves for others."""

    info: BackupInfo
    storage: Storage
    name: str


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
        return LocalStorage(Path(self.config.backup.folder)) if self._storage is None else self._storage

    # -- migrations --------------------------------------------------------------------------------

    async def status(self) -> Plan:
        """What `migrate()` would do, with everything that is wrong; takes no lock, writes nothing."""
        migrations, issues = await load(Path(self.config.folder))
        return plan(
            migrations,
            issues,
            await self.handler.schema_version.applied(),
            self.config,
            inspector(self.handler.inspect),
        )

    async def migrate(self) -> MigrationResult:
        """Apply what is pending. On failure, first put things back as the strategy and the mode say.

        Raises:
            ValidationFailed: something is wrong with the migrations; nothing was touched.
            ConfigError, BackupInvalid, TargetRefused: the way back does not hold; nothing was touched.
            LockNotAcquired: another run did not end in time.
            BackupFailed: no migration was run.
            MigrationFailed: after the recovery, with `.result`; `RecoveryFailed` when that did not succeed.
        """
        started = time.monotonic()
        intent = intend(self.config)
        self._check(intent)
        before = await self.status()
        self._emit(Planned(plan=before))
        _refuse_errors(before)
        if not before.pending:
            return MigrationResult(success=True, duration=time.monotonic() - started)
        existing = await self._existing() if intent.existing else None
        async with self._locked():
            now = await self.status()  # somebody may have run them while we waited
            if now.pending != before.pending:
                self._emit(Planned(plan=now))
            _refuse_errors(now)
            if not now.pending:
                return MigrationResult(success=True, duration=time.monotonic() - started)
            made = await self._make_backup(now.applied, complete=intent.restore) if intent.make_backup else None
            await self.handler.schema_version.ensure()
            by = await anyio.to_thread.run_sync(whoami)
            executed = await self._apply(now.pending, made or existing, started, by)
        kept = await self._tidy(made) if intent.delete_backup else made
        return MigrationResult(
            success=True,
            executed=executed,
            backup=kept.info if kept else None,
            duration=time.monotonic() - started,
        )

    async def _apply(
        self, pending: Sequence[Migration], way_back: _WayBack | None, started: float, by: str
    ) -> tuple[Migration, ...]:
        executed: list[Migration] = []
        try:
            await apply(self.handler, pending, self._emit, executed.append, by=by)
        except GeneratorExit:
            raise  # the loop is gone: nothing can be awaited
        except BaseException as error:
            intent, put_back = intend(self.config), None
            # a named backup is gone back to in any case: it may be from before more than this run
            due = intent.existing or may_have_changed(executed, pending[len(executed)], error)
            if way_back and intent.restore and due:
                put_back = partial(self._restore, way_back.storage, way_back.name, RestoreOptions())
            recovery, cancelled = await undisturbed(
                recover(self.handler, self.config, pending, put_back, error, self._emit)
            )
            result = MigrationResult(
                success=False,
                executed=tuple(executed),
                failed=pending[len(executed)],
                backup=way_back.info if way_back else None,
                restored=recovery.restored,
                undone=recovery.undone,
                duration=time.monotonic() - started,
            )
            if not isinstance(error, Exception):
                # A cancellation is never replaced, so the story goes to the observers.
                stopped = asyncio.CancelledError("The run was cancelled")
                self._emit(Warned(message=str(verdict(self.config, result, stopped, recovery))))
                raise
            failure = verdict(self.config, result, error, recovery)
            if cancelled is not None:
                self._emit(Warned(message=str(failure)))
                raise cancelled from failure
            raise failure from error
        return tuple(executed)

    def _check(self, intent: Intent) -> None:
        if intent.existing and self.config.backup.existing_backup_path is None:
            raise ConfigError(
                "The backup mode is restore_only and no backup is named.", hint="Set backup.existing_backup_path."
            )
        if intent.make_backup or intent.existing or intent.restore:
            self._backup()

    def _backup(self) -> Backup:
        if self.handler.backup is None:
            raise ConfigError(
                f"{self.handler.name} offers no backups, and the settings ask for one.",
                hint="Use the rollback strategy down or none with the backup mode manual.",
            )
        return self.handler.backup

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        def waiting(holder: LockInfo | None, waited: float) -> None:
            self._emit(LockWaiting(holder=str(holder) if holder else "another run", waited=waited))

        lock = self.handler.lock
        if lock is None:
            yield
        else:
            async with lock.hold(timeout=self.config.lock_timeout, waiting=waiting):
                yield

    async def _existing(self) -> _WayBack:
        path = self.config.backup.existing_backup_path
        assert path is not None
        storage, name = await self._locate(path)
        await verify(storage, name, level="full", emit=self._emit)
        manifest, size = await _manifest(storage, name)
        if not manifest.complete:
            raise BackupInvalid(
                f"{path} holds data without a schema, so it cannot undo a migration.",
                hint="Make one with pg_dump at hand, or use another backup.",
            )
        guard_target(
            manifest.source,
            await self.handler.describe(),
            None,
            hint="restore_only goes back without asking: name a backup of this very database.",
        )
        return _WayBack(info=backup_info(storage.path(name), size, manifest), storage=storage, name=name)

    async def _tidy(self, made: _WayBack | None) -> _WayBack | None:
        if made is None:
            return None
        try:
            await made.storage.delete(made.name)
        except Exception as error:
            self._emit(Warned(message=f"The migrations succeeded, and their backup could not be deleted: {error}"))
            return made
        self._emit(BackupDeleted(path=made.info.path))
        return None

    # -- backups -----------------------------------------------------------------------------------

    async def create_backup(self, *, tags: Mapping[str, str] | None = None) -> BackupInfo:
        """Make a backup of one point in time; it appears under its name when all of it is safe.

        Args:
            tags: kept in the backup, beside those of the config.
        """
        applied = await self.handler.schema_version.applied()
        made = await self._make_backup(applied, complete=False, tags=tags)
        return made.info

    async def _make_backup(
        self, applied: Sequence[AppliedMigration], *, complete: bool, tags: Mapping[str, str] | None = None
    ) -> _WayBack:
        config: BackupConfig = replace(self.config.backup, tags={**self.config.backup.tags, **(tags or {})})
        storage = self.storage
        name = backup_name(config, now=datetime.now(UTC), token=new_token())
        info = await dump(
            backup=self._backup(),
            storage=storage,
            name=name,
            config=config,
            source=await self.handler.describe(),
            history=applied,
            complete=complete,
            emit=self._emit,
        )
        return _WayBack(info=info, storage=storage, name=name)

    async def restore_from_backup(
        self,
        backup: str | os.PathLike[str] | None = None,
        *,
        confirm_target: str | None = None,
        owners: bool = True,
        privileges: bool = True,
    ) -> RestoreInfo:
        """Replace what the database holds by a backup's content, under the migration lock.

        Args:
            backup: a path or a `BackupInfo`; the newest complete backup of the storage when left out.
            confirm_target: `<database>@<host>`, where the target guard asks for it.
            owners, privileges: whether to restore who owns what and who may do what.

        Raises:
            BackupNotFound, BackupInvalid: nothing was touched.
            TargetRefused: with the name to give.
            RestoreFailed: the target is as it was, where its database can do that.
        """
        self._backup()
        storage, name = await self._newest() if backup is None else await self._locate(backup)
        manifest, _ = await _manifest(storage, name)
        guard_target(manifest.source, await self.handler.describe(), confirm_target)
        async with self._locked():
            # Once more: what was empty may have been filled while we waited.
            guard_target(manifest.source, await self.handler.describe(), confirm_target)
            return await self._restore(storage, name, RestoreOptions(owners=owners, privileges=privileges))

    async def _restore(self, storage: Storage, name: str, options: RestoreOptions) -> RestoreInfo:
        return await restore(backup=self._backup(), storage=storage, name=name, options=options, emit=self._emit)

    async def list_backups(self) -> list[BackupInfo]:
        """The complete backups of the storage, newest first."""
        return list(await backups(self.storage, emit=self._emit))

    async def inspect_backup(self, backup: str | os.PathLike[str]) -> Manifest:
        """What a backup says of itself."""
        manifest, _ = await _manifest(*await self._locate(backup))
        return manifest

    async def verify_backup(
        self, backup: str | os.PathLike[str] | None = None, *, level: Literal["quick", "full"] = "full"
    ) -> VerifyInfo:
        """Check a backup, the newest one when none is named; a damaged one raises `BackupInvalid`."""
        storage, name = await self._newest() if backup is None else await self._locate(backup)
        return await verify(storage, name, level=level, emit=self._emit)

    async def _newest(self) -> tuple[Storage, str]:
        storage = self.storage
        found = list(await backups(storage, emit=self._emit))
        complete = [info for info in found if info.complete]
        if not complete:
            where = self.config.backup.folder if self._storage is None else "the storage"
            raise BackupNotFound(
                f"There is no complete backup in {where}.", hint="Name one by its path, or make one first."
            )
        if complete[0] is not found[0]:
            self._emit(Warned(message=f"{found[0].path} is newer and holds data without a schema: passed over."))
        return storage, complete[0].path.name

    async def _locate(self, backup: str | os.PathLike[str]) -> tuple[Storage, str]:
        path = Path(backup)
        storage = self.storage
        if _same_place(storage.path(path.name), path):
            return storage, path.name
        # A bare name is looked for here first, as a shell would, and then in the storage.
        if len(path.parts) == 1 and not await anyio.Path(path).is_file():
            return storage, path.name
        return LocalStorage(path.parent), path.name


def _same_place(one: Path, other: Path) -> bool:
    return os.path.abspath(one) == os.path.abspath(other)


async def _manifest(storage: Storage, name: str) -> tuple[Manifest, int]:
    async with opened(storage, name) as reader:
        _, manifest = await read_manifest(reader)
        return manifest, reader.size


def _refuse_errors(decided: Plan) -> None:
    if decided.errors:
        raise ValidationFailed(decided.errors)
