"""Documents as they travel: sliced out of one message and laid into another, never unpacked.

A `google.firestore.v1.Document` has its name in field 1, its fields in field 2, and in 3 and 4 the times at which it
was created and changed. A row of a backup is a document in a frame of `framing`, and so is a `Write.update`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..framing import VARINTS, Buffer, framed, varint

_LENGTH_DELIMITED = 2
_NAME, _FIELD = 0x0A, 0x12
_CREATE_TIME = 0x1A
_UPDATE_TIME = 0x22
_TIMES = (_CREATE_TIME, _UPDATE_TIME)


def documents(chunk: bytes) -> Iterator[bytes]:
    """The documents of a chunk, each with its times."""
    position, end = 0, len(chunk)
    while position < end:
        low = chunk[position + 1]
        if low >= 0x80 and (high := chunk[position + 2]) < 0x80:  # the usual case by hand
            start = position + 3
            length = low & 0x7F | high << 7
        else:
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
        if tag >> 3 == wanted and tag & 7 == _LENGTH_DELIMITED:
            length, position = varint(message, position)
            return bytes(message[position : position + length])
        position = _behind(message, tag & 7, position)
    return None


def name_of(document: bytes) -> str:
    """The document's full name."""
    if document[:1] == b"\x0a":
        length = document[1]
        if length < 0x80:  # the usual case by hand
            return document[2 : length + 2].decode()
        length, start = varint(document, 1)
        return document[start : start + length].decode()
    return (field(document, 1) or b"").decode()


def update_time_of(document: bytes) -> bytes:
    """The `Timestamp` message of its last change, to be compared only; empty when it carries none."""
    return field(memoryview(document)[_content_end(document) :], _UPDATE_TIME >> 3) or b""


def content_of(document: bytes, skip: int = 0, into: bytes = b"") -> bytes:
    """The document with its name and its fields, without the times, which nobody can write.

    Args:
        skip: bytes of the name that are left out at its beginning.
        into: what stands there instead.

    Raises:
        ValueError: it is no document, or has no name that long.
    """
    try:
        end = _content_end(document)
        if not _only_times(document, end):
            document = _without_times(document)
            end = len(document)
        if not skip:
            return document[:end]
        length, start = varint(document, 1)
    except IndexError:
        raise ValueError("the document has no end") from None
    if document[0] != _NAME or length < skip:
        raise ValueError("the document has no name that can be changed")
    return b"\x0a" + VARINTS[length - skip + len(into)] + into + document[start + skip : end]


def update(content: bytes) -> bytes:
    """A `Write` that makes the document what `content` says."""
    return framed(content)


def delete(name: str) -> bytes:
    """A `Write` that deletes a document."""
    encoded = name.encode()
    return b"\x12" + VARINTS[len(encoded)] + encoded


def must_not_exist() -> bytes:
    """What follows in a `Write`: the document is not there yet (`current_document.exists` false)."""
    return b"\x22\x02\x08\x00"


ENCLOSING = 4
"""Bytes around a write in a batch, at most: a tag, and the length of less than 2 MiB."""


def batch(database: str, writes: Iterable[bytes]) -> bytes:
    """A `BatchWriteRequest`, which is a `CommitRequest` too."""
    pieces = [framed(database.encode())]
    for write in writes:
        pieces += (b"\x12", VARINTS[len(write)], write)
    return b"".join(pieces)


def written_name(write: bytes) -> str:
    """The full name of the document that a `Write` updates or deletes."""
    return name_of(field(write, 1) or b"") or (field(write, 2) or b"").decode()


def _content_end(document: bytes) -> int:
    """Where the name and the fields end: servers write them first, and the times behind them.

    Walked from the beginning, field by field (0.1 us each): a text may end in bytes that look like two times, so
    nothing can be told from the end.
    """
    position = 0
    try:
        # This runs for each document: the usual cases by hand.
        while (tag := document[position]) == _FIELD or tag == _NAME:
            low = document[position + 1]
            if low < 0x80:
                position += low + 2
                continue
            high = document[position + 2]
            if high < 0x80:
                position += (low & 0x7F | high << 7) + 3
            else:
                length, start = varint(document, position + 1)
                position = start + length
    except IndexError:
        pass
    return position


def _only_times(document: bytes, position: int) -> bool:
    """Whether nothing else stands there to the end: one, both or none of them."""
    size = len(document)
    for tag in _TIMES:
        if position < size and document[position] == tag:
            length = document[position + 1]
            position += length + 2 if length < 0x80 else size  # no time is so long
    return position == size


def _without_times(document: bytes) -> bytes:
    """For what is not as servers write it: the times stand anywhere, or there are fields that we do not know."""
    kept: list[bytes] = []
    position, end = 0, len(document)
    while position < end:
        start = position
        tag, position = varint(document, position)
        position = _behind(document, tag & 7, position)
        if tag not in _TIMES:
            kept.append(document[start:position])
    if position > end:
        raise ValueError("the document has no end")
    return b"".join(kept)


def _behind(message: Buffer, kind: int, position: int) -> int:
    """Where a field's value ends that begins here."""
    if kind == _LENGTH_DELIMITED:
        length, position = varint(message, position)
        return position + length
    if kind == 0:
        return varint(message, position)[1]
    if kind == 1:
        return position + 8
    if kind == 5:
        return position + 4
    raise ValueError(f"a field of the unknown kind {kind}")
