"""Copies collections of Firestore from production to development: `python firestore_backup.py [COLLECTION ...]`.

COLLECTION               which ones, each with all that is beneath its documents; all of them if none is named
PROD_PROJECT             the Google Cloud project of production, such as my-app-prod
DEV_PROJECT              that of development
PROD_CREDENTIALS         a service account's file; the machine's own credentials if not set
DEV_CREDENTIALS          the same for development
FIRESTORE_EMULATOR_HOST  `host:port` of an emulator, to try it without Google
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from msr_async import Config, ConfigError, MigrationScriptExecutor, MsrError
from msr_async.firestore import FirestoreHandler


def handler(which: str, environment: str) -> FirestoreHandler:
    """The handler of `PROD` or `DEV`, not connected yet: open it with `async with`."""
    project = os.environ.get(f"{which}_PROJECT", "")
    if not project:
        raise ConfigError(f"{which}_PROJECT is not set.", hint="Set it to the name of a Google Cloud project.")
    return FirestoreHandler(
        project,
        credentials=os.environ.get(f"{which}_CREDENTIALS"),
        emulator=os.environ.get("FIRESTORE_EMULATOR_HOST"),
        environment=environment,
    )


async def copy(collections: Sequence[str]) -> None:
    config = Config()
    config.backup.folder = "backups/firestore"
    config.backup.prefix = "prod-backup"
    config.backup.include = tuple(collections)
    production, development = handler("PROD", "production"), handler("DEV", "development")
    async with production:
        executor = MigrationScriptExecutor(production, config)
        backup = await executor.create_backup(tags={"reason": "copy for development"})
        await executor.verify_backup(backup)
    print(f"backup: {backup.path} ({backup.rows:,} documents, {backup.size:,} bytes)")
    async with development:
        # What the backup's collections hold beyond it is deleted; other collections are not touched.
        done = await MigrationScriptExecutor(development, config).restore_from_backup(backup)
    print(f"restored: {done.rows:,} documents in {done.duration:.1f} s")
    for warning in done.warnings:
        print(f"warning: {warning}")


def main() -> int:
    try:
        asyncio.run(copy(sys.argv[1:]))
    except MsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
