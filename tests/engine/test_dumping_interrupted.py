"""A dump that is cancelled anywhere, or whose process is killed, leaves no backup and nothing in the next one's way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from msr_async._engine.emitting import Emitter
from msr_async._engine.verifying import verify
from msr_async.storage import LocalStorage, local
from tests.support.fake_backup import FakeBackup, make, shop
from tests.support.interruptions import Interruption, Moment, Way, watching


def open_files() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("way", ["task", "scope"])
@pytest.mark.parametrize("moment", ["before", "during", "twice"])
async def test_cancellation_at_every_place_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, moment: Moment
) -> None:
    monkeypatch.setattr(local, "_GATHER", 1)  # every write is a hop to a thread, so that each is a place
    storage = LocalStorage(tmp_path)
    tables = shop(rows=60)

    async def attempt(cancel_at: int) -> tuple[bool, int]:
        interruption = Interruption(cancel_at, way, moment)
        backup = FakeBackup(tables, piece=2000, at=interruption.at)
        with watching(interruption, monkeypatch):
            cancelled = await interruption.run(lambda: make(backup, storage))
        assert backup.open == 0
        return cancelled, interruption.passed

    completed, total = await attempt(-1)
    assert not completed
    assert total > 50
    (tmp_path / "b.msrbak").unlink()
    files = open_files()
    ends: list[bool] = []
    for cancel_at in range(total):
        cancelled, _ = await attempt(cancel_at)
        left = [path.name for path in tmp_path.iterdir()]
        assert left == [], f"place {cancel_at} of {total}"
        ends.append(cancelled)
    assert all(ends)
    assert open_files() <= files


_CHILD = """
import sys, threading, anyio
from msr_async.storage import LocalStorage
from tests.support.fake_backup import FakeBackup, make

stop_at = int(sys.argv[2])
reached = 0

async def at(point):
    global reached
    reached += 1
    if reached == stop_at:
        print("there", flush=True)
        await anyio.sleep(60)

rows = [b"%d\\t%s" % (number, bytes(str(hash(str(number))), "ascii") * 20) for number in range(8000)]
backup = FakeBackup({"orders": rows, "items": rows}, piece=50_000, at=at)
anyio.run(lambda: make(backup, LocalStorage(sys.argv[1])))
"""


@pytest.mark.parametrize("stop_at", [1, 20, 120])
async def test_a_killed_process_leaves_no_backup_and_the_next_one_is_not_in_its_way(
    tmp_path: Path, stop_at: int
) -> None:
    """The same name is used again on purpose: random names would hide that an unfinished file blocks it."""
    command = [sys.executable, "-c", _CHILD, str(tmp_path), str(stop_at)]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else runs in this loop
        command,
        stdout=subprocess.PIPE,
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])},
    ) as child:
        watchdog = threading.Timer(60, child.kill)
        watchdog.start()
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
        watchdog.cancel()
    assert [path.name for path in tmp_path.iterdir()] == ["b.msrbak.partial"]
    storage = LocalStorage(tmp_path)
    assert await storage.list() == []
    await make(FakeBackup(shop()), storage)
    assert [path.name for path in tmp_path.iterdir()] == ["b.msrbak"]
    await verify(storage, "b.msrbak", level="full", emit=Emitter())
