"""References that follow their documents: what points into the backup's database points into the target's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.cloud.firestore_v1.types import document as types

from ..framing import varint
from .names import Home

_Document: Any = types.Document.pb()  # the class of protobuf's own messages, a tenth of the wrapper's cost


def redirecting(source: Home, target: Home) -> Callable[[bytes], bytes]:
    """A function from a document's content to the same with its references redirected; its name is left alone.

    References into other databases stay as they are, and so do texts that look like one.
    """
    needle = f"{source.root}/".encode()
    old, new = f"{source.root}/", f"{target.root}/"

    def redirect(content: bytes) -> bytes:
        start = 0
        if content[:1] == b"\x0a":
            length, start = varint(content, 1)
            start += length
        if content.find(needle, start) < 0:
            return content
        document = _Document.FromString(content)
        if not _walk(document.fields.values(), old, new):
            return content
        spelled: bytes = document.SerializeToString()
        return spelled

    return redirect


def _walk(values: Iterable[Any], old: str, new: str) -> bool:
    """Redirect what is in these values and beneath them; whether there was anything."""
    changed = False
    for value in values:
        kind = value.WhichOneof("value_type")
        if kind == "reference_value":
            if value.reference_value.startswith(old):
                value.reference_value = new + value.reference_value[len(old) :]
                changed = True
        elif kind == "map_value":
            changed |= _walk(value.map_value.fields.values(), old, new)
        elif kind == "array_value":
            changed |= _walk(value.array_value.values, old, new)
    return changed
