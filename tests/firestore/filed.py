"""Backups of Firestore without a Firestore: documents that a test names, in a file that is as good as a real one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from google.cloud.firestore_v1.types import document as types

from msr_async._engine.dumping import dump
from msr_async._engine.emitting import Emitter
from msr_async.config import BackupConfig
from msr_async.firestore.names import KeyRange, collection_id, order_key
from msr_async.framing import framed
from msr_async.models import BackupInfo, DatabaseInfo, Manifest, Part, PartTotals, Selection, SnapshotDetails
from msr_async.protocols import Restoration, RestoreOptions, Send
from msr_async.storage.local import LocalStorage

ROOT = "projects/shop/databases/(default)/documents/"
SOURCE = DatabaseInfo(
    kind="firestore",
    name="shop/(default)",
    host="firestore.googleapis.com",
    identity="firestore:firestore.googleapis.com:projects/shop/databases/(default)",
    server_version="",
    environment="production",
    empty=False,
)
READ_TIME = "2026-01-02T03:04:05.678901Z"
_Document: Any = types.Document.pb()


def document(path: str, **values: Any) -> bytes:
    """Its row, with its fields as text."""
    made = _Document(name=ROOT + path)
    for name, value in values.items():
        made.fields[name].string_value = value
    made.create_time.FromJsonString("2026-01-01T00:00:00Z")
    made.update_time.FromJsonString("2026-01-01T00:00:01.5Z")
    row: bytes = made.SerializeToString(deterministic=True)
    return row


class Filed:
    """A `Backup` of documents by path, cut at `cuts`; it can only be read."""

    def __init__(self, documents: Mapping[str, bytes], cuts: Sequence[str] = ()) -> None:
        self._documents = documents
        self._ranges = KeyRange().cut(cuts)
        self.token = READ_TIME
        self.parts = [
            Part(kind="documents", names=("documents",), slice=json.dumps([item.start, item.end]), framing="messages")
            for item in self._ranges
        ]

    @asynccontextmanager
    async def snapshot(self, _selection: Selection, /, *, complete: bool) -> AsyncIterator[Filed]:
        yield self

    def restoration(
        self, _m: Manifest, _d: Mapping[str, bytes], _o: RestoreOptions, _n: Callable[[str], None], /
    ) -> AbstractAsyncContextManager[Restoration]:
        raise NotImplementedError

    async def dump(self, part: Part, send: Send, /) -> PartTotals:
        within = self._ranges[self.parts.index(part)]
        paths = sorted((path for path in self._documents if path in within), key=order_key)
        rows = [framed(self._documents[path]) for path in paths]
        await send(b"".join(rows))
        return PartTotals(rows=len(rows), raw_bytes=sum(map(len, rows)))

    async def details(self) -> SnapshotDetails:
        about = {
            "project": "shop",
            "database": "(default)",
            "read_time": READ_TIME,
            "selection": {"include": [], "exclude": []},
            "collections": Counter(map(collection_id, self._documents)),
        }
        return SnapshotDetails(
            documents={"collections.json": json.dumps(about).encode()}, fingerprint="", complete=True, history=()
        )


async def filed(
    folder: Path, documents: Mapping[str, bytes], *, cuts: Sequence[str] = (), chunk_size: int = 4096
) -> BackupInfo:
    """A backup file of these documents in the folder."""
    return await dump(
        backup=Filed(documents, cuts),
        storage=LocalStorage(folder),
        name="shop.msrbak",
        config=BackupConfig(chunk_size=chunk_size, tags={"release": "42"}),
        source=SOURCE,
        complete=True,
        emit=Emitter(),
    )
