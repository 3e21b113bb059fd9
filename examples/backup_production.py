"""Backs production up, keeps the backup, and copies it to a place that developers can read.

PROD_DATABASE_URL  the database
BACKUP_FOLDER      where backups are kept; `backups/production` if not set
SHARED_FOLDER      where the copy goes, as `latest-prod.bkp`; no copy if not set
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

import anyio.to_thread

from msr_async import BackupInfo, Config, MigrationScriptExecutor, MsrError
from production_handler import production_handler

COPY_NAME = "latest-prod.bkp"


async def back_up() -> BackupInfo:
    config = Config()
    config.backup.folder = os.environ.get("BACKUP_FOLDER", "backups/production")
    config.backup.prefix = "prod-backup"
    config.backup.tags = {"reason": "copy for development"}
    async with production_handler() as handler:
        executor = MigrationScriptExecutor(handler, config)
        backup = await executor.create_backup()
        # Every byte is read back before anybody relies on it.
        await executor.verify_backup(backup)
    return backup


def share(backup: BackupInfo, folder: Path) -> Path:
    """Copy the backup so that a reader of the shared name finds the old copy or the new one, never half of one."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / COPY_NAME
    descriptor, unfinished = tempfile.mkstemp(dir=folder, prefix=f".{COPY_NAME}.")
    try:
        with os.fdopen(descriptor, "wb") as copy, open(backup, "rb") as original:
            shutil.copyfileobj(original, copy, 1024 * 1024)
            copy.flush()
            os.fchmod(copy.fileno(), 0o640)  # it was made readable for its owner alone
            os.fsync(copy.fileno())
        os.replace(unfinished, target)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    return target


async def run() -> None:
    backup = await back_up()
    print(f"backup: {backup.path} ({backup.size:,} bytes, {backup.rows:,} rows, {backup.parts} parts)")
    for note in backup.notes:
        print(f"note: {note}")
    shared = os.environ.get("SHARED_FOLDER")
    if shared:
        copy = await anyio.to_thread.run_sync(share, backup, Path(shared))
        print(f"copy: {copy} ({copy.stat().st_size:,} bytes)")
        print("It holds production's real data: whoever can read the copy can read all of it.")


def main() -> int:
    try:
        asyncio.run(run())
    except (MsrError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
