"""Our side as a program of its own: `python -m benchmarks.ours backup|restore DSN FILE [CONCURRENCY]`.

Prints one line of JSON: the seconds that imports and each phase took. Python's own start is not among them.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import asyncio  # noqa: E402 - the clock comes before everything else
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from msr_async import BackupConfig, Config, Event, MigrationScriptExecutor  # noqa: E402
from msr_async.events import BackupCreated, Restored, Step, TransferStarted  # noqa: E402
from msr_async.postgres import PostgresHandler  # noqa: E402

_IMPORTED = time.perf_counter()


class Phases:
    """An observer that notes how long each phase lasted."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"imports": _IMPORTED - _BEGUN}
        self._name = "opening"
        self._since = _IMPORTED

    def __call__(self, event: Event) -> None:
        if isinstance(event, TransferStarted):
            self.next("rows" if event.action == "backup" else "opening the restore")
        elif isinstance(event, Step):
            building = self._name == "schema and rows" and event.detail.startswith(("ALTER ", "CREATE "))
            self.next("indexes and constraints" if building else _PHASES.get(event.detail, self._name))
        elif isinstance(event, BackupCreated | Restored):
            self.next("closing")

    def next(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._since
        self._name, self._since = name, now


_PHASES = {
    "checking the backup": "checking the file",
    "rebuilding the schema": "schema and rows",
    "comparing the catalogue with the backup's": "comparing and committing",
    "finishing the file": "finishing the file",
}


async def run(action: str, dsn: str, file: Path, concurrency: int) -> dict[str, float]:
    phases = Phases()
    backup = BackupConfig(folder=file.parent, prefix=file.stem, timestamp=False, concurrency=concurrency)
    async with PostgresHandler(dsn, environment="development") as handler:
        executor = MigrationScriptExecutor(handler, Config(backup=backup), observers=[phases])
        if action == "backup":
            (await executor.create_backup()).path.rename(file)
        else:
            await executor.restore_from_backup(file)
    phases.next("")
    return phases.seconds


if __name__ == "__main__":
    _action, _dsn, _file = sys.argv[1:4]
    _concurrency = int(sys.argv[4]) if len(sys.argv) > 4 else BackupConfig().concurrency
    print(json.dumps(asyncio.run(run(_action, _dsn, Path(_file), _concurrency))))
