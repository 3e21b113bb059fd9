"""How long a plan of many files takes: `python -m benchmarks.migrations.planning pending|record|applied DSN FOLDER`.

`pending` plans on an empty history, `record` then writes a line for each file, `applied` plans again: each in a process
of its own, so that nothing is remembered from one to the next. Prints one line of JSON with the seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

from msr_async import BackupMode, Config, MigrationScriptExecutor, RollbackStrategy
from msr_async.models import AppliedMigration, Plan
from msr_async.postgres import PostgresHandler
from msr_async.postgres.driver import Connection
from msr_async.protocols import WorkOptions


async def run(action: str, dsn: str, folder: str) -> dict[str, float]:
    config = Config(folder=folder, rollback_strategy=RollbackStrategy.NONE, backup_mode=BackupMode.MANUAL)
    async with PostgresHandler(dsn) as handler:
        await handler.check_connection()
        started = time.perf_counter()
        plan = await MigrationScriptExecutor(handler, config).status()
        told = {"seconds": time.perf_counter() - started, "pending": len(plan.pending), "applied": len(plan.applied)}
        if action == "record":
            await _record(handler, plan)
    return told


async def _record(handler: PostgresHandler, plan: Plan) -> None:
    async def work(connection: Connection) -> None:
        await handler.schema_version.ensure(connection)
        for migration in plan.pending:
            entry = AppliedMigration(
                version=migration.version,
                name=migration.name,
                checksum=migration.checksum,
                applied_at=datetime.now(UTC),
                duration=0.0,
                applied_by="benchmark",
            )
            await handler.schema_version.record(connection, entry)

    await handler.run(work, WorkOptions())


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(*sys.argv[1:4]))))
