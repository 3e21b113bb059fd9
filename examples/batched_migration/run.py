"""Run the batched migration beside this file, and tell how far it is. Stop it as you like and run it again.

Environment: DATABASE_URL (a database to play with).
"""

import asyncio
import sys
from pathlib import Path

from msr_async import Config, ConfigError, Event, MigrationFailed, MigrationScriptExecutor, RollbackStrategy
from msr_async.events import BatchFinished
from msr_async.postgres import PostgresHandler


def watch(event: Event) -> None:
    if isinstance(event, BatchFinished):
        print(f"batch {event.number}: {event.rows:,} rows, {event.rate:,.0f} rows/s", flush=True)


async def main() -> int:
    config = Config(folder=Path(__file__).parent / "migrations", rollback_strategy=RollbackStrategy.NONE)
    try:
        async with PostgresHandler.from_env() as handler:
            result = await MigrationScriptExecutor(handler, config, observers=[watch]).migrate()
    except (ConfigError, MigrationFailed) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 3 if isinstance(failure, MigrationFailed) else 2
    print("applied:", ", ".join(str(migration) for migration in result.executed) or "nothing was pending")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
