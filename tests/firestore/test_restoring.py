"""What a restore makes of a database, in each mode, and what is left where it does not come to its end."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import grpc
import pytest
from google.cloud.firestore_v1.types import document as types
from msgspec.structs import replace as changed

from msr_async import BackupDamaged, ConfigError, PermissionMissing, RestoreFailed
from msr_async.errors import ConnectionLost, RestoreUnfinished
from msr_async.firestore import marking, wire
from msr_async.firestore.names import Home
from msr_async.firestore.packing import Packer
from msr_async.firestore.restoration import MAX_BATCH_BYTES, restoration
from msr_async.framing import framed
from msr_async.models import Selection
from msr_async.protocols import RestoreOptions
from tests.support.firestore_carrying import Carried, carry, contents, describe, put_back
from tests.support.firestore_faults import Around, Response, Trouble, WatchedClients
from tests.support.relay import relay_to

Open = Callable[..., Awaitable[WatchedClients]]
Value: Any = types.Value


@pytest.fixture
async def clients_of(firestore_target: Any) -> AsyncIterator[Open]:
    """Opens clients of the test's own databases."""
    async with AsyncExitStack() as stack:

        async def open_clients(
            suffix: str = "", database: str = "(default)", around: Around | None = None
        ) -> WatchedClients:
            home = Home(project=f"{firestore_target.project}{suffix}", database=database)
            clients = WatchedClients(home, firestore_target.address, around)
            stack.push_async_callback(clients.close)
            return clients

        yield open_clients


@pytest.fixture
async def clients(clients_of: Open) -> WatchedClients:
    return await clients_of()


async def write(clients: WatchedClients, **documents: Any) -> None:
    """Documents by path; a dictionary holds native values."""
    for path, fields in documents.items():
        await clients.native.document(path).set(fields)


async def fill(clients: WatchedClients, paths: list[str], fields: dict[str, Any] | None = None) -> None:
    for start in range(0, len(paths), 200):
        batch = clients.native.batch()
        for path in paths[start : start + 200]:
            batch.set(clients.native.document(path), {"path": path} if fields is None else fields)
        await batch.commit()


def every_type(home: Home) -> dict[str, Any]:
    """A value of each type, at its edges."""
    values: dict[str, Any] = {
        "null": Value(null_value=0),
        "true": Value(boolean_value=True),
        "false": Value(boolean_value=False),
        "integers": Value(
            array_value={"values": [Value(integer_value=n) for n in (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))]}
        ),
        "doubles": Value(
            array_value={
                "values": [
                    Value(double_value=number)
                    for number in (0.0, -0.0, 3.0, 1e-320, float("inf"), float("-inf"), float("nan"))
                ]
            }
        ),
        "text": Value(string_value="a\0b\n\U0001f600 é"),
        "bytes": Value(bytes_value=bytes(range(256))),
        "time": Value(timestamp_value={"seconds": -62135596800 + 86400, "nanos": 123456000}),
        "place": Value(geo_point_value={"latitude": -90.0, "longitude": 179.5}),
        "mine": Value(reference_value=home.name("people/1")),
        "theirs": Value(reference_value="projects/other/databases/(default)/documents/people/1"),
        "empty": Value(map_value={}),
        "no values": Value(array_value={}),
        "a.b": Value(string_value="a field named like a path"),
        "`\\ ": Value(integer_value=1),
        "vector": Value(
            map_value={
                "fields": {
                    "__type__": Value(string_value="__vector__"),
                    "value": Value(array_value={"values": [Value(double_value=0.5), Value(double_value=-1.0)]}),
                }
            }
        ),
    }
    deep = Value(reference_value=home.name("people/2"))
    for level in range(9):
        deep = Value(map_value={"fields": {f"level{level}": Value(array_value={"values": [deep]})}})
    return values | {"deep": deep}


async def write_raw(clients: WatchedClients, *documents: tuple[str, dict[str, Any]]) -> None:
    writes = [
        wire.update(types.Document.serialize(types.Document(name=clients.home.name(path), fields=fields)))
        for path, fields in documents
    ]
    answer = await clients.unary("BatchWrite")(
        wire.batch(clients.home.path, writes), metadata=clients.metadata, timeout=30
    )
    assert [status.code for status in Response.FromString(answer).status] == [0] * len(writes)
    clients.sent.clear()


# -- what comes back -------------------------------------------------------------------------------


