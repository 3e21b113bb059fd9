"""The documents, with all their versions, and what a write does to them. Blocks nobody and knows no network."""

from __future__ import annotations

import re
import time
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud.firestore_v1.types import common, document, write

from msr_async.firestore.names import OrderKey, order_key

Document: Any = document.Document.pb()
WriteResult: Any = write.WriteResult.pb()
Value: Any = document.Value.pb()
Precondition: Any = common.Precondition.pb()

HOUR = 3_600_000_000
MAX_DOCUMENT = 1_048_576
_RESERVED = re.compile(r"__.*__", re.DOTALL)
_NUMERIC = re.compile(r"__id-?\d+__", re.ASCII)
_PIECE = re.compile(r"`((?:[^`\\]|\\.)*)`|([A-Za-z_][A-Za-z_0-9]*)")


class Refused(Exception):
    """A status that the client is told."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(words)


def invalid(words: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, words)


@dataclass
class Transaction:
    read_only: bool
    read_time: int | None
    seen: dict[str, int] = field(default_factory=dict)
    """Which documents it has read, and when those were changed last (0: not there)."""


class Database:
    """One database: every version of every document, in the order of their names."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.root = f"{path}/documents"
        self.names: list[tuple[OrderKey, str]] = []
        self.versions: dict[str, list[tuple[int, Any]]] = {}
        self.transactions: dict[bytes, Transaction] = {}
        self.clock = 0

    def now(self) -> int:
        """Microseconds; every answer is later than the one before."""
        self.clock = max(self.clock + 1, time.time_ns() // 1000)
        return self.clock

    def at(self, path: str, moment: int | None = None) -> Any:
        """The document as it was, or None."""
        for changed, version in reversed(self.versions.get(path, ())):
            if moment is None or changed <= moment:
                return version
        return None

    def all(self, moment: int | None = None, *, after: OrderKey | None = None) -> Any:
        """Every document in order, from a key on."""
        start = 0 if after is None else bisect_left(self.names, (after, ""))
        for _, path in self.names[start:]:
            found = self.at(path, moment)
            if found is not None:
                yield path, found

    def path_of(self, name: str) -> str:
        if not name.startswith(f"{self.root}/"):
            raise invalid(f"the name {name[:100]!r} is not in {self.path}")
        path = name[len(self.root) + 1 :]
        segments = path.split("/")
        if len(segments) % 2:
            raise invalid(f"{name[:100]!r} is no name of a document")
        for place, segment in enumerate(segments):
            if segment in ("", ".", "..") or len(segment.encode()) > 1500:
                raise invalid(f"a segment of {name[:100]!r} is not valid")
            if _RESERVED.fullmatch(segment) and not (place % 2 and _NUMERIC.fullmatch(segment)):
                raise invalid(f"the id {segment[:100]!r} is reserved")
        return path

    # -- writes ------------------------------------------------------------------------------------

    def commit(self, writes: Any, transaction: bytes = b"") -> tuple[list[Any], int]:
        """All of the writes, or none of them."""
        begun = self._end(transaction)
        if begun is not None:
            if begun.read_only and writes:
                raise invalid("cannot write in a read-only transaction")
            for path, changed in begun.seen.items():
                if changed_at(self.at(path)) != changed:
                    raise Refused(grpc.StatusCode.ABORTED, "the transaction was aborted: a document has changed")
        moment = self.now()
        made: dict[str, Any] = {}
        results = []
        for item in writes:
            path, version = self._made(item, made, moment)
            made[path] = version
            result = WriteResult()
            if version is not None:
                result.update_time.CopyFrom(version.update_time)
            results.append(result)
        for path, version in made.items():
            if version is not self.at(path):
                self._put(path, version, moment)
        return results, moment

    def _end(self, transaction: bytes) -> Transaction | None:
        if not transaction:
            return None
        begun = self.transactions.pop(transaction, None)
        if begun is None:
            raise invalid("the transaction is not known, or has ended")
        return begun

    def _put(self, path: str, version: Any, moment: int) -> None:
        if path not in self.versions:
            insort(self.names, (order_key(path), path))
            self.versions[path] = []
        self.versions[path].append((moment, version))

    def _made(self, item: Any, made: dict[str, Any], moment: int) -> tuple[str, Any]:
        """The document after a write, None when it is gone; the same object when nothing has changed."""
        kind = item.WhichOneof("operation")
        if kind not in ("update", "delete"):
            raise invalid(f"the operation {kind} is not known here")
        path = self.path_of(item.delete if kind == "delete" else item.update.name)
        there = made[path] if path in made else self.at(path)
        _check(item.current_document, there, path)
        if kind == "delete":
            return path, None
        new = Document(name=item.update.name)
        if item.HasField("update_mask"):
            if there is not None:
                new.CopyFrom(there)
            for mask in item.update_mask.field_paths:
                _set(new.fields, split_path(mask), _get(item.update.fields, split_path(mask)))
        else:
            for key, value in item.update.fields.items():
                new.fields[key].CopyFrom(value)
        for transform in item.update_transforms:
            _transform(new.fields, transform, moment)
        new.ClearField("create_time")
        new.ClearField("update_time")
        if len(new.SerializeToString()) > MAX_DOCUMENT:
            raise invalid(f"the document {path[:100]!r} is larger than {MAX_DOCUMENT} bytes")
        for key, value in new.fields.items():
            if _RESERVED.fullmatch(key):
                raise invalid(f"the field name {key!r} is reserved")
            _check_value(value, 1)
        if there is not None and _same(there, new):
            return path, there
        new.update_time.FromMicroseconds(moment)
        if there is None:
            new.create_time.FromMicroseconds(moment)
        else:
            new.create_time.CopyFrom(there.create_time)
        return path, new


def changed_at(found: Any) -> int:
    return 0 if found is None else int(found.update_time.ToMicroseconds())


def _same(there: Any, new: Any) -> bool:
    old = Document()
    old.CopyFrom(there)
    old.ClearField("create_time")
    old.ClearField("update_time")
    return bool(old.SerializeToString(deterministic=True) == new.SerializeToString(deterministic=True))


def _check(wanted: Any, there: Any, path: str) -> None:
    match wanted.WhichOneof("condition_type"):
        case "exists" if wanted.exists and there is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no document to update: {path}")
        case "exists" if not wanted.exists and there is not None:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"the document is there already: {path}")
        case "update_time" if there is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no document to update: {path}")
        case "update_time" if wanted.update_time.ToMicroseconds() != changed_at(there):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the document was changed meanwhile: {path}")
        case _:
            pass


