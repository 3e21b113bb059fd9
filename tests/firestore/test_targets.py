"""The two servers that all other tests trust answer alike, in everything that a backup rests on.

Where Google's emulator is known to differ from production, our server follows production and the test says so.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from msr_async.firestore.names import KeyRange, order_key, under
from tests.support.firestore import FirestoreTarget, only_own

from .probing import (
    ABSENT,
    PRESENT,
    Document,
    Value,
    Wire,
    array,
    micro,
    nested,
    number,
    refused,
    text,
    unchanged_since,
    wired,
)

HOUR = 3_600_000_000


@pytest.fixture
async def wire(firestore_target: FirestoreTarget) -> AsyncIterator[Wire]:
    async with wired(firestore_target) as made:
        yield made


# -- values ----------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "null": Value(null_value=0),
    "true": Value(boolean_value=True),
    "false": Value(boolean_value=False),
    "zero": number(0),
    "the greatest integer": number(2**63 - 1),
    "the least integer": number(-(2**63)),
    "an integer beyond a double": number(2**53 + 1),
    "a whole double": Value(double_value=3.0),
    "minus zero": Value(double_value=-0.0),
    "not a number": Value(double_value=float("nan")),
    "infinity": Value(double_value=float("inf")),
    "minus infinity": Value(double_value=float("-inf")),
    "the least double": Value(double_value=5e-324),
    "microseconds": Value(timestamp_value=micro(1_700_000_000_123_456)),
    "before 1970": Value(timestamp_value=micro(-62_135_596_800_000_000)),
    "year 9999": Value(timestamp_value=micro(253_402_300_799_999_999)),
    "no text": text(""),
    "text": text("a\0b\n\t\"'`\\ ü 🎉 e\u0301"),
    "no bytes": Value(bytes_value=b""),
    "bytes": Value(bytes_value=bytes(range(256))),
    "a reference": Value(reference_value="projects/p/databases/(default)/documents/a/b"),
    "a reference to elsewhere": Value(reference_value="projects/q/databases/other/documents/a/b/c/__id7__"),
    "a place": Value(geo_point_value={"latitude": -90.0, "longitude": 179.999999}),
    "no place": Value(geo_point_value={}),
    "an empty array": array(),
    "an array": array(number(1), text("x"), nested({"in": array(number(2))})),
    "an empty map": nested({}),
    "a map with odd keys": nested(
        {"a.b": number(1), "`q`": number(2), "\\": number(3), " ": number(4), "é": number(5)}
    ),
    "a vector": nested({"__type__": text("__vector__"), "value": array(*(Value(double_value=x) for x in (0.5, -1.0)))}),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_value_comes_back_in_the_same_bytes(wire: Wire, value: Any) -> None:
    sent = {"v": value, "in": nested({"deeper": value})}
    await wire.commit(wire.update("c/d", sent))
    found = await wire.get("c/d")
    bare = Document(fields=found.fields)
    assert bare.SerializeToString(deterministic=True) == Document(fields=sent).SerializeToString(deterministic=True)


async def test_nanoseconds_are_cut_off_and_never_rounded_up(wire: Wire) -> None:
    sent = micro(1_700_000_000_999_999)
    sent.nanos += 999
    await wire.commit(wire.update("c/d", {"v": Value(timestamp_value=sent)}))
    assert (await wire.get("c/d")).fields["v"].timestamp_value == micro(1_700_000_000_999_999)


def deep(levels: int, *, arrays: bool = False) -> Any:
    """So many maps in each other, or maps in arrays in maps, with a number inside."""
    value = number(1)
    for level in range(levels):
        value = array(value) if arrays and level % 2 else nested({"k": value})
    return value


NOT_FOR_STORING: dict[str, dict[str, Any]] = {
    "an array in an array": {"v": array(array(number(1)))},
    "a value without a type": {"v": Value()},
    "such a value in a map": {"v": nested({"in": Value()})},
    "a reserved name of a field": {"__x__": number(1)},
    "an empty name of a field": {"": number(1)},
    "an empty key of a map": {"v": nested({"": number(1)})},
    "a name of 1,501 bytes": {"x" * 1501: number(1)},
    "21 levels": {"v": deep(21)},
    "21 levels with arrays": {"v": deep(21, arrays=True)},
}


@pytest.mark.parametrize("fields", NOT_FOR_STORING.values(), ids=NOT_FOR_STORING)
async def test_what_no_document_may_hold_is_an_invalid_argument(wire: Wire, fields: dict[str, Any]) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/d", fields))
    assert await wire.get("c/d") is None


@pytest.mark.parametrize("arrays", [False, True])
async def test_twenty_levels_are_allowed(wire: Wire, arrays: bool) -> None:
    value = deep(20, arrays=arrays)
    await wire.commit(wire.update("c/d", {"v": value}))
    assert (await wire.get("c/d")).fields["v"] == value


async def test_a_document_of_more_than_a_mebibyte_is_an_invalid_argument(wire: Wire) -> None:
    half = Value(bytes_value=b"x" * 524_000)
    await wire.commit(wire.update("c/nearly", {"a": half, "b": half}))
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/over", {"a": half, "b": half, "c": Value(bytes_value=b"x" * 1000)}))
    assert await wire.get("c/over") is None


async def test_times_that_are_sent_along_are_ignored(wire: Wire) -> None:
    write = wire.update("c/d", {"n": number(1)})
    write.update.create_time.CopyFrom(micro(1_000_000))
    write.update.update_time.CopyFrom(micro(1_000_000))
    answer = await wire.commit(write)
    found = await wire.get("c/d")
    assert found.create_time == found.update_time == answer.commit_time == answer.write_results[0].update_time
    again = await wire.put("c/d", value=2)
    later = await wire.get("c/d")
    assert later.create_time == found.create_time
    assert later.update_time == again.commit_time
    assert later.update_time.ToMicroseconds() > found.update_time.ToMicroseconds()


# -- ids -------------------------------------------------------------------------------------------

IDS = {
    "numeric": "__id7__",
    "the least number": "__id-9223372036854775808__",
    "the greatest number": "__id9223372036854775807__",
    "NUL": "a\0b",
    "a newline": "a\nb",
    "spaces": "  ",
    "escaped slash": "%2F",
    "quotes": "\"'`\\",
    "emoji": "🎉",
    "combining": "e\u0301",
    "half reserved": "__x",
    "three points": "...",
    "1,500 bytes": "ü" * 750,
}


@pytest.mark.parametrize("id", IDS.values(), ids=IDS)
async def test_an_odd_id_is_stored_as_it_is(wire: Wire, id: str) -> None:
    path = f"c/{id}"
    await wire.put(path)
    assert await wire.paths(wire.everything()) == [path]
    assert await wire.value(path) == 1


NO_IDS = {
    "a point": ".",
    "two points": "..",
    "reserved": "__x__",
    "the number zero": "__id0__",
    "a number with a leading zero": "__id07__",
    "a number with a sign": "__id+7__",
    "a number that is no number": "__idx__",
    "a number that is too large": "__id9223372036854775808__",
    "1,501 bytes": "ü" * 750 + "x",
    "nothing": "",
}


@pytest.mark.parametrize("path", ["c/{}", "{}/d", "c/d/{}/e"], ids=["document", "collection", "below"])
@pytest.mark.parametrize("id", NO_IDS.values(), ids=NO_IDS)
async def test_what_is_no_id_is_an_invalid_argument(wire: Wire, id: str, path: str) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.put(path.format(id))


@pytest.mark.parametrize("path", ["c", "c/d/e"])
async def test_a_name_of_a_collection_is_no_document(wire: Wire, path: str) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.put(path)


# -- order, ranges and cursors ---------------------------------------------------------------------

ORDERED = [
    "a/__id-9223372036854775808__",
    "a/__id-7__",
    "a/__id5__/s/x",
    "a/__id9__",
    "a/__id10__",
    "a/\0",
    "a/ ",
    "a/!",
    "a/1",
    "a/10",
    "a/9",
    "a/A",
    "a/__x",
    "a/a",
    "a/a/s/__id1__",
    "a/a/s/x",
    "a/a/s\0/x",
    "a/a/s!/x",
    "a/a/t/x/u/y",
    "a/a\0",
    "a/a!",
    "a/aa",
    "a/a~",
    "a/z",
    "a/é",
    "a/\uffff",  # in UTF-8 before what is beyond the 16 bits, in UTF-16 after it
    "a/😀",
    "a\0/x",
    "a!/x",
    "aa/x",
    "b/x",
]


@pytest.fixture
async def full(wire: Wire) -> Wire:
    """A database with `ORDERED` in it, written in another order."""
    paths = random.Random(1).sample(ORDERED, len(ORDERED))
    await wire.put(*paths)
    return wire


async def test_documents_come_in_the_order_of_their_names(full: Wire) -> None:
    assert await full.paths(full.everything()) == ORDERED
    assert sorted(ORDERED, key=order_key) == ORDERED


def between(start: str | None, end: str | None) -> list[str]:
    known = KeyRange(start=start or "", end=end or "")
    return [path for path in ORDERED if path in known]


async def test_cursors_include_and_exclude_at_every_document(full: Wire) -> None:
    for place, path in enumerate(ORDERED):
        assert await full.paths(full.everything(start=path, limit={"value": 2})) == ORDERED[place : place + 2]
        assert await full.paths(full.everything(after=path, limit={"value": 2})) == ORDERED[place + 1 : place + 3]
    for place, path in list(enumerate(ORDERED))[::4]:
        assert await full.paths(full.everything(before=path)) == ORDERED[:place]
        assert await full.paths(full.everything(upto=path)) == ORDERED[: place + 1]


async def test_a_cursor_may_name_what_is_not_there(full: Wire) -> None:
    for edge in ("a/__id5__", "a/5", "a/a/s/y", "zz/x", "a/a/r/x"):
        assert await full.paths(full.everything(start=edge)) == between(edge, None)
        assert await full.paths(full.everything(before=edge)) == between(None, edge)


async def test_two_cursors_make_a_range_and_neighbours_neither_overlap_nor_miss(full: Wire) -> None:
    edges = [None, "a/__id10__", "a/a/s/__id1__", "a/é", "a\0/x", None]
    found = [
        path
        for start, end in itertools.pairwise(edges)
        for path in await full.paths(full.everything(start=start, before=end))
    ]
    assert found == ORDERED


@pytest.mark.parametrize("path", ["a", "a\0", "a/a/s", "aa", "none", "a/a", "a/__id10__", "a/__id5__"])
async def test_a_collection_and_a_document_are_ranges_of_names(full: Wire, path: str) -> None:
    edges = under(path)
    found = await full.paths(full.everything(start=edges.start, before=edges.end))
    assert found == [item for item in ORDERED if item == path or item.startswith(f"{path}/")]


async def test_the_least_id_ends_a_collection_also_where_a_document_has_it(full: Wire) -> None:
    edges = under("a")
    assert edges.start == "a/__id-9223372036854775808__"
    assert edges.end == "a\0/__id-9223372036854775808__"
    assert (await full.paths(full.everything(start=edges.start, limit={"value": 1}))) == [ORDERED[0]]


async def test_queries_by_collection_by_group_and_beneath_a_document(full: Wire) -> None:
    group = [path for path in ORDERED if path.split("/")[-2] == "s"]
    assert await full.paths(full.everything("s")) == group
    assert await full.paths(full.everything("s"), under="a/a") == group[1:]
    below = [path for path in ORDERED if path.startswith("a/a/")]
    assert await full.paths(full.everything(), under="a/a") == below
    plain = full.everything("a")
    plain.from_[0].all_descendants = False
    assert await full.paths(plain) == [path for path in ORDERED if path.startswith("a/") and path.count("/") == 1]


async def test_offset_limit_and_names_only(full: Wire) -> None:
    names_only = full.everything(offset=3, limit={"value": 2}, select={"fields": [{"field_path": "__name__"}]})
    answers = await full.stream("RunQuery", parent=full.home.root, structured_query=names_only)
    documents = [item.document for item in answers if item.HasField("document")]
    assert [full.home.path_of(item.name) for item in documents] == ORDERED[3:5]
    assert [len(item.fields) for item in documents] == [0, 0]
    assert all(item.update_time == item.create_time and item.update_time.seconds for item in documents)


async def test_all_answers_of_a_query_bear_one_read_time(full: Wire) -> None:
    answers = await full.stream("RunQuery", parent=full.home.root, structured_query=full.everything())
    assert len({item.read_time.ToMicroseconds() for item in answers if item.HasField("document")}) == 1
    assert answers[0].read_time.ToMicroseconds() >= answers[0].document.update_time.ToMicroseconds()


async def test_an_empty_database_answers_with_a_read_time(wire: Wire) -> None:
    (answer,) = await wire.stream("RunQuery", parent=wire.home.root, structured_query=wire.everything())
    assert not answer.HasField("document")
    assert answer.read_time.seconds


async def test_counts(full: Wire) -> None:
    assert await full.count(full.everything()) == len(ORDERED)
    assert await full.count(full.everything("s")) == 3
    assert await full.count(full.everything(start="a/z", before="aa/x")) == len(between("a/z", "aa/x"))
    assert await full.count(full.everything("none")) == 0


async def test_collections_of_the_root_and_of_documents_that_are_not_there(full: Wire) -> None:
    assert sorted(await full.collections()) == ["a", "a\0", "a!", "aa", "b"]
    assert sorted(await full.collections("a/a")) == ["s", "s\0", "s!", "t"]
    assert await full.collections("a/a/t/x") == ["u"]
    assert await full.get("a/__id5__") is None
    assert await full.collections("a/__id5__") == ["s"]
    assert await full.collections("a/none") == []


async def test_collections_come_in_pages(wire: Wire) -> None:
    names = [f"c{place:02}" for place in range(5)]
    await wire.put(*(f"{name}/x" for name in names))
    found, token = [], ""
    for _ in range(3):
        answer = await wire.ask("ListCollectionIds", parent=wire.home.root, page_size=2, page_token=token)
        assert len(answer.collection_ids) <= 2
        found += answer.collection_ids
        token = answer.next_page_token
    assert sorted(found) == names
    assert token == ""


async def test_a_collection_is_gone_with_its_last_document(wire: Wire) -> None:
    await wire.put("c/x", "d/x")
    await wire.commit(wire.delete("c/x"))
    assert await wire.collections() == ["d"]


async def test_deleting_a_parent_leaves_what_is_beneath(wire: Wire) -> None:
    await wire.put("c/x", "c/x/s/y")
    await wire.commit(wire.delete("c/x"))
    assert await wire.paths(wire.everything()) == ["c/x/s/y"]
    assert await wire.collections() == ["c"]


async def listed(wire: Wire, collection: str, *, parent: str = "", **how: Any) -> list[tuple[str, bool]]:
    """Path by path, and whether it is a document at all."""
    above = f"{wire.home.root}/{parent}" if parent else wire.home.root
    answer = await wire.ask("ListDocuments", parent=above, collection_id=collection, **how)
    return [(wire.home.path_of(item.name), item.HasField("create_time")) for item in answer.documents]


async def test_documents_that_are_not_there_are_listed_for_what_is_beneath_them(wire: Wire) -> None:
    await wire.put("c/there", "c/missing/s/x", "d/x")
    assert await listed(wire, "c") == [("c/there", True)]
    assert await listed(wire, "c", show_missing=True) == [("c/missing", False), ("c/there", True)]
    assert await listed(wire, "s", parent="c/missing") == [("c/missing/s/x", True)]
    with refused("INVALID_ARGUMENT"):
        await listed(wire, "c", show_missing=True, order_by="__name__")


async def test_a_single_document_is_got_or_not_found(wire: Wire) -> None:
    await wire.put("c/d")
    found = await wire.ask("GetDocument", name=wire.home.name("c/d"))
    assert found == await wire.get("c/d")
    with refused("NOT_FOUND"):
        await wire.ask("GetDocument", name=wire.home.name("c/none"))


# -- the past --------------------------------------------------------------------------------------


async def test_everything_can_be_read_as_it_was(wire: Wire) -> None:
    await wire.put("c/kept", "c/changed", "c/gone", "gone/x")
    then = (await wire.put("c/last")).commit_time
    await wire.put("c/changed", "c/new", "new/x", value=2)
    await wire.commit(wire.delete("c/gone"), wire.delete("gone/x"))
    were = ["c/changed", "c/gone", "c/kept", "c/last", "gone/x"]
    assert await wire.paths(wire.everything(), read_time=then) == were
    assert await wire.paths(wire.everything(start="c/gone", before="c/last"), read_time=then) == were[1:3]
    assert await wire.count(wire.everything(), read_time=then) == 5
    assert await wire.collections(read_time=then) == ["c", "gone"]
    assert await wire.value("c/changed", read_time=then) == 1
    assert await wire.value("c/new", read_time=then) is None
    assert await wire.value("c/gone", read_time=then) == 1
    assert await wire.paths(wire.everything()) == ["c/changed", "c/kept", "c/last", "c/new", "new/x"]


async def test_a_microsecond_before_a_commit_does_not_see_it(wire: Wire) -> None:
    moment = (await wire.put("c/d")).commit_time
    assert await wire.value("c/d", read_time=moment) == 1
    assert await wire.value("c/d", read_time=micro(moment.ToMicroseconds() - 1)) is None


async def test_the_answer_bears_the_read_time_that_was_asked_for(wire: Wire) -> None:
    moment = (await wire.put("c/d")).commit_time
    await wire.put("c/d", value=2)
    (answer, *_) = await wire.stream(
        "RunQuery", parent=wire.home.root, structured_query=wire.everything(), read_time=moment
    )
    assert answer.read_time == moment


async def test_the_future_and_nanoseconds_are_invalid_arguments(wire: Wire) -> None:
    now = await wire.now()
    with refused("INVALID_ARGUMENT"):
        await wire.paths(wire.everything(), read_time=micro(now.ToMicroseconds() + 60_000_000))
    precise = micro(now.ToMicroseconds())
    precise.nanos += 1
    with refused("INVALID_ARGUMENT"):
        await wire.paths(wire.everything(), read_time=precise)


async def test_what_is_too_long_ago_is_a_failed_precondition(wire: Wire) -> None:
    now = (await wire.now()).ToMicroseconds()
    with refused("FAILED_PRECONDITION", "too old"):
        await wire.paths(wire.everything(), read_time=micro(now - 8 * 24 * HOUR))


@only_own
async def test_after_an_hour_it_is_too_long_ago_as_in_production(wire: Wire) -> None:
    """Google's emulator goes further back: it takes two hours ago."""
    now = (await wire.now()).ToMicroseconds()
    assert await wire.paths(wire.everything(), read_time=micro(now - HOUR + 60_000_000)) == []
    with refused("FAILED_PRECONDITION", "too old"):
        await wire.paths(wire.everything(), read_time=micro(now - HOUR - 1_000_000))


