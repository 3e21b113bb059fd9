"""Whatever is cut from a backup file or flipped in it is found."""

from __future__ import annotations

import pytest

from msr_async.errors import BackupDamaged, BackupInvalid, NotABackup
from tests.archive.samples import describe, framed, index_of, verify, written

MANIFEST, MEMBERS = describe([[b"1\tone\n"]], {"pre-data.sql": b"select 1;\n"})
SMALL = written(framed(MEMBERS, MANIFEST, readme=b"A backup.\n"))


def test_the_undamaged_file_passes() -> None:
    assert verify(SMALL)[0] == MANIFEST


def test_every_cut_is_found_by_the_structure_alone() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(BackupInvalid):
            index_of(SMALL[:length])


def test_a_cut_says_that_the_end_is_missing() -> None:
    for length in range(40, len(SMALL)):
        with pytest.raises(BackupDamaged, match="its end is missing"):
            index_of(SMALL[:length])


def test_what_is_cut_from_the_front_or_the_middle_is_found() -> None:
    for start in range(0, len(SMALL), 7):
        for length in (1, 4, 100):
            with pytest.raises(BackupInvalid):
                verify(SMALL[:start] + SMALL[start + length :])


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_found(bit: int) -> None:
    missed = []
    for at in range(len(SMALL)):
        flipped = bytearray(SMALL)
        flipped[at] ^= 1 << bit
        try:
            verify(bytes(flipped))
        except BackupDamaged:
            continue
        missed.append(at)
    assert missed == []


def test_zeros_in_the_place_of_any_block_are_found() -> None:
    # What a file system leaves behind when the machine lost its power.
    for start in range(0, len(SMALL), 16):
        damaged = SMALL[:start] + bytes(64) + SMALL[start + 64 :]
        with pytest.raises((BackupDamaged, NotABackup)):
            verify(damaged[: len(SMALL)])
