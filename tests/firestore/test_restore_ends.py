"""How a restore ends: what is counted, what cannot be, what it says of itself, and where it stops by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.cloud.firestore_v1.types import document as types
from msgspec.structs import replace as changed

from msr_async import RestoreFailed
from msr_async.errors import ConnectionLost, DatabaseError
from msr_async.firestore import marking, reading, recounting
from msr_async.firestore.disagreeing import disagreement, warnings_of
from msr_async.firestore.recounting import recount
from msr_async.firestore.restoration import restoration
from msr_async.models import AppliedMigration, DatabaseInfo, RestoreTotals, Selection
from msr_async.protocols import RestoreOptions
from tests.support.firestore import FirestoreTarget, commit, only_own, opening
from tests.support.firestore_carrying import Carried, carry, contents, describe
from tests.support.firestore_faults import WatchedClients, failure

Value: Any = types.Value.pb()


class Counting(WatchedClients):
    """Its server refuses the queries that count, all or those of some collections, with `code`."""

    code: grpc.StatusCode | None = None
    only: tuple[str, ...] = ()
    asked = 0

    def stream(self, method: str) -> Any:
        call = super().stream(method)
        if method != "RunAggregationQuery":
            return call

        def asking(request: bytes, **options: Any) -> Any:
            self.asked += 1
            refused = not self.only or any(name.encode() in request for name in self.only)
            return _Refusing(self.code) if self.code is not None and refused else call(request, **options)

        return asking


class _Refusing:
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def __aiter__(self) -> _Refusing:
        return self

    async def __anext__(self) -> bytes:
        raise failure(self._code)

    def cancel(self) -> None:
        pass


CHANGED = {"changed": Value(boolean_value=True)}


@pytest.fixture
async def clients(firestore_target: FirestoreTarget) -> AsyncIterator[Counting]:
    async with opening(firestore_target, Counting) as open_clients:
        yield open_clients()


async def put_back(
    clients: Counting, carried: Carried, mode: Any = "replace", *, told: list[str] | None = None, **more: Any
) -> RestoreTotals:
    async def described() -> DatabaseInfo:
        return changed(await describe(clients), empty=not await contents(clients))

    async def each(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    notify: Callable[[str], None] = (told if told is not None else []).append
    async with restoration(
        clients, described, carried.manifest, carried.documents, RestoreOptions(mode=mode), notify, **more
    ) as restoring:
        for part, chunks in carried.chunks.items():
            await restoring.load(part, each(chunks))
        return await restoring.finish()


# -- counting --------------------------------------------------------------------------------------


@only_own
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED]
)
async def test_a_database_that_cannot_be_counted_is_restored_with_a_warning(
    clients: Counting, code: grpc.StatusCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounting, "_LIMITS", reading.LIMITS.at_most(0.05))
    await commit(clients, ["d/1", "d/2", "e/1"])
    carried = await carry(clients)
    clients.code = code
    (warning,) = (await put_back(clients, carried)).warnings
    assert f"({code.name})" in warning
    assert "not checked against the backup's numbers: the database as a whole, d, e." in warning
    assert await marking.standing(clients) is None


@only_own
async def test_a_count_that_fails_otherwise_leaves_the_mark(clients: Counting) -> None:
    await commit(clients, ["d/1"])
    carried = await carry(clients)
    clients.code = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(DatabaseError, match="Counting documents"):
        await put_back(clients, carried)
    assert await marking.standing(clients) is not None


@only_own
async def test_what_can_be_counted_is_checked_beside_what_cannot(clients: Counting) -> None:
    await commit(clients, ["dd/1", "dd/2", "ee/1"])
    clients.code, clients.only = grpc.StatusCode.INVALID_ARGUMENT, ("dd",)
    (warning,) = await recount(clients, {"dd": 2, "ee": 1}, 3)
    assert "numbers: dd. Every write" in warning
    with pytest.raises(RestoreFailed, match="ee holds 1 and should hold 2"):
        await recount(clients, {"dd": 2, "ee": 2}, 3)
    with pytest.raises(RestoreFailed, match="the database holds 3 and should hold 4"):
        await recount(clients, {"dd": 2, "ee": 1}, 4)


@only_own
async def test_a_server_that_does_not_count_is_not_asked_for_each_of_many(clients: Counting) -> None:
    clients.code = grpc.StatusCode.UNIMPLEMENTED
    (warning,) = await recount(clients, {f"c{number}": 1 for number in range(300)}, 300)
    assert clients.asked < 10
    assert "and 92 more" in warning


@only_own
async def test_of_many_collections_the_largest_are_counted_and_the_whole(clients: Counting) -> None:
    many = [f"c{number:03}/1" for number in range(150)]
    await commit(clients, [*many, "big/1", "big/2"])
    counts = {path.partition("/")[0]: 1 for path in many} | {"big": 2}
    assert await recount(clients, counts, 152) == ()
    assert clients.asked == 102
    with pytest.raises(RestoreFailed, match="big holds 2 and should hold 3"):
        await recount(clients, counts | {"big": 3}, 153)
    with pytest.raises(RestoreFailed, match="the database holds 152 and should hold 153"):
        await recount(clients, counts | {"c150": 1}, 153)


# -- what is allowed -------------------------------------------------------------------------------


@only_own
async def test_no_more_is_written_and_deleted_than_is_allowed(clients: Counting) -> None:
    await commit(clients, [f"d/{number}" for number in range(5)])
    carried = await carry(clients)
    await commit(clients, [f"x/{number:04}" for number in range(3000)])
    clients.sent.clear()
    with pytest.raises(
        RestoreFailed,
        match=r"more than the 20 writes and deletions that are allowed: at least 0 to be written and [0-9,]+ to be del",
    ):
        await put_back(clients, carried, max_writes=20)
    assert len(clients.writes) <= 20
    assert await marking.standing(clients) is not None
    await put_back(clients, carried, max_writes=3000)
    assert len(await contents(clients)) == 5


@only_own
async def test_writes_and_deletions_of_all_parts_count_together(clients: Counting) -> None:
    await commit(clients, [f"d/{number}" for number in range(6)])
    carried = await carry(clients, cuts=["d/2", "d/4"])
    await commit(clients, [f"d/{number}" for number in range(6)], CHANGED)
    await commit(clients, ["d/9"])
    clients.sent.clear()
    with pytest.raises(RestoreFailed, match="at least 6 to be written and 1 to be deleted"):
        await put_back(clients, carried, max_writes=6)
    assert len(clients.writes) <= 6
    await put_back(clients, carried, max_writes=7)


# -- what was done ---------------------------------------------------------------------------------


@only_own
async def test_what_became_of_the_documents_is_told(clients: Counting) -> None:
    await commit(clients, ["d/1", "d/2", "d/3"])
    carried = await carry(clients)
    await commit(clients, ["d/2", "d/4", "d/5"], CHANGED)
    assert await put_back(clients, carried, "create") == RestoreTotals(written=0, kept=3)
    assert await put_back(clients, carried) == RestoreTotals(written=1, unchanged=2, deleted=2)
    assert await put_back(clients, carried, "overwrite") == RestoreTotals(written=3)


@only_own
async def test_a_document_whose_answer_was_lost_is_not_told_as_kept(
    clients: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msr_async.firestore.writing._FIRST_DELAY", 0.001)
    await commit(clients, ["d/1", "d/2", "d/3"])
    carried = await carry(clients)
    for path in ("d/1", "d/2"):
        await clients.native.document(path).delete()
    lost = False

    async def lose(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        nonlocal lost
        answer = await forward(request)
        if not lost:
            lost = True
            raise failure(grpc.StatusCode.UNAVAILABLE)
        return answer

    clients.around = lose
    told: list[str] = []
    assert await put_back(clients, carried, "create", told=told) == RestoreTotals(written=3)
    assert told[-1] == "3 documents were written (or kept, 3 of them: an answer was lost)"


# -- the history -----------------------------------------------------------------------------------


def applied(*versions: int) -> tuple[AppliedMigration, ...]:
    return tuple(
        AppliedMigration(
            version=version, name="x", checksum="", applied_at=datetime.now(UTC), duration=0.0, applied_by="tests"
        )
        for version in versions
    )


def test_histories_with_the_same_migrations_agree_and_others_say_what_differs() -> None:
    assert disagreement(applied(1, 2), applied(2, 1)) == ""
    told = disagreement(applied(1, 2), applied(1, 3, 4))
    assert "(only in the backup's history: V2_x; only in the database's: V3_x, V4_x)" in told
    assert "another shape than the history now says" in told
    assert "only in the database's: V1_x, V2_x, V3_x, V4_x, V5_x and 2 more)" in disagreement((), applied(*range(1, 8)))
    assert "only in the backup's history: V1_x)" in disagreement(applied(1), ())


async def test_a_history_that_cannot_be_read_is_no_reason_not_to_restore() -> None:
    async def broken() -> Sequence[AppliedMigration]:
        raise DatabaseError("The history's document x is not one of msr_async's.")

    async def away() -> Sequence[AppliedMigration]:
        raise ConnectionLost("Nobody there.")

    (told,) = await warnings_of((), broken)
    assert "was not compared with the backup's: The history's document x" in told
    with pytest.raises(ConnectionLost):
        await warnings_of((), away)


@only_own
@pytest.mark.parametrize(
    ("mode", "include", "before", "warned"),
    [
        ("replace", (), (1, 5), False),
        ("replace", ("users",), (1, 5), True),
        ("replace", ("users",), (1, 3), False),
        ("overwrite", (), (1, 5), True),
        ("create", (), (1,), True),
        ("merge", (), (1, 3), False),
    ],
)
async def test_documents_of_another_shape_than_the_history_says_are_warned_of(
    clients: Counting, mode: Any, include: tuple[str, ...], before: tuple[int, ...], warned: bool
) -> None:
    await commit(clients, ["users/1", "orders/1"])
    carried = await carry(clients, selection=Selection(include=include))
    carried = replace(carried, manifest=changed(carried.manifest, history=applied(1, 3)))

    async def history() -> Sequence[AppliedMigration]:
        return applied(*before)

    totals = await put_back(clients, carried, mode, history=history)
    assert len(totals.warnings) == warned


@only_own
async def test_into_an_empty_database_a_whole_backup_brings_its_history_along(clients: Counting) -> None:
    await commit(clients, ["users/1"])
    whole = await carry(clients)
    part = await carry(clients, selection=Selection(include=("users",)))

    async def history() -> Sequence[AppliedMigration]:
        return ()

    for carried, warnings in ((whole, 0), (part, 1)):
        await clients.native.document("users/1").delete()
        carried = replace(carried, manifest=changed(carried.manifest, history=applied(1)))
        assert len((await put_back(clients, carried, "create", history=history)).warnings) == warnings