# -- preconditions and masks -----------------------------------------------------------------------


async def test_preconditions_and_their_codes(wire: Wire) -> None:
    old = (await wire.put("c/d")).commit_time
    now = (await wire.put("c/d", value=2)).commit_time
    there = {"n": number(3)}
    with refused("ALREADY_EXISTS"):
        await wire.commit(wire.update("c/d", there, only=ABSENT))
    with refused("FAILED_PRECONDITION"):
        await wire.commit(wire.update("c/d", there, only=unchanged_since(old)))
    with refused("FAILED_PRECONDITION"):
        await wire.commit(wire.delete("c/d", only=unchanged_since(old)))
    with refused("NOT_FOUND"):
        await wire.commit(wire.update("c/none", there, only=PRESENT))
    with refused("NOT_FOUND"):
        await wire.commit(wire.delete("c/none", only=PRESENT))
    assert await wire.value("c/d") == 2
    await wire.commit(wire.update("c/new", there, only=ABSENT), wire.update("c/d", there, only=unchanged_since(now)))
    assert await wire.paths(wire.everything()) == ["c/d", "c/new"]
    await wire.commit(wire.delete("c/new", only=PRESENT), wire.delete("c/none"))
    assert await wire.paths(wire.everything()) == ["c/d"]


@pytest.mark.parametrize("kind", ["update", "delete"])
async def test_an_update_time_of_what_is_gone(wire: Wire, kind: str) -> None:
    moment = (await wire.put("c/d")).commit_time
    await wire.commit(wire.delete("c/d"))
    only = unchanged_since(moment)
    writes = {"update": wire.update("c/d", {}, only=only), "delete": wire.delete("c/d", only=only)}
    with refused("FAILED_PRECONDITION"):
        await wire.commit(writes[kind])


