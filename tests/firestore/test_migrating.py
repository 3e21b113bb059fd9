"""The migration engine over Firestore: Python files, up and down, batches, dry runs, two runners at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest

from msr_async import (
    Config,
    Event,
    MigrationFailed,
    MigrationScriptExecutor,
    RollbackStrategy,
    ScriptFailed,
    TransactionConfig,
    TransactionMode,
    ValidationFailed,
)
from msr_async.events import BatchFinished, MigrationRetried
from msr_async.firestore import FirestoreHandler
from tests.firestore.opened import found, handler_of
from tests.support.firestore import FirestoreTarget, only_own

UP_AND_DOWN = """
async def up(db, ctx):
    db.set(ctx.handler.db.document("things/{number}"), {{"value": {number}}})

async def down(db, ctx):
    db.delete(ctx.handler.db.document("things/{number}"))
"""
READS = """
async def up(db, ctx):
    thing = ctx.handler.db.document("things/1")
    before = await thing.get(transaction=db)
    db.update(thing, {"value": before.to_dict()["value"] + 10})
"""
PEOPLE = """
no_transaction = True

async def up(db, ctx):
    batch = db.batch()
    for number in range(45):
        batch.set(db.document(f"people/{number:03}"), {"name": f"person {number}", "visits": number})
    await batch.commit()
"""
FILL = """
from google.cloud.firestore import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath
from msr_async import batches

async def up(db, ctx):
    db.set(ctx.handler.db.document("settings/people"), {"counted": True})

@batches(size=10)
async def data(db, ctx, batch):
    people = ctx.handler.db.collection("people").order_by("__name__").limit(batch.size)
    if batch.cursor:
        people = people.start_after({"__name__": ctx.handler.db.document(f"people/{batch.cursor}")})
    rows = [person async for person in people.stream(transaction=db)]
    for person in rows:
        db.update(person.reference, {"visits": person.get("visits") + 1})
    if not rows:
        return None
    HERE
    return batch.after(rows[-1].id, rows=len(rows))
