"""The server of the tests, full of documents, with streams that are slow: `python -m benchmarks.firestore.serving ...`

`PROJECT COUNT RATE`: the documents in it, and how many of them a second one stream gives. It prints its address when it
is ready, and ends with its input. Its answers are made beforehand, so that it can keep many streams busy.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from google.cloud.firestore_v1.types import firestore as types
from msgspec import Struct

from msr_async.firestore.names import OrderKey, order_key
from tests.support.firestore_server import FirestoreServer

from . import database

_Answer: Any = types.RunQueryResponse.pb()


class _Ready(Struct, frozen=True):
    """An answer that is spelled already."""

    spelled: bytes

    def SerializeToString(self) -> bytes:
        return self.spelled


class SlowServer(FirestoreServer):
    """Gives the documents of one project to kindless queries; all else is answered by the tests' server."""

    def __init__(self, project: str, count: int, rate: float) -> None:
        super().__init__()
        self.faults.documents_a_second = rate
        self._keys: list[OrderKey] = []
        self._answers: list[_Ready] = []
        held = self.database(database.root_of(project).removesuffix("/documents"))
        moment = held.now()
        for document in sorted(database.messages(project, count), key=lambda item: order_key(held.path_of(item.name))):
            path = held.path_of(document.name)
            document.create_time.FromMicroseconds(moment)
            document.update_time.FromMicroseconds(moment)
            held.names.append((order_key(path), path))
            held.versions[path] = [(moment, document)]
            self._keys.append(order_key(path))
            self._answers.append(_Ready(_Answer(document=document).SerializeToString()))

    def _run_query(self, request: Any) -> Iterator[Any]:
        query = request.structured_query
        if query.from_[0].collection_id or query.select.fields or query.HasField("limit") or query.offset:
            return iter(super()._run_query(request))
        first = self._place(request.parent, query.start_at, past=not query.start_at.before)
        last = self._place(request.parent, query.end_at, past=not query.end_at.before)
        return iter(self._answers[first if first is not None else 0 : last])

    def _place(self, root: str, cursor: Any, *, past: bool) -> int | None:
        """Which answer is the first at a cursor, or past it; None without one."""
        if not cursor.values:
            return None
        key = order_key(cursor.values[0].reference_value[len(root) + 1 :])
        place = bisect_left(self._keys, key)
        return place + (past and place < len(self._keys) and self._keys[place] == key)


def main(project: str, count: int, rate: float) -> None:
    server = SlowServer(project, count, rate)
    server.start()
    try:
        print(server.address, flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