async def test_one_refused_write_refuses_the_whole_commit(wire: Wire) -> None:
    await wire.put("c/gone", "c/there")
    with refused("ALREADY_EXISTS"):
        await wire.commit(wire.update("c/new", {}), wire.delete("c/gone"), wire.update("c/there", {}, only=ABSENT))
    assert await wire.paths(wire.everything()) == ["c/gone", "c/there"]


async def test_a_write_that_changes_nothing_keeps_the_update_time(wire: Wire) -> None:
    first = (await wire.commit(wire.update("c/d", {"a": number(1), "b": nested({"x": number(2)})}))).commit_time
    answer = await wire.commit(wire.update("c/d", {"b": nested({"x": number(2)}), "a": number(1)}))
    assert answer.write_results[0].update_time == first
    assert (await wire.get("c/d")).update_time == first


async def test_an_empty_mask_touches_nothing_and_still_asks_its_precondition(wire: Wire) -> None:
    first = (await wire.put("c/d")).commit_time
    answer = await wire.commit(wire.update("c/d", {"n": number(9)}, mask=[], only=unchanged_since(first)))
    assert answer.write_results[0].update_time == first
    found = await wire.get("c/d")
    assert (found.update_time, found.fields["n"].integer_value) == (first, 1)
    await wire.put("c/d", value=2)
    with refused("FAILED_PRECONDITION"):
        await wire.commit(wire.update("c/d", {}, mask=[], only=unchanged_since(first)))
    with refused("NOT_FOUND"):
        await wire.commit(wire.update("c/none", {}, mask=[], only=PRESENT))


