"""Reading a backup's structure and finding what was changed in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async._engine.emitting import Emitter
from msr_async._engine.verifying import check_hashes, read_chunk, read_documents, read_index, read_manifest, verify
from msr_async.errors import BackupDamaged, BackupInvalid, BackupNotFound, NotABackup
from msr_async.storage import LocalStorage
from tests.support.fake_backup import FakeBackup, make, shop, small_config

NAME = "b.msrbak"


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


async def test_a_sound_backup_passes_both_levels(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup(shop()), storage)
    for level in ("quick", "full"):
        result = await verify(storage, NAME, level=level, emit=Emitter())
        assert (result.level, result.id, result.rows, result.size) == (level, info.id, info.rows, info.size)
        assert result.members > 8


async def test_a_changed_bit_anywhere_is_found_by_the_full_level(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup({"t": [b"1\ta"]}), storage)
    whole = info.path.read_bytes()
    for byte in range(0, len(whole), 5):  # every bit is tested on the pure reader
        flip(info.path, byte * 8 + byte % 8)
        with pytest.raises(BackupInvalid):
            await verify(storage, NAME, level="full", emit=Emitter())
        info.path.write_bytes(whole)


async def test_every_cut_of_the_file_is_found_by_the_quick_level(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup({"t": [b"1\ta"]}), storage)
    whole = info.path.read_bytes()
    for length in range(0, len(whole), 7):
        info.path.write_bytes(whole[:length])
        with pytest.raises(BackupInvalid):
            await verify(storage, NAME, level="quick", emit=Emitter())


async def test_a_changed_local_header_is_found_by_the_quick_level(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup(shop()), storage)
    async with storage.open(NAME) as reader:
        index = await read_index(reader)
    member = index.members["data/000001/000000.zst"]
    flip(info.path, (member.offset + 10) * 8)
    with pytest.raises(BackupDamaged, match=r"data/000001/000000\.zst"):
        await verify(storage, NAME, level="quick", emit=Emitter())


@pytest.mark.parametrize("member_name", ["README.txt", "schema/pre-data.sql.zst", "data/000001/000001.zst"])
async def test_a_changed_content_is_found_by_the_hashes_alone(tmp_path: Path, member_name: str) -> None:
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup(shop()), storage)
    async with storage.open(NAME) as reader:
        index, manifest = await read_manifest(reader)
        await check_hashes(reader, index, manifest)
        flip(info.path, (index.members[member_name].payload_offset + 5) * 8)
        with pytest.raises(BackupDamaged) as caught:
            await check_hashes(reader, index, manifest)
    assert caught.value.member == member_name


async def test_a_content_that_was_changed_together_with_its_crc_is_found_by_its_sha256(tmp_path: Path) -> None:
    """The two members of equal size and form that are exchanged here keep the directory in order."""
    storage = LocalStorage(tmp_path)
    info = await make(FakeBackup({"a": [b"1\taa"], "b": [b"1\tbb"]}), storage)
    async with storage.open(NAME) as reader:
        index, _ = await read_manifest(reader)
    first, second = index.members["data/000000/000000.zst"], index.members["data/000001/000000.zst"]
    assert first.size == second.size
    data = bytearray(info.path.read_bytes())
    for one, other in ((first, second), (second, first)):
        data[one.payload_offset : one.end] = info.path.read_bytes()[other.payload_offset : other.end]
    swap = {first.crc.to_bytes(4, "little"): second.crc.to_bytes(4, "little")}
    swap |= {new: old for old, new in swap.items()}
    for old, new in swap.items():
        for place in places(info.path.read_bytes(), old):
            data[place : place + 4] = new
    info.path.write_bytes(data)
    with pytest.raises(BackupDamaged, match="SHA-256"):
        await verify(storage, NAME, level="full", emit=Emitter())


def places(data: bytes, word: bytes) -> list[int]:
    found = [place for place in range(len(data)) if data.startswith(word, place)]
    assert len(found) == 2  # its local header and its line in the directory
    return found


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"-- SQL dump\n" * 1000, b"\0" * 5000], ids=["empty", "short", "text", "zeros"]
)
async def test_another_file_is_not_a_backup(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(NotABackup):
        await verify(LocalStorage(tmp_path), "x", level="quick", emit=Emitter())


async def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(BackupNotFound, match="There is no backup"):
        await verify(LocalStorage(tmp_path), "x", level="quick", emit=Emitter())


async def test_documents_and_chunks_are_read_by_the_manifest(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    await make(FakeBackup({"t": [b"1", b"2"]}), storage)
    async with storage.open(NAME) as reader:
        index, manifest = await read_manifest(reader)
        documents = await read_documents(reader, index, manifest)
        rows = await read_chunk(reader, index, manifest.parts[0].chunks[0], "lines")
    assert documents == {"pre-data.sql": b"CREATE ...;\n", "post-data.sql": b""}
    assert rows == b"1\n2\n"


@pytest.mark.parametrize("level", ["quick", "full"])
async def test_a_large_number_of_members_is_read(tmp_path: Path, level: str) -> None:
    tables = {f"t{number}": [b"x" * 50] * 10 for number in range(1500)}
    storage = LocalStorage(tmp_path)
    await make(FakeBackup(tables, piece=10_000), storage, config=small_config(concurrency=4))
    result = await verify(storage, NAME, level=level, emit=Emitter())  # type: ignore[arg-type]
    assert result.members == 1505
