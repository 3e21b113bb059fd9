"""The reader refuses every file that is not exactly a backup, with the right words."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from msr_async.archive import (
    Member,
    check_against_manifest,
    check_member,
    chunk_member,
    format_json,
    totals,
)
from msr_async.archive.records import directory_bytes, end_bytes
from msr_async.errors import BackupDamaged, BackupTooNew, NotABackup
from tests.archive.samples import (
    PARTS,
    Members,
    closed,
    describe,
    forged,
    framed,
    index_of,
    laid_out,
    listed,
    read_with,
    small_backup,
    verify,
    written,
)

MANIFEST, MEMBERS = describe()
ALL = framed(MEMBERS, MANIFEST)
GOOD = written(ALL)


def test_a_good_file_passes_whole() -> None:
    manifest, raw = verify(GOOD)
    assert manifest == MANIFEST
    assert raw[chunk_member(0, 1)] == PARTS[0][1]


def test_the_index_tells_where_everything_is() -> None:
    index = index_of(GOOD)
    assert index.size == len(GOOD)
    assert list(index.members) == [name for name, _ in ALL]
    for name, payload in ALL:
        member = index.members[name]
        assert GOOD[member.payload_offset : member.end] == payload
        assert GOOD[member.offset : member.payload_offset] == member.header_bytes()


def test_a_small_file_is_read_in_two_requests_and_a_large_one_in_three() -> None:
    for rows, expected in ((1, 2), (3000, 3)):
        manifest, members = describe([[b"%d\n" % number for number in range(rows)]])
        data = written(framed(members, manifest))
        asked: list[int] = []

        def read(offset: int, length: int, data: bytes = data, asked: list[int] = asked) -> bytes:
            asked.append(length)
            return data[offset : offset + length]

        assert len(read_with(len(data), read).members) == rows + 5
        assert len(asked) == expected


def test_a_format_json_behind_a_long_readme_is_found() -> None:
    assert verify(written(framed(MEMBERS, MANIFEST, readme=b"x" * 100_000)))[0] == MANIFEST


def test_a_file_that_shrinks_while_it_is_read_is_refused() -> None:
    with pytest.raises(BackupDamaged, match="shorter while it was read"):
        read_with(len(GOOD) + 10, lambda offset, length: GOOD[offset : offset + length])


# -- not a backup ----------------------------------------------------------------------------------


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, "content")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"-- PostgreSQL database dump\n" * 50,
        b"PGDMP" + bytes(500),
        bytes(100_000),
        b"PK\x05\x06" + bytes(18),
        zipped("a.txt"),
        zipped("README.txt", "Öl/ü.txt"),
        zipped("README.txt", "format.json", "manifest.json.zst"),
        forged([("a.txt", b"x")]),
        forged([("README.txt", b"x"), ("format.json", b"{}"), ("manifest.json.zst", b"x")]),
        forged([("README.txt", b"x"), ("format.json", format_json() + b" " * 70_000), *ALL[2:]]),
    ],
    ids=range(12),  # without the bytes: those of a ZIP file hold the time, and two workers must find the same names
)
def test_a_file_that_is_none_of_ours(data: bytes) -> None:
    with pytest.raises(NotABackup, match=r"not a backup of msr_async.*\. Give the path"):
        index_of(data)


def test_a_file_without_manifest_was_never_completed() -> None:
    with pytest.raises(NotABackup, match="never completed: it has no manifest"):
        index_of(forged(ALL[:-1]))


# -- newer -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        (b'"major":1', b'"major":2'),
        (b'"features":[]', b'"features":["age"]'),
        (b'"encryption":null', b'"encryption":"age"'),
    ],
)
def test_a_newer_file_is_told_by_its_format_before_its_members_are_judged(change: tuple[bytes, bytes]) -> None:
    form = format_json().replace(*change).replace(b">=0.1", b">=4.2")
    members = [("README.txt", b"x"), ("format.json", form), ("keys/data.key.age", b"k"), ("new/place", b"x")]
    with pytest.raises(BackupTooNew, match=r"msr_async 4\.2 or newer"):
        index_of(forged(members))


def test_a_higher_minor_is_read() -> None:
    form = format_json().replace(b'"minor":0', b'"minor":3,"note":"x"')
    assert verify(written(framed(MEMBERS, MANIFEST, form=form)))[0] == MANIFEST


# -- well-formed, and wrong ------------------------------------------------------------------------


def swapped(first: int, second: int) -> Members:
    members = list(ALL)
    members[first], members[second] = members[second], members[first]
    return members


@pytest.mark.parametrize(
    "members",
    [
        [ALL[0], *ALL[2:]],
        swapped(0, 1),
        swapped(1, 2),
        swapped(-1, -2),
        [*ALL, ("schema/late.sql.zst", b"x")],
        [*ALL, ("manifest.sig", b"x")],
        [*ALL[:2], ("data/0/0.zst", b"x"), *ALL[2:]],
        [*ALL[:2], ("evil", b"x"), *ALL[2:]],
    ],
)
def test_members_in_another_order_or_of_other_names(members: Members) -> None:
    with pytest.raises(BackupDamaged):
        index_of(forged(members))


@pytest.mark.parametrize(
    "name", ["../up.zst", "/etc/passwd", "data\\up", "a\0b", "data/../x", "a//b", "C:/x", ".x", "x" * 201]
)
def test_a_hostile_name_in_a_directory(name: str) -> None:
    with pytest.raises(BackupDamaged, match="not allowed"):
        index_of(forged([*ALL[:2], (name, b"x"), *ALL[2:]]))


def test_two_members_of_one_name() -> None:
    found, body = laid_out([*ALL[:3], *ALL[2:]])
    with pytest.raises(BackupDamaged, match=r"in data/000000/000000\.zst: it is there twice"):
        index_of(closed(found, body))


def move(found: list[Member], **change: Callable[[Member], int]) -> list[Member]:
    changed = {name: value(found[4]) for name, value in change.items()}
    return [*found[:4], replace(found[4], **changed), *found[5:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: move(found, offset=lambda member: member.offset - 1),
        lambda found: move(found, offset=lambda member: member.offset + 1),
        lambda found: move(found, offset=lambda member: 0),
        lambda found: move(found, offset=lambda member: 2**63),
        lambda found: move(found, size=lambda member: member.size + 1),
        lambda found: move(found, size=lambda member: member.size - 1),
        lambda found: move(found, size=lambda member: 2**64 - 1),
        lambda found: [*found[:3], found[4], found[3], *found[5:]],
        lambda found: [*found[:4], *found[5:]],
        lambda found: [*found[:4], replace(found[3], name="schema/same.zst"), *found[4:]],
    ],
    ids=["overlap", "gap", "all overlap", "far", "longer", "shorter", "endless", "disorder", "unlisted", "same bytes"],
)
def test_members_that_overlap_or_leave_a_gap(change: Callable[[list[Member]], list[Member]]) -> None:
    found, body = laid_out(ALL)
    with pytest.raises(BackupDamaged, match="was due"):
        index_of(closed(change(found), body))


@pytest.mark.parametrize(
    "data",
    [
        b"#!/bin/sh\n" + GOOD,
        GOOD + b"\0",
        GOOD[:-2] + b"\x05\0hello",
        GOOD + GOOD,
    ],
    ids=["something before", "something behind", "comment", "twice"],
)
def test_bytes_around_the_archive(data: bytes) -> None:
    with pytest.raises((BackupDamaged, NotABackup)):
        index_of(data)


def ended(**numbers: int) -> bytes:
    """The good file with other numbers in its end record."""
    found, body = laid_out(ALL)
    directory = directory_bytes(found)
    return (
        body + directory + end_bytes(**({"count": len(found), "size": len(directory), "offset": len(body)} | numbers))
    )


@pytest.mark.parametrize(
    "numbers",
    [
        {"count": 0},
        {"count": 1},
        {"count": 99},
        {"count": 65_535},
        {"count": 2**64 - 1},
        {"size": 0},
        {"size": 1},
        {"size": 2**32 - 1},
        {"size": 2**62},
        {"offset": 0},
        {"offset": 2**32},
        {"offset": 2**62},
    ],
    ids=str,
)
def test_an_end_record_with_other_numbers(numbers: dict[str, int]) -> None:
    with pytest.raises(BackupDamaged):
        index_of(ended(**numbers))


def test_a_gap_before_the_directory() -> None:
    found, body = laid_out(ALL)
    with pytest.raises(BackupDamaged, match="its directory starts at byte"):
        index_of(closed(found, body + b"gap"))


def test_zip64_numbers_that_add_up_to_more_than_64_bits() -> None:
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 3 << 8 | 45, 45, 0, 0, 1, 1, 2**64 - 1, 2**64 - 1)
    with pytest.raises(BackupDamaged, match="points behind its end"):
        index_of(laid_out(ALL)[1] + record + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1) + end)


@pytest.mark.parametrize(("count", "length"), [(10, 600 * 1024**2), (2**40, 1024**2), (0, 1024**2 * 513)])
def test_a_directory_of_an_impossible_size_is_not_even_asked_for(count: int, length: int) -> None:
    head = laid_out(ALL)[1]
    end = end_bytes(count=count, size=length, offset=len(head))
    size = len(head) + length + len(end)

    def read(offset: int, wanted: int) -> bytes:
        assert wanted <= 64 * 1024
        whole = head + bytes(wanted) if offset == 0 else bytes(wanted) + end
        return whole[:wanted] if offset == 0 else whole[-wanted:]

    with pytest.raises(BackupDamaged, match="its directory cannot have"):
        read_with(size, read)


def test_zip64_records_that_are_not_needed_are_not_canonical() -> None:
    found, body = laid_out(ALL)
    directory = directory_bytes(found)
    count, size, offset = len(found), len(directory), len(body)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset + size, 1)
    for end in (
        end_bytes(count=count, size=size, offset=offset),
        struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0),
    ):
        data = body + directory + record + locator + end
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            assert opened.testzip() is None
        with pytest.raises(BackupDamaged):
            index_of(data)


def test_a_member_that_is_cut_or_changed_is_named() -> None:
    member = index_of(GOOD).members[chunk_member(0, 0)]
    data = GOOD[member.offset : member.end]
    assert check_member(member, data) == ALL[2][1]
    for wrong, words in (
        (data[:-1], "cut off"),
        (data + b"x", "cut off"),
        (b"PK\x03\x05" + data[4:], "header was changed"),
        (data[:-1] + bytes([data[-1] ^ 128]), "content was changed"),
    ):
        with pytest.raises(BackupDamaged, match=rf"in data/000000/000000\.zst: .*{words}") as caught:
            check_member(member, wrong)
        assert caught.value.member == member.name


def test_a_file_is_compared_with_its_manifest() -> None:
    index = index_of(GOOD)
    check_against_manifest(index, MANIFEST)
    fewer = MANIFEST.parts[:-1]
    with pytest.raises(BackupDamaged, match=r"data/000002/000000\.zst: it is there, but"):
        check_against_manifest(index, replace(MANIFEST, parts=fewer, totals=totals(fewer)))
    with pytest.raises(BackupDamaged, match=r"schema/catalog\.json\.zst: it is there, but"):
        check_against_manifest(index, replace(MANIFEST, documents=MANIFEST.documents[:1]))
    grown = (replace(MANIFEST.documents[0], size=4), *MANIFEST.documents[1:])
    with pytest.raises(BackupDamaged, match="where the manifest says 4"):
        check_against_manifest(index, replace(MANIFEST, documents=grown))
    without = index_of(written([entry for entry in ALL if entry[0] != chunk_member(0, 1)]))
    with pytest.raises(BackupDamaged, match=r"data/000000/000001\.zst: it is missing"):
        check_against_manifest(without, MANIFEST)


# -- any backup ------------------------------------------------------------------------------------

ROWS = st.lists(st.binary(max_size=40).map(lambda row: row.replace(b"\n", b"") + b"\n"), min_size=1, max_size=6)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,8}(\.[a-z0-9_-]{1,4})?", fullmatch=True)


@given(
    parts=st.lists(st.lists(ROWS.map(b"".join), max_size=4), max_size=4),
    documents=st.dictionaries(NAMES, st.binary(max_size=200), max_size=3),
    random=st.randoms(use_true_random=False),
)
def test_any_backup_comes_back_equal_in_any_order_of_its_chunks(
    parts: list[list[bytes]], documents: dict[str, bytes], random: Random
) -> None:
    manifest, members = describe(parts, documents)
    random.shuffle(members)
    data = written(framed(members, manifest))
    again, raw = verify(data)
    assert again == manifest
    assert [[raw[chunk.member] for chunk in part.chunks] for part in again.parts] == parts
    assert {document.name: raw[document.member] for document in again.documents} == documents
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        assert opened.testzip() is None
        assert len(opened.namelist()) == 3 + len(list(listed(again)))


def test_the_sample_is_what_the_other_tests_take_it_for() -> None:
    assert small_backup() == GOOD