async def test_an_empty_mask_makes_a_document_that_is_missing(wire: Wire) -> None:
    await wire.commit(wire.update("c/d", {"n": number(9)}, mask=[]))
    assert dict((await wire.get("c/d")).fields) == {}


async def test_a_mask_changes_adds_and_takes_away_only_what_it_names(wire: Wire) -> None:
    await wire.commit(
        wire.update(
            "c/d", {"a": number(1), "b": number(1), "m": nested({"x": number(1), "y": number(1)}), "z": number(1)}
        )
    )
    await wire.commit(
        wire.update(
            "c/d",
            {"a": number(2), "m": nested({"x": number(2)}), "new": number(2), "z": number(2)},
            mask=["a", "b", "m.x", "m.y", "new"],
        )
    )
    found = await wire.get("c/d")
    assert dict(found.fields) == {"a": number(2), "m": nested({"x": number(2)}), "new": number(2), "z": number(1)}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a.b", "`a.b`"),
        ("a`b", "`a\\`b`"),
        ("a\\b", "`a\\\\b`"),
        (" ", "` `"),
        ("1", "`1`"),
        ("é", "`é`"),
        ("a\nb", "`a\nb`"),
        ("_x1", "_x1"),
        ("plain", "`plain`"),
    ],
)
async def test_odd_names_of_fields_are_quoted_in_a_mask(wire: Wire, key: str, path: str) -> None:
    await wire.commit(wire.update("c/d", {key: number(1), "other": number(1)}))
    await wire.commit(wire.update("c/d", {key: number(2)}, mask=[path]))
    assert dict((await wire.get("c/d")).fields) == {key: number(2), "other": number(1)}
    await wire.commit(wire.update("c/d", {"m": nested({key: number(3)})}, mask=[f"m.{path}", path]))
    assert dict((await wire.get("c/d")).fields) == {"m": nested({key: number(3)}), "other": number(1)}


