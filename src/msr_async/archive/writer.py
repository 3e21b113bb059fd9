"""The order in which a backup file is written, and the bytes around its members."""

from __future__ import annotations

from ..errors import BackupFailed
from .layout import FORMAT_MEMBER, MANIFEST_MEMBER, README_MEMBER, check_member_name
from .records import Member, directory_bytes, end_bytes

MAX_DIRECTORY = 512 * 1024 * 1024
"""Bytes of the central directory, which a reader holds in memory: room for seven million members."""


class ArchiveWriter:
    """Turns member after member into the bytes of a backup file; whoever holds it appends them.

    For each member: write what `member()` returns, then exactly the payload. At the end: write what `finish()` returns.
    `README.txt` comes first, `format.json` second, the manifest last; another order is a `ValueError`.
    """

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._offset = 0
        self._directory_size = 0
        self._finished = False

    def __repr__(self) -> str:
        state = ", finished" if self._finished else ""
        return f"<ArchiveWriter {len(self._members)} members, {self._offset} bytes{state}>"

    @property
    def offset(self) -> int:
        """Bytes of the file so far, the payload of the last member included."""
        return self._offset

    def member(self, name: str, size: int, crc: int) -> bytes:
        """The local header of the next member, to be written right before its payload of `size` bytes.

        Raises:
            ValueError: when the member is out of order or is there already.
            BackupFailed: when the file would hold more members than its reader takes.
        """
        self._check_order(name)
        check_member_name(name)
        member = Member(name=name, offset=self._offset, size=size, crc=crc)
        self._directory_size += len(member.entry_bytes())
        if self._directory_size > MAX_DIRECTORY:
            raise BackupFailed(
                f"The backup has too many pieces: its list of them is larger than {MAX_DIRECTORY >> 20} MiB.",
                hint="Raise backup.chunk_size (up to 8 MiB), or back up fewer tables at a time.",
            )
        self._members[name] = member
        self._offset = member.end
        return member.header_bytes()

    def finish(self) -> bytes:
        """The central directory and the end records. The file is complete when they are written."""
        if self._finished or MANIFEST_MEMBER not in self._members:
            raise ValueError("finish() comes once, after the manifest")
        self._finished = True
        directory = directory_bytes(self._members.values())
        end = directory + end_bytes(count=len(self._members), size=len(directory), offset=self._offset)
        self._offset += len(end)
        return end

    def _check_order(self, name: str) -> None:
        due = {0: README_MEMBER, 1: FORMAT_MEMBER}.get(len(self._members), name)
        if name != due:
            raise ValueError(f"{name} came where {due} was due")
        if name in self._members:
            raise ValueError(f"{name} was written already")
        if MANIFEST_MEMBER in self._members or self._finished:
            raise ValueError(f"{name} came after the manifest")
