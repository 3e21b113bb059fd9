"""Files in a folder: whole or not there."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from msr_async._engine.naming import backup_name
from msr_async.config import BackupConfig
from msr_async.errors import BackupNotFound, StorageError, StorageFull
from msr_async.protocols import Storage
from msr_async.storage import LocalStorage, local, unfinished


async def put(storage: Storage, name: str, *pieces: bytes) -> None:
    async with storage.create(name) as writer:
        for piece in pieces:
            await writer.write(piece)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuse(number: int) -> Callable[..., None]:
    def call(*_args: object, **_options: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[], [0], [1], [5, 7, 9], [3_000_000], [700_000] * 30, [1, 2_000_000, 1]])
async def test_what_was_written_is_read_back(tmp_path: Path, sizes: list[int]) -> None:
    pieces = [os.urandom(size) for size in sizes]
    storage = LocalStorage(tmp_path)
    await put(storage, "a", *pieces)
    whole = b"".join(pieces)
    assert (tmp_path / "a").read_bytes() == whole
    async with storage.open("a") as reader:
        assert reader.size == len(whole)
        assert await reader.read(0, len(whole)) == whole
        assert await reader.read(len(whole) // 2, 10) == whole[len(whole) // 2 :][:10]
        assert await reader.read(len(whole), 10) == b""
        assert await reader.read(max(0, len(whole) - 3), 10) == whole[-3:]


async def test_nothing_is_seen_before_the_end_of_the_block(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    async with storage.create("a") as writer:
        await writer.write(b"x" * 3_000_000)
        assert names(tmp_path) == ["a.partial"]
        assert await storage.list() == []
    assert names(tmp_path) == ["a"]


async def test_a_file_is_its_owners_alone_even_while_it_is_written(tmp_path: Path) -> None:
    async with LocalStorage(tmp_path).create("a"):
        assert stat.S_IMODE((tmp_path / "a.partial").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


async def test_the_mode_holds_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        await put(LocalStorage(tmp_path, mode=0o640), "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


async def test_missing_folders_are_made_and_the_last_one_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "two"
    await put(LocalStorage(folder), "a", b"x")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "one").stat().st_mode) != 0o700


async def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage("backups")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await put(storage, "a", b"x")
    assert storage.path("a") == tmp_path / "backups" / "a"
    assert names(tmp_path / "backups") == ["a"]


async def test_the_file_is_synced_before_it_is_named_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(name: str, function: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object, **options: object) -> None:
            steps.append(f"{name} {'a' if (tmp_path / 'a').exists() else '-'}")
            function(*args, **options)

        return call

    monkeypatch.setattr(local, "sync_file", noted("file", unfinished.sync_file))
    monkeypatch.setattr(unfinished, "sync_folder", noted("folder", unfinished.sync_folder))
    await put(LocalStorage(tmp_path), "a", b"x")
    assert steps == ["file -", "folder a"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), ConnectionRefusedError("mine"), asyncio.CancelledError()])
async def test_an_error_in_the_block_comes_out_as_it_is_and_leaves_nothing(
    tmp_path: Path, error: BaseException
) -> None:
    async def fail() -> None:
        async with LocalStorage(tmp_path).create("a") as writer:
            await writer.write(b"x" * 3_000_000)
            raise error

    with pytest.raises(type(error)) as caught:
        await fail()
    assert caught.value is error
    assert names(tmp_path) == []


@pytest.mark.parametrize("how", ["the task", "a scope"])
async def test_a_publication_that_is_cancelled_half_way_is_waited_for_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    at_work, go_on = threading.Event(), threading.Event()
    publish = unfinished.publish
    seen: list[list[str]] = []

    def slowly(partial: Path, final: Path) -> None:
        at_work.set()
        go_on.wait(10)
        publish(partial, final)
        seen.append(names(tmp_path))

    async def run() -> None:
        with scope:
            await put(LocalStorage(tmp_path), "a", b"x")

    monkeypatch.setattr(local, "publish", slowly)
    scope = anyio.CancelScope()
    task = asyncio.ensure_future(run())
    await anyio.to_thread.run_sync(at_work.wait, 10)
    {"the task": task.cancel, "a scope": scope.cancel}[how]()
    await anyio.sleep(0.05)
    go_on.set()
    await asyncio.wait({task})
    assert (task.cancelled(), scope.cancelled_caught) == (how == "the task", how == "a scope")
    assert seen == [["a"]]
    assert names(tmp_path) == []


async def test_a_block_that_swallows_a_failed_write_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "open_unfinished", lambda *_: os.open("/dev/full", os.O_WRONLY))

    async def go_on() -> None:
        async with LocalStorage(tmp_path).create("a") as writer:
            with pytest.raises(StorageFull):
                await writer.write(b"x" * 3_000_000)

    with pytest.raises(StorageError, match="earlier write"):
        await go_on()
    assert names(tmp_path) == []


# -- names -----------------------------------------------------------------------------------------


async def test_a_taken_name_is_refused_and_the_file_stays(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await put(storage, "a", b"first")
    with pytest.raises(StorageError, match="is there already and is not overwritten"):
        await put(storage, "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("hard_links", [True, False])
async def test_a_name_that_is_taken_in_the_meantime_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    monkeypatch.setattr(os, "link", os.link if hard_links else refuse(errno.EPERM))

    async def be_late() -> None:
        async with LocalStorage(tmp_path).create("a") as writer:
            await writer.write(b"mine")
            (tmp_path / "a").write_bytes(b"theirs")

    with pytest.raises(StorageError, match="is there already"):
        await be_late()
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
async def test_a_file_system_without_hard_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", refuse(number))
    await put(LocalStorage(tmp_path), "a", b"x")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.EEXIST, errno.EIO])
async def test_a_name_that_was_given_although_the_answer_says_no_is_the_files_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    link = os.link

    def answered_wrongly(source: Path, target: Path, **options: bool) -> None:
        link(source, target, **options)
        raise OSError(number, os.strerror(number), str(source))

    monkeypatch.setattr(os, "link", answered_wrongly)
    await put(LocalStorage(tmp_path), "a", b"x")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"x"


async def test_a_folder_that_cannot_be_synced_takes_the_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "sync_folder", refuse(errno.EIO))
    with pytest.raises(StorageError, match="Input/output error"):
        await put(LocalStorage(tmp_path), "a", b"x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "/a", "../a", "a\\b", "a\0b", "a.partial"])
async def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path: Path, name: str) -> None:
    storage = LocalStorage(tmp_path)
    with pytest.raises(StorageError, match="cannot be the name"):
        storage.create(name)
    with pytest.raises(StorageError, match="cannot be the name"):
        storage.open(name)
    with pytest.raises(StorageError, match="cannot be the name"):
        await storage.delete(name)
    with pytest.raises(StorageError, match="cannot be the name"):
        storage.path(name)


async def test_a_name_that_is_too_long_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="shorter"):
        await put(LocalStorage(tmp_path), "a" * 250)


# -- no room, no permission ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 500_000, 3_000_000])
async def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def open_full(partial: Path, _mode: int) -> int:
        partial.write_bytes(b"")
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(local, "open_unfinished", open_full)
    with pytest.raises(StorageFull, match="No space is left"):
        await put(LocalStorage(tmp_path), "a", b"x" * size)
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
async def test_a_disk_that_is_found_full_when_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(local, "sync_file", refuse(number))
    with pytest.raises(StorageFull):
        await put(LocalStorage(tmp_path), "a", b"x")
    assert names(tmp_path) == []


_LIMITED = """
import sys, anyio, resource
from msr_async.storage import LocalStorage
from msr_async.errors import StorageFull

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        async with LocalStorage(sys.argv[1]).create("a") as writer:
            for _ in range(40):
                await writer.write(b"x" * 100_000)
    except StorageFull as error:
        print(error.hint)