@pytest.mark.parametrize("path", ["a..b", ".a", "a.", "`a", "a`b`", "a b", "1", ""])
async def test_what_is_no_path_of_a_field_is_an_invalid_argument(wire: Wire, path: str) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/d", {"a": number(1)}, mask=[path]))


async def test_a_document_may_be_written_twice_in_one_commit(wire: Wire) -> None:
    await wire.commit(
        wire.update("c/d", {"n": number(1)}), wire.update("c/d", {"n": number(2)}, only=PRESENT), wire.delete("c/e")
    )
    assert await wire.value("c/d") == 2


# -- batches ---------------------------------------------------------------------------------------


async def test_each_write_of_a_batch_has_its_own_status(wire: Wire) -> None:
    old = (await wire.put("c/there", "c/changed")).commit_time
    await wire.put("c/changed", value=2)
    answer = await wire.batch(
        wire.update("c/new", {"n": number(7)}),
        wire.update("c/there", {}, only=ABSENT),
        wire.update("c/none", {}, only=PRESENT),
        wire.update("c/changed", {}, only=unchanged_since(old)),
        wire.delete("c/absent"),
        wire.update("c/last", {"n": number(8)}),
    )
    assert [item.code for item in answer.status] == [0, 6, 5, 9, 0, 0]
    assert len(answer.write_results) == 6
    found = {path: await wire.value(path) for path in await wire.paths(wire.everything())}
    assert found == {"c/changed": 2, "c/last": 8, "c/new": 7, "c/there": 1}
    assert answer.write_results[0].update_time == (await wire.get("c/new")).update_time


