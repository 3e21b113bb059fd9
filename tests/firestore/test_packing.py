"""How many writes go into one request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msr_async import RestoreFailed
from msr_async.firestore import wire
from msr_async.firestore.packing import MOST_WRITES, Batch, Packer

HOME = "projects/p/databases/(default)"


def packed(writes: list[tuple[str, bytes]], **limits: int) -> list[Batch]:
    packer = Packer(**{"max_bytes": 4 * 1024 * 1024, **limits})
    batches = [packer.add(name, write) for name, write in writes]
    return [batch for batch in (*batches, packer.rest()) if batch is not None]


def test_five_hundred_writes_are_one_batch_and_one_more_begins_the_next() -> None:
    writes = [(f"d/{number}", b"x") for number in range(1001)]
    assert [len(batch) for batch in packed(writes)] == [500, 500, 1]
    assert MOST_WRITES == 500


def test_nothing_makes_no_batch() -> None:
    assert packed([]) == []


def test_a_document_that_comes_twice_is_in_two_batches_in_its_order() -> None:
    batches = packed([("a", b"1"), ("b", b"1"), ("a", b"2"), ("c", b"1")])
    assert [(batch.names, batch.writes) for batch in batches] == [
        (["a", "b"], [b"1", b"1"]),
        (["a", "c"], [b"2", b"1"]),
    ]


def test_a_batch_may_be_filled_to_the_last_byte() -> None:
    writes = [(str(number), b"x" * 98) for number in range(4)]  # 100 bytes each in a request
    assert [len(batch) for batch in packed(writes, max_bytes=200)] == [2, 2]
    assert [len(batch) for batch in packed(writes, max_bytes=199)] == [1, 1, 1, 1]


def test_a_write_larger_than_a_batch_is_an_error_that_names_its_document() -> None:
    packer = Packer(max_bytes=1000)
    assert packer.add("projects/p/databases/d/documents/small/1", b"x") is None
    with pytest.raises(RestoreFailed, match=r"documents/big/1 takes 1,003 bytes, and a request may hold 1,000"):
        packer.add("projects/p/databases/d/documents/big/1", b"x" * 1000)


def test_some_writes_of_a_batch() -> None:
    (batch,) = packed([("a", b"1"), ("b", b"2"), ("c", b"3")])
    assert batch.only([0, 2]) == Batch(names=["a", "c"], writes=[b"1", b"3"])


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.binary(max_size=300)), max_size=60),
    st.integers(310, 900),
    st.integers(1, 9),
)
def test_every_write_is_in_one_batch_and_no_batch_is_too_big(
    writes: list[tuple[str, bytes]], max_bytes: int, max_writes: int
) -> None:
    batches = packed(writes, max_bytes=max_bytes, max_writes=max_writes)
    assert [pair for batch in batches for pair in zip(batch.names, batch.writes, strict=True)] == writes
    bare = len(wire.batch(HOME, []))
    for batch in batches:
        assert len(wire.batch(HOME, batch.writes)) - bare <= max_bytes
        assert 0 < len(batch) <= max_writes
        assert len(set(batch.names)) == len(batch)
