"""What the client's own conveniences ask of a server beyond a backup's needs: listings, transforms, orders, filters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.cloud.firestore import SERVER_TIMESTAMP, ArrayRemove, ArrayUnion, AsyncClient, FieldFilter, Increment
from google.cloud.firestore_v1.types import write

from tests.support.firestore import FirestoreTarget

from .probing import PRESENT, Value, Wire, array, nested, number, refused, text, wired

DocumentTransform: Any = write.DocumentTransform.pb()
Write: Any = write.Write.pb()


@pytest.fixture
async def wire(firestore_target: FirestoreTarget) -> AsyncIterator[Wire]:
    async with wired(firestore_target) as made:
        yield made


@pytest.fixture
async def client(firestore_target: FirestoreTarget) -> AsyncIterator[AsyncClient]:
    async with firestore_target.client() as opened:
        yield opened


# -- values ----------------------------------------------------------------------------------------

REFUSED: dict[str, Any] = {
    "a latitude beyond the pole": Value(geo_point_value={"latitude": 90.5}),
    "a longitude beyond the date line": Value(geo_point_value={"longitude": -180.5}),
    "a year before the first": Value(timestamp_value={"seconds": -62_135_596_801}),
    "a year after 9999": Value(timestamp_value={"seconds": 253_402_300_800}),
    "a reference to nothing": Value(reference_value="users/ada"),
    "a reference to a collection": Value(reference_value="projects/p/databases/(default)/documents/users"),
    "a text that is too long": text("x" * 1_048_488),
    "bytes that are too long": Value(bytes_value=b"x" * 1_048_488),
    "a reserved key of a map": nested({"__x__": number(1)}),
    "a look-alike of another edition": nested({"__oid__": text("507f1f77bcf86cd799439011")}),
    "a vector of text": nested({"__type__": text("__vector__"), "value": text("x")}),
    "a type that is not known": nested({"__type__": text("x")}),
}


@pytest.mark.parametrize("value", REFUSED.values(), ids=REFUSED)
async def test_a_value_out_of_its_bounds_is_an_invalid_argument(wire: Wire, value: Any) -> None:
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/d", {"v": value}))
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/d", {"v": nested({"in": array(value)})}))
    assert await wire.get("c/d") is None


async def test_the_longest_text_and_the_longest_name_of_a_field_are_allowed(wire: Wire) -> None:
    sent = {"v": text("x" * 1_048_487)}
    await wire.commit(wire.update("c/long", sent), wire.update("c/name", {"x" * 1500: number(1), "____": number(2)}))
    assert (await wire.get("c/long")).fields["v"] == sent["v"]
    assert len((await wire.get("c/name")).fields) == 2


async def test_the_hundredth_level_is_the_last(wire: Wire) -> None:
    await wire.put("/".join(["c", "d"] * 100))
    with refused("INVALID_ARGUMENT"):
        await wire.put("/".join(["c", "d"] * 101))


# -- listings --------------------------------------------------------------------------------------


async def listed(wire: Wire, collection: str, *, under: str = "", **how: Any) -> list[tuple[str, bool]]:
    """Each path with whether a document is there."""
    parent = f"{wire.home.root}/{under}" if under else wire.home.root
    answer = await wire.ask("ListDocuments", parent=parent, collection_id=collection, **how)
    return [(wire.home.path_of(item.name), item.HasField("create_time")) for item in answer.documents]


async def test_a_collection_is_listed_with_its_missing_documents_on_demand(wire: Wire) -> None:
    await wire.put("c/b", "c/__id9__", "c/ghost/s/1", "c/ghost/s/1/t/2", "d/1", "c/é")
    there = [("c/__id9__", True), ("c/b", True), ("c/é", True)]
    assert await listed(wire, "c") == there
    assert await listed(wire, "c", show_missing=True) == [*there[:2], ("c/ghost", False), there[2]]
    assert await listed(wire, "s", under="c/ghost") == [("c/ghost/s/1", True)]
    assert await listed(wire, "") == [*there, ("d/1", True)]
    assert await listed(wire, "none") == []


async def test_a_listing_is_of_a_moment_and_of_some_fields(wire: Wire) -> None:
    moment = (await wire.commit(wire.update("c/1", {"a": number(1), "b": number(2)}))).commit_time
    await wire.commit(wire.delete("c/1"), wire.update("c/2", {"a": number(1)}))
    assert await listed(wire, "c", read_time=moment) == [("c/1", True)]
    answer = await wire.ask(
        "ListDocuments",
        parent=wire.home.root,
        collection_id="c",
        read_time=moment,
        mask={"field_paths": ["b"]},
    )
    assert {key: value.integer_value for key, value in answer.documents[0].fields.items()} == {"b": 2}


async def test_a_listing_comes_in_pages(wire: Wire) -> None:
    await wire.put(*(f"c/{number}" for number in range(7)), "c/3/s/x")
    found, token, pages = [], "", 0
    while pages == 0 or token:
        answer = await wire.ask(
            "ListDocuments", parent=wire.home.root, collection_id="c", page_size=3, page_token=token
        )
        found += [wire.home.path_of(item.name) for item in answer.documents]
        token, pages = answer.next_page_token, pages + 1
    assert found == [f"c/{number}" for number in range(7)]
    assert pages == 3


@pytest.mark.parametrize("collection", ["", "c"])
async def test_missing_documents_of_every_collection_or_in_an_order_are_an_invalid_argument(
    wire: Wire, collection: str
) -> None:
    order = "__name__" if collection else ""
    with refused("INVALID_ARGUMENT"):
        await listed(wire, collection, show_missing=True, order_by=order)


async def test_the_client_lists_what_the_server_has(client: AsyncClient) -> None:
    await client.document("c/a/s/1").set({"n": 1})
    await client.document("d/b").set({"n": 1})
    assert [item.id async for item in client.collections()] == ["c", "d"]
    assert [item.id async for item in client.document("c/a").collections()] == ["s"]
    assert [item.path async for item in client.collection("c").list_documents()] == ["c/a"]


# -- transforms ------------------------------------------------------------------------------------


async def test_transforms_do_what_they_say_and_tell_their_results(client: AsyncClient) -> None:
    document = client.document("c/d")
    await document.set({"n": 1, "list": [1, "two"], "kept": True})
    changed = await document.update(
        {"n": Increment(2), "list": ArrayUnion([1, 3]), "f": Increment(0.5), "at": SERVER_TIMESTAMP}
    )
    found = (await document.get()).to_dict() or {}
    at = found.pop("at")
    assert found == {"n": 3, "list": [1, "two", 3], "f": 0.5, "kept": True}
    assert at <= changed.update_time
    told = {result._pb.WhichOneof("value_type") for result in changed.transform_results}
    assert told == {"integer_value", "null_value", "double_value", "timestamp_value"}
    await document.update({"list": ArrayRemove([1, "two"]), "none": ArrayRemove([1])})
    assert ((await document.get()).to_dict() or {})["list"] == [3]
    assert ((await document.get()).to_dict() or {})["none"] == []


async def test_an_increment_ends_at_the_greatest_integer(client: AsyncClient) -> None:
    document = client.document("c/d")
    await document.set({"n": 2**63 - 2, "t": "text"})
    await document.update({"n": Increment(5), "t": Increment(1)})
    assert (await document.get()).to_dict() == {"n": 2**63 - 1, "t": 1}


async def test_a_transform_that_stands_alone_makes_a_document(wire: Wire) -> None:
    stamp = {"field_path": "at", "set_to_server_value": 1}
    alone = Write(transform=DocumentTransform(document=wire.home.name("c/d"), field_transforms=[stamp]))
    await wire.commit(alone)
    assert (await wire.get("c/d")).fields["at"].timestamp_value.seconds > 1_700_000_000
    alone.transform.document = wire.home.name("c/none")
    alone.current_document.CopyFrom(PRESENT)
    with refused("NOT_FOUND"):
        await wire.commit(alone)


# -- orders and filters ----------------------------------------------------------------------------


@pytest.fixture
async def numbers(client: AsyncClient) -> AsyncClient:
    """`a` to `d` with 3, 2, 1 and 1.5, and some that are no numbers."""
    values: dict[str, Any] = {"a": 3, "b": 2, "c": 1, "d": 1.5, "x": "text", "n": None}
    for id, value in values.items():
        await client.document(f"o/{id}").set({"v": value, "in": {"deep": value}})
    await client.document("o/without").set({"w": 1})
    return client


async def ids(query: Any) -> list[str]:
    return [found.id async for found in query.stream()]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("==", ["b"]),
        ("<", ["c", "d"]),
        ("<=", ["c", "d", "b"]),
        (">", ["a"]),
        (">=", ["b", "a"]),
        ("!=", ["c", "d", "a", "x"]),
    ],
)
async def test_a_filter_compares_values_of_one_kind_and_orders_by_them(
    numbers: AsyncClient, operator: str, expected: list[str]
) -> None:
    assert await ids(numbers.collection("o").where(filter=FieldFilter("v", operator, 2))) == expected


async def test_several_filters_hold_together(numbers: AsyncClient) -> None:
    both = numbers.collection("o").where(filter=FieldFilter("v", ">", 1)).where(filter=FieldFilter("v", "<", 3))
    assert await ids(both) == ["d", "b"]


async def test_an_order_by_a_field_leaves_out_what_lacks_it(numbers: AsyncClient) -> None:
    query = numbers.collection("o").order_by("v")
    assert await ids(query) == ["n", "c", "d", "b", "a", "x"]
    assert await ids(query.limit(2).offset(1)) == ["c", "d"]
    assert await ids(query.start_at({"v": 2}).end_before({"v": "text"})) == ["b", "a"]
    assert await ids(query.start_after({"v": 2}).end_at({"v": "text"})) == ["a", "x"]
    assert await ids(numbers.collection("o").order_by("in.deep", direction="DESCENDING").limit(3)) == ["x", "a", "b"]


async def test_equal_values_are_in_the_order_of_their_names(client: AsyncClient) -> None:
    for id in ("c", "a", "b"):
        await client.document(f"o/{id}").set({"v": 1})
    assert await ids(client.collection("o").order_by("v")) == ["a", "b", "c"]
    assert await ids(client.collection("o").order_by("v", direction="DESCENDING")) == ["c", "b", "a"]
    (second,) = [found async for found in client.collection("o").order_by("v").offset(1).limit(1).stream()]
    assert await ids(client.collection("o").order_by("v").start_after(second)) == ["c"]


async def test_nothing_is_ordered_after_the_name(wire: Wire) -> None:
    asked = wire.everything("c")
    asked.order_by.add(direction=1).field.field_path = "n"
    with refused("INVALID_ARGUMENT"):
        await wire.paths(asked)


async def test_a_cursor_needs_an_order(wire: Wire) -> None:
    await wire.put("c/a")
    asked = wire.everything(start="c/a")
    del asked.order_by[:]
    with refused("INVALID_ARGUMENT"):
        await wire.paths(asked)


# -- transactions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["read_only", "read_write"])
async def test_a_read_may_begin_a_transaction_and_tells_its_id_first(wire: Wire, mode: str) -> None:
    await wire.put("c/a", "c/b")
    first, *rest = await wire.stream(
        "BatchGetDocuments",
        database=wire.home.path,
        documents=[wire.home.name("c/a"), wire.home.name("c/none")],
        new_transaction={mode: {}},
    )
    assert first.transaction
    assert first.WhichOneof("result") is None
    assert len(rest) == 2
    assert not any(item.transaction for item in rest)
    first, *rest = await wire.stream(
        "RunQuery", parent=wire.home.root, structured_query=wire.everything("c"), new_transaction={mode: {}}
    )
    assert first.transaction
    assert [wire.home.path_of(item.document.name) for item in rest] == ["c/a", "c/b"]


async def test_a_transaction_that_a_read_began_is_a_snapshot(wire: Wire) -> None:
    await wire.put("c/a")
    first, *_ = await wire.stream(
        "BatchGetDocuments",
        database=wire.home.path,
        documents=[wire.home.name("c/a")],
        new_transaction={"read_only": {}},
    )
    await wire.put("c/a", value=2)
    await wire.put("c/b")
    assert await wire.value("c/a", transaction=first.transaction) == 1
    assert await wire.count(wire.everything("c"), transaction=first.transaction) == 1
    assert await listed(wire, "c", transaction=first.transaction) == [("c/a", True)]


async def test_a_refused_commit_ends_its_transaction(wire: Wire) -> None:
    begun = await wire.begin()
    with refused("NOT_FOUND"):
        await wire.commit(wire.update("c/none", {}, only=PRESENT), transaction=begun)
    with refused("INVALID_ARGUMENT"):
        await wire.commit(wire.update("c/a", {}), transaction=begun)
    assert await wire.get("c/a") is None


async def test_a_document_that_is_asked_for_twice_is_answered_once(wire: Wire) -> None:
    await wire.put("c/a")
    twice = [wire.home.name("c/a")] * 2
    assert len(await wire.stream("BatchGetDocuments", database=wire.home.path, documents=twice)) == 1