async def test_a_document_twice_in_a_batch_is_an_invalid_argument(wire: Wire) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.batch(wire.update("c/d", {}), wire.delete("c/d"))
    assert await wire.get("c/d") is None


BAD_WRITES: dict[str, Any] = {
    "a reserved field": lambda wire: wire.update("c/bad", {"__x__": number(1)}),
    "a reserved id": lambda wire: wire.update("c/__x__", {}),
    "an array in an array": lambda wire: wire.update("c/bad", {"v": array(array())}),
    "too large": lambda wire: wire.update("c/bad", {"v": Value(bytes_value=b"x" * 1_048_576)}),
}


@pytest.mark.parametrize("bad", BAD_WRITES.values(), ids=BAD_WRITES)
async def test_an_invalid_write_refuses_the_whole_batch(wire: Wire, bad: Any) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.batch(wire.update("c/good", {}), bad(wire))
    assert await wire.paths(wire.everything()) == []


@only_own
@pytest.mark.parametrize("method", ["commit", "batch"])
async def test_a_write_for_another_database_is_refused_as_in_production(wire: Wire, method: str) -> None:
    """Google's emulator says that it is done, and stores nothing that anybody can see."""
    elsewhere = wire.update("c/d", {})
    elsewhere.update.name = elsewhere.update.name.replace("(default)", "other")
    with refused("INVALID_ARGUMENT"):
        await getattr(wire, method)(elsewhere)


