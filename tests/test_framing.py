"""Rows as messages: the same as protobuf's own repeated field, and where each ends."""

from __future__ import annotations

import pytest
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import strategies as st

from msr_async.framing import Buffer, as_varint, framed, messages_end, rows_in, varint

NUMBERS = st.integers(0, 2**64 - 1) | st.sampled_from([127, 128, 16383, 16384, 2**21 - 1, 2**21, 2**63, 2**64 - 1])
ROWS = st.lists(st.binary(max_size=40) | st.integers(100, 20_000).map(lambda size: b"\x0a" * size), max_size=12)
AS = pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])


@given(number=NUMBERS, before=st.binary(max_size=3), behind=st.binary(max_size=3))
def test_a_varint_is_protobufs_own(number: int, before: bytes, behind: bytes) -> None:
    spelled = as_varint(number)
    assert spelled == _VarintBytes(number)
    data = before + spelled + behind
    assert varint(data, len(before)) == (number, len(before) + len(spelled)) == _DecodeVarint(data, len(before))


@given(number=NUMBERS)
def test_a_varint_that_is_cut_is_told(number: int) -> None:
    spelled = as_varint(number)
    for end in range(len(spelled)):
        with pytest.raises(IndexError):
            varint(spelled[:end], 0)


def test_what_never_ends_is_no_varint() -> None:
    with pytest.raises(ValueError, match="no varint"):
        varint(b"\xff" * 11, 0)


@given(rows=ROWS, behind=st.integers(0, 10))
def test_walking_counts_whole_messages_and_stops_before_the_one_that_is_cut(rows: list[bytes], behind: int) -> None:
    spelled = [framed(row) for row in rows]
    data = b"".join(spelled)
    assert messages_end(data, 0, len(data)) == (len(data), len(rows))
    assert rows_in(data, "messages") == len(rows)
    ends = [sum(map(len, spelled[:count])) for count in range(len(rows) + 1)]
    for count, end in enumerate(ends[1:], start=1):
        for stop in {end - 1, max(ends[count - 1], end - behind - 1)}:
            assert messages_end(data, 0, stop) == (ends[count - 1], count - 1)
            # a buffer that is longer than what is filled may hold anything behind it
            assert messages_end(data[:stop] + b"\xff" * 30, 0, stop) == (ends[count - 1], count - 1)


@given(rows=ROWS)
def test_walking_may_begin_at_any_rows_end(rows: list[bytes]) -> None:
    data = b"".join(map(framed, rows))
    start = 0
    for place, row in enumerate(rows):
        assert messages_end(data, start, len(data)) == (len(data), len(rows) - place)
        start += len(framed(row))


@AS
def test_every_kind_of_buffer_is_walked(kind: type) -> None:
    data: Buffer = kind(framed(b"a") + framed(b"b" * 300))
    assert rows_in(data, "messages") == 2
    assert rows_in(kind(b"a\nb\n"), "lines") == 2


@AS
def test_a_row_without_an_end_is_told(kind: type) -> None:
    with pytest.raises(ValueError, match="no end"):
        rows_in(kind(framed(b"abc")[:-1]), "messages")
    with pytest.raises(ValueError, match="no end"):
        rows_in(kind(b"a\nb"), "lines")


def test_what_is_no_message_is_told_with_its_place() -> None:
    with pytest.raises(ValueError, match="at byte 3"):
        rows_in(framed(b"a") + b"\x12\x01a", "messages")


def test_a_length_without_end_is_told() -> None:
    with pytest.raises(ValueError, match="no varint"):
        rows_in(b"\x0a" + b"\xff" * 20, "messages")


def test_nothing_holds_no_messages() -> None:
    assert rows_in(b"", "messages") == 0