async def test_every_type_of_value_comes_back_byte_for_byte(clients: WatchedClients) -> None:
    await write_raw(clients, ("types/all", every_type(clients.home)), ("types/none", {}))
    before = await contents(clients)
    carried = await carry(clients)
    await write(clients, **{"types/all": {"gone": True}})
    await clients.native.document("types/none").delete()
    assert await contents(clients) != before
    await put_back(clients, carried)
    assert await contents(clients) == before


NAMES = [
    "__id7__",
    "__id-9223372036854775808__",
    "007",
    "a b",
    "a.b",
    "`tick`",
    "%2F",
    "x\ny",
    "Ünïcödé",
    "مرحبا",
    "日本語",
    "हिन्दी",
    "\U0001f600" * 300,
    "n" * 1500,
]


async def test_names_of_every_kind_levels_and_missing_parents_come_back(clients: WatchedClients) -> None:
    deep = "a/1/b/2/c/3/d/4/e/5"
    await fill(
        clients, [*(f"names/{name}" for name in NAMES), deep, "missing/parent/kept/1", "a/1/b/2", "names/a b/sub/1"]
    )
    before = await contents(clients)
    assert len(before) == len(NAMES) + 4
    carried = await carry(clients, cuts=["b/1", "names/a.b"])
    for path in before:
        await clients.native.document(path).delete()
    await put_back(clients, carried)
    assert await contents(clients) == before


# -- modes -----------------------------------------------------------------------------------------


async def changed_database(clients: WatchedClients) -> tuple[Carried, dict[str, bytes], dict[str, bytes]]:
    """A backup of 12 documents, and then: one was changed, one deleted, three are new. Before and after."""
    await fill(clients, [f"d/{number:02}" for number in range(12)], {"a": {"x": 1, "y": 2}, "a.b": "c", "b": 3})
    before = await contents(clients)
    carried = await carry(clients, cuts=["d/05"])
    await write(
        clients, **{"d/03": {"a": {"z": 0}, "own": True}, "d/07x": {"new": 1}, "d/03/sub/1": {"new": 2}, "z/1": {}}
    )
    await clients.native.document("d/08").delete()
    clients.sent.clear()
    return carried, before, await contents(clients)


async def test_replace_writes_what_was_changed_and_deletes_what_is_extra(clients: WatchedClients) -> None:
    carried, before, _ = await changed_database(clients)
    told = await put_back(clients, carried)
    assert await contents(clients) == before
    assert sorted(clients.written) == [clients.home.name("d/03"), clients.home.name("d/08")]
    assert sorted(clients.deleted) == [clients.home.name(path) for path in ("d/03/sub/1", "d/07x", "z/1")]
    assert told[-1] == "2 documents were written, 10 were unchanged, 3 were deleted"


async def test_nothing_is_written_where_nothing_was_changed(clients: WatchedClients) -> None:
    await fill(clients, [f"d/{number:03}" for number in range(150)])
    told = await put_back(clients, await carry(clients, cuts=["d/050", "d/100"]))
    assert clients.sent == []
    assert told[-1] == "0 documents were written, 150 were unchanged"


async def test_overwrite_writes_all_and_leaves_what_is_extra(clients: WatchedClients) -> None:
    carried, before, after = await changed_database(clients)
    told = await put_back(clients, carried, "overwrite")
    assert await contents(clients) == after | before
    assert (len(clients.written), clients.deleted) == (12, [])
    assert told[-1] == "12 documents were written"


async def test_merge_writes_the_backups_fields_and_leaves_the_others(clients: WatchedClients) -> None:
    carried, before, after = await changed_database(clients)
    await put_back(clients, carried, "merge")
    found = (await clients.native.document("d/03").get()).to_dict()
    assert found == {"a": {"x": 1, "y": 2}, "a.b": "c", "b": 3, "own": True}
    now = await contents(clients)
    assert {path: held for path, held in now.items() if path != "d/03"} == {
        path: held for path, held in (after | before).items() if path != "d/03"
    }