# -- transactions ----------------------------------------------------------------------------------


async def test_a_transaction_writes_at_its_commit_and_not_before(wire: Wire) -> None:
    await wire.put("c/d")
    transaction = await wire.begin()
    assert await wire.value("c/d", transaction=transaction) == 1
    await wire.commit(wire.update("c/d", {"n": number(2)}), transaction=transaction)
    assert await wire.value("c/d") == 2


async def test_a_transaction_that_was_rolled_back_or_committed_is_over(wire: Wire) -> None:
    for end in ("Rollback", "Commit"):
        transaction = await wire.begin()
        await wire.value("c/d", transaction=transaction)
        await wire.ask(end, database=wire.home.path, transaction=transaction)
        with refused("INVALID_ARGUMENT"):
            await wire.commit(wire.update("c/d", {}), transaction=transaction)
    assert await wire.get("c/d") is None


async def test_of_two_transactions_that_read_and_write_the_same_one_is_aborted(wire: Wire) -> None:
    """Now and then Google's emulator aborts both, when each waits for the other's lock; a client tries again."""
    await wire.put("c/d", value=0)
    outcomes: list[str] = []

    async def commit(transaction: bytes) -> None:
        try:
            await wire.commit(wire.update("c/d", {"n": number(1)}), transaction=transaction)
            outcomes.append("OK")
        except Exception as error:
            outcomes.append(error.code().name)  # type: ignore[attr-defined]

    for _ in range(5):
        outcomes.clear()
        transactions = [await wire.begin(), await wire.begin()]
        for transaction in transactions:
            assert await wire.value("c/d", transaction=transaction) == 0
        async with anyio.create_task_group() as group:
            for transaction in transactions:
                group.start_soon(commit, transaction)
        if outcomes != ["ABORTED", "ABORTED"]:
            break
        assert await wire.value("c/d") == 0
    assert sorted(outcomes) == ["ABORTED", "OK"]
    assert await wire.value("c/d") == 1


