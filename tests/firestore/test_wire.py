"""Slices of messages against protobuf's own classes: nothing is lost, nothing else is taken."""

from __future__ import annotations

import itertools
import timeit
from typing import Any

import pytest
from google.cloud.firestore_v1.types import document as documents
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import write as writes
from hypothesis import given
from hypothesis import strategies as st

from msr_async.firestore import wire
from msr_async.framing import as_varint, framed

Document: Any = documents.Document.pb()
Value: Any = documents.Value.pb()
RunQueryResponse: Any = types.RunQueryResponse.pb()
ListDocumentsResponse: Any = types.ListDocumentsResponse.pb()
BatchWriteRequest: Any = types.BatchWriteRequest.pb()
CommitRequest: Any = types.CommitRequest.pb()
Write: Any = writes.Write.pb()

LOOKS_LIKE_TIMES = b"\x1a\x06\x08\x80\x80\x80\x80\x08\x22\x06\x08\x80\x80\x80\x80\x08"
AS_TEXT = "\x1a\x02\x08\x01\x22\x02\x08\x01"
"""Ends as a document does that was created and changed in the first second of 1970."""
SECONDS = [0, 1, 127, 128, 1_795_432_100, 253_402_300_799, -1, -62_135_596_800]
NANOS = [0, 1, 127, 128, 1000, 999_999_000, 999_999_999]
TIMES = st.none() | st.tuples(st.sampled_from(SECONDS), st.sampled_from(NANOS))

