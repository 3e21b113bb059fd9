"""The documents, with all their versions, and what a write does to them. Blocks nobody and knows no network."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud.firestore_v1.types import document, write

from msr_async.firestore.names import OrderKey, order_key

from .fields import at, put, split_path, transform
from .refusing import Refused, invalid
from .values import check_fields, check_path, check_size

Document: Any = document.Document.pb()
WriteResult: Any = write.WriteResult.pb()

HOUR = 3_600_000_000


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

    def all(self, moment: int | None = None, *, after: OrderKey | None = None) -> Iterator[tuple[str, Any]]:
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
        check_path(path)
        return path

    def transaction(self, id: bytes) -> Transaction:
        begun = self.transactions.get(id)
        if begun is None:
            raise invalid("the transaction is not known, or has ended")
        return begun

    # -- writes ------------------------------------------------------------------------------------

    def check(self, item: Any) -> None:
        """Refuses a write that no document could make valid."""
        match item.WhichOneof("operation"):
            case "update":
                self.path_of(item.update.name)
                check_fields(item.update.fields)
                for path in item.update_mask.field_paths:
                    split_path(path)
            case "delete":
                self.path_of(item.delete)
            case "transform":
                self.path_of(item.transform.document)
            case other:
                raise invalid(f"the operation {other} is not known here")

    def commit(self, writes: Any, transaction: bytes = b"") -> tuple[list[Any], int]:
        """All of the writes, or none of them."""
        begun = self._ended(transaction)
        for item in writes:
            self.check(item)
        if begun is not None:
            if begun.read_only and writes:
                raise invalid("cannot write in a read-only transaction")
            for path, changed in begun.seen.items():
                if changed_at(self.at(path)) != changed:
                    raise Refused(grpc.StatusCode.ABORTED, "the transaction was aborted: a document has changed")
        moment = self.now()
        made: dict[str, Any] = {}
        results = [self._make(item, made, moment) for item in writes]
        for path, version in made.items():
            if version is not self.at(path):
                self._put(path, version, moment)
        return results, moment

    def _ended(self, transaction: bytes) -> Transaction | None:
        """A commit ends its transaction, in whatever way it goes out."""
        if not transaction:
            return None
        begun = self.transaction(transaction)
        del self.transactions[transaction]
        return begun

    def _put(self, path: str, version: Any, moment: int) -> None:
        if path not in self.versions:
            insort(self.names, (order_key(path), path))
            self.versions[path] = []
        self.versions[path].append((moment, version))

    def _make(self, item: Any, made: dict[str, Any], moment: int) -> Any:
        """Note in `made` the document after a write: None when it is gone, the same object when nothing has changed."""
        kind = item.WhichOneof("operation")
        name = {"update": item.update.name, "delete": item.delete, "transform": item.transform.document}[kind]
        path = self.path_of(name)
        there = made[path] if path in made else self.at(path)
        _check(item.current_document, there, path)
        result = WriteResult()
        if kind == "delete":
            made[path] = None
            return result
        new = Document(name=name)
        if kind == "transform" or item.HasField("update_mask"):
            if there is not None:
                new.fields.MergeFrom(there.fields)
            for mask in item.update_mask.field_paths:
                put(new.fields, split_path(mask), at(item.update.fields, split_path(mask)))
        else:
            new.fields.MergeFrom(item.update.fields)
        wanted = item.transform.field_transforms if kind == "transform" else item.update_transforms
        result.transform_results.extend(transform(new.fields, each, moment) for each in wanted)
        check_size(path, new)
        made[path] = _dated(new, there, moment)
        result.update_time.CopyFrom(made[path].update_time)
        return result


def changed_at(found: Any) -> int:
    return 0 if found is None else int(found.update_time.ToMicroseconds())


def _dated(new: Any, there: Any, moment: int) -> Any:
    """The document with its times; the one that is there when it has the same fields."""
    if there is None:
        new.create_time.FromMicroseconds(moment)
    else:
        new.create_time.CopyFrom(there.create_time)
        new.update_time.CopyFrom(there.update_time)
        if new.SerializeToString(deterministic=True) == there.SerializeToString(deterministic=True):
            return there
    new.update_time.FromMicroseconds(moment)
    return new


def _check(wanted: Any, there: Any, path: str) -> None:
    match wanted.WhichOneof("condition_type"):
        case "exists" if wanted.exists and there is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"no document to update: {path}")
        case "exists" if not wanted.exists and there is not None:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"the document is there already: {path}")
        case "update_time" if wanted.update_time.ToMicroseconds() != changed_at(there):
            raise Refused(grpc.StatusCode.FAILED_PRECONDITION, f"the document was changed meanwhile: {path}")
        case _:
            pass
