"""Replaces what the development database holds by a backup: `python restore_to_development.py [PATH]`.

PATH              the backup; `latest-prod.bkp` in SHARED_FOLDER if left out
DEV_DATABASE_URL  the database that is overwritten
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from msr_async import ConfigError, MigrationScriptExecutor, MsrError, RestoreInfo, TargetRefused
from msr_async.postgres import PostgresHandler


def chosen_backup(arguments: list[str]) -> Path:
    if len(arguments) == 1:
        return Path(arguments[0])
    shared = os.environ.get("SHARED_FOLDER")
    if arguments or not shared:
        raise ConfigError("No backup was named.", hint="Give one path, or set SHARED_FOLDER.")
    return Path(shared, "latest-prod.bkp")


async def restore(path: Path) -> RestoreInfo:
    url = os.environ.get("DEV_DATABASE_URL", "")
    if not url:
        raise ConfigError("DEV_DATABASE_URL is not set.", hint="Set it to postgresql://user:password@host/database.")
    async with PostgresHandler(url, environment="development") as handler:
        executor = MigrationScriptExecutor(handler)
        manifest = await executor.inspect_backup(path)
        target = await handler.describe()
        # A database may always be set back to its own backup, and the label is only what this script says of it.
        if manifest.source.identity == target.identity:
            raise TargetRefused(
                f"DEV_DATABASE_URL names {target.label}, the very database that the backup was made of.",
                hint="Set it to the development database.",
            )
        # Production's roles need not exist here: everything will belong to the role that restores.
        return await executor.restore_from_backup(path, owners=False, privileges=False)


def main() -> int:
    try:
        path = chosen_backup(sys.argv[1:])
        done = asyncio.run(restore(path))
    except MsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"restored: {done.rows:,} rows in {done.parts} parts from {done.path}, {done.duration:.1f} s")
    for warning in done.warnings:
        print(f"warning: {warning}")
    print("The development database now holds production's real data; handle it accordingly.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
