"""A run that fails after it has destroyed something: afterwards the database is what it was before the run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from msr_async import (
    Config,
    ConnectionLost,
    MigrationFailed,
    MigrationScriptExecutor,
    RecoveryFailed,
    RestoreUnfinished,
)
from msr_async.config import BackupConfig, RollbackStrategy
from msr_async.firestore import FirestoreHandler, marking
from msr_async.firestore.clients import Clients
from msr_async.firestore.names import Home
from tests.support.firestore_carrying import contents

FIRST = """
async def up(db, ctx):
    for number in range(30):
        db.set(ctx.handler.db.document(f"users/{number:02}"), {"name": f"user {number}", "a.b": number})
    db.set(ctx.handler.db.document("users/01/orders/7/lines/1"), {"of": ctx.handler.db.document("users/01")})

async def down(db, ctx):
    pass
"""
GOOD = """
async def up(db, ctx):
    db.update(ctx.handler.db.document("users/05"), {"name": "renamed"})
    db.delete(ctx.handler.db.document("users/06"))

async def down(db, ctx):
    pass
"""
GOOD_OUTSIDE = """
no_transaction = True

async def up(db, ctx):
    await db.document("new/1").set({"made": True})
    await db.document("users/07/orders/1").set({"made": True})

async def down(db, ctx):
    pass
"""
DESTRUCTIVE = """
no_transaction = True

async def up(db, ctx):
    async for snapshot in db.collection("users").limit(20).stream():
        await snapshot.reference.delete()
    await db.document("users/01/orders/7/lines/1").delete()
    await db.document("users/29").set({"name": "overwritten"})
    await db.document("users/29/deep/1/deeper/2").set({"extra": 1})
    raise RuntimeError("half-way")

async def down(db, ctx):
    pass
"""

OVERTAKEN = """
no_transaction = True

async def up(db, ctx):
    other = ctx.handler.other
    await other.lock.release()
    async with other.lock.hold(timeout=5, waiting=lambda holder, seconds: None):
        await other.db.document("theirs/1").set({"made": True})
    raise RuntimeError("half-way")

async def down(db, ctx):
    pass
"""


@pytest.fixture
async def clients(firestore_target: Any) -> AsyncIterator[Clients]:
    """To look at the database with."""
    opened = Clients(Home(project=firestore_target.project, database="(default)"), emulator=firestore_target.address)
    yield opened
    await opened.close()


def write(folder: Path, number: int, name: str, text: str) -> None:
    (folder / f"V20260101000{number}_{name}.py").write_text(text)


def executor_of(handler: FirestoreHandler, tmp_path: Path, **settings: Any) -> MigrationScriptExecutor[Any]:
    config = Config(folder=tmp_path / "migrations", backup=BackupConfig(folder=tmp_path / "backups"), **settings)
    return MigrationScriptExecutor(handler, config)


def handler_of(firestore_target: Any) -> FirestoreHandler:
    return FirestoreHandler(firestore_target.project, emulator=firestore_target.address)


def backups(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "backups").glob("*.msrbak"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "migrations"
    made.mkdir()
    write(made, 1, "first", FIRST)
    return made


async def test_after_a_failed_run_the_database_is_what_it_was_document_for_document(
    firestore_target: Any, clients: Clients, folder: Path, tmp_path: Path
) -> None:
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.migrate()
        assert backups(tmp_path) == []  # a run that went well deletes its own
        before = await contents(clients)
        assert {"users/00", "users/01/orders/7/lines/1", "schema_version/202601010001"} <= before.keys()
        write(folder, 2, "good", GOOD)
        write(folder, 3, "good_outside", GOOD_OUTSIDE)
        write(folder, 4, "destructive", DESTRUCTIVE)
        with pytest.raises(MigrationFailed, match="half-way") as caught:
            await executor.migrate()
        result = caught.value.result
        assert result.restored
        assert [migration.name for migration in result.executed] == ["good", "good_outside"]
        assert await contents(clients) == before
        assert await marking.standing(clients) is None
        assert result.backup is not None
        assert backups(tmp_path) == [result.backup.path]  # what was restored from is kept

        write(folder, 4, "destructive", DESTRUCTIVE.replace('raise RuntimeError("half-way")', "pass"))
        assert (await executor.migrate()).success
        after = await contents(clients)
        assert {"users/29/deep/1/deeper/2", "new/1", "schema_version/202601010004"} <= after.keys()
        assert "users/01/orders/7/lines/1" not in after


async def test_the_backup_of_a_run_that_was_not_restored_brings_it_back_by_hand(
    firestore_target: Any, clients: Clients, folder: Path, tmp_path: Path
) -> None:
    async with handler_of(firestore_target) as handler:
        await executor_of(handler, tmp_path).migrate()
        before = await contents(clients)
        write(folder, 2, "destructive", DESTRUCTIVE)
        executor = executor_of(handler, tmp_path, backup_mode="create_only", rollback_strategy=RollbackStrategy.BACKUP)
        with pytest.raises(MigrationFailed) as caught:
            await executor.migrate()
        assert not caught.value.result.restored
        assert await contents(clients) != before
        assert caught.value.result.backup is not None
        restored = await executor.restore_from_backup(caught.value.result.backup)
        assert restored.rows == len(before)
        assert await contents(clients) == before


async def test_while_a_restore_is_unfinished_nothing_runs_and_the_restore_makes_it_whole(
    firestore_target: Any, clients: Clients, folder: Path, tmp_path: Path
) -> None:
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.migrate()
        before = await contents(clients)
        backup = await executor.create_backup()
        await marking.put(clients, backup=backup.id, mode="replace")
        await clients.native.document("users/00").delete()
        write(folder, 2, "good", GOOD)
        for refused in (executor.status, executor.migrate, executor.create_backup):
            with pytest.raises(RestoreUnfinished, match=f"in the middle of a restore of the backup {backup.id}"):
                await refused()
        with pytest.raises(RestoreUnfinished, match="mode replace"):
            await executor.restore_from_backup(backup, mode="create")
        await executor.restore_from_backup(backup)
        assert await contents(clients) == before
        assert (await executor.migrate()).success


async def test_a_runner_that_has_lost_the_lock_puts_nothing_back_over_the_new_holder(
    firestore_target: Any, clients: Clients, folder: Path, tmp_path: Path
) -> None:
    async with handler_of(firestore_target) as handler, handler_of(firestore_target) as other:
        executor = executor_of(handler, tmp_path)
        await executor.migrate()
        write(folder, 2, "overtaken", OVERTAKEN)
        executor.handler.other = other  # type: ignore[attr-defined]
        with pytest.raises(RecoveryFailed, match="half-way") as caught:
            await executor.migrate()
        result = caught.value.result
        assert not result.restored
        assert isinstance(caught.value.recovery_error, ConnectionLost)
        assert result.backup is not None
        assert backups(tmp_path) == [result.backup.path]
        there = await contents(clients)
        assert {"theirs/1", "users/00"} <= there.keys()
        assert await marking.standing(clients) is None