def _check_value(value: Any, depth: int) -> None:
    if depth > 20:
        raise invalid("the document is nested too deeply")
    match value.WhichOneof("value_type"):
        case None:
            raise invalid("a value is not set")
        case "array_value":
            for item in value.array_value.values:
                if item.WhichOneof("value_type") == "array_value":
                    raise invalid("an array holds an array")
                _check_value(item, depth + 1)
        case "map_value":
            for key, item in value.map_value.fields.items():
                if not key:
                    raise invalid("a map has an empty key")
                _check_value(item, depth + 1)
        case "timestamp_value":
            value.timestamp_value.nanos -= value.timestamp_value.nanos % 1000
        case _:
            pass


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


def _get(fields: Any, path: list[str]) -> Any:
    for place, key in enumerate(path):
        if key not in fields:
            return None
        value = fields[key]
        if place + 1 < len(path):
            if value.WhichOneof("value_type") != "map_value":
                return None
            fields = value.map_value.fields
    return value


def _set(fields: Any, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        if key not in fields or fields[key].WhichOneof("value_type") != "map_value":
            if value is None:
                return
            fields[key].CopyFrom(Value(map_value={}))
        fields = fields[key].map_value.fields
    if value is None:
        if path[-1] in fields:
            del fields[path[-1]]
    else:
        fields[path[-1]].CopyFrom(value)


def _transform(fields: Any, transform: Any, moment: int) -> None:
    path = split_path(transform.field_path)
    there = _get(fields, path)
    match transform.WhichOneof("transform_type"):
        case "set_to_server_value":
            new = Value()
            new.timestamp_value.FromMicroseconds(moment)
        case "increment":
            new = Value(integer_value=transform.increment.integer_value + (there.integer_value if there else 0))
        case "append_missing_elements":
            old = [] if there is None else list(there.array_value.values)
            new = Value()
            added = [item for item in transform.append_missing_elements.values if item not in old]
            new.array_value.values.extend([*old, *added])
        case other:
            raise invalid(f"the transform {other} is not known here")
    _set(fields, path, new)
