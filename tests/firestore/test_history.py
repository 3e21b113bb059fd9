"""The history on Firestore: documents that anybody may look at, and what is said when they are not ours."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from msr_async import AppliedMigration, ConnectionFailed, DatabaseError
from msr_async.firestore import FirestoreHandler
from tests.firestore.opened import TRANSACTION, found, handler_of, ignore
from tests.support.firestore import FirestoreTarget, only_google, only_own


def line(version: int | None, name: str = "orders", **said: Any) -> AppliedMigration:
    return AppliedMigration(
        version=version,
        name=name,
        checksum="c" * 64,
        applied_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        duration=0.25,
        applied_by="me@here",
        run="run-1",
        **said,
    )


async def record(handler: FirestoreHandler, *entries: AppliedMigration, replace: bool = False) -> None:
    async def work(transaction: Any) -> None:
        await handler.schema_version.ensure(transaction)
        for entry in entries:
            await handler.schema_version.record(transaction, entry, replace=replace)

    await handler.run(work, TRANSACTION)


async def test_a_line_comes_back_as_it_was_in_the_order_of_versions(firestore_target: FirestoreTarget) -> None:
    lines = [line(20260101000009), line(202601010010), line(None, "view"), line(202601010001, baseline=True)]
    async with handler_of(firestore_target) as handler:
        assert await handler.schema_version.applied() == ()
        await record(handler, *lines)
        assert await handler.schema_version.applied() == (lines[3], lines[1], lines[0], lines[2])
    assert set(await found(firestore_target, "schema_version")) == {entry.id for entry in lines}
    assert await found(firestore_target, "schema_version_notes") == {"about": {"format": 1}}


async def test_a_migration_is_entered_once(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler, handler.lock.hold(timeout=5, waiting=ignore):
        await record(handler, line(202601010001))
        with pytest.raises(DatabaseError, match="ALREADY_EXISTS"):
            await record(handler, line(202601010001, "again"))
        await record(handler, line(202601010001, "replaced"), replace=True)
        assert [entry.name for entry in await handler.schema_version.applied()] == ["replaced"]


async def test_the_collection_has_the_name_that_was_given(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target, version_collection="book") as handler:
        await record(handler, line(202601010001))
        assert len(await handler.schema_version.applied()) == 1
    async with handler_of(firestore_target) as other:
        assert await other.schema_version.applied() == ()
    assert set(await found(firestore_target, "book")) == {"202601010001"}
    assert set(await found(firestore_target, "book_notes")) == {"about"}


@only_google
async def test_a_note_has_any_key_and_holds_any_json(firestore_target: FirestoreTarget) -> None:
    notes = {
        "about": [[1], {"a": [[2.5, None]]}],
        "batches:R__a/b": {"": 1, "__x__": True},
        "..": "dots",
        "statements:ä\n": 0,
        "__id7__": {"cursor": [1, [2]]},
    }
    async with handler_of(firestore_target) as handler:

        async def work(transaction: Any) -> None:
            await handler.schema_version.ensure(transaction)
            for key, value in notes.items():
                await handler.schema_version.keep_note(transaction, key, value)

        await handler.run(work, TRANSACTION)
        assert {key: await handler.schema_version.note(key) for key in notes} == notes
        assert len(await found(firestore_target, "schema_version_notes")) == len(notes) + 1
        await handler.run(lambda db: handler.schema_version.keep_note(db, "..", None), TRANSACTION)
        assert await handler.schema_version.note("..") is None


@only_google
async def test_outside_of_a_transaction_a_line_is_a_unit_of_its_own(firestore_target: FirestoreTarget) -> None:
    async with handler_of(firestore_target) as handler:
        await handler.schema_version.ensure(handler.db)
        await handler.schema_version.record(handler.db, line(202601010001))
        await handler.schema_version.keep_note(handler.db, "a:b", 1)
        assert len(await handler.schema_version.applied()) == 1
        await handler.schema_version.forget(handler.db, "202601010001")
        assert await handler.schema_version.applied() == ()
        assert await handler.schema_version.note("a:b") == 1


@only_google
@pytest.mark.parametrize("said", [{}, {"version": 1, "name": "x"}, {"applied_at": "yesterday"}], ids=str)
async def test_a_document_of_somebody_elses_is_named(firestore_target: FirestoreTarget, said: dict[str, Any]) -> None:
    async with firestore_target.client() as client:
        await client.document("schema_version/strange").set(said)
    async with handler_of(firestore_target) as handler:
        with pytest.raises(DatabaseError, match=r"document strange is not one of msr_async's.*version_collection"):
            await handler.schema_version.applied()


@only_own
async def test_it_is_read_again_while_the_server_cannot_answer(firestore_target: FirestoreTarget) -> None:
    assert firestore_target.server
    async with handler_of(firestore_target) as handler:
        await record(handler, line(202601010001), line(202601010002))
        for method in ("BatchGetDocuments", "RunQuery"):
            firestore_target.server.faults.fail(method, times=2)
        assert len(await handler.schema_version.applied()) == 2
        firestore_target.server.faults.cut("RunQuery", 1)
        assert len(await handler.schema_version.applied()) == 2
        firestore_target.server.faults.fail("RunQuery", grpc.StatusCode.PERMISSION_DENIED, "no")
        with pytest.raises(DatabaseError, match=r"Reading the history: permission denied \(no\)"):
            await handler.schema_version.applied()


async def test_where_nothing_listens_the_first_question_says_so_soon() -> None:
    async with FirestoreHandler("test-nobody", emulator="127.0.0.1:9") as handler:
        with pytest.raises(
            ConnectionFailed, match=r"the emulator at 127\.0\.0\.1:9 cannot be reached.*Start the emulator, or"
        ):
            await handler.schema_version.applied()
