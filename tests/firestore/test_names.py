"""The order of names, ranges of them, and what a selection means; the order is the emulator's own."""

from __future__ import annotations

import fnmatch
import functools
import itertools
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from msr_async import ConfigError
from msr_async.firestore.names import (
    EVERYTHING,
    LOCK_COLLECTION,
    MIN_ID,
    Home,
    KeyRange,
    bridged,
    collection_id,
    is_internal,
    order_key,
    scope_of,
    under,
)
from msr_async.models import Selection
from tests.support.firestore_server.refusing import Refused
from tests.support.firestore_server.values import check_path

NUMERIC = st.one_of(st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1, 10])).filter(bool)
IDS = st.one_of(
    st.sampled_from(["a", "a\0", "a\0b", "a!", "b", "A", "\x01", "é", "\uffff", "\U00010000", "~", "__idx", "_", "0"]),
    NUMERIC.map(lambda number: f"__id{number}__"),
    st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=3).filter(
        lambda text: text not in (".", "..")
    ),
)
COLLECTIONS = st.sampled_from(["a", "b", "a\0", "a!", "shop_1", "shop_2", LOCK_COLLECTION, "schema_version", "é"])
DOCUMENTS = st.lists(st.tuples(COLLECTIONS, IDS), min_size=1, max_size=3).map(
    lambda pairs: "/".join(itertools.chain.from_iterable(pairs))
)
RANGES = st.tuples(DOCUMENTS | st.just(""), DOCUMENTS | st.just("")).map(
    lambda ends: KeyRange(
        start=min(ends, key=order_key) if all(ends) else ends[0], end=max(ends, key=order_key) if all(ends) else ends[1]
    )
)

IN_ORDER = [
    *("C/a", "a/x", "b/x"),
    *(f"c/__id{number}__" for number in (-(2**63), -5, 7)),
    *("c/__id7__/s/__id3__", "c/__id7__/s/a", "c/__id10__", f"c/__id{2**63 - 1}__"),
    *('c/"', "c/0", "c/00", "c/A", "c/__id7__\0", "c/__id7__x", "c/__idx", "c/a", "c/a/s/x", "c/a/s/y", "c/a\0"),
    *("c/a\0/s/x", "c/a\0b", "c/a!", "c/é", "c/\ue000", "c/\uffff", "c/\U00010000", "c/\U0001f600"),
    *("c\0/x", "c!/x", "d/m/e/n/f/o"),
]
"""As Google's emulator 1.19.9 gave them."""


def test_the_order_is_that_of_the_emulator() -> None:
    mixed = random.Random(7).sample(IN_ORDER, len(IN_ORDER))
    assert sorted(mixed, key=order_key) == IN_ORDER


@given(path=DOCUMENTS, cuts=st.lists(DOCUMENTS, max_size=6), item=RANGES)
def test_a_cut_covers_each_path_exactly_once(path: str, cuts: list[str], item: KeyRange) -> None:
    pieces = item.cut(cuts)
    assert sum(path in piece for piece in pieces) == (path in item)
    assert (pieces[0].start, pieces[-1].end) == (item.start, item.end)
    assert all(before.end == after.start for before, after in itertools.pairwise(pieces))


@given(path=DOCUMENTS)
def test_a_range_begins_with_its_start_and_ends_before_its_end(path: str) -> None:
    assert path in KeyRange(start=path)
    assert path not in KeyRange(end=path)
    assert path in EVERYTHING


def beneath(path: str, top: str) -> bool:
    return path == top or path.startswith(f"{top}/")


@given(path=DOCUMENTS, top=DOCUMENTS, depth=st.integers(1, 6))
def test_under_is_what_begins_with_it_and_nothing_else(path: str, top: str, depth: int) -> None:
    top = "/".join(top.split("/")[:depth])
    assert (path in under(top)) == beneath(path, top)


@given(path=DOCUMENTS, depth=st.integers(1, 6))
def test_under_holds_what_it_is_made_of(path: str, depth: int) -> None:
    assert path in under("/".join(path.split("/")[:depth]))


