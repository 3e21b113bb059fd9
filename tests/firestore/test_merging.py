"""A backup's documents beside those of the target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msr_async import RestoreFailed
from msr_async.firestore.merging import Changes, Item, joined, nothing
from msr_async.firestore.names import order_key


async def pages(items: Sequence[Item], size: int) -> AsyncIterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
        yield []


def equal(ours: bytes, theirs: bytes) -> bool:
    return ours == theirs


async def joining(
    backup: Sequence[Item], target: Sequence[Item], *, size: int = 3, by_time: bool = True
) -> tuple[list[str], list[str], int]:
    steps = [step async for step in joined(pages(backup, size), pages(target, 2), equal if by_time else None)]
    return (
        [path for step in steps for path, _ in step.write],
        [path for step in steps for path, _ in step.delete],
        sum(step.unchanged for step in steps),
    )


def items(*paths: str, version: bytes = b"1") -> list[Item]:
    return [(path, version) for path in paths]


async def test_what_is_the_same_is_not_written() -> None:
    both = items("a/1", "a/2", "b/1")
    assert await joining(both, both) == ([], [], 3)


async def test_what_was_changed_is_written() -> None:
    assert await joining(items("a/1", "a/2"), [("a/1", b"1"), ("a/2", b"2")]) == (["a/2"], [], 1)


async def test_in_another_database_equal_times_say_nothing() -> None:
    both = items("a/1", "a/2")
    assert await joining(both, both, by_time=False) == (["a/1", "a/2"], [], 0)


async def test_what_is_not_in_the_backup_is_deleted_wherever_it_stands() -> None:
    target = items("a/0", "a/1", "a/1/x/1", "a/2", "a/3", "z/1", "z/2")
    assert await joining(items("a/1", "a/2"), target) == ([], ["a/0", "a/1/x/1", "a/3", "z/1", "z/2"], 2)


async def test_an_empty_backup_deletes_all_and_an_empty_target_takes_all() -> None:
    some = items("a/1", "a/2", "a/3")
    assert await joining([], some) == ([], ["a/1", "a/2", "a/3"], 0)
    assert await joining(some, []) == (["a/1", "a/2", "a/3"], [], 0)
    assert await joining([], []) == ([], [], 0)


async def test_the_databases_order_is_not_that_of_texts() -> None:
    ordered = items(
        "a/__id-5__", "a/__id7__", "a/__id10__", "a/1", "a/1/b/2", "a/1!", "a/B", "a/b", "a/é", "a/\U0001f600"
    )
    assert await joining(ordered, ordered) == ([], [], 10)
    assert await joining(ordered[::2], ordered) == ([], [path for path, _ in ordered[1::2]], 5)
    assert await joining(ordered, ordered[::2]) == ([path for path, _ in ordered[1::2]], [], 5)


async def test_much_to_delete_comes_in_pieces() -> None:
    extra = items(*(f"a/{number:05}" for number in range(5000)))
    steps: list[Changes] = [step async for step in joined(pages(items("b/1"), 1), pages(extra, 1300), equal)]
    assert max(len(step.delete) for step in steps) <= 1000
    assert [item for step in steps for item in step.delete] == extra


@pytest.mark.parametrize(
    "backup",
    [("a/2", "a/1"), ("a/1", "a/1"), ("a/10", "a/__id9__"), ("a/1", "a/2", "a/3", "a/2"), ("a/1/b/1", "a/1")],
)
@pytest.mark.parametrize("target", [(), ("a/1", "a/2"), ("a/2", "a/3"), ("a/3",), ("a/1/b/1",)])
async def test_a_backup_out_of_order_is_refused(backup: Sequence[str], target: Sequence[str]) -> None:
    with pytest.raises(RestoreFailed, match="does not stand behind"):
        await joining(items(*backup), items(*target))


async def test_without_a_look_at_the_target_all_is_written() -> None:
    steps = [step async for step in joined(pages(items("a/1", "a/2"), 1), nothing())]
    assert [item for step in steps for item in step.write] == items("a/1", "a/2")
    assert not any(step.delete or step.unchanged for step in steps)


paths = st.lists(
    st.tuples(st.sampled_from(["a", "b", "a!", "__id3__", "__id20__"]), st.sampled_from(["1", "10", "__id3__", "x"]))
    .map("/".join)
    .flatmap(lambda path: st.sampled_from([path, f"{path}/s/1", f"{path}/s/2"])),
    unique=True,
).map(lambda found: sorted(found, key=order_key))


@given(paths, paths, st.sets(st.integers(0, 20)), st.integers(1, 5))
async def test_the_target_becomes_what_the_backup_is(
    ours: list[str], theirs: list[str], stale: set[int], size: int
) -> None:
    backup = items(*ours)
    target = {path: b"2" if place in stale else b"1" for place, path in enumerate(theirs)}
    steps = [step async for step in joined(pages(backup, size), pages(list(target.items()), 2), equal)]
    for step in steps:
        target.update(step.write)
        for path, _ in step.delete:
            del target[path]
    assert target == dict(backup)
    written = sum(len(step.write) for step in steps)
    assert written + sum(step.unchanged for step in steps) == len(backup)
