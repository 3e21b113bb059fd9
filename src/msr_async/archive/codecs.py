"""How a member's bytes are made and checked: one zstd frame, its SHA-256 and its CRC-32."""

from __future__ import annotations

import hashlib
import sys
import zlib
from typing import TypeAlias

from ..errors import BackupDamaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Raw: TypeAlias = bytes | bytearray | memoryview

WINDOW_LOG = 23
"""A frame may ask its reader to remember 8 MiB: what the `zstd` program allows by itself, too."""

_MAGIC = b"\x28\xb5\x2f\xfd"
_WINDOW = 1 << WINDOW_LOG


def compress(raw: Raw, level: int) -> bytes:
    """One zstd frame that carries its content's size and checksum. Blocks: call it in a worker thread."""
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.content_size_flag: 1,
    }
    return zstd.compress(raw, options=options)


def decompress(data: bytes, raw_size: int, *, member: str | None = None) -> bytes:
    """The content of exactly one frame of exactly `raw_size` bytes. Blocks: call it in a worker thread.

    Memory is bounded by `raw_size` and the window, whatever the data says of itself. `member` is named in an error.

    Raises:
        BackupDamaged: when the data is anything else.
    """
    declared = declared_size(data, member=member)
    if declared != raw_size:
        raise BackupDamaged(f"it holds {declared} bytes where {raw_size} were written", member=member)
    decompressor = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})
    try:
        raw = decompressor.decompress(data, max_length=raw_size)
        # All bytes can be out before the frame's end mark and checksum were read.
        more = b"" if decompressor.eof or decompressor.needs_input else decompressor.decompress(b"", max_length=1)
    except zstd.ZstdError:
        raise BackupDamaged("its compressed data cannot be read", member=member) from None
    if more or not decompressor.eof or len(raw) != raw_size:
        raise BackupDamaged("its compressed data has not the size that it declares", member=member)
    if decompressor.unused_data:
        raise BackupDamaged("something follows its compressed data", member=member)
    return raw


def declared_size(data: bytes, *, member: str | None = None) -> int:
    """The raw size in bytes that a frame's header declares, after a check that the frame is of our making.

    Raises:
        BackupDamaged: for another kind of data, a dictionary, no checksum, no size, or a window above 8 MiB.
    """
    # RFC 8878, 3.1.1: magic, descriptor, [window], [dictionary id], content size, all little-endian.
    if len(data) < 6 or data[:4] != _MAGIC:
        raise BackupDamaged("it does not hold compressed data", member=member)
    descriptor = data[4]
    single_segment = bool(descriptor & 0x20)
    size_code = descriptor >> 6
    # Reserved bit off, checksum on, no dictionary; size code 0 means "no size" unless the frame is one segment.
    if descriptor & 0x0F != 0x04 or (size_code == 0 and not single_segment):
        raise BackupDamaged("its compressed data is of a kind that is never written", member=member)
    at = 5
    window = 0
    if not single_segment:
        base = 1 << (10 + (data[at] >> 3))
        window = base + (base >> 3) * (data[at] & 7)
        at += 1
    width = (1, 2, 4, 8)[size_code]
    field = data[at : at + width]
    if len(field) < width:
        raise BackupDamaged("its compressed data is cut off", member=member)
    size = int.from_bytes(field, "little") + (256 if width == 2 else 0)
    if max(window, size if single_segment else 0) > _WINDOW:
        raise BackupDamaged("its compressed data asks for more memory than is ever needed", member=member)
    return size


def digest(data: Raw) -> str:
    """SHA-256 in 64 lower-case hexadecimal digits. Blocks: call it in a worker thread."""
    return hashlib.sha256(data).hexdigest()


def crc(data: Raw) -> int:
    """The CRC-32 that a ZIP file keeps of a member."""
    return zlib.crc32(data)