@pytest.mark.parametrize("top", ["c/__id7__", f"c/__id{2**63 - 1}__", "c/__id-1__", "c/__id-5__"])
def test_under_a_numeric_id_is_only_what_is_its_own(top: str) -> None:
    """It has no text that could come right behind it."""
    paths = {*IN_ORDER, top, f"{top}/s/x", "c/__id-1__", "c/__id1__"}
    assert {path for path in paths if path in under(top)} == {path for path in paths if beneath(path, top)}


LAST = "\U0010ffff"
SIGNS = st.sampled_from(
    ["\0", "-", ".", "0", "^", "_", "a", "\x7f", "\x80", "\u07ff", "\ud7ff", "\ue000", "\uffff", LAST]
)


@st.composite
def longest_ids(draw: st.DrawFn) -> str:
    """Of 1,500 bytes, with anything at their ends."""
    head = draw(st.text(SIGNS, max_size=3) | st.sampled_from(["__", "__id5_^", ".-"]))
    tail = draw(st.text(SIGNS, max_size=3))
    fill = draw(st.sampled_from(["a", LAST]))
    room = 1500 - len(f"{head}{tail}".encode())
    width = len(fill.encode())
    return f"{head}{fill * (room // width)}{'a' * (room % width)}{tail}"


def valid(path: str) -> bool:
    try:
        check_path(path)
    except Refused:
        return False
    return True


@given(place=st.integers(0, 3), id=longest_ids(), near=longest_ids(), sign=SIGNS, length=st.integers(0, 1500))
def test_under_the_longest_id_ends_at_one_that_a_server_takes(
    place: int, id: str, near: str, sign: str, length: int
) -> None:
    segments = ["c", "d", "s", "e"]
    top = "/".join([*segments[:place], id])
    assume(valid(top if place % 2 else f"{top}/x"))
    found = under(top)
    assert valid(found.start)
    assert not found.end or valid(found.end)
    others = [
        [*segments[:place], other, "x", "y", "z"] for other in (id, near, id[:length] + sign, id[:length], f"{id}a")
    ]
    for other in others:
        path = "/".join(other[: 2 if place < 2 else 4])
        assert not valid(path) or (path in found) == beneath(path, top)


@pytest.mark.parametrize(
    ("top", "end"),
    [
        (f"c/{'a' * 1499}", f"c/{'a' * 1499}\0"),
        (f"c/{'a' * 1500}", f"c/{'a' * 1499}b"),
        (f"c/{'ü' * 750}", f"c/{'ü' * 749}ý"),
        (f"c/{'a' * 1499}.", f"c/{'a' * 1499}0"),
        (f"c/{'a' * 1497}\ud7ff", f"c/{'a' * 1497}\ue000"),
        (f"c/{'a' * 1499}\x7f", f"c/{'a' * 1498}b"),
        (f"c/b{LAST * 374}aaa", f"c/b{LAST * 374}aab"),
        (f"c/aaab{LAST * 374}", "c/aaac"),
        (f"c/--.-{LAST * 374}", "c/--.."),
        (f"c/.{'-' * 3}{LAST * 374}", "c/.--."),
        (f"c/__^^{LAST * 374}", "c/__^_"),
        (f"c/__{'a' * 1496}_^", f"c/__{'a' * 1496}_`"),
        (f"c/d/{'e' * 1500}", f"c/d/{'e' * 1499}f/{MIN_ID}"),
        (f"c/{LAST * 375}", f"c\0/{MIN_ID}"),
        (f"c/d/{LAST * 375}", "c/d\0"),
        (LAST * 375, ""),
    ],
    ids=range(16),
)
def test_what_follows_the_longest_ids(top: str, end: str) -> None:
    assert under(top).end == end


def test_a_collection_that_nothing_can_follow_can_be_left_out() -> None:
    scope = scope_of(Selection(exclude=(LAST * 375, "a")))
    assert [[path in item for item in scope.ranges] for path in (f"{LAST * 375}/x", f"{LAST * 374}/x", "a/x")] == [
        [False, False, False],
        [False, False, True],
        [False, False, False],
    ]


