"""Fields by their paths: reading and setting one, and the transforms of a write."""

from __future__ import annotations

import re
from typing import Any

from google.cloud.firestore_v1.types import document

from .refusing import invalid

Value: Any = document.Value.pb()

_PIECE = re.compile(r"`((?:[^`\\]|\\.)*)`|([A-Za-z_][A-Za-z_0-9]*)", re.DOTALL)


def split_path(text: str) -> list[str]:
    """A field path with its quotes: `a.b`, `` `x.y`.z ``."""
    pieces, position = [], 0
    while True:
        found = _PIECE.match(text, position)
        if not found:
            raise invalid(f"{text!r} is no path of a field")
        quoted, plain = found.groups()
        pieces.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        position = found.end()
        if position == len(text):
            return pieces
        if text[position] != ".":
            raise invalid(f"{text!r} is no path of a field")
        position += 1


def at(fields: Any, path: list[str]) -> Any:
    """The value there, or None."""
    value = None
    for key in path:
        if fields is None or key not in fields:
            return None
        value = fields[key]
        fields = value.map_value.fields if value.WhichOneof("value_type") == "map_value" else None
    return value


def put(fields: Any, path: list[str], value: Any) -> None:
    """Set it, with the maps above it; None takes it away."""
    for key in path[:-1]:
        if key not in fields or fields[key].WhichOneof("value_type") != "map_value":
            if value is None:
                return
            fields[key].CopyFrom(Value(map_value={}))
        fields = fields[key].map_value.fields
    if value is not None:
        fields[path[-1]].CopyFrom(value)
    elif path[-1] in fields:
        del fields[path[-1]]


def transform(fields: Any, wanted: Any, moment: int) -> Any:
    """Do one transform; what its result is, as the client is told."""
    path = split_path(wanted.field_path)
    there = at(fields, path)
    told = new = Value()
    match wanted.WhichOneof("transform_type"):
        case "set_to_server_value":
            new.timestamp_value.FromMicroseconds(moment - moment % 1000)
        case "increment":
            new.CopyFrom(_sum(there, wanted.increment))
        case "append_missing_elements":
            held = [] if there is None else list(there.array_value.values)
            for item in wanted.append_missing_elements.values:
                if item not in held:
                    held.append(item)
            new.array_value.values.extend(held)
            told = Value(null_value=0)
        case "remove_all_from_array":
            held = [] if there is None else list(there.array_value.values)
            gone = list(wanted.remove_all_from_array.values)
            new.array_value.values.extend(item for item in held if item not in gone)
            new.array_value.SetInParent()
            told = Value(null_value=0)
        case other:
            raise invalid(f"the transform {other} is not known here")
    put(fields, path, new)
    return told


def _sum(there: Any, more: Any) -> Any:
    kinds = {value.WhichOneof("value_type") for value in (there, more) if value is not None}
    if there is None or not kinds <= {"integer_value", "double_value"}:
        return more
    if "double_value" in kinds:
        return Value(double_value=there.integer_value + there.double_value + more.integer_value + more.double_value)
    return Value(integer_value=max(-(2**63), min(2**63 - 1, there.integer_value + more.integer_value)))
