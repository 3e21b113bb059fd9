"""What becomes of a restore that another one has gone over, and of the mark that one of them has left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace as changed

from msr_async import Config, ConfigError, ConnectionLost, MigrationScriptExecutor, RestoreFailed, RestoreUnfinished
from msr_async.config import BackupConfig
from msr_async.errors import LockNotAcquired
from msr_async.firestore import FirestoreHandler, marking
from msr_async.firestore.lock import FirestoreLock
from msr_async.firestore.overtaking import Watch
from msr_async.firestore.packing import Packer
from msr_async.firestore.restoration import restoration
from msr_async.models import DatabaseInfo, Selection
from msr_async.protocols import RestoreOptions
from msr_async.testing import MemoryHandler
from tests.firestore.opened import handler_of, put
from tests.support.firestore import FirestoreTarget, only_own, opening
from tests.support.firestore_carrying import Carried, carry, contents, describe, put_back
from tests.support.firestore_faults import WatchedClients


class SmallPacker(Packer):
    def __init__(self, *, max_bytes: int) -> None:
        super().__init__(max_bytes=max_bytes, max_writes=5)


@pytest.fixture
async def clients(firestore_target: FirestoreTarget) -> AsyncIterator[WatchedClients]:
    async with opening(firestore_target, WatchedClients) as open_clients:
        yield open_clients()


async def fill(clients: WatchedClients, paths: Sequence[str], **fields: Any) -> None:
    batch = clients.native.batch()
    for path in paths:
        batch.set(clients.native.document(path), fields)
    await batch.commit()


def called(carried: Carried, id: str) -> Carried:
    return replace(carried, manifest=changed(carried.manifest, id=id))


@asynccontextmanager
async def begun(clients: WatchedClients, carried: Carried, mode: Any = "replace", **more: Any) -> AsyncIterator[Any]:
    async def described() -> DatabaseInfo:
        return await describe(clients)

    options = RestoreOptions(mode=mode)
    async with restoration(
        clients, described, carried.manifest, carried.documents, options, lambda told: None, **more
    ) as restoring:
        yield restoring


# -- whose mark it is ------------------------------------------------------------------------------


@only_own
async def test_a_selection_does_not_end_what_a_whole_restore_has_left_half_done(clients: WatchedClients) -> None:
    await fill(clients, ["users/1", "orders/1"], state="good")
    whole = called(await carry(clients), "whole")
    users = called(await carry(clients, selection=Selection(include=("users",))), "users")
    before = await contents(clients)
    await fill(clients, ["users/1", "orders/1"], state="bad")
    async with begun(clients, whole):
        assert await marking.standing(clients) is not None  # and it dies before its orders are back
    with pytest.raises(RestoreUnfinished, match="in the middle of a restore of the backup whole") as refused:
        await put_back(clients, users)
    assert "lock release --restore-mark" in refused.value.hint
    assert clients.sent == []
    there = await marking.standing(clients)
    assert there is not None
    assert there.backup == "whole"
    await put_back(clients, whole)
    assert (await contents(clients), await marking.standing(clients)) == (before, None)


@only_own
async def test_a_selection_that_was_cut_is_run_again_or_gone_over_by_a_whole_restore(clients: WatchedClients) -> None:
    await fill(clients, ["users/1", "orders/1"])
    whole = called(await carry(clients), "whole")
    users = called(await carry(clients, selection=Selection(include=("users",))), "users")
    for second in (users, whole):
        async with begun(clients, users):
            pass
        await put_back(clients, second)
        assert await marking.standing(clients) is None


# -- overtaken -------------------------------------------------------------------------------------


async def half_way(
    clients: WatchedClients, target: FirestoreTarget, monkeypatch: pytest.MonkeyPatch, carried: Carried, **more: Any
) -> tuple[int, Exception | None]:
    """A restore that is suspended inside of its only part while another one runs to its end; what it writes then."""
    monkeypatch.setattr("msr_async.firestore.overtaking.EVERY", 0.05)
    monkeypatch.setattr("msr_async.firestore.restoration.Packer", SmallPacker)
    suspended, resumed = anyio.Event(), anyio.Event()
    ((part, chunks),) = ((part, chunks) for part, chunks in carried.chunks.items() if len(chunks) > 1)

    async def pausing() -> AsyncIterator[bytes]:
        for number, chunk in enumerate(chunks):
            if number == 2:
                suspended.set()
                await resumed.wait()
            yield chunk

    failure: Exception | None = None
    sent = 0
    async with begun(clients, carried, "overwrite", **more) as first:

        async def load() -> None:
            nonlocal failure
            try:
                await first.load(part, pausing())
            except RestoreFailed as error:
                failure = error
            except ConnectionLost as error:
                failure = error

        async with anyio.create_task_group() as group:
            group.start_soon(load)
            await suspended.wait()
            async with opening(target, WatchedClients) as open_clients:
                await meanwhile(open_clients())
            await anyio.sleep(0.1)
            sent = len(clients.sent)
            resumed.set()
    return len(clients.sent) - sent, failure


OLD = [f"d/{number:03}" for number in range(100)]


async def meanwhile(others: WatchedClients) -> None:
    """Another restore, from begin to end."""
    if await marking.standing(others) is not None:
        await fill(others, ["d/new"])
        await put_back(others, called(await carry(others), "newer"))


@only_own
async def test_a_restore_that_was_gone_over_while_it_slept_writes_no_more(
    clients: WatchedClients, firestore_target: FirestoreTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(clients, OLD, state="old")
    carried = await carry(clients, chunk=10)
    await fill(clients, OLD, state="new")
    written, failure = await half_way(clients, firestore_target, monkeypatch, carried)
    assert written == 0
    assert failure is not None
    assert "another one has gone over it and ended, or somebody has removed the mark" in str(failure)


@only_own
async def test_a_restore_whose_lock_was_taken_away_writes_no_more(
    clients: WatchedClients, firestore_target: FirestoreTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(clients, OLD, state="old")
    carried = await carry(clients, chunk=10)
    monkeypatch.setitem(globals(), "meanwhile", released)

    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=lambda *_: None):
        written, failure = await half_way(
            clients, firestore_target, monkeypatch, carried, still_held=handler.lock.check
        )
    assert (written, type(failure)) == (0, ConnectionLost)


async def released(others: WatchedClients) -> None:
    async with FirestoreHandler(others.home.project, emulator=others.host) as handler:
        assert await handler.lock.release() is not None


async def test_one_look_is_enough_for_all_that_write_and_holds_good_for_a_while() -> None:
    looks, moment = 0, 0.0

    async def look() -> None:
        nonlocal looks
        looks += 1
        await anyio.sleep(0.01)

    watch = Watch(look, every=10.0, clock=lambda: moment)
    for moment, expected in ((9.9, 0), (10.0, 1), (19.9, 1), (20.1, 2)):
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(watch.sure)
        assert (moment, looks) == (moment, expected)


async def test_a_look_that_fails_is_no_look() -> None:
    moment = 0.0

    async def look() -> None:
        raise RestoreFailed("overtaken")

    watch = Watch(look, every=10.0, clock=lambda: moment)
    moment = 11.0
    for _ in range(2):
        with pytest.raises(RestoreFailed, match="overtaken"):
            await watch.sure()


# -- given up --------------------------------------------------------------------------------------


def executor_of(handler: Any, folder: Path) -> MigrationScriptExecutor[Any]:
    config = Config(folder=folder / "migrations", backup=BackupConfig(folder=folder), lock_timeout=0.1)
    return MigrationScriptExecutor(handler, config)


@only_own
async def test_an_unfinished_restore_is_given_up_and_the_database_stays_as_it_is(
    clients: WatchedClients, firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    await fill(clients, ["d/1", "d/2"])
    carried = called(await carry(clients), "night")
    async with begun(clients, carried, "create"):
        pass
    before = await contents(clients)
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        left = await executor.unfinished_restore()
        assert left is not None
        assert (left.backup, left.mode, left.since is not None) == ("night", "create", True)
        with pytest.raises(RestoreFailed, match="is another one: a restore of the backup night"):
            await executor.give_up_restore("day")
        async with handler_of(firestore_target) as other, other.lock.hold(timeout=1, waiting=lambda *_: None):
            with pytest.raises(LockNotAcquired):  # it may be under way
                await executor.give_up_restore("night")
        assert await marking.standing(clients) is not None
        assert await executor.give_up_restore("night") == left
        assert await marking.standing(clients) is None
        assert (await executor.unfinished_restore(), await executor.give_up_restore("night")) == (None, None)
        await executor.create_backup()
    assert await contents(clients) == before


async def test_where_a_restore_is_one_transaction_there_is_nothing_to_give_up(tmp_path: Path) -> None:
    async with MemoryHandler() as handler:
        executor = executor_of(handler, tmp_path)
        assert await executor.unfinished_restore() is None
        with pytest.raises(ConfigError, match="leaves no mark"):
            await executor.give_up_restore("night")


# -- as the executor does it -----------------------------------------------------------------------

EMPTY = "async def up(db, ctx): ...\n\n\nasync def down(db, ctx): ...\n"


@only_own
async def test_a_selection_of_before_a_migration_is_restored_with_a_warning(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "V202601010001_one.py").write_text(EMPTY)
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.migrate()
        await put(handler, "users/1", "orders/1")
        executor.config.backup.include = ("users",)
        users = await executor.create_backup()
        assert (await executor.restore_from_backup(users)).warnings == ()
        (tmp_path / "migrations" / "V202601010002_two.py").write_text(EMPTY)
        executor.config.backup.include = ()
        await executor.migrate()
        done = await executor.restore_from_backup(users)
        (warning,) = done.warnings
        assert "only in the database's: V202601010002_two)" in warning
        assert (done.mode, done.written, done.unchanged, done.deleted, done.kept) == ("replace", 0, 1, 0, 0)


@only_own
async def test_a_restore_looks_at_the_lock_that_the_executor_holds(
    firestore_target: FirestoreTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with handler_of(firestore_target) as handler:
        await put(handler, "users/1")
        executor = executor_of(handler, tmp_path)
        backup = await executor.create_backup()

    async def lost(_lock: FirestoreLock) -> None:
        raise ConnectionLost("The migration lock was lost: on purpose.")

    monkeypatch.setattr(FirestoreLock, "check", lost)
    async with handler_of(firestore_target) as handler:
        with pytest.raises(ConnectionLost, match="on purpose"):
            await executor_of(handler, tmp_path).restore_from_backup(backup, mode="overwrite")