async def test_merge_knows_fields_named_like_paths_and_documents_without_fields(clients: WatchedClients) -> None:
    odd = {"a.b": 1, "a": {"b": 2}, "`": 3, "\\": 4, "a b": 5, "é": 6, "0": 7, "*": 8, "a`.\\b": 9}
    await write(clients, **{"odd/1": odd, "odd/2": {}, "odd/3": {}})
    carried = await carry(clients)
    await write(clients, **{"odd/1": {**dict.fromkeys(odd, 0), "own": True}, "odd/2": {"own": True}})
    await clients.native.document("odd/3").delete()
    await put_back(clients, carried, "merge")
    found = {path: (await clients.native.document(path).get()).to_dict() for path in ("odd/1", "odd/2", "odd/3")}
    assert found == {"odd/1": odd | {"own": True}, "odd/2": {"own": True}, "odd/3": {}}


async def test_create_adds_what_is_missing_and_touches_nothing_else(clients: WatchedClients) -> None:
    carried, before, after = await changed_database(clients)
    told = await put_back(clients, carried, "create")
    assert await contents(clients) == before | after
    assert told[-1] == "1 documents were written, 11 were kept"


async def test_a_selection_deletes_nothing_outside_of_it(clients: WatchedClients) -> None:
    await fill(clients, ["users/1", "users/2", "orders/1", "users/1/orders/1", "users/1/notes/1"])
    before = await contents(clients)
    carried = await carry(clients, selection=Selection(include=("users",), exclude=("users/*/notes",)))
    await fill(clients, ["users/3", "users/1/notes/2", "orders/2", "users/2/orders/9"])
    await clients.native.document("users/1/orders/1").delete()
    await put_back(clients, carried)
    expected = before | {
        path: held for path, held in (await contents(clients)).items() if path in ("users/1/notes/2", "orders/2")
    }
    assert await contents(clients) == expected
    assert "users/1/notes/2" in expected


# -- elsewhere -------------------------------------------------------------------------------------


async def test_into_another_project_and_database_names_and_references_follow(
    clients: WatchedClients, clients_of: Open
) -> None:
    await write_raw(clients, ("types/all", every_type(clients.home)), ("people/1", {}))
    carried = await carry(clients)
    for suffix, database in (("-copy", "(default)"), ("", "second"), ("-copy", "eu")):
        other = await clients_of(suffix, database)
        await fill(other, ["extra/1"])
        await put_back(other, carried)
        expected = await clients_of(f"-expected-{database.strip('()')}{suffix}")
        await write_raw(expected, ("types/all", every_type(other.home)), ("people/1", {}))
        assert await contents(other) == await contents(expected)
        assert await put_back(other, carried)  # once more, over itself
        assert await contents(other) == await contents(expected)


async def test_in_another_database_nothing_is_taken_for_unchanged(clients: WatchedClients, clients_of: Open) -> None:
    await fill(clients, ["d/1", "d/2"])
    carried = await carry(clients)
    other = await clients_of("-copy")
    await put_back(other, carried)
    other.sent.clear()
    await put_back(other, carried)
    assert len(other.written) == 2


async def test_on_another_server_equal_names_and_times_say_nothing(clients: WatchedClients) -> None:
    carried = await small(clients)
    elsewhere = changed(carried.manifest.source, identity="firestore:elsewhere")
    await put_back(clients, with_manifest(carried, source=elsewhere))
    assert len(clients.written) == 3


# -- limits ----------------------------------------------------------------------------------------


async def test_no_request_holds_more_than_500_writes(clients: WatchedClients) -> None:
    paths = [f"d/{number:04}" for number in range(1002)]
    await fill(clients, paths)
    carried = await carry(clients, chunk=300)
    await put_back(clients, carried, "overwrite")
    assert [len(request.writes) for request, _ in clients.sent] == [500, 500, 2]
    assert sorted(clients.written) == [clients.home.name(path) for path in paths]
    clients.sent.clear()
    carried_nothing = changed_to_nothing(carried)
    await put_back(clients, carried_nothing)
    assert await contents(clients) == {}
    assert max(len(request.writes) for request, _ in clients.sent) <= 500


def changed_to_nothing(carried: Carried) -> Carried:
    """The same parts without rows."""
    entries = tuple(changed(entry, rows=0, raw_bytes=0, chunks=()) for entry in carried.manifest.parts)
    totals = changed(carried.manifest.totals, rows=0, raw_bytes=0)
    about = json.loads(carried.documents["collections.json"]) | {"collections": {}}
    return replace(
        carried,
        manifest=changed(carried.manifest, parts=entries, totals=totals),
        documents={"collections.json": json.dumps(about).encode()},
        chunks={entry.part: () for entry in entries},
    )


