"""One zstd frame, bounded."""

from __future__ import annotations

import os
import random
import sys
import tracemalloc
import zlib
from hashlib import sha256

import pytest

from msr_async.archive import codecs, compress, crc, declared_size, decompress, digest
from msr_async.errors import BackupDamaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MIB = 1024 * 1024
SIZES = [0, 1, 255, 256, 257, 65_535, 65_791, 65_792, 200_000, 3 * MIB]


def frame(raw: bytes, **parameters: int) -> bytes:
    """A frame of any kind."""
    settings = {"checksum_flag": 1, "content_size_flag": 1} | parameters
    return zstd.compress(raw, options={zstd.CompressionParameter[name]: value for name, value in settings.items()})


@pytest.mark.parametrize("size", SIZES)
def test_what_is_compressed_comes_back(size: int) -> None:
    raw = random.Random(size).randbytes(size // 2) + bytes(size - size // 2)
    for kind in (bytes, bytearray, memoryview):
        data = compress(kind(raw), 1)
        assert declared_size(data) == size
        assert decompress(data, size) == raw


@pytest.mark.parametrize("level", [1, 3, 9, 19])
def test_a_row_larger_than_the_window_comes_back_at_every_level(level: int) -> None:
    raw = os.urandom(1000) * (9 * MIB // 1000)
    assert decompress(compress(raw, level), len(raw)) == raw


def test_a_frame_has_a_checksum() -> None:
    data = bytearray(compress(b"row\n" * 100, 1))
    data[-1] ^= 1
    with pytest.raises(BackupDamaged, match=r"in x\.zst: its compressed data cannot be read"):
        decompress(bytes(data), 400, member="x.zst")


@pytest.mark.parametrize("wrong", [0, 399, 401, 2**40])
def test_another_size_than_the_declared_one_is_refused(wrong: int) -> None:
    with pytest.raises(BackupDamaged, match="400 bytes where"):
        decompress(compress(b"row\n" * 100, 1), wrong)


def test_every_cut_is_refused() -> None:
    data = compress(os.urandom(40) * 20, 1)
    for length in range(len(data)):
        with pytest.raises(BackupDamaged):
            decompress(data[:length], 800)


def test_every_flipped_bit_is_refused_or_harmless() -> None:
    # A few bits of a frame mean nothing (a literal that never matters); what must not happen is another content.
    raw = b"".join(b"%d\trow %d\n" % (number, number % 7) for number in range(60))
    data = compress(raw, 1)
    refused = 0
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert decompress(bytes(flipped), len(raw)) == raw
        except BackupDamaged:
            refused += 1
    assert refused > len(data) * 8 * 0.99


@pytest.mark.parametrize(
    "extra", [b"\0", b"junk", compress(b"", 1), compress(b"more\n", 1), b"\x50\x2a\x4d\x18\x01\0\0\0x"]
)
def test_what_follows_a_frame_is_refused(extra: bytes) -> None:
    with pytest.raises(BackupDamaged, match="something follows"):
        decompress(compress(b"row\n", 1) + extra, 4)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x28\xb5\x2f\xfd",
        b"plain text, not compressed",
        b"\x50\x2a\x4d\x18\x01\0\0\0x" + compress(b"row\n", 1),
        frame(b"row\n", checksum_flag=0),
        frame(b"row\n" * 9000, content_size_flag=0),
        b"\x28\xb5\x2f\xfd\x2c" + frame(b"row\n")[5:],
        b"\x28\xb5\x2f\xfd\x25\0" + frame(b"row\n")[5:],
    ],
    ids=["empty", "magic only", "text", "skippable first", "no checksum", "no size", "reserved bit", "dictionary"],
)
def test_another_kind_of_data_is_refused(data: bytes) -> None:
    with pytest.raises(BackupDamaged):
        decompress(data, 4)


def test_a_window_above_8_mib_is_refused_before_memory_is_taken() -> None:
    bomb = frame(bytes(20 * MIB), window_log=24)
    tracemalloc.start()
    with pytest.raises(BackupDamaged, match="more memory than is ever needed"):
        decompress(bomb, 20 * MIB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MIB


def test_zstd_itself_refuses_such_a_window_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "_WINDOW", 2**40)
    with pytest.raises(BackupDamaged, match="cannot be read"):
        decompress(frame(bytes(20 * MIB), window_log=24), 20 * MIB)


@pytest.mark.parametrize("declared", [300_000, 5 * MIB])
def test_a_bomb_that_declares_less_than_it_holds_is_bounded(declared: int) -> None:
    # The same frame with another size in its header: four bytes from the seventh on, after the window's.
    bomb = bytearray(frame(bytes(64 * MIB), window_log=20))
    assert bomb[4] >> 6 == 2
    assert not bomb[4] & 0x20
    bomb[6:10] = declared.to_bytes(4, "little")
    tracemalloc.start()
    with pytest.raises(BackupDamaged):
        decompress(bytes(bomb), declared)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * declared + MIB


def test_hash_and_crc_are_the_usual_ones() -> None:
    assert digest(memoryview(b"abc")) == sha256(b"abc").hexdigest()
    assert crc(bytearray(b"abc")) == zlib.crc32(b"abc")
