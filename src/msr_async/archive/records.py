"""The ZIP records of a backup file. Each has one canonical spelling, so that a reader can rebuild and compare it.

Members are stored as they are, with a fixed time and fixed attributes, no extra field but ZIP64's where a number needs
it, no data descriptor and no comment. Numbers of the sections are those of PKWARE's APPNOTE 6.3.10.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

import msgspec

LOCAL = Struct("<4sHHHHHLLLHH")  # 4.3.7
ENTRY = Struct("<4sHHHHHHLLLHHHHHLL")  # 4.3.12
END = Struct("<4sHHHHLLH")  # 4.3.16
END64 = Struct("<4sQHHLLQQQQ")  # 4.3.14
LOCATOR = Struct("<4sLQL")  # 4.3.15

LOCAL_MARK = b"PK\x03\x04"
ENTRY_MARK = b"PK\x01\x02"
END_MARK = b"PK\x05\x06"
END64_MARK = b"PK\x06\x06"
LOCATOR_MARK = b"PK\x06\x07"

FULL16 = 0xFFFF
FULL32 = 0xFFFFFFFF
"""In a field of 16 or 32 bits: the number is too large and stands in the ZIP64 record instead."""

_PLAIN = 20  # what a reader must be able to do: 2.0
_ZIP64 = 45  # ... 4.5
_MADE_BY = 3 << 8 | _ZIP64  # Unix, so that the attributes are its file modes
_DATE = 1 << 5 | 1  # 1980-01-01, the earliest that DOS can say
_MODE = 0o100600 << 16
_ZIP64_EXTRA = 1


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the backup file: where its local header starts, its size in bytes and its CRC-32."""

    name: str
    offset: int
    size: int
    crc: int

    @property
    def header_size(self) -> int:
        return LOCAL.size + len(self.name) + (20 if self.size >= FULL32 else 0)

    @property
    def payload_offset(self) -> int:
        return self.offset + self.header_size

    @property
    def end(self) -> int:
        """Where the next member starts."""
        return self.payload_offset + self.size

    def header_bytes(self) -> bytes:
        """The local header as it must stand in the file."""
        name = self.name.encode("ascii")
        large = self.size >= FULL32
        # A local header must give both sizes in its ZIP64 field, or none (4.5.3).
        extra = _extra(self.size, self.size) if large else b""
        size = min(self.size, FULL32)
        needed = _ZIP64 if large else _PLAIN
        fields = (LOCAL_MARK, needed, 0, 0, 0, _DATE, self.crc, size, size, len(name), len(extra))
        return LOCAL.pack(*fields) + name + extra

    def entry_bytes(self) -> bytes:
        """The member's line in the central directory."""
        name = self.name.encode("ascii")
        numbers = (self.size, self.size) if self.size >= FULL32 else ()
        extra = _extra(*numbers, *((self.offset,) if self.offset >= FULL32 else ()))
        size = min(self.size, FULL32)
        needed = _ZIP64 if extra else _PLAIN
        fields = (ENTRY_MARK, _MADE_BY, needed, 0, 0, 0, _DATE, self.crc, size, size, len(name), len(extra))
        return ENTRY.pack(*fields, 0, 0, 0, _MODE, min(self.offset, FULL32)) + name + extra


def _extra(*numbers: int) -> bytes:
    if not numbers:
        return b""
    head = Struct("<HH").pack(_ZIP64_EXTRA, 8 * len(numbers))
    return head + b"".join(number.to_bytes(8, "little") for number in numbers)


def directory_bytes(members: Iterable[Member]) -> bytes:
    """The central directory."""
    return b"".join(member.entry_bytes() for member in members)


def end_bytes(*, count: int, size: int, offset: int) -> bytes:
    """What follows a directory of `count` lines and `size` bytes at `offset`: the end record, or all three of ZIP64."""
    large = b""
    if count >= FULL16 or size >= FULL32 or offset >= FULL32:
        large = END64.pack(END64_MARK, END64.size - 12, _MADE_BY, _ZIP64, 0, 0, count, count, size, offset)
        large += LOCATOR.pack(LOCATOR_MARK, 0, offset + size, 1)
    count16 = min(count, FULL16)
    return large + END.pack(END_MARK, 0, 0, count16, count16, min(size, FULL32), min(offset, FULL32), 0)