async def test_no_request_holds_more_bytes_than_it_may(clients: WatchedClients) -> None:
    for number in range(9):
        await write(clients, **{f"big/{number}": {"text": chr(97 + number) * 1_040_000}})
    before = await contents(clients)
    carried = await carry(clients, chunk=2)
    clients.sent.clear()
    await put_back(clients, carried, "overwrite")
    assert [len(request.writes) for request, _ in clients.sent] == [4, 4, 1]
    assert all(size <= MAX_BATCH_BYTES + 1024 for _, size in clients.sent)
    clients.sent.clear()
    await put_back(clients, carried, "overwrite", max_batch_bytes=1_400_000)
    assert [len(request.writes) for request, _ in clients.sent] == [1] * 9
    assert await contents(clients) == before


# -- refusals --------------------------------------------------------------------------------------


async def small(clients: WatchedClients) -> Carried:
    await fill(clients, ["d/1", "d/2", "d/3"])
    return await carry(clients, cuts=["d/2"])


def with_manifest(carried: Carried, **changes: Any) -> Carried:
    return replace(carried, manifest=changed(carried.manifest, **changes))


def of_another_kind(carried: Carried) -> Carried:
    return with_manifest(carried, source=changed(carried.manifest.source, kind="postgresql"))


def overlapping(carried: Carried) -> Carried:
    entries = [changed(entry, slice='["", ""]') for entry in carried.manifest.parts]
    return with_manifest(carried, parts=tuple(entries))


def without_collections(carried: Carried) -> Carried:
    return replace(carried, documents={})


def with_odd_collections(carried: Carried) -> Carried:
    return replace(carried, documents={"collections.json": b'{"project": "p"}'})


def with_odd_slices(carried: Carried) -> Carried:
    return with_manifest(carried, parts=tuple(changed(entry, slice="all") for entry in carried.manifest.parts))


def of_lines(carried: Carried) -> Carried:
    return with_manifest(carried, parts=tuple(changed(entry, framing="lines") for entry in carried.manifest.parts))


@pytest.mark.parametrize(
    ("spoilt", "settings", "error", "words"),
    [
        (of_another_kind, {}, RestoreFailed, "a backup of postgresql, and the target is Firestore"),
        (without_collections, {}, BackupDamaged, r"collections\.json"),
        (with_odd_collections, {}, BackupDamaged, r"collections\.json"),
        (with_odd_slices, {}, BackupDamaged, "names no range of documents: 'all'"),
        (of_lines, {}, BackupDamaged, "no part of a Firestore backup"),
        (overlapping, {}, BackupDamaged, "overlap"),
        (lambda carried: carried, {"max_writes": 2}, RestoreFailed, "holds 3 documents, and 2 writes are allowed"),
        (lambda carried: carried, {"max_batch_bytes": 1000}, ConfigError, "max_batch_bytes is 1000"),
        (lambda carried: carried, {"mode": "all"}, ConfigError, "Use one of: replace, overwrite, merge, create"),
    ],
)
async def test_what_can_be_refused_is_refused_before_anything_is_touched(
    clients: WatchedClients, spoilt: Callable[[Carried], Carried], settings: Any, error: type[Exception], words: str
) -> None:
    carried = spoilt(await small(clients))
    with pytest.raises(error, match=words):
        await put_back(clients, carried, **settings)
    assert clients.sent == []
    assert await marking.standing(clients) is None


async def test_as_many_writes_as_are_allowed_are_done(clients: WatchedClients) -> None:
    await put_back(clients, await small(clients), max_writes=3)


@pytest.mark.parametrize(
    "paths",
    [("d/3", "d/2"), ("d/2", "d/2"), ("c/1", "d/2"), ("d/2", "e/\0/f/1", "z/1"), ("schema_version_lock/lock",)],
)
async def test_rows_that_do_not_belong_there_are_refused(clients: WatchedClients, paths: tuple[str, ...]) -> None:
    carried = await small(clients)
    second = list(carried.chunks)[1]
    row_of = {path: types.Document.serialize(types.Document(name=clients.home.name(path))) for path in paths}
    chunk = b"".join(framed(row_of[path]) for path in paths)
    spoilt = replace(carried, chunks={**carried.chunks, second: [chunk]})
    with pytest.raises(RestoreFailed, match=r"does not belong|is not in order"):
        await put_back(clients, spoilt)
    assert await marking.standing(clients) is not None


