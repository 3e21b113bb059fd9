"""How does the history come to agree with the files, without running any? Which lines are written, which struck out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec.structs import replace

from ..errors import ConfigError, ValidationFailed
from ..models import AppliedMigration, RepairResult, Version
from .comparing import by_id, doubles, in_order, is_changed, nearest, versions_of
from .loading import Folder


def baseline(
    folder: Folder, applied: Sequence[AppliedMigration], version: Version, *, now: datetime, by: str, run: str
) -> tuple[AppliedMigration, ...]:
    """The lines that declare a database to have everything up to a version: one for each file not in its history.

    Args:
        now, by, run: when, by whom and by which run, as the lines say it.

    Raises:
        ConfigError: the version is no file's, or the history is beyond it.
        ValidationFailed: a file cannot be read or is there twice, so what the folder holds is not sure.
    """
    _check(folder)
    versions = versions_of(folder.migrations)
    if version not in versions:
        around = nearest(versions, version) or "There are none in the folder."
        what = "no migration at or below" if not versions or version < versions[0] else "no migration"
        raise ConfigError(f"There is {what} {version}.", hint=f"Name the version of a file. {around}")
    beyond = [entry for entry in in_order(applied) if entry.version is not None and entry.version > version]
    if beyond:
        raise ConfigError(
            f"The history is beyond {version} already: {beyond[-1]} is in it.",
            hint="A baseline is for a database that was built without msr_async; see its status.",
        )
    known = {entry.id for entry in applied}
    return tuple(
        AppliedMigration(
            version=migration.version,
            name=migration.name,
            checksum=migration.checksum,
            applied_at=now,
            duration=0.0,
            applied_by=by,
            baseline=True,
            run=run,
        )
        for migration in folder.migrations
        if migration.version is not None and migration.version <= version and migration.id not in known
    )


def repair(folder: Folder, applied: Sequence[AppliedMigration]) -> RepairResult:
    """The lines to write anew, all but the checksum as they were, and those to strike out.

    A repeatable script that was changed is not among them: the next run runs it. Nor is a baseline without files.

    Raises:
        ConfigError: the folder holds no migration, so that the whole history would be struck out.
        ValidationFailed: a file cannot be read or is there twice, so what the folder holds is not sure.
    """
    _check(folder)
    if applied and not folder.migrations:
        raise ConfigError(
            "The folder holds no migrations, and a repair would strike out the whole history.",
            hint="Set the config's folder to where the migrations are.",
        )
    files = by_id(folder.migrations)
    history = in_order(applied)
    return RepairResult(
        rechecksummed=tuple(
            replace(entry, checksum=files[entry.id][0].checksum)
            for entry in history
            if entry.version is not None and entry.id in files and is_changed(entry, files[entry.id])
        ),
        forgotten=tuple(entry for entry in history if entry.id not in files and not entry.baseline),
    )


def _check(folder: Folder) -> None:
    errors = [issue for issue in folder.issues if issue.severity == "error"]
    errors.extend(doubles(by_id(folder.migrations)))
    if errors:
        raise ValidationFailed(errors)
