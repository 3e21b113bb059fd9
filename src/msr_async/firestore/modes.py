"""What each mode of a restore makes of a document: the `Write` that is sent for it."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..framing import VARINTS, varint
from ..models import RestoreMode
from . import wire

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z_0-9]*", re.ASCII)
_LENGTH_DELIMITED = 2
_FIELDS = 2
"""The number of `Document.fields`."""
_UPDATE_MASK = 0x1A


def writing(mode: RestoreMode) -> Callable[[bytes], bytes]:
    """How a document's content becomes a `Write` in this mode."""
    if mode == "merge":
        return _merging
    if mode == "create":
        return _creating
    return wire.update


def _creating(content: bytes) -> bytes:
    return wire.update(content) + wire.must_not_exist()


def _merging(content: bytes) -> bytes:
    """Only the fields that the document has are written; a map is written whole.

    Without any field the mask is there and empty: a document that is not there is made, one that is stays as it is.
    """
    mask = bytearray()
    for name in top_level_fields(content):
        path = quoted(name).encode()
        mask += b"\x0a" + VARINTS[len(path)] + path
    return b"".join((wire.update(content), bytes((_UPDATE_MASK,)), VARINTS[len(mask)], mask))


def quoted(name: str) -> str:
    """A field's name as a path: in backticks where it is not a plain word."""
    if _PLAIN.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def top_level_fields(content: bytes) -> list[str]:
    """The names of a document's fields, without those inside of its maps."""
    names: list[str] = []
    position, end = 0, len(content)
    while position < end:
        tag, position = varint(content, position)
        if tag & 7 != _LENGTH_DELIMITED:
            raise ValueError(f"a document with a field of the kind {tag & 7}")
        length, position = varint(content, position)
        if tag >> 3 == _FIELDS:
            key = wire.field(memoryview(content)[position : position + length], 1)
            names.append((key or b"").decode())
        position += length
    return names
