"""How `format-1.0.msrbak` was made, once. The file is kept as it is for ever; this script is kept to explain it.

Run from the repository's root: `python tests/golden/make_format_1_0.py FILE`. Another release of zstd may compress to
other bytes, and a later README may be worded otherwise, so that a new run need not give the same file.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from msr_async.archive import (
    FORMAT_MEMBER,
    MANIFEST_MEMBER,
    README_MEMBER,
    ArchiveWriter,
    chunk_member,
    compress,
    crc,
    digest,
    document_member,
    format_json,
    pack_manifest,
    readme_text,
    totals,
)
from msr_async.models import AppliedMigration, ChunkEntry, Column, DatabaseInfo, DocumentEntry, Manifest, PartEntry

DOCUMENTS = {
    "pre-data.sql": 'CREATE TABLE public."Ördern" (id integer NOT NULL, note text);\nCREATE TABLE public.empty ();\n',
    "post-data.sql": 'ALTER TABLE ONLY public."Ördern" ADD PRIMARY KEY (id);\n',
}
CHUNKS = ("1\tplain\n2\t\\N\n", "3\ttab \\t, newline \\n, backslash \\\\, snow ☃\n")
COLUMNS = (Column(name="id", type="integer"), Column(name="note", type="text"))
SOURCE = DatabaseInfo(
    kind="postgresql",
    name="golden",
    host="localhost",
    identity="7300000000000000001/16384",
    server_version="18.0",
    environment="development",
    empty=False,
)
HISTORY = AppliedMigration(
    version=202601020001,
    name="create_orders",
    checksum="0123456789abcdef" * 4,
    applied_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    duration=0.25,
    applied_by="golden@localhost",
)


def make() -> bytes:
    writer = ArchiveWriter()
    data = bytearray()

    def put(name: str, payload: bytes) -> None:
        data.extend(writer.member(name, len(payload), crc(payload)) + payload)

    put(README_MEMBER, readme_text())
    put(FORMAT_MEMBER, format_json())
    documents, chunks = [], []
    for name, text in DOCUMENTS.items():
        raw, member = text.encode(), document_member(name)
        payload = compress(raw, 1)
        put(member, payload)
        documents.append(
            DocumentEntry(name=name, member=member, size=len(payload), sha256=digest(payload), raw_size=len(raw))
        )
    for number, text in enumerate(CHUNKS):
        raw, member = text.encode(), chunk_member(0, number)
        payload = compress(raw, 1)
        put(member, payload)
        chunks.append(
            ChunkEntry(
                member=member, size=len(payload), sha256=digest(payload), raw_size=len(raw), rows=raw.count(b"\n")
            )
        )
    parts = (
        PartEntry(
            kind="table",
            names=("public", "Ördern"),
            columns=COLUMNS,
            slice="",
            rows=sum(chunk.rows for chunk in chunks),
            raw_bytes=sum(chunk.raw_size for chunk in chunks),
            chunks=tuple(chunks),
        ),
        PartEntry(kind="table", names=("public", "empty"), columns=(), slice="", rows=0, raw_bytes=0, chunks=()),
    )
    manifest = Manifest(
        id="601de401",
        created=datetime(2026, 1, 2, 3, 4, 6, tzinfo=UTC),
        tool="msr_async 0.1.0",
        source=SOURCE,
        snapshot="00000003-0000001B-1",
        history=(HISTORY,),
        fingerprint="fedcba9876543210" * 4,
        complete=True,
        notes=("Made by hand, for the tests.",),
        documents=tuple(documents),
        parts=parts,
        totals=totals(parts),
        tags={"release": "golden"},
    )
    put(MANIFEST_MEMBER, pack_manifest(manifest, 1))
    return bytes(data) + writer.finish()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(make())
