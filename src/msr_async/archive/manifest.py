"""What a backup says of itself: the manifest as readable JSON, and whether it agrees with itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from ..errors import BackupDamaged, BackupFailed
from ..models import ChunkEntry, DocumentEntry, Manifest, PartEntry, Totals
from .codecs import compress, declared_size, decompress
from .layout import MANIFEST_MEMBER, MAX_CHUNK, MAX_RAW, chunk_member, document_member

MAX_MANIFEST = 512 * 1024 * 1024
"""Bytes of JSON, which a reader holds in memory: room for two million chunks."""

_TOO_LARGE = f"it is larger than {MAX_MANIFEST >> 20} MiB"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def totals(parts: Sequence[PartEntry]) -> Totals:
    """What the parts come to. `stored_bytes` counts the rows' members, compressed, without their headers."""
    return Totals(
        parts=len(parts),
        rows=sum(part.rows for part in parts),
        raw_bytes=sum(part.raw_bytes for part in parts),
        stored_bytes=sum(chunk.size for part in parts for chunk in part.chunks),
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON with line breaks, after a check that `decode_manifest` will take it.

    Raises:
        BackupFailed: when it would not: a backup that cannot be read back must never be finished.
    """
    try:
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        _decode(data)
    except (_Wrong, TypeError, ValueError) as error:
        raise BackupFailed(
            f"The backup's account of itself would be wrong: {error}.",
            hint="Please report it: this is a mistake in msr_async or in the database's backend.",
        ) from error
    return data


def decode_manifest(data: bytes) -> Manifest:
    """The manifest that these bytes of JSON are; keys that are not known are ignored.

    Raises:
        BackupDamaged: when they are not one, or when it contradicts itself.
    """
    try:
        return _decode(data)
    except _Wrong as error:
        raise BackupDamaged(str(error), member=MANIFEST_MEMBER) from None


def pack_manifest(manifest: Manifest, level: int) -> bytes:
    """The payload of the manifest's member. Blocks: call it in a worker thread."""
    return compress(encode_manifest(manifest), level)


def unpack_manifest(payload: bytes) -> Manifest:
    """The manifest in its member's payload. Blocks: call it in a worker thread.

    Raises:
        BackupDamaged: as `decode_manifest` does, and when the payload cannot be decompressed.
    """
    size = declared_size(payload, member=MANIFEST_MEMBER)
    if size > MAX_MANIFEST:
        raise BackupDamaged(_TOO_LARGE, member=MANIFEST_MEMBER)
    return decode_manifest(decompress(payload, size, member=MANIFEST_MEMBER))


class _Wrong(Exception):
    """What is wrong with a manifest, in words that fit into the error of a reader and of a writer."""


def _decode(data: bytes) -> Manifest:
    if len(data) > MAX_MANIFEST:
        raise _Wrong(_TOO_LARGE)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _Wrong(f"it is not a manifest ({str(error)[:200]})") from None
    try:
        _check(manifest)
    except BackupFailed as error:  # a name or number that a writer is refused
        raise _Wrong(error.problem.removesuffix(".")) from None
    return manifest


def _check(manifest: Manifest) -> None:
    if manifest.created.tzinfo is None or any(line.applied_at.tzinfo is None for line in manifest.history):
        raise _Wrong("a time in it has no time zone")
    for index, part in enumerate(manifest.parts):
        if not part.names or not all(part.names):
            raise _Wrong(f"part {index} has no name")
        _check_part(index, part)
    if manifest.totals != totals(manifest.parts):
        raise _Wrong("its totals are not the sum of its parts")
    seen = set[str]()
    for document in manifest.documents:
        _check_document(document)
        if document.name in seen:
            raise _Wrong(f"it lists the document {document.name} twice")
        seen.add(document.name)


def _check_part(index: int, part: PartEntry) -> None:
    for number, chunk in enumerate(part.chunks):
        # Numbered without a gap, so that all names of chunks differ and their order is the rows' order.
        if chunk.member != chunk_member(index, number):
            raise _Wrong(f"chunk {number} of part {index} is said to be in {chunk.member[:80]!r}")
        if chunk.rows < 1 or not 0 < chunk.raw_size <= (MAX_CHUNK if chunk.rows > 1 else MAX_RAW):
            raise _Wrong(f"{chunk.member} is said to hold {chunk.rows} rows in {chunk.raw_size} bytes")
        _check_stored(chunk)
    if part.rows != sum(chunk.rows for chunk in part.chunks):
        raise _Wrong(f"the rows of part {index} are not the sum of its chunks")
    if part.raw_bytes != sum(chunk.raw_size for chunk in part.chunks):
        raise _Wrong(f"the bytes of part {index} are not the sum of its chunks")


def _check_document(document: DocumentEntry) -> None:
    if document.member != document_member(document.name):
        raise _Wrong(f"the document {document.name[:80]!r} is said to be in {document.member[:80]!r}")
    if not 0 <= document.raw_size <= MAX_RAW:
        raise _Wrong(f"{document.member} is said to hold {document.raw_size} bytes")
    _check_stored(document)


def _check_stored(entry: ChunkEntry | DocumentEntry) -> None:
    if entry.size < 1 or not _SHA256.fullmatch(entry.sha256):
        raise _Wrong(f"{entry.member} has no valid size or hash in it")
