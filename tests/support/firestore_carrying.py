"""A backup of a Firestore database as values in memory, made with nothing but the native client's messages."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
from google.cloud.firestore_v1.types import document, query
from google.cloud.firestore_v1.types import firestore as types

from msr_async.firestore.clients import Clients
from msr_async.firestore.names import KeyRange, collection_id, scope_of
from msr_async.firestore.restoration import restoration
from msr_async.framing import framed
from msr_async.models import ChunkEntry, DatabaseInfo, Manifest, Part, PartEntry, RestoreMode, Selection, Totals
from msr_async.protocols import RestoreOptions

Document: Any = document.Document.pb()
SMALL_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Carried:
    manifest: Manifest
    documents: Mapping[str, bytes]
    chunks: Mapping[Part, Sequence[bytes]]


async def rows(clients: Clients) -> list[Any]:
    """Every document of the database outside of the library's own, in the database's order."""
    everything = query.StructuredQuery(
        from_=[query.StructuredQuery.CollectionSelector(all_descendants=True)],
        order_by=[query.StructuredQuery.Order(field={"field_path": "__name__"}, direction="ASCENDING")],
    )
    asked = types.RunQueryRequest(parent=clients.home.root, structured_query=everything)
    found: list[Any] = []
    call = clients.stream("RunQuery")(types.RunQueryRequest.serialize(asked), metadata=clients.metadata, timeout=30)
    async for answer in call:
        response = types.RunQueryResponse.pb().FromString(answer)
        if response.HasField("document") and not _path(response.document).startswith("schema_version_lock/"):
            found.append(response.document)
    return found


def _path(found: Any) -> str:
    return str(found.name).split("/documents/", 1)[1]


async def contents(clients: Clients) -> dict[str, bytes]:
    """By path, what each document holds: its fields with the keys of maps in order, and no times."""
    held: dict[str, bytes] = {}
    for found in await rows(clients):
        bare = Document(fields=found.fields)
        held[_path(found)] = bare.SerializeToString(deterministic=True)
    return held


async def describe(clients: Clients) -> DatabaseInfo:
    home = clients.home
    return DatabaseInfo(
        kind="firestore",
        name=f"{home.project}/{home.database}",
        host=clients.host,
        identity=f"firestore:{clients.host}:{home.path}",
        server_version="",
        environment=None,
        empty=False,
    )


async def carry(
    clients: Clients, *, cuts: Sequence[str] = (), selection: Selection | None = None, chunk: int = SMALL_CHUNK
) -> Carried:
    """A backup.

    Args:
        cuts: paths at which parts begin.
        chunk: documents in a chunk.
    """
    selection = selection or Selection()
    scope = scope_of(selection)
    holds = scope.holds() or (lambda path: True)
    documents = await rows(clients)
    ranges = [piece for item in scope.ranges for piece in item.cut(cuts)]
    counts: Counter[str] = Counter()
    chunks: dict[Part, list[bytes]] = {}
    entries: list[PartEntry] = []
    for piece in ranges:
        chosen = [found for found in documents if _path(found) in piece and holds(_path(found))]
        counts.update(collection_id(_path(found)) for found in chosen)
        framed_rows = [framed(found.SerializeToString(deterministic=True)) for found in chosen]
        data = [b"".join(framed_rows[start : start + chunk]) for start in range(0, len(framed_rows), chunk)]
        entry = _entry(piece, data, len(chosen))
        entries.append(entry)
        chunks[entry.part] = data
    home = clients.home
    about = {
        "project": home.project,
        "database": home.database,
        "read_time": "",
        "selection": {"include": selection.include, "exclude": selection.exclude},
        "collections": counts,
    }
    total = Totals(
        parts=len(entries),
        rows=sum(entry.rows for entry in entries),
        raw_bytes=sum(entry.raw_bytes for entry in entries),
        stored_bytes=0,
    )
    manifest = Manifest(
        id=hashlib.sha256(repr(sorted(counts.items())).encode()).hexdigest()[:12],
        created=datetime.now(UTC),
        tool="tests",
        source=await describe(clients),
        snapshot="",
        history=(),
        fingerprint="",
        complete=scope.whole,
        notes=(),
        documents=(),
        parts=tuple(entries),
        totals=total,
    )
    return Carried(manifest=manifest, documents={"collections.json": json.dumps(about).encode()}, chunks=chunks)


def _entry(piece: KeyRange, data: Sequence[bytes], count: int) -> PartEntry:
    return PartEntry(
        kind="documents",
        names=("documents",),
        columns=(),
        slice=json.dumps([piece.start, piece.end]),
        rows=count,
        raw_bytes=sum(map(len, data)),
        chunks=tuple(ChunkEntry(member="", size=0, sha256="", raw_size=len(item), rows=0) for item in data),
        framing="messages",
    )


async def put_back(
    clients: Clients, carried: Carried, mode: RestoreMode = "replace", *, at_once: int = 4, **settings: Any
) -> list[str]:
    """Restore; what was told on the way. Errors come out as the restore raises them."""
    told: list[str] = []

    async def described() -> DatabaseInfo:
        return await describe(clients)

    async with restoration(
        clients, described, carried.manifest, carried.documents, RestoreOptions(mode=mode), told.append, **settings
    ) as restoring:
        assert restoring.max_concurrency == 4
        limit = anyio.Semaphore(at_once)
        errors: list[Exception] = []

        async def load(part: Part) -> None:
            async with limit:
                try:
                    totals = await restoring.load(part, _each(carried.chunks[part]))
                except Exception as error:
                    errors.append(error)
                    group.cancel_scope.cancel()
                    return
            assert (totals.rows, totals.raw_bytes) == sizes[part]

        sizes = {entry.part: (entry.rows, entry.raw_bytes) for entry in carried.manifest.parts}
        async with anyio.create_task_group() as group:
            for part in carried.chunks:
                group.start_soon(load, part)
        if errors:
            raise errors[0]
        assert (await restoring.finish()).warnings == ()
    return told


async def _each(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
