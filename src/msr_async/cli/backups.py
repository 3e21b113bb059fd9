"""`msr-async backup ...`: make, restore, list, look into and check backups."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from anyio import to_thread
from cyclopts import App, Parameter

from ..errors import BackupNotFound, StorageError
from ..models import RestoreMode
from . import documents
from .opening import Injected, opened
from .options import DEFAULTS, Patterns, Shared, Switch, Tags, locate, parse_tags
from .running import Result

if TYPE_CHECKING:
    from .._engine.emitting import Emitter
    from ..storage.local import LocalStorage

backup = App(name="backup", help="Make, restore, list and check backups, and write them as lines of JSON.")


@backup.command
async def create(
    *,
    jobs: int = 4,
    include: Patterns = (),
    exclude: Patterns = (),
    compression_level: int = 1,
    tag: Tags = (),
    output_file: Annotated[Path | None, Parameter(metavar="FILE")] = None,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Make a backup and print its path.

    Parameters
    ----------
    jobs:
        How many parts are dumped at once: one connection each.
    include:
        Tables whose rows to take, such as public.orders or audit.*; the schema is always whole. Collections or
        documents of Firestore with all that is beneath them, such as users, users/alice, users/*/orders.
    exclude:
        What to leave out, in the same way.
    compression_level:
        zstd's level, 1 to 19.
    tag:
        Kept in the backup, such as release=42. May be given several times.
    output_file:
        Write the path there too, and as BACKUP_PATH to $GITHUB_OUTPUT where that is set.
    """
    from .rendering import line

    config = shared.config()
    config.backup.concurrency = jobs
    config.backup.include = include
    config.backup.exclude = exclude
    config.backup.compression_level = compression_level
    config.backup.tags = parse_tags(tag)
    async with opened(shared, config, this) as (executor, _):
        made = await executor.create_backup()
    if output_file is not None:
        _hand_over(made.path, output_file)
    return Result(document=documents.of_backup(made), show=lambda out: line(out, str(made.path)))


