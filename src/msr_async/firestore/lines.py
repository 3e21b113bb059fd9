"""A document as a line of JSON and back: Firestore's own REST form, which other tools and people read.

Every type of value keeps its name in the text (`integerValue`, `timestampValue`, `bytesValue` in base64, ...), so that
nothing is guessed on the way back: the same bytes come out, with the keys of maps in order. One thing is not kept:
which of the many NaNs of IEEE 754 a NaN was.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from google.cloud.firestore_v1.types import document as types
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from ..models import Part, Selection
from . import wire
from .names import Home, KeyRange, OrderKey, collection_id, is_internal, order_key, scope_of

COLLECTIONS = "collections.json"
"""The document of a backup that says what was selected and how much of each collection there is."""

_DEPTH = 200
"""Levels of JSON; Firestore's 20 levels of maps take 60."""
_Document: Any = types.Document.pb()


def split(chunk: bytes) -> Iterator[bytes]:
    """The rows of a chunk."""
    return wire.documents(chunk)


def to_line(row: bytes) -> bytes:
    """The document as one line, without its end.

    Raises:
        ValueError: it holds something that has no JSON form yet.
    """
    message = _Document()
    try:
        message.ParseFromString(row)
    except DecodeError as error:
        raise ValueError(f"it is not a document: {error}") from None
    size = message.ByteSize()
    message.DiscardUnknownFields()
    if message.ByteSize() != size:
        raise ValueError(f"{message.name} holds a kind of value that this google-cloud-firestore does not know")
    said = json_format.MessageToDict(message)
    # The keys in an order of their own within a document, whose name stands first.
    return b"{%s}" % b",".join(b'"%s":%s' % (key.encode(), _dumped(value)) for key, value in said.items())


def to_row(line: bytes, *, times: bool) -> bytes:
    """The document that a line says.

    Args:
        times: keep when it was created and changed. Without them a restore takes no document for unchanged.

    Raises:
        ValueError: with what is wrong, in words that follow a colon.
    """
    message = _Document()
    try:
        said = json.loads(line, object_pairs_hook=_checked)
        if not isinstance(said, dict):
            raise ValueError("it is not a JSON object")
        json_format.ParseDict(said, message, max_recursion_depth=_DEPTH)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at character {error.pos + 1})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json_format.ParseError as error:
        raise ValueError(" ".join(str(error).split())[:300].rstrip(".")) from None
    if not message.name:
        raise ValueError("the document has no name")
    if not times:
        message.ClearField("create_time")
        message.ClearField("update_time")
    row: bytes = message.SerializeToString(deterministic=True)
    return row


def placing(parts: Sequence[Part], documents: Mapping[str, bytes]) -> Placing:
    """Begin to take in rows for these parts.

    Raises:
        ValueError: the parts or the documents are not those of a Firestore backup.
    """
    return Placing(parts, documents)


class Placing:
    """Which part each row of an import belongs to. Within a part, rows must come in the database's order."""

    def __init__(self, parts: Sequence[Part], documents: Mapping[str, bytes]) -> None:
        self._content = documents.get(COLLECTIONS, b"")
        about = _about(self._content)
        self._home = Home(project=about.project, database=about.database)
        self._ranges = [_range(part) for part in parts]
        self._meant = scope_of(Selection(include=about.selection.include, exclude=about.selection.exclude)).holds()
        self._counts: Counter[str] = Counter()
        self._part = -1
        self._done: set[int] = set()
        self._last: tuple[OrderKey, str] = ((), "")

    def part(self, row: bytes) -> int:
        """The number of the part; asked once for every row, in their order.

        Raises:
            ValueError: the row cannot stand here, in words that follow a colon.
        """
        name = wire.name_of(row)
        try:
            path = self._home.path_of(name)
        except ValueError:
            raise ValueError(f"{name!r} is not a document of {self._home.path}, as the first line says") from None
        if path.count("/") % 2 == 0 or not all(path.split("/")):
            raise ValueError(f"{name!r} is not the name of a document")
        if is_internal(path):
            raise ValueError(f"{path!r} is the migration lock's own; no backup holds it, so leave this line out")
        key = order_key(path)
        if self._part < 0 or path not in self._ranges[self._part]:
            self._part = self._found(path)
        elif key <= self._last[0]:
            fault = "comes twice" if key == self._last[0] else f"must come before {self._last[1]!r}"
            raise ValueError(f"{path!r} {fault}")
        self._last = (key, path)
        self._counts[collection_id(path)] += 1
        return self._part

    def _found(self, path: str) -> int:
        number = next((number for number, item in enumerate(self._ranges) if path in item), None)
        if number is None or (self._meant is not None and not self._meant(path)):
            raise ValueError(f"{path!r} is not among what the first line says was selected")
        if number in self._done:
            raise ValueError(f"{path!r} must come before {self._last[1]!r}")
        self._done.add(number)
        return number

    def documents(self) -> Mapping[str, bytes]:
        """What belongs beside the rows that came."""
        about = msgspec.json.decode(self._content) | {"collections": dict(sorted(self._counts.items()))}
        return {COLLECTIONS: msgspec.json.format(msgspec.json.encode(about), indent=1) + b"\n"}


class _Selection(msgspec.Struct):
    include: tuple[str, ...]
    exclude: tuple[str, ...]


class _About(msgspec.Struct):
    project: str
    database: str
    selection: _Selection


def _about(content: bytes) -> _About:
    try:
        return msgspec.json.decode(content, type=_About)
    except msgspec.DecodeError as error:
        raise ValueError(f"its {COLLECTIONS} is not what it should be ({error})") from None


def _range(part: Part) -> KeyRange:
    try:
        start, end = msgspec.json.decode(part.slice, type=tuple[str, str])
    except msgspec.DecodeError:
        raise ValueError(f"the slice {part.slice!r} of a part is not a range of documents") from None
    return KeyRange(start=start, end=end)


def _checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, with what protobuf's reader would pass over in silence."""
    said = dict(pairs)
    if len(said) != len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice!r} comes twice in one object")
    spelled = said.get("bytesValue")
    if isinstance(spelled, str):
        try:
            base64.b64decode(spelled, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("a bytesValue is not base64") from None
    return said


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
