"""Ours as a program of its own: `python -m benchmarks.migrations.with_ours DSN FOLDER`.

Like its neighbours it prints one line of JSON: the seconds that the imports took, and those from there to the end.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import asyncio  # noqa: E402 - the clock comes before everything else
import json  # noqa: E402
import sys  # noqa: E402

from msr_async import BackupMode, Config, MigrationScriptExecutor, RollbackStrategy  # noqa: E402
from msr_async.postgres import PostgresHandler  # noqa: E402

_IMPORTED = time.perf_counter()


async def migrate(dsn: str, folder: str) -> None:
    """Everything at its default, but no backup: the others make none."""
    config = Config(folder=folder, rollback_strategy=RollbackStrategy.NONE, backup_mode=BackupMode.MANUAL)
    async with PostgresHandler(dsn) as handler:
        await MigrationScriptExecutor(handler, config).migrate()


if __name__ == "__main__":
    asyncio.run(migrate(*sys.argv[1:3]))
    print(json.dumps({"imports": _IMPORTED - _BEGUN, "inside": time.perf_counter() - _IMPORTED}))