async def test_a_read_only_transaction_sees_one_moment_and_writes_nothing(wire: Wire) -> None:
    await wire.put("c/d")
    transaction = await wire.begin(read_only=True)
    assert await wire.value("c/d", transaction=transaction) == 1
    await wire.put("c/d", "c/e", value=2)
    assert await wire.value("c/d", transaction=transaction) == 1
    assert await wire.paths(wire.everything(), transaction=transaction) == ["c/d"]
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/d", {}), transaction=transaction)


async def test_a_read_only_transaction_may_be_of_the_past(wire: Wire) -> None:
    then = (await wire.put("c/d")).commit_time
    await wire.put("c/d", value=2)
    transaction = await wire.begin(read_only=True, read_time=then)
    assert await wire.value("c/d", transaction=transaction) == 1


async def test_a_transaction_begins_with_its_first_read(wire: Wire) -> None:
    await wire.put("c/d")
    first, second = await wire.stream(
        "BatchGetDocuments",
        database=wire.home.path,
        documents=[wire.home.name("c/d")],
        new_transaction={"read_write": {}},
    )
    assert first.transaction
    assert second.found.fields["n"] == number(1)
    await wire.commit(wire.update("c/d", {"n": number(2)}), transaction=first.transaction)
    assert await wire.value("c/d") == 2


async def test_a_transaction_that_nobody_began_is_an_invalid_argument(wire: Wire) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/d", {}), transaction=b"nobody's")


# -- databases -------------------------------------------------------------------------------------


async def test_databases_of_a_project_are_apart(wire: Wire, firestore_target: FirestoreTarget) -> None:
    async with wired(firestore_target, "other") as other:
        await wire.put("c/d")
        await other.put("c/d", "c/e", value=2)
        assert await wire.paths(wire.everything()) == ["c/d"]
        assert await other.paths(other.everything()) == ["c/d", "c/e"]
        await other.commit(other.delete("c/d"))
        assert await wire.value("c/d") == 1


async def test_a_name_of_another_database_is_no_cursor(wire: Wire) -> None:
    asked = wire.everything(start="c/d")
    asked.start_at.values[0].reference_value = "projects/p/databases/other/documents/c/d"
    with refused("INVALID_ARGUMENT"):
        await wire.paths(asked)