def test_the_least_id_comes_before_every_other_one() -> None:
    assert min(IN_ORDER, key=order_key) not in under("c")
    assert all(order_key(f"c/{MIN_ID}") <= order_key(path) for path in IN_ORDER if path.startswith("c/"))


# -- selections ------------------------------------------------------------------------------------

PATTERNS = st.one_of(
    DOCUMENTS.filter(lambda path: not set(path) & set("*?[")),
    COLLECTIONS,
    st.sampled_from(["*", "shop_*", "a/*", "*/a", "a/*/b", "a/?", "[ab]", "a/__id*", "*/*/b", "schema_*", "a/[!b]"]),
)
SELECTIONS = st.builds(
    Selection,
    include=st.lists(PATTERNS, max_size=3).map(tuple),
    exclude=st.lists(PATTERNS, max_size=3).map(tuple),
)


@functools.cache
def fits(pattern: str, path: str) -> bool:
    """The rule in its plainest words: segment by segment, and everything beneath."""
    wanted, segments = pattern.split("/"), path.split("/")
    return len(wanted) <= len(segments) and all(
        fnmatch.fnmatchcase(segment, piece) for segment, piece in zip(segments, wanted, strict=False)
    )


def meant(path: str, selection: Selection) -> bool:
    included = not selection.include or any(fits(pattern, path) for pattern in selection.include)
    return included and not any(fits(pattern, path) for pattern in selection.exclude) and not is_internal(path)


@given(path=DOCUMENTS, selection=SELECTIONS)
def test_a_scope_is_what_the_selection_means(path: str, selection: Selection) -> None:
    scope = scope_of(selection)
    holds = scope.holds() or (lambda _: True)
    taken = sum(path in item for item in scope.ranges)
    assert taken <= 1
    assert bool(taken and holds(path)) == meant(path, selection)
    assert scope.whole == (selection == Selection())


@given(path=DOCUMENTS, selection=SELECTIONS)
def test_bridging_adds_only_what_is_internal(path: str, selection: Selection) -> None:
    ranges = scope_of(selection).ranges
    over = bridged(ranges)
    assert len(over) <= len(ranges)
    assert sum(path in item for item in over) <= 1
    before, after = any(path in item for item in ranges), any(path in item for item in over)
    assert after or not before
    assert before == after or is_internal(path)


def test_ranges_of_a_scope_are_in_order() -> None:
    scope = scope_of(Selection(include=("b", "a", "a/x/c"), exclude=("a/m", "b/m/c")))
    edges = [edge for item in scope.ranges for edge in (item.start, item.end)]
    assert edges == sorted(edges, key=order_key)
    assert len(scope.ranges) == 4


def test_the_whole_is_one_range_for_who_leaves_the_internal_out_himself() -> None:
    assert bridged(scope_of(Selection()).ranges) == [EVERYTHING]


def test_a_plain_selection_needs_nobody_to_ask() -> None:
    assert scope_of(Selection(include=("a",), exclude=("a/b",))).holds() is None
    assert scope_of(Selection(include=("a*",))).holds() is not None


@pytest.mark.parametrize("pattern", ["", "/", "a/", "/a", "a//b"])
def test_what_is_no_path_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"no path.*users/alice"):
        scope_of(Selection(include=(pattern,)))


# -- homes -----------------------------------------------------------------------------------------


def test_names_and_paths_match() -> None:
    home = Home(project="p", database="(default)")
    assert home.name("a/b") == "projects/p/databases/(default)/documents/a/b"
    assert home.path_of(home.name("a/b")) == "a/b"
    with pytest.raises(ValueError, match="is not in projects/p"):
        home.path_of("projects/p/databases/other/documents/a/b")


def test_a_collection_id_is_what_the_document_stands_in() -> None:
    assert collection_id("users/alice/orders/7") == "orders"
    assert collection_id("users/alice") == "users"
