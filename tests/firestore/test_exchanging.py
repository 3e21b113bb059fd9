"""A backup as a file of JSON lines and back: the same rows, in the same parts, and every wrong line by its number."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from msr_async import BackupInfo, Config, Event, LocalStorage, MigrationScriptExecutor
from msr_async._engine.verifying import opened, read_chunk, read_documents, read_manifest
from msr_async.errors import (
    BackupDamaged,
    BackupInvalid,
    BackupNotFound,
    BackupTooNew,
    ConfigError,
    NotABackup,
    StorageError,
)
from msr_async.events import Step
from msr_async.firestore.wire import documents as rows_of
from msr_async.models import Manifest
from msr_async.testing import MemoryHandler
from tests.firestore.filed import READ_TIME, SOURCE, document, filed
from tests.support.interruptions import Interruption, Moment, Way, watching

DOCUMENTS = {
    **{
        f"users/{number:03}": document(f"users/{number:03}", name=f"user {number}", note="x" * 50)
        for number in range(200)
    },
    "users/007/orders/__id5__": document("users/007/orders/__id5__", what="tea"),
    "users/007/orders/7": document("users/007/orders/7", what="Ü\n\u2028"),
    "zoo/large": document("zoo/large", text="y" * 10_000),
}
CUTS = ["users/050", "users/100", "users/990"]


@pytest.fixture
def executor(tmp_path: Path) -> MigrationScriptExecutor[Any]:
    config = Config()
    config.backup.folder = tmp_path / "backups"
    config.backup.chunk_size = 4096
    return MigrationScriptExecutor(MemoryHandler(), config)


@pytest.fixture
async def made(tmp_path: Path) -> BackupInfo:
    return await filed(tmp_path / "backups", DOCUMENTS, cuts=CUTS)


@pytest.fixture
async def exported(executor: MigrationScriptExecutor[Any], made: BackupInfo, tmp_path: Path) -> Path:
    return (await executor.export_backup(made, tmp_path / "shop.jsonl")).path


async def content(path: Path) -> tuple[Manifest, list[list[bytes]], dict[str, bytes]]:
    """The manifest, the rows by part, the documents."""
    async with opened(LocalStorage(path.parent), path.name) as reader:
        index, manifest = await read_manifest(reader)
        parts = [
            [row for chunk in part.chunks for row in rows_of(await read_chunk(reader, index, chunk, part.framing))]
            for part in manifest.parts
        ]
        return manifest, parts, await read_documents(reader, index, manifest)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


async def test_an_export_is_a_line_a_document_between_two_that_tell_of_it(exported: Path) -> None:
    head, *middle, tail = [json.loads(line) for line in exported.read_bytes().split(b"\n")[:-1]]
    assert (head["format"], head["version"]) == ("msr-export", 1)
    assert head["source"]["name"] == "shop/(default)"
    assert head["snapshot"] == READ_TIME
    assert head["rows"] == tail["rows"] == len(middle) == 203
    assert head["documents"]["collections.json"]["collections"] == {"users": 200, "orders": 2, "zoo": 1}
    assert head["documents"]["collections.json"]["selection"] == {"include": [], "exclude": []}
    assert [line["name"].partition("/documents/")[2] for line in middle[7:11]] == [
        "users/007",
        "users/007/orders/__id5__",
        "users/007/orders/7",
        "users/008",
    ]
    assert middle[0]["fields"]["name"] == {"stringValue": "user 0"}


async def test_export_and_import_give_the_same_backup(
    executor: MigrationScriptExecutor[Any], made: BackupInfo, exported: Path
) -> None:
    back = await executor.import_backup(exported)
    assert back.path != made.path
    old, old_rows, old_documents = await content(made.path)
    new, new_rows, new_documents = await content(back.path)
    assert new_rows == old_rows
    assert {name: json.loads(text) for name, text in new_documents.items()} == {
        name: json.loads(text) for name, text in old_documents.items()
    }
    assert [(part.part.slice, part.rows) for part in new.parts] == [(part.part.slice, part.rows) for part in old.parts]
    assert len(new.parts[1].chunks) > 1
    assert (new.source, new.snapshot, new.created, new.complete) == (SOURCE, READ_TIME, old.created, True)
    assert new.tags == {"release": "42"}
    assert new.notes == (f"It was imported from an export of the backup {old.id}.",)
    assert new.id != old.id
    assert (await executor.verify_backup(back)).rows == 203
    assert [info.id for info in await executor.list_backups()] == sorted([new.id, old.id], reverse=True)


async def test_the_second_export_is_the_first(
    executor: MigrationScriptExecutor[Any], exported: Path, tmp_path: Path
) -> None:
    back = await executor.import_backup(exported)
    again = await executor.export_backup(back, tmp_path / "again.jsonl")
    assert again.rows == 203
    assert again.size == again.path.stat().st_size
    assert lines(again.path)[1:] == lines(exported)[1:]


async def test_an_empty_database_too(executor: MigrationScriptExecutor[Any], tmp_path: Path) -> None:
    empty = await filed(tmp_path / "backups", {}, cuts=["a/b"])
    exported = await executor.export_backup(empty, tmp_path / "empty.jsonl")
    back = await executor.import_backup(exported.path)
    manifest, rows, _ = await content(back.path)
    assert rows == [[], []]
    assert manifest.totals.parts == 2


async def test_gzip_by_the_name(
    executor: MigrationScriptExecutor[Any], made: BackupInfo, exported: Path, tmp_path: Path
) -> None:
    zipped = await executor.export_backup(made, tmp_path / "shop.jsonl.gz")
    assert zipped.size == zipped.path.stat().st_size < exported.stat().st_size / 5
    assert gzip.decompress(zipped.path.read_bytes()) == exported.read_bytes()
    back = await executor.import_backup(zipped.path)
    assert back.rows == 203


async def test_gzip_in_several_members_too(executor: MigrationScriptExecutor[Any], exported: Path) -> None:
    text = exported.read_bytes()
    exported.write_bytes(gzip.compress(text[:1000]) + gzip.compress(text[1000:]))
    assert (await executor.import_backup(exported)).rows == 203


async def test_gzip_is_unpacked_piece_by_piece(executor: MigrationScriptExecutor[Any], tmp_path: Path) -> None:
    documents = {path: document(path, text="y" * 3_000_000) for path in ("a/1", "a/2")}
    made = await filed(tmp_path / "backups", documents)
    exported = await executor.export_backup(made, tmp_path / "large.jsonl.gz")
    assert exported.size < 20_000
    _, rows, _ = await content((await executor.import_backup(exported.path)).path)
    assert rows == [list(documents.values())]


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda data: data[:-9], "gzip stream has no end"),
        (lambda data: data[:200] + bytes([data[200] ^ 0xFF]) + data[201:], "gzip cannot unpack it"),
    ],
    ids=["cut", "changed"],
)
async def test_gzip_that_is_damaged(
    executor: MigrationScriptExecutor[Any], exported: Path, harm: Callable[[bytes], bytes], fault: str
) -> None:
    exported.write_bytes(harm(gzip.compress(exported.read_bytes())))
    with pytest.raises(NotABackup, match=fault):
        await executor.import_backup(exported)


async def test_nothing_is_overwritten_unasked(
    executor: MigrationScriptExecutor[Any], made: BackupInfo, tmp_path: Path
) -> None:
    path = tmp_path / "there.jsonl"
    path.write_text("mine")
    with pytest.raises(StorageError, match="is there already"):
        await executor.export_backup(made, path)
    assert path.read_text() == "mine"
    await executor.export_backup(made, path, overwrite=True)
    assert len(lines(path)) == 205
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(item.name for item in tmp_path.iterdir()) == ["backups", "there.jsonl"]


async def test_what_cannot_be_overwritten_stays(
    executor: MigrationScriptExecutor[Any], made: BackupInfo, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot be overwritten"):
        await executor.export_backup(made, tmp_path / "folder", overwrite=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["backups", "folder"]


async def test_a_damaged_backup_leaves_no_export(
    executor: MigrationScriptExecutor[Any], made: BackupInfo, tmp_path: Path
) -> None:
    data = bytearray(made.path.read_bytes())
    at = data.index(b"data/000002/000000.zst") + 60
    data[at] ^= 1
    made.path.write_bytes(data)
    with pytest.raises(BackupDamaged, match="data/000002"):
        await executor.export_backup(made, tmp_path / "shop.jsonl")
    assert [item.name for item in tmp_path.iterdir()] == ["backups"]


async def test_a_backup_of_another_kind_has_no_lines(tmp_path: Path) -> None:
    async with MemoryHandler() as handler:
        config = Config()
        config.backup.folder = tmp_path / "backups"
        executor = MigrationScriptExecutor(handler, config)
        made = await executor.create_backup()
        with pytest.raises(ConfigError, match="A backup of memory is not exported"):
            await executor.export_backup(made, tmp_path / "x.jsonl")
    assert [item.name for item in tmp_path.iterdir()] == ["backups"]


# -- changed by hand -------------------------------------------------------------------------------


def edited(path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path.write_bytes(b"\n".join(change(path.read_bytes().split(b"\n"))))


def counted(all_lines: list[bytes], rows: int) -> list[bytes]:
    *rest, tail, end = all_lines
    return [*rest, tail.replace(b'"rows":203', b'"rows":%d' % rows), end]


async def test_a_changed_document_is_not_taken_for_unchanged(
    executor: MigrationScriptExecutor[Any], exported: Path
) -> None:
    edited(exported, lambda all_lines: [line.replace(b'"user 7"', b'"somebody"') for line in all_lines])
    manifest, rows, _ = await content((await executor.import_backup(exported)).path)
    assert b"somebody" in rows[0][7]
    assert all(b"\x1a\x06\x08" not in row for part in rows for row in part)  # no time in any of them
    assert manifest.notes[-1].startswith("The export had been changed by hand: it is the state of no database")


async def test_lines_may_be_taken_out_and_put_in(executor: MigrationScriptExecutor[Any], exported: Path) -> None:
    new = b'{"name":"projects/shop/databases/(default)/documents/users/2000","fields":{"n":{"integerValue":"5"}}}'
    edited(exported, lambda all_lines: counted([*all_lines[:1], *all_lines[11:-3], new, *all_lines[-3:]], 194))
    _, rows, documents = await content((await executor.import_backup(exported)).path)
    assert [len(part) for part in rows] == [42, 50, 101, 1]
    assert json.loads(documents["collections.json"])["collections"] == {"users": 193, "zoo": 1}


def hashed_anew(all_lines: list[bytes]) -> list[bytes]:
    head, *rows, tail, end = all_lines
    digest = hashlib.sha256(b"".join(row + b"\n" for row in rows)).hexdigest()
    return [head, *rows, re.sub(rb'"sha256":"\w+"', b'"sha256":"%s"' % digest.encode(), tail), end]


@pytest.mark.parametrize(
    "change",
    [
        lambda all_lines: [line.replace(b'"user 7"', b'"somebody"') for line in all_lines],
        lambda all_lines: counted([*all_lines[:3], *all_lines[-2:]], 2),
        lambda all_lines: hashed_anew(counted([*all_lines[:3], *all_lines[-2:]], 2)),
    ],
    ids=["a changed line", "shortened", "shortened and hashed anew"],
)
async def test_a_changed_export_is_a_backup_of_its_own_that_nobody_takes_unasked(
    executor: MigrationScriptExecutor[Any],
    made: BackupInfo,
    exported: Path,
    change: Callable[[list[bytes]], list[bytes]],
) -> None:
    edited(exported, change)
    before = datetime.now(UTC)
    back = await executor.import_backup(exported)
    assert not back.complete
    assert back.created >= before
    assert [info.id for info in await executor.list_backups()] == [back.id, made.id]
    assert (await executor.verify_backup()).path == made.path
    assert (await executor.verify_backup(back)).rows == back.rows


async def test_an_export_of_what_was_not_complete_does_not_become_it(
    executor: MigrationScriptExecutor[Any], exported: Path
) -> None:
    edited(exported, lambda all_lines: [all_lines[0].replace(b'"complete":true', b'"complete":false'), *all_lines[1:]])
    assert not (await executor.import_backup(exported)).complete


@pytest.mark.parametrize(
    "ends", [(b"\r\n", b"\r\n"), (b"\n", b"")], ids=["the line ends of Windows", "no end of the last line"]
)
async def test_what_an_editor_does_to_the_ends_of_lines(
    executor: MigrationScriptExecutor[Any], exported: Path, ends: tuple[bytes, bytes]
) -> None:
    exported.write_bytes(ends[0].join(exported.read_bytes().splitlines()) + ends[1])
    assert (await executor.import_backup(exported)).rows == 203


@pytest.mark.parametrize(
    ("change", "error", "fault"),
    [
        (lambda x: x[:-2], NotABackup, "its last line, which holds the number of rows, is missing"),
        (lambda x: x[:50], NotABackup, "its last line"),
        (lambda x: [*x[:50], x[50][:20]], NotABackup, "its last line"),
        (lambda x: [*x[:50], *x[51:]], BackupInvalid, "Its last line says 203 rows, and there are 202"),
        (lambda x: [*x[:50], x[50], *x[50:]], BackupInvalid, "Its last line says 203 rows, and there are 204"),
        (lambda x: counted([*x[:51], x[50], *x[51:]], 204), BackupInvalid, "Line 52: 'users/047' comes twice"),
        (lambda x: [*x[:50], x[51], x[50], *x[52:]], BackupInvalid, "Line 52: 'users/047' must come before"),
        (lambda x: [*x[:50], b"{}", *x[51:]], BackupInvalid, "Line 51: the document has no name"),
        (lambda x: [*x[:50], b"", *x[51:]], BackupInvalid, "Line 51: it is not JSON"),
        (
            lambda x: [*x[:50], x[50].replace(b"shop", b"hop"), *x[51:]],
            BackupInvalid,
            "Line 51: .* is not a document of",
        ),
        (lambda x: x[1:], NotABackup, "its first line does not describe one"),
        (lambda x: [b"PK\x03\x04\xff", *x], NotABackup, "its first line does not describe one"),
        (lambda x: [b"[" * 100_000, *x], NotABackup, "its first line does not describe one"),
        (lambda _: [], NotABackup, "it is empty"),
        (lambda x: [x[0].replace(b'"version":1', b'"version":2'), *x[1:]], BackupTooNew, "has version 2"),
        (lambda x: [x[0].replace(b'"parts"', b'"bits"'), *x[1:]], BackupInvalid, "Line 1: .*parts"),
        (lambda x: [x[0].replace(b'"tool":"', b'"tool":"\xff'), *x[1:]], BackupInvalid, "Line 1: it is not UTF-8"),
        (
            lambda x: [x[0].replace(b"collections.json", b"collect.json"), *x[1:]],
            BackupInvalid,
            "Line 1: its collections",
        ),
    ],
)
async def test_a_wrong_export_is_refused_and_nothing_is_made(
    executor: MigrationScriptExecutor[Any],
    made: BackupInfo,
    exported: Path,
    change: Callable[[list[bytes]], list[bytes]],
    error: type[BackupInvalid],
    fault: str,
) -> None:
    edited(exported, change)
    with pytest.raises(error, match=fault) as raised:
        await executor.import_backup(exported)
    assert type(raised.value) is error
    assert str(raised.value).startswith(f"{exported}: ")
    assert [item.name for item in made.path.parent.iterdir()] == [made.path.name]


@pytest.mark.parametrize(
    "change",
    [lambda x: x[:100], lambda x: [*x[:50], x[50].replace(b"xxx", b"yyy"), *x[51:]]],
    ids=["cut", "one row"],
)
async def test_a_file_that_is_changed_while_it_is_read_is_refused(
    made: BackupInfo, exported: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    def between(event: Event) -> None:
        if isinstance(event, Step) and event.detail.startswith("importing"):  # it was looked over, and is read now
            exported.write_bytes(b"\n".join([*change(exported.read_bytes().splitlines()), b""]))

    config = Config()
    config.backup.folder = made.path.parent
    executor = MigrationScriptExecutor(MemoryHandler(), config, observers=[between])
    with pytest.raises(BackupInvalid, match="was changed while it was read"):
        await executor.import_backup(exported)
    assert [item.name for item in made.path.parent.iterdir()] == [made.path.name]


@pytest.mark.parametrize("way", ["task", "scope"])
@pytest.mark.parametrize("moment", ["before", "during", "twice"])
async def test_an_export_that_is_cancelled_anywhere_leaves_the_old_file_or_the_new_one_and_no_other(
    executor: MigrationScriptExecutor[Any],
    made: BackupInfo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: Way,
    moment: Moment,
) -> None:
    path = tmp_path / "x.jsonl"

    async def attempt(cancel_at: int) -> tuple[bool, int]:
        path.write_bytes(b"old")
        interruption = Interruption(cancel_at, way, moment)
        with watching(interruption, monkeypatch):
            cancelled = await interruption.run(lambda: executor.export_backup(made, path, overwrite=True))
        return cancelled, interruption.passed

    _, total = await attempt(-1)
    new = path.read_bytes()
    assert new != b"old"
    for cancel_at in range(total - 1):  # the last place is behind it all: how large the file is
        cancelled, _ = await attempt(cancel_at)
        assert cancelled
        assert path.read_bytes() in (b"old", new)
        assert sorted(item.name for item in tmp_path.iterdir()) == ["backups", "x.jsonl"], f"place {cancel_at}"


async def test_what_a_kill_leaves_of_an_overwriting_export_is_cleared_away_by_a_later_one(
    executor: MigrationScriptExecutor[Any], made: BackupInfo, tmp_path: Path
) -> None:
    unfinished: list[str] = []

    def look(event: Event) -> None:
        unfinished.extend(item.name for item in tmp_path.iterdir() if item.name.endswith(".partial"))

    config = Config()
    config.backup.folder = made.path.parent
    watched = MigrationScriptExecutor(MemoryHandler(), config, observers=[look])
    await watched.export_backup(made, tmp_path / "x.jsonl", overwrite=True)
    left = tmp_path / unfinished[0]
    left.write_bytes(b"half of it")
    os.utime(left, (0, 0))
    await executor.export_backup(made, tmp_path / "x.jsonl", overwrite=True)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["backups", "x.jsonl"]


async def test_a_line_without_an_end_is_not_read_for_ever(
    executor: MigrationScriptExecutor[Any], exported: Path
) -> None:
    exported.write_bytes(exported.read_bytes() + b" " * (65 << 20))
    with pytest.raises(BackupInvalid, match="Line 206: it is longer than 64 MiB"):
        await executor.import_backup(exported)


async def test_an_export_that_is_not_there(executor: MigrationScriptExecutor[Any], tmp_path: Path) -> None:
    with pytest.raises(BackupNotFound, match=r"There is no file .*gone\.jsonl"):
        await executor.import_backup(tmp_path / "gone.jsonl")


async def test_an_export_of_another_kind(executor: MigrationScriptExecutor[Any], exported: Path) -> None:
    edited(exported, lambda x: [x[0].replace(b'"kind":"firestore"', b'"kind":"postgresql"'), *x[1:]])
    with pytest.raises(ConfigError, match="A backup of postgresql is not exported to JSON lines"):
        await executor.import_backup(exported)
