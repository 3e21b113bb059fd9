"""Ours as a program of its own: `python -m benchmarks.firestore.with_ours backup|restore ADDRESS PROJECT FILE [N]`.

`N` is the backup's concurrency, and lets it cut the documents into ranges as in production, which it does not do for an
emulator. Prints one line of JSON: the seconds that imports and each phase took, and of CPU until the imports were over.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import asyncio  # noqa: E402 - the clock comes before everything else
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from msr_async import BackupConfig, Config, Event, MigrationScriptExecutor  # noqa: E402
from msr_async.events import BackupCreated, PartProgress, Restored, TransferStarted  # noqa: E402
from msr_async.firestore import FirestoreHandler, dividing  # noqa: E402
from msr_async.firestore.backup import FirestoreBackup  # noqa: E402

_IMPORTED, _START_CPU = time.perf_counter(), time.process_time()


class Phases:
    """An observer that notes when documents began and ended to move."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"imports": _IMPORTED - _BEGUN}
        self._since = _IMPORTED
        self._last = _IMPORTED
        self.parts = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, TransferStarted):
            self.parts = len(event.parts)
            self.ended("opening")
        elif isinstance(event, PartProgress):
            self._last = time.perf_counter()
        elif isinstance(event, BackupCreated | Restored):
            self.ended("documents", self._last)
            self.ended("finishing")

    def ended(self, name: str, at: float | None = None) -> None:
        now = time.perf_counter() if at is None else at
        self.seconds[name] = now - self._since
        self._since = now


class Divided(FirestoreHandler):
    """Reads a server that it is given as an emulator as it would read a real one."""

    @property
    def backup(self) -> FirestoreBackup:
        made = super().backup
        made._most_parts = dividing.MOST
        return made


async def run(action: str, address: str, project: str, file: Path, streams: int | None) -> dict[str, float]:
    phases = Phases()
    handler_of = FirestoreHandler if streams is None else Divided
    concurrency = streams or BackupConfig().concurrency
    backup = BackupConfig(folder=file.parent, prefix=file.stem, timestamp=False, concurrency=concurrency)
    async with handler_of(project, emulator=address, environment="development") as handler:
        executor = MigrationScriptExecutor(handler, Config(backup=backup), observers=[phases])
        if action == "backup":
            (await executor.create_backup()).path.rename(file)
        else:
            await executor.restore_from_backup(file)
    phases.ended("closing")
    return {**phases.seconds, "parts": phases.parts, "start_cpu": _START_CPU}


if __name__ == "__main__":
    _action, _address, _project, _file = sys.argv[1:5]
    _streams = int(sys.argv[5]) if len(sys.argv) > 5 else None
    print(json.dumps(asyncio.run(run(_action, _address, _project, Path(_file), _streams))))