"""


def write(folder: Path, number: int, text: str, name: str = "step") -> Path:
    path = folder / f"V20260101{number:04}_{name}{number}.py"
    path.write_text(text)
    return path


def steps(folder: Path, *numbers: int) -> None:
    for number in numbers:
        write(folder, number, UP_AND_DOWN.format(number=number))


def executor_of(
    handler: FirestoreHandler, folder: Path, heard: list[Event] | None = None, **settings: Any
) -> MigrationScriptExecutor[Any]:
    config = Config(folder=folder, rollback_strategy=RollbackStrategy.NONE, lock_timeout=30, **settings)
    return MigrationScriptExecutor(handler, config, observers=() if heard is None else (heard.append,))


async def history(handler: FirestoreHandler) -> list[str]:
    return [line.id.removeprefix("20260101") for line in await handler.schema_version.applied()]


async def test_up_to_a_target_and_on_and_down_again(firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    steps(tmp_path, 1, 2, 3)
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        assert [migration.name for migration in (await executor.plan()).pending] == ["step1", "step2", "step3"]
        await executor.migrate(202601010002)
        assert await history(handler) == ["0001", "0002"]
        assert [migration.name for migration in (await executor.status()).pending] == ["step3"]
        await executor.migrate()
        assert await found(firestore_target) == {str(number): {"value": number} for number in (1, 2, 3)}
        assert (await executor.migrate()).executed == ()
        result = await executor.down(202601010001)
        assert [migration.name for migration in result.executed] == ["step3", "step2"]
        assert await found(firestore_target) == {"1": {"value": 1}}
        assert await history(handler) == ["0001"]


async def test_a_migration_reads_in_its_transaction_and_fails_as_a_whole_with_its_line(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    steps(tmp_path, 1)
    write(tmp_path, 2, READS)
    bad = write(tmp_path, 3, READS + "    raise KeyError('missing')\n")
    async with handler_of(firestore_target) as handler:
        with pytest.raises(MigrationFailed) as caught:
            await executor_of(handler, tmp_path).migrate()
        assert isinstance(caught.value.error, ScriptFailed)
        assert (caught.value.error.path, caught.value.error.line) == (bad, 6)
        assert await found(firestore_target) == {"1": {"value": 11}}
        assert await history(handler) == ["0001", "0002"]


async def test_a_sql_file_is_refused_by_its_name_before_anything_runs(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    steps(tmp_path, 1)
    (tmp_path / "V202601010002_tables.up.sql").write_text("CREATE TABLE t (id int);")
    async with handler_of(firestore_target) as handler:
        with pytest.raises(ValidationFailed, match=r"V202601010002_tables\.up\.sql: Firestore has no SQL; write this"):
            await executor_of(handler, tmp_path).migrate()
        assert await found(firestore_target) == {}
        assert await history(handler) == []


async def test_repeatable_scripts_and_hooks_run_as_everywhere(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    steps(tmp_path, 1)
    line = "async def up(db, ctx):\n    db.set(ctx.handler.db.document('log/{0}'), {{'text': '{1}'}})\n"
    (tmp_path / "R__views.py").write_text(line.format("views", "first"))
    (tmp_path / "before_migrate.py").write_text(line.format("before", "ran"))
    (tmp_path / "after_migrate.py").write_text(line.format("after", "ran"))
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.migrate()
        assert await found(firestore_target, "log") == {
            "after": {"text": "ran"},
            "before": {"text": "ran"},
            "views": {"text": "first"},
        }
        assert await history(handler) == ["0001", "R__views"]
        (tmp_path / "R__views.py").write_text(line.format("views", "second"))
        await executor.migrate()
        assert (await found(firestore_target, "log"))["views"] == {"text": "second"}
        assert await history(handler) == ["0001", "R__views"]


async def test_baseline_and_repair_change_the_history_alone(firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    steps(tmp_path, 1, 2, 3)
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.baseline(202601010002)
        assert [line.baseline for line in await handler.schema_version.applied()] == [True, True]
        await executor.migrate()
        assert await found(firestore_target) == {"3": {"value": 3}}
        write(tmp_path, 3, UP_AND_DOWN.format(number=33))
        with pytest.raises(ValidationFailed, match="changed"):
            await executor.migrate()
        repaired = await executor.repair()
        assert [line.name for line in repaired.rechecksummed] == ["step3"]
        assert (await executor.migrate()).executed == ()
        assert await found(firestore_target) == {"3": {"value": 3}}


async def test_a_dry_run_finds_what_a_run_would_and_leaves_no_trace(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    steps(tmp_path, 1)
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path)
        await executor.migrate(dry_run=True)
        assert await found(firestore_target) == {}
        assert await found(firestore_target, "schema_version_notes") == {}
        await executor.migrate()
        write(tmp_path, 2, READS)  # it reads, although the dry run makes the book in the same transaction
        write(tmp_path, 3, PEOPLE)
        result = await executor.migrate(dry_run=True)
        assert [migration.name for migration in result.executed] == ["step2"]
        assert [migration.name for migration in result.skipped] == ["step3"]
        assert await found(firestore_target) == {"1": {"value": 1}}
        write(tmp_path, 2, "async def up(db, ctx):\n    raise KeyError('missing')\n")
        with pytest.raises(MigrationFailed, match="It was a dry run: nothing was changed"):
            await executor.migrate(dry_run=True)


@only_own
async def test_all_of_a_run_is_one_commit_where_that_is_asked_for(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    steps(tmp_path, 1, 2)
    mode = TransactionConfig(mode=TransactionMode.PER_BATCH)
    bad = write(tmp_path, 3, "async def up(db, ctx):\n    raise KeyError('missing')\n")
    async with handler_of(firestore_target) as handler:
        with pytest.raises(MigrationFailed, match="missing"):
            await executor_of(handler, tmp_path, transaction=mode).migrate()
        assert await found(firestore_target) == {}
        bad.unlink()
        await executor_of(handler, tmp_path, transaction=mode).migrate()
        assert await history(handler) == ["0001", "0002"]
    assert firestore_target.server
    commits = [call.request.writes for call in firestore_target.server.calls if call.method == "Commit"]
    (together,) = [writes for writes in commits if any("/things/" in write.update.name for write in writes)]
    names = [write.update.name.rpartition("/documents/")[2] for write in together]
    assert sorted(names) == [
        "schema_version/202601010001",
        "schema_version/202601010002",
        "schema_version_lock/lock",
        "things/1",
        "things/2",
    ]


async def test_a_data_step_goes_on_where_it_was_stopped(firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    write(tmp_path, 1, PEOPLE)
    write(tmp_path, 2, FILL.replace("HERE", "if batch.number == 3: raise OSError('stop')"))
    heard: list[Event] = []
    async with handler_of(firestore_target) as handler:
        executor = executor_of(handler, tmp_path, heard)
        with pytest.raises(MigrationFailed, match="Its finished batches stay, and the next run goes on after them"):
            await executor.migrate()
        people = await found(firestore_target, "people")
        assert sum(said["visits"] for said in people.values()) == sum(range(45)) + 20
        assert await history(handler) == ["0001"]
        write(tmp_path, 2, FILL.replace("HERE", "pass").replace("db.set(", "raise OSError('up again')  # ("))
        await executor.migrate(dry_run=True)
        assert await found(firestore_target, "people") == people
        await executor.migrate()
        people = await found(firestore_target, "people")
        assert [said["visits"] for said in people.values()] == list(range(1, 46))
        assert await history(handler) == ["0001", "0002"]
        assert (await found(firestore_target, "schema_version_notes")).keys() == {"about"}
    told = [(event.number, event.rows) for event in heard if isinstance(event, BatchFinished)]
    assert told == [(1, 10), (2, 10), (3, 10), (4, 10), (5, 5)]


async def test_more_writes_than_a_commit_takes_are_refused_and_run_outside_of_a_transaction(
    firestore_target: FirestoreTarget, tmp_path: Path
) -> None:
    many = (
        "async def up(db, ctx):\n    for n in range(501):\n        db.set(ctx.handler.db.document(f'things/{n}'), {})\n"
    )
    write(tmp_path, 1, many)
    async with handler_of(firestore_target) as handler:
        with pytest.raises(
            MigrationFailed, match=r"503 writes, 2 of them for the .*, and 500 are the most.*no_transaction = True"
        ):
            await executor_of(handler, tmp_path).migrate()
        assert await found(firestore_target) == {}
        write(tmp_path, 1, PEOPLE)
        await executor_of(handler, tmp_path).migrate()
        assert len(await found(firestore_target, "people")) == 45
        assert await history(handler) == ["0001"]


@only_own
async def test_a_conflict_repeats_the_whole_migration(firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    steps(tmp_path, 1)
    write(tmp_path, 2, READS)
    heard: list[Event] = []
    async with handler_of(firestore_target) as handler:
        await executor_of(handler, tmp_path).migrate(202601010001)
        assert firestore_target.server
        # the lock is taken and the book opened before
        firestore_target.server.faults.fail("Commit", grpc.StatusCode.ABORTED, "contention", skip=2)
        await executor_of(handler, tmp_path, heard).migrate()
        assert await found(firestore_target) == {"1": {"value": 11}}
    assert [event.attempt for event in heard if isinstance(event, MigrationRetried)] == [1]


@only_own
@pytest.mark.parametrize("after", [True, False], ids=["done", "not done"])
async def test_a_migration_whose_answer_was_lost_runs_once(
    firestore_target: FirestoreTarget, tmp_path: Path, after: bool
) -> None:
    steps(tmp_path, 1)
    write(tmp_path, 2, READS)
    steps(tmp_path, 3)
    async with handler_of(firestore_target) as handler:
        await executor_of(handler, tmp_path).migrate(202601010001)
        assert firestore_target.server
        firestore_target.server.faults.fail("Commit", after=after, skip=2)
        result = await executor_of(handler, tmp_path).migrate()
        assert [migration.name for migration in result.executed] == ["step2", "step3"]
        assert await found(firestore_target) == {"1": {"value": 11}, "3": {"value": 3}}
        assert await history(handler) == ["0001", "0002", "0003"]


async def test_two_runners_at_once_run_each_migration_once(firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    steps(tmp_path, 1)
    for number in (2, 3, 4):
        write(tmp_path, number, READS)
    executed: list[str] = []

    async def run() -> None:
        async with handler_of(firestore_target) as handler:
            result = await executor_of(handler, tmp_path).migrate()
            executed.extend(migration.name for migration in result.executed)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
    assert sorted(executed) == ["step1", "step2", "step3", "step4"]
    assert await found(firestore_target) == {"1": {"value": 31}}


async def test_two_processes_at_once_run_each_migration_once(firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    steps(tmp_path, 1)
    write(tmp_path, 2, READS)
    program = (
        "import asyncio, sys\n"
        "from msr_async import Config, MigrationScriptExecutor, RollbackStrategy\n"
        "from msr_async.firestore import FirestoreHandler\n"
        "async def main():\n"
        "    config = Config(folder=sys.argv[2], rollback_strategy=RollbackStrategy.NONE, lock_timeout=60)\n"
        "    async with FirestoreHandler.from_url(sys.argv[1]) as handler:\n"
        "        print(len((await MigrationScriptExecutor(handler, config).migrate()).executed))\n"
        "asyncio.run(main())\n"
    )
    counts: list[int] = []

    async def run() -> None:
        done = await anyio.run_process([sys.executable, "-c", program, firestore_target.url, str(tmp_path)])
        counts.append(int(done.stdout))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        group.start_soon(run)
    assert sorted(counts) == [0, 2]
    assert await found(firestore_target) == {"1": {"value": 11}}