def as_one_part(carried: Carried, *more: bytes) -> Carried:
    """All of the rows in a part that reaches over the locks, as nobody's backup has it."""
    data = b"".join(chunk for chunks in carried.chunks.values() for chunk in chunks) + b"".join(more)
    rows_ = carried.manifest.totals.rows + len(more)
    entry = changed(carried.manifest.parts[0], slice='["", ""]', rows=rows_, raw_bytes=len(data))
    return replace(with_manifest(carried, parts=(entry,)), chunks={entry.part: [data]})


async def test_the_locks_are_neither_deleted_nor_written_whatever_a_part_says(clients: WatchedClients) -> None:
    carried = await small(clients)
    await fill(clients, ["schema_version_lock/lock", "x/1"])
    await put_back(clients, as_one_part(carried))
    assert clients.deleted == [clients.home.name("x/1")]
    assert (await clients.native.document("schema_version_lock/lock").get()).exists
    rows_of_locks = [
        framed(types.Document.serialize(types.Document(name=clients.home.name(path))))
        for path in ("schema_version_lock/lock", "z/1")
    ]
    with pytest.raises(RestoreFailed, match="schema_version_lock/lock does not belong"):
        await put_back(clients, as_one_part(carried, *rows_of_locks))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (b"\x0a\xff", "broken .*/d/2|no document"),
        (b"\x0a\x02\xff\xfe", "holds what is no document"),
        (b"", "does not belong"),
        (b"NAME\x12\x7fcut", "holds a broken projects/.*/d/2"),
        (b"NAME\x13", "holds a broken projects/.*/d/2"),
    ],
)
async def test_rows_that_are_no_documents_are_refused(clients: WatchedClients, row: bytes, words: str) -> None:
    carried = await small(clients)
    second = list(carried.chunks)[1]
    row = row.replace(b"NAME", framed(clients.home.name("d/2").encode()))
    with pytest.raises(RestoreFailed, match=words):
        await put_back(clients, replace(carried, chunks={**carried.chunks, second: [framed(row)]}), "overwrite")


async def test_a_row_of_another_database_is_refused(clients: WatchedClients) -> None:
    carried = await small(clients)
    second = list(carried.chunks)[1]
    row = types.Document.serialize(types.Document(name="projects/other/databases/(default)/documents/d/2"))
    with pytest.raises(RestoreFailed, match="does not belong into a backup of"):
        await put_back(clients, replace(carried, chunks={**carried.chunks, second: [framed(row)]}))


# -- the mark --------------------------------------------------------------------------------------


@asynccontextmanager
async def begun(clients: WatchedClients, carried: Carried, mode: Any = "replace") -> AsyncIterator[Any]:
    """A restore that is left where it stands."""

    async def described() -> Any:
        return await describe(clients)

    options = RestoreOptions(mode=mode)
    async with restoration(
        clients, described, carried.manifest, carried.documents, options, lambda told: None
    ) as restoring:
        yield restoring


async def test_the_mark_stands_from_the_first_change_to_the_end(clients: WatchedClients) -> None:
    carried, before, _ = await changed_database(clients)
    async with begun(clients, carried) as restoring:
        mark = await marking.standing(clients)
        assert mark is not None
        assert (mark.backup, mark.mode, mark.started is not None) == (carried.manifest.id, "replace", True)
        for part, chunks in carried.chunks.items():
            await restoring.load(part, each(chunks))
        assert await marking.standing(clients) == mark
        await restoring.finish()
        assert await marking.standing(clients) is None
    assert await contents(clients) == before


async def each(chunks: Any) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_left_without_its_end_the_mark_stays_and_replace_goes_over_it(clients: WatchedClients) -> None:
    carried, before, _ = await changed_database(clients)
    async with begun(clients, carried) as restoring:
        part, chunks = next(iter(carried.chunks.items()))
        await restoring.load(part, each(chunks))
    mark = await marking.standing(clients)
    assert mark is not None
    words = str(marking.unfinished(mark))
    assert carried.manifest.id in words
    assert "replace" in words
    await put_back(clients, carried)
    assert (await marking.standing(clients), await contents(clients)) == (None, before)


@pytest.mark.parametrize("mode", ["overwrite", "merge", "create"])
async def test_no_other_mode_builds_on_what_another_restore_has_left(clients: WatchedClients, mode: Any) -> None:
    carried = await small(clients)
    async with begun(clients, with_manifest(carried, id="first")):
        pass
    with pytest.raises(RestoreUnfinished, match=r"a restore of the backup first \(mode replace"):
        await put_back(clients, with_manifest(carried, id="second"), mode)
    assert clients.sent == []


