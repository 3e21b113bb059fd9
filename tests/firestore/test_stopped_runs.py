"""Runs on Firestore that are stopped in the middle: what the next one finds, and that it comes to its end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from msr_async import Config, MigrationScriptExecutor, RollbackStrategy
from msr_async.config import BackupConfig
from msr_async.firestore import FirestoreHandler
from tests.firestore.opened import found, handler_of
from tests.support.firestore import FirestoreTarget, only_google
from tests.support.processes import Runner, Runners

FILL = """
async def up(db, ctx):
    for number in range(25):
        db.set(ctx.handler.db.document(f"users/{number:02}"), {"visits": 0})
"""
VISITS = """
import asyncio
from google.cloud.firestore import Increment
from msr_async import batches

@batches(size=10)
async def data(db, ctx, batch):
    HERE
    users = ctx.handler.db.collection("users")
    query = users.order_by("__name__").limit(batch.size)
    if batch.cursor is not None:
        query = query.start_after({"__name__": users.document(batch.cursor)})
    found = [user async for user in query.stream(transaction=db)]
    for user in found:
        db.update(user.reference, {"visits": Increment(1)})
    return batch.after(found[-1].id, rows=len(found)) if found else None
"""
SLOW = """
no_transaction = True
import asyncio

async def up(db, ctx):
    async for user in db.collection("users").stream():
        await user.reference.update({"visits": 100})
        await asyncio.sleep(0.2)
"""
HANG = "await asyncio.sleep(60 if batch.number == 2 else 0)"


@pytest.fixture
def runners(tmp_path: Path) -> Iterator[Runners]:
    made = Runners(folder=tmp_path)
    yield made
    made.end_all()


async def visits(target: FirestoreTarget) -> list[int]:
    return [user["visits"] for user in (await found(target, "users")).values()]


def executor_of(handler: FirestoreHandler, tmp_path: Path, **settings: Any) -> MigrationScriptExecutor[Any]:
    config = Config(folder=tmp_path / "migrations", backup=BackupConfig(folder=tmp_path / "backups"), **settings)
    return MigrationScriptExecutor(handler, config)


async def in_the_second_batch(runners: Runners, target: FirestoreTarget) -> Runner:
    runners.write("V202601010001_fill.py", FILL)
    runners.write("V202601010002_visits.py", VISITS.replace("HERE", HANG))
    runner = runners.migrate(target.url)
    with anyio.fail_after(60):
        while sum(await visits(target)) < 10:
            assert runner.running, runner.said
            await anyio.sleep(0.05)
    await anyio.sleep(0.3)
    runners.write("V202601010002_visits.py", VISITS.replace("HERE", "pass"))
    return runner


async def test_after_a_kill_the_next_run_gets_the_lock_and_does_the_rest(
    firestore_target: FirestoreTarget, runners: Runners, tmp_path: Path
) -> None:
    (await in_the_second_batch(runners, firestore_target)).kill()
    async with handler_of(firestore_target, lease=2, heartbeat=0.5) as handler:
        assert await handler.lock.status() is not None
        begun = time.monotonic()
        result = await executor_of(handler, tmp_path, rollback_strategy=RollbackStrategy.NONE).migrate()
        assert [migration.name for migration in result.executed] == ["visits"]
        assert time.monotonic() - begun < 20
        assert await handler.lock.status() is None
    assert await visits(firestore_target) == [1] * 25


@only_google
async def test_who_is_told_to_stop_gives_the_lock_back(
    firestore_target: FirestoreTarget, runners: Runners, tmp_path: Path
) -> None:
    runner = await in_the_second_batch(runners, firestore_target)
    runner.send(signal.SIGTERM)
    assert await anyio.to_thread.run_sync(runner.end) != 0
    assert "Traceback" not in runner.said
    assert await visits(firestore_target) == [1] * 10 + [0] * 15
    async with handler_of(firestore_target) as handler:
        assert await handler.lock.status() is None
        await executor_of(handler, tmp_path, rollback_strategy=RollbackStrategy.NONE, lock_timeout=0).migrate()
    assert await visits(firestore_target) == [1] * 25


async def test_a_cancelled_run_is_put_back(firestore_target: FirestoreTarget, runners: Runners, tmp_path: Path) -> None:
    runners.write("V202601010001_fill.py", FILL)
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.migrate()
        runners.write("V202601010002_slow.py", SLOW)
        task = asyncio.ensure_future(executor.migrate())
        with anyio.fail_after(30):
            while 100 not in await visits(firestore_target):
                await anyio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert await visits(firestore_target) == [0] * 25
        assert len(await handler.schema_version.applied()) == 1
        assert await handler.lock.status() is None
