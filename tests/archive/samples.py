"""Backup files made in memory, and the whole way of reading one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from msr_async.archive import (
    FORMAT_MEMBER,
    MANIFEST_MEMBER,
    README_MEMBER,
    ArchiveIndex,
    ArchiveWriter,
    Member,
    check_against_manifest,
    check_member,
    chunk_member,
    compress,
    crc,
    decompress,
    digest,
    document_member,
    format_json,
    pack_manifest,
    read_index,
    totals,
    unpack_manifest,
)
from msr_async.archive.records import directory_bytes, end_bytes
from msr_async.models import (
    AppliedMigration,
    ChunkEntry,
    Column,
    DatabaseInfo,
    DocumentEntry,
    Manifest,
    PartEntry,
)

NOON = datetime(2026, 1, 2, 12, 0, 0, 250_000, tzinfo=UTC)
SOURCE = DatabaseInfo(
    kind="postgresql",
    name="shop",
    host="db.example",
    identity="7300000000000000001/16384",
    server_version="18.0",
    environment=None,
    empty=False,
)
HISTORY = (
    AppliedMigration(
        version=202601020001, name="orders", checksum="c" * 64, applied_at=NOON, duration=0.5, applied_by="ana"
    ),
)
DOCUMENTS = {"pre-data.sql": b"create table orders (id int, note text);\n", "catalog.json": b""}
PARTS: Sequence[Sequence[bytes]] = ([b"1\tone\n2\ttwo\n", b"3\t\\N\n"], [], [b"9\tslice\n"])

Members = list[tuple[str, bytes]]


def describe(
    parts: Sequence[Sequence[bytes]] = PARTS, documents: Mapping[str, bytes] = DOCUMENTS
) -> tuple[Manifest, Members]:
    """A manifest for parts of chunks, and the members that it lists."""
    members: Members = []
    entries = []
    for index, chunks in enumerate(parts):
        listed = []
        for number, raw in enumerate(chunks):
            member, payload = chunk_member(index, number), compress(raw, 1)
            members.append((member, payload))
            listed.append(
                ChunkEntry(
                    member=member, size=len(payload), sha256=digest(payload), raw_size=len(raw), rows=raw.count(b"\n")
                )
            )
        entries.append(
            PartEntry(
                kind="table",
                names=("public", f"orders {index}"),
                columns=(Column(name="id", type="integer"), Column(name="note", type="text")),
                slice="",
                rows=sum(chunk.rows for chunk in listed),
                raw_bytes=sum(chunk.raw_size for chunk in listed),
                chunks=tuple(listed),
            )
        )
    papers = []
    for name, raw in documents.items():
        member, payload = document_member(name), compress(raw, 1)
        members.append((member, payload))
        papers.append(
            DocumentEntry(name=name, member=member, size=len(payload), sha256=digest(payload), raw_size=len(raw))
        )
    manifest = Manifest(
        id="0f3a",
        created=NOON,
        tool="msr_async 0.1.0",
        source=SOURCE,
        snapshot="00000003-00000002-1",
        history=HISTORY,
        fingerprint="f" * 64,
        complete=True,
        notes=("Made by a test.",),
        documents=tuple(papers),
        parts=tuple(entries),
        totals=totals(entries),
        tags={"release": "1.2"},
    )
    return manifest, members


def framed(
    members: Members, manifest: Manifest, *, readme: bytes = b"A backup.\n", form: bytes | None = None
) -> Members:
    """All members of a backup in a right order."""
    first = [(README_MEMBER, readme), (FORMAT_MEMBER, format_json() if form is None else form)]
    return [*first, *members, (MANIFEST_MEMBER, pack_manifest(manifest, 1))]


def written(members: Members) -> bytes:
    """A file as the writer makes it."""
    writer = ArchiveWriter()
    data = bytearray()
    for name, payload in members:
        data += writer.member(name, len(payload), crc(payload)) + payload
        assert writer.offset == len(data)
    data += writer.finish()
    assert writer.offset == len(data)
    return bytes(data)


def small_backup() -> bytes:
    manifest, members = describe()
    return written(framed(members, manifest))


def laid_out(members: Members) -> tuple[list[Member], bytes]:
    """Where the members would lie, and the bytes up to the directory, without the writer's rules."""
    found, data = [], bytearray()
    for name, payload in members:
        member = Member(name=name, offset=len(data), size=len(payload), crc=crc(payload))
        found.append(member)
        data += member.header_bytes() + payload
    return found, bytes(data)


def closed(found: Sequence[Member], body: bytes) -> bytes:
    """A file of this body with a directory of these members, whether they fit it or not."""
    directory = directory_bytes(found)
    return body + directory + end_bytes(count=len(found), size=len(directory), offset=len(body))


def forged(members: Members) -> bytes:
    """A well-formed file of any members in any order."""
    return closed(*laid_out(members))


def index_of(data: bytes) -> ArchiveIndex:
    return read_with(len(data), lambda offset, length: data[offset : offset + length])


def read_with(size: int, read: Callable[[int, int], bytes]) -> ArchiveIndex:
    """Answers the reader's requests."""
    reading = read_index(size)
    request = next(reading)
    while True:
        try:
            request = reading.send(read(*request))
        except StopIteration as end:
            index: ArchiveIndex = end.value
            return index


def verify(data: bytes) -> tuple[Manifest, dict[str, bytes]]:
    """Read all of a file in the way that a full verification does: the manifest and every listed member's raw bytes."""
    index = index_of(data)
    payloads = {name: check_member(member, data[member.offset : member.end]) for name, member in index.members.items()}
    manifest = unpack_manifest(payloads[MANIFEST_MEMBER])
    check_against_manifest(index, manifest)
    raw = {}
    for entry in listed(manifest):
        payload = payloads[entry.member]
        assert digest(payload) == entry.sha256
        raw[entry.member] = decompress(payload, entry.raw_size, member=entry.member)
    return manifest, raw


def listed(manifest: Manifest) -> Iterable[ChunkEntry | DocumentEntry]:
    yield from manifest.documents
    for part in manifest.parts:
        yield from part.chunks
