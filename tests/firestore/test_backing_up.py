"""Backups of Firestore through the engine: what is in the file, and what is refused before anything is read."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from google.cloud.firestore_v1.types import document as documents

from msr_async import MigrationScriptExecutor
from msr_async._engine.dumping import dump
from msr_async._engine.emitting import Emitter
from msr_async._engine.verifying import read_manifest, verify
from msr_async.archive import decompress
from msr_async.config import BackupConfig, Config
from msr_async.errors import (
    BackupFailed,
    ConfigError,
    ConnectionLost,
    DatabaseError,
    MsrError,
    RestoreUnfinished,
)
from msr_async.firestore import marking, reading, wire
from msr_async.firestore.backup import FirestoreBackup
from msr_async.firestore.handler import FirestoreHandler
from msr_async.firestore.names import Home, collection_id, order_key
from msr_async.framing import rows_in
from msr_async.models import DatabaseInfo, Manifest, Selection
from msr_async.storage import LocalStorage
from tests.support.firestore import FirestoreTarget, commit, only_own, opening
from tests.support.firestore_carrying import describe
from tests.support.firestore_cutting import CutClients
from tests.support.firestore_server import FirestoreServer, listing

Document: Any = documents.Document.pb()
Value: Any = documents.Value.pb()
FAST = reading.Limits(stream=5, patience=0.4, first_delay=0.001, longest_delay=0.01)

Open = Callable[..., CutClients]


@pytest.fixture
async def opened(firestore_target: FirestoreTarget) -> AsyncIterator[Open]:
    """Opens clients whose streams are cut as the arguments say."""
    async with opening(firestore_target, CutClients) as opens:
        yield opens


@pytest.fixture
def clients(opened: Open) -> CutClients:
    return opened()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


SHOP = sorted(
    [
        *(f"users/{number:03}" for number in range(40)),
        *(f"users/{number:03}/orders/{order}" for number in range(0, 40, 5) for order in range(3)),
        *("gone/x/orders/1", "gone/x/deep/a/deeper/b", "numbers/__id7__", "numbers/__id-7__", "\U0001f600/é"),
        *("schema_version/202601010000", "schema_version_notes/about"),
    ],
    key=order_key,
)
LOCKS = ["schema_version_lock/lock", "schema_version_lock/heartbeat", "schema_version_lock/lock/inner/x"]


async def write(clients: CutClients, paths: Sequence[str], number: int = 0) -> None:
    await commit(clients, paths, {"number": Value(integer_value=number), "text": Value(string_value="x" * 100)})


def backup_of(clients: CutClients, **settings: Any) -> FirestoreBackup:
    options: dict[str, Any] = {"max_batch_bytes": 4_000_000, "ramp_up": None, "max_reads": None, "max_writes": None}
    return FirestoreBackup(lambda: clients, lambda: describe(clients), **{**options, "limits": FAST, **settings})


async def make(
    backup: FirestoreBackup,
    clients: CutClients,
    storage: LocalStorage,
    *,
    complete: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Manifest:
    config = BackupConfig(chunk_size=4096, include=tuple(include), exclude=tuple(exclude))
    await dump(
        backup=backup,
        storage=storage,
        name="b.msrbak",
        config=config,
        source=await describe(clients),
        complete=complete,
        emit=Emitter(),
    )
    await verify(storage, "b.msrbak", level="full", emit=Emitter())
    async with storage.open("b.msrbak") as reader:
        _, manifest = await read_manifest(reader)
    return manifest


def chunks_of(storage: LocalStorage, manifest: Manifest) -> list[bytes]:
    """All chunks in the order of the parts, read with the standard zipfile."""
    with zipfile.ZipFile(storage.path("b.msrbak")) as opened:
        return [
            decompress(opened.read(chunk.member), chunk.raw_size) for part in manifest.parts for chunk in part.chunks
        ]


def document_of(storage: LocalStorage, manifest: Manifest) -> Any:
    (entry,) = manifest.documents
    with zipfile.ZipFile(storage.path("b.msrbak")) as opened:
        return json.loads(decompress(opened.read(entry.member), entry.raw_size))


def paths_in(clients: CutClients, storage: LocalStorage, manifest: Manifest) -> list[str]:
    rows = [row for chunk in chunks_of(storage, manifest) for row in wire.documents(chunk)]
    return [clients.home.path_of(wire.name_of(row)) for row in rows]


async def test_every_document_is_in_the_file_as_the_server_gave_it(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, [*SHOP, *LOCKS])
    expected = {wire.name_of(row): row async for page in reading.pages(clients) for row in page}
    manifest = await make(backup_of(clients), clients, storage, complete=True)
    chunks = chunks_of(storage, manifest)
    rows = [row for chunk in chunks for row in wire.documents(chunk)]
    assert rows == [expected[clients.home.name(path)] for path in SHOP]
    assert len(chunks) > 1
    assert manifest.complete
    assert manifest.totals.rows == len(SHOP)
    (part,) = manifest.parts
    assert (part.kind, part.names, part.framing, part.slice) == ("documents", ("documents",), "messages", '["", ""]')
    assert [chunk.rows for chunk in part.chunks] == [rows_in(chunk, "messages") for chunk in chunks]


async def test_collections_are_counted_and_the_moment_is_noted(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, [*SHOP, *LOCKS])
    manifest = await make(backup_of(clients), clients, storage)
    assert document_of(storage, manifest) == {
        "project": clients.home.project,
        "database": "(default)",
        "read_time": manifest.snapshot,
        "selection": {"include": [], "exclude": []},
        "collections": dict(Counter(map(collection_id, SHOP))),
    }
    assert [entry.name for entry in manifest.documents] == ["collections.json"]
    assert datetime.fromisoformat(manifest.snapshot).tzinfo is not None
    assert manifest.fingerprint == ""
    assert manifest.notes == (
        "Indexes, security rules and TTL policies are not in it: keep them where you deploy them from.",
    )


async def test_an_empty_database_has_one_part_without_rows(clients: CutClients, storage: LocalStorage) -> None:
    manifest = await make(backup_of(clients), clients, storage, complete=True)
    assert [(part.slice, part.rows, part.chunks) for part in manifest.parts] == [('["", ""]', 0, ())]
    assert document_of(storage, manifest)["collections"] == {}
    assert manifest.complete


async def test_many_parts_hold_each_document_once_and_in_order(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, [*SHOP, *LOCKS])
    backup = backup_of(clients, least_in_part=10, most_parts=5)
    manifest = await make(backup, clients, storage, complete=True)
    slices = [json.loads(part.slice) for part in manifest.parts]
    assert paths_in(clients, storage, manifest) == SHOP
    assert (slices[0][0], slices[-1][1]) == ("", "")
    assert all(before[1] == after[0] for before, after in itertools.pairwise(slices))
    assert document_of(storage, manifest)["collections"] == dict(Counter(map(collection_id, SHOP)))


async def test_streams_that_break_all_the_time_lose_nothing(opened: Open, storage: LocalStorage) -> None:
    clients = opened(cuts=[0, 3] * 40)
    await write(clients, [*SHOP, *LOCKS])
    manifest = await make(backup_of(clients, least_in_part=20, most_parts=3), clients, storage)
    assert paths_in(clients, storage, manifest) == SHOP
    assert clients.streams > 20


async def test_all_parts_are_of_one_moment_while_somebody_writes(opened: Open, storage: LocalStorage) -> None:
    clients = opened(cuts=[5] * 20)
    await write(clients, SHOP)
    backup = backup_of(clients, least_in_part=10, most_parts=4)
    async with anyio.create_task_group() as group, backup.snapshot(Selection(), complete=True) as snapshot:

        async def change() -> None:
            for number in itertools.count(1):
                await write(clients, [*SHOP[::2], f"users/new{number}"], number)

        group.start_soon(change)
        await anyio.sleep(0.1)
        rows: list[bytes] = []

        async def send(piece: bytes) -> None:
            rows.extend(wire.documents(piece))
            await anyio.sleep(0.01)

        totals = [await snapshot.dump(part, send) for part in snapshot.parts]
        details = await snapshot.details()
        group.cancel_scope.cancel()
    found = [Document.FromString(row) for row in rows]
    assert [clients.home.path_of(document.name) for document in found] == SHOP
    assert {document.fields["number"].integer_value for document in found} == {0}
    assert sum(total.rows for total in totals) == len(SHOP)
    assert json.loads(details.documents["collections.json"])["collections"] == dict(Counter(map(collection_id, SHOP)))


# -- selections ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "exclude"),
    [
        (("users",), ()),
        (("users/005",), ()),
        (("users/*/orders",), ()),
        (("numbers/__id-7__", "gone"), ()),
        ((), ("users",)),
        ((), ("users/*/orders", "gone/x/deep")),
        (("users", "gone"), ("users/03*", "users/005")),
        (("schema_version*",), ()),
        (("nothing", "schema_version_lock", "users/005"), ("nowhere*",)),
    ],
)
async def test_a_selection_is_what_its_patterns_say(
    clients: CutClients, storage: LocalStorage, include: tuple[str, ...], exclude: tuple[str, ...]
) -> None:
    await write(clients, [*SHOP, *LOCKS])
    manifest = await make(backup_of(clients), clients, storage, include=include, exclude=exclude)
    found = paths_in(clients, storage, manifest)
    assert found == [path for path in SHOP if _meant(path, include, exclude)]
    assert not manifest.complete
    about = document_of(storage, manifest)
    assert about["selection"] == {"include": list(include), "exclude": list(exclude)}
    assert about["collections"] == dict(Counter(map(collection_id, found)))
    assert manifest.notes[-1].startswith("Indexes, security rules and TTL policies are not in it")
    assert all(pattern in " ".join(manifest.notes[:-1]) for pattern in (*include, *exclude))


@pytest.mark.parametrize(
    ("include", "said"),
    [
        ("user", "Did you mean users?"),
        ("schema_version_lock", "Did you mean schema_version, "),
        ("user*s/9", "Did you mean users?"),
        ("zzz*", "There are: gone, "),
    ],
)
async def test_a_selection_of_nothing_is_refused_with_the_names_that_are_there(
    clients: CutClients, storage: LocalStorage, include: str, said: str
) -> None:
    await write(clients, [*SHOP, *LOCKS])
    with pytest.raises(BackupFailed, match="Nothing is in the database that include means") as raised:
        await make(backup_of(clients), clients, storage, include=[include])
    assert raised.value.hint.startswith(said)
    assert list(storage.path("b.msrbak").parent.glob("*.msrbak")) == []


async def test_what_means_nothing_is_told_pattern_for_pattern(clients: CutClients) -> None:
    await write(clients, [*SHOP, *LOCKS])
    selection = Selection(include=("users/005", "users/555", "us*rs"), exclude=("gone/y", "nowhere*", "users/03*"))
    async with backup_of(clients).snapshot(selection, complete=False) as snapshot:
        for part in snapshot.parts:
            await snapshot.dump(part, _nowhere)
        details = await snapshot.details()
    assert details.unmatched == ("users/555", "gone/y", "nowhere*")
    assert "schema_version_lock" not in details.names


async def _nowhere(piece: bytes) -> None:
    pass


def _meant(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """The patterns above, read by a person."""
    said = {
        "users": path.startswith("users/"),
        "users/005": path == "users/005" or path.startswith("users/005/"),
        "users/*/orders": path.startswith("users/") and "/orders/" in path,
        "users/03*": path.startswith("users/03"),
        "numbers/__id-7__": path == "numbers/__id-7__",
        "gone": path.startswith("gone/"),
        "gone/x/deep": path.startswith("gone/x/deep/"),
        "schema_version*": path.startswith("schema_version"),
        "nothing": False,
        "nowhere*": False,
        "schema_version_lock": False,
    }
    return (not include or any(said[item] for item in include)) and not any(said[item] for item in exclude)


@pytest.mark.parametrize(
    ("include", "found"),
    [
        (f"c/{'d' * 1500}", [f"c/{'d' * 1500}", f"c/{'d' * 1500}/s/x"]),
        ("k" * 1500, [f"{'k' * 1500}/__id5__", f"{'k' * 1500}/x"]),
    ],
    ids=["document", "collection"],
)
async def test_what_has_the_longest_name_can_be_selected_alone_and_left_out(
    clients: CutClients, storage: LocalStorage, include: str, found: list[str]
) -> None:
    long, longer = "d" * 1500, "k" * 1500
    here = [
        *(f"c/{long}{more}" for more in ("", "/s/x")),
        f"c/{'d' * 1499}e",
        f"{longer}/__id5__",
        f"{longer}/x",
        "l/x",
    ]
    await write(clients, here)
    manifest = await make(backup_of(clients), clients, storage, include=[include])
    assert paths_in(clients, storage, manifest) == found
    storage.path("b.msrbak").unlink()
    manifest = await make(backup_of(clients), clients, storage, exclude=[include])
    assert paths_in(clients, storage, manifest) == [path for path in here if path not in found]


async def test_what_undoes_migrations_is_no_selection(clients: CutClients) -> None:
    for selection in (Selection(include=("users",)), Selection(exclude=("users",))):
        with pytest.raises(BackupFailed, match=r"holds all documents.*Leave include and exclude out"):
            async with backup_of(clients).snapshot(selection, complete=True):
                pytest.fail("it must not begin")
    assert clients.streams == 0


async def test_a_pattern_that_is_no_path_is_refused(clients: CutClients) -> None:
    with pytest.raises(ConfigError, match="no path"):
        async with backup_of(clients).snapshot(Selection(include=("users/",)), complete=False):
            pytest.fail("it must not begin")


# -- refusals and failures -------------------------------------------------------------------------


async def test_more_documents_than_may_be_read_are_refused_before(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, SHOP)
    with pytest.raises(BackupFailed, match=rf"{len(SHOP)} documents to read, and {len(SHOP) - 1} reads are allowed"):
        await make(backup_of(clients, max_reads=len(SHOP) - 1), clients, storage)
    assert clients.streams == 0
    assert await storage.list() == []
    await make(backup_of(clients, max_reads=len(SHOP)), clients, storage)


async def test_more_than_can_be_read_in_time_is_refused_before(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, SHOP)
    with pytest.raises(BackupFailed, match=r"a past moment for 1 minutes only.*Google's own export"):
        await make(backup_of(clients, readable=60, rate=1), clients, storage)
    assert clients.streams == 0
    assert await storage.list() == []
    await make(backup_of(clients, readable=60, rate=2), clients, storage)


async def test_the_time_that_was_spent_counts_too(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, SHOP)
    seconds = itertools.count(0, 40)
    with pytest.raises(BackupFailed, match="a past moment for 1 minutes only"):
        await make(backup_of(clients, readable=60, rate=2, clock=lambda: next(seconds)), clients, storage)


@only_own
@pytest.mark.parametrize(
    "words", ["The requested snapshot version is too old.", "The requested 'read_time' is too old."]
)
async def test_a_moment_that_is_gone_is_told(
    firestore_target: Any, clients: CutClients, storage: LocalStorage, words: str
) -> None:
    await write(clients, SHOP)
    firestore_target.server.faults.fail("RunQuery", grpc.StatusCode.FAILED_PRECONDITION, words)
    with pytest.raises(BackupFailed, match=r"does not show the moment .* any more.*a selection of collections"):
        await make(backup_of(clients), clients, storage)
    assert await storage.list() == []


@only_own
async def test_the_same_status_for_another_reason_is_not_taken_for_that(
    firestore_target: Any, clients: CutClients, storage: LocalStorage
) -> None:
    await write(clients, SHOP)
    words = "The query requires an index."
    firestore_target.server.faults.fail("RunQuery", grpc.StatusCode.FAILED_PRECONDITION, words)
    with pytest.raises(DatabaseError, match=r"Reading .*requires an index \(FAILED_PRECONDITION\)") as caught:
        await make(backup_of(clients), clients, storage)
    assert type(caught.value) is DatabaseError


async def test_after_the_hour_it_is_taken_for_that_whatever_the_words(opened: Open) -> None:
    clients = opened(cuts=[3], code=grpc.StatusCode.FAILED_PRECONDITION)
    await write(clients, SHOP)
    seconds = 0.0
    backup = backup_of(clients, readable=60, rate=1000, clock=lambda: seconds)

    async def send(piece: bytes) -> None:
        pass

    async with backup.snapshot(Selection(), complete=True) as snapshot:
        seconds = 61.0
        with pytest.raises(BackupFailed, match=r"does not show the moment .* any more"):
            await snapshot.dump(snapshot.parts[0], send)


async def test_in_the_middle_of_a_restore_no_backup_is_made(clients: CutClients, storage: LocalStorage) -> None:
    await write(clients, SHOP)
    mark = await marking.put(clients, backup="an-older-one", mode="replace")
    for include in ((), ("users",)):
        with pytest.raises(RestoreUnfinished, match="in the middle of a restore of the backup an-older-one"):
            await make(backup_of(clients), clients, storage, include=include)
    _, seen = await marking.with_time(clients)
    assert seen == await marking.standing(clients)
    assert clients.streams == 0
    assert await storage.list() == []
    await marking.remove(clients, mark)
    await make(backup_of(clients), clients, storage, complete=True)


async def test_a_server_that_goes_away_is_told_in_time(opened: Open, storage: LocalStorage) -> None:
    clients = opened(cuts=itertools.chain([3], itertools.repeat(0)))
    await write(clients, SHOP)
    with anyio.fail_after(10), pytest.raises(ConnectionLost, match="nothing came from the server"):
        await make(backup_of(clients), clients, storage)
    assert await storage.list() == []
    assert clients.open == 0


async def test_an_emulator_that_was_started_anew_in_between_is_found_out(opened: Open, storage: LocalStorage) -> None:
    clients = opened(cuts=[3], forgets=True)
    await write(clients, SHOP)
    with pytest.raises(BackupFailed, match=rf"counted {len(SHOP)} documents at .*, and 3 were read.*started anew"):
        await make(backup_of(clients), clients, storage)
    assert await storage.list() == []


@pytest.fixture
def server() -> Iterator[FirestoreServer]:
    """One that a test may stop, and start anew without anything in it."""
    with FirestoreServer() as server:
        yield server


async def backed_up_while(
    server: FirestoreServer, storage: LocalStorage, happens: Callable[[], Awaitable[None]]
) -> MsrError:
    """What a backup ends with, when in its middle something happens to the server; within ten seconds."""
    clients = CutClients(Home(project="test-dying", database="(default)"), server.address)
    many = [f"c/{number:05}" for number in range(3000)]
    await write(clients, many)
    server.faults.documents_a_second = 2000
    limits = reading.Limits(stream=5, patience=2, first_delay=0.01, longest_delay=0.1)
    ended: list[MsrError] = []
    async with anyio.create_task_group() as group:

        async def back_up() -> None:
            try:
                await make(backup_of(clients, limits=limits), clients, storage)
            except MsrError as error:
                ended.append(error)

        group.start_soon(back_up)
        while not clients.open:
            await anyio.sleep(0.01)
        await anyio.sleep(0.3)
        await happens()
        with anyio.fail_after(10):
            while not ended:
                await anyio.sleep(0.05)
    await clients.close()
    assert await storage.list() == []
    return ended[0]


async def test_a_server_that_dies_in_the_middle_is_told(
    server: FirestoreServer, storage: LocalStorage, one_loop: None
) -> None:
    error = await backed_up_while(server, storage, lambda: anyio.to_thread.run_sync(server.stop))
    assert isinstance(error, ConnectionLost)
    assert "nothing came from the server" in str(error)


async def test_an_emulator_that_dies_and_comes_back_empty_is_told(
    server: FirestoreServer, storage: LocalStorage, one_loop: None
) -> None:
    another = FirestoreServer()

    async def start_anew() -> None:
        await anyio.to_thread.run_sync(server.stop)
        await anyio.to_thread.run_sync(another.start, int(server.address.rpartition(":")[2]))

    error = await backed_up_while(server, storage, start_anew)
    another.stop()
    assert isinstance(error, BackupFailed)
    assert "started anew" in str(error)


class Uncountable(CutClients):
    """Its server does not count, and says so with `code`."""

    def stream(self, method: str) -> Any:
        return _Refusing(self.code) if method == "RunAggregationQuery" else super().stream(method)


class _Refusing:
    def __init__(self, code: grpc.StatusCode) -> None:
        self._code = code

    def __call__(self, *_: Any, **__: Any) -> _Refusing:
        return self

    def __aiter__(self) -> _Refusing:
        return self

    async def __anext__(self) -> bytes:
        raise grpc.aio.AioRpcError(self._code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="too many")

    def cancel(self) -> None:
        pass


@pytest.fixture
async def uncountable(firestore_target: FirestoreTarget) -> AsyncIterator[Uncountable]:
    async with opening(firestore_target, Uncountable) as opens:
        yield opens()


@pytest.mark.parametrize("code", [grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INVALID_ARGUMENT])
async def test_what_could_not_be_counted_is_read_all_the_same(
    uncountable: Uncountable, storage: LocalStorage, code: grpc.StatusCode
) -> None:
    uncountable.code = code
    await write(uncountable, SHOP)
    with pytest.raises(BackupFailed, match="more documents than could be counted to read, and 10 reads are allowed"):
        await make(backup_of(uncountable, max_reads=10), uncountable, storage)
    assert uncountable.streams == 0
    manifest = await make(backup_of(uncountable, most_parts=1), uncountable, storage)
    assert paths_in(uncountable, storage, manifest) == SHOP
    assert "it was not checked against a count" in manifest.notes[0]


@pytest.fixture
def in_pieces(firestore_target: Any, monkeypatch: pytest.MonkeyPatch) -> FirestoreServer:
    """The server of our own, which cuts small databases too, and cannot count this one at once."""
    server: FirestoreServer = firestore_target.server
    monkeypatch.setattr(listing, "LEAST_PARTITION", 10)
    monkeypatch.setattr(server, "kindless_partitions", True)
    server.faults.fail("RunAggregationQuery", grpc.StatusCode.INVALID_ARGUMENT)
    return server


@only_own
async def test_what_is_too_much_for_one_count_is_counted_piece_by_piece(
    clients: CutClients, storage: LocalStorage, in_pieces: FirestoreServer
) -> None:
    await write(clients, SHOP)
    manifest = await make(backup_of(clients, least_in_part=10, most_parts=4), clients, storage)
    assert paths_in(clients, storage, manifest) == SHOP
    assert len(manifest.parts) == 4
    assert not any("count" in note for note in manifest.notes)


@only_own
@pytest.mark.parametrize(
    ("settings", "words"),
    [({"max_reads": 10}, f"{len(SHOP)} documents to read, and 10 reads"), ({"readable": 60, "rate": 1}, "1 minutes")],
)
async def test_and_is_refused_before_it_is_read_like_anything_else(
    clients: CutClients, storage: LocalStorage, in_pieces: FirestoreServer, settings: dict[str, Any], words: str
) -> None:
    await write(clients, SHOP)
    with pytest.raises(BackupFailed, match=words):
        await make(backup_of(clients, least_in_part=10, most_parts=4, **settings), clients, storage)
    assert clients.streams == 0
    assert await storage.list() == []


async def test_a_server_that_is_away_from_the_start_is_told(uncountable: Uncountable, storage: LocalStorage) -> None:
    with pytest.raises(ConnectionLost, match="Counting documents: nothing came from the server"):
        await make(backup_of(uncountable), uncountable, storage)


class Stopping(CutClients):
    """Cancels a scope when a certain call to the database was begun."""

    calls = 0
    scope: anyio.CancelScope | None = None
    at = 0
    """Which call, from 1 on."""

    def unary(self, method: str) -> Any:
        return self._counted(super().unary(method))

    def stream(self, method: str) -> Any:
        return self._counted(super().stream(method))

    def blocking_stream(self, method: str) -> Any:
        return self._counted(super().blocking_stream(method))

    def _counted(self, call: Any) -> Any:
        def begun(request: bytes, **options: Any) -> Any:
            self.calls += 1
            if self.scope is not None and self.calls == self.at:
                self.scope.cancel()
            return call(request, **options)

        return begun


async def test_cancelled_at_any_call_it_leaves_nothing_and_can_begin_again(
    firestore_target: FirestoreTarget, storage: LocalStorage
) -> None:
    async with opening(firestore_target, Stopping) as opens:
        clients = opens(itertools.cycle([7, 0]))
        await write(clients, SHOP)
        clients.calls = 0
        await make(backup_of(clients), clients, storage)
        calls = clients.calls
        await storage.delete("b.msrbak")
        for clients.at in range(1, calls + 1):
            clients.calls = 0
            with anyio.CancelScope() as clients.scope:
                await make(backup_of(clients), clients, storage)
                pytest.fail("it came to its end")
            assert clients.scope.cancelled_caught
            assert list(storage.path("x").parent.iterdir()) == []
        clients.scope = None
        assert calls > 10
        assert clients.open == 0
        assert paths_in(clients, storage, await make(backup_of(clients), clients, storage)) == SHOP


async def test_the_executor_makes_reads_and_verifies_one(firestore_target: Any, tmp_path: Path) -> None:
    config = Config(folder=tmp_path, backup=BackupConfig(folder=tmp_path / "backups"))
    async with FirestoreHandler(firestore_target.project, emulator=firestore_target.address) as handler:
        for path in ("users/a", "users/a/orders/1", "gone/x/orders/2"):
            await handler.db.document(path).set({"path": path})
        executor = MigrationScriptExecutor(handler, config)
        info = await executor.create_backup(tags={"why": "a test"})
        manifest = await executor.inspect_backup(info)
        verified = await executor.verify_backup(info)
    assert (info.rows, info.complete, info.parts) == (3, True, 1)
    assert manifest.source.name == f"{firestore_target.project}/(default)"
    assert manifest.tags == {"why": "a test"}
    assert verified.rows == 3


async def test_a_restore_that_begins_right_before_the_backup_is_noticed(
    firestore_target: Any, clients: CutClients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(folder=tmp_path, backup=BackupConfig(folder=tmp_path / "backups"))
    await write(clients, ["users/a", "users/b"])
    async with FirestoreHandler(firestore_target.project, emulator=firestore_target.address) as handler:
        executor, described = MigrationScriptExecutor(handler, config), handler.describe

        async def describe() -> DatabaseInfo:
            found = await described()
            await marking.put(clients, backup="another", mode="replace")
            return found

        monkeypatch.setattr(handler, "describe", describe)
        with pytest.raises(RestoreUnfinished, match="a restore of the backup another"):
            await executor.create_backup()
        assert await executor.list_backups() == []