@pytest.mark.parametrize("mode", ["overwrite", "merge", "create"])
async def test_the_same_restore_run_again_comes_to_its_end(clients: WatchedClients, mode: Any) -> None:
    carried = await small(clients)
    async with begun(clients, carried, mode):
        pass
    await put_back(clients, carried, mode)
    assert await marking.standing(clients) is None


async def test_of_two_restores_at_once_the_first_does_not_take_the_seconds_mark_away(clients: WatchedClients) -> None:
    carried = await small(clients)
    async with begun(clients, with_manifest(carried, id="first")) as first:
        parts = list(carried.chunks)
        await first.load(parts[0], each(carried.chunks[parts[0]]))
        async with begun(clients, with_manifest(carried, id="second")) as second:
            with pytest.raises(
                RestoreFailed, match="Another restore has begun while this one ran: a restore of the backup second"
            ):
                await first.load(parts[1], each(carried.chunks[parts[1]]))
            with pytest.raises(RestoreFailed, match="Another restore has begun"):
                await first.finish()
            for part in parts:
                await second.load(part, each(carried.chunks[part]))
            await second.finish()
    assert await marking.standing(clients) is None


async def test_a_mark_that_somebody_took_away_is_missed(clients: WatchedClients) -> None:
    carried = await small(clients)
    async with begun(clients, carried) as restoring:
        for part, chunks in carried.chunks.items():
            await restoring.load(part, each(chunks))
        await clients.native.document(marking.PATH).delete()
        with pytest.raises(RestoreFailed, match="removed the mark"):
            await restoring.finish()


async def test_counts_that_differ_leave_the_mark(clients: WatchedClients) -> None:
    carried = await small(clients)
    async with begun(clients, carried) as restoring:
        for part, chunks in carried.chunks.items():
            await restoring.load(part, each(chunks))
        await fill(clients, ["d/meanwhile"])
        with pytest.raises(RestoreFailed, match="d holds 4 and should hold 3"):
            await restoring.finish()
        await clients.native.document("d/meanwhile").delete()
        await fill(clients, ["other/1"])
        with pytest.raises(RestoreFailed, match="the database holds 4 and should hold 3"):
            await restoring.finish()
    assert await marking.standing(clients) is not None


async def test_a_collection_called_like_the_locks_is_counted_without_them(clients: WatchedClients) -> None:
    await fill(
        clients, ["d/1", "d/1/schema_version_lock/1", "schema_version_lock/lock", "schema_version_lock/heartbeat"]
    )
    carried = await carry(clients)
    assert carried.manifest.totals.rows == 2
    await fill(clients, ["d/1/schema_version_lock/2"])
    await put_back(clients, carried)
    assert list(await contents(clients)) == ["d/1", "d/1/schema_version_lock/1"]
    lock = await clients.native.document("schema_version_lock/lock").get()
    assert lock.exists


# -- trouble ---------------------------------------------------------------------------------------


async def big(clients: WatchedClients) -> tuple[Carried, dict[str, bytes]]:
    """A backup in five parts; meanwhile every other document was changed and there are others."""
    paths = [f"d/{number:03}" for number in range(150)]
    await fill(clients, paths)
    before = await contents(clients)
    carried = await carry(clients, cuts=["d/030", "d/060", "d/090"], chunk=10)
    await fill(clients, paths[::2], {"changed": True})
    await fill(clients, [f"{path}/more/1" for path in paths[::3]])
    clients.sent.clear()
    return carried, before


