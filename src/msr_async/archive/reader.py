"""Reads a backup file's structure strictly, without any I/O of its own: whoever holds the file hands in the bytes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from msgspec import Struct

from ..errors import BackupDamaged, NotABackup
from ..models import Manifest
from . import records
from .codecs import crc
from .layout import (
    FORMAT_MEMBER,
    MANIFEST_MEMBER,
    MAX_FORMAT_JSON,
    README_MEMBER,
    check_format,
    check_member_name,
    check_safe_name,
)
from .records import FULL16, FULL32, Member
from .writer import MAX_DIRECTORY

_HEAD = 8 * 1024
_TAIL = 64 * 1024
"""What is read at once from both ends. It covers the directory of a small backup: two reads, then, instead of four."""

Reading: TypeAlias = Generator[tuple[int, int], bytes, "ArchiveIndex"]


class ArchiveIndex(Struct, frozen=True, kw_only=True):
    """The members of a backup file in the order in which they stand in it."""

    members: Mapping[str, Member]
    size: int
    """Bytes of the whole file."""


def read_index(size: int) -> Reading:
    """Read the structure of a file of `size` bytes: `yield` asks for (offset, length), `send` answers with these bytes.

    What it returns has passed: the directory and the end records are byte for byte what a writer makes of these
    members; they lie one after the other from the file's first byte to the directory; the format is one we read; names
    and order are the format's. The local headers and the contents are for `check_member`.

    Raises:
        NotABackup: when the file is none of ours or was never completed.
        BackupTooNew: when a newer version is needed.
        BackupDamaged: when it was cut or changed.
    """
    head = yield from _fetch(0, min(size, _HEAD))
    try:
        index = yield from _read_directory(size)
    except BackupDamaged:
        if not _begins_a_backup(head):
            raise _not_ours() from None
        raise
    member = index.members.get(FORMAT_MEMBER)
    if member is None and _begins_a_backup(head):
        raise BackupDamaged("its directory does not list it", member=FORMAT_MEMBER)
    if member is None or member.size > MAX_FORMAT_JSON:
        raise _not_ours()
    data = head[member.offset : member.end]
    if len(data) < member.end - member.offset:
        data = yield from _fetch(member.offset, member.end - member.offset)
    check_format(check_member(member, data))
    _check_order(list(index.members))
    return index


def check_member(member: Member, header_and_payload: bytes) -> bytes:
    """The payload out of a member's bytes (`member.offset` to `member.end`), its header and CRC-32 checked.

    Raises:
        BackupDamaged: naming the member.
    """
    if len(header_and_payload) != member.header_size + member.size:
        raise BackupDamaged("it is cut off", member=member.name)
    if not header_and_payload.startswith(member.header_bytes()):
        raise BackupDamaged("its header was changed", member=member.name)
    payload = header_and_payload[member.header_size :]
    if crc(payload) != member.crc:
        raise BackupDamaged("its content was changed (CRC-32)", member=member.name)
    return payload


def check_against_manifest(index: ArchiveIndex, manifest: Manifest) -> None:
    """Compare what the file holds with what the manifest lists: the same members, of the same sizes.

    Raises:
        BackupDamaged: naming the first member that is missing, too many or of another size.
    """
    listed = {entry.member: entry.size for entry in manifest.documents}
    listed |= {chunk.member: chunk.size for part in manifest.parts for chunk in part.chunks}
    for name, size in listed.items():
        member = index.members.get(name)
        if member is None:
            raise BackupDamaged("it is missing, but the manifest lists it", member=name)
        if member.size != size:
            raise BackupDamaged(f"it has {member.size} bytes where the manifest says {size}", member=name)
    for name in index.members:
        if name not in listed and name not in (README_MEMBER, FORMAT_MEMBER, MANIFEST_MEMBER):
            raise BackupDamaged("it is there, but the manifest does not list it", member=name)


def _fetch(offset: int, length: int) -> Generator[tuple[int, int], bytes, bytes]:
    if length == 0:
        return b""
    data = yield offset, length
    if len(data) != length:
        raise BackupDamaged("the file became shorter while it was read")
    return data


def _read_directory(size: int) -> Reading:
    start = max(0, size - _TAIL)
    tail = yield from _fetch(start, size - start)
    count, length, offset = _parse_end(tail)
    if offset + length >= size:
        raise BackupDamaged("its end record points behind its end")
    end = records.end_bytes(count=count, size=length, offset=offset)
    if offset + length + len(end) != size or not tail.endswith(end):
        raise BackupDamaged("its end record was changed")
    if not count * records.ENTRY.size <= length <= MAX_DIRECTORY:
        raise BackupDamaged(f"its directory cannot have {count} members in {length} bytes")
    if offset >= start:
        directory = tail[offset - start : offset - start + length]
    else:
        directory = yield from _fetch(offset, length)
    members = _parse_directory(directory, count)
    if records.directory_bytes(members.values()) != directory:
        raise BackupDamaged("its directory was changed")
    _check_contiguous(members.values(), offset)
    return ArchiveIndex(members=MappingProxyType(members), size=size)


def _parse_end(tail: bytes) -> tuple[int, int, int]:
    """The directory's count of members, its size and its offset, from the last bytes of a file."""
    at = len(tail) - records.END.size
    if at < 0 or not tail.startswith(records.END_MARK, at):
        raise BackupDamaged("its end is missing: the file was cut off or is still being written")
    count, size, offset = records.END.unpack_from(tail, at)[4:7]
    if count != FULL16 and FULL32 not in (size, offset):
        return count, size, offset
    at -= records.LOCATOR.size + records.END64.size
    if at < 0 or not tail.startswith(records.END64_MARK, at):
        raise BackupDamaged("its end record for large files is missing")
    count64, size64, offset64 = records.END64.unpack_from(tail, at)[7:10]
    return count64, size64, offset64


