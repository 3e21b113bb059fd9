"""The writer's bytes: canonical, in order, and beyond the limits of plain ZIP."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import IO

import pytest

from msr_async.archive import ArchiveWriter, Member, chunk_member, crc, format_json
from msr_async.archive import writer as writer_module
from msr_async.errors import BackupDamaged, BackupFailed
from tests.archive.samples import describe, framed, index_of, read_with, small_backup, written

GIB = 1024**3
LIMIT = 0xFFFFFFFF


def begun() -> ArchiveWriter:
    writer = ArchiveWriter()
    writer.member("README.txt", 1, 0)
    writer.member("format.json", 1, 0)
    return writer


def test_the_same_members_give_the_same_bytes() -> None:
    assert small_backup() == small_backup()


def test_a_local_header_is_these_bytes() -> None:
    assert Member(name="README.txt", offset=0, size=5, crc=0x01020304).header_bytes() == bytes.fromhex(
        "504b0304 1400 0000 0000 0000 2100 04030201 05000000 05000000 0a00 0000 524541444d452e747874"
    )


def test_a_directory_line_is_these_bytes() -> None:
    assert Member(name="README.txt", offset=7, size=5, crc=0x01020304).entry_bytes() == bytes.fromhex(
        "504b0102 2d03 1400 0000 0000 0000 2100 04030201 05000000 05000000 0a00 0000 0000 0000 0000"
        "00008081 07000000 524541444d452e747874"
    )


def test_zip64_fields_are_these_bytes() -> None:
    member = Member(name="README.txt", offset=2**40, size=2**33, crc=1)
    extra = "0100 1000 0000000002000000 0000000002000000"
    assert member.header_bytes() == bytes.fromhex(
        "504b0304 2d00 0000 0000 0000 2100 01000000 ffffffff ffffffff 0a00 1400 524541444d452e747874" + extra
    )
    assert member.header_size == len(member.header_bytes())
    assert member.entry_bytes().endswith(bytes.fromhex("0100 1800" + extra[10:] + "0000000000010000"))


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
def test_the_header_has_the_size_that_it_says(size: int) -> None:
    member = Member(name=chunk_member(0, 0), offset=0, size=size, crc=0)
    assert len(member.header_bytes()) == member.header_size == member.payload_offset
    assert member.end == member.header_size + size


def test_a_backup_begins_with_its_readme_and_its_format() -> None:
    writer = ArchiveWriter()
    with pytest.raises(ValueError, match=r"format\.json came where README\.txt was due"):
        writer.member("format.json", 1, 0)
    writer.member("README.txt", 1, 0)
    with pytest.raises(ValueError, match=r"came where format\.json was due"):
        writer.member(chunk_member(0, 0), 1, 0)


def test_nothing_comes_twice_or_after_the_manifest() -> None:
    writer = begun()
    writer.member(chunk_member(0, 0), 1, 0)
    with pytest.raises(ValueError, match="was written already"):
        writer.member(chunk_member(0, 0), 1, 0)
    writer.member("manifest.json.zst", 1, 0)
    with pytest.raises(ValueError, match="after the manifest"):
        writer.member(chunk_member(0, 1), 1, 0)
    writer.finish()
    with pytest.raises(ValueError, match="comes once"):
        writer.finish()


def test_a_backup_without_manifest_cannot_be_finished() -> None:
    writer = begun()
    with pytest.raises(ValueError, match="after the manifest"):
        writer.finish()
    assert repr(writer) == f"<ArchiveWriter 2 members, {writer.offset} bytes>"


def test_a_foreign_name_is_not_written() -> None:
    with pytest.raises(BackupDamaged, match="not allowed"):
        begun().member("../x", 1, 0)


def test_a_directory_that_no_reader_takes_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "MAX_DIRECTORY", 150)
    writer = begun()
    with pytest.raises(BackupFailed, match="too many pieces"):
        writer.member(chunk_member(0, 0), 1, 0)


@pytest.mark.parametrize("count", [65_534, 65_535, 65_536, 70_000])
def test_more_members_than_16_bits_can_count(count: int, tmp_path: Path) -> None:
    members = [("README.txt", b"r"), ("format.json", format_json())]
    members += [(chunk_member(number // 1000, number % 1000), b"%d" % number) for number in range(count - 3)]
    members.append(("manifest.json.zst", b"m"))
    data = written(members)
    assert (b"PK\x06\x06" in data[-98:]) == (count >= 65_535)
    assert list(index_of(data).members) == [name for name, _ in members]
    path = tmp_path / "many.zip"
    path.write_bytes(data)
    with zipfile.ZipFile(path) as opened:
        assert opened.namelist() == [name for name, _ in members]
        assert opened.read(members[-2][0]) == members[-2][1]


class Sparse:
    """A file with members of any size, whose content is a hole in the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.writer = ArchiveWriter()

    def put(self, name: str, payload: bytes) -> None:
        self.file.write(self.writer.member(name, len(payload), crc(payload)) + payload)

    def hole(self, name: str, size: int) -> None:
        self.file.write(self.writer.member(name, size, 0))
        self.file.seek(size, 1)


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, 5 * GIB])
def test_a_file_beyond_4_gib_opens_everywhere(size: int, tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    manifest, members = describe()
    first = framed(members, manifest)
    with path.open("wb") as file:
        sparse = Sparse(file)
        for name, payload in first[:2]:
            sparse.put(name, payload)
        sparse.hole(chunk_member(8, 0), size)
        for name, payload in first[2:]:
            sparse.put(name, payload)
        file.write(sparse.writer.finish())
        assert file.tell() == sparse.writer.offset

    with path.open("rb") as stored:

        def read(offset: int, length: int) -> bytes:
            stored.seek(offset)
            return stored.read(length)

        index = read_with(path.stat().st_size, read)
    assert index.members[chunk_member(8, 0)].size == size
    assert index.members["manifest.json.zst"].offset > LIMIT
    with zipfile.ZipFile(path) as opened:
        assert opened.getinfo(chunk_member(8, 0)).file_size == size
        for name, payload in first:
            assert opened.read(name) == payload


@pytest.mark.skipif(shutil.which("unzip") is None, reason="the unzip program is not on this machine")
def test_unzip_reads_a_member_beyond_4_gib(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        sparse = Sparse(file)
        sparse.put("README.txt", b"r")
        sparse.put("format.json", b"{}")
        sparse.hole(chunk_member(0, 0), 5 * GIB)
        sparse.put("manifest.json.zst", b"the last\n")
        file.write(sparse.writer.finish())
    assert (
        subprocess.run(["unzip", "-p", path, "manifest.json.zst"], capture_output=True, check=True).stdout
        == b"the last\n"
    )