@pytest.mark.parametrize("mode", ["replace", "overwrite", "create"])
async def test_a_server_in_trouble_loses_nothing(
    clients: WatchedClients, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msr_async.firestore.writing._FIRST_DELAY", 0.002)
    monkeypatch.setattr("msr_async.firestore.restoration.Packer", SmallPacker)
    carried, before = await big(clients)
    changed_now = await contents(clients)
    clients.around = trouble = Trouble(random.Random(7))
    await put_back(clients, carried, mode)
    expected = {"replace": before, "overwrite": changed_now | before, "create": before | changed_now}
    assert await contents(clients) == expected[mode]
    assert trouble.told > 5


class SmallPacker(Packer):
    def __init__(self, *, max_bytes: int) -> None:
        super().__init__(max_bytes=max_bytes, max_writes=9)


async def test_a_refused_document_is_named_and_the_next_run_repairs_it(clients: WatchedClients) -> None:
    carried, before = await big(clients)

    async def refuse(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        answer = await forward(request)
        for write_, status in zip(request.writes, answer.status, strict=True):
            if write_.update.name.endswith("/d/074"):
                status.code, status.message = grpc.StatusCode.PERMISSION_DENIED.value[0], "a rule"
        return answer

    clients.around = refuse
    with pytest.raises(PermissionMissing, match=r"documents/d/074 cannot be written: PERMISSION_DENIED: a rule"):
        await put_back(clients, carried)
    assert await marking.standing(clients) is not None
    clients.around = None
    await put_back(clients, carried)
    assert (await contents(clients), await marking.standing(clients)) == (before, None)


async def test_cancelled_anywhere_it_ends_at_once_and_the_next_run_comes_to_the_same_end(
    clients: WatchedClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msr_async.firestore.restoration.Packer", SmallPacker)
    carried, before = await big(clients)
    begun_at = anyio.current_time()
    await put_back(clients, carried)
    whole = anyio.current_time() - begun_at
    dice, cut = random.Random(11), 0
    for _ in range(20):
        await fill(clients, [f"d/{number:03}" for number in range(0, 150, 4)], {"changed": dice.random()})
        await fill(clients, [f"x/{number:03}" for number in range(20)])
        with anyio.fail_after(10):
            with anyio.move_on_after(dice.random() * whole) as scope:
                await put_back(clients, carried)
        cut += scope.cancelled_caught
        assert clients.at_once == 0
    assert cut > 5
    await put_back(clients, carried)
    assert (await contents(clients), await marking.standing(clients)) == (before, None)


async def test_a_server_that_dies_in_the_middle_is_told_in_time_and_the_next_run_comes_to_the_end(
    clients: WatchedClients, firestore_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msr_async.firestore.writing._PATIENCE", 1.0)
    monkeypatch.setattr(marking, "_PATIENCE", 1.0)
    monkeypatch.setattr("msr_async.firestore.restoration.Packer", SmallPacker)
    carried, before = await big(clients)
    async with relay_to(firestore_target.address) as relay:

        async def dying(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
            if len(there.sent) >= 4:
                relay.cut()
            return await forward(request)

        there = WatchedClients(clients.home, relay.address, dying)
        same = changed(carried.manifest.source, identity=(await describe(there)).identity)
        try:
            with anyio.fail_after(20):
                # Whichever notices first: a part that writes, or one that looks for the mark before it begins.
                with pytest.raises(
                    (RestoreFailed, ConnectionLost), match=r"has taken no write for .*UNAVAILABLE: |mark of a restore"
                ):
                    await put_back(there, with_manifest(carried, source=same), "overwrite")
        finally:
            await there.close()
    assert len(there.sent) >= 4
    assert await marking.standing(clients) is not None
    await put_back(clients, carried)
    assert (await contents(clients), await marking.standing(clients)) == (before, None)


async def test_a_connection_that_breaks_while_the_mark_is_looked_at_ends_nothing(
    clients: WatchedClients, firestore_target: Any
) -> None:
    dice = random.Random(11)
    mark = await marking.put(clients, backup="b", mode="merge")
    async with relay_to(firestore_target.address) as relay:
        there = WatchedClients(clients.home, relay.address)
        try:
            await marking.check(there, mark)
            with anyio.fail_after(60):
                for _ in range(25):
                    async with anyio.create_task_group() as group:
                        group.start_soon(marking.check, there, mark)
                        await anyio.sleep(dice.random() * 0.004)
                        relay.interrupt()
                await marking.remove(there, mark)
        finally:
            await there.close()
    assert await marking.standing(clients) is None


async def test_without_a_server_the_mark_cannot_be_put_and_that_is_said(
    clients: WatchedClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = await small(clients)
    away = WatchedClients(clients.home, "127.0.0.1:1")
    monkeypatch.setattr(marking, "_PATIENCE", 0.3)
    try:
        with anyio.fail_after(10):
            with pytest.raises(
                ConnectionLost, match=r"mark of a restore \(schema_version_lock/restore\): the server cannot"
            ):
                await put_back(away, carried)
    finally:
        await away.close()