def _parse_directory(directory: bytes, count: int) -> dict[str, Member]:
    """The members of a directory; the caller compares it with what they should look like."""
    members: dict[str, Member] = {}
    at = 0
    for _ in range(count):
        if len(directory) - at < records.ENTRY.size or not directory.startswith(records.ENTRY_MARK, at):
            raise BackupDamaged("its directory cannot be read")
        fields = records.ENTRY.unpack_from(directory, at)
        crc32, size, name_length, extra_length, offset = fields[7], fields[9], fields[10], fields[11], fields[16]
        at += records.ENTRY.size
        name = directory[at : at + name_length].decode("latin-1")
        check_safe_name(name)
        at += name_length
        extra = directory[at : at + extra_length]
        at += extra_length
        if size == FULL32:  # twice in the field: stored members are as large as their content
            size = int.from_bytes(extra[4:12], "little")
        if offset == FULL32:
            offset = int.from_bytes(extra[-8:], "little")
        if name in members:
            raise BackupDamaged("it is there twice", member=name)
        members[name] = Member(name=name, offset=offset, size=size, crc=crc32)
    return members


def _check_contiguous(members: Iterable[Member], directory_offset: int) -> None:
    due = 0
    for member in members:
        if member.offset != due:
            raise BackupDamaged(f"it starts at byte {member.offset} where {due} was due", member=member.name)
        due = member.end
    if due != directory_offset:
        raise BackupDamaged(f"its directory starts at byte {directory_offset} where {due} was due")


def _check_order(names: list[str]) -> None:
    for name in names:
        check_member_name(name)
    if names[:2] != [README_MEMBER, FORMAT_MEMBER]:
        raise BackupDamaged(f"it does not begin with {README_MEMBER} and {FORMAT_MEMBER}")
    if MANIFEST_MEMBER not in names:
        raise NotABackup(
            "The backup was never completed: it has no manifest.", hint="Delete it and use another backup."
        )
    if names[-1] != MANIFEST_MEMBER:
        raise BackupDamaged(f"{names[-1]} stands after the manifest", member=names[-1])


def _begins_a_backup(head: bytes) -> bool:
    """Whether a file begins with the header that our README has: it was a backup, then, and something befell it."""
    name = README_MEMBER.encode("ascii")
    if len(head) < records.LOCAL.size + len(name):
        return False
    crc32, size = records.LOCAL.unpack_from(head)[6:8]
    return head.startswith(Member(name=README_MEMBER, offset=0, size=size, crc=crc32).header_bytes())


def _not_ours() -> NotABackup:
    return NotABackup(
        "The file is not a backup of msr_async.", hint="Give the path of a .msrbak file that msr_async made."
    )


__all__ = ["ArchiveIndex", "Member", "check_against_manifest", "check_member", "read_index"]