NAMES = st.sampled_from(["a/b", "é/\U0001f600", "c/" + "x" * 200, f"c/{AS_TEXT}"]).map(
    lambda path: f"projects/p/databases/(default)/documents/{path}"
)
VALUES = st.one_of(
    st.sampled_from([LOOKS_LIKE_TIMES, b"", b"\x22\x00", b"\x1a\x00\x22\x00"]).map(
        lambda value: Value(bytes_value=value)
    ),
    st.sampled_from(["", AS_TEXT, "text"]).map(lambda value: Value(string_value=value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: Value(integer_value=value)),
    st.floats().map(lambda value: Value(double_value=value)),
    st.just(Value(null_value=0)),
)
FIELDS = st.dictionaries(st.sampled_from(["a", "b", AS_TEXT, "x" * 130, ""]), VALUES, max_size=4)


def made(name: str, fields: Any, created: Any = None, changed: Any = None) -> Any:
    document = Document(name=name, fields=fields)
    for time, message in ((created, document.create_time), (changed, document.update_time)):
        if time is not None:
            message.SetInParent()
            message.seconds, message.nanos = time
    return document


@given(name=NAMES, fields=FIELDS, created=TIMES, changed=TIMES)
def test_the_content_is_all_but_the_times(name: str, fields: Any, created: Any, changed: Any) -> None:
    document = made(name, fields, created, changed)
    data = document.SerializeToString()
    content = wire.content_of(data)
    assert data.startswith(content)
    assert Document.FromString(content) == made(name, fields)
    assert wire.content_of(content) == content


@given(name=NAMES, fields=FIELDS, created=TIMES, changed=TIMES)
def test_the_time_of_the_last_change_is_taken_as_it_stands(name: str, fields: Any, created: Any, changed: Any) -> None:
    document = made(name, fields, created, changed)
    assert wire.update_time_of(document.SerializeToString()) == document.update_time.SerializeToString()


@pytest.mark.parametrize("created", list(itertools.product(SECONDS, NANOS)))
def test_every_length_of_a_time(created: Any) -> None:
    for changed in itertools.product(SECONDS, NANOS):
        data = made("a/b", {"f": Value(bytes_value=LOOKS_LIKE_TIMES)}, created, changed).SerializeToString()
        assert wire.content_of(data) == made("a/b", {"f": Value(bytes_value=LOOKS_LIKE_TIMES)}).SerializeToString()


@pytest.mark.parametrize("path", ["c/plain", f"c/{AS_TEXT}"])
def test_a_name_alone_is_a_document(path: str) -> None:
    data = made(path, {}).SerializeToString()
    assert wire.content_of(data) == data
    assert wire.update_time_of(data) == b""


@pytest.mark.parametrize("size", [0, 100, 127, 128, 16_000, 16_383, 16_384, 70_000, 1_000_000])
def test_a_field_of_any_size(size: int) -> None:
    content = made("a/b", {"f": Value(bytes_value=b"\x1a" * size), "g": Value(null_value=0)}).SerializeToString()
    times = made("", {}, (1, 1), (2, 2)).SerializeToString()
    assert wire.content_of(content + times) == content


@given(name=NAMES, fields=FIELDS, unknown=st.integers(5, 3000))
def test_fields_that_nobody_knows_yet_are_kept(name: str, fields: Any, unknown: int) -> None:
    document = made(name, fields, (1, 1), (2, 2))
    for strange in (
        as_varint(unknown << 3 | 2) + b"\x03abc",
        as_varint(unknown << 3) + b"\xff\x01",
        as_varint(unknown << 3 | 1) + b"12345678",
        as_varint(unknown << 3 | 5) + b"1234",
    ):
        expected = Document.FromString(made(name, fields).SerializeToString() + strange)
        for data in (document.SerializeToString() + strange, strange + document.SerializeToString()):
            assert Document.FromString(wire.content_of(data)) == expected


def test_times_that_stand_before_the_fields_are_left_out_too() -> None:
    document = made("a/b", {"f": Value(string_value="x")}, (1, 1), (2, 2))
    times, rest = made("", {}, (1, 1), (2, 2)), made("a/b", {"f": Value(string_value="x")})
    data = times.SerializeToString() + rest.SerializeToString()
    assert Document.FromString(data) == document
    assert Document.FromString(wire.content_of(data)) == rest


def test_a_document_that_is_cut_is_told() -> None:
    data = made("a/b", {"f": Value(string_value="x" * 300)}, (1, 1), (2, 2)).SerializeToString()
    whole = wire.content_of(data)
    times_begin = {len(whole), len(whole) + 6, len(data)}
    ends_at_a_field = {0, len(framed(b"a/b"))}
    for end in set(range(len(data))) - times_begin - ends_at_a_field:
        with pytest.raises(ValueError, match="no end"):
            wire.content_of(data[:end])


@given(name=NAMES, fields=FIELDS, created=TIMES)
def test_a_name_is_found(name: str, fields: Any, created: Any) -> None:
    assert wire.name_of(made(name, fields, created).SerializeToString()) == name


def test_a_name_is_found_wherever_it_stands() -> None:
    fields = made("", {"f": Value(string_value="x")}).SerializeToString()
    assert wire.name_of(fields + made("a/b", {}).SerializeToString()) == "a/b"
    assert wire.name_of(fields) == ""


@given(name=NAMES, cut=st.integers(1, 40), into=NAMES, fields=FIELDS, created=TIMES)
def test_a_document_gets_another_beginning_of_its_name(
    name: str, cut: int, into: str, fields: Any, created: Any
) -> None:
    content = wire.content_of(made(name, fields, created).SerializeToString(), cut, into.encode())
    assert Document.FromString(content) == made(into + name[cut:], fields)


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_that_is_too_short_is_not_changed(name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        wire.content_of(made(name, {"f": Value(null_value=0)}).SerializeToString(), 4, b"x")


@given(rows=st.lists(st.tuples(NAMES, FIELDS), max_size=5))
def test_a_chunk_is_a_list_of_documents_on_the_wire(rows: Any) -> None:
    made_rows = [made(name, fields, (1, 1), (2, 2)).SerializeToString() for name, fields in rows]
    chunk = b"".join(map(framed, made_rows))
    assert list(wire.documents(chunk)) == made_rows
    assert [
        item.SerializeToString(deterministic=True) for item in ListDocumentsResponse.FromString(chunk).documents
    ] == [Document.FromString(row).SerializeToString(deterministic=True) for row in made_rows]


@given(name=NAMES, fields=FIELDS, others=st.booleans())
def test_a_document_is_found_in_a_response(name: str, fields: Any, others: bool) -> None:
    response = RunQueryResponse(document=made(name, fields, (1, 1), (2, 2)))
    if others:
        response.transaction = b"\x0a\x01x"
        response.read_time.seconds = 7
        response.skipped_results = 3
    expected = response.document.SerializeToString(deterministic=True)
    found = wire.document_in(response.SerializeToString(deterministic=True))
    assert found == expected
    rest = RunQueryResponse(skipped_results=3, done=True).SerializeToString()
    assert wire.document_in(rest + response.SerializeToString(deterministic=True)) == expected


@pytest.mark.parametrize("response", [RunQueryResponse(), RunQueryResponse(skipped_results=3, done=True)])
def test_a_response_without_a_document_has_none(response: Any) -> None:
    response.read_time.seconds = 1
    assert wire.document_in(response.SerializeToString()) is None


def test_a_field_of_an_unknown_kind_is_told() -> None:
    with pytest.raises(ValueError, match="unknown kind 3"):
        wire.field(b"\x2b\x01", 1)


@given(name=NAMES, fields=FIELDS)
def test_writes_are_what_protobuf_takes_them_for(name: str, fields: Any) -> None:
    content = made(name, fields).SerializeToString()
    sent = [wire.update(content), wire.update(content) + wire.must_not_exist(), wire.delete(name)]
    update = Write(update=made(name, fields))
    create = Write(update=made(name, fields))
    create.current_document.exists = False
    expected = [update, create, Write(delete=name)]
    assert [Write.FromString(write) for write in sent] == expected
    request = wire.batch("projects/p/databases/d", sent)
    assert BatchWriteRequest.FromString(request) == BatchWriteRequest(
        database="projects/p/databases/d", writes=expected
    )
    assert CommitRequest.FromString(request) == CommitRequest(database="projects/p/databases/d", writes=expected)
    empty = len(wire.batch("projects/p/databases/d", []))
    assert len(request) <= empty + sum(len(write) + wire.ENCLOSING for write in sent)
    assert [wire.written_name(write) for write in sent] == [name] * 3


def test_the_times_are_left_out_fast() -> None:
    """Some 2 us where nothing else runs; a walk through unpacked objects takes more than 100."""
    fields = {f"field{number}": Value(string_value="x" * 20) for number in range(9)}
    data = made(
        "projects/p/databases/(default)/documents/users/u1", fields, (1_795_432_100, 1000), (1_795_432_100, 1000)
    )
    document = data.SerializeToString()
    assert min(timeit.repeat(lambda: wire.content_of(document), number=1000, repeat=5)) < 1000 * 20e-6