@backup.command
async def restore(
    path: Path | None = None,
    /,
    *,
    mode: RestoreMode = "replace",
    confirm_target: Annotated[str | None, Parameter(metavar="NAME")] = None,
    no_owner: Switch = False,
    no_privileges: Switch = False,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Replace what the database holds by what a backup holds.

    PostgreSQL: all of it, or nothing. Firestore has no transaction over a whole database: a restore that stops half-way
    leaves a mark, and the same command, run again, comes to its end; lock release --restore-mark gives it up.

    Parameters
    ----------
    path:
        The backup; without it the newest one in the folder of the backups.
    mode:
        replace deletes what is not in the backup. Firestore only: overwrite leaves it; merge leaves also the fields
        that are not in the backup; create writes only documents that are not there.
    confirm_target:
        The name of the database that may be overwritten, DATABASE@HOST:PORT, where that is asked for: as the refusal
        spells it.
    no_owner:
        Let everything belong to the role that restores.
    no_privileges:
        Leave grants out.
    """
    from .rendering import show_restore

    path = locate(path, shared)
    async with opened(shared, shared.config(), this) as (executor, name):
        done = await executor.restore_from_backup(
            path, confirm_target=confirm_target, owners=not no_owner, privileges=not no_privileges, mode=mode
        )
    return Result(document=documents.of_restore(done), show=lambda out: show_restore(out, done, name))


@backup.command(name="list")
async def list_(*, shared: Shared = DEFAULTS, this: Injected) -> Result:
    """List the complete backups of the folder, newest first. Needs no database."""
    from .._engine.emitting import Emitter
    from .._engine.listing import backups
    from ..storage.local import LocalStorage
    from .rendering import show_backups

    with this.watching() as observers:
        found = await backups(LocalStorage(shared.backups), emit=Emitter(observers))
    return Result(document=documents.of_backups(found), show=lambda out: show_backups(out, found, str(shared.backups)))


@backup.command
async def inspect(path: Path | None = None, /, *, shared: Shared = DEFAULTS, this: Injected) -> Result:
    """Show what a backup says of itself. Needs no database.

    Parameters
    ----------
    path:
        The backup; without it the newest one in the folder of the backups.
    """
    from .._engine.emitting import Emitter
    from .._engine.verifying import opened as opened_file
    from .._engine.verifying import read_documents, read_manifest
    from .rendering import show_manifest

    with this.watching() as observers:
        storage, name = await _place(path, shared, Emitter(observers))
    async with opened_file(storage, name) as reader:
        index, manifest = await read_manifest(reader)
        # PostgreSQL's are the whole schema, and nobody asked for that.
        contents = await read_documents(reader, index, manifest) if manifest.source.kind == "firestore" else {}
        size = reader.size
    where, collections = str(storage.path(name)), documents.collections_in(contents)
    return Result(
        document=documents.of_manifest(manifest, path=where, size=size, collections=collections),
        show=lambda out: show_manifest(out, manifest, path=where, file_size=size, collections=collections),
    )


@backup.command
async def verify(
    path: Path | None = None,
    /,
    *,
    level: Literal["quick", "full"] = "full",
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Check that a backup can be relied on. Needs no database.

    Parameters
    ----------
    path:
        The backup; without it the newest one in the folder of the backups.
    level:
        full reads every byte and checks every hash; quick looks at the list of content and at sizes only.
    """
    from .._engine.emitting import Emitter
    from .._engine.verifying import verify as check
    from .rendering import show_verify

    with this.watching() as observers:
        emit = Emitter(observers)
        storage, name = await _place(path, shared, emit)
        verified = await check(storage, name, level=level, emit=emit)
    return Result(document=documents.of_verify(verified), show=lambda out: show_verify(out, verified))


@backup.command
async def export(
    path: Path,
    /,
    *,
    output: Annotated[Path, Parameter(metavar="FILE", allow_leading_hyphen=True)],
    overwrite: Switch = False,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result | None:
    """Write a backup of Firestore as lines of JSON, one a document. Needs no database.

    Parameters
    ----------
    path:
        The backup.
    output:
        The file to write, compressed by gzip if its name ends in .gz; - is standard output, which then gets the lines
        and nothing else.
    overwrite:
        Replace the file if it is there.
    """
    from .._engine.emitting import Emitter
    from ..exchanging import export_to, export_to_file
    from .rendering import show_export

    with this.watching() as observers:
        emit = Emitter(observers)
        storage, name = await _place(path, shared, emit)
        if output == Path("-"):
            await export_to(storage, name, _to_standard_output, emit=emit)
            return None
        done = await export_to_file(storage, name, output, overwrite=overwrite, emit=emit)
    return Result(document=documents.of_export(done), show=lambda out: show_export(out, done))


@backup.command(name="import")
async def import_(file: Path, /, *, tag: Tags = (), shared: Shared = DEFAULTS, this: Injected) -> Result:
    """Make a backup of what an export wrote, changed by hand or not, and print its path. Needs no database.

    Parameters
    ----------
    file:
        What msr-async backup export wrote.
    tag:
        Kept in the backup, such as why=corrected. May be given several times.
    """
    from .._engine.emitting import Emitter
    from ..exchanging import import_file
    from ..storage.local import LocalStorage
    from .rendering import line

    config = shared.config().backup
    config.tags = parse_tags(tag)
    with this.watching() as observers:
        made = await import_file(file, storage=LocalStorage(shared.backups), config=config, emit=Emitter(observers))
    return Result(document=documents.of_backup(made), show=lambda out: line(out, str(made.path)))


async def _to_standard_output(data: bytes) -> None:
    def write() -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    # Not abandoned when cancelled: what is under way must be out before anything else is said.
    await to_thread.run_sync(write)


async def _place(path: Path | None, shared: Shared, emit: Emitter) -> tuple[LocalStorage, str]:
    """Where a backup stands: its folder as a storage, and its name there."""
    from .._engine.listing import backups
    from ..storage.local import LocalStorage

    path = locate(path, shared)
    if path is not None:
        return LocalStorage(path.parent), path.name
    storage = LocalStorage(shared.backups)
    found = await backups(storage, emit=emit)
    if not found:
        raise BackupNotFound(
            f"There is no backup in {shared.backups}.", hint="Make one with msr-async backup create, or give a path."
        )
    return storage, found[0].path.name


def _hand_over(path: Path, file: Path) -> None:
    """Tell the next step of a pipeline where the backup stands."""
    outputs = os.environ.get("GITHUB_OUTPUT")
    try:
        file.write_text(f"{path}\n", encoding="utf-8")
        if outputs:
            with open(outputs, "a", encoding="utf-8") as steps:
                steps.write(f"BACKUP_PATH={path}\n")
    except OSError as exc:
        raise StorageError(
            f"The backup is complete at {path}, but its path could not be written to {exc.filename}: {exc.strerror}.",
            hint="Give --output-file a place that can be written.",
        ) from exc
