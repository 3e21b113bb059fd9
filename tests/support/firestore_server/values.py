"""What a document may be: its name, its fields and its size."""

from __future__ import annotations

import re
from typing import Any

from .refusing import invalid

MAX_DOCUMENT = 1_048_576
MAX_VALUE = MAX_DOCUMENT - 89
MAX_NAME = 6 * 1024
"""Google's emulator takes longer ones."""
MAX_ID = 1500
MAX_LEVELS = 100
"""Of collections, one beneath the other."""
MAX_DEPTH = 20
"""Of maps and arrays, one inside the other."""

_RESERVED = re.compile(r"__.+__", re.DOTALL)
_NUMERIC = re.compile(r"__id(-?[1-9][0-9]*)__")
_REFERENCE = re.compile(r"projects/[^/]+/databases/[^/]+/documents(/[^/]+/[^/]+)+", re.DOTALL)
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799


def check_path(path: str) -> None:
    """Of a document, relative to the database's root."""
    segments = path.split("/")
    if len(segments) % 2:
        raise invalid(f"{path[:100]!r} is no path of a document")
    if len(segments) > 2 * MAX_LEVELS:
        raise invalid(f"{path[:100]!r} has more than {MAX_LEVELS} levels")
    if len(path.encode()) > MAX_NAME:
        raise invalid(f"the name {path[:100]!r} is longer than {MAX_NAME} bytes")
    for place, segment in enumerate(segments):
        if segment in ("", ".", "..") or len(segment.encode()) > MAX_ID:
            raise invalid(f"a segment of {path[:100]!r} is not valid")
        if _RESERVED.fullmatch(segment) and not (place % 2 and _is_number(segment)):
            raise invalid(f"the id {segment[:100]!r} is reserved")


def _is_number(id: str) -> bool:
    numeric = _NUMERIC.fullmatch(id)
    return numeric is not None and -(2**63) <= int(numeric[1]) < 2**63


def check_fields(fields: Any) -> None:
    """Refuses what Firestore refuses, and cuts timestamps to microseconds as it does."""
    for key, value in fields.items():
        _check_key(key)
        _check_value(value, 0)


def _check_key(key: str) -> None:
    if not key or len(key.encode()) > MAX_ID:
        raise invalid(f"the field name {key[:100]!r} is empty or longer than {MAX_ID} bytes")
    if _RESERVED.fullmatch(key):
        raise invalid(f"the field name {key!r} is reserved")


def _check_value(value: Any, depth: int) -> None:
    kind = value.WhichOneof("value_type")
    if kind in ("array_value", "map_value") and depth == MAX_DEPTH:
        raise invalid("the document is nested too deeply")
    match kind:
        case None:
            raise invalid("a value is not set")
        case "array_value":
            for item in value.array_value.values:
                if item.WhichOneof("value_type") == "array_value":
                    raise invalid("an array holds an array")
                _check_value(item, depth + 1)
        case "map_value" if "__type__" in value.map_value.fields:
            _check_vector(value.map_value.fields)
        case "map_value":
            for key, item in value.map_value.fields.items():
                _check_key(key)
                _check_value(item, depth + 1)
        case "string_value" | "bytes_value":
            if _length(getattr(value, kind)) > MAX_VALUE:
                raise invalid(f"a value is longer than {MAX_VALUE} bytes")
        case "timestamp_value":
            if not _FIRST_SECOND <= value.timestamp_value.seconds <= _LAST_SECOND:
                raise invalid("a timestamp is not between the years 1 and 9999")
            value.timestamp_value.nanos -= value.timestamp_value.nanos % 1000
        case "geo_point_value":
            if not (abs(value.geo_point_value.latitude) <= 90 and abs(value.geo_point_value.longitude) <= 180):
                raise invalid("a point is not on the earth")
        case "reference_value":
            if not _REFERENCE.fullmatch(value.reference_value):
                raise invalid(f"{value.reference_value[:100]!r} is no name of a document")
        case _:
            pass


def _check_vector(fields: Any) -> None:
    """The one map that may have a reserved key."""
    numbers = fields["value"].array_value.values if "value" in fields else ()
    is_vector = fields["__type__"].string_value == "__vector__" and len(fields) == 2
    if not is_vector or not numbers or any(item.WhichOneof("value_type") != "double_value" for item in numbers):
        raise invalid("a map with the key __type__ is no vector")


def check_size(path: str, document: Any) -> None:
    """By the sizes that Firestore's page on storage gives."""
    if _name_size(path) + _map_size(document.fields) + 32 > MAX_DOCUMENT:
        raise invalid(f"the document {path[:100]!r} is larger than {MAX_DOCUMENT} bytes")


def _name_size(path: str) -> int:
    return 16 + sum(len(segment.encode()) + 1 for segment in path.split("/"))


def _map_size(fields: Any) -> int:
    return sum(len(key.encode()) + 1 + _size(value) for key, value in fields.items())


def _size(value: Any) -> int:
    kind = value.WhichOneof("value_type")
    match kind:
        case "null_value" | "boolean_value":
            return 1
        case "integer_value" | "double_value" | "timestamp_value":
            return 8
        case "geo_point_value":
            return 16
        case "string_value":
            return _length(value.string_value) + 1
        case "reference_value":
            return _name_size(value.reference_value.split("/documents/", 1)[-1])
        case "array_value":
            return sum(_size(item) for item in value.array_value.values)
        case "map_value":
            return _map_size(value.map_value.fields)
        case _:
            return _length(value.bytes_value)


def _length(value: str | bytes) -> int:
    return len(value.encode()) if isinstance(value, str) else len(value)
