"""Any pieces in, the same bytes out, in chunks that end at row ends."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from msr_async._engine.chunking import Cutter
from msr_async.framing import framed, rows_in

ROWS = st.lists(st.binary(max_size=60).map(lambda row: row.replace(b"\n", b"")), max_size=60)


def cut(cutter: Cutter, pieces: list[bytes]) -> list[bytes]:
    """All chunks as plain bytes; each buffer is given back, and spoilt, as soon as the next chunk is asked for."""
    chunks: list[bytes] = []
    for piece in pieces:
        for chunk in cutter.feed(piece):
            with chunk.view() as view:
                chunks.append(bytes(view))
            assert chunk.rows() == rows_in(chunks[-1], cutter.framing)
            chunk.buffer[:] = b"\xff" * len(chunk.buffer)
            cutter.give_back(chunk)
    last = cutter.finish()
    if last is not None:
        with last.view() as view:
            chunks.append(bytes(view))
        cutter.give_back(last)
    return chunks


def split(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


@settings(deadline=None, max_examples=300)
@given(rows=ROWS, places=st.lists(st.integers(0, 10_000), max_size=30), size=st.integers(1, 120))
def test_any_pieces_give_the_same_bytes_in_chunks_that_end_at_row_ends(
    rows: list[bytes], places: list[int], size: int
) -> None:
    data = b"".join(row + b"\n" for row in rows)
    chunks = cut(Cutter(size), split(data, places))
    assert b"".join(chunks) == data
    assert all(chunk.endswith(b"\n") for chunk in chunks)
    assert all(len(chunk) <= size or chunk.count(b"\n") == 1 for chunk in chunks)


@settings(deadline=None, max_examples=100)
@given(first=ROWS, second=ROWS, size=st.integers(1, 120))
def test_nothing_of_one_part_shows_up_in_the_next(first: list[bytes], second: list[bytes], size: int) -> None:
    cutter = Cutter(size)
    for rows in (first, second, first):
        data = b"".join(row + b"\n" for row in rows)
        assert b"".join(cut(cutter, [data])) == data


MESSAGES = st.lists(st.binary(max_size=60) | st.integers(100, 400).map(lambda size: b"\x0a" * size), max_size=40)


@example(rows=[b"x" * 300, b"y"], places=[2], size=1)
@settings(deadline=None, max_examples=300)
@given(rows=MESSAGES, places=st.lists(st.integers(0, 10_000), max_size=30), size=st.integers(1, 300))
def test_messages_in_any_pieces_give_the_same_bytes_in_chunks_that_end_at_row_ends(
    rows: list[bytes], places: list[int], size: int
) -> None:
    data = b"".join(map(framed, rows))
    chunks = cut(Cutter(size, "messages"), split(data, places))
    assert b"".join(chunks) == data
    assert sum(rows_in(chunk, "messages") for chunk in chunks) == len(rows)
    assert all(len(chunk) <= size or rows_in(chunk, "messages") == 1 for chunk in chunks)


def test_messages_byte_by_byte() -> None:
    data = b"".join(framed(b"\x0a" * length) for length in (0, 5, 127, 128, 300, 1, 64, 0, 2))
    chunks = cut(Cutter(64, "messages"), [data[place : place + 1] for place in range(len(data))])
    assert b"".join(chunks) == data
    assert all(len(chunk) <= 64 or rows_in(chunk, "messages") == 1 for chunk in chunks)


def test_chunks_of_messages_are_as_full_as_whole_rows_allow() -> None:
    data = framed(b"12345678") * 100
    chunks = cut(Cutter(64, "messages"), split(data, list(range(0, 1000, 7))))
    assert {len(chunk) for chunk in chunks[:-1]} == {60}


def test_a_message_larger_than_a_chunk_is_a_chunk_of_its_own() -> None:
    small, large = framed(b"a"), framed(b"\x0a" * 20_000)
    data = small + large + small
    for pieces in ([data], split(data, list(range(0, 20_000, 10)))):
        assert cut(Cutter(4096, "messages"), pieces) == [small, large, small]


@settings(deadline=None, max_examples=50)
@given(rows=MESSAGES, lines=ROWS, size=st.integers(1, 120))
def test_one_cutter_goes_from_lines_to_messages_and_back(rows: list[bytes], lines: list[bytes], size: int) -> None:
    cutter = Cutter(size)
    messages, text = b"".join(map(framed, rows)), b"".join(row + b"\n" for row in lines)
    for _ in range(2):
        cutter.framing = "messages"
        assert b"".join(cut(cutter, [messages])) == messages
        cutter.framing = "lines"
        assert b"".join(cut(cutter, [text])) == text


def test_a_last_message_that_is_cut_is_told() -> None:
    cutter = Cutter(4096, "messages")
    assert list(cutter.feed(framed(b"a") + framed(b"bc")[:-1])) == []
    last = cutter.finish()
    assert last is not None
    assert not last.ended


def test_what_is_no_message_is_told() -> None:
    cutter = Cutter(16, "messages")
    with pytest.raises(ValueError, match="no message begins at byte 3"):
        list(cutter.feed(framed(b"a") + b"plain text that is longer"))


def test_chunks_are_as_full_as_whole_rows_allow() -> None:
    data = b"123456789\n" * 100
    chunks = cut(Cutter(64), split(data, list(range(0, 1000, 7))))
    assert {len(chunk) for chunk in chunks[:-1]} == {60}


def test_a_row_larger_than_a_chunk_is_a_chunk_of_its_own() -> None:
    data = b"a\n" + b"b" * 500 + b"\n" + b"c\n"
    assert cut(Cutter(64), split(data, list(range(0, 500, 10)))) == [b"a\n", b"b" * 500 + b"\n", b"c\n"]


def test_a_last_row_without_an_end_is_told() -> None:
    cutter = Cutter(64)
    assert list(cutter.feed(b"a\nb")) == []
    last = cutter.finish()
    assert last is not None
    assert not last.ended


def test_buffers_are_used_again() -> None:
    cutter = Cutter(4096)
    seen: list[bytearray] = []  # kept, so that no other buffer can take the place of one in memory
    row = b"x" * 99 + b"\n"
    for _ in range(1000):
        for chunk in cutter.feed(row):
            seen.append(chunk.buffer)
            cutter.give_back(chunk)
    assert len(seen) > 20
    assert len(set(map(id, seen))) == 2


def test_a_buffer_that_a_huge_row_blew_up_is_let_go() -> None:
    cutter = Cutter(4096)
    (chunk,) = cutter.feed(b"x" * 100_000 + b"\n")
    cutter.give_back(chunk)
    chunks = [*cutter.feed(b"y\n" * 4096), cutter.finish()]
    assert max(len(chunk.buffer) for chunk in chunks if chunk) < 20_000
