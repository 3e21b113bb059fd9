"""The manifest agrees with itself, and its JSON is strict."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from msr_async.archive import (
    compress,
    decode_manifest,
    encode_manifest,
    pack_manifest,
    totals,
    unpack_manifest,
)
from msr_async.archive import manifest as manifest_module
from msr_async.errors import BackupDamaged, BackupFailed
from msr_async.models import Manifest, PartEntry
from tests.archive.samples import HISTORY, NOON, describe

MANIFEST, _ = describe()
PART = MANIFEST.parts[0]
CHUNK = PART.chunks[0]
DOCUMENT = MANIFEST.documents[0]
GIB = 1024 * 1024 * 1024


def with_part(part: PartEntry) -> Manifest:
    parts = (part, *MANIFEST.parts[1:])
    return replace(MANIFEST, parts=parts, totals=totals(parts))


def with_chunk(**changes: Any) -> Manifest:
    """One chunk changed, and every sum over it made right again."""
    chunks = (replace(CHUNK, **changes), *PART.chunks[1:])
    rows, raw_bytes = sum(chunk.rows for chunk in chunks), sum(chunk.raw_size for chunk in chunks)
    return with_part(replace(PART, chunks=chunks, rows=rows, raw_bytes=raw_bytes))


def with_document(**changes: Any) -> Manifest:
    return replace(MANIFEST, documents=(replace(DOCUMENT, **changes), *MANIFEST.documents[1:]))


CONTRADICTIONS = {
    "part rows": with_part(replace(PART, rows=PART.rows + 1)),
    "part bytes": with_part(replace(PART, raw_bytes=PART.raw_bytes - 1)),
    "part without name": with_part(replace(PART, names=())),
    "part with empty name": with_part(replace(PART, names=("public", ""))),
    "total rows": replace(MANIFEST, totals=replace(MANIFEST.totals, rows=1)),
    "total bytes": replace(MANIFEST, totals=replace(MANIFEST.totals, raw_bytes=1)),
    "total stored": replace(MANIFEST, totals=replace(MANIFEST.totals, stored_bytes=1)),
    "total parts": replace(MANIFEST, totals=replace(MANIFEST.totals, parts=9)),
    "chunk out of order": with_part(replace(PART, chunks=PART.chunks[::-1])),
    "chunk twice": with_part(replace(PART, chunks=(CHUNK, CHUNK), rows=4, raw_bytes=2 * CHUNK.raw_size)),
    "chunk of another part": with_chunk(member="data/000001/000000.zst"),
    "chunk elsewhere": with_chunk(member="../../etc/passwd"),
    "chunk without rows": with_chunk(rows=0),
    "chunk with fewer rows than none": with_chunk(rows=-1),
    "chunk without bytes": with_chunk(raw_size=0),
    "chunk of many rows above 8 MiB": with_chunk(rows=2, raw_size=8 * 1024 * 1024 + 1),
    "chunk of one row above 1 GiB": with_chunk(rows=1, raw_size=GIB + 1),
    "chunk of no size": with_chunk(size=0),
    "chunk with a short hash": with_chunk(sha256="ab"),
    "chunk with a shouted hash": with_chunk(sha256="AB" * 32),
    "chunk with a hash and more": with_chunk(sha256="ab" * 32 + "\n"),
    "document elsewhere": with_document(member="schema/other.zst"),
    "document with a path": with_document(name="../x", member="schema/../x.zst"),
    "document twice": replace(MANIFEST, documents=(DOCUMENT, DOCUMENT)),
    "document of negative size": with_document(raw_size=-1),
    "document above 1 GiB": with_document(raw_size=GIB + 1),
    "document with a wrong hash": with_document(sha256=""),
    "created without zone": replace(MANIFEST, created=datetime(2026, 1, 2)),
    "history without zone": replace(MANIFEST, history=(replace(HISTORY[0], applied_at=datetime(2026, 1, 2)),)),
}


def plain_json(manifest: Manifest) -> bytes:
    return msgspec.json.encode(manifest)


def test_a_manifest_comes_back_equal() -> None:
    again = decode_manifest(encode_manifest(MANIFEST))
    assert again == MANIFEST
    assert again.created == NOON
    assert unpack_manifest(pack_manifest(MANIFEST, 19)) == MANIFEST


def test_a_manifest_is_json_that_a_person_can_read() -> None:
    data = encode_manifest(MANIFEST)
    content = json.loads(data)
    assert content["parts"][0]["chunks"][0]["member"] == "data/000000/000000.zst"
    assert content["created"] == "2026-01-02T12:00:00.250000Z"
    assert data.count(b"\n") > 50


def test_a_single_row_may_be_larger_than_a_chunk() -> None:
    large = with_chunk(rows=1, raw_size=GIB)
    assert decode_manifest(encode_manifest(large)) == large


@pytest.mark.parametrize("manifest", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_contradiction_is_refused_by_reader_and_writer(manifest: Manifest) -> None:
    with pytest.raises(BackupDamaged) as read:
        decode_manifest(plain_json(manifest))
    assert read.value.member == "manifest.json.zst"
    with pytest.raises(BackupFailed, match="account of itself would be wrong"):
        encode_manifest(manifest)


@pytest.mark.parametrize(
    "manifest",
    [
        replace(MANIFEST, history=(replace(HISTORY[0], duration=float("inf")),)),
        replace(MANIFEST, notes=("lone \ud800",)),
        replace(MANIFEST, tags={"x": object()}),
    ],
    ids=["infinite duration", "lone surrogate", "no text"],
)
def test_what_json_cannot_say_is_refused_by_the_writer(manifest: Manifest) -> None:
    with pytest.raises(BackupFailed):
        encode_manifest(manifest)


def test_unknown_keys_are_ignored_everywhere() -> None:
    def widen(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: widen(item) for key, item in value.items()} | {"later": {"than": [1, None]}}
        return [widen(item) for item in value] if isinstance(value, list) else value

    content = widen(json.loads(encode_manifest(MANIFEST)))
    content["tags"] = dict(MANIFEST.tags)
    assert decode_manifest(json.dumps(content).encode()) == MANIFEST


def edit(change: Callable[[dict[str, Any]], object]) -> bytes:
    content = json.loads(encode_manifest(MANIFEST))
    change(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"{" * 200_000,
        b'{"later":' * 200_000,
        encode_manifest(MANIFEST)[:-3],
        encode_manifest(MANIFEST) + b"{}",
        edit(lambda content: content.pop("id")),
        edit(lambda content: content.update(complete=1)),
        edit(lambda content: content.update(created="yesterday")),
        edit(lambda content: content["totals"].update(rows="4")),
        edit(lambda content: content["totals"].update(rows=4.5)),
        edit(lambda content: content["parts"][0].update(names="public")),
        edit(lambda content: content.update(parts=None)),
    ],
    ids=lambda data: data[:12].decode("latin-1"),
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(BackupDamaged):
        decode_manifest(data)


def test_a_payload_that_is_not_compressed_is_refused() -> None:
    with pytest.raises(BackupDamaged, match=r"in manifest\.json\.zst"):
        unpack_manifest(encode_manifest(MANIFEST))


def test_a_manifest_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = pack_manifest(MANIFEST, 1)
    monkeypatch.setattr(manifest_module, "MAX_MANIFEST", 1000)
    with pytest.raises(BackupDamaged, match="larger than"):
        unpack_manifest(payload)
    with pytest.raises(BackupDamaged, match="larger than"):
        decode_manifest(plain_json(MANIFEST))
    with pytest.raises(BackupFailed, match="larger than"):
        encode_manifest(MANIFEST)


def test_a_bomb_in_the_place_of_a_manifest_is_refused_by_its_declared_size() -> None:
    bomb = bytearray(compress(bytes(70_000), 1))
    assert bomb[4] == 0xA4  # one segment, four bytes of size
    window = b"\x28\xb5\x2f\xfd\x84\x50" + (2**32 - 1).to_bytes(4, "little") + bytes(bomb[9:])
    with pytest.raises(BackupDamaged, match="larger than 512 MiB"):
        unpack_manifest(window)
