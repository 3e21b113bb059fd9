"""References that follow their documents into another project or database."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.firestore_v1.types import document as types

from msr_async.firestore.names import Home
from msr_async.firestore.references import redirecting

SOURCE = Home(project="shop", database="(default)")
TARGET = Home(project="copy", database="eu")
Value: Any = types.Value


def content(**fields: Any) -> bytes:
    document = types.Document(name=TARGET.name("a/1"), fields=fields)
    return bytes(types.Document.serialize(document))


def redirected(given: bytes, target: Home = TARGET) -> Any:
    return types.Document.deserialize(redirecting(SOURCE, target)([given])[0])


def ref(path: str) -> Any:
    return Value(reference_value=path)


def test_references_are_found_in_fields_maps_and_arrays_at_any_depth() -> None:
    inside = Value(map_value={"fields": {"deep": Value(array_value={"values": [ref(SOURCE.name("u/2"))]})}})
    given = content(
        plain=ref(SOURCE.name("u/1")),
        nested=Value(array_value={"values": [Value(integer_value=1), inside, ref(SOURCE.name("u/3/o/4"))]}),
    )
    fields = redirected(given).fields
    assert fields["plain"].reference_value == "projects/copy/databases/eu/documents/u/1"
    values = fields["nested"].array_value.values
    assert values[1].map_value.fields["deep"].array_value.values[0].reference_value == TARGET.name("u/2")
    assert [values[0].integer_value, values[2].reference_value] == [1, TARGET.name("u/3/o/4")]


@pytest.mark.parametrize(
    "elsewhere",
    [
        "projects/other/databases/(default)/documents/u/1",
        "projects/shop/databases/second/documents/u/1",
        "projects/shop2/databases/(default)/documents/u/1",
        "projects/myshop/projects/shop/databases/(default)/documents/u/1",
    ],
)
def test_references_to_other_databases_stay(elsewhere: str) -> None:
    given = content(mine=ref(SOURCE.name("u/1")), theirs=ref(elsewhere))
    fields = redirected(given).fields
    assert (fields["mine"].reference_value, fields["theirs"].reference_value) == (TARGET.name("u/1"), elsewhere)


def test_a_text_that_looks_like_a_reference_stays_and_so_do_bytes_and_names_of_fields() -> None:
    path = SOURCE.name("u/1")
    given = content(
        text=Value(string_value=path), raw=Value(bytes_value=path.encode()), **{path: Value(integer_value=1)}
    )
    assert redirecting(SOURCE, TARGET)([given])[0] is given


def test_a_document_without_references_is_not_even_copied() -> None:
    given = content(number=Value(integer_value=7))
    assert redirecting(SOURCE, TARGET)([given])[0] is given


def test_of_many_documents_only_those_with_references_are_touched() -> None:
    plain, pointing = content(number=Value(integer_value=7)), content(to=ref(SOURCE.name("u/1")))
    first, second, third = redirecting(SOURCE, TARGET)([plain, pointing, plain])
    assert first is plain
    assert third is plain
    assert types.Document.deserialize(second).fields["to"].reference_value == TARGET.name("u/1")


def test_the_documents_own_name_is_no_reference() -> None:
    given = types.Document.serialize(types.Document(name=SOURCE.name("u/1"), fields={"n": Value(integer_value=1)}))
    assert redirecting(SOURCE, TARGET)([given])[0] is given


def test_what_is_beside_a_redirected_reference_stays_as_it_is() -> None:
    beside = {
        "nan": Value(double_value=float("nan")),
        "minus_zero": Value(double_value=-0.0),
        "big": Value(integer_value=2**63 - 1),
        "none": Value(null_value=0),
        "empty": Value(map_value={}),
        "geo": Value(geo_point_value={"latitude": 1.5, "longitude": -2.5}),
        "time": Value(timestamp_value={"seconds": -1, "nanos": 123456000}),
    }
    found = redirected(content(mine=ref(SOURCE.name("u/1")), **beside))
    expected = types.Document.deserialize(content(mine=ref(TARGET.name("u/1")), **beside))
    assert canonical(found) == canonical(expected)


def canonical(document: Any) -> bytes:
    return bytes(types.Document.pb(document).SerializeToString(deterministic=True))
