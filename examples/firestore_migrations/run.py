"""Run the Firestore migrations beside this file. What fails is undone: the database is put back to what it was.

Environment: MSR_FIRESTORE_PROJECT, and FIRESTORE_EMULATOR_HOST (`host:port`) for an emulator.
"""

import asyncio
import sys
from pathlib import Path

from msr_async import Config, Event, MigrationFailed, MigrationScriptExecutor, MsrError
from msr_async.events import BatchFinished
from msr_async.firestore import FirestoreHandler


def watch(event: Event) -> None:
    if isinstance(event, BatchFinished):
        print(f"batch {event.number}: {event.rows:,} documents", flush=True)


async def main() -> int:
    config = Config(folder=Path(__file__).parent / "migrations")
    config.backup.folder = "backups/firestore"
    try:
        async with FirestoreHandler.from_env() as handler:
            result = await MigrationScriptExecutor(handler, config, observers=[watch]).migrate()
    except MsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3 if isinstance(error, MigrationFailed) else 2
    print("applied:", ", ".join(str(migration) for migration in result.executed) or "nothing was pending")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
