"""Documents as they travel: sliced out of one message and laid into another, never unpacked.

A `google.firestore.v1.Document` has its name in field 1, its fields in field 2, and in 3 and 4 the times at which it
was created and changed. A row of a backup is a document in a frame of `framing`, and so is a `Write.update`.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..framing import Buffer, as_varint, framed, varint

_LENGTH_DELIMITED = 2
_NAME = 0x0A
_CREATE_TIME = 0x1A
_UPDATE_TIME = 0x22


def documents(chunk: bytes) -> Iterator[bytes]:
    """The documents of a chunk, each with its times."""
    position, end = 0, len(chunk)
    while position < end:
        length, start = varint(chunk, position + 1)
        position = start + length
        yield chunk[start:position]


def document_in(response: bytes) -> bytes | None:
    """The document that a `RunQueryResponse` carries, or None."""
    if response[:1] == b"\x0a":  # servers write it first
        length, start = varint(response, 1)
        return response[start : start + length]
    return field(response, 1)


def field(message: Buffer, wanted: int) -> bytes | None:
    """The first field with that number that has a length: a text, bytes or a message; None when there is none."""
    position, end = 0, len(message)
    while position < end:
        tag, position = varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == _LENGTH_DELIMITED:
            length, position = varint(message, position)
            if number == wanted:
                return bytes(message[position : position + length])
            position += length
        elif kind == 0:
            _, position = varint(message, position)
        elif kind == 1:
            position += 8
        elif kind == 5:
            position += 4
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
    return None


def name_of(document: bytes) -> str:
    """The document's full name."""
    if document[:1] == b"\x0a":
        length, start = varint(document, 1)
        return document[start : start + length].decode()
    return (field(document, 1) or b"").decode()


def update_time_of(document: bytes) -> bytes:
    """The `Timestamp` message of its last change, to be compared only; empty when it carries none."""
    _, _, update_time = _split_times(document)
    return update_time


def content_of(document: bytes) -> bytes:
    """The document with its name and its fields, without the times, which nobody can write."""
    end, _, _ = _split_times(document)
    return document[:end]


def renamed(content: bytes, name: str) -> bytes:
    """The same fields under another name."""
    if content[:1] != b"\x0a":
        raise ValueError("the document has no name")
    length, start = varint(content, 1)
    return framed(name.encode()) + content[start + length :]


def update(content: bytes) -> bytes:
    """A `Write` that makes the document what `content` says."""
    return framed(content)


def delete(name: str) -> bytes:
    """A `Write` that deletes a document."""
    encoded = name.encode()
    return b"\x12" + as_varint(len(encoded)) + encoded


def must_not_exist() -> bytes:
    """What follows in a `Write`: the document is not there yet (`current_document.exists` false)."""
    return b"\x22\x02\x08\x00"


def batch(database: str, writes: list[bytes]) -> bytes:
    """A `BatchWriteRequest`, which is a `CommitRequest` too."""
    pieces = [framed(database.encode())]
    for write in writes:
        pieces += (b"\x12", as_varint(len(write)), write)
    return b"".join(pieces)


def batched_size(write: bytes) -> int:
    """How many bytes a write takes in a batch."""
    return len(write) + 1 + len(as_varint(len(write)))


def _split_times(document: bytes) -> tuple[int, bytes, bytes]:
    """Where the times begin, and both of them.

    Servers write fields in the order of their numbers, so the times stand at the end; found from there, a document's
    size does not matter. What is not as expected is walked through from its beginning.
    """
    end = len(document)
    update_start = _time_before(document, end, _UPDATE_TIME)
    if update_start is not None:
        create_start = _time_before(document, update_start, _CREATE_TIME)
        if create_start is not None:
            return create_start, document[create_start + 2 : update_start], document[update_start + 2 : end]
    return _walked(document)


def _time_before(document: bytes, end: int, tag: int) -> int | None:
    """Where a `Timestamp` field begins that ends at `end`.

    Only one length can fit: a timestamp is the seconds (0x08, a varint) and maybe the nanoseconds (0x10, a varint), and
    within these no byte can be taken for another timestamp's beginning that ends at the same place.
    """
    for length in range(12, -1, -1):
        start = end - length - 2
        fits = start >= 0 and document[start] == tag and document[start + 1] == length
        if fits and _is_timestamp(document, start + 2, end):
            return start
    return None


def _is_timestamp(document: bytes, start: int, end: int) -> bool:
    position = start
    for expected in (0x08, 0x10):
        if position < end and document[position] == expected:
            position += 1
            while position < end and document[position] >= 0x80:
                position += 1
            position += 1
    return position == end


def _walked(document: bytes) -> tuple[int, bytes, bytes]:
    position, end = 0, len(document)
    times: dict[int, bytes] = {}
    first = end
    while position < end:
        start = position
        tag, position = varint(document, position)
        length, position = varint(document, position)
        value = document[position : position + length]
        position += length
        if tag in (_CREATE_TIME, _UPDATE_TIME):
            first = min(first, start)
            times[tag] = value
        elif first < end:
            raise ValueError("the document's times stand before its fields")
    return first, times.get(_CREATE_TIME, b""), times.get(_UPDATE_TIME, b"")
