"""Documents as lines of JSON: every type of value comes back byte for byte, and what is wrong is said."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
from google.cloud.firestore_v1.types import document as types
from hypothesis import given, settings
from hypothesis import strategies as st

from msr_async.firestore.lines import placing, split, to_line, to_row
from msr_async.framing import framed
from msr_async.models import Part

DOCUMENT: Any = types.Document.pb()
VALUE: Any = types.Value.pb()
ROOT = "projects/p/databases/(default)/documents/"


def row(path: str = "a/b", *, raw: bytes = b"", **values: Any) -> bytes:
    document = DOCUMENT(name=ROOT + path)
    for name, value in values.items():
        document.fields[name].CopyFrom(value)
    document.create_time.FromJsonString("2026-01-02T03:04:05.000006Z")
    document.update_time.FromJsonString("2026-01-02T03:04:05.123456Z")
    made: bytes = document.SerializeToString(deterministic=True) + raw
    return made


def mapped(**values: Any) -> Any:
    value = VALUE()
    value.map_value.SetInParent()
    for name, item in values.items():
        value.map_value.fields[name].CopyFrom(item)
    return value


def listed(*values: Any) -> Any:
    value = VALUE()
    value.array_value.SetInParent()
    value.array_value.values.extend(values)
    return value


def moment(seconds: int, nanos: int = 0) -> Any:
    value = VALUE()
    value.timestamp_value.SetInParent()
    value.timestamp_value.seconds, value.timestamp_value.nanos = seconds, nanos
    return value


def point(latitude: float, longitude: float) -> Any:
    value = VALUE()
    value.geo_point_value.SetInParent()
    value.geo_point_value.latitude, value.geo_point_value.longitude = latitude, longitude
    return value


def nested(depth: int) -> Any:
    value = VALUE(string_value="bottom")
    for _ in range(depth):
        value = mapped(down=value)
    return value


VALUES = {
    "null": VALUE(null_value=0),
    "nothing at all": VALUE(),
    "true": VALUE(boolean_value=True),
    "false": VALUE(boolean_value=False),
    "zero": VALUE(integer_value=0),
    "beyond doubles": VALUE(integer_value=2**53 + 1),
    "greatest integer": VALUE(integer_value=2**63 - 1),
    "least integer": VALUE(integer_value=-(2**63)),
    "a whole double": VALUE(double_value=1.0),
    "minus zero": VALUE(double_value=-0.0),
    "not a number": VALUE(double_value=math.nan),
    "infinity": VALUE(double_value=math.inf),
    "minus infinity": VALUE(double_value=-math.inf),
    "least double": VALUE(double_value=5e-324),
    "greatest double": VALUE(double_value=1.7976931348623157e308),
    "a double of 17 digits": VALUE(double_value=0.1 + 0.2),
    "no text": VALUE(string_value=""),
    "text": VALUE(string_value='\0\n\r\t\u2028\x85\ufeff\U0001f600 Ü "quoted" \\'),
    "no bytes": VALUE(bytes_value=b""),
    "bytes": VALUE(bytes_value=bytes(range(256))),
    "reference": VALUE(reference_value="projects/other/databases/d/documents/x/y"),
    "point": point(-89.999999999, 179.1),
    "point zero": point(0.0, 0.0),
    "point minus zero": point(-0.0, 0.0),
    "epoch": moment(0),
    "first moment": moment(-62135596800),
    "last moment": moment(253402300799, 999999999),
    "before the epoch": moment(-1, 1000),
    "no list": listed(),
    "list": listed(VALUE(integer_value=1), VALUE(string_value="1"), mapped(a=VALUE(null_value=0))),
    "no map": mapped(),
    "vector": mapped(__type__=VALUE(string_value="__vector__"), value=listed(VALUE(double_value=1.5))),
    "20 levels": nested(20),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_comes_back_byte_for_byte(value: Any) -> None:
    document = row(v=value)
    line = to_line(document)
    assert b"\n" not in line
    assert json.loads(line)["name"] == ROOT + "a/b"
    assert to_row(line, times=True) == document


def test_the_line_is_the_form_that_firestore_speaks_over_http() -> None:
    values = {name: VALUES[name] for name in ("least integer", "not a number", "minus zero", "bytes", "epoch")}
    said = json.loads(to_line(row(**values)))
    assert said["fields"]["least integer"] == {"integerValue": "-9223372036854775808"}
    assert said["fields"]["not a number"] == {"doubleValue": "NaN"}
    assert math.copysign(1, said["fields"]["minus zero"]["doubleValue"]) == -1
    assert said["fields"]["bytes"]["bytesValue"].startswith("AAECAwQF")
    assert said["fields"]["epoch"] == {"timestampValue": "1970-01-01T00:00:00Z"}
    assert said["updateTime"] == "2026-01-02T03:04:05.123456Z"


@pytest.mark.parametrize("name", ["a.b", "`quoted`", "back\\slash", "0", "ключ", "bytesValue", "fields", "name"])
def test_a_field_may_have_any_name(name: str) -> None:
    document = row(**{name: VALUE(string_value="x"), "z": mapped(**{name: VALUE(bytes_value=b"y")})})
    assert to_row(to_line(document), times=True) == document


def test_equal_documents_are_equal_lines() -> None:
    one, other = DOCUMENT(name=ROOT + "a/b"), DOCUMENT(name=ROOT + "a/b")
    for number in range(50):
        one.fields[f"f{number}"].integer_value = other.fields[f"f{49 - number}"].integer_value = 1
    lines = [to_line(item.SerializeToString()) for item in (one, other)]
    assert lines[0] == lines[1]
    assert lines[0].index(b'"f1"') < lines[0].index(b'"f2"')


def test_a_nan_stays_one_and_loses_only_its_payload() -> None:
    odd = b"\x19" + struct.pack("<Q", 0x7FF8000000000001)
    document = b"\x0a\x01x" + b"\x12\x0e\x0a\x01a\x12" + framed(odd)[1:]
    said = to_row(to_line(document), times=True)
    back = DOCUMENT.FromString(said)
    assert math.isnan(back.fields["a"].double_value)
    assert said != document


def test_without_times_the_rest_stays() -> None:
    document = DOCUMENT.FromString(to_row(to_line(row(v=VALUE(integer_value=1))), times=False))
    assert not document.HasField("create_time")
    assert not document.HasField("update_time")
    assert document.fields["v"].integer_value == 1


def test_a_value_of_a_future_kind_is_not_lost_in_silence() -> None:
    future = b"\xfa\x3e\x01a"  # a field of the number 1007
    document = row(raw=b"\x12" + framed(b"\x0a\x01f\x12" + framed(future)[1:])[1:])
    with pytest.raises(ValueError, match="a kind of value that this google-cloud-firestore does not know"):
        to_line(document)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ('{"a":{"integerValue":"9223372036854775808"}}', "out of range"),
        ('{"a":{"integerValue":"1","stringValue":"1"}}', "should not have multiple"),
        ('{"a":{"integerValue":"1"},"a":{"integerValue":"2"}}', "the key 'a' comes twice"),
        ('{"a":{"bytesValue":"*"}}', "a bytesValue is not base64"),
        ('{"a":{"bytesValue":"AAA"}}', "a bytesValue is not base64"),
        ('{"a":{"doubleValue":NaN}}', "NaN"),
        ('{"a":{"doubleValue":1e999}}', "too large"),
        ('{"a":{"stringValue":"\\ud800"}}', "surrogate"),
        ('{"a":{"timestampValue":"2026"}}', "timestamp"),
        ('{"a":{"nosuchValue":"2026"}}', "no field named"),
        ('{"a":1}', "Failed to parse"),
        ('{"a":' + "[" * 100_000, "nested too deeply"),
    ],
)
def test_a_wrong_value_is_refused(fields: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        to_row(b'{"name":"x","fields":%s}' % fields.encode(), times=True)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"[]", "it is not a JSON object"),
        (b"{}", "the document has no name"),
        (b'{"name":"\xff"}', "it is not UTF-8"),
        (b'{"name":"x","id":1}', 'no field named "id"'),
    ],
)
def test_a_wrong_line_is_refused(line: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        to_row(line, times=True)


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(ValueError, match="it is not a document"):
        to_line(b"\xff\xff")


def test_the_rows_of_a_chunk() -> None:
    rows = [row("a/b"), row("a/c", v=VALUES["bytes"])]
    assert list(split(b"".join(map(framed, rows)))) == rows


_plain = st.one_of(
    st.booleans().map(lambda x: VALUE(boolean_value=x)),
    st.integers(-(2**63), 2**63 - 1).map(lambda x: VALUE(integer_value=x)),
    st.floats(allow_nan=False).map(lambda x: VALUE(double_value=x)),
    st.text().map(lambda x: VALUE(string_value=x)),
    st.binary().map(lambda x: VALUE(bytes_value=x)),
    st.builds(moment, st.integers(-62135596800, 253402300799), st.integers(0, 999_999).map(lambda x: x * 1000)),
    st.builds(point, st.floats(-90, 90), st.floats(-180, 180)),
)
_values = st.recursive(
    _plain,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: listed(*items)),
        st.dictionaries(st.text(min_size=1), inner, max_size=4).map(lambda items: mapped(**items)),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(min_size=1), _values, max_size=4))
def test_any_document_comes_back_byte_for_byte(values: dict[str, Any]) -> None:
    document = DOCUMENT(name=ROOT + "a/b")
    for name, value in values.items():
        document.fields[name].CopyFrom(value)
    made = document.SerializeToString(deterministic=True)
    assert to_row(to_line(made), times=True) == made


# -- where they stand ------------------------------------------------------------------------------


def part(start: str, end: str) -> Part:
    return Part(kind="documents", names=("documents",), slice=json.dumps([start, end]), framing="messages")


def about(**selection: list[str]) -> dict[str, bytes]:
    chosen: dict[str, list[str]] = {"include": [], "exclude": []} | selection
    said = {"project": "p", "database": "(default)", "read_time": "then", "selection": chosen, "collections": {"x": 9}}
    return {"collections.json": json.dumps(said).encode()}


def test_documents_are_placed_in_the_ranges_and_counted() -> None:
    at = placing([part("", "m/a"), part("m/a", "m/c"), part("m/c", "")], about())
    paths = ["a/1", "a/1/b/2", "m/a", "m/b/a/x", "m/c", "z/z"]
    assert [at.part(row(path)) for path in paths] == [0, 0, 1, 1, 2, 2]
    said = json.loads(at.documents()["collections.json"])
    assert said["collections"] == {"a": 2, "b": 1, "m": 2, "z": 1}
    assert said["read_time"] == "then"


@pytest.mark.parametrize(
    ("paths", "fault"),
    [
        (["a/1", "a/1"], "'a/1' comes twice"),
        (["a/2", "a/1"], "'a/1' must come before 'a/2'"),
        (["a/1", "a/__id7__"], "'a/__id7__' must come before 'a/1'"),
        (["a/1", "m/a", "a/2"], "'a/2' must come before 'm/a'"),
        (["a"], "is not the name of a document"),
        (["a//b/c"], "is not the name of a document"),
        (["q/1"], "'q/1' is not among what the first line says was selected"),
    ],
)
def test_a_document_in_the_wrong_place_is_refused(paths: list[str], fault: str) -> None:
    at = placing([part("", "m/a"), part("m/a", "n/a")], about())
    with pytest.raises(ValueError, match=fault):
        for path in paths:
            at.part(row(path))


def test_a_document_of_another_database_is_refused() -> None:
    at = placing([part("", "")], about())
    other = DOCUMENT(name="projects/q/databases/(default)/documents/a/b").SerializeToString()
    with pytest.raises(ValueError, match=r"is not a document of projects/p/databases/\(default\)"):
        at.part(other)


@pytest.mark.parametrize("path", ["lock", "heartbeat", "restore", "lock/inner/x"])
@pytest.mark.parametrize("include", [[], ["schema_version_lock"]])
def test_the_librarys_own_documents_are_refused(path: str, include: list[str]) -> None:
    at = placing([part("", "")], about(include=include))
    with pytest.raises(
        ValueError, match=f"'schema_version_lock/{path}' is the migration lock's own; .* leave this line"
    ):
        at.part(row(f"schema_version_lock/{path}"))


def test_what_only_looks_like_the_librarys_own_is_taken() -> None:
    at = placing([part("", "")], about())
    assert [at.part(row(path)) for path in ("a/b/schema_version_lock/lock", "schema_version_locks/lock")] == [0, 0]


def test_a_document_that_the_patterns_do_not_mean_is_refused() -> None:
    at = placing([part("", "")], about(include=["shop_*"]))
    assert at.part(row("shop_a/1")) == 0
    at = placing([part("", "")], about(include=["shop_*"]))
    with pytest.raises(ValueError, match="is not among"):
        at.part(row("shop/1"))


@pytest.mark.parametrize(
    ("parts", "documents", "fault"),
    [
        ([part("", "")], {}, "collections.json is not what it should be"),
        ([Part(kind="table", names=("t",))], about(), "is not a range of documents"),
    ],
)
def test_what_is_not_firestores_is_refused(parts: list[Part], documents: dict[str, bytes], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        placing(parts, documents)