anyio.run(main)
"""


@pytest.mark.parametrize("limit", [0, 1000, 1_500_000, 3_999_999])
async def test_a_file_that_may_not_grow_is_told_and_removed(tmp_path: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(tmp_path), str(limit)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "ulimit" in done.stdout
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOENT, errno.EIO])
async def test_a_folder_that_cannot_be_written_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(local, "open_unfinished", refuse(number))
    with pytest.raises(StorageError, match=f"Cannot create {tmp_path / 'a'}: {os.strerror(number)}") as caught:
        await put(LocalStorage(tmp_path), "a", b"x")
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


async def test_a_file_in_the_folders_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="must be a folder"):
            await put(LocalStorage(folder), "a", b"x")


# -- unfinished files ------------------------------------------------------------------------------


async def test_an_abandoned_unfinished_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.partial").write_bytes(b"of a process that died")
    await put(LocalStorage(tmp_path), "a", b"x")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"x"


async def test_a_name_that_is_being_written_is_refused_and_its_writer_goes_on(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    async with storage.create("a") as writer:
        await writer.write(b"mine")
        with pytest.raises(StorageError, match="is being written by another process"):
            await put(storage, "a", b"theirs")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert names(tmp_path) == ["a"]


async def test_a_link_in_the_unfinished_files_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "a.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError):
        await put(LocalStorage(tmp_path), "a", b"x")
    assert (tmp_path / "precious").read_bytes() == b"precious"


async def test_only_old_and_abandoned_unfinished_files_are_cleared_away(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    long_ago = time.time() - 2 * 86400
    old = ["b-0123abcd.msrbak.partial", "b-4567abcd-x.bkp.partial", "film.mp4.partial", "b-0123abcd.msrbak"]
    for name in [*old, "new-0123abcd.msrbak.partial"]:
        (tmp_path / name).write_bytes(b"x")
    for name in old:
        os.utime(tmp_path / name, (long_ago, long_ago))
    async with storage.create("slow-0123abcd.msrbak"):
        os.utime(tmp_path / "slow-0123abcd.msrbak.partial", (long_ago, long_ago))
        await put(storage, "a", b"x")
        assert names(tmp_path) == [
            "a",
            "b-0123abcd.msrbak",
            "film.mp4.partial",  # somebody else's
            "new-0123abcd.msrbak.partial",
            "slow-0123abcd.msrbak.partial",
        ]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"custom": "nightly", "suffix": "v1.2"},
        {"extension": "msr.bak"},
        {"prefix": "", "timestamp": False},
        {"prefix": "", "timestamp": False, "suffix": "a-b.c", "extension": "x.y"},
    ],
)
async def test_what_a_kill_leaves_of_a_backup_is_cleared_away_whatever_it_is_called(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    name = backup_name(BackupConfig(**settings), now=datetime.now(UTC), token="0a1b2c3d")
    left = tmp_path / f"{name}.partial"
    left.write_bytes(b"half of it")
    os.utime(left, (0, 0))
    await put(LocalStorage(tmp_path), "a", b"x")
    assert names(tmp_path) == ["a"]


async def test_many_writers_of_one_name_leave_one_file_and_it_is_whole(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    outcomes: list[str] = []

    async def attempt(number: int) -> None:
        try:
            await put(storage, "a", bytes([number]) * 100_000)
        except StorageError:
            outcomes.append("refused")
        else:
            outcomes.append("written")

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(attempt, number)
    assert outcomes.count("written") == 1
    assert names(tmp_path) == ["a"]
    assert len(set((tmp_path / "a").read_bytes())) == 1


# -- reading, listing, deleting ---------------------------------------------------------------------


async def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("none", "folder"):
        with pytest.raises(BackupNotFound, match="There is no backup"):
            async with storage.open(name):
                pass
    with pytest.raises(BackupNotFound):
        await storage.delete("none")


async def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with anyio.fail_after(5), pytest.raises(BackupNotFound):
        async with LocalStorage(tmp_path).open("pipe"):
            pass


async def test_the_list_holds_complete_files_the_newest_last(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    for position, name in enumerate(["c", "a", "b"]):
        await put(storage, name, b"x" * position)
        os.utime(tmp_path / name, (1000 + position, 1000 + position))
    for name in ("d.partial", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    found = await storage.list()
    assert [(file.name, file.size, file.modified) for file in found] == [("c", 0, 1000), ("a", 1, 1001), ("b", 2, 1002)]
    assert [file.path for file in found] == [storage.path(name) for name in ("c", "a", "b")]


async def test_a_link_that_leads_nowhere_does_not_hide_the_others(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await put(storage, "a", b"x")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "broken").symlink_to("gone")
    (tmp_path / "through").symlink_to(tmp_path / "a" / "b")
    assert [file.name for file in await storage.list()] == ["a"]


async def test_a_missing_folder_is_empty_and_is_not_made_by_looking(tmp_path: Path) -> None:
    assert await LocalStorage(tmp_path / "none").list() == []
    assert names(tmp_path) == []


async def test_a_deleted_file_is_gone(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await put(storage, "a", b"x")
    await storage.delete("a")
    assert names(tmp_path) == []


async def test_readers_and_writers_close_what_they_open(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await put(storage, "warm", b"x")
    files = len(os.listdir("/dev/fd"))
    for number in range(5):
        await put(storage, f"a{number}", b"x")
        async with storage.open("warm") as reader:
            await reader.read(0, 1)
        with pytest.raises(RuntimeError):
            async with storage.create("b"):
                raise RuntimeError
    assert len(os.listdir("/dev/fd")) == files


async def test_the_description_names_the_folder(tmp_path: Path) -> None:
    assert repr(LocalStorage(tmp_path)) == f"<LocalStorage {tmp_path}>"
