"""How many writes go into one request."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msr_async import RestoreFailed
from msr_async.firestore import wire
from msr_async.firestore.packing import MOST_WRITES, Batch, Packer
from msr_async.framing import framed

HOME = "projects/p/databases/(default)"


def update(path: str, size: int = 0) -> bytes:
    """A write of at least so many bytes."""
    return wire.update(framed(f"{HOME}/documents/{path}".encode()) + b"\x12" * size)


def packed(writes: Sequence[bytes], **limits: int) -> list[Batch]:
    packer = Packer(**{"max_bytes": 4 * 1024 * 1024, **limits})
    batches = [*packer.add(writes), packer.rest()]
    return [batch for batch in batches if batch is not None]


def test_five_hundred_writes_are_one_batch_and_one_more_begins_the_next() -> None:
    assert [len(batch) for batch in packed([b"x"] * 1001)] == [500, 500, 1]
    assert MOST_WRITES == 500


def test_nothing_makes_no_batch() -> None:
    assert packed([]) == []


def test_what_comes_in_several_pieces_is_packed_as_if_it_were_one() -> None:
    packer = Packer(max_bytes=10_000, max_writes=3)
    assert [len(batch) for batch in packer.add([b"1", b"2"])] == []
    assert [batch.writes for batch in packer.add([b"3", b"4", b"5", b"6", b"7"])] == [
        [b"1", b"2", b"3"],
        [b"4", b"5", b"6"],
    ]
    assert packer.rest() == Batch(writes=[b"7"])
    assert packer.rest() is None


def test_a_batch_may_be_filled_but_for_what_encloses_its_writes() -> None:
    writes = [b"x" * (100 - wire.ENCLOSING)] * 4
    assert [len(batch) for batch in packed(writes, max_bytes=200)] == [2, 2]
    assert [len(batch) for batch in packed(writes, max_bytes=199)] == [1, 1, 1, 1]


def test_a_write_larger_than_a_batch_is_an_error_that_names_its_document() -> None:
    packer = Packer(max_bytes=1000)
    assert list(packer.add([update("small/1")])) == []
    with pytest.raises(RestoreFailed, match=r"documents/big/1 takes 1,\d\d\d bytes, and a request may hold 1,000"):
        list(packer.add([update("big/1", 1000)]))


def test_some_writes_of_a_batch() -> None:
    (batch,) = packed([b"1", b"2", b"3"])
    assert batch.only([0, 2]) == Batch(writes=[b"1", b"3"])


def test_a_batch_knows_the_names_of_what_it_updates_and_deletes() -> None:
    (batch,) = packed([update("a/1"), wire.delete(f"{HOME}/documents/a/2"), update("a/3") + wire.must_not_exist()])
    assert [batch.name(place) for place in range(3)] == [f"{HOME}/documents/a/{number}" for number in (1, 2, 3)]


@given(st.lists(st.binary(max_size=300), max_size=60), st.integers(310, 900), st.integers(1, 9))
def test_every_write_is_in_one_batch_and_no_batch_is_too_big(
    writes: list[bytes], max_bytes: int, max_writes: int
) -> None:
    batches = packed(writes, max_bytes=max_bytes, max_writes=max_writes)
    assert [write for batch in batches for write in batch.writes] == writes
    bare = len(wire.batch(HOME, []))
    for batch in batches:
        assert len(wire.batch(HOME, batch.writes)) - bare <= max_bytes
        assert 0 < len(batch) <= max_writes
