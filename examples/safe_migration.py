"""Migrates production with a backup to go back to, which is kept whatever happens.

PROD_DATABASE_URL  the database
MIGRATIONS_FOLDER  `migrations` if not set
BACKUP_FOLDER      where backups are kept; `backups/critical` if not set
RELEASE            kept in the backup as a tag; `unknown` if not set

Exit codes, those of the command line: 0 done, 3 a migration failed and the database is as before, 4 putting it back
failed, 2 the migrations must not run, 1 anything else.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import sys

from msr_async import (
    BackupInfo,
    BackupMode,
    Config,
    ConfigError,
    MigrationFailed,
    MigrationResult,
    MigrationScriptExecutor,
    MsrError,
    RecoveryFailed,
    RollbackStrategy,
    ValidationFailed,
)
from production_handler import production_handler


async def migrate() -> MigrationResult:
    config = Config(
        folder=os.environ.get("MIGRATIONS_FOLDER", "migrations"),
        rollback_strategy=RollbackStrategy.BACKUP,
        backup_mode=BackupMode.FULL,
    )
    config.backup.folder = os.environ.get("BACKUP_FOLDER", "backups/critical")
    config.backup.prefix = "pre-migration"
    config.backup.delete_backup = False
    config.backup.tags = {"reason": "pre-migration-safety", "release": os.environ.get("RELEASE", "unknown")}
    async with production_handler() as handler:
        return await MigrationScriptExecutor(handler, config).migrate()


def by_hand(backup: BackupInfo) -> str:
    """The command that goes back to this backup. The address stays a variable: it may hold a password."""
    path = shlex.quote(str(backup.path.absolute()))
    return f'DATABASE_URL="$PROD_DATABASE_URL" msr-async backup restore {path}'


def tell_failure(failure: MigrationFailed) -> None:
    result = failure.result
    print(f"error: {failure}", file=sys.stderr)
    print(f"failed: {result.failed}", file=sys.stderr)
    print(f"applied before it: {', '.join(map(str, result.executed)) or 'none'}", file=sys.stderr)
    print(f"restored: {'yes' if result.restored else 'no'}", file=sys.stderr)
    if result.backup:
        print(f"by hand: {by_hand(result.backup)}", file=sys.stderr)


def main() -> int:
    try:
        result = asyncio.run(migrate())
    except MigrationFailed as failure:
        tell_failure(failure)
        return 4 if isinstance(failure, RecoveryFailed) else 3
    except (ValidationFailed, ConfigError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except MsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"applied: {', '.join(map(str, result.executed)) or 'nothing was pending'}")
    if result.backup:
        print(f"backup: {result.backup.path}")
        print(f"by hand: {by_hand(result.backup)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
